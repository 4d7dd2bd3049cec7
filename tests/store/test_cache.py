"""The cache on disk."""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import registry.store.cache
from registry.errors import CacheError
from registry.store.cache import Cache, file_sha256
from registry.store.partial import Partial
from registry.store.records import About, Ref
from tests.store import workers
from tests.store.helpers import BODY, OTHER, leftovers, listing, sha256

DIGEST = sha256(BODY)
URL = "https://models.example/a/model.safetensors"
SPAWN = multiprocessing.get_context("spawn")


def publish(cache: Cache, body: bytes) -> Path:
    """Bring bytes into a cache as a transfer does."""
    partial = Partial.claim(cache, "key", URL, identified=True)
    partial.begin(None, len(body))
    with partial.writer(0) as writer:
        writer.write(body)
    try:
        return cache.publish(partial.path, sha256(body), About("bert", "model.safetensors", URL))
    finally:
        partial.discard()


def no_hashing(monkeypatch: pytest.MonkeyPatch) -> None:
    def hashed(path: Path) -> NoReturn:
        pytest.fail(f"{path} was hashed")

    monkeypatch.setattr(registry.store.cache, "file_sha256", hashed)


# -- blobs -------------------------------------------------------------------------------------------------------------


def test_a_published_blob_is_found_by_its_hash(cache: Path) -> None:
    blob = publish(Cache((cache,)), BODY)
    assert blob == cache / "blobs" / "sha256" / DIGEST[:2] / DIGEST
    assert Cache((cache,)).lookup(DIGEST) == blob
    assert blob.read_bytes() == BODY
    assert leftovers(cache) == [f"blobs/sha256/{DIGEST[:2]}/{DIGEST}", f"blobs/sha256/{DIGEST[:2]}/{DIGEST}.json"]


def test_an_empty_file_is_a_blob_like_any_other(cache: Path) -> None:
    # The hash of no bytes, from FIPS 180-4's example values.
    digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert publish(Cache((cache,)), b"") == Cache((cache,)).lookup(digest)


def test_an_unknown_hash_is_not_there(cache: Path) -> None:
    assert Cache((cache,)).lookup(DIGEST) is None
    assert not cache.exists()


def test_a_blob_cannot_be_written_by_accident(cache: Path) -> None:
    assert publish(Cache((cache,)), BODY).stat().st_mode & 0o222 == 0


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o444), (0o027, 0o440), (0o077, 0o400)])
def test_the_umask_says_who_may_read_a_blob(umask: int, mode: int, cache: Path) -> None:
    before = os.umask(umask)
    try:
        blob = publish(Cache((cache,)), BODY)
    finally:
        os.umask(before)
    assert blob.stat().st_mode & 0o777 == mode


def test_a_hit_costs_a_stat_and_no_hashing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = publish(Cache((cache,)), BODY)
    before = listing(cache)
    no_hashing(monkeypatch)
    assert Cache((cache,)).lookup(DIGEST) == blob
    assert listing(cache) == before


def test_a_blob_whose_time_changed_is_hashed_again_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = publish(Cache((cache,)), BODY)
    os.utime(blob, (1, 1))
    assert Cache((cache,)).lookup(DIGEST) == blob
    no_hashing(monkeypatch)
    assert Cache((cache,)).lookup(DIGEST) == blob


