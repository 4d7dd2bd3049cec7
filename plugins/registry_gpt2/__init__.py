"""GPT-2 (Radford and others, 2019) for the model registry. Every name is imported when it is first used."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from registry_gpt2.config import GPT2Config
    from registry_gpt2.modeling import GPT2DoubleHeadsModel, GPT2LMHeadModel, GPT2Model, GPT2PreTrainedModel
    from registry_gpt2.tokenization import GPT2Tokenizer

__all__ = [
    "GPT2Config",
    "GPT2DoubleHeadsModel",
    "GPT2LMHeadModel",
    "GPT2Model",
    "GPT2PreTrainedModel",
    "GPT2Tokenizer",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    home = {"GPT2Config": "config", "GPT2Tokenizer": "tokenization"}.get(name, "modeling")
    return getattr(import_module(f"{__name__}.{home}"), name)
