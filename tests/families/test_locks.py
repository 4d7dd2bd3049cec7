"""Locks and forked processes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from registry.base.thread_lock import ForkSafeLock
from registry.families.discovery import EntryPoint, family_entry_points
from registry.families.hooks import PluginHooks
from registry.families.host import PluginHost
from registry.model_registry import ModelRegistry


def in_child(work: Callable[[], object]) -> int:
    """Do something in a forked process that is ended when it hangs; return its exit code."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(30)
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@contextmanager
def stuck(work: Callable[[Callable[[], None]], object]) -> Iterator[None]:
    """Let a thread of this process, and of no other, be in the middle of something."""
    parent, inside, go_on = os.getpid(), threading.Event(), threading.Event()

    def wait() -> None:
        if os.getpid() == parent:
            inside.set()
            go_on.wait(60)

    thread = threading.Thread(target=work, args=(wait,))
    thread.start()
    try:
        assert inside.wait(60)
        yield
    finally:
        go_on.set()
        thread.join(60)


def test_a_forked_process_resolves_names_though_a_thread_of_its_parent_was_about_to() -> None:
    waits: list[Callable[[], None]] = []

    def entry_points() -> list[EntryPoint]:
        waits[0]()
        return family_entry_points()

    registry = ModelRegistry(plugins=PluginHost(entry_points))

    def resolve(wait: Callable[[], None]) -> None:
        waits.append(wait)
        registry.resolve("gpt2")

    with stuck(resolve):
        assert in_child(lambda: registry.resolve("gpt2")) == 0
    assert registry.resolve("gpt2").family == "gpt2"


def test_a_forked_process_has_all_plugins_though_a_thread_of_its_parent_was_looking_for_them() -> None:
    waits: list[Callable[[], None]] = []
    found: list[str] = []

    def entry_points() -> list[EntryPoint]:
        waits[0]()
        found.append("here")
        return []

    hooks = PluginHooks(entry_points)

    def tell(wait: Callable[[], None]) -> None:
        waits.append(wait)
        hooks.tell("registry_fetched", model="bert", files={})

    def told() -> None:
        hooks.tell("registry_fetched", model="bert", files={})
        assert found == ["here"]

    with stuck(tell):
        assert in_child(told) == 0


def test_a_lock_that_the_forking_thread_holds_stays_its_own() -> None:
    lock = ForkSafeLock()

    def work() -> None:
        taken: list[bool] = []
        thread = threading.Thread(target=lambda: taken.append(lock._lock.acquire(timeout=0.1)))
        thread.start()
        thread.join()
        assert taken == [False]

    with lock, lock:
        assert in_child(work) == 0
