"""The catalog: merges all layers and finds the entry of a name."""

from __future__ import annotations

import copy
import fnmatch
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from registry.base.names import twin_key
from registry.catalog.entry import MERGED_FIELDS, CatalogFile, Host, ModelEntry, Origin, RawEntry, twin_message
from registry.catalog.layers import INSTALLED, CatalogSource, LayerKind
from registry.catalog.packed import Item
from registry.catalog.shelf import Shelf
from registry.errors import CatalogError, UnknownModel, warn

__all__ = ["Catalog", "Item", "close_names", "guarded", "refuse_hosts", "unknown_model"]


#: Fields that belong to a source, so an entry with its own source does not inherit them.
_OF_SOURCE = ("mirrors", "files")

#: Limits: names of a circle that a message shows, and keys of `files`, `config` or `tokenizer` including inherited ones.
_SHOWN = 5
_MAX_KEYS = 10_000

#: How many searches for close names one catalog makes; each compares with every name.
_MAX_SUGGESTIONS = 50

#: Deprecated names that this process has warned about.
_told: set[str] = set()


class _Disabled(CatalogError):
    """The name was disabled on purpose: it is not listed, and not reported as a mistake."""


class _Merged(NamedTuple):
    """A raw entry merged with its bases: fields, the origin of each, and files by a key that detects equal names."""

    fields: Mapping[str, Any]
    origins: Mapping[str, Origin]
    twins: Mapping[str, str] = {}


