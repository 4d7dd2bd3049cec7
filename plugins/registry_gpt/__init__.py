"""OpenAI GPT (Radford and others, 2018) for the model registry. Every name is imported when it is first used."""

from registry.base.lazy import lazy_names

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

__getattr__ = lazy_names(__name__, __all__, {"OpenAIGPTConfig": "config", "OpenAIGPTTokenizer": "tokenization"})
