"""The parts of OpenAI GPT and GPT-2 that are the same in both; their parameters have the names of the published files.

Shapes: N rows of the flattened batch, S sequence, T sequence with its past, E width, A heads, D = E / A.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from registry.pretrained.causal_config import CausalConfig
from registry.pretrained.kernels import linear
from registry.pretrained.layers import ACTIVATIONS, Linear, add_parameters, attend, remaining_heads

__all__ = ["CausalAttention", "Conv1D", "FeedForward", "KeyValueCache", "SequenceSummary", "causal_keep", "prune_conv1d"]


class Conv1D(nn.Module):
    """A linear layer whose weights are stored `(in, out)`, as the published files hold them; without values of its own."""

    weight: nn.Parameter
    bias: nn.Parameter

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        add_parameters(self, weight=(in_features, out_features), bias=(out_features,))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        return linear(x, self.weight.t(), self.bias)

    def extra_repr(self) -> str:
        """Return the sizes, for printing."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


def prune_conv1d(layer: Conv1D, index: Tensor, *, dim: int) -> None:
    """Keep only some rows (`dim` 0, inputs) or columns (`dim` 1, outputs) of the weights, in place.

    Args:
        layer: what to cut.
        index: int64, the numbers of what is kept.
        dim: 0 or 1.
    """
    index = index.to(layer.weight.device)
    layer.weight = nn.Parameter(layer.weight.detach().index_select(dim, index), requires_grad=layer.weight.requires_grad)
    if dim == 0:
        layer.in_features = len(index)
    else:
        layer.out_features = len(index)
        layer.bias = nn.Parameter(layer.bias.detach().index_select(0, index), requires_grad=layer.bias.requires_grad)


class KeyValueCache:
    """The keys and values of every layer, in memory that is allocated once and filled from the left."""

    def __init__(self, layers: Sequence[Tensor]) -> None:
        """Start empty.

        Args:
            layers: for each layer, room for its keys and values, (2, N, A, longest, D).
        """
        self.layers = list(layers)
        #: Positions that are filled, in every layer.
        self.length = 0

    def extend(self, layer: int, new: Tensor) -> Tensor:
        """Write (2, N, A, S, D) behind what a layer has, and return all of it; `length` moves once a whole step is done."""
        end = self.length + new.shape[-2]
        room = self.layers[layer]
        if end > room.shape[-2]:
            raise ValueError(f"the cache is expected to hold {room.shape[-2]} positions at most, but {end} are needed")
        room[..., self.length : end, :] = new
        return room[..., :end, :]


def causal_keep(
    attention_mask: Tensor | None, queries: int, keys: int, *, device: torch.device, explicit: bool = False
) -> Tensor | None:
    """Return a boolean mask, True where a key may be seen, that broadcasts over (N, A, S, T).

    None means that the causal rule of torch's kernel is enough: nothing is padded, and there is no past or one query.

    Args:
        attention_mask: (N, T), nonzero keeps.
        queries: S; they are the last positions of the keys.
        keys: T.
        device: where to make the mask.
        explicit: never return None for several queries, for attention outside that kernel.
    """
    causal = None
    if queries > 1 and (explicit or attention_mask is not None or queries != keys):
        causal = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
    if attention_mask is None:
        return causal
    keep = (attention_mask != 0)[:, None, None, :]
    if causal is not None:
        keep = keep & causal
    # A query before the first token sees no key: let it see all, because its result means nothing but must not be nan.
    return keep | ~keep.any(-1, keepdim=True)


