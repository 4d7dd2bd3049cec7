"""The state of one registry that all operations share: catalogs, families, plugin hooks and cache."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from registry.base.names import can_be_path, user_path
from registry.base.settings import cache_folders
from registry.base.stamps import Stamp, stamp
from registry.base.thread_lock import ForkSafeLock
from registry.catalog.catalog import Catalog
from registry.catalog.layers import CatalogSource, LayerKind, file_source, looked_at, outer_sources, signature
from registry.catalog.shelf import FOLDER as CATALOGS
from registry.errors import CatalogError, ConfigError, UnknownModel, warn
from registry.families.hooks import PluginHooks
from registry.families.host import PluginHost, where_a_model_is
from registry.families.transports import TransportPlugins
from registry.lockfile.hold import Locking
from registry.model_registry.request import Request

if TYPE_CHECKING:
    from registry.catalog.entry import ModelEntry
    from registry.store.cache import Cache
    from registry.store.events import Observer
    from registry.store.probe import Inquiry
    from registry.store.store import Store
    from registry.store.target import Target

__all__ = ["Access", "Environment", "PathLike"]

PathLike = str | os.PathLike[str]


class Access(NamedTuple):
    """How one operation may access files. None means that environment variables decide."""

    cache_dir: PathLike | None = None
    offline: bool | None = None
    locked: bool | str | None = None
    refresh: bool = False
    #: URL scheme to proxy; these override the proxies of the environment.
    proxies: Mapping[str, str] | None = None


class Environment:
    """Catalogs, families, hooks and cache. It can be pickled and uses the same catalogs after unpickling elsewhere."""

    def __init__(
        self,
        catalogs: Sequence[PathLike] = (),
        cache_dir: PathLike | None = None,
        plugins: PluginHost | None = None,
        observers: Sequence[Observer] = (),
        lock_file: PathLike | None = None,
    ) -> None:
        """Arguments are those of `ModelRegistry`. Catalogs and plugins are read at first use."""
        self._catalogs = tuple(user_path(path).absolute() for path in catalogs)
        for path in self._catalogs:
            if not os.path.exists(path):  # noqa: PTH110  # Path.exists raises where the system does not take the path
                raise CatalogError("the catalog is expected to exist, but does not", file=str(path))
        self._cache_dir = user_path(cache_dir).absolute() if cache_dir else None
        self.families = PluginHost() if plugins is None else plugins
        self.hooks = PluginHooks()
        self.locking = Locking(self.families, user_path(lock_file).absolute() if lock_file else None)
        self._observers = tuple(observers)
        self._transports = TransportPlugins()
        self._frozen: tuple[tuple[LayerKind, str], ...] | None = None
        self._lock = ForkSafeLock()
        self._catalog: tuple[object, Catalog] | None = None

    def __getstate__(self) -> dict[str, Any]:
        outer = [(source.kind, source.path) for source in self.outer_sources()]
        state = {"catalogs": self._catalogs, "cache_dir": self._cache_dir, "frozen": tuple(outer)}
        return {**state, "lock": self.locking.maybe_path(), "registered": self.families.registered()}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__init__(state["catalogs"], state["cache_dir"])  # type: ignore[misc]  # each process discovers its own families
        self._frozen = state["frozen"]
        self.locking.freeze(state["lock"])
        for family in state["registered"]:
            self.families.register(family)

    # -- names ---------------------------------------------------------------------------------------------------------

    @property
    def catalog(self) -> Catalog:
        """The merged catalog. It is read again after one of its files changed."""
        with self._lock:
            now = signature(sources := self.catalog_sources())
            if self._catalog is None or self._catalog[0] != now:
                self._catalog = now, Catalog(sources, cache_folders(self._cache_dir)[0] / CATALOGS)
            return self._catalog[1]

    def resolve(self, name: str) -> ModelEntry:
        """Return the entry of a name.

        Raises:
            UnknownModel: when no catalog has the name; the error names close ones.
            CatalogError: when its entry is broken.
        """
        if (entry := self.catalog.maybe_resolve(name)) is None:
            raise self.unknown(name)
        return entry

    def unknown(self, name: str) -> UnknownModel:
        """Return the error for a name that no catalog has."""
        return where_a_model_is(self.catalog.unknown(name), self.families.names())

    def catalog_sources(self) -> list[CatalogSource]:
        """Return the existing catalog files, lowest layer first, without reading them."""
        return [*self.families.catalog_sources(), *self.outer_sources()]

    def outer_sources(self) -> list[CatalogSource]:
        """Return the catalog files of the layers above the families, lowest layer first."""
        if self._frozen is not None:
            return [file_source(kind, path) for kind, path in self._frozen]
        return outer_sources(self._catalogs)

    def catalog_stamps(self, name: str) -> tuple[Stamp, ...]:
        """Return stamps of all files that decide what a name means, including missing catalogs and paths of that name."""
        paths = [*looked_at(), *(source.path for source in self.catalog_sources())]
        path = str(user_path(name).absolute())
        return tuple(map(stamp, dict.fromkeys([*paths, path, f"{path}.index"])))

    # -- files ---------------------------------------------------------------------------------------------------------

    def cache(self, cache_dir: PathLike | None) -> Cache:
        """Return the cache: the one of this call, else of this registry, else of the environment variables."""
        from registry.store.cache import Cache

        return Cache(cache_folders(cache_dir or self._cache_dir))

    def store(self, access: Access) -> Store:
        """Return a store for one operation."""
        from registry.base.settings import is_offline
        from registry.store.progress import default_observers
        from registry.store.store import Store

        return Store(
            self.cache(access.cache_dir),
            offline=is_offline(access.offline),
            hosts=lambda: self.catalog.hosts,
            refresh=access.refresh,
            proxies=access.proxies,
            observers=(*default_observers(), *self._observers),
            transports=self._transports.maybe_make,
            verifiers=self.hooks.verifiers(),
        )

    def probe(self, offline: bool | None) -> Inquiry:
        """Return a probe, which asks sources what they have without downloading files."""
        from registry.base.settings import is_offline
        from registry.store.probe import Inquiry

        return Inquiry(lambda: self.catalog.hosts, offline=is_offline(offline), transports=self._transports.maybe_make)

    def open(self, name_or_path: PathLike, access: Access) -> Request:
        """Start an operation on a name, path or URL. Use the result as a context manager.

        Raises:
            UnknownModel, CatalogError, ConfigError: for the name.
        """
        return Request(self, self.locate(name_or_path, access.locked), access)

    def locate(self, name_or_path: PathLike, locked: bool | str | None = False) -> Target:
        """Return the target of a name, path or URL. A plain word is looked up as a name first; `./word` is always a path.

        `locked` is as in `ModelRegistry.load`. When it is on, the target accepts only what the lock file lists.
        """
        if not isinstance(name_or_path, str | os.PathLike) or not (text := str(os.fspath(name_or_path))):
            raise ConfigError(f"a model is expected to be a name, path or URL, but is {name_or_path!r}")
        target = self._target(text, is_path=not isinstance(name_or_path, str), locked=locked)
        if target.file is not None:
            from registry.checkpoint.archives.unpacked import find_archive

            target = find_archive(target)
        if target.folder is not None:
            from registry.checkpoint.save import refuse_unfinished

            refuse_unfinished(target.folder)
        return self.locking.hold(target, locked)

    def _target(self, text: str, *, is_path: bool, locked: bool | str | None) -> Target:
        from registry.base.urls import is_url
        from registry.store.target import entry_target, maybe_path_target, url_target

        if is_url(text):
            return url_target(text)
        is_word = not is_path and not text.startswith((".", "/", "~", os.sep))
        entry = self.catalog.maybe_resolve(text) if is_word else None
        there = maybe_path_target(user_path(text), text) if can_be_path(text) else None
        if entry is not None:
            if there is not None:
                warn(f"{text!r} is both a model's name and a path; the name is used, write './{text}' for the path")
            return entry_target(entry)
        if there is not None:
            if is_word:
                self.locking.refuse_path(text, locked)
            return there
        raise self.unknown(text)
