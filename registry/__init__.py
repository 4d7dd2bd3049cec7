"""Turn a model name into a verified, running PyTorch model.

    >>> import registry
    >>> model = registry.load("bert-base-uncased", head="masked-lm")
    >>> tokenizer = registry.load_tokenizer("bert-base-uncased")

Importing this package imports nothing else: every name below, and every class of every installed family
(`from registry import BertModel`), is imported when it is first used.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from registry.catalog.entry import FilePin, ModelEntry
    from registry.checkpoint.report import LoadReport
    from registry.errors import (
        CacheError,
        CatalogError,
        CheckpointError,
        ConfigError,
        DistributedError,
        DownloadError,
        IntegrityError,
        LockTimeout,
        OfflineError,
        PluginConflict,
        PluginError,
        RegistryError,
        RegistryWarning,
        UnknownFamily,
        UnknownHead,
        UnknownModel,
        UnsafeCheckpoint,
    )
    from registry.families.family import Family
    from registry.families.hookspecs import hookimpl
    from registry.model_registry import (
        ModelRegistry,
        default_registry,
        fetch,
        list_models,
        load,
        load_config,
        load_tokenizer,
        resolve,
    )
    from registry.pretrained.config import CONFIG_NAME, PretrainedConfig
    from registry.pretrained.model import SAFE_WEIGHTS_NAME, WEIGHTS_NAME, PreTrainedModel
    from registry.pretrained.tokenizer import PreTrainedTokenizer
    from registry.store.events import FileEvent, Observer

    __version__: str

__all__ = [
    "CONFIG_NAME",
    "SAFE_WEIGHTS_NAME",
    "WEIGHTS_NAME",
    "CacheError",
    "CatalogError",
    "CheckpointError",
    "ConfigError",
    "DistributedError",
    "DownloadError",
    "Family",
    "FileEvent",
    "FilePin",
    "IntegrityError",
    "LoadReport",
    "LockTimeout",
    "ModelEntry",
    "ModelRegistry",
    "Observer",
    "OfflineError",
    "PluginConflict",
    "PluginError",
    "PreTrainedModel",
    "PreTrainedTokenizer",
    "PretrainedConfig",
    "RegistryError",
    "RegistryWarning",
    "UnknownFamily",
    "UnknownHead",
    "UnknownModel",
    "UnsafeCheckpoint",
    "default_registry",
    "fetch",
    "hookimpl",
    "list_models",
    "load",
    "load_config",
    "load_tokenizer",
    "resolve",
]

#: Module to the names that live there; what is not listed lives in `registry.errors`.
_HOMES = {
    "catalog.entry": "FilePin ModelEntry",
    "checkpoint.report": "LoadReport",
    "families.family": "Family",
    "families.hookspecs": "hookimpl",
    "model_registry": "ModelRegistry default_registry fetch list_models load load_config load_tokenizer resolve",
    "pretrained.config": "CONFIG_NAME PretrainedConfig",
    "pretrained.model": "PreTrainedModel SAFE_WEIGHTS_NAME WEIGHTS_NAME",
    "pretrained.tokenizer": "PreTrainedTokenizer",
    "store.events": "FileEvent Observer",
}


def __getattr__(name: str) -> "Any":  # the classes of families are not known to a type checker
    from importlib import import_module

    if name == "__version__":
        from importlib.metadata import version

        return version("pretrained-registry")
    if name in __all__:
        home = next((module for module, names in _HOMES.items() if name in names.split()), "errors")
        value: Any = getattr(import_module(f"{__name__}.{home}"), name)
    elif name[:1].isupper() and (found := import_module(f"{__name__}.model_registry").default_registry().find_class(name)):
        value = found
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}, and no installed family has such a class")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
