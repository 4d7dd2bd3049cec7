"""What a TensorFlow index says of its tensors: its keys, and the protocol buffers that are its values.

The messages are BundleHeaderProto and BundleEntryProto (tensorflow/core/protobuf/tensor_bundle.proto), in the wire format
of https://protobuf.dev/programming-guides/encoding/. A function that meets damage raises a ValueError with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["MAX_SLICES", "Entry", "Header", "Slice", "read_entry", "read_header", "slice_key", "varint"]

#: Of every axis its start and length; a length of -1 is the whole axis.
Slice = tuple[tuple[int, int], ...]

#: Of a whole checkpoint, counted by their axes.
MAX_SLICES = 1 << 18

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_VERSION = 1  # of the bundle
_MAX_SHARDS = 99_999  # five digits in the name of a shard
_MAX_FIELDS = 32  # the largest message has 7, and one of them is repeated
_MAX_RANK = 64


@dataclass(frozen=True, slots=True)
class Header:
    """What is said of the whole checkpoint."""

    shards: int
    big_endian: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor, or a slice of one. One that was saved in slices has no bytes of its own."""

    #: Number in TensorFlow's enumeration (tensorflow/core/framework/types.proto).
    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    #: In bytes.
    size: int
    #: Masked checksum of the bytes.
    crc32c: int
    slices: tuple[Slice, ...]


def varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Return the number that is stored in groups of seven bits at `position`, and where it ends."""
    if position < end and data[position] < 0x80:
        return data[position], position + 1
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise ValueError("it ends within a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, position
    raise ValueError("it has a number of more than 64 bits")


def read_header(data: bytes) -> Header:
    """Read the value of the empty key."""
    shards, endianness, needs = 0, 0, 0
    for number, value in _fields(data):
        if number == 1:
            shards = _size(value)
        elif number == 2:
            endianness = _size(value)
        elif number == 3:
            needs = max((_size(part) for field, part in _fields(_message(value)) if field == 2), default=0)
    if needs > _VERSION:
        raise ValueError(f"it needs a reader of version {needs}, and version {_VERSION} is known")
    if not 1 <= shards <= _MAX_SHARDS:
        raise ValueError(f"it says that it has {shards} shards")
    if endianness > 1:
        raise ValueError(f"it says that its byte order is {endianness}")
    return Header(shards, endianness == 1)


def read_entry(data: bytes) -> Entry:
    """Read the value of any other key."""
    dtype = shard = offset = size = crc32c = axes = 0
    shape: tuple[int, ...] = ()
    slices: list[Slice] = []
    for number, value in _fields(data, 7):
        if number == 1:
            dtype = _size(value)
        elif number == 2:
            shape = _shape(_message(value))
        elif number == 3:
            shard = _size(value)
        elif number == 4:
            offset = _size(value)
        elif number == 5:
            size = _size(value)
        elif number == 6:
            crc32c = _size(value)
        elif number == 7:
            slices.append(_slice(_message(value)))
            axes += len(slices[-1]) + 1
            if axes > MAX_SLICES:
                raise ValueError(f"it has more than {MAX_SLICES} axes of slices")
    return Entry(dtype, shape, shard, offset, size, crc32c, tuple(slices))


def slice_key(name: bytes, extents: Slice) -> bytes:
    """Return the key of a slice: 0, the name, its rank, and each start and length, such that bytes sort as they do.

    No name begins with that 0. The encoding is TensorFlow's OrderedCode (tensorflow/core/lib/strings/ordered_code.cc).
    """
    text = name.replace(b"\0", b"\0\xff")  # there is no byte 255 to escape, for a name is UTF-8
    numbers = b"".join(_signed(number) for extent in extents for number in extent)
    return b"\0" + text + b"\0\x01" + _unsigned(len(extents)) + numbers


def _fields(data: bytes, repeated: int = 0) -> Iterator[tuple[int, int | bytes]]:
    """Yield the number and value of each field of a message; the bytes of a number are an unsigned number.

    Only the field `repeated` may come often: its count is limited by who reads it.
    """
    position, end, single = 0, len(data), 0
    while position < end:
        tag, position = varint(data, position, end)
        kind, field = tag & 7, tag >> 3
        if field != repeated:
            single += 1
            if single > _MAX_FIELDS:
                raise ValueError(f"a message has more than {_MAX_FIELDS} fields")
        if kind == _VARINT:
            value, position = varint(data, position, end)
            yield field, value
            continue
        length = {_FIXED64: 8, _FIXED32: 4}.get(kind)
        if kind == _BYTES:
            length, position = varint(data, position, end)
        if length is None:
            raise ValueError(f"a message has a field of the unknown kind {kind}")
        if length > end - position:
            raise ValueError(f"a field of {length} bytes leaves its message")
        content = data[position : position + length]
        position += length
        yield field, content if kind == _BYTES else int.from_bytes(content, "little")


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number stands where a message should")
    return value


def _size(value: int | bytes) -> int:
    """Return a number that is stored as a signed one, but never negative."""
    if not isinstance(value, int):
        raise ValueError("a message stands where a number should")
    if value >= 1 << 63:
        raise ValueError(f"a size is {value - (1 << 64)}")
    return value


def _shape(data: bytes) -> tuple[int, ...]:
    sizes: list[int] = []
    for number, value in _fields(data, 2):
        if number == 2:  # an axis: its size, and perhaps a name
            sizes.append(next((_size(part) for field, part in _fields(_message(value)) if field == 1), 0))
        elif number == 3 and value:
            raise ValueError("a shape is unknown")
        if len(sizes) > _MAX_RANK:
            raise ValueError(f"a shape has more than {_MAX_RANK} axes")
    return tuple(sizes)


def _slice(data: bytes) -> Slice:
    extents: list[tuple[int, int]] = []
    for number, value in _fields(data, 1):
        if number == 1:
            extent = {field: _size(part) for field, part in _fields(_message(value))}
            extents.append((extent.get(1, 0), extent.get(2, -1)))
        if len(extents) > _MAX_RANK:
            raise ValueError(f"a slice has more than {_MAX_RANK} axes")
    return tuple(extents)


def _unsigned(number: int) -> bytes:
    """Return the count of its bytes, then these, the greatest first."""
    length = (number.bit_length() + 7) // 8
    return bytes((length,)) + number.to_bytes(length, "big")


def _signed(number: int) -> bytes:
    """Return it in as few bytes as hold its sign, itself and one bit for each byte.

    The first bits give the length: as many ones as there are bytes, then a zero; all turned over when it is negative.
    """
    length = (number if number >= 0 else ~number).bit_length() // 7 + 1
    prefix = ((1 << length) - 1) << (7 * length)
    return ((number & ((1 << 8 * length) - 1)) ^ prefix).to_bytes(length, "big")
