"""A pin that was changed in a catalog, of a file on a branch; and what a refresh replaces."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import registry
from registry.errors import DownloadError, IntegrityError, OfflineError
from registry.store.store import Moved
from tests.servers import COMMIT, Handler, Request, Server, file_server, serving
from tests.store.helpers import fetch, get, listing, pinned, sha256
from tests.store.test_hub import git_sha1

REPO = "acme/bert"
SOURCE = f"hf://{REPO}@main"
OLD = {"vocab.txt": b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n", "config.json": b'{"model_type": "bert", "vocab_size": 6}'}
NEW = {"vocab.txt": OLD["vocab.txt"] + b"b\n", "config.json": b'{"model_type": "bert", "vocab_size": 7}'}
NEXT = "2" * 40


class Branch:
    """A repository whose branch moves."""

    def __init__(self) -> None:
        self.history = {COMMIT: OLD, NEXT: NEW}
        self.main = COMMIT
        #: Whether large files are told by their sha256.
        self.large = False

    def answer(self, handler: Handler, request: Request) -> None:
        revision, _, name = request.path.partition("/resolve/")[2].partition("/")
        commit = self.main if revision == "main" else revision
        said = {"X-Repo-Commit": commit}
        if (body := self.history[commit].get(name)) is None:
            handler.reply(request, 404, b"", {"X-Error-Code": "EntryNotFound", **said})
        elif self.large:
            handler.reply(request, 200, body, {"X-Linked-ETag": f'"{sha256(body)}"', "X-Linked-Size": str(len(body)), **said})
        else:
            handler.reply(request, 200, body, {"ETag": f'"{git_sha1(body)}"', **said})


@pytest.fixture
def branch() -> Branch:
    return Branch()


@pytest.fixture
def server(branch: Branch, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving(branch.answer) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def catalog(path: Path, pin: bytes, **more: object) -> registry.ModelRegistry:
    entry = {"family": "bert", "source": SOURCE, "files": {"vocab.txt": {"sha256": sha256(pin)}, "config.json": None}, **more}
    path.write_text(json.dumps({"registry": 1, "models": {"m": entry}}))
    return registry.ModelRegistry(catalogs=[path])


@pytest.mark.parametrize("large", [False, True], ids=["small files", "large files"])
@pytest.mark.parametrize("fetched", [True, False], ids=["that was fetched", "of a file that was not fetched"])
def test_a_changed_pin_asks_the_branch_once_more(
    fetched: bool,
    large: bool,
    branch: Branch,
    server: Server,
    tmp_path: Path,
    unplug: Callable[[], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    branch.large = large
    if fetched:
        catalog(tmp_path / "m.yaml", OLD["vocab.txt"]).load_tokenizer("m")
    catalog(tmp_path / "m.yaml", OLD["vocab.txt"]).load_config("m")
    branch.main = NEXT
    changed = catalog(tmp_path / "m.yaml", NEW["vocab.txt"])
    assert changed.load_config("m").vocab_size == 6  # nothing that needs the pin
    assert len(changed.load_tokenizer("m")) == 7
    assert changed.load_config("m").vocab_size == 7  # of the same commit
    if fetched:
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    unplug()
    assert len(changed.load_tokenizer("m")) == 7 and changed.load_config("m").vocab_size == 7


def test_all_files_of_an_operation_are_of_one_commit(branch: Branch, server: Server, cache: Path) -> None:
    fetch(cache, SOURCE, "config.json")
    branch.main = NEXT
    with pytest.raises(Moved):
        get(cache, SOURCE, "vocab.txt", pinned("vocab.txt", NEW["vocab.txt"]))
    assert fetch(cache, SOURCE, "vocab.txt", pinned("vocab.txt", NEW["vocab.txt"])).path.read_bytes() == NEW["vocab.txt"]
    assert fetch(cache, SOURCE, "config.json").path.read_bytes() == NEW["config.json"]


@pytest.mark.parametrize("moves", [True, False], ids=["moved", "did not move"])
def test_a_pin_that_nothing_fits_is_an_error_that_names_refresh(
    moves: bool, branch: Branch, server: Server, cache: Path
) -> None:
    fetch(cache, SOURCE, "config.json")
    branch.main = NEXT if moves else COMMIT
    for _ in range(2):
        server.requests.clear()
        with pytest.raises(IntegrityError, match=r"expected to be .* but is .*--refresh") as caught:
            get(cache, SOURCE, "vocab.txt", pinned("vocab.txt", b"other"))
        assert caught.value.expected == sha256(b"other") and len(server.requests) <= 8
    assert fetch(cache, SOURCE, "config.json").path.read_bytes() == OLD["config.json"]  # the branch stays where it was


def test_a_pin_at_a_commit_is_held_to_that(branch: Branch, server: Server, cache: Path) -> None:
    branch.main = NEXT
    with pytest.raises(IntegrityError) as caught:
        get(cache, f"hf://{REPO}@{COMMIT}", "vocab.txt", pinned("vocab.txt", NEW["vocab.txt"]))
    assert "refresh" not in str(caught.value) and not any("/main/" in request.path for request in server.requests)


def test_a_changed_pin_that_is_here_asks_nobody(
    branch: Branch, server: Server, cache: Path, unplug: Callable[[], None]
) -> None:
    fetch(cache, SOURCE, "config.json")
    fetch(cache, f"hf://{REPO}@{NEXT}", "vocab.txt")
    unplug()
    before = listing(cache)
    assert fetch(cache, SOURCE, "vocab.txt", pinned("vocab.txt", NEW["vocab.txt"])).trust == "catalog"
    with pytest.raises(OfflineError):
        get(cache, SOURCE, "vocab.txt", pinned("vocab.txt", b"other"), offline=True)
    assert listing(cache) == before


@pytest.mark.parametrize("what", ["load_tokenizer", "load_config", "from_pretrained"])
def test_a_refresh_asks_for_what_is_there_now(what: str, branch: Branch, server: Server) -> None:
    calls: dict[str, Callable[..., object]] = {
        "load_tokenizer": lambda **how: len(registry.load_tokenizer(SOURCE, family="bert", **how)),
        "load_config": lambda **how: registry.load_config(SOURCE, **how).vocab_size,
        "from_pretrained": lambda **how: registry.BertConfig.from_pretrained(SOURCE, **how).vocab_size,
    }
    assert calls[what]() == 6
    branch.main = NEXT
    assert calls[what]() == 6
    assert calls[what](refresh=True) == 7
    assert calls[what]() == 7


def test_one_file_can_be_refreshed(server: Server, branch: Branch) -> None:
    one = registry.ModelRegistry()
    one.fetch_file(SOURCE, "config.json")
    branch.main = NEXT
    assert one.fetch_file(SOURCE, "config.json").read_bytes() == OLD["config.json"]
    assert one.fetch_file(SOURCE, "config.json", refresh=True).read_bytes() == NEW["config.json"]


def test_a_refresh_that_replaces_what_was_trusted_on_first_use_says_so(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = {"/a/vocab.txt": OLD["vocab.txt"]}
    with file_server(files) as server:
        source = f"{server.url}/a"
        fetch(cache, source, "vocab.txt")
        fetch(cache, source, "vocab.txt", refresh=True)
        assert not caplog.records
        files["/a/vocab.txt"] = NEW["vocab.txt"]
        fetch(cache, source, "vocab.txt", refresh=True)
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        said = record.getMessage()
        assert sha256(OLD["vocab.txt"]) in said and sha256(NEW["vocab.txt"]) in said and f"{source}/vocab.txt" in said


def test_other_bytes_than_those_trusted_on_first_use_are_an_error_that_names_refresh(cache: Path) -> None:
    files = {"/a/vocab.txt": OLD["vocab.txt"]}
    with file_server(files) as server:
        fetch(cache, f"{server.url}/a", "vocab.txt").path.unlink()
        files["/a/vocab.txt"] = NEW["vocab.txt"]
        with pytest.raises(IntegrityError, match="--refresh"):
            get(cache, f"{server.url}/a", "vocab.txt")
        assert fetch(cache, f"{server.url}/a", "vocab.txt", refresh=True).path.read_bytes() == NEW["vocab.txt"]


def test_a_hub_that_cannot_be_asked_leaves_the_mismatch(
    branch: Branch, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(cache, SOURCE, "vocab.txt")
    plain = server.answer

    def answer(handler: Handler, request: Request) -> None:
        if "/main/" in request.path:
            handler.reply(request, 500)
        else:
            plain(handler, request)

    server.answer = answer
    monkeypatch.setenv("REGISTRY_RETRIES", "0")
    with pytest.raises(IntegrityError, match=sha256(NEW["vocab.txt"])):
        get(cache, SOURCE, "vocab.txt", pinned("vocab.txt", NEW["vocab.txt"]))
    with pytest.raises(DownloadError):
        get(cache, SOURCE, "vocab.txt", refresh=True)
