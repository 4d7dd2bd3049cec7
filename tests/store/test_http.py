"""HTTP: what arrives is the file or an error, never something in between, and a secret reaches nobody else."""

from __future__ import annotations

import contextlib
import gzip
import logging
import re
import socket
import threading
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

import registry
from registry.catalog.entry import FilePin, Host, Origin
from registry.errors import DownloadError, IntegrityError, OfflineError, RegistryError, UnknownModel
from registry.store.cache import Cache
from registry.store.store import Store
from registry.store.target import Place
from registry.store.transports import http
from registry.store.transports.credentials import Credentials
from registry.store.transports.http import HttpTransport
from tests.servers import Handler, Request, Server, chunked, file_server, serving
from tests.store.helpers import BODY, OTHER, fetch, get, host, leftovers, pinned, sha256, visible

NAME = "model.safetensors"
DIGEST = sha256(BODY)


@contextmanager
def replying(**how: object) -> Iterator[Server]:
    """Run a server that gives one and the same answer to everything."""
    how = {"status": 200, "body": BODY, **how}
    with serving(lambda handler, request: handler.reply(request, **how)) as server:  # type: ignore[arg-type]
        yield server


@pytest.fixture
def dead(closed_port: int) -> str:
    """An address of this machine at which nobody listens."""
    return f"http://127.0.0.1:{closed_port}"


# -- what arrives ------------------------------------------------------------------------------------------------------


def test_a_pinned_file_is_fetched_and_checked(cache: Path) -> None:
    with file_server({f"/bert/{NAME}": BODY}) as server:
        file = fetch(cache, f"{server.url}/bert", NAME, pinned(NAME, BODY, len(BODY)))
    assert file.path.read_bytes() == BODY
    assert (file.name, file.sha256, file.trust) == (NAME, DIGEST, "catalog")


