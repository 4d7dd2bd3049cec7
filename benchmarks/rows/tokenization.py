"""Real lines to ids, with real vocabularies; both sides must give the same ids."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.harness import Bar, Measure, Side, Trial
from benchmarks.inputs import Inputs
from benchmarks.stage import Stage

_NAMES = {"bert": "BERT", "gpt2": "GPT-2"}
MEASURES = tuple(
    Measure(
        f"tokenization.{family}-{how}",
        f"tokenization, {name}, {said}",
        "lines/s",
        peer="transformers' fast tokenizer",
        floor="the engine below transformers' tokenizer, ids alone",
        bars=(Bar("peer", 1.3, at_least=True),),
        same="equal",
    )
    for family, name in _NAMES.items()
    for how, said in (("single", "line by line"), ("batch", "all lines at once"))
)


def trials(measure: Measure, stage: Stage, inputs: Inputs) -> Mapping[Side, Trial]:
    """Return how a sample of each side is taken."""
    family, how = measure.key.removeprefix("tokenization.").split("-")
    options = {
        "family": family,
        "folder": str(inputs.vocabulary(family)),
        "text": str(inputs.text),
        "batch": how == "batch",
        "times": 2 if stage.quick else 3,
    }
    offline = {"HF_HUB_OFFLINE": "1"}
    return {
        "ours": lambda: stage.sample("tokenization", side="ours", **options),
        "peer": lambda: stage.sample("tokenization", offline, side="peer", **options),
        "floor": lambda: stage.sample("tokenization", offline, side="floor", **options),
    }
