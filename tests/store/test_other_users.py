"""Caches that other users can write: theirs prove nothing by themselves, and what they plant in ours is not followed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import registry
from registry.base.files import is_private
from registry.errors import CacheError, DownloadError, OfflineError
from registry.store.cache import Cache, ref_name, stamp_path
from registry.store.partial import Partial
from tests.servers import COMMIT, HubFiles, file_server, hub_server
from tests.store.helpers import BODY, URL, fetch, get, pinned, sha256
from tests.store.test_hub import git_sha1

REPO = "acme/tiny"
SOURCE = f"hf://{REPO}@{COMMIT}"
NAME = "model.safetensors"
FILES = {NAME: BODY, "config.json": b'{"model_type": "bert"}', "vocab.txt": b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n"}


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub library's cache with a whole repository, in its documented layout."""
    return hub_cache(FILES)


def hub_cache(files: dict[str, bytes]) -> Path:
    root = Path.home() / ".cache" / "huggingface" / "hub"
    place = root / f"models--{REPO.replace('/', '--')}"
    for part in ("blobs", "refs", f"snapshots/{COMMIT}"):
        (place / part).mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT)
    for name, body in files.items():
        blob = sha256(body) if name.endswith(".safetensors") else git_sha1(body)
        (place / "blobs" / blob).write_bytes(body)
        (place / "snapshots" / COMMIT / name).symlink_to(Path("..") / ".." / "blobs" / blob)
    return root


def _writable(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o002)


