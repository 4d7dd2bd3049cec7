"""How the entries of a catalog are laid out, and one more in the same way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from registry.catalog.lines import Lines
from registry.catalog.marks import Marked
from registry.catalog.yaml_text import flow_text, scalar_text

__all__ = ["STEP", "Style"]

#: Columns by which what belongs to something is indented, where no example shows another number.
STEP = 2
#: An entry that is longer than this on one line is written on several.
_WIDTH = 120


class Style:
    """How entries are written: at which column, by which steps, with which quotes."""

    def __init__(
        self, column: int, *, step: int = STEP, quote: str = "'", quoted_names: bool = False, short: bool = False
    ) -> None:
        self.column = column
        self._step = step
        self._quote = quote
        self._quoted_names = quoted_names
        self._short = short

    @classmethod
    def of(cls, lines: Lines, models: Marked) -> Style:
        """Return the style of the entries that are there."""
        pairs = models.pairs()
        if not pairs:
            return cls(0)
        column = lines.column(pairs[-1][0].start if models.flow else models.start)
        steps = [lines.column(value.start) - column for _, value in pairs if value.kind == "mapping" and not value.flow]
        names = [key.style for key, _ in pairs]
        used = [quote for quote in (*names, *_quotes(models)) if quote in ("'", '"') and quote]
        return cls(
            column,
            step=steps[-1] if steps and steps[-1] > 0 else STEP,
            quote=used[-1] if used else "'",
            quoted_names=all(names),
            short=all(value.flow for _, value in pairs),
        )

    def flow(self, name: str, fields: Mapping[str, Any]) -> str:
        """Return the entry in brackets."""
        return flow_text({name: fields}, self._quote, always=self._quoted_names)[1:-1]

    def lines(self, name: str, fields: Mapping[str, Any]) -> list[str]:
        """Return the lines of the entry in a block."""
        key = " " * self.column + scalar_text(name, self._quote, always=self._quoted_names) + ":"
        in_brackets = f"{key} {flow_text(fields, self._quote)}"
        if not fields or (self._short and len(in_brackets) <= _WIDTH):
            return [in_brackets]
        return [key, *self._block(fields, self.column + self._step)]

    def _block(self, fields: Mapping[str, Any], column: int) -> list[str]:
        written = []
        for key, value in fields.items():
            line = f"{' ' * column}{scalar_text(str(key), self._quote)}: "
            if isinstance(value, Mapping) and value and any(isinstance(item, Mapping) for item in value.values()):
                written += [line.rstrip(), *self._block(value, column + self._step)]
            else:
                written.append(line + flow_text(value, self._quote))
        return written


def _quotes(node: Marked) -> Iterator[str]:
    for child in node.children:
        yield child.style
        yield from _quotes(child)
