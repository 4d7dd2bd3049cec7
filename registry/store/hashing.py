"""Hash a file while it is still being written."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

__all__ = ["GrowingHash", "git_blob_sha1"]

_STEP = 1 << 20
#: With less than this to do, a thread is not worth its start.
_THREAD_FROM = 8 << 20


class GrowingHash:
    """The sha256 of a file whose beginning is there and whose end is not.

    It reads the file itself, in a thread of its own, up to where it is told: what an earlier process has written is hashed
    while the rest is on its way, and parts may come in any order.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digest = hashlib.sha256()
        self._done = 0
        self._frontier = 0
        self._ended = False
        self._failure: OSError | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def advance(self, frontier: int) -> None:
        """Say up to where the file is complete."""
        with self._changed:
            self._frontier = max(frontier, self._frontier)
            if self._thread is None and self._frontier - self._done >= _THREAD_FROM:
                self._thread = threading.Thread(target=self._follow, name="registry-hash", daemon=True)
                self._thread.start()
            self._changed.notify()

    def finish(self, size: int) -> str:
        """Return the hash of the first `size` bytes as hex digits.

        Raises:
            OSError: when the file cannot be read to there.
        """
        self._stop(size)
        if self._failure is not None:
            raise self._failure
        self._hash_to(size)
        return self._digest.hexdigest()

    def abandon(self) -> None:
        """End the thread; the hash is not wanted any more."""
        self._stop(0)

    def _stop(self, frontier: int) -> None:
        with self._changed:
            self._frontier = frontier
            self._ended = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _follow(self) -> None:
        try:
            while True:
                with self._changed:
                    while self._frontier <= self._done and not self._ended:
                        self._changed.wait()
                    if self._frontier <= self._done:
                        return
                    frontier = min(self._frontier, self._done + 64 * _STEP)
                self._hash_to(frontier)
        except OSError as error:
            self._failure = error

    def _hash_to(self, frontier: int) -> None:
        if frontier <= self._done:
            return
        buffer = memoryview(bytearray(min(_STEP, frontier - self._done)))
        with self._path.open("rb", buffering=0) as file:
            file.seek(self._done)
            while self._done < frontier:
                count = file.readinto(buffer[: frontier - self._done])
                if not count:
                    raise OSError(f"{self._path} ends at byte {self._done} of {frontier}")
                self._digest.update(buffer[:count])
                self._done += count


def git_blob_sha1(path: Path) -> str:
    """Return the name that git gives the content of a file (https://git-scm.com/book/en/v2/Git-Internals-Git-Objects)."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_STEP):
            digest.update(piece)
    return digest.hexdigest()