class Catalog:
    """The merged layers.

    Everything except entries is read at construction; an entry is read when its name is looked up. The object does not
    change afterwards.
    """

    def __init__(self, sources: Iterable[CatalogSource], packed: Path | None = None) -> None:
        """Read `sources`, lowest layer first. `packed` is the folder of packed catalogs; None disables packing."""
        self._packed = packed
        self._sources = list(sources)
        self._shelves: list[tuple[int, Shelf]] = []
        self.hosts: dict[str, Host] = {}
        #: Problems with whole files.
        self.problems: list[CatalogError] = []
        #: Name to its usable entries, highest layer first, and to the error of the highest one.
        self._known: dict[str, tuple[list[RawEntry], CatalogError | None]] = {}
        #: Name to the raw entry that its aliases lead to, or the error.
        self._led: dict[str, RawEntry | CatalogError] = {}
        #: Alias to the name that it stands for.
        self._aliases: dict[str, str] = {}
        #: Id of a raw entry to the entry merged with its bases, or the error.
        self._merged: dict[int, _Merged | CatalogError] = {}
        #: Deprecated name to the error if its replacements lead into a cycle.
        self._replaced: dict[str, bool] = {}
        #: Number of searches for close names so far.
        self._suggested = 0
        start = 0
        # Catalogs of packages are looked up together, because only these can be many.
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
        """Return the usable entries of a name, highest layer first, and the error of the highest one."""
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
        """Return the usable names that match a shell pattern, in natural order, without deprecated and disabled ones."""
        found = [
            name
            for name in self._read_all()
            if fnmatch.fnmatchcase(name, pattern) and (stack := self._entries(name)[0]) and "deprecated" not in stack[0].fields
        ]
        return sorted((name for name in found if name not in self._unusable), key=lambda name: (_natural(name), name))

    @property
    def broken(self) -> dict[str, CatalogError]:
        """Names that cannot be resolved, each with the error: its highest entry, or one that it refers to, is unusable."""
        return {name: error for name, error in self._unusable.items() if not isinstance(error, _Disabled)}

    @cached_property
    def _unusable(self) -> dict[str, CatalogError]:
        found = {}
        for name in sorted(self._read_all()):
            if self.knows(name):
                try:
                    self._leads_to(name)
                except CatalogError as error:
                    found[name] = error
        return found

    def knows(self, name: str) -> bool:
        """Whether any file has an entry of this name, usable or not."""
        return any(self._entries(name))

    def usable(self) -> list[str]:
        """Return all names that can be resolved, including deprecated ones, in any order."""
        return [name for name in self._read_all() if self.knows(name) and name not in self._unusable]

    def peek(self, name: str) -> ModelEntry:
        """Return the entry of a known name like `resolve`, but without a deprecation warning."""
        return self._follow(name)[0]

    def maybe_resolve(self, name: str) -> ModelEntry | None:
        """Return the entry of `name`, or None when no file has the name.

        Raises:
            CatalogError: when the name is disabled, or its entry or one that it refers to is broken.
        """
        if not self.knows(name):
            return None
        entry, passed = self._follow(name)
        for raw in passed:
            self._warn_if_deprecated(raw)
        return entry

    def _follow(self, name: str) -> tuple[ModelEntry, list[RawEntry]]:
        """Return the entry that a known name leads to, the deprecated raw entries on the way, and the last raw entry."""
        raw, known = self._leads_to(name), self._known
        via, aliases = [], self._aliases
        while name in aliases:
            via.append(name)
            name = aliases[name]
        passed = [one for step in via if "deprecated" in (one := known[step][0][0]).fields]
        origins = {"alias": known[via[0]][0][0].origins["alias"]} if via else {}
        merged = self._inherit(raw)
        fields = dict(merged.fields)
        # Copies, so that no caller changes the catalog; pins cannot be changed.
        fields |= {
            key: dict(fields[key]) if key == "files" else copy.deepcopy(fields[key]) for key in MERGED_FIELDS & fields.keys()
        }
        shadows = tuple(entry.origin for entry in self._entries(raw.name)[0][1:])
        entry = ModelEntry(name=raw.name, via=tuple(via), origins={**origins, **merged.origins}, shadows=shadows, **fields)
        return entry, [*passed, raw]

    def _leads_to(self, name: str) -> RawEntry:
        """Follow a known name's aliases to the raw entry, and check that it can be used.

        Raises:
            CatalogError: when it cannot. Results are kept for each name on the way.
        """
        way: dict[str, RawEntry] = {}
        at = name
        while at not in self._led:
            if at in way:
                circle = list(way.values())[list(way).index(at) :]
                for number, one in enumerate(circle):
                    last = circle[number - 1]
                    message = f"alias of model {last.name!r} leads back to itself: {_circle(circle, number)}; name another"
                    self._led[one.name] = _at(last, "alias", message)
                break
            asker = next(reversed(way.values()), None)
            try:
                way[at] = raw = self._top(at, asked_from=(asker, "alias") if asker is not None else None)
            except CatalogError as error:
                # A missing name is a mistake of the entry that refers to it.
                self._led[asker.name if asker is not None and not self.knows(at) else at] = error
                break
            if "alias" not in raw.fields:
                break
            self._aliases[at] = raw.fields["alias"]
            at = raw.fields["alias"]
        for one in reversed(way.values()):
            if one.name not in self._led:
                self._led[one.name] = self._checked(one)
        led = self._led[name]
        if isinstance(led, CatalogError):
            raise led
        return led

    def _checked(self, raw: RawEntry) -> RawEntry | CatalogError:
        """Return the raw entry that another one leads to, or the error of either. Its alias was followed before."""
        try:
            self._check_replacements(raw)
            if "alias" in raw.fields:
                return self._led[raw.fields["alias"]]
            fields = self._inherit(raw).fields
        except CatalogError as error:
            return error
        for needed in ("source", "family"):
            if needed not in fields:
                return CatalogError(
                    f"model {raw.name!r} is expected to have a {needed}, but has none; add `{needed}:` or `base:`",
                    file=raw.origin.file,
                    line=raw.origin.line,
                    column=raw.origin.column,
                )
        return raw

    def resolve(self, name: str) -> ModelEntry:
        """Return the entry of `name`.

        Raises:
            UnknownModel: when no file has it; the error carries close names.
            CatalogError: as in `maybe_resolve`.
        """
        entry = self.maybe_resolve(name)
        if entry is None:
            raise self.unknown(name)
        return entry

    def unknown(self, name: str) -> UnknownModel:
        """Return the error for a name that no catalog has."""
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
        assert asked_from is not None  # the caller checks directly requested names
        entry, field = asked_from
        self._suggested += 1
        close = close_names(name, self._all_names(), 1) if self._suggested <= _MAX_SUGGESTIONS else []
        meant = f"did you mean {close[0]!r}?" if close else "`registry list` shows the names"
        raise _at(
            entry, field, f"{field} of model {entry.name!r} is expected to be a known model, but {name!r} is not; {meant}"
        )

    def _check_replacements(self, raw: RawEntry) -> None:
        """Raise when the replacements of a deprecated model lead into a cycle."""
        way, at, is_circle = {raw.name}, raw, False
        while at.name not in self._replaced and (use := _replacement(at)):
            if is_circle := use in way:
                break
            way.add(use)
            if not (stack := self._entries(use)[0]):
                break
            at = stack[0]
        is_circle = self._replaced.get(at.name, is_circle)
        self._replaced.update(dict.fromkeys(way, is_circle))
        if is_circle:
            field = "alias" if "alias" in raw.fields else "deprecated.use"
            chain = [raw.name]
            while len(chain) <= _SHOWN and chain[-1] not in chain[:-1]:
                chain.append(_replacement(self._entries(chain[-1])[0][0]))
            shown = " -> ".join(chain) + (" -> …" if chain[-1] not in chain[:-1] else "")
            raise _at(raw, field, f"the replacement of model {raw.name!r} leads back to itself: {shown}; name another model")

    def _warn_if_deprecated(self, entry: RawEntry) -> None:
        """Warn once in a process that a name is deprecated."""
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

    def _inherit(self, raw: RawEntry) -> _Merged:
        """Return the fields of `raw` merged over those of its base, and the origin of each.

        A base is known before what is based on it, so a chain may be as long as it likes.
        """
        way: dict[int, RawEntry] = {}
        at = raw
        while id(at) not in self._merged:
            above = next(reversed(way.values()), None)
            if id(at) in way:
                circle = list(way.values())[list(way).index(id(at)) :]
                for number, one in enumerate(circle):
                    message = f"base of model {one.name!r} leads back to itself: {_circle(circle, number)}; name another"
                    self._merged[id(one)] = _at(one, "base", message)
                break
            if above is not None and "alias" in at.fields:
                message = f"base of model {above.name!r} is expected to be a model, but {at.name!r} is an alias"
                error = _at(above, "base", f"{message}; name the model itself, {at.fields['alias']!r}")
                self._merged[id(above)] = error
                break
            way[id(at)] = at
            if "base" not in at.fields:
                break
            try:
                at = self._base(at)
            except CatalogError as error:
                self._merged[id(at)] = error
                break
        below = self._merged.get(id(at))
        for one in reversed(way.values()):
            if (known := self._merged.get(id(one))) is None:
                try:
                    known = self._merged[id(one)] = below if isinstance(below, CatalogError) else _merge(one, below)
                except CatalogError as error:
                    known = self._merged[id(one)] = error
            below = known
        merged = self._merged[id(raw)]
        if isinstance(merged, CatalogError):
            raise merged
        return merged

    def _base(self, raw: RawEntry) -> RawEntry:
        base = raw.fields["base"]
        if base != raw.name:
            return self._top(base, asked_from=(raw, "base"))
        # An entry based on its own name extends the entry that it redefines.
        stack = self._entries(base)[0]
        lower = next((index for index, entry in enumerate(stack) if entry is raw), 0) + 1
        if lower == len(stack):
            raise _at(raw, "base", f"base of model {base!r} leads back to itself: {base} -> {base}; name another")
        return stack[lower]


