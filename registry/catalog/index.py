"""All layers as one catalog: which entry a name leads to."""

from __future__ import annotations

import copy
import fnmatch
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from registry.catalog.entry import ModelEntry, Origin
from registry.catalog.layers import INSTALLED, CatalogSource, LayerKind
from registry.catalog.names import twin_key
from registry.catalog.raw import MERGED_FIELDS, CatalogFile, Host, RawEntry, twin_message
from registry.catalog.rules import Item, guarded, refuse_hosts
from registry.catalog.shelf import Shelf
from registry.catalog.unknown import close_names, unknown_model
from registry.errors import CatalogError, UnknownModel, warn

__all__ = ["Catalog"]

#: What belongs to a source and therefore is not inherited by an entry that names its own.
_OF_SOURCE = ("mirrors", "files")

#: Names of which this process was told that they are deprecated.
_told: set[str] = set()


class _Disabled(CatalogError):
    """The name was switched off on purpose: it is not listed, and not reported as a mistake."""


class Catalog:
    """The merged layers.

    What the files say apart from their entries is read at construction, a name when it is asked for. The object is not
    changed afterwards.
    """

    def __init__(self, sources: Iterable[CatalogSource], packed: Path | None = None) -> None:
        """Take `sources`, lowest layer first; `packed` is the folder of packed catalogs, None for none."""
        self._packed = packed
        self._sources = list(sources)
        self._shelves: list[tuple[int, Shelf]] = []
        self.hosts: dict[str, Host] = {}
        #: What is wrong with files as a whole.
        self.problems: list[CatalogError] = []
        #: Name to its usable entries, highest layer first, and to what is wrong with the highest one.
        self._known: dict[str, tuple[list[RawEntry], CatalogError | None]] = {}
        start = 0
        # What packages bring is looked up together: of all files only these can be many.
        for _, group in groupby(self._sources, key=lambda source: "packages" if source.kind in INSTALLED else source):
            shelf = Shelf(together := list(group), packed)
            self._shelves.append((start, shelf))
            start += len(together)
            for source, file in zip(together, shelf.files, strict=True):
                self._take(source, file)

    def _take(self, source: CatalogSource, file: CatalogFile) -> None:
        problems = file.problems
        if source.kind is LayerKind.PROJECT:
            problems = [*problems, *refuse_hosts(file)]
        else:
            self.hosts.update(file.hosts)
        self.problems += problems
        for problem in problems:
            warn(str(problem))
        if not file.ours and file.suspicious:
            warn(f"{file.path} has `models:` but no line `registry: 1`, so it is left alone; add the line if it is a catalog")

    def _entries(self, name: str) -> tuple[list[RawEntry], CatalogError | None]:
        """Return the usable entries of a name, highest layer first, and what is wrong with the highest one."""
        if name not in self._known:
            found: list[tuple[CatalogSource, Item]] = [
                (self._sources[start + number], item) for start, shelf in self._shelves for number, item in shelf.find(name)
            ]
            self._known[name] = guarded(name, found)
        return self._known[name]

    def _all_names(self) -> set[str]:
        return {name for _, shelf in self._shelves for name in shelf.names()}

    def _read_all(self) -> set[str]:
        for _, shelf in self._shelves:
            shelf.read_all()
        return self._all_names()

    def names(self, pattern: str = "*") -> list[str]:
        """Return the usable names that match a shell pattern, in natural order; deprecated and disabled ones are left out."""
        found = [
            name
            for name in self._read_all()
            if fnmatch.fnmatchcase(name, pattern) and (stack := self._entries(name)[0]) and "deprecated" not in stack[0].fields
        ]
        return sorted((name for name in found if name not in self._unusable), key=lambda name: (_natural(name), name))

    @property
    def broken(self) -> dict[str, CatalogError]:
        """Names that cannot be resolved, with the reason: their highest entry, or one that it leads to, is unusable."""
        return {name: error for name, error in self._unusable.items() if not isinstance(error, _Disabled)}

    @cached_property
    def _unusable(self) -> dict[str, CatalogError]:
        found = {}
        for name in sorted(self._read_all()):
            if self.knows(name):
                try:
                    self._follow(name)
                except CatalogError as error:
                    found[name] = error
        return found

    def knows(self, name: str) -> bool:
        """Whether a file says anything of a name, be it usable or not."""
        return any(self._entries(name))

    def usable(self) -> list[str]:
        """Return all names that can be resolved, in no special order, deprecated ones included."""
        return [name for name in self._read_all() if self.knows(name) and name not in self._unusable]

    def peek(self, name: str) -> ModelEntry:
        """Return the entry of a known name as `resolve` does, without a warning where it is deprecated."""
        return self._follow(name)[0]

    def maybe_resolve(self, name: str) -> ModelEntry | None:
        """Return the entry of `name`, or None when no file knows the name.

        Raises:
            CatalogError: when the name is known but disabled, or its entry, or one that it leads to, is broken.
        """
        if not self.knows(name):
            return None
        entry, passed = self._follow(name)
        for raw in passed:
            self._warn_if_deprecated(raw)
        return entry

    def _follow(self, name: str) -> tuple[ModelEntry, list[RawEntry]]:
        """Return the entry that a known name leads to, and the raw entries on the way, the last one included."""
        via: list[str] = []
        passed: list[RawEntry] = []
        origins: dict[str, Origin] = {}
        raw = self._top(name, asked_from=None)
        while "alias" in raw.fields:
            passed.append(raw)
            via.append(raw.name)
            origins.setdefault("alias", raw.origins["alias"])
            target = raw.fields["alias"]
            if target in via:
                raise _at(
                    raw,
                    "alias",
                    f"alias of model {raw.name!r} leads back to itself: {' -> '.join([*via, target])}; name another",
                )
            raw = self._top(target, asked_from=(raw, "alias"))
        for one in (*passed, raw):
            self._check_replacements(one)
        fields, inherited = self._inherit(raw, ())
        for needed in ("source", "family"):
            if needed not in fields:
                raise CatalogError(
                    f"model {raw.name!r} is expected to have a {needed}, but has none; add `{needed}:` or `base:`",
                    file=raw.origin.file,
                    line=raw.origin.line,
                    column=raw.origin.column,
                )
        # Copies, so that no caller changes the catalog.
        fields |= {key: copy.deepcopy(fields[key]) for key in MERGED_FIELDS & fields.keys()}
        shadows = tuple(entry.origin for entry in self._entries(raw.name)[0][1:])
        entry = ModelEntry(name=raw.name, via=tuple(via), origins=origins | inherited, shadows=shadows, **fields)
        return entry, [*passed, raw]

    def resolve(self, name: str) -> ModelEntry:
        """Return the entry of `name`.

        Raises:
            UnknownModel: when no file knows it; the error carries names that are close.
            CatalogError: as in `maybe_resolve`.
        """
        entry = self.maybe_resolve(name)
        if entry is None:
            raise self.unknown(name)
        return entry

    def unknown(self, name: str) -> UnknownModel:
        """Return the error for a name that is in no catalog."""
        return unknown_model(name, self._all_names(), self.problems, self._packed)

    def _top(self, name: str, asked_from: tuple[RawEntry, str] | None) -> RawEntry:
        stack, error = self._entries(name)
        if error is not None:
            raise error
        if stack:
            top = stack[0]
            if "disabled" in top.fields:
                reason = f"model {name!r} is disabled: {top.fields['disabled']}"
                raise _at(
                    top, "disabled", f"{reason}; to use it, remove this entry, or redefine it in a higher layer", _Disabled
                )
            return top
        assert asked_from is not None  # a name that was asked for directly is known
        entry, field = asked_from
        close = close_names(name, self._all_names(), 1)
        meant = f"did you mean {close[0]!r}?" if close else "`registry list` shows the names"
        raise _at(
            entry, field, f"{field} of model {entry.name!r} is expected to be a known model, but {name!r} is not; {meant}"
        )

    def _check_replacements(self, raw: RawEntry) -> None:
        """Raise when what is to be used instead of a deprecated model leads back to it."""
        passed, at = [raw.name], raw
        while (deprecated := at.fields.get("deprecated")) and (use := at.fields.get("alias") or deprecated.use):
            passed.append(use)
            if use in passed[:-1]:
                field = "alias" if "alias" in raw.fields else "deprecated.use"
                chain = " -> ".join(passed)
                raise _at(raw, field, f"what replaces model {raw.name!r} leads back to itself: {chain}; name another")
            if not (stack := self._entries(use)[0]):
                break
            at = stack[0]

    def _warn_if_deprecated(self, entry: RawEntry) -> None:
        """Tell once in a process that a name is deprecated."""
        deprecated = entry.fields.get("deprecated")
        if deprecated is None or entry.name in _told:
            return
        _told.add(entry.name)
        use = entry.fields.get("alias") or deprecated.use
        instead = f"; use {use!r}" if use else ""
        if use and not self.knows(use):
            instead += ", which no catalog here has"
        note = f" ({deprecated.note})" if deprecated.note else ""
        warn(f"model {entry.name!r} is deprecated since {deprecated.since}{note}{instead}")

    def _inherit(self, raw: RawEntry, below: tuple[RawEntry, ...]) -> tuple[dict[str, Any], dict[str, Origin]]:
        """Return the fields of `raw` over those of its base, and the place of each."""
        if raw in below:
            chain = " -> ".join(entry.name for entry in (*below[below.index(raw) :], raw))
            raise _at(raw, "base", f"base of model {raw.name!r} leads back to itself: {chain}; name another")
        if "alias" in raw.fields:
            message = f"base of model {below[-1].name!r} is expected to be a model, but {raw.name!r} is an alias"
            raise _at(below[-1], "base", f"{message}; name the model itself, {raw.fields['alias']!r}")
        own = {key: value for key, value in raw.fields.items() if key != "base"}
        if "base" not in raw.fields:
            return own, dict(raw.origins)
        fields, origins = self._inherit(self._base(raw), (*below, raw))
        for key in ("deprecated", "override"):  # said of the base itself
            fields.pop(key, None)
            origins.pop(key, None)
        if "source" in own:
            for key in _OF_SOURCE:
                fields.pop(key, None)
            origins = {key: origin for key, origin in origins.items() if key.split(".")[0] not in _OF_SOURCE}
        _refuse_twins(raw, fields.get("files", {}), origins)
        for key, value in own.items():
            fields[key] = {**fields.get(key, {}), **value} if key in MERGED_FIELDS else value
        return fields, origins | dict(raw.origins)

    def _base(self, raw: RawEntry) -> RawEntry:
        base = raw.fields["base"]
        if base != raw.name:
            return self._top(base, asked_from=(raw, "base"))
        # An entry based on its own name extends what it redefines.
        stack = self._entries(base)[0]
        lower = next((index for index, entry in enumerate(stack) if entry is raw), 0) + 1
        if lower == len(stack):
            raise _at(raw, "base", f"base of model {base!r} leads back to itself: {base} -> {base}; name another")
        return stack[lower]


def _refuse_twins(raw: RawEntry, inherited: Mapping[str, Any], origins: Mapping[str, Origin]) -> None:
    """Raise when a file of `raw` and one that it inherits are one file on some file systems."""
    known = {twin_key(name): name for name in inherited} if "files" in raw.fields else {}
    for name in raw.fields["files"] if known else ():
        if (twin := known.get(twin_key(name), name)) != name:
            other = f"{twin!a} ({origins[f'files.{twin}']})"
            raise _at(raw, f"files.{name}", twin_message(f"files of model {raw.name!r}", name, other))


def _at(entry: RawEntry, field: str, message: str, kind: type[CatalogError] = CatalogError) -> CatalogError:
    origin = entry.origins[field]
    return kind(message, file=origin.file, line=origin.line, column=origin.column)


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Return a key by which `gpt-9` comes before `gpt-10`: of two numbers the one with fewer digits is smaller."""
    parts = re.split(r"0*([0-9]+)", name)
    return [(index % 2 == 1, len(part) if index % 2 else 0, part) for index, part in enumerate(parts)]
