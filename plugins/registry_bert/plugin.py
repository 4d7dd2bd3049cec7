"""What the registry needs to know of BERT before any of it is used."""

from registry import Family, hookimpl

REGISTRY_API = 1

_MODELS = "registry_bert.modeling:"


@hookimpl
def registry_family() -> Family:
    """Return the description of the family."""
    return Family(
        name="bert",
        config="registry_bert.config:BertConfig",
        heads={
            "base": _MODELS + "BertModel",
            "pretraining": _MODELS + "BertForPreTraining",
            "masked-lm": _MODELS + "BertForMaskedLM",
            "next-sentence": _MODELS + "BertForNextSentencePrediction",
            "sequence-classification": _MODELS + "BertForSequenceClassification",
            "multiple-choice": _MODELS + "BertForMultipleChoice",
            "token-classification": _MODELS + "BertForTokenClassification",
            "question-answering": _MODELS + "BertForQuestionAnswering",
        },
        default_head="base",
        tokenizer="registry_bert.tokenization:BertTokenizer",
        classes=(_MODELS + "BertPreTrainedModel",),
        files={
            "weights": ("model.safetensors", "pytorch_model.bin"),
            "config": ("config.json", "bert_config.json"),
            # transformers 5 saves no vocab.txt any more; its tokenizer.json holds the same vocabulary.
            "vocab": ("vocab.txt", "tokenizer.json"),
        },
        converters={"tensorflow": "registry_bert.convert:load_tf_weights"},
    )
