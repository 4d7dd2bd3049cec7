"""The header of a safetensors file, held to limits of our own before anything is mapped or read by it.

The format: 8 bytes of length, a JSON object of that length, then the values (https://github.com/huggingface/safetensors).
Each tensor is `"name": {"dtype": …, "shape": […], "data_offsets": [begin, end]}`; `__metadata__` maps text to text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from registry.base.regular import open_regular
from registry.checkpoint.tensor_names import unsafe_tensor_name
from registry.errors import CheckpointError

__all__ = ["DTYPES", "PAIRS", "Entry", "Header", "read_header"]

#: Bytes; the library's own limit is four times that, and reading it takes gigabytes of memory.
MAX_HEADER = 25_000_000
MAX_TENSORS = 100_000
_MAX_DIMENSIONS = 64
#: Brackets, and commas, that a header of that many tensors has, with room for metadata. Counting them costs little.
_MOST = {b"{": MAX_TENSORS + 100, b"[": 2 * MAX_TENSORS + 1000, b",": 10 * MAX_TENSORS}

#: torch's dtype for two values of `F4` in one byte: the last dimension of a tensor has half as many as the format counts.
PAIRS = "float4_e2m1fn_x2"
#: The format's names of dtypes, and torch's with the bits of a value.
DTYPES = {
    "F64": ("float64", 64),
    "F32": ("float32", 32),
    "F16": ("float16", 16),
    "BF16": ("bfloat16", 16),
    "F8_E4M3": ("float8_e4m3fn", 8),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 8),
    "F8_E5M2": ("float8_e5m2", 8),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", 8),
    "F8_E8M0": ("float8_e8m0fnu", 8),
    "F4": (PAIRS, 4),
    "I64": ("int64", 64),
    "I32": ("int32", 32),
    "I16": ("int16", 16),
    "I8": ("int8", 8),
    "U64": ("uint64", 64),
    "U32": ("uint32", 32),
    "U16": ("uint16", 16),
    "U8": ("uint8", 8),
    "BOOL": ("bool", 8),
    "C64": ("complex64", 64),
}
#: Those that torch has none for.
_FOREIGN_DTYPES = {"F6_E2M3": 6, "F6_E3M2": 6}


class Entry(NamedTuple):
    """A tensor in a header. `begin` and `end` are bytes from where the values begin.

    `dtype` and `shape` are torch's, or the format's own where torch has no such dtype.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Header(NamedTuple):
    """What a file says of its tensors, in the order in which they lie."""

    tensors: Mapping[str, Entry]
    metadata: Mapping[str, str]
    #: Where in the file the values begin, and where they and the file end.
    begin: int
    end: int


class _Bad(Exception):
    """What is wrong with a header."""


def read_header(path: Path) -> Header:
    """Return the header of a file that it fits, byte for byte.

    Raises:
        CheckpointError: when there is none, it is beyond the limits, or the file is not what it says.
    """
    try:
        with open_regular(path) as file:
            size = path.stat().st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise _Bad(f"its header claims {length:,} bytes of a file of {size:,}")
            if length > MAX_HEADER:
                raise _Bad(f"its header has {length:,} bytes, more than {MAX_HEADER:,}")
            return _parse(file.read(length), size)
    except (_Bad, ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        reason = "its header nests too deep" if isinstance(error, RecursionError) else error
        raise CheckpointError(
            f"checkpoint {str(path)!r} is expected to be a safetensors file, but is not ({reason!s:.300}); fetch it again",
            path=str(path),
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"checkpoint {str(path)!r} is expected to be readable, but is not ({error.strerror})", path=str(path)
        ) from error


def _parse(text: bytes, size: int) -> Header:
    for mark, most in _MOST.items():
        if text.count(mark) > most:
            raise _Bad(f"its header has more than {most:,} times {mark.decode()!r}; at most {MAX_TENSORS:,} tensors are read")
    data = _object(text)
    metadata = data.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _Bad("its metadata does not map text to text")
    if len(data) > MAX_TENSORS:
        raise _Bad(f"it has more than {MAX_TENSORS:,} tensors")
    entries = sorted(
        ((name, _entry(name, fields)) for name, fields in data.items()), key=lambda item: (item[1].begin, item[1].end)
    )
    begin, end = 8 + len(text), 0
    for name, entry in entries:
        if entry.begin != end:
            raise _Bad(f"tensor {name!a:.80} begins at {entry.begin}, and what is before it ends at {end}")
        end = entry.end
    if begin + end != size:
        raise _Bad(f"its tensors end at {begin + end}, and the file at {size}")
    return Header(dict(entries), metadata, begin, size)


def _entry(name: str, fields: Any) -> Entry:
    if reason := unsafe_tensor_name(name):
        raise _Bad(f"the name {name!a:.80} {reason}")
    try:
        dtype, shape, (begin, end) = fields["dtype"], fields["shape"], fields["data_offsets"]
        known, bits = DTYPES[dtype] if dtype in DTYPES else (dtype, _FOREIGN_DTYPES[dtype])
    except (KeyError, TypeError, ValueError):
        what = fields.get("dtype") if isinstance(fields, dict) else None
        if isinstance(what, str) and what not in DTYPES:
            raise _Bad(f"tensor {name!a:.80} is of dtype {what!a:.40}, which is no dtype that is known") from None
        raise _Bad(f"tensor {name!a:.80} has no dtype that is known, no shape, or no offsets") from None
    if len(fields) != 3 or type(shape) is not list or len(shape) > _MAX_DIMENSIONS or not _are_sizes((*shape, begin, end)):
        raise _Bad(f"tensor {name!a:.80} has a shape or offsets that are no sizes, or more than these")
    count = math.prod(shape)
    if count * bits != 8 * (end - begin) or (not count and math.prod(filter(None, shape)) >= 1 << 63):
        raise _Bad(f"tensor {name!a:.80} of {known} and shape {shape!s:.80} does not fill bytes {begin} to {end}")
    if known == PAIRS:
        if shape and shape[-1] % 2 == 0:
            shape = [*shape[:-1], shape[-1] // 2]
        else:
            known = dtype
    return Entry(known, tuple(shape), begin, end)


def _are_sizes(values: tuple[Any, ...]) -> bool:
    return set(map(type, values)) == {int} and min(values) >= 0 and max(values) < 1 << 63


def _object(text: bytes) -> dict[str, Any]:
    """Return a JSON object without a key that is there twice."""
    data = json.loads(text.decode("utf-8"), parse_constant=_no_number)
    if not isinstance(data, dict):
        raise _Bad("its header is no object")
    # A tensor takes five texts, and metadata two for each of its own: where just so many stand there, none was replaced by
    # another of its name. That is quick to see; to look at each object takes longer than all the rest.
    metadata = data.get("__metadata__")
    texts = 5 * (len(data) - (metadata is not None)) + (1 + 2 * len(metadata) if isinstance(metadata, dict) else 0)
    if b"\\" in text or text.count(b'"') != 2 * texts:
        json.loads(text, object_pairs_hook=_unique)
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        seen: set[str] = set()
        double = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise _Bad(f"its header has the key {double!a:.80} twice")
    return data


def _no_number(name: str) -> NoReturn:
    raise _Bad(f"its header holds {name}, which is no JSON")
