"""BERT (arXiv:1810.04805) for the model registry. Every name is imported when it is first used."""

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


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    home = {"BertConfig": "config", "BertTokenizer": "tokenization"}.get(name, "modeling")
    return getattr(import_module(f"{__name__}.{home}"), name)
