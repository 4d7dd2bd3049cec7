"""Files that other libraries have brought to this machine are used, once they are proven to be the ones that are wanted."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

import registry
from registry.catalog.entry import FilePin
from registry.errors import CacheError, ConfigError, IntegrityError, OfflineError
from registry.store.adopt import adoption, other_caches
from registry.store.adopt.other_caches import old_address
from registry.store.cache import Cache
from registry.store.events import FileEvent
from registry.store.store import Store
from registry.store.target import Place, StoredFile
from tests.oracles import old, quiet
from tests.servers import COMMIT, Handler, HubFiles, Request, Server, file_server, hub_server, serving
from tests.store.helpers import evict, fetch, get, listing, pinned, sha256

NAME = "bert-tiny-uncased"
REPO = f"google-bert/{NAME}"
SOURCE = f"hf://{REPO}@{COMMIT}"
MOVING = f"hf://{REPO}"
OTHERS = "acme/support-bert"
LARGE = bytes(range(256)) * 100
BIN = LARGE[::-1]
SMALL = b'{"model_type": "bert"}'
VOCAB = b"[PAD]\n[UNK]\n"
NEXT = "fedcba0987654321fedcba0987654321fedcba09"

Unplug = Callable[[], None]


def git_sha1(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


def md5_etag(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'


@pytest.fixture
def hub() -> HubFiles:
    files = {"config.json": SMALL, "model.safetensors": LARGE, "pytorch_model.bin": BIN, "vocab.txt": VOCAB}
    return HubFiles({REPO: files, OTHERS: dict(files)})


@pytest.fixture
def cdn(hub: HubFiles) -> Iterator[Server]:
    """Where large files lie: at another origin than the hub, by which the hub's library tells that they are large."""

    def answer(handler: Handler, request: Request) -> None:
        bodies = (body for files in hub.files.values() for body in files.values())
        handler.reply(request, 200, next(body for body in bodies if request.path.startswith(f"/cdn/{sha256(body)}?")))

    with serving(answer) as server:
        hub.cdn = server.url
        yield server


@pytest.fixture
def server(hub: HubFiles, cdn: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with hub_server(hub) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def theirs() -> Path:
    """The hub library's cache, where it is by default."""
    return Path.home() / ".cache" / "huggingface" / "hub"


def download(server: Server, theirs: Path, name: str, repo: str = REPO, revision: str = COMMIT) -> Path:
    """Let the hub's own library bring a file into its own cache; return the file behind its links."""
    found = hf_hub_download(repo, name, revision=revision, cache_dir=theirs, endpoint=server.url)
    return Path(found).resolve()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, tuple[bytes, str | None]]]:
    """The old address, on this machine: bodies and ETags by `<name>-<file>`."""
    files: dict[str, tuple[bytes, str | None]] = {}

    def answer(handler: Handler, request: Request) -> None:
        body, etag = files[request.path.removeprefix("/bert/")]
        handler.reply(request, 200, body, {"ETag": etag} if etag else {})

    with serving(answer) as server:
        monkeypatch.setattr(other_caches, "_OLD", f"{server.url}/bert/")
        yield files


@pytest.fixture
def flat() -> Path:
    """The cache of pytorch_transformers, where it is by default."""
    return Path.home() / ".cache" / "torch" / "pytorch_transformers"


def old_download(url: str, folder: Path) -> Path:
    """Let the old library bring a file into its own cache."""
    return Path(quiet(old.file_utils.cached_path, url, cache_dir=str(folder)))


def bring(
    s3: dict[str, tuple[bytes, str | None]], flat: Path, name: str, body: bytes, etag: str | None = None, repo: str = REPO
) -> Path:
    """Let the old library bring a file of a shortcut; the ETag is a plain MD5 unless another is given."""
    address = old_address(repo, name)
    assert address is not None
    s3[address.rpartition("/")[2]] = (body, md5_etag(body) if etag is None else etag)
    return old_download(address, flat)


def shares(file: StoredFile, other: Path) -> bool:
    return (file.path.stat().st_dev, file.path.stat().st_ino) == (other.stat().st_dev, other.stat().st_ino)


def never(*args: object, **kwargs: object) -> NoReturn:
    pytest.fail("another library's cache was looked at")


# -- the hub's cache -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "body"), [("model.safetensors", LARGE), ("config.json", SMALL)], ids=["a large file", "a small file"]
)
@pytest.mark.parametrize("pin", [True, False], ids=["pinned", "at a commit"])
def test_a_file_of_the_hubs_cache_is_linked_and_nobody_is_asked(
    name: str, body: bytes, pin: bool, server: Server, theirs: Path, cache: Path, unplug: Unplug
) -> None:
    blob = download(server, theirs, name)
    before, mode = listing(theirs), blob.stat().st_mode
    unplug()
    file = fetch(cache, SOURCE, name, pinned(name, body, len(body)) if pin else {})
    assert (file.path.read_bytes(), file.sha256, file.trust) == (body, sha256(body), "catalog" if pin else "hub-cache")
    assert shares(file, blob)
    assert (listing(theirs), blob.stat().st_mode) == (before, mode)


