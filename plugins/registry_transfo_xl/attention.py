"""The relative attention of Transformer-XL (arXiv:1901.02860, 3.3).

Shapes: B batch, S sequence, M memory, K = M + S keys, D hidden size, N heads, d head size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry.pretrained.layers import LayerNorm, Linear, attend
from registry_transfo_xl.config import TransfoXLConfig

__all__ = ["TransfoXLAttention", "relative_shift", "sinusoids"]


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
        query_weight, key_weight, value_weight = self.qkv_net.weight.chunk(3)
        query = self._split(F.linear(context[:, -hidden.shape[1] :], query_weight))
        key = self._split(F.linear(context, key_weight))
        value = self._split(F.linear(context, value_weight))
        distance = self._split(self.r_net(positions)).permute(1, 2, 0)  # (N, d, K)
        by_distance = relative_shift((query + self.r_r_bias).transpose(1, 2) @ distance)
        result, weights = attend(
            (query + self.r_w_bias).transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            keep,
            bias=by_distance * self.shape[1] ** -0.5,
            dropout=self.dropatt if self.training else 0.0,
            head_mask=head_mask,
            need_weights=need_weights,
        )
        summed = hidden + self.drop(self.o_net(result.transpose(1, 2).flatten(2)))
        return summed if self.pre_lnorm else self.layer_norm(summed), weights

    def _split(self, projected: Tensor) -> Tensor:  # (..., N * d) -> (..., N, d)
        return projected.view(*projected.shape[:-1], *self.shape)
