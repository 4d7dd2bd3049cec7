"""The files of models."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from registry.catalog.names import user_path

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from registry.catalog.layers import Stamp
    from registry.checkpoint.inspection import Inspection
    from registry.pretrained.survey import Survey
    from registry.store.cache import Cache
    from registry.store.place import StoredFile
    from registry.store.target import Target
from registry.model_registry.names import PathLike
from registry.model_registry.places import Places, survives_others
from registry.model_registry.remembered import Answer, circumstances

__all__ = ["Files"]


def _is_plain(target: Target) -> bool:
    """Whether a target is what a name alone stands for: no lock, no archive, nothing to warn of at each use."""
    entry = target.entry
    if entry is None or entry.via or entry.deprecated or target.place.lock or target.archive:
        return False
    from registry.store.target import maybe_path_target

    return maybe_path_target(user_path(entry.name), entry.name) is None


def _deciding(cache: Cache, folder: Path) -> Iterable[Stamp]:
    """Return the files of a cache on which it depends that a folder is the answer, and what is in it.

    A folder that the cache made holds the content of its blobs, so it stays right without them.
    """
    if folder.parent != cache.root / "folders":
        return cache.seen.values()
    blobs = f"{cache.root / 'blobs'}{os.sep}"
    return (stamp for path, stamp in cache.seen.items() if not path.startswith(blobs))


class Files(Places):
    """Fetch and describe files."""

    @survives_others
    def fetch(
        self,
        name_or_path: PathLike,
        *,
        family: str | None = None,
        cache_dir: PathLike | None = None,
        offline: bool | None = None,
        refresh: bool = False,
        jobs: int | None = None,
        locked: bool | str | None = None,
    ) -> Path:
        """Return a folder that holds a model's files under their conventional names, verified.

        Safe to call from every rank of a job: one process of a machine downloads, the others wait and use the same files.

        Args:
            name_or_path: a name, folder, file, URL or source.
            family: the family, where neither entry nor configuration tells.
            cache_dir: the cache folder for this call.
            offline: whether to use only what is here; by default the environment decides.
            refresh: ask anew for what was found before.
            jobs: how many files to bring at once; by default 4.
            locked: as in `load`.
        """
        asked = before = None
        if isinstance(name_or_path, str) and not refresh and (around := circumstances()) is not None:
            asked = (name_or_path, family, cache_dir and os.fspath(cache_dir), locked, around)
        answer = self._remembered.maybe_get(asked) if asked is not None else None
        if answer is None:
            if isinstance(name_or_path, str) and asked is not None:
                before = self._catalog_stamps(name_or_path)
            target = self._locate(name_or_path, locked)
            with self._store(cache_dir, offline, refresh) as store:
                parts = self._parts(target, store)
                files = parts.all_files(self._family_of_parts(parts, family), jobs)
                folder = store.folder(target.label, files, alone=bool(target.place.lock))
            answer = Answer(target.label, folder, tuple((file.name, folder / file.name) for file in files))
            if asked is not None and before is not None and store.repeatable and _is_plain(target):
                self._remembered.keep(asked, (*before, *_deciding(store.cache, folder)), answer)
        self._hooks.tell("registry_fetched", model=answer.label, files=dict(answer.files))
        return answer.folder

    @survives_others
    def fetch_file(
        self,
        name_or_path: PathLike,
        file: str,
        *,
        cache_dir: PathLike | None = None,
        offline: bool | None = None,
    ) -> Path:
        """Return one verified file that stands beside a model's own, such as a corpus.

        Args:
            name_or_path: a name, folder, URL or source.
            file: the file's name there.
            cache_dir: the cache folder for this call.
            offline: whether to use only what is here; by default the environment decides.

        Raises:
            DownloadError: when there is no such file; otherwise as `load`.
        """
        target = self._locate(name_or_path, None)
        with self._store(cache_dir, offline, False) as store:
            parts = self._parts(target, store)
            described = self.families.maybe_get(target.entry.family) if target.entry is not None else None
            if described is not None:
                parts.require_counting(file, described)
            return parts.need((file,), "file").path

    @survives_others
    def inspect(
        self,
        name_or_path: PathLike,
        *,
        family: str | None = None,
        cache_dir: PathLike | None = None,
        offline: bool | None = None,
    ) -> Inspection:
        """Return what a model's weights are, by their own names; values are not read. Arguments as in `fetch`.

        Raises:
            CheckpointError: when they are damaged; what would be refused as unsafe is described.
        """
        target = self._locate(name_or_path, None)
        with self._store(cache_dir, offline, False) as store:
            parts = self._parts(target, store)
            return parts.inspect(self._family_of(parts.target, family))

    @survives_others
    def survey(
        self,
        source: str,
        *,
        family: str | None = None,
        pin: bool = False,
        cache_dir: PathLike | None = None,
        offline: bool | None = None,
    ) -> Survey:
        """Return what a folder or archive that has no name yet holds: family, head, files with their sizes and hashes.

        Large files are not fetched, unless `pin` is set and their place does not tell their hash. Other arguments as in
        `fetch`; raises what `registry.pretrained.survey.survey` does.
        """
        from dataclasses import replace

        from registry.base.urls import redact
        from registry.catalog.entry import ModelEntry
        from registry.checkpoint.unpacked import find_archive
        from registry.pretrained.survey import survey
        from registry.store.inquiry import Inquiry
        from registry.store.place import is_offline
        from registry.store.target import entry_target

        target = find_archive(entry_target(ModelEntry(name=redact(source), family=family or "", source=source)))
        inquiry = Inquiry(lambda: self.catalog.hosts, offline=is_offline(offline), transports=self._transports.maybe_make)
        with inquiry, self._store(cache_dir, offline, refresh=True) as store:
            return survey(replace(target, entry=None), store, inquiry, self.families, family, pin=pin)

    def cached_files(self, name_or_path: PathLike, *, cache_dir: PathLike | None = None) -> dict[str, StoredFile]:
        """Return those files of a model that are on this machine, by name; never touches the network.

        Of an archive that was not unpacked yet it is the archive.
        """
        target = self._locate(name_or_path)
        here: Target | None = target
        with self._store(cache_dir, True, False) as store:
            found = {}
            if target.archive is not None:
                from registry.checkpoint.unpacked import maybe_unpacked

                found[target.archive] = store.is_cached(target.place, target.archive)
                here = maybe_unpacked(target, store)
            if here is not None:
                from registry.families.roles import side_files

                names = (self._family_of(here, None) or self._family_of_parts(self._parts(here, store), None)).files
                pins = here.place.pins
                counting = [[name for name in listed if name in pins] or listed for listed in names.values()]
                wanted = dict.fromkeys(
                    [*pins, *(name for listed in counting for name in listed), *side_files(here.listed, names)]
                )
                found |= {name: store.is_cached(here.place, name) for name in wanted}
            return {name: file for name, file in found.items() if file is not None}
