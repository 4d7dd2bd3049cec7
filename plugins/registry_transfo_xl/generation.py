"""What Transformer-XL has read while it generates."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from registry_transfo_xl.attention import KeyMemory

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
