"""All layers as one catalog: which entry a name leads to."""

from __future__ import annotations

import copy
import difflib
import fnmatch
import re
import warnings
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from registry.catalog.entry import ModelEntry, Origin
from registry.catalog.layers import CatalogSource, LayerKind, read_source
from registry.catalog.names import twin_key
from registry.catalog.schema import MERGED_FIELDS, CatalogFile, Host, RawEntry, twin_message
from registry.errors import CatalogError, RegistryWarning, UnknownModel

__all__ = ["Catalog"]

#: What belongs to a source and therefore is not inherited by an entry that names its own.
_OF_SOURCE = ("mirrors", "files")


class Catalog:
    """The merged layers. Reading happens once, at construction; the object is not changed afterwards."""

    def __init__(self, sources: Iterable[CatalogSource]) -> None:
        """Read `sources`, lowest layer first."""
        #: Name to its entries, highest layer first.
        self._stacks: dict[str, list[RawEntry]] = {}
        self._broken: dict[str, CatalogError] = {}
        self.hosts: dict[str, Host] = {}
        #: What is wrong with files as a whole.
        self.problems: list[CatalogError] = []
        builtin: set[str] = set()
        family_names: set[str] = set()
        for source in sources:
            file = read_source(source)
            self._report(file)
            names = set(file.entries)
            if source.kind is LayerKind.PROJECT:
                self._guard_project(file)
            elif source.kind is LayerKind.FAMILY:
                if not source.builtin:
                    self._guard_family(file, builtin, family_names)
                family_names |= names
                builtin |= names if source.builtin else set()
            for name, entry in file.entries.items():
                self._broken.pop(name, None)
                self._stacks.setdefault(name, []).insert(0, entry)
            self._broken.update(file.broken)
            self.hosts.update(file.hosts)

    def _report(self, file: CatalogFile) -> None:
        self.problems += file.problems
        for problem in file.problems:
            warnings.warn(str(problem), RegistryWarning, stacklevel=2)
        if not file.ours and file.suspicious:
            warnings.warn(
                f"{file.path} has `models:` but no line `registry: 1`, so it is left alone; add the line if it is a catalog",
                RegistryWarning,
                stacklevel=2,
            )

    def _guard_project(self, file: CatalogFile) -> None:
        """Hold the project's file, which may be a stranger's clone, to its limits."""
        for host in file.hosts.values():
            problem = CatalogError(
                f"host {host.name!r} is expected to stand in a user's or organisation's catalog, but stands in a project's; "
                "name this file in REGISTRY_MODELS to trust it",
                file=file.path,
                line=host.origin.line,
                column=host.origin.column,
            )
            self.problems.append(problem)
            warnings.warn(str(problem), RegistryWarning, stacklevel=2)
        file.hosts.clear()
        for name in [name for name, entry in file.entries.items() if name in self._stacks and not entry.override]:
            there = self._stacks[name][0].origin
            self._refuse(file, name, f"model {name!r} is already defined at {there}; write `override: true` to redefine it")

    def _guard_family(self, file: CatalogFile, builtin: set[str], taken: set[str]) -> None:
        """Keep the names of built-in families, and make a name that two outsiders ship an error that shows both."""
        for name in sorted(set(file.entries) & taken):
            there = self._stacks[name][0].origin
            if name in builtin:
                rival = file.entries.pop(name).origin
                warnings.warn(f"{rival}: model {name!r} is built in ({there}); this one is off", RegistryWarning, stacklevel=2)
            else:
                self._refuse(file, name, f"model {name!r} is already defined by another plugin at {there}; rename one")

    @staticmethod
    def _refuse(file: CatalogFile, name: str, message: str) -> None:
        origin = file.entries.pop(name).origin
        file.broken[name] = CatalogError(message, file=origin.file, line=origin.line, column=origin.column)

    def names(self, pattern: str = "*") -> list[str]:
        """Return the usable names that match a shell pattern, in natural order; deprecated ones are left out."""
        found = [
            name
            for name, stack in self._stacks.items()
            if fnmatch.fnmatchcase(name, pattern) and name not in self.broken and "deprecated" not in stack[0].fields
        ]
        return sorted(found, key=lambda name: (_natural(name), name))

    @cached_property
    def broken(self) -> dict[str, CatalogError]:
        """Names that cannot be resolved, with the reason: their highest entry, or one that it leads to, is unusable."""
        broken = dict(self._broken)
        for name in self._stacks:
            try:
                self._follow(name)
            except CatalogError as error:
                broken[name] = error
        return broken

    def maybe_resolve(self, name: str) -> ModelEntry | None:
        """Return the entry of `name`, or None when no file knows the name.

        Raises:
            CatalogError: when the name is known but its entry, or one that it leads to, is broken.
        """
        if name not in self._stacks and name not in self._broken:
            return None
        entry, passed = self._follow(name)
        for raw in passed:
            _warn_if_deprecated(raw)
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
                raise _at(raw, "alias", f"alias of model {raw.name!r} leads back to itself: {' -> '.join([*via, target])}")
            raw = self._top(target, asked_from=(raw, "alias"))
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
        shadows = tuple(entry.origin for entry in self._stacks[raw.name][1:])
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
        folded = {known.casefold(): known for known in self._stacks}
        close = [folded[key] for key in difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.7)]
        message = f"model {name!r} is expected to be a name of the catalog or an existing path, but is neither"
        if close:
            message += f"; did you mean {' or '.join(repr(found) for found in close)}?"
        elif re.fullmatch(r"\w[\w.-]*/[\w.-]+", name):
            message += f"; for a repository of the model hub write 'hf://{name}@<revision>' and family="
        else:
            message += "; `registry list` shows the names"
        if self.problems:
            message += ". These catalogs could not be used in full: " + "; ".join(str(problem) for problem in self.problems)
        return UnknownModel(message, name=name, suggestions=close)

    def _top(self, name: str, asked_from: tuple[RawEntry, str] | None) -> RawEntry:
        if name in self._broken:
            raise self._broken[name]
        if name in self._stacks:
            return self._stacks[name][0]
        assert asked_from is not None  # a name that was asked for directly is known
        entry, field = asked_from
        close = difflib.get_close_matches(name, self._stacks, n=1)
        meant = f"did you mean {close[0]!r}?" if close else "`registry list` shows the names"
        raise _at(
            entry, field, f"{field} of model {entry.name!r} is expected to be a known model, but {name!r} is not; {meant}"
        )

    def _inherit(self, raw: RawEntry, below: tuple[RawEntry, ...]) -> tuple[dict[str, Any], dict[str, Origin]]:
        """Return the fields of `raw` over those of its base, and the place of each."""
        if raw in below:
            chain = " -> ".join(entry.name for entry in (*below[below.index(raw) :], raw))
            raise _at(raw, "base", f"base of model {raw.name!r} leads back to itself: {chain}")
        if "alias" in raw.fields:
            raise _at(
                below[-1], "base", f"base of model {below[-1].name!r} is expected to be a model, but {raw.name!r} is an alias"
            )
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
        stack = self._stacks[base]
        lower = next((index for index, entry in enumerate(stack) if entry is raw), 0) + 1
        if lower == len(stack):
            raise _at(raw, "base", f"base of model {base!r} leads back to itself: {base} -> {base}")
        return stack[lower]


