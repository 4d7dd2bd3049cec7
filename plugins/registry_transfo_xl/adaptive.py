"""Embedding and softmax over a vocabulary in buckets (arXiv:1609.04309, arXiv:1809.10853).

The first bucket holds the most frequent words. With `div_val` above 1, each further one has a narrower embedding, which
a projection brings to the model's width. D hidden size, E width of the first embedding, V vocabulary.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry.pretrained.layers import Embedding, Linear
from registry_transfo_xl.config import TransfoXLConfig

__all__ = ["AdaptiveEmbedding", "AdaptiveLogSoftmax"]

_IGNORED = (-1, -100)


def _buckets(config: TransfoXLConfig) -> list[tuple[int, int]]:
    """Return rows and width of each embedding; a single one when all buckets have one width."""
    if config.div_val == 1:
        return [(config.n_token, config.d_embed)]
    ends = pairwise([0, *config.cutoffs, config.n_token])
    return [(end - begin, config.d_embed // config.div_val**number) for number, (begin, end) in enumerate(ends)]


def _needs_projection(config: TransfoXLConfig) -> bool:
    return config.div_val != 1 or config.d_model != config.d_embed


class AdaptiveEmbedding(nn.Module):
    """Words to vectors of the model's width, times its square root."""

    def __init__(self, config: TransfoXLConfig) -> None:
        super().__init__()
        self.width = config.d_model
        buckets = _buckets(config)
        self.begins = [0] if config.div_val == 1 else [0, *config.cutoffs]
        self.emb_layers = nn.ModuleList(Embedding(rows, width) for rows, width in buckets)
        projections = [nn.Parameter(torch.empty(config.d_model, width)) for _, width in buckets]
        self.emb_projs = nn.ParameterList(projections if _needs_projection(config) else ())

    def forward(self, input_ids: Tensor) -> Tensor:
        """Map ids (B, S) to (B, S, D)."""
        if len(self.emb_layers) == 1:
            embedded = self._embed(0, input_ids)
        else:
            ids = input_ids.flatten()
            bucket = torch.bucketize(ids.contiguous(), torch.tensor(self.begins[1:], device=ids.device), right=True)
            parts, places = [], []
            for number, begin in enumerate(self.begins):
                places.append((bucket == number).nonzero().squeeze(1))
                parts.append(self._embed(number, ids[places[-1]] - begin))
            embedded = torch.cat(parts)[torch.cat(places).argsort()].view(*input_ids.shape, self.width)
        scaled: Tensor = embedded * self.width**0.5
        return scaled

    def _embed(self, number: int, ids: Tensor) -> Tensor:
        embedded: Tensor = self.emb_layers[number](ids)
        return F.linear(embedded, self.emb_projs[number]) if len(self.emb_projs) else embedded


class AdaptiveLogSoftmax(nn.Module):
    """Log-probabilities of words: those of the first bucket and of the other buckets, then of the words in each of these."""

    def __init__(self, config: TransfoXLConfig) -> None:
        super().__init__()
        buckets = _buckets(config)
        self.cutoffs = list(config.cutoffs)
        if self.cutoffs:
            self.cluster_weight = nn.Parameter(torch.empty(len(self.cutoffs), config.d_embed))
            self.cluster_bias = nn.Parameter(torch.empty(len(self.cutoffs)))
        self.out_layers = nn.ModuleList(Linear(width, rows) for rows, width in buckets)
        widths = [width for _, width in buckets] if config.div_val != 1 else [config.d_embed] * (len(self.cutoffs) + 1)
        projections = [nn.Parameter(torch.empty(config.d_model, width)) for width in widths]
        self.out_projs = nn.ParameterList(projections if _needs_projection(config) else ())

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (..., D) to log-probabilities (..., V)."""
        head = self._log_softmax(0, hidden)
        if not self.cutoffs:
            return head
        shortlist = self.cutoffs[0]
        parts = [head[..., :shortlist]]
        for number in range(1, len(self.cutoffs) + 1):
            cluster = head[..., shortlist + number - 1, None]
            parts.append(cluster + self._log_softmax(number, hidden))
        return torch.cat(parts, -1)

    def losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return the negative log-probability of each target, 0 where it is -1 or -100, without those of all words.

        Args:
            hidden: (..., D).
            targets: int64 (...).

        Raises:
            ValueError: for a target that is no word, or a shape that does not fit.
        """
        if hidden.shape[:-1] != targets.shape:
            shapes = f"{tuple(hidden.shape[:-1])}, but is {tuple(targets.shape)}"
            raise ValueError(f"shape of the targets is expected to be that of the positions, {shapes}")
        states, flat = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
        begins = [0, *self.cutoffs]
        size = self._layer(-1).out_features + (begins[-1] if len(self.out_layers) > 1 else 0)
        counts = torch.ones_like(flat, dtype=torch.bool)
        for value in _IGNORED:
            counts &= flat != value
        if (wrong := flat[counts & ((flat < 0) | (flat >= size))]).numel():
            raise ValueError(f"a target is expected to be in 0..{size - 1}, or -1 or -100 to be ignored, but is {wrong[0]}")
        # In float32: a sum over a batch of half-precision losses would overflow.
        head = self._log_softmax(0, states, torch.float32)
        result = head.new_zeros(flat.shape)
        for number, (begin, end) in enumerate(pairwise([*begins, size])):
            places = (counts & (flat >= begin) & (flat < end)).nonzero().squeeze(1)
            words = (flat[places] - begin).unsqueeze(1)
            if number == 0:
                found = head[places].gather(1, words).squeeze(1)
            else:
                inside = self._log_softmax(number, states[places], torch.float32).gather(1, words).squeeze(1)
                found = head[places, begins[1] + number - 1] + inside
            result = result.index_copy(0, places, -found)
        return result.view(targets.shape)

    def _log_softmax(self, number: int, hidden: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Return (..., words of a bucket); for the first bucket the other buckets follow its words."""
        weight: Tensor
        bias: Tensor
        if len(self.out_layers) > 1 or not self.cutoffs:
            weight, bias = self._layer(number).weight, self._layer(number).bias
        else:
            ends = [0, *self.cutoffs, None]
            rows = slice(ends[number], ends[number + 1])
            weight, bias = self._layer(0).weight[rows], self._layer(0).bias[rows]
        if number == 0 and self.cutoffs:
            weight, bias = torch.cat([weight, self.cluster_weight]), torch.cat([bias, self.cluster_bias])
        if len(self.out_projs):
            hidden = F.linear(hidden, self.out_projs[number].T)
        return F.linear(hidden, weight, bias).log_softmax(-1, dtype=dtype)

    def _layer(self, number: int) -> nn.Linear:
        layer = self.out_layers[number]
        assert isinstance(layer, nn.Linear)
        return layer
