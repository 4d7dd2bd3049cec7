"""GPT-2 (Radford and others, 2019) for the model registry. Every name is imported when it is first used."""

from registry.base.lazy import lazy_names

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

__getattr__ = lazy_names(__name__, __all__, {"GPT2Config": "config", "GPT2Tokenizer": "tokenization"})
