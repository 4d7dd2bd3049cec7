"""Write files so that a reader sees all of one or none of it, and so that those who share a folder can use them."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from registry.store.owner import owner_token

__all__ = ["make_folder", "share", "sync_folder", "write_atomically"]


#: Who else may write to a folder shares it.
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def make_folder(folder: Path, root: Path) -> None:
    """Make a folder below `root`, and all between; where they are there, nothing happens.

    Raises:
        OSError: when it cannot be made.
    """
    if folder == root:
        folder.mkdir(parents=True, exist_ok=True)
        return
    try:
        folder.mkdir()
    except FileNotFoundError:
        make_folder(folder.parent, root)
        folder.mkdir(exist_ok=True)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return
    share(folder, root)


def share(path: Path, root: Path) -> None:
    """Open a new file or folder to those who may write to `root`: whoever made that for several users means them all.

    Where nobody else may write to `root`, or modes cannot be changed, the umask alone decides.
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
    """Replace a file in one step; UTF-8 for text. On failure what was there stays, and nothing else is left.

    Args:
        path: of the file.
        content: all of it.
        root: of the cache that it is in, with whose users it is shared.
        mode: its permissions; by default the umask decides.

    Raises:
        OSError: when the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name[:150]}.{owner_token()}.tmp")
    try:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        if mode is not None:
            temporary.chmod(mode)
        if root is not None:
            share(temporary, root)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def sync_folder(folder: Path) -> None:
    """Make a rename within `folder` survive a power cut, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse it; the rename stands
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
