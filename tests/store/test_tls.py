"""TLS, against a server of Python's own: certificates that are not good, a downgrade, a connection that is torn."""

from __future__ import annotations

import datetime
import socket
import ssl
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trustme

from registry.errors import DownloadError
from tests.proxies import cutting_proxy
from tests.servers import Handler, Request, file_server, serving
from tests.store.helpers import BODY, fetch, get, pinned, visible

NAME = "model.safetensors"
LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
DATA = np.random.default_rng(12).bytes(1_000_000)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of an authority that nobody trusts by himself."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


#: The key and the chain of a server, as PEM.
CERTIFICATES: dict[str, Callable[[trustme.CA], bytes]] = {
    "good": lambda authority: authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.bytes(),
    "expired": lambda authority: authority.issue_cert(
        "127.0.0.1", not_before=LONG_AGO, not_after=LONG_AGO + datetime.timedelta(days=1)
    ).private_key_and_cert_chain_pem.bytes(),
    "of another host": lambda authority: authority.issue_cert("models.acme.example").private_key_and_cert_chain_pem.bytes(),
    "self-signed": lambda authority: authority.private_key_pem.bytes() + authority.cert_pem.bytes(),
}


def behind(authority: trustme.CA, certificate: str, tmp_path: Path) -> ssl.SSLContext:
    """Return what a server with this certificate needs."""
    pem = tmp_path / "server.pem"
    pem.write_bytes(CERTIFICATES[certificate](authority))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


def sends_body(handler: Handler, request: Request) -> None:
    handler.reply(request, 200, BODY)


@pytest.mark.parametrize(
    ("certificate", "named", "says"),
    [
        ("self-signed", False, "certificate is not trusted: self-signed certificate; set SSL_CERT_FILE"),
        ("good", False, "certificate is not trusted: unable to get local issuer certificate; set SSL_CERT_FILE"),
        ("expired", True, "certificate is not trusted: certificate has expired"),
        ("of another host", True, "certificate is not trusted: IP address mismatch"),
    ],
)
def test_a_certificate_that_is_not_good_is_refused_at_once(
    certificate: str,
    named: bool,
    says: str,
    authority: trustme.CA,
    ca_file: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if named:
        monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    with serving(sends_body, behind(authority, certificate, tmp_path)) as server:
        with cutting_proxy(server.server_address[1]) as proxy:
            with pytest.raises(DownloadError, match=says):
                get(cache, proxy.url.replace("http:", "https:"), NAME, pinned(NAME, BODY))
            assert proxy.connections == 1  # what is wrong with a certificate does not pass
        assert server.requests == []
    assert visible(cache) == []


def test_an_authority_that_is_named_is_trusted(
    authority: trustme.CA, ca_file: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(sends_body, behind(authority, "good", tmp_path)) as server:
        with pytest.raises(DownloadError, match="set SSL_CERT_FILE"):
            get(cache, server.url, NAME)
        monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
        assert fetch(cache, server.url, NAME).path.read_bytes() == BODY


def test_a_redirect_from_https_to_http_is_not_followed(
    authority: trustme.CA, ca_file: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even for a file whose hash is known: what is asked for is nobody else's business."""
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    with file_server({"/moved": BODY}) as plain:

        def answer(handler: Handler, request: Request) -> None:
            handler.reply(request, 302, b"", {"Location": f"{plain.url}/moved"})

        with serving(answer, behind(authority, "good", tmp_path)) as server:
            with pytest.raises(DownloadError, match="expected to stay with https, but leads to http"):
                get(cache, server.url, NAME, pinned(NAME, BODY))
            assert len(server.requests) == 1
        assert plain.requests == []
    assert visible(cache) == []


@pytest.mark.parametrize("how", ["reset", "closed without a farewell"])
def test_a_connection_that_is_torn_is_gone_on_with(
    how: str, authority: trustme.CA, ca_file: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the farewell of TLS, an end may be anybody's doing, and is none."""
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    monkeypatch.setenv("REGISTRY_PARALLEL", "1")
    tears = [1]

    def answer(handler: Handler, request: Request) -> None:
        handler.reply_part(request, DATA, etag='"one"', cut=500_000 if tears else None)
        if tears:
            tears.pop()
            handler.wfile.flush()
            time.sleep(0.2)  # else the reset takes away what was just sent
            if how == "reset":
                handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()

    with serving(answer, behind(authority, "good", tmp_path)) as server:
        assert fetch(cache, server.url, NAME).path.read_bytes() == DATA
        assert len(server.requests) == 2
        assert server.requests[1].headers["range"].startswith("bytes=")
        assert server.sent(f"/{NAME}") <= len(DATA) + 100_000
    assert not [path for path in cache.rglob("*") if "partial" in path.name]
