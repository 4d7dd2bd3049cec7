"""One example of the fuzzer: what is drawn for it, what was compared, and how a failing one is made small.

Each value is drawn by a name, and depends on nothing but the kind, the seed and that name. So a seed means the same example
on every machine, whatever else is drawn before it or is added to the kind later. (hypothesis takes constants from the code
under test, so there a fix would change the examples, and its first example of each run is always the same.)
"""

from __future__ import annotations

import hashlib
import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["Difference", "Refused", "Trial", "shrink"]

T = TypeVar("T")

#: Comparisons are made in float32 between models of a few units.
_ABSOLUTE, _RELATIVE = 3e-5, 3e-4
_LONGEST = 400


@dataclass(frozen=True)
class Difference:
    """Where this library and an oracle do not agree."""

    #: What was compared; the same for the same kind of difference.
    what: str
    ours: str
    theirs: str


@dataclass(frozen=True)
class Refused:
    """What a call that raised an error gives."""

    error: Exception

    def __repr__(self) -> str:
        return f"{type(self.error).__name__}: {self.error}"


class Trial:
    """Draws the values of one example and collects the differences that it shows."""

    def __init__(self, kind: str, seed: int, choices: Mapping[str, int] | None = None) -> None:
        """With `choices` the example is not drawn: name to index, 0 (the simplest) for every other name."""
        self.kind, self.seed = kind, seed
        self._given = choices
        self._common: int | None = None
        #: Every name that was drawn, with its index and the value.
        self.choices: dict[str, int] = {}
        self.values: dict[str, Any] = {}
        self.differences: list[Difference] = []
        self.comparisons = 0

    # -- drawing -------------------------------------------------------------------------------------------------------

    def pick(self, name: str, options: Sequence[T]) -> T:
        """Return one of several values, of which the first is the simplest."""
        if name in self.choices:
            raise ValueError(f"{name!r} is expected to be drawn once for an example, but was drawn twice")
        if self._given is None:
            digest = hashlib.blake2b(f"{self.kind} {self.seed} {name}".encode(), digest_size=8).digest()
            index = int.from_bytes(digest) % len(options)
        else:
            index = min(self._given.get(name, 0), len(options) - 1)
        self.choices[name] = index
        self.values[name] = options[index]
        return options[index]

    def number(self, name: str, low: int, high: int) -> int:
        """Return a number from `low`, the simplest, to `high`."""
        return self.pick(name, range(low, high + 1))

    def flag(self, name: str, one_in: int = 2) -> bool:
        """Return True once in so many examples."""
        return self.pick(name, [False] * (one_in - 1) + [True])

    def size(self, name: str, *more: int) -> int:
        """Return a dimension: 1, 2, 3, which shows shapes that are mixed up, or one of `more`; often all are equal."""
        if self._common is None:
            self._common = self.pick("every dimension", (0, 0, 1, 2, 3))
        return self._common or self.pick(name, (1, 2, 3, *more))

    def example(self) -> str:
        """Return what was drawn, without what is as simple as it can be."""
        first = next(iter(self.choices))
        return ", ".join(f"{name}={self.values[name]!r}" for name, index in self.choices.items() if index or name == first)

    # -- comparing -----------------------------------------------------------------------------------------------------

    def same(self, what: str, ours: Callable[[], Any], theirs: Callable[[], Any]) -> Any:
        """Compare what two calls return, and return ours. What an oracle refuses is not compared."""
        expected = attempt(theirs)
        got = attempt(ours)
        if isinstance(expected, Refused):
            return None if isinstance(got, Refused) else got
        self.comparisons += 1
        if isinstance(got, Refused):
            place = traceback.extract_tb(got.error.__traceback__)[-1]
            where = f"{type(got.error).__name__} in {Path(place.filename).name}, {place.name}"
            self.differences.append(Difference(f"{what}: {where}", repr(got), short(expected)))
            return None
        if problem := unequal(got, expected):
            self.differences.append(Difference(what, f"{problem}: {short(got)}", short(expected)))
        return got

    def require(self, what: str, condition: bool, message: str) -> None:
        """Note a difference where something does not hold."""
        self.comparisons += 1
        if not condition:
            self.differences.append(Difference(what, message, "that it holds"))


def attempt(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or its error."""
    try:
        return call()
    except Exception as error:  # an oracle refuses in many ways
        return Refused(error)
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of the tokenizers library, which panics on some input
            raise
        return Refused(RuntimeError(str(error)))


def unequal(ours: Any, theirs: Any, where: str = "") -> str:
    """Return where two results differ, or an empty text. Tensors and floats may differ by rounding."""
    import torch

    if isinstance(theirs, torch.Tensor) and isinstance(ours, torch.Tensor):
        if ours.shape != theirs.shape:
            return f"{where or 'it'} has the shape {tuple(ours.shape)}, expected {tuple(theirs.shape)}"
        if not theirs.is_floating_point():
            return "" if torch.equal(ours, theirs) else f"{where or 'it'} differs"
        one, other = ours.detach().double(), theirs.detach().double()
        if torch.allclose(one, other, atol=_ABSOLUTE, rtol=_RELATIVE, equal_nan=True):
            return ""
        return f"{where or 'it'} differs by up to {(one - other).abs().max().item():.3g}"
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        if set(ours) != set(theirs):
            return f"{where or 'it'} has the keys {sorted(map(str, ours))}, expected {sorted(map(str, theirs))}"
        parts = ((ours[key], value, f"{where}[{key!r}]") for key, value in theirs.items())
    elif isinstance(theirs, list | tuple) and isinstance(ours, list | tuple):
        if len(ours) != len(theirs):
            return f"{where or 'it'} has {len(ours)} items, expected {len(theirs)}"
        parts = ((one, other, f"{where}[{number}]") for number, (one, other) in enumerate(zip(ours, theirs, strict=True)))
    elif isinstance(theirs, float) and isinstance(ours, float):
        close = math.isclose(ours, theirs, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE) or (math.isnan(ours) and math.isnan(theirs))
        return "" if close else f"{where or 'it'} is {ours}, expected {theirs}"
    else:
        return "" if ours == theirs else f"{where or 'it'} is {short(ours)}, expected {short(theirs)}"
    return next((problem for one, other, name in parts if (problem := unequal(one, other, name))), "")


def short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def shrink(trial: Trial, what: str, run: Callable[[Trial], None], attempts: int = 300) -> Trial:
    """Return the simplest example found that still shows a difference: each value is made simpler while it stays."""

    def still(choices: Mapping[str, int]) -> Trial | None:
        again = Trial(trial.kind, trial.seed, choices)
        run(again)
        return again if any(difference.what == what for difference in again.differences) else None

    best, left, progress = trial, attempts, True
    while progress and left > 0:
        progress = False
        for name in list(best.choices):
            for simpler in dict.fromkeys((0, best.choices.get(name, 0) // 2, best.choices.get(name, 0) - 1)):
                if not 0 <= simpler < best.choices.get(name, 0) or left <= 0:
                    continue
                left -= 1
                if (smaller := still({**best.choices, name: simpler})) is not None:
                    best, progress = smaller, True
                    break
    return best
