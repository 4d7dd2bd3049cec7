"""What the cache holds, and what may go."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from registry.errors import (
    RegistryError,
    UnknownModel,
    warn,
)

if TYPE_CHECKING:
    from registry.store.check import FileCheck
    from registry.store.contents import CacheContents
    from registry.store.upkeep import Pruned
from registry.model_registry.files import Files
from registry.model_registry.names import PathLike

__all__ = ["Upkeep"]


class Upkeep(Files):
    """Verify, evict and prune."""

    def cached_models(self, cache_dir: PathLike | None = None) -> list[CacheContents]:
        """Return what each folder of the cache holds: first the one that is written, then the read-only tiers."""
        from registry.store.cache import Cache
        from registry.store.contents import contents

        return [contents(Cache((root,))) for root in self._cache(cache_dir).folders]

    def verify(self, names: Sequence[str] = (), *, repair: bool = False, cache_dir: PathLike | None = None) -> list[FileCheck]:
        """Hash files of the cache anew, and return what each was found to be.

        Args:
            names: of the models to look at; by default everything in the cache.
            repair: put away what is damaged, and fetch those models anew that have a name; the environment decides
                whether the network may be used. What cannot be fetched is warned of.
            cache_dir: the cache folder for this call.

        Raises:
            UnknownModel: when neither catalogs nor cache have a name.
            CacheError: when damage cannot be put away.
        """
        from dataclasses import replace

        from registry.store.check import verify

        held = [digests for name in names for digests in self._held(name, cache_dir)[1]]
        checks = list(verify(self._cache(cache_dir), held if names else None, repair=repair))
        wrong = {(check.model, None if check.in_folder else check.name) for check in checks if check.state != "ok" and repair}
        right = {what for what in wrong if self._fetched_anew(*what, cache_dir)}
        return [
            replace(check, state="repaired")
            if check.state != "ok" and (check.model, None if check.in_folder else check.name) in right
            else check
            for check in checks
        ]

    def evict(self, name: str, *, cache_dir: PathLike | None = None) -> Pruned:
        """Remove a model from the cache: its files, and what its URLs were trusted for. What other models share stays.

        Args:
            name: of the model, or what the cache calls it when no catalog has it any more.
            cache_dir: the cache folder for this call.

        Raises:
            UnknownModel: when neither catalogs nor cache have the name.
        """
        from registry.store.upkeep import remove

        label, digests, urls = self._held(name, cache_dir)
        return remove(self._cache(cache_dir), [label], digests, urls)

    def prune(
        self,
        *,
        max_size: int | None = None,
        older_than: float | None = None,
        dry_run: bool = False,
        cache_dir: PathLike | None = None,
    ) -> Pruned:
        """Remove what is of no use from the cache; see `registry.store.upkeep.prune` for what that is.

        Args:
            max_size: bytes that may stay; the least recently used goes first.
            older_than: seconds; what was not used for longer goes.
            dry_run: only report; nothing is written.
            cache_dir: the cache folder for this call.

        Raises:
            CacheError: when the cache cannot be written.
        """
        from registry.store.upkeep import prune

        return prune(self._cache(cache_dir), max_size, older_than, dry_run=dry_run)

    def _held(self, name: str, cache_dir: PathLike | None) -> tuple[str, set[str], set[str]]:
        """Return what the cache calls a model, digests of what it may hold of it, and URLs; only records are read."""
        from registry.families.family import DEFAULT_FILES
        from registry.pretrained.tokenizer import TOKENIZER_FILES
        from registry.store.inventory import take_inventory

        labels = take_inventory(self._cache(cache_dir)).labels()
        try:
            target = self._locate(name)
        except UnknownModel:
            if name in labels:
                return name, labels[name], set()
            raise
        described = None
        with contextlib.suppress(RegistryError):  # the files of a family that is not there any more can be removed, too
            described = self._family_of(target, None)
        listed = (described.files if described else DEFAULT_FILES).values()
        files = {*target.place.pins, *(file for names in listed for file in names), *TOKENIZER_FILES}
        files.update(filter(None, [target.archive]))
        with self._store(cache_dir, True, False) as store:
            known = {store.known_sha256(target.place, file) for file in files}
            urls = store.addresses(target.place, files)
        return target.label, labels.get(target.label, set()) | {digest for digest in known if digest}, urls

    def _fetched_anew(self, model: str, file: str | None, cache_dir: PathLike | None) -> bool:
        """Fetch a file of a model, or None for its folder; return whether it is here now."""
        try:
            if file is None:
                return self.fetch(model, cache_dir=cache_dir).is_dir()
            target = self._locate(model)
            with self._store(cache_dir, None, False) as store:
                if store.get(target.place, file) is not None:
                    return True
            why = "no source has it"
        except RegistryError as error:
            why = str(error)
        what = f"{file or 'the folder'} of {model!r}" if model else "a file of no known model"
        warn(f"{what} was put away and cannot be fetched anew: {why}")
        return False
