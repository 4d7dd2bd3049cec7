"""torch's pickled checkpoints, zip and legacy form, without ever running what a pickle says."""

from __future__ import annotations

import mmap
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from registry.base.logs import lazy_logger
from registry.checkpoint.safetensors.file import FilePieces, bytes_of, map_file
from registry.checkpoint.tensor_names import unsafe_tensor_name
from registry.checkpoint.tensors import TensorInfo, WholeTensors
from registry.checkpoint.torch.layout import check_sums, explained, read_layout, scan_torch_file
from registry.checkpoint.torch.tensor_pickle import TensorPart
from registry.errors import CheckpointError, UnsafeCheckpoint

__all__ = ["TorchFile", "scan_torch_file"]

logger = lazy_logger(__name__)

#: Where training scripts keep the state dict, beside optimizer and epoch.
_CONTAINERS = ("state_dict", "model_state_dict", "model", "module")
#: How often all tensors together may hold the bytes of the file: views that overlap would multiply it when they are saved.
_MAX_REPEAT = 4
#: Bytes of the widest value: a mapped storage that does not lie at a multiple of it is copied.
_ALIGNMENT = 16


class TorchFile(WholeTensors):
    """A state dict in a file that `torch.save` wrote. Tensors of the zip form are mapped, those of the legacy form read.

    Tensors are made of what the layout says, as `torch.load` would make them; torch's unpickler is not asked. Tensors that
    shared a storage when they were saved share it.
    """

    def __init__(self, path: Path, *, mapped: bool = True) -> None:
        """Look at the file, and read none of its values.

        Args:
            path: the file.
            mapped: whether tensors of the zip form are mapped.

        Raises:
            UnsafeCheckpoint: when it names anything but the parts of tensors; nothing was run.
            CheckpointError: when it is damaged or holds no state dict.
        """
        self.path = path
        with explained(path):
            self._stamp = _stamp(path)
        #: What the scan of its pickles found.
        self.report = scan_torch_file(path)
        if self.report.refused:
            called = ", ".join(self.report.refused)
            sparse = any("_rebuild_sparse" in name or "_rebuild_nested" in name for name in self.report.refused)
            advice = ", with `.to_dense()` for its sparse tensors" if sparse else ""
            raise UnsafeCheckpoint(
                f"checkpoint {str(path)!r} is expected to hold only tensors, but would call {called:.1000}; "
                f"nothing was run. If you trust it, load it where it was made and save its state_dict(){advice}",
                path=str(path),
                globals=self.report.refused,
            )
        self._layout = read_layout(path)
        #: The name of the state dict within the file; None when the file holds nothing else.
        self.container, self._parts = _state_dict(self._layout.value, path)
        self._mapped = mapped and self._layout.zipped
        self._source: mmap.mmap | FilePieces | None = None
        self._storages: dict[str, torch.UntypedStorage] = {}
        self._lock = threading.Lock()
        if self.container is not None:
            logger.info("of checkpoint %s only %r is read", path, self.container)
        self.metadata: Mapping[str, str] = {}

    def names(self) -> Iterable[str]:
        """Return the names of the tensors."""
        return self._parts.keys()

    def info(self, name: str) -> TensorInfo:
        """Return what the pickle says of a tensor."""
        part = self._parts[name]
        return TensorInfo(part.dtype, part.shape, part.nbytes)

    def tensor(self, name: str) -> torch.Tensor:
        """Return a tensor.

        Raises:
            CheckpointError: when the file was changed since it was looked at, or cannot be read.
        """
        part = self._parts[name]
        with explained(self.path), self._lock:
            if (storage := self._storages.get(part.storage)) is None:
                storage = self._storages[part.storage] = self._read(part.storage)
        empty = torch.empty(0, dtype=getattr(torch, part.dtype), device="cpu")
        return empty.set_(storage, part.offset, part.shape, part.stride)

    def stored_name(self, name: str) -> str:
        """Return the first name that has these values."""
        part = self._parts[name]
        return next(other for other, held in self._parts.items() if held == part)

    def check_sums(self) -> None:
        """Compare all that the file holds with its own sums, which torch does not.

        It reads the whole file: for one whose sha256 is known there is no need.

        Raises:
            CheckpointError: when a record was changed.
        """
        check_sums(self.path)

    def _read(self, key: str) -> torch.UntypedStorage:
        """Return a storage over the mapped file, or of its own."""
        begin, storage = self._layout.places[key]
        if not storage.count:
            return torch.UntypedStorage(0)  # type: ignore[no-untyped-call]
        if self._source is None:
            self._source = map_file(self.path, self._stamp[1]) if self._mapped else FilePieces(self.path)
            if _stamp(self.path) != self._stamp:
                raise CheckpointError(
                    f"checkpoint {str(self.path)!r} is expected to stay as it is while it is read, but changed; load it again",
                    path=str(self.path),
                )
        if isinstance(self._source, mmap.mmap):
            values = torch.frombuffer(self._source, dtype=torch.uint8, count=storage.nbytes, offset=begin)
            if begin % _ALIGNMENT:
                values = values.clone()
        else:
            values = torch.empty(storage.nbytes, dtype=torch.uint8, device="cpu")
            self._source.read(bytes_of(values), begin)
        held = values.untyped_storage()
        if self._layout.byte_order != sys.byteorder:
            held.byteswap(getattr(torch, storage.dtype))  # type: ignore[no-untyped-call]
        return held


def _stamp(path: Path) -> tuple[int, int, int]:
    about = path.stat()
    return about.st_ino, about.st_size, about.st_mtime_ns


def _state_dict(value: Any, path: Path) -> tuple[str | None, Mapping[str, TensorPart]]:
    """Return the state dict of a file, and its name where it is one of several things."""
    where = f"checkpoint {str(path)!r}"
    if not isinstance(value, dict):
        raise CheckpointError(f"{where} is expected to hold a state dict, but what it holds is {_kind(value)}", path=str(path))
    container = None
    if any(type(part) is not TensorPart for part in value.values()):
        found = [name for name in _CONTAINERS if isinstance(value.get(name), dict) and value[name]]
        if len(found) > 1:
            raise CheckpointError(
                f"{where} is expected to hold one state dict, but holds {' and '.join(found)}; save one of them by itself",
                path=str(path),
            )
        if found:
            (container,) = found
            value, where = value[container], f"{container} of {where}"
    distinct: set[TensorPart] = set()
    for name, part in value.items():
        if type(name) is not str:
            raise CheckpointError(f"names in {where} are expected to be text, but one is {_kind(name)}", path=str(path))
        if type(part) is not TensorPart:
            raise CheckpointError(
                f"value {name!a:.80} of {where} is expected to be a tensor, but is {_kind(part)}; "
                "save model.state_dict() and not what holds it",
                path=str(path),
            )
        if reason := unsafe_tensor_name(name):
            raise CheckpointError(f"name {name!a:.80} of {where} is expected to be a tensor's, but {reason}", path=str(path))
        distinct.add(part)
    total, size = sum(part.nbytes for part in distinct), path.stat().st_size
    if total > _MAX_REPEAT * size:
        raise CheckpointError(
            f"tensors of {where} are expected to be parts of its {size} bytes, but overlap so far that they have {total}",
            path=str(path),
        )
    return container, value


def _kind(value: Any) -> str:
    return "a tensor" if type(value) is TensorPart else f"of type {type(value).__name__}"
