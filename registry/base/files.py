"""Files that may be a stranger's: read regular ones only, and write none through a link that leads out of a project."""

from __future__ import annotations

import os
import stat
import sys
from io import BufferedReader
from pathlib import Path

from registry.base.regular import irregular, regular

__all__ = ["leads_out", "open_regular", "read_regular", "unfit_target"]

_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_PIECE = 1 << 16
#: What makes a folder the root of a project.
_MARKS = (".git", "models.yaml")


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a regular file for reading, and nothing else: a pipe or device can block for ever, or have no end.

    Raises:
        OSError: when it cannot be opened, or is not a regular file; `strerror` says which.
    """
    return open(path, "rb", opener=regular)  # no object for each of many


def read_regular(path: str | os.PathLike[str], limit: int = -1) -> bytes:
    """Return the bytes of a regular file, at most `limit` of them where one is given; as `open_regular`."""
    descriptor = regular(os.fspath(path), _READ)
    try:  # no file object: this is on the way of every load
        pieces = []
        left = limit if limit >= 0 else sys.maxsize
        size = os.fstat(descriptor).st_size + 1  # one more than there is, so that a piece is all
        while left and (piece := os.read(descriptor, min(left, size))):
            pieces.append(piece)
            left -= len(piece)
            size = _PIECE
    finally:
        os.close(descriptor)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def unfit_target(path: Path, *, is_folder: bool = False, follows: bool = True) -> str | None:
    """Return why a file or folder must not be written, or None when it may.

    Args:
        path: where to.
        is_folder: whether it is a folder, whose files are written.
        follows: whether what is written goes through a link at `path` itself, instead of in its place.
    """
    if real := leads_out(path if follows else path.parent):
        return f"leads through a link to {str(real)!r}, out of its project; name that place itself if it is meant"
    try:
        status = path.stat() if follows else path.lstat()
    except OSError:
        return None
    if is_folder or stat.S_ISDIR(status.st_mode) or (not follows and stat.S_ISLNK(status.st_mode)):
        return None  # writing a folder is an error by itself
    what = irregular(status)
    return f"is {what}; name another file" if what else None


def leads_out(path: Path) -> Path | None:
    """Return where a path leads when a link on its way leaves the project that it lies in; None when none does.

    A project is a git checkout, or else the folder of a models.yaml. A clone brings its links with it, so what is written
    through one would go where a stranger wants.
    """
    full = Path(os.path.abspath(path))  # noqa: PTH100  # `..` is to be removed, links are not to be followed
    real = Path(os.path.realpath(path))
    if full == real:
        return None
    for mark in _MARKS:
        roots = [folder for folder in full.parents if os.path.lexists(folder / mark)]
        if any(not real.is_relative_to(os.path.realpath(root)) for root in roots):
            return real
        if roots:
            return None
    return None
