"""The base of every family's configuration."""

from __future__ import annotations

import copy
import json
import math
import os
import reprlib
import types
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, TypeVar, Union, get_args, get_origin, get_type_hints

from registry.base.files import write_saved
from registry.base.json_file import naming, read_json
from registry.base.names import user_path
from registry.checkpoint.save import staged_folder
from registry.errors import ConfigError, RegistryError, warn

__all__ = [
    "CODE_KEYS",
    "CONFIG_NAME",
    "MAX_INT",
    "PretrainedConfig",
    "allow",
    "fits",
    "float_fields",
    "shown",
    "warn_of_code",
    "wrong_fields",
]


CONFIG_NAME = "config.json"
_MAX_LABELS = 1_000_000

#: The largest sizes that every family has, by the names that `aliases` may map: a model is built before its weights are
#: looked at, and so before they show what the sizes really are.
_MOST = {"num_hidden_layers": 1_000, "num_attention_heads": 10_000, "hidden_size": 1_000_000}

#: Deviations and bounds of new weights.
_DEVIATIONS = ("initializer_range", "init_std", "init_range", "proj_init_std")
_MAX_DEVIATION = 1_000_000
_LABEL_MAPS = ("id2label", "label2id")

#: Bytes of a config file: it may name thousands of labels.
_MAX_BYTES = 8 << 20
_T = TypeVar("_T", bound="PretrainedConfig")

#: Keys by which a configuration can ask other libraries to import code. Nothing of ours follows them.
CODE_KEYS = ("auto_map", "_target_", "_component_", "custom_pipelines", "model_class", "loader_class")


class _ConfigMeta(type):
    """Accepts the first argument that configurations had in 2019: a vocabulary size, or the path of a JSON file."""

    def __call__(cls: type[_T], *args: Any, **kwargs: Any) -> _T:  # type: ignore[misc]  # a metaclass method's own self
        given = [*args, *([kwargs.pop(old)] if (old := "vocab_size_or_config_json_file") in kwargs else [])]
        if len(given) > 1:
            raise TypeError(f"{cls.__name__} takes one positional argument at most, but {len(given)} were given")
        if given and isinstance(given[0], str | os.PathLike):
            with naming(path := Path(given[0])):
                return cls.from_dict({**read_json(path, max_bytes=_MAX_BYTES), **kwargs})
        if given:
            kwargs["vocab_size"] = given[0]
        cls.check_names(kwargs)
        created: _T = type.__call__(cls, **{cls.aliases.get(name, name): value for name, value in kwargs.items()})
        return created


