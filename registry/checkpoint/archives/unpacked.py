"""Targets that are archives: fetched as one file, unpacked once into the cache, and from then on a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from registry.base.file_lock import file_lock
from registry.base.files import make_folder, share
from registry.base.logs import lazy_logger
from registry.base.urls import redact
from registry.catalog.entry import FilePin
from registry.checkpoint.archives.extract import archive_format, extract_archive
from registry.checkpoint.open import checkpoint_format
from registry.checkpoint.save import refuse_unfinished
from registry.errors import CheckpointError, DownloadError
from registry.store.cache import VERSION, Cache, cache_error, file_sha256, read_json
from registry.store.store import Store
from registry.store.target import Place, StoredFile, Target, names_archive
from registry.store.upkeep.removal import remove_folder

__all__ = ["find_archive", "maybe_unpacked", "unpacked"]

logger = lazy_logger(__name__)


def find_archive(target: Target) -> Target:
    """Return the target of an archive for that of a single file which is one: by its content here, by its name elsewhere."""
    if target.file is None:
        return target
    own_place = target.place.pins.get(target.file, FilePin()).url
    here = target.folder / target.file if target.folder is not None and not own_place else None
    if here is not None and os.path.isfile(here):  # noqa: PTH113  # Path.is_file raises if it is too long
        is_archive = archive_format(here) is not None or (names_archive(here.name) and not _is_checkpoint(here))
    else:
        is_archive = names_archive(target.file)
    return replace(target, archive=target.file, file=None, folder=None) if is_archive else target


def unpacked(target: Target, store: Store) -> Target:
    """Return the target of the folder that an archive holds; any other target as it is.

    Raises:
        DownloadError, IntegrityError, OfflineError: when the archive cannot be got; nothing was unpacked.
        CheckpointError: when it must not be unpacked, or does not hold one model.
        CacheError: when the cache cannot take it.
    """
    if target.archive is None:
        return target
    if (here := maybe_unpacked(target, store)) is not None:
        return here
    file = store.get(target.place, target.archive)
    if file is None:
        where = " or ".join(redact(source) for source in target.place.sources)
        raise DownloadError(
            f"archive of {target.label!r} is expected to be {target.archive} at {where}, but there is none",
            url=where,
            status=404,
        )
    if archive_format(file.path) is None and _is_checkpoint(file.path):  # torch files were often named `.tar`
        return replace(target, archive=None, file=target.archive)
    return _folder_target(target, _unpack(file, store, target.label))


def maybe_unpacked(target: Target, store: Store) -> Target | None:
    """Return the target of the folder of an archive that is unpacked already, else None; nothing is fetched or written.

    The archive itself need not be here any more.
    """
    if target.archive is None:
        return target
    digest = store.known_sha256(target.place, target.archive)
    if digest is None and (file := store.is_cached(target.place, target.archive)) is not None and not file.sha256:
        digest = store.sha256_of(file)  # an archive in place
    found = next(_folders(store.cache, digest), None) if digest else None
    return _folder_target(target, found) if found else None


def _folders(cache: Cache, digest: str) -> Iterator[Path]:
    """Yield where an archive is unpacked and nothing of it was changed since, the folder that is written first."""
    return (folder for root in cache.folders if _is_intact(folder := root / "unpacked" / digest))


def _is_intact(folder: Path) -> bool:
    """Whether size and time of each file are those that were noted when it was hashed."""
    said = read_json(_manifest(folder))
    stamps = said.get("stamps") if said else None
    if not isinstance(stamps, dict):
        return False
    try:  # no link is followed that another user of the cache may have put there
        return S_ISDIR(folder.lstat().st_mode) and all(
            S_ISREG((stat := (folder / name).lstat()).st_mode) and [stat.st_size, stat.st_mtime_ns] == stamp
            for name, stamp in stamps.items()
        )
    except OSError:
        return False


def _note(cache: Cache, folder: Path, stage: Path, model: str) -> None:
    """Note what a folder will hold that is unpacked into another so far, so that damage is noticed."""
    files, stamps = {}, {}
    for path in sorted(path for path in stage.rglob("*") if path.is_file()):
        name = path.relative_to(stage).as_posix()
        stat = path.stat()
        files[name], stamps[name] = file_sha256(path), [stat.st_size, stat.st_mtime_ns]
    cache.write_json(_manifest(folder), {"version": VERSION, "model": model, "files": files, "stamps": stamps})


def _manifest(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def _unpack(file: StoredFile, store: Store, model: str) -> Path:
    """Return the folder of an archive's content; it is made when there is none."""
    digest = store.sha256_of(file)
    folder = store.cache.root / "unpacked" / digest
    with file_lock(store.cache.root / "locks" / f"{digest}.lock"):
        for found in _folders(store.cache, digest):  # of whoever held the lock before
            return found
        try:
            make_folder(folder.parent, store.cache.root)
        except OSError as error:
            raise cache_error(folder, error) from error
        if folder.is_dir() or folder.is_symlink():
            logger.warning("what is unpacked in %s is not what it was, and is unpacked anew", folder)
            try:
                remove_folder(folder, _manifest(folder))
            except OSError as error:
                raise cache_error(folder, error) from error
        logger.info("unpacking %s into %s", file.name, folder)

        def confirm(stage: Path) -> bool:
            if store.sha256_of(file) != digest:
                return False
            for path in (stage, *stage.rglob("*")):
                share(path, store.cache.root)
            _note(store.cache, folder, stage, model)  # now, so that nobody sees the folder without
            return True

        extract_archive(file.path, folder, confirm=confirm)
    return folder


def _folder_target(target: Target, folder: Path) -> Target:
    """Return the target of an unpacked archive, held to what the catalog says of the files in it."""
    model = _model_folder(target, folder)
    refuse_unfinished(model)
    pins = {name: pin for name, pin in target.place.pins.items() if name != target.archive}
    return replace(target, place=Place((str(model),), pins, target.label), folder=model, archive=None)


def _model_folder(target: Target, folder: Path) -> Path:
    """Return the folder with the model: the archive's root, or the one below it.

    Raises:
        CheckpointError: when several could be meant.
    """
    # What macOS adds to archives stands in hidden files and a folder of its own.
    inner = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__MACOSX")))
    for pattern in ("config.json", "*_config.json"):
        if _holds(folder, pattern):
            return folder
        found = [path for path in inner if _holds(path, pattern)]
        if len(found) > 1:
            names = " and ".join(path.name for path in found)
            raise CheckpointError(
                f"archive {target.label!r} is expected to hold one model, but holds {names}; unpack it and load one of them",
                path=str(folder),
            )
        if found:
            return found[0]
    return inner[0] if len(inner) == 1 and not _holds(folder, "*") else folder


def _holds(folder: Path, pattern: str) -> bool:
    """Whether a folder has a file that is not hidden and so named."""
    return any(path.is_file() and not path.name.startswith(".") for path in folder.glob(pattern))


def _is_checkpoint(path: Path) -> bool:
    return checkpoint_format(path) in ("safetensors", "torch")
