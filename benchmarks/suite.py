"""All rows, and the way from a row to the trials of its sides."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.harness import Measure, Side, Trial
from benchmarks.inputs import Inputs
from benchmarks.rows import fetch, first_logits, forward, generation, load, memory, resolve, startup, tokenization, training
from benchmarks.stage import Stage

__all__ = ["MEASURES", "trials"]

_GROUPS = (startup, first_logits, load, memory, forward, training, generation, tokenization, fetch, resolve)

#: Every row of the table, in its order.
MEASURES: tuple[Measure, ...] = tuple(measure for group in _GROUPS for measure in group.MEASURES)

_TRIALS: dict[str, Callable[[Measure, Stage, Inputs], Mapping[Side, Trial]]] = {
    measure.key: group.trials for group in _GROUPS for measure in group.MEASURES
}


def trials(measure: Measure, stage: Stage, inputs: Inputs) -> Mapping[Side, Trial]:
    """Make what a row needs, and return how a sample of each of its sides is taken."""
    return _TRIALS[measure.key](measure, stage, inputs)
