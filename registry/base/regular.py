"""Open regular files and nothing else: what lies in a folder that others can write may be a link, a pipe or a device."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
import sys
from io import BufferedReader
from pathlib import Path

__all__ = ["NO_TRAP", "irregular", "leads_out", "no_link", "open_regular", "read_regular", "regular", "unfit_target"]


_NO_LINK = getattr(os, "O_NOFOLLOW", 0)

#: A pipe is opened without waiting for who writes to it.
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)

#: For `os.open`: neither follow a link nor wait.
NO_TRAP = _NO_LINK | _NO_WAIT

#: What may look like a regular file and is a view of the system.
_VIEWS = ("/proc", "/sys")
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def no_link(path: str, flags: int) -> int:
    """Open a regular file, and no link to one; for the `opener` of `open`.

    Raises:
        OSError: when it is something else.
    """
    return regular(path, flags | _NO_LINK)


def regular(path: str, flags: int) -> int:
    """Open a regular file, also through links; for the `opener` of `open`.

    Raises:
        OSError: when it is something else.
    """
    try:
        descriptor = os.open(path, flags | _NO_WAIT, 0o666)
    except ValueError as error:
        raise _impossible(path) from error
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if what := irregular(status):
            raise OSError(errno.EINVAL, f"it is {what}, not a regular file", path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def irregular(status: os.stat_result) -> str | None:
    """Return what a file is when it is not a regular one of a disk."""
    if not stat.S_ISREG(status.st_mode):
        return _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
    return "a view of the system" if status.st_dev in _devices() else None


@functools.cache
def _devices() -> frozenset[int]:
    """Return the devices of the system's views; asked once, as they do not change."""
    found = set[int]()
    for folder in _VIEWS:
        with contextlib.suppress(OSError):
            found.add(os.stat(folder).st_dev)  # noqa: PTH116  # no object for what is only compared
    return frozenset(found)


_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_PIECE = 1 << 16

#: What makes a folder the root of a project.
_MARKS = (".git", "models.yaml")


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a regular file for reading, and nothing else: a pipe or device can block for ever, or have no end.

    Raises:
        OSError: when it cannot be opened, or is not a regular file; `strerror` says which.
    """
    try:
        return open(path, "rb", opener=regular)  # no object for each of many
    except ValueError as error:
        raise _impossible(path) from error


def _impossible(path: str | os.PathLike[str]) -> OSError:
    return OSError(errno.EINVAL, "a NUL or a lone surrogate is in its path", os.fspath(path))


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
