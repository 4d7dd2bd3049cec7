"""Find every mistake in catalog files, for `registry validate`."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from registry.catalog.catalog import Catalog
from registry.catalog.entry import CatalogFile, ModelEntry, Origin
from registry.catalog.layers import INSTALLED, CatalogSource, LayerKind, file_source, read_source
from registry.errors import CatalogError, PluginError, RegistryWarning

__all__ = ["Findings", "validate"]


class Findings:
    """Problems and remarks of catalog files, in the order of files and lines."""

    def __init__(self, files: Sequence[str]) -> None:
        #: The validated files, lowest layer first.
        self.files = list(dict.fromkeys(files))
        self._mistakes: dict[tuple[str, int, int, str], CatalogError] = {}
        self._remarks: dict[tuple[str, int, int, str], CatalogError] = {}

    @property
    def mistakes(self) -> list[CatalogError]:
        """Mistakes that make an entry or a file unusable."""
        return self._sorted(self._mistakes)

    @property
    def remarks(self) -> list[CatalogError]:
        """Possible mistakes that may be intended, but do not work here."""
        return self._sorted(self._remarks)

    def add(self, error: CatalogError, *, remark: bool = False) -> None:
        """Add a finding once, if it is in one of the files."""
        if error.file in self.files:
            found = self._remarks if remark else self._mistakes
            found.setdefault((error.file, error.line, error.column, error.problem), error)

    def _sorted(self, found: dict[tuple[str, int, int, str], CatalogError]) -> list[CatalogError]:
        return sorted(found.values(), key=lambda error: (self.files.index(error.file), error.line, error.column))


def validate(
    sources: Sequence[CatalogSource],
    families: Collection[str],
    file: Path | None = None,
    unpinned: Callable[[ModelEntry], Sequence[str]] | None = None,
    refused: Callable[[ModelEntry], Sequence[tuple[str, str]]] | None = None,
) -> Findings:
    """Read catalogs from their texts, and return the problems of each.

    Args:
        sources: all layers, lowest first.
        families: the names of installed families.
        file: validate only this file; if it is not one of the sources, it is added above them.
        unpinned: returns the roles of an entry's files that have no sha256. It is called for entries of installed packages
            only if `file` is one of their files.
        refused: returns the fields of an entry that cannot be loaded, such as `config.num_labels`, each with the problem;
            raises PluginError when the family's code fails.
    """
    if file is None:
        findings = Findings([source.path for source in sources])
    else:
        own = file_source(LayerKind.ARGUMENT, file)
        findings = Findings([own.path])
        if own.path not in {source.path for source in sources}:
            sources = [*sources, own]
    for source in sources:
        if source.path in findings.files:
            _look_at(read_source(source), findings, asked=file is not None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RegistryWarning)  # the problems contain the same
        catalog = Catalog(sources)
        for error in (*catalog.problems, *catalog.broken.values()):
            findings.add(error)
        installed = {source.path for source in sources if source.kind in INSTALLED and file is None}
        for name in catalog.usable():
            entry = catalog.peek(name)
            _look_at_entry(entry, name, catalog, families, findings)
            if refused is not None:
                _look_at_fields(entry, refused, findings)
            place = entry.origins.get("files", entry.origins["source"])
            if unpinned is not None and not entry.via and place.file not in installed and (roles := unpinned(entry)):
                what = " and ".join(filter(None, [", ".join(roles[:-1]), roles[-1]]))
                message = (
                    f"{what} of model {name!r} {'is' if len(roles) == 1 else 'are'} not pinned, so whatever the source has is "
                    "used; add each file's sha256 to `files:`, or run `registry lock`"
                )
                findings.add(_at(place, message), remark=True)
    return findings


def _look_at(file: CatalogFile, findings: Findings, *, asked: bool) -> None:
    """Add the problems of one text, including entries that a higher layer replaces."""
    for error in (*file.problems, *file.broken.values()):
        findings.add(error)
    if not file.ours and (asked or file.suspicious):
        message = (
            "the file is expected to say `registry: 1`, but does not, so it is left alone; add the line if it is a catalog"
        )
        findings.add(CatalogError(message, file=file.path), remark=not asked)


def _look_at_entry(entry: ModelEntry, name: str, catalog: Catalog, families: Collection[str], findings: Findings) -> None:
    if entry.family not in families:
        close = difflib.get_close_matches(entry.family, families, n=1)
        meant = f"did you mean {close[0]!r}?" if close else "install the package that provides it"
        message = f"family of model {name!r} is expected to be installed, but {entry.family!r} is not; {meant}"
        findings.add(_at(entry.origins["family"], message), remark=True)
    use = entry.deprecated.use if entry.deprecated else ""
    if use and not catalog.knows(use):
        message = f"use of deprecated of model {entry.name!r} is expected to be a known model, but {use!r} is not; name another"
        findings.add(_at(entry.origins["deprecated.use"], message))


def _look_at_fields(entry: ModelEntry, refused: Callable[[ModelEntry], Sequence[tuple[str, str]]], findings: Findings) -> None:
    try:
        for field, problem in refused(entry):
            place = entry.origins.get(field) or entry.origins[field.partition(".")[0]]
            findings.add(_at(place, problem))
    except PluginError as error:
        message = f"model {entry.name!r} cannot be checked, because its family fails: {error.message}"
        findings.add(_at(entry.origins["family"], message), remark=True)


def _at(origin: Origin, message: str) -> CatalogError:
    return CatalogError(message, file=origin.file, line=origin.line, column=origin.column)
