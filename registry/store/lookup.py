"""Local lookup: find a file without network access, by pins, records of URLs, blobs, and files on this machine."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from registry.base.settings import is_set
from registry.base.urls import redact
from registry.catalog.entry import FilePin
from registry.errors import CacheError, DownloadError, IntegrityError
from registry.store.cache import BELIEVED, Cache, Ref, file_sha256
from registry.store.expected import check_claims
from registry.store.target import StoredFile
from registry.store.transports import FileMissing, Resource
from registry.store.wanted import FileSource, Revisions, Wanted

__all__ = ["Lookup", "in_place_url", "pins_required", "refuse_unpinned"]


class Lookup:
    """What one operation finds without a connection; no method opens one."""

    def __init__(self, cache: Cache, revisions: Revisions, *, refresh: bool) -> None:
        """With `refresh`, records of unpinned URLs do not count."""
        self._cache = cache
        self._revisions = revisions
        self._refresh = refresh
        self._lock = threading.Lock()
        self._absent: dict[str, str] = {}

    def find(self, wanted: Wanted) -> StoredFile | None:
        """Return the file that has the pinned hash, or that a source gave before, when it is in the cache.

        It may be of any source, so that one that does not answer now is not asked.
        """
        if (found := self.by_pin(wanted)) is not None:
            return found
        for ref in self.refs(wanted):
            if (found := self._blob(wanted.name, ref.sha256, ref.trust)) is not None:
                return found
        return None

    def by_pin(self, wanted: Wanted) -> StoredFile | None:
        """Return the file that has the pinned hash, when it is in the cache."""
        sha256 = wanted.pin.sha256
        return self._blob(wanted.name, sha256, "catalog") if sha256 is not None else None

    def refs(self, wanted: Wanted) -> Iterator[Ref]:
        """Yield what sources of a file without a pinned hash were found to be, up to the first source on this machine.

        The first one is kept as `wanted.expected`. After the last one, `wanted.absent` says whether every source is recorded
        to lack the file. A source that cannot be used is passed over: its error is raised when it has its turn.
        """
        wanted.expected, wanted.absent = None, False
        some = False
        for source in wanted.sources:
            try:
                if not source.transport.remote:
                    return
                ref = self.ref(source)
            except FileMissing:
                continue
            except (DownloadError, IntegrityError):
                ref = None
            some = True
            if ref is not None:
                wanted.expected = wanted.expected or ref
                yield ref
        wanted.absent = bool(wanted.sources) and not some

    def ref(self, source: FileSource, *, again: bool = False) -> Ref | None:
        """Return what the URL of a file without a pinned hash was found to be; with `again` the record is read again.

        Raises:
            FileMissing: when it was found to be absent.
            IntegrityError: when it was trusted on first use, and pins are required.
        """
        pin = source.wanted.pin
        if self._refresh or pin.sha256:
            return None
        ref = self._cache.read_ref(source.url) if again else source.record
        if ref is None:
            return None
        if ref.absent:
            url = redact(source.url)
            raise FileMissing(f"{url} was not there when it was last asked for", url=url, status=404)
        if ref.trust in BELIEVED and pins_required():
            if ref.trust == "first-use":
                refuse_unpinned(source.url)
            return None  # the hub can be asked
        return ref if ref.sha256 and pin.size in (None, ref.size) else None

    def at_source(self, source: FileSource, *, again: bool = False) -> StoredFile | None:
        """Return the file when the source is on this machine, or gave it before and it is in the cache.

        With `again` the record of the source is read again, because another process may have written it.
        """
        wanted = source.wanted
        if not source.transport.remote:
            return self._in_place(source.transport.describe(source.url), wanted.name, wanted.pin)
        ref = self.ref(source, again=again)
        return self._blob(wanted.name, ref.sha256, ref.trust) if ref is not None else None

    def known_sha256(self, wanted: Wanted) -> str | None:
        """Return the hash that a file must have, by its pin or by a record of its URL; the file may be missing here."""
        if wanted.pin.sha256 is not None:
            return wanted.pin.sha256
        ref = next(self.refs(wanted), None)
        return ref.sha256 if ref is not None else None

    def trusted(self, wanted: Wanted) -> Ref | None:
        """Return what a URL of a file was trusted to be on first use, also for a refresh."""
        refs = wanted.records.values()
        return next((ref for ref in refs if ref is not None and ref.sha256 and ref.trust == "first-use"), None)

    def is_other(self, wanted: Wanted) -> bool:
        """Return True if a URL of a pinned file was found to be something else before."""
        refs = wanted.records.values()
        return any(ref is not None and ref.sha256 not in ("", wanted.pin.sha256) for ref in refs)

    def _blob(self, name: str, sha256: str, trust: str) -> StoredFile | None:
        path = self._cache.lookup(sha256)
        return StoredFile(name, path, sha256, trust) if path is not None else None

    def note_absent(self, source: FileSource, url: str = "") -> None:
        """Note that a source said that it has no such file, at `url` where that is another URL than its own."""
        with self._lock:
            self._absent[url or source.url] = source.source

    def record_absent(self) -> None:
        """Record which files are not there, so that the next operation does not ask for them."""
        for url, source in self._absent.items():
            self._revisions.record(source)
            with contextlib.suppress(CacheError):
                self._cache.write_ref(Ref(url, absent=True))

    def already_here(self, url: str, name: str, sha256: str, size: int | None, trust: str) -> StoredFile | None:
        """Return the blob of a hash, and record that the URL has this hash."""
        if (path := self._cache.lookup(sha256)) is None:
            return None
        here = path.stat().st_size
        check_claims(Resource(url, url, size=here), None, size)
        with contextlib.suppress(CacheError):  # found in a tier behind a cache that cannot be written: asked again next time
            self._cache.write_ref(Ref(url, sha256, here, trust))
        return StoredFile(name, path, sha256, trust)

    def _in_place(self, resource: Resource, name: str, pin: FilePin) -> StoredFile:
        """Return a local file after a check against its pin; it is hashed again only when its size or time changed."""
        assert resource.path is not None
        if pin.sha256 is None:
            check_claims(resource, None, pin.size)
            return StoredFile(name, resource.path)
        ref = self.hashed(resource.path)
        seen = Resource(resource.url, resource.address, size=ref.size, sha256=ref.sha256)
        check_claims(seen, pin.sha256, pin.size)
        return StoredFile(name, resource.path, pin.sha256, "catalog")

    def hashed(self, path: Path) -> Ref:
        """Return size and hash of a local file; the recorded hash is used when size and time have not changed."""
        stat = path.stat()
        key = in_place_url(path)
        ref = self._cache.read_ref(key)
        if ref is None or (ref.size, ref.mtime_ns) != (stat.st_size, stat.st_mtime_ns):
            ref = Ref(key, file_sha256(path), stat.st_size, mtime_ns=stat.st_mtime_ns)
            with contextlib.suppress(CacheError):  # without a writable cache it is hashed at each use
                self._cache.write_ref(ref)
        return ref


def in_place_url(path: Path) -> str:
    """Return the URL of the record of a file on this machine."""
    return f"file://{path.absolute()}"


def pins_required() -> bool:
    """Return True if a file needs a pin or a hash from a hub; the word of its own server is not enough."""
    return is_set("REGISTRY_REQUIRE_PINS")


def refuse_unpinned(url: str) -> None:
    """Refuse a file that no pin and no hub hash vouches for, where pins are required.

    Raises:
        IntegrityError: when they are.
    """
    if pins_required():
        raise IntegrityError(
            f"sha256 of {redact(url)} is expected to be pinned, because REGISTRY_REQUIRE_PINS is set, but is not; "
            "add it to models.yaml",
            url=redact(url),
            expected="a pin",
            actual="none",
        )
