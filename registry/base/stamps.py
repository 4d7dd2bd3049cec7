"""What a file was when it was looked at, to tell later whether it changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

__all__ = ["Stamp", "stamp"]


#: Path, size, and two times in nanoseconds.
Stamp = tuple[str, int, int, int]


def stamp(path: str) -> Stamp:
    """Return path, size, time of writing and time of change of a file; the last cannot be set back as the other can."""
    status = _status(path)
    return (path, status.st_size, status.st_mtime_ns, status.st_ctime_ns) if status else (path, -1, -1, -1)


def _status(path: str | Path, look: Callable[[str | Path], os.stat_result] = os.stat) -> os.stat_result | None:
    try:
        return look(path)  # hundreds of paths at each use of the catalog: no object for each
    except (OSError, ValueError):  # the latter for a path that cannot be, such as one with a NUL
        return None
