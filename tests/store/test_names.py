"""File names that are not plain in a URL, on every way to a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

import registry
from registry.errors import ConfigError, DownloadError
from registry.store.target import url_target
from registry.store.transports.hub import hub_url, split_hub_url
from tests.servers import COMMIT, Handler, Request, serving
from tests.store.helpers import BODY, OTHER, fetch, get, pinned, sha256
from tests.store.test_hub import git_sha1

NAMES = ["hash#tag.txt", "100%.txt", "a%20b.txt", "a b.txt", "%23.txt", "a+b&c=d.txt", "ü.txt", "sub dir/a#b%.txt", "a;b@c.txt"]
#: What a program would ask for that cuts or decodes a name once too often.
DECOYS = ["hash", "a", "sub dir/a", "#.txt"]


def contents(name: str) -> dict[str, bytes]:
    return {**{decoy: OTHER for decoy in DECOYS if decoy != name}, name: BODY}


def answer(files: dict[str, bytes], inner: Callable[[str], str]) -> Callable[[Handler, Request], None]:
    """Serve files by the names that addresses mean."""

    def reply(handler: Handler, request: Request) -> None:
        body = files.get(inner(unquote(request.path.partition("?")[0])))
        said = {"X-Repo-Commit": COMMIT} | (
            {"X-Error-Code": "EntryNotFound"} if body is None else {"ETag": f'"{git_sha1(body)}"'}
        )
        handler.reply(request, 404 if body is None else 200, body or b"", said)

    return reply


@contextmanager
def place(way: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield a source that has the file, and others of names that could be taken for its."""
    files = contents(name)
    if way in ("http", "hub"):
        inner = (lambda path: path.partition("/m/")[2]) if way == "http" else (lambda path: path.split("/", 5)[5])
        with serving(answer(files, inner)) as server:
            monkeypatch.setenv("HF_ENDPOINT", server.url)
            yield f"{server.url}/m" if way == "http" else "hf://org/y@main"
        return
    folder = tmp_path / "packages" / "acme_files" / "m"
    for file, body in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        if not (folder / file).is_dir():
            (folder / file).write_bytes(body)
    (folder.parent / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path / "packages"), *sys.path])
    yield {"file": folder.as_uri(), "path": str(folder), "package": "package://acme_files/m"}[way]


WAYS = ["http", "hub", "file", "path", "package"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", WAYS)
def test_a_name_is_what_it_is(way: str, name: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with place(way, name, tmp_path, monkeypatch) as source:
        for pins in ({}, pinned(name, BODY)):
            assert fetch(cache, source, name, pins).path.read_bytes() == BODY
        assert registry.ModelRegistry().fetch_file(source, name).read_bytes() == BODY
        assert get(cache, source, f"not {name}") is None


@pytest.mark.parametrize("name", [name for name in NAMES if "/" not in name])
@pytest.mark.parametrize("way", ["http", "hub", "file"])
def test_in_an_address_a_name_is_escaped(way: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with place(way, name, tmp_path, monkeypatch) as source:
        target = url_target(f"{source}/{quote(name)}")
        assert target.file == name and target.place.sources == (source,)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", WAYS)
def test_a_key_of_files_is_a_name(way: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with place(way, name, tmp_path, monkeypatch) as source:
        files = {name: {"sha256": sha256(BODY)}}
        catalog = tmp_path / "m.yaml"
        catalog.write_text(json.dumps({"registry": 1, "models": {"m": {"family": "bert", "source": source, "files": files}}}))
        assert registry.ModelRegistry(catalogs=[catalog]).fetch_file("m", name).read_bytes() == BODY


@pytest.mark.parametrize("way", ["http", "hub"])
@pytest.mark.parametrize("name", ["what?.txt", "a:b.txt", "a\\b.txt"])
def test_a_name_that_some_system_does_not_take_is_refused_by_its_character(
    name: str, way: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with place(way, name, tmp_path, monkeypatch) as source, pytest.raises(ConfigError, match="contains the character"):
        get(cache, source, name)


@pytest.mark.parametrize("source", ["file:///a/b#c", "file:///a/b?c", "http://127.0.0.1:9/a#b", "hf://org/y@main/a#b"])
def test_an_address_with_a_fragment_is_refused(source: str, cache: Path) -> None:
    with pytest.raises(DownloadError, match="%23"):
        get(cache, source, "a.txt")


@pytest.mark.parametrize("path", ["", "a", "a b/c#d%e", "ü"])
def test_the_address_of_a_file_of_the_hub_can_be_taken_apart(path: str) -> None:
    assert split_hub_url(hub_url("org/y", "refs/pr/5", path)) == ("org/y", "refs/pr/5", path)


def test_an_escape_that_no_name_can_mean_stays(tmp_path: Path) -> None:
    assert url_target("https://models.example/m/a%2Fb.txt").file == "a%2Fb.txt"
    assert url_target("https://models.example/m/%FF.txt").file == "%FF.txt"


def test_a_whole_file_of_the_hubs_cache_is_found_by_its_name(cache: Path, unplug: Callable[[], None]) -> None:
    name = "a b#c%.txt"
    place = Path.home() / ".cache" / "huggingface" / "hub" / "models--org--y"
    for part in ("blobs", "snapshots"):
        (place / part).mkdir(parents=True)
    (place / "blobs" / git_sha1(BODY)).write_bytes(BODY)
    (place / "snapshots" / COMMIT).mkdir()
    (place / "snapshots" / COMMIT / name).symlink_to(f"../../blobs/{git_sha1(BODY)}")
    unplug()
    for _ in range(2):
        assert fetch(cache, f"hf://org/y@{COMMIT}", name, offline=True).path.read_bytes() == BODY
