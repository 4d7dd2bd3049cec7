"""Locate the models.yaml that installed packages bring, without importing any of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from registry.catalog.layers import FILE_NAME, CatalogSource, LayerKind, read_limited
from registry.families.discovery import EntryPoint, folders_of_packages

__all__ = ["family_catalogs", "package_catalogs"]


def family_catalogs(points: Iterable[EntryPoint], folders: Mapping[str, Sequence[Path]] | None = None) -> list[CatalogSource]:
    """Return the file beside each family's plugin, in its top-level package, built-in ones first; not every family has one.

    `folders` are those of the packages, where they are known already.
    """
    sources: dict[str, CatalogSource] = {}
    points = list(points)
    if folders is None:
        folders = folders_of_packages(point.package for point in points)
    for point in points:
        file = None if point.package in sources else _catalog_in(folders[point.package])
        if file is not None and file.is_file():
            sources[point.package] = _source(LayerKind.FAMILY, file, point)
    return sorted(sources.values(), key=lambda source: not source.builtin)


def package_catalogs(points: Iterable[EntryPoint], folders: Mapping[str, Sequence[Path]] | None = None) -> list[CatalogSource]:
    """Return the file of each catalog package; one that lacks it is a source that cannot be read. `folders` as above."""
    sources: dict[str, CatalogSource] = {}
    points = list(points)
    if folders is None:
        folders = folders_of_packages(point.package for point in points)
    for point in points:
        if point.package not in sources:
            file = _catalog_in(folders[point.package]) or Path(point.package, FILE_NAME).absolute()
            sources[point.package] = _source(LayerKind.PACKAGE, file, point)
    return list(sources.values())


def _catalog_in(folders: Sequence[Path]) -> Path | None:
    """Return where a package's catalog is, or would be; None for a package that is not there."""
    there = (folder / FILE_NAME for folder in folders if (folder / FILE_NAME).is_file())
    return next(there, folders[0] / FILE_NAME if folders else None)


def _source(kind: LayerKind, file: Path, point: EntryPoint) -> CatalogSource:
    return CatalogSource(kind, str(file), partial(read_limited, file), point.builtin, point.distribution, point.version)
