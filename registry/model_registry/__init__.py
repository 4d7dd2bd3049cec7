"""The registry: joins catalog, store, checkpoint reader and families, in that order. Nothing else does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.catalog.entry import ModelEntry
from registry.families.locks import ForkSafeLock
from registry.model_registry.classes import Classes
from registry.model_registry.locks import Locks
from registry.model_registry.models import Models
from registry.model_registry.names import PathLike
from registry.model_registry.upkeep import Upkeep

if TYPE_CHECKING:
    from registry.pretrained.config import PretrainedConfig
    from registry.pretrained.model import PreTrainedModel
    from registry.pretrained.tokenizer import PreTrainedTokenizer

__all__ = ["ModelRegistry", "default_registry", "fetch", "list_models", "load", "load_config", "load_tokenizer", "resolve"]


class ModelRegistry(Models, Classes, Locks, Upkeep):
    """Names to models. The module functions of `registry` use one default object of this class.

    It is safe to use from several threads, and pickles: an unpickled one knows the same catalogs wherever it runs.
    """


# -- the default registry ------------------------------------------------------------------------------------------------

_default_lock = ForkSafeLock()
_default: ModelRegistry | None = None


def default_registry() -> ModelRegistry:
    """Return the registry that the module functions use; it is made at the first call."""
    global _default
    with _default_lock:
        if _default is None:
            _default = ModelRegistry()
        return _default


def load(name_or_path: PathLike, **options: Any) -> PreTrainedModel:
    """Load a model; see `ModelRegistry.load`."""
    return default_registry().load(name_or_path, **options)


def load_config(name_or_path: PathLike, **options: Any) -> PretrainedConfig:
    """Load a configuration; see `ModelRegistry.load_config`."""
    return default_registry().load_config(name_or_path, **options)


def load_tokenizer(name_or_path: PathLike, **options: Any) -> PreTrainedTokenizer:
    """Load a tokenizer; see `ModelRegistry.load_tokenizer`."""
    return default_registry().load_tokenizer(name_or_path, **options)


def fetch(name_or_path: PathLike, **options: Any) -> Path:
    """Return a folder with a model's verified files; see `ModelRegistry.fetch`."""
    return default_registry().fetch(name_or_path, **options)


def resolve(name: str) -> ModelEntry:
    """Return what a name means; see `ModelRegistry.resolve`."""
    return default_registry().resolve(name)


def list_models(pattern: str = "*") -> list[str]:
    """Return the names that match a shell pattern; see `ModelRegistry.list_models`."""
    return default_registry().list_models(pattern)
