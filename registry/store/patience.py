"""How long to go on trying: pauses that grow, each of a random length, until a budget without progress is spent."""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from registry.errors import ConfigError, DownloadError
from registry.store.lazy_logger import lazy_logger
from registry.store.transports.protocol import Transient

__all__ = ["Patience"]

logger = lazy_logger(__name__)

_Result = TypeVar("_Result")

#: Tries in a row that bring nothing, before it is given up; `REGISTRY_RETRIES` says otherwise.
_TRIES = 5
#: Seconds: the longest that the first pause can be, that any pause can be, and that may pass without progress.
_FIRST = 1.0
_LONGEST = 20.0
_BUDGET = 120.0


class Patience:
    """The state of one series of tries."""

    def __init__(self, stopped: threading.Event, *, more_sources: bool = False) -> None:
        """Begin. With `more_sources` another place can be asked, and this one gets two tries only; `stopped` ends a pause."""
        self._stopped = stopped
        self._limit = min(tries(), 2) if more_sources else tries()
        self.progressed()

    def progressed(self) -> None:
        """Begin anew: something has arrived."""
        self._failed = 0
        self._since = time.monotonic()

    def pause(self, error: Transient) -> None:
        """Wait before the next try, as long as the server asks or chance decides.

        Raises:
            DownloadError: what went wrong, when it is time to give up.
        """
        self._failed += 1
        left = _BUDGET - (time.monotonic() - self._since)
        # Full jitter: many that fail at the same moment do not come back at the same moment.
        wait = random.uniform(0, min(_LONGEST, _FIRST * 2 ** (self._failed - 1)))
        if error.retry_after is not None:
            wait = max(wait, error.retry_after)
        if self._failed >= self._limit or wait > left:
            why = f" (after {self._failed} tries)" if self._failed > 1 else ""
            if error.retry_after is not None and error.retry_after > left:
                why = (
                    f" (the server asks to wait {error.retry_after:.0f} s, and {_BUDGET:.0f} s without progress are the limit)"
                )
            raise DownloadError(f"{error.message}{why}", url=error.url, status=error.status) from None
        logger.info("%s; trying again in %.1f s", error.message, wait)
        if self._stopped.wait(wait):
            raise DownloadError(
                f"{error.message} (and the operation was stopped)", url=error.url, status=error.status
            ) from None

    def insist(self, call: Callable[[], _Result]) -> _Result:
        """Return what `call` returns, trying again while what it raises may pass."""
        while True:
            try:
                return call()
            except Transient as error:
                self.pause(error)


def tries() -> int:
    """Return how often something is tried that may pass."""
    written = os.environ.get("REGISTRY_RETRIES", "").strip()
    if not written:
        return _TRIES
    if not re.fullmatch("[0-9]{1,9}", written):
        raise ConfigError(
            f"REGISTRY_RETRIES is expected to be a number such as 0 or 5, but is {written!r}; correct or unset it"
        )
    return int(written) + 1
