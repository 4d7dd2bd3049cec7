"""Every wait for a server ends, whichever part of its answer drips."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from registry.errors import DownloadError
from registry.store.transports.http import HttpTransport
from registry.store.transports.protocol import Transient

#: Seconds: the limit of a wait in these tests.
LIMIT = 2.0

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
#: What begins an answer at once, and what then comes a little at a time, for ever.
PARTS = {
    "status line": (b"HTTP/1.1 200 ", b"O"),
    "header": (b"HTTP/1.1 200 OK\r\nX-Name: ", b"v"),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X-Name: v\r\n"),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "other interim answers": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"),
    "chunk size": (CHUNKED, b"0"),
    "chunk extension": (CHUNKED + b"5", b";a=b"),
    "chunk data": (CHUNKED + b"ffff\r\n", b"x"),
    "chunks": (CHUNKED, b"1\r\nx\r\n"),
    "end of a chunk": (CHUNKED + b"1\r\nx", b""),
    "trailer": (CHUNKED + b"5\r\nhello\r\n0\r\n", b"x"),
    "trailers": (CHUNKED + b"5\r\nhello\r\n0\r\n", b"a: b\r\n"),
    "content of known length": (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x"),
    "content to the end of the connection": (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"x"),
    "content of an old server": (b"HTTP/1.0 200 OK\r\n\r\n", b"x"),
    "content of a part": (
        b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-99999/100000\r\nContent-Length: 100000\r\n\r\n",
        b"x",
    ),
    "chunks of a redirect": (
        b"HTTP/1.1 302 Found\r\nLocation: ftp://elsewhere/\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"1\r\nx\r\n",
    ),
    "trailers of a redirect": (
        b"HTTP/1.1 302 Found\r\nLocation: ftp://elsewhere/\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        b"a: b\r\n",
    ),
}


@contextmanager
def dripping(begin: bytes, drop: bytes) -> Iterator[tuple[str, threading.Event]]:
    """Serve one answer that goes on for ever; yield the address, and an event that says that the test waited too long."""
    listener = socket.create_server(("127.0.0.1", 0))
    done, given_up = threading.Event(), threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = listener.accept()[0]
                threading.Thread(target=drip, args=(connection,), daemon=True).start()

    def drip(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(begin)
            for _ in itertools.count():
                if done.wait(0.1):
                    return
                connection.sendall(drop)

    timer = threading.Timer(20 * LIMIT, lambda: (given_up.set(), done.set()))
    timer.start()
    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/a", given_up
    finally:
        timer.cancel()
        done.set()
        listener.close()


def read(url: str) -> bytes:
    transport = HttpTransport({}, timeout=(LIMIT, LIMIT))
    try:
        with transport.open(transport.describe(url)) as body:
            return b"".join(body.pieces)
    finally:
        transport.close()


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_an_answer_that_drips_is_given_up(part: str) -> None:
    with dripping(*PARTS[part]) as (url, given_up):
        with pytest.raises(DownloadError):
            read(url)
        assert not given_up.is_set(), "the server had to end it"


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_an_answer_that_drips_through_a_proxy_is_given_up(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    with dripping(*PARTS[part]) as (url, given_up):
        monkeypatch.setenv("http_proxy", url)
        with pytest.raises(DownloadError):
            read("http://models.acme.internal/a")
        assert not given_up.is_set(), "the server had to end it"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("begin", "drop"),
    [(b"", b"H"), (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"), (b"HTTP/1.1 200 OK\r\n\r\n\x16\x03\x03\x40\x00", b"\x00")],
    ids=["status", "headers", "TLS behind it"],
)
def test_a_tunnel_that_drips_is_given_up(begin: bytes, drop: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    with dripping(begin, drop) as (url, given_up):
        monkeypatch.setenv("https_proxy", url)
        with pytest.raises(DownloadError):
            read("https://models.acme.internal/a")
        assert not given_up.is_set(), "the server had to end it"


@pytest.mark.slow
def test_a_tls_handshake_that_drips_is_given_up() -> None:
    with dripping(b"\x16\x03\x03\x40\x00", b"\x00") as (url, given_up):
        with pytest.raises(DownloadError):
            read(url.replace("http:", "https:"))
        assert not given_up.is_set(), "the server had to end it"


@pytest.mark.slow
@pytest.mark.parametrize("part", ["headers", "interim answers"])
def test_a_head_that_is_asked_for_alone_is_given_up(part: str) -> None:
    transport = HttpTransport({}, timeout=(LIMIT, LIMIT))
    with dripping(*PARTS[part]) as (url, given_up):
        with pytest.raises(DownloadError):
            transport.request("HEAD", url)
        assert not given_up.is_set(), "the server had to end it"


@pytest.mark.parametrize("part", ["chunks", "content of known length", "trailers"])
def test_the_answer_to_a_head_has_no_content_that_is_waited_for(part: str) -> None:
    transport = HttpTransport({}, timeout=(LIMIT, LIMIT))
    with dripping(*PARTS[part]) as (url, _), transport.request("HEAD", url) as response:
        assert response.status_code == 200


def test_content_that_comes_before_a_stall_is_not_lost() -> None:
    transport = HttpTransport({}, timeout=(LIMIT, 0.5))
    came = b""
    with (
        dripping(*PARTS["trailers"]) as (url, _),
        transport.open(transport.describe(url)) as body,
        pytest.raises(Transient) as caught,
    ):
        for piece in body.pieces:
            came += piece
    assert came == b"hello" and caught.value.stalled


def test_time_in_which_nothing_is_waited_for_does_not_count() -> None:
    """A disk that is slow is not the server's fault."""
    transport = HttpTransport({}, timeout=(LIMIT, 0.3))
    pause = threading.Event()

    def serve() -> None:
        connection = listener.accept()[0]
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
            pause.wait(10)
            connection.sendall(b"b")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        with transport.open(transport.describe(f"http://127.0.0.1:{listener.getsockname()[1]}/a")) as body:
            pieces = body.pieces
            assert next(pieces) == b"a"
            pause.wait(1.0)  # longer than the limit
            pause.set()
            assert b"".join(pieces) == b"b"
