"""What a cache holds, whether it is right, and what may go, while other processes use it."""

from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

import registry.store.folders
import registry.store.upkeep.prune
import registry.store.upkeep.removal
import registry.store.upkeep.verify
from registry.base.file_lock import file_lock
from registry.base.files import OwnerState, nobodys_token, owner_state, owner_token
from registry.catalog.entry import FilePin
from registry.errors import CacheError
from registry.store.cache import About, Cache, Ref, stamp_path
from registry.store.folders import conventional_folder
from registry.store.partial import Partial
from registry.store.upkeep.inventory import contents
from registry.store.upkeep.prune import prune, remove
from registry.store.upkeep.removal import remove_folder
from registry.store.upkeep.verify import FileCheck, verify
from tests.servers import file_server
from tests.store import workers
from tests.store.helpers import BODY, OTHER, fetch, leftovers, listing, pinned, sha256

SPAWN = multiprocessing.get_context("spawn")
WEIGHTS = np.random.default_rng(3).bytes(2_000_000)  # large enough to be linked into folders
URL = "https://models.example/a/"
DAY = 86400
DAMAGE: dict[str, Callable[[Path], object]] = {
    "a flipped bit": lambda path: overwrite(path, 5000, bytes([path.read_bytes()[5000] ^ 1])),
    "a flipped bit in the last byte": lambda path: overwrite(path, path.stat().st_size - 1, b"?"),
    "zeroes": lambda path: overwrite(path, 0, bytes(path.stat().st_size)),
    "cut off": lambda path: os.truncate(path, 100),
    "empty": lambda path: os.truncate(path, 0),
    "longer": lambda path: overwrite(path, path.stat().st_size, b"more"),
}


def overwrite(path: Path, at: int, body: bytes) -> None:
    """Write into a file in place, as a failing disk or a stray program does; its times stay."""
    before = path.stat()
    path.chmod(0o600)
    descriptor = os.open(path, os.O_WRONLY)
    os.pwrite(descriptor, body, at)
    os.close(descriptor)
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def put(cache: Path, body: bytes, model: str = "bert", name: str = "model.safetensors") -> Path:
    """Publish a blob as a transfer does."""
    here = Cache((cache,))
    partial = Partial.claim(here, sha256(body), URL + name, identified=True)
    partial.begin(None, len(body))
    with partial.writer(0) as writer:
        writer.write(body)
    try:
        return here.publish(partial.path, sha256(body), About(model, name, URL + name))
    finally:
        partial.discard()


def build(cache: Path, model: str, files: dict[str, bytes]) -> Path:
    """Publish files and build their folder."""
    return conventional_folder(
        Cache((cache,)), model, {name: (put(cache, body, model, name), sha256(body)) for name, body in files.items()}
    )


def aged(path: Path, days: float) -> Path:
    """Give a file, its stamp or all files of a folder times so many days ago; negative ones are in the future."""
    then = time.time() - days * DAY
    for one in [path, stamp_path(path), *(path.rglob("*") if path.is_dir() else ())]:
        if one.exists():
            os.utime(one, (then, then))
    return path


def states(cache: Path, *, repair: bool = False, digests: list[str] | None = None) -> dict[str, str]:
    return {str(c.path.relative_to(cache)): c.state for c in verify(Cache((cache,)), digests, repair=repair)}


def kinds(removed: registry.store.upkeep.prune.Pruned) -> list[str]:
    return sorted(item.kind for item in removed.removed)


# -- contents ------------------------------------------------------------------------------------------------------------


def test_a_hard_link_counts_once_and_a_copy_counts(cache: Path) -> None:
    folder = build(cache, "bert", {"model.safetensors": WEIGHTS, "config.json": b"{}" * 50})
    assert (folder / "model.safetensors").stat().st_nlink == 2
    found = contents(Cache((cache,)))
    (model,) = found.models
    assert model.size == found.size == len(WEIGHTS) + 2 * 100
    assert model.label == "bert" and model.folders == (folder,)
    assert [(file.name, file.sha256, file.size, file.verified) for file in model.files] == [
        ("config.json", sha256(b"{}" * 50), 100, True),
        ("model.safetensors", sha256(WEIGHTS), len(WEIGHTS), True),
    ]


def test_what_two_models_share_is_shown_with_both_and_counted_once(cache: Path) -> None:
    build(cache, "a", {"vocab.txt": BODY, "model.safetensors": WEIGHTS})
    build(cache, "b", {"vocab.txt": BODY, "config.json": OTHER})
    found = contents(Cache((cache,)))
    assert [(model.label, len(model.files)) for model in found.models] == [("a", 2), ("b", 2)]
    assert found.models[0].size == len(WEIGHTS) + 2 * len(BODY)
    assert found.models[1].size == 4 * len(BODY)
    assert found.size == len(WEIGHTS) + 5 * len(BODY)  # each of the two blobs, and three copies


def test_a_blob_that_changed_since_it_was_hashed_is_not_verified(cache: Path) -> None:
    os.utime(put(cache, BODY), (1, 1))
    assert not contents(Cache((cache,))).models[0].files[0].verified