@pytest.mark.parametrize("damage", [OTHER, BODY[:-1], BODY + b"\0", b""], ids=["same length", "shorter", "longer", "empty"])
def test_a_damaged_blob_is_put_away(damage: bytes, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    blob = publish(Cache((cache,)), BODY)
    blob.chmod(0o644)
    blob.write_bytes(damage)
    os.utime(blob, (1, 1))
    assert Cache((cache,)).lookup(DIGEST) is None
    assert not blob.exists()
    assert f"{blob} is damaged" in caplog.text
    assert publish(Cache((cache,)), BODY) == Cache((cache,)).lookup(DIGEST)


@pytest.mark.parametrize("size", [0, 1, len(BODY) // 2, len(BODY) - 1, len(BODY) + 1])
def test_a_blob_of_another_size_is_noticed_even_when_its_time_is_the_old_one(size: int, cache: Path) -> None:
    blob = publish(Cache((cache,)), BODY)
    before = blob.stat()
    blob.chmod(0o644)
    os.truncate(blob, size)
    os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert Cache((cache,)).lookup(DIGEST) is None
    assert not blob.exists()


def test_the_stamp_is_of_the_bytes_that_were_hashed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob that is damaged while it is hashed is noticed at the next use."""
    blob = publish(Cache((cache,)), BODY)
    os.utime(blob, (1, 1))

    def hash_then_damage(path: Path) -> str:
        digest = file_sha256(path)
        path.chmod(0o644)
        path.write_bytes(OTHER)
        return digest

    monkeypatch.setattr(registry.store.cache, "file_sha256", hash_then_damage)
    Cache((cache,)).lookup(DIGEST)
    monkeypatch.undo()
    assert Cache((cache,)).lookup(DIGEST) is None


def test_a_blob_that_another_process_brought_anew_is_not_put_away(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several processes may find one damaged blob; the slowest must not remove what the fastest brought."""
    blob = publish(Cache((cache,)), BODY)
    blob.chmod(0o644)
    blob.write_bytes(OTHER)
    os.utime(blob, (1, 1))

    def hash_then_repair(path: Path) -> str:
        monkeypatch.undo()
        digest = file_sha256(path)
        publish(Cache((cache,)), BODY)
        return digest

    monkeypatch.setattr(registry.store.cache, "file_sha256", hash_then_repair)
    assert Cache((cache,)).lookup(DIGEST) == blob
    assert blob.read_bytes() == BODY


def test_what_cannot_be_read_is_as_if_absent(cache: Path) -> None:
    Cache((cache,)).blob(DIGEST).mkdir(parents=True)  # a folder where a blob belongs; reading it fails even for root
    assert Cache((cache,)).lookup(DIGEST) is None


def test_a_cache_that_is_a_file_is_a_clear_error(cache: Path) -> None:
    cache.write_text("not a folder")
    assert Cache((cache,)).lookup(DIGEST) is None
    with pytest.raises(CacheError, match="REGISTRY_CACHE") as caught:
        publish(Cache((cache,)), BODY)
    assert caught.value.path.startswith(str(cache))


# -- records -----------------------------------------------------------------------------------------------------------


def ref_file(cache: Path) -> Path:
    (found,) = (cache / "refs").rglob("*.json")
    return found


def test_a_ref_comes_back_as_it_was_written(cache: Path) -> None:
    ref = Ref(URL, DIGEST, len(BODY), "first-use")
    Cache((cache,)).write_ref(ref)
    assert Cache((cache,)).read_ref(URL) == ref
    assert Cache((cache,)).read_ref(URL + "?") is None


def test_secrets_of_a_url_are_not_written_to_disk(cache: Path) -> None:
    url = "https://me:hunter2@models.example/a/model.bin?token=tr0ub4dor"
    Cache((cache,)).write_ref(Ref(url, DIGEST))
    assert Cache((cache,)).read_ref(url) == Ref(url, DIGEST)
    written = ref_file(cache).read_text()
    assert "models.example/a/model.bin" in written
    assert not [secret for secret in ("hunter2", "tr0ub4dor") if secret in written]


NOT_RECORDS: dict[str, bytes] = {
    "empty": b"",
    "cut": b'{"version": 1, "si',
    "zeros": bytes(64),
    "not utf-8": b"\xff\xfe{",
    "a list": b"[1]",
    "null": b"null",
    "deep": b"[" * 100_000,
    "from the future": json.dumps({"version": 2, "url": URL, "sha256": DIGEST, "size": 1, "mtime_ns": 1}).encode(),
    "without a version": json.dumps({"url": URL, "sha256": DIGEST, "size": 1, "mtime_ns": 1}).encode(),
}


@pytest.mark.parametrize("content", NOT_RECORDS.values(), ids=list(NOT_RECORDS))
def test_a_broken_stamp_is_as_if_absent(content: bytes, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = publish(Cache((cache,)), BODY)
    blob.with_name(f"{blob.name}.json").write_bytes(content)
    assert Cache((cache,)).lookup(DIGEST) == blob
    no_hashing(monkeypatch)
    assert Cache((cache,)).lookup(DIGEST) == blob, "the stamp was not written anew"


@pytest.mark.parametrize("content", NOT_RECORDS.values(), ids=list(NOT_RECORDS))
def test_a_broken_ref_is_as_if_absent(content: bytes, cache: Path) -> None:
    Cache((cache,)).write_ref(Ref(URL, DIGEST))
    ref_file(cache).write_bytes(content)
    assert Cache((cache,)).read_ref(URL) is None
    Cache((cache,)).write_ref(Ref(URL, DIGEST))
    assert Cache((cache,)).read_ref(URL) == Ref(URL, DIGEST)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(DIGEST) | st.just(int("1" * 64)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)


def usable(ref: Ref | None) -> bool:
    """Whether a record, if there is one, has the types that the store relies on, and says something."""
    return ref is None or (
        isinstance(ref.sha256, str)
        and isinstance(ref.commit, str)
        and isinstance(ref.trust, str)
        and isinstance(ref.absent, bool)
        and type(ref.size) is int
        and type(ref.mtime_ns) is int
        and (len(ref.sha256) == 64 or (not ref.sha256 and (ref.absent or ref.commit != "")))
    )


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["sha256", "size", "trust", "absent", "commit", "mtime_ns", "url", "extra"]), JSON))
def test_a_ref_with_any_values_is_right_or_absent(values: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache((Path(folder),))
        cache.write_ref(Ref(URL, DIGEST))
        path = ref_file(Path(folder))
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
        assert usable(cache.read_ref(URL))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_a_record_of_any_bytes_is_as_if_absent(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache((Path(folder),))
        cache.write_ref(Ref(URL, DIGEST))
        ref_file(Path(folder)).write_bytes(content)
        blob = publish(cache, BODY)
        blob.with_name(f"{blob.name}.json").write_bytes(content)
        assert cache.read_ref(URL) is None
        assert cache.lookup(DIGEST) == blob


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 300), st.integers(0, 255))
def test_a_ref_with_one_byte_flipped_never_names_another_file(position: int, flip: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache((Path(folder),))
        cache.write_ref(Ref(URL, DIGEST, 5, "first-use"))
        content = bytearray(ref_file(Path(folder)).read_bytes())
        content[position % len(content)] ^= flip
        ref_file(Path(folder)).write_bytes(bytes(content))
        found = cache.read_ref(URL)
        assert usable(found)
        assert found is None or found.url == URL


# -- read-only tiers ---------------------------------------------------------------------------------------------------


@pytest.fixture
def tier(tmp_path: Path) -> Path:
    """A second cache behind the first, that somebody else filled."""
    folder = tmp_path / "shared"
    publish(Cache((folder,)), BODY)
    Cache((folder,)).write_ref(Ref(URL, DIGEST))
    return folder


def test_a_tier_is_used(cache: Path, tier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_hashing(monkeypatch)
    both = Cache((cache, tier))
    assert both.lookup(DIGEST) == Cache((tier,)).blob(DIGEST)
    assert both.read_ref(URL) == Ref(URL, DIGEST)
    assert not cache.exists()


def test_a_tier_is_never_written(cache: Path, tier: Path) -> None:
    (stamp,) = (tier / "blobs").rglob("*.json")
    stamp.unlink()
    before = listing(tier)
    both = Cache((cache, tier))
    assert both.lookup(DIGEST) == Cache((tier,)).blob(DIGEST)
    publish(both, OTHER)
    both.write_ref(Ref(URL, sha256(OTHER)))
    assert listing(tier) == before
    assert both.read_ref(URL) == Ref(URL, sha256(OTHER))


@pytest.mark.parametrize("body", [BODY, OTHER], ids=["intact", "damaged"])
def test_a_blob_of_a_tier_whose_times_are_lost_is_hashed_once(
    body: bytes, cache: Path, tier: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An image keeps times to the second at best; what was found is noted in front of it, because it is only read."""
    blob = Cache((tier,)).blob(DIGEST)
    blob.chmod(0o644)
    blob.write_bytes(body)
    os.utime(blob, (1, 1))
    before = listing(tier)
    expected = blob if body == BODY else None
    assert Cache((cache, tier)).lookup(DIGEST) == expected
    no_hashing(monkeypatch)
    assert Cache((cache, tier)).lookup(DIGEST) == expected
    assert listing(tier) == before
    assert caplog.text.count("damaged") == (body != BODY)
    os.utime(blob, (2, 2))
    with pytest.raises(pytest.fail.Exception, match="was hashed"):
        Cache((cache, tier)).lookup(DIGEST)


def test_a_damaged_blob_of_a_tier_is_passed_over_and_left(cache: Path, tier: Path) -> None:
    damaged = Cache((tier,)).blob(DIGEST)
    damaged.chmod(0o644)
    damaged.write_bytes(OTHER)
    os.utime(damaged, (1, 1))
    both = Cache((cache, tier))
    assert both.lookup(DIGEST) is None
    assert damaged.exists()
    assert publish(both, BODY) == both.lookup(DIGEST) == both.blob(DIGEST)


# -- folders -----------------------------------------------------------------------------------------------------------

LARGE = bytes(2 << 20)


@pytest.fixture
def files(cache: Path) -> dict[str, tuple[Path, str]]:
    """A small and a large file of one model, and one in a subfolder."""
    contents = {"config.json": b"{}", "model.safetensors": LARGE, "onnx/model.onnx": BODY}
    return {name: (publish(Cache((cache,)), body), sha256(body)) for name, body in contents.items()}


def test_a_folder_has_the_conventional_names(cache: Path, files: dict[str, tuple[Path, str]]) -> None:
    folder = Cache((cache,)).folder("acme/support bert", files)
    assert folder.parent == cache / "folders"
    assert folder.name.startswith("acme-support-bert-")
    held = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert held == {"config.json": b"{}", "model.safetensors": LARGE, "onnx/model.onnx": BODY}
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, f"{folder.name}.json"}


def test_small_files_are_copies_and_large_ones_links(cache: Path, files: dict[str, tuple[Path, str]]) -> None:
    folder = Cache((cache,)).folder("model", files)
    assert (folder / "model.safetensors").samefile(files["model.safetensors"][0])
    assert not (folder / "config.json").samefile(files["config.json"][0])
    assert not [path for path in folder.rglob("*") if path.is_symlink()]


def test_what_gets_a_name_is_on_the_disk_before(
    cache: Path, files: dict[str, tuple[Path, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut may take what was not synced, and leave its size and time, by which it would be taken for right."""
    synced: set[tuple[int, int]] = set()
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        synced.add((os.fstat(descriptor).st_dev, os.fstat(descriptor).st_ino))

    monkeypatch.setattr(os, "fsync", noted)
    folder = Cache((cache,)).folder("model", files)
    (theirs := tmp_path / "theirs").write_bytes(OTHER)
    adopted = Cache((cache,)).adopt(theirs, sha256(OTHER), About(), theirs.stat())
    assert adopted.samefile(theirs)
    named = (
        folder / "config.json",
        folder / "onnx/model.onnx",
        folder / "onnx",
        folder,
        folder.parent,
        adopted,
        adopted.parent,
    )
    assert [path for path in named if (path.stat().st_dev, path.stat().st_ino) not in synced] == []


def test_without_hard_links_large_files_are_copies(
    cache: Path, files: dict[str, tuple[Path, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    folder = Cache((cache,)).folder("model", files)
    assert (folder / "model.safetensors").read_bytes() == LARGE
    before = listing(cache)
    assert Cache((cache,)).folder("model", files) == folder
    assert listing(cache) == before


def test_a_second_call_writes_nothing(cache: Path, files: dict[str, tuple[Path, str]]) -> None:
    folder = Cache((cache,)).folder("model", files)
    before = listing(cache)
    assert Cache((cache,)).folder("model", dict(reversed(files.items()))) == folder
    assert listing(cache) == before


def test_other_contents_are_another_folder(cache: Path, files: dict[str, tuple[Path, str]]) -> None:
    other = {**files, "config.json": files["onnx/model.onnx"]}
    assert Cache((cache,)).folder("model", files) != Cache((cache,)).folder("model", other)


def replace(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"edited")


def remove(path: Path) -> None:
    path.unlink()
    path.parent.rmdir()


REPAIRS: dict[str, Callable[[Path], object]] = {
    "a small file was edited": lambda folder: (folder / "config.json").write_text("edited"),
    "a small file was removed": lambda folder: (folder / "config.json").unlink(),
    "a large file was replaced": lambda folder: replace(folder / "model.safetensors"),
    "a subfolder was lost": lambda folder: remove(folder / "onnx/model.onnx"),
}


@pytest.mark.parametrize("damage", REPAIRS.values(), ids=list(REPAIRS))
def test_a_changed_folder_is_repaired(
    damage: Callable[[Path], object], cache: Path, files: dict[str, tuple[Path, str]]
) -> None:
    folder = Cache((cache,)).folder("model", files)
    (folder / "notes.txt").write_text("of the user")
    damage(folder)
    assert Cache((cache,)).folder("model", files) == folder
    assert {name: sha256((folder / name).read_bytes()) for name in files} == {name: pin for name, (_, pin) in files.items()}
    assert (folder / "notes.txt").read_text() == "of the user"
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, f"{folder.name}.json"}


def test_a_folder_of_a_tier_is_used_as_long_as_it_is_right(
    cache: Path, files: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    """On another disk nothing can be linked, so that a second one would be a copy; and the first cache may be read-only."""
    theirs = Cache((cache,)).folder("model", files)
    theirs.with_name(f"{theirs.name}.json").unlink()
    before = listing(cache)
    both = Cache((tmp_path / "mine", cache))
    assert both.folder("model", files) == theirs
    assert listing(cache) == before and not both.root.exists()
    (theirs / "config.json").write_text("edited")
    mine = both.folder("model", files)
    assert mine.parent == both.root / "folders" and (mine / "config.json").read_text() == "{}"


def test_a_folder_whose_builder_was_killed_before_the_manifest_gets_one_at_its_next_use(
    cache: Path, files: dict[str, tuple[Path, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one it would neither be verified nor removed with its model."""
    folder = Cache((cache,)).folder("model", files)
    manifest = folder.with_name(f"{folder.name}.json")
    written = manifest.read_text()
    manifest.unlink()
    assert Cache((cache,)).folder("model", files) == folder
    assert manifest.read_text() == written
    manifest.unlink()

    def refuse(*args: object) -> NoReturn:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(registry.store.cache, "write_atomically", refuse)
    assert Cache((cache,)).folder("model", files) == folder


def test_many_processes_build_one_folder(cache: Path, files: dict[str, tuple[Path, str]]) -> None:
    barrier = SPAWN.Barrier(4)
    receiver, sender = SPAWN.Pipe(duplex=False)
    processes = [SPAWN.Process(target=workers.build_folder, args=(barrier, sender, cache, files)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    folders = {receiver.recv() for _ in processes}
    (folder,) = folders
    assert {name: sha256((folder / name).read_bytes()) for name in files} == {name: pin for name, (_, pin) in files.items()}
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, f"{folder.name}.json"}


def test_many_threads_build_one_folder_and_each_sees_all_of_it(cache: Path, files: dict[str, tuple[Path, str]]) -> None:
    barrier = threading.Barrier(8)
    seen: list[set[str]] = []

    def build() -> None:
        barrier.wait(30)
        folder = Cache((cache,)).folder("model", files)
        seen.append({name for name in files if (folder / name).is_file()})

    threads = [threading.Thread(target=build) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert seen == [set(files)] * 8
