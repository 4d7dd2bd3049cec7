"""Recognise archives by their content, and unpack one into a folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import gzip
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from registry.base.files import atomic_folder
from registry.base.regular import open_regular
from registry.checkpoint.archives.stage import Limits, Member, Refused, Stage
from registry.checkpoint.archives.tar import is_tar_header, tar_members
from registry.checkpoint.archives.zip import holds_torch_checkpoint, open_zip
from registry.errors import CheckpointError
from registry.store.cache import cache_error

__all__ = ["Limits", "archive_format", "extract_archive"]

_GZIP = b"\x1f\x8b"
_HEAD = 1 << 16
_HEADER = 512


def archive_format(path: Path) -> str | None:
    """Return `tar.gz`, `tar` or `zip` for a file that is such an archive, else None; torch's own zip files are none."""
    try:
        with open_regular(path) as file:
            head = file.read(_HEAD)
        if head.startswith(_GZIP):
            return "tar.gz" if is_tar_header(zlib.decompressobj(wbits=31).decompress(head, _HEADER)) else None
        if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            return None if holds_torch_checkpoint(path) else "zip"
    except (OSError, zlib.error):  # told by whoever reads it as what it should be
        return None
    return "tar" if is_tar_header(head[:_HEADER]) else None


def extract_archive(
    path: Path, folder: Path, *, limits: Limits | None = None, confirm: Callable[[Path], bool] = lambda stage: True
) -> None:
    """Unpack an archive into a new folder, which appears by one rename when all of it is there and right.

    Only plain files and folders are unpacked, and read-only; an archive with anything else in it is refused as a whole.
    When the folder is there already, or another process makes it meanwhile, it is left as it is.

    Args:
        path: the archive.
        folder: the folder to make; the one above it must exist.
        limits: how much it may unpack to.
        confirm: asked when all was read, with the folder that it was unpacked into so far: whether the archive is still the
            one that `folder` is to be named after.

    Raises:
        CheckpointError: when the archive is none, damaged, or holds what no archive of a model does.
        CacheError: when the folder cannot be written.
    """
    try:
        with atomic_folder(folder, taken=lambda stage: None) as stage, _refusing(path):
            _fill(path, stage, limits or Limits())
            if not confirm(stage):
                raise Refused("content", "the same while it is read", "has changed")
    except OSError as error:
        if error.filename2 is None:  # it is not the rename that failed
            raise
        raise cache_error(folder, error) from error


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Say of which archive something is refused."""
    try:
        yield
    except Refused as reason:
        raise CheckpointError(
            f"{reason.what} of archive {str(path)!r} is expected to be {reason.expected}, but {reason.actual}; nothing was "
            "unpacked. Fetch it again, or pack the model's files anew, as plain files in one folder",
            path=str(path),
        ) from reason


def _fill(path: Path, folder: Path, limits: Limits) -> None:
    form = archive_format(path)
    if form is None:
        raise Refused("format", "tar, gzipped tar or zip", "is none of them")
    try:
        folder.mkdir()
    except OSError as error:
        raise cache_error(folder, error) from error
    try:
        file = open_regular(path)
    except OSError as error:
        raise _unreadable(error) from error
    with file:
        stage = Stage(folder, limits, os.fstat(file.fileno()).st_size)
        if form == "zip":
            with open_zip(file) as members:
                for member in members:
                    stage.admit(member)
                for member in members:
                    stage.write(member)
        else:
            for member in _tar(file, form, stage):
                stage.admit(member)
                stage.write(member)
        stage.finish()


def _tar(file: BinaryIO, form: str, stage: Stage) -> Iterator[Member]:
    """Yield the members of a tar archive, counting every byte that comes out of its compression."""
    stream = gzip.GzipFile(fileobj=file) if form == "tar.gz" else file
    count = 0

    def read(size: int) -> bytes:
        nonlocal count
        try:
            data: bytes = stream.read(size)
        except (OSError, EOFError, zlib.error) as error:
            raise _unreadable(error) from error
        count += len(data)
        if form == "tar.gz":
            stage.check_size(count)
        return data

    return tar_members(read)


def _unreadable(error: Exception) -> Refused:
    return Refused("content", "readable to its end", f"is not ({error})")
