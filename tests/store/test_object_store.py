"""Object stores: a real S3 interface, cut and changed under our hands; and what must not be shown when it says no."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import ssl
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from urllib.request import Request as UrlRequest
from urllib.request import urlopen

import boto3
import moto.server
import pytest
import trustme

import registry
import registry.store.download
from registry.catalog.entry import FilePin
from registry.errors import DownloadError, IntegrityError, RegistryError
from registry.store.transports import FileMissing, RangeRefused, Span, Transient, object_store
from registry.store.transports.object_store import ObjectStoreTransport
from tests.proxies import Proxy, cutting_proxy
from tests.servers import Handler, Request, Server, serving
from tests.store.helpers import BODY, OTHER, fetch, get, leftovers, pinned, sha256

NAME = "model.safetensors"
SOURCE = "s3://models/bert"
KEY, SECRET, SESSION = "AKIAHUNTER2", "tr0ub4dor", "s3ss10n"
BIG = random.Random(7).randbytes(3 << 20)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials of this test, and nothing of this machine's."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "GOOGLE_", "AZURE_")):
            monkeypatch.delenv(name)
    for name, value in (("ACCESS_KEY_ID", KEY), ("SECRET_ACCESS_KEY", SECRET), ("SESSION_TOKEN", SESSION)):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    """The port of an S3 interface."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = moto.server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    yield running.get_host_and_port()[1]
    running.stop()


class S3:
    """A client that puts objects into the store."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id="putter",
            aws_secret_access_key="putter",
        )
        self._client.create_bucket(Bucket="models")

    def put(self, key: str, body: bytes, **how: str) -> None:
        self._client.put_object(Bucket="models", Key=key, Body=body, **how)


@pytest.fixture
def s3(server: int, monkeypatch: pytest.MonkeyPatch) -> S3:
    """An S3 interface with one empty bucket, which the environment names."""
    urlopen(UrlRequest(f"http://127.0.0.1:{server}/moto-api/reset", method="POST")).close()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server}")
    return S3(server)


@pytest.fixture
def proxy(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the S3 interface."""
    with cutting_proxy(s3.port) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        yield running


# -- what arrives ------------------------------------------------------------------------------------------------------


def test_a_pinned_object_is_fetched_and_checked(s3: S3, cache: Path) -> None:
    s3.put(f"bert/{NAME}", BODY)
    file = fetch(cache, SOURCE, NAME, pinned(NAME, BODY, len(BODY)))
    assert file.path.read_bytes() == BODY
    assert (file.sha256, file.trust) == (sha256(BODY), "catalog")


def test_an_unpinned_object_is_trusted_on_first_use_and_held_to_it(s3: S3, cache: Path) -> None:
    s3.put(f"bert/{NAME}", BODY, ChecksumAlgorithm="SHA256")
    assert fetch(cache, f"{SOURCE}/", NAME).trust == "first-use"
    s3.put(f"bert/{NAME}", OTHER)
    assert fetch(cache, SOURCE, NAME).path.read_bytes() == BODY


def test_a_wrong_object_is_refused(s3: S3, cache: Path) -> None:
    s3.put(f"bert/{NAME}", OTHER)
    with pytest.raises(IntegrityError):
        get(cache, SOURCE, NAME, pinned(NAME, BODY, len(BODY)))


@pytest.mark.parametrize("key", ["empty", "a b", "a%20b", "ü", "a+b", "a&b=c", "a#b", "a%23b", "100%"])
def test_a_key_is_taken_as_it_is(key: str, s3: S3, cache: Path) -> None:
    body = b"" if key == "empty" else key.encode()
    s3.put(f"bert/{key}", body)
    assert fetch(cache, SOURCE, key).path.read_bytes() == body


def test_an_object_is_described_by_its_size_and_no_hash(s3: S3) -> None:
    s3.put("a", BODY)
    found = ObjectStoreTransport().describe("s3://models/a")
    assert (found.size, found.sha256, found.git_sha1) == (len(BODY), None, None)


