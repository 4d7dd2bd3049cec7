"""The lock file."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from registry.catalog.names import user_path
from registry.errors import (
    CatalogError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from registry.catalog.entry import ModelEntry
    from registry.catalog.lock_file import LockedModel
    from registry.model_registry.lock_update import LockResult
from registry.model_registry.names import PathLike
from registry.model_registry.places import Places, survives_others

__all__ = ["Locks"]


class Locks(Places):
    """Lock names to their bytes."""

    def lock(
        self,
        names: Sequence[str] = (),
        *,
        file: PathLike | None = None,
        check: bool = False,
        cache_dir: PathLike | None = None,
        offline: bool | None = None,
        jobs: int | None = None,
    ) -> LockResult:
        """Fetch models as they are at their sources now, and write `models.lock`, which says what they are.

        Args:
            names: of the models; the others stay as they are locked. By default all that the project's catalogs name, and
                all that is locked already; what no catalog has any more is taken out.
            file: the lock file; by default this registry's.
            check: write nothing; the result says what is not as locked.
            cache_dir: the cache folder for this call.
            offline: whether to use only what is here; by default the environment decides.
            jobs: how many files to bring at once; by default 4.

        Raises:
            CatalogError: when the lock file is damaged or cannot be written; otherwise as `fetch`. Nothing is written then.
        """
        from hashlib import sha256

        from registry.model_registry.lock_update import update_lock

        path = user_path(file).absolute() if file else self._locking.path()
        guard = self._cache(cache_dir).root / "locks" / f"{sha256(str(path).encode()).hexdigest()}.lock"
        resolve = self.resolve if names else self._resolve_enabled
        facts = functools.partial(self._locked_facts, cache_dir=cache_dir, offline=offline, jobs=jobs)
        return update_lock(names, path, self._outer_sources(), resolve, facts, guard, check=check)

    def _resolve_enabled(self, name: str) -> ModelEntry | None:
        """Return what a name means, or None for one that no catalog has, or that is disabled."""
        try:
            return self.maybe_resolve(name)
        except CatalogError:
            if name in self.catalog.broken:
                raise
            return None

    @survives_others
    def _locked_facts(
        self, name: str, path: Path, *, cache_dir: PathLike | None, offline: bool | None, jobs: int | None
    ) -> LockedModel:
        """Fetch a model and return what a lock file at `path` says of it."""
        from registry.model_registry.lock_update import locked_facts
        from registry.store.place import is_offline

        target = self._locate(name)
        with self._store(cache_dir, offline, not is_offline(offline)) as store:
            parts = self._parts(target, store)
            described = self._family_of_parts(parts, None)
            files = parts.all_files(described, jobs)
            if parts.target.place is not target.place:  # of an archive the archive itself is locked
                files = [file for file in (store.get(target.place, target.archive or ""),) if file is not None]
            return locked_facts(target, files, store, path, self._locking.plugin(described.name))
