"""What an archive may hold, and the staging folder that its members are written into, one by one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from registry.base.files import sync_folder
from registry.base.names import twin_key, unsafe_file_name
from registry.store.cache import cache_error

__all__ = ["PIECE", "Limits", "Member", "Refused", "Stage"]

#: Bytes that are unpacked and written at a time.
PIECE = 1 << 20

_MAX_DEPTH = 32
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an archive may unpack to. Weights hardly compress, text to a twentieth, zeros to a thousandth."""

    #: Bytes in all.
    total: int = 256 << 30
    #: Files and folders; the most sharded models have some hundreds.
    members: int = 10_000
    #: Bytes unpacked for each byte of the archive …
    ratio: int = 200
    #: … where it unpacks to more than this.
    free: int = 256 << 20


class Refused(Exception):
    """Why an archive is refused: `what` of it is expected to be `expected`, but `actual`."""

    def __init__(self, what: str, expected: str, actual: str) -> None:
        super().__init__(what, expected, actual)
        self.what = what
        self.expected = expected
        self.actual = actual


@dataclass(frozen=True, slots=True)
class Member:
    """A file or folder of an archive, as its header says. `read` yields the content, and raises nothing but `Refused`."""

    name: str
    size: int = 0
    #: Seconds since 1970; the newer of two weights files is the one that is loaded.
    mtime: int = 0
    is_folder: bool = False
    read: Callable[[], Iterator[bytes]] = lambda: iter(())


class Stage:
    """An existing, empty, private folder that takes the members of one archive."""

    def __init__(self, folder: Path, limits: Limits, packed: int) -> None:
        """Prepare for an archive of `packed` bytes."""
        self._folder = folder
        self._limits = limits
        self._packed = packed
        self._declared = 0
        #: Folded path to the path as it is written, and whether it is a folder.
        self._held: dict[str, tuple[str, bool]] = {}

    def admit(self, member: Member) -> None:
        """Check a member's name and declared size beside those of all before it; nothing is written.

        Raises:
            Refused: for the first thing that is wrong.
        """
        path = _path(member)
        if path is None:  # the archive's own root
            return
        parts = path.split("/")
        for end in range(1, len(parts)):
            self._hold(member, "/".join(parts[:end]), is_folder=True)
        self._hold(member, path, is_folder=member.is_folder)
        self._declared += member.size
        self.check_size(self._declared)

    def check_size(self, unpacked: int) -> None:
        """Refuse an archive that unpacks to so many bytes."""
        if unpacked > self._limits.total:
            raise Refused("content", f"at most {self._limits.total:,} bytes", f"is more, {unpacked:,} at least")
        if unpacked > max(self._limits.free, self._limits.ratio * self._packed):
            raise Refused(
                "content",
                f"at most {self._limits.ratio} times its {self._packed:,} bytes",
                f"is more, {unpacked:,} at least",
            )

    def write(self, member: Member) -> None:
        """Write an admitted member below the folder: always a new file, never through a link.

        Raises:
            Refused: when its content is not what its header says.
            CacheError: when it cannot be written.
        """
        path = _path(member)
        if path is None:
            return
        target = self._folder / path
        try:
            (target if member.is_folder else target.parent).mkdir(parents=True, exist_ok=True)
            if not member.is_folder:
                self._write_file(target, member)
        except OSError as error:
            raise cache_error(target, error) from error

    def _write_file(self, target: Path, member: Member) -> None:
        with os.fdopen(os.open(target, _NEW_FILE, 0o666), "wb") as file:
            count = 0
            for piece in member.read():
                count += len(piece)
                if count > member.size:
                    raise Refused(f"member {member.name!r}", f"{member.size} bytes long", "is longer")
                file.write(piece)
            if count != member.size:
                raise Refused(f"member {member.name!r}", f"{member.size} bytes long", f"has only {count}")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(OSError, OverflowError):  # a time that the file system does not have
            os.utime(target, (member.mtime, member.mtime))
        target.chmod(target.stat().st_mode & 0o444)  # as blobs are: it may be mapped

    def finish(self) -> None:
        """Make what was written survive a power cut.

        Raises:
            Refused: when there was no file.
            CacheError: when it cannot be made to.
        """
        if all(is_folder for _, is_folder in self._held.values()):
            raise Refused("content", "the files of a model", "has no file")
        try:
            for path in (path for path, is_folder in self._held.values() if is_folder):
                sync_folder(self._folder / path)
            sync_folder(self._folder)
        except OSError as error:
            raise cache_error(self._folder, error) from error

    def _hold(self, member: Member, path: str, *, is_folder: bool) -> None:
        """Take a path for a member. No two may be one on a file system that knows neither case nor Unicode forms."""
        key = twin_key(path)
        held = self._held.get(key)
        if held is None:
            if len(self._held) >= self._limits.members:
                raise Refused("content", f"at most {self._limits.members:,} files and folders", "is more")
            self._held[key] = path, is_folder
        elif held[0] != path:
            raise Refused(f"member {member.name!r}", "unlike every other name", f"is {held[0]!r} where case does not count")
        elif not (held[1] and is_folder):
            raise Refused(f"member {member.name!r}", "there once", "is there twice")


def _path(member: Member) -> str | None:
    """Return the path of a member below the root, None for the root itself.

    Raises:
        Refused: when the name must not become a path.
    """
    path = member.name.removesuffix("/") if member.is_folder else member.name
    if path == "." and member.is_folder:
        return None
    path = path.removeprefix("./")  # how `tar -C folder .` names everything
    reason = unsafe_file_name(path)
    if reason is None and path.count("/") >= _MAX_DEPTH:
        reason = f"has more than {_MAX_DEPTH} parts"
    if reason is not None:
        raise Refused(f"member {member.name!r}", "a path below the archive's folder that every system allows", reason)
    return path
