"""Records which package provided which names, so that an error can name the package after it is uninstalled."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from registry.base.files import write_private
from registry.base.regular import no_link
from registry.catalog.entry import CatalogFile
from registry.catalog.packed import Record

__all__ = ["ENDING", "Provider", "is_left_behind", "remember", "remembered"]

_FORMAT = 1
#: The suffix of these files.
ENDING = ".names.json"

#: A distribution and its version.
Provider = tuple[str, str]


def remember(
    folder: Path,
    providers: Sequence[Provider],
    records: Sequence[tuple[int, Record]],
    texts: Mapping[int, CatalogFile],
) -> None:
    """Record the names that installed packages provide. Records of uninstalled packages are kept.

    Args:
        folder: of packed catalogs.
        providers: the distribution of each file, in order, including the registry itself.
        records: the names, each with the number of its file.
        texts: further files, by number.
    """
    names: dict[int, list[str]] = {number: [] for number in range(len(providers))}
    for number, record in records:
        names[number].append(json.loads(record.name))
    for number, file in texts.items():
        names[number] += file.entries
    here: dict[str, dict[str, Any]] = {}
    for number, (distribution, version) in enumerate(providers):
        # An unreadable file does not show which names it had, so its records are kept.
        if distribution and (names[number] or number not in texts):
            brought = here.setdefault(distribution, {"version": version, "names": []})
            brought["names"] = sorted({*brought["names"], *names[number]})
    before = _read(folder)
    now = {**before, **here}
    if now != before:
        said = {"format": _FORMAT, "environment": sys.prefix, "distributions": now}
        write_private(_path(folder), json.dumps(said, separators=(",", ":")).encode())


def remembered(folder: Path, name: str) -> Provider | None:
    """Return the package that provided a name most recently, or None."""
    for distribution, said in _read(folder).items():
        if name in said["names"]:
            return distribution, said["version"]
    return None


def is_left_behind(path: Path) -> bool:
    """Whether a file belongs to a Python environment that was removed. False for an unreadable file."""
    try:
        said = json.loads(path.read_bytes())
        return said["format"] == _FORMAT and not Path(said["environment"]).exists()
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False


def _path(folder: Path) -> Path:
    user = os.geteuid() if hasattr(os, "geteuid") else ""
    key = hashlib.sha256(json.dumps([user, sys.prefix]).encode()).hexdigest()[:40]
    return folder / f"{_FORMAT}-{key}{ENDING}"


def _read(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the names of each distribution and version. Empty when the file is damaged or not trusted."""
    try:
        with open(_path(folder), "rb", opener=no_link) as file:
            status = os.fstat(file.fileno())
            # Errors recommend packages from this file, so only its user may write it.
            if hasattr(os, "geteuid") and (status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o022):
                return {}
            said = json.load(file)
        found = said["distributions"]
        sound = all(
            isinstance(facts["version"], str) and all(isinstance(name, str) for name in facts["names"])
            for facts in found.values()
        )
        return found if sound and said["format"] == _FORMAT else {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
