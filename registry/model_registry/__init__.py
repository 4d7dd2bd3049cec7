"""The registry. This is the only package that connects catalog, store, checkpoint reader and families."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from registry.base.thread_lock import ForkSafeLock
from registry.model_registry.registry import ModelRegistry

__all__ = ["ModelRegistry", "default_registry", "fetch", "list_models", "load", "load_config", "load_tokenizer", "resolve"]

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

_default_lock = ForkSafeLock()
_default: ModelRegistry | None = None


def default_registry() -> ModelRegistry:
    """Return the registry that the module functions use. The first call creates it."""
    global _default
    with _default_lock:
        if _default is None:
            _default = ModelRegistry()
        return _default


def _of_default(method: Callable[Concatenate[ModelRegistry, _Parameters], _Result]) -> Callable[_Parameters, _Result]:
    """Turn a method into a function that calls it on the default registry, with its signature and documentation."""
    name = method.__name__

    @functools.wraps(method)
    def function(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        result: _Result = getattr(default_registry(), name)(*args, **kwargs)
        return result

    signature = inspect.signature(method)
    _, *parameters = signature.parameters.values()
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    function.__qualname__, function.__module__ = name, __name__
    return function


fetch = _of_default(ModelRegistry.fetch)
list_models = _of_default(ModelRegistry.list_models)
load = _of_default(ModelRegistry.load)
load_config = _of_default(ModelRegistry.load_config)
load_tokenizer = _of_default(ModelRegistry.load_tokenizer)
resolve = _of_default(ModelRegistry.resolve)
