"""Open a checkpoint, whatever its format: recognised by content, not by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from registry.base.json_file import read_json
from registry.base.logs import lazy_logger
from registry.base.names import INDEX_SUFFIX, twin_key, unsafe_file_name
from registry.base.regular import open_regular
from registry.base.settings import is_off
from registry.checkpoint.tensor_names import unsafe_tensor_name
from registry.checkpoint.tensorflow.table import TABLE_MAGIC
from registry.checkpoint.tensors import Checkpoint, TensorInfo
from registry.errors import CheckpointError, ConfigError, UnsafeCheckpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from registry.checkpoint.torch.pickle_stream import PickleReport

__all__ = ["INDEX_SUFFIX", "Inspection", "checkpoint_format", "inspect_files", "open_checkpoint", "open_shards", "shard_names"]


logger = lazy_logger(__name__)


class _Shards:
    """Several files as one checkpoint."""

    def __init__(self, files: Mapping[str, Checkpoint], weight_map: Mapping[str, str]) -> None:
        self._files = files
        self._weight_map = weight_map
        #: As in the first shard: every shard says the same.
        self.metadata = next(iter(files.values())).metadata

    def names(self) -> Iterable[str]:
        return self._weight_map.keys()

    def info(self, name: str) -> TensorInfo:
        return self._files[self._weight_map[name]].info(name)

    def tensor(self, name: str) -> torch.Tensor:
        return self._files[self._weight_map[name]].tensor(name)

    def read_rows(self, name: str, begin: int, into: torch.Tensor) -> None:
        self._files[self._weight_map[name]].read_rows(name, begin, into)

    def stored_name(self, name: str) -> str:
        return self._files[self._weight_map[name]].stored_name(name)


def checkpoint_format(path: Path) -> str:
    """Return `safetensors`, `torch`, `tensorflow`, or what else a file is in words, from its first and last bytes."""
    try:
        with open_regular(path) as file:
            head = file.read(64)
            file.seek(max(file.seek(0, os.SEEK_END) - len(TABLE_MAGIC), 0))
            tail = file.read(len(TABLE_MAGIC))
    except OSError as error:
        raise CheckpointError(
            f"checkpoint {str(path)!r} is expected to be readable, but is not ({error.strerror})", path=str(path)
        ) from error
    if head.startswith(b"GGUF"):
        return "a GGUF file"
    if head[8:9] == b"{" and not 0x09 <= head[7] <= 0x7E:  # a text has a letter there, a length mostly nothing
        return "safetensors"
    if head.startswith((b"PK\x03\x04", b"\x80")):
        return "torch"
    if tail == TABLE_MAGIC:
        return "tensorflow"
    for magic, what in (
        (b"\x1f\x8b", "a gzip archive"),
        (b"\x89HDF", "an HDF5 file"),
        (b"version https://git-lfs", "a git-lfs pointer"),
    ):
        if head.startswith(magic):
            return what
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    return "an empty file" if not head else "neither"


def open_checkpoint(
    path: Path, locate: Callable[[str], Path] | None = None, name: str | None = None, *, mapped: bool | None = None
) -> Checkpoint:
    """Open a weights file, or the shards that an index file names.

    Args:
        path: the weights file, its `*.index.json`, or the `.index` of a TensorFlow checkpoint.
        locate: finds a shard by its file name; by default it lies beside the index.
        name: the file's own name, where the path has another, as in a cache.
        mapped: whether tensors are mapped; by default they are, unless the environment has `REGISTRY_MMAP=0`.

    Raises:
        CheckpointError: when a file is not a checkpoint, or an index does not fit its shards.
        UnsafeCheckpoint: when a pickle holds more than tensors.
    """
    if mapped is None:
        mapped = not is_off("REGISTRY_MMAP")
    name = name or path.name
    if name.endswith(INDEX_SUFFIX):
        return open_shards(path, lambda shard: open_checkpoint(locate(shard) if locate else path.parent / shard, mapped=mapped))
    form = checkpoint_format(path)
    if form == "safetensors":
        from registry.checkpoint.safetensors.file import SafetensorsFile

        return SafetensorsFile(path, mapped=mapped)
    if form == "torch":
        from registry.checkpoint.torch.file import TorchFile

        return TorchFile(path, mapped=mapped)
    if form == "tensorflow":
        from registry.checkpoint.tensorflow.file import TensorflowFile

        return TensorflowFile(path, locate, name)
    raise CheckpointError(
        f"format of {str(path)!r} is expected to be safetensors, torch or the index of a TensorFlow checkpoint, but it is "
        f"{form}; fetch it again, or convert it",
        path=str(path),
    )


def shard_names(index: Path) -> dict[str, str]:
    """Return tensor name to shard file name, as an index file says.

    Raises:
        CheckpointError: when it has no such map, a shard's name is not a plain file name, or a tensor's could be a path.
    """
    try:
        weight_map = read_json(index).get("weight_map")
    except ConfigError as error:
        raise CheckpointError(error.message, path=str(index)) from error
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointError(
            f"weight_map of {str(index)!r} is expected to map tensor names to files, but does not", path=str(index)
        )
    for tensor in weight_map:
        if reason := unsafe_tensor_name(tensor):
            raise CheckpointError(
                f"weight_map of {str(index)!r} is expected to name tensors, but {tensor!a:.80} {reason}", path=str(index)
            )
    held: dict[str, str] = {}
    for name in sorted(set(weight_map.values())):
        reason = unsafe_file_name(name) or ("lies in a subfolder" if "/" in name else None)
        if reason is None and name.lower().endswith((".json", ".index")):
            reason = "is an index itself, or no weights"
        if reason is None and (twin := held.setdefault(twin_key(name), name)) != name:
            reason = f"is {twin!a} on some file systems"
        if reason:
            raise CheckpointError(
                f"a shard of {str(index)!r} is expected to be a plain file name, but {name!r:.300} {reason}", path=str(index)
            )
    return weight_map


def open_shards(index: Path, opened: Callable[[str], Checkpoint]) -> Checkpoint:
    """Open the shards that an index file names as one checkpoint.

    Args:
        index: the `*.index.json`.
        opened: opens a shard by its name in the index.

    Raises:
        CheckpointError: when the index does not fit its shards; and what `opened` raises.
    """
    weight_map = shard_names(index)
    files = {name: opened(name) for name in sorted(set(weight_map.values()))}
    held = {name: set(file.names()) for name, file in files.items()}
    for tensor, name in weight_map.items():
        if tensor not in held[name]:
            raise CheckpointError(
                f"shard {name!r} is expected to hold {tensor!r}, as {str(index)!r} says, but does not", path=str(index)
            )
    for name, tensors in held.items():
        if more := sorted(tensor for tensor in tensors if weight_map.get(tensor) != name):
            logger.warning("%s does not list all that %s holds; not read: %s", index, name, ", ".join(more[:6]))
    return _Shards(files, weight_map)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found. A checkpoint that would not be loaded has no tensors, and `refused` says why."""

    files: tuple[Path, ...]
    #: `safetensors`, `torch`, `tensorflow` or `numpy`.
    format: str
    metadata: Mapping[str, str]
    tensors: Mapping[str, TensorInfo]
    #: What the pickles of each torch file would fetch.
    pickles: Mapping[Path, PickleReport]
    refused: str = ""


def inspect_files(files: Iterable[Path], form: str, opened: Callable[[], Checkpoint]) -> Inspection:
    """Describe a checkpoint; only headers, indexes and pickles are read.

    Args:
        files: all that it consists of.
        form: its format.
        opened: opens it.

    Raises:
        CheckpointError: when it is damaged.
    """
    from registry.checkpoint.torch.file import scan_torch_file

    files = tuple(files)
    pickles = {}
    if form in ("safetensors", "torch"):  # the files of other forms are anything
        pickles = {
            path: scan_torch_file(path) for path in files if path.suffix != ".json" and checkpoint_format(path) == "torch"
        }
    try:
        checkpoint = opened()
    except UnsafeCheckpoint as error:
        return Inspection(files, form, {}, {}, pickles, refused=error.message)
    tensors = {name: checkpoint.info(name) for name in checkpoint.names()}
    return Inspection(files, form, checkpoint.metadata, tensors, pickles)
