"""RoBERTa (arXiv:1907.11692) for the model registry. Every name is imported when it is first used."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from registry_roberta.config import RobertaConfig
    from registry_roberta.modeling import (
        RobertaForMaskedLM,
        RobertaForQuestionAnswering,
        RobertaForSequenceClassification,
        RobertaForTokenClassification,
        RobertaModel,
    )
    from registry_roberta.tokenization import RobertaTokenizer

__all__ = [
    "RobertaConfig",
    "RobertaForMaskedLM",
    "RobertaForQuestionAnswering",
    "RobertaForSequenceClassification",
    "RobertaForTokenClassification",
    "RobertaModel",
    "RobertaTokenizer",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    home = {"RobertaConfig": "config", "RobertaTokenizer": "tokenization"}.get(name, "modeling")
    return getattr(import_module(f"{__name__}.{home}"), name)
