"""Memory of its own (RssAnon) that a load costs a process, before the first forward pass."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.harness import Bar, Measure, Side, Trial
from benchmarks.inputs import Inputs
from benchmarks.stage import Stage

MEASURES = tuple(
    Measure(
        f"memory.{name}",
        f"RssAnon after loading `{name}`, above an interpreter with torch",
        "of weights",
        peer="transformers",
        bars=(Bar("ours", 0.05),),
    )
    for name in ("gpt2", "bert-base-uncased", "gpt2-medium")
)


def trials(measure: Measure, stage: Stage, inputs: Inputs) -> Mapping[Side, Trial]:
    """Return how a sample of each side is taken."""
    name = measure.key.removeprefix("memory.")
    family = inputs.sizes(name)["family"]
    options = {"family": family, "head": "lm" if family == "gpt2" else "base"}
    published, folder = inputs.name(name), str(inputs.folder(name))
    return {
        "ours": lambda: stage.sample("memory", side="ours", name=published, **options),
        "peer": lambda: stage.sample("memory", {"HF_HUB_OFFLINE": "1"}, side="peer", name=folder, **options),
    }
