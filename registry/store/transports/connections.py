"""Connections to servers: how many there are at a time, and what urllib3 may log of them."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from logging import LogRecord

__all__ = ["discreet", "host_slot"]


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


_here = threading.local()


def _without_secrets(record: LogRecord) -> bool:
    if getattr(_here, "active", False) and isinstance(record.args, tuple):
        record.args = tuple(map(_discreet, record.args))
        record.exc_info = None
    return True


def _discreet(arg: object) -> object:
    if isinstance(arg, BaseException):  # it shows the head of an answer, which may lead to a signed address
        return type(arg).__name__
    return arg.partition("?")[0] if isinstance(arg, str) else arg


@contextlib.contextmanager
def discreet() -> Iterator[None]:
    """Cut secrets from what urllib3 logs of this thread inside; the log of other threads and requests stays as it is."""
    import logging  # not needed where nothing is downloaded

    for module in ("connection", "connectionpool"):
        logging.getLogger(f"urllib3.{module}").addFilter(_without_secrets)  # once: it knows its filters
    _here.active = True
    try:
        yield
    finally:
        _here.active = False
