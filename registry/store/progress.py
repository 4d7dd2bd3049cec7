"""Progress for people: a bar for each file on a terminal, now and then a line elsewhere, nothing when quiet."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from registry.base.logs import lazy_logger
from registry.base.settings import is_set
from registry.errors import escaped
from registry.store.events import FileEvent, Observer

__all__ = ["ProgressBars", "ProgressLines", "default_observers", "end_progress", "show_size", "silenced"]

#: Where lines go, at level INFO: `registry fetch` prints them, a program sees them when it configures logging so.
logger = lazy_logger("registry.progress")

#: Seconds between two lines about one file.
_LINE_EVERY = 10.0
#: Where launchers of many processes write which of them this is.
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
_silent = False


def default_observers() -> tuple[Observer, ...]:
    """Return what shows progress here: one of many ranks shows it for all, and `REGISTRY_QUIET=1` is for none."""
    others = (os.environ.get(name, "0") for name in _RANKS)
    if is_set("REGISTRY_QUIET") or _silent or any(rank not in ("", "0") for rank in others):
        return ()
    return (ProgressBars() if _is_terminal() else ProgressLines(),)


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Show no progress of what begins inside."""
    global _silent
    before, _silent = _silent, True
    try:
        yield
    finally:
        _silent = before


def end_progress(observers: Iterable[Observer]) -> None:
    """Take away what still shows progress when an operation is over."""
    for observer in observers:
        if isinstance(observer, ProgressBars):
            observer.close()


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty() or "ipykernel" in sys.modules
    except (AttributeError, ValueError):  # no stderr, or a closed one
        return False


def show_size(count: int) -> str:
    """Return a number of bytes as people write it, in powers of 1000."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


class ProgressBars:
    """A bar for each file that is on its way."""

    def __init__(self) -> None:
        self._bars: dict[tuple[str, str], Any] = {}
        self._blind = False

    def started(self, file: FileEvent) -> None:
        """Open a bar, at what an earlier download has left; one of unknown size may not be there, and is waited for."""
        if file.size is not None or _key(file) in self._bars:
            self.progressed(file)

    def progressed(self, file: FileEvent) -> None:
        """Move the bar, which stays the same one when a file is asked for again or elsewhere."""
        with _terminal:
            self._draw(file)

    def _draw(self, file: FileEvent) -> None:
        bar = self._bars.get(_key(file))
        if self._blind:
            return
        try:
            if bar is None:
                self._bars[_key(file)] = _bar_class()(
                    desc=escaped(f"{file.model}: {file.name}" if file.model else file.name),
                    total=file.size,
                    initial=file.done,
                    unit="B",
                    unit_scale=True,
                    miniters=1,
                    leave=False,
                    dynamic_ncols=True,
                    file=sys.stderr,
                )
            else:
                bar.total = file.size
                bar.update(file.done - bar.n)
        except (OSError, ValueError):  # a terminal that is gone is no reason to stop
            self._blind = True

    def verified(self, file: FileEvent) -> None:
        """Close the bar."""
        self._close(_key(file))

    def published(self, file: FileEvent) -> None:
        """Show nothing more."""

    def reused(self, file: FileEvent) -> None:
        """Show nothing: it took no time."""

    def close(self) -> None:
        """Close the bars of files that did not arrive, so that what is printed next begins a line."""
        with _terminal:
            for key in list(self._bars):
                self._close(key)
            self._blind = True  # a thread that was interrupted may still tell of its file

    def _close(self, key: tuple[str, str]) -> None:
        with _terminal:
            if (bar := self._bars.pop(key, None)) is None:
                return
            with contextlib.suppress(OSError, ValueError):
                bar.close()
                if not self._bars:  # tqdm leaves the cursor behind what it has wiped out, unless it was the first line
                    bar.fp.write("\r")
                    bar.fp.flush()


#: Held by whoever writes to the terminal: bars of several files move at once.
_terminal = threading.RLock()


@functools.cache
def _bar_class() -> Any:
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[type-arg]  # generic for type checkers only
        """Starts no thread, and takes a lock of threads alone: tqdm's own needs a helper process, which can hang at exit."""

        monitor_interval = 0

    Bar.set_lock(_terminal)
    return Bar


class ProgressLines:
    """Lines for logs: one when a file begins, one every ten seconds, one at its end."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, str], tuple[float, float]] = {}

    def started(self, file: FileEvent) -> None:
        """Say what comes."""
        now = time.monotonic()
        self._said[_key(file)] = now, now
        resumed = f", {show_size(file.done)} of it here" if file.done else ""
        size = f" ({show_size(file.size)})" if file.size is not None else ""
        logger.info("%s: fetching %s%s%s", file.model, file.name, size, resumed)

    def progressed(self, file: FileEvent) -> None:
        """Say how far it is, but not often."""
        now = time.monotonic()
        began, said = self._said.get(_key(file), (now, now))
        if now - said >= _LINE_EVERY:
            self._said[_key(file)] = began, now
            percent = f" ({100 * file.done // file.size} %)" if file.size else ""
            logger.info("%s: %s, %s%s%s", file.model, file.name, show_size(file.done), _of(file), percent)

    def verified(self, file: FileEvent) -> None:
        """Say nothing: it is published in a moment."""

    def published(self, file: FileEvent) -> None:
        """Say that it is here."""
        began, _ = self._said.pop(_key(file), (time.monotonic(), 0.0))
        logger.info("%s: %s is here, %s in %.1f s", file.model, file.name, show_size(file.done), time.monotonic() - began)

    def reused(self, file: FileEvent) -> None:
        """Say nothing: it took no time."""


def _key(file: FileEvent) -> tuple[str, str]:
    return file.model, file.name


def _of(file: FileEvent) -> str:
    return f" of {show_size(file.size)}" if file.size is not None else ""
