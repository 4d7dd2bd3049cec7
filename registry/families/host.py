"""The plugin host: imports the plugin of a requested family; broken plugins affect only their own families."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from registry.base.thread_lock import ForkSafeLock
from registry.catalog.layers import FILE_NAME, CatalogSource, LayerKind, read_limited
from registry.errors import PluginConflict, PluginError, UnknownFamily, UnknownModel, said, text_of
from registry.families.conflicts import import_plugin, named_when_slow, settle
from registry.families.discovery import (
    FAMILIES,
    MOVED,
    EntryPoint,
    catalog_entry_points,
    entry_points,
    family_entry_points,
    folders_of_packages,
    installed_entry_points,
)
from registry.families.entry_points import canonical
from registry.families.family import API_VERSION, Family

__all__ = ["PluginHost", "advice", "family_catalogs", "package_catalogs", "where_a_model_is"]


class PluginHost:
    """The families of this environment. Until a family is requested, only package metadata is read."""

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
        #: The families that this thread is importing.
        self._busy = threading.local()

    def entry_points(self) -> dict[str, list[EntryPoint]]:
        """Return family name to the entry points that claim it, starting with the one in use."""
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
        """Add a family in this process only, for tests and notebooks. Packages use an entry point.

        Raises:
            PluginConflict: when the name is taken.
        """
        with self._lock:
            if family.name in self._registered or family.name in self.entry_points():
                raise PluginConflict(f"family {family.name!r} is expected to be new, but is already there", family=family.name)
            self._registered[family.name] = family

    def registered(self) -> tuple[Family, ...]:
        """Return the families that were added for this process only."""
        return tuple(self._registered.values())

    def maybe_get(self, name: str) -> Family | None:
        """Return a family, or None when no plugin claims the name.

        Raises:
            PluginError: when the plugin that claims it cannot be used.
            PluginConflict: when two outside distributions claim it.
        """
        with self._lock:
            if (known := self._known(name)) is not None:
                return known
            claims = self.entry_points().get(name)
        if not claims:
            return None
        if name in (busy := self._busy.__dict__.setdefault("names", set())):
            raise PluginError(
                f"family {name!r} is expected to be asked for when its plugin {claims[0].value!r} is imported, but is asked "
                "for while it is; import what needs it inside of functions",
                family=name,
                distribution=claims[0].distribution,
            )
        busy.add(name)
        family: Family | None = None
        failure: PluginError | None = None
        # Without holding the lock: a plugin's import may need a lock of another thread that waits for this one. Python
        # itself ensures that a module is imported once.
        try:
            family = self._load(claims)
        except PluginError as error:
            failure = error
        finally:
            busy.discard(name)
        with self._lock:
            if (known := self._known(name)) is not None:  # another thread was faster
                return known
            if failure is not None:
                self._failed[name] = failure
                raise failure
            assert family is not None
            self._loaded[name] = family
            return family

    def of_config_file(self, name: str) -> Family | None:
        """Return the family in the name of a configuration file such as `bert_config.json`, or None."""
        return self.maybe_get(name.removesuffix("_config.json").replace("_", "-"))

    def _known(self, name: str) -> Family | None:
        """Return a family that was loaded or registered before, or raise the error that its plugin failed with."""
        if name in self._failed:
            raise self._failed[name].with_traceback(None)  # the traceback would grow at each raise
        return self._registered.get(name) or self._loaded.get(name)

    def get(self, name: str) -> Family:
        """Return a family.

        Raises:
            UnknownFamily: when no plugin claims the name.
            PluginError: as in `maybe_get`.
        """
        family = self.maybe_get(name)
        if family is None:
            from difflib import get_close_matches

            known = self.names()
            close = get_close_matches(name, known, n=1)
            what = advice(name) or (f"did you mean {close[0]!r}?" if close else "install the package that provides it")
            raise UnknownFamily(
                f"family {name!r} is expected to be one of {', '.join(known) or 'none installed'}, but is not; {what}",
                family=name,
                known=known,
            )
        return family

    def find_class(self, name: str) -> Any | None:
        """Return the class of this name from the family that has it, or None."""
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
                continue  # reported when that family is requested; it must not hide a class of another family
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
        point = settle(f"family {claims[0].name!r}", claims)
        return _call_hook(import_plugin(point), point)


def _call_hook(module: ModuleType, point: EntryPoint) -> Family:
    import pluggy

    from registry.families import hookspecs

    def failure(what: str) -> PluginError:
        return PluginError(
            f"plugin {point.value!r} of {point.release} is expected to {what}",
            family=point.name,
            distribution=point.distribution,
        )

    try:
        api = getattr(module, "REGISTRY_API", None)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # an object that replaced the module may raise anything
        raise failure(f"state REGISTRY_API = {API_VERSION}, but raised {said(error)}") from error
    if type(api) is not int or api < 1:
        raise failure(f"state REGISTRY_API = {API_VERSION}, but states {text_of(api)}")
    if api > API_VERSION:
        raise failure(f"speak version {API_VERSION} of the plugin contract, but needs {api}; upgrade pretrained-registry")
    # One plugin manager for each plugin, so that plugins cannot answer or break each other's hooks.
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module)
        manager.check_pending()
        with named_when_slow(f"plugin {point.value!r} of {point.release}"):
            family: Family = manager.hook.registry_family()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise failure(f"implement the hook registry_family, but raised {said(error)}") from error
    if not issubclass(type(family), Family):  # isinstance would call the object's own code
        raise failure(f"return a Family from registry_family, but returned {type(family).__name__}")
    return family


def family_catalogs(points: Iterable[EntryPoint], folders: Mapping[str, Sequence[Path]] | None = None) -> list[CatalogSource]:
    """Return the models.yaml in the top-level package of each family's plugin, if it has one, built-in ones first.

    `folders` are those of the packages, where they are known already.
    """
    sources: dict[str, CatalogSource] = {}
    points = list(points)
    if folders is None:
        folders = folders_of_packages(point.package for point in points)
    for point in points:
        file = None if point.package in sources else _catalog_in(folders[point.package])
        if file is not None and file.is_file():
            sources[point.package] = _source(LayerKind.FAMILY, file, point)
    return sorted(sources.values(), key=lambda source: not source.builtin)


def package_catalogs(points: Iterable[EntryPoint], folders: Mapping[str, Sequence[Path]] | None = None) -> list[CatalogSource]:
    """Return the models.yaml of each catalog package. A missing one becomes an unreadable source. `folders` as above."""
    sources: dict[str, CatalogSource] = {}
    points = list(points)
    if folders is None:
        folders = folders_of_packages(point.package for point in points)
    for point in points:
        if point.package not in sources:
            file = _catalog_in(folders[point.package]) or Path(point.package, FILE_NAME).absolute()
            sources[point.package] = _source(LayerKind.PACKAGE, file, point)
    return list(sources.values())


def _catalog_in(folders: Sequence[Path]) -> Path | None:
    """Return the path of a package's catalog, existing or not; None for a missing package."""
    there = (folder / FILE_NAME for folder in folders if (folder / FILE_NAME).is_file())
    return next(there, folders[0] / FILE_NAME if folders else None)


