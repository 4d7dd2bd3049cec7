"""What a program pays before it does anything."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.harness import Bar, Measure, Sample, Side, Trial
from benchmarks.inputs import Inputs
from benchmarks.stage import Stage

MEASURES = (
    Measure(
        "startup.import",
        "`import registry`, whole process",
        "s",
        peer="import transformers",
        floor="bare interpreter",
        bars=(Bar("above floor", 0.005),),
        warm_up=True,
    ),
    Measure(
        "startup.info",
        "`registry info gpt2`, whole process",
        "s",
        peer="python -c 'from transformers import GPT2LMHeadModel'",
        floor="bare interpreter",
        bars=(Bar("peer", 0.05),),
        warm_up=True,
    ),
)


def trials(measure: Measure, stage: Stage, inputs: Inputs) -> Mapping[Side, Trial]:
    """Return how a sample of each side is taken."""
    floor: Trial = lambda: Sample(stage.python("-c", "pass"))  # noqa: E731  # one of three in a table
    if measure.key == "startup.import":
        return {
            "ours": lambda: Sample(stage.python("-c", "import registry")),
            "peer": lambda: Sample(stage.python("-c", "import transformers")),
            "floor": floor,
        }
    command = stage.command("registry")
    # Of the built-in catalogs: not what other rows publish.
    variables = {"XDG_CONFIG_HOME": str(stage.folder / "none"), "REGISTRY_CACHE": str(stage.folder / "cache-info")}
    return {
        "ours": lambda: Sample(stage.run([command, "info", "gpt2"], variables)[0]),
        "peer": lambda: Sample(stage.python("-c", "from transformers import GPT2LMHeadModel")),
        "floor": floor,
    }
