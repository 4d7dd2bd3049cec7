"""Describe a source that has no catalog entry yet: its family, its head, its files with their sizes and hashes."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from registry.base.json_file import read_json
from registry.base.urls import redact, scheme_of
from registry.catalog.entry import FilePin
from registry.checkpoint.archives.unpacked import unpacked
from registry.checkpoint.numpy_pieces import SHAPES_NAME
from registry.checkpoint.open import INDEX_SUFFIX
from registry.errors import ConfigError, DownloadError
from registry.families.family import Family
from registry.families.host import PluginHost
from registry.families.roles import CONFIG, SIDE_FILES, WEIGHTS, as_written
from registry.loading.weights_files import Wanted, find_weights
from registry.store.probe import Inquiry
from registry.store.store import Store
from registry.store.target import StoredFile, Target

__all__ = ["Survey", "survey"]

#: A file of at most so many bytes is brought here, to be pinned, where its place does not tell its hash.
_SMALL = 10_000_000


@dataclass(frozen=True)
class Survey:
    """The description of a source."""

    #: The source, a moving revision of the hub replaced by its commit.
    source: str
    family: Family
    #: The head that the configuration says its weights are of, where it is one of the family's.
    head: str | None
    #: Every file of the model, with what is known of it.
    files: Mapping[str, FilePin] = field(default_factory=dict)

    @property
    def unpinned(self) -> tuple[str, ...]:
        """The files without a known hash."""
        return tuple(name for name, pin in self.files.items() if pin.sha256 is None)


def survey(
    target: Target, store: Store, inquiry: Inquiry, families: PluginHost, family: str | None = None, *, pin: bool = False
) -> Survey:
    """Describe a source. A large file is fetched only to pin it, when the source does not provide its hash.

    Args:
        target: of the source, with no entry.
        store: brings what is small.
        inquiry: asks about the rest.
        families: the installed families.
        family: the family's name, where the configuration does not tell it.
        pin: bring every file here whose hash is not known.

    Raises:
        UnknownFamily, PluginError: for the family.
        DownloadError, OfflineError: when files that a model needs are not there, or the place cannot be asked.
        ConfigError: when nothing tells the family.
    """
    source = target.place.sources[0]
    described = families.get(family) if family is not None else None
    names = described.files["config"] if described is not None else ("config.json",)
    # One commit from the first question to the last, whatever is pushed meanwhile.
    source = inquiry.at_commit(source, target.archive or names[0])
    target = replace(target, place=replace(target.place, sources=(source,)))
    asked = _Asked(target, store, inquiry, pin=pin)
    if target.archive is not None:
        return _survey_archive(target, asked, families, described, store)
    config, described = asked.config(described, families)
    configuration = asked.taken()
    asked.weights(described)
    weights = asked.taken()
    asked.others(described)
    return Survey(source, described, _head(config, described), weights | configuration | asked.taken())


def _survey_archive(target: Target, asked: _Asked, families: PluginHost, described: Family | None, store: Store) -> Survey:
    """Look at an archive, and into it where it is here anyway."""
    assert target.archive is not None
    source = f"{target.place.sources[0].rstrip('/')}/{target.archive}"
    found = asked.need((target.archive,), "archive")
    head = None
    if found.path != Path(found.name):
        config, described = _Asked(unpacked(target, store), store, asked.inquiry, pin=False).config(described, families)
        head = _head(config, described)
    elif described is None:
        raise ConfigError(
            f"family of {redact(source)} is expected to be given, because the archive is too large to be looked into by the "
            "way, but is not; give --family, or --pin to fetch it"
        )
    return Survey(source, described, head, asked.taken())


class _Asked:
    """The files that were asked for, and what is known of each."""

    def __init__(self, target: Target, store: Store, inquiry: Inquiry, *, pin: bool) -> None:
        self.target = target
        self.inquiry = inquiry
        self.pin = pin
        self._pins: dict[str, FilePin] = {}
        self._store = store
        self._lock = threading.Lock()

    def taken(self) -> dict[str, FilePin]:
        """Return what was found since the last time, by name."""
        found = dict(sorted(self._pins.items()))
        self._pins.clear()
        return found

    def config(self, described: Family | None, families: PluginHost) -> tuple[Mapping[str, Any], Family]:
        """Return the configuration and the family, as it says where that is not known."""
        names = described.files["config"] if described is not None else ("config.json",)
        file = self._first(names, whole=True)
        if file is None:
            if described is not None and "numpy" in described.converters:  # a release without a configuration
                return {}, described
            raise self._none(names, "configuration", "" if described else "; give --family where its file has another name")
        config = read_json(file.path)
        if described is None:
            name = config.get("model_type")
            if not isinstance(name, str):
                raise ConfigError(
                    f"configuration of {self.target.label!r} is expected to name its model_type, but does not; give --family"
                )
            described = families.get(name)
        return config, described

    def weights(self, described: Family) -> None:
        """Ask for the weights, of whatever form; of shards each."""
        find_weights(
            self._store, self.target, Wanted.of(described, described.files["weights"]), self.need, files=described.files
        )

    def others(self, described: Family) -> None:
        """Ask for the vocabulary and what stands beside it: the entry names files, so that only those will be used."""
        sides = {name: self._first((name,), whole=name == SIDE_FILES[0]) for name in SIDE_FILES}
        settings = {name: file.path for name, file in sides.items() if file is not None}
        for role, names in as_written(described.files, settings).items():
            if role not in (CONFIG, WEIGHTS):
                self._first(names)

    def need(self, candidates: Sequence[str], what: str) -> StoredFile:
        """Return the first of some files that is there; what only lists others is brought here to be read."""
        found = self._first(candidates, whole=what == "piece of the weights")
        if found is None:
            raise self._none(candidates, what)
        return found

    def _first(self, candidates: Sequence[str], *, whole: bool = False) -> StoredFile | None:
        for name in candidates:
            resource = self.inquiry.describe(self.target.place.sources[0], name)
            if resource is None:
                continue
            is_list = name.endswith((INDEX_SUFFIX, ".index")) or name == SHAPES_NAME
            # Of a small file the hub tells only git's hash; it is small because git keeps it itself.
            small = resource.git_sha1 is not None or (resource.size is not None and resource.size <= _SMALL)
            known = resource.sha256 is not None and resource.size is not None
            if resource.path is not None:
                pinned = self.pin or scheme_of(self.target.place.sources[0]) == "package"  # which is not changed in place
                sha256 = self._store.sha256_of(StoredFile(name, resource.path)) if pinned else None
                self._note(name, FilePin(sha256, resource.size))
                return StoredFile(name, resource.path)
            if whole or is_list or (not known and (small or self.pin)):
                file = self._store.get(self.target.place, name)
                if file is None:  # it was there a moment ago
                    continue
                self._note(name, FilePin(self._store.sha256_of(file), file.path.stat().st_size))
                return file
            self._note(name, FilePin(resource.sha256, resource.size))
            return StoredFile(name, Path(name))
        return None

    def _note(self, name: str, pin: FilePin) -> None:
        with self._lock:
            self._pins[name] = pin

    def _none(self, candidates: Sequence[str], what: str, advice: str = "") -> DownloadError:
        where = redact(self.target.place.sources[0])
        names = " or ".join(candidates)
        return DownloadError(
            f"{what} of {self.target.label!r} is expected to be {names} at {where}, but there is none{advice}",
            url=where,
            status=404,
        )


def _head(config: Mapping[str, Any], described: Family) -> str | None:
    """Return the head whose class the configuration names."""
    named = config.get("architectures")
    classes = named if isinstance(named, list) else []
    heads = (head for cls in classes for head, path in described.heads.items() if path.partition(":")[2] == cls)
    return next(heads, None)
