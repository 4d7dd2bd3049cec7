"""`Family`: the description of a family that its plugin returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from registry.errors import PluginError, UnknownHead, said
from registry.families.conflicts import import_module_of_plugin

__all__ = ["API_VERSION", "DEFAULT_FILES", "Family"]

#: The version of the contract between the registry and a plugin; a plugin states it as `REGISTRY_API`.
API_VERSION = 1

#: Role to file names for a family that does not state its own.
DEFAULT_FILES: Mapping[str, tuple[str, ...]] = {
    "weights": ("model.safetensors", "pytorch_model.bin"),
    "config": ("config.json",),
}


@dataclass(frozen=True, kw_only=True)
class Family:
    """One model family. Classes are named as `module:Class` and imported when they are used.

    Args:
        name: the family's name in catalogs.
        config: the configuration class.
        heads: head name to model class.
        default_head: the head that `load` builds when neither caller nor entry names one.
        tokenizer: the tokenizer class, or None.
        classes: further public classes for `from registry import …`, such as the models' base class.
        files: role to the file names that can fill it, best first. Loading a model needs `weights` and `config`; the
            tokenizer needs every other role (`vocab`, `merges`).
        converters: another program's format, `tensorflow` or `numpy`, to the function that renames the tensors of such a
            checkpoint, as `module:function`: it takes the checkpoint and the configuration, and returns a
            `registry.checkpoint.name_table.Renamed`.
    """

    name: str
    config: str
    heads: Mapping[str, str]
    default_head: str
    tokenizer: str | None = None
    classes: tuple[str, ...] = ()
    files: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict(DEFAULT_FILES))
    converters: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", {**DEFAULT_FILES, **self.files})
        if self.default_head not in self.heads:
            raise PluginError(
                f"default_head of family {self.name!r} is expected to be one of {sorted(self.heads)}, "
                f"but is {self.default_head!r}",
                family=self.name,
            )
        for path in (*self.class_paths(), *self.converters.values()):
            if path.count(":") != 1:
                raise PluginError(
                    f"a class or function of family {self.name!r} is expected to be named 'module:Name', but is {path!r}",
                    family=self.name,
                )

    def class_paths(self) -> tuple[str, ...]:
        """Return the paths of every class of the family."""
        return tuple(path for path in (self.config, *self.heads.values(), self.tokenizer, *self.classes) if path)

    def head_path(self, head: str) -> str:
        """Return the class path of a head.

        Raises:
            UnknownHead: when the family has no such head.
        """
        if head not in self.heads:
            raise UnknownHead(
                f"head of family {self.name!r} is expected to be one of {', '.join(sorted(self.heads))}, but is {head!r}",
                head=head,
                known=sorted(self.heads),
            )
        return self.heads[head]

    def load_class(self, path: str) -> Any:
        """Import the object at `module:Name`.

        Raises:
            PluginError: when the module fails to import or has no such name; the cause is chained.
        """
        module, name = path.split(":")
        try:
            return getattr(import_module_of_plugin(module, f"{path!r} of family {self.name!r}"), name)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise PluginError(
                f"{path!r} of family {self.name!r} is expected to be importable, but raised {said(error)}",
                family=self.name,
            ) from error
