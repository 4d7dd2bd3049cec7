"""Hash every file of a cache anew, and put away what is damaged."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from registry.base.logs import lazy_logger
from registry.errors import CacheError
from registry.store.cache import VERSION, Cache, read_json, stamp_path
from registry.store.upkeep.inventory import Blob, Folder, take_inventory
from registry.store.upkeep.removal import remove_folder

__all__ = ["FileCheck", "verify"]

logger = lazy_logger(__name__)


@dataclass(frozen=True, slots=True)
class FileCheck:
    """What one file was found to be. `repaired` is what is right again because it was fetched anew."""

    model: str
    name: str
    sha256: str
    path: Path
    size: int
    state: Literal["ok", "damaged", "missing", "repaired"]
    #: Whether it stands in a folder with conventional names, which is built of blobs.
    in_folder: bool = False
    #: Whether it is in a read-only tier, which only its owner can repair.
    in_tier: bool = False


def verify(
    cache: Cache, digests: Collection[str] | None = None, *, repair: bool = False, in_tier: bool = False
) -> Iterator[FileCheck]:
    """Hash all files of the cache's own folder, or those of some digests, and yield what each is found to be.

    A blob that is right gets a stamp that fits; that of one that is wrong is spoiled, so that nobody uses the blob from now
    on. A file that vanishes meanwhile is passed over. The content of an archive is held to what it was
    when it was unpacked.

    Args:
        cache: whose first folder is looked at.
        digests: of the files to look at; by default all.
        repair: put damaged blobs into quarantine, and remove damaged folders: both are made anew at their next use.
        in_tier: that folder is a read-only tier: nothing is written there.

    Raises:
        CacheError: when damage cannot be put away.
    """
    if in_tier:
        yield from (replace(check, in_tier=True) for check in _checks(cache, digests, repair=False, may_write=False))
    else:
        yield from _checks(cache, digests, repair=repair, may_write=True)


def _checks(cache: Cache, digests: Collection[str] | None, *, repair: bool, may_write: bool) -> Iterator[FileCheck]:
    inventory = take_inventory(cache)
    hashes: dict[tuple[int, int], str] = {}
    # Where the stamp does not tell, a folder may.
    told = {digest: (folder.model, name) for folder in inventory.folders for name, digest in folder.files.items()}
    for digest, blob in sorted(inventory.blobs.items()):
        if (digests is None or digest in digests) and (check := _blob(cache, blob, hashes, repair=repair, may_write=may_write)):
            model, name = told.get(digest, ("", "")) if not check.model else (check.model, check.name)
            yield replace(check, model=model, name=name)
    for digest, stamp in sorted(inventory.stamps.items()):
        if digests is None or digest in digests:
            lost = _lost(cache, digest, stamp, repair=repair)
            if lost is not None:
                yield lost
    for folder in inventory.folders:
        if digests is None or not folder.digests.isdisjoint(digests):
            yield from _folder(cache, folder, hashes, repair=repair)


def _blob(cache: Cache, blob: Blob, hashes: dict[tuple[int, int], str], *, repair: bool, may_write: bool) -> FileCheck | None:
    path = blob.path
    while True:
        try:
            before, actual = _hash(path)
        except FileNotFoundError:
            return None
        except OSError as error:  # a sector that cannot be read is damage, too
            logger.warning("%s cannot be read: %s", path, error.strerror or error)
            before, actual = blob.file.stat, ""
        hashes[before.st_dev, before.st_ino] = actual
        check = FileCheck(blob.said("model"), blob.said("name"), blob.digest, path, before.st_size, "ok")
        if actual == blob.digest:
            # A stamp is also the time of the last use, so one that fits is left.
            if may_write and not (blob.verified and before.st_mtime_ns == blob.file.stat.st_mtime_ns):
                with contextlib.suppress(CacheError):  # then its next hit hashes it again
                    cache.restamp(path, before)
            return check
        try:
            if path.stat().st_ino != before.st_ino:  # another process has brought it anew meanwhile
                continue
            if repair:
                cache.quarantine(path, blob.digest)
            elif may_write:
                _spoil_stamp(cache, blob)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _stuck(path, error) from error
        return FileCheck(check.model, check.name, check.sha256, path, before.st_size, "damaged")


def _spoil_stamp(cache: Cache, blob: Blob) -> None:
    """Make the stamp of a damaged blob fit no more; what it says of the model is still wanted."""
    if (said := read_json(stamp_path(blob.path))) is not None:
        with contextlib.suppress(CacheError):  # where it cannot be written it can only be told
            cache.write_json(stamp_path(blob.path), {**said, "version": VERSION, "mtime_ns": None})


def _lost(cache: Cache, digest: str, stamp: Path, *, repair: bool) -> FileCheck | None:
    """Return the check of a blob of which only the stamp is left."""
    if (said := read_json(stamp)) is None or cache.blob(digest).exists():
        return None
    if repair:
        with contextlib.suppress(OSError):
            stamp.unlink()
    model, name = (value if isinstance(value := said.get(key), str) else "" for key in ("model", "name"))
    return FileCheck(model, name, digest, cache.blob(digest), 0, "missing")


def _folder(cache: Cache, folder: Folder, hashes: dict[tuple[int, int], str], *, repair: bool) -> Iterator[FileCheck]:
    """Yield the checks of a folder's files, each against the digest that the manifest says."""
    checks: list[FileCheck] = []
    for name, digest in sorted(folder.files.items()):
        path = folder.path / name
        state: Literal["ok", "damaged", "missing"] = "missing"
        size = 0
        try:
            stat = path.lstat()
            if (actual := hashes.get((stat.st_dev, stat.st_ino))) is None:
                stat, actual = _hash(path)
                hashes[stat.st_dev, stat.st_ino] = actual
            state, size = ("ok" if actual == digest else "damaged"), stat.st_size
        except FileNotFoundError:
            if not folder.path.exists():  # all of it was removed meanwhile
                return
        except OSError as error:
            logger.warning("%s cannot be read: %s", path, error.strerror or error)
            state = "damaged"
        checks.append(FileCheck(folder.model, name, digest, path, size, state, in_folder=True))
    if repair and any(check.state != "ok" for check in checks):
        try:
            remove_folder(folder.path, folder.manifest)
        except OSError as error:
            raise _stuck(folder.path, error) from error
    yield from checks


def _hash(path: Path) -> tuple[os.stat_result, str]:
    """Return the sha256 of a file, and its stat before it was read; that it is read is not noted, where that can be."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOATIME", 0))
    except PermissionError:  # the file is another user's
        descriptor = os.open(path, os.O_RDONLY)
    with os.fdopen(descriptor, "rb") as file:
        stat = os.fstat(descriptor)
        return stat, hashlib.file_digest(file, "sha256").hexdigest()


def _stuck(path: Path, error: OSError) -> CacheError:
    return CacheError(
        f"damaged cache file {path} is expected to be movable, but is not ({error.strerror or error}); "
        "mend the permissions of its folder, or remove it",
        path=str(path),
    )