def _given_away(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to another user")
    os.lchown(path, 65534, 65534)


#: What makes somebody else able to write: how, and to what below the cache.
SHARED = [
    (how, part)
    for how in (_writable, _given_away)
    for part in (".", "models--acme--tiny", "snapshots", f"snapshots/{COMMIT}", "blobs", "a blob")
]
IDS = [f"{how.__name__[1:]} {part}".replace(COMMIT, "commit") for how, part in SHARED]


def share(theirs: Path, how: Callable[[Path], None], part: str) -> None:
    place = theirs / "models--acme--tiny"
    if part == "a blob":
        for blob in (place / "blobs").iterdir():
            how(blob)
    else:
        how(theirs if part == "." else place if part == place.name else place / part)


@pytest.mark.parametrize(("how", "part"), SHARED, ids=IDS)
def test_a_cache_that_others_can_write_says_nothing(
    how: Callable[[Path], None], part: str, theirs: Path, cache: Path, unplug: Callable[[], None]
) -> None:
    share(theirs, how, part)
    unplug()
    with pytest.raises(OfflineError):
        get(cache, SOURCE, NAME, offline=True)


@pytest.mark.parametrize("pin", [True, False], ids=["a pin", "the hub's word"])
@pytest.mark.parametrize(("how", "part"), SHARED, ids=IDS)
def test_what_is_proven_is_copied_and_not_linked(
    how: Callable[[Path], None], part: str, pin: bool, theirs: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share(theirs, how, part)
    with hub_server(HubFiles({REPO: FILES})) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        file = fetch(cache, SOURCE, NAME, pinned(NAME, BODY) if pin else {})
        assert {request.method for request in server.requests} == (set() if pin else {"HEAD"})
    # That the bytes were found by a folder which others can write is no harm: the hash proves them.
    assert file.path.read_bytes() == BODY and file.path.stat().st_nlink == (2 if part.startswith("snapshots") else 1)


@pytest.mark.parametrize("part", ["refs/main", f".no_exist/{COMMIT}/vocab.txt"])
@pytest.mark.parametrize("how", [_writable, _given_away])
def test_a_revision_and_a_mark_that_others_can_write_say_nothing(
    how: Callable[[Path], None], part: str, theirs: Path, cache: Path
) -> None:
    mark = theirs / "models--acme--tiny" / part
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    how(mark)
    if "refs" in part:
        with pytest.raises(OfflineError):
            get(cache, f"hf://{REPO}", NAME, offline=True)
    else:
        shutil.rmtree(theirs / "models--acme--tiny" / "snapshots")
        with pytest.raises(OfflineError):
            get(cache, SOURCE, "vocab.txt", offline=True)


def test_where_pins_are_required_no_cache_is_believed(
    theirs: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setenv("REGISTRY_RETRIES", "0")
    assert fetch(cache, SOURCE, NAME).trust == "hub-cache"
    monkeypatch.setenv("REGISTRY_REQUIRE_PINS", "1")
    with pytest.raises(DownloadError):  # neither that cache nor what was recorded of it
        get(cache, SOURCE, NAME)
    with pytest.raises(OfflineError):
        get(cache, f"hf://{REPO}", NAME, offline=True)
    assert fetch(cache, SOURCE, NAME, pinned(NAME, BODY)).trust == "catalog"


def test_where_pins_are_required_a_hash_that_the_hub_stated_and_the_store_recorded_counts(
    theirs: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, unplug: Callable[[], None]
) -> None:
    fetch(cache, SOURCE, NAME)
    monkeypatch.setenv("REGISTRY_REQUIRE_PINS", "1")
    with hub_server(HubFiles({REPO: FILES})) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        assert fetch(cache, SOURCE, NAME).trust == "hub"
        assert [request.method for request in server.requests] == ["HEAD"]
    unplug()
    assert fetch(cache, SOURCE, NAME).trust == "hub"


def test_a_folder_of_a_group_of_ones_own_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import grp

    (file := tmp_path / "a").touch()
    file.chmod(0o660)
    own = grp.getgrgid(file.stat().st_gid).gr_mem in ([], ["root"])
    assert is_private(file, [tmp_path]) is own
    assert not is_private(tmp_path / "missing", [tmp_path])


def test_a_link_is_private_where_its_end_is(tmp_path: Path) -> None:
    inside, outside = tmp_path / "cache", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
    (outside / "a").touch()
    (inside / "link").symlink_to(outside / "a")
    (inside / "loop").symlink_to("loop")
    assert is_private(inside / "link", [inside]) and is_private(inside / "loop", [inside])
    outside.chmod(0o777)
    assert not is_private(inside / "link", [inside])
    outside.chmod(0o755)
    tmp_path.chmod(0o777)  # above the cache
    assert is_private(inside / "link", [inside])


# -- a whole repository in the hub's cache -----------------------------------------------------------------------------


SHARDED = {
    **{name: body for name, body in FILES.items() if name != NAME},
    "model.safetensors.index.json": json.dumps(
        {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    ).encode(),
    "model-1.safetensors": BODY,
    "model-2.safetensors": BODY[::-1],
}


@pytest.mark.parametrize("source", [SOURCE, f"hf://{REPO}"], ids=["a commit", "a branch"])
@pytest.mark.parametrize("files", [FILES, SHARDED], ids=["one file of weights", "shards"])
def test_offline_a_whole_snapshot_shows_what_there_is_not(
    files: dict[str, bytes], source: str, cache: Path, unplug: Callable[[], None]
) -> None:
    hub_cache(files)
    unplug()
    folder = registry.fetch(source, family="bert", offline=True)
    assert {path.name for path in folder.iterdir()} == set(files)
    assert registry.load_tokenizer(source, family="bert", offline=True).tokenize("a") == ["a"]


@pytest.mark.parametrize("lacking", [NAME, "config.json", "vocab.txt", "model-2.safetensors"])
def test_offline_what_is_not_whole_shows_nothing(lacking: str, cache: Path, unplug: Callable[[], None]) -> None:
    files = SHARDED if lacking.startswith("model-") else FILES
    hub_cache({name: body for name, body in files.items() if name != lacking})
    unplug()
    for name in (lacking, "tokenizer_config.json"):
        with pytest.raises(OfflineError):
            get(cache, SOURCE, name, offline=True)


@pytest.mark.parametrize(
    "files",
    [
        {"config.json": b"{}", "vocab.json": b"{}", NAME: BODY},  # without merges.txt
        {"config.json": b"{}", "vocab.txt": b"a", "training_args.bin": BODY},
        {"config.json": b"{}", "vocab.txt": b"a", "model.safetensors.index.json": b"[", "model-1.safetensors": BODY},
    ],
    ids=["half of a vocabulary", "no weights", "an index that cannot be read"],
)
def test_what_looks_whole_shows_nothing(files: dict[str, bytes], cache: Path) -> None:
    hub_cache(files)
    with pytest.raises(OfflineError):
        get(cache, SOURCE, "tokenizer_config.json", offline=True)


def test_what_a_whole_snapshot_lacks_is_asked_for_once_there_is_a_network(
    theirs: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.fetch(SOURCE, family="bert", offline=True)
    with hub_server(HubFiles({REPO: {**FILES, "tokenizer_config.json": b"{}"}})) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        assert (registry.fetch(SOURCE, family="bert") / "tokenizer_config.json").read_bytes() == b"{}"


# -- what is planted in a cache of ours --------------------------------------------------------------------------------


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A user's own file, in a folder of the user's own."""
    (folder := tmp_path / "victim").mkdir()
    (folder / "notes.txt").write_text("mine")
    return folder / "notes.txt"


def untouched(victim: Path) -> bool:
    return victim.read_text() == "mine" and [path.name for path in victim.parent.iterdir()] == [victim.name]


@pytest.mark.parametrize("part", ["locks", "refs", "blobs", "blobs/sha256"])
def test_a_folder_of_the_cache_that_is_a_link_is_refused(part: str, victim: Path, cache: Path) -> None:
    (cache / part).parent.mkdir(parents=True, exist_ok=True)
    (cache / part).symlink_to(victim.parent)
    with file_server({f"/{NAME}": BODY}) as server, pytest.raises(CacheError, match="is a link or file where a folder"):
        get(cache, server.url, NAME)
    assert untouched(victim)


@pytest.mark.parametrize("what", ["link", "pipe"])
@pytest.mark.parametrize("part", ["record", "lock", "blob", "stamp", "folder of names"])
def test_what_stands_in_a_files_place_is_not_followed(part: str, what: str, victim: Path, cache: Path) -> None:
    with file_server({f"/{NAME}": BODY}) as server:
        url = f"{server.url}/{NAME}"
        pins = pinned(NAME, BODY) if part != "record" else {}
        ours = Cache((cache,))
        blob = ours.blob(sha256(BODY))
        place = {
            "record": cache / ref_name(url),
            "lock": cache / "locks" / f"{sha256(BODY)}.lock",
            "blob": blob,
            "stamp": stamp_path(blob),
            "folder of names": cache / "folders",
        }[part]
        place.parent.mkdir(parents=True, exist_ok=True)
        if what == "link":
            place.symlink_to(victim.parent if part == "folder of names" else victim)
        else:
            os.mkfifo(place)
        try:
            assert fetch(cache, server.url, NAME, pins).path.read_bytes() == BODY
        except CacheError:
            assert part in ("lock", "folder of names")
    assert untouched(victim)


def test_what_another_user_seems_to_have_left_of_a_download_is_not_gone_on_with(victim: Path, cache: Path) -> None:
    """A link to a file of ours has the owner that we have."""
    key = sha256(BODY)
    with file_server({f"/{NAME}": BODY}) as server:
        url = f"{server.url}/{NAME}"
        left = Partial.claim(Cache((cache,)), key, url, identified=True)
        left.begin('"1"', len(BODY))
        with left.writer(0) as writer:
            writer.write(b"mine")
        left.leave(resumable=True)
        (partial,) = cache.rglob("*.partial")
        partial.unlink()
        partial.symlink_to(victim)
        assert fetch(cache, server.url, NAME, pinned(NAME, BODY)).path.read_bytes() == BODY
    assert untouched(victim)


def test_a_journal_that_is_a_link_is_not_written(victim: Path, cache: Path) -> None:
    partial = Partial.claim(Cache((cache,)), "ab" * 32, URL, identified=True)
    partial._journal.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        partial.begin(None, 4)
    assert untouched(victim)


def test_links_of_a_cache_are_not_pruned_through(victim: Path, cache: Path) -> None:
    (victim.parent / ("ab" * 32)).write_text("mine, too")
    cache.mkdir()
    for part in ("quarantine", "locks", "unpacked", "folders"):
        (cache / part).symlink_to(victim.parent)
    registry.ModelRegistry(cache_dir=cache).prune(max_size=0)
    assert (victim.parent / ("ab" * 32)).read_text() == "mine, too"


def test_an_unpacked_archive_that_is_a_link_is_not_used(
    victim: Path, cache: Path, tmp_path: Path, unplug: Callable[[], None]
) -> None:
    source = tmp_path / "m"
    sizes = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    registry.BertModel(registry.BertConfig(**sizes)).save_pretrained(source)
    archive = Path(shutil.make_archive(str(tmp_path / "model"), "gztar", source))
    registry.load(archive)
    (folder,) = (path for path in (cache / "unpacked").iterdir() if path.is_dir())
    copy = tmp_path / "copy"
    folder.rename(copy)
    folder.symlink_to(copy)
    registry.load(archive)
    assert not folder.is_symlink() and folder.is_dir() and (copy / "config.json").exists()
