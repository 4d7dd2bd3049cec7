"""Write checkpoints, and sets of files that appear together or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from registry.checkpoint.reader import INDEX_SUFFIX
from registry.errors import CheckpointError
from registry.store.files import sync_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    import torch

__all__ = ["parse_size", "refuse_unfinished", "staged_folder", "write_weights"]

#: A complete new set that waits to be moved into the folder it stands in; while it exists, the folder is a mixture.
_READY = ".registry-save.ready"
_WEIGHTS = re.compile(r"(model|pytorch_model)(-\d{5}-of-\d{5})?\.(safetensors|bin)(\.index\.json)?")
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


def parse_size(size: int | str) -> int:
    """Return a number of bytes from an int or a text such as `5GB` or `512MiB`.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(size, int):
        return size
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?B?)\s*", size, re.IGNORECASE)
    if not found or found[2].upper() not in _UNITS:
        raise ValueError(f"a size is expected to be a number of bytes or a text such as '5GB', but is {size!r}")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def refuse_unfinished(folder: Path) -> None:
    """Raise when a save into `folder` was interrupted between its first and last file.

    Raises:
        CheckpointError: with the way to finish.
    """
    if (ready := folder / _READY).is_dir():
        raise CheckpointError(
            f"folder {str(folder)!r} is expected to hold one saved set, but a save into it was interrupted; "
            f"finish it by moving every file of {str(ready)!r} into the folder and removing {_READY}, or save again",
            path=str(folder),
        )


@contextlib.contextmanager
def staged_folder(folder: Path, *, replaces_weights: bool = False) -> Iterator[Path]:
    """Yield an empty folder to write into; what is in it afterwards appears in `folder`.

    A new folder appears whole, by one rename. In an existing one each file is replaced by a rename, never written over,
    because it may be mapped; a process that dies in between leaves a folder that `refuse_unfinished` refuses. With
    `replaces_weights`, weights files of an earlier save that the new set does not have are removed.
    """
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    unique = f"{os.getpid()}-{secrets.token_hex(4)}"
    # Inside the folder when there is one: it may be a mount point, and renames do not leave a file system.
    inside = folder.is_dir()
    stage = folder / f".registry-save.{unique}" if inside else folder.parent / f".{folder.name}.{unique}.saving"
    stage.mkdir()
    try:
        yield stage
        for file in stage.iterdir():
            with file.open("rb+") as handle:
                os.fsync(handle.fileno())
        sync_folder(stage)
        try:
            if inside:
                raise FileExistsError
            stage.rename(folder)
        except OSError:  # there is one, perhaps of another process that saves the same
            if not folder.is_dir():
                raise CheckpointError(
                    f"{str(folder)!r} is expected to be a folder to save into, but is not, and cannot become one",
                    path=str(folder),
                ) from None
            with _folder_lock(folder):
                _move_into(stage, folder, replaces_weights)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


@contextlib.contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    """Let one process at a time move files into a folder, where the system can lock a folder."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _move_into(stage: Path, folder: Path, replaces_weights: bool) -> None:
    ready = folder / _READY
    if ready.is_dir():  # an interrupted save: this one takes its place; what it does not write is moved on below
        for file in ready.iterdir():
            replaced = replaces_weights and _WEIGHTS.fullmatch(file.name)
            if not replaced and not (stage / file.name).exists():
                file.replace(stage / file.name)
        shutil.rmtree(ready)
    new = {file.name for file in stage.iterdir()}
    stage.rename(ready)
    for name in sorted(new):
        (ready / name).replace(folder / name)
    if replaces_weights:
        for file in folder.iterdir():
            if _WEIGHTS.fullmatch(file.name) and file.name not in new:
                file.unlink()
    sync_folder(folder)
    ready.rmdir()


def write_weights(
    folder: Path, tensors: Mapping[str, torch.Tensor], *, safe: bool = True, max_shard_size: int | None = None
) -> list[str]:
    """Write tensors as `model.safetensors` (or `pytorch_model.bin`), in shards with an index when they are larger.

    Args:
        folder: an existing folder.
        tensors: name to tensor; in safetensors a tensor that shares memory with an earlier one must not be among them.
        safe: safetensors when true, torch's pickle when false.
        max_shard_size: in bytes; None for one file.

    Returns:
        the names of the files.
    """
    stem, suffix = ("model", "safetensors") if safe else ("pytorch_model", "bin")
    shards = _split(tensors, max_shard_size)
    if len(shards) == 1:
        names = [f"{stem}.{suffix}"]
    else:
        names = [f"{stem}-{number:05d}-of-{len(shards):05d}.{suffix}" for number in range(1, len(shards) + 1)]
        index = {
            "metadata": {"total_size": sum(_nbytes(tensor) for tensor in tensors.values())},
            "weight_map": {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard},
        }
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        (folder / f"{stem}.{suffix}{INDEX_SUFFIX}").write_text(text, encoding="utf-8")
    for name, shard in zip(names, shards, strict=True):
        if safe:
            from safetensors.torch import save_file

            contiguous = {key: tensor.contiguous() for key, tensor in shard.items()}
            (folder / name).touch()  # as the umask says; safetensors replaces the file with one that only its owner may read
            mode = (folder / name).stat().st_mode
            save_file(contiguous, folder / name, metadata={"format": "pt"})
            (folder / name).chmod(mode)
        else:
            import torch

            torch.save(shard, folder / name)
    return names


def _split(tensors: Mapping[str, torch.Tensor], limit: int | None) -> list[dict[str, torch.Tensor]]:
    shards: list[dict[str, torch.Tensor]] = [{}]
    filled = 0
    for name, tensor in tensors.items():
        size = _nbytes(tensor)
        if limit is not None and shards[-1] and filled + size > limit:
            shards.append({})
            filled = 0
        shards[-1][name] = tensor
        filled += size
    return shards


def _nbytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
