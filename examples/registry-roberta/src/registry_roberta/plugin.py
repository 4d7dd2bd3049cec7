"""What the registry needs to know of RoBERTa before any of it is used."""

from registry import Family, hookimpl

REGISTRY_API = 1

_MODELS = "registry_roberta.modeling:"


@hookimpl
def registry_family() -> Family:
    """Return the description of the family."""
    return Family(
        name="roberta",
        config="registry_roberta.config:RobertaConfig",
        heads={
            "base": _MODELS + "RobertaModel",
            "masked-lm": _MODELS + "RobertaForMaskedLM",
            "sequence-classification": _MODELS + "RobertaForSequenceClassification",
            "token-classification": _MODELS + "RobertaForTokenClassification",
            "question-answering": _MODELS + "RobertaForQuestionAnswering",
        },
        default_head="base",
        tokenizer="registry_roberta.tokenization:RobertaTokenizer",
        files={
            # transformers 5 saves neither any more; its tokenizer.json holds both.
            "vocab": ("vocab.json", "tokenizer.json"),
            "merges": ("merges.txt", "tokenizer.json"),
        },
    )
