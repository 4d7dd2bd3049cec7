"""Check the values of a dataclass against the types that its fields declare."""

from __future__ import annotations

import types
from collections.abc import Hashable, Iterator
from dataclasses import fields
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

__all__ = ["wrong_fields"]


def wrong_fields(instance: Any) -> Iterator[tuple[str, str, object]]:
    """Yield each field whose value is of none of its types: name, types in words, value.

    Containers are checked as such and not for what they hold. An int is a float too; a bool is no number.
    """
    kind: Any = type(instance)
    for name, allowed in _allowed(kind).items():
        value = getattr(instance, name)
        if not (type(value) is bool and bool not in allowed) and isinstance(value, allowed):
            continue
        if float in allowed and type(value) is int:
            continue
        words = " or ".join("None" if kind is types.NoneType else kind.__name__ for kind in allowed)
        yield name, words, value


@cache
def _allowed(cls: Hashable) -> dict[str, tuple[type, ...]]:
    assert isinstance(cls, type)
    hints = get_type_hints(cls)
    return {item.name: _kinds(hints[item.name]) for item in fields(cls) if item.init}


def _kinds(hint: Any) -> tuple[type, ...]:
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(kind for part in get_args(hint) for kind in _kinds(part))
    return (get_origin(hint) or hint,)