def test_contents_show_what_is_no_model_and_read_no_blob(cache: Path) -> None:
    put(cache, BODY)
    mine = Partial.claim(Cache((cache,)), "a" * 64, URL, identified=True)
    mine.path.write_bytes(b"12345")
    dead = mine.path.with_name(f"{'b' * 64}.{nobodys_token()}.partial")
    dead.write_bytes(b"123")
    Cache((cache,)).quarantine(put(cache, OTHER), sha256(OTHER))
    before = listing(cache)
    found = contents(Cache((cache,)))
    assert [(item.size, item.owner) for item in found.partials] == [(5, OwnerState.ALIVE), (3, OwnerState.DEAD)]
    assert [path.name for path in found.quarantine] == [sha256(OTHER)]
    assert found.size == 2 * len(BODY) + 8
    assert listing(cache) == before
    assert contents(Cache((cache / "absent",))).size == 0


@pytest.mark.parametrize("record", [b"", b"\x00\xff\xfe", b"{", b"[]", b"null", b'{"version": 2, "model": 7}', b"[" * 100_000])
def test_a_broken_stamp_hides_no_blob(record: bytes, cache: Path) -> None:
    stamp_path(put(cache, BODY)).write_bytes(record)
    (model,) = contents(Cache((cache,))).models
    assert (model.label, model.files[0].sha256, model.files[0].verified) == ("", sha256(BODY), False)


# -- verify --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_blob_is_found_even_when_its_time_is_the_old_one(damage: str, cache: Path) -> None:
    put(cache, OTHER, name="config.json")
    blob = put(cache, BODY)
    DAMAGE[damage](blob)
    result = {check.name: check.state for check in verify(Cache((cache,)))}
    assert result == {"config.json": "ok", "model.safetensors": "damaged"}
    assert {check.name: (check.model, check.state) for check in verify(Cache((cache,)))}["model.safetensors"] == (
        "bert",
        "damaged",
    )
    # From then on nobody uses it, although size and time are those of the stamp.
    assert Cache((cache,)).lookup(sha256(BODY)) is None


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_blob_and_its_folder_are_put_away_and_brought_anew(damage: str, cache: Path) -> None:
    with file_server({"/model.safetensors": WEIGHTS, "/config.json": BODY}) as server:
        files = {name: fetch(cache, server.url, name) for name in ("model.safetensors", "config.json")}
        made = {name: (file.path, file.sha256) for name, file in files.items()}
        folder = conventional_folder(Cache((cache,)), "bert", made)
        DAMAGE[damage](files["model.safetensors"].path)
        found = states(cache, repair=True)
        assert sorted(found.values()) == ["damaged", "damaged", "ok", "ok"]  # the blob, and its link in the folder
        assert (cache / "quarantine" / sha256(WEIGHTS)).exists() and not folder.exists()
        assert leftovers(cache / "folders") == []
        assert fetch(cache, server.url, "model.safetensors").path.read_bytes() == WEIGHTS
        assert server.sent("/config.json") == len(BODY)
    assert conventional_folder(Cache((cache,)), "bert", made) == folder
    assert set(states(cache).values()) == {"ok"}


def test_a_folder_whose_copy_was_edited_or_lost_is_damaged_and_its_blobs_are_not(cache: Path) -> None:
    edited = build(cache, "edited", {"vocab.txt": BODY, "model.safetensors": WEIGHTS})
    lost = build(cache, "lost", {"vocab.txt": OTHER, "config.json": b"{}"})
    overwrite(edited / "vocab.txt", 0, b"!")
    (lost / "config.json").unlink()
    before = leftovers(cache)
    found = {check.path: check.state for check in verify(Cache((cache,))) if check.state != "ok"}
    assert found == {edited / "vocab.txt": "damaged", lost / "config.json": "missing"}
    assert leftovers(cache) == before
    list(verify(Cache((cache,)), repair=True))
    assert leftovers(cache / "folders") == []
    assert set(states(cache).values()) == {"ok"} and len(states(cache)) == 4


def test_an_intact_blob_gets_a_stamp_that_fits_and_one_that_fits_is_left(cache: Path) -> None:
    blob = put(cache, BODY)
    before = listing(cache)
    assert set(states(cache).values()) == {"ok"}
    assert listing(cache) == before
    for record in (b"", b"junk", json.dumps({"version": 2}).encode()):
        stamp_path(blob).write_bytes(record)
        assert set(states(cache).values()) == {"ok"}
        assert contents(Cache((cache,))).models[0].files[0].verified


def test_verifying_is_no_use_of_a_file(cache: Path) -> None:
    blob = aged(put(cache, BODY), 40)
    list(verify(Cache((cache,))))  # its stamp fitted no more
    aged(blob, 40)
    Cache((cache,)).restamp(blob, blob.stat())
    os.utime(stamp_path(blob), (0, 0))
    list(verify(Cache((cache,))))
    assert prune(Cache((cache,)), older_than=30 * DAY).removed[0].path == blob


