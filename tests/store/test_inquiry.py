"""What places tell of files that nobody fetches."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from registry.errors import DownloadError, OfflineError
from registry.store.probe import Inquiry
from registry.store.transports import Resource
from tests.servers import COMMIT, Handler, HubFiles, Request, file_server, hub_server, serving
from tests.store.helpers import eventually

BODY = bytes(range(256)) * 100


def asked(source: str, name: str, *, offline: bool = False) -> Resource | None:
    with Inquiry(dict, offline=offline) as inquiry:
        return inquiry.describe(source, name)


def test_of_a_plain_server_the_size_is_known_and_one_byte_is_sent() -> None:
    def answer(handler: Handler, request: Request) -> None:
        if request.path == "/m/none.bin":
            handler.reply(request, 404)
        else:
            handler.reply_part(request, b"" if request.path == "/m/empty.bin" else BODY)

    with serving(answer) as server:
        found = asked(f"{server.url}/m/", "weights.bin")
        assert found is not None and (found.size, found.sha256) == (len(BODY), None)
        eventually(lambda: server.sent("/m/weights.bin") == 1)  # it is counted once it was sent
        empty = asked(f"{server.url}/m/", "empty.bin")
        assert empty is not None and empty.size == 0
        assert asked(f"{server.url}/m/", "none.bin") is None


def test_a_server_that_knows_no_parts_tells_the_size_too() -> None:
    with file_server({"/m/a.bin": BODY}) as server:
        found = asked(f"{server.url}/m", "a.bin")
        assert found is not None and found.size == len(BODY)


def test_a_server_that_tells_no_size_has_the_file_all_the_same() -> None:
    with serving(lambda handler, request: handler.reply(request, 200, BODY, length=-1)) as server:
        found = asked(server.url, "a.bin")
        assert found is not None and found.size is None


def test_a_failing_server_is_no_server_without_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_RETRIES", "1")
    with serving(lambda handler, request: handler.reply(request, 503)) as server:
        with pytest.raises(DownloadError, match="503"):
            asked(server.url, "a.bin")
        assert len(server.requests) == 2


def test_the_hub_tells_hash_size_and_commit_and_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = HubFiles({"acme/m": {"model.safetensors": BODY}})
    with hub_server(hub) as server, Inquiry(dict, offline=False) as inquiry:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        # Asked for a file that is not there, too, the hub says at which commit it looked.
        for name in ("model.safetensors", "config.json"):
            assert inquiry.at_commit("hf://acme/m", name) == f"hf://acme/m@{COMMIT}"
        found = inquiry.describe(f"hf://acme/m@{COMMIT}", "model.safetensors")
        assert found is not None
        assert (found.sha256, found.size) == (hashlib.sha256(BODY).hexdigest(), len(BODY))
        assert inquiry.describe("hf://acme/m", "config.json") is None
        assert {request.method for request in server.requests} == {"HEAD"}


def test_what_has_no_revisions_stays_as_it_is(tmp_path: Path) -> None:
    with Inquiry(dict, offline=True) as inquiry:
        for source in (str(tmp_path), "https://models.acme.example/m/"):
            assert inquiry.at_commit(source, "config.json") == source


def test_offline_only_what_is_here_is_asked(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(BODY)
    found = asked(str(tmp_path), "a.bin", offline=True)
    assert found is not None and (found.size, found.path) == (len(BODY), tmp_path / "a.bin")
    with pytest.raises(OfflineError, match="the network is off"):
        asked("https://models.acme.example/m/", "a.bin", offline=True)
