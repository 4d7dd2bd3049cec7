"""Ways to damage a file: any bytes, the values of JSON and YAML, the opcodes of pickles, the members of archives.

A mutation is a function of a random generator, the content and the contents of other good files of the kind; it returns the
damaged content. A mutation that needs a form which the content no longer has raises `Unfit`, and another one is drawn.
"""

from __future__ import annotations

import io
import json
import pickletools
import random
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import yaml

from tests.tensorflow.mutations import mutate

Mutation = Callable[[random.Random, bytes, Sequence[bytes]], bytes]

#: Numbers that lengths, offsets, sizes and counts are replaced with.
NUMBERS = (0, 1, 2, 3, 7, 8, 255, 256, 65_535, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, 1 << 63)
#: Pieces of text that have a meaning somewhere: controls, byte order marks, line ends, bidirectional and zero-width characters.
ODD_BYTES = (
    *(b"\0", b"\n", b"\r", b"\r\n", b"\t", b" ", b"\x1c", b"\x1b[31m", b"\x7f", b"\xff", b"\xc3\x28", b"\xed\xa0\x80"),
    *("\ufeff".encode(), "\u2028".encode(), "\u202e".encode(), "\u200b".encode(), "\x85".encode(), "\U0001f600".encode()),
    *(b"{", b"}", b"[", b"]", b'"', b"'", b"\\", b"/", b":", b",", b"#", b"%", b"&a ", b"*a", b"!!python/name:os.system "),
    *(b"null", b"NaN", b"1e999", b"-1", b"9" * 400, b"\\ud800", b"\\u0000", b"../", b"<unk>", b"[UNK]"),
)


class Unfit(Exception):
    """The content no longer has the form that a mutation needs."""


class Raw(str):
    """Text that is written as it is, without quotes; surrogates stand for bytes that are not UTF-8."""


class Pairs(list[tuple[Any, Any]]):
    """A JSON object; keys may repeat."""


# -- bytes -----------------------------------------------------------------------------------------------------------------


def _span(chance: random.Random, content: bytes) -> tuple[int, int]:
    """Return where a part begins and ends: mostly a short one."""
    begin = chance.randrange(len(content) + 1)
    longest = chance.choice((1, 4, 16, 256, len(content)))
    return begin, min(len(content), begin + chance.randint(0, longest))


