"""Open regular files and nothing else: what lies in a folder that others can write may be a link, a pipe or a device."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat

__all__ = ["NO_TRAP", "irregular", "no_link", "regular"]

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
    descriptor = os.open(path, flags | _NO_WAIT, 0o666)
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
