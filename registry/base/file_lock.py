"""File locks, so that only one of many processes downloads a file. They save work; correctness does not depend on them."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from registry.base.files import make_folder
from registry.base.logs import lazy_logger
from registry.base.regular import no_link
from registry.errors import CacheError, ConfigError, LockTimeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from filelock import BaseFileLock

__all__ = ["file_lock"]

logger = lazy_logger(__name__)

_DEFAULT_TIMEOUT = 3600.0
_SAY_AFTER = 2.0
_LOOK_UP_EVERY = 0.5
#: Seconds between two calls of `done`, which is cheaper than a try of the lock.
_LOOK_EVERY = 0.01
#: Seconds between two tries of the lock if there is a `done`.
_TRY_EVERY = 0.1
#: Errors of file systems without usable locks; processes then download the same file twice.
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EROFS, errno.EACCES, errno.EPERM}
#: Errors of a failing disk or network file system.
_UNSUPPORTED |= {errno.EIO, errno.ESTALE}
_warned: set[str] = set()


@contextlib.contextmanager
def file_lock(path: Path, stopped: threading.Event | None = None, done: Callable[[], bool] | None = None) -> Iterator[bool]:
    """Hold the lock at `path`. Without a usable lock, warn once for its folder and continue.

    Args:
        path: of the lock file.
        stopped: ends the wait when it is set.
        done: returns True once another process has done the work. The block then runs without the lock, and False is
            yielded; otherwise all that wait would take the lock one after the other only to find that out.

    Raises:
        LockTimeout: when another process holds it for longer than `REGISTRY_LOCK_TIMEOUT` seconds (default 3600), or
            `stopped` is set.
        CacheError: when its folder is not a folder, or something else is in the lock's place.
    """
    from filelock import FileLock

    limit = lock_timeout()
    lock = None
    needed = True
    try:
        make_folder(path.parent, path.parent.parent)
        # A lock by existence, which filelock offers where flock is missing, would outlive a killed process. The mode lets
        # every user of a shared cache open it; it holds nothing.
        lock = FileLock(path, mode=0o666, fallback_to_soft=False)
        if not _acquire(lock, path, limit, stopped or threading.Event(), done):
            lock, needed = None, False
    except LockTimeout:
        raise
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise CacheError(
                f"lock {path} is expected to be a file that can be written, but is not ({error.strerror or error}); "
                "mend its folder, or set REGISTRY_CACHE to another",
                path=str(path),
            ) from error
        lock = None
        if str(path.parent) not in _warned:
            _warned.add(str(path.parent))
            logger.warning("%s cannot be locked (%s); processes may download the same file twice", path.parent, error.strerror)
    try:
        yield needed
    finally:
        if lock is not None:
            lock.release()


def lock_timeout() -> float:
    """Return how many seconds to wait for a lock."""
    written = os.environ.get("REGISTRY_LOCK_TIMEOUT") or str(_DEFAULT_TIMEOUT)
    try:
        seconds = float(written)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise ConfigError(
            f"REGISTRY_LOCK_TIMEOUT is expected to be a number of seconds, but is {written!r}; correct or unset it"
        )
    return seconds


def _acquire(lock: BaseFileLock, path: Path, limit: float, stopped: threading.Event, done: Callable[[], bool] | None) -> bool:
    """Take the lock; return False if `done` returned True first."""
    from filelock import Timeout

    start = time.monotonic()
    say_at = _SAY_AFTER
    suspected = str(path.parent) in _warned
    while True:
        waited = time.monotonic() - start
        try:
            pause = 0.0 if suspected else max(0.0, min(_LOOK_UP_EVERY, limit - waited))
            lock.acquire(timeout=pause if done is None else 0.0)
            return True
        except Timeout:
            if suspected:
                _refuse_refusal(path)
                suspected = False
            if done is not None and _is_done(done, min(_TRY_EVERY, pause), stopped):
                return False
            waited = time.monotonic() - start
            if stopped.is_set():
                raise LockTimeout(
                    f"lock {path} is not waited for any longer, because the operation was stopped", path=str(path)
                ) from None
            if waited < min(say_at, limit):
                continue
            _refuse_refusal(path)
            holder = _holder(path)
            if waited >= limit:
                raise LockTimeout(
                    f"lock {path} is expected to be free within {limit:g} s, but {holder} holds it; "
                    "end that process, or set REGISTRY_LOCK_TIMEOUT to wait longer",
                    path=str(path),
                ) from None
            logger.warning("waiting for %s that holds %s (%.0f s)", holder, path, waited)
            say_at = waited + 10.0


def _is_done(done: Callable[[], bool], seconds: float, stopped: threading.Event) -> bool:
    """Poll `done` for some seconds."""
    until = time.monotonic() + seconds
    while not done():
        if time.monotonic() >= until or stopped.wait(_LOOK_EVERY):
            return False
    return True


def _refuse_refusal(path: Path) -> None:
    """Raise when waiting is useless: a file system that forbids locks can look like one whose lock is held.

    Raises:
        OSError: EACCES.
    """
    with contextlib.suppress(ImportError, FileNotFoundError), open(path, "rb", opener=no_link) as file:
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return


def _holder(path: Path) -> str:
    """Return the holder of a lock in words; Linux lists the processes of this machine."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        inode = str(path.stat().st_ino)
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == inode and int(fields[4]) > 0:
                return f"process {fields[4]}"
    return "another process"
