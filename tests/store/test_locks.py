"""Locks between processes."""

from __future__ import annotations

import errno
import fcntl
import logging
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from registry.errors import CacheError, ConfigError, LockTimeout
from registry.store import locks
from registry.store.locks import file_lock
from tests.store import workers

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "locks" / "digest.lock"


@contextmanager
def held_elsewhere(path: Path) -> Iterator[BaseProcess]:
    """Let another process hold the lock."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=workers.hold_lock, args=(path, theirs))
    process.start()
    try:
        assert ours.poll(60) and ours.recv() == "held"
        yield process
    finally:
        if process.is_alive():
            ours.send("enough")
        process.join(60)
        ours.close()
        theirs.close()


def test_one_process_at_a_time(path: Path, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    processes = [SPAWN.Process(target=workers.count_up, args=(path, counter, 50)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert counter.read_text() == "200"


def test_a_lock_can_be_taken_again_and_again(path: Path) -> None:
    for _ in range(3):
        with file_lock(path):
            assert path.exists()


def test_a_lock_is_free_after_an_error_inside(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_LOCK_TIMEOUT", "1")
    with pytest.raises(KeyError), file_lock(path):
        raise KeyError("inside")
    with file_lock(path):
        pass


def test_waiting_too_long_names_the_variable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_LOCK_TIMEOUT", "0.2")
    with (
        held_elsewhere(path),
        pytest.raises(LockTimeout, match=r"within 0\.2 s.*REGISTRY_LOCK_TIMEOUT") as caught,
        file_lock(path),
    ):
        pytest.fail("two processes hold one lock")
    assert caught.value.path == str(path)
    assert str(path) in str(caught.value)


def test_a_long_wait_says_what_it_waits_for(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert locks._SAY_AFTER == 2.0
    monkeypatch.setattr(locks, "_SAY_AFTER", 0.1)
    monkeypatch.setenv("REGISTRY_LOCK_TIMEOUT", "0.3")
    with held_elsewhere(path), pytest.raises(LockTimeout), file_lock(path):
        pass
    (record, *_) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"waiting for another process that holds {path}" in record.getMessage()


def test_a_free_lock_says_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with file_lock(path):
        pass
    assert not caplog.records


def test_a_killed_holder_blocks_nobody(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_LOCK_TIMEOUT", "20")
    with held_elsewhere(path) as holder:
        holder.kill()
        holder.join(60)
        with file_lock(path):
            pass


@pytest.mark.parametrize("value", ["soon", "nan", "-1", ""])
def test_a_timeout_that_is_no_time_is_a_clear_error(value: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_LOCK_TIMEOUT", value)
    if value == "":  # as if unset
        with file_lock(path):
            pass
        return
    with pytest.raises(ConfigError, match="REGISTRY_LOCK_TIMEOUT"), file_lock(path):
        pass


# -- file systems without usable locks ---------------------------------------------------------------------------------


@pytest.fixture
def refusal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """A file system whose locks answer with an error."""
    code: int = request.param

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(locks, "_warned", set())
    return code


UNUSABLE = pytest.mark.parametrize(
    "refusal", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EROFS], indirect=True, ids=errno.errorcode.get
)


@UNUSABLE
def test_without_usable_locks_there_is_one_warning_and_work_goes_on(
    refusal: int, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    done = []
    for name in ("a.lock", "b.lock", "a.lock"):
        with file_lock(path.with_name(name)):
            done.append(name)
    assert done == ["a.lock", "b.lock", "a.lock"]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert str(path.parent) in record.getMessage()
    assert os.strerror(refusal) in record.getMessage()


@UNUSABLE
def test_without_usable_locks_an_error_inside_is_only_that_error(refusal: int, path: Path) -> None:
    with pytest.raises(KeyError) as caught, file_lock(path):
        raise KeyError("inside")
    assert caught.value.__context__ is None


@UNUSABLE
def test_without_usable_locks_nothing_is_left_that_could_block(
    refusal: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_LOCK_TIMEOUT", "1")
    with file_lock(path), file_lock(path):
        pass


def test_a_folder_that_cannot_be_written_has_no_locks_but_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def read_only(self: Path, *args: object, **kwargs: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr(locks, "_warned", set())
    monkeypatch.setattr(Path, "mkdir", read_only)
    with file_lock(path):
        pass
    assert "Read-only file system" in caplog.text


def test_a_cache_that_is_a_file_is_a_clear_error(path: Path) -> None:
    path.parents[1].write_text("not a folder")
    with pytest.raises(CacheError, match="REGISTRY_CACHE") as caught, file_lock(path):
        pass
    assert caught.value.path == str(path)
