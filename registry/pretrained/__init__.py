"""What a family's own classes build on."""

from registry.base.lazy import lazy_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from registry.pretrained.batch_encoding import BatchEncoding
    from registry.pretrained.config import PretrainedConfig
    from registry.pretrained.generation import GenerationMixin
    from registry.pretrained.model import PreTrainedModel
    from registry.pretrained.outputs import ModelOutput
    from registry.pretrained.tokenizer import PreTrainedTokenizer

__all__ = ["BatchEncoding", "GenerationMixin", "ModelOutput", "PreTrainedModel", "PreTrainedTokenizer", "PretrainedConfig"]

__getattr__ = lazy_names(
    __name__,
    __all__,
    {
        "BatchEncoding": "batch_encoding",
        "GenerationMixin": "generation",
        "ModelOutput": "outputs",
        "PreTrainedModel": "model",
        "PreTrainedTokenizer": "tokenizer",
        "PretrainedConfig": "config",
    },
)
