"""Read the entry points that installed distributions declare for the registry, from small files and without imports.

`importlib.metadata` parses the metadata of every distribution for this, which in a large environment takes longer than all
else that a name's resolution needs. Here it reads only what is not an ordinary folder. Paths are strings: there are hundreds.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.machinery import PathFinder
from typing import NamedTuple

__all__ = ["EntryPoint", "canonical", "read_installed"]

#: The distribution whose plugins are built in.
DISTRIBUTION = "pretrained-registry"

_SECTION = re.compile(r"\[\s*(registry\.[a-z]+)\s*\]")


class EntryPoint(NamedTuple):
    """One installed entry point. The meaning of `name` and `value` depends on its group."""

    name: str
    value: str
    distribution: str
    version: str

    @property
    def module(self) -> str:
        """The module part of the value."""
        return self.value.split(":")[0].strip()

    @property
    def attribute(self) -> str:
        """The attribute part of the value; empty when the value is a module."""
        return self.value.partition(":")[2].strip()

    @property
    def package(self) -> str:
        """The top-level package of the value's module."""
        return self.module.split(".")[0]

    @property
    def builtin(self) -> bool:
        """Whether the registry's own distribution declares it."""
        return self.distribution == DISTRIBUTION

    @property
    def release(self) -> str:
        """Distribution and version, for messages."""
        return f"{self.distribution} {self.version}".rstrip()


def canonical(name: str) -> str:
    """Normalize a distribution name for comparison, as package indexes do."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def read_installed(path: Sequence[str]) -> dict[str, list[EntryPoint]]:
    """Return the entry points of each group `registry.…`, built-in ones first, then by distribution and name.

    Of several installations of one distribution the first on the path counts, because it is the one that imports; of several
    records in one folder, which a failed upgrade leaves behind, the newest.
    """
    found: dict[str, list[EntryPoint]] = {}
    seen: set[str] = set()
    for distribution, version, text in _declarations(path, seen):
        for group, name, value in _parse(text):
            found.setdefault(group, []).append(EntryPoint(name, value, distribution, version))
    for points in found.values():
        points.sort(key=lambda point: (not point.builtin, point.distribution, point.name))
    return found


def _declarations(path: Sequence[str], seen: set[str]) -> Iterator[tuple[str, str, str]]:
    """Yield name, version and entry point text of each distribution that may declare entry points for the registry."""
    for folder in path:
        records = _records(folder or os.curdir)
        if records is None:
            yield from _elsewhere(_finder_of_archives([folder]), seen)
            continue
        for distribution, candidates in records.items():
            if distribution in seen:
                continue
            seen.add(distribution)
            record = candidates[0] if len(candidates) == 1 else max(candidates, key=_changed)
            text = _read(os.path.join(record, "entry_points.txt"))  # noqa: PTH118
            if "registry." in text:
                yield distribution, _version(record), text
    for finder in sys.meta_path:
        find, name = getattr(finder, "find_distributions", None), getattr(finder, "__name__", type(finder).__name__)
        # The backport of importlib.metadata would search the same folders again.
        if find is not None and finder is not PathFinder and name != "MetadataPathFinder":
            yield from _elsewhere(find, seen)


def _records(folder: str) -> dict[str, list[str]] | None:
    """Return distribution to its metadata folders, or None for a path that is not a folder."""
    found: dict[str, list[str]] = {}
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except NotADirectoryError:
        return None
    except OSError:
        return {}
    for name in names:
        stem, dot, kind = name.rpartition(".")
        if kind in ("dist-info", "egg-info") and dot and not stem.startswith("~"):  # pip's name for what it is about to remove
            distribution = canonical(stem.partition("-")[0])
        elif name == "EGG-INFO" and folder.endswith(".egg"):
            distribution = canonical(os.path.basename(folder).partition("-")[0])  # noqa: PTH119
        else:
            continue
        found.setdefault(distribution, []).append(os.path.join(folder, name))  # noqa: PTH118
    return found


def _elsewhere(find: object, seen: set[str]) -> Iterator[tuple[str, str, str]]:
    """Yield the same for distributions in archives on the path and from custom importers."""
    from importlib.metadata import DistributionFinder

    try:
        distributions = list(find(DistributionFinder.Context()))  # type: ignore[operator]
    except Exception:  # a broken importer hides only its own distributions
        return
    for one in distributions:
        distribution = canonical(one.metadata["Name"] or "unknown")
        if distribution not in seen:
            seen.add(distribution)
            yield distribution, one.version or "", one.read_text("entry_points.txt") or ""


def _finder_of_archives(path: list[str]) -> object:
    from importlib.metadata import distributions

    return lambda _: distributions(path=path)


def _parse(text: str) -> Iterable[tuple[str, str, str]]:
    group = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = _SECTION.fullmatch(line)
            group = section[1] if section else ""
        elif group and "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            yield group, name.strip(), value.partition("[")[0].strip()  # without extras


def _version(record: str) -> str:
    """Return the version from the folder's name, else from the metadata inside."""
    stem = os.path.basename(record).rpartition(".")[0]  # noqa: PTH119
    _, dash, version = stem.partition("-")
    if dash and record.endswith("dist-info"):
        return version
    text = _read(os.path.join(record, "PKG-INFO")) or _read(os.path.join(record, "METADATA"))  # noqa: PTH118
    said = re.search(r"^Version:\s*(\S+)", text, re.MULTILINE)
    return said[1] if said else version


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return ""


def _changed(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116
    except OSError:
        return 0
