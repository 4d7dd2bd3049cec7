"""safetensors files, mapped, or read piece by piece where mapping is unwelcome."""

from __future__ import annotations

import math
import mmap
import os
import threading
import weakref
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

import torch

from registry.checkpoint.safetensors.header import PAIRS, read_header
from registry.checkpoint.tensors import TensorInfo
from registry.errors import CheckpointError

__all__ = ["FilePieces", "SafetensorsFile", "bytes_of", "map_file"]

_PIECE = 16 << 20


class SafetensorsFile:
    """Tensors of one file. Nothing is read before it is used.

    Mapped, each is a private mapping of its bytes. Otherwise each is read into memory of its own: on a network file system a
    page fault waits for the server, and kills the process when the file is cut meanwhile.
    """

    def __init__(self, path: Path, *, mapped: bool = True) -> None:
        """Read the header.

        Raises:
            CheckpointError: when it is not one, does not fit the file, or is larger than any model's.
        """
        self.path = path
        self._header = read_header(path)
        self._mapping: mmap.mmap | None = None
        if mapped:
            self._mapping = map_file(path, self._header.end)
        else:
            _ = self._pieces  # opened now, so that a file that cannot be read is told of here

    @property
    def metadata(self) -> Mapping[str, str]:
        """The header's own metadata."""
        return self._header.metadata

    def names(self) -> Iterable[str]:
        """Return the names of the tensors, in the order of their values."""
        return list(self._header.tensors)

    def info(self, name: str) -> TensorInfo:
        """Return what the header says of a tensor."""
        entry = self._header.tensors[name]
        return TensorInfo(entry.dtype, entry.shape, entry.end - entry.begin)

    def tensor(self, name: str) -> torch.Tensor:
        """Return a tensor over the mapped file, or of its own.

        Raises:
            CheckpointError: when torch has no such dtype, or the file was cut after it was opened, and is not mapped.
        """
        entry, dtype = self._header.tensors[name], self._dtype(name)
        if self._mapping is not None and entry.end > entry.begin:
            begin = self._header.begin + entry.begin
            count = (entry.end - entry.begin) // dtype.itemsize
            # Each has a storage of its own, which keeps the mapping: one that is saved does not take the others along.
            return torch.frombuffer(self._mapping, dtype=dtype, count=count, offset=begin).view(entry.shape)
        if entry.end == entry.begin:
            return torch.empty(entry.shape, dtype=dtype)
        values = torch.empty(entry.end - entry.begin, dtype=torch.uint8)
        self._pieces.read(values.numpy().data, self._header.begin + entry.begin)
        return values.view(dtype).reshape(entry.shape)

    def read_rows(self, name: str, begin: int, into: torch.Tensor) -> None:
        """Read the bytes of these rows, straight into `into` where it is on the CPU and of the file's dtype.

        Raises:
            CheckpointError: when torch has no such dtype, the file cannot be read, or was cut after it was opened.
        """
        entry, count, dtype = self._header.tensors[name], len(into), self._dtype(name)
        width = dtype.itemsize * math.prod(entry.shape[1:])
        offset = self._header.begin + entry.begin + begin * width
        if into.dtype == dtype and into.device.type == "cpu" and into.is_contiguous():
            self._pieces.read(bytes_of(into), offset)
            return
        step = max(1, _PIECE // max(1, width))
        for first in range(0, count, step):
            part = into[first : first + step]
            values = torch.empty(part.shape, dtype=dtype, device="cpu")
            self._pieces.read(bytes_of(values), offset + first * width)
            part.copy_(values)

    def stored_name(self, name: str) -> str:
        """Return the name: each has bytes of its own."""
        return name

    def _dtype(self, name: str) -> torch.dtype:
        dtype = getattr(torch, code := self._header.tensors[name].dtype, None)
        if dtype is None:
            raise CheckpointError(
                f"dtype of tensor {name!r} in {str(self.path)!r} is expected to be one that torch {torch.__version__} has, but "
                f"is {code}; convert it with the program that wrote it",
                path=str(self.path),
            )
        return dtype  # type: ignore[no-any-return]

    @cached_property
    def _pieces(self) -> FilePieces:
        return FilePieces(self.path)

    def parameters(self) -> int:
        """Return the number of floating point scalars in the file, from the header alone: integers are no weights."""
        entries = self._header.tensors.values()
        return sum(
            math.prod(entry.shape) * (2 if entry.dtype == PAIRS else 1)
            for entry in entries
            if "float" in entry.dtype or entry.dtype.startswith("F")
        )


def map_file(path: Path, size: int) -> mmap.mmap:
    """Map a file privately: what is written to the memory stays in this process."""
    try:
        with path.open("rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"checkpoint {str(path)!r} is expected to be a file that can be mapped, but is not ({error}); "
            "REGISTRY_MMAP=0 reads it instead",
            path=str(path),
        ) from error
    if len(mapping) != size:
        raise CheckpointError(
            f"checkpoint {str(path)!r} is expected to stay as it is while it is opened, but was replaced; load it again",
            path=str(path),
        )
    return mapping


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """Return the bytes of a contiguous tensor on the CPU, in its own memory."""
    flat = tensor.as_strided((tensor.numel(),), (1,))  # a contiguous tensor has any stride where a dimension is 1
    return flat.view(torch.uint8).numpy().data


class FilePieces:
    """A file that is read at given places, by any number of threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise self._unreadable(error) from error
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, into: memoryview, offset: int) -> None:
        """Fill `into` with the bytes from `offset` on."""
        done = 0
        try:
            while done < len(into):
                count = self._read_some(into[done:], offset + done)
                if count == 0:
                    raise OSError("it was cut")
                done += count
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> CheckpointError:
        return CheckpointError(
            f"checkpoint {str(self._path)!r} is expected to be readable, but is not ({error.strerror or error})",
            path=str(self._path),
        )

    def _read_some(self, into: memoryview, offset: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._descriptor, [into], offset)
        with self._lock:  # Windows, where a read goes on from where the last one ended
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            data = os.read(self._descriptor, min(len(into), _PIECE))
        into[: len(data)] = data
        return len(data)
