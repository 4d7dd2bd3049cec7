"""BERT (arXiv:1810.04805) for the model registry. Every name is imported when it is first used."""

from registry.base.lazy import lazy_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from registry_bert.config import BertConfig
    from registry_bert.modeling import (
        BertForMaskedLM,
        BertForMultipleChoice,
        BertForNextSentencePrediction,
        BertForPreTraining,
        BertForQuestionAnswering,
        BertForSequenceClassification,
        BertForTokenClassification,
        BertModel,
        BertPreTrainedModel,
    )
    from registry_bert.tokenization import BertTokenizer

__all__ = [
    "BertConfig",
    "BertForMaskedLM",
    "BertForMultipleChoice",
    "BertForNextSentencePrediction",
    "BertForPreTraining",
    "BertForQuestionAnswering",
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "BertModel",
    "BertPreTrainedModel",
    "BertTokenizer",
]

__getattr__ = lazy_names(__name__, __all__, {"BertConfig": "config", "BertTokenizer": "tokenization"})
