"""The relative attention of Transformer-XL (arXiv:1901.02860, 3.3).

Shapes: B batch, S sequence, M memory, K = M + S keys, D hidden size, N heads, d head size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry.pretrained.layers import LayerNorm, Linear, attend
from registry_transfo_xl.config import TransfoXLConfig

__all__ = ["KeyMemory", "TransfoXLAttention", "relative_shift", "sinusoids"]


def sinusoids(distances: Tensor, width: int) -> Tensor:
    """Return the position vectors (K, width) of distances (K,): sines, then cosines (arXiv:1901.02860, 3.3)."""
    # In float32 whatever the model's dtype: bfloat16 cannot tell 257 from 256.
    powers = torch.arange(0, width, 2, dtype=torch.float32, device=distances.device) / width
    angles = distances.float()[:, None] / 10000**powers
    return torch.cat([angles.sin(), angles.cos()], -1)


def relative_shift(scores: Tensor) -> Tensor:
    """Move each row of scores by distance, (..., S, K), so that its columns become keys (arXiv:1901.02860, appendix B)."""
    *_, queries, keys = scores.shape
    padded = F.pad(scores, (1, 0)).view(*scores.shape[:-2], keys + 1, queries)
    return padded[..., 1:, :].reshape(scores.shape)


@dataclass
class KeyMemory:
    """A layer's memory for reading one token at a time: projected once, in a ring of M + 1 places."""

    key: Tensor  # (B, N, M + 1, d)
    value: Tensor
    #: (N, d, M + 1), of the distances M to 0.
    distance: Tensor


class TransfoXLAttention(nn.Module):
    """Multi-head attention over the memory and the segment, by content and by distance."""

    def __init__(self, config: TransfoXLConfig) -> None:
        super().__init__()
        heads = config.n_head * config.d_head
        self.shape = (config.n_head, config.d_head)
        self.pre_lnorm = config.pre_lnorm
        self.dropatt = config.dropatt
        self.r_r_bias = nn.Parameter(torch.empty(self.shape))
        self.r_w_bias = nn.Parameter(torch.empty(self.shape))
        self.qkv_net = Linear(config.d_model, 3 * heads, bias=False)
        self.o_net = Linear(heads, config.d_model, bias=False)
        self.layer_norm = LayerNorm(config.d_model, eps=config.layer_norm_epsilon)
        self.r_net = Linear(config.d_model, heads, bias=False)
        self.drop = nn.Dropout(config.dropout)

    def forward(
        self,
        hidden: Tensor,
        positions: Tensor,
        keep: Tensor,
        mem: Tensor | None,
        head_mask: Tensor | None,
        need_weights: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Return (B, S, D), and the weights (B, N, S, K) when they are asked for.

        Args:
            hidden: (B, S, D).
            positions: (K, D), the vectors of the distances K - 1 to 0.
            keep: boolean (S, K), True where a key may be seen.
            mem: (M, B, D), or None.
            head_mask: (1, N, 1, 1), or None.
            need_weights: whether to return the weights.
        """
        context = hidden if mem is None else torch.cat([mem.transpose(0, 1), hidden], 1)
        if self.pre_lnorm:
            context = self.layer_norm(context)
        query = self._query(context[:, -hidden.shape[1] :])
        key, value = self._key_value(context)
        by_distance = relative_shift((query + self.r_r_bias).transpose(1, 2) @ self._distance(positions))
        result, weights = attend(
            (query + self.r_w_bias).transpose(1, 2),
            key,
            value,
            keep,
            bias=by_distance * self.shape[1] ** -0.5,
            dropout=self.dropatt if self.training else 0.0,
            head_mask=head_mask,
            need_weights=need_weights,
        )
        return self._finish(hidden, result), weights

    def remember(self, mem: Tensor, positions: Tensor) -> KeyMemory:
        """Return a memory (M, B, D) for `step`, with one place free; `positions` (M + 1, D) as in `forward`."""
        context = mem.transpose(0, 1)
        key, value = self._key_value(self.layer_norm(context) if self.pre_lnorm else context)
        return KeyMemory(F.pad(key, (0, 0, 0, 1)), F.pad(value, (0, 0, 0, 1)), self._distance(positions))

    def step(self, hidden: Tensor, memory: KeyMemory, keep: Tensor, place: int) -> Tensor:
        """Read one token (B, 1, D) into a place of the memory, over the oldest, and return what `forward` does.

        Args:
            hidden: (B, 1, D).
            memory: changed in place.
            keep: boolean (M + 1,), True for the distances, M to 0, that may be seen.
            place: 0 to M.
        """
        context = self.layer_norm(hidden) if self.pre_lnorm else hidden
        query = self._query(context)
        key, value = self._key_value(context)
        memory.key[:, :, place], memory.value[:, :, place] = key[:, :, 0], value[:, :, 0]
        by_distance = (query + self.r_r_bias).transpose(1, 2) @ memory.distance * self.shape[1] ** -0.5
        by_distance = by_distance.masked_fill(~keep, torch.finfo(by_distance.dtype).min)
        # Scores move to where the keys stand in the ring, which is cheaper than to move the keys.
        bias = by_distance.roll(place + 1, -1)
        result, _ = attend((query + self.r_w_bias).transpose(1, 2), memory.key, memory.value, None, bias=bias)
        return self._finish(hidden, result)

    def _query(self, context: Tensor) -> Tensor:  # (B, S, D) -> (B, S, N, d)
        return self._split(F.linear(context, self.qkv_net.weight.chunk(3)[0]))

    def _key_value(self, context: Tensor) -> tuple[Tensor, Tensor]:  # (B, K, D) -> twice (B, N, K, d)
        _, key, value = self.qkv_net.weight.chunk(3)
        return self._split(F.linear(context, key)).transpose(1, 2), self._split(F.linear(context, value)).transpose(1, 2)

    def _distance(self, positions: Tensor) -> Tensor:  # (K, D) -> (N, d, K)
        return self._split(self.r_net(positions)).permute(1, 2, 0)

    def _finish(self, hidden: Tensor, result: Tensor) -> Tensor:  # (B, S, D) and (B, N, S, d) -> (B, S, D)
        summed: Tensor = hidden + self.drop(self.o_net(result.transpose(1, 2).flatten(2)))
        return summed if self.pre_lnorm else self.layer_norm(summed)

    def _split(self, projected: Tensor) -> Tensor:  # (..., N * d) -> (..., N, d)
        return projected.view(*projected.shape[:-1], *self.shape)
