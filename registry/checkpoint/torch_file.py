"""torch's pickled checkpoints, zip and legacy form, without ever running what a pickle says."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

import torch

from registry.checkpoint.pickle_scan import SAFE_GLOBALS, pickle_globals
from registry.checkpoint.reader import TensorInfo
from registry.errors import CheckpointError, UnsafeCheckpoint

__all__ = ["TorchFile", "scan_torch_file"]

#: A legacy file is five pickles (magic number, protocol, system, object, storage keys), then raw storages.
_LEGACY_PICKLES = 5
_MAX_PICKLE = 1 << 30


class TorchFile:
    """A state dict in a file that `torch.save` wrote. Tensors of the zip form are mapped, those of the legacy form read."""

    def __init__(self, path: Path) -> None:
        """Scan, then read, the file.

        Raises:
            UnsafeCheckpoint: when it names anything but the parts of tensors; nothing was run.
            CheckpointError: when it is damaged or holds no state dict.
        """
        self.path = path
        if unsafe := sorted(set(scan_torch_file(path)) - SAFE_GLOBALS):
            raise UnsafeCheckpoint(
                f"checkpoint {str(path)!r} is expected to hold only tensors, but would call {', '.join(unsafe)}; nothing was "
                "run. If you trust it, load it where it was made and save its state_dict()",
                path=str(path),
                globals=unsafe,
            )
        try:
            loaded = _load(path)
        except Exception as error:  # torch meets damage with whatever its reader stumbles over
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise CheckpointError(
                f"checkpoint {str(path)!r} is expected to be readable by torch, but is not ({reason}); fetch it again",
                path=str(path),
            ) from error
        if not isinstance(loaded, dict) or not all(isinstance(key, str) for key in loaded):
            raise CheckpointError(
                f"checkpoint {str(path)!r} is expected to hold a state dict, but holds a {type(loaded).__name__}",
                path=str(path),
            )
        for name, value in loaded.items():
            if not isinstance(value, torch.Tensor):
                raise CheckpointError(
                    f"value {name!r} of checkpoint {str(path)!r} is expected to be a tensor, but is a {type(value).__name__}; "
                    "save model.state_dict() and not what holds it",
                    path=str(path),
                )
        self._tensors: dict[str, torch.Tensor] = loaded
        self.metadata: Mapping[str, str] = {}

    def names(self) -> Iterable[str]:
        """Return the names of the tensors."""
        return self._tensors.keys()

    def info(self, name: str) -> TensorInfo:
        """Return what a tensor is."""
        return TensorInfo.of(self._tensors[name])

    def tensor(self, name: str) -> torch.Tensor:
        """Return a tensor."""
        return self._tensors[name].detach()


def _load(path: Path) -> object:
    if path.suffix == ".safetensors":  # torch would go by that name; an open file has none, but cannot be mapped
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))


def scan_torch_file(path: Path) -> list[str]:
    """Return every `module.name` that the pickles of a file would fetch.

    Raises:
        CheckpointError: when the file holds no pickle that can be looked at.
    """
    try:
        if _is_zip(path):
            return _scan_zip(path)
        with path.open("rb") as file:
            return _scan_stream(file)
    except Exception as error:  # as do the standard library's readers
        raise CheckpointError(
            f"checkpoint {str(path)!r} is expected to be a torch file, but is not ({error}); fetch it again", path=str(path)
        ) from error


def _is_zip(path: Path) -> bool:
    """Tell the two forms apart as torch does, so that what is scanned is what is read."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _scan_zip(path: Path) -> list[str]:
    found: list[str] = []
    with zipfile.ZipFile(path) as archive:
        pickles = [info for info in archive.infolist() if info.filename.endswith(".pkl")]
        if not any(info.filename.rpartition("/")[2] == "data.pkl" for info in pickles):
            raise ValueError("a zip file without data.pkl")
        for info in pickles:
            if info.file_size > _MAX_PICKLE or info.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{info.filename} is compressed or larger than {_MAX_PICKLE} bytes")
            with archive.open(info) as file:
                found += pickle_globals(file)
    return found


def _scan_stream(file: IO[bytes]) -> list[str]:
    found: list[str] = []
    for index in range(_LEGACY_PICKLES):
        try:
            found += pickle_globals(file)
        except ValueError:
            if index == 0:
                raise
            break  # a bare pickle ends here; torch will say what is wrong with it
    return found
