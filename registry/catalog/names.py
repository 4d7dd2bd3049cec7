"""Which strings may name a model, and which may become the path of a file."""

from __future__ import annotations

import re

__all__ = ["MODEL_NAME", "unsafe_file_name"]

#: A model name: words of letters, digits, `.`, `_`, `-`, optionally grouped by `/`.
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")

_MAX_PART = 200  # a temporary name adds a suffix, and most file systems stop at 255 bytes
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
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
    return None