@dataclass(kw_only=True)
class PretrainedConfig(metaclass=_ConfigMeta):
    """A model's configuration: declared fields, plus whatever else its JSON file holds.

    A family declares its own as a keyword-only dataclass. Keys of a file that no field declares are kept as attributes
    and saved again, so that another program's settings survive; constructor arguments and overrides must be declared.
    """

    #: Names the family; stands in every saved config.json.
    model_type: ClassVar[str] = ""
    #: Field names that other libraries use for a declared field.
    aliases: ClassVar[Mapping[str, str]] = {}

    num_labels: int = 2
    # Plain maps are made on first access, in `__getattr__`: until then neither instance nor class has the attribute.
    id2label: dict[int, str] | None = field(default_factory=lambda: None)
    label2id: dict[str, int] | None = field(default_factory=lambda: None)
    output_hidden_states: bool = False
    output_attentions: bool = False
    #: Layer to the heads that were cut from it, by their original numbers.
    pruned_heads: dict[int, list[int]] = field(default_factory=dict)
    #: Names of the classes whose weights a folder holds; a hint for choosing a head, never a path to code.
    architectures: list[str] | None = None
    torch_dtype: str | None = None
    finetuning_task: str | None = None

    #: What a file holds besides.
    _extra: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if type(self.torch_dtype).__module__ == "torch":
            self.torch_dtype = str(self.torch_dtype).removeprefix("torch.")
        values = vars(self)
        given, names = values.pop("label2id"), values.pop("id2label")
        if names is not None:
            names = self._labels(names)
            values["id2label"] = names
            if type(self.num_labels) is int and self.num_labels == type(self)._default("num_labels"):  # not given
                values["num_labels"] = len(names)
        if given is not None:
            self._check_numbers_of_labels(given)
            # Maps that contradict each other are in many files; the other is derived from the names.
            if len(given) == self.num_labels and set(given.values()) == set(names or range(self.num_labels)):
                values["label2id"] = given
        self.check()

    def check(self) -> None:
        """Check every field; a model does so when it is built, because fields may have been changed since.

        Raises:
            ConfigError: naming the first field whose value is wrong, and the value.
        """
        for name, expected, value in wrong_fields(self):
            raise self._wrong(name, expected, value)
        self._require_between("num_labels", 1, _MAX_LABELS)
        values = vars(self)
        if (names := values.get("id2label")) is not None:
            size = len(self._labels(names))
            self.require(self.num_labels == size, "num_labels", f"the size of id2label, {size}")
        if (numbers := values.get("label2id")) is not None:
            self._check_numbers_of_labels(numbers)
        for name, most in _MOST.items():
            if type(getattr(self, name, None)) is int:
                self._require_between(self.aliases.get(name, name), 0, most)
        for name in float_fields(type(self)):
            if values.get(name) is None:
                continue
            if "drop" in name:
                self._require_between(name, 0, 1)
            elif name in _DEVIATIONS:
                self._require_between(name, 0, _MAX_DEVIATION)
            elif name.endswith(("_eps", "_epsilon")):
                self.require(values[name] >= 0, name, "0 or more")
        self.pruned_heads = self.known_heads(self.pruned_heads, f"pruned_heads of {type(self).__name__}")
        self.validate()

    def known_heads(self, heads: Mapping[Any, Iterable[Any]], what: str) -> dict[int, list[int]]:
        """Return layer to attention heads, sorted; a negative layer counts from the end.

        Args:
            heads: layer, as a number or as the text of one, to the numbers of heads.
            what: names the argument or field in a message.

        Raises:
            ConfigError: for a layer or head that does not exist, where the configuration tells how many there are.
        """
        if not isinstance(heads, Mapping):
            raise ConfigError(f"{what} is expected to map layers to lists of heads, but is {shown(heads)}")
        layers, count = (getattr(self, name, None) for name in ("num_hidden_layers", "num_attention_heads"))
        known: dict[int, list[int]] = {}
        for key, numbers in heads.items():
            layer = _whole(key)
            if layer is None or not isinstance(numbers, list | tuple | set | frozenset | range):
                raise ConfigError(f"{what} is expected to map layers to lists of heads, but has {shown({key: numbers})}")
            if type(layers) is int:
                if not -layers <= layer < layers:
                    raise ConfigError(
                        f"{what} is expected to name layers from {-layers} to {layers - 1}, but names {shown(layer)}"
                    )
                layer %= layers
            for head in numbers:
                if type(head) is not int or head < 0 or (type(count) is int and head >= count):
                    existing = "0 or more" if type(count) is not int else f"from 0 to {count - 1}"
                    raise ConfigError(f"{what} is expected to name heads {existing} in layer {layer}, but names {shown(head)}")
            known[layer] = sorted({*known.get(layer, ()), *numbers})
        return known

    def _labels(self, names: Mapping[Any, Any]) -> dict[int, str]:
        """Return number to label, as `id2label` is kept."""
        if not isinstance(names, Mapping):
            raise self._wrong("id2label", "a dict or None", names)
        labels = {_whole(number): str(label) for number, label in names.items() if _is_label(label)}
        if not labels or len(labels) != len(names) or len(names) > _MAX_LABELS or set(labels) != set(range(len(labels))):
            raise self._wrong("id2label", "names of the labels 0, 1, …", names)
        return labels  # type: ignore[return-value]  # the keys are those of a range

    def _check_numbers_of_labels(self, numbers: Mapping[Any, Any]) -> None:
        if not isinstance(numbers, Mapping):
            raise self._wrong("label2id", "a dict or None", numbers)
        if not all(isinstance(number, int | str) for number in numbers.values()):
            raise self._wrong("label2id", "numbers of labels", numbers)

    def validate(self) -> None:
        """Check values that no type can hold. A family overrides this; `require` makes the error."""

    def require(self, condition: bool, name: str, expected: str) -> None:
        """Raise a ConfigError that names a field, unless `condition` holds."""
        if not condition:
            raise self._wrong(name, expected, getattr(self, name))

    def _require_between(self, name: str, least: int, most: int) -> None:
        value = getattr(self, name)
        self.require(isinstance(value, int | float) and least <= value <= most, name, f"between {least} and {most:,}")

    def _wrong(self, name: str, expected: str, value: object) -> ConfigError:
        return ConfigError(f"{name} of {type(self).__name__} is expected to be {expected}, but is {shown(value)}")

    def __getattr__(self, name: str) -> Any:
        # Only reached when ordinary lookup fails: keys of the file that no field declares, other libraries' names, and the
        # label maps, which are made here because a file of a few bytes can ask for a million labels.
        if name in _LABEL_MAPS and "num_labels" in self.__dict__:
            self._require_between("num_labels", 1, _MAX_LABELS)
            names = self.__dict__.get("id2label") or {number: _plain(number) for number in range(self.num_labels)}
            made: Any = names if name == "id2label" else {label: number for number, label in names.items()}
            self.__dict__[name] = made
            return made
        aliases = type(self).aliases
        if name in aliases:
            return getattr(self, aliases[name])
        extra = self.__dict__.get("_extra", {})
        if name in extra:
            return extra[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        cls = type(self)
        name = cls.aliases.get(name, name)
        if "_extra" not in self.__dict__:
            object.__setattr__(self, name, value)
        elif name == "num_labels":
            if value != self.num_labels:  # names go with their number
                self._forget_labels()
            object.__setattr__(self, name, value)
        elif name in _LABEL_MAPS and value is None:
            self.__dict__.pop(name, None)
        elif name == "id2label":
            labels = self._labels(value)
            self._forget_labels()
            self.__dict__.update(id2label=labels, num_labels=len(labels))
        elif name.startswith("_") or name in cls.field_names() or hasattr(cls, name):
            object.__setattr__(self, name, value)
        else:
            self._extra[name] = value  # saved with the rest

    def _forget_labels(self) -> None:
        for name in _LABEL_MAPS:
            self.__dict__.pop(name, None)

    # -- names of fields -----------------------------------------------------------------------------------------------

    @classmethod
    def field_names(cls) -> frozenset[str]:
        """Return the names that may be given: declared fields and their aliases."""
        return _field_names(cls)

    @classmethod
    def check_names(cls, names: Mapping[str, object]) -> None:
        """Raise for the first name that is no declared field.

        Raises:
            ConfigError: naming the nearest field.
        """
        known = cls.field_names()
        for name in names:
            if name not in known:
                close = get_close_matches(name, known, n=1)
                meant = f"did you mean {close[0]!r}?" if close else f"fields: {', '.join(sorted(known))}"
                raise ConfigError(f"{name!r} is expected to be a field of {cls.__name__}, but is not; {meant}")

    @classmethod
    def _default(cls, name: str) -> Any:
        return next(declared.default for declared in fields(cls) if declared.name == name)

    # -- dictionaries and files ------------------------------------------------------------------------------------------

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build from the content of a config.json; keys that no field declares are kept."""
        declared, extra = {}, {}
        known = cls.field_names()
        warn_of_code(data, "configuration")
        said = data.get("model_type")
        if isinstance(said, str) and cls.model_type and said != cls.model_type:
            warn(f"model_type of {cls.__name__} is expected to be {cls.model_type!r}, but the file says {shown(said)}")
        for key, value in data.items():
            if key in known:
                declared[cls.aliases.get(key, key)] = value
            elif key not in ("model_type", *CODE_KEYS):
                extra[key] = value
        if (dtype := extra.pop("dtype", None)) is not None:  # what transformers 5 calls it
            declared.setdefault("torch_dtype", dtype)
        try:
            config: Self = type.__call__(cls, **declared)
        except RegistryError:
            raise
        except (TypeError, ValueError, AttributeError, ArithmeticError, LookupError, RecursionError) as error:
            raise ConfigError(f"configuration of {cls.__name__} is expected to hold valid values, but: {error}") from error
        config._extra = extra
        return config

    @classmethod
    def from_json_file(cls, json_file: str | os.PathLike[str]) -> Self:
        """Build from a JSON file.

        Raises:
            ConfigError: when the file is no JSON object or holds impossible values.
        """
        with naming(path := Path(json_file)):
            return cls.from_dict(read_json(path, max_bytes=_MAX_BYTES))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Any:
        """Load the configuration of a name, folder, JSON file, URL or source.

        Args:
            pretrained_model_name_or_path: what to load.
            kwargs: `cache_dir`, `force_download` (or `refresh`), `offline`; `return_unused_kwargs=True` returns
                `(config, rest)`; everything else overrides a field.
        """
        from registry.pretrained.from_pretrained import load_config

        return load_config(cls, pretrained_model_name_or_path, **kwargs)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some declared fields changed.

        Raises:
            ConfigError: when one of them is no field.
        """
        type(self).check_names(changes)
        changes = {self.aliases.get(key, key): value for key, value in changes.items()}
        values = self._values()
        if changes.get("num_labels", self.num_labels) != self.num_labels or "id2label" in changes:
            # Labels go with their number.
            values |= {"id2label": None, "label2id": None, "num_labels": type(self)._default("num_labels")}
        copied = type.__call__(type(self), **{**values, **changes})
        copied._extra = copy.deepcopy(self._extra)
        return copied  # type: ignore[no-any-return]  # type.__call__ is untyped

    def to_dict(self) -> dict[str, Any]:
        """Return what is saved: every field, the keys that were kept, and `model_type`."""
        data = self._values()
        names, numbers = data.pop("id2label"), data.pop("label2id")
        if names is not None and any(label != _plain(number) for number, label in names.items()):
            data["id2label"], data["label2id"] = names, dict(self.label2id or {})
        elif numbers is not None and any(label != _plain(number) for label, number in numbers.items()):
            data["label2id"] = numbers
        data |= copy.deepcopy(self._extra)
        for optional in ("architectures", "torch_dtype", "finetuning_task"):
            if data[optional] is None:
                del data[optional]
        data["model_type"] = self.model_type
        return data

    def _values(self) -> dict[str, Any]:
        """Return a copy of every field's value; a label map that nothing has asked for is None."""
        held = ((item.name, item.name in _LABEL_MAPS and item.name not in self.__dict__) for item in fields(self) if item.init)
        return {name: None if is_unmade else copy.deepcopy(getattr(self, name)) for name, is_unmade in held}

    def to_json_string(self) -> str:
        """Return the configuration as JSON text, keys sorted.

        Raises:
            ConfigError: when an attribute that was added holds what JSON has no form for.
        """
        try:
            return json.dumps(self.to_dict(), indent=2, sort_keys=True, allow_nan=False) + "\n"
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigError(f"values of {type(self).__name__} are expected to be what JSON can hold, but: {error}") from error

    def to_json_file(self, json_file_path: str | os.PathLike[str]) -> None:
        """Write the configuration to a file, replacing it in one step."""
        write_saved(Path(json_file_path), self.to_json_string())

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> None:
        """Write `config.json` into a folder, which is made when it does not exist."""
        with staged_folder(user_path(save_directory)) as stage:
            (stage / CONFIG_NAME).write_text(self.to_json_string(), encoding="utf-8")


@cache
def _field_names(cls: type[PretrainedConfig]) -> frozenset[str]:
    return frozenset((*(item.name for item in fields(cls) if item.init), *cls.aliases))


def _plain(number: int) -> str:
    return f"LABEL_{number}"


def _is_label(value: object) -> bool:
    """Whether a value is a label or can be written as one; Python refuses to write numbers of thousands of digits."""
    return isinstance(value, str | float) or (isinstance(value, int) and abs(value) <= MAX_INT)


def _whole(key: object) -> int | None:
    """Return the whole number that the key of a map is, or, as in JSON, the text of; None when it is none."""
    if isinstance(key, str) and len(key) < 12 and key.isascii() and key.removeprefix("-").isdecimal():
        return int(key)
    return key if type(key) is int else None


def warn_of_code(data: Mapping[str, Any], what: str) -> None:
    """Warn of the keys of a file by which it asks for code; nothing of ours follows them.

    Args:
        data: the content of the file.
        what: what the file is.
    """
    named = {key: data[key] for key in CODE_KEYS if key in data}
    named |= {key: data[key] for key in ("architectures", "tokenizer_class") if _is_class_path(data.get(key))}
    for key, value in named.items():
        warn(f"key {key!r} of the {what} names code ({shown(value)}), which is never run; it is ignored")


def _is_class_path(value: object) -> bool:
    names = value if isinstance(value, list) else [value]
    return any(isinstance(name, str) and "." in name for name in names)


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
