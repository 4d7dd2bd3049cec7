"""Measures, samples and bars: what is compared, taken in turn, and its arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Literal

__all__ = ["SIDES", "Bar", "Figures", "Measure", "NotMeasured", "Sample", "Side", "Trial", "selected", "take"]

Side = Literal["ours", "peer", "floor"]
SIDES: tuple[Side, ...] = ("ours", "peer", "floor")


class NotMeasured(Exception):
    """A sample could not be taken, or two sides that should compute the same do not."""


@dataclass(frozen=True)
class Sample:
    """What one fresh process told."""

    #: In the measure's unit.
    value: float
    #: A numpy file of what was computed, to hold against the other side's.
    output: Path | None = None
    #: Such as which kernel was the fastest.
    note: str = ""


#: Takes one sample in a fresh process.
Trial = Callable[[], Sample]


@dataclass(frozen=True)
class Bar:
    """What a figure should be: `ours` itself, `ours` over `peer` or `floor`, or `ours` less the floor (`above floor`)."""

    of: Literal["ours", "peer", "floor", "above floor"]
    limit: float
    #: Whether more is better, as for tokens per second.
    at_least: bool = False

    def value(self, figures: Figures) -> float:
        """Return the figure that the bar is about."""
        if self.of == "ours":
            return figures.median("ours")
        if self.of == "above floor":
            return figures.median("ours") - figures.median("floor")
        return figures.ratio(self.of)

    def is_met(self, figures: Figures) -> bool:
        """Return whether the medians reach the bar."""
        value = self.value(figures)
        return value >= self.limit if self.at_least else value <= self.limit

    def text(self, unit: str) -> str:
        """Return the bar as the table shows it."""
        sign = "≥" if self.at_least else "≤"
        if self.of in ("ours", "above floor"):
            number = f"{self.limit * 1000:g} ms" if unit == "s" else f"{self.limit:g}"
            return f"{sign} {number}" + (" above the floor" if self.of == "above floor" else "")
        return f"{sign} {self.limit:g} of {'the peer' if self.of == 'peer' else 'the floor'}"


@dataclass(frozen=True)
class Measure:
    """One row of the table."""

    #: `group.name`; what `--only` selects by.
    key: str
    title: str
    #: `s`, `tokens/s`, `lines/s`, `of weights` or `of file`.
    unit: str
    #: What the peer is; empty where there is none.
    peer: str = ""
    #: What the floor is; empty where there is none.
    floor: str = ""
    bars: tuple[Bar, ...] = ()
    #: Why there is no bar.
    only_reported: str = ""
    #: How the outputs of our side and the peer's are held together: floats that are close, or numbers that are the same;
    #: `told` says in how many places they agree, and fails nothing.
    same: Literal["", "close", "equal", "told"] = ""
    #: Whether a round goes before that is not counted, for processes that do not warm up themselves.
    warm_up: bool = False

    @property
    def group(self) -> str:
        """The part of the key before the point."""
        return self.key.split(".")[0]


@dataclass
class Figures:
    """The samples of a row, by side, in the order of the rounds."""

    samples: dict[Side, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Keep a note, once."""
        if text and text not in self.notes:
            self.notes.append(text)

    def count(self) -> int:
        """Return how many rounds there are."""
        return len(self.samples["ours"])

    def median(self, side: Side) -> float:
        """Return the median of a side."""
        return median(self.samples[side])

    def ratio(self, side: Side) -> float:
        """Return our median over that of a side."""
        return self.median("ours") / self.median(side)

    def spread(self, side: Side) -> tuple[float, float]:
        """Return the least and the greatest sample of a side."""
        return min(self.samples[side]), max(self.samples[side])

    def ratio_spread(self, side: Side) -> tuple[float, float]:
        """Return the least and the greatest ratio of two samples of the same round."""
        ratios = [ours / other for ours, other in zip(self.samples["ours"], self.samples[side], strict=True)]
        return min(ratios), max(ratios)


def take(measure: Measure, trials: Mapping[Side, Trial], rounds: int, *, warm_up: bool = True) -> Figures:
    """Take the samples of a row: in every round each side once, and each round begins with another side.

    `warm_up=False` leaves out the round that is not counted.

    Raises:
        NotMeasured: when a process fails, or outputs that should be the same are not.
    """
    figures = Figures({side: [] for side in SIDES if side in trials})
    order = list(figures.samples)
    for number in range(-1 if measure.warm_up and warm_up else 0, rounds):
        first = max(number, 0) % len(order)
        outputs: dict[Side, Path] = {}
        for side in order[first:] + order[:first]:
            sample = trials[side]()
            if number >= 0:
                figures.samples[side].append(sample.value)
            figures.note(sample.note and f"{side}: {sample.note}")
            if sample.output is not None:
                outputs[side] = sample.output
        if measure.same:
            figures.note(_compare(measure, outputs))
        for file in outputs.values():
            file.unlink()
    return figures


def _compare(measure: Measure, outputs: Mapping[Side, Path]) -> str:
    """Hold every output against ours; return what there is to tell."""
    import numpy as np

    if "ours" not in outputs or len(outputs) < 2:
        raise NotMeasured(f"{measure.key}: outputs of two sides are expected, but there are those of {sorted(outputs)}")
    ours = np.load(outputs["ours"])
    told = []
    for side, file in outputs.items():
        theirs = np.load(file)
        if ours.shape != theirs.shape:
            raise NotMeasured(f"{measure.key}: {side}'s output is expected to be {ours.shape}, but is {theirs.shape}")
        if measure.same == "close" and not np.allclose(ours, theirs, rtol=1e-3, atol=1e-4):
            raise NotMeasured(
                f"{measure.key}: our output is expected to be {side}'s, but is {abs(ours - theirs).max():.2e} off"
            )
        agreement = float((ours == theirs).mean()) if side != "ours" else 1.0
        if measure.same == "equal" and agreement != 1:
            raise NotMeasured(f"{measure.key}: our output is expected to be {side}'s, but {1 - agreement:.2%} of it differ")
        if measure.same == "told" and side != "ours":
            told.append(f"{agreement:.1%} of ours and {side}'s are the same")
    return "; ".join(told)


def selected(measures: Sequence[Measure], only: Sequence[str]) -> list[Measure]:
    """Return the measures of these groups or keys, or beginnings of keys up to a point; all for none.

    Raises:
        ValueError: for a word that selects nothing.
    """
    found = {word: [each for each in measures if f"{each.key}.".startswith(f"{word}.")] for word in only}
    if missing := [word for word, those in found.items() if not those]:
        known = ", ".join(dict.fromkeys(measure.group for measure in measures))
        raise ValueError(f"--only is expected to name groups ({known}) or rows of them, but has {', '.join(missing)}")
    wanted = {measure.key for those in found.values() for measure in those}
    return [measure for measure in measures if not only or measure.key in wanted]
