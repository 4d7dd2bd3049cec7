"""Catalog files that are looked up together: packed in the cache where that can be, else from their texts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from registry.catalog.layers import CatalogSource
from registry.catalog.packed import Item, Packed, Unusable, file_of
from registry.catalog.packing import packed_one, packed_together
from registry.catalog.raw import CatalogFile
from registry.catalog.text import read_source

__all__ = ["Shelf"]

_TRIES = 2

_Result = TypeVar("_Result")


class Shelf:
    """Some catalog files, lowest first; what each says of a name is told with the file's number here."""

    def __init__(self, sources: Sequence[CatalogSource], folder: Path | None = None) -> None:
        """Read what the files say apart from their entries; packed files lie in `folder`, None for none."""
        self._sources = list(sources)
        self._folder = folder
        self._packed: Packed | None = None
        #: What is not packed, by number.
        self._texts: dict[int, CatalogFile] = {}
        #: Everything, once it was asked for.
        self._all: dict[str, list[tuple[int, Item]]] | None = None
        self._load(folder)
        #: The files, of which those that are packed lack their entries.
        self.files = [
            self._texts[number] if self._packed is None or number in self._texts else file_of(self._packed.facts[number])
            for number in range(len(self._sources))
        ]

    def find(self, name: str) -> list[tuple[int, Item]]:
        """Return what each file that knows `name` says of it, with the file's number, lowest first."""
        if self._all is not None:
            return self._all.get(name, [])

        def look() -> list[tuple[int, Item]]:
            found = self._packed.find(name) if self._packed else []
            texts = ((number, file.entries.get(name) or file.broken.get(name)) for number, file in self._texts.items())
            return sorted([*found, *((number, item) for number, item in texts if item is not None)], key=lambda one: one[0])

        return self._tried(look)

    def names(self) -> set[str]:
        """Return all names that a file knows."""
        if self._all is not None:
            return set(self._all)
        return self._tried(lambda: {*(self._packed.names() if self._packed else ()), *(name for name, _, _ in self._written())})

    def read_all(self) -> None:
        """Keep everything in memory, for who asks for many names."""
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
        """Look something up; where the packed file turns out to be damaged or gone, make it anew, or do without."""
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
