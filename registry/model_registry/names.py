"""What names mean: the catalogs and the families of this environment."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from registry.catalog.index import Catalog
from registry.catalog.layers import CatalogSource, LayerKind, Stamp, file_source, looked_at, outer_sources, signature, stamp
from registry.catalog.names import user_path
from registry.catalog.packing import FOLDER as CATALOGS
from registry.errors import (
    CatalogError,
    UnknownModel,
    warn,
)
from registry.families.hooks import PluginHooks
from registry.families.host import PluginHost
from registry.families.locks import ForkSafeLock
from registry.families.moved import where_a_model_is
from registry.families.transports import TransportPlugins
from registry.model_registry.locking import Locking
from registry.model_registry.remembered import Remembered
from registry.store.paths import cache_folders

if TYPE_CHECKING:
    from registry.catalog.entry import ModelEntry
    from registry.families.family import Family
    from registry.pretrained.model import PreTrainedModel
    from registry.store.cache import Cache
    from registry.store.events import Observer

__all__ = ["Names", "PathLike"]

PathLike = str | os.PathLike[str]


class Names:
    """Catalogs and families, and where both come from."""

    def __init__(
        self,
        catalogs: Sequence[PathLike] = (),
        cache_dir: PathLike | None = None,
        plugins: PluginHost | None = None,
        observers: Sequence[Observer] = (),
        lock_file: PathLike | None = None,
    ) -> None:
        """Set up; catalogs and plugins are read when they are first needed.

        Args:
            catalogs: models.yaml files (or folders with one) above every other layer, the last one highest.
            cache_dir: the cache folder; by default the environment decides at each use.
            plugins: where families come from; by default the installed packages, which an unpickled registry always uses.
            observers: who is told what happens to each file (`registry.Observer`). They do not pickle with the registry.
            lock_file: what `locked=` holds names to; by default the environment decides at each use (`REGISTRY_LOCK_FILE`,
                else `models.lock` beside the project's `models.yaml`).
        """
        self._catalogs = tuple(user_path(path).absolute() for path in catalogs)
        for path in self._catalogs:
            if not path.exists():
                raise CatalogError("the catalog is expected to exist, but does not", file=str(path))
        self._cache_dir = user_path(cache_dir).absolute() if cache_dir else None
        #: The families of this environment.
        self.families = PluginHost() if plugins is None else plugins
        self._observers = tuple(observers)
        self._hooks = PluginHooks()
        self._transports = TransportPlugins()
        self._frozen: tuple[tuple[LayerKind, str], ...] | None = None
        self._lock = ForkSafeLock()
        self._locking = Locking(self.families, user_path(lock_file).absolute() if lock_file else None)
        self._catalog: tuple[object, Catalog] | None = None
        self._remembered = Remembered()

    def __getstate__(self) -> dict[str, Any]:
        outer = [(source.kind, source.path) for source in self._outer_sources()]
        state = {"catalogs": self._catalogs, "cache_dir": self._cache_dir, "frozen": tuple(outer)}
        return {**state, "lock": self._locking.maybe_path(), "registered": self.families.registered()}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__init__(state["catalogs"], state["cache_dir"])  # type: ignore[misc]  # families are found anew in every process
        self._frozen = state["frozen"]
        self._locking.freeze(state["lock"])
        for family in state["registered"]:
            self.families.register(family)

    @property
    def catalog(self) -> Catalog:
        """The merged catalog; read again when one of its files has changed."""
        with self._lock:
            now = signature(sources := self.catalog_sources())
            if self._catalog is None or self._catalog[0] != now:
                self._catalog = now, Catalog(sources, cache_folders(self._cache_dir)[0] / CATALOGS)
            return self._catalog[1]

    def resolve(self, name: str) -> ModelEntry:
        """Return what a name means: no network, no torch, no plugin's code.

        Raises:
            UnknownModel: when no catalog has the name; the error names close ones.
            CatalogError: when its entry is broken.
        """
        if (entry := self.catalog.maybe_resolve(name)) is None:
            raise self._unknown(name)
        return entry

    def maybe_resolve(self, name: str) -> ModelEntry | None:
        """Return what a name means, or None when no catalog has it."""
        return self.catalog.maybe_resolve(name)

    def list_models(self, pattern: str = "*") -> list[str]:
        """Return the names that match a shell pattern, in natural order; unusable ones are warned of and left out."""
        catalog = self.catalog
        for error in catalog.broken.values():
            warn(str(error))
        return catalog.names(pattern)

    def register(self, family: Family) -> None:
        """Add a family for this process only: for tests and notebooks. Packages use an entry point."""
        self.families.register(family)

    def find_class(self, name: str) -> Any | None:
        """Return the class of this name from whichever family has it, or None."""
        return self.families.find_class(name)

    def head_of(self, model: PreTrainedModel) -> str | None:
        """Return the name of the head that a model's class is in its family, or None when it is none."""
        family = self.families.get(model.config.model_type)
        return head_of_class(model.own_class.__name__, family)

    def catalog_sources(self) -> list[CatalogSource]:
        """Return the catalog files that there are, lowest layer first; they are only located, not read."""
        return [*self.families.catalog_sources(), *self._outer_sources()]

    def _catalog_stamps(self, name: str) -> tuple[Stamp, ...]:
        """Return what decides what a name means, as it is now: catalogs, places without one, and paths of that name."""
        paths = [*looked_at(), *(source.path for source in self.catalog_sources())]
        path = str(user_path(name).absolute())
        return tuple(map(stamp, dict.fromkeys([*paths, path, f"{path}.index"])))

    def _outer_sources(self) -> list[CatalogSource]:
        """Locate the layers above the families', lowest first."""
        if self._frozen is not None:
            return [file_source(kind, path) for kind, path in self._frozen]
        return outer_sources(self._catalogs)

    def _cache(self, cache_dir: PathLike | None) -> Cache:
        from registry.store.cache import Cache

        return Cache(cache_folders(cache_dir or self._cache_dir))

    def _unknown(self, name: str) -> UnknownModel:
        return where_a_model_is(self.catalog.unknown(name), self.families.names())


def head_of_class(name: str, family: Family) -> str | None:
    return next((head for head, path in family.heads.items() if path.partition(":")[2] == name), None)
