"""Two hundred fixed seeds of each kind; `make fuzz-parity` runs more."""

from __future__ import annotations

import pytest

from tests.parity_fuzz.running import KINDS, fuzz
from tests.parity_fuzz.trial import Trial, shrink


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # some examples are odd on purpose
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_differs_from_the_oracles(kind: str) -> None:
    result = fuzz(kind, range(200))
    assert result.comparisons > 200
    assert not result.found, "\n\n".join(result.reports)


def test_a_seed_is_the_same_example_whatever_is_drawn_before() -> None:
    one, other = Trial("models", 7), Trial("models", 7)
    other.number("drawn before", 0, 9)
    assert [one.number(name, 0, 1000) for name in "abc"] == [other.number(name, 0, 1000) for name in "abc"]
    assert Trial("models", 8).number("a", 0, 1000) != one.values["a"] != Trial("folders", 7).number("a", 0, 1000)
    assert Trial("models", 7).number("a", 0, 10**6) == 352417  # on every machine


def test_a_difference_is_shrunk_to_what_it_needs() -> None:
    def example(trial: Trial) -> None:
        numbers = [trial.number(f"number {number}", 0, 100) for number in range(trial.number("numbers", 0, 20))]
        trial.same("least", lambda: min(numbers), lambda: min(numbers) if max(numbers) < 50 else 50)

    drawn = next(trial for seed in range(100) for trial in [Trial("models", seed)] if example(trial) or trial.differences)
    small = shrink(drawn, "least", example)
    assert small.differences and sum(index > 0 for index in small.choices.values()) == 2
    assert "number" in small.example() and "50" in small.example()


def test_what_an_oracle_refuses_is_not_compared_and_our_errors_are_differences() -> None:
    trial = Trial("models", 0)
    trial.same("refused", lambda: 1, lambda: 1 // 0)
    assert trial.comparisons == 0 and not trial.differences
    trial.same("ours", lambda: 1 // 0, lambda: 1)
    assert "ZeroDivisionError" in trial.differences[0].what
