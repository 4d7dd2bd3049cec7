"""From the start of a process to the first logits of a model that is in the cache."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.harness import Bar, Measure, Side, Trial
from benchmarks.inputs import Inputs
from benchmarks.stage import Stage

_LENGTH = 16
_FLOOR = "import torch, map the file, the same forward in bare torch"


def _measure(name: str, of_floor: float, of_peer: float) -> Measure:
    return Measure(
        f"first-logits.{name}",
        f"fresh process, cached `{name}` → first logits",
        "s",
        peer="transformers",
        floor=_FLOOR,
        bars=(Bar("floor", of_floor), Bar("peer", of_peer)),
        same="close",
        warm_up=True,
    )


MEASURES = (
    _measure("gpt2", 1.10, 0.45),
    _measure("bert-base-uncased", 1.15, 0.5),
    _measure("gpt2-medium", 1.15, 0.5),
)


def trials(measure: Measure, stage: Stage, inputs: Inputs) -> Mapping[Side, Trial]:
    """Return how a sample of each side is taken."""
    name = measure.key.split(".", 1)[1]
    sizes = inputs.sizes(name)
    head, layers, heads = (
        ("lm", "n_layer", "n_head")
        if sizes["family"] == "gpt2"
        else (
            "masked-lm",
            "num_hidden_layers",
            "num_attention_heads",
        )
    )
    options = {
        "name": inputs.name(name),
        "folder": str(inputs.folder(name)),
        "family": sizes["family"],
        "head": head,
        "layers": sizes[layers],
        "heads": sizes[heads],
        "ids": list(range(1000, 1000 + _LENGTH)),
    }
    return {
        "ours": lambda: stage.sample("first_logits", side="ours", **options),
        "peer": lambda: stage.sample("first_logits", {"HF_HUB_OFFLINE": "1"}, side="peer", **options),
        "floor": lambda: stage.sample("first_logits", side="floor", **options),
    }
