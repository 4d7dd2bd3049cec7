"""Take TensorFlow's `.index` tables apart and write them, for what TensorFlow itself does not write: lies, and rare forms.

`write_checkpoints.py` has TensorFlow read what is written here. Nothing of the library is used, so that its mistakes are
not repeated.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

import google_crc32c

MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)


def mask(crc: int) -> int:
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(content: bytes) -> int:
    return mask(google_crc32c.value(content))


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(fields: Iterable[tuple[int, object]]) -> bytes:
    """Encode a message: an int is a varint, a float an int of four bytes, bytes are bytes, and a list is a message."""
    out = b""
    for field, value in fields:
        if isinstance(value, float):
            out += varint(field << 3 | 5) + struct.pack("<I", int(value))
        elif isinstance(value, int):
            out += varint(field << 3) + varint(value)
        else:
            content = value if isinstance(value, bytes) else message(value)  # type: ignore[call-overload]
            out += varint(field << 3 | 2) + varint(len(content)) + content
    return out


def header(shards: int = 1, big_endian: bool = False, needs: int = 0) -> bytes:
    version: list[tuple[int, object]] = [(1, 1)] + ([(2, needs)] if needs else [])
    return message([(1, shards), *([(2, 1)] if big_endian else []), (3, version)])


def entry(
    dtype: int, shape: Iterable[int], offset: int, size: int, crc: int, shard: int = 0, slices: Iterable[object] = ()
) -> bytes:
    axes = [(2, [(1, length)]) for length in shape]
    fields: list[tuple[int, object]] = [(1, dtype), (2, axes), (3, shard), (4, offset), (5, size), (6, float(crc))]
    return message([*fields, *((7, part) for part in slices)])


def block(entries: Iterable[tuple[bytes, bytes]], restart: int = 16) -> bytes:
    out, last, starts, count = bytearray(), b"", [0], 0
    for key, value in entries:
        shared = 0
        if count == restart:
            starts.append(len(out))
            count = 0
        elif count:
            while shared < min(len(last), len(key)) and last[shared] == key[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
        count += 1
    return bytes(out) + struct.pack(f"<{len(starts) + 1}I", *starts, len(starts))


def sealed(content: bytes, kind: int = 0) -> bytes:
    """Return a block with its trailer."""
    checked = content + bytes([kind])
    return checked + struct.pack("<I", crc32c(checked))


def table(entries: Mapping[bytes, bytes], compress: bool = False, per_block: int = 100) -> bytes:
    """Return a table with `per_block` entries in a block, compressed with snappy or not."""
    if compress:
        import cramjam

    ordered = sorted(entries.items())
    out, handles = b"", []
    for start in range(0, len(ordered), per_block):
        part = ordered[start : start + per_block]
        content = block(part)
        if compress:
            content = bytes(cramjam.snappy.compress_raw(content))
        handles.append((part[-1][0], varint(len(out)) + varint(len(content))))
        out += sealed(content, int(compress))
    return finish(out, handles)


def finish(blocks: bytes, handles: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return a table of blocks and the entries that say where each is."""
    listed, statistics = block(handles, restart=1), block([])
    out = blocks + sealed(statistics)
    footer = varint(len(blocks)) + varint(len(statistics)) + varint(len(out)) + varint(len(listed))
    return out + sealed(listed) + footer.ljust(40, b"\0") + MAGIC


def read_table(content: bytes) -> dict[bytes, bytes]:
    """Return the entries of a table that TensorFlow wrote, trusting it."""
    position = len(content) - 48
    for _ in range(2):
        _, position = number(content, position)
    offset, position = number(content, position)
    size, _ = number(content, position)
    found: dict[bytes, bytes] = {}
    for value in _block(content[offset : offset + size]).values():
        start, position = number(value, 0)
        length, _ = number(value, position)
        found |= _block(content[start : start + length])
    return found


def read_fields(content: bytes) -> list[tuple[int, object]]:
    """Return the fields of a message as `message` takes them."""
    position, found = 0, []
    while position < len(content):
        tag, position = number(content, position)
        value: object
        if tag & 7 == 0:
            value, position = number(content, position)
        elif tag & 7 == 5:
            value, position = float(struct.unpack_from("<I", content, position)[0]), position + 4
        else:
            length, position = number(content, position)
            value, position = content[position : position + length], position + length
        found.append((tag >> 3, value))
    return found


def _block(content: bytes) -> dict[bytes, bytes]:
    end = len(content) - 4 - 4 * struct.unpack("<I", content[-4:])[0]
    position, key, found = 0, b"", {}
    while position < end:
        shared, position = number(content, position)
        fresh, position = number(content, position)
        length, position = number(content, position)
        key = key[:shared] + content[position : position + fresh]
        found[key] = content[position + fresh : position + fresh + length]
        position += fresh + length
    return found


def number(content: bytes, position: int) -> tuple[int, int]:
    """Return the varint at a position, and where it ends."""
    value = shift = 0
    while True:
        byte = content[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
