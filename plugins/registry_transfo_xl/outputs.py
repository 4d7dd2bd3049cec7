"""What a forward pass of Transformer-XL returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from registry.pretrained import ModelOutput

__all__ = ["TransfoXLLMHeadModelOutput", "TransfoXLModelOutput"]


@dataclass
class TransfoXLModelOutput(ModelOutput):
    """Of the bare model: `(batch, seq, d_model)`, the memory, layers + 1 times the first, `(batch, heads, seq, memory + seq)`.

    The memory has its place in the tuple even when it is None.
    """

    last_hidden_state: Tensor
    #: For each layer `(memory, batch, d_model)`, time first.
    mems: tuple[Tensor, ...] | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the hidden state and the memory, then what else is not None."""
        rest = (self.hidden_states, self.attentions)
        return (self.last_hidden_state, self.mems, *(value for value in rest if value is not None))


@dataclass
class TransfoXLLMHeadModelOutput(ModelOutput):
    """Of the language model: log-probabilities `(batch, seq, vocab)` or, with labels, losses instead; then the memory.

    As a tuple it is `(logits, mems, …)` or, with labels, `(loss, None, mems, …)`, as in 2019; `losses` has only a name.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    mems: tuple[Tensor, ...] | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    #: Of each predicted token, in the order of the input; 0 where the label is ignored.
    losses: Tensor | None = None

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the loss if there is one, logits and memory, then what else is not None."""
        first = (self.logits,) if self.loss is None else (self.loss, self.logits)
        rest = (self.hidden_states, self.attentions)
        return (*first, self.mems, *(value for value in rest if value is not None))
