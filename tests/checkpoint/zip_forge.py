"""Zip files as a list of records, so that any of them can be changed, moved, doubled or left out before they are joined."""

from __future__ import annotations

import random
import struct
import zlib
from dataclasses import dataclass, field, replace

#: Numbers that readers take for others, beside those that lie near the right one.
_ODD = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 32, (1 << 63) - 1, (1 << 64) - 1)


@dataclass(frozen=True)
class Entry:
    """A member. Values of None are the right ones, which `joined` finds out."""

    name: bytes
    data: bytes
    #: Of the record where it lies: name, flags, method, CRC, sizes, extra field; and what stands before it and behind it.
    local: dict[str, object] = field(default_factory=dict)
    #: Of the entry in the list.
    listed: dict[str, object] = field(default_factory=dict)
    before: bytes = b""
    #: Bytes of the descriptor: 0, 12, 16, 20 or 24; and changes to it.
    descriptor: int = 0
    described: dict[str, int] = field(default_factory=dict)
    behind: bytes = b""
    #: Whether it is left out of the list, or stands there twice; and whether it lies in the file.
    times: int = 1
    lies: bool = True


@dataclass(frozen=True)
class Zip:
    """A zip file before it is joined."""

    entries: tuple[Entry, ...]
    zip64: bool = False
    #: Changes to the three records of the end, by their fields' names.
    end64: dict[str, int] = field(default_factory=dict)
    locator: dict[str, int] = field(default_factory=dict)
    end: dict[str, int] = field(default_factory=dict)
    comment: bytes = b""
    #: What stands before the file, before the list, behind it, between the records of its end, and behind all.
    gaps: tuple[bytes, bytes, bytes, bytes, bytes, bytes] = (b"",) * 6
    is_shuffled: bool = False


def _fields(layout: str, names: str, right: dict[str, int], changed: dict[str, object]) -> bytes:
    values = {**right, **{name: value for name, value in changed.items() if name in right}}
    sizes = {"H": 0xFFFF, "L": 0xFFFFFFFF, "Q": (1 << 64) - 1}
    return struct.pack(
        "<" + layout,
        *(int(values[name]) & sizes[code] for name, code in zip(names.split(), layout, strict=True)),  # type: ignore[call-overload]
    )


def joined(source: Zip) -> bytes:
    """Return the bytes of a file."""
    out = bytearray(source.gaps[0])
    listed: list[bytes] = []
    for entry in source.entries:
        out += entry.before
        right = {
            "version": 20, "flags": 8 if entry.descriptor else 0, "method": 0, "time": 0, "date": 0x21,
            "crc": zlib.crc32(entry.data), "packed": len(entry.data), "size": len(entry.data),
        }  # fmt: skip
        offset = len(out)
        if entry.lies:
            name, extra = entry.local.get("name", entry.name), entry.local.get("extra", b"")
            assert isinstance(name, bytes) and isinstance(extra, bytes)
            streamed = {**right, **dict.fromkeys(("crc", "packed", "size"), 0)} if entry.descriptor else right
            lengths = {"name": len(name), "extra": len(extra)}
            own = {key: value for key, value in entry.local.items() if key not in lengths}
            own |= {"name": entry.local["name length"]} if "name length" in entry.local else {}
            own |= {"extra": entry.local["extra length"]} if "extra length" in entry.local else {}
            names = "version flags method time date crc packed size name extra"
            out += b"PK\3\4" + _fields("HHHHHLLLHH", names, {**streamed, **lengths}, own) + name + extra + entry.data
            if entry.descriptor:
                wide = "Q" if entry.descriptor >= 20 else "L"
                out += b"PK\7\10" if entry.descriptor in (16, 24) else b""
                out += _fields("L" + 2 * wide, "crc packed size", right, dict(entry.described))
        out += entry.behind
        name, extra, text = (entry.listed.get(key, b"") for key in ("name", "extra", "text"))
        name = entry.listed.get("name", entry.name)
        assert isinstance(name, bytes) and isinstance(extra, bytes) and isinstance(text, bytes)
        more = {"made": 20, "disk": 0, "inner": 0, "outer": 0, "offset": offset}
        lengths = {"name": len(name), "extra": len(extra), "text": len(text)}
        own = {key: value for key, value in entry.listed.items() if key not in lengths}
        names = "made version flags method time date crc packed size name extra text disk inner outer offset"
        record = b"PK\1\2" + _fields("HHHHHHLLLHHHHHLL", names, {**right, **more, **lengths}, own) + name + extra + text
        listed += [record] * entry.times
    out += source.gaps[1]
    begin = len(out)
    if source.is_shuffled:
        listed.reverse()
    out += b"".join(listed)
    sums = {"count": len(listed), "total": len(listed), "length": len(out) - begin, "offset": begin}
    out += source.gaps[2]
    record = len(out)
    if source.zip64:
        right = {"more": 44, "made": 45, "version": 45, "disk": 0, "disk of list": 0, **sums}
        codes, names = "QHHLLQQQQ", ("more", "made", "version", "disk", "disk of list", "count", "total", "length", "offset")
        out += b"PK\6\6" + _packed(codes, names, right, source.end64) + source.gaps[3]
        right = {"disk": 0, "record": record, "disks": 1}
        out += b"PK\6\7" + _packed("LQL", ("disk", "record", "disks"), right, source.locator) + source.gaps[4]
    right = {"disk": 0, "disk of list": 0, **sums, "comment": len(source.comment)}
    names = ("disk", "disk of list", "count", "total", "length", "offset", "comment")
    out += b"PK\5\6" + _packed("HHHHLLH", names, right, source.end) + source.comment + source.gaps[5]
    return bytes(out)


