"""Layers that do not initialise themselves, and the attention that every family shares.

torch's own `reset_parameters` costs about a second on the meta device, for values that a checkpoint replaces. These
are torch's classes, so that whatever looks for a `torch.nn.Linear` finds one, but their values are left to
`PreTrainedModel`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry.errors import ConfigError
from registry.pretrained.kernels import linear

__all__ = [
    "ACTIVATIONS",
    "Embedding",
    "LayerNorm",
    "Linear",
    "add_parameters",
    "attend",
    "check_pruning",
    "head_masks",
    "keep_mask",
    "outlining",
    "prune_linear",
    "remaining_heads",
]


class Linear(nn.Linear):
    """`torch.nn.Linear` without values of its own."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(in_features=in_features, out_features=out_features)
        add_parameters(self, weight=(out_features, in_features), bias=(out_features,) if bias else None)

    def reset_parameters(self) -> None:
        """Do nothing: values come from a checkpoint or from `PreTrainedModel.init_weights`."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        return linear(input, self.weight, self.bias)


class Embedding(nn.Embedding):
    """`torch.nn.Embedding` without values of its own."""

    def reset_parameters(self) -> None:
        """Do nothing, as in `Linear`."""


class LayerNorm(nn.LayerNorm):
    """`torch.nn.LayerNorm` (arXiv:1607.06450) over the last dimension, without values of its own."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(normalized_shape=(width,), eps=eps, elementwise_affine=True)
        add_parameters(self, weight=(width,), bias=(width,))

    def reset_parameters(self) -> None:
        """Do nothing, as in `Linear`."""


#: Tensors without memory by shape and dtype, where a model is being built on the meta device.
_outlines: ContextVar[dict[tuple[tuple[int, ...], torch.dtype], Tensor] | None] = ContextVar("outlines", default=None)


@contextlib.contextmanager
def outlining() -> Iterator[None]:
    """Have layers of one shape share a tensor that has no memory; enter it where the meta device is torch's default."""
    known = _outlines.get()
    token = _outlines.set({} if known is None else known)
    try:
        yield
    finally:
        _outlines.reset(token)


def add_parameters(module: nn.Module, **shapes: tuple[int, ...] | None) -> None:
    """Add parameters without values to a new module.

    A model has hundreds, and `Module.__setattr__`, like `torch.empty` with a default device, takes its time.
    """
    outlines = _outlines.get()
    for name, shape in shapes.items():
        if shape is None:
            module._parameters[name] = None
        elif outlines is None:
            module._parameters[name] = nn.Parameter(torch.empty(shape))
        else:
            key = shape, torch.get_default_dtype()
            if (outline := outlines.get(key)) is None:
                outline = outlines[key] = torch.empty(shape)
            module._parameters[name] = nn.Parameter(outline)


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


class _Activations(dict[str, Callable[[Tensor], Tensor]]):
    """A table that names what it has, where a family did not check the name before."""

    def __missing__(self, name: str) -> Callable[[Tensor], Tensor]:
        raise ConfigError(f"an activation is expected to be one of {', '.join(self)}, but is {name!r:.100}")


#: By the names that configurations use. `gelu` is the exact form, `gelu_new` the tanh form (arXiv:1606.08415).
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = _Activations(
    {
        "gelu": F.gelu,
        "gelu_new": _gelu_tanh,
        "gelu_pytorch_tanh": _gelu_tanh,
        "relu": F.relu,
        "silu": F.silu,
        "swish": F.silu,
        "tanh": torch.tanh,
    }
)


