"""Downloads that break off, change, lie or stall: what has arrived is gone on with, and never put together wrongly."""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import gc
import multiprocessing
import os
import random
import signal
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from urllib3.connection import HTTPConnection

from registry.catalog.entry import FilePin
from registry.errors import CacheError, ConfigError, DownloadError, IntegrityError, OfflineError
from registry.store import download
from registry.store import download as patience
from registry.store.cache import Cache
from registry.store.events import FileEvent
from registry.store.store import Store
from registry.store.target import Place
from registry.store.transports import Transient, http
from tests.servers import Handler, Request, Server, chunked, file_server, serving
from tests.store import workers
from tests.store.helpers import BODY, OTHER, arrived, eventually, fetch, get, leftovers, pinned, sha256, visible

NAME = "model.safetensors"
SPAWN = multiprocessing.get_context("spawn")
SIZE = 1_000_000
DATA = np.random.default_rng(11).bytes(SIZE)
ETAG = '"version-1"'
CHANGED = "Wed, 21 Oct 2015 07:28:00 GMT"


def ranges(server: Server) -> list[str | None]:
    return [request.headers.get("range") for request in server.requests]


def cut_first(*cuts: int | None, body: bytes = DATA, **validators: str) -> Callable[[Handler, Request], None]:
    """Answer as a good server, but cut the connection of the first requests at these bytes of the file."""
    left = list(cuts)

    def answer(handler: Handler, request: Request) -> None:
        handler.reply_part(request, body, cut=left.pop(0) if left else None, **validators)

    return answer