def test_what_was_taken_over_is_kept_when_the_other_cache_is_gone(
    server: Server, theirs: Path, cache: Path, unplug: Unplug
) -> None:
    download(server, theirs, "config.json")
    unplug()
    fetch(cache, SOURCE, "config.json")
    shutil.rmtree(theirs)
    assert fetch(cache, SOURCE, "config.json", offline=True).trust == "hub-cache"


def test_the_hubs_cache_is_where_its_library_says(
    server: Server, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {
        "XDG_CACHE_HOME": ("~/xdg", "xdg/huggingface/hub"),
        "HF_HOME": ("$HOME/hf", "hf/hub"),
        "HUGGINGFACE_HUB_CACHE": ("~/hub1", "hub1"),
        "HF_HUB_CACHE": ("~/hub2", "hub2"),
    }
    for variable, (value, folder) in places.items():  # each goes before those above
        monkeypatch.setenv(variable, value)
        blob = download(server, Path.home() / folder, "config.json")
        assert shares(fetch(tmp_path / variable, SOURCE, "config.json", offline=True), blob)


def test_a_repository_may_lie_under_the_name_it_had_before_it_got_an_owner(
    hub: HubFiles, server: Server, theirs: Path, cache: Path, unplug: Unplug
) -> None:
    hub.files[NAME] = hub.files[REPO]
    blob = download(server, theirs, "model.safetensors", repo=NAME)
    unplug()
    assert shares(fetch(cache, SOURCE, "model.safetensors"), blob)


@pytest.mark.parametrize("source", ["https://models.acme.example/support", "hf://acme/support-bert"])
def test_a_pinned_file_is_taken_from_any_repository(
    source: str, server: Server, theirs: Path, cache: Path, unplug: Unplug
) -> None:
    blob = download(server, theirs, "model.safetensors")
    unplug()
    assert shares(fetch(cache, source, "model.safetensors", pinned("model.safetensors", LARGE)), blob)


def test_a_small_pinned_file_is_found_at_another_commit(
    hub: HubFiles, server: Server, theirs: Path, cache: Path, unplug: Unplug
) -> None:
    hub.commits["old"] = NEXT
    blob = download(server, theirs, "vocab.txt", revision=NEXT)
    unplug()
    assert shares(fetch(cache, SOURCE, "vocab.txt", pinned("vocab.txt", VOCAB)), blob)


def test_an_unpinned_file_of_another_commit_is_not_used(hub: HubFiles, server: Server, theirs: Path, cache: Path) -> None:
    hub.commits["old"] = NEXT
    download(server, theirs, "vocab.txt", revision=NEXT)
    with pytest.raises(OfflineError):
        get(cache, SOURCE, "vocab.txt", offline=True)


def test_a_branch_is_asked_for_and_only_the_bytes_are_saved(server: Server, cdn: Server, theirs: Path, cache: Path) -> None:
    blobs = {name: download(server, theirs, name, revision="main") for name in ("model.safetensors", "config.json")}
    server.requests.clear()
    cdn.requests.clear()
    for name, blob in blobs.items():
        file = fetch(cache, MOVING, name)
        assert shares(file, blob)
        assert file.trust == ("hub" if name == "model.safetensors" else "hub-cache")  # its commit is known by then
    assert {request.method for request in server.requests} == {"HEAD"}
    assert cdn.requests == []


@pytest.mark.parametrize("revision", [COMMIT, "main"])
def test_offline_a_file_that_the_hub_does_not_have_is_known_to_be_absent(
    revision: str, server: Server, theirs: Path, cache: Path, unplug: Unplug
) -> None:
    """A tokenizer may have files beside its vocabulary; that there are none must not take a network to know."""
    download(server, theirs, "vocab.txt", revision=revision)
    with pytest.raises(EntryNotFoundError):
        download(server, theirs, "tokenizer_config.json", revision=revision)
    unplug()
    source = f"hf://{REPO}@{revision}"
    assert get(cache, source, "tokenizer_config.json", offline=True) is None
    with pytest.raises(OfflineError):
        get(cache, source, "added_tokens.json", offline=True)
    with pytest.raises(OfflineError):
        get(cache, source, "tokenizer_config.json", pinned("tokenizer_config.json", SMALL), offline=True)
    shutil.rmtree(theirs)
    assert get(cache, SOURCE, "tokenizer_config.json", offline=True) is None, "it was not remembered"


def test_online_a_branch_may_have_got_a_file(hub: HubFiles, server: Server, theirs: Path, cache: Path) -> None:
    with pytest.raises(EntryNotFoundError):
        download(server, theirs, "tokenizer_config.json", revision="main")
    hub.files[REPO]["tokenizer_config.json"] = SMALL
    assert fetch(cache, MOVING, "tokenizer_config.json").path.read_bytes() == SMALL


def test_offline_a_branch_is_what_it_was_when_the_hubs_library_asked(
    hub: HubFiles, server: Server, theirs: Path, cache: Path, unplug: Unplug
) -> None:
    blob = download(server, theirs, "config.json", revision="main")
    for _ in range(2):
        assert shares(fetch(cache, MOVING, "config.json", offline=True), blob)
    hub.commits["main"], hub.files[REPO]["config.json"] = NEXT, b"{}"
    assert fetch(cache, MOVING, "config.json").path.read_bytes() == b"{}"  # the branch was not recorded as that commit


@pytest.mark.parametrize("text", ["", "main", "a/b\nc", "\0"])
def test_a_ref_that_is_no_commit_says_nothing(text: str, server: Server, theirs: Path, cache: Path) -> None:
    download(server, theirs, "config.json", revision="main")
    (theirs / f"models--google-bert--{NAME}" / "refs" / "main").write_text(text)
    with pytest.raises(OfflineError):
        get(cache, MOVING, "config.json", offline=True)


def test_a_revision_does_not_lead_out_of_the_refs(server: Server, theirs: Path, cache: Path) -> None:
    download(server, theirs, "config.json", revision="main")
    (theirs / f"models--google-bert--{NAME}" / "x").write_text(COMMIT)
    with pytest.raises(OfflineError):
        get(cache, f"{MOVING}@..%2Fx", "config.json", offline=True)


def test_a_snapshot_that_is_no_commits_says_nothing(server: Server, theirs: Path, cache: Path) -> None:
    download(server, theirs, "config.json")
    snapshots = theirs / f"models--google-bert--{NAME}" / "snapshots"
    (snapshots / COMMIT).rename(snapshots / "main")
    with pytest.raises(OfflineError):
        get(cache, MOVING, "config.json", offline=True)


def test_a_name_does_not_lead_out_of_its_snapshot(hub: HubFiles, server: Server, theirs: Path, cache: Path) -> None:
    hub.commits["old"] = NEXT
    for commit in (COMMIT, NEXT):
        download(server, theirs, "vocab.txt", revision=commit)
    with pytest.raises(ConfigError):
        get(cache, SOURCE, f"../{NEXT}/vocab.txt", offline=True)


def test_online_a_branch_is_not_what_it_was(hub: HubFiles, server: Server, theirs: Path, cache: Path) -> None:
    download(server, theirs, "config.json", revision="main")
    hub.commits["main"], hub.files[REPO]["config.json"] = NEXT, b"{}"
    assert fetch(cache, MOVING, "config.json").path.read_bytes() == b"{}"


def test_looking_whether_all_is_here_is_not_being_offline(hub: HubFiles, server: Server, theirs: Path, cache: Path) -> None:
    download(server, theirs, "config.json", revision="main")
    with Store(Cache((cache,)), offline=False) as store, store.local_only(), pytest.raises(OfflineError):
        store.get(Place((MOVING,)), "config.json")


def test_refresh_asks_even_so(server: Server, theirs: Path, cache: Path) -> None:
    blob = download(server, theirs, "model.safetensors")
    server.requests.clear()
    assert shares(fetch(cache, SOURCE, "model.safetensors", refresh=True), blob)
    assert [request.method for request in server.requests] == ["HEAD"]


def test_a_blob_that_repositories_share_is_found_by_the_name_it_has_in_its_own(
    server: Server, theirs: Path, cache: Path, unplug: Unplug
) -> None:
    blob = download(server, theirs, "model.safetensors")
    shared = theirs / "blobs" / "ff" / ("f" * 64)  # as its library keeps what it got by Xet: under a hash of another kind
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to(os.path.relpath(shared, blob.parent))
    unplug()
    assert shares(fetch(cache, SOURCE, "model.safetensors"), shared)


def test_a_snapshot_without_links_proves_nothing_by_itself(server: Server, theirs: Path, cache: Path) -> None:
    blob = download(server, theirs, "vocab.txt")
    pointer = theirs / f"models--google-bert--{NAME}" / "snapshots" / COMMIT / "vocab.txt"
    pointer.unlink()
    blob.rename(pointer)  # as its library does where there are no links
    with pytest.raises(OfflineError):
        get(cache, SOURCE, "vocab.txt", offline=True)
    assert shares(fetch(cache, SOURCE, "vocab.txt", pinned("vocab.txt", VOCAB), offline=True), pointer)


def test_a_link_that_does_not_lead_to_a_blob_proves_nothing(theirs: Path, tmp_path: Path, cache: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / sha256(LARGE)
    pointer = theirs / f"models--google-bert--{NAME}" / "snapshots" / COMMIT / "model.safetensors"
    for place in (elsewhere, pointer, pointer.parents[2] / "blobs" / "x"):
        place.parent.mkdir(parents=True)
    elsewhere.write_bytes(LARGE)
    pointer.symlink_to(elsewhere)
    with pytest.raises(OfflineError):
        get(cache, SOURCE, "model.safetensors", offline=True)


def _corrupt(blob: Path) -> None:
    blob.write_bytes(BIN)


def _truncate(blob: Path) -> None:
    blob.write_bytes(LARGE[:-1])


def _half_written(blob: Path) -> None:
    blob.rename(blob.with_name(f"{blob.name}.0123abcd.incomplete"))


def _dangling(blob: Path) -> None:
    blob.unlink()


def _circle(blob: Path) -> None:
    blob.unlink()
    blob.symlink_to(blob)


def _folder(blob: Path) -> None:
    blob.unlink()
    blob.mkdir()


def _fifo(blob: Path) -> None:
    blob.unlink()
    os.mkfifo(blob)


_HARMS = [_corrupt, _truncate, _half_written, _dangling, _circle, _folder, _fifo]


@pytest.mark.parametrize("pin", [True, False], ids=["pinned", "at a commit"])
@pytest.mark.parametrize("harm", _HARMS)
def test_what_is_not_the_file_is_passed_over_and_the_file_is_fetched(
    harm: Callable[[Path], None], pin: bool, server: Server, theirs: Path, cache: Path
) -> None:
    harm(download(server, theirs, "model.safetensors"))
    before = listing(theirs)
    file = fetch(cache, SOURCE, "model.safetensors", pinned("model.safetensors", LARGE) if pin else {})
    assert file.path.read_bytes() == LARGE
    assert listing(theirs) == before


def test_a_file_that_may_not_be_read_is_passed_over(
    server: Server, theirs: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = download(server, theirs, "model.safetensors")

    def refused(path: Path) -> NoReturn:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(adoption, "file_sha256", refused)
    assert not shares(fetch(cache, SOURCE, "model.safetensors"), blob)


def test_another_size_than_the_pinned_one_is_not_even_hashed(
    server: Server, theirs: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download(server, theirs, "model.safetensors")
    monkeypatch.setattr(adoption, "file_sha256", never)
    with pytest.raises(OfflineError):
        get(cache, SOURCE, "model.safetensors", {"model.safetensors": FilePin(size=len(LARGE) + 1)}, offline=True)
    with pytest.raises(OfflineError):
        get(cache, SOURCE, "model.safetensors", pinned("model.safetensors", LARGE, len(LARGE) + 1), offline=True)


def test_another_hash_than_the_pinned_one_in_a_name_or_record_is_not_even_hashed(
    server: Server, theirs: Path, flat: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download(server, theirs, "model.safetensors")
    with serving(lambda handler, request: handler.reply(request, 200, LARGE, {"ETag": f'"{sha256(LARGE)}"'})) as other:
        old_download(f"{other.url}/m/model.safetensors", flat)
    monkeypatch.setattr(adoption, "file_sha256", never)
    with pytest.raises(OfflineError):
        sources = (SOURCE, f"{other.url}/m")
        get(cache, sources, "model.safetensors", pinned("model.safetensors", BIN), offline=True)


def test_a_wrong_file_is_hashed_once(server: Server, theirs: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _corrupt(download(server, theirs, "model.safetensors"))
    hashed: Counter[Path] = Counter()

    def counting(path: Path) -> str:
        hashed[path] += 1
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(adoption, "file_sha256", counting)
    for _ in range(3):
        with pytest.raises(OfflineError):
            get(cache, SOURCE, "model.safetensors", pinned("model.safetensors", LARGE), offline=True)
    assert list(hashed.values()) == [1]


# -- the old libraries' caches ---------------------------------------------------------------------------------------------


def test_the_old_addresses_are_those_of_the_old_library() -> None:
    bpe = (old.OpenAIGPTTokenizer, old.GPT2Tokenizer)
    maps = {
        "pytorch_model.bin": [
            old.BERT_PRETRAINED_MODEL_ARCHIVE_MAP,
            old.OPENAI_GPT_PRETRAINED_MODEL_ARCHIVE_MAP,
            old.GPT2_PRETRAINED_MODEL_ARCHIVE_MAP,
            old.TRANSFO_XL_PRETRAINED_MODEL_ARCHIVE_MAP,
        ],
        "config.json": [
            old.BERT_PRETRAINED_CONFIG_ARCHIVE_MAP,
            old.OPENAI_GPT_PRETRAINED_CONFIG_ARCHIVE_MAP,
            old.GPT2_PRETRAINED_CONFIG_ARCHIVE_MAP,
            old.TRANSFO_XL_PRETRAINED_CONFIG_ARCHIVE_MAP,
        ],
        "vocab.txt": [old.BertTokenizer.pretrained_vocab_files_map["vocab_file"]],
        "vocab.json": [each.pretrained_vocab_files_map["vocab_file"] for each in bpe],
        "merges.txt": [each.pretrained_vocab_files_map["merges_file"] for each in bpe],
        "vocab.bin": [old.TransfoXLTokenizer.pretrained_vocab_files_map["pretrained_vocab_file"]],
    }
    checked = 0
    for name in registry.list_models():
        for file, listed in maps.items():
            for address in (each[name] for each in listed if name in each):
                repo = registry.resolve(name).source.removeprefix("hf://").partition("@")[0]
                assert old_address(repo, file) == address
                checked += 1
    assert checked == 11 * 3 + 3 * 4 + 3  # of the seventeen names, the two of dbmdz came later


def test_only_the_owners_of_the_old_names_have_an_old_address() -> None:
    assert old_address(OTHERS, "vocab.txt") is None
    assert old_address(REPO, "onnx/model.onnx") is None


_PLACES = [
    ("PYTORCH_TRANSFORMERS_CACHE", "~/a", "a"),
    ("PYTORCH_PRETRAINED_BERT_CACHE", "~/b", "b"),
    ("TRANSFORMERS_CACHE", "~/c", "c"),
    ("TORCH_HOME", "~/d", "d/pytorch_transformers"),
    ("TORCH_HOME", "~/d", "d/transformers"),
    ("TORCH_HOME", "~/d", "d/pytorch_pretrained_bert"),
    ("XDG_CACHE_HOME", "~/e", "e/torch/transformers"),
    ("", "", ".cache/torch/transformers"),
    ("", "", ".pytorch_pretrained_bert"),
]


@pytest.mark.parametrize(("variable", "value", "folder"), _PLACES)
def test_a_pinned_file_of_an_old_cache_is_linked_and_nobody_is_asked(
    variable: str,
    value: str,
    folder: str,
    s3: dict[str, tuple[bytes, str | None]],
    cache: Path,
    unplug: Unplug,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = bring(s3, Path.home() / folder, "pytorch_model.bin", BIN, '"0123456789abcdef0123456789abcdef-27"')
    if variable:
        monkeypatch.setenv(variable, value)
    unplug()
    file = fetch(cache, SOURCE, "pytorch_model.bin", pinned("pytorch_model.bin", BIN, len(BIN)))
    assert shares(file, kept)
    assert file.trust == "catalog"


def test_of_several_copies_of_an_address_the_right_one_is_found(
    s3: dict[str, tuple[bytes, str | None]], flat: Path, cache: Path
) -> None:
    kept = bring(s3, flat, "vocab.txt", VOCAB)
    bring(s3, flat, "vocab.txt", VOCAB + b"[NEW]\n")
    assert shares(fetch(cache, SOURCE, "vocab.txt", pinned("vocab.txt", VOCAB), offline=True), kept)


def test_an_address_of_the_users_own_is_found_by_a_pin_alone(cache: Path, flat: Path, unplug: Unplug) -> None:
    with serving(lambda handler, request: handler.reply(request, 200, VOCAB, {"ETag": md5_etag(VOCAB)})) as server:
        kept = old_download(f"{server.url}/m/vocab.txt", flat)
        with pytest.raises(OfflineError):
            get(cache, f"{server.url}/m", "vocab.txt", offline=True)
        asked = len(server.requests)
        assert not shares(fetch(cache, f"{server.url}/m", "vocab.txt"), kept)
        assert len(server.requests) > asked
        evict(cache)
        unplug()
        assert shares(fetch(cache, f"{server.url}/m", "vocab.txt", pinned("vocab.txt", VOCAB)), kept)


def test_what_a_url_was_found_to_be_is_found_again(flat: Path, cache: Path, unplug: Unplug) -> None:
    with file_server({"/m/vocab.txt": VOCAB}) as server:
        kept = old_download(f"{server.url}/m/vocab.txt", flat)
        fetch(cache, f"{server.url}/m", "vocab.txt")
        evict(cache)
        unplug()
        for offline in (True, False):
            file = fetch(cache, f"{server.url}/m", "vocab.txt", offline=offline)
            assert shares(file, kept)
            assert file.trust == "first-use"
            evict(cache)


def test_with_a_network_an_old_copy_is_held_to_the_hubs_word(
    s3: dict[str, tuple[bytes, str | None]], server: Server, cdn: Server, flat: Path, cache: Path
) -> None:
    same = {name: bring(s3, flat, name, body) for name, body in (("vocab.txt", VOCAB), ("pytorch_model.bin", BIN))}
    other = bring(s3, flat, "config.json", b"{}")
    for name, kept in same.items():
        file = fetch(cache, SOURCE, name)
        assert shares(file, kept)
        assert file.trust == "hub"
    assert {request.method for request in server.requests} == {"HEAD"}
    assert cdn.requests == []
    assert fetch(cache, SOURCE, "config.json").path.read_bytes() == SMALL
    assert other.read_bytes() == b"{}"


def test_offline_an_unpinned_old_copy_with_its_md5_is_trusted_on_first_use(
    s3: dict[str, tuple[bytes, str | None]], server: Server, flat: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = bring(s3, flat, "config.json", b"{}")
    file = fetch(cache, SOURCE, "config.json", offline=True)
    assert shares(file, kept)
    assert file.trust == "first-use"
    monkeypatch.setattr(adoption, "_file_md5", never)  # it is recorded, of the old address …
    assert fetch(cache, SOURCE, "config.json", offline=True) == file
    assert fetch(cache, SOURCE, "config.json").path.read_bytes() == SMALL  # … and not of the hub


def test_what_was_trusted_on_first_use_is_not_taken_over_where_pins_are_required(
    flat: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with file_server({"/m/vocab.txt": VOCAB}) as server:
        old_download(f"{server.url}/m/vocab.txt", flat)
        fetch(cache, f"{server.url}/m", "vocab.txt")
        evict(cache)
        monkeypatch.setenv("REGISTRY_REQUIRE_PINS", "1")
        with pytest.raises(IntegrityError, match="REGISTRY_REQUIRE_PINS"):
            get(cache, f"{server.url}/m", "vocab.txt")


def _forget(kept: Path) -> None:
    kept.with_name(f"{kept.name}.json").unlink()


def _other_url(kept: Path) -> None:
    record = kept.with_name(f"{kept.name}.json")
    record.write_text(json.dumps({**json.loads(record.read_text()), "url": "https://models.acme.example/config.json"}))


def _other_etag(kept: Path) -> None:
    kept.write_bytes(SMALL)
    record = kept.with_name(f"{kept.name}.json")
    record.write_text(json.dumps({**json.loads(record.read_text()), "etag": md5_etag(SMALL)}))


def _not_json(kept: Path) -> None:
    kept.with_name(f"{kept.name}.json").write_text("[")


def _endless(kept: Path) -> None:
    with kept.with_name(f"{kept.name}.json").open("a") as record:
        record.write(" " * (1 << 16))


def _other_bytes(kept: Path) -> None:
    kept.write_bytes(b"[]")


@pytest.mark.parametrize("harm", [_forget, _other_url, _other_etag, _not_json, _endless, _other_bytes])
def test_an_old_copy_that_does_not_fit_its_record_is_not_used(
    harm: Callable[[Path], None], s3: dict[str, tuple[bytes, str | None]], flat: Path, cache: Path
) -> None:
    harm(bring(s3, flat, "config.json", b"{}"))
    with pytest.raises(OfflineError):
        get(cache, SOURCE, "config.json", offline=True)


@pytest.mark.parametrize(
    "etag",
    ["", '"0123456789abcdef0123456789abcdef-2"', f"W/{md5_etag(b'{}')}", hashlib.md5(b"{}").hexdigest()],
    ids=["none", "of several parts", "weak", "without quotes"],
)
def test_an_old_copy_whose_etag_is_no_md5_is_not_used(
    etag: str, s3: dict[str, tuple[bytes, str | None]], flat: Path, cache: Path
) -> None:
    bring(s3, flat, "config.json", b"{}", etag)
    with pytest.raises(OfflineError):
        get(cache, SOURCE, "config.json", offline=True)


def test_an_old_copy_is_not_trusted_where_pins_are_required(
    s3: dict[str, tuple[bytes, str | None]], flat: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(s3, flat, "config.json", b"{}")
    fetch(cache, SOURCE, "config.json", offline=True)
    monkeypatch.setenv("REGISTRY_REQUIRE_PINS", "1")
    with pytest.raises(OfflineError):
        get(cache, SOURCE, "config.json", offline=True)


def test_the_german_vocabulary_is_used_by_its_hash_alone(flat: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    german = "google-bert/bert-base-german-cased"
    source = f"hf://{german}@{COMMIT}"

    def answer(handler: Handler, request: Request) -> None:
        handler.reply(request, 200, VOCAB, {"ETag": md5_etag(VOCAB)})

    with serving(answer) as server:
        address = f"{server.url}/bert-base-german-cased-vocab.txt"
        monkeypatch.setitem(other_caches._OLD_EXCEPTIONS, ("bert-base-german-cased", "vocab.txt"), address)
        monkeypatch.setattr(adoption, "TWO_FACED", {address})
        kept = old_download(address, flat)
    with pytest.raises(OfflineError):
        get(cache, source, "vocab.txt", offline=True)
    assert shares(fetch(cache, source, "vocab.txt", pinned("vocab.txt", VOCAB), offline=True), kept)
    monkeypatch.undo()
    theirs = old.BertTokenizer.pretrained_vocab_files_map["vocab_file"]["bert-base-german-cased"]
    assert theirs == old_address(german, "vocab.txt")
    assert theirs in other_caches.TWO_FACED


def test_an_archive_of_the_oldest_library_is_not_looked_into(cache: Path) -> None:
    folder = Path.home() / ".pytorch_pretrained_bert"
    folder.mkdir()
    key = hashlib.sha256(f"{other_caches._OLD}{NAME}.tar.gz".encode()).hexdigest()
    (folder / key).write_bytes(BIN)
    with pytest.raises(OfflineError):
        get(cache, SOURCE, "pytorch_model.bin", pinned("pytorch_model.bin", BIN), offline=True)


# -- several names for one thing -------------------------------------------------------------------------------------------

CANDIDATES = ("model.safetensors", "pytorch_model.bin")


def first(cache: Path, place: Place, *, refresh: bool = False, offline: bool = False) -> StoredFile:
    with Store(Cache((cache,)), offline=offline, refresh=refresh) as store:
        file = store.first(place, CANDIDATES)
    assert file is not None
    return file


def test_weights_that_are_here_go_before_those_that_would_be_fetched(
    s3: dict[str, tuple[bytes, str | None]], server: Server, flat: Path, cache: Path
) -> None:
    place = Place((SOURCE,), pinned("model.safetensors", LARGE) | pinned("pytorch_model.bin", BIN))
    kept = bring(s3, flat, "pytorch_model.bin", BIN)
    assert shares(first(cache, place), kept)
    shutil.rmtree(flat)
    assert first(cache, place).name == "pytorch_model.bin"  # from the cache now
    assert server.requests == []
    assert first(cache, place, refresh=True).name == "model.safetensors"
    assert first(cache, place).name == "model.safetensors"


def test_of_several_weights_that_are_here_the_first_is_used(server: Server, theirs: Path, cache: Path, unplug: Unplug) -> None:
    for name in reversed(CANDIDATES):
        download(server, theirs, name)
    unplug()
    assert first(cache, Place((SOURCE,))).name == "model.safetensors"


def test_a_folder_of_the_users_own_keeps_its_order(cache: Path, tmp_path: Path, server: Server) -> None:
    fetch(cache, SOURCE, "pytorch_model.bin", pinned("pytorch_model.bin", BIN))
    folder = tmp_path / "model"
    folder.mkdir()
    for name, body in zip(CANDIDATES, (LARGE, BIN), strict=True):
        (folder / name).write_bytes(body)
    place = Place((str(folder),), pinned("model.safetensors", LARGE) | pinned("pytorch_model.bin", BIN))
    assert first(cache, place).path == folder / "model.safetensors"


def test_a_folder_of_the_users_own_is_not_replaced(server: Server, theirs: Path, cache: Path, tmp_path: Path) -> None:
    download(server, theirs, "model.safetensors")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(LARGE)
    file = fetch(cache, (str(folder), SOURCE), "model.safetensors", pinned("model.safetensors", LARGE))
    assert file.path == folder / "model.safetensors"


# -- cost ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pin", [True, False], ids=["pinned", "recorded"])
def test_a_hit_looks_at_no_other_cache(
    pin: bool, hub: HubFiles, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pins = pinned("model.safetensors", LARGE) if pin else {}
    fetch(cache, SOURCE, "model.safetensors", pins)
    assert get(cache, SOURCE, "added_tokens.json") is None
    monkeypatch.setattr(other_caches, "hub_folders", never)
    monkeypatch.setattr(other_caches, "url_folders", never)
    fetch(cache, SOURCE, "model.safetensors", pins)
    first(cache, Place((SOURCE,), pins))
    assert get(cache, SOURCE, "added_tokens.json") is None  # it is recorded that there is none
    with Store(Cache((cache.parent / "upper", cache)), offline=True) as store:  # a read-only tier is a cache too
        assert store.get(Place((SOURCE,), pins), "model.safetensors") is not None


def test_a_folder_is_listed_once_for_all_files_of_an_operation(
    s3: dict[str, tuple[bytes, str | None]], server: Server, theirs: Path, flat: Path, cache: Path
) -> None:
    download(server, theirs, "model.safetensors", repo=OTHERS)
    bring(s3, flat, "merges.txt", VOCAB)
    listed: Counter[Path] = Counter()
    iterdir = Path.iterdir

    def counting(path: Path) -> Iterator[Path]:
        listed[path] += 1
        return iterdir(path)

    pins = {name: FilePin(sha256="0" * 64) for name in ("a.txt", "b.txt", "c.txt")}
    with pytest.MonkeyPatch.context() as patch, Store(Cache((cache,)), offline=True) as store:
        patch.setattr(Path, "iterdir", counting)
        for name in pins:
            with pytest.raises(OfflineError):
                store.get(Place((SOURCE,), pins), name)
    assert {theirs, flat} <= listed.keys()
    assert set(listed.values()) == {1}


@pytest.mark.parametrize("value", ["0", "false", "No", "off"])
def test_it_can_be_turned_off(value: str, server: Server, theirs: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = download(server, theirs, "model.safetensors")
    monkeypatch.setenv("REGISTRY_ADOPT", value)
    assert not shares(fetch(cache, SOURCE, "model.safetensors"), blob)


# -- whatever happens to the other file ------------------------------------------------------------------------------------


def test_a_file_that_is_changed_in_place_later_is_not_used_any_more(server: Server, theirs: Path, cache: Path) -> None:
    blob = download(server, theirs, "model.safetensors")
    file = fetch(cache, SOURCE, "model.safetensors")
    assert shares(file, blob)
    blob.chmod(0o644)
    blob.write_bytes(BIN)
    again = fetch(cache, SOURCE, "model.safetensors")
    assert again.path.read_bytes() == LARGE
    assert not shares(again, blob)
    assert blob.read_bytes() == BIN  # theirs is theirs


@pytest.mark.parametrize("then", [_corrupt, _dangling], ids=["changed", "removed"])
def test_a_file_that_is_lost_after_it_was_hashed_is_fetched(
    then: Callable[[Path], None], server: Server, theirs: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = download(server, theirs, "model.safetensors")
    adopt = Cache.adopt

    def late(*args: object, **how: object) -> Path:
        if blob.exists():
            then(blob)
        return adopt(*args, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(Cache, "adopt", late)
    assert fetch(cache, SOURCE, "model.safetensors").path.read_bytes() == LARGE


def test_a_file_that_changes_while_it_is_copied_is_fetched(
    server: Server, theirs: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = download(server, theirs, "model.safetensors")
    copyfile = shutil.copyfile

    def no_link(*args: object) -> NoReturn:
        raise OSError("cross-device link")

    def late(source: Path, target: Path) -> None:
        _corrupt(blob)
        copyfile(source, target)

    monkeypatch.setattr(os, "link", no_link)
    monkeypatch.setattr(shutil, "copyfile", late)
    assert fetch(cache, SOURCE, "model.safetensors").path.read_bytes() == LARGE


def test_a_cache_that_cannot_be_written_is_told_of(
    server: Server, theirs: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download(server, theirs, "model.safetensors")
    cache.write_text("a file stands where the cache is to be")
    with pytest.raises(CacheError, match="expected to be writable"):
        get(cache, SOURCE, "model.safetensors", offline=True)


def test_a_file_that_changes_while_it_is_hashed_is_fetched(
    s3: dict[str, tuple[bytes, str | None]], server: Server, flat: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = bring(s3, flat, "vocab.txt", VOCAB)
    git = adoption.git_blob_sha1

    def slow(path: Path) -> str:
        digest = git(path)
        kept.write_bytes(VOCAB[::-1])
        os.utime(kept, ns=(0, 0))
        return digest

    monkeypatch.setattr(adoption, "git_blob_sha1", slow)
    assert fetch(cache, SOURCE, "vocab.txt").path.read_bytes() == VOCAB


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of its own."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    if (
        shutil.which("mount") is None
        or subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True).returncode
    ):
        pytest.skip("a file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_file_on_another_and_read_only_file_system_is_copied(
    elsewhere: Path, server: Server, cache: Path, unplug: Unplug, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = download(server, elsewhere / "hub", "model.safetensors")
    monkeypatch.setenv("HF_HUB_CACHE", str(elsewhere / "hub"))
    subprocess.run(["mount", "-o", "remount,ro", elsewhere], check=True)
    unplug()
    file = fetch(cache, SOURCE, "model.safetensors")
    assert file.path.read_bytes() == LARGE
    assert not shares(file, blob)
    assert not file.path.stat().st_mode & 0o222
    assert [path.name for path in file.path.parent.iterdir() if path.suffix != ".json"] == [file.path.name]


# -- what people see -------------------------------------------------------------------------------------------------------


class Told:
    """Remembers the moments it is told of."""

    def __init__(self) -> None:
        self.moments: list[tuple[str, FileEvent]] = []

    def __getattr__(self, moment: str) -> Callable[[FileEvent], None]:
        return lambda event: self.moments.append((moment, event))


def test_an_observer_is_told_that_the_file_was_here(server: Server, theirs: Path, cache: Path) -> None:
    download(server, theirs, "model.safetensors")
    for refresh in (False, True):
        told = Told()
        with Store(Cache((cache,)), offline=False, refresh=refresh, observers=[told]) as store:  # type: ignore[list-item]
            file = store.get(Place((SOURCE,), label=NAME), "model.safetensors")
        assert file is not None
        event = FileEvent(
            model=NAME, name="model.safetensors", size=len(LARGE), done=len(LARGE), sha256=file.sha256, path=file.path
        )
        assert told.moments == [("reused", event)]
        evict(cache)


def test_a_blob_says_where_it_is_from(server: Server, theirs: Path, cache: Path) -> None:
    blob = download(server, theirs, "config.json")
    file = fetch(cache, SOURCE, "config.json")
    assert json.loads(file.path.with_name(f"{file.path.name}.json").read_text())["url"] == blob.as_uri()


@pytest.mark.parametrize("place", ["the hub's", "an old one"])
def test_a_model_loads_by_name_from_another_librarys_cache_with_no_network(
    place: str,
    hub: HubFiles,
    server: Server,
    theirs: Path,
    s3: dict[str, tuple[bytes, str | None]],
    flat: Path,
    tmp_path: Path,
    unplug: Unplug,
) -> None:
    from tests.registry_bert.tiny import SIZES

    model = quiet(old.BertModel, old.BertConfig.from_dict(SIZES))
    model.save_pretrained(tmp_path)
    files = {name: (tmp_path / name).read_bytes() for name in ("config.json", "pytorch_model.bin")}
    hub.files[REPO] = files
    for name, body in files.items():
        if place == "the hub's":
            download(server, theirs, name)
        else:
            bring(s3, flat, name, body)
    (tmp_path / "models.yaml").write_text(
        f"registry: 1\nmodels:\n  {NAME}:\n    family: bert\n    source: {SOURCE}\n    files:\n"
        f"      model.safetensors: {{sha256: {sha256(LARGE)}}}\n"
        f"      pytorch_model.bin: {{sha256: {sha256(files['pytorch_model.bin'])}}}\n"
    )
    unplug()
    loaded = registry.ModelRegistry([tmp_path / "models.yaml"]).load(NAME, offline=True)
    assert loaded.state_dict()["pooler.dense.weight"].equal(model.state_dict()["pooler.dense.weight"])