def _refuse_twins(raw: RawEntry, inherited: Mapping[str, Any], origins: Mapping[str, Origin]) -> None:
    """Raise when a file of `raw` and one that it inherits are one file on some file systems."""
    known = {twin_key(name): name for name in inherited} if "files" in raw.fields else {}
    for name in raw.fields["files"] if known else ():
        if (twin := known.get(twin_key(name), name)) != name:
            other = f"{twin!a} ({origins[f'files.{twin}']})"
            raise _at(raw, f"files.{name}", twin_message(f"files of model {raw.name!r}", name, other))


def _at(entry: RawEntry, field: str, message: str) -> CatalogError:
    origin = entry.origins[field]
    return CatalogError(message, file=origin.file, line=origin.line, column=origin.column)


def _warn_if_deprecated(entry: RawEntry) -> None:
    if deprecated := entry.fields.get("deprecated"):
        instead = f"; use {entry.fields['alias']!r}" if "alias" in entry.fields else ""
        note = f" ({deprecated.note})" if deprecated.note else ""
        warnings.warn(
            f"model {entry.name!r} is deprecated since {deprecated.since}{note}{instead}", RegistryWarning, stacklevel=2
        )


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Return a key by which `gpt-9` comes before `gpt-10`: of two numbers the one with fewer digits is smaller."""
    parts = re.split(r"0*([0-9]+)", name)
    return [(index % 2 == 1, len(part) if index % 2 else 0, part) for index, part in enumerate(parts)]
