"""Write a file of the cache so that nobody meets half of it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["write_private"]


def write_private(path: Path, data: bytes) -> bool:
    """Put a file in its place that none but its user may read or write; return whether that could be done.

    It is written under a private name beside it. There is no fsync: what a crash leaves is noticed by its readers.
    """
    import tempfile  # not needed where everything is there

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent.is_symlink():  # perhaps another user's, in a cache that is shared
            return False
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    except OSError:
        return False
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        if not isinstance(error, OSError):
            raise
        return False
    return True