def test_a_model_whose_source_is_a_bucket_is_fetched_by_name(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put("support/config.json", b'{"model_type": "bert"}')
    s3.put("support/vocab.txt", b"[PAD]\n[UNK]\n")
    s3.put("support/model.safetensors", BODY)
    path = tmp_path / "models.yaml"
    path.write_text("registry: 1\nmodels:\n  acme-support: {family: bert, source: 's3://models/support'}\n")
    monkeypatch.setenv("REGISTRY_MODELS", str(path))
    folder = Path(registry.fetch("acme-support"))
    assert (folder / "model.safetensors").read_bytes() == BODY
    assert (folder / "vocab.txt").read_bytes() == b"[PAD]\n[UNK]\n"


# -- what breaks off ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pins", [{}, pinned(NAME, BIG, len(BIG))], ids=["unpinned", "pinned"])
def test_a_cut_is_gone_on_from(pins: dict[str, FilePin], s3: S3, proxy: Proxy, cache: Path) -> None:
    s3.put(f"bert/{NAME}", BIG)
    proxy.cut_after = 2 << 20
    assert fetch(cache, SOURCE, NAME, pins).path.read_bytes() == BIG
    assert proxy.cuts == 1
    assert proxy.bytes < len(BIG) + (1 << 19)  # the first two megabytes came once


def test_another_process_goes_on_from_a_cut(s3: S3, proxy: Proxy, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put(f"bert/{NAME}", BIG)
    monkeypatch.setenv("REGISTRY_RETRIES", "0")
    proxy.cut_after = 2 << 20
    with pytest.raises(DownloadError, match="broke off"):
        get(cache, SOURCE, NAME)
    before = proxy.bytes
    assert fetch(cache, SOURCE, NAME).path.read_bytes() == BIG
    assert proxy.bytes - before < 3 << 19


@pytest.mark.parametrize("where", ["pinned", "unpinned"])
def test_an_object_that_changed_after_a_cut_is_never_spliced(
    where: str, s3: S3, proxy: Proxy, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put(f"bert/{NAME}", BIG[::-1])
    monkeypatch.setenv("REGISTRY_RETRIES", "0")
    proxy.cut_after = 2 << 20
    pins = pinned(NAME, BIG, len(BIG)) if where == "pinned" else {}
    with pytest.raises(DownloadError, match="broke off"):
        get(cache, SOURCE, NAME, pins)
    s3.put(f"bert/{NAME}", BIG)
    assert fetch(cache, SOURCE, NAME, pins).path.read_bytes() == BIG


def test_a_part_of_another_version_is_refused(s3: S3) -> None:
    s3.put("a", BODY)
    transport = ObjectStoreTransport()
    resource = transport.describe("s3://models/a")
    with transport.open(resource, Span(0, 100)) as body:
        assert b"".join(body.pieces) == BODY[:100]
        assert (body.start, body.stop, body.size, body.ranges) == (0, 100, len(BODY), True)
        validator = body.validator
    with transport.open(resource, Span(100, None, validator)) as body:
        assert b"".join(body.pieces) == BODY[100:]
        assert body.stop == len(BODY)
    s3.put("a", OTHER)
    with pytest.raises(RangeRefused), transport.open(resource, Span(100, 200, validator)):
        pass
    with pytest.raises(RangeRefused), transport.open(resource, Span(len(BODY) + 1, None)):
        pass


def test_parts_come_at_once(s3: S3, proxy: Proxy, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_PARALLEL", "4")
    monkeypatch.setattr(registry.store.download, "_PARTS_FROM", 1 << 20)
    monkeypatch.setattr(registry.store.download, "_PART", 1 << 18)
    monkeypatch.setattr(registry.store.download, "_PROBE", 1 << 18)
    s3.put(f"bert/{NAME}", BIG)
    proxy.rate = 4e6
    proxy.cut_after = 2 << 20
    assert fetch(cache, SOURCE, NAME).path.read_bytes() == BIG
    assert (proxy.cuts, proxy.connections >= 4) == (1, True)


HEAD = {"ETag": '"one"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}


def at(server: Server, monkeypatch: pytest.MonkeyPatch) -> ObjectStoreTransport:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    return ObjectStoreTransport()


def test_a_store_that_knows_no_conditions_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(handler: Handler, request: Request) -> None:
        part = {"Content-Range": f"bytes 10-19/{len(BODY)}"} if request.method == "GET" else {}
        handler.reply(request, 206 if part else 200, BODY[10:20], {**HEAD, **part})

    with serving(answer) as server:
        transport = at(server, monkeypatch)
        resource = transport.describe("s3://models/a")
        with transport.open(resource, Span(10, 20, '"one"')) as body:
            assert b"".join(body.pieces) == BODY[10:20]
        assert [request.headers.get("if-match") for request in server.requests] == [None, '"one"']
        with pytest.raises(RangeRefused, match="changed"), transport.open(resource, Span(10, 20, '"two"')):
            pass
        with pytest.raises(RangeRefused), transport.open(resource, Span(11, 20, '"one"')):
            pass


def test_a_range_that_is_ignored_is_refused_and_a_weak_etag_names_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda handler, request: handler.reply(request, 200, BODY, {**HEAD, "ETag": 'W/"one"'})) as server:
        transport = at(server, monkeypatch)
        resource = transport.describe("s3://models/a")
        with pytest.raises(RangeRefused), transport.open(resource, Span(0, 20)):
            pass
        with transport.open(resource) as body:
            assert body.validator is None


@pytest.mark.parametrize("encoding", ["gzip", "aws-chunked"])
def test_only_unencoded_content_is_taken(encoding: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = {**HEAD, "Content-Encoding": encoding}
    with serving(lambda handler, request: handler.reply(request, 200, BODY, headers)) as server:
        at(server, monkeypatch)
        if encoding == "gzip":
            with pytest.raises(DownloadError, match="gzip"):
                get(cache, SOURCE, NAME)
        else:
            assert fetch(cache, SOURCE, NAME).path.read_bytes() == BODY


# -- time --------------------------------------------------------------------------------------------------------------


def slowly(pause: float, times: int, size: int) -> Callable[[Handler, Request], None]:
    """Answer with pauses between pieces."""

    def answer(handler: Handler, request: Request) -> None:
        handler.send_response(200)
        for key, value in {**HEAD, "Content-Length": str(times * size)}.items():
            handler.send_header(key, value)
        handler.end_headers()
        if request.method == "GET":
            for _ in range(times):
                try:
                    handler.wfile.write(bytes(size))
                except OSError:
                    return
                time.sleep(pause)

    return answer


def read(transport: ObjectStoreTransport) -> int:
    with transport.open(transport.describe("s3://models/a")) as body:
        return sum(map(len, body.pieces))


def test_a_slow_object_is_waited_for_and_a_stalled_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "_READ", timedelta(seconds=1))
    with serving(slowly(0.1, 15, 2000)) as server:
        assert read(at(server, monkeypatch)) == 30_000
    with serving(slowly(3, 2, 2000)) as server, pytest.raises(Transient, match="nothing came in time"):
        read(at(server, monkeypatch))
    with serving(slowly(0.1, 40, 1)) as server, pytest.raises(Transient, match="next to nothing"):
        read(at(server, monkeypatch))


def test_a_download_has_no_limit_as_a_whole() -> None:
    assert timedelta(days=365) < object_store._WHOLE


@pytest.mark.slow
def test_a_download_may_take_longer_than_what_obstore_allows_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(slowly(1, 33, 2000)) as server:
        assert read(at(server, monkeypatch)) == 66_000


# -- who asks ----------------------------------------------------------------------------------------------------------


def answers(server: Server) -> list[str | None]:
    return [request.headers.get("authorization") for request in server.requests]


def test_requests_are_signed_with_the_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda handler, request: handler.reply(request, 200, BODY, HEAD)) as server:
        read(at(server, monkeypatch))
    assert all(f"Credential={KEY}/" in (header or "") for header in answers(server))
    assert {request.headers["x-amz-security-token"] for request in server.requests} == {SESSION}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_what_is_sent_to_this_machine_goes_through_no_proxy(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with (
        serving(lambda handler, request: handler.reply(request, 200, b"")) as proxy,
        serving(lambda handler, request: handler.reply(request, 404, b"")) as server,
    ):
        for variable in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(variable, proxy.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url.replace("127.0.0.1", host))
        with pytest.raises(DownloadError):
            ObjectStoreTransport().describe("s3://bucket/a")
        assert proxy.requests == [] and server.requests


def test_requests_without_credentials_go_unsigned_and_ask_no_metadata_service(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"):
        monkeypatch.delenv(f"AWS_{name}")
    with (
        serving(lambda handler, request: handler.reply(request, 500)) as metadata,
        serving(lambda handler, request: handler.reply(request, 200, BODY, HEAD)) as server,
    ):
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", metadata.url)
        read(at(server, monkeypatch))
        assert (answers(server), metadata.requests) == ([None, None], [])


@pytest.mark.parametrize("scheme", ["gs", "az"])
def test_other_stores_are_asked_unsigned_too(scheme: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = {**HEAD, "x-goog-generation": "1"}
    with serving(lambda handler, request: handler.reply(request, 200, BODY, headers)) as server:
        monkeypatch.setenv("GOOGLE_BASE_URL", server.url)
        monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", server.url)
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "acme")
        assert fetch(cache, f"{scheme}://models/bert", NAME).path.read_bytes() == BODY
        assert answers(server) == [None, None]
        assert f"models/bert/{NAME}" in unquote(server.requests[0].path)


# -- what is shown when it says no -------------------------------------------------------------------------------------

SECRETS = (KEY, SECRET, SESSION, "hunter2", "<Error>", "Debug source")


def everything_shown(error: BaseException | None) -> str:
    """Return all that an error holds, and those that it hangs on to."""
    shown = ""
    while error is not None:
        shown += "".join([repr(error), str(vars(error)), *traceback.format_exception(error, chain=False)])
        error = error.__cause__ or error.__context__
    return shown


def says_no(status: int, code: str = "Denied", **headers: str) -> Callable[[Handler, Request], None]:
    body = f"<Error><Code>{code}</Code><AWSAccessKeyId>{KEY}</AWSAccessKeyId><T>{SECRET} hunter2</T></Error>".encode()
    return lambda handler, request: handler.reply(request, status, body, {k.replace("_", "-"): v for k, v in headers.items()})


#: What the store answers, what kind of error that is, and what it says.
NO: dict[str, tuple[Callable[[Handler, Request], None], type[RegistryError] | None, str]] = {
    "no such key": (says_no(404, "NoSuchKey"), None, ""),
    "no such bucket": (says_no(404, "NoSuchBucket"), DownloadError, "bucket of s3://models/bert/model.safetensors is expected"),
    "forbidden": (says_no(403), DownloadError, "answers 403.*set AWS_ACCESS_KEY_ID"),
    "no credentials": (says_no(401), DownloadError, "answers 401"),
    "wrong region": (says_no(301), DownloadError, "set AWS_REGION"),
    "wrong region, said otherwise": (
        says_no(400, "AuthorizationHeaderMalformed"),
        DownloadError,
        "answers 400.*set AWS_REGION",
    ),
    "too many requests": (says_no(429), DownloadError, r"answers 429; try again later \(after 5 tries\)"),
    "busy": (says_no(503, Retry_After="0"), DownloadError, r"answers 503.*\(after 5 tries\)"),
    "a loop": (says_no(307, Location="/?hunter2"), DownloadError, "redirects on and on"),
    "a redirect to nobody": (says_no(307, Location="http://u:hunter2@127.0.0.1:1/a?k=hunter2"), DownloadError, "connection"),
    "cut": (lambda h, r: h.reply(r, 200, BODY, HEAD, cut=99), DownloadError, "broke off"),
}


@pytest.mark.parametrize(("answer", "kind", "says"), NO.values(), ids=list(NO))
def test_a_refusal_is_clear_and_shows_no_secret(
    answer: Callable[[Handler, Request], None],
    kind: type[RegistryError] | None,
    says: str,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    shown = ""
    with serving(answer) as server, caplog.at_level(logging.DEBUG):
        at(server, monkeypatch)
        if kind is None:
            assert get(cache, SOURCE, NAME) is None
        else:
            with pytest.raises(kind, match=says) as caught:
                get(cache, SOURCE, NAME)
            assert not isinstance(caught.value, FileMissing)
            shown = everything_shown(caught.value)
    written = "".join(path.read_text() for path in cache.rglob("*.json"))
    printed = "".join(capfd.readouterr())
    assert not [secret for secret in SECRETS if secret in shown + caplog.text + written + printed]


def test_a_missing_object_is_missing_and_a_missing_bucket_is_an_error(s3: S3, cache: Path) -> None:
    assert get(cache, SOURCE, "added_tokens.json") is None
    with pytest.raises(DownloadError, match="bucket of s3://other/bert/a is expected to exist"):
        get(cache, "s3://other/bert", "a")
    assert not leftovers(cache / "blobs")


def test_credentials_that_the_store_does_not_know_are_refused(s3: S3, cache: Path) -> None:
    s3.put(f"bert/{NAME}", BODY)

    def check_from(request: bytes) -> None:
        headers = {"Content-Type": "text/plain"}
        urlopen(UrlRequest(f"http://127.0.0.1:{s3.port}/moto-api/reset-auth", request, headers, method="POST")).close()

    check_from(b"0")
    try:
        with pytest.raises(DownloadError, match=r"with the credentials that are set.*answers 403") as caught:
            get(cache, SOURCE, NAME)
    finally:
        check_from(b"inf")
    assert not [secret for secret in SECRETS if secret in everything_shown(caught.value)]


def test_a_bucket_that_is_there_is_asked_once_for_each_missing_object(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(says_no(404, "NoSuchKey")) as server:
        transport = at(server, monkeypatch)
        for name in ("a", "b", "c"):
            with pytest.raises(FileMissing):
                transport.describe(f"s3://models/{name}")
    assert [request.method for request in server.requests] == ["HEAD", "GET", "HEAD", "HEAD"]


def test_all_tries_are_ours(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_RETRIES", "2")
    with serving(says_no(503)) as server:
        at(server, monkeypatch)
        with pytest.raises(DownloadError):
            get(cache, SOURCE, NAME)
        assert len(server.requests) == 3


def test_nobody_who_answers_is_told_after_our_own_tries(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(DownloadError, match=r"the connection fails.*after 5 tries") as caught:
        get(cache, SOURCE, NAME)
    assert not [secret for secret in SECRETS if secret in everything_shown(caught.value)]


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://s3.acme.internal",
        "no address",
        "https://",
        "https://a b",
        "https://[::1",
        "https://host:99999",
        "ftp://hunter2/",
        "https://me:hunter2@host",
        "https://host?hunter2",
    ],
)
def test_an_endpoint_that_is_none_or_would_read_along_is_refused(
    endpoint: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(DownloadError, match="AWS_ENDPOINT_URL.*expected to be an https") as caught:
        get(cache, SOURCE, NAME)
    assert "hunter2" not in everything_shown(caught.value)


@pytest.mark.parametrize(
    "source", ["s3://AKIA:hunter2@models/bert", "s3://", "s3:///bert", "s3://models/a//b", "s3://models/../b", "s3://mod els/b"]
)
def test_an_address_that_is_none_is_refused_and_shows_no_password(source: str, cache: Path) -> None:
    with pytest.raises(DownloadError, match="expected to be") as caught:
        get(cache, source, NAME)
    assert "hunter2" not in everything_shown(caught.value)


def test_a_container_without_an_account_says_what_to_set(cache: Path) -> None:
    with pytest.raises(DownloadError, match="AZURE_STORAGE_ACCOUNT_NAME"):
        get(cache, "az://models/bert", NAME)


@pytest.mark.parametrize("content", [None, '{"private_key": "hunter2"', '{"private_key": "hunter2", "type": "x"}'])
def test_credentials_that_cannot_be_read_are_not_shown(
    content: str | None, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "credentials.json"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    with pytest.raises(DownloadError, match="GOOGLE_APPLICATION_CREDENTIALS") as caught:
        get(cache, "gs://models/bert", NAME)
    assert "hunter2" not in everything_shown(caught.value)


def test_without_the_extra_it_says_what_to_install(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] == "obstore":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(DownloadError, match=r"pip install 'pretrained-registry\[object-store\]'"):
        get(cache, SOURCE, NAME)


def _get_forked(cache: Path, results: Any) -> None:
    try:
        get(cache, SOURCE, NAME)
    except DownloadError as error:
        results.send(error.message)


def test_a_forked_process_is_told_instead_of_waiting_forever(s3: S3, cache: Path) -> None:
    s3.put(f"bert/{NAME}", BODY)
    fetch(cache, SOURCE, NAME)
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_get_forked, args=(cache / "other", theirs))
    child.start()
    try:
        assert ours.poll(30), "the child hangs"
        assert "forked" in ours.recv()
    finally:
        child.kill()
        child.join()


# -- certificates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", [None, "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_store_of_ones_own_authority_is_trusted_when_that_is_named(
    variable: str | None, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server = Server(lambda handler, request: handler.reply(request, 200, BODY, HEAD))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://localhost:{server.server_address[1]}")
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "ca.pem"))
    try:
        if variable:
            assert fetch(cache, SOURCE, NAME).path.read_bytes() == BODY
        else:
            with pytest.raises(DownloadError, match="certificate is not trusted"):
                get(cache, SOURCE, NAME)
    finally:
        server.shutdown()
        server.server_close()