def _merge(raw: RawEntry, below: _Merged | None) -> _Merged:
    """Merge the fields of an entry over those of its base.

    Raises:
        CatalogError: when the result is not allowed.
    """
    own = {key: value for key, value in raw.fields.items() if key != "base"}
    if below is None:
        return _Merged(own, dict(raw.origins))
    fields, origins, twins = dict(below.fields), dict(below.origins), below.twins
    for key in ("deprecated", "override"):  # these concern only the base itself
        fields.pop(key, None)
        origins.pop(key, None)
    if "source" in own:
        for key in _OF_SOURCE:
            fields.pop(key, None)
        origins = {key: origin for key, origin in origins.items() if key.split(".")[0] not in _OF_SOURCE}
        twins = {}
    if "files" in own:
        twins = dict(twins) if twins else {twin_key(name): name for name in fields.get("files", ())}
        for name in own["files"]:
            if (twin := twins.setdefault(twin_key(name), name)) != name:
                other = f"{twin!a} ({origins[f'files.{twin}']})"
                raise _at(raw, f"files.{name}", twin_message(f"files of model {raw.name!r}", name, other))
    for key, value in own.items():
        fields[key] = {**fields.get(key, {}), **value} if key in MERGED_FIELDS else value
        if key in MERGED_FIELDS and len(fields[key]) > _MAX_KEYS:
            but = f"has {len(fields[key]):,} including inherited ones; name another base"
            raise _at(raw, key, f"{key} of model {raw.name!r} is expected to have at most {_MAX_KEYS:,} keys, but {but}")
    return _Merged(fields, origins | dict(raw.origins), twins)


def _replacement(entry: RawEntry) -> str:
    """Return the replacement of a deprecated entry; empty when it is not deprecated or names no replacement."""
    deprecated = entry.fields.get("deprecated")
    return "" if deprecated is None else entry.fields.get("alias") or deprecated.use


def _circle(entries: Sequence[RawEntry], start: int) -> str:
    """Format a cycle of names, from one of them back to it; a long cycle is shortened in the middle."""
    count = len(entries)
    names = [entries[(start + number) % count].name for number in range(min(count, _SHOWN))]
    more = [f"… ({count} models)"] if count > _SHOWN else []
    return " -> ".join([*names, *more, entries[start].name])