def keep_mask(attention_mask: Tensor | None) -> Tensor | None:
    """Return a boolean mask, True where a key may be seen, that broadcasts over (batch, heads, query, key).

    Args:
        attention_mask: any dtype, nonzero keeps; `(batch, key)`, `(batch, query, key)` or `(batch, heads, query, key)`.

    A query for which nothing is kept sees everything: its result means nothing, but it must not be nan.
    """
    if attention_mask is None:
        return None
    if attention_mask.dim() not in (2, 3, 4):
        raise ValueError(f"attention_mask is expected to have 2, 3 or 4 dimensions, but has {attention_mask.dim()}")
    keep = attention_mask if attention_mask.dtype == torch.bool else attention_mask != 0
    if keep.dim() == 2:
        keep = keep[:, None, None, :]
    elif keep.dim() == 3:
        keep = keep[:, None]
    return keep | ~keep.any(-1, keepdim=True)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    keep: Tensor | None,
    *,
    bias: Tensor | None = None,
    dropout: float = 0.0,
    head_mask: Tensor | None = None,
    need_weights: bool = False,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Scaled dot-product attention (arXiv:1706.03762, 3.2.1).

    Args:
        query: `(batch, heads, query, dim)`; `key` and `value` `(batch, heads, key, dim)`.
        key: see `query`.
        value: see `query`.
        keep: boolean, True where a key may be seen; broadcasts over (batch, heads, query, key).
        bias: `(batch, heads, query, key)`, added to the scaled scores.
        dropout: probability of dropping an attention weight.
        head_mask: factors of the weights, broadcasting over (batch, heads, query, key).
        need_weights: whether to return the weights, which costs torch's fused kernel.
        is_causal: let that kernel hide from each query the keys after it; only without `keep`, and with as many keys as
            queries. Where the kernel is not used, `keep` has to say it.

    Returns:
        the result, `(batch, heads, query, dim)`, and the weights after dropout and head mask when they were asked for.
    """
    if head_mask is None and not need_weights:
        if bias is not None:
            keep = bias if keep is None else bias.masked_fill(~keep, torch.finfo(bias.dtype).min)
        result = F.scaled_dot_product_attention(query, key, value, attn_mask=keep, dropout_p=dropout, is_causal=is_causal)
        return result, None
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if bias is not None:
        scores = scores + bias
    if keep is not None:
        scores = scores.masked_fill(~keep, torch.finfo(scores.dtype).min)
    weights = F.dropout(scores.softmax(-1), dropout, training=dropout > 0)
    if head_mask is not None:
        weights = weights * head_mask
    return weights @ value, weights if need_weights else None


def head_masks(head_mask: Tensor | None, layers: int, dtype: torch.dtype) -> Sequence[Tensor | None]:
    """Return for each layer the factors of its heads, (1, heads, 1, 1), or None.

    Args:
        head_mask: `(heads,)` for all layers, or `(layers, heads)`.
        layers: how many there are.
        dtype: of the factors.
    """
    if head_mask is None:
        return [None] * layers
    per_layer = head_mask.expand(layers, -1) if head_mask.dim() == 1 else head_mask
    return [mask[None, :, None, None].to(dtype) for mask in per_layer]


def check_pruning(layer: int, gone: Sequence[int], heads: Sequence[Sequence[int]]) -> None:
    """Raise unless these heads of a layer can be cut.

    Args:
        layer: the number of the layer.
        gone: original numbers of the heads to cut.
        heads: for each layer, the original numbers of those that it has.

    Raises:
        ConfigError: when the layer or a head does not exist, or none would be left.
    """
    if not 0 <= layer < len(heads):
        raise ConfigError(f"layer is expected to be in 0..{len(heads) - 1}, but is {layer}")
    if unknown := sorted(set(gone) - set(heads[layer])):
        raise ConfigError(f"heads of layer {layer} are expected to be among {heads[layer]}, but are {unknown}")
    if len(gone) == len(heads[layer]):
        raise ConfigError(f"layer {layer} is expected to keep at least one head")


def remaining_heads(num_heads: int, pruned: Sequence[int]) -> list[int]:
    """Return the original numbers of the heads that are left."""
    gone = set(pruned)
    return [head for head in range(num_heads) if head not in gone]


def prune_linear(layer: nn.Linear, index: Tensor, *, dim: int) -> None:
    """Keep only some rows (`dim` 0, outputs) or columns (`dim` 1, inputs) of a linear layer, in place.

    Args:
        layer: what to cut.
        index: int64, the numbers of what is kept.
        dim: 0 or 1.
    """
    index = index.to(layer.weight.device)
    layer.weight = nn.Parameter(layer.weight.detach().index_select(dim, index), requires_grad=layer.weight.requires_grad)
    if dim == 0:
        layer.out_features = len(index)
        if layer.bias is not None:
            layer.bias = nn.Parameter(layer.bias.detach().index_select(0, index), requires_grad=layer.bias.requires_grad)
    else:
        layer.in_features = len(index)
