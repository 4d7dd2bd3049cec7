"""BERT at a size that a test can afford, with random weights that are large enough to make differences visible."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from registry_bert import BertConfig
from registry_bert import modeling as ours

VOCAB, SEQ, BATCH, CHOICES = 61, 9, 3, 4

SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 24,
    "type_vocab_size": 2,
    "initializer_range": 0.2,
}

CLASSES = [
    "BertModel",
    "BertForPreTraining",
    "BertForMaskedLM",
    "BertForNextSentencePrediction",
    "BertForSequenceClassification",
    "BertForMultipleChoice",
    "BertForTokenClassification",
    "BertForQuestionAnswering",
]

#: Classes that have a pooler in 1.2.0 and none here, as in today's transformers.
WITHOUT_POOLER = {"BertForMaskedLM", "BertForTokenClassification", "BertForQuestionAnswering"}


def labels_of(name: str) -> int:
    """Return num_labels for a class: three where it has a choice."""
    return 3 if name in ("BertForSequenceClassification", "BertForTokenClassification") else 2


def build(name: str, **changes: Any) -> Any:
    """Return one of our classes with random weights, in evaluation mode."""
    torch.manual_seed(7)
    model = getattr(ours, name)(BertConfig(**{**SIZES, "num_labels": labels_of(name), **changes}))
    with torch.no_grad():
        for parameter in model.parameters():  # biases and layer norms too, so that a swap of any two shows
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def inputs(name: str) -> dict[str, Tensor]:
    """Return ids, types and a mask whose padding is on the right."""
    torch.manual_seed(11)
    shape = (BATCH, CHOICES, SEQ) if name == "BertForMultipleChoice" else (BATCH, SEQ)
    mask = torch.ones(shape, dtype=torch.int64)
    mask[0, ..., 6:] = 0
    mask[2, ..., 4:] = 0
    return {
        "input_ids": torch.randint(1, VOCAB, shape),
        "token_type_ids": torch.randint(0, 2, shape),
        "attention_mask": mask,
    }


def labels(name: str) -> dict[str, Tensor]:
    """Return labels by today's names; padded and ignored positions hold -1."""
    torch.manual_seed(13)
    words = torch.randint(0, VOCAB, (BATCH, SEQ))
    words[:, ::2] = -1
    return {
        "BertModel": {},
        "BertForPreTraining": {"labels": words, "next_sentence_label": torch.tensor([0, 1, 0])},
        "BertForMaskedLM": {"labels": words},
        "BertForNextSentencePrediction": {"labels": torch.tensor([0, 1, 1])},
        "BertForSequenceClassification": {"labels": torch.tensor([0, 2, 1])},
        "BertForMultipleChoice": {"labels": torch.tensor([0, 3, 1])},
        "BertForTokenClassification": {"labels": torch.randint(0, 3, (BATCH, SEQ))},
        "BertForQuestionAnswering": {
            "start_positions": torch.tensor([0, 3, 2]),
            "end_positions": torch.tensor([5, 4, 3]),
        },
    }[name]
