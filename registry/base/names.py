"""Which strings may name a model, and which may become the path of a file."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

__all__ = [
    "INDEX_SUFFIX",
    "MAX_BYTES",
    "MODEL_NAME",
    "SHAPES_NAME",
    "can_be_path",
    "home_folder",
    "maybe_user_path",
    "twin_key",
    "unsafe_file_name",
    "user_path",
]

#: A catalog larger than this is not one.
MAX_BYTES = 64 << 20

#: How the name of the file ends that lists the shards of weights.
INDEX_SUFFIX = ".index.json"
#: The file that lists the shapes of a release in numpy's form.
SHAPES_NAME = "params_shapes.json"

#: A model name: words of letters, digits, `.`, `_`, `-`, optionally grouped by `/`; at most 200 characters.
MODEL_NAME = re.compile(r"(?!.{201})[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")

_MAX_PART = 200  # a temporary name adds a suffix, and most file systems stop at 255 bytes
_MAX_PATH = 1000  # macOS stops at 1024 bytes, and the name stands below a folder
#: Windows ignores blanks before the dot: `con .txt` is the console too.
_RESERVED = re.compile(r"(con|conin\$|conout\$|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]) *(\..*)?", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\\ud800-\udfff]')


def unsafe_file_name(name: str) -> str | None:
    """Return why `name` must not become a path below a folder, or None when it may.

    The rules are those of every platform at once, so that what one machine stores another can read.
    """
    if not name:
        return "is empty"
    if found := _FORBIDDEN.search(name):
        return f"contains the character {found.group()!r}"
    for part in name.split("/"):
        if part == "":
            return "has an empty path part"
        if part in (".", ".."):
            return f"has the path part {part!r}"
        if part.endswith((".", " ")) or part.startswith(" "):
            return "has a path part that begins with a blank, or ends with a dot or blank"
        if _RESERVED.fullmatch(part):
            return f"has the reserved path part {part!r}"
        if len(part.encode()) > _MAX_PART:
            return f"has a path part of more than {_MAX_PART} bytes"
    if len(name.encode()) > _MAX_PATH:
        return f"has more than {_MAX_PATH} bytes in all"
    return None


def twin_key(name: str) -> str:
    """Return what two names share when a file system that ignores case, or normalises Unicode, takes both for one file.

    The canonical caseless match of the Unicode Standard (section 3.13, D145), composed.
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def can_be_path(path: str | os.PathLike[str]) -> bool:
    """Whether the system can take a text for a path: it has no NUL, and no lone surrogate where that cannot be encoded."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def user_path(path: str | os.PathLike[str]) -> Path:
    """Return a path with `~` expanded; that of another user whom the system does not know stays as it is.

    Raises:
        ConfigError: when it holds what no path can hold, or this user's own home folder is not known.
    """
    if not can_be_path(path):
        from registry.errors import ConfigError

        raise ConfigError(
            f"path {os.fspath(path)!r} is expected to hold only characters that a path can hold, but has a NUL or a lone "
            "surrogate; give another path"
        )
    try:
        return Path(path).expanduser()
    except RuntimeError:
        if Path(path).parts[0] != "~":
            return Path(path)
    from registry.errors import ConfigError

    raise ConfigError(
        f"home folder of this user is expected to be known, because {str(path)!r} is in it, but HOME is not set and the system "
        "does not know the user; set HOME, or write the path in full"
    )


def maybe_user_path(path: str | os.PathLike[str]) -> Path | None:
    """Return a path with `~` expanded, or None when it is in a home folder that is not known."""
    return Path(path).expanduser() if not str(path).startswith("~") or home_folder(Path(path).parts[0]) else None


def home_folder(tilde: str) -> str | None:
    """Return the home folder that `~` or `~user` stands for, or None for a user whom the system does not know."""
    try:
        return str(Path(tilde).expanduser())
    except RuntimeError:
        return None
