"""Shared parts of the commands: options, tables, sizes."""

from __future__ import annotations

import contextlib
import os
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

from registry.errors import RegistryError, escaped

__all__ = [
    "CACHE",
    "EXACT",
    "JSON",
    "LOCKED",
    "OFFLINE",
    "each",
    "folded",
    "key_values",
    "printable",
    "printable_lines",
    "size_text",
    "table",
    "terminal_width",
]

_Result = TypeVar("_Result")

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for a script.")
OFFLINE = click.option("--offline", is_flag=True, default=None, help="Use only files on this machine.")
LOCKED = click.option("--locked", "locked", flag_value="true", help="Use only the bytes that models.lock lists.")
EXACT = click.option("--exact", "locked", flag_value="exact", help="Like --locked, and require the locked software versions.")
CACHE = click.option("--cache-dir", type=click.Path(), help="Use this cache folder.")


def each(names: Iterable[str], work: Callable[[str], _Result]) -> tuple[dict[str, _Result], bool]:
    """Call a function for each name. An error is printed and does not stop the others. Return results, and if all succeeded."""
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
    """Return text on one line, `escaped`, so that untrusted text cannot control the terminal."""
    return escaped(text).replace("\n", "\\n")


def printable_lines(message: object) -> str:
    """Return a message of several lines, each `printable`."""
    return "\n".join(printable(line) for line in str(message).split("\n"))


def table(rows: Iterable[Sequence[str]], *, fit: bool = False) -> list[str]:
    """Format rows as lines with aligned columns, the first column in bold on a terminal with styles.

    With `fit` the last column is cut where a line would be wider than the terminal, and a row whose first cell takes more than
    half of it is not aligned with the others.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    if not rows:
        return []
    widths = [max(map(_columns, column)) for column in zip(*rows, strict=True)]
    if fit:
        half = terminal_width() // 2
        widths[0] = max((found for row in rows if (found := _columns(row[0])) <= half), default=0)
    lines = []
    for row in rows:
        cells = [cell + " " * (width - _columns(cell)) for cell, width in zip(row, widths, strict=True)]
        if fit:
            cells[-1] = _cut(row[-1], terminal_width() - _columns("  ".join([*cells[:-1], ""])))
        lines.append(_bold("  ".join(cells).rstrip(), cells[0]))
    return lines


def folded(rows: Iterable[Sequence[str]]) -> list[str]:
    """Format rows as lines that fit the terminal: text that does not fit beside the first cell goes below it."""
    rows = [[printable(cell) for cell in row] for row in rows]
    label = max((_columns(row[0]) for row in rows), default=0)
    lines = []
    for first, *others in rows:
        room = terminal_width() - label - 2
        pieces: list[str] = []
        for cell in filter(None, others):
            if pieces and _columns(beside := f"{pieces[-1]}  {cell}") <= room:
                pieces[-1] = beside
            else:
                pieces += _wrapped(cell, room)
        begin = first + " " * (label - _columns(first))
        lines.append(_bold(f"{begin}  {''.join(pieces[:1])}".rstrip(), first))
        lines += [" " * (label + 2) + piece for piece in pieces[1:]]
    return lines


def terminal_width() -> int:
    """Return the columns of the terminal, or 80 without a terminal."""
    # Like shutil.get_terminal_size, but importing shutil takes longer than this.
    columns = os.environ.get("COLUMNS", "")
    width = int(columns) if columns.isascii() and columns.isdecimal() and len(columns) < 6 else 0
    if not width:
        with contextlib.suppress(AttributeError, OSError, ValueError):
            width = os.get_terminal_size(sys.__stdout__.fileno()).columns  # type: ignore[union-attr]  # or none
    return max(width or 80, 40)


def _wrapped(text: str, width: int) -> list[str]:
    """Wrap a text into lines. A path that is too long for one line is split after a `/` if possible."""
    lines = []
    for line in textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False):
        while _columns(line) > width:
            head = _cut(line, width, "")
            end = head.rfind("/") + 1 or len(head)
            lines.append(line[:end])
            line = line[end:]
        lines.append(line)
    return lines


def _bold(line: str, begin: str) -> str:
    if os.environ.get("NO_COLOR"):
        return line
    return click.style(line[: len(begin)], bold=True) + line[len(begin) :]  # click removes styles without a terminal


def _columns(text: str) -> int:
    """Return the width of a text in terminal columns."""
    return len(text) if text.isascii() else sum(map(_letter_columns, text))


def _letter_columns(letter: str) -> int:
    return 0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _cut(text: str, width: int, mark: str = "…") -> str:
    """Truncate a text to a width, with a mark if something was cut off."""
    if _columns(text) <= width:
        return text
    end, used = 0, len(mark)
    while end < len(text) and used + _letter_columns(text[end]) <= width:
        used += _letter_columns(text[end])
        end += 1
    return text[: max(end, 1)].rstrip() + mark if mark else text[: max(end, 1)]


def size_text(count: int) -> str:
    """Format a number of bytes in powers of 1000: `440.4 MB`."""
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 999.95:
            break
        size, unit = size / 1000, larger
    return f"{count} bytes" if unit == "bytes" else f"{size:.1f} {unit}"


def key_values(given: Sequence[str], option: str) -> dict[str, Any]:
    """Parse `key=value` pairs. A value is parsed as in a models.yaml."""
    from registry.catalog.yaml_nodes import parse
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
