"""Look up names in several catalog files: in their packed form in the cache if possible, else in their texts."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from registry.base.files import write_private
from registry.base.names import home_folder
from registry.base.stamps import Stamp, stamp
from registry.catalog.entry import CatalogFile
from registry.catalog.layers import CatalogSource, read_bytes, read_source, signature
from registry.catalog.packed import FORMAT, Item, Packed, Record, Unusable, facts_of, file_of, pack, records_of
from registry.catalog.providers import ENDING, is_left_behind, remember

__all__ = ["FOLDER", "SUFFIX", "Shelf", "is_stale", "packed_one", "packed_together"]


_TRIES = 2
_Result = TypeVar("_Result")


class Shelf:
    """Several catalog files, lowest first. Results carry the number of the file."""

    def __init__(self, sources: Sequence[CatalogSource], folder: Path | None = None) -> None:
        """Read everything except entries. `folder` is for packed files; None disables packing."""
        self._sources = list(sources)
        self._folder = folder
        self._packed: Packed | None = None
        #: Files that are not packed, by number.
        self._texts: dict[int, CatalogFile] = {}
        #: All entries, after `read_all`.
        self._all: dict[str, list[tuple[int, Item]]] | None = None
        self._load(folder)
        #: All files; packed ones without their entries.
        self.files = [
            self._texts[number] if self._packed is None or number in self._texts else file_of(self._packed.facts[number])
            for number in range(len(self._sources))
        ]

    def find(self, name: str) -> list[tuple[int, Item]]:
        """Return the entry or error of `name` in each file that has it, with the file's number, lowest first."""
        if self._all is not None:
            return self._all.get(name, [])

        def look() -> list[tuple[int, Item]]:
            found = self._packed.find(name) if self._packed else []
            texts = ((number, file.entries.get(name) or file.broken.get(name)) for number, file in self._texts.items())
            return sorted([*found, *((number, item) for number, item in texts if item is not None)], key=lambda one: one[0])

        return self._tried(look)

    def names(self) -> set[str]:
        """Return all names of all files."""
        if self._all is not None:
            return set(self._all)
        return self._tried(lambda: {*(self._packed.names() if self._packed else ()), *(name for name, _, _ in self._written())})

    def read_all(self) -> None:
        """Read all entries into memory, for a caller that looks up many names."""
        if self._all is not None:
            return

        def read() -> dict[str, list[tuple[int, Item]]]:
            found: dict[str, list[tuple[int, Item]]] = {}
            for name, number, item in (*(self._packed.items() if self._packed else ()), *self._written()):
                found.setdefault(name, []).append((number, item))
            for items in found.values():
                items.sort(key=lambda one: one[0])
            return found

        self._all = self._tried(read)

    def _written(self) -> Iterator[tuple[str, int, Item]]:
        for number, file in self._texts.items():
            items: Mapping[str, Item] = {**file.entries, **file.broken}
            for name, item in items.items():
                yield name, number, item

    def _tried(self, work: Callable[[], _Result]) -> _Result:
        """Run a lookup. If the packed file is damaged or missing, rebuild it, or use the texts."""
        for _ in range(_TRIES):
            try:
                return work()
            except Unusable:
                if self._packed is not None:
                    with contextlib.suppress(OSError):
                        self._packed.path.unlink()
                self._load(self._folder)
        self._load(None)
        return work()

    def _load(self, folder: Path | None) -> None:
        self._packed, self._texts = None, {}
        if folder is None or not self._sources:
            self._texts = {number: read_source(source) for number, source in enumerate(self._sources)}
        elif len(self._sources) == 1:
            only = packed_one(self._sources[0], folder)
            if isinstance(only, Packed):
                self._packed = only
            else:
                self._texts = {0: only}
        else:
            self._packed, self._texts = packed_together(self._sources, folder)


#: The folder of packed catalogs in a cache, and their suffix.
FOLDER = "catalogs"
SUFFIX = ".catalog"

#: Nanoseconds. A text that was written so recently may be written again without a new modification time.
_TICK = 2 * 10**9

#: The modules that parse a text.
_PARSER = ("document", "entry", "hosts", "names", "packed", "raw", "schema", "text")


def packed_one(source: CatalogSource, folder: Path) -> Packed | CatalogFile:
    """Return a file's packed form, rebuilt if it is stale, or the file read from its text if it cannot be packed."""
    path = _path([source], folder)
    before = stamp(source.path)
    old = _maybe_packed(path, 1)
    if old is not None and _is_fresh(old.facts[0], before):
        return old
    try:
        data = source.read()
    except OSError:
        return read_source(source)  # reports the problem
    digest = hashlib.sha256(data).hexdigest()
    records: list[Record] | None = None
    if old is not None and old.facts[0]["sha256"] == digest and _same_homes(old.facts[0]):
        # Same bytes, other modification time.
        with contextlib.suppress(Unusable):
            facts, records = old.facts[0], [record for _, record in old.records()]
    file = None
    if records is None:
        file = read_bytes(data, source.path)
        facts, records = facts_of(file), records_of(file)
    if before[1] == len(data) and before == stamp(source.path):  # did not change during the read
        recent = before[2] > time.time_ns() - _TICK
        stamped = {**facts, **_stamped(before), "recent": recent, "sha256": digest}
        if old is not None and file is None and stamped == old.facts[0]:
            return old
        if write_private(path, pack(_maker(), [stamped], ((0, record) for record in records))):
            with contextlib.suppress(Unusable):
                return Packed(path)
        if old is not None and file is None:  # a read-only cache: the old packed form is right for the same bytes
            return old
    return file or read_bytes(data, source.path)