# -- going on ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pins", [{}, pinned(NAME, DATA), {NAME: FilePin(size=SIZE)}], ids=["unpinned", "hash", "size"])
@pytest.mark.parametrize("validators", [{"etag": ETAG}, {"changed": CHANGED}], ids=["etag", "last-modified"])
def test_a_download_that_breaks_off_goes_on_where_it_stopped(
    pins: dict[str, FilePin], validators: dict[str, str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_PARALLEL", "1")
    with serving(cut_first(300_000, 700_000, **validators)) as server:
        assert fetch(cache, server.url, NAME, pins).path.read_bytes() == DATA
        assert ranges(server) == [None, "bytes=300000-999999", "bytes=700000-999999"]
        assert [request.headers.get("if-range") for request in server.requests] == [
            None,
            *validators.values(),
            *validators.values(),
        ]
        assert server.sent(f"/{NAME}") == SIZE
    assert len(leftovers(cache)) == 3


@pytest.mark.parametrize("cut", [0, 1, SIZE // 2, SIZE - 1])
def test_a_later_process_goes_on_where_an_earlier_one_gave_up(cut: int, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_PARALLEL", "1")
    monkeypatch.setenv("REGISTRY_RETRIES", "0")
    with serving(cut_first(cut, etag=ETAG)) as server:
        with pytest.raises(DownloadError):
            get(cache, server.url, NAME)
        assert visible(cache) == []
        assert fetch(cache, server.url, NAME).path.read_bytes() == DATA
        assert ranges(server) == [None, f"bytes={cut}-999999" if cut else None]
        assert server.sent(f"/{NAME}") == SIZE
    assert not [path for path in leftovers(cache) if "partial" in path]


def test_without_a_validator_a_known_hash_allows_to_go_on(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_PARALLEL", "1")
    with serving(cut_first(400_000)) as server:
        assert fetch(cache, server.url, NAME, pinned(NAME, DATA)).path.read_bytes() == DATA
        assert ranges(server) == [None, "bytes=400000-999999"]


@pytest.mark.parametrize("validators", [{}, {"etag": 'W/"weak"'}], ids=["none", "weak"])
def test_without_validator_and_hash_a_download_starts_over(
    validators: dict[str, str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weak ETag does not tell two versions apart byte by byte (RFC 9110, 8.8.1)."""
    monkeypatch.setenv("REGISTRY_PARALLEL", "1")
    with serving(cut_first(400_000, **validators)) as server:
        assert fetch(cache, server.url, NAME).path.read_bytes() == DATA
        assert ranges(server) == [None, None]


def test_a_body_without_length_that_is_cut_is_never_taken_for_the_whole(cache: Path) -> None:
    cuts = [500_000]

    def answer(handler: Handler, request: Request) -> None:
        handler.reply(request, 200, DATA, length=-1, cut=cuts.pop() if cuts else None)

    for pins in (pinned(NAME, DATA), pinned(NAME, DATA, SIZE)):
        cuts[:] = [500_000]
        with serving(answer) as server:
            assert fetch(cache / str(len(pins[NAME].sha256 or "")), server.url, NAME, pins).path.read_bytes() == DATA


@pytest.mark.parametrize("sent", [400_000, SIZE], ids=["a part", "all but the end"])
def test_a_body_without_length_is_gone_on_with_where_it_broke_off(
    sent: int, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How much there is comes with the rest, or with the refusal to send more (416)."""
    monkeypatch.setenv("REGISTRY_PARALLEL", "1")
    left = [chunked(DATA[:sent], end=False)]

    def answer(handler: Handler, request: Request) -> None:
        if left:
            left.pop()(handler, request)
        else:
            handler.reply_part(request, DATA, etag=ETAG)

    with serving(answer) as server:
        assert fetch(cache, server.url, NAME, pinned(NAME, DATA)).path.read_bytes() == DATA
        assert ranges(server) == [None, f"bytes={sent}-"]


def test_a_server_that_always_breaks_off_is_given_up(cache: Path) -> None:
    with serving(lambda handler, request: handler.reply(request, 200, DATA, cut=10_000)) as server:
        with pytest.raises(DownloadError, match=r"broke off .*\(after 5 tries\)"):
            get(cache, server.url, NAME)
        assert len(server.requests) == 5


def test_progress_begins_the_count_of_tries_anew(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_PARALLEL", "1")
    with serving(cut_first(*range(50_000, SIZE, 50_000), etag=ETAG)) as server:
        assert fetch(cache, server.url, NAME).path.read_bytes() == DATA
        assert len(server.requests) == 20
        assert server.sent(f"/{NAME}") == SIZE


def test_a_reset_connection_is_gone_on_with(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket
    import struct

    monkeypatch.setenv("REGISTRY_PARALLEL", "1")
    resets = [1]

    def answer(handler: Handler, request: Request) -> None:
        handler.reply_part(request, DATA, etag=ETAG, cut=500_000 if resets else None)
        if resets:
            resets.pop()
            handler.wfile.flush()
            time.sleep(0.2)  # else the reset takes away what was just sent
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()

    with serving(answer) as server:
        assert fetch(cache, server.url, NAME).path.read_bytes() == DATA
        assert len(server.requests) == 2


# -- never a splice ----------------------------------------------------------------------------------------------------

OLD, NEW = DATA, DATA[::-1]


def wrong_ranges() -> dict[str, Callable[[Handler, Request], None]]:
    """What servers do with a range that is asked for, instead of sending it."""

    def ignored(handler: Handler, request: Request) -> None:
        handler.reply(request, 200, DATA, {"ETag": ETAG})

    def shifted(handler: Handler, request: Request) -> None:
        handler.reply(request, 206, DATA[1:], {"ETag": ETAG, "Content-Range": f"bytes 1-{SIZE - 1}/{SIZE}"})

    def unsaid(handler: Handler, request: Request) -> None:
        handler.reply(request, 206, DATA[500_000:], {"ETag": ETAG})

    def unfinished(handler: Handler, request: Request) -> None:
        handler.reply(request, 206, DATA[500_000:], {"ETag": ETAG, "Content-Range": f"bytes 500000-{SIZE - 1}/*"})

    def of_another_size(handler: Handler, request: Request) -> None:
        handler.reply(request, 206, DATA[500_000:], {"ETag": ETAG, "Content-Range": f"bytes 500000-{SIZE - 1}/{SIZE + 5}"})

    def of_another_version(handler: Handler, request: Request) -> None:
        head = {"ETag": '"version-2"', "Content-Range": f"bytes 500000-{SIZE - 1}/{SIZE}"}
        handler.reply(request, 206, NEW[500_000:], head)

    def not_satisfiable(handler: Handler, request: Request) -> None:
        handler.reply(request, 416, b"", {"Content-Range": "bytes */10"})

    def several(handler: Handler, request: Request) -> None:
        handler.reply(request, 206, b"--x--", {"Content-Type": "multipart/byteranges; boundary=x"})

    return {function.__name__.replace("_", " "): function for function in list(locals().values())}


@pytest.mark.parametrize("answers", wrong_ranges().values(), ids=list(wrong_ranges()))
@pytest.mark.parametrize("pins", [{}, pinned(NAME, DATA)], ids=["unpinned", "pinned"])
def test_an_answer_that_is_not_the_part_starts_over(
    pins: dict[str, FilePin], answers: Callable[[Handler, Request], None], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_PARALLEL", "1")
    first = [True]

    def answer(handler: Handler, request: Request) -> None:
        if first:
            first.pop()
            handler.reply_part(request, DATA, etag=ETAG, cut=500_000)
        elif "range" in request.headers:
            answers(handler, request)
        else:
            handler.reply_part(request, DATA, etag=ETAG)

    with serving(answer) as server:
        assert fetch(cache, server.url, NAME, pins).path.read_bytes() == DATA
    assert not [path for path in leftovers(cache) if "partial" in path]


def test_a_part_that_names_no_version_is_not_put_to_another_when_no_hash_would_tell(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_PARALLEL", "1")
    now: dict[str, Any] = {"body": OLD, "etag": ETAG, "cut": 600_000}

    def answer(handler: Handler, request: Request) -> None:
        request.headers.pop("if-range", None)
        handler.reply_part(request, **now)
        now.update(body=NEW, etag="", cut=None)

    with serving(answer) as server:
        assert fetch(cache, server.url, NAME).path.read_bytes() == NEW


@pytest.mark.parametrize("retries", ["5", "0"], ids=["at once", "by a later process"])
@pytest.mark.parametrize("body", [DATA, DATA[::-1]], ids=["right", "wrong"])
def test_a_file_of_which_nothing_is_missing_is_checked_and_not_asked_for_again(
    body: bytes, retries: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of its chunks was lost, which would have told how long it is."""
    monkeypatch.setenv("REGISTRY_PARALLEL", "1")
    monkeypatch.setenv("REGISTRY_RETRIES", retries)
    first = [True]

    def answer(handler: Handler, request: Request) -> None:
        if not first:
            handler.reply_part(request, DATA, etag=ETAG)
            return
        first.pop()
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.send_header("ETag", ETAG)
        handler.end_headers()
        handler.wfile.write(b"%x\r\n%s\r\n" % (SIZE, body))
        handler.close_connection = True

    with serving(answer) as server:
        if retries == "0":
            with pytest.raises(DownloadError, match="broke off"):
                get(cache, server.url, NAME, pinned(NAME, DATA))
        assert fetch(cache, server.url, NAME, pinned(NAME, DATA)).path.read_bytes() == DATA
        assert ranges(server) == [None, f"bytes={SIZE}-", *([] if body == DATA else [None])]
    assert not [path for path in leftovers(cache) if "partial" in path]


@pytest.mark.parametrize("honest", [True, False], ids=["If-Range is kept", "If-Range is ignored"])
def test_a_file_that_changed_in_between_starts_over(honest: bool, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_PARALLEL", "1")
    monkeypatch.setenv("REGISTRY_RETRIES", "0")
    now = {"body": OLD, "etag": ETAG, "cut": 600_000}

    def answer(handler: Handler, request: Request) -> None:
        if not honest:
            request.headers.pop("if-range", None)
        handler.reply_part(request, now["body"], etag=now["etag"], cut=now["cut"])  # type: ignore[arg-type]

    with serving(answer) as server:
        with pytest.raises(DownloadError):
            get(cache, server.url, NAME)
        now |= {"body": NEW, "etag": '"version-2"', "cut": None}
        assert fetch(cache, server.url, NAME).path.read_bytes() == NEW


def test_a_file_that_grew_under_one_name_of_its_version_is_found_out_by_its_size(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_PARALLEL", "1")
    now = {"body": OLD, "cut": 600_000}

    def answer(handler: Handler, request: Request) -> None:
        handler.reply_part(request, now["body"], etag=ETAG, cut=now["cut"])  # type: ignore[arg-type]
        now.update(body=NEW + b"more", cut=None)

    with serving(answer) as server:
        assert fetch(cache, server.url, NAME).path.read_bytes() == NEW + b"more"


def test_what_one_mirror_sent_is_not_gone_on_with_at_another(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_PARALLEL", "1")
    with (
        serving(lambda handler, request: handler.reply_part(request, OLD, etag=ETAG, cut=600_000)) as first,
        serving(lambda handler, request: handler.reply_part(request, NEW, etag=ETAG)) as second,
    ):
        assert fetch(cache, (first.url, second.url), NAME).path.read_bytes() == NEW
        assert ranges(second) == [None]


@pytest.mark.parametrize(
    "damage", [b"", b"\0" * 90, b"[1,", b'{"version": 9}\n[0, 600000]\n', b"[0, 600000]\n", b"\xff\n[0,1]\n"]
)
def test_a_broken_journal_is_as_if_absent(damage: bytes, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_PARALLEL", "1")
    monkeypatch.setenv("REGISTRY_RETRIES", "0")
    with serving(cut_first(600_000, etag=ETAG)) as server:
        with pytest.raises(DownloadError):
            get(cache, server.url, NAME)
        (journal,) = cache.rglob("*.journal")
        journal.write_bytes(damage)
        assert fetch(cache, server.url, NAME).path.read_bytes() == DATA
        assert ranges(server)[1] is None


def test_a_journal_that_says_more_than_the_file_holds_is_not_believed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut can lose the bytes and keep the journal."""
    monkeypatch.setenv("REGISTRY_PARALLEL", "1")
    monkeypatch.setenv("REGISTRY_RETRIES", "0")
    with serving(cut_first(600_000, etag=ETAG)) as server:
        with pytest.raises(DownloadError):
            get(cache, server.url, NAME)
        (partial,) = cache.rglob("*.partial")
        os.truncate(partial, 200_000)
        assert fetch(cache, server.url, NAME).path.read_bytes() == DATA
        assert ranges(server)[1] == "bytes=200000-999999"


def test_bytes_that_a_power_cut_took_are_found_out_by_the_hash(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_PARALLEL", "1")
    monkeypatch.setenv("REGISTRY_RETRIES", "0")
    with serving(cut_first(600_000, etag=ETAG)) as server:
        with pytest.raises(DownloadError):
            get(cache, server.url, NAME, pinned(NAME, DATA))
        (partial,) = cache.rglob("*.partial")
        with partial.open("rb+") as file:
            file.seek(100_000)
            file.write(bytes(4096))
        assert fetch(cache, server.url, NAME, pinned(NAME, DATA)).path.read_bytes() == DATA
        assert ranges(server) == [None, "bytes=600000-999999", None]


# -- wrong bytes -------------------------------------------------------------------------------------------------------


def test_wrong_bytes_are_kept_in_quarantine_and_asked_for_once_more(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    bodies = [OTHER, BODY]
    with serving(lambda handler, request: handler.reply(request, 200, bodies.pop(0))) as server:
        assert fetch(cache, server.url, NAME, pinned(NAME, BODY)).path.read_bytes() == BODY
        assert len(server.requests) == 2
    assert (cache / "quarantine" / sha256(BODY)).read_bytes() == OTHER
    assert f"but is {sha256(OTHER)}" in caplog.text and str(cache / "quarantine") in caplog.text


def test_bytes_that_are_wrong_twice_are_an_error(cache: Path) -> None:
    with file_server({f"/{NAME}": OTHER}) as server:
        with pytest.raises(IntegrityError, match=f"expected to be {sha256(BODY)}, but is {sha256(OTHER)}"):
            get(cache, server.url, NAME, pinned(NAME, BODY))
        assert len(server.requests) == 2
    assert visible(cache) == []


def test_a_mirror_with_wrong_bytes_is_told_of_and_passed_over(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    with file_server({f"/{NAME}": OTHER}) as wrong, file_server({f"/{NAME}": BODY}) as right:
        assert fetch(cache, (wrong.url, right.url), NAME, pinned(NAME, BODY)).path.read_bytes() == BODY
    assert f"{wrong.url}/{NAME}" in caplog.text


def test_a_body_that_goes_on_and_on_is_read_to_its_size_only(cache: Path) -> None:
    sent = [0]

    def answer(handler: Handler, request: Request) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        try:
            while sent[0] < 1 << 30:
                handler.wfile.write(bytes(1 << 16))
                sent[0] += 1 << 16
        except OSError:
            pass

    with serving(answer) as server, pytest.raises(IntegrityError, match="more than 1000"):
        get(cache, server.url, NAME, {NAME: FilePin(size=1000)})
    assert sent[0] < 64 << 20
    assert visible(cache) == []


# -- patience ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let time pass only by waiting, and return how long each wait was."""
    taken: list[float] = []
    monkeypatch.setattr(patience, "_FIRST", 1.0)
    monkeypatch.setattr(patience.time, "monotonic", lambda: sum(taken))
    monkeypatch.setattr(threading.Event, "wait", lambda self, timeout=None: taken.append(timeout or 0.0))
    return taken


def failing(*answers: tuple[int, dict[str, str]]) -> Callable[[Handler, Request], None]:
    left = list(answers)

    def answer(handler: Handler, request: Request) -> None:
        status, headers = left.pop(0) if left else (200, {})
        handler.reply(request, status, BODY if status == 200 else b"", headers)

    return answer


SILENCE = Transient("https://a/b is expected to answer, but does not", url="https://a/b")


def test_pauses_grow_and_are_of_random_length(naps: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return high

    monkeypatch.setattr(random, "uniform", uniform)
    monkeypatch.setenv("REGISTRY_RETRIES", "7")
    waiting = patience.Patience(threading.Event())
    for _ in range(7):
        waiting.pause(SILENCE)
    assert naps == [1, 2, 4, 8, 16, 20, 20]
    assert {low for low, _ in asked} == {0}
    with pytest.raises(DownloadError, match="after 8 tries"):
        waiting.pause(SILENCE)


def test_two_minutes_without_progress_are_the_limit(naps: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    monkeypatch.setenv("REGISTRY_RETRIES", "1000")
    waiting = patience.Patience(threading.Event())
    with pytest.raises(DownloadError):
        while True:
            waiting.pause(SILENCE)
    assert 100 < sum(naps) <= 120
    waiting.progressed()
    waiting.pause(SILENCE)


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"Retry-After": "7"}, 7, 7),
        ({"Retry-After": "0"}, 0, 1),
        ({"Retry-After": "soon"}, 0, 1),
        ({"Retry-After": "-5"}, 0, 1),
        ({"RateLimit": '"api";r=0;t=55'}, 55, 55),
        ({}, 0, 1),
    ],
)
@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520])
def test_a_busy_server_is_asked_again_when_it_says(
    status: int, headers: dict[str, str], least: float, most: float, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(patience, "_FIRST", 1.0)
    monkeypatch.setattr(threading.Event, "wait", nap_of_patience(threading.Event.wait, waited))
    with serving(failing((status, headers))) as server:
        assert fetch(cache, server.url, NAME).path.read_bytes() == BODY
        assert len(server.requests) == 2
    (nap,) = waited
    assert least <= nap <= most


def nap_of_patience(wait: Callable[..., bool], waited: list[float]) -> Callable[..., bool]:
    """Count, and do not take, the pauses between tries; everything else that waits goes on waiting."""
    import sys

    def counted(self: threading.Event, timeout: float | None = None) -> bool:
        if sys._getframe(1).f_globals["__name__"] == patience.__name__:
            waited.append(timeout or 0.0)
            return False
        return wait(self, timeout)

    return counted


def test_a_date_to_come_back_at_is_understood(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(threading.Event, "wait", nap_of_patience(threading.Event.wait, waited))
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=60)
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    answers = [(503, {"Retry-After": email.utils.format_datetime(when, usegmt=True)}) for when in (until, past)]
    with serving(failing(*answers)) as server:
        assert fetch(cache, server.url, NAME).path.read_bytes() == BODY
    assert 50 < waited[0] <= 60
    assert waited[1] < 1


@pytest.mark.parametrize("value", ["121", "1000000000", "Fri, 31 Dec 2100 23:59:59 GMT"])
def test_a_server_that_asks_to_wait_too_long_is_given_up_at_once(
    value: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(threading.Event, "wait", nap_of_patience(threading.Event.wait, waited))
    with serving(failing((429, {"Retry-After": value}))) as server:
        with pytest.raises(DownloadError, match=r"the server asks to wait \d+ s, and 120 s without progress") as caught:
            get(cache, server.url, NAME)
        assert caught.value.status == 429
        assert len(server.requests) == 1
    assert waited == []


def test_a_server_that_asks_to_wait_again_and_again_is_given_up_after_two_minutes(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(threading.Event, "wait", nap_of_patience(threading.Event.wait, waited))
    monkeypatch.setattr(patience, "time", types.SimpleNamespace(monotonic=lambda: sum(waited)))
    monkeypatch.setenv("REGISTRY_RETRIES", "50")
    with serving(lambda handler, request: handler.reply(request, 429, headers={"Retry-After": "50"})) as server:
        with pytest.raises(DownloadError, match="the server asks to wait 50 s, and 120 s without progress"):
            get(cache, server.url, NAME)
        assert len(server.requests) == 3
    assert waited == [50, 50]


@pytest.mark.parametrize("times", [1, 2, 3, 4, 5])
def test_a_server_that_is_busy_for_a_while_is_waited_for(times: int, cache: Path) -> None:
    with serving(failing(*[(503, {})] * times)) as server:
        if times < 5:
            assert fetch(cache, server.url, NAME).path.read_bytes() == BODY
        else:
            with pytest.raises(DownloadError, match=r"answers 503.*\(after 5 tries\)"):
                get(cache, server.url, NAME)
        assert len(server.requests) == min(times + 1, 5)


@pytest.mark.parametrize("source", ["http://127.0.0.1:9/bert", "hf://acme/bert"])
def test_nobody_waits_where_the_network_is_off(source: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(threading.Event, "wait", nap_of_patience(threading.Event.wait, waited))
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it sleeps"))
    with pytest.raises(OfflineError):
        get(cache, source, NAME, offline=True)
    assert waited == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 416, 451, 501])
def test_what_does_not_pass_is_not_asked_again(status: int, cache: Path) -> None:
    with serving(lambda handler, request: handler.reply(request, status)) as server:
        try:
            assert get(cache, server.url, "vocab.txt") is None
        except DownloadError as error:
            assert error.status == status or status == 416
        assert len(server.requests) <= (2 if status == 416 else 1)


@pytest.mark.parametrize(("value", "requests"), [("0", 1), ("2", 3), ("", 5)])
def test_the_number_of_retries_can_be_set(value: str, requests: int, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_RETRIES", value)
    with serving(lambda handler, request: handler.reply(request, 503)) as server:
        with pytest.raises(DownloadError):
            get(cache, server.url, NAME)
        assert len(server.requests) == requests


@pytest.mark.parametrize("value", ["many", "-1", "1.5", "²"])
def test_a_number_of_retries_that_is_none_is_a_clear_error(value: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_RETRIES", value)
    with pytest.raises(ConfigError, match="REGISTRY_RETRIES"):
        get(cache, "http://127.0.0.1:9", NAME)


def test_a_place_that_fails_is_left_early_when_there_is_another(cache: Path) -> None:
    with serving(lambda handler, request: handler.reply(request, 503)) as busy, file_server({f"/{NAME}": BODY}) as mirror:
        assert fetch(cache, (busy.url, mirror.url), NAME).path.read_bytes() == BODY
        assert len(busy.requests) == 2


def test_a_body_that_drips_is_given_up(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then keeps every read in time, and would never end."""
    monkeypatch.setattr(http, "_TIMEOUT", (5.0, 0.4))
    monkeypatch.setenv("REGISTRY_RETRIES", "0")
    done, given_up = threading.Event(), threading.Event()

    def answer(handler: Handler, request: Request) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(SIZE))
        handler.end_headers()
        handler.close_connection = True
        with contextlib.suppress(OSError):
            for _ in range(300):
                if done.wait(0.05):
                    return
                handler.wfile.write(b"x")
            given_up.set()

    with serving(answer) as server:
        with pytest.raises(DownloadError, match="next to nothing came"):
            get(cache, server.url, NAME)
        assert not given_up.is_set(), "the server had to end it"
        done.set()


def test_a_body_that_drips_is_no_progress_and_a_mirror_is_asked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Going on where a drip stopped would keep it waiting for ever."""
    monkeypatch.setattr(http, "_TIMEOUT", (5.0, 0.2))
    monkeypatch.setenv("REGISTRY_PARALLEL", "1")
    done = threading.Event()

    def answer(handler: Handler, request: Request) -> None:
        with contextlib.suppress(OSError):
            handler.reply_part(request, DATA, etag=ETAG, cut=0)
        start = int((request.headers.get("range") or "bytes=0-")[6:].partition("-")[0])
        with contextlib.suppress(OSError):
            while not done.wait(0.05):
                handler.wfile.write(DATA[start : start + 1])
                start += 1

    with serving(answer) as dripping, file_server({f"/{NAME}": DATA}) as mirror:
        assert fetch(cache, (dripping.url, mirror.url), NAME, pinned(NAME, DATA)).path.read_bytes() == DATA
        assert len(dripping.requests) == 2
        done.set()


def test_a_pause_ends_when_the_operation_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_FIRST", 100.0)
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    (stopped := threading.Event()).set()
    calls = []

    def call() -> None:
        calls.append(1)
        raise SILENCE

    with pytest.raises(DownloadError, match="the operation was stopped"):
        patience.Patience(stopped).insist(call)
    assert len(calls) == 1


def test_what_is_cached_is_there_while_its_server_hangs(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with file_server({f"/{NAME}": BODY}) as server:
        url = server.url
        fetch(cache, url, NAME)
    monkeypatch.setattr(http, "_TIMEOUT", (0.1, 0.1))
    assert fetch(cache, url, NAME).path.read_bytes() == BODY


# -- several parts at once ---------------------------------------------------------------------------------------------


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a file of a megabyte be large, and ask for four parts of it at once."""
    monkeypatch.setenv("REGISTRY_PARALLEL", "4")
    monkeypatch.setattr(download, "_PARTS_FROM", 200_000)
    monkeypatch.setattr(download, "_PART", 100_000)
    monkeypatch.setattr(download, "_PROBE", 100_000)


@pytest.mark.parametrize("pins", [{}, pinned(NAME, DATA), pinned(NAME, DATA, SIZE)], ids=["unpinned", "hash", "hash and size"])
def test_a_large_file_comes_in_parts_and_each_byte_once(pins: dict[str, FilePin], in_parts: None, cache: Path) -> None:
    with serving(cut_first(etag=ETAG)) as server:
        assert fetch(cache, server.url, NAME, pins).path.read_bytes() == DATA
        assert sorted(ranges(server), key=str) == sorted(
            (f"bytes={at}-{at + 99_999}" for at in range(0, SIZE, 100_000)), key=str
        )
        assert {request.headers.get("if-range") for request in server.requests} == {None, ETAG}
        assert server.sent(f"/{NAME}") == SIZE
    assert len(leftovers(cache)) == 3


def test_several_parts_are_under_way_at_once(in_parts: None, cache: Path) -> None:
    together = threading.Barrier(4)

    def answer(handler: Handler, request: Request) -> None:
        if request.headers["range"] in {f"bytes={at}-{at + 99_999}" for at in range(100_000, 500_000, 100_000)}:
            together.wait(20)  # nobody goes on before four have come
        handler.reply_part(request, DATA, etag=ETAG)

    with serving(answer) as server:
        assert fetch(cache, server.url, NAME).path.read_bytes() == DATA


def test_connections_of_one_file_are_not_kept_while_others_come(in_parts: None, cache: Path) -> None:
    """A model of a hundred shards would have more of them open than a process may."""

    def connections() -> int:
        return sum(type(each) is HTTPConnection and each.sock is not None for each in gc.get_objects())

    before = connections()
    with serving(cut_first(etag=ETAG)) as server, Store(Cache((cache,)), offline=False) as store:
        for number in range(6):
            assert store.get(Place((server.url,)), f"model-{number}.safetensors")
            assert connections() - before <= 1


def test_parts_can_be_switched_off(in_parts: None, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_PARALLEL", "1")
    with serving(cut_first(etag=ETAG)) as server:
        assert fetch(cache, server.url, NAME).path.read_bytes() == DATA
        assert ranges(server) == [None]


@pytest.mark.parametrize("value", ["0", "65", "-1", "two", "1.5"])
def test_a_number_of_parts_that_is_none_is_a_clear_error(value: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_PARALLEL", value)
    with serving(cut_first(etag=ETAG)) as server, pytest.raises(ConfigError, match="REGISTRY_PARALLEL"):
        get(cache, server.url, NAME)


def test_a_connection_that_is_fast_enough_is_not_helped_by_others(
    in_parts: None, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REGISTRY_PARALLEL")
    monkeypatch.setattr(download, "_FAST", 0.0)
    with serving(cut_first(etag=ETAG)) as server:
        assert fetch(cache, server.url, NAME).path.read_bytes() == DATA
        assert ranges(server) == ["bytes=0-99999", "bytes=100000-999999"]
    monkeypatch.setattr(download, "_FAST", 1e12)
    with serving(cut_first(etag=ETAG)) as server:
        assert fetch(cache / "other", server.url, NAME).path.read_bytes() == DATA
        assert len(server.requests) == 10


@pytest.mark.parametrize("name", ["config.json", "vocab.txt", "merges.TXT"])
def test_a_text_is_asked_for_whole(name: str, in_parts: None, cache: Path) -> None:
    with serving(cut_first(etag=ETAG, body=b"{}")) as server:
        fetch(cache, server.url, name)
        assert ranges(server) == [None]


def test_a_small_file_of_unknown_size_comes_with_one_request(in_parts: None, cache: Path) -> None:
    with serving(cut_first(etag=ETAG, body=BODY)) as server:
        assert fetch(cache, server.url, NAME).path.read_bytes() == BODY
        assert ranges(server) == ["bytes=0-99999"]


def test_an_empty_file_of_unknown_size_is_a_file(in_parts: None, cache: Path) -> None:
    with serving(cut_first(etag=ETAG, body=b"")) as server:
        assert fetch(cache, server.url, NAME).path.read_bytes() == b""


def test_parts_that_break_off_are_gone_on_with(in_parts: None, cache: Path) -> None:
    cut: set[str] = set()

    def answer(handler: Handler, request: Request) -> None:
        wanted = request.headers["range"]
        begins = wanted not in cut and wanted.endswith("99999")
        cut.add(wanted)
        start = int(wanted.removeprefix("bytes=").partition("-")[0])
        handler.reply_part(request, DATA, etag=ETAG, cut=start + 70_000 if begins else None)

    with serving(answer) as server:
        assert fetch(cache, server.url, NAME).path.read_bytes() == DATA


def test_a_server_that_limits_connections_is_asked_for_fewer_parts_at_once(
    in_parts: None, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each round ends with the first refusal, and brings next to nothing."""
    monkeypatch.setattr(patience, "_FIRST", 0.3)
    free, refused = threading.Lock(), []

    def answer(handler: Handler, request: Request) -> None:
        if not free.acquire(blocking=False):
            refused.append(request)
            handler.reply(request, 503)
            return
        try:
            handler.reply_part(request, DATA, etag=ETAG, pace=lambda count: time.sleep(0.02))
        finally:
            free.release()

    with serving(answer) as server:
        assert fetch(cache, server.url, NAME).path.read_bytes() == DATA
    assert 1 <= len(refused) <= 12


def test_a_later_process_asks_only_for_the_parts_that_are_missing(
    in_parts: None, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_RETRIES", "0")
    broken = [True]

    def answer(handler: Handler, request: Request) -> None:
        if broken and request.headers["range"] == "bytes=500000-599999":
            broken.pop()
            while handler.server.sent(request.path) < 500_000:  # else it ends the others before they have begun
                time.sleep(0.01)
            handler.reply(request, 503)
            return
        handler.reply_part(request, DATA, etag=ETAG)

    with serving(answer) as server:
        with pytest.raises(DownloadError):
            get(cache, server.url, NAME)
        before = server.sent(f"/{NAME}")
        assert 500_000 <= before < SIZE
        assert fetch(cache, server.url, NAME).path.read_bytes() == DATA
        assert server.sent(f"/{NAME}") <= SIZE + 300_000  # parts that were under way elsewhere when one failed


def test_parts_of_two_versions_are_never_put_together(in_parts: None, cache: Path) -> None:
    versions = [(OLD, ETAG)] * 4

    def answer(handler: Handler, request: Request) -> None:
        body, etag = versions.pop(0) if versions else (NEW, '"version-2"')
        handler.reply_part(request, body, etag=etag)

    with serving(answer) as server:
        assert fetch(cache, server.url, NAME).path.read_bytes() == NEW


def test_without_a_validator_and_a_hash_there_are_no_parts(in_parts: None, cache: Path) -> None:
    with serving(cut_first()) as server:
        assert fetch(cache, server.url, NAME).path.read_bytes() == DATA
        assert ranges(server) == ["bytes=0-99999", None]


def test_an_answer_of_more_than_the_part_is_refused(in_parts: None, cache: Path) -> None:
    def answer(handler: Handler, request: Request) -> None:
        wanted = request.headers.get("range", "")
        if wanted.startswith("bytes=300000"):
            handler.reply(request, 206, DATA[300_000:], {"ETag": ETAG, "Content-Range": f"bytes 300000-999999/{SIZE}"})
        else:
            handler.reply_part(request, DATA, etag=ETAG)

    with serving(answer) as server:
        assert fetch(cache, server.url, NAME).path.read_bytes() == DATA
        assert ranges(server)[-1] is None


def test_an_answer_that_goes_on_after_its_part_starts_over(in_parts: None, cache: Path) -> None:
    """Its head says the right part, and more than that comes."""

    def answer(handler: Handler, request: Request) -> None:
        wanted = request.headers.get("range", "")
        if wanted.startswith("bytes=300000"):
            handler.reply(request, 206, DATA[300_000:500_000], {"ETag": ETAG, "Content-Range": f"bytes 300000-399999/{SIZE}"})
        else:
            handler.reply_part(request, DATA, etag=ETAG)

    with serving(answer) as server:
        assert fetch(cache, server.url, NAME).path.read_bytes() == DATA
        assert ranges(server)[-1] is None


# -- killed ------------------------------------------------------------------------------------------------------------


class Halting:
    """A server that sends a file up to a byte, and goes on only when it is let."""

    def __init__(self, body: bytes, at: int) -> None:
        self.body, self.etag = body, ETAG
        self.reached, self.released = threading.Event(), threading.Event()
        self._left = at
        self._lock = threading.Lock()

    def pace(self, count: int) -> None:
        with self._lock:
            self._left -= count
        if self._left < 0 and not self.released.is_set():
            self.reached.set()
            self.released.wait(60)

    def __call__(self, handler: Handler, request: Request) -> None:
        handler.reply_part(request, self.body, etag=self.etag, pace=self.pace)


def killed_at(cache: Path, server: Server, halting: Halting, signum: int = signal.SIGKILL) -> int:
    """Let another process fetch, and end it when the server halts; return how many bytes had been sent."""
    receiver, sender = SPAWN.Pipe(duplex=False)
    alone = SPAWN.Barrier(1)
    process = SPAWN.Process(target=workers.get_file, args=(alone, sender, cache, server.url, NAME))
    process.start()
    assert halting.reached.wait(60)
    sent = server.sent(f"/{NAME}")
    eventually(lambda: arrived(cache) >= sent - (4 << 20))  # the rest may be on its way
    assert process.pid is not None
    os.kill(process.pid, signum)
    process.join(60)
    assert process.exitcode != 0
    halting.released.set()
    receiver.close()
    sender.close()
    return sent


@pytest.mark.parametrize("parallel", ["1", "4"])
@pytest.mark.parametrize("size", [40_000_000, pytest.param(500_000_000, marks=pytest.mark.slow)], ids=["40 MB", "500 MB"])
def test_after_kill_9_at_60_percent_only_the_rest_is_asked_for(
    size: int, parallel: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_PARALLEL", parallel)
    monkeypatch.setattr(download, "_PARTS_FROM", 20_000_000)
    body = np.random.default_rng(3).bytes(size)
    halting = Halting(body, size * 6 // 10)
    with serving(halting) as server:
        before = killed_at(cache, server, halting)
        assert visible(cache) == []
        assert fetch(cache, server.url, NAME).path.read_bytes() == body
        # Each stream may lose what it had not yet noted, and what lay in the buffers of the connection.
        assert server.sent(f"/{NAME}") - before <= size * 4 // 10 + int(parallel) * (8 << 20)
        assert server.requests[-1].headers["if-range"] == ETAG
        if parallel == "1":
            assert [wanted is None for wanted in ranges(server)] == [True, False]
    assert not [path for path in leftovers(cache) if "partial" in path]


def test_after_kill_9_a_file_that_changed_in_between_starts_over(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_PARALLEL", "1")
    halting = Halting(np.random.default_rng(3).bytes(20_000_000), 12_000_000)
    with serving(halting) as server:
        killed_at(cache, server, halting)
        halting.body, halting.etag = np.random.default_rng(4).bytes(20_000_000), '"version-2"'
        assert fetch(cache, server.url, NAME).path.read_bytes() == halting.body
    assert not [path for path in leftovers(cache) if "partial" in path]


def test_an_interrupt_keeps_what_has_arrived_and_frees_the_lock(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_PARALLEL", "1")
    monkeypatch.setenv("REGISTRY_LOCK_TIMEOUT", "5")
    halting = Halting(np.random.default_rng(3).bytes(20_000_000), 12_000_000)
    with serving(halting) as server:
        before = killed_at(cache, server, halting, signal.SIGINT)
        assert fetch(cache, server.url, NAME).path.read_bytes() == halting.body
        assert server.sent(f"/{NAME}") - before <= 8_000_000 + (8 << 20)


@pytest.mark.parametrize("moment", ["before the rename", "before the stamp", "before the record"])
def test_a_process_that_is_killed_while_it_publishes_leaves_no_half_entry(moment: str, cache: Path) -> None:
    with serving(cut_first(etag=ETAG)) as server:
        process = SPAWN.Process(target=workers.die_while_publishing, args=(cache, server.url, NAME, moment))
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        for _ in range(2):
            assert fetch(cache, server.url, NAME).path.read_bytes() == DATA
        assert server.sent(f"/{NAME}") == SIZE * (1 if moment == "before the rename" else 2)
    assert not [path for path in leftovers(cache) if "partial" in path or ".tmp" in path.removesuffix(".json")]


# -- observers ---------------------------------------------------------------------------------------------------------


class Recorder:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, FileEvent]] = []

    def __getattr__(self, moment: str) -> Callable[[FileEvent], None]:
        return lambda file: self.told.append((moment, file))


def observed(cache: Path, url: str, observer: Any) -> Path:
    with Store(Cache((cache,)), offline=False, observers=[observer]) as store:
        file = store.get(Place((url,), label="acme"), NAME)
    assert file is not None
    return file.path


def test_observers_are_told_what_happens_to_a_file(cache: Path) -> None:
    recorder = Recorder()
    with serving(cut_first(etag=ETAG)) as server:
        path = observed(cache, server.url, recorder)
        observed(cache, server.url, recorder)
    moments = [moment for moment, _ in recorder.told]
    assert moments[0] == "started" and moments[-3:] == ["verified", "published", "reused"]
    assert set(moments[1:-3]) == {"progressed"}
    first, last = recorder.told[0][1], recorder.told[-2][1]
    assert (first.model, first.name, first.done) == ("acme", NAME, 0)
    assert (last.size, last.done, last.sha256, last.path) == (SIZE, SIZE, sha256(DATA), path)
    assert last.url == f"{server.url}/{NAME}"


def test_progress_is_told_in_small_steps_also_on_a_slow_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal is told of each megabyte only, which may take a minute."""
    monkeypatch.setattr(download, "_REPORT_EVERY", 0.0)
    recorder = Recorder()
    with serving(lambda handler, request: handler.reply_part(request, DATA, pace=lambda count: time.sleep(0.02))) as server:
        observed(cache, server.url, recorder)
    done = [file.done for moment, file in recorder.told if moment == "progressed"]
    assert done == sorted(done) and done[-1] == SIZE
    assert len(set(done)) > 2


@pytest.mark.parametrize("raised", [BrokenPipeError("enough"), DownloadError("enough", url="")])
def test_what_an_observer_raises_is_not_taken_for_a_failure_of_disk_or_network(raised: Exception, cache: Path) -> None:
    class Enough(Recorder):
        def __getattr__(self, name: str) -> Callable[[FileEvent], None]:
            def told(file: FileEvent) -> None:
                raise raised

            return told

    with serving(cut_first(etag=ETAG)) as server:
        with pytest.raises(type(raised), match="enough") as caught:
            observed(cache, server.url, Enough())
        assert caught.value is raised
        assert len(server.requests) == 0


@pytest.mark.parametrize("moment", ["started", "progressed", "verified"])
@pytest.mark.parametrize("parallel", ["1", "4"])
def test_an_observer_that_raises_ends_the_fetch_and_what_arrived_is_kept(
    moment: str, parallel: str, in_parts: None, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_PARALLEL", parallel)
    monkeypatch.setattr(download, "_REPORT_EVERY", 0.0)

    class Enough(Recorder):
        def __getattr__(self, name: str) -> Callable[[FileEvent], None]:
            def told(file: FileEvent) -> None:
                if name == moment and (name != "progressed" or file.done > 300_000):
                    raise ZeroDivisionError("enough")

            return told

    with serving(cut_first(etag=ETAG)) as server:
        with pytest.raises(ZeroDivisionError, match="enough"):
            observed(cache, server.url, Enough())
        assert visible(cache) == []
        kept = sum(path.stat().st_size for path in cache.rglob("*.partial"))
        assert (kept > 0) is (moment != "started")
        assert observed(cache, server.url, Recorder()).read_bytes() == DATA


def test_an_observer_that_raises_ends_the_fetch_and_frees_its_lock(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_LOCK_TIMEOUT", "2")

    class Enough(Recorder):
        def __getattr__(self, name: str) -> Callable[[FileEvent], None]:
            def told(file: FileEvent) -> None:
                raise KeyboardInterrupt

            return told

    with serving(cut_first(etag=ETAG)) as server:
        with pytest.raises(KeyboardInterrupt) as caught:
            observed(cache, server.url, Enough())
        assert observed(cache, server.url, Recorder()).read_bytes() == DATA
    assert caught.traceback  # what it hangs on to is still there


# -- the disk ----------------------------------------------------------------------------------------------------------


def test_a_disk_that_is_too_small_is_found_out_before_the_first_byte(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6 - 1000, 1000))  # type: ignore[attr-defined]
    with serving(cut_first(etag=ETAG)) as server:
        with pytest.raises(CacheError, match="expected to have 1,000,000 bytes free, but has 1,000"):
            get(cache, server.url, NAME, pinned(NAME, DATA, SIZE))
        assert server.requests == []
        with pytest.raises(CacheError, match="bytes free, but has 1,000"):
            get(cache, server.url, NAME)
    assert visible(cache) == []