def _source(kind: LayerKind, file: Path, point: EntryPoint) -> CatalogSource:
    return CatalogSource(kind, str(file), partial(read_limited, file), point.builtin, point.distribution, point.version)


#: Well-known families of other libraries that have no plugin that we know of. `xlnet`, `xlm`, `roberta` and `distilbert`
#: were in the library of 2019.
_TRANSFORMERS = """
albert bart big-bird camembert ctrl deberta deberta-v2 distilbert electra falcon flaubert gemma gpt-neo gpt-neox gptj llama
longformer mbart mistral modernbert mpnet opt pegasus phi qwen2 roberta t5 xlm xlm-roberta xlnet
"""


def advice(family: str) -> str | None:
    """Return advice about a family that is not installed, or None for an unknown family.

    A package says where a family went by an entry point of group `registry.moved`: the family's name, and the distribution
    that has it now (`_` for `-`, as the form of entry points wants).
    """
    name = canonical(family)
    for point in installed_entry_points(FAMILIES):
        if canonical(point.name) == name:
            return f"{point.release} has it, but is switched off; take it out of REGISTRY_PLUGINS_DISABLED"
    for point in entry_points(MOVED):
        if canonical(point.name) == name:
            return f"as {point.release} says, it comes with another package: pip install {canonical(point.value)}"
    if name in _TRANSFORMERS.split():
        return (
            "it is not among those that come with pretrained-registry; install a plugin that provides it, write one "
            f"(registry new-family {name}), or use transformers (pip install transformers)"
        )
    return None


def where_a_model_is(error: UnknownModel, here: Collection[str]) -> UnknownModel:
    """Add advice about what to install to the error for an unknown name that begins with a known family.

    Args:
        error: as the catalog says it.
        here: the families that are here.
    """
    if error.distribution is not None:  # the error already names the package that provided this name
        return error
    name = canonical(error.name)
    moved = [canonical(point.name) for point in entry_points(MOVED)]
    known = [family for family in (*moved, *_TRANSFORMERS.split()) if name == family or name.startswith(f"{family}-")]
    for family in sorted(known, key=len, reverse=True):
        if family in map(canonical, here):
            return error
        if what := advice(family):
            message = f"{error.message}. It may be of family {family!r}: {what}"
            return UnknownModel(message, name=error.name, suggestions=error.suggestions)
    return error
