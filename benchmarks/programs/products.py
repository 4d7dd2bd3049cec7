"""The floor of computing: a model's matrix products alone, each with the fastest kernel that torch has here.

Every layer has weights of its own, as in the model, so that they come from memory as they do there.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from benchmarks.programs.common import options, repeated, tell
from registry.pretrained.kernels import linear

Call = Callable[[Tensor, Tensor, Tensor | None], Tensor]
#: Rows, inputs, outputs, of which there are so many, with or without a bias.
Shape = tuple[int, int, int, int, bool]


class Kernel(NamedTuple):
    """A way to multiply (M, K) by weights that lie as (out, in), or as (in, out)."""

    name: str
    in_first: bool
    call: Call


def _addmm(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x @ weight if bias is None else torch.addmm(bias, x, weight)


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


KERNELS = (
    Kernel("linear", False, F.linear),
    Kernel("addmm", True, _addmm),
    Kernel("oneDNN", False, _onednn),
    Kernel("oneDNN in-out", True, lambda x, weight, bias: _onednn(x, weight.t(), bias)),
    Kernel("batched", False, linear),
    Kernel("batched in-out", True, lambda x, weight, bias: linear(x, weight.t(), bias)),
)


#: Seconds after which a trial of one kernel has been timed for long enough.
_LONG = 0.3


def _timed(call: Callable[[], object]) -> float:
    """Return the median of five calls after the first, or of fewer where they are long."""
    taken: list[float] = []
    while len(taken) < 6 and sum(taken) < _LONG:
        began = perf_counter()
        call()
        taken.append(perf_counter() - began)
    return median(taken[1:] or taken)


class Layers:
    """All products of one shape, and the kernel that is the fastest for it."""

    def __init__(self, shape: Shape) -> None:
        rows, inputs, outputs, self.count, has_bias = shape
        self.x = torch.randn(rows, inputs)
        self.bias = torch.randn(outputs) if has_bias else None
        few = [torch.randn(outputs, inputs) for _ in range(min(self.count, 3))]
        turned = [each.t().contiguous() for each in few]

        def tried(kernel: Kernel) -> float:
            weights = turned if kernel.in_first else few
            return _timed(lambda: [kernel.call(self.x, weight, self.bias) for weight in weights])

        self.kernel = min(KERNELS, key=tried)
        size = (inputs, outputs) if self.kernel.in_first else (outputs, inputs)
        self.weights = [torch.randn(size) for _ in range(self.count)]
        self.note = f"{rows}x{inputs}x{outputs} {self.kernel.name}"

    def multiply(self, number: int) -> None:
        """Compute the product of one layer."""
        self.kernel.call(self.x, self.weights[number], self.bias)


class Attention:
    """The two products of attention, (B * A, S, D) with (B * A, T, D), or the fused kernel where that is faster."""

    def __init__(self, batch: int, heads: int, queries: int, keys: int, size: int, causal: bool) -> None:
        self.query, self.key = torch.randn(batch, heads, queries, size), torch.randn(batch, heads, keys, size)
        self.causal = causal and queries > 1
        fused, plain = (_timed(lambda way=way: way(keys)) for way in (self._fused, self._plain))  # type: ignore[misc]
        self.compute = self._fused if fused < plain else self._plain
        self.note = f"attention {batch * heads}x{queries}x{keys} {'fused' if fused < plain else 'bmm'}"

    def _fused(self, keys: int) -> None:
        key = self.key[:, :, :keys]
        F.scaled_dot_product_attention(self.query, key, key, is_causal=self.causal)

    def _plain(self, keys: int) -> None:
        key = self.key[:, :, :keys].flatten(0, 1)
        torch.bmm(torch.bmm(self.query.flatten(0, 1), key.transpose(1, 2)), key)


class Step:
    """A pass through all layers."""

    def __init__(self, shapes: list[Shape], attention: Attention, layers: int, attentions: int) -> None:
        self.layers = [Layers(shape) for shape in shapes]
        self.attention, self.count = attention, layers
        self.attentions = attentions
        self.notes = [each.note for each in self.layers] + [attention.note]

    def run(self, keys: int) -> None:
        """Compute every product once, layer by layer; `keys` is the length of what is attended to."""
        for number in range(self.count):
            for layers in self.layers:
                share = layers.count // self.count  # of this shape, in each layer
                for each in range(number * share, (number + 1) * share):
                    layers.multiply(each)
            for _ in range(self.attentions):
                self.attention.compute(keys)
        for layers in self.layers:  # those that a model has once
            if layers.count < self.count:
                for each in range(layers.count):
                    layers.multiply(each)


def main() -> None:
    """Compute once, then all some times, and tell the median: seconds, or tokens per second of a generation."""
    given = options()
    heads, size, layers = given["heads"], given["head_size"], given["layers"]
    batch, length, new = given["batch"], given["length"], given.get("new", 0)
    with torch.inference_mode():
        first = Step(
            given["shapes"], Attention(batch, heads, length, length, size, given["causal"]), layers, given["attentions"]
        )
        steps = first
        if new:
            steps = Step(given["step_shapes"], Attention(batch, heads, 1, length + new, size, False), layers, 1)

        def all_products() -> None:
            first.run(length)
            for position in range(length + 1, length + new):
                steps.run(position)

        first.run(length)
        for position in range(length + 1, length + min(new, 8)):
            steps.run(position)
        seconds = repeated(all_products, given["times"])
    notes = first.notes + (steps.notes if new else [])
    tell(value=batch * new / seconds if new else seconds, note="; ".join(notes))


if __name__ == "__main__":
    main()
