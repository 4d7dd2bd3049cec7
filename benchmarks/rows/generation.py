"""Greedy generation with GPT-2, each library with its own cache of keys and values; new tokens of all rows per second."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.harness import Bar, Measure, Side, Trial
from benchmarks.inputs import Inputs
from benchmarks.shapes import gpt2_products
from benchmarks.stage import Stage

_PROMPT, _NEW = 32, 128
#: In bfloat16, for which a processor without its instructions takes a fifth of a second a token, of the prompt as well.
_FEW_PROMPT, _FEW_NEW = 8, 16
_BARS = {1: 1.25, 8: 2.2}
MEASURES = (
    *(
        Measure(
            f"generation.float32-{batch}",
            f"greedy generation, `gpt2` float32, batch {batch}",
            "tokens/s",
            peer="transformers",
            floor="the same matrix products alone, each with the fastest kernel here",
            bars=(Bar("peer", bar, at_least=True),),
            same="equal",
        )
        for batch, bar in _BARS.items()
    ),
    *(
        Measure(
            f"generation.bfloat16-{batch}",
            f"greedy generation of {_FEW_NEW} tokens, `gpt2` bfloat16, batch {batch}",
            "tokens/s",
            peer="transformers in bfloat16",
            floor="no floor: ours in float32 stands here",
            only_reported="how fast bfloat16 is depends on the processor more than on the program",
            same="told",
        )
        for batch in _BARS
    ),
)


def trials(measure: Measure, stage: Stage, inputs: Inputs) -> Mapping[Side, Trial]:
    """Return how a sample of each side is taken."""
    kind, batch = measure.key.removeprefix("generation.").rsplit("-", 1)
    prompt, new = (_PROMPT, _NEW) if kind == "float32" else (_FEW_PROMPT, _FEW_NEW)
    if stage.quick:
        prompt, new = prompt // 4, new // 8
    published, folder = inputs.name("gpt2"), str(inputs.folder("gpt2"))
    options = {"batch": int(batch), "prompt": prompt, "new": new, "times": 1}

    def of(side: Side, dtype: str) -> Trial:
        variables = {"HF_HUB_OFFLINE": "1"} if side == "peer" else {}
        name = folder if side == "peer" else published
        return lambda: stage.sample("generation", variables, side=side, name=name, dtype=dtype, **options)

    if kind == "float32":
        products = gpt2_products(inputs.sizes("gpt2"), int(batch), prompt, 50257, new=new)
        floor = lambda: stage.sample("products", **products, times=1)  # noqa: E731  # one of three in a table
        return {"ours": of("ours", kind), "peer": of("peer", kind), "floor": floor}
    return {"ours": of("ours", kind), "peer": of("peer", kind), "floor": of("ours", "float32")}
