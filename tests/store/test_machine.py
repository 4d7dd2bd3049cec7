"""Disks, mounts, users and other conditions of one machine."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import io
import json
import mmap
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import registry
from registry.base.files import OWNED, OwnerState, owner_state, owner_token
from registry.errors import CacheError
from registry.loading.assembly import Assembly
from registry.store.cache import About, Cache
from registry.store.partial import Partial
from registry.store.upkeep.verify import verify
from tests.processes import environment
from tests.servers import file_server, serving
from tests.store.helpers import BODY, fetch, get, leftovers, listing, pinned, sha256, visible
from tests.store.test_locks import as_nobody

NAME = "model.safetensors"
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount, and become another user")
MS_RDONLY, MS_REMOUNT = 1, 32


def mount(folder: Path, flags: int, options: str) -> None:
    """Mount a file system in memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", bytes(folder), b"tmpfs", ctypes.c_ulong(flags), options.encode()) != 0:
        code = ctypes.get_errno()
        if code in (errno.EPERM, errno.EACCES, errno.ENODEV):
            pytest.skip("this machine does not allow to mount")
        raise OSError(code, os.strerror(code))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Return a function that makes a small disk of a size such as `2m`, gone after the test."""
    made: list[Path] = []

    def make(size: str) -> Path:
        folder = tmp_path / f"disk-{len(made)}"
        folder.mkdir()
        mount(folder, 0, f"size={size}")
        made.append(folder)
        return folder

    yield make
    for folder in made:
        ctypes.CDLL(None).umount2(bytes(folder), 2)


# -- full disks --------------------------------------------------------------------------------------------------------


@ROOT_ONLY
def test_a_disk_that_fills_up_later_is_a_cache_error_and_poisons_nothing(
    disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = disk("2m") / "cache"
    with file_server({"/small": BODY, "/large": bytes(3_000_000)}) as server:
        fetch(cache, server.url, "small")
        monkeypatch.setattr(Cache, "require_space", lambda self, count: None)  # as where nobody knows the size before
        with pytest.raises(CacheError, match=r"No space left on device.*set REGISTRY_CACHE"):
            get(cache, server.url, "large")
        assert [name for name in visible(cache) if "large" in name] == []
        fetch(cache, server.url, "small", offline=True)


@ROOT_ONLY
def test_a_disk_that_is_too_small_is_told_before_a_byte_is_asked_for(disk: Callable[[str], Path]) -> None:
    cache = disk("2m") / "cache"
    body = bytes(3_000_000)
    with file_server({"/large": body}) as server:
        with pytest.raises(CacheError, match=r"expected to have 3,000,000 bytes free, but has \d,\d{3},\d{3}"):
            get(cache, server.url, "large", pinned("large", body, len(body)))
        assert server.requests == []


@ROOT_ONLY
def test_the_private_file_is_on_the_disk_of_the_cache_wherever_temporary_files_go(
    disk: Callable[[str], Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename between two disks is a copy, which readers could see unfinished."""
    monkeypatch.setenv("TMPDIR", str(disk("4m")))
    monkeypatch.setattr(tempfile, "tempdir", None)  # so that the variable counts
    body = bytes(1_000_000)
    with file_server({f"/{NAME}": body}) as server:
        assert fetch(cache, server.url, NAME).path.read_bytes() == body


