"""Every head of every family at a size that a test can afford: what it reads, and what it is trained on.

Rows come in two halves that have the same number of labels, so that the mean of the halves' losses is the loss of all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import registry
from registry import PreTrainedModel

ROWS, CHOICES, SEQ, VOCAB = 4, 3, 8, 50
#: Family to what its configuration is made of. Without dropout, or the processes would draw other masks than one alone.
SIZES: dict[str, dict[str, Any]] = {
    "bert": {
        "vocab_size": VOCAB,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 24,
        "max_position_embeddings": SEQ,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "num_labels": 2,
    },
    "transfo-xl": {
        "vocab_size": VOCAB,
        "cutoffs": [10, 20, 40],
        "div_val": 2,
        "d_model": 8,
        "d_embed": 8,
        "n_head": 2,
        "d_head": 4,
        "d_inner": 16,
        "n_layer": 2,
        "tgt_len": SEQ,
        "mem_len": 6,
        "dropout": 0.0,
        "dropatt": 0.0,
    },
}
SIZES["gpt"] = SIZES["gpt2"] = {
    "vocab_size": VOCAB,
    "n_positions": SEQ,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "resid_pdrop": 0.0,
    "summary_first_dropout": 0.0,
}

Loss = Callable[[Any], Tensor]


def _loss(output: Any) -> Tensor:
    loss: Tensor = output.loss
    return loss


def _mean_of(name: str) -> Loss:
    return lambda output: getattr(output, name).pow(2).mean()


@dataclass(frozen=True)
class Part:
    """A loss that leaves parameters without a gradient: those whose names begin with one of `unused`."""

    loss: Loss
    unused: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """How one head is trained."""

    inputs: dict[str, Tensor]
    labels: dict[str, Tensor] = field(default_factory=dict)
    #: What trains every parameter.
    loss: Loss = _loss
    #: What does not.
    parts: tuple[Part, ...] = ()


def _draw(*shape: int, below: int = VOCAB) -> Tensor:
    return torch.randint(0, below, shape, generator=torch.Generator().manual_seed(len(shape) + below))


def _masked() -> dict[str, Tensor]:
    mask = torch.ones(ROWS, SEQ, dtype=torch.int64)
    mask[0, 5:] = mask[-1, 5:] = 0  # one row of each half
    return {"input_ids": _draw(ROWS, SEQ), "attention_mask": mask, "token_type_ids": _draw(ROWS, SEQ, below=2)}


def _several() -> dict[str, Tensor]:
    return {"input_ids": _draw(ROWS, CHOICES, SEQ)}


def _words() -> Tensor:
    words = _draw(ROWS, SEQ)
    words[:, ::2] = -100
    return words


def cases() -> dict[tuple[str, str], Case]:
    """Return family and head to how it is trained."""
    one_of_two, span = _draw(ROWS, below=2), {"start_positions": _draw(ROWS, below=5), "end_positions": _draw(ROWS, below=6)}
    words = {"input_ids": _draw(ROWS, SEQ)}
    found = {
        ("bert", "base"): Case(
            _masked(), loss=_mean_of("pooler_output"), parts=(Part(_mean_of("last_hidden_state"), ("pooler.",)),)
        ),
        ("bert", "pretraining"): Case(
            _masked(),
            {"labels": _words(), "next_sentence_label": one_of_two},
            parts=(
                Part(_mean_of("prediction_logits"), ("bert.pooler.", "cls.seq_relationship.")),
                Part(_mean_of("seq_relationship_logits"), ("cls.predictions.bias", "cls.predictions.transform.")),
            ),
        ),
        ("bert", "masked-lm"): Case(_masked(), {"labels": _words()}),
        ("bert", "next-sentence"): Case(_masked(), {"labels": one_of_two}),
        ("bert", "sequence-classification"): Case(_masked(), {"labels": one_of_two}),
        ("bert", "token-classification"): Case(_masked(), {"labels": _draw(ROWS, SEQ, below=2)}),
        ("bert", "multiple-choice"): Case(_several(), {"labels": _draw(ROWS, below=CHOICES)}),
        ("bert", "question-answering"): Case(_masked(), span),
        ("transfo-xl", "base"): Case(words, loss=_mean_of("last_hidden_state")),
        ("transfo-xl", "lm"): Case(words, {"labels": words["input_ids"]}),
    }
    for family in ("gpt", "gpt2"):
        found[family, "base"] = Case(words, loss=_mean_of("last_hidden_state"))
        found[family, "lm"] = Case(words, {"labels": words["input_ids"]})
        found[family, "double-heads"] = Case(
            _several(),
            {"labels": _several()["input_ids"], "mc_labels": _draw(ROWS, below=CHOICES)},
            loss=lambda output: output.loss + output.mc_loss,
            parts=(Part(_loss, ("multiple_choice_head.",)),),
        )
    return found


def heads() -> Iterator[tuple[str, str]]:
    """Yield family and head of everything that this distribution ships."""
    for name in SIZES:
        for head in registry.default_registry().families.get(name).heads:
            yield name, head


def build(family: str, head: str) -> PreTrainedModel:
    """Return a head in training mode, with the same weights in every process, large enough to make differences visible."""
    described = registry.default_registry().families.get(family)
    config = described.load_class(described.config)(**SIZES[family])
    torch.manual_seed(7)
    model: PreTrainedModel = described.load_class(described.head_path(head))(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.train()
