"""Locks between processes."""

from __future__ import annotations

import errno
import fcntl
import logging
import multiprocessing
import os
import re
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from registry.base import file_lock as locks
from registry.base.file_lock import file_lock
from registry.errors import CacheError, ConfigError, LockTimeout
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
    monkeypatch.setattr(locks, "_LOOK_UP_EVERY", 0.05)
    monkeypatch.setattr(locks, "_SAY_AFTER", 0.1)
    monkeypatch.setenv("REGISTRY_LOCK_TIMEOUT", "0.3")
    with held_elsewhere(path) as holder, pytest.raises(LockTimeout) as caught, file_lock(path):
        pass
    (record, *_) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"waiting for process {holder.pid} that holds {path}" in record.getMessage()
    assert f"process {holder.pid} holds it" in str(caught.value)


def test_a_stopped_holder_is_named_in_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_SAY_AFTER", 0.1)
    monkeypatch.setenv("REGISTRY_LOCK_TIMEOUT", "0.3")
    with held_elsewhere(path) as holder:
        assert holder.pid is not None
        os.kill(holder.pid, signal.SIGSTOP)
        (end := threading.Timer(20, holder.kill)).start()  # who waits for ever gets the lock then
        try:
            says = rf"lock {re.escape(str(path))} .*process {holder.pid} holds it.*REGISTRY_LOCK_TIMEOUT"
            with pytest.raises(LockTimeout, match=says), file_lock(path):
                pytest.fail("two processes hold one lock")
        finally:
            end.cancel()
            os.kill(holder.pid, signal.SIGCONT)


