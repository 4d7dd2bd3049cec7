"""TensorFlow checkpoints (version 2): an `.index` and its data shards, without TensorFlow."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import google_crc32c
import torch

from registry.checkpoint.tensorflow.index import Index, read_index, type_of
from registry.checkpoint.tensorflow.table import masked_crc32c
from registry.checkpoint.tensorflow.wire import Entry
from registry.checkpoint.tensors import TensorInfo, WholeTensors
from registry.errors import CheckpointError

__all__ = ["TensorflowFile", "data_shards"]

_CHUNK = 1 << 20  # read, then checked while it is in the processor's cache


def data_shards(index: Path, name: str | None = None) -> list[str]:
    """Return the names of the files that hold the tensors, such as `model.ckpt.data-00000-of-00005`.

    Args:
        index: the `.index` file.
        name: its own name, where the path has another, as in a cache.

    Raises:
        CheckpointError: when it is not the index of a checkpoint, or is of version 1.
    """
    return list(_shard_names(read_index(index), name or index.name).values())


class TensorflowFile(WholeTensors):
    """The variables of a checkpoint, by TensorFlow's names; each is read from its shard when it is asked for.

    A variable that was saved in slices is one tensor. Strings, variants and resources are listed, but cannot be read. The
    graph of Python objects that TensorFlow 2 stores (`_CHECKPOINTABLE_OBJECT_GRAPH`) is no variable and is not listed.
    """

    def __init__(self, path: Path, locate: Callable[[str], Path] | None = None, name: str | None = None) -> None:
        """Read the index, and find its shards.

        Args:
            path: the `.index` file.
            locate: finds a shard by its file name; by default it lies beside the index.
            name: the index file's own name, where the path has another.

        Raises:
            CheckpointError: when the index is damaged or of version 1, or a shard is missing or too short.
        """
        self.path = path
        self._index: Index = read_index(path)
        #: It says nothing of itself.
        self.metadata: Mapping[str, str] = {}
        self._locate = locate or (lambda shard: path.parent / shard)
        names = _shard_names(self._index, name or path.name)
        self._shards = {number: self._find(shard, self._index.shards[number]) for number, shard in names.items()}

    def names(self) -> Iterable[str]:
        """Return the names of the variables."""
        return self._index.variables.keys()

    def info(self, name: str) -> TensorInfo:
        """Return what the index says of a variable."""
        entry = self._variable(name)
        dtype, width = type_of(entry)
        return TensorInfo(dtype, entry.shape, math.prod(entry.shape) * width if width else entry.size)

    def tensor(self, name: str) -> torch.Tensor:
        """Read a variable, and check its bytes.

        Raises:
            CheckpointError: when they are damaged, or torch has no such tensors.
        """
        entry = self._variable(name)
        dtype, width = type_of(entry)
        if not width:
            raise CheckpointError(
                f"variable {name!r} of {str(self.path)!r} is expected to hold numbers, but is of TensorFlow's type {dtype}; "
                "torch has no such tensors, so leave it out",
                path=str(self.path),
            )
        if not entry.slices:
            return self._read(name, entry)
        whole = self._empty(name, entry.shape, getattr(torch, dtype))
        for place, piece in self._index.pieces[name]:
            whole[tuple(slice(start, start + length) for start, length in place)] = self._read(name, piece)
        return whole

    def _variable(self, name: str) -> Entry:
        try:
            return self._index.variables[name]
        except KeyError as error:
            raise CheckpointError(
                f"checkpoint {str(self.path)!r} is expected to hold {name!r}, but does not", path=str(self.path)
            ) from error

    def _find(self, shard: str, size: int) -> Path:
        try:
            path = self._locate(shard)
            found = path.stat().st_size
        except (LookupError, OSError) as error:
            raise CheckpointError(
                f"shard {shard!r} of {str(self.path)!r} is expected to be there, but is not; put it beside the index",
                path=str(self.path),
            ) from error
        if found < size:
            raise CheckpointError(
                f"shard {str(path)!r} is expected to have {size} bytes, as {str(self.path)!r} says, but has {found}; "
                "fetch it again",
                path=str(path),
            )
        return path

    def _read(self, name: str, entry: Entry) -> torch.Tensor:
        """Return the values of an entry that has bytes of its own."""
        path = self._shards[entry.shard]

        def damaged(reason: str) -> CheckpointError:
            return CheckpointError(
                f"shard {str(path)!r} is expected to hold {name!r} at byte {entry.offset}, but {reason}; fetch it again",
                path=str(path),
            )

        crc = 0
        try:
            with path.open("rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_size < entry.offset + entry.size:  # nothing is allocated for what is not there
                    raise damaged("it ends before")
                buffer = self._empty(name, (entry.size,), torch.uint8)
                values = buffer.numpy()
                file.seek(entry.offset)
                for start in range(0, entry.size, _CHUNK):
                    chunk = values[start : start + _CHUNK]
                    rest = chunk.data
                    while rest:
                        count = file.readinto(rest)
                        if not count:
                            raise damaged("it ends before")
                        rest = rest[count:]
                    crc = google_crc32c.extend(crc, chunk)
        except OSError as error:
            raise damaged(f"it cannot be read ({error.strerror})") from error
        if masked_crc32c(crc) != entry.crc32c:
            raise damaged("its checksum is wrong")
        dtype, width = type_of(entry)
        if self._index.header.big_endian != (sys.byteorder == "big"):
            width = width // 2 if dtype.startswith("complex") else width
            values.view(f"u{width}").byteswap(inplace=True)
        if dtype == "bool":
            buffer.clamp_(max=1)  # torch has no other true
        return buffer.view(getattr(torch, dtype)).reshape(entry.shape)

    def _empty(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        try:
            return torch.empty(shape, dtype=dtype, device="cpu")
        except (RuntimeError, MemoryError) as error:
            raise CheckpointError(
                f"variable {name!r} of {str(self.path)!r} is expected to fit into memory, but does not: "
                f"it has {math.prod(shape) * dtype.itemsize} bytes",
                path=str(self.path),
            ) from error


def _shard_names(index: Index, name: str) -> dict[int, str]:
    stem = name.removesuffix(".index")
    return {number: f"{stem}.data-{number:05}-of-{index.header.shards:05}" for number in index.shards}
