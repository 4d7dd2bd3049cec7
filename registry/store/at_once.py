"""Bring several files of one model at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

from registry.errors import OfflineError
from registry.store.store import Store

__all__ = ["at_once"]

#: Files at once, where the caller does not say. The connections to one host have a limit of their own.
_JOBS = 4
#: Seconds of one wait for them.
_WAIT = 0.5


def at_once(store: Store, tasks: Sequence[Callable[[], Any]], jobs: int | None = None) -> list[Any]:
    """Return what each task returns, in order; they share a store. The first error ends them all.

    Where all files are here, no thread is started.
    """
    try:
        with store.local_only():
            return [task() for task in tasks]
    except OfflineError:
        if store.offline:
            raise
    pool = ThreadPoolExecutor(jobs or _JOBS, thread_name_prefix="registry-file")
    try:
        futures = [pool.submit(task) for task in tasks]
        pending = set(futures)
        while pending:  # Ctrl-C that comes just before a wait does not end it
            done, pending = wait(pending, timeout=_WAIT, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        results = [future.result() for future in futures]
    except BaseException as error:
        store.stop()
        # A user who interrupts does not wait for a silent server: each thread ends with the next byte, or its own limit.
        pool.shutdown(wait=not isinstance(error, KeyboardInterrupt), cancel_futures=True)
        raise
    pool.shutdown()
    return results
