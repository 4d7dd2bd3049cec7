"""Folders in which files of the cache have their conventional names, for other programs."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from registry.base.files import atomic_folder, make_folder, share, sync_folder
from registry.errors import CacheError
from registry.store.cache import VERSION, Cache, cache_error

__all__ = ["conventional_folder"]

#: Smaller files are copied into a folder; larger ones are hard links where the file system has them.
_LINK_FROM = 1 << 20


def conventional_folder(cache: Cache, label: str, files: Mapping[str, tuple[Path, str]]) -> Path:
    """Return a folder that holds `files`, each a blob and its digest, under their conventional names."""
    listing = "\n".join(f"{digest} {name}" for name, (_, digest) in sorted(files.items()))
    key = hashlib.sha256(listing.encode()).hexdigest()[:16]
    name = f"{re.sub(r'[^A-Za-z0-9._-]+', '-', label).strip('-.')[:80]}-{key}"
    folder, *others = (root / "folders" / name for root in cache.folders)
    manifest = folder.with_name(f"{name}.json")
    held = {file: digest for file, (_, digest) in files.items()}
    said = {"version": VERSION, "model": label, "files": held}
    for file in files:
        cache.note(folder / file)
    cache.note(manifest)
    missing = _missing(folder, files)
    if not missing:
        if not os.path.exists(manifest):  # noqa: PTH110  # as below  # whoever built it was killed before
            with contextlib.suppress(CacheError):
                cache.write_json(manifest, said)
        return folder
    for other in others:
        if not _missing(other, files):
            return other

    def complete(stage: Path) -> None:
        """Move what is missing into the folder, which another process made, or an earlier call."""
        with contextlib.suppress(FileNotFoundError):  # it is pruned at this moment, which is seen below
            for file in missing:
                make_folder((folder / file).parent, cache.root)
                (stage / file).replace(folder / file)
            _sync_folders(folder, missing)

    try:
        with atomic_folder(folder, taken=complete) as stage:
            for file in missing:
                target = stage / file
                make_folder(target.parent, cache.root)
                blob = files[file][0]
                own = any(blob.is_relative_to(root) for root in cache.folders)  # others' files can be written, and stay theirs
                if not (own and _linked(blob, target)):
                    _copy(blob, target)
                    share(target, cache.root)
            _sync_folders(stage, missing)
    except OSError as error:
        raise cache_error(folder, error) from error
    if not all(os.path.exists(folder / file) for file in files):  # noqa: PTH110  # Path.exists raises on a disk that fails  # it was pruned while it was completed
        return conventional_folder(cache, label, files)
    cache.write_json(manifest, said)
    return folder


def _missing(folder: Path, files: Mapping[str, tuple[Path, str]]) -> list[str]:
    """Return the names of those files that the folder does not hold as they are."""
    return [name for name, (blob, _) in files.items() if not _same(folder / name, blob)]


def _same(path: Path, blob: Path) -> bool:
    """Whether `path` is a link to the blob, or the untouched copy of it."""
    try:
        have, want = path.stat(), blob.stat()
    except OSError:
        return False
    return (have.st_ino, have.st_dev) == (want.st_ino, want.st_dev) or (
        (have.st_size, have.st_mtime_ns) == (want.st_size, want.st_mtime_ns)
    )


def _linked(blob: Path, target: Path) -> bool:
    """Make a hard link where that pays; return whether it was made."""
    if blob.stat().st_size < _LINK_FROM:
        return False
    try:
        os.link(blob, target)
    except OSError:  # another device, or a file system without hard links
        return False
    return True


def _copy(blob: Path, target: Path) -> None:
    import shutil  # here, because it imports every compressor

    shutil.copyfile(blob, target)
    stat = blob.stat()
    os.utime(target, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # by which `_same` knows an untouched copy
    with target.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folders(folder: Path, names: Iterable[str]) -> None:
    """Make the names of files below a folder survive a power cut."""
    for parent in {parent for name in names for parent in (folder / name).parents if parent.is_relative_to(folder)}:
        sync_folder(parent)