@ROOT_ONLY
def test_folders_and_archives_are_built_on_the_disk_of_the_cache_wherever_temporary_files_go(
    disk: Callable[[str], Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(disk("8m")))
    monkeypatch.setattr(tempfile, "tempdir", None)
    files = {"config.json": b'{"model_type": "bert"}', "vocab.txt": b"[UNK]\n", NAME: bytes(2_000_000)}
    with tarfile.open(fileobj=(packed := io.BytesIO()), mode="w:gz") as archive:
        for name, body in files.items():
            (info := tarfile.TarInfo(name)).size = len(body)
            archive.addfile(info, io.BytesIO(body))
    with file_server({**{f"/{name}": body for name, body in files.items()}, "/bert.tar.gz": packed.getvalue()}) as server:
        for source in (server.url, f"{server.url}/bert.tar.gz"):
            folder = registry.fetch(source)
            assert folder.is_relative_to(cache)
            assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


# -- caches that cannot be written -------------------------------------------------------------------------------------


@ROOT_ONLY
def test_a_read_only_cache_serves_what_it_has_and_says_what_it_lacks(disk: Callable[[str], Path]) -> None:
    folder = disk("8m")
    with file_server({f"/{NAME}": BODY, "/other.bin": BODY * 2}) as server:
        fetch(folder / "cache", server.url, NAME)
        before = listing(folder)
        mount(folder, MS_REMOUNT | MS_RDONLY, "")
        assert fetch(folder / "cache", server.url, NAME).path.read_bytes() == BODY
        with pytest.raises(CacheError, match=r"Read-only file system.*set REGISTRY_CACHE"):
            get(folder / "cache", server.url, "other.bin")
        assert listing(folder) == before
        assert server.sent("/other.bin") == 0


@ROOT_ONLY
@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_a_second_user_reads_what_the_umask_lets_him(umask: int, disk: Callable[[str], Path]) -> None:
    folder = disk("8m")
    folder.chmod(0o777)
    for parent in folder.parents:  # pytest's own folders are for their owner only
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    cache = folder / "cache"
    before = os.umask(umask)
    try:
        with file_server({f"/{NAME}": BODY}) as server:
            fetch(cache, server.url, NAME)

            def read() -> None:
                assert fetch(cache, server.url, NAME, pinned(NAME, BODY), offline=True).path.read_bytes() == BODY

            assert (as_nobody(read) == 0) is (umask != 0o077)
    finally:
        os.umask(before)


@ROOT_ONLY
def test_two_users_share_a_cache_that_both_may_write(disk: Callable[[str], Path]) -> None:
    folder = disk("8m")
    for parent in folder.parents:
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    folder.chmod(0o2777)  # the group of what is made here is that of the folder
    os.chown(folder, 0, 65534)
    cache = folder / "cache"
    before = os.umask(0o002)
    try:
        with file_server({"/a.bin": BODY, "/b.bin": BODY * 2}) as server:
            fetch(cache, server.url, "a.bin")

            def work() -> None:
                os.umask(0o002)
                fetch(cache, server.url, "a.bin", offline=True)
                assert fetch(cache, server.url, "b.bin").path.read_bytes() == BODY * 2

            assert as_nobody(work) == 0
            assert fetch(cache, server.url, "b.bin", offline=True).path.read_bytes() == BODY * 2
    finally:
        os.umask(before)


MODEL = {"config.json": b'{"model_type": "bert"}', "vocab.txt": b"[UNK]\n", NAME: bytes(2 << 20)}


def packed() -> bytes:
    """Return an archive of a model."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, body in MODEL.items():
            archive.writestr(f"bert/{name}", body)
    return buffer.getvalue()


@ROOT_ONLY
@pytest.mark.parametrize("mode", [0o2770, 0o2775, 0o777], ids=oct)
@pytest.mark.parametrize("umask", [0o022, 0o077], ids=oct)
def test_a_cache_that_was_made_for_several_users_is_shared_whatever_their_umasks(
    umask: int, mode: int, disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one of them brings the others read, complete, repair and remove."""
    cache = disk("32m")
    for parent in cache.parents:
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    os.chown(cache, 0, 65534)
    cache.chmod(mode)
    monkeypatch.setenv("REGISTRY_CACHE", str(cache))
    files = {"/bert.zip": packed(), "/new.bin": BODY, **{f"/bert/{name}": body for name, body in MODEL.items()}}
    before = os.umask(umask)
    try:
        with file_server(files) as server:
            registry.fetch(f"{server.url}/bert")
            registry.fetch(f"{server.url}/bert.zip")
            blob = Cache((cache,)).blob(sha256(MODEL[NAME]))
            os.utime(blob, (1, 1))  # so that it is hashed again
            with blob.open("r+b") as file:
                file.write(b"damage")

            def work() -> None:
                os.umask(umask)
                ours = registry.ModelRegistry()
                for source in (f"{server.url}/bert", f"{server.url}/bert.zip"):
                    folder = ours.fetch(source)
                    assert {name: (folder / name).read_bytes() for name in MODEL} == MODEL
                fetch(cache, server.url, "new.bin")
                ours.prune()
                ours.evict(f"{server.url}/bert")

            assert as_nobody(work) == 0
            registry.fetch(f"{server.url}/bert")
            fetch(cache, server.url, "new.bin", offline=True)
            assert as_nobody(lambda: registry.ModelRegistry().prune(max_size=0)) == 0
            assert {name.split("/")[0] for name in visible(cache)} == {"refs"}  # what was trusted is held to
    finally:
        os.umask(before)


@ROOT_ONLY
@pytest.mark.parametrize("mode", [0o755, 0o700], ids=oct)
def test_a_cache_that_only_its_owner_may_write_is_no_more_open_than_his_umask(mode: int, disk: Callable[[str], Path]) -> None:
    cache = disk("8m")
    cache.chmod(mode)
    before = os.umask(0o077)
    try:
        with file_server({f"/{NAME}": BODY}) as server:
            fetch(cache, server.url, NAME)
    finally:
        os.umask(before)
    assert [path for path in cache.rglob("*") if path.stat().st_mode & 0o077 and path.parent.name != "locks"] == []


# -- readers -----------------------------------------------------------------------------------------------------------


def test_a_file_that_is_mapped_stays_right_while_its_blob_is_repaired(cache: Path) -> None:
    body = np.random.default_rng(1).bytes(4_000_000)
    with file_server({f"/{NAME}": body}) as server:
        path = fetch(cache, server.url, NAME, pinned(NAME, body)).path
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            os.utime(path, (1, 1))
            path.with_name(f"{path.name}.json").unlink()
            Cache((cache,)).quarantine(path, sha256(body))
            assert fetch(cache, server.url, NAME, pinned(NAME, body)).path.stat().st_ino != os.fstat(file.fileno()).st_ino
            assert mapped[:] == body


@pytest.mark.parametrize("by", ["a hit", "verify"])
def test_a_file_that_is_mapped_keeps_its_bytes_while_its_blob_is_repaired(by: str, cache: Path) -> None:
    """One that is cut in place kills whoever has it mapped (SIGBUS)."""
    body = np.random.default_rng(1).bytes(4_000_000)
    with file_server({f"/{NAME}": body}) as server:
        path = fetch(cache, server.url, NAME, pinned(NAME, body)).path
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            path.chmod(0o644)
            with path.open("rb+") as other:
                os.pwrite(other.fileno(), bytes([body[100] ^ 1]), 100)
            os.utime(path, (1, 1))
            damaged = mapped[:]
            if by == "verify":
                assert [check.state for check in verify(Cache((cache,)), repair=True)] == ["damaged"]
            repaired = fetch(cache, server.url, NAME, pinned(NAME, body)).path
            assert repaired.read_bytes() == body and repaired.stat().st_ino != os.fstat(file.fileno()).st_ino
            assert os.fstat(file.fileno()).st_size == len(body)
            assert mapped[:] == damaged != body


def test_a_file_that_is_mapped_stays_when_another_process_publishes_it_too(cache: Path) -> None:
    """As where locks hold nobody."""
    body = np.random.default_rng(1).bytes(4_000_000)
    with file_server({f"/{NAME}": body}) as server:
        path = fetch(cache, server.url, NAME, pinned(NAME, body)).path
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            partial = Partial.claim(Cache((cache,)), sha256(body), f"{server.url}/{NAME}", identified=True)
            partial.begin(None, len(body))
            with partial.writer(0) as writer:
                writer.write(body)
            assert Cache((cache,)).publish(partial.path, sha256(body), About()) == path
            assert path.stat().st_ino != os.fstat(file.fileno()).st_ino
            assert os.fstat(file.fileno()).st_size == len(body)
            assert mapped[:] == body == path.read_bytes()


def test_an_operation_below_which_the_cache_is_pruned_is_done_anew(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"/config.json": b'{"model_type": "bert", "vocab_size": 9}'}
    pruned: list[Path] = []
    original = Assembly.need

    def need(self: Assembly, *args: object) -> object:
        found = original(self, *args)  # type: ignore[arg-type]
        if not pruned:
            found.path.unlink()
            pruned.append(found.path)
        return found

    monkeypatch.setattr(Assembly, "need", need)
    with file_server(files) as server:
        assert registry.load_config(server.url).vocab_size == 9
        assert len(pruned) == 1 and server.sent("/config.json") == 2 * len(files["/config.json"])


def test_an_operation_below_which_the_cache_is_pruned_again_and_again_ends_with_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = Assembly.need

    def need(self: Assembly, *args: object) -> object:
        found = original(self, *args)  # type: ignore[arg-type]
        found.path.unlink()
        return found

    monkeypatch.setattr(Assembly, "need", need)
    with file_server({"/config.json": b'{"model_type": "bert"}'}) as server:
        with pytest.raises(CacheError, match="removed meanwhile; try again"):
            registry.load_config(server.url)
        assert len(server.requests) == 5


# -- a hit -------------------------------------------------------------------------------------------------------------

WATCHED = """
import json, os, sys
import registry

source, seen = sys.argv[1], []
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.utime", "os.truncate",
           "fcntl.flock", "fcntl.lockf", "shutil.", "tempfile.", "subprocess.", "os.fork", "_thread.start_new_thread")

def watch(event, args):
    if watching:
        if event.startswith("socket.") or event.startswith(CHANGES):
            seen.append(event)
        elif event == "open":
            path, mode, flags = args
            if isinstance(path, (str, bytes)) and os.fsdecode(path).startswith(os.environ["REGISTRY_CACHE"]):
                writes = isinstance(flags, int) and flags & WRITES
                seen.append(f"{'write' if writes else 'read'} {os.path.getsize(path)}")

watching = False
sys.addaudithook(watch)
registry.fetch(source)
watching = True
registry.fetch(source)
watching = False
print(json.dumps(seen))
"""


@pytest.mark.parametrize("size", [1_000, 30_000_000])
def test_a_hit_opens_no_socket_takes_no_lock_writes_nothing_and_reads_no_weights(size: int) -> None:
    files = {"/config.json": b'{"model_type": "bert"}', "/vocab.txt": b"[UNK]\n", f"/{NAME}": bytes(size)}
    with file_server(files) as server:
        done = subprocess.run(
            [sys.executable, "-c", WATCHED, server.url], env=environment(), capture_output=True, text=True, check=True
        )
    seen = json.loads(done.stdout)
    assert seen, "the watch sees nothing"
    assert {event.split()[0] for event in seen} == {"read"}
    assert max(int(event.split()[1]) for event in seen) < 600, "only records and the configuration are read"


# -- who owns a private file -------------------------------------------------------------------------------------------


def test_the_owner_of_a_token_is_known_to_live_or_to_be_dead() -> None:
    assert owner_state(f"abc.{owner_token()}.partial") is OwnerState.ALIVE
    code = "from registry.base.files import owner_token; print(owner_token())"
    child = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    token = child.stdout.strip()
    assert owner_state(f"abc.{token}.partial") is OwnerState.DEAD


def test_a_process_that_took_over_a_number_is_not_its_former_owner() -> None:
    machine, pid, start, rest = owner_token().split("-")
    assert owner_state(f"{machine}-{pid}-{int(start) - 1}-{rest}") is OwnerState.DEAD


@pytest.mark.parametrize("name", ["abc.partial", "abc.0123456789ab-1-1-01234567.partial", ""])
def test_of_another_machine_nothing_is_known(name: str) -> None:
    assert owner_state(name) is OwnerState.UNKNOWN


def test_what_a_process_of_another_machine_left_is_copied_and_left_alone(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may still be written to: a container's process has a number that means nothing outside."""
    monkeypatch.setenv("REGISTRY_PARALLEL", "1")
    body = np.random.default_rng(2).bytes(1_000_000)
    with serving(lambda handler, request: handler.reply_part(request, body, etag='"one"')) as server:
        partial = Partial.claim(Cache((cache,)), sha256(body), f"{server.url}/{NAME}", identified=True)
        partial.begin('"one"', len(body))
        with partial.writer(0) as writer:
            writer.write(body[:600_000])
        foreign = partial.path.with_name(f"{sha256(body)}.0123456789ab-1-1-01234567.partial")
        partial.path.rename(foreign)
        partial.path.with_name(f"{partial.path.name}.journal").rename(foreign.with_name(f"{foreign.name}.journal"))
        assert fetch(cache, server.url, NAME, pinned(NAME, body)).path.read_bytes() == body
        assert server.sent(f"/{NAME}") == 400_000
    assert foreign.stat().st_size == 600_000


def test_what_a_process_of_another_machine_left_is_not_gone_on_with_where_no_hash_is_known(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that was started anew is another: a power cut may have taken bytes that the journal tells of."""
    monkeypatch.setenv("REGISTRY_PARALLEL", "1")
    body = np.random.default_rng(2).bytes(100_000)
    with serving(lambda handler, request: handler.reply_part(request, body, etag='"one"')) as server:
        url = f"{server.url}/{NAME}"
        partial = Partial.claim(Cache((cache,)), hashlib.sha256(url.encode()).hexdigest(), url, identified=False)
        partial.begin('"one"', len(body))
        with partial.writer(0) as writer:
            writer.write(bytes(50_000))
        foreign = partial.path.with_name(OWNED.sub("0123456789ab-1-1-01234567", partial.path.name))
        partial.path.rename(foreign)
        partial.path.with_name(f"{partial.path.name}.journal").rename(foreign.with_name(f"{foreign.name}.journal"))
        assert fetch(cache, server.url, NAME).path.read_bytes() == body
        assert server.sent(f"/{NAME}") == len(body)


def test_what_a_living_process_is_bringing_is_not_touched(cache: Path) -> None:
    body = np.random.default_rng(2).bytes(100_000)
    with serving(lambda handler, request: handler.reply_part(request, body, etag='"one"')) as server:
        theirs = Partial.claim(Cache((cache,)), sha256(body), f"{server.url}/{NAME}", identified=True)
        theirs.begin('"one"', len(body))
        with theirs.writer(0) as writer:
            writer.write(body[:50_000])
        assert fetch(cache, server.url, NAME, pinned(NAME, body)).path.read_bytes() == body
        assert server.sent(f"/{NAME}") == len(body)
    assert theirs.path.read_bytes() == body[:50_000]
    theirs.discard()
    assert len(leftovers(cache)) == 3
