"""How many connections this process has to one server at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["host_slot"]

#: Connections to one origin, where the catalog's `hosts:` does not say.
_CONNECTIONS = 8

_lock = threading.Lock()
_slots: dict[tuple[object, int], threading.BoundedSemaphore] = {}


def _forget() -> None:
    """Begin anew in a forked process: its parent's downloads go on in the parent only."""
    global _lock, _slots
    _lock, _slots = threading.Lock(), {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@contextmanager
def host_slot(origin: object, limit: int | None) -> Iterator[None]:
    """Hold one of the connections to a server, waiting for one to become free.

    No thread may wait for a second one while it holds a first.
    """
    count = limit or _CONNECTIONS
    with _lock:
        slot = _slots.setdefault((origin, count), threading.BoundedSemaphore(count))
    with slot:
        yield
