"""Add an entry to the text of a models.yaml, or remove one, without changing any other character.

The text is spliced at the positions that the parser reports for values; nothing is reformatted. Every result is parsed
again: it must have the old content plus the new entry, or minus the removed one. Otherwise it is not used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from registry.catalog.edit.lines import Lines
from registry.catalog.edit.marks import Document, Marked, mark
from registry.catalog.edit.style import STEP, Style
from registry.catalog.schema import SCHEMA_VERSION
from registry.catalog.yaml_nodes import Node, parse_leniently
from registry.errors import CatalogError

__all__ = ["add_entry", "remove_entry"]

_BOM = "\ufeff"
#: A key's colon and an empty section on the same line.
_EMPTY = re.compile(r"[ \t]*:[ \t]*(?:\{[ \t]*\}|~|null|Null|NULL)")
_AFTER_VALUE = re.compile(r"[ \t]*,")


def add_entry(text: str, name: str, fields: Mapping[str, Any], file: str = "models.yaml", *, replace: bool = False) -> str:
    """Return a catalog's text with a new entry, after the others and in their style.

    `remove_entry` gives the old text back, to the character, except for an empty `models: {}` or `models: null`, which becomes
    a block. An empty text becomes a catalog.

    Args:
        text: of the file; a byte order mark, its line ends and a missing last one are kept.
        name: of the model.
        fields: of the entry, by key, as plain values.
        file: what errors call the text.
        replace: rewrite the entry if the name exists. Comments inside it are removed, those above it stay.

    Raises:
        CatalogError: when the name is there, when the file is no catalog, or when it is written in a way that cannot be
            spliced.
    """
    bom, text = _without_bom(text)
    root = _read(text, file)
    there = _models(root).get(name)
    if there is not None and not replace:
        key = there[0]
        raise CatalogError(
            f"model {name!r} is expected to be new, but is there already; remove it first, or replace it",
            file=file,
            line=key.line,
            column=key.column,
        )
    old = mark(text)
    if there is not None:
        _refuse_twice(there, name, file)
    elif (opened := _opened(text, old)) is not None:
        text, old = opened, mark(opened)
    try:
        right = []
        for new in _added(text, old, name, fields) if there is None else _replaced(text, old, name, fields):
            if (document := _marked(new)) is None or not _says(document, old, name, fields):
                continue
            if there is not None or _without(new, document, name, text) == text:
                return bom + new
            right.append(new)  # valid, but `remove` cannot undo it; another candidate may be better
    except ValueError as error:
        raise CatalogError(f"model {name!r} is expected to be YAML, but {error}", file=file) from None
    if not right:
        raise _unended(text, file) or _unfit(text, old, file, "written to")
    return bom + right[0]


def remove_entry(text: str, name: str, file: str = "models.yaml") -> str:
    """Return a catalog's text without an entry and the comments that belong to it.

    Its own are those inside it, those right above it at its indentation, and those below it that are indented deeper.

    Raises:
        CatalogError: when the name is missing or defined twice, or when the file's layout cannot be spliced.
    """
    bom, text = _without_bom(text)
    there = _models(_read(text, file)).get(name)
    if there is None:
        raise CatalogError(f"model {name!r} is expected to stand in this file, but does not", file=file)
    _refuse_twice(there, name, file)
    document = mark(text)
    if (new := _without(text, document, name)) is None:
        raise _unfit(text, document, file, "removed from")
    return bom + new


def _opened(text: str, document: Document) -> str | None:
    """Return a text with an empty `models:` section, `{}` or `null`, as an empty block; None if it has no such section."""
    root = document.root
    section = root.find("models") if root is not None and root.kind == "mapping" and not root.flow else None
    if section is None or not re.fullmatch(_EMPTY, text[section[0].end : (models := section[1]).end]):
        return None
    return text[: models.start].rstrip(" \t") + text[models.end :]


def _without(text: str, document: Document, name: str, right: str | None = None) -> str | None:
    """Return a text without an entry, or None if it cannot be cut out. A result among `right` is not checked again."""
    for new in _removed(text, document, name):
        if new == right or ((shorter := _marked(new)) is not None and _says(shorter, document, name, None)):
            return new
    return None


def _marked(text: str) -> Document | None:
    """Return the values of a spliced text, or None if it is not valid YAML."""
    try:
        return mark(text)
    except yaml.YAMLError:
        return None


def _without_bom(text: str) -> tuple[str, str]:
    return (_BOM, text[1:]) if text.startswith(_BOM) else ("", text)


def _read(text: str, file: str) -> Node | None:
    """Return the root of a catalog, or None for an empty text.

    Raises:
        CatalogError: when the file belongs to another program or has another schema version.
    """
    root = parse_leniently(text, file)
    if root is None or (root.value is None and root.fault is None):
        return None
    if not isinstance(root.value, dict) or "registry" not in root.value:
        raise CatalogError(
            f"the file is expected to be a catalog, but has no line `registry: {SCHEMA_VERSION}`: it belongs to another "
            "program; add the line if it is a catalog, or write to another file",
            file=file,
            line=root.line,
            column=root.column,
        )
    version = root.value["registry"][1]
    if type(version.value) is not int or version.value != SCHEMA_VERSION:
        raise CatalogError(
            f"registry is expected to be schema version {SCHEMA_VERSION}, but is {version.kind}",
            file=file,
            line=version.line,
            column=version.column,
        )
    models = root.value["models"][1] if "models" in root.value else None
    if models is not None and models.fault is not None:
        raise models.fault
    if models is not None and models.value is not None and not isinstance(models.value, dict):
        raise CatalogError(
            f"models is expected to be a mapping, but is {models.kind}", file=file, line=models.line, column=models.column
        )
    return root


def _models(root: Node | None) -> dict[str, tuple[Node, Node]]:
    section = root.value.get("models") if root is not None else None
    models: dict[str, tuple[Node, Node]] = section[1].value or {} if section else {}
    return models


def _refuse_twice(there: tuple[Node, Node], name: str, file: str) -> None:
    """Raise when a name is defined twice, because it is unclear which entry to change."""
    fault = there[1].fault
    if fault is not None and f"key {name!r} stands twice" in fault.problem:
        raise fault


def _unfit(text: str, document: Document, file: str, done: str) -> CatalogError:
    section = document.root.find("models") if document.root is not None else None
    if section is None:
        problem = "the file is expected to have a key `models`, or not to be in brackets, but is and has none; add `models: {}`"
        return CatalogError(problem, file=file)
    lines = Lines(text)
    return CatalogError(
        f"models is expected to be written so that an entry can be {done} it by command, but has an unusual form; edit the "
        "file by hand",
        file=file,
        line=lines.number(section[0].start),
        column=lines.column(section[0].start) + 1,
    )


def _unended(text: str, file: str) -> CatalogError | None:
    """Return the error for a block scalar at the end of the file that a line end after it would change."""
    lines = Lines(text)
    old, new = mark(text).root, mark(text + "\n").root
    if lines.ends or old is None or new is None or old.content() == new.content():
        return None
    return CatalogError(
        "the last line of the file is expected to have an end, or the text in it changes with what is added, but has none; "
        "end it",
        file=file,
        line=lines.number(len(text)),
    )


def _says(new: Document, old: Document, name: str, fields: Mapping[str, Any] | None) -> bool:
    """Whether a text has the content of the old one, and for `name` exactly `fields` (None: no entry)."""
    section = new.root.find("models") if new.root is not None and new.root.kind == "mapping" else None
    found = section[1].find(name) if section is not None and section[1].kind == "mapping" else None
    if (found is None) != (fields is None):
        return False
    # Compare by repr: in Python 1 == True and nan != nan.
    as_intended = found is None or repr(found[1].plain()) == repr(_plain(fields))
    return as_intended and _others(new.root, name) == (_others(old.root, name) or _NOTHING_ELSE)


#: The text of a new catalog before its first entry.
_NOTHING_ELSE = (("registry", ("scalar", str(SCHEMA_VERSION), (None, None, True), ())),)


def _others(root: Marked | None, name: str) -> tuple[tuple[str, Any], ...]:
    """Return the content of a catalog without one model. An empty `models:` section equals a missing one."""
    if root is None or root.kind != "mapping":
        return ()
    said: list[tuple[str, Any]] = []
    for key, value in root.pairs():
        if key.value == "models" and value.kind == "mapping":
            rest = tuple((k.content(), v.content()) for k, v in value.pairs() if k.value != name)
            said += [("models", rest)] if rest else []
        elif key.value != "models" or value.value:
            said.append((key.value, value.content()))
    return tuple(said)


def _plain(value: Any) -> Any:
    """Return a value as the parser returns it: keys are strings, sequences are lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


