"""How one head of a family is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from registry.pretrained.config import PretrainedConfig

__all__ = ["Case"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What one head needs where the suite's sizes and ids of shape `(batch, seq)` do not do.

    Args:
        config: fields of the configuration, over those of the suite.
        shape: of `input_ids`; `(batch, choices, seq)` for a head that chooses.
        inputs: makes everything that the forward pass takes, by name; None for `input_ids` of `shape` alone.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = (2, 7)
    inputs: Callable[[PretrainedConfig], Mapping[str, Tensor]] | None = None

    def make_inputs(self, config: PretrainedConfig) -> dict[str, Tensor]:
        """Return the same inputs every time: `input_ids`, int64, from 1 up to the size of the vocabulary."""
        import torch

        if self.inputs is not None:
            return dict(self.inputs(config))
        return {"input_ids": torch.randint(1, config.vocab_size, self.shape, generator=torch.Generator().manual_seed(5))}
