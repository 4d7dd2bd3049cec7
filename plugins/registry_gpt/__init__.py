"""OpenAI GPT (Radford and others, 2018) for the model registry. Every name is imported when it is first used."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from registry_gpt.config import OpenAIGPTConfig
    from registry_gpt.modeling import OpenAIGPTDoubleHeadsModel, OpenAIGPTLMHeadModel, OpenAIGPTModel, OpenAIGPTPreTrainedModel
    from registry_gpt.tokenization import OpenAIGPTTokenizer

__all__ = [
    "OpenAIGPTConfig",
    "OpenAIGPTDoubleHeadsModel",
    "OpenAIGPTLMHeadModel",
    "OpenAIGPTModel",
    "OpenAIGPTPreTrainedModel",
    "OpenAIGPTTokenizer",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    home = {"OpenAIGPTConfig": "config", "OpenAIGPTTokenizer": "tokenization"}.get(name, "modeling")
    return getattr(import_module(f"{__name__}.{home}"), name)