def packed_together(sources: Sequence[CatalogSource], folder: Path) -> tuple[Packed | None, dict[int, CatalogFile]]:
    """Return the packed form of several files, and the files that it lacks, by number."""
    path = _path(sources, folder)
    packed = _maybe_packed(path, len(sources))
    if packed is not None and all(
        _is_fresh(facts, now) or (facts["recent"] and _is_unchanged(facts, source, folder))
        for facts, now, source in zip(packed.facts, signature(sources), sources, strict=True)
    ):
        missing = (number for number, facts in enumerate(packed.facts) if not facts["sha256"])
        return packed, {number: read_source(sources[number]) for number in missing}
    stamps = signature(sources)
    files: dict[int, CatalogFile] = {}
    facts: list[dict[str, Any]] = []
    records: list[tuple[int, Record]] = []
    for number, source in enumerate(sources):
        one, own = _with_records(source, folder)
        if isinstance(one, Packed):
            records += [(number, record) for record in own]
            facts.append(one.facts[0])
            continue
        files[number] = one
        said = {**facts_of(CatalogFile(source.path)), **_stamped(stamps[number])}
        facts.append({**said, "recent": False, "sha256": ""})
    remember(folder, [(source.distribution, source.version) for source in sources], records, files)
    if len(files) < len(sources) and write_private(path, pack(_maker(), facts, records)):
        with contextlib.suppress(Unusable):
            return Packed(path), files
    return None, {number: files[number] if number in files else read_source(source) for number, source in enumerate(sources)}


def _with_records(source: CatalogSource, folder: Path) -> tuple[Packed | CatalogFile, list[Record]]:
    """Return the result of `packed_one` with its records. A damaged packed file is rebuilt."""
    for _ in range(2):
        one = packed_one(source, folder)
        if not isinstance(one, Packed):
            return one, []
        try:
            return one, [record for _, record in one.records()]
        except Unusable:
            with contextlib.suppress(OSError):
                one.path.unlink()
    return read_source(source), []


def is_stale(path: Path) -> bool:
    """Whether a packed file is stale: one of its texts, or the parser, is missing or has changed.

    One of a newer version, or of another user, is not; nor is what is remembered of an environment that still exists.
    """
    if path.name.endswith(ENDING):
        return is_left_behind(path)
    form = path.name.partition("-")[0]
    if not form.isdigit() or int(form) > FORMAT:
        return False
    if int(form) < FORMAT:
        return True
    try:
        packed = Packed(path)
    except Unusable as error:
        return not isinstance(error.__cause__, OSError) and not error.foreign
    parser = packed.maker if isinstance(packed.maker, list) else []
    stamps = [*map(_stamp_in, packed.facts), *map(tuple, parser)]
    return any(stamp(said[0]) != said for said in stamps)


def _path(sources: Sequence[CatalogSource], folder: Path) -> Path:
    # The parser's path is part of the name, so that two installations that share a cache do not overwrite each other.
    user = os.geteuid() if hasattr(os, "geteuid") else ""
    key = json.dumps([user, str(Path(__file__).parent), [source.path for source in sources]])
    return folder / f"{FORMAT}-{hashlib.sha256(key.encode()).hexdigest()[:40]}{SUFFIX}"


def _maybe_packed(path: Path, count: int) -> Packed | None:
    try:
        packed = Packed(path)
    except Unusable:
        return None
    return packed if packed.maker == _maker() and len(packed.facts) == count else None


@functools.lru_cache(maxsize=1)
def _maker() -> list[list[object]]:
    """Return path, size and modification time of each module of the parser."""
    return [list(stamp(str(Path(__file__).with_name(f"{module}.py")))) for module in _PARSER]


def _is_fresh(facts: Mapping[str, Any], now: Stamp) -> bool:
    return _stamp_in(facts) == now and not facts["recent"] and _same_homes(facts)


def _stamp_in(facts: Mapping[str, Any]) -> Stamp:
    return facts["path"], facts["size"], facts["mtime_ns"], facts["ctime_ns"]


def _stamped(found: Stamp) -> dict[str, int]:
    return dict(zip(("size", "mtime_ns", "ctime_ns"), found[1:], strict=True))


def _is_unchanged(facts: Mapping[str, Any], source: CatalogSource, folder: Path) -> bool:
    one = packed_one(source, folder)
    return isinstance(one, Packed) and one.facts[0] == facts


def _same_homes(facts: Mapping[str, Any]) -> bool:
    return all(home_folder(tilde) == home for tilde, home in facts["homes"].items())
