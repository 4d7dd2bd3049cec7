"""From what a user names to the place of its files, the store that brings them, and the family that reads them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from registry.catalog.names import user_path
from registry.errors import (
    ConfigError,
    RegistryError,
    UnknownFamily,
    warn,
)
from registry.model_registry.names import Names, PathLike

if TYPE_CHECKING:
    from registry.families.family import Family
    from registry.pretrained.assembly import Assembly
    from registry.pretrained.config import PretrainedConfig
    from registry.store.store import Store
    from registry.store.target import Target

__all__ = ["Places", "shared_by_ranks", "survives_others"]

#: How often something is tried that other processes can spoil.
_TRIES = 5

_Method = TypeVar("_Method", bound=Callable[..., Any])


def survives_others(method: _Method) -> _Method:
    """Do an operation anew when another process prunes the cache below it, or saves into the folder that it reads."""

    @functools.wraps(method)
    def tried(*args: Any, **kwargs: Any) -> Any:
        for _ in range(_TRIES - 1):
            try:
                return method(*args, **kwargs)
            except RegistryError as error:
                if not _is_passing(error):
                    raise
        return method(*args, **kwargs)

    return cast(_Method, tried)


def _is_passing(error: RegistryError) -> bool:
    """Whether an error is of what another process did meanwhile."""
    from registry.store.place import Replaced
    from registry.store.store import Vanished

    return isinstance(error, Vanished | Replaced)


def shared_by_ranks(method: _Method) -> _Method:
    """Let an operation that is given a `mesh` be one of all its ranks; without one, no process group is looked at."""

    @functools.wraps(method)
    def shared(*args: Any, mesh: Any = None, parallel: str | None = None, broadcast: bool = False, **kwargs: Any) -> Any:
        if mesh is None and parallel is None and not broadcast:
            return method(*args, **kwargs)
        from registry.pretrained.sharded import checked_mesh

        checked = checked_mesh(mesh, parallel, kwargs.get("device"))
        from registry.pretrained.ranks import Ranks

        name = next((arg for arg in args if isinstance(arg, str | os.PathLike)), "weights")
        with Ranks(checked, f"load {str(name)!r}") as ranks:
            return method(*args, broadcast=broadcast, _ranks=ranks, **kwargs)

    return cast(_Method, shared)


class Places(Names):
    """What every operation begins with."""

    def _store(
        self, cache_dir: PathLike | None, offline: bool | None, refresh: bool, proxies: Mapping[str, str] | None = None
    ) -> Store:
        from registry.store.place import is_offline
        from registry.store.progress import default_observers
        from registry.store.store import Store

        return Store(
            self._cache(cache_dir),
            offline=is_offline(offline),
            hosts=lambda: self.catalog.hosts,
            refresh=refresh,
            proxies=proxies,
            observers=(*default_observers(), *self._observers),
            transports=self._transports.maybe_make,
            verifiers=self._hooks.verifiers(),
        )

    def _parts(self, target: Target, store: Store) -> Assembly:
        """Return what can be put together from a target; an archive is fetched and unpacked first."""
        from registry.pretrained.assembly import Assembly  # not needed to resolve or to list names

        if target.archive is not None:
            from registry.checkpoint.unpacked import unpacked

            target = unpacked(target, store)
        return Assembly(target, store, self.families)

    def _locate(self, name_or_path: PathLike, locked: bool | str | None = False) -> Target:
        """Tell a name from a path from a URL. A word is a name first; `./word` is always a path.

        With `locked` as in `load`, whose None asks the environment, the target is held to the lock file.
        """
        if not isinstance(name_or_path, str | os.PathLike) or not (text := str(os.fspath(name_or_path))):
            raise ConfigError(f"a model is expected to be a name, path or URL, but is {name_or_path!r}")
        target = self._meant(text, is_path=not isinstance(name_or_path, str), locked=locked)
        if target.file is not None:
            from registry.checkpoint.unpacked import find_archive

            target = find_archive(target)
        if target.folder is not None:
            from registry.checkpoint.writer import refuse_unfinished

            refuse_unfinished(target.folder)
        return self._locking.hold(target, locked)

    def _meant(self, text: str, *, is_path: bool, locked: bool | str | None) -> Target:
        from registry.base.urls import is_url
        from registry.store.target import entry_target, maybe_path_target, url_target

        if is_url(text):
            return url_target(text)
        is_word = not is_path and not text.startswith((".", "/", "~", os.sep))
        entry = self.maybe_resolve(text) if is_word else None
        there = maybe_path_target(user_path(text), text)
        if entry is not None:
            if there is not None:
                warn(f"{text!r} is both a model's name and a path; the name is used, write './{text}' for the path")
            return entry_target(entry)
        if there is not None:
            if is_word:
                self._locking.refuse_path(text, locked)
            return there
        raise self._unknown(text)

    def _given(
        self,
        config: PretrainedConfig | PathLike | None,
        described: Family | None,
        store: Store,
        cls: type[PretrainedConfig] | None = None,
        *,
        locked: bool | str | None = None,
    ) -> PretrainedConfig | None:
        """Return the configuration that a caller gives, read from where it lies when it is not an object."""
        if config is None or not isinstance(config, str | os.PathLike):
            return config
        return self._parts(self._locate(config, locked), store).config(described, None, {}, cls, is_config=True)

    def _family_of(self, target: Target, family: str | None) -> Family | None:
        """Return the family where it is known before any file is read."""
        if target.entry is not None:
            if family not in (None, target.entry.family):
                raise ConfigError(
                    f"family of model {target.entry.name!r} is expected to be {target.entry.family!r}, as its entry says, "
                    f"but {family!r} was given"
                )
            try:
                return self.families.get(target.entry.family)
            except UnknownFamily as error:
                place = target.entry.origins["family"]
                raise UnknownFamily(f"{place}: {error.message}", family=error.family, known=error.known) from None
        if family is not None:
            return self.families.get(family)
        if target.folder is not None and not (target.folder / "config.json").is_file():
            # `bert_config.json`: the name of the file tells the family where nothing else does.
            for file in sorted(target.folder.glob("*_config.json")):
                described = self.families.of_config_file(file.name)
                if described is not None:
                    return described
        return None

    def _family_of_class(self, cls: type[PretrainedConfig], target: Target) -> Family | None:
        """Return the family of a class, None for a class that belongs to none, and refuse a name of another family."""
        described = self.families.maybe_get(cls.model_type)
        self._require_family(target, described, cls)
        return described

    def _require_family(self, target: Target, described: Family | None, cls: type) -> None:
        """Refuse a name whose entry is of another family than the class that is to load it."""
        if target.entry is not None and self.families.get(target.entry.family) != described:
            raise ConfigError(
                f"family of model {target.entry.name!r} is expected to be that of {cls.__name__}, but is "
                f"{target.entry.family!r}; use registry.load, or a class of that family"
            )

    def _family_of_parts(self, parts: Assembly, family: str | None) -> Family:
        """Return the family, as the configuration says where nothing else does."""
        described = self._family_of(parts.target, family)
        return described if described is not None else self.families.get(parts.config(None, None, {}).model_type)
