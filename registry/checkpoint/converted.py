"""The safetensors form of torch's pickles: made once, kept in the cache as a blob like any other, mapped from then on."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from registry.base.files import make_folder, owner_token
from registry.base.logs import lazy_logger
from registry.base.settings import is_off
from registry.checkpoint.open import checkpoint_format, open_checkpoint
from registry.checkpoint.tensors import Checkpoint, TensorInfo
from registry.errors import CacheError, CheckpointError
from registry.store.cache import About, Cache, Ref, cache_error, file_sha256, stamp_path
from registry.store.store import Store, Vanished
from registry.store.target import StoredFile

if TYPE_CHECKING:
    import torch

__all__ = ["VERSION", "open_stored"]

logger = lazy_logger(__name__)

#: Part of the key of what is converted: raised when a later version would convert anything differently.
VERSION = 2
#: The key of the file's metadata under which names that share a tensor stand: other name to the one in the file.
_SHARED = "shared"


def open_stored(file: StoredFile, store: Store, label: str) -> Checkpoint:
    """Open a weights file. In the place of a pickle its safetensors form is opened, which is made when there is none.

    `REGISTRY_CONVERT=0` turns conversion off; where the cache cannot take the result, it is left out with a warning. Of a file
    that is used in place and changes, as one does that is saved again and again, only the last form is kept.

    Args:
        file: the file.
        store: where it is from.
        label: the model, for people.

    Raises:
        CheckpointError: when it is not a checkpoint.
        UnsafeCheckpoint: when a pickle holds more than tensors.
    """
    if checkpoint_format(file.path) != "torch" or is_off("REGISTRY_CONVERT"):
        return open_checkpoint(file.path)
    from registry.base.file_lock import file_lock
    from registry.checkpoint.torch.layout import check_sums

    before = None if file.sha256 else store.hashed_before(file)
    digest = store.sha256_of(file)
    url = _url(digest)
    if (found := _find(store.cache, url)) is not None:
        return found
    try:
        with file_lock(store.cache.root / "locks" / f"{digest}.converted.lock"):
            if (found := _find(store.cache, url)) is not None:  # made by whoever held the lock before
                return found
            checkpoint = open_checkpoint(file.path)
            if not file.sha256:  # nobody vouches for these bytes but the sums in the file itself
                check_sums(file.path)
            if unknown := _without_form(checkpoint):
                logger.info("%s stays as it is, because safetensors has no form for %s", file.name, unknown)
                return checkpoint
            path = _convert(checkpoint, store.cache, digest, url, About(label, file.name))
    except Vanished:
        raise
    except CacheError as error:
        logger.warning("%s is not kept as safetensors, so its next load will take as long as this: %s", label, error)
        return open_checkpoint(file.path)
    if before not in (None, digest):
        _forget(store.cache, _url(before))
    logger.info("%s is converted to safetensors once, in %s", file.name, path)
    return _open(path)


def _without_form(checkpoint: Checkpoint) -> str | None:
    """Return a dtype of a checkpoint that safetensors has no form for."""
    from registry.checkpoint.safetensors.header import DTYPES

    known = {name for name, _ in DTYPES.values()}
    return next((dtype for name in checkpoint.names() if (dtype := checkpoint.info(name).dtype) not in known), None)


def _url(digest: str) -> str:
    """Return under what it is recorded what a file of this hash became."""
    return f"converted://{VERSION}/{digest}"


def _forget(cache: Cache, url: str) -> None:
    """Remove what was made of a file, unless something else was found to be the same bytes."""
    if (ref := cache.read_ref(url)) is None:
        return
    from registry.store.upkeep.inventory import Inventory

    others = (said for path, said in Inventory(cache.root).refs() if path != cache.ref_path(url))
    shared = any(said is None or said.get("sha256") == ref.sha256 for said in others)
    blob = cache.blob(ref.sha256)
    for path in (cache.ref_path(url), *(() if shared else (stamp_path(blob), blob))):
        with contextlib.suppress(OSError):
            path.unlink()


class _Converted:
    """A converted file, with the names again that share a tensor."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Read the names that share a tensor; ValueError when they are damaged."""
        self._checkpoint = checkpoint
        self.metadata = {key: value for key, value in checkpoint.metadata.items() if key not in (_SHARED, "format")}
        shared = json.loads(checkpoint.metadata.get(_SHARED, "{}"))
        held = set(checkpoint.names()) if shared else set()
        if not isinstance(shared, dict) or not all(isinstance(name, str) and name in held for name in shared.values()):
            raise ValueError("names that share a tensor")
        self._shared: dict[str, str] = shared

    def names(self) -> Iterable[str]:
        return [*self._checkpoint.names(), *self._shared]

    def info(self, name: str) -> TensorInfo:
        return self._checkpoint.info(self._shared.get(name, name))

    def tensor(self, name: str) -> torch.Tensor:
        return self._checkpoint.tensor(self._shared.get(name, name))

    def read_rows(self, name: str, begin: int, into: torch.Tensor) -> None:
        self._checkpoint.read_rows(self._shared.get(name, name), begin, into)

    def stored_name(self, name: str) -> str:
        return self._shared.get(name, name)


def _find(cache: Cache, url: str) -> Checkpoint | None:
    """Return what was converted before, unless it is gone or not what it was."""
    ref = cache.read_ref(url)
    path = cache.lookup(ref.sha256) if ref is not None else None
    return _open(path) if path is not None else None


def _open(path: Path) -> Checkpoint:
    try:
        return _Converted(open_checkpoint(path))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"cache file {str(path)!r} is expected to be as it was written, but is damaged ({error!s:.200}); remove it",
            path=str(path),
        ) from error
    except CheckpointError:
        if path.exists():
            raise
        raise Vanished(
            f"cache file {path} is expected to be there, but was removed meanwhile; try again", path=str(path)
        ) from None


def _convert(checkpoint: Checkpoint, cache: Cache, digest: str, url: str, about: About) -> Path:
    """Write a checkpoint as a blob and note which file it was made of.

    Raises:
        CacheError: when the cache cannot take it.
    """
    from registry.checkpoint.safetensors.write import write_safetensors

    tensors, shared = _distinct({name: checkpoint.tensor(name) for name in checkpoint.names()})
    metadata = {**checkpoint.metadata, "format": "pt", **({_SHARED: json.dumps(shared)} if shared else {})}
    stage = cache.blob(digest).with_name(f"safetensors-{digest}.{owner_token()}.partial")
    try:
        make_folder(stage.parent, cache.root)
        cache.require_space(sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()))
        with _removed_on_failure(stage):
            write_safetensors(stage, tensors, metadata)
            with stage.open("rb+") as file:
                os.fsync(file.fileno())
            size, sha256 = stage.stat().st_size, file_sha256(stage)
            path = cache.publish(stage, sha256, about)
    except OSError as error:
        raise cache_error(stage, error) from error
    cache.write_ref(Ref(url, sha256, size, "converted"))
    return path


@contextlib.contextmanager
def _removed_on_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def _distinct(tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors without those that are one with an earlier one, and the names of these to its name."""
    kept: dict[str, torch.Tensor] = {}
    shared: dict[str, str] = {}
    seen: dict[tuple[object, ...], str] = {}
    for name, tensor in tensors.items():
        same = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() and (first := seen.setdefault(same, name)) != name:
            shared[name] = first
        else:
            kept[name] = tensor
    return kept, shared
