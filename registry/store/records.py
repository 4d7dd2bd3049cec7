"""The small records of a cache: what is noted of a blob and of a URL, under which name, and whether it can be believed."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple

from registry.base.regular import NO_TRAP

__all__ = [
    "BELIEVED",
    "OF_LOCK",
    "VERSION",
    "About",
    "Ref",
    "about_of",
    "read_json",
    "ref_name",
    "ref_of",
    "stamp_fits",
    "stamp_path",
]

#: The version of every record in the cache.
VERSION = 1
#: The trust of what only a lock file says: it counts while the network is off, where nothing better is known.
OF_LOCK = "lock"
#: What is not enough where pins are required: the word of a plain server, or of the hub library's cache.
BELIEVED = frozenset({"first-use", "hub-cache"})


class Ref(NamedTuple):
    """What a URL was found to be. `trust` says by whose word: `catalog`, `hub`, `hub-cache`, `first-use` or `lock`."""

    url: str
    sha256: str = ""
    size: int = 0
    trust: str = ""
    #: True when the server said that there is no such file.
    absent: bool = False
    #: For a moving revision of a hub repository: the commit it stood for.
    commit: str = ""
    #: For a file in place: its time when it was hashed.
    mtime_ns: int = 0


class About(NamedTuple):
    """What a blob is, for people: the model and file name that it was first brought for, and from where."""

    model: str = ""
    name: str = ""
    url: str = ""


#: Bytes: what is longer is no record.
_MOST = 64 << 20
_BLANK = Ref("")._asdict()


def stamp_path(blob: Path) -> Path:
    """Return where the stamp of a blob stands."""
    return blob.with_name(f"{blob.name}.json")


def stamp_fits(stamp: Mapping[str, Any] | None, stat: os.stat_result) -> bool:
    """Whether a blob is still what it was when its stamp was written."""
    return stamp is not None and (stamp.get("size"), stamp.get("mtime_ns")) == (stat.st_size, stat.st_mtime_ns)


def ref_name(url: str) -> str:
    """Return where the record of a URL stands, below the folder of a cache."""
    key = hashlib.sha256(url.encode()).hexdigest()
    return f"refs/{key[:2]}/{key}.json"


def ref_of(url: str, data: Mapping[str, Any]) -> Ref | None:
    """Return the record of a URL, or None when a value of it cannot be right."""
    known = {key: value for key, value in data.items() if key in _BLANK and key != "url"}
    if any(type(value) is not type(_BLANK[key]) for key, value in known.items()):
        return None
    ref = Ref(url, **known)
    usable = re.fullmatch(r"[0-9a-f]{64}", ref.sha256) if ref.sha256 else ref.absent or ref.commit
    return ref if usable else None


def about_of(stamp: Mapping[str, Any] | None) -> About:
    """Return what a stamp says of its blob, as far as that can be right."""
    said = {key: (stamp or {}).get(key, "") for key in ("model", "name", "url")}
    return About(**{key: value for key, value in said.items() if isinstance(value, str)})


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a small record; a damaged one, or one of a newer version of this library, is as if absent."""
    try:
        # A file object would cost as much as the rest. What another user may have put here is not followed or waited for.
        descriptor = os.open(path, os.O_RDONLY | NO_TRAP)
        try:
            status = os.fstat(descriptor)
            data = json.loads(os.read(descriptor, min(status.st_size, _MOST))) if S_ISREG(status.st_mode) else None
        finally:
            os.close(descriptor)
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) and data.get("version") == VERSION else None
