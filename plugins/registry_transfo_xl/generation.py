"""What Transformer-XL has read while it generates.

A prompt is read as any text is. After it, word by word, the memory stands as keys and values: to project all of it again for
each word would take most of the time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from registry_transfo_xl.attention import KeyMemory

if TYPE_CHECKING:
    from registry_transfo_xl.modeling import TransfoXLModel

__all__ = ["GenerationState"]


@dataclass
class GenerationState:
    """The memory after what was read; without a memory, the ids themselves, (B, S)."""

    #: For each layer (M, B, D); None for a model without memory, and from the second word on.
    mems: tuple[Tensor, ...] | None
    input_ids: Tensor | None = None
    layers: list[KeyMemory] = field(default_factory=list)
    #: Boolean (M + 1,): the distances that may be seen.
    keep: Tensor | None = None
    #: Where in the ring of keys the next word goes.
    place: int = 0

    def read(self, model: TransfoXLModel, input_ids: Tensor) -> Tensor:
        """Read ids (B, S) and return the last hidden state (B, D)."""
        if self.layers or (self.mems is not None and input_ids.shape[1] == 1 and self._is_full(model)):
            for number in range(input_ids.shape[1]):
                hidden = self._step(model, input_ids[:, number : number + 1])
            return hidden
        if self.mems is None:
            self.input_ids = input_ids if self.input_ids is None else torch.cat([self.input_ids, input_ids], 1)
            return model(self.input_ids).last_hidden_state[:, -1]  # type: ignore[no-any-return]
        length = input_ids.shape[1]
        # With `same_length` each word sees the same keys however the text is cut, so a long prompt needs no more room.
        size = model.tgt_len if model.same_length else length
        for begin in range(0, length, size):
            read = model(input_ids[:, begin : begin + size], mems=self.mems, ext_len=0)
            self.mems = read.mems
        return read.last_hidden_state[:, -1]  # type: ignore[no-any-return]

    def _is_full(self, model: TransfoXLModel) -> bool:
        """Whether the memory has reached its size, so that it can turn in a ring; with dropout nothing is projected once."""
        return self.mems is not None and self.mems[0].shape[0] == model.mem_len and not model.training

    def _step(self, model: TransfoXLModel, input_ids: Tensor) -> Tensor:
        hidden: Tensor = model.word_emb(input_ids)
        if self.mems is not None:
            positions, keep = model.positions(hidden, model.mem_len)
            pairs = zip(model.layers, self.mems, strict=True)
            self.layers = [layer.remember(mem, positions) for layer, mem in pairs]  # type: ignore[operator]
            self.keep, self.place, self.mems = keep[0], model.mem_len, None
        for layer, memory in zip(model.layers, self.layers, strict=True):
            hidden = layer.step(hidden, memory, self.keep, self.place)  # type: ignore[operator]
        self.place = (self.place + 1) % (model.mem_len + 1)
        return hidden[:, -1]
