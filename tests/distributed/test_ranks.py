"""How ranks agree: all go on, or all end, and know why."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from torch.distributed import HashStore

from registry import ConfigError, DistributedError
from registry.sharding.ranks import Ranks
from tests.distributed.threads import joined


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_RANK_TIMEOUT", "2")


def together(*jobs: Callable[[Ranks], Any]) -> list[Any]:
    """Run a job a rank, and return what each returned or raised."""
    store = HashStore()
    everybody = [joined(store, rank, len(jobs)) for rank in range(len(jobs))]

    def run(ranks: Ranks, job: Callable[[Ranks], Any]) -> Any:
        try:
            with ranks:
                return job(ranks)
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run, everybody, jobs))


def test_all_get_the_leaders_value_and_everybodys_in_their_order() -> None:
    def job(ranks: Ranks) -> Any:
        ranks.agree("first")
        told = ranks.tell("name", "from the leader" if ranks.leads else None)
        return told, ranks.gather("values", str(ranks.index)), ranks.gather("others", "")

    assert together(job, job, job) == [("from the leader", ["0", "1", "2"], [""] * 3)] * 3


def test_the_first_failure_is_told_to_all_with_its_rank_and_its_text() -> None:
    def fail(ranks: Ranks) -> None:
        raise ConfigError("num_labels is expected to be 2, but is 3")

    def wait(ranks: Ranks) -> None:
        ranks.agree("ready")

    failed, *others = together(fail, wait, wait)
    assert type(failed) is ConfigError
    for error in others:
        assert type(error) is DistributedError and error.ranks == (0,)
        assert error.message == (
            "rank 0 is expected to load 'model' with the others, but failed with ConfigError: [R601] num_labels is expected to "
            "be 2, but is 3"
        )


def test_who_is_done_waits_for_the_others_to_be() -> None:
    def fail_late(ranks: Ranks) -> None:
        time.sleep(0.2)
        raise ValueError("late")

    quick, late = together(lambda ranks: None, fail_late)
    assert isinstance(quick, DistributedError) and quick.ranks == (1,) and isinstance(late, ValueError)
    assert together(lambda ranks: None, lambda ranks: time.sleep(0.2)) == [None, None]


def test_ranks_that_do_not_come_are_named_and_find_nobody_when_they_come_after_all() -> None:
    late = threading.Event()

    def wait(ranks: Ranks) -> None:
        try:
            ranks.agree("ready")
        finally:
            late.set()

    def come_late(ranks: Ranks) -> None:
        late.wait(10)
        ranks.agree("ready")

    first, *others = together(wait, come_late, come_late)
    for error in (first, *others):
        assert type(error) is DistributedError and error.ranks == (1, 2)
        assert "ranks 1, 2 are expected to load 'model' with the others, but did not come within 2 s" in error.message


def test_a_rank_without_a_sign_of_life_is_named_although_there_is_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_RANK_TIMEOUT", "60")
    monkeypatch.setattr("registry.sharding.ranks._SILENCE", 0.4)
    monkeypatch.setattr("registry.sharding.ranks._BEAT", 0.05)
    release = threading.Event()

    def stop(ranks: Ranks) -> None:
        ranks._ended.set()  # its heart stands still
        release.wait(20)

    def wait(ranks: Ranks) -> None:
        try:
            ranks.agree("ready")
        finally:
            release.set()

    found = together(wait, wait, stop)
    for error in found:
        assert type(error) is DistributedError and error.ranks == (2,) and "gave no sign of life" in error.message


def test_who_works_for_long_but_lives_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_RANK_TIMEOUT", "60")
    monkeypatch.setattr("registry.sharding.ranks._SILENCE", 0.3)
    monkeypatch.setattr("registry.sharding.ranks._BEAT", 0.05)
    assert together(lambda ranks: "quick", lambda ranks: time.sleep(1.0)) == ["quick", None]


def test_a_step_that_a_rank_does_again_is_an_error_for_all() -> None:
    def again(ranks: Ranks) -> None:
        ranks.agree("ready")
        ranks.agree("ready")

    def once(ranks: Ranks) -> None:
        ranks.agree("ready")

    for error in together(once, again):
        assert type(error) is DistributedError and error.ranks == (1,) and "had to begin again" in error.message
