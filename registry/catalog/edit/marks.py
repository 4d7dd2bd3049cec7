"""The exact position of each value in a YAML text, for cutting and splicing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from registry.catalog import yaml_nodes as document

__all__ = ["Document", "Marked", "mark"]

#: Line ends of YAML 1.1, which the parser follows.
_BREAK = r"(?:\r\n|[\n\r\x85\u2028\u2029])"
_COLON = re.compile(r"\s*:")
#: The properties of nearly every scalar, shared to save memory: a catalog may have a million.
_PLAIN = (None, None, True)
_QUOTED = (None, None, False)
_LAST_BREAK = re.compile(rf"{_BREAK}\Z")


@dataclass(slots=True)
class Marked:
    """A value and its characters from `start` up to `end`, without surrounding comments, blanks and line breaks."""

    kind: Literal["scalar", "list", "mapping", "alias"]
    start: int
    end: int
    #: A scalar's text, an alias's name.
    value: str = ""
    #: Whether a collection is written in brackets.
    flow: bool = False
    #: The quotes of a scalar, `|`, `>`, or empty.
    style: str = ""
    #: Anchor, tag, and whether a scalar is plain, which decides its type.
    said: tuple[str | None, str | None, bool] = (None, None, False)
    #: The items of a list; keys and values of a mapping in turn.
    children: Sequence[Marked] = ()

    def pairs(self) -> list[tuple[Marked, Marked]]:
        """Return the keys and values of a mapping."""
        return list(zip(self.children[::2], self.children[1::2], strict=True))

    def find(self, key: str) -> tuple[Marked, Marked] | None:
        """Return the first pair of a mapping with this key, or None."""
        return next((pair for pair in self.pairs() if pair[0].kind == "scalar" and pair[0].value == key), None)

    def plain(self) -> Any:
        """Return the value as `registry.catalog.yaml_nodes` reads it. It must have no tag and no anchor."""
        if self.kind == "mapping":
            return {key.value: value.plain() for key, value in self.pairs()}
        if self.kind == "list":
            return [child.plain() for child in self.children]
        return document.plain_scalar(self.value) if self.said[2] else self.value

    def content(self) -> tuple[object, ...]:
        """Return the content as nested tuples, which are equal for texts that differ only in layout."""
        return (self.kind, self.value, self.said, tuple(child.content() for child in self.children))


@dataclass(frozen=True)
class Document:
    """A text of one YAML document. `root` is None for an empty text; content may be appended before `end`."""

    root: Marked | None
    end: int


def mark(text: str) -> Document:
    """Parse a text that `registry.catalog.yaml_nodes` accepts, without a byte order mark."""
    events = yaml.parse(text, Loader=document.LOADER)
    next(events)  # StreamStart
    if isinstance(next(events), yaml.StreamEndEvent):
        return Document(None, len(text))
    root = _marked(next(events), events, text)
    ended = next(events)
    explicit = isinstance(ended, yaml.DocumentEndEvent) and ended.explicit
    return Document(root, _index(ended) if explicit else len(text))


def _index(event: yaml.Event, *, at_end: bool = False) -> int:
    found = event.end_mark if at_end else event.start_mark
    assert found is not None  # every event of a parse has both
    return found.index


def _marked(event: yaml.Event, events: Iterator[yaml.Event], text: str) -> Marked:
    start = _index(event)
    if isinstance(event, yaml.AliasEvent):
        return Marked("alias", start, _index(event, at_end=True), value=event.anchor or "")
    if isinstance(event, yaml.ScalarEvent):
        style = event.style or ""
        said: tuple[str | None, str | None, bool] = _PLAIN if event.implicit[0] else _QUOTED
        if event.anchor is not None or event.tag is not None:
            said = (event.anchor, event.tag, bool(event.implicit[0]))
        end = _index(event, at_end=True)
        if style in ("|", ">"):
            end = _block_end(text, start, end)
        return Marked("scalar", start, end, value=event.value, style=style, said=said)
    is_list = isinstance(event, yaml.SequenceStartEvent)
    assert isinstance(event, yaml.CollectionStartEvent)
    found = Marked("list" if is_list else "mapping", start, start, flow=bool(event.flow_style))
    found.said = (event.anchor, event.tag, False)
    found.children = children = list[Marked]()
    while not isinstance(item := next(events), yaml.CollectionEndEvent):
        child = _marked(item, events, text)
        if child.kind == "scalar" and not child.value and not child.style and children:
            # The value is empty; the parser may report it at the next token.
            before = children[-1].end
            colon = _COLON.match(text, before) if len(children) % 2 and not is_list else None
            child.start = child.end = colon.end() if colon else min(child.start, before)
        children.append(child)
    # The parser ends a block where the next token begins, after comments that may belong to that token.
    found.end = _index(item, at_end=True) if found.flow else children[-1].end
    return found


def _block_end(text: str, start: int, end: int) -> int:
    """Return the end of a `|` or `>` scalar. Blank lines after it belong to it only if it keeps them."""
    header = re.compile(r"[|>][0-9]?\+|[|>]\+").match(text, start)
    if header is None:
        return start + len(text[start:end].rstrip())
    end = start + len(text[start:end].rstrip(" \t"))
    last = _LAST_BREAK.search(text, start, end)
    return last.start() if last else end