def _at(entry: RawEntry, field: str, message: str, kind: type[CatalogError] = CatalogError) -> CatalogError:
    origin = entry.origins[field]
    return kind(message, file=origin.file, line=origin.line, column=origin.column)


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Return a sort key that puts `gpt-9` before `gpt-10`: a number with fewer digits is smaller."""
    parts = re.split(r"0*([0-9]+)", name)
    return [(index % 2 == 1, len(part) if index % 2 else 0, part) for index, part in enumerate(parts)]


def refuse_hosts(file: CatalogFile) -> list[CatalogError]:
    """Return a problem for each host in a project's file, because the project may be cloned from an untrusted source."""
    return [
        CatalogError(
            f"host {host.name!r} is expected to stand in a user's or organisation's catalog, but stands in a project's; "
            "name this file in REGISTRY_MODELS to trust it",
            file=file.path,
            line=host.origin.line,
            column=host.origin.column,
        )
        for host in file.hosts.values()
    ]


def guarded(name: str, found: Sequence[tuple[CatalogSource, Item]]) -> tuple[list[RawEntry], CatalogError | None]:
    """Return the valid entries of a name, highest layer first, and the error of the highest one.

    Args:
        name: the name.
        found: its entry or error in each file, lowest layer first.
    """
    stack: list[RawEntry] = []
    error: CatalogError | None = None
    below: list[tuple[CatalogSource, Origin]] = []
    for source, item in found:
        origin = item.origin if isinstance(item, RawEntry) else Origin(item.file, item.line, item.column)
        if source.kind is LayerKind.FAMILY and below and below[-1][0].builtin and not source.builtin:
            warn(f"{origin}: model {name!r} is built in ({below[-1][1]}); this one is off")
            continue
        if below and isinstance(item, RawEntry) and (message := _refusal(name, source, item, *below[-1])):
            item = CatalogError(message, file=origin.file, line=origin.line, column=origin.column)
        if isinstance(item, RawEntry):
            stack.insert(0, item)
            error = None
            below.append((source, origin))
        else:
            error = item
            # The error of each refused entry names the place of the first good one.
            if not below or below[-1][0].kind is not source.kind:
                below.append((source, origin))
    return stack, error


def _refusal(name: str, source: CatalogSource, entry: RawEntry, lower: CatalogSource, there: Origin) -> str | None:
    """Return why a file may not redefine a name of a lower layer, or None when it may."""
    if source.kind is LayerKind.PROJECT and not entry.override:
        return f"model {name!r} is already defined at {there}; write `override: true` to redefine it"
    if source.kind is lower.kind is LayerKind.FAMILY and not source.builtin:
        return f"model {name!r} is already defined by another plugin at {there}; rename one"
    if source.kind is lower.kind is LayerKind.PACKAGE:
        packages = f"{lower.distribution} {lower.version} and {source.distribution} {source.version}"
        return (
            f"model {name!r} is already defined at {there}: {packages} both bring it; uninstall one, "
            "or define it in a catalog of yours"
        )
    return None


def close_names(name: str, names: Iterable[str], count: int) -> list[str]:
    """Return the names that are most similar to `name`, ignoring case."""
    import difflib

    folded = {known.casefold(): known for known in sorted(names)}
    return [folded[key] for key in difflib.get_close_matches(name.casefold(), folded, n=count, cutoff=0.7)]


def unknown_model(name: str, names: Iterable[str], problems: Sequence[CatalogError], packed: Path | None) -> UnknownModel:
    """Return the error for an unknown name: the package that once provided it, close names, and unusable files.

    Args:
        name: the name.
        names: all existing names.
        problems: problems of whole files.
        packed: the folder of packed catalogs, which also records the names that packages provided.
    """
    message = f"model {name!r} is expected to be a name of the catalog or an existing path, but is neither"
    close: list[str] = []
    distribution = None
    if packed is not None and (provider := _provider(packed, name)) is not None:
        distribution, why = provider
        message += why
    else:
        close = close_names(name, names, 3)
        if close:
            message += f"; did you mean {' or '.join(repr(found) for found in close)}?"
        elif re.fullmatch(r"\w[\w.-]*/[\w.-]+", name):
            message += f"; for a repository of the model hub write 'hf://{name}@<revision>' and family="
        else:
            message += "; `registry list` shows the names"
    if problems:
        message += ". These catalogs could not be used in full: " + "; ".join(str(problem) for problem in problems)
    return UnknownModel(message, name=name, suggestions=close, distribution=distribution)


def _provider(packed: Path, name: str) -> tuple[str, str] | None:
    """Return the distribution that provided a name and how to get it back, or None."""
    from importlib import metadata

    from registry.catalog.providers import remembered

    if (found := remembered(packed, name)) is None:
        return None
    distribution, version = found
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return distribution, (
            f"; it was provided by {distribution} {version}, which is not installed; pip install {distribution}"
        )
    if os.environ.get("REGISTRY_PLUGINS_DISABLED"):
        return distribution, f"; it was provided by {distribution} {version}; remove that from REGISTRY_PLUGINS_DISABLED"
    return None
