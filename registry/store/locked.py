"""What it means for files that a lock file says what they are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from registry.base.urls import is_url, redact, scheme_of
from registry.errors import DownloadError, IntegrityError, RegistryError
from registry.store.place import Place, StoredFile
from registry.store.transports.local import local_path

__all__ = ["as_locked", "holds_more", "portable"]

_SHA256_DIGITS, _SHA1_DIGITS = 64, 40


def as_locked(error: RegistryError, place: Place, name: str) -> RegistryError:
    """Return the error of a file that is not as it was locked in the words of the lock; any other error as it is."""
    if not isinstance(error, IntegrityError) or len(error.expected) == _SHA1_DIGITS:  # the last is between a hub and its file
        return error
    what = "sha256" if len(error.expected) == _SHA256_DIGITS else "size"
    return IntegrityError(
        f"{name} of model {place.label!r} is expected to be as {place.lock} locks it, but is not at {error.url}: "
        f"locked {what} {error.expected}, found {what} {error.actual}; nothing of it is used. "
        f"If the new file is meant, run `registry lock {place.label}` and commit the difference",
        url=error.url,
        expected=error.expected,
        actual=error.actual,
    )


def holds_more(folder: Path, files: Sequence[StoredFile]) -> bool:
    """Whether a folder holds something besides these files."""
    own = {file.path for file in files} | {parent for file in files for parent in file.path.parents}
    return any(path not in own for path in folder.rglob("*"))


def portable(source: str, folder: Path) -> str:
    """Return a source as a file in `folder` says it: without secrets, and a path of the same checkout relative to it."""
    if is_url(source) and scheme_of(source) != "file":
        return redact(source)
    try:
        path = Path(os.path.normpath(local_path(source).absolute()))  # not resolved: a link stays what the project calls it
    except (DownloadError, ValueError):
        return redact(source)
    folder = Path(os.path.normpath(folder.absolute()))
    checkout = next((parent for parent in (folder, *folder.parents) if (parent / ".git").exists()), folder)
    if not path.is_relative_to(checkout):
        return path.as_posix()
    relative = Path(os.path.relpath(path, folder)).as_posix()
    return relative if relative.startswith("..") else f"./{relative}"