def _packed(codes: str, names: tuple[str, ...], right: dict[str, int], changed: dict[str, int]) -> bytes:
    most = {"H": 0xFFFF, "L": 0xFFFFFFFF, "Q": (1 << 64) - 1}
    values = (int({**right, **changed}[name]) & most[code] for name, code in zip(names, codes, strict=True))
    return struct.pack("<" + codes, *values)


def mutated(source: Zip, other: bytes, numbers: random.Random) -> bytes:
    """Return the file with one to three changes to its records; `other` is a whole zip file that may get into it."""
    for _ in range(numbers.choice((1, 1, 1, 2, 2, 3))):
        source = _changed(source, other, numbers)
    data = joined(source)
    match numbers.randrange(12):
        case 0:  # a byte, anywhere
            at = numbers.randrange(len(data))
            data = data[:at] + bytes([data[at] ^ numbers.randint(1, 255)]) + data[at + 1 :]
        case 1:  # a piece is taken out or doubled
            at, size = numbers.randrange(len(data)), numbers.choice((1, 2, 16, 24, 30, 46, 56))
            data = data[:at] + data[at + size :] if numbers.random() < 0.5 else data[: at + size] + data[at:]
    return data


def _changed(source: Zip, other: bytes, numbers: random.Random) -> Zip:
    def odd(near: int = 0) -> int:
        return numbers.choice((*_ODD, near - 1, near + 1, near + numbers.randint(-99, 99), numbers.randrange(2000)))

    junk = numbers.choice((b"\0", b"\0" * 4, bytes(16), bytes(24), b"PK\5\6" + bytes(18), b"PK\7\10" + bytes(12), other))
    place = numbers.randrange(len(source.entries))
    entry = source.entries[place]

    def with_entry(**changes: object) -> Zip:
        entries = list(source.entries)
        entries[place] = replace(entry, **changes)  # type: ignore[arg-type]
        return replace(source, entries=tuple(entries))

    names = [each.name for each in source.entries]
    wide = struct.pack("<HHQQQ", 1, 24, *(numbers.choice((len(entry.data), odd())) & ((1 << 64) - 1) for _ in range(3)))
    extra = numbers.choice((wide, wide + wide, wide[:20], b"FB\4\0ZZZZ", b"FB\xff\xffZZ", b"\1\0\0\0", b"\1"))
    match numbers.randrange(22):
        case 0:
            return replace(source, zip64=not source.zip64)
        case 1:
            key = numbers.choice(("more", "disk", "disk of list", "count", "total", "length", "offset"))
            return replace(source, zip64=True, end64={**source.end64, key: odd(len(names))})
        case 2:
            key = numbers.choice(("disk", "record", "disks"))
            return replace(source, zip64=True, locator={**source.locator, key: odd(900)})
        case 3:
            key = numbers.choice(("disk", "disk of list", "count", "total", "length", "offset", "comment"))
            return replace(source, end={**source.end, key: odd(len(names))})
        case 4:
            comment = numbers.choice((b"!", bytes(22), junk, joined(source)))
            return replace(source, comment=comment, end=numbers.choice((source.end, {**source.end, "comment": 0})))
        case 5 | 6:
            gaps = list(source.gaps)
            gaps[numbers.randrange(6)] = junk
            return replace(source, gaps=tuple(gaps))
        case 7:
            key = numbers.choice(("flags", "method", "crc", "packed", "size", "name length", "extra length"))
            return with_entry(local={**entry.local, key: odd(len(entry.data))})
        case 8 | 9:
            key = numbers.choice(("flags", "method", "crc", "packed", "size", "disk", "outer", "inner", "offset", "made"))
            return with_entry(listed={**entry.listed, key: odd(len(entry.data))})
        case 10:
            return with_entry(listed={**entry.listed, "offset": numbers.choice((0, *range(len(joined(source)))))})
        case 11:
            return with_entry(local={**entry.local, "name": numbers.choice((*names, entry.name.upper(), entry.name + b"/"))})
        case 12:
            name = numbers.choice((*names, entry.name.upper(), entry.name + b"/", entry.name + b"\0", b"\xc3\xa9", b""))
            return with_entry(listed={**entry.listed, "name": name})
        case 13:
            name = numbers.choice((*names, entry.name.upper(), entry.name + b"/", b"y/" + entry.name, b"x/constants.pkl"))
            return with_entry(name=name)
        case 14:
            return with_entry(listed={**entry.listed, "extra": extra, "text": numbers.choice((b"", junk[:60]))})
        case 15:
            sizes = dict.fromkeys(numbers.sample(("packed", "size", "offset"), numbers.randint(1, 3)), 0xFFFFFFFF)
            return with_entry(listed={**entry.listed, **sizes, "extra": extra}, local={**entry.local, "extra": extra})
        case 16:
            size = numbers.choice((0, 12, 16, 20, 24))
            wrong = {numbers.choice(("crc", "packed", "size")): odd(len(entry.data))} if numbers.random() < 0.5 else {}
            return with_entry(descriptor=size, described=wrong)
        case 17:
            return with_entry(**{numbers.choice(("before", "behind")): junk})
        case 18:
            return with_entry(times=numbers.choice((0, 2)))
        case 19:
            entries = list(source.entries)
            numbers.shuffle(entries)
            return replace(source, entries=tuple(entries), is_shuffled=numbers.random() < 0.5)
        case 20:
            twin = replace(entry, data=numbers.choice(source.entries).data, times=numbers.choice((0, 1)))
            entries = list(source.entries)
            entries.insert(numbers.randrange(len(entries) + 1), twin)
            return replace(source, entries=tuple(entries))
        case _:
            return with_entry(local={**entry.local, "extra": extra})
