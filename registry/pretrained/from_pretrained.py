"""`from_pretrained`, by the one road: it asks the default registry. The core's single upward call."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from registry.errors import PluginError, UnknownFamily
from registry.model_registry import default_registry

if TYPE_CHECKING:
    from registry.pretrained.config import PretrainedConfig
    from registry.pretrained.model import PreTrainedModel
    from registry.pretrained.tokenizer import PreTrainedTokenizer

__all__ = ["head_of", "load_config", "load_model", "load_tokenizer"]

Name = str | os.PathLike[str]


def load_config(cls: type[PretrainedConfig], name_or_path: Name, **kwargs: Any) -> Any:
    """Load a configuration of a given class."""
    return default_registry().config_of(cls, name_or_path, **kwargs)


def load_model(cls: type[PreTrainedModel], name_or_path: Name | None, *args: Any, **kwargs: Any) -> Any:
    """Load a model of a given class."""
    return default_registry().model_of(cls, name_or_path, *args, **kwargs)


def load_tokenizer(cls: type[PreTrainedTokenizer], name_or_path: Name, *args: Any, **kwargs: Any) -> Any:
    """Load a tokenizer of a given class."""
    return default_registry().tokenizer_of(cls, name_or_path, *args, **kwargs)


def head_of(model: PreTrainedModel) -> str | None:
    """Return the name of the head that a model's class is in its family, or None when it is none."""
    try:
        return default_registry().head_of(model)
    except (UnknownFamily, PluginError):  # a class of no plugin that works
        return None
