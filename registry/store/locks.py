"""One lock per digest, so that of many processes one downloads. It only saves work: nothing depends on it holding."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

from registry.errors import LockTimeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from filelock import BaseFileLock

__all__ = ["file_lock"]

logger = logging.getLogger(__name__)

_DEFAULT_TIMEOUT = 3600.0
_SAY_AFTER = 2.0
#: What file systems without usable locks answer; downloads are then merely not shared.
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EROFS, errno.EACCES, errno.EPERM}
_warned: set[str] = set()


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold the lock at `path`; without a usable lock, warn once for its folder and go on.

    Raises:
        LockTimeout: when another process keeps it for longer than `REGISTRY_LOCK_TIMEOUT` seconds (default 3600).
    """
    from filelock import FileLock

    limit = float(os.environ.get("REGISTRY_LOCK_TIMEOUT", _DEFAULT_TIMEOUT))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        _acquire(lock, path, limit)
    except OSError as error:
        if isinstance(error, LockTimeout) or error.errno not in _UNSUPPORTED:
            raise
        if str(path.parent) not in _warned:
            _warned.add(str(path.parent))
            logger.warning("%s cannot be locked (%s); processes may download the same file twice", path.parent, error.strerror)
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: BaseFileLock, path: Path, limit: float) -> None:
    from filelock import Timeout

    start = time.monotonic()
    wait = min(_SAY_AFTER, limit)
    while True:
        try:
            lock.acquire(timeout=wait)
            return
        except Timeout:
            waited = time.monotonic() - start
            if waited >= limit:
                raise LockTimeout(
                    f"lock {path} is expected to be free within {limit:g} s, but another process holds it; "
                    "end that process, or set REGISTRY_LOCK_TIMEOUT to wait longer",
                    path=str(path),
                ) from None
            logger.warning("waiting for another process that holds %s (%.0f s)", path, waited)
            wait = min(10.0, limit - waited)
