"""Choose among plugins that claim the same name, and import plugin modules."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import FrameType, ModuleType
from typing import TextIO

from registry.base.thread_lock import ForkSafeLock
from registry.errors import PluginConflict, PluginError, said, warn
from registry.families.discovery import EntryPoint

__all__ = [
    "PATIENCE",
    "SLOW",
    "import_module_of_plugin",
    "import_plugin",
    "is_contested",
    "named_when_slow",
    "open_streams",
    "settle",
]

#: Seconds after which a warning names a plugin that is still running at import or at its first call.
PATIENCE = 10.0
#: What matches the warning.
SLOW = ".* is still running its code"


def is_contested(claims: Sequence[EntryPoint]) -> bool:
    """Whether two outside distributions claim a name that is not built in."""
    return not claims[0].builtin and any(claim.distribution != claims[0].distribution for claim in claims)


def settle(what: str, claims: Sequence[EntryPoint]) -> EntryPoint:
    """Choose the entry point to use among all that claim one name. A built-in one always wins.

    Args:
        what: kind and name, as `family 'bert'`.
        claims: at least one, built-in ones first.

    Raises:
        PluginConflict: when two outside distributions claim it.
    """
    first, others = claims[0], [claim for claim in claims[1:] if claim.distribution != claims[0].distribution]
    if is_contested(claims):
        choice = ",".join(f"{claim.distribution}:{claim.name}" for claim in others)
        raise PluginConflict(
            f"{what} is expected to come from one distribution, but {_list(claims)} provide it; uninstall all but one, or "
            f"switch all but one off: REGISTRY_PLUGINS_DISABLED={choice} leaves that of {first.distribution}",
            family=first.name,
            distribution=first.distribution,
        )
    if others:
        warn(
            f"{what} is built in, so that of {_list(others)} is off; "
            f"set REGISTRY_PLUGINS_DISABLED={first.distribution}:{first.name} to use it instead"
        )
    return first


def import_plugin(point: EntryPoint) -> ModuleType:
    """Import the module of an entry point.

    Raises:
        PluginError: when the import raises anything, including SystemExit. Only KeyboardInterrupt is passed on.
    """
    try:
        return import_module_of_plugin(point.module, f"plugin {point.value!r} of {point.release}")
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginError(
            f"plugin {point.value!r} of {point.release} is expected to import, but raised {said(error)}; "
            "`registry plugins -v` shows where",
            family=point.name,
            distribution=point.distribution,
        ) from error


def import_module_of_plugin(module: str, what: str) -> ModuleType:
    """Import a module of a plugin, and reopen the standard streams if the module closed them.

    Args:
        module: its full name.
        what: what a warning calls the module when it takes long.
    """
    known = sys.modules.get(module)
    if type(known) is ModuleType and not getattr(known.__spec__, "_initializing", False):
        return known
    with named_when_slow(what), open_streams():
        return import_module(module)


@dataclass(eq=False)
class _Run:
    """Plugin code that is running now."""

    until: float
    message: str
    #: The frame of the `with` statement, for the warning's location: the thread that warns has no caller.
    frame: FrameType


_running: list[_Run] = []
_lock = ForkSafeLock()
_watcher: threading.Thread | None = None

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_running.clear)


@contextlib.contextmanager
def named_when_slow(what: str) -> Iterator[None]:
    """Warn if plugin code in the block runs longer than `PATIENCE`, so that the user knows what takes long. It may continue."""
    global _watcher
    message = f"{what} is still running its code after {PATIENCE:g} seconds; this waits for it, and Ctrl-C ends it"
    run = _Run(time.monotonic() + PATIENCE, message, sys._getframe(2))
    with _lock:
        _running.append(run)
        # One thread for all plugins: starting one for each of thousands takes longer than importing them.
        if _watcher is None or not _watcher.is_alive():
            _watcher = threading.Thread(target=_watch, args=(min(0.5, PATIENCE / 4),), daemon=True)
            with contextlib.suppress(RuntimeError):  # no more threads
                _watcher.start()
    try:
        yield
    finally:
        with _lock, contextlib.suppress(ValueError):  # missing in a process that was forked inside the block
            _running.remove(run)


def _watch(pause: float) -> None:
    global _watcher
    while True:
        with _lock:
            if not _running:
                _watcher = None
                return
            late = [run for run in _running if run.until < time.monotonic()]
            for run in late:
                run.until = math.inf
        for run in late:
            warn(run.message, run.frame)
        time.sleep(pause)


@contextlib.contextmanager
def open_streams() -> Iterator[None]:
    """Reopen standard output and standard error if code in the block closes them."""
    with contextlib.ExitStack() as stack:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            with contextlib.suppress(Exception):  # none, closed already, or no file
                number = stream.fileno()
                kept = os.dup(number)
                stack.callback(os.close, kept)
                stack.callback(_reopen, name, stream, number, kept)
        yield


def _reopen(name: str, stream: TextIO, number: int, kept: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        os.dup2(kept, number)
    try:
        closed = stream.closed
    except ValueError:  # its buffer was detached
        closed = True
    if closed and getattr(sys, name) is stream:
        again = open(number, "w", encoding=stream.encoding, errors=stream.errors, buffering=1, closefd=False)  # noqa: SIM115
        setattr(sys, name, again)


def _list(claims: Sequence[EntryPoint]) -> str:
    return " and ".join(dict.fromkeys(claim.release for claim in claims))
