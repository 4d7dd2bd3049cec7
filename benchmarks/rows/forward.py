"""Forward passes in float32, nothing padded, in `torch.inference_mode` with as many threads as torch takes."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.harness import Bar, Measure, Side, Trial
from benchmarks.inputs import Inputs
from benchmarks.shapes import bert_products, gpt2_products
from benchmarks.stage import Stage

#: Model, head, batch, length, bar.
_CASES = (
    ("bert-base-uncased", "base", 8, 128, 0.85),
    ("bert-base-uncased", "base", 1, 16, 0.65),
    ("gpt2", "lm", 4, 256, 0.80),
)
MEASURES = tuple(
    Measure(
        f"forward.{name}-{batch}x{length}",
        f"forward, `{name}` {batch}x{length}",
        "s",
        peer="transformers (sdpa)",
        floor="the same matrix products alone, each with the fastest kernel here",
        bars=(Bar("peer", bar),),
        same="close",
    )
    for name, _, batch, length, bar in _CASES
)


def trials(measure: Measure, stage: Stage, inputs: Inputs) -> Mapping[Side, Trial]:
    """Return how a sample of each side is taken."""
    name, head, batch, length, _ = _CASES[MEASURES.index(measure)]
    sizes = inputs.sizes(name)
    times = 40 if batch == 1 else 5
    if stage.quick:
        times, batch = (10, 1) if batch == 1 else (1, batch // 4)
    options = {"head": head, "family": sizes["family"], "batch": batch, "length": length, "times": times}
    published, folder = inputs.name(name), str(inputs.folder(name))
    products = bert_products(sizes, batch, length) if sizes["family"] == "bert" else gpt2_products(sizes, batch, length, 50257)
    return {
        "ours": lambda: stage.sample("forward", side="ours", name=published, **options),
        "peer": lambda: stage.sample("forward", {"HF_HUB_OFFLINE": "1"}, side="peer", name=folder, **options),
        "floor": lambda: stage.sample("products", **products, times=times),
    }
