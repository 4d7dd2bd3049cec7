"""The base of every family's configuration."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from registry.catalog.names import user_path
from registry.checkpoint.json_file import naming, read_json
from registry.checkpoint.writer import staged_folder
from registry.errors import ConfigError, warn
from registry.pretrained.field_types import wrong_fields
from registry.store.files import write_atomically

__all__ = ["CODE_KEYS", "CONFIG_NAME", "PretrainedConfig", "warn_of_code"]

CONFIG_NAME = "config.json"
_MAX_LAYERS = 10_000

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
    id2label: dict[int, str] | None = None
    label2id: dict[str, int] | None = None
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
        cls = type(self)
        if self.torch_dtype is not None:
            self.torch_dtype = str(self.torch_dtype).removeprefix("torch.")
        for name, expected, value in wrong_fields(self):
            raise ConfigError(f"{name} of {cls.__name__} is expected to be {expected}, but is {value!r}")
        self.pruned_heads = {int(layer): sorted(set(heads)) for layer, heads in self.pruned_heads.items()}
        self.require(self.num_labels >= 1, "num_labels", "at least 1")
        given = self.label2id
        if self.id2label is None:
            self.id2label = _plain_labels(self.num_labels)
        elif len(self.id2label) in (self.num_labels, 0) or self.num_labels == cls._default("num_labels"):
            self.id2label = dict(self.id2label)
        else:
            raise ConfigError(
                f"num_labels of {cls.__name__} is expected to be the size of id2label, {len(self.id2label)}, "
                f"but is {self.num_labels}; give one of them"
            )
        if given is not None and set(given.values()) == set(self.id2label):
            self.label2id = given
        self.validate()
        layers = getattr(self, "num_hidden_layers", None)
        if isinstance(layers, int) and layers > _MAX_LAYERS:  # a model is built before its weights are looked at
            raise ConfigError(f"num_hidden_layers of {cls.__name__} is expected to be at most {_MAX_LAYERS}, but is {layers}")

    def validate(self) -> None:
        """Check values that no type can hold. A family overrides this; `require` makes the error."""

    def require(self, condition: bool, name: str, expected: str) -> None:
        """Raise a ConfigError that names a field, unless `condition` holds."""
        if not condition:
            raise ConfigError(f"{name} of {type(self).__name__} is expected to be {expected}, but is {getattr(self, name)!r}")

    def __getattr__(self, name: str) -> Any:
        # Only reached when ordinary lookup fails: keys of the file that no field declares, and other libraries' names.
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
        elif name == "num_labels" and self.id2label is not None and value != len(self.id2label):
            self.id2label = _plain_labels(value)  # names go with their number
        elif name == "id2label" and value is not None:
            labels = {int(number): str(label) for number, label in value.items()}
            if sorted(labels) != list(range(len(labels))) or not labels:
                raise ConfigError(f"id2label of {cls.__name__} is expected to name the labels 0, 1, …, but is {value!r}")
            object.__setattr__(self, "id2label", labels)
            object.__setattr__(self, "num_labels", len(labels))
            object.__setattr__(self, "label2id", {label: number for number, label in labels.items()})
        elif name.startswith("_") or name in cls.field_names() or hasattr(cls, name):
            object.__setattr__(self, name, value)
        else:
            self._extra[name] = value  # saved with the rest

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
            warn(f"model_type of {cls.__name__} is expected to be {cls.model_type!r}, but the file says {said!r}")
        for key, value in data.items():
            if key in known:
                declared[cls.aliases.get(key, key)] = value
            elif key not in ("model_type", *CODE_KEYS):
                extra[key] = value
        if (dtype := extra.pop("dtype", None)) is not None:  # what transformers 5 calls it
            declared.setdefault("torch_dtype", dtype)
        try:
            config: Self = type.__call__(cls, **declared)
        except (TypeError, ValueError, AttributeError) as error:
            if isinstance(error, ConfigError):
                raise
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
            kwargs: `cache_dir`, `force_download`, `offline`; `return_unused_kwargs=True` returns `(config, rest)`;
                everything else overrides a field.
        """
        from registry.pretrained.loading import load_config

        return load_config(cls, pretrained_model_name_or_path, **kwargs)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some declared fields changed.

        Raises:
            ConfigError: when one of them is no field.
        """
        type(self).check_names(changes)
        changes = {self.aliases.get(key, key): value for key, value in changes.items()}
        values = {item.name: copy.deepcopy(getattr(self, item.name)) for item in fields(self) if item.init}
        if changes.get("num_labels", self.num_labels) != self.num_labels or "id2label" in changes:
            # Labels go with their number.
            values |= {"id2label": None, "label2id": None, "num_labels": type(self)._default("num_labels")}
        copied = type.__call__(type(self), **{**values, **changes})
        copied._extra = copy.deepcopy(self._extra)
        return copied  # type: ignore[no-any-return]  # type.__call__ is untyped

    def to_dict(self) -> dict[str, Any]:
        """Return what is saved: every field, the keys that were kept, and `model_type`."""
        data = {item.name: copy.deepcopy(getattr(self, item.name)) for item in fields(self) if item.init}
        data |= copy.deepcopy(self._extra)
        if self.id2label == _plain_labels(self.num_labels):
            del data["id2label"], data["label2id"]
        for optional in ("architectures", "torch_dtype", "finetuning_task"):
            if data[optional] is None:
                del data[optional]
        data["model_type"] = self.model_type
        return data

    def to_json_string(self) -> str:
        """Return the configuration as JSON text, keys sorted."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def to_json_file(self, json_file_path: str | os.PathLike[str]) -> None:
        """Write the configuration to a file, replacing it in one step."""
        write_atomically(Path(json_file_path), self.to_json_string())

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> None:
        """Write `config.json` into a folder, which is made when it does not exist."""
        with staged_folder(user_path(save_directory)) as stage:
            (stage / CONFIG_NAME).write_text(self.to_json_string(), encoding="utf-8")


@cache
def _field_names(cls: type[PretrainedConfig]) -> frozenset[str]:
    return frozenset((*(item.name for item in fields(cls) if item.init), *cls.aliases))


def _plain_labels(count: int) -> dict[int, str]:
    return {number: f"LABEL_{number}" for number in range(count)}


def warn_of_code(data: Mapping[str, Any], what: str) -> None:
    """Warn of the keys of a file by which it asks for code; nothing of ours follows them.

    Args:
        data: the content of the file.
        what: what the file is.
    """
    named = {key: data[key] for key in CODE_KEYS if key in data}
    named |= {key: data[key] for key in ("architectures", "tokenizer_class") if _is_class_path(data.get(key))}
    for key, value in named.items():
        warn(f"key {key!r} of the {what} names code ({value!r}), which is never run; it is ignored")


def _is_class_path(value: object) -> bool:
    names = value if isinstance(value, list) else [value]
    return any(isinstance(name, str) and "." in name for name in names)
