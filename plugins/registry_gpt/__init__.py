"""OpenAI GPT (Radford and others, 2018) for the model registry. Every name is imported when it is first used."""

__all__ = [
    "OpenAIGPTConfig",
    "OpenAIGPTDoubleHeadsModel",
    "OpenAIGPTLMHeadModel",
    "OpenAIGPTModel",
    "OpenAIGPTTokenizer",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    home = {"OpenAIGPTConfig": "config", "OpenAIGPTTokenizer": "tokenization"}.get(name, "modeling")
    return getattr(import_module(f"{__name__}.{home}"), name)
