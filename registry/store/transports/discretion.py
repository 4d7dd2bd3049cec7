"""Keep the queries of our requests, which may be signatures, and the heads of answers out of urllib3's own log."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

__all__ = ["discreet"]

_here = threading.local()


def _without_secrets(record: logging.LogRecord) -> bool:
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
    for module in ("connection", "connectionpool"):
        logging.getLogger(f"urllib3.{module}").addFilter(_without_secrets)  # once: it knows its filters
    _here.active = True
    try:
        yield
    finally:
        _here.active = False