# -- adding --------------------------------------------------------------------------------------------------------------


def _added(text: str, document: Document, name: str, fields: Mapping[str, Any]) -> Iterator[str]:
    """Yield candidate texts with the entry, best first. The caller checks them."""
    lines = Lines(text)
    root = document.root if document.root is not None and document.root.kind == "mapping" else None
    section = root.find("models") if root is not None else None
    if section is None:
        if root is not None and root.flow:
            return
        column = lines.column(root.start) if root is not None else 0
        written = Style(column + STEP).lines(name, fields)
        head = [" " * column + "models:", *written]
        if root is None:
            yield lines.insert(document.end, [f"registry: {SCHEMA_VERSION}", *head])
        else:
            yield lines.insert(document.end, ["", *head])
            yield lines.insert(document.end, head)
        return
    key, models = section
    if models.flow:
        yield from _added_in_flow(text, lines, models, name, fields)
    elif models.kind == "mapping":
        style = Style.of(lines, models)
        written = style.lines(name, fields)
        at = lines.below(models.end, style.column)
        ways = [written, ["", *written]]
        yield from (lines.insert(at, way) for way in (ways[::-1] if _is_spaced(lines, models) else ways))
    elif models.start == models.end:
        assert root is not None
        at = lines.after(models.end)
        column = lines.column(key.start)
        inner = lines.comment_column(at, deeper_than=column) or column + STEP
        written = Style(inner).lines(name, fields)
        yield lines.insert(at, written)
        yield lines.insert(at, ["", *written])