@pytest.mark.parametrize("days", [-1, 1, 400])
@pytest.mark.parametrize("skewed", ["the file's time", "this machine's clock"])
def test_a_lock_is_not_taken_from_its_holder_however_old_it_looks(
    skewed: str, days: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_LOCK_TIMEOUT", "0.2")
    off, real = days * 24 * 3600, time.time
    with held_elsewhere(path):
        inode = path.stat().st_ino
        if skewed == "the file's time":
            os.utime(path, (real() - off, real() - off))
        else:
            monkeypatch.setattr(time, "time", lambda: real() + off)
        with pytest.raises(LockTimeout), file_lock(path):
            pytest.fail("two processes hold one lock")
        assert path.stat().st_ino == inode


@pytest.mark.parametrize("leaves", [False, True], ids=["the child waits", "the child leaves"])
def test_a_child_that_is_forked_under_a_lock_neither_frees_nor_keeps_it(
    leaves: bool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_LOCK_TIMEOUT", "0.2")
    told, tell = os.pipe()
    ready, say = os.pipe()
    child = 0
    try:
        with file_lock(path):
            child = os.fork()
            if child == 0:
                os.close(tell)
                if not leaves:
                    with pytest.raises(LockTimeout), file_lock(path):
                        os._exit(1)  # two processes hold one lock
                    os.write(say, b".")
                    os.read(told, 1)
                    os._exit(0)
            else:
                os.close(say)
                if not leaves:
                    assert os.read(ready, 1) == b"."
                else:
                    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
                with pytest.raises(LockTimeout), file_lock(path):
                    pytest.fail("the child has freed the lock")
    except BaseException:
        if not child:
            os._exit(2)
        raise
    if child == 0:
        os._exit(0)
    with file_lock(path):  # although the child still has the file open
        pass
    os.close(tell)
    if not leaves:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for end in (told, ready):
        os.close(end)


def test_where_the_system_lists_no_locks_the_holder_is_another_process(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_LOCK_TIMEOUT", "0.2")

    def unreadable(self: Path, *args: object, **kwargs: object) -> str:
        raise FileNotFoundError(str(self))

    with held_elsewhere(path):
        monkeypatch.setattr(Path, "read_text", unreadable)
        with pytest.raises(LockTimeout, match="another process holds it"), file_lock(path):
            pytest.fail("two processes hold one lock")


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_every_user_can_open_a_lock_whatever_the_umask_of_who_made_it(umask: int, path: Path) -> None:
    before = os.umask(umask)
    try:
        with file_lock(path):
            pass
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o666


def as_nobody(work: Callable[[], object]) -> int:
    """Run something as the user `nobody` in a process of its own; return 0 when all went well."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_second_user_waits_for_the_first(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("REGISTRY_LOCK_TIMEOUT", "0.2")
    with tempfile.TemporaryDirectory() as shared:
        Path(shared).chmod(0o755)
        path = Path(shared, "locks", "digest.lock")
        with file_lock(path):
            pass

        def work() -> None:
            with pytest.raises(LockTimeout), file_lock(path):
                pytest.fail("two users hold one lock")

        with held_elsewhere(path):
            assert as_nobody(work) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_lock_that_another_user_keeps_to_himself_is_done_without(caplog: pytest.LogCaptureFixture) -> None:
    with tempfile.TemporaryDirectory() as shared:
        Path(shared).chmod(0o755)
        path = Path(shared, "locks", "digest.lock")
        path.parent.mkdir()
        path.parent.chmod(0o1777)
        path.write_text("precious")
        path.chmod(0o600)
        done = path.with_name("done")

        def work() -> None:
            with file_lock(path):
                done.touch()
            assert f"{path.parent} cannot be locked (Permission denied)" in caplog.text

        assert as_nobody(work) == 0
        assert done.exists() and path.read_text() == "precious" and path.stat().st_uid == 0


STRANGERS: dict[str, Callable[[Path], object]] = {
    "a symbolic link": lambda path: path.symlink_to(path.parents[2] / "victim"),
    "a folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("make", STRANGERS.values(), ids=list(STRANGERS))
def test_what_stands_in_the_place_of_a_lock_is_an_error_and_is_left_alone(make: Callable[[Path], object], path: Path) -> None:
    victim = path.parents[2] / "victim"
    victim.write_text("precious")
    path.parent.mkdir(parents=True)
    make(path)
    with pytest.raises(CacheError, match="expected to be a file that can be written"), file_lock(path):
        pytest.fail("that is no lock")
    assert victim.read_text() == "precious"


def test_a_pipe_in_the_place_of_a_lock_does_not_block(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_LOCK_TIMEOUT", "5")
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    with file_lock(path):
        pass


def test_a_wait_ends_when_the_operation_is_stopped(path: Path) -> None:
    stopped = threading.Event()
    threading.Timer(0.2, stopped.set).start()
    with (
        held_elsewhere(path),
        pytest.raises(LockTimeout, match="not waited for any longer, because the operation was stopped"),
        file_lock(path, stopped),
    ):
        pytest.fail("two processes hold one lock")


def test_a_lock_is_not_waited_for_once_another_has_done_the_work(path: Path) -> None:
    looks = iter([False, False, True])
    with held_elsewhere(path), file_lock(path, done=lambda: next(looks)) as held:
        assert held is False
    assert next(looks, None) is None
    with file_lock(path, done=lambda: True) as held:  # a free one is taken without a look
        assert held is True


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
    monkeypatch.setattr(locks, "_SAY_AFTER", 0.1)  # EACCES looks like a held lock until then
    return code


UNUSABLE = pytest.mark.parametrize(
    "refusal", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EROFS, errno.EACCES], indirect=True, ids=errno.errorcode.get
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
def test_where_locks_were_refused_once_no_other_lock_is_waited_for(
    refusal: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise each file of a model would cost the time after which a refusal is told from a lock that is held."""
    with file_lock(path):
        pass
    attempts: list[int] = []
    refuse = fcntl.flock

    def counted(descriptor: int, operation: int) -> None:
        attempts.append(operation)
        refuse(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", counted)
    monkeypatch.setattr(locks, "_SAY_AFTER", 1.0)
    with file_lock(path.with_name("other.lock")):
        pass
    assert len(attempts) <= 2


def test_a_lock_that_is_pruned_while_it_is_looked_at_is_no_error(path: Path) -> None:
    locks._refuse_refusal(path)


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
