"""What the store's tests share: digests, listings of the cache, and one-line fetches."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from registry.catalog.entry import FilePin, Host, Origin
from registry.store.cache import About, Cache
from registry.store.partial import Partial
from registry.store.store import Store
from registry.store.target import Place, StoredFile

#: Stands in for a weights file where its content does not matter.
BODY = bytes(range(256)) * 40
#: Another file of the same length.
OTHER = BODY[::-1]
#: Where bytes are said to be from that come from nowhere.
URL = "https://models.example/a/model.safetensors"


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def pinned(name: str, body: bytes, size: int | None = None) -> dict[str, FilePin]:
    return {name: FilePin(sha256=sha256(body), size=size)}


def host(name: str, variable: str) -> dict[str, Host]:
    """Return what `hosts:` of a catalog yields for one host whose token is in an environment variable."""
    return {name: Host(name=name, token_env=variable, origin=Origin("models.yaml", 1, 1))}


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


def get(
    cache: Path,
    source: str | tuple[str, ...],
    name: str,
    pins: Mapping[str, FilePin] | None = None,
    *,
    offline: bool = False,
    refresh: bool = False,
    hosts: Mapping[str, Host] | None = None,
) -> StoredFile | None:
    """Get one file with a store of its own, as a new process would."""
    sources = (source,) if isinstance(source, str) else source
    with Store(Cache((cache,)), offline=offline, refresh=refresh, hosts=lambda: hosts or {}) as store:
        return store.get(Place(sources, pins or {}), name)


def fetch(
    cache: Path,
    source: str | tuple[str, ...],
    name: str,
    pins: Mapping[str, FilePin] | None = None,
    *,
    offline: bool = False,
    refresh: bool = False,
    hosts: Mapping[str, Host] | None = None,
) -> StoredFile:
    """Get one file that must be there."""
    file = get(cache, source, name, pins, offline=offline, refresh=refresh, hosts=hosts)
    assert file is not None
    return file


def leftovers(cache: Path) -> list[str]:
    """Return every file under the cache except lock files, which hold nothing, and packed catalogs, which are no model's."""
    files = (path.relative_to(cache) for path in cache.rglob("*") if not path.is_dir())
    return sorted(str(path) for path in files if path.parts[0] not in ("locks", "catalogs"))


def visible(cache: Path) -> list[str]:
    """Return the leftovers without what is kept for the next try, or to be looked at in quarantine."""
    return [name for name in leftovers(cache) if not name.endswith((".partial", ".journal")) and "quarantine" not in name]


def arrived(cache: Path) -> int:
    """Return how many bytes of unfinished downloads are in their files; the holes of a file that comes in parts are not."""
    count = 0
    for path in cache.rglob("*.partial"):
        with contextlib.suppress(FileNotFoundError):  # it was finished meanwhile
            count += path.stat().st_blocks * 512
    return count


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something is so, and fail when it is not within a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within a minute"
        time.sleep(0.01)


def listing(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return inode, size and time of everything under a folder: equal listings mean that nothing was written."""
    return {str(path): (stat.st_ino, stat.st_size, stat.st_mtime_ns) for path in folder.rglob("*") if (stat := path.lstat())}


def evict(cache: Path) -> None:
    """Remove every blob but keep what is known of URLs, as a sweep for space does."""
    for blob in (cache / "blobs").rglob("*"):
        if blob.is_file():
            blob.unlink()
