"""The cache on disk."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import registry.store.cache
from registry.errors import CacheError
from registry.store.cache import Cache, Ref, file_sha256
from tests.store.helpers import BODY, OTHER, URL, leftovers, listing, publish, sha256

DIGEST = sha256(BODY)


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