def test_a_blob_of_which_only_the_stamp_is_left_is_missing_until_that_is_repaired(cache: Path) -> None:
    blob = put(cache, BODY)
    blob.unlink()
    assert list(states(cache).values()) == ["missing"]
    assert list(states(cache, repair=True).values()) == ["missing"]
    assert leftovers(cache) == []


def test_only_what_is_asked_for_is_verified(cache: Path) -> None:
    wanted, other = put(cache, BODY), put(cache, OTHER)
    overwrite(wanted, 0, b"!")
    overwrite(other, 0, b"!")
    assert list(states(cache, digests=[sha256(BODY)])) == [str(wanted.relative_to(cache))]


def test_a_blob_that_is_replaced_while_it_is_hashed_is_no_damage(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overwrite(blob := put(cache, BODY), 0, b"!")
    hashed = registry.store.upkeep.verify._hash

    def meanwhile(path: Path) -> tuple[os.stat_result, str]:
        result = hashed(path)
        monkeypatch.setattr(registry.store.upkeep.verify, "_hash", hashed)
        put(cache, BODY)
        return result

    monkeypatch.setattr(registry.store.upkeep.verify, "_hash", meanwhile)
    assert [(check.path, check.state) for check in verify(Cache((cache,)), repair=True)] == [(blob, "ok")]
    assert blob.read_bytes() == BODY
    assert not (cache / "quarantine").exists()


def test_what_vanishes_while_it_is_verified_is_no_damage(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    build(cache, "bert", {"model.safetensors": WEIGHTS, "vocab.txt": BODY})
    put(cache, OTHER)
    checks = verify(Cache((cache,)), repair=True)
    assert next(checks).state == "ok"
    prune(Cache((cache,)), max_size=0)
    assert list(checks) == [] and caplog.text == ""


def test_where_the_stamp_is_lost_a_folder_tells_what_a_damaged_blob_is(cache: Path) -> None:
    build(cache, "bert", {"vocab.txt": BODY})
    blob = Cache((cache,)).blob(sha256(BODY))
    stamp_path(blob).unlink()
    overwrite(blob, 0, b"!")
    (check,) = (check for check in verify(Cache((cache,))) if check.state != "ok")
    assert (check.model, check.name, check.path) == ("bert", "vocab.txt", blob)


def test_a_tier_is_not_written(cache: Path, tmp_path: Path) -> None:
    tier = tmp_path / "tier"
    overwrite(put(tier, BODY), 0, b"!")
    folder = conventional_folder(Cache((cache, tier)), "bert", {"vocab.txt": (put(tier, OTHER), sha256(OTHER))})
    before = listing(tier)
    both = Cache((cache, tier))
    assert [(check.path, check.state) for check in verify(both, repair=True)] == [(folder / "vocab.txt", "ok")]
    prune(both, max_size=0, older_than=0)
    remove(both, ["bert"], [sha256(BODY)])
    assert listing(tier) == before
    assert leftovers(cache) == []


# -- remove --------------------------------------------------------------------------------------------------------------


def test_removing_a_model_removes_its_blobs_folders_and_records_and_no_others(cache: Path) -> None:
    store = Cache((cache,))
    build(cache, "bert", {"model.safetensors": WEIGHTS, "vocab.txt": BODY})
    build(cache, "gpt", {"vocab.txt": OTHER})
    before = leftovers(cache)
    for url, body in (("https://a/", WEIGHTS), ("https://b/", OTHER)):
        store.write_ref(Ref(url, sha256(body), len(body), "first-use"))
    done = remove(store, ["bert"])
    assert kinds(done) == ["blob", "blob", "folder", "record"]
    assert (done.freed, done.left) == (len(WEIGHTS) + 2 * len(BODY), 2 * len(OTHER))
    assert store.read_ref("https://a/") is None and store.read_ref("https://b/") is not None
    assert [name for name in leftovers(cache) if not name.startswith("refs/")] == [
        name for name in before if sha256(OTHER) in name or "gpt" in name
    ]


def test_what_another_model_holds_stays(cache: Path) -> None:
    build(cache, "a", {"model.safetensors": WEIGHTS, "vocab.txt": BODY})
    build(cache, "b", {"vocab.txt": BODY})
    remove(Cache((cache,)), ["a"])
    assert set(states(cache).values()) == {"ok"}
    assert Cache((cache,)).lookup(sha256(BODY)) and not Cache((cache,)).lookup(sha256(WEIGHTS))


def test_what_was_brought_for_another_model_without_a_folder_stays_unless_all_of_it_goes(cache: Path) -> None:
    put(cache, BODY, "base", "vocab.txt")
    put(cache, WEIGHTS, "base")
    put(cache, OTHER, "large")
    remove(Cache((cache,)), ["large"], [sha256(BODY), sha256(OTHER)])
    assert Cache((cache,)).lookup(sha256(BODY)) and not Cache((cache,)).lookup(sha256(OTHER))
    # The same files, asked for by another name.
    remove(Cache((cache,)), ["alias"], [sha256(BODY), sha256(WEIGHTS)])
    assert leftovers(cache) == []


def test_the_content_of_an_archive_goes_with_it(cache: Path) -> None:
    blob = put(cache, BODY, "packed", "model.tar.gz")
    (content := cache / "unpacked" / sha256(BODY)).mkdir(parents=True)
    (content / "config.json").write_bytes(OTHER)
    (content / "config.json").chmod(0o400)
    (model,) = contents(Cache((cache,))).models
    assert (model.label, model.size, model.folders) == ("packed", len(BODY) + len(OTHER), (content,))
    assert kinds(remove(Cache((cache,)), ["packed"])) == ["blob", "unpacked"]
    assert not content.exists() and not blob.exists()


# -- prune: what is of no use --------------------------------------------------------------------------------------------


def test_a_cache_in_order_is_left_as_it_is(cache: Path) -> None:
    build(cache, "bert", {"model.safetensors": WEIGHTS, "vocab.txt": BODY})
    Cache((cache,)).write_ref(Ref("https://a/", sha256(BODY), 1, "hub"))
    (cache / f"{'a' * 64}.{'b' * 64}").write_bytes(b"of a library of 2019, which kept its files here")
    (cache / "blobs" / "sha256" / "notes.txt").write_text("somebody's")
    before = listing(cache)
    done = prune(Cache((cache,)))
    assert (done.removed, done.freed) == ((), 0)
    assert listing(cache) == before


def test_an_absent_cache_is_not_made(cache: Path) -> None:
    assert prune(Cache((cache,)), max_size=0).removed == ()
    assert not cache.exists()


def test_a_killed_process_leaves_nothing_after_a_prune_and_a_living_one_loses_nothing(cache: Path) -> None:
    receiver, sender = SPAWN.Pipe()
    process = SPAWN.Process(target=workers.hold_partial, args=(cache, "a" * 64, URL, sender), daemon=True)
    process.start()
    theirs = receiver.recv()
    everything = listing(cache)
    assert kinds(prune(Cache((cache,)))) == []
    assert listing(cache) == everything
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    done = prune(Cache((cache,)))
    assert kinds(done) == ["partial", "partial", "temporary", "temporary"]
    assert done.freed >= theirs
    assert leftovers(cache) == []
    receiver.close()
    sender.close()


@pytest.mark.parametrize("days", [-1, 1, 400])
def test_what_a_living_process_is_bringing_stays_however_old_it_looks(days: float, cache: Path) -> None:
    receiver, sender = SPAWN.Pipe()
    process = SPAWN.Process(target=workers.hold_partial, args=(cache, "a" * 64, URL, sender), daemon=True)
    process.start()
    receiver.recv()
    for path in sorted(cache.rglob("*"), reverse=True):
        aged(path, days)
    everything = listing(cache)
    assert kinds(prune(Cache((cache,)), max_size=0)) == []
    assert listing(cache) == everything
    process.kill()
    process.join(60)
    receiver.close()
    sender.close()


@pytest.mark.parametrize(("days", "stays"), [(0.9, True), (-1, True), (-400, True), (1.1, False), (400, False)])
@pytest.mark.parametrize("idle", [".partial", ".journal"])
def test_what_a_process_elsewhere_left_goes_a_day_after_it_was_last_written(
    idle: str, days: float, stays: bool, cache: Path
) -> None:
    token = owner_token().replace(owner_token()[:12], "0" * 12)
    folder = cache / "blobs" / "sha256" / "aa"
    folder.mkdir(parents=True)
    (stage := cache / "folders" / f".bert-{'0' * 16}.{token}").mkdir(parents=True)
    (archive := cache / "unpacked" / f".{'a' * 64}.77-00000000").mkdir(parents=True)
    partial, journal = (folder / f"{'aa' * 32}.{token}.partial{end}" for end in ("", ".journal"))
    for path in (partial, journal, stage / "x", archive / "x", cache / "folders" / f".b.json.{token}.tmp"):
        path.write_bytes(b"x")
        aged(path, days)
    aged(stage, days)
    aged(archive, days)
    aged(partial if partial.suffix == idle else journal, 300)  # the other tells that it is still written to
    prune(Cache((cache,)))
    assert len(leftovers(cache)) == (5 if stays else 0)
    assert stage.exists() == archive.exists() == stays


def test_quarantine_and_records_of_nothing_go(cache: Path) -> None:
    store = Cache((cache,))
    put(cache, BODY).unlink()
    store.quarantine(put(cache, OTHER), sha256(OTHER))
    store.write_json(cache / "folders" / f"gone-{'0' * 16}.json", {"version": 1, "model": "gone", "files": {}})
    assert kinds(prune(store)) == ["quarantine", "record", "record"]
    assert leftovers(cache) == []


@pytest.mark.parametrize("record", [b"", b"\x00\xff\xfe", b"{", b"[]", b"null", b'{"version": "1"}', b"[" * 100_000])
def test_broken_records_go_and_what_they_are_of_works_on(record: bytes, cache: Path) -> None:
    folder = build(cache, "bert", {"vocab.txt": BODY})
    Cache((cache,)).write_ref(Ref(URL, sha256(BODY), len(BODY), "hub"))
    (ref,) = (cache / "refs").rglob("*.json")
    for path in (ref, stamp_path(Cache((cache,)).blob(sha256(BODY))), folder.with_name(f"{folder.name}.json")):
        path.write_bytes(record)
    assert kinds(prune(Cache((cache,)))) == ["record"] * 3
    assert Cache((cache,)).lookup(sha256(BODY)) and (folder / "vocab.txt").exists()


@pytest.mark.parametrize("value", [[], {}, 1, None, "../x"])
def test_the_record_of_a_url_that_cannot_be_right_goes(value: object, cache: Path) -> None:
    store = Cache((cache,))
    put(cache, BODY)
    store.write_ref(Ref(URL, sha256(BODY), len(BODY), "hub"))
    (ref,) = (cache / "refs").rglob("*.json")
    ref.write_text(json.dumps({**json.loads(ref.read_text()), "sha256": value}))
    assert kinds(prune(store)) == ["record"]
    assert not ref.exists() and store.lookup(sha256(BODY))


def test_what_a_newer_version_wrote_stays(cache: Path) -> None:
    newer = b'{"version": 2, "secret": "of the future"}'
    folder = aged(build(cache, "bert", {"vocab.txt": BODY}), 9)
    Cache((cache,)).write_ref(Ref(URL, sha256(BODY), len(BODY), "hub"))
    (ref,) = (cache / "refs").rglob("*.json")
    for path in (ref, stamp_path(Cache((cache,)).blob(sha256(BODY))), folder.with_name(f"{folder.name}.json")):
        path.write_bytes(newer)
    before = listing(cache)
    assert prune(Cache((cache,))).removed == ()
    assert listing(cache) == before


def test_a_manifest_that_leads_out_of_its_folder_is_broken(cache: Path) -> None:
    folder = build(cache, "bert", {"vocab.txt": BODY})
    (outside := cache.parent / "precious").write_bytes(b"precious")
    manifest = {"version": 1, "model": "bert", "files": {"../../../precious": sha256(BODY)}}
    folder.with_name(f"{folder.name}.json").write_text(json.dumps(manifest))
    assert [check.path for check in verify(Cache((cache,)), repair=True) if check.in_folder] == []
    assert kinds(prune(Cache((cache,)), max_size=0)) == ["blob", "record"]
    assert outside.exists()


def test_a_folder_without_a_manifest_goes_when_it_was_not_used_for_a_day(cache: Path) -> None:
    young, old = (build(cache, name, {"vocab.txt": name.encode()}) for name in ("young", "old"))
    for folder in (young, old):
        folder.with_name(f"{folder.name}.json").unlink()
        aged(folder, 2)
    os.utime(young / "vocab.txt", (time.time(), 0))  # it was read
    assert kinds(prune(Cache((cache,)))) == ["folder"]
    assert young.exists() and not old.exists()


def test_a_folder_whose_blobs_are_gone_stays_because_it_works(cache: Path) -> None:
    folder = build(cache, "bert", {"model.safetensors": WEIGHTS, "vocab.txt": BODY})
    for body in (WEIGHTS, BODY):
        Cache((cache,)).blob(sha256(body)).unlink()
    assert kinds(prune(Cache((cache,)))) == ["record", "record"]
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert contents(Cache((cache,))).size == len(WEIGHTS) + len(BODY)
    assert set(states(cache).values()) == {"ok"}


def test_locks_that_nobody_holds_go_and_one_that_is_held_stays(cache: Path) -> None:
    put(cache, BODY)
    with file_lock(cache / "locks" / "held.lock"):
        with file_lock(cache / "locks" / "free.lock"):
            pass
        assert [item.path.name for item in prune(Cache((cache,))).removed] == ["free.lock"]
        assert (cache / "locks" / "held.lock").exists()
    assert kinds(prune(Cache((cache,)))) == ["lock"]


def test_a_process_that_waits_for_a_lock_that_is_pruned_still_excludes_others(cache: Path) -> None:
    (counter := cache / "number").parent.mkdir()
    counter.write_text("0")
    lock = cache / "locks" / "one.lock"
    counters = [SPAWN.Process(target=workers.count_up, args=(lock, counter, 300)) for _ in range(2)]
    for process in counters:
        process.start()
    while any(process.is_alive() for process in counters):
        prune(Cache((cache,)))
    assert [process.exitcode for process in counters] == [0, 0]
    assert counter.read_text() == "600"


# -- prune: what was not used ----------------------------------------------------------------------------------------------


def test_what_was_not_used_for_long_goes_with_its_records(cache: Path) -> None:
    store = Cache((cache,))
    old, young = aged(put(cache, BODY), 31), aged(put(cache, OTHER), 29)
    for url, body in (("https://a/", BODY), ("https://b/", OTHER)):
        store.write_ref(Ref(url, sha256(body), len(body), "hub"))
    done = prune(store, older_than=30 * DAY)
    assert kinds(done) == ["blob", "record"] and (done.freed, done.left) == (len(BODY), len(OTHER))
    assert not old.exists() and young.exists()
    assert store.read_ref("https://a/") is None and store.read_ref("https://b/") is not None


def test_what_was_trusted_on_first_use_is_held_to_its_bytes_after_a_prune(cache: Path) -> None:
    with file_server({"/f": BODY}) as server:
        fetch(cache, server.url, "f")
        prune(Cache((cache,)), max_size=0)
        assert fetch(cache, server.url, "f").path.read_bytes() == BODY
        prune(Cache((cache,)), max_size=0)
        server.answer = lambda handler, request: handler.reply(request, 200, OTHER)
        with pytest.raises(registry.IntegrityError):
            fetch(cache, server.url, "f")


@pytest.mark.parametrize(
    "used", ["the blob is read", "the blob is written", "its stamp is written", "its folder's copy is read"]
)
def test_whatever_shows_a_use_keeps_a_file(used: str, cache: Path) -> None:
    folder = aged(build(cache, "bert", {"vocab.txt": BODY}), 90)
    blob = aged(Cache((cache,)).blob(sha256(BODY)), 90)
    now, then = time.time(), blob.stat().st_mtime
    path, times = {
        "the blob is read": (blob, (now, then)),
        "the blob is written": (blob, (then, now)),
        "its stamp is written": (stamp_path(blob), (now, now)),
        "its folder's copy is read": (folder / "vocab.txt", (now, then)),
    }[used]
    os.utime(path, times)
    prune(Cache((cache,)), older_than=30 * DAY)
    assert blob.exists() and folder.exists()
    os.utime(path, (then, then))
    assert kinds(prune(Cache((cache,)), older_than=30 * DAY)) == ["blob", "folder"]


@pytest.mark.parametrize("days", [-1, 1])
@pytest.mark.parametrize("skewed", ["blob", "stamp", "manifest", "reference", "folder"])
def test_a_clock_that_is_a_day_off_evicts_nothing_early(skewed: str, days: float, cache: Path) -> None:
    folder = build(cache, "bert", {"vocab.txt": BODY})
    Cache((cache,)).write_ref(Ref(URL, sha256(BODY), len(BODY), "hub"))
    blob = Cache((cache,)).blob(sha256(BODY))
    paths = {
        "blob": blob,
        "stamp": stamp_path(blob),
        "manifest": folder.with_name(f"{folder.name}.json"),
        "reference": next((cache / "refs").rglob("*.json")),
        "folder": folder / "vocab.txt",
    }
    then = time.time() - days * DAY
    os.utime(paths[skewed], (then, then))
    before = listing(cache)
    prune(Cache((cache,)), older_than=DAY / 2)
    assert listing(cache) == before


@pytest.mark.parametrize("days", [-1, 1, 10_000])
def test_the_clock_of_this_machine_is_not_asked(days: float, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(cache, BODY)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + days * DAY)
    monkeypatch.setattr(time, "time_ns", lambda: int((real() + days * DAY) * 1e9))
    assert prune(Cache((cache,)), older_than=3600).removed == ()


def test_the_least_recently_used_goes_first_until_it_is_little_enough(cache: Path) -> None:
    bodies = [bytes([number]) * 1000 for number in range(5)]
    # The order in which they were last used is none of name, size or time of arrival.
    for body, days in zip(bodies, (3, 5, -1, 4, 2), strict=True):
        aged(put(cache, body, name=str(body[0])), days)
    left = {number: Cache((cache,)).blob(sha256(body)) for number, body in enumerate(bodies)}
    for limit, gone in ((5000, []), (4999, [1]), (3000, [1, 3]), (2999, [0, 1, 3]), (1000, [0, 1, 3, 4]), (0, [0, 1, 2, 3, 4])):
        assert prune(Cache((cache,)), max_size=limit).left <= limit
        assert [number for number, blob in left.items() if not blob.exists()] == gone


def test_a_folder_goes_with_its_blobs_so_that_their_bytes_are_freed(cache: Path) -> None:
    old = build(cache, "old", {"model.safetensors": WEIGHTS, "vocab.txt": BODY})
    new = build(cache, "new", {"vocab.txt": BODY, "config.json": OTHER})
    aged(old, 9)
    for body in (WEIGHTS, BODY, OTHER):
        aged(Cache((cache,)).blob(sha256(body)), 9 if body is WEIGHTS else 0)
    aged(Cache((cache,)).blob(sha256(BODY)), 8)
    done = prune(Cache((cache,)), max_size=100_000)
    assert done.freed == len(WEIGHTS) + len(BODY) and not old.exists()
    assert done.left == 4 * len(BODY)
    assert new.exists() and set(states(cache).values()) == {"ok"}


def test_the_content_of_an_archive_is_pruned_like_a_folder(cache: Path) -> None:
    (content := cache / "unpacked" / sha256(BODY) / "inner").mkdir(parents=True)
    (content / "config.json").write_bytes(OTHER)
    blob = aged(put(cache, BODY, "packed", "model.zip"), 90)
    prune(Cache((cache,)), older_than=DAY)  # the content was used
    assert content.exists() and blob.exists()
    aged(content.parent, 90)
    assert kinds(prune(Cache((cache,)), older_than=DAY)) == ["blob", "unpacked"]
    assert leftovers(cache) == []


def test_bytes_that_another_program_holds_as_well_are_not_freed(cache: Path, tmp_path: Path) -> None:
    os.link(put(cache, BODY), tmp_path / "theirs")
    done = prune(Cache((cache,)), max_size=0)
    assert (done.freed, done.left) == (0, 0)
    assert (tmp_path / "theirs").read_bytes() == BODY


def test_a_dry_run_tells_the_same_and_writes_nothing(cache: Path) -> None:
    store = Cache((cache,))
    for name in ("a", "b"):
        aged(build(cache, name, {"model.safetensors": WEIGHTS + name.encode(), "vocab.txt": name.encode()}), 9)
    store.write_ref(Ref(URL, sha256(b"a"), 1, "hub"))
    store.quarantine(put(cache, OTHER), sha256(OTHER))
    put(cache, BODY).unlink()
    with file_lock(cache / "locks" / "free.lock"):
        pass
    (cache / "folders" / f".x.{nobodys_token()}.tmp").write_bytes(b"x")
    before = listing(cache)
    told = prune(store, max_size=0, dry_run=True)
    assert listing(cache) == before
    done = prune(store, max_size=0)
    assert (sorted(told.removed, key=str), told.freed, told.left) == (sorted(done.removed, key=str), done.freed, done.left)
    assert set(kinds(done)) == {"blob", "folder", "quarantine", "record", "temporary", "lock"}
    assert done.left == 0 and leftovers(cache) == []


def test_a_prune_that_was_killed_leaves_nothing_that_the_next_one_does_not_remove(cache: Path) -> None:
    """To learn the file system's time a prune makes a file in the cache's own folder."""
    (cache / f".now.{nobodys_token()}.tmp").parent.mkdir()
    (cache / f".now.{nobodys_token()}.tmp").touch()
    (cache / f".now.{owner_token()}.tmp").touch()
    (cache / ".notes.tmp").touch()
    assert kinds(prune(Cache((cache,)))) == ["temporary"]
    assert len(leftovers(cache)) == 2


def test_a_cache_that_cannot_be_written_is_said_to_be(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(cache, BODY)
    before = listing(cache)

    def refuse(path: Path) -> NoReturn:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "touch", refuse)  # the tests may run as root, whom no mode stops
    with pytest.raises(CacheError, match="to be writable, but is not .Read-only"):
        prune(Cache((cache,)), max_size=0)
    assert listing(cache) == before


def test_a_dry_run_needs_nothing_but_to_read(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aged(put(cache, BODY), 9)

    def refuse(path: Path) -> NoReturn:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "touch", refuse)
    assert kinds(prune(Cache((cache,)), older_than=8 * DAY, dry_run=True)) == ["blob"]


def test_what_cannot_be_removed_is_warned_of_and_the_rest_goes(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stuck = put(cache, BODY)
    build(cache, "other", {"vocab.txt": OTHER})
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == stuck:
            raise PermissionError(errno.EACCES, "Permission denied")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    done = prune(Cache((cache,)), max_size=0)
    assert (kinds(done), done.left) == (["blob", "folder"], len(BODY))
    assert f"{stuck} cannot be removed: Permission denied" in caplog.text
    assert Cache((cache,)).lookup(sha256(BODY)) == stuck


def test_folders_of_blobs_stay_because_a_writer_may_be_between_making_and_using_one(cache: Path) -> None:
    folder = put(cache, BODY).parent
    prune(Cache((cache,)), max_size=0)
    assert folder.is_dir() and not list(folder.iterdir())


def test_what_vanishes_while_it_is_pruned_is_fine(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    build(cache, "bert", {"model.safetensors": WEIGHTS, "vocab.txt": BODY})
    put(cache, OTHER)
    look = registry.store.upkeep.prune.take_inventory

    def then_another_prunes(store: Cache) -> object:
        monkeypatch.setattr(registry.store.upkeep.prune, "take_inventory", look)
        found = look(store)
        prune(store, max_size=0)
        return found

    monkeypatch.setattr(registry.store.upkeep.prune, "take_inventory", then_another_prunes)
    assert prune(Cache((cache,)), max_size=0).left == 0
    assert leftovers(cache) == [] and caplog.text == ""


def test_the_blobs_of_a_folder_that_cannot_be_removed_stay(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build(cache, "bert", {"model.safetensors": WEIGHTS, "vocab.txt": BODY})

    def refuse(path: Path, manifest: Path | None) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(registry.store.upkeep.removal, "remove_folder", refuse)
    done = prune(Cache((cache,)), max_size=0)
    assert (done.removed, done.freed, done.left) == ((), 0, len(WEIGHTS) + 2 * len(BODY))
    assert folder.exists() and set(states(cache).values()) == {"ok"}


def test_nobody_sees_half_of_a_folder_that_goes(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build(cache, "bert", {"vocab.txt": BODY})
    monkeypatch.setattr(registry.store.upkeep.removal.shutil, "rmtree", lambda *args, **kwargs: None)  # killed before that
    prune(Cache((cache,)), max_size=0)
    assert not folder.exists()
    (left,) = (cache / "folders").iterdir()
    assert owner_state(left.name) is OwnerState.ALIVE  # once this process is dead, the next prune removes it


def test_a_folder_that_is_pruned_while_it_is_completed_is_whole(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"config.json": OTHER, "vocab.txt": BODY}
    folder = build(cache, "bert", files)
    (folder / "vocab.txt").unlink()
    sync = registry.store.folders.sync_folder

    def then_another_removes_it(path: Path) -> None:
        sync(path)
        if path.name == "folders":
            monkeypatch.setattr(registry.store.folders, "sync_folder", sync)
            (folder / "config.json").unlink()

    monkeypatch.setattr(registry.store.folders, "sync_folder", then_another_removes_it)
    assert build(cache, "bert", files) == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


@pytest.mark.parametrize("moment", ["before a file comes into it", "before it is synced"])
def test_a_folder_that_goes_while_it_is_completed_is_built_anew(
    moment: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"config.json": OTHER, "vocab.txt": BODY}
    folder = build(cache, "bert", files)
    (folder / "vocab.txt").unlink()
    name = "make_folder" if moment == "before a file comes into it" else "_sync_folders"
    original = getattr(registry.store.folders, name)

    def prune_then(path: Path, *args: object) -> None:
        if path == folder and folder.exists():
            monkeypatch.setattr(registry.store.folders, name, original)
            remove_folder(folder, folder.with_name(f"{folder.name}.json"))
            if name == "make_folder":
                return
        original(path, *args)

    monkeypatch.setattr(registry.store.folders, name, prune_then)
    assert build(cache, "bert", files) == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


def test_a_blob_that_was_brought_anew_since_it_was_looked_at_stays(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aged(put(cache, BODY), 90)
    look = registry.store.upkeep.prune.take_inventory

    def then_another_brings_it(store: Cache) -> object:
        monkeypatch.setattr(registry.store.upkeep.prune, "take_inventory", look)
        found = look(store)
        put(cache, BODY)
        return found

    monkeypatch.setattr(registry.store.upkeep.prune, "take_inventory", then_another_brings_it)
    assert prune(Cache((cache,)), older_than=DAY).removed == ()
    assert Cache((cache,)).lookup(sha256(BODY))


# -- while others read -----------------------------------------------------------------------------------------------------


def test_a_mapped_file_is_whole_after_its_name_is_gone(cache: Path) -> None:
    mapped = np.memmap(put(cache, WEIGHTS), mode="r")
    prune(Cache((cache,)), max_size=0)
    assert leftovers(cache) == []
    assert mapped.tobytes() == WEIGHTS


def test_readers_get_the_right_bytes_or_are_told_while_another_process_prunes_everything(cache: Path) -> None:
    files = {"/model.safetensors": WEIGHTS, "/config.json": b'{"model_type": "bert"}', "/vocab.txt": BODY}
    receiver, sender = SPAWN.Pipe()
    pruner = SPAWN.Process(target=workers.prune_all_the_time, args=(cache, sender, 0, None, (0, 0, 0, 0.01, 0.1, 0.5)))
    pruner.start()
    receiver.recv()
    complete = 0
    with file_server(files) as server:
        while complete < 5:
            before = server.sent("/model.safetensors")
            try:
                folder = registry.fetch(server.url, family="bert")
            except CacheError as error:  # the pruner, which spares nothing, was faster three times
                assert "was removed meanwhile" in str(error)
                continue
            with contextlib.suppress(FileNotFoundError):  # it went after it was handed out
                for path, body in files.items():
                    assert (folder / path[1:]).read_bytes() == body
                complete += server.sent("/model.safetensors") > before  # it was not here any more
    receiver.send("stop")
    rounds, removed = receiver.recv()
    pruner.join(60)
    assert pruner.exitcode == 0 and rounds > 0 and removed > 0
    prune(Cache((cache,)), max_size=0)
    assert [name for name in leftovers(cache) if not name.startswith("refs/")] == []


def test_pinned_files_are_unharmed_by_prunes_that_spare_what_is_in_use(cache: Path) -> None:
    receiver, sender = SPAWN.Pipe()
    pruner = SPAWN.Process(target=workers.prune_all_the_time, args=(cache, sender, None, DAY))
    pruner.start()
    receiver.recv()
    with file_server({"/f": WEIGHTS}) as server:
        for number in range(40):
            aged(put(cache, bytes([number]) * 100), 9)  # what may go
            pins: dict[str, FilePin] = pinned("f", WEIGHTS)
            assert fetch(cache, server.url, "f", pins).path.read_bytes() == WEIGHTS
        assert server.sent("/f") == len(WEIGHTS)  # it was never taken away
    receiver.send("stop")
    _, removed = receiver.recv()
    pruner.join(60)
    assert pruner.exitcode == 0 and removed > 0


def test_a_check_tells_what_it_is_of(cache: Path) -> None:
    blob = put(cache, BODY)
    assert list(verify(Cache((cache,)))) == [
        FileCheck("bert", "model.safetensors", sha256(BODY), blob, len(BODY), "ok", in_folder=False)
    ]