def flip(chance: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8)) if changed else 0):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def cut(chance: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    return content[: chance.choice((0, 1, 8, len(content) - 1, chance.randrange(len(content) + 1)))]


def remove(chance: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    begin, end = _span(chance, content)
    return content[:begin] + content[end:]


def insert(chance: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    begin = chance.choice((0, len(content), chance.randrange(len(content) + 1)))
    odd = chance.choice((*ODD_BYTES, chance.randbytes(chance.randint(1, 16))))
    return content[:begin] + odd * chance.choice((1, 1, 1, 2, 5_000)) + content[begin:]


def repeat(chance: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    begin, end = _span(chance, content)
    return content[:end] + content[begin:end] * chance.choice((1, 2, 50)) + content[end:]


def swap(chance: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    a, b, c, d = sorted((*_span(chance, content), *_span(chance, content)))
    return content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def splice(chance: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    other = chance.choice([*others, content])
    return content[: chance.randrange(len(content) + 1)] + other[chance.randrange(len(other) + 1) :]


def overwrite(chance: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    form = chance.choice(("<B", "<H", "<I", "<Q", ">I", ">Q"))
    number = struct.pack(form, chance.choice(NUMBERS) % (1 << 8 * struct.calcsize(form)))
    begin = chance.randrange(max(len(content) - len(number), 0) + 1)
    return content[:begin] + number + content[begin + len(number) :]


def lines(chance: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """Remove, repeat, swap, indent or blank lines, or end them in another way."""
    parts = content.split(b"\n")
    at, other = chance.randrange(len(parts)), chance.randrange(len(parts))
    match chance.randrange(8):
        case 0:
            del parts[at]
        case 1:
            parts.insert(other, parts[at])
        case 2:
            parts[at], parts[other] = parts[other], parts[at]
        case 3:
            parts[at] = chance.choice((b" ", b"  ", b"\t", b"- ", b"? ")) + parts[at]
        case 4:
            parts[at] = b""
        case 5:
            return chance.choice((b"\r\n", b"\r", "\u2028".encode(), b"\n\n", b" \n")).join(parts)
        case 6:
            parts[at] = parts[at].strip()
        case _:
            line = chance.choice((b"", b" ", parts[at]))
            parts[at:at] = [line] * min(chance.choice((10, 20_000, 1_000_000)), 1_000_000 // (len(line) + 1))
    return b"\n".join(parts)


def encode_otherwise(chance: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    text = content.decode("utf-8", "replace")
    return text.encode(chance.choice(("utf-16", "utf-32", "utf-8-sig", "utf-16-le")), "replace")


BYTES: tuple[Mutation, ...] = (flip, cut, remove, insert, repeat, swap, splice, overwrite)
TEXT: tuple[Mutation, ...] = (*BYTES, lines, lines, lines, encode_otherwise)

# -- JSON and YAML -----------------------------------------------------------------------------------------------------------


def _strings(chance: random.Random) -> Any:
    return chance.choice(
        (
            *(
                "",
                " ",
                "a",
                "a" * 5_000,
                "\0",
                "\x1b[2J",
                "\n",
                "\u202egnp.exe",
                "\u200b",
                "\u2028",
                "nan",
                "true",
                "-1",
                "1e5",
                "0",
            ),
            *("../../../etc/passwd", "/etc/passwd", "/dev/zero", "con", "a/b", "a\\b", ".", "..", "~", "%2e%2e", "x" * 300),
            *("torch.float16", "float16", "float64", "int8", "size", "gelu", "bert", "gpt2", "BertModel", "os.system", "left"),
            *("[UNK]", "<unk>", "<|endoftext|>", "http://127.0.0.1:1/", "hf://a/b", "file:///dev/zero", "https://a\\@b/"),
            *(Raw('"\\ud800"'), Raw('"\\udc00x"'), Raw('"\udcff\udcfe"'), Raw('"\\u0000"'), Raw('"\ufeff"')),
        )
    )


def _numbers(chance: random.Random) -> Any:
    number = chance.choice((*NUMBERS, 12, 50, 1000, 1_000_001, 1_000_000_000, 10**30))
    return chance.choice(
        (
            *(number, -number, number, float(number), 0.5, -0.0, 1e308, 5e-324),
            *(Raw("1e999"), Raw("-1e999"), Raw("NaN"), Raw("Infinity"), Raw("9" * 5_000), Raw("1." + "0" * 5_000), Raw("01")),
        )
    )


def odd_value(chance: random.Random, *, inside: bool = False) -> Any:
    """Return a value that a field may not expect."""
    match chance.randrange(8):
        case 0:
            return chance.choice((None, True, False))
        case 1 | 2:
            return _numbers(chance)
        case 3 | 4:
            return _strings(chance)
        case 5:
            times = 1 if inside else chance.choice((1, 1, 1, 2_000))
            return [odd_value(chance, inside=True) for _ in range(chance.choice((0, 1, 2, 3)))] * times
        case 6:
            keys = [chance.choice((_strings(chance), "content", "id", "0", "1", "-1", "99999999999")) for _ in range(3)]
            return Pairs([(key, odd_value(chance, inside=True)) for key in keys[: chance.randint(0, 3)]])
        case _:
            depth = chance.choice((3, 50) if inside else (3, 50, 2_000, 100_000))
            begin, end = chance.choice((("[", "]"), ('{"a":', "}")))
            return Raw(begin * depth + "1" + end * depth)


def tree(content: bytes) -> Any:
    """Return JSON with its objects as pairs."""
    try:
        return json.loads(content, object_pairs_hook=Pairs)
    except (ValueError, RecursionError):
        raise Unfit from None


def written(value: Any) -> bytes:
    """Return a tree as JSON, or as what is nearly JSON."""
    out: list[str] = []
    _write(value, out)
    return "".join(out).encode("utf-8", "surrogateescape")


def _write(value: Any, out: list[str]) -> None:
    if isinstance(value, Raw):
        out.append(value)
    elif isinstance(value, Pairs):
        for number, (key, inside) in enumerate(value):
            out.append("{" if number == 0 else ", ")
            _write(key if isinstance(key, Raw) else str(key), out)
            out.append(": ")
            _write(inside, out)
        out.append("}" if value else "{}")
    elif isinstance(value, list | tuple):
        for number, inside in enumerate(value):
            out.append("[" if number == 0 else ", ")
            _write(inside, out)
        out.append("]" if value else "[]")
    else:
        out.append(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape"))


def _places(value: Any) -> list[tuple[Any, int]]:
    """Return every container with each of its positions; long lists are looked at in their first hundred."""
    found: list[tuple[Any, int]] = []
    stack = [value]
    while stack:
        part = stack.pop()
        if isinstance(part, Pairs | list):
            for at in range(min(len(part), 100)):
                found.append((part, at))
                stack.append(part[at][1] if isinstance(part, Pairs) else part[at])
    return found


def _changed(chance: random.Random, root: Any, keys: Sequence[str]) -> Any:
    """Change one value of a tree, mostly one near its root, or the root."""
    places = _places(root)
    if not places or chance.random() < 0.03:
        return odd_value(chance)
    top = [place for place in places if place[0] is root]
    holder, at = chance.choice(top if chance.random() < 0.4 else places)
    is_object = isinstance(holder, Pairs)
    key, value = holder[at] if is_object else (None, holder[at])
    match chance.randrange(12):
        case 0:
            del holder[at]
        case 1:
            holder.insert(chance.randrange(len(holder) + 1), holder[at])
        case 2 if is_object:
            holder.append((key, odd_value(chance)))
        case 3 if is_object:
            holder[at] = chance.choice((_strings(chance), *(pair[0] for pair in holder))), value
        case 4 if isinstance(root, Pairs):
            root.append((chance.choice(keys) if keys else _strings(chance), odd_value(chance)))
        case 5:
            other, there = chance.choice(places)
            moved = other[there][1] if isinstance(other, Pairs) else other[there]
            moved = tree(written(moved))  # a copy: no tree holds itself
            holder[at] = (key, moved) if is_object else moved
        case 6:
            wrapped = chance.choice(([value], Pairs([("content", value)]), Pairs([("0", value)]), str(value)[:1_000]))
            holder[at] = (key, wrapped) if is_object else wrapped
        case 7 if isinstance(value, int) and not isinstance(value, bool):
            near = chance.choice(
                (value - 1, value + 1, -value, value * 2, value // 2, value * 1_000_000, float(value), str(value))
            )
            holder[at] = (key, near) if is_object else near
        case _:
            odd = odd_value(chance)
            holder[at] = (key, odd) if is_object else odd
    return root


def json_values(*keys: str) -> Mutation:
    """Return the mutation of a JSON text's values; `keys` are those that a good file need not have."""

    def values(chance: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
        return written(_changed(chance, tree(content), keys))

    return values


def _node(value: Any) -> Any:
    if isinstance(value, dict):
        return Pairs([(key, _node(inside)) for key, inside in value.items()])
    return [_node(inside) for inside in value] if isinstance(value, list) else value


def yaml_values(*keys: str) -> Mutation:
    """Return the mutation of a YAML text's values; the result is in flow style, of which JSON is a part."""

    def values(chance: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
        try:
            root = _node(yaml.safe_load(content))
        except (yaml.YAMLError, ValueError, RecursionError):
            raise Unfit from None
        return b"\n".join([written(_changed(chance, root, keys)), *([b"..."] if content.rstrip().endswith(b"...") else [])])

    return values


def yaml_words(chance: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """Replace a key or a value of block style by what has a meaning in YAML."""
    parts = content.split(b"\n")
    at = chance.randrange(len(parts))
    key, colon, _ = parts[at].partition(b": ")
    odd: bytes = chance.choice(
        (
            *(
                b"~",
                b"!!python/object/apply:os.system [id]",
                b"&a x",
                b"*a",
                b"[[[[",
                b"{a: {b: ",
                b'"\\ud800"',
                b"|",
                b">-",
                b"? x",
            ),
            *(
                b"<<: *a",
                b"0x10",
                b"1e999",
                b".nan",
                b".inf",
                b"2001-01-01",
                b"'",
                b'"',
                b"%TAG ! x",
                b"--- a",
                b"...",
                b"- - - a",
            ),
            *(
                b"[" * 3_000,
                b"{" * 3_000,
                b"- " * 3_000,
                b"9" * 5_000,
                b"x" * 5_000,
                b"1:30",
                b"on",
                b"{a: 1, a: 2}",
                b"[a, b]: c",
            ),
            *ODD_BYTES,
        )
    )
    parts[at] = key + colon + odd if chance.random() < 0.7 else odd + colon + parts[at][len(key) + len(colon) :]
    return b"\n".join(parts)


# -- pickles -----------------------------------------------------------------------------------------------------------------

_PROTOCOL_2 = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
_GLOBALS = (
    b"cposix\nsystem\n",
    b"ctorch\nFloatStorage\n",
    b"ccollections\nOrderedDict\n",
    b"cbuiltins\neval\n",
    b"cnumpy\ndtype\n",
)


def _operations(content: bytes) -> tuple[list[bytes], bytes]:
    """Return the operations of the pickles that a content begins with, and the rest of it."""
    found: list[bytes] = []
    at = 0
    while content[at : at + 1] == b"\x80" and len(found) < 20_000:
        try:
            places = [place for _, _, place in pickletools.genops(content[at:])]
        except Exception:
            break
        stream = io.BytesIO(content[at:])
        for _ in pickletools.genops(stream):
            pass
        ends = [*places[1:], stream.tell()]
        found += [content[at + begin : at + end] for begin, end in zip(places, ends, strict=True)]
        at += stream.tell()
    if not found:
        raise Unfit
    return found, content[at:]


def operations(chance: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """Remove, repeat, swap or replace operations, change their numbers and texts, or build what grows without end."""
    found, rest = _operations(content)
    at, other = chance.randrange(len(found)), chance.randrange(len(found))
    match chance.randrange(10):
        case 0:
            del found[at]
        case 1:
            found.insert(other, found[at])
        case 2:
            found[at], found[other] = found[other], found[at]
        case 3:
            found[at] = chance.choice(_PROTOCOL_2) + found[at][1:]
        case 4:
            found.insert(
                at,
                chance.choice(
                    (*_GLOBALS, b"N", b"}", b"]", b")", b"(", b"t", b"0", b"2", b"R", b"Q", b"b", b"G" + b"\x7f" * 8)
                ),
            )
        case 5:  # a list that holds itself, or whose parts double
            bomb = b"]q\xf0" + (b"h\xf0a" if chance.random() < 0.3 else b"h\xf0h\xf0\x86q\xf0" * 60)
            found.insert(at, bomb + chance.choice((b"", b"0")))
        case 6:
            size = chance.choice(NUMBERS)
            found[at] = chance.choice(
                (
                    b"\x8a\x09" + size.to_bytes(9, "little"),
                    b"J" + struct.pack("<I", size % (1 << 32)),
                    b"N",
                    b"G" + struct.pack(">d", float("nan")),
                )
            )
        case 7:
            text = chance.choice(
                ("", "0", "storage", "cpu", "cuda:0", "a" * 3_000, "\0", "../x", "\u202e", "x.y", "weight")
            ).encode()
            found[at] = b"X" + struct.pack("<I", len(text)) + text
        case 8:
            found.insert(at, chance.choice((b"(", b"]", b"}")) * chance.choice((100, 20_000)))
        case _:
            found[at] = flip(chance, found[at], ())
    return b"".join(found) + rest


# -- archives ----------------------------------------------------------------------------------------------------------------

_NAMES = (
    *(
        "../x",
        "/etc/x",
        "a/../../x",
        "x\\y",
        "C:x",
        "con",
        "x ",
        "x.",
        "\0",
        "a\0b",
        "\u202ex",
        "\n",
        "x" * 300,
        "",
        ".",
        "..",
        "a//b",
    ),
    *("config.json", "CONFIG.JSON", "data.pkl", "archive/data.pkl", "version", "byteorder", "vocab.txt/x", "x/" * 200 + "y"),
)


def _members(content: bytes) -> list[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return [(info.filename, archive.read(info)) for info in archive.infolist()]
    except Exception:
        raise Unfit from None


def zip_members(inside: Sequence[Mutation] = BYTES) -> Mutation:
    """Return the mutation of a zip file's members; `inside` are those of the content of one."""

    def members(chance: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
        found = _members(content)
        if not found:
            raise Unfit
        at = chance.randrange(len(found))
        name, data = found[at]
        method = zipfile.ZIP_STORED
        match chance.randrange(6):
            case 0:
                del found[at]
            case 1:
                found[at] = chance.choice(_NAMES), data
            case 2:
                found.append((chance.choice((name, *_NAMES)), data))
            case 3:
                method = chance.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
            case _:
                small = [number for number, (_, data) in enumerate(found) if data]
                if not small:
                    raise Unfit
                at = small[0] if chance.random() < 0.6 else chance.choice(small)
                found[at] = found[at][0], chance.choice(inside)(chance, found[at][1], ())
        buffer = io.BytesIO()
        with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as archive:
            warnings.simplefilter("ignore")  # of a name that is there twice
            for name, data in found:
                archive.writestr(zipfile.ZipInfo(name), data, method)
        return buffer.getvalue()

    return members


def tar_members(chance: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """Change a member's name, kind, size or content, or add one; the result is not compressed."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            found = [(info, archive.extractfile(info)) for info in archive.getmembers()]
            held = [(info, file.read() if file else b"") for info, file in found]
    except Exception:
        raise Unfit from None
    if not held:
        raise Unfit
    at = chance.randrange(len(held))
    info, data = held[at]
    match chance.randrange(6):
        case 0:
            info.name = chance.choice(_NAMES)
        case 1:
            info.type = chance.choice(
                (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, b"?", b"S")
            )
            info.linkname = chance.choice(_NAMES)
        case 2:
            data = chance.choice(BYTES)(chance, data, ())
        case 3:
            twin = tarfile.TarInfo(chance.choice((info.name, info.name.upper(), *_NAMES)))
            twin.size = len(data)
            held.append((twin, data))
        case 4:
            info.pax_headers = {
                chance.choice(("size", "path", "GNU.sparse.size", "mtime")): chance.choice(("-1", "9" * 30, "x", "../x"))
            }
        case _:
            del held[at]
    buffer = io.BytesIO()
    try:
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for number, (info, content) in enumerate(held):
                content = data if number == at else content
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    except Exception:  # what Python's own writer does not write
        raise Unfit from None
    return buffer.getvalue()


def compressed(inside: Sequence[Mutation]) -> Mutation:
    """Return the mutation of what a gzip file holds."""

    def content_of(chance: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
        import gzip

        try:
            plain = gzip.decompress(content)
        except Exception:
            raise Unfit from None
        return gzip.compress(chance.choice(inside)(chance, plain, ()), 1, mtime=0)

    return content_of


# -- headers -----------------------------------------------------------------------------------------------------------------


def safetensors_header(chance: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """Change the values of a header, whose length is then right again."""
    if len(content) < 8 or (length := struct.unpack("<Q", content[:8])[0]) > len(content) - 8:
        raise Unfit
    keys = ("__metadata__", "a", "dtype", "shape", "data_offsets")
    header = written(_changed(chance, tree(content[8 : 8 + length]), keys))
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def tensorflow_index(chance: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """Damage a table, its checksums right again."""
    try:
        return mutate(chance, content, b"\0" * 64)[0]
    except Exception:  # the content is none any more
        raise Unfit from None


def array_header(chance: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """Change words of a numpy header."""
    end = content.find(b"\n")
    if not content.startswith(b"\x93NUMPY") or end < 0:
        raise Unfit
    header = chance.choice(TEXT)(chance, content[10:end], ())
    return content[:8] + struct.pack("<H", (len(header) + 1) % 65_536) + header + content[end:]
