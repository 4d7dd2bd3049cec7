"""A step of training in float32: forward with dropout, backward, AdamW."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.harness import Bar, Measure, Side, Trial
from benchmarks.inputs import Inputs
from benchmarks.shapes import bert_products, trained
from benchmarks.stage import Stage

_BATCH, _LENGTH = 8, 128
MEASURES = (
    Measure(
        "training.bert-base-uncased-8x128",
        "training step, `bert-base-uncased` 8x128, masked language model",
        "s",
        peer="transformers (sdpa)",
        floor="the matrix products of forward and backward alone",
        bars=(Bar("peer", 1.03),),
        same="close",
    ),
)


def trials(measure: Measure, stage: Stage, inputs: Inputs) -> Mapping[Side, Trial]:
    """Return how a sample of each side is taken."""
    name = "bert-base-uncased"
    times = 1 if stage.quick else 3
    batch = 2 if stage.quick else _BATCH
    options = {"head": "masked-lm", "family": "bert", "batch": batch, "length": _LENGTH, "times": times}
    published, folder = inputs.name(name), str(inputs.folder(name))
    products = trained(bert_products(inputs.sizes(name), batch, _LENGTH, vocabulary=30522))
    return {
        "ours": lambda: stage.sample("training", side="ours", name=published, **options),
        "peer": lambda: stage.sample("training", {"HF_HUB_OFFLINE": "1"}, side="peer", name=folder, **options),
        "floor": lambda: stage.sample("products", **products, times=times),
    }
