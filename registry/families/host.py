"""Hold the plugins: import the one that is asked for, and keep the failures of the others to themselves."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType
from typing import Any

from registry.catalog.layers import CatalogSource
from registry.errors import PluginConflict, PluginError, RegistryWarning, UnknownFamily
from registry.families.catalogs import family_catalogs, package_catalogs
from registry.families.discovery import EntryPoint, catalog_entry_points, family_entry_points
from registry.families.family import API_VERSION, Family
from registry.families.locks import ForkSafeLock

__all__ = ["PluginHost"]


class PluginHost:
    """The families of this environment. Reading metadata is the only work done before a family is asked for."""

    def __init__(
        self,
        entry_points: Callable[[], Iterable[EntryPoint]] = family_entry_points,
        catalogs: Callable[[], Iterable[EntryPoint]] = catalog_entry_points,
    ) -> None:
        self._find = entry_points
        self._find_catalogs = catalogs
        self._lock = ForkSafeLock()
        self._points: dict[str, list[EntryPoint]] | None = None
        self._sources: list[CatalogSource] | None = None
        self._loaded: dict[str, Family] = {}
        self._failed: dict[str, PluginError] = {}
        self._registered: dict[str, Family] = {}

    def entry_points(self) -> dict[str, list[EntryPoint]]:
        """Return family name to the entry points that claim it, the one that is used first."""
        with self._lock:
            if self._points is None:
                points: dict[str, list[EntryPoint]] = {}
                for point in self._find():
                    points.setdefault(point.name, []).append(point)
                self._points = points
            return self._points

    def names(self) -> list[str]:
        """Return the names of all families, without importing any."""
        return sorted({*self.entry_points(), *self._registered})

    def register(self, family: Family) -> None:
        """Add a family for this process only: for tests and notebooks. Packages use an entry point.

        Raises:
            PluginConflict: when the name is taken.
        """
        with self._lock:
            if family.name in self._registered or family.name in self.entry_points():
                raise PluginConflict(f"family {family.name!r} is expected to be new, but is already there", family=family.name)
            self._registered[family.name] = family

    def maybe_get(self, name: str) -> Family | None:
        """Return a family, or None when no plugin claims the name.

        Raises:
            PluginError: when the plugin that claims it cannot be used.
            PluginConflict: when two outside distributions claim it.
        """
        with self._lock:
            if name in self._registered:
                return self._registered[name]
            if name in self._failed:
                raise self._failed[name]
            if name not in self._loaded:
                claims = self.entry_points().get(name)
                if not claims:
                    return None
                try:
                    self._loaded[name] = self._load(claims)
                except PluginError as error:
                    self._failed[name] = error
                    raise
            return self._loaded[name]

    def get(self, name: str) -> Family:
        """Return a family.

        Raises:
            UnknownFamily: when no plugin claims the name.
            PluginError: as in `maybe_get`.
        """
        family = self.maybe_get(name)
        if family is None:
            known = self.names()
            close = get_close_matches(name, known, n=1)
            what = f"did you mean {close[0]!r}?" if close else "install the package that provides it"
            if not close and os.environ.get("REGISTRY_PLUGINS_DISABLED"):
                what += ", or take it out of REGISTRY_PLUGINS_DISABLED"
            raise UnknownFamily(
                f"family {name!r} is expected to be one of {', '.join(known) or 'none installed'}, but is not; {what}",
                family=name,
                known=known,
            )
        return family

    def find_class(self, name: str) -> Any | None:
        """Return the class of this name from whichever family has it, or None."""
        if (family := self.find_family(name)) is None:
            return None
        return family.load_class(next(path for path in family.class_paths() if path.endswith(f":{name}")))

    def find_family(self, class_name: str) -> Family | None:
        """Return the family that has a class of this name, or None.

        Families whose own name begins the class's name are asked first, so that usually a single plugin is imported.
        """
        wanted = class_name.casefold()

        def closeness(family: str) -> int:
            plain = family.replace("-", "").replace("_", "").casefold()
            return -len(plain) if wanted.startswith(plain) else 0

        for family_name in sorted(self.names(), key=closeness):
            try:
                family = self.get(family_name)
            except PluginError:
                continue  # reported to who asks for that family; it must not hide a class of another
            if any(path.endswith(f":{class_name}") for path in family.class_paths()):
                return family
        return None

    def catalog_sources(self) -> list[CatalogSource]:
        """Locate the models.yaml of each plugin and of each catalog package, lowest first, without importing anything."""
        with self._lock:
            if self._sources is None:
                points = [point for claims in self.entry_points().values() for point in claims]
                self._sources = [*family_catalogs(points), *package_catalogs(self._find_catalogs())]
            return self._sources

    def _load(self, claims: list[EntryPoint]) -> Family:
        point = claims[0]
        rivals = sorted({f"{claim.distribution} {claim.version}" for claim in claims if not claim.builtin})
        if point.builtin and rivals:
            warnings.warn(
                f"family {point.name!r} is built in, so that of {' and '.join(rivals)} is off; "
                f"set REGISTRY_PLUGINS_DISABLED={point.distribution}:{point.name} to use it instead",
                RegistryWarning,
                stacklevel=2,
            )
        if not point.builtin and len({claim.distribution for claim in claims}) > 1:
            names = " and ".join(f"{claim.distribution} {claim.version}" for claim in claims)
            raise PluginConflict(
                f"family {point.name!r} is expected to come from one distribution, but {names} both provide it; "
                f"uninstall one, or set REGISTRY_PLUGINS_DISABLED={claims[1].distribution}",
                family=point.name,
                distribution=point.distribution,
            )
        try:
            module = import_module(point.value.split(":")[0])
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"plugin {point.value!r} of {point.distribution} {point.version} is expected to import, "
                f"but raised {type(error).__name__}: {error}",
                family=point.name,
                distribution=point.distribution,
            ) from error
        return _call_hook(module, point)


def _call_hook(module: ModuleType, point: EntryPoint) -> Family:
    import pluggy

    from registry.families import hookspecs

    def failure(what: str) -> PluginError:
        return PluginError(
            f"plugin {point.value!r} of {point.distribution} {point.version} is expected to {what}",
            family=point.name,
            distribution=point.distribution,
        )

    api = getattr(module, "REGISTRY_API", None)
    if not isinstance(api, int):
        raise failure(f"state REGISTRY_API = {API_VERSION}, but states {api!r}")
    if api > API_VERSION:
        raise failure(f"speak version {API_VERSION} of the plugin contract, but needs {api}; upgrade pretrained-registry")
    # A manager of its own for each plugin: one plugin's hooks can neither answer nor break another's.
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module)
        manager.check_pending()
        family = manager.hook.registry_family()
    except (Exception, SystemExit) as error:
        raise failure(f"implement the hook registry_family, but raised {type(error).__name__}: {error}") from error
    if not isinstance(family, Family):
        raise failure(f"return a Family from registry_family, but returned {type(family).__name__}")
    return family
