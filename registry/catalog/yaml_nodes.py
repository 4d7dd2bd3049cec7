"""Parse YAML into plain nodes that know their place in the file.

Built from parser events, not from PyYAML's constructor: that is what lets duplicate keys, tags and anchors be refused
with a place, and scalars follow the core rules of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema), in which
`on`, `no` and `1:30` are strings.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from registry.errors import CatalogError

__all__ = ["LOADER", "Node", "parse", "parse_leniently", "plain_scalar", "shortened"]


_MAX_DEPTH = 40
#: Python itself refuses to read or show numbers of more than 4300 digits; no catalog needs a fraction of that.
_MAX_DIGITS = 100
#: Keys and values of a file: each takes some hundred bytes of memory, and two in the file.
_MAX_VALUES = 5_000_000
#: Characters of a wrong value that an error shows.
_SHOWN = 80
#: The parser; the C version if PyYAML has it.
LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONSTANTS: dict[str, object] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL_FLOAT = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
#: What YAML does not allow in a file (https://yaml.org/spec/1.2.2/#51-character-set).
_UNPRINTABLE = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Node:
    """A value with its place: `value` is a scalar, a list of nodes, or a dict from key to (key node, value node)."""

    value: Any
    line: int
    column: int
    #: The error of this node, if the rest of the file can still be read.
    fault: CatalogError | None = None

    def first_fault(self) -> CatalogError | None:
        """Return the first error of this node or of a node inside it, or None."""
        if self.fault is not None:
            return self.fault
        children = (pair[1] for pair in self.value.values()) if isinstance(self.value, dict) else self.value
        inside = (child.first_fault() for child in children) if isinstance(self.value, dict | list) else ()
        return next((fault for fault in inside if fault is not None), None)

    def plain(self) -> Any:
        """Return the value as ordinary Python lists, dicts and scalars."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, (_, node) in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    @property
    def kind(self) -> str:
        """The value's type in YAML's terms."""
        if isinstance(self.value, dict):
            return "a mapping"
        if isinstance(self.value, list):
            return "a list"
        if self.value is None:
            return "empty"
        return f"the {type(self.value).__name__} {shortened(self.value)}"


def shortened(value: object) -> str:
    """Shorten a wrong value for a message."""
    shown = repr(value[: _SHOWN + 1] if isinstance(value, str) else value)
    return shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"


def parse(text: str, file: str) -> Node | None:
    """Parse one whole YAML document; None when it is empty.

    Raises:
        CatalogError: for anything that is not plain YAML with unique keys, with its line and column.
    """
    root = parse_leniently(text, file)
    if root is not None and (fault := root.first_fault()) is not None:
        raise fault
    return root


def parse_leniently(text: str, file: str) -> Node | None:
    """Parse one YAML document as `parse` does, but leave a repeated key, a tag or an anchor as the fault of its node.

    Raises:
        CatalogError: where the file as a whole cannot be read.
    """
    if found := _UNPRINTABLE.search(text):
        # Checked before parsing, because the parser's two implementations report different places for such a character.
        offset = found.start()
        raise CatalogError(
            f"the file is expected to be text, but holds the character {found.group()!r}; remove it",
            file=file,
            line=text.count("\n", 0, offset) + 1,
            column=offset - text.rfind("\n", 0, offset),
        )
    events = _limited(_events(text, file), file)
    next(events)  # StreamStart
    if isinstance(next(events), yaml.StreamEndEvent):
        return None
    root = _node(next(events), events, file, depth=0)
    next(events)  # DocumentEnd
    if not isinstance(event := next(events), yaml.StreamEndEvent):
        raise _error(event, file, "a models.yaml is expected to hold one YAML document, but holds a second one; remove it")
    return root


def _events(text: str, file: str) -> Iterator[yaml.Event]:
    try:
        yield from yaml.parse(text, Loader=LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problem = error.problem or error.context or "cannot be parsed"
        raise CatalogError(
            f"the file is expected to be YAML, but {problem}; mend it here", file=file, line=line, column=column
        ) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # PyYAML's own parser lets the last two through
        raise CatalogError(f"the file is expected to be YAML, but {str(error).splitlines()[0]}; mend it", file=file) from None


def _limited(events: Iterator[yaml.Event], file: str) -> Iterator[yaml.Event]:
    for count, event in enumerate(events):
        if count > _MAX_VALUES:
            raise _error(event, file, f"the file is expected to have at most {_MAX_VALUES:,} keys and values; write several")
        yield event


def _place(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    assert mark is not None  # every event of a parse has one
    return mark.line + 1, mark.column + 1


def _error(event: yaml.Event, file: str, message: str) -> CatalogError:
    line, column = _place(event)
    return CatalogError(message, file=file, line=line, column=column)


def _node(event: yaml.Event, events: Iterator[yaml.Event], file: str, depth: int) -> Node:
    line, column = _place(event)
    fault = None
    if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
        fault = _error(event, file, "anchors and aliases are not supported; use `base:` to share fields between models")
    elif (tag := getattr(event, "tag", None)) is not None:
        fault = _error(event, file, f"YAML tags are not supported, but the value has the tag {tag[:_SHOWN]!r}; remove it")
    if isinstance(event, yaml.AliasEvent):
        return Node(None, line, column, fault)
    if depth > _MAX_DEPTH:
        raise _error(event, file, f"values are expected to nest at most {_MAX_DEPTH} deep; flatten this one")
    if isinstance(event, yaml.ScalarEvent):
        # `implicit[0]` is true for plain scalars only; a quoted one is a string whatever it looks like.
        if not event.implicit[0]:
            return Node(event.value, line, column, fault)
        if len(event.value) > _MAX_DIGITS and _INTEGER.fullmatch(event.value):
            long = f"a number is expected to have at most {_MAX_DIGITS} digits; put text in quotes"
            return Node(event.value, line, column, fault or _error(event, file, long))
        value = plain_scalar(event.value)
        if isinstance(value, float) and math.isinf(value) and not _SPECIAL_FLOAT.fullmatch(event.value):
            beyond = f"the number {shortened(event.value)} is beyond every number; write `.inf`, or put text in quotes"
            return Node(event.value, line, column, fault or _error(event, file, beyond))
        return Node(value, line, column, fault)
    if isinstance(event, yaml.SequenceStartEvent):
        items = []
        while not isinstance(item := next(events), yaml.SequenceEndEvent):
            items.append(_node(item, events, file, depth + 1))
        return Node(items, line, column, fault)
    mapping: dict[str, tuple[Node, Node]] = {}
    while not isinstance(start := next(events), yaml.MappingEndEvent):
        key = _node(start, events, file, depth + 1)
        value = _node(next(events), events, file, depth + 1)
        if not isinstance(start, yaml.ScalarEvent):
            wrong = key.first_fault() or _error(start, file, "a key is expected to be a word, but is a list or a mapping")
            fault = fault or wrong
            continue
        # `1:` and `true:` are keys, too: a key is its text, not the value of that text.
        name = start.value
        if key.fault is not None and name not in mapping:
            value = Node(value.value, value.line, value.column, key.fault)
        if name in mapping:
            first = mapping[name][0]
            twice = _error(start, file, f"key {shortened(name)} stands twice, first in line {first.line}; remove one")
            value = Node(None, key.line, key.column, twice)
        mapping[name] = (Node(name, key.line, key.column), value)
    return Node(mapping, line, column, fault)


def plain_scalar(text: str) -> object:
    """Return the value of a scalar without quotes."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL_FLOAT.fullmatch(text):
        return float(text.replace(".", "", 1))
    return text
