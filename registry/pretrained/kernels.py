"""Matrix products for inference on a CPU, where torch's usual road is slow.

`torch.nn.functional.linear` hands a product of few rows to one call of the BLAS, which divides such work badly among
threads and cache. The same product as a batch of narrow ones, by torch's own `bmm`, takes about half the time. The values
differ from those of `F.linear` by rounding alone.

Shapes: M rows, K inputs, N outputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

__all__ = ["linear"]

#: With more rows than this one call is as fast.
_FEW_ROWS = 128
#: With so few, products of a stored (in, out) weight are parted along the inputs: its rows are then read in one go.
_FEWEST_ROWS = 2
_LEAST_PARTS = 8
_WIDEST = 1024
_NARROWEST = 64

_PLAIN = (Tensor, nn.Parameter)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return what `torch.nn.functional.linear` does, up to rounding, by the fastest road that torch has here.

    Only float32 on a CPU, with no gradient to record and outside of autocast, compilation and the transforms of `torch.func`,
    takes another road.

    Args:
        x: (..., K).
        weight: (N, K), of any strides.
        bias: (N,), or None.

    Returns:
        (..., N).
    """
    if (
        torch.is_grad_enabled()
        or not x.is_cpu
        or x.dtype is not torch.float32
        or weight.dtype is not torch.float32
        or type(weight) not in _PLAIN
        or type(x) not in _PLAIN
        or x.numel() > _FEW_ROWS * x.shape[-1]
        or not x.numel()
        or torch.is_autocast_enabled("cpu")
        or torch.compiler.is_compiling()
        or not torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
        or _is_transformed()
    ):
        return F.linear(x, weight, bias)
    product = _parted(x.reshape(-1, x.shape[-1]), weight)
    if product is None:
        return F.linear(x, weight, bias)
    if bias is not None:
        product += bias
    return product.view(*x.shape[:-1], -1)


def _is_transformed() -> bool:
    """Whether a transform of `torch.func`, such as `vmap`, or forward-mode differentiation is at work.

    Both work without gradient mode; neither can write into a part of a tensor as `_parted` does. What they wrap has the type
    of a plain tensor.
    """
    return torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0


def _parted(x: Tensor, weight: Tensor) -> Tensor | None:
    """Return (M, N) as a batch of narrower products; None for a weight that is small, or does not lie in one piece."""
    rows, (outputs, inputs) = x.shape[0], weight.shape
    parts = max(_LEAST_PARTS, torch.get_num_threads(), outputs // _WIDEST)
    width = outputs // parts
    if width < _NARROWEST:
        return None
    if weight.is_contiguous():
        panels = weight[: parts * width].view(parts, width, inputs).transpose(1, 2)
    elif not (stored := weight.t()).is_contiguous():
        return None
    elif rows <= _FEWEST_ROWS and inputs % parts == 0:
        return torch.bmm(x.view(rows, parts, -1).transpose(0, 1), stored.view(parts, -1, outputs)).sum(0)
    else:
        panels = stored[:, : parts * width].view(inputs, parts, width).transpose(0, 1)
    product = torch.bmm(x.expand(parts, rows, inputs), panels).transpose(0, 1)
    if parts * width == outputs:
        return product.reshape(rows, outputs)
    whole = x.new_empty(rows, outputs)
    whole[:, : parts * width].view(rows, parts, width).copy_(product)  # to multiply into it takes half as long again
    torch.mm(x, weight[parts * width :].t(), out=whole[:, parts * width :])
    return whole
