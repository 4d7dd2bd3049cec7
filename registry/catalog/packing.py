"""Pack catalogs into the cache, and keep what is packed true to its texts.

Each file is packed on its own, and what installed packages bring is packed once more as one, so that two hundred plugins
cost one look-up. A packed file is believed while size and time of its texts are those that it was made of, and is made anew
when their bytes changed: written privately and renamed, by any number of processes at once. Nothing here fails for want of
a cache: what cannot be written, read or believed is read from the texts.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from registry.catalog.layers import CatalogSource, Stamp, signature, stamp
from registry.catalog.names import home_folder
from registry.catalog.packed import FORMAT, Packed, Record, Unusable, facts_of, pack, records_of
from registry.catalog.raw import CatalogFile
from registry.catalog.remembered import ENDING, is_left_behind, remember
from registry.catalog.text import read_bytes, read_source
from registry.catalog.writing import write_private

__all__ = ["FOLDER", "SUFFIX", "is_stale", "packed_one", "packed_together"]

#: The folder of packed catalogs in a cache, and how they end.
FOLDER = "catalogs"
SUFFIX = ".catalog"

#: A text that was written so shortly before it was read may be written again without a change of its time, in nanoseconds.
_TICK = 2 * 10**9
#: The modules that decide what a text means.
_PARSER = ("document", "entry", "hosts", "names", "packed", "raw", "schema", "text")


def packed_one(source: CatalogSource, folder: Path) -> Packed | CatalogFile:
    """Return a file's packed form, made anew when it must be; the file itself, read from its text, where there can be none."""
    path = _path([source], folder)
    before = stamp(source.path)
    old = _maybe_packed(path, 1)
    if old is not None and _is_fresh(old.facts[0], before):
        return old
    try:
        data = source.read()
    except OSError:
        return read_source(source)  # which says what is wrong
    digest = hashlib.sha256(data).hexdigest()
    records: list[Record] | None = None
    if old is not None and old.facts[0]["sha256"] == digest and _same_homes(old.facts[0]):
        # The same bytes, at another time.
        with contextlib.suppress(Unusable):
            facts, records = old.facts[0], [record for _, record in old.records()]
    file = None
    if records is None:
        file = read_bytes(data, source.path)
        facts, records = facts_of(file), records_of(file)
    if before[1] == len(data) and before == stamp(source.path):  # else it changed while it was read
        recent = before[2] > time.time_ns() - _TICK
        stamped = {**facts, **_stamped(before), "recent": recent, "sha256": digest}
        if old is not None and file is None and stamped == old.facts[0]:
            return old
        if write_private(path, pack(_maker(), [stamped], ((0, record) for record in records))):
            with contextlib.suppress(Unusable):
                return Packed(path)
        if old is not None and file is None:  # a cache that cannot be written says the same of the same bytes
            return old
    return file or read_bytes(data, source.path)


def packed_together(sources: Sequence[CatalogSource], folder: Path) -> tuple[Packed | None, dict[int, CatalogFile]]:
    """Return the packed form of several files, and by number those files that are not in it."""
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
    """Return what `packed_one` does, with its records; one that turns out to be damaged is made anew."""
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
    """Whether a packed file is of no use any more: one of its texts, or the parser, is gone or not what it was.

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
    # The parser's own place is in the name, so that two installations that share a cache do not take turns.
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
    """Return place, size and time of each module of the parser."""
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
