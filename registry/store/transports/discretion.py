"""Keep the queries of our requests, which may be signatures, out of urllib3's own log."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

__all__ = ["discreet"]

_here = threading.local()


def _without_queries(record: logging.LogRecord) -> bool:
    if getattr(_here, "active", False) and isinstance(record.args, tuple):
        record.args = tuple(arg.partition("?")[0] if isinstance(arg, str) else arg for arg in record.args)
    return True


@contextlib.contextmanager
def discreet() -> Iterator[None]:
    """Cut queries from what urllib3 logs of this thread inside; the log of other threads and requests stays as it is."""
    for name in ("urllib3.connectionpool", "urllib3.connection"):  # the latter tells of headers that it cannot read
        logging.getLogger(name).addFilter(_without_queries)  # once: it knows its filters
    _here.active = True
    try:
        yield
    finally:
        _here.active = False
