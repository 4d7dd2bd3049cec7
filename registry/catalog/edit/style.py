"""The layout of a catalog's entries, and writing an entry in the same layout."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from registry.catalog.edit.lines import Lines
from registry.catalog.edit.marks import Marked
from registry.catalog.yaml_nodes import plain_scalar

__all__ = ["STEP", "Style", "flow_text", "scalar_text"]


#: Columns of indentation, when no example shows another number.
STEP = 2

#: An entry that is longer than this on one line is split into several lines.
_WIDTH = 120


class Style:
    """How entries are written: column, indentation, quotes."""

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
        """Return the style of the existing entries."""
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


#: Text that needs no quotes, in brackets or outside: its characters have no meaning in YAML there.
_PLAIN = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9_/.~](?:[A-Za-z0-9_/.~@+()=;-]|:(?=[A-Za-z0-9_/.@])| (?=[A-Za-z0-9_/.(]))*")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_RESOLVER = yaml.resolver.Resolver()
_TEXT = "tag:yaml.org,2002:str"


def scalar_text(value: object, quote: str = "'", *, always: bool = False) -> str:
    """Format a scalar on one line.

    Args:
        value: text, a number, true or false, or None.
        quote: the quotes for text that needs them, `'` or `"`.
        always: quote all text.

    Raises:
        ValueError: when YAML cannot represent the value.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ".nan" if value != value else ".inf" if value > 0 else "-.inf"
    if not isinstance(value, str):
        raise ValueError(f"a value is expected to be text, a number, true, false or null, but is {value!r}")
    if not always and _PLAIN.fullmatch(value) and _is_text(value):
        return value
    if quote == '"' or not value.isprintable():
        return '"' + "".join(map(_escaped, value)) + '"'
    return "'" + value.replace("'", "''") + "'"


def flow_text(value: object, quote: str = "'", *, always: bool = False) -> str:
    """Format any value on one line, collections in brackets. With `always` and `"` the result is JSON."""
    if isinstance(value, Mapping):
        pairs = (
            f"{scalar_text(str(key), quote, always=always)}: {flow_text(item, quote, always=always)}"
            for key, item in value.items()
        )
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(flow_text(item, quote, always=always) for item in value) + "]"
    return scalar_text(value, quote, always=always)


def _is_text(value: str) -> bool:
    """Whether a plain word is text in YAML 1.1, where `on` and `1:30` are not, and in the core schema of 1.2."""
    tag = _RESOLVER.resolve(yaml.ScalarNode, value, (True, False))  # type: ignore[no-untyped-call]  # PyYAML's own
    return bool(tag == _TEXT) and isinstance(plain_scalar(value), str)


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    if 0xD800 <= code < 0xE000:
        raise ValueError("text is expected to be Unicode, but has a lone surrogate")
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
