"""Edit a user's text file atomically, one process at a time."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable
from pathlib import Path

from registry.base.file_lock import file_lock
from registry.base.files import write_atomically
from registry.base.regular import read_regular, unfit_target
from registry.errors import CatalogError

__all__ = ["rewrite"]

#: Attempts at an edit while another program keeps changing the file.
_TRIES = 5


def rewrite(path: Path, change: Callable[[str], str], locks: Path, *, trusted: bool = False) -> str:
    """Replace a file's text by the result of `change` in one step, and return the new text.

    A link stays a link to the file that is changed, whose permissions stay. Where there is no file, its text is empty.

    Args:
        path: the file, in UTF-8; `change` gets its text with line ends and byte order mark.
        change: returns the new text; if it raises, the file does not change.
        locks: the folder of lock files, shared by all processes that may change the file.
        trusted: whether a link may point outside the project, because the file is the user's own.

    Raises:
        CatalogError: when the file cannot be read or written.
    """
    try:
        real = path.resolve()
    except (OSError, RuntimeError) as error:  # Python 3.11 raises RuntimeError for a loop of links
        raise CatalogError("the file is expected to be one, but is a link that leads back to itself", file=str(path)) from error
    if why := unfit_target(real if trusted else path):
        raise CatalogError(f"the file is expected to be one of its project, but {why}; nothing was written", file=str(path))
    key = hashlib.sha256(str(real).encode()).hexdigest()
    with file_lock(locks / f"{key}.lock"):
        for _ in range(_TRIES):
            before = _read(real, path)
            new = change(_text(before or b"", path))
            if new.encode("utf-8") == before:
                return new
            if _read(real, path) == before:  # otherwise an editor saved the file meanwhile
                _write(real, path, new)
                return new
    raise CatalogError(
        "the file is expected not to change while it is edited, but another program keeps changing it; try again later",
        file=str(path),
    )


def _read(real: Path, path: Path) -> bytes | None:
    try:
        return read_regular(real)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _error("readable", path, error) from error


def _text(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CatalogError(
            "the file is expected to be UTF-8 text, but is not; save it as UTF-8",
            file=str(path),
            line=data[: error.start].count(b"\n") + 1,
            column=error.start - data.rfind(b"\n", 0, error.start),
        ) from None


def _write(real: Path, path: Path, text: str) -> None:
    try:
        real.parent.mkdir(parents=True, exist_ok=True)
        mode = stat.S_IMODE(real.stat().st_mode) if real.exists() else None
        write_atomically(real, text, mode=mode)
    except OSError as error:
        raise _error("writable", path, error) from error


def _error(what: str, path: Path, error: OSError) -> CatalogError:
    reason = error.strerror or str(error)
    return CatalogError(f"the file is expected to be {what}, but is not ({reason}); nothing was written", file=str(path))
