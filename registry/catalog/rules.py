"""What one layer may do to the names of those below it."""

from __future__ import annotations

from collections.abc import Sequence

from registry.catalog.entry import Origin
from registry.catalog.layers import CatalogSource, LayerKind
from registry.catalog.packed import Item
from registry.catalog.raw import CatalogFile, RawEntry
from registry.errors import CatalogError, warn

__all__ = ["Item", "guarded", "refuse_hosts"]


def refuse_hosts(file: CatalogFile) -> list[CatalogError]:
    """Return a problem for each host of a project's file, which may be a stranger's clone."""
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
    """Return the entries of a name that count, highest first, and what is wrong with the highest one.

    Args:
        name: the name.
        found: what the files say of it, lowest layer first.
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
            # Of two that are refused, both are told where the first good one stands.
            if not below or below[-1][0].kind is not source.kind:
                below.append((source, origin))
    return stack, error


def _refusal(name: str, source: CatalogSource, entry: RawEntry, lower: CatalogSource, there: Origin) -> str | None:
    """Return why a file may not say what a name means that one below it says already, or None when it may."""
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
