"""Find the installed and enabled plugins, without importing any."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.machinery import PathFinder, all_suffixes
from importlib.util import find_spec
from pathlib import Path

from registry.families.entry_points import DISTRIBUTION, EntryPoint, canonical, read_installed

__all__ = [
    "CATALOGS",
    "DISTRIBUTION",
    "FAMILIES",
    "HOOKS",
    "MOVED",
    "TRANSPORTS",
    "EntryPoint",
    "catalog_entry_points",
    "entry_points",
    "family_entry_points",
    "folders_of_packages",
    "hook_entry_points",
    "installed_entry_points",
    "is_disabled",
    "package_folders",
    "transport_entry_points",
]

#: Name: a family, or a `model_type` that it answers to. Value: its light plugin module.
FAMILIES = "registry.families"
#: Name: any. Value: a package with a models.yaml.
CATALOGS = "registry.catalogs"
#: Name: a URL scheme. Value: `module:factory`.
TRANSPORTS = "registry.transports"
#: Name: any. Value: a module with hooks, or `module:registry_verify` for a verifier.
HOOKS = "registry.plugins"
#: Name: a family. Value: the distribution that provides it now, with `_` for `-`.
MOVED = "registry.moved"

_SUFFIXES = tuple(all_suffixes())


def family_entry_points() -> list[EntryPoint]:
    """Return the enabled families, built-in ones first."""
    return entry_points(FAMILIES)


def hook_entry_points() -> list[EntryPoint]:
    """Return the enabled plugins with hooks: observers of events, and verifiers."""
    return entry_points(HOOKS)


def catalog_entry_points() -> list[EntryPoint]:
    """Return the enabled packages that provide a catalog."""
    return entry_points(CATALOGS)


def transport_entry_points() -> list[EntryPoint]:
    """Return the enabled transports."""
    return entry_points(TRANSPORTS)


def entry_points(group: str) -> list[EntryPoint]:
    """Return the enabled entry points of a group, built-in ones first, then by distribution and name."""
    points = installed_entry_points(group)
    return [point for point in points if disabled.isdisjoint(_identities(point))] if (disabled := _disabled()) else points


def installed_entry_points(group: str) -> list[EntryPoint]:
    """Return all installed entry points of a group, including disabled ones."""
    return list(_installed(tuple((path, _changed(path)) for path in sys.path)).get(group, ()))


def is_disabled(point: EntryPoint) -> bool:
    """Whether `REGISTRY_PLUGINS_DISABLED` disables an entry point.

    It lists, separated by commas, names (of families, schemes, …), distributions or `distribution:name`.
    """
    return not _disabled().isdisjoint(_identities(point))


def _disabled() -> set[str]:
    return {canonical(part) for part in os.environ.get("REGISTRY_PLUGINS_DISABLED", "").split(",") if part.strip()}


def _identities(point: EntryPoint) -> set[str]:
    name = canonical(point.name)
    return {name, point.distribution, f"{point.distribution}:{name}"}


@lru_cache(maxsize=1)
def _installed(path: tuple[tuple[str, int], ...]) -> Mapping[str, list[EntryPoint]]:
    """Return the entry points of each group; `path` is `sys.path` with what changes when a package comes or goes."""
    return read_installed([folder for folder, _ in path])


def _changed(path: str) -> int:
    try:
        return os.stat(path or os.curdir).st_mtime_ns  # noqa: PTH116
    except OSError:
        return 0


def package_folders(package: str) -> list[Path]:
    """Return the folders of an installed top-level package without importing it."""
    try:
        # A module may replace its entry in `sys.modules` by any object.
        if package in sys.modules and (folders := [Path(path) for path in sys.modules[package].__path__]):
            return folders
    except Exception:
        pass
    try:
        spec = PathFinder.find_spec(package) if package in sys.modules else find_spec(package)
    except (ImportError, ValueError):  # an entry point whose value is no module path
        spec = None
    return [Path(path) for path in (spec.submodule_search_locations if spec else None) or ()]


def folders_of_packages(packages: Iterable[str]) -> dict[str, list[Path]]:
    """Return the folders of many top-level packages, like `package_folders` for each, but much faster."""
    listed = [(folder, _listing(folder or os.curdir)) for folder in sys.path]
    return {package: _ordinary_folder(package, listed) or package_folders(package) for package in dict.fromkeys(packages)}


def _ordinary_folder(package: str, listed: Sequence[tuple[str, frozenset[str] | None]]) -> list[Path]:
    """Return a package's folder in the simple case: a regular package in the first path folder that has this name."""
    if package in sys.modules or package in sys.builtin_module_names:
        return []
    for folder, names in listed:
        if names is None:  # an archive: let the import system look
            return []
        if package in names and (path := Path(folder, package)).joinpath("__init__.py").is_file():
            return [path]
        if any(f"{package}{suffix}" in names for suffix in _SUFFIXES):
            return []
    return []


def _listing(folder: str) -> frozenset[str] | None:
    try:
        return frozenset(os.listdir(folder))  # noqa: PTH208  # only names are needed
    except NotADirectoryError:
        return None
    except OSError:
        return frozenset()
