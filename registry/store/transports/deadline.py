"""Connections on which every wait ends: what drips keeps each single read in time, and would never be complete."""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
import time
from collections.abc import Callable
from http.client import HTTPException
from types import TracebackType
from typing import Any, Self

from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.poolmanager import PoolManager

__all__ = ["Deadline", "PromptAdapter", "socket_of"]

#: Seconds between two looks at a deadline while none is set.
_LOOK_EVERY = 0.5


class Deadline:
    """Ends a connection once a wait takes too long. Use it as a context manager: a thread of its own watches meanwhile."""

    def __init__(self, connection: socket.socket | None) -> None:
        """Set up; without a connection there is nothing to end."""
        self._connection = connection
        self._until: float | None = None
        self._wake = threading.Event()
        #: Whether the connection was ended.
        self.passed = False

    def __enter__(self) -> Self:
        if self._connection is not None:
            threading.Thread(target=self._watch, args=(self._connection,), name="registry-deadline", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._wake.set()

    def set(self, seconds: float | None) -> None:
        """End the connection in so many seconds; None while nothing is waited for."""
        self._until = None if seconds is None else time.monotonic() + seconds

    def _watch(self, connection: socket.socket) -> None:
        left = 0.0
        while not self._wake.wait(min(left, _LOOK_EVERY)):
            until = self._until
            left = _LOOK_EVERY if until is None else until - time.monotonic()
            if left <= 0:
                self.passed = True
                with contextlib.suppress(OSError):  # TLS is not asked, which another thread is reading through
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
                return


def socket_of(response: Any) -> socket.socket | None:
    """Return the connection that the body of urllib3's answer comes from."""
    return getattr(response, "registry_socket", None)


class _Prompt:
    """A connection of urllib3 that gives the head of an answer, or of a proxy's, as long as one read may take."""

    sock: Any
    timeout: Any

    def _tunnel(self) -> None:
        _in_time(_plain(self.sock), self.timeout, super()._tunnel)  # type: ignore[misc]  # of the class that this is mixed into

    def getresponse(self) -> Any:
        """Return the answer.

        Raises:
            TimeoutError: when its head has not come in time.
        """
        connection = _plain(self.sock)
        response = _in_time(connection, self.timeout, super().getresponse)  # type: ignore[misc]
        # urllib3 lets go of the connection before the body was read where it ends with the body.
        response.registry_socket = connection
        return response


def _in_time(connection: socket.socket | None, limit: object, receive: Callable[[], Any]) -> Any:
    """Return what is received, or raise TimeoutError when it takes longer than the limit, whatever came of it."""
    with Deadline(connection) as deadline:
        deadline.set(limit if isinstance(limit, int | float) else None)
        try:
            received = receive()
        except (OSError, HTTPException):
            if not deadline.passed:
                raise
        else:
            if not deadline.passed:
                return received
            if received is not None:
                received.close()  # what has come of its head was taken for all of it
    # Not while the other is handled: how a connection ends that we have ended is not what went wrong.
    raise TimeoutError("the head of the answer did not arrive in time")


def _plain(connection: Any) -> socket.socket | None:
    """Return the socket below TLS that goes through a proxy's TLS."""
    while connection is not None and not isinstance(connection, socket.socket):
        connection = getattr(connection, "socket", None)
    return connection


class PromptAdapter(HTTPAdapter):
    """Opens such connections, with and without a proxy of any kind."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Open them where there is no proxy."""
        super().init_poolmanager(*args, **kwargs)
        _make_prompt(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Open them through a proxy, too."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        _make_prompt(manager)
        return manager


def _make_prompt(manager: PoolManager) -> None:
    manager.pool_classes_by_scheme = {scheme: _prompt(pool) for scheme, pool in manager.pool_classes_by_scheme.items()}


@functools.lru_cache
def _prompt(pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
    """Return the kind of pool whose connections are prompt."""
    if issubclass(pool.ConnectionCls, _Prompt):
        return pool
    connection = type(pool.ConnectionCls.__name__, (_Prompt, pool.ConnectionCls), {})
    return type(pool.__name__, (pool,), {"ConnectionCls": connection})
