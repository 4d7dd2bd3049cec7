"""A proxy on the loopback interface that cuts and slows the connections of a real server."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Proxy:
    """Forwards connections to a port of this machine, and counts what comes back."""

    def __init__(self, port: int) -> None:
        self._upstream = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._closed = False
        #: After so many more bytes of answers the connection is cut that brings them, once; None for never.
        self.cut_after: int | None = None
        #: Bytes a second of each connection; None for as fast as they come.
        self.rate: float | None = None
        self.connections = 0
        self.bytes = 0
        self.cuts = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def run(self) -> None:
        """Accept connections until closed."""
        self._spawn(self._accept)

    def close(self) -> None:
        """End every connection and thread."""
        with self._lock:
            self._closed = True
            sockets = [self._listener, *self._sockets]
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(10)

    def _spawn(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._upstream)
            except OSError:
                return
            with self._lock:
                if self._closed:
                    client.close()
                    server.close()
                    return
                self._sockets += [client, server]
                self.connections += 1
            self._spawn(self._forward, client, server, False)
            self._spawn(self._forward, server, client, True)

    def _forward(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 14):
                cut = False
                if answers:
                    with self._lock:
                        if self.cut_after is not None:
                            cut = len(piece) >= self.cut_after
                            piece = piece[: self.cut_after]
                            self.cut_after = None if cut else self.cut_after - len(piece)
                        self.bytes += len(piece)
                        self.cuts += cut
                    if self.rate is not None:
                        time.sleep(len(piece) / self.rate)
                target.sendall(piece)
                if cut:
                    break
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextmanager
def cutting_proxy(port: int) -> Iterator[Proxy]:
    """Run a proxy before a port of this machine."""
    proxy = Proxy(port)
    proxy.run()
    try:
        yield proxy
    finally:
        proxy.close()
