"""safetensors files, mapped."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from registry.errors import CheckpointError

__all__ = ["SafetensorsFile"]


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

    def names(self) -> Iterable[str]:
        """Return the names of the tensors."""
        return list(self._file.keys())

    def tensor(self, name: str) -> torch.Tensor:
        """Return a tensor over the mapped file."""
        tensor: torch.Tensor = self._file.get_tensor(name)
        return tensor

    def parameters(self) -> int:
        """Return the number of floating point scalars in the file, from the header alone: integers are no weights."""
        slices = [self._file.get_slice(name) for name in self.names()]
        return sum(math.prod(part.get_shape()) for part in slices if part.get_dtype().startswith(("F", "BF")))
