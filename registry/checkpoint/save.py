"""Write checkpoints, and sets of files that appear together or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from registry.base.files import OWNED, OwnerState, atomic_folder, owner_state, owner_token, sync_folder
from registry.base.regular import unfit_target
from registry.checkpoint.open import INDEX_SUFFIX
from registry.errors import CheckpointError, RegistryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import torch

__all__ = [
    "nbytes_of",
    "parse_size",
    "refuse_unfinished",
    "shard_files",
    "split_weights",
    "staged_folder",
    "write_index",
    "write_weights",
]

#: A complete new set that waits to be moved into the folder it stands in; while it exists, the folder is a mixture.
_READY = ".registry-save.ready"
#: In there: the names of files that the new set takes the place of without having one of that name.
_REMOVES = ".removes"
#: Seconds after which what an unknown process left is nobody's any more.
_ABANDONED = 24 * 60 * 60
_WEIGHTS = re.compile(r"(model|pytorch_model)(-\d{5}-of-\d{5})?\.(safetensors|bin)(\.index\.json)?")
#: What other libraries write of a tokenizer, and then read before the vocabulary.
_ENGINE = re.compile(r"tokenizer\.json")
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
    """Raise when a save into `folder` was interrupted between its first and last file; wait for one that goes on.

    Raises:
        CheckpointError: with the way to finish.
    """
    if not _is_unfinished(folder):
        return
    with _folder_lock(folder):
        if not _is_unfinished(folder):
            return
        raise _unfinished(folder)


def _is_unfinished(folder: Path) -> bool:
    ready = folder / _READY
    with contextlib.suppress(OSError):  # a folder that cannot be looked into
        return ready.is_dir() and not ready.is_symlink()  # no save makes a link
    return False


def _unfinished(folder: Path) -> CheckpointError:
    ready = folder / _READY
    advice = "save again"
    with contextlib.suppress(OSError):
        if names := _to_remove(ready):
            gone = ", ".join(repr(str(path)) for path in (*(folder / name for name in names), ready / _REMOVES))
        advice += f", or finish it: {f'remove {gone}; ' if names else ''}move every file of {str(ready)!r} into the folder; "
        advice += f"remove {str(ready)!r}"
    return CheckpointError(
        f"folder {str(folder)!r} is expected to hold one saved set, but a save into it was interrupted; {advice}",
        path=str(folder),
    )


def _to_remove(ready: Path) -> list[str]:
    """Return which files go when this set comes; a list from elsewhere can name only such as saves replace."""
    try:
        names = (ready / _REMOVES).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:  # most sets remove nothing
        return []
    return [name for name in names if _WEIGHTS.fullmatch(name) or _ENGINE.fullmatch(name)]


@contextlib.contextmanager
def staged_folder(folder: Path, *, replaces_weights: bool = False, replaces_tokenizer: bool = False) -> Iterator[Path]:
    """Yield an empty folder to write files into; what is in it afterwards appears in `folder`.

    A new folder appears whole, by one rename. In an existing one each file is replaced by a rename, never written over,
    because it may be mapped; a process that dies in between leaves a folder that `refuse_unfinished` refuses. What killed
    saves left behind is removed.

    Args:
        folder: where to.
        replaces_weights: whether weights files there that the new set does not have are removed.
        replaces_tokenizer: whether a `tokenizer.json` there is removed, unless the new set has one.

    Raises:
        CheckpointError: when the folder cannot take them; what was in it stays as it was.
    """
    if why := unfit_target(folder, is_folder=True):
        raise CheckpointError(f"folder {str(folder)!r} is expected to be one of its project, but {why}", path=str(folder))
    folder = folder.resolve()

    def replace(stage: Path) -> None:
        with _folder_lock(folder):
            _move_into(stage, folder, replaces_weights=replaces_weights, replaces_tokenizer=replaces_tokenizer)

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Inside the folder when there is one: it may be a mount point, and renames do not leave a file system.
        inside = folder.is_dir()
        if not inside and folder.exists():
            raise NotADirectoryError(0, "it is a file")
        beside = f".{folder.name[:150]}."
        _remove_abandoned(folder, ".registry-save.")
        _remove_abandoned(folder.parent, beside)
        token = owner_token()
        stage = folder / f".registry-save.{token}" if inside else folder.parent / f"{beside}{token}.saving"
        # A folder that holds its stage is taken: no system renames a folder to one that it lies in.
        with atomic_folder(folder, stage=stage, taken=replace):
            stage.mkdir()
            yield stage
            for file in stage.iterdir():
                _sync_file(file)
            sync_folder(stage)
    except OSError as error:
        if isinstance(error, RegistryError):  # one that is a TimeoutError, too
            raise
        state = (
            _unfinished(folder).message
            if _is_unfinished(folder)
            else "what was there is unchanged; mend that, or save elsewhere"
        )
        raise CheckpointError(
            f"folder {str(folder)!r} is expected to take the files of a save, but cannot ({error.strerror or error}); {state}",
            path=str(folder),
        ) from error


def _sync_file(path: Path) -> None:
    with path.open("rb+") as handle:
        os.fsync(handle.fileno())


def _remove_abandoned(folder: Path, prefix: str) -> None:
    """Remove what saves wrote into `folder` that were killed before their set was complete."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if not path.name.startswith(prefix) or not OWNED.match(path.name, len(prefix)):
                continue
            state = owner_state(path.name)
            if state is OwnerState.DEAD or (state is OwnerState.UNKNOWN and time.time() - path.stat().st_mtime > _ABANDONED):
                shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    """Let one process at a time move files into a folder, where the system can lock a folder."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    descriptor = None
    with contextlib.suppress(OSError):  # a file system without locks, or a folder that only lets files through
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _move_into(stage: Path, folder: Path, *, replaces_weights: bool, replaces_tokenizer: bool) -> None:
    """Put a complete set in the place of the one in `folder`.

    Until the marker is there nothing has changed. Once it is, `_finish` can be broken off at any point and done again.
    """
    _finish(folder)  # an interrupted save: this one comes on top of it
    new = {file.name for file in stage.iterdir()}
    for name in new:
        if (folder / name).is_dir():
            raise IsADirectoryError(0, f"{name} is a folder there")
        if why := unfit_target(folder / name, follows=False):
            raise OSError(0, f"{name} there {why}")
    others = [file.name for file in folder.iterdir() if file.name not in new]
    gone = [name for name in others if replaces_weights and _WEIGHTS.fullmatch(name)]
    gone += [name for name in others if replaces_tokenizer and _ENGINE.fullmatch(name)]
    if gone:
        (stage / _REMOVES).write_text("\n".join(gone) + "\n", encoding="utf-8")
        _sync_file(stage / _REMOVES)
    stage.rename(folder / _READY)
    sync_folder(folder)
    _finish(folder)


def _finish(folder: Path) -> None:
    ready = folder / _READY
    if not _is_unfinished(folder):
        return
    for name in _to_remove(ready):
        (folder / name).unlink(missing_ok=True)
    for file in sorted(ready.iterdir()):
        if file.name != _REMOVES:
            file.replace(folder / file.name)
    sync_folder(folder)
    (ready / _REMOVES).unlink(missing_ok=True)
    ready.rmdir()


def write_weights(
    folder: Path, tensors: Mapping[str, torch.Tensor], *, safe: bool = True, max_shard_size: int | None = None
) -> list[str]:
    """Write tensors as `model.safetensors` (or `pytorch_model.bin`), in shards with an index when they are larger.

    Args:
        folder: an existing folder.
        tensors: name to tensor, on any device. In safetensors each is written by itself; a pickle keeps what shares memory
            within one file together.
        safe: safetensors when true, torch's pickle when false.
        max_shard_size: in bytes; None for one file.

    Returns:
        the names of the files.

    Raises:
        CheckpointError: when a tensor has no values, or is none that the format has.
        OSError: when a file cannot be written.
    """
    for name, tensor in tensors.items():
        if tensor.is_meta or str(tensor.layout) != "torch.strided":
            what = "is on the meta device" if tensor.is_meta else f"is laid out as {tensor.layout}"
            raise CheckpointError(f"weight {name!r} is expected to be a dense tensor with values, but {what}; load it first")
    stem, suffix = ("model", "safetensors") if safe else ("pytorch_model", "bin")
    shards = split_weights(tensors, max_shard_size)
    names = shard_files(len(shards), stem, suffix)
    write_index(folder / f"{stem}.{suffix}{INDEX_SUFFIX}", names, shards)
    for name, shard in zip(names, shards, strict=True):
        if safe:
            from registry.checkpoint.safetensors.write import write_safetensors

            write_safetensors(folder / name, shard, {"format": "pt"})
        else:
            _write_pickle(folder / name, shard)
    return names


def shard_files(count: int, stem: str = "model", suffix: str = "safetensors") -> list[str]:
    """Return the names of that many files that hold one model."""
    if count == 1:
        return [f"{stem}.{suffix}"]
    return [f"{stem}-{number:05d}-of-{count:05d}.{suffix}" for number in range(1, count + 1)]


def write_index(path: Path, names: Sequence[str], shards: Sequence[Mapping[str, torch.Tensor]]) -> None:
    """Write which of several files holds which tensor; nothing where there is one file."""
    if len(names) == 1:
        return
    index = {
        "metadata": {"total_size": sum(nbytes_of(tensor) for shard in shards for tensor in shard.values())},
        "weight_map": {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard},
    }
    path.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write_pickle(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    import torch

    # A pickle holds all of the memory that a tensor is a view of: what is only a part is copied first.
    own = {
        name: tensor if tensor.untyped_storage().nbytes() == nbytes_of(tensor) else tensor.clone()
        for name, tensor in tensors.items()
    }
    with path.open("wb") as file:
        try:
            torch.save(own, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # torch still tries to end its archive, and complains of that
                raise error.__context__ from error
            raise


def split_weights(tensors: Mapping[str, torch.Tensor], limit: int | None) -> list[dict[str, torch.Tensor]]:
    """Share tensors out over files of at most `limit` bytes, where no tensor is larger."""
    shards: list[dict[str, torch.Tensor]] = [{}]
    filled = 0
    for name, tensor in tensors.items():
        size = nbytes_of(tensor)
        if limit is not None and shards[-1] and filled + size > limit:
            shards.append({})
            filled = 0
        shards[-1][name] = tensor
        filled += size
    return shards


def nbytes_of(tensor: torch.Tensor) -> int:
    """Return the bytes of a tensor's values."""
    return tensor.numel() * tensor.element_size()
