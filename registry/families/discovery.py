"""Find plugins by their installed metadata, without importing any of them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

__all__ = [
    "DISTRIBUTION",
    "GROUP",
    "EntryPoint",
    "catalog_entry_points",
    "family_entry_points",
    "hook_entry_points",
    "package_folders",
]

GROUP = "registry.families"
_HOOKS_GROUP = "registry.plugins"
_CATALOGS_GROUP = "registry.catalogs"

#: The distribution whose families are built in.
DISTRIBUTION = "pretrained-registry"


@dataclass(frozen=True)
class EntryPoint:
    """One installed entry point: `name` is the family's name, `value` its plugin module."""

    name: str
    value: str
    distribution: str
    version: str

    @property
    def package(self) -> str:
        """The top-level package that the value lies in."""
        return self.value.split(":")[0].split(".")[0]

    @property
    def builtin(self) -> bool:
        """Whether it comes with the registry itself."""
        return self.distribution == DISTRIBUTION


def family_entry_points() -> list[EntryPoint]:
    """Return the installed families, built-in ones first, without those that are switched off.

    `REGISTRY_PLUGINS_DISABLED` lists, separated by commas, families, distributions or `distribution:family`.
    """
    return _entry_points(GROUP)


def hook_entry_points() -> list[EntryPoint]:
    """Return the installed plugins that want to know what happens, without those that are switched off as families are."""
    return _entry_points(_HOOKS_GROUP)


def catalog_entry_points() -> list[EntryPoint]:
    """Return the packages that bring a catalog, by distribution, without those that are switched off as families are."""
    return _entry_points(_CATALOGS_GROUP)


def _entry_points(group: str) -> list[EntryPoint]:
    disabled = {_canonical(part) for part in os.environ.get("REGISTRY_PLUGINS_DISABLED", "").split(",") if part.strip()}
    return [
        entry
        for entry in _installed(tuple((path, _changed(path)) for path in sys.path))[group]
        if not disabled & {_canonical(entry.name), entry.distribution, f"{entry.distribution}:{_canonical(entry.name)}"}
    ]


@lru_cache(maxsize=1)
def _installed(path: tuple[tuple[str, int], ...]) -> Mapping[str, list[EntryPoint]]:
    """Return the entry points of each group; `path` is `sys.path` with what changes when a package comes or goes."""
    everything, installed = metadata.entry_points(), {}
    for group in (GROUP, _HOOKS_GROUP, _CATALOGS_GROUP):
        found: dict[tuple[str, str], EntryPoint] = {}
        for point in everything.select(group=group):
            # What a failed uninstall leaves behind has neither name nor version.
            distribution = _canonical((point.dist and point.dist.name) or "unknown")
            entry = EntryPoint(point.name, point.value, distribution, (point.dist and point.dist.version) or "")
            # Stale metadata of the same distribution is not a rival; the first on sys.path is the one that imports.
            found.setdefault((distribution, point.name), entry)
        installed[group] = sorted(found.values(), key=lambda entry: (not entry.builtin, entry.distribution, entry.name))
    return installed


def _changed(path: str) -> int:
    try:
        return Path(path or ".").stat().st_mtime_ns
    except OSError:
        return 0


def package_folders(package: str) -> Iterable[Path]:
    """Yield the folders of an installed top-level package without importing it."""
    if package in sys.modules:
        paths = getattr(sys.modules[package], "__path__", None) or ()
    else:
        try:
            spec = find_spec(package)
        except (ImportError, ValueError):  # an entry point whose value is no module path
            spec = None
        paths = (spec.submodule_search_locations if spec else None) or ()
    for path in paths:
        yield Path(path)


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
