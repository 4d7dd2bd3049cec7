"""safetensors files, mapped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from registry.checkpoint.reader import TensorInfo
from registry.errors import CheckpointError

__all__ = ["SafetensorsFile"]

#: The format's names of dtypes (https://github.com/huggingface/safetensors, "Format"), and torch's with their bytes.
_DTYPES = {
    "F64": ("float64", 8),
    "F32": ("float32", 4),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "I64": ("int64", 8),
    "I32": ("int32", 4),
    "I16": ("int16", 2),
    "I8": ("int8", 1),
    "U64": ("uint64", 8),
    "U32": ("uint32", 4),
    "U16": ("uint16", 2),
    "U8": ("uint8", 1),
    "BOOL": ("bool", 1),
    "C64": ("complex64", 8),
}


class SafetensorsFile:
    """Tensors of one file; each is a private mapping of its bytes, so nothing is read before it is used."""

    def __init__(self, path: Path) -> None:
        """Read the header.

        Raises:
            CheckpointError: when it is not one, or does not fit the file.
        """
        self.path = path
        try:
            self._file: Any = safe_open(str(path), framework="pt", device="cpu")
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(
                f"checkpoint {str(path)!r} is expected to be a safetensors file, but is not ({error}); fetch it again",
                path=str(path),
            ) from error

    @property
    def metadata(self) -> Mapping[str, str]:
        """The header's own metadata."""
        return self._file.metadata() or {}

    def names(self) -> Iterable[str]:
        """Return the names of the tensors."""
        return list(self._file.keys())

    def info(self, name: str) -> TensorInfo:
        """Return what the header says of a tensor."""
        part = self._file.get_slice(name)
        shape = tuple(part.get_shape())
        dtype, width = _DTYPES.get(part.get_dtype(), (part.get_dtype(), 0))
        return TensorInfo(dtype, shape, math.prod(shape) * width)

    def tensor(self, name: str) -> torch.Tensor:
        """Return a tensor over the mapped file."""
        tensor: torch.Tensor = self._file.get_tensor(name)
        return tensor

    def parameters(self) -> int:
        """Return the number of floating point scalars in the file, from the header alone: integers are no weights."""
        slices = [self._file.get_slice(name) for name in self.names()]
        return sum(math.prod(part.get_shape()) for part in slices if part.get_dtype().startswith(("F", "BF")))
