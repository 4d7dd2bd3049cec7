"""The variables of a TensorFlow checkpoint, from its `.index`, and what must be true of them before anything is read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from registry.checkpoint.tensorflow.table import Table, damaged
from registry.checkpoint.tensorflow.wire import MAX_SLICES, Entry, Header, Slice, read_entry, read_header, slice_key
from registry.errors import CheckpointError

__all__ = ["Index", "read_index", "type_of"]

#: TensorFlow's types (tensorflow/core/framework/types.proto) by torch's names, with their bytes.
_TYPES = {
    1: ("float32", 4),
    2: ("float64", 8),
    3: ("int32", 4),
    4: ("uint8", 1),
    5: ("int16", 2),
    6: ("int8", 1),
    8: ("complex64", 8),
    9: ("int64", 8),
    10: ("bool", 1),
    14: ("bfloat16", 2),
    17: ("uint16", 2),
    18: ("complex128", 16),
    19: ("float16", 2),
    22: ("uint32", 4),
    23: ("uint64", 8),
    24: ("float8_e5m2", 1),
    25: ("float8_e4m3fn", 1),
}
#: Those that are no numbers, or such as torch does not have, by TensorFlow's names.
_OTHER_TYPES = {
    7: "string",
    11: "qint8",
    12: "quint8",
    13: "qint32",
    15: "qint16",
    16: "quint16",
    20: "resource",
    21: "variant",
}

_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_MAX_NUMBERS = 1 << 60  # so that no size or stride leaves 64 bits


@dataclass(frozen=True, slots=True)
class Index:
    """What a checkpoint holds."""

    header: Header
    variables: Mapping[str, Entry]
    #: Where each slice of a variable belongs, and what it is; of variables that were saved in slices.
    pieces: Mapping[str, tuple[tuple[Slice, Entry], ...]]
    #: How many bytes each shard that is used has at least.
    shards: Mapping[int, int]


def type_of(entry: Entry) -> tuple[str, int]:
    """Return the name of a tensor's type, and the bytes of one value, or 0 when torch has no such tensors."""
    return _TYPES.get(entry.dtype) or (_OTHER_TYPES.get(entry.dtype, f"type {entry.dtype}"), 0)


def read_index(path: Path) -> Index:
    """Read an index whole, and hold it against itself.

    Raises:
        CheckpointError: when it is damaged, contradicts itself, or is of version 1.
    """
    table = Table(path)
    _refuse_version_1(path, table.head())
    header: Header | None = None
    variables: dict[str, Entry] = {}
    loose: dict[bytes, Entry] = {}
    axes = 0
    for key, value in table:
        try:
            if header is None:
                if key:
                    raise ValueError("it stands where the header should")
                header = read_header(value)
                continue
            entry = read_entry(value)
            _check_entry(entry, header)
            axes += sum(map(len, entry.slices))
            if axes > MAX_SLICES:
                raise ValueError(f"there are more than {MAX_SLICES} axes of slices up to here")
            if key.startswith(b"\0"):
                loose[key] = entry
            else:
                variables[key.decode()] = entry
        except UnicodeDecodeError as error:
            raise damaged(path, f"the name {key[:80]!r} is not UTF-8") from error
        except ValueError as error:
            raise damaged(path, f"its entry {key[:80]!r} is wrong: {error}") from error
    if header is None:
        raise damaged(path, "it is empty")
    try:
        shards = _shards([*variables.values(), *loose.values()])
        pieces = {name: _pieces(name, entry, loose) for name, entry in variables.items() if entry.slices}
        if loose:
            raise ValueError(f"the slice {next(iter(loose))[:80]!r} belongs to no variable")
    except ValueError as error:
        raise damaged(path, str(error)) from error
    variables.pop(_OBJECT_GRAPH, None)
    return Index(header, variables, pieces, shards)


def _refuse_version_1(path: Path, head: bytes) -> None:
    # Both versions begin with the empty key. Its value begins with a message in version 1, and with a number in version 2.
    if head[:2] == b"\0\0" and head[2:].lstrip(bytes(range(0x80, 0x100)))[1:2] == b"\n":
        raise CheckpointError(
            f"checkpoint {str(path)!r} is expected to be of TensorFlow's version 2, but is of version 1; convert it where "
            "TensorFlow is installed: r = tf.train.load_checkpoint(OLD); n = list(r.get_variable_to_shape_map()); "
            'tf.raw_ops.SaveV2(prefix=NEW, tensor_names=n, shape_and_slices=[""] * len(n), '
            "tensors=[r.get_tensor(i) for i in n])",
            path=str(path),
        )


def _check_entry(entry: Entry, header: Header) -> None:
    name, width = type_of(entry)
    if math.prod(max(size, 1) for size in entry.shape) > _MAX_NUMBERS:
        raise ValueError(f"the shape {entry.shape} is too large for any memory")
    if entry.slices:
        return
    if entry.shard >= header.shards:
        raise ValueError(f"the shard has the number {entry.shard}, and there are {header.shards}")
    if width and math.prod(entry.shape) * width != entry.size:
        raise ValueError(f"the shape {entry.shape} of {name} does not fit its {entry.size} bytes")


def _shards(entries: Iterable[Entry]) -> dict[int, int]:
    """Return the bytes that each shard has at least; no two tensors share any."""
    ends: dict[int, int] = {}
    for entry in sorted(
        (entry for entry in entries if not entry.slices), key=lambda entry: (entry.shard, entry.offset, entry.size)
    ):
        end = ends.setdefault(entry.shard, 0)
        if entry.size and entry.offset < end:
            raise ValueError(f"two tensors overlap at byte {entry.offset} of shard {entry.shard}")
        ends[entry.shard] = max(end, entry.offset + entry.size)
    return ends


def _pieces(name: str, entry: Entry, loose: dict[bytes, Entry]) -> tuple[tuple[Slice, Entry], ...]:
    """Take the slices of a variable, which fill it without gap or overlap, out of `loose`."""
    pieces: list[tuple[Slice, Entry]] = []
    for extents in entry.slices:
        if len(extents) != len(entry.shape):
            raise ValueError(f"a slice of {name!r} has {len(extents)} axes, and the variable {len(entry.shape)}")
        piece = loose.pop(slice_key(name.encode(), extents), None)
        if piece is None:
            raise ValueError(f"a slice of {name!r} is missing, or named twice")
        place = tuple(
            (0, size) if length < 0 else (start, length) for (start, length), size in zip(extents, entry.shape, strict=True)
        )
        if piece.dtype != entry.dtype or piece.slices or piece.shape != tuple(length for _, length in place):
            raise ValueError(f"a slice of {name!r} has another type or shape than the variable says")
        pieces.append((place, piece))
    if not _fill([place for place, _ in pieces], entry.shape, 0):
        raise ValueError(f"the slices of {name!r} do not fill the shape {entry.shape} exactly")
    return tuple(pieces)


def _fill(places: list[Slice], shape: tuple[int, ...], axis: int) -> bool:
    """Whether slices fill a shape, cut along one axis after the other, as TensorFlow's partitioners do."""
    if axis == len(shape):
        return len(places) == 1
    groups: dict[tuple[int, int], list[Slice]] = {}
    for place in places:
        groups.setdefault(place[axis], []).append(place)
    position = 0
    for (start, length), group in sorted(groups.items()):
        if start != position or not _fill(group, shape, axis + 1):
            return False
        position += length
    return position == shape[axis]
