"""Write files and folders atomically, share them between users, and tell which process owns a private name."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import stat
import sys
from collections.abc import Callable, Collection, Iterator
from enum import Enum
from pathlib import Path

from registry.base.names import user_path
from registry.base.regular import unfit_target
from registry.errors import CheckpointError

__all__ = [
    "OWNED",
    "OwnerState",
    "atomic_folder",
    "is_private",
    "make_folder",
    "nobodys_token",
    "owner_state",
    "owner_token",
    "share",
    "sync_folder",
    "write_atomically",
    "write_private",
    "write_saved",
]


#: Who else may write to a folder shares it.
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def make_folder(folder: Path, root: Path) -> None:
    """Create a folder below `root` and its parents; existing folders are kept.

    Links below `root` are not followed: in a shared cache another user may have created them.

    Raises:
        OSError: when it cannot be created, or a link or file is in its place.
    """
    if folder == root:
        folder.mkdir(parents=True, exist_ok=True)
        return
    make_folder(folder.parent, root)
    try:
        folder.mkdir()
    except FileExistsError:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise NotADirectoryError(errno.ENOTDIR, f"{folder} is a link or file where a folder belongs", str(folder)) from None
        return
    share(folder, root)


def is_private(path: Path, roots: Collection[Path]) -> bool:
    """Return True if only this user and root can change what a path leads to, through any links.

    Checks the file and its folders up to the first of `roots`, and the target of a link that leads out of these.
    """
    if not hasattr(os, "geteuid"):
        return True
    tops = {*roots, *(root.resolve() for root in roots)}
    left, seen = [path], set[Path]()
    try:
        while left:
            place = left.pop()
            if place in seen:
                continue
            seen.add(place)
            status = place.lstat()
            if not _is_only_ours(status):
                return False
            if stat.S_ISLNK(status.st_mode):
                left.append(Path(os.path.normpath(place.parent.resolve() / place.readlink())))
            if place not in tops and (not stat.S_ISDIR(status.st_mode) or any(place.is_relative_to(top) for top in tops)):
                left.append(place.parent)
    except OSError:
        return False
    return True


def _is_only_ours(status: os.stat_result) -> bool:
    """Return True if only this user and root can write to a file or folder."""
    if status.st_uid not in (os.geteuid(), 0):
        return False
    if stat.S_ISLNK(status.st_mode):  # its permissions mean nothing
        return True
    by_group = status.st_mode & stat.S_IWGRP and not _is_of_one(status.st_gid)
    return not (by_group or status.st_mode & stat.S_IWOTH)


@functools.cache
def _is_of_one(group: int) -> bool:
    """Return True for a group that has only this user, as many systems create for each user."""
    import grp
    import pwd

    try:
        found, user = grp.getgrgid(group), pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return found.gr_name == user.pw_name and set(found.gr_mem) <= {user.pw_name}


def share(path: Path, root: Path) -> None:
    """Give the users who may write to `root` access to a new file or folder.

    If only one user may write to `root`, or modes cannot be changed, the umask alone decides.
    """
    with contextlib.suppress(OSError):
        shared = stat.S_IMODE(root.stat().st_mode)
        if not shared & _OTHERS_WRITE:
            return
        mode = path.stat().st_mode
        if not stat.S_ISDIR(mode):
            shared &= 0o666 if mode & stat.S_IWUSR else 0o444
        if shared & ~mode:
            path.chmod(stat.S_IMODE(mode) | shared)


def write_atomically(path: Path, content: str | bytes, root: Path | None = None, *, mode: int | None = None) -> None:
    """Replace a file in one step; UTF-8 for text. On failure the old file stays, and no temporary file.

    Args:
        path: of the file.
        content: all of it.
        root: the folder of its cache; its users may read the file.
        mode: its permissions; by default the umask decides.

    Raises:
        OSError: when the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name[:150]}.{owner_token()}.tmp")

    def created(name: str, flags: int) -> int:
        return os.open(name, flags, 0o666 if mode is None else mode)

    try:
        with open(temporary, "xb", opener=created) as file:  # does not follow a link that another user created
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
        if mode is not None:
            temporary.chmod(mode)  # the umask may have taken something from it
        if root is not None:
            share(temporary, root)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_private(path: Path, data: bytes) -> bool:
    """Write a file that only this user may read or write, as `write_atomically` does; return False if that fails.

    There is no fsync: readers detect what a crash left.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent.is_symlink():  # perhaps another user's, in a shared cache
            return False
        write_atomically(path, data, mode=0o600)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def atomic_folder(folder: Path, *, stage: Path | None = None, taken: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """Yield a private path; the folder that the block makes there becomes `folder` by one rename at its end.

    Whatever happens, the private folder is removed; a killed process leaves it, and its name tells whose it was.

    Args:
        folder: the folder that appears.
        stage: the private path; by default beside `folder`.
        taken: called with the private path if `folder` exists already.

    Raises:
        OSError: if the folder cannot be renamed, or exists and there is no `taken`.
    """
    import shutil  # here, because it imports every compressor

    stage = stage or folder.with_name(f".{folder.name}.{owner_token()}")
    try:
        yield stage
        appeared = True
        try:
            stage.rename(folder)
        except OSError as error:
            # The number is looked at, too: another process may have removed the folder since.
            if taken is None or not (error.errno in (errno.EEXIST, errno.ENOTEMPTY) or folder.is_dir()):
                raise
            appeared = False
        if taken is not None and not appeared:
            taken(stage)
        with contextlib.suppress(OSError):  # the folder is there
            sync_folder(folder.parent)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def write_saved(path: Path, content: str) -> None:
    """Write a file at a path that a user gave, as `write_atomically` does.

    Raises:
        CheckpointError: when it is not a regular file, a link leads to it out of its project, or its name is too long.
        ConfigError: when no path can be like that.
        OSError: when the folder cannot be written.
    """
    path = user_path(path)
    if why := unfit_target(path, follows=False):
        raise CheckpointError(f"{str(path)!r} is expected to be a file of its project, but {why}", path=str(path))
    try:
        write_atomically(path, content)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise CheckpointError(
            f"{str(path)!r} is expected to be a name that the file system can store, but is too long; give a shorter one",
            path=str(path),
        ) from error


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that a rename in it survives a power cut, if the system supports it."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse it; the rename stands
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


#: A token inside a file name.
OWNED = re.compile(r"(?P<machine>[0-9a-f]{12})-(?P<pid>[0-9]{1,10})-(?P<start>[0-9]{1,20})-[0-9a-f]{8}")


class OwnerState(Enum):
    """State of the process that a token names."""

    ALIVE = "alive"
    DEAD = "dead"
    #: It runs on another machine or in another container.
    UNKNOWN = "unknown"


def owner_token() -> str:
    """Return a new token of this process, unique among all its tokens."""
    pid = os.getpid()
    return f"{_machine(pid)}-{pid}-{_started(pid) or 0}-{os.urandom(4).hex()}"


def nobodys_token() -> str:
    """Return a new token without an owner: any process may take over the file that has it."""
    return f"{_machine(os.getpid())}-0-0-{os.urandom(4).hex()}"


def owner_state(name: str) -> OwnerState:
    """Return the state of the process whose token is in a file name."""
    found = OWNED.search(name)
    if found is None or found["machine"] != _machine(os.getpid()) or sys.platform == "win32":
        return OwnerState.UNKNOWN
    pid = int(found["pid"])
    if pid == 0:
        return OwnerState.DEAD
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return OwnerState.DEAD
    except PermissionError:  # it is alive, and another user's
        pass
    started = _started(pid)
    # A process that reuses the number of a dead one has another start time.
    return OwnerState.ALIVE if started is None or started == int(found["start"]) else OwnerState.DEAD


@functools.lru_cache(maxsize=1)
def _machine(pid: int) -> str:
    """Identify the space of process numbers: this boot of this host, and the container in it."""
    import platform

    parts = [platform.node()]
    with contextlib.suppress(OSError):  # not on Linux
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text(), str(Path(f"/proc/{pid}/ns/pid").readlink())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _started(pid: int) -> int | None:
    """Return the start time of a process in clock ticks since boot; None if the system does not tell."""
    try:
        # The second field, the command in brackets, may contain anything; the 22nd is the start time.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return int(fields[19])
    except (OSError, IndexError, ValueError):
        return None
