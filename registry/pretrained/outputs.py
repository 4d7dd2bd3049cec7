"""What a forward pass returns: a tuple in the old order whose places have names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, overload

from torch import Tensor
from torch.utils import _pytree

__all__ = [
    "BaseModelOutput",
    "CausalLMOutput",
    "CausalModelOutput",
    "ClassifierOutput",
    "DoubleHeadsOutput",
    "ModelOutput",
    "PreTrainingOutput",
    "QuestionAnsweringOutput",
]


@dataclass
class ModelOutput:
    """The base of every output.

    A subclass is a dataclass of optional tensors in the order that 1.2.0 returned them. Index, slice and unpack see only
    those that are not None; names see all. torch's own containers (DDP, FSDP, `torch.compile`) look inside, because each
    subclass is a registered pytree.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _pytree.register_pytree_node(
            cls,
            lambda output: ([getattr(output, item.name) for item in fields(output)], None),
            lambda values, _: cls(*values),
            serialized_type_name=f"{cls.__module__}.{cls.__qualname__}",
        )

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the values that are not None, in order."""
        return tuple(value for item in fields(self) if (value := getattr(self, item.name)) is not None)

    @overload
    def __getitem__(self, index: int | str) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Any, ...]: ...
    def __getitem__(self, index: int | slice | str) -> Any:
        return getattr(self, index) if isinstance(index, str) else self.to_tuple()[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_tuple())

    def __len__(self) -> int:
        return len(self.to_tuple())


@dataclass
class BaseModelOutput(ModelOutput):
    """Of a bare model: `(batch, seq, hidden)`, `(batch, hidden)`, layers + 1 times the first, `(batch, heads, seq, seq)`."""

    last_hidden_state: Tensor
    pooler_output: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class ClassifierOutput(ModelOutput):
    """Of a head with one kind of logits: `(batch, labels or choices)`, or `(batch, seq, labels or vocab)`."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class PreTrainingOutput(ModelOutput):
    """Of both pretraining tasks: logits `(batch, seq, vocab)` and `(batch, 2)`."""

    loss: Tensor | None = None
    prediction_logits: Tensor | None = None
    seq_relationship_logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class QuestionAnsweringOutput(ModelOutput):
    """Of an answer span: two logits `(batch, seq)`."""

    loss: Tensor | None = None
    start_logits: Tensor | None = None
    end_logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class CausalModelOutput(ModelOutput):
    """Of a bare decoder: `(batch, seq, hidden)`; keys and values of each layer, `(2, batch, heads, seq so far, dim)`."""

    last_hidden_state: Tensor
    past_key_values: tuple[Tensor, ...] | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class CausalLMOutput(ModelOutput):
    """Of a language model head: logits `(batch, seq, vocab)` for the token after each position."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: tuple[Tensor, ...] | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class DoubleHeadsOutput(ModelOutput):
    """Of language model and multiple choice: logits `(batch, choices, seq, vocab)` and `(batch, choices)`."""

    loss: Tensor | None = None
    mc_loss: Tensor | None = None
    logits: Tensor | None = None
    mc_logits: Tensor | None = None
    past_key_values: tuple[Tensor, ...] | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
