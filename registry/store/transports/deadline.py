"""Connections whose answers begin in time: a head that drips keeps every read in time, and would never end."""

from __future__ import annotations

import contextlib
import socket
import threading
from http.client import HTTPException
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.response import HTTPResponse

__all__ = ["PromptAdapter"]


class _Prompt(HTTPConnection):
    """Gives the head of an answer as long as one read may take."""

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as in urllib3
        """Return the answer.

        Raises:
            TimeoutError: when its head has not come in time.
        """
        limit = self.timeout
        if not isinstance(limit, int | float):
            return super().getresponse()
        late = threading.Event()
        timer = threading.Timer(limit, _end, (self.sock, late))
        timer.daemon = True
        timer.start()
        try:
            response = super().getresponse()
        except (OSError, HTTPException):
            if not late.is_set():
                raise
        else:
            if not late.is_set():
                return response
            response.close()  # what has come of its head was taken for all of it
        finally:
            timer.cancel()
        raise TimeoutError("the head of the answer did not arrive in time")


class _PromptTls(_Prompt, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Prompt


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _PromptTls


class PromptAdapter(HTTPAdapter):
    """Opens such connections, with and without a proxy."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Open them where there is no proxy."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Open them through a proxy, too."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("socks"):  # which has pools of its own
            manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
        return manager


def _end(connection: socket.socket, late: threading.Event) -> None:
    """Let whoever reads from a connection find that it has ended; TLS is not asked, which another thread is reading through."""
    late.set()
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
