"""What a family's own classes build on."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from registry.pretrained.batch_encoding import BatchEncoding
    from registry.pretrained.config import PretrainedConfig
    from registry.pretrained.generation import GenerationMixin
    from registry.pretrained.model import PreTrainedModel
    from registry.pretrained.outputs import ModelOutput
    from registry.pretrained.tokenizer import PreTrainedTokenizer

__all__ = ["BatchEncoding", "GenerationMixin", "ModelOutput", "PreTrainedModel", "PreTrainedTokenizer", "PretrainedConfig"]

_HOMES = {
    "BatchEncoding": "batch_encoding",
    "GenerationMixin": "generation",
    "ModelOutput": "outputs",
    "PreTrainedModel": "model",
    "PreTrainedTokenizer": "tokenizer",
    "PretrainedConfig": "config",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