def test_an_unpinned_file_is_trusted_on_first_use_and_shown_as_such(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    with file_server({f"/bert/{NAME}": BODY}) as server, caplog.at_level(logging.INFO):
        file = fetch(cache, f"{server.url}/bert/", NAME)
    assert file.path.read_bytes() == BODY
    assert (file.sha256, file.trust) == (DIGEST, "first-use")
    assert f"trusted on first use as sha256 {DIGEST}" in caplog.text


def test_a_file_may_have_an_address_of_its_own(cache: Path) -> None:
    with file_server({"/elsewhere/weights.v2": BODY}) as server:
        pins = {NAME: FilePin(sha256=DIGEST, url=f"{server.url}/elsewhere/weights.v2")}
        assert fetch(cache, f"{server.url}/bert", NAME, pins).path.read_bytes() == BODY


def test_the_transfer_is_asked_for_unencoded(cache: Path) -> None:
    with file_server({f"/{NAME}": BODY}) as server:
        fetch(cache, server.url, NAME)
    (request,) = server.requests
    assert request.method == "GET"
    assert request.headers["accept-encoding"] == "identity"


def test_an_empty_file_is_a_file(cache: Path) -> None:
    with file_server({"/added_tokens.json": b""}) as server:
        assert fetch(cache, server.url, "added_tokens.json").path.read_bytes() == b""


def test_a_pinned_file_may_come_without_a_length(cache: Path) -> None:
    with replying(length=-1) as server:
        assert fetch(cache, server.url, NAME, pinned(NAME, BODY)).path.read_bytes() == BODY
    with serving(chunked(BODY[:5000], BODY[5000:])) as server:
        assert fetch(cache / "other", server.url, NAME, pinned(NAME, BODY)).path.read_bytes() == BODY


# -- what does not arrive whole or right -------------------------------------------------------------------------------

FLIPPED = bytes([BODY[0] ^ 1]) + BODY[1:]
SIZED = pinned(NAME, BODY, len(BODY))
HASHED = pinned(NAME, BODY)
SIZE_ONLY = {NAME: FilePin(size=len(BODY))}

#: What the server does, what is pinned, and what the error is and says.
FAILURES: dict[str, tuple[dict[str, object], dict[str, FilePin], type[RegistryError], str]] = {
    "other bytes": ({"body": OTHER}, SIZED, IntegrityError, f"expected to be {DIGEST}, but is {sha256(OTHER)}"),
    "one bit flipped": ({"body": FLIPPED}, HASHED, IntegrityError, f"but is {sha256(FLIPPED)}"),
    "one bit flipped, no length": ({"body": FLIPPED, "length": -1}, SIZED, IntegrityError, f"but is {sha256(FLIPPED)}"),
    "nothing of what was announced": ({"cut": 0}, {}, DownloadError, "broke off"),
    "one byte": ({"cut": 1}, {}, DownloadError, f"1 bytes came, {len(BODY) - 1} were still to come"),
    "half": ({"cut": 5120}, HASHED, DownloadError, f"5120 bytes came, {len(BODY) - 5120} were still to come"),
    "all but one byte": ({"cut": -1}, SIZED, DownloadError, f"{len(BODY) - 1} bytes came, 1 were still to come"),
    "fewer bytes than pinned": ({"body": BODY[:-1]}, SIZED, IntegrityError, f"be {len(BODY)}, but is {len(BODY) - 1}"),
    "more bytes than pinned": ({"body": BODY + b"0"}, SIZED, IntegrityError, f"be {len(BODY)}, but is {len(BODY) + 1}"),
    "more bytes than pinned, no hash": ({"body": BODY + b"0"}, SIZE_ONLY, IntegrityError, f"but is {len(BODY) + 1}"),
    "fewer bytes than pinned, no length": ({"cut": 99, "length": -1}, SIZED, DownloadError, f"at byte 99 of {len(BODY)}"),
    "more bytes, no length": ({"body": BODY * 2, "length": -1}, SIZED, IntegrityError, f"but is more than {len(BODY)}"),
    "a cut that only the hash shows": ({"cut": 99, "length": -1}, HASHED, IntegrityError, f"but is {sha256(BODY[:99])}"),
    "a cut that only the size shows": ({"cut": 99, "length": -1}, SIZE_ONLY, DownloadError, f"at byte 99 of {len(BODY)}"),
    "neither length nor hash": ({"length": -1}, {}, DownloadError, "pin its sha256"),
    "a part that nobody asked for": ({"status": 206, "body": BODY[:100]}, {}, DownloadError, "answers 206"),
    "no content": ({"status": 204, "body": b""}, {}, DownloadError, "answers 204"),
    "not modified": ({"status": 304, "body": b""}, {}, DownloadError, "answers 304"),
    "no token": ({"status": 401}, {}, DownloadError, "answers 401; no `hosts:` entry names 127.0.0.1:"),
    "a token that is not enough": ({"status": 403}, HASHED, DownloadError, "answers 403; no `hosts:` entry names 127.0.0.1:"),
    "too many requests": ({"status": 429}, {}, DownloadError, "answers 429; try again later"),
    "a broken server": ({"status": 500}, SIZED, DownloadError, "answers 500; try again later, or add a mirror"),
    "a busy server": ({"status": 503}, {}, DownloadError, "answers 503"),
    "gzip": ({"body": gzip.compress(BODY), "headers": {"Content-Encoding": "gzip"}}, HASHED, DownloadError, "is gzip"),
    "deflate": ({"body": zlib.compress(BODY), "headers": {"Content-Encoding": "deflate"}}, HASHED, DownloadError, "is deflate"),
    "an unknown encoding": ({"body": b"?", "headers": {"Content-Encoding": "x"}}, {}, DownloadError, "is x"),
    "a login page": ({"body": b"<!DOCTYPE html><title>Sign in"}, {}, DownloadError, "an HTML page, perhaps a login page"),
    "a login page for a pinned file": ({"body": b"\n <html><body>"}, HASHED, DownloadError, "an HTML page"),
    "a login page for a file of known size": ({"body": b"<html>Sign in"}, SIZED, DownloadError, "an HTML page"),
    "a login page without a length": ({"body": b"<!doctype html>Sign in", "length": -1}, {}, DownloadError, "an HTML page"),
    "a login page behind a byte order mark": ({"body": b"\xef\xbb\xbf<!DOCTYPE html>"}, {}, DownloadError, "an HTML page"),
    "a git-lfs pointer for an unpinned file": (
        {"body": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"},
        {},
        DownloadError,
        "a git-lfs pointer, not the file it points to",
    ),
    "a git-lfs pointer": (
        {"body": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"},
        SIZED,
        DownloadError,
        "a git-lfs pointer, not the file it points to",
    ),
}


@pytest.mark.parametrize(("how", "pins", "kind", "says"), FAILURES.values(), ids=list(FAILURES))
def test_a_bad_answer_is_a_clear_error_and_nothing_becomes_visible(
    how: dict[str, object], pins: dict[str, FilePin], kind: type[RegistryError], says: str, cache: Path
) -> None:
    with replying(**how) as server:
        with pytest.raises(kind) as caught:
            get(cache, server.url, NAME, pins)
        assert says in str(caught.value)
        assert f"{server.url}/{NAME}" in str(caught.value)
        assert "; " in str(caught.value), "it does not say what to do"
        assert type(caught.value) is kind
        assert visible(cache) == []
        with pytest.raises(OfflineError):
            get(cache, server.url, NAME, pins, offline=True)
    with file_server({f"/{NAME}": BODY}) as server:
        assert fetch(cache, server.url, NAME, pins).path.read_bytes() == BODY


def test_an_integrity_error_carries_both_hashes(cache: Path) -> None:
    with replying(body=OTHER) as server, pytest.raises(IntegrityError) as caught:
        get(cache, server.url, NAME, HASHED)
    assert (caught.value.expected, caught.value.actual) == (DIGEST, sha256(OTHER))
    assert caught.value.url == f"{server.url}/{NAME}"


@pytest.mark.parametrize("status", [401, 403, 429, 500, 502, 503])
def test_a_download_error_carries_the_status(status: int, cache: Path) -> None:
    with replying(status=status) as server, pytest.raises(DownloadError) as caught:
        get(cache, server.url, NAME)
    assert caught.value.status == status


def test_a_file_of_the_wrong_size_is_not_read_to_its_end(cache: Path) -> None:
    with replying(body=bytes(64 << 20)) as server:
        with pytest.raises(IntegrityError):
            get(cache, server.url, NAME, {NAME: FilePin(sha256=DIGEST, size=10)})
        assert server.sent(f"/{NAME}") < 32 << 20


@pytest.mark.parametrize("pins", [HASHED, SIZED, SIZE_ONLY], ids=["hash", "hash and size", "size"])
@pytest.mark.parametrize("sent", [0, 1, len(BODY) // 2, len(BODY) - 1])
def test_chunks_that_break_off_are_an_error(sent: int, pins: dict[str, FilePin], cache: Path) -> None:
    with serving(chunked(*[BODY[:sent]] * bool(sent), end=False)) as server:
        with pytest.raises(DownloadError, match="broke off"):
            get(cache, server.url, NAME, pins)
        assert visible(cache) == []
        with pytest.raises(OfflineError):
            get(cache, server.url, NAME, pins, offline=True)


def test_chunks_without_an_end_are_an_error(cache: Path) -> None:
    with serving(chunked(BODY, end=False)) as server, pytest.raises(DownloadError, match="broke off"):
        get(cache, server.url, NAME, HASHED)
    assert visible(cache) == []


def test_what_follows_the_declared_length_is_no_part_of_this_file_or_the_next(cache: Path) -> None:
    """On a connection that is kept, it would be taken for the answer to the next request."""
    bodies = {f"/{NAME}": BODY, "/vocab.txt": b"[UNK]\n"}

    def answer(handler: Handler, request: Request) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(bodies[request.path])))
        handler.end_headers()
        handler.wfile.write(bodies[request.path] + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")

    with serving(answer) as server, Store(Cache((cache,)), offline=False) as store:
        for path, body in bodies.items():
            file = store.get(Place((server.url,)), path[1:])
            assert file is not None and file.path.read_bytes() == body


@pytest.mark.parametrize(
    "page", [b"<!DOCTYPE html><title>Sign in</title>", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"]
)
@pytest.mark.parametrize("pins", [{}, HASHED], ids=["unpinned", "pinned"])
def test_an_impostor_is_known_however_small_the_pieces_are_that_it_comes_in(
    page: bytes, pins: dict[str, FilePin], cache: Path
) -> None:
    def answer(handler: Handler, request: Request) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(page)))
        handler.end_headers()
        for at in range(len(page)):
            handler.wfile.write(page[at : at + 1])
            time.sleep(0.005 if at < 20 else 0)

    with serving(answer) as server, pytest.raises(DownloadError, match="an HTML page|a git-lfs pointer"):
        get(cache, server.url, NAME, pins)
    assert leftovers(cache) == []


def test_chunks_have_no_length(cache: Path) -> None:
    with serving(chunked(BODY)) as server, pytest.raises(DownloadError, match="neither length nor hash"):
        get(cache, server.url, NAME)
    assert leftovers(cache) == []


@pytest.mark.parametrize("status", [404, 410])
def test_a_missing_file_is_missing_and_remembered(status: int, cache: Path) -> None:
    with replying(status=status) as server:
        assert get(cache, server.url, "added_tokens.json") is None
        assert get(cache, server.url, "added_tokens.json") is None
        assert len(server.requests) == 1
        assert get(cache, server.url, "added_tokens.json", refresh=True) is None
        assert len(server.requests) == 2


@pytest.mark.parametrize("name", ["card.html", "card.html?token=x"])
def test_a_page_is_no_impostor_where_a_page_is_asked_for(name: str, cache: Path) -> None:
    with replying(body=b"<!doctype html>") as server:
        pins = {"card": FilePin(url=f"{server.url}/{name}")}
        assert fetch(cache, server.url, "card", pins).path.read_bytes() == b"<!doctype html>"


@pytest.mark.parametrize("pins", [{}, HASHED, SIZED], ids=["unpinned", "hash", "hash and size"])
@pytest.mark.parametrize(
    "pieces",
    [
        (b"<!DOC", b"TYPE html><title>Sign in"),
        (b"\n", b" ", b"<html>"),
        (b"\n" * 100 + b"<html>",),
        (b"\xef\xbb\xbf<!DOCTYPE html>",),
        (b'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE html PUBLIC>',),
        (b"<!-- saved --> <!-- at the portal -->\n<html lang=en>",),
    ],
    ids=["in two pieces", "piece by piece", "much white space", "a byte order mark", "XHTML", "comments"],
)
def test_a_page_is_recognised_however_it_begins_and_comes(
    pieces: tuple[bytes, ...], pins: dict[str, FilePin], cache: Path
) -> None:
    with serving(chunked(*pieces)) as server, pytest.raises(DownloadError, match="an HTML page"):
        get(cache, server.url, NAME, pins)
    assert visible(cache) == []


def test_what_looks_like_no_end_of_comments_is_looked_at_once(cache: Path) -> None:
    """A pattern that tries every way to part them would never come to an end."""
    body = b"<!---->" * 10_000
    with replying(body=body) as server:
        assert fetch(cache, server.url, NAME).path.read_bytes() == body


@given(st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=40))
def test_no_length_header_breaks_the_reader(value: str) -> None:
    assert (length := http.content_length(value)) is None or length >= 0


@pytest.mark.parametrize(
    ("value", "length"), [("0", 0), ("12", 12), ("", None), ("-1", None), ("1, 1", None), ("²", None), ("9" * 5000, None)]
)
def test_a_length_is_a_number_or_unknown(value: str, length: int | None) -> None:
    assert http.content_length(value) == length


# -- redirects ---------------------------------------------------------------------------------------------------------


def test_a_chain_of_redirects_is_followed(cache: Path) -> None:
    def answer(handler: Handler, request: Request) -> None:
        steps = {
            f"/{NAME}": (301, "/1"),
            "/1": (302, f"{handler.server.url}/2"),
            "/2": (303, "sub/3"),
            "/sub/3": (307, "../4?signature=a%2Fb&x=1"),
            "/4?signature=a%2Fb&x=1": (308, f"//127.0.0.1:{handler.server.server_address[1]}/5"),
        }
        if request.path in steps:
            status, location = steps[request.path]
            handler.reply(request, status, b"moved", {"Location": location})
        else:
            handler.reply(request, 200, BODY)

    with serving(answer) as server:
        assert fetch(cache, server.url, NAME).path.read_bytes() == BODY
    assert [request.path for request in server.requests] == [
        f"/{NAME}",
        "/1",
        "/2",
        "/sub/3",
        "/4?signature=a%2Fb&x=1",
        "/5",
    ]


def test_a_redirect_and_its_target_share_a_connection(cache: Path) -> None:
    connections = set()

    def answer(handler: Handler, request: Request) -> None:
        connections.add(handler.client_address)
        counted_redirects(3)(handler, request)

    with serving(answer) as server:
        assert fetch(cache, server.url, NAME).path.read_bytes() == BODY
    assert len(connections) == 1


def counted_redirects(hops: int) -> Callable[[Handler, Request], None]:
    def answer(handler: Handler, request: Request) -> None:
        done = int(request.path.rpartition("-")[2]) if "-" in request.path else 0
        if done == hops:
            handler.reply(request, 200, BODY)
        else:
            handler.reply(request, 302, b"", {"Location": f"/hop-{done + 1}"})

    return answer


def test_ten_redirects_are_followed_and_eleven_are_not(cache: Path) -> None:
    with serving(counted_redirects(10)) as server:
        assert fetch(cache, server.url, NAME).path.read_bytes() == BODY
    with serving(counted_redirects(11)) as server, pytest.raises(DownloadError, match="10 redirects"):
        get(cache, server.url, NAME)


def test_a_loop_of_redirects_ends(cache: Path) -> None:
    with replying(status=302, headers={"Location": f"/{NAME}"}) as server:
        with pytest.raises(DownloadError, match="redirects on and on"):
            get(cache, server.url, NAME)
        assert len(server.requests) == 11
    assert leftovers(cache) == []


def test_the_content_of_a_redirect_is_not_read_to_its_end(cache: Path) -> None:
    """It may have none, and is of no use."""

    def answer(handler: Handler, request: Request) -> None:
        if request.path == "/moved":
            handler.reply(request, 200, BODY)
        else:
            handler.reply(request, 302, bytes(64 << 20), {"Location": "/moved"}, length=-1)

    with serving(answer) as server:
        assert fetch(cache, server.url, NAME).path.read_bytes() == BODY
        assert server.sent(f"/{NAME}") < 32 << 20


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("https://host/a", "http://host/a"),
        ("https://host/a", "http://other/a"),
        ("https://host/a", "file:///etc/passwd"),
        ("http://host/a", "file:///etc/passwd"),
        ("http://host/a", "FILE:///etc/passwd"),
        ("http://host/a", "ftp://host/a"),
        ("http://host/a", "data:text/plain,hello"),
        ("http://host/a", "javascript:alert(1)"),
        ("http://host/a", "http://[::1"),
    ],
)
def test_a_redirect_that_leaves_http_or_loses_https_is_refused(url: str, location: str) -> None:
    with pytest.raises(DownloadError, match=r"redirect of https?://host/a .*; use another"):
        HttpTransport.next_hop(url, redirect_to(location))


