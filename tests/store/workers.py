"""What the tests' spawned processes run."""

from __future__ import annotations

from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

from registry.base.file_lock import file_lock
from registry.base.files import owner_token
from registry.store.cache import Cache
from registry.store.folders import conventional_folder
from registry.store.partial import Partial
from registry.store.store import Store
from registry.store.target import Place
from registry.store.upkeep.prune import prune
from tests.store.helpers import sha256


def get_file(barrier: Barrier, results: Connection, cache: Path, source: str, name: str) -> None:
    """Get one file at the same moment as the others; report its hash and inode."""
    barrier.wait(60)
    with Store(Cache((cache,)), offline=False) as store:
        file = store.get(Place((source,)), name)
    assert file is not None
    results.send((sha256(file.path.read_bytes()), file.path.stat().st_ino))


def get_file_without_locks(barrier: Barrier, results: Connection, cache: Path, source: str, name: str) -> None:
    """Get one file on a file system whose locks hold nobody, as those of some clusters."""
    import fcntl

    fcntl.flock = lambda descriptor, operation: None  # type: ignore[assignment]
    get_file(barrier, results, cache, source, name)


def get_files_where_locks_fail(
    barrier: Barrier, results: Connection, cache: Path, source: str, names: list[str], code: int
) -> None:
    """Get files on a file system whose locks answer with an error; report their hashes, and how often that was warned of."""
    import fcntl
    import logging
    import os

    from registry.base import file_lock as locks

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    locks._SAY_AFTER = 0.1  # EACCES looks like a held lock until then
    fcntl.flock = flock  # type: ignore[assignment]
    warned: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = warned.append  # type: ignore[method-assign]
    logging.getLogger("registry").addHandler(handler)
    barrier.wait(60)
    digests = []
    with Store(Cache((cache,)), offline=False) as store:
        for name in names:
            file = store.get(Place((source,)), name)
            assert file is not None
            digests.append(sha256(file.path.read_bytes()))
    results.send((digests, len(warned)))


def fetch_model(barrier: Barrier, results: Connection, source: str) -> None:
    """Fetch a whole model by the library's front door; report its folder."""
    import registry

    barrier.wait(120)
    results.send(registry.fetch(source))


def build_folder(barrier: Barrier, results: Connection, cache: Path, files: dict[str, tuple[Path, str]]) -> None:
    """Build one and the same folder of a cache at the same moment as the others."""
    barrier.wait(60)
    results.send(conventional_folder(Cache((cache,)), "model", files))


def hold_lock(path: Path, ready: Connection) -> None:
    """Take a lock, say so, and keep it until told otherwise."""
    with file_lock(path):
        ready.send("held")
        ready.recv()


def count_up(path: Path, counter: Path, times: int) -> None:
    """Add to a number in a file, which goes wrong when two do it at once."""
    for _ in range(times):
        with file_lock(path):
            counter.write_text(str(int(counter.read_text()) + 1))


def die_while_publishing(cache: Path, source: str, name: str, moment: str) -> None:
    """Get one file, and be killed at a moment after its last byte."""
    import os
    import signal

    def die(*args: object, **kwargs: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    target = {"before the rename": "publish", "before the stamp": "_write_stamp", "before the record": "write_ref"}[moment]
    setattr(Cache, target, die)
    with Store(Cache((cache,)), offline=False) as store:
        store.get(Place((source,)), name)


def hold_partial(cache: Path, key: str, url: str, ready: Connection) -> None:
    """Bring half of a file, with a folder and a record half written, say how much that is, and wait to be killed."""
    store = Cache((cache,))
    partial = Partial.claim(store, key, url, identified=True)
    partial.begin('"v1"', 2000)
    with partial.writer(0) as writer:
        writer.write(b"x" * 1000)
    (stage := cache / "folders" / f".bert-{'0' * 16}.{owner_token()}" / "sub").mkdir(parents=True)
    (stage / "vocab.txt").write_bytes(b"y" * 500)
    (cache / "blobs" / "sha256" / key[:2] / f".{key}.json.{owner_token()}.tmp").write_bytes(b"z")
    ready.send(1501)
    ready.recv()


def prune_all_the_time(
    cache: Path,
    control: Connection,
    max_size: int | None = None,
    older_than: float | None = None,
    pauses: tuple[float, ...] = (0,),
) -> None:
    """Prune a cache until told to stop, with these pauses in turn; report how often, and how much was removed."""
    rounds = removed = 0
    control.send("ready")
    while not control.poll(pauses[rounds % len(pauses)]):
        done = prune(Cache((cache,)), max_size=max_size, older_than=older_than)
        rounds, removed = rounds + 1, removed + len(done.removed)
    control.recv()
    control.send((rounds, removed))
