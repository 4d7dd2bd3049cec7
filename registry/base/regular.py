"""Open regular files and nothing else: what lies in a folder that others can write may be a link, a pipe or a device."""

from __future__ import annotations

import errno
import os
import stat

__all__ = ["no_link", "regular"]

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
#: A pipe is opened without waiting for who writes to it.
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)


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
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
