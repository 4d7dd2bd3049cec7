"""A file that is being brought: its bytes so far, and a journal that says which of them are here, and of what.

The journal is text, one JSON value a line: first what is brought, then `[start, stop]` for each piece of the file that was
written. It is only appended to, so a process that is killed leaves a line cut off at worst, and that one is not counted.
Both files belong to one process. Once that is dead another takes them over, by a rename that only one can win.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from registry.base.files import OWNED, OwnerState, make_folder, nobodys_token, owner_state, owner_token
from registry.base.regular import no_link
from registry.base.urls import redact
from registry.store.cache import VERSION, Cache, cache_error

__all__ = ["JOURNAL", "Partial", "sweep"]

#: What the journal's name adds to that of its file.
JOURNAL = ".journal"

#: A journal of more bytes is not read: it would be that of a file of some terabytes.
_MAX_JOURNAL = 64 << 20
#: Bytes that may be written before the journal says so.
_NOTE_EVERY = 1 << 20


@dataclass(frozen=True, slots=True)
class _Version:
    """What the bytes are of: a URL (hashed, it may hold a secret), the name of its version there, its size."""

    url: str
    validator: str | None
    size: int | None


class Partial:
    """One private file. Writers may work on parts of it at once; everything else is for one thread."""

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self._url = url
        self._version: _Version | None = None
        self._extents: list[tuple[int, int]] = []
        self._writers: list[_Writer] = []
        self._lock = threading.Lock()

    @classmethod
    def claim(cls, cache: Cache, key: str, url: str, *, identified: bool) -> Partial:
        """Return the file for this key: what a dead process left of the same URL, or a new one.

        What a process left that cannot be looked at from here, also one of before the machine was started anew, may lack
        bytes that its journal tells of. It is gone on with only where a known hash would show that (`identified`).

        Raises:
            CacheError: when the cache cannot be written.
        """
        folder = cache.blob(key).parent
        path = folder / f"{key}.{owner_token()}.partial"
        try:
            make_folder(folder, cache.root)
            for left in sorted(folder.glob(f"{key}.*.partial"), key=_size, reverse=True):
                if owner_state(left.name) is OwnerState.ALIVE:
                    continue
                if owner_state(left.name) is not OwnerState.DEAD and not identified:
                    continue
                mine = cls(path, url)
                if mine._read(left) and mine._take(left, identified=identified):
                    return mine
            path.open("xb").close()
        except OSError as error:
            raise cache_error(path, error) from error
        return cls(path, url)

    @property
    def validator(self) -> str | None:
        """The name of the version that the bytes are of."""
        return self._version.validator if self._version else None

    @property
    def size(self) -> int | None:
        """Bytes of the whole file, where they are known."""
        return self._version.size if self._version else None

    @property
    def have(self) -> int:
        """How many bytes are here, those of which the journal does not tell yet among them."""
        with self._lock:
            unnoted = sum(writer.position - writer.noted for writer in self._writers)
            return sum(stop - start for start, stop in self._extents) + unnoted

    @property
    def frontier(self) -> int:
        """Up to where all bytes are here."""
        with self._lock:
            return self._extents[0][1] if self._extents and self._extents[0][0] == 0 else 0

    def holes(self) -> list[tuple[int, int | None]]:
        """Return what is missing, as (start, stop); a stop of None where the end is not known."""
        with self._lock:
            holes: list[tuple[int, int | None]] = []
            end = 0
            for start, stop in self._extents:
                if start > end:
                    holes.append((end, start))
                end = stop
            size = self._version.size if self._version else None
            if size is None or end < size:
                holes.append((end, size))
            return holes

    def begin(self, validator: str | None, size: int | None) -> None:
        """Start from nothing, with this version of the content."""
        with self._lock:
            self._version = _Version(_hashed(self._url), validator, size)
            self._extents = []
            with _opened(self.path, "rb+") as file:
                file.truncate(0)
            with _opened(self._journal, "wb") as file:
                file.write(self._first_line())

    def end(self, size: int) -> None:
        """Note the size of a file whose end came before its size was known."""
        with self._lock:
            assert self._version is not None
            self._version = _Version(self._version.url, self._version.validator, size)

    @contextlib.contextmanager
    def writer(self, start: int) -> Iterator[_Writer]:
        """Yield what writes on from `start`; it notes in the journal what it has written."""
        with _opened(self.path, "rb+", 0) as file:
            file.seek(start)
            writer = _Writer(self, file, start)
            with self._lock:
                self._writers.append(writer)
            try:
                yield writer
            finally:
                writer.note()
                with self._lock:
                    self._writers.remove(writer)

    def sync(self) -> None:
        """Make the bytes survive a power cut."""
        with _opened(self.path, "rb+") as file:
            os.fsync(file.fileno())

    def leave(self, *, resumable: bool) -> None:
        """Let go of the file: keep it for a later process when that can go on with it, else remove it."""
        if not (resumable and self.have):
            self.discard()
            return
        # The process lives on, so its name would keep others from it.
        free = self.path.with_name(OWNED.sub(nobodys_token(), self.path.name))
        with contextlib.suppress(OSError):
            self.path.rename(free)
            self._journal.rename(_journal(free))

    def discard(self) -> None:
        """Remove file and journal; nothing happens where they are gone."""
        for path in (self.path, self._journal):
            with contextlib.suppress(OSError):
                path.unlink()

    # ------------------------------------------------------------------------------------------------------------------

    @property
    def _journal(self) -> Path:
        return _journal(self.path)

    def _note(self, writer: _Writer, stop: int) -> None:
        with self._lock:
            start, writer.noted = writer.noted, stop
            self._extents = _merged([*self._extents, (start, stop)])
            with _opened(self._journal, "ab") as file:
                file.write(f"[{start}, {stop}]\n".encode())

    def _read(self, left: Path) -> bool:
        """Read what a process left; return whether it can be gone on with."""
        try:
            status = left.lstat()
            if not stat.S_ISREG(status.st_mode) or _journal(left).lstat().st_size > _MAX_JOURNAL:
                return False
            here = status.st_size
            with _opened(_journal(left), "rb") as file:
                first, *lines = file.read().splitlines()
            said = json.loads(first)
            if said["version"] != VERSION or said["url"] != _hashed(self._url):
                return False
            validator, size = said["validator"], said["size"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return False
        if not isinstance(validator, str | None) or not (size is None or (type(size) is int and size >= 0)):
            return False
        limit = here if size is None else min(here, size)
        extents = [extent for extent in map(_extent, lines) if extent is not None]
        self._version = _Version(said["url"], validator, size)
        self._extents = _merged([(start, min(stop, limit)) for start, stop in extents if start < limit])
        return bool(self._extents)

    def _take(self, left: Path, *, identified: bool) -> bool:
        """Make what was left ours: by a rename when its owner is dead, else by a copy, since it may still be written to."""
        try:
            mine = not hasattr(os, "geteuid") or left.lstat().st_uid == os.geteuid()
            if mine and owner_state(left.name) is OwnerState.DEAD:
                left.rename(self.path)
                _journal(left).rename(self._journal)
                return True
            if not identified:
                return False
            # What the journal told of when it was read is in the copy; what is written meanwhile may be or not.
            with _opened(left, "rb") as source, _opened(self.path, "xb") as file:
                shutil.copyfileobj(source, file)
            with _opened(self._journal, "wb") as file:
                file.write(self._first_line())
                file.write(b"".join(b"[%d, %d]\n" % extent for extent in self._extents))
        except OSError:  # another process was faster, or there is no room for a copy
            self.discard()
            return False
        return True

    def _first_line(self) -> bytes:
        assert self._version is not None
        said = {"version": VERSION, "url": self._version.url, "of": redact(self._url)}
        return json.dumps({**said, "validator": self._version.validator, "size": self._version.size}).encode() + b"\n"


class _Writer:
    """Writes forward from one place of a partial file."""

    def __init__(self, partial: Partial, file: IO[bytes], start: int) -> None:
        self._partial = partial
        self._file = file
        #: Up to where the journal tells of what was written.
        self.noted = start
        self.position = start

    def write(self, piece: bytes) -> None:
        """Append a piece."""
        view = memoryview(piece)
        while view:  # a file without a buffer may take less than it is given
            count = self._file.write(view)
            view = view[count:]
            self.position += count
        if self.position - self.noted >= _NOTE_EVERY:
            self.note()

    def note(self) -> None:
        """Tell the journal what has been written."""
        if self.position > self.noted:
            self._partial._note(self, self.position)


def sweep(cache: Cache, key: str) -> None:
    """Remove what dead processes left of a file that is here now."""
    for left in cache.blob(key).parent.glob(f"{key}.*.partial*"):
        if owner_state(left.name) is OwnerState.DEAD:
            with contextlib.suppress(OSError):
                left.unlink()


def _opened(path: Path, mode: str, buffering: int = -1) -> IO[bytes]:
    """Open a file, but no link to one: in a shared cache others could have put it there."""
    return open(path, mode, buffering, opener=no_link)


def _journal(path: Path) -> Path:
    return path.with_name(path.name + JOURNAL)


def _hashed(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _extent(line: bytes) -> tuple[int, int] | None:
    try:
        start, stop = json.loads(line)
    except (ValueError, TypeError, RecursionError):
        return None
    return (start, stop) if type(start) is int and type(stop) is int and 0 <= start < stop else None


def _merged(extents: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the union of extents, in order."""
    union: list[tuple[int, int]] = []
    for start, stop in sorted(extents):
        if union and start <= union[-1][1]:
            union[-1] = (union[-1][0], max(stop, union[-1][1]))
        else:
            union.append((start, stop))
    return union
