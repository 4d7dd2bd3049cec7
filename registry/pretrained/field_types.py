"""Check the values of a dataclass against the types that its fields declare."""

from __future__ import annotations

import math
import reprlib
import types
from collections.abc import Hashable, Iterator
from dataclasses import fields
from functools import cache
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

__all__ = ["MAX_INT", "allow", "fits", "float_fields", "shown", "wrong_fields"]

#: The largest whole number of a field, and the smallest without its sign: products of two sizes still fit into 64 bits.
MAX_INT = 2**31 - 1


class _Shown(reprlib.Repr):
    """`repr` whose length and depth have a limit."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxdict, self.maxtuple, self.maxset = 3, 10, 10, 10, 10
        self.maxstring, self.maxlong, self.maxother = 100, 50, 100

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write numbers of thousands of digits.
        return super().repr_int(x, level) if x.bit_length() < 10_000 else f"an integer of {x.bit_length():,} bits"


_SHOWN = _Shown()


def shown(value: object) -> str:
    """Return a value for a message: its `repr`, shortened where it is long or deep."""
    return _SHOWN.repr(value)


def wrong_fields(instance: object) -> Iterator[tuple[str, str, object]]:
    """Yield each field whose value cannot be: name, what is expected in words, value.

    The items of a list are checked, too. An int is a float too; a bool is no number. Numbers are finite, and whole ones at
    most `MAX_INT`. A field that is not set on the instance is passed over.
    """
    values = vars(instance)
    kind: Any = type(instance)
    for name, allowed in _allowed(kind).items():
        if name not in values:
            continue
        value = values[name]
        if not fits(value, allowed.kinds) or (
            type(value) is list and allowed.items and not all(fits(item, allowed.items) for item in value)
        ):
            yield name, allowed.words, value
        elif (problem := _beyond(value)) is not None:
            yield name, problem, value


@cache
def float_fields(cls: Hashable) -> tuple[str, ...]:
    """Return the names of the fields of a dataclass that may hold a float."""
    return tuple(name for name, allowed in _allowed(cls).items() if float in allowed.kinds)


class _Allowed(NamedTuple):
    kinds: tuple[type, ...]
    #: Of the items of a list; empty where they may be of any type.
    items: tuple[type, ...]
    words: str


def fits(value: object, kinds: tuple[type, ...]) -> bool:
    """Whether a value is of one of some types; an int is a float too, and a bool is no number."""
    kind = type(value)
    if kind is bool and bool not in kinds:
        return object in kinds
    return isinstance(value, kinds) or (kind is int and float in kinds)


def _beyond(value: object) -> str | None:
    """Return what a number is expected to be, or the numbers of a list, when one is beyond every size."""
    for item in value if type(value) is list else (value,):
        if type(item) is int and not -MAX_INT <= item <= MAX_INT:
            return f"from -{MAX_INT:,} to {MAX_INT:,}"
        if type(item) is float and not math.isfinite(item):
            return "finite"
    return None


@cache
def _allowed(cls: Hashable) -> dict[str, _Allowed]:
    assert isinstance(cls, type)
    hints = get_type_hints(cls)
    return {item.name: allow(hints[item.name]) for item in fields(cls) if item.init}


def allow(hint: Any) -> _Allowed:
    """Return what a type hint allows."""
    parts = _parts(hint)
    items = [item for part in parts if get_origin(part) is list for item in _parts(get_args(part)[0])]
    words = " or ".join("None" if part is types.NoneType else _words(part) for part in parts)
    return _Allowed(tuple(map(_kind, parts)), tuple(map(_kind, items)), words)


def _parts(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union; another hint is the only one."""
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(part for member in get_args(hint) for part in _parts(member))
    return (hint,)


def _kind(hint: Any) -> type:
    """Return the class that a hint's values are of; `object` for a hint that cannot tell, such as `Any` or `Literal`."""
    kind = get_origin(hint) or hint
    try:
        isinstance(None, kind)
    except TypeError:
        return object
    return kind  # type: ignore[no-any-return]  # what `isinstance` takes


def _words(hint: Any) -> str:
    if get_origin(hint) is list:
        return f"list of {' or '.join(map(_words, _parts(get_args(hint)[0])))}"
    return _kind(hint).__name__
