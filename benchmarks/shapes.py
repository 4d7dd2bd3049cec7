"""The matrix products of the models, as shapes (rows, inputs, outputs, how many, with a bias), for `programs/products.py`."""

from __future__ import annotations

from typing import Any

__all__ = ["bert_products", "gpt2_products", "trained"]

_Shape = tuple[int, int, int, int, bool]


def bert_products(sizes: dict[str, Any], batch: int, length: int, *, vocabulary: int = 0) -> dict[str, Any]:
    """Return the options of a forward pass; `vocabulary` is 0 for the base model, with its pooler."""
    width, layers, rows = sizes["hidden_size"], sizes["num_hidden_layers"], batch * length
    shapes: list[_Shape] = [
        (rows, width, width, 4 * layers, True),
        (rows, width, 4 * width, layers, True),
        (rows, 4 * width, width, layers, True),
    ]
    if vocabulary:
        shapes += [(rows, width, width, 1, True), (rows, width, vocabulary, 1, True)]
    else:
        shapes += [(batch, width, width, 1, True)]
    heads = sizes["num_attention_heads"]
    return _options(shapes, batch, length, layers, heads, width // heads, causal=False)


def gpt2_products(sizes: dict[str, Any], batch: int, length: int, vocabulary: int, *, new: int = 0) -> dict[str, Any]:
    """Return the options of a forward pass, or with `new` those of a generation, which needs only the last logits."""
    width, layers, heads = sizes["n_embd"], sizes["n_layer"], sizes["n_head"]

    def shapes(rows: int, scored: int) -> list[_Shape]:
        return [
            (rows, width, 3 * width, layers, True),
            (rows, width, width, layers, True),
            (rows, width, 4 * width, layers, True),
            (rows, 4 * width, width, layers, True),
            (scored, width, vocabulary, 1, False),
        ]

    first = shapes(batch * length, batch if new else batch * length)
    options = _options(first, batch, length, layers, heads, width // heads, causal=True)
    return {**options, "new": new, "step_shapes": shapes(batch, batch)} if new else options


def trained(options: dict[str, Any]) -> dict[str, Any]:
    """Return the products of a forward pass and of both gradients of each, of the inputs and of the weights."""
    forward: list[_Shape] = options["shapes"]
    backward: list[_Shape] = []
    for rows, inputs, outputs, count, _ in forward:
        backward += [(rows, outputs, inputs, count, False), (outputs, rows, inputs, count, False)]
    return {**options, "shapes": [*forward, *backward], "attentions": 3}


def _options(
    shapes: list[_Shape], batch: int, length: int, layers: int, heads: int, head_size: int, *, causal: bool
) -> dict[str, Any]:
    return {
        "shapes": shapes,
        "batch": batch,
        "length": length,
        "layers": layers,
        "heads": heads,
        "head_size": head_size,
        "causal": causal,
        "attentions": 1,
    }
