"""What a checkpoint is, told without reading its values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from registry.checkpoint.reader import Checkpoint, TensorInfo, checkpoint_format
from registry.errors import UnsafeCheckpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.checkpoint.pickle_scan import PickleReport

__all__ = ["Inspection", "inspect_files"]


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
    from registry.checkpoint.torch_file import scan_torch_file

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
