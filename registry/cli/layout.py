"""What the commands have in common: options, tables, sizes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

from registry.errors import RegistryError

__all__ = [
    "CACHE",
    "EXACT",
    "JSON",
    "LOCKED",
    "OFFLINE",
    "each",
    "key_values",
    "printable",
    "printable_lines",
    "size_text",
    "table",
]

#: C0 and C1 controls, and what turns the direction of writing.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_Result = TypeVar("_Result")

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for a script.")
OFFLINE = click.option("--offline", is_flag=True, default=None, help="Use only what is on this machine.")
LOCKED = click.option("--locked", "locked", flag_value="true", help="Use only the bytes that models.lock says.")
EXACT = click.option("--exact", "locked", flag_value="exact", help="As --locked, with the locked versions of the software.")
CACHE = click.option("--cache-dir", type=click.Path(), help="Use this cache folder.")


def each(names: Iterable[str], work: Callable[[str], _Result]) -> tuple[dict[str, _Result], bool]:
    """Do something for each name; an error of one is told, and the others go on. Return results, and whether all succeeded."""
    done: dict[str, _Result] = {}
    all_done = True
    for name in dict.fromkeys(names):
        try:
            done[name] = work(name)
        except RegistryError as error:
            click.echo(f"error: {printable_lines(error)}", err=True)
            all_done = False
    return done, all_done


def printable(text: str) -> str:
    """Return text with its control characters as escapes, so that what a stranger wrote moves no cursor."""
    return _CONTROLS.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def printable_lines(message: object) -> str:
    """Return a message of several lines, each `printable`."""
    return "\n".join(printable(line) for line in str(message).split("\n"))


def table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return rows as lines with aligned columns, the first in bold on a terminal that wants it."""
    rows = [[printable(cell) for cell in row] for row in rows]
    if not rows:
        return []
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        if not os.environ.get("NO_COLOR"):
            cells[0] = click.style(cells[0], bold=True)  # click drops it where the output is no terminal
        lines.append("  ".join(cells).rstrip())
    return lines


def size_text(count: int) -> str:
    """Return a number of bytes for people, in powers of 1000: `440.4 MB`."""
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 999.95:
            break
        size, unit = size / 1000, larger
    return f"{count} bytes" if unit == "bytes" else f"{size:.1f} {unit}"


def key_values(given: Sequence[str], option: str) -> dict[str, Any]:
    """Return `key=value` pairs; a value is read as in a models.yaml."""
    from registry.catalog.document import parse
    from registry.errors import CatalogError

    settings: dict[str, Any] = {}
    for pair in given:
        key, mark, value = pair.partition("=")
        if not mark or not key:
            raise click.BadParameter(f"it is expected to be KEY=VALUE, but is {pair!r}", param_hint=option)
        if key in settings:
            raise click.BadParameter(f"{key!r} is expected to be given once, but is given twice", param_hint=option)
        try:
            node = parse(value, option)
        except CatalogError as error:
            raise click.BadParameter(f"the value of {key!r} cannot be read: {error.problem}", param_hint=option) from None
        if node is None and value:
            raise click.BadParameter(f"the value of {key!r} is a comment to YAML; put it in quotes", param_hint=option)
        settings[key] = node.plain() if node is not None else ""
    return settings
