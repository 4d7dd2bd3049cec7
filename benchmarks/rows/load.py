"""Loading again in one process: names, and pickles that were converted when they were first loaded."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.harness import Bar, Measure, Side, Trial
from benchmarks.inputs import Inputs
from benchmarks.stage import Stage

_FLOOR = "map the file, a tensor for each entry"
_NAMES = ("gpt2", "gpt2-medium", "bert-base-uncased", "bert-large-uncased")
_NARROW = {"gpt2": "gpt2-narrow", "bert-large-uncased": "bert-large-narrow"}

MEASURES = (
    *(
        Measure(f"load.{name}", f"warm `load` of `{name}`", "s", peer="transformers", floor=_FLOOR, bars=(Bar("peer", 0.12),))
        for name in _NAMES
    ),
    *(
        Measure(
            f"load.{name}-by-size",
            f"warm `load` of `{name}`, beside as many tensors of a quarter of the width",
            "s",
            peer="ours, quarter of the width",
            bars=(Bar("peer", 1.25),),
        )
        for name in _NARROW
    ),
    *(
        Measure(
            f"load.pickle-{form}",
            f"second load of `gpt2`'s `pytorch_model.bin`, {said}",
            "s",
            peer="transformers, the same file",
            floor="map the safetensors file of the same tensors",
            bars=(Bar("peer", 0.05),),
        )
        for form, said in (("zip", "as torch saves it"), ("legacy", "as torch before 1.6 saved it"))
    ),
)


def trials(measure: Measure, stage: Stage, inputs: Inputs) -> Mapping[Side, Trial]:
    """Return how a sample of each side is taken."""
    what = measure.key.removeprefix("load.")
    offline = {"HF_HUB_OFFLINE": "1"}
    times = 2 if stage.quick else 5
    if what.startswith("pickle-"):
        folder = str(inputs.pickle("gpt2", what.removeprefix("pickle-")))
        options = {"name": folder, "family": "gpt2", "head": "lm", "times": times}
        return {
            "ours": lambda: stage.sample("load", side="ours", **options),
            "peer": lambda: stage.sample("load", offline, side="peer", **options),
            "floor": lambda: stage.sample("load", side="floor", folder=str(inputs.folder("gpt2")), times=times),
        }
    name = what.removesuffix("-by-size")
    family = inputs.sizes(name)["family"]
    options = {"family": family, "head": "lm" if family == "gpt2" else "base", "times": times}
    if name != what:
        names = inputs.name(name), inputs.name(_NARROW[name])
        return {
            "ours": lambda: stage.sample("load", side="ours", name=names[0], **options),
            "peer": lambda: stage.sample("load", side="ours", name=names[1], **options),
        }
    published, folder = inputs.name(name), str(inputs.folder(name))
    return {
        "ours": lambda: stage.sample("load", side="ours", name=published, **options),
        "peer": lambda: stage.sample("load", offline, side="peer", name=folder, **options),
        "floor": lambda: stage.sample("load", side="floor", folder=folder, times=times),
    }
