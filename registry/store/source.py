"""Sources: the strings that say where a model's folder or a file lies."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

__all__ = ["is_url", "redact", "scheme_of"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def is_url(text: str) -> bool:
    """Whether `text` is a URL-like source and not a path."""
    return _SCHEME.match(text) is not None


def scheme_of(source: str) -> str:
    """Return the scheme in lower case; `file` for a plain path."""
    found = _SCHEME.match(source)
    return found.group(1).lower() if found else "file"


def redact(url: str) -> str:
    """Return `url` as it may be shown: without user, password and query, which may be secrets."""
    if not is_url(url):
        return url
    try:
        parts = urlsplit(url)
    except ValueError:  # in what cannot be taken apart, nothing is known to be no secret
        return f"{scheme_of(url)}://…"
    host = parts.netloc if parts.scheme.lower() == "hf" else parts.netloc.rpartition("@")[2]  # a hub's `@` is a revision
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
