"""`registry validate`: report every mistake in catalogs, with its place."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from registry.base.urls import scheme_of
from registry.cli.layout import JSON, printable
from registry.errors import CatalogError, RegistryError

if TYPE_CHECKING:
    from registry.catalog.entry import ModelEntry
    from registry.model_registry import ModelRegistry

__all__ = ["validate"]


@click.command(
    epilog="\b\nExamples:\n  registry validate\n  registry validate models.yaml\n  registry validate models.yaml --json"
)
@click.argument("file", required=False, type=click.Path(exists=True, path_type=Path))
@JSON
def validate(file: Path | None, as_json: bool) -> None:
    """Show every mistake in FILE, or in all catalogs in use, as file:line:column.

    FILE is read in its own layer, or above all others if it is not in use; for a folder, the models.yaml inside it is read.
    The exit code is 1 when there is a mistake.
    """
    from registry.catalog.validation import validate
    from registry.model_registry import default_registry

    registry = default_registry()
    found = validate(
        registry.catalog_sources(),
        registry.families.names(),
        file,
        partial(_unpinned, registry),
        partial(_refused, registry),
    )
    if as_json:
        click.echo(
            json.dumps({"files": found.files, "mistakes": _rows(found.mistakes), "remarks": _rows(found.remarks)}, indent=2)
        )
    else:
        for kind, errors in (("error", found.mistakes), ("warning", found.remarks)):
            for error in errors:
                click.echo(printable(f"{error.file}:{error.line}:{error.column}: {kind}: {error.problem}"))
        count = len(found.mistakes)
        files = f"{len(found.files)} file{'' if len(found.files) == 1 else 's'}"
        click.echo(
            f"{count} mistake{'' if count == 1 else 's'} in {files}" if count else f"{files}: no mistakes", err=bool(count)
        )
    if found.mistakes:
        click.get_current_context().exit(1)


def _unpinned(registry: ModelRegistry, entry: ModelEntry) -> list[str]:
    """Return the roles that may use a file without a pin; empty for a local folder, whose files may change."""
    from registry.families.roles import unpinned_roles
    from registry.store.target import entry_target

    try:
        target, family = entry_target(entry), registry.families.maybe_get(entry.family)
    except RegistryError:  # another finding
        return []
    if family is None or scheme_of(entry.source) == "file":
        return []
    if target.file is not None:  # an archive, whose hash covers everything in it
        pin = entry.files.get(target.file)
        return [] if pin is not None and pin.sha256 else ["archive"]
    return unpinned_roles(entry.files, family.files, family.converters)


def _refused(registry: ModelRegistry, entry: ModelEntry) -> list[tuple[str, str]]:
    """Return the fields of an entry that `load` would refuse, with the problem; empty if the family is not installed."""
    if entry.head is None and not entry.config and not entry.tokenizer:
        return []
    if (family := registry.families.maybe_get(entry.family)) is None:
        return []
    from registry.pretrained.entry_check import refused

    return list(refused(entry, family))


def _rows(errors: Iterable[CatalogError]) -> list[dict[str, object]]:
    return [{"file": error.file, "line": error.line, "column": error.column, "message": error.problem} for error in errors]