def _added_in_flow(text: str, lines: Lines, models: Marked, name: str, fields: Mapping[str, Any]) -> Iterator[str]:
    pairs = models.pairs()
    pair = Style.of(lines, models).flow(name, fields)
    if not pairs:
        yield text[: models.start + 1] + pair + text[models.start + 1 :]
        return
    key, value = pairs[-1]
    comma = _AFTER_VALUE.match(text, value.end)
    ended = comma.end() if comma else value.end
    if lines.is_first(key.start) and lines.is_last(ended):
        line = " " * lines.column(key.start) + pair + ("," if comma else "")
        with_comma = text if comma else text[: value.end] + "," + text[value.end :]
        yield Lines(with_comma).insert(lines.after(ended) + (0 if comma else 1), [line])
    yield text[: value.end] + ", " + pair + text[value.end :]


def _replaced(text: str, document: Document, name: str, fields: Mapping[str, Any]) -> Iterator[str]:
    lines = Lines(text)
    models, index = _place_of(document, name)
    key, value = models.pairs()[index]
    if models.flow:
        yield text[: key.start] + Style.of(lines, models).flow(name, fields) + text[value.end :]
    else:
        written = Style.of(lines, models).lines(name, fields)
        yield lines.swap(lines.start(key.start), lines.after(value.end), written)


def _is_spaced(lines: Lines, models: Marked) -> bool:
    """Whether a blank line precedes the last of several entries."""
    pairs = models.pairs()
    if len(pairs) < 2:
        return False
    begin = lines.after(pairs[-2][1].end)
    start = lines.above(pairs[-1][0].start, lines.column(models.start), begin)
    return start > begin and lines.is_blank(lines.before(start))


# -- removing ------------------------------------------------------------------------------------------------------------


def _removed(text: str, document: Document, name: str) -> Iterator[str]:
    """Yield candidate texts without the entry, best first. The caller checks them."""
    lines = Lines(text)
    models, index = _place_of(document, name)
    pairs = models.pairs()
    if models.flow:
        yield from _removed_from_flow(text, lines, models, index)
        return
    assert document.root is not None
    section, _ = document.root.find("models") or (models, models)
    column = lines.column(models.start)
    begin = lines.below(pairs[index - 1][1].end, column) if index else lines.after(section.end)
    start = lines.above(pairs[index][0].start, column, begin)
    stop = lines.below(pairs[index][1].end, column)
    if len(pairs) == 1 and _is_own_section(lines, document, section, start, stop):
        yield lines.cut(lines.before(lines.start(section.start)), stop)
    if start > begin and lines.is_blank(lines.before(start)):
        yield lines.cut(lines.before(start), stop)
    elif index == 0 and len(pairs) > 1 and lines.is_blank(stop):
        yield lines.cut(start, lines.after(stop))
    yield lines.cut(start, stop)
    # After a block scalar that keeps blank lines (`|+`), the blank lines after the entry would become part of the scalar.
    while lines.is_blank(stop):
        stop = lines.after(stop)
    yield lines.cut(start, stop)


def _is_own_section(lines: Lines, document: Document, section: Marked, start: int, stop: int) -> bool:
    """Whether `models:` looks as `_added` writes a new section: at the end, after a blank line."""
    above = lines.start(section.start)
    return (
        above > 0
        and lines.is_blank(lines.before(above))
        and lines.text[above : lines.after(section.end)].strip() == "models:"
        and start == lines.after(section.end)
        and stop == document.end
    )


def _removed_from_flow(text: str, lines: Lines, models: Marked, index: int) -> Iterator[str]:
    pairs = models.pairs()
    key, value = pairs[index]
    comma = _AFTER_VALUE.match(text, value.end)
    ended = comma.end() if comma else value.end
    is_last = index == len(pairs) - 1
    if lines.is_first(key.start) and lines.is_last(ended):
        begin = lines.after(pairs[index - 1][1].end) if index else lines.after(models.start)
        start = lines.above(key.start, lines.column(key.start), begin)
        new = lines.cut(start, lines.after(ended))
        if is_last and index and not comma:
            before = _AFTER_VALUE.match(text, pairs[index - 1][1].end)
            if before is not None:
                new = new[: before.end() - 1] + new[before.end() :]
        yield new
    if not is_last:
        yield text[: key.start] + text[pairs[index + 1][0].start :]
    elif index:
        yield text[: pairs[index - 1][1].end] + text[value.end :]
    else:
        yield text[: models.start + 1] + text[ended:]


def _place_of(document: Document, name: str) -> tuple[Marked, int]:
    assert document.root is not None
    section = document.root.find("models")
    assert section is not None
    return section[1], next(i for i, (key, _) in enumerate(section[1].pairs()) if key.value == name)