class CausalAttention(nn.Module):
    """Multi-head attention to the positions up to one's own, with its projections; the unit that pruning works on."""

    def __init__(self, config: CausalConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads = remaining_heads(config.n_head, config.pruned_heads.get(layer, ()))  # original numbers of those left
        self.head_size = config.n_embd // config.n_head
        self.dropout = config.attn_pdrop
        width = len(self.heads) * self.head_size
        self.c_attn = Conv1D(config.n_embd, 3 * width)
        self.c_proj = Conv1D(width, config.n_embd)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def forward(
        self,
        hidden: Tensor,
        keep: Tensor | None,
        past: Tensor | KeyValueCache | None,
        head_mask: Tensor | None,
        need_weights: bool,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return (N, S, E), keys and values so far (2, N, A, T, D), and the weights (N, A, S, T) when they are asked for."""
        rows, length, _ = hidden.shape
        split = self.c_attn(hidden).view(rows, length, 3, len(self.heads), self.head_size)
        query, present = split.permute(2, 0, 3, 1, 4).split((1, 2))  # (3, N, A, S, D): one of queries, two of the others
        if isinstance(past, KeyValueCache):
            present = past.extend(self.layer, present)
        elif past is not None:
            present = torch.cat((past, present), dim=-2)
        if head_mask is not None and head_mask.shape[1] != len(self.heads):
            head_mask = head_mask[:, self.heads]
        result, weights = attend(
            query[0],
            present[0],
            present[1],
            keep,
            dropout=self.dropout if self.training else 0.0,
            head_mask=head_mask,
            need_weights=need_weights,
            is_causal=keep is None and length > 1,
        )
        projected: Tensor = self.resid_dropout(self.c_proj(result.transpose(1, 2).flatten(2)))
        return projected, present, weights

    def prune(self, gone: Sequence[int]) -> None:
        """Cut heads by their original numbers."""
        kept = [index for index, head in enumerate(self.heads) if head not in gone]
        columns = torch.cat([torch.arange(self.head_size) + index * self.head_size for index in kept])
        width = len(self.heads) * self.head_size
        prune_conv1d(self.c_attn, torch.cat([columns, columns + width, columns + 2 * width]), dim=1)
        prune_conv1d(self.c_proj, columns, dim=0)
        self.heads = [self.heads[index] for index in kept]


class FeedForward(nn.Module):
    """Two layers on each position by itself."""

    def __init__(self, config: CausalConfig, width: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.c_fc = Conv1D(config.n_embd, width)
        self.c_proj = Conv1D(width, config.n_embd)
        self.activation = activation
        self.dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (N, S, E) to (N, S, E)."""
        projected: Tensor = self.dropout(self.c_proj(self.activation(self.c_fc(hidden))))
        return projected


class SequenceSummary(nn.Module):
    """One score, or `num_labels`, for a whole sequence: the multiple choice head."""

    def __init__(self, config: CausalConfig) -> None:
        super().__init__()
        self.kind = config.summary_type
        self.first_dropout = nn.Dropout(config.summary_first_dropout)
        outputs = config.num_labels if config.summary_proj_to_labels else config.n_embd
        self.summary = Linear(config.n_embd, outputs) if config.summary_use_proj else nn.Identity()
        self.activation = ACTIVATIONS[config.summary_activation] if config.summary_activation else nn.Identity()

    def forward(self, hidden: Tensor, index: Tensor | None = None) -> Tensor:
        """Map (..., S, E) to (..., labels).

        Args:
            hidden: (..., S, E).
            index: int64 (...), the position to read where `summary_type` is `cls_index`; None for the last.
        """
        if self.kind == "mean":
            read = hidden.mean(-2)
        elif self.kind == "first":
            read = hidden[..., 0, :]
        elif self.kind == "last" or index is None:
            read = hidden[..., -1, :]
        else:
            if index.shape != hidden.shape[:-2]:
                raise ValueError(
                    f"mc_token_ids is expected to have the shape {tuple(hidden.shape[:-2])}, but has {tuple(index.shape)}"
                )
            read = hidden.gather(-2, index[..., None, None].expand(*index.shape, 1, hidden.shape[-1])).squeeze(-2)
        scores: Tensor = self.activation(self.summary(self.first_dropout(read)))
        return scores
