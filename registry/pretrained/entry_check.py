"""What of a catalog entry `load` would refuse, told without a file of the model."""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any, get_args, get_type_hints

from registry.catalog.entry import ModelEntry
from registry.errors import ConfigError, UnknownHead
from registry.families.family import Family
from registry.pretrained.config import PretrainedConfig, allow, fits, float_fields, shown, wrong_fields
from registry.pretrained.text_coder import LIMIT_NAMES, token_limit
from registry.pretrained.token_vocabulary import SPECIAL_TOKENS
from registry.pretrained.tokenizer import PreTrainedTokenizer

__all__ = ["refused", "wrong_settings"]

_LABELS = ("num_labels", "id2label", "label2id")
#: Types that a catalog's values have; of others, such as AddedToken, the tokenizer itself knows whether they fit.
_PLAIN = (bool, int, float, str, list, dict, type(None))
_SIDES = ("padding_side", "truncation_side")


def refused(entry: ModelEntry, family: Family) -> Iterator[tuple[str, str]]:
    """Yield what no file of the model could make right: the field of the entry, such as `config.num_labels`, and the problem.

    Raises:
        PluginError: when a class of the family cannot be imported.
    """
    if entry.head is not None:
        try:
            family.head_path(entry.head)
        except UnknownHead as error:
            yield "head", error.message
    if entry.config:
        for name, problem in _wrong_overrides(family.load_class(family.config), entry.config):
            yield f"config.{name}", problem
    if entry.tokenizer:
        if family.tokenizer is None:
            yield "tokenizer", f"family {family.name!r} is expected to have a tokenizer, but has none; remove `tokenizer:`"
        else:
            for name, problem in wrong_settings(family.load_class(family.tokenizer), entry.tokenizer):
                yield f"tokenizer.{name}", problem


def _wrong_overrides(cls: Any, overrides: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the fields of a configuration that do not exist or have an impossible value, with the problem."""
    if not (isinstance(cls, type) and issubclass(cls, PretrainedConfig)):
        return
    names: dict[str, str] = {}
    for name in overrides:
        try:
            cls.check_names({name: None})
            names[cls.aliases.get(name, name)] = name
        except ConfigError as error:
            yield name, error.message
    values = {field: overrides[name] for field, name in names.items()}
    probe = object.__new__(cls)
    vars(probe).update(values)
    wrong = {field: (expected, value) for field, expected, value in wrong_fields(probe)}
    for field, (expected, value) in wrong.items():
        yield names[field], f"{names[field]} of {cls.__name__} is expected to be {expected}, but is {shown(value)}"
    # Whole numbers above 0 can be wrong only together with others, of which the model's own file says the rest.
    together = {field: values[field] for field in _LABELS if field in values}
    alone = [
        {field: value}
        for field, value in values.items()
        if field not in _LABELS and (isinstance(value, bool | float | str) or field in float_fields(cls) or _is_low(value))
    ]
    for some in ([together] if together else []) + alone:
        if not wrong.keys() & some.keys():
            try:
                cls(**some)
            except ConfigError as error:
                yield names[next(iter(some))], error.message


def _is_low(value: object) -> bool:
    return type(value) is int and value < 1


def wrong_settings(cls: Any, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the arguments of a tokenizer's class that do not exist or are of a wrong type, with the problem."""
    if not (isinstance(cls, type) and issubclass(cls, PreTrainedTokenizer)):
        return
    kind: Any = cls
    known = _arguments(kind)
    for name, value in settings.items():
        if name not in known:
            close = get_close_matches(name, known, n=1)
            meant = f"did you mean {close[0]!r}?" if close else f"arguments: {', '.join(sorted(known))}"
            yield name, f"{name!r} is expected to be an argument of {cls.__name__}, but is not; {meant}"
        elif name in LIMIT_NAMES:
            try:
                token_limit(value, f"{name} of {cls.__name__}")
            except ConfigError as error:
                yield name, error.message
        elif problem := _misfit(known[name], value) or (
            "'left' or 'right'" if name in _SIDES and value not in ("left", "right") else ""
        ):
            yield name, f"{name} of {cls.__name__} is expected to be {problem}, but is {shown(value)}"


def _misfit(hint: Any, value: object) -> str:
    """Return what a plain value is expected to be, in words, or nothing when it fits."""
    if type(value) not in _PLAIN:
        return ""
    allowed = allow(hint)
    if isinstance(value, list) and Sequence in allowed.kinds:
        of_text = any(part is str for kind in (hint, *get_args(hint)) for part in get_args(kind))
        return "list of str" if of_text and any(type(item) in _PLAIN and type(item) is not str for item in value) else ""
    # A str is a Sequence of str, but nobody means its letters.
    fitting = fits(value, allowed.kinds) and not (type(value) is str and not {str, object} & {*allowed.kinds})
    return (
        "" if fitting else allowed.words.replace("Sequence", "list").replace("NoneType", "None").replace(" or AddedToken", "")
    )


@cache
def _arguments(cls: Hashable) -> dict[str, Any]:
    """Return the arguments of a tokenizer beside its vocabulary, with their type hints."""
    assert isinstance(cls, type) and issubclass(cls, PreTrainedTokenizer)
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        if (init := vars(base).get("__init__")) is None:
            continue
        hints = get_type_hints(init)
        parameters = [*inspect.signature(init).parameters.values()][1:]
        named = [part for part in parameters if part.kind in (part.POSITIONAL_OR_KEYWORD, part.KEYWORD_ONLY)]
        for part in named:
            found.setdefault(part.name, hints.get(part.name, Any))
        if base is PreTrainedTokenizer:
            for name in SPECIAL_TOKENS:
                found.setdefault(name, str | None)
            for name in ("engine", "settings"):  # are between the classes
                found.pop(name, None)
        if base is PreTrainedTokenizer or not any(part.kind is part.VAR_KEYWORD for part in parameters):
            break
    return {name: hint for name, hint in found.items() if name not in cls.vocab_files_names and not name.endswith("_file")}
