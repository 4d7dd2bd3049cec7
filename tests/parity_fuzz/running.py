"""Run seeds of the kinds, and report what differs."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module

import torch

from tests.parity_fuzz.trial import Difference, Trial, shrink

__all__ = ["KINDS", "Result", "fuzz", "run"]

#: Each is a module here whose `run` draws one example and compares it.
KINDS = ("models", "folders", "generation", "tokenizers", "corpora")


@dataclass
class Result:
    """What the seeds of one kind showed."""

    kind: str
    examples: int = 0
    comparisons: int = 0
    seconds: float = 0.0
    #: What differs, to the seeds that show it.
    found: dict[str, list[int]] = field(default_factory=dict)
    #: For each, the smallest example that was found.
    reports: list[str] = field(default_factory=list)


def fuzz(kind: str, seeds: Iterable[int], *, shrinks: bool = True) -> Result:
    """Run examples of one kind; of each kind of difference the first is shrunk."""
    example: Callable[[Trial], None] = import_module(f"tests.parity_fuzz.{kind}").run

    def attempt(trial: Trial) -> None:
        try:
            example(trial)
        except Exception as error:  # no comparison caught it: the example itself cannot be made
            trial.differences.append(
                Difference(f"the example: {type(error).__name__}", str(error), "an example that can be made")
            )

    result = Result(kind)
    begin = time.monotonic()
    for seed in seeds:
        trial = Trial(kind, seed)
        attempt(trial)
        result.examples += 1
        result.comparisons += trial.comparisons
        for difference in {each.what: each for each in trial.differences}.values():
            if difference.what not in result.found:
                small = shrink(trial, difference.what, attempt) if shrinks else trial
                shown = next(each for each in small.differences if each.what == difference.what)
                result.reports.append(
                    f"{difference.what}: --seed {seed} --kind {kind}\n  example: {small.example()}\n"
                    f"  ours:     {shown.ours}\n  expected: {shown.theirs}"
                )
            result.found.setdefault(difference.what, []).append(seed)
    result.seconds = time.monotonic() - begin
    return result


def run(kinds: Sequence[str], seeds: range) -> bool:
    """Run and print a table; return whether anything differs."""
    torch.set_num_threads(1)  # these models are too small for two
    logging.disable()  # the oracles warn of much, and some examples are errors on purpose
    print(f"seeds {seeds.start} to {seeds.stop - 1}")
    results = []
    for kind in kinds:
        results.append(fuzz(kind, seeds))
        for report in results[-1].reports:
            print(f"\n{report}")
        sys.stdout.flush()
    print(f"\n{'kind':<12}{'examples':>10}{'comparisons':>13}{'seconds':>9}  differences")
    for result in results:
        shown = [f"{what} ({len(found)}: seeds {', '.join(map(str, found[:5]))})" for what, found in result.found.items()]
        row = f"{result.kind:<12}{result.examples:>10}{result.comparisons:>13}{result.seconds:>9.1f}  "
        print(row + (f"\n{'':{len(row)}}".join(shown) or "none"))
    return any(result.found for result in results)