@pytest.mark.parametrize("pins", [{}, HASHED], ids=["unpinned", "pinned"])
def test_a_redirect_to_a_file_of_this_machine_is_not_followed(pins: dict[str, FilePin], cache: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(BODY)
    with replying(status=302, headers={"Location": f"file://{tmp_path}/secret"}) as server:
        with pytest.raises(DownloadError, match="expected to stay with http, but leads to file"):
            get(cache, server.url, NAME, pins)
        assert len(server.requests) == 1
    assert leftovers(cache) == []


def test_a_redirect_to_nowhere_is_refused(cache: Path) -> None:
    with pytest.raises(DownloadError, match="redirect of http://host/a"):
        HttpTransport.next_hop("http://host/a", redirect_to(None))


@pytest.mark.parametrize(
    ("url", "location", "target"),
    [
        ("http://host/a?x=1", "/b?y=2", "http://host/b?y=2"),
        ("https://host/a/b", "c", "https://host/a/c"),
        ("https://host/a", "//cdn/b", "https://cdn/b"),
        ("http://host/a", "https://host/a", "https://host/a"),
        ("http://host/a", "/modèle?x=1".encode().decode("latin-1"), "http://host/modèle?x=1"),
        ("http://host/a", "/mod\xe8le", "http://host/mod\xe8le"),
        ("https://me:pw@host/a", "/b", "https://me:pw@host/b"),
        ("https://me:pw@host/a", "https://HOST:443/b", "https://me:pw@HOST:443/b"),
        ("https://me:pw@host/a", "https://you@host/b", "https://you@host/b"),
        ("https://me:pw@host/a", "https://host:8443/b", "https://host:8443/b"),
        ("https://me:pw@host/a", "//cdn/b", "https://cdn/b"),
        ("http://me:pw@host/a", "https://host/a", "https://host/a"),
    ],
)
def test_a_redirect_leads_where_it_says(url: str, location: str, target: str) -> None:
    assert HttpTransport.next_hop(url, redirect_to(location)) == target


def redirect_to(location: str | None) -> requests.Response:
    response = requests.Response()
    response.status_code = 302
    if location is not None:
        response.headers["Location"] = location
    return response


@pytest.mark.parametrize(
    ("source", "name", "url"),
    [
        ("https://host/bert", "config.json", "https://host/bert/config.json"),
        ("https://host/bert/", "config.json", "https://host/bert/config.json"),
        ("https://host", "onnx/model.onnx", "https://host/onnx/model.onnx"),
        ("https://host/bert?sig=a%2Fb&v=1", "config.json", "https://host/bert/config.json?sig=a%2Fb&v=1"),
        ("https://host/bert/?sig=1", "a b#c?.json", "https://host/bert/a%20b%23c%3F.json?sig=1"),
    ],
)
def test_the_address_of_a_file_in_a_folder(source: str, name: str, url: str) -> None:
    assert HttpTransport({}).join(source, name) == url


def test_the_query_of_a_folder_is_sent_with_each_file(cache: Path) -> None:
    with file_server({f"/bert/{NAME}": BODY}) as server:
        fetch(cache, f"{server.url}/bert?signature=a%2Fb", NAME)
    assert [request.path for request in server.requests] == [f"/bert/{NAME}?signature=a%2Fb"]


# -- no answer ---------------------------------------------------------------------------------------------------------


def test_a_port_where_nobody_listens_is_a_download_error(cache: Path, dead: str) -> None:
    url = dead
    with pytest.raises(DownloadError, match=r"is expected to answer, but does not \(Connection refused\)") as caught:
        get(cache, url, NAME)
    assert f"{url}/{NAME}" in str(caught.value)
    assert caught.value.status is None
    assert leftovers(cache) == []


@pytest.mark.parametrize("url", ["http://[::1/a", "http://127.0.0.1:99999/a", "http:///a", "http://a..b/x"])
def test_an_address_that_is_none_is_a_download_error(url: str, cache: Path, unplug: Callable[[], None]) -> None:
    unplug()
    with pytest.raises(DownloadError):
        get(cache, url, NAME)


@pytest.mark.parametrize("how", ["ca_file", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_ca_bundle_that_is_not_there_is_named(how: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(how, missing := str(tmp_path / "missing.pem"))
    with file_server({}) as server, pytest.raises(DownloadError, match=re.escape(missing)):
        hosts = private(server, ca_file=missing) if how == "ca_file" else {}
        get(cache, server.url.replace("http:", "https:"), NAME, hosts=hosts)


def test_a_plain_server_behind_https_is_a_download_error(cache: Path) -> None:
    with file_server({f"/{NAME}": BODY}) as server, pytest.raises(DownloadError):
        get(cache, server.url.replace("http:", "https:"), NAME)


@pytest.mark.parametrize("sent", [None, 0, 100], ids=["no answer", "no body", "a body that stops"])
def test_a_server_that_stalls_is_a_download_error(sent: int | None, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert http._TIMEOUT == (10.0, 30.0)
    monkeypatch.setattr(http, "_TIMEOUT", (0.5, 0.3))
    done, given_up = threading.Event(), threading.Event()

    def answer(handler: Handler, request: Request) -> None:
        if sent is not None:
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(BODY)))
            handler.end_headers()
            handler.wfile.write(BODY[:sent])
        if not done.wait(20):
            given_up.set()
        handler.close_connection = True

    with serving(answer) as server:
        with pytest.raises(DownloadError):
            get(cache, server.url, NAME, HASHED)
        assert not given_up.is_set(), "the server had to end it"
        done.set()
    assert visible(cache) == []


def test_a_server_that_takes_no_connection_is_a_download_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_TIMEOUT", (0.3, 30.0))
    monkeypatch.setenv("REGISTRY_RETRIES", "0")
    given_up = threading.Event()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(4):  # a queue that is full lets nobody in, and says nothing
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)

        def end() -> None:
            given_up.set()
            listener.close()

        (timer := threading.Timer(15, end)).start()
        stack.callback(timer.cancel)
        with pytest.raises(DownloadError, match="is expected to answer, but does not"):
            get(cache, f"http://127.0.0.1:{address[1]}", NAME, HASHED)
        assert not given_up.is_set(), "the server had to end it"


@pytest.mark.parametrize("through_a_proxy", [False, True], ids=["directly", "through a proxy"])
@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\n"], ids=["in the status", "in a header"])
def test_an_answer_whose_head_drips_is_given_up(
    begin: bytes, through_a_proxy: bool, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then keeps every read in time, and would never end."""
    monkeypatch.setattr(http, "_TIMEOUT", (5.0, 0.4))
    monkeypatch.setenv("REGISTRY_RETRIES", "0")
    done, given_up = threading.Event(), threading.Event()

    def answer(handler: Handler, request: Request) -> None:
        handler.close_connection = True
        with contextlib.suppress(OSError):
            handler.wfile.write(begin)
            for _ in range(300):
                if done.wait(0.05):
                    return
                handler.wfile.write(b"H")
            given_up.set()

    with serving(answer) as server:
        if through_a_proxy:
            monkeypatch.delenv("NO_PROXY")
            monkeypatch.setenv("http_proxy", server.url)
        with pytest.raises(DownloadError, match=r"is expected to answer, but does not \((ReadTimeout|ProxyError)\)"):
            get(cache, "http://models.acme.internal" if through_a_proxy else server.url, NAME, HASHED)
        assert not given_up.is_set(), "the server had to end it"
        done.set()
    assert visible(cache) == []


@pytest.mark.parametrize("pins", [{}, HASHED], ids=["unpinned", "pinned"])
def test_a_hit_does_not_wait_for_a_server_that_hangs(pins: dict[str, FilePin], cache: Path) -> None:
    hangs, done = threading.Event(), threading.Event()

    def answer(handler: Handler, request: Request) -> None:
        if hangs.is_set():
            done.wait(20)
        handler.reply(request, 200, BODY)

    with serving(answer) as server:
        fetch(cache, server.url, NAME, pins)
        hangs.set()
        assert fetch(cache, server.url, NAME, pins).path.read_bytes() == BODY
        assert len(server.requests) == 1
        done.set()


# -- secrets -----------------------------------------------------------------------------------------------------------


def authorizations(server: Server) -> list[str | None]:
    return [request.headers.get("authorization") for request in server.requests]


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("ACME_TOKEN", "s3cr3t")
    return "s3cr3t"


def origin(server: Server) -> str:
    return server.url.removeprefix("http://")


def test_a_token_goes_to_its_own_origin(cache: Path, token: str) -> None:
    with file_server({f"/{NAME}": BODY}) as ours, file_server({f"/{NAME}": OTHER}) as theirs:
        for server in (ours, theirs):
            fetch(cache, server.url, NAME, hosts=host(origin(ours), "ACME_TOKEN"))
    assert authorizations(ours) == [f"Bearer {token}"]
    assert authorizations(theirs) == [None]


def test_a_token_whose_variable_is_unset_is_not_sent(cache: Path) -> None:
    with file_server({f"/{NAME}": BODY}) as server:
        fetch(cache, server.url, NAME, hosts=host(origin(server), "ACME_TOKEN"))
    assert authorizations(server) == [None]


@pytest.mark.parametrize("named", ["host and port", "host"])
def test_a_token_does_not_follow_a_redirect_to_another_port(named: str, cache: Path, token: str) -> None:
    with (
        file_server({"/moved": BODY}) as other,
        replying(status=302, headers={"Location": f"{other.url}/moved"}) as first,
    ):
        hosts = host(origin(first) if named == "host and port" else "127.0.0.1", "ACME_TOKEN")
        assert fetch(cache, first.url, NAME, hosts=hosts).path.read_bytes() == BODY
    assert authorizations(other) == [None]
    assert authorizations(first) == [f"Bearer {token}" if named == "host and port" else None]


@pytest.mark.parametrize("by", ["token", "address", "netrc"])
def test_a_secret_does_not_follow_a_redirect_to_another_host(by: str, cache: Path, token: str, netrc: str) -> None:
    """Not even where that is another name of the same machine, with the same port."""

    def answer(handler: Handler, request: Request) -> None:
        if request.path == "/moved":
            handler.reply(request, 200, BODY)
        else:
            port = handler.server.server_address[1]
            handler.reply(request, 302, b"", {"Location": f"http://localhost:{port}/moved"})

    with serving(answer) as server:
        url = server.url.replace("//", "//me:hunter2@") if by == "address" else server.url
        hosts = host(origin(server), "ACME_TOKEN") if by == "token" else None
        assert fetch(cache, url, NAME, hosts=hosts).path.read_bytes() == BODY
        assert [request.path for request in server.requests] == [f"/{NAME}", "/moved"]
        assert authorizations(server) == [f"Bearer {token}" if by == "token" else netrc, None]


def test_a_token_follows_a_redirect_within_its_origin(cache: Path, token: str) -> None:
    with serving(counted_redirects(2)) as server:
        fetch(cache, server.url, NAME, hosts=host(origin(server), "ACME_TOKEN"))
    assert authorizations(server) == [f"Bearer {token}"] * 3


@pytest.mark.parametrize(
    ("url", "name", "sent"),
    [
        ("https://models.acme.internal/a", "models.acme.internal", True),
        ("https://MODELS.acme.internal:443/a", "models.acme.internal", True),
        ("https://models.acme.internal/a", "models.acme.internal:443", True),
        ("https://models.acme.internal:8443/a", "models.acme.internal:8443", True),
        ("https://me@models.acme.internal/a", "models.acme.internal", True),
        ("http://127.0.0.1:80/a", "127.0.0.1", True),
        ("http://localhost:8000/a", "localhost:8000", True),
        ("http://models.acme.internal/a", "models.acme.internal", False),
        ("http://models.acme.internal/a", "models.acme.internal:80", False),
        ("https://models.acme.internal:8443/a", "models.acme.internal", False),
        ("https://models.acme.internal/a", "models.acme.internal:8443", False),
        ("https://other.acme.internal/a", "models.acme.internal", False),
        ("https://models.acme.internal.evil.example/a", "models.acme.internal", False),
        ("https://models.acme.internal@evil.example/a", "models.acme.internal", False),
        ("http://localhost.evil.example:8000/a", "localhost.evil.example:8000", False),
    ],
)
def test_a_token_is_only_for_its_origin_over_https_or_on_this_machine(url: str, name: str, sent: bool, token: str) -> None:
    assert Credentials(host(name, "ACME_TOKEN")).token(url) == (("Authorization", f"Bearer {token}") if sent else None)


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A `.netrc` for this machine; returns the header that it means."""
    path = tmp_path / "netrc"
    path.write_text("machine 127.0.0.1 login me password hunter2\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    return str(requests.auth._basic_auth_str("me", "hunter2"))


def test_netrc_does_not_replace_a_token(cache: Path, token: str, netrc: str) -> None:
    with file_server({f"/{NAME}": BODY}) as server:
        fetch(cache, server.url, NAME, hosts=host(origin(server), "ACME_TOKEN"))
    assert authorizations(server) == [f"Bearer {token}"]


def test_netrc_does_not_replace_what_the_address_says(cache: Path, netrc: str) -> None:
    with file_server({f"/{NAME}": BODY}) as server:
        fetch(cache, server.url.replace("//", "//you:tr0ub4dor@"), NAME)
    assert authorizations(server) == [requests.auth._basic_auth_str("you", "tr0ub4dor")]


def test_netrc_is_the_last_resort(cache: Path, netrc: str) -> None:
    with file_server({f"/{NAME}": BODY}) as server:
        fetch(cache, server.url, NAME)
    assert authorizations(server) == [netrc]


def test_a_password_in_the_address_reaches_its_own_origin_only(cache: Path) -> None:
    with (
        file_server({"/moved": BODY}) as other,
        replying(status=302, headers={"Location": f"{other.url}/moved"}) as first,
    ):
        fetch(cache, first.url.replace("//", "//me:hunter2@"), NAME)
    assert authorizations(first) == [requests.auth._basic_auth_str("me", "hunter2")]
    assert authorizations(other) == [None]


def test_a_password_in_the_address_follows_a_redirect_within_its_origin(cache: Path) -> None:
    """Many servers redirect by whole addresses, which say no password."""

    def answer(handler: Handler, request: Request) -> None:
        if request.path == "/moved":
            handler.reply(request, 200, BODY)
        else:
            handler.reply(request, 302, b"", {"Location": f"{handler.server.url}/moved"})

    with serving(answer) as server:
        fetch(cache, server.url.replace("//", "//me:hunter2@"), NAME)
    assert authorizations(server) == [requests.auth._basic_auth_str("me", "hunter2")] * 2


def test_a_cookie_of_one_origin_reaches_no_other(cache: Path) -> None:
    """Cookies know no ports (RFC 6265, 8.5), and one that was set over https may be sent in the clear."""
    with (
        file_server({"/moved": BODY}) as other,
        replying(status=302, headers={"Set-Cookie": "session=s3cr3t; Path=/", "Location": f"{other.url}/moved"}) as first,
    ):
        fetch(cache, first.url, NAME)
    assert "cookie" not in other.requests[0].headers


SECRETS = ("hunter2", "tr0ub4dor", "s3cr3t", "r3d1r3ct")


def with_secrets(url: str) -> str:
    return f"{url.replace('//', f'//me:{SECRETS[0]}@')}/bert?token={SECRETS[1]}"


def everything_shown(error: BaseException | None) -> str:
    """Return all that an error and what hangs on to it say, as a tool that collects errors would."""
    shown = []
    while error is not None:
        shown += [repr(error), str(vars(error)), *traceback.format_exception(error)]
        error = error.__cause__ or error.__context__
    return "".join(shown)


MISHAPS: dict[str, tuple[dict[str, object], dict[str, FilePin]]] = {
    **{name: (how, pins) for name, (how, pins, _, _) in FAILURES.items()},
    "a redirect that is refused": ({"status": 302, "headers": {"Location": "file:///r3d1r3ct?r3d1r3ct"}}, {}),
    "a redirect that is broken": ({"status": 302, "headers": {"Location": "http://r3d1r3ct@[r3d1r3ct"}}, {}),
    "a redirect to nobody": ({"status": 302, "headers": {"Location": "http://u:r3d1r3ct@127.0.0.1:1/a?k=r3d1r3ct"}}, {}),
    "headers that nobody can read": ({"headers": {"A: 1\r\nno colon\r\nB": "2"}, "length": -1}, {}),
    "a loop": ({"status": 302, "headers": {"Location": "?r3d1r3ct"}}, {}),
    "a missing file": ({"status": 404}, {}),
}


@pytest.mark.parametrize(("how", "pins"), MISHAPS.values(), ids=list(MISHAPS))
def test_no_secret_is_shown_whatever_goes_wrong(
    how: dict[str, object], pins: dict[str, FilePin], cache: Path, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    with replying(**how) as server, caplog.at_level(logging.DEBUG):
        try:
            assert get(cache, with_secrets(server.url), NAME, pins, hosts=host(origin(server), "ACME_TOKEN")) is None
            shown = ""
        except RegistryError as error:
            shown = everything_shown(error)
    written = b"".join(path.read_bytes() + bytes(path) for path in cache.rglob("*") if path.is_file())
    assert not [secret for secret in SECRETS if secret in shown + caplog.text or secret.encode() in written]


def test_no_secret_is_logged_when_the_head_of_an_answer_is_broken(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    """urllib3 warns of it, with the whole address and all that it could not read."""

    def answer(handler: Handler, request: Request) -> None:
        if request.path.startswith("/bert"):
            handler.wfile.write(b"HTTP/1.1 302 Found\r\nLocation: /moved?k=r3d1r3ct\r\nbroken\r\nX-Link: r3d1r3ct\r\n\r\n")
            handler.close_connection = True
        else:
            handler.reply(request, 200, BODY)

    with serving(answer) as server, caplog.at_level(logging.DEBUG):
        assert fetch(cache, with_secrets(server.url), NAME).path.read_bytes() == BODY
    assert "Failed to parse headers" in caplog.text
    assert not [secret for secret in SECRETS if secret in caplog.text]


def test_no_secret_is_shown_when_nobody_answers(cache: Path, token: str, caplog: pytest.LogCaptureFixture, dead: str) -> None:
    url = dead
    with caplog.at_level(logging.INFO, logger="registry"), pytest.raises(DownloadError) as caught:
        get(cache, with_secrets(url), NAME, hosts=host(url.removeprefix("http://"), "ACME_TOKEN"))
    assert not [secret for secret in SECRETS if secret in everything_shown(caught.value) + caplog.text]


# -- a name is known before the network is asked -----------------------------------------------------------------------


def catalog(folder: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "models.yaml"
    path.write_text(f"registry: 1\nmodels:\n  acme-support: {{family: bert, source: '{source}'}}\n")
    monkeypatch.setenv("REGISTRY_MODELS", str(path))


@pytest.mark.parametrize("how", [{"status": 404}, {"status": 401}, {"status": 500}, {"cut": 1}, {"length": -1}, None])
def test_a_network_failure_never_reads_as_an_unknown_name(
    how: dict[str, object] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dead: str
) -> None:
    with replying(**(how or {})) as server:
        catalog(tmp_path, server.url if how else dead, monkeypatch)
        for use in (registry.load, registry.load_config, registry.load_tokenizer, registry.fetch):
            with pytest.raises(DownloadError) as caught:
                use("acme-support")
            assert not isinstance(caught.value, UnknownModel | LookupError)


def test_a_name_that_cannot_be_looked_up_in_dns_is_a_download_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "address is not found")

    catalog(tmp_path, "https://models.acme.internal/support", monkeypatch)
    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(DownloadError, match=r"models\.acme\.internal.*address is not found"):
        registry.fetch("acme-support")


def test_an_unknown_name_asks_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unplug: Callable[[], None]) -> None:
    catalog(tmp_path, "https://models.acme.internal/support", monkeypatch)
    unplug()
    with pytest.raises(UnknownModel, match="acme-support"):
        registry.load("acme-suport")


# -- private hosts -----------------------------------------------------------------------------------------------------


def private(server: Server, **fields: object) -> dict[str, Host]:
    name = origin(server)
    return {name: Host(name=name, origin=Origin("models.yaml", 1, 1), **fields)}  # type: ignore[arg-type]


def test_a_token_may_have_a_header_of_its_own_which_no_other_origin_gets(cache: Path, token: str) -> None:
    with (
        file_server({"/moved": BODY}) as other,
        replying(status=302, headers={"Location": f"{other.url}/moved"}) as first,
    ):
        fetch(cache, first.url, NAME, hosts=private(first, token_env="ACME_TOKEN", header="X-Private-Token"))
    assert [request.headers.get("x-private-token") for request in first.requests] == [token]
    assert authorizations(first) == [None]
    assert "x-private-token" not in other.requests[0].headers


def test_the_mirrors_of_a_host_are_asked_after_it_for_the_same_path(cache: Path) -> None:
    files = {f"/pool/bert/{NAME}": BODY}
    with replying(status=503) as down, file_server({}) as empty, file_server(files) as mirror, file_server(files) as spare:
        hosts = private(down, mirrors=(f"{empty.url}/", f"{mirror.url}/pool/", spare.url))
        assert fetch(cache, f"{down.url}/bert", NAME, hosts=hosts).path.read_bytes() == BODY
    assert [request.path for request in (*empty.requests, *mirror.requests)] == [f"/bert/{NAME}", f"/pool/bert/{NAME}"]
    assert spare.requests == []


def test_a_mirror_of_a_host_gets_no_token_but_its_own(cache: Path, token: str) -> None:
    with replying(status=503) as down, file_server({f"/{NAME}": BODY}) as mirror:
        fetch(cache, down.url, NAME, hosts=private(down, token_env="ACME_TOKEN", mirrors=(mirror.url,)))
        assert authorizations(mirror) == [None]
        assert set(authorizations(down)) == {f"Bearer {token}"}


def test_a_mirror_of_a_host_is_held_to_the_pin(cache: Path) -> None:
    with replying(status=503) as down, file_server({f"/{NAME}": OTHER}) as mirror, pytest.raises(DownloadError, match="503"):
        get(cache, down.url, NAME, HASHED, hosts=private(down, mirrors=(mirror.url,)))


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    ("fields", "value", "says"),
    [
        (
            {"token_env": "ACME_TOKEN"},
            None,
            "ACME_TOKEN, which is to hold the token of {0} (models.yaml:1), is not set; set it",
        ),
        ({"token_env": "ACME_TOKEN"}, " ", "ACME_TOKEN, which is to hold the token of {0} (models.yaml:1), is not set; set it"),
        ({"token_env": "ACME_TOKEN"}, "t0k3n", "check the token in ACME_TOKEN (models.yaml:1)"),
        ({"token_env": "ACME_TOKEN", "header": "X-Token"}, "t0k3n", "check the token in ACME_TOKEN (models.yaml:1)"),
        (
            {},
            None,
            "the entry of {0} (models.yaml:1) names no token_env, so no token was sent: write `hosts: {{'{0}': {{token_env",
        ),
    ],
)
def test_a_refusal_says_which_token_is_missing_or_wrong(
    status: int, fields: dict[str, object], value: str | None, says: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is not None:
        monkeypatch.setenv("ACME_TOKEN", value)
    with replying(status=status) as server, pytest.raises(DownloadError) as caught:
        get(cache, server.url, NAME, hosts=private(server, **fields))
    assert f"answers {status}; {says.format(origin(server))}" in str(caught.value)
    assert "t0k3n" not in str(caught.value)


def test_a_refusal_at_the_end_of_a_redirect_is_about_the_host_there(cache: Path, token: str) -> None:
    with (
        replying(status=401) as other,
        replying(status=302, headers={"Location": f"{other.url}/x"}) as first,
        pytest.raises(DownloadError, match=f"no `hosts:` entry names {origin(other)}, so no token was sent"),
    ):
        get(cache, first.url, NAME, hosts=private(first, token_env="ACME_TOKEN"))


def test_a_refused_password_of_an_address_is_named_without_it(cache: Path) -> None:
    with replying(status=401) as server, pytest.raises(DownloadError, match="check the user and password for") as caught:
        get(cache, server.url.replace("//", "//me:hunter2@"), NAME)
    assert "hunter2" not in str(caught.value)


def test_connections_are_closed_while_other_threads_make_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = HttpTransport({})
    made = [transport._session]

    def close(self: requests.Session) -> None:  # meanwhile another thread asks for its first one
        if len(made) == 1:
            thread = threading.Thread(target=lambda: made.append(transport._session))
            thread.start()
            thread.join()

    monkeypatch.setattr(requests.Session, "close", close)
    transport.close()
    assert len(made) == 2


# -- addresses that two programs read differently ----------------------------------------------------------------------


def test_a_redirect_to_the_host_before_a_backslash_is_refused(cache: Path, token: str) -> None:
    with file_server({}) as other, serving(lambda handler, request: None) as own:
        target = f"{other.url}\\@{origin(own)}/{NAME}"
        own.answer = lambda handler, request: handler.reply(request, 302, headers={"Location": target})
        with pytest.raises(DownloadError, match="leads to an address without a clear host"):
            fetch(cache, own.url, NAME, hosts=private(own, token_env="ACME_TOKEN"))
        assert set(authorizations(own)) == {f"Bearer {token}"}
    assert other.requests == []


@pytest.mark.parametrize("form", ["{other}\\@{own}", "{other}\t@{own}", "{other} @{own}", "{other}\\.{own}"])
def test_a_source_with_two_hosts_is_asked_for_at_neither(cache: Path, token: str, form: str) -> None:
    with file_server({f"/{NAME}": BODY}) as other, file_server({f"/{NAME}": BODY}) as own:
        source = f"http://{form.format(other=origin(other), own=origin(own))}/"
        with pytest.raises(DownloadError, match="before its path") as caught:
            fetch(cache, source, NAME, hosts=private(own, token_env="ACME_TOKEN"))
        assert origin(own) not in str(caught.value)
    assert other.requests == own.requests == []


def test_netrc_is_not_sent_in_the_clear_to_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "netrc"
    path.write_text("machine models.acme.internal login me password hunter2\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))

    def signed(url: str) -> str | None:
        request = requests.Request("GET", url).prepare()
        Credentials({}).sign(request)
        return request.headers.get("Authorization")

    assert signed("https://models.acme.internal/a") == requests.auth._basic_auth_str("me", "hunter2")
    assert signed("http://models.acme.internal/a") is None


# -- proxies -----------------------------------------------------------------------------------------------------------


def test_a_proxy_of_the_environment_is_used_and_its_failure_is_said_to_be_its(
    cache: Path, monkeypatch: pytest.MonkeyPatch, dead: str
) -> None:
    monkeypatch.setenv("http_proxy", dead.replace("//", "//me:hunter2@"))
    monkeypatch.delenv("NO_PROXY")
    with pytest.raises(DownloadError, match=r"the proxy for .* is expected to answer, but does not") as caught:
        get(cache, "http://models.acme.internal/bert", NAME)
    assert "hunter2" not in everything_shown(caught.value)


PROXIES = ["http_proxy", "all_proxy", "HTTP_PROXY", "an argument", "an argument for all"]


@contextlib.contextmanager
def proxied(how: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, dict[str, str]]]:
    """Run a proxy that is set in one way; yield it with what is to be given as argument."""
    monkeypatch.delenv("NO_PROXY", raising=False)
    with replying(body=BODY) as proxy:
        if "argument" not in how:
            monkeypatch.setenv(how, proxy.url)
        yield proxy, {"all" if how.endswith("all") else "http": proxy.url} if "argument" in how else {}


@pytest.mark.parametrize("how", PROXIES)
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_this_machine_is_asked_without_a_proxy_and_with_its_token(
    name: str, how: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with file_server({"/a": BODY}) as server, proxied(how, monkeypatch) as (proxy, proxies):
        url = server.url.replace("127.0.0.1", name) + "/a"
        transport = HttpTransport(host(url.split("/")[2], "ACME_TOKEN"), proxies)
        with transport.open(transport.describe(url)) as body:
            assert b"".join(body.pieces) == BODY
        transport.close()
        assert proxy.requests == [] and authorizations(server) == [f"Bearer {token}"]


@pytest.mark.parametrize("how", PROXIES)
@pytest.mark.parametrize("user", ["", "me:hunter2@"], ids=["a token", "a password in the address"])
def test_no_secret_goes_through_a_proxy_in_the_clear(user: str, how: str, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxied(how, monkeypatch) as (proxy, proxies):
        transport = HttpTransport(host("models.acme.internal", "ACME_TOKEN"), proxies)
        with transport.open(transport.describe(f"http://{user}models.acme.internal/a")) as body:
            assert b"".join(body.pieces) == BODY
        transport.close()
        (request,) = proxy.requests
        assert "authorization" not in request.headers and request.path == "http://models.acme.internal/a"


def test_a_redirect_of_this_machine_to_another_goes_through_the_proxy_without_the_token(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    redirect = {"Location": "http://models.acme.internal/a"}
    with proxied("http_proxy", monkeypatch) as (proxy, _), replying(status=302, headers=redirect) as server:
        transport = HttpTransport(host(server.url.split("/")[2], "ACME_TOKEN") | host("models.acme.internal", "ACME_TOKEN"))
        with transport.open(transport.describe(server.url)) as body:
            assert b"".join(body.pieces) == BODY
        transport.close()
        assert authorizations(server) == [f"Bearer {token}"] and authorizations(proxy) == [None]


def test_a_request_goes_through_the_proxy_that_is_set(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY")
    with replying(body=BODY) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert fetch(cache, "http://models.acme.internal/bert", NAME).path.read_bytes() == BODY
        (request,) = proxy.requests
        assert request.path == f"http://models.acme.internal/bert/{NAME}"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_a_password_is_said_to_and_not_asked_again(
    scheme: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setattr(Handler, "do_CONNECT", Handler.do_GET, raising=False)
    with replying(status=407) as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", proxy.url)
        with pytest.raises(DownloadError, match=r"the proxy for .* 407.*user and password"):
            get(cache, f"{scheme}://models.acme.internal/bert", NAME)
        assert len(proxy.requests) == 1
