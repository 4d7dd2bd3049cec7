"""Write files so that a reader sees all of one or none of it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from registry.store.owner import owner_token

__all__ = ["sync_folder", "write_atomically"]


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file in one step; UTF-8 for text. On failure what was there stays, and nothing else is left.

    Raises:
        OSError: when the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name[:150]}.{owner_token()}.tmp")
    try:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
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
