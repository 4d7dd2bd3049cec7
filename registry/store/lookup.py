"""What is known of files before anybody is asked: pins, records of URLs, blobs, and files that lie on this machine."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Mapping
from pathlib import Path

from registry.base.settings import is_set
from registry.base.urls import redact
from registry.catalog.entry import FilePin
from registry.errors import CacheError, DownloadError, IntegrityError
from registry.store.cache import BELIEVED, Cache, Ref, file_sha256
from registry.store.expected import check_claims
from registry.store.target import Place, StoredFile
from registry.store.transports import FileMissing, Resource, Transport, Transports

__all__ = ["Known", "Revisions", "in_place_url", "named_commit", "pins_required", "refuse_unpinned"]


class Known:
    """One operation's knowledge. No method opens a connection."""

    def __init__(self, cache: Cache, transports: Transports, revisions: Revisions, *, refresh: bool) -> None:
        """With `refresh` it does not count what URLs were found to be before."""
        self._cache = cache
        self._transports = transports
        self._revisions = revisions
        self._refresh = refresh
        self._lock = threading.Lock()
        self._absent: dict[str, str] = {}

    def sources(self, place: Place, pin: FilePin) -> tuple[str, ...]:
        """Return where a file may come from, in order: its own address alone, when it has one; then mirrors of each."""
        return self._transports.with_mirrors((pin.url,) if pin.url else place.sources)

    def urls(self, place: Place, name: str, pin: FilePin) -> list[str]:
        """Return the URLs of a file, up to the first source that is on this machine and is looked at in its turn."""
        urls = []
        for source in self.sources(place, pin):
            with contextlib.suppress(DownloadError):  # told when the source has its turn
                transport = self._transports.for_source(source)
                if not transport.remote:
                    break
                urls.append(self.url(transport, source, name, pin))
        return urls

    def url(self, transport: Transport, source: str, name: str, pin: FilePin) -> str:
        """Return the URL of a file; with an address of its own that address is the source."""
        held = self._revisions.at_commit(transport, source)
        return held if pin.url else transport.join(held, name)

    def by_pin(self, name: str, pin: FilePin) -> StoredFile | None:
        """Return the file that has the pinned hash, when it is here."""
        if pin.sha256 is None:
            return None
        path = self._cache.lookup(pin.sha256)
        return StoredFile(name, path, pin.sha256, "catalog") if path else None

    def by_url(self, place: Place, name: str, pin: FilePin) -> StoredFile | None:
        """Return the file as any source gave it before, so that one that is down now is not asked."""
        for source in self.sources(place, pin):
            with contextlib.suppress(DownloadError, IntegrityError):  # told when the source has its turn
                transport = self._transports.for_source(source)
                if not transport.remote:  # what is on this machine is looked at, in its turn
                    return None
                if found := self.by_ref(self.url(transport, source, name, pin), name, pin):
                    return found
        return None

    def by_ref(self, url: str, name: str, pin: FilePin) -> StoredFile | None:
        """Return the file that a URL without a pinned hash was found to be, when it is here."""
        ref = self.ref(url, pin)
        path = self._cache.lookup(ref.sha256) if ref else None
        return StoredFile(name, path, ref.sha256, ref.trust) if ref and path else None

    def ref(self, url: str, pin: FilePin) -> Ref | None:
        """Return what a URL without a pinned hash was found to be."""
        ref = None if self._refresh or pin.sha256 else self._cache.read_ref(url)
        if ref is None:
            return None
        if ref.absent:
            raise FileMissing(f"{redact(url)} was not there when it was last asked for", url=redact(url), status=404)
        if ref.trust == "first-use":
            refuse_unpinned(url)
        if ref.trust in BELIEVED and pins_required():
            return None  # the hub can be asked
        return ref if ref.sha256 and pin.size in (None, ref.size) else None

    def known_sha256(self, place: Place, name: str) -> str | None:
        """Return the hash that a file is held to, by its pin or by what its URL was found to be; it need not be here."""
        pin = place.pins.get(name, FilePin())
        if pin.sha256 is not None:
            return pin.sha256
        ref = self.recorded(place, name, pin)
        return ref.sha256 if ref else None

    def is_absent(self, place: Place, name: str, pin: FilePin) -> bool:
        """Whether it is known of every source that it has no such file."""
        for source in (sources := self.sources(place, pin)):
            try:
                transport = self._transports.for_source(source)
                if not transport.remote:
                    return False
                self.ref(self.url(transport, source, name, pin), pin)
            except FileMissing:
                continue
            except (DownloadError, IntegrityError):  # told when the source has its turn
                return False
            return False
        return bool(sources)

    def trusted(self, place: Place, name: str, pin: FilePin) -> Ref | None:
        """Return what a URL of a file was trusted to be on first use, also for a refresh that does not count it."""
        refs = (self._cache.read_ref(url) for url in self.urls(place, name, pin))
        return next((ref for ref in refs if ref is not None and ref.sha256 and ref.trust == "first-use"), None)

    def is_other(self, place: Place, name: str, pin: FilePin) -> bool:
        """Return True if a URL of a pinned file was found to be something else before."""
        refs = (self._cache.read_ref(url) for url in self.urls(place, name, pin))
        return any(ref is not None and ref.sha256 not in ("", pin.sha256) for ref in refs)

    def note_absent(self, url: str, source: str) -> None:
        """Note that a source said that there is no such file."""
        with self._lock:
            self._absent[url] = source

    def record_absent(self) -> None:
        """Record which files are not there, so that the next use asks nobody."""
        for url, source in self._absent.items():
            self._revisions.record(source)
            with contextlib.suppress(CacheError):
                self._cache.write_ref(Ref(url, absent=True))

    def recorded(self, place: Place, name: str, pin: FilePin) -> Ref | None:
        """Return what any source of a file without a pinned hash was found to be, up to one on this machine."""
        for source in self.sources(place, pin):
            with contextlib.suppress(DownloadError, IntegrityError):  # told when the file is got
                transport = self._transports.for_source(source)
                if not transport.remote:
                    return None
                if (ref := self.ref(self.url(transport, source, name, pin), pin)) is not None:
                    return ref
        return None

    def already_here(self, url: str, name: str, sha256: str, size: int | None, trust: str) -> StoredFile | None:
        """Return the blob of a hash, and record that the URL is that."""
        if (path := self._cache.lookup(sha256)) is None:
            return None
        here = path.stat().st_size
        check_claims(Resource(url, url, size=here), None, size)
        with contextlib.suppress(CacheError):  # found in a tier behind a cache that cannot be written: asked again next time
            self._cache.write_ref(Ref(url, sha256, here, trust))
        return StoredFile(name, path, sha256, trust)

    def in_place(self, resource: Resource, name: str, pin: FilePin) -> StoredFile:
        """Use a local file where it lies, held to its pin; it is hashed again only when its size or time changed."""
        assert resource.path is not None
        if pin.sha256 is None:
            check_claims(resource, None, pin.size)
            return StoredFile(name, resource.path)
        ref = self.hashed(resource.path)
        seen = Resource(resource.url, resource.address, size=ref.size, sha256=ref.sha256)
        check_claims(seen, pin.sha256, pin.size)
        return StoredFile(name, resource.path, pin.sha256, "catalog")

    def hashed(self, path: Path) -> Ref:
        """Return size and hash of a local file, as they are or, where size and time are the same, were."""
        stat = path.stat()
        key = in_place_url(path)
        ref = self._cache.read_ref(key)
        if ref is None or (ref.size, ref.mtime_ns) != (stat.st_size, stat.st_mtime_ns):
            ref = Ref(key, file_sha256(path), stat.st_size, mtime_ns=stat.st_mtime_ns)
            with contextlib.suppress(CacheError):  # without a writable cache it is hashed at each use
                self._cache.write_ref(ref)
        return ref


def in_place_url(path: Path) -> str:
    """Return under what it is recorded what a file on this machine is."""
    return f"file://{path.absolute()}"


def pins_required() -> bool:
    """Whether a file must be vouched for by more than its own server."""
    return is_set("REGISTRY_REQUIRE_PINS")


def refuse_unpinned(url: str) -> None:
    """Refuse a file that nobody vouches for, where pins are required.

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


_COMMIT = re.compile(r"@([0-9a-f]{40})(?=/|$)")


class Revisions:
    """What the revisions of sources stand for in one operation; safe for threads."""

    def __init__(self, cache: Cache, *, refresh: bool) -> None:
        """With `refresh` nothing that was recorded before counts."""
        self._cache = cache
        self._refresh = refresh
        self._lock = threading.Lock()
        self._commits: dict[str, str] = {}
        self._new: set[str] = set()

    def commit(self, source: str) -> str:
        """Return the commit that a source is held to; empty where it is held to none."""
        with self._lock:
            return self._commits.get(source, "")

    def at_commit(self, transport: Transport, source: str) -> str:
        """Return a source with its moving revision replaced by the commit that it is held to, if there is one."""
        if not transport.remote:
            return source
        with self._lock:
            if source not in self._commits:
                ref = None if self._refresh else self._cache.read_ref(source)
                self._commits[source] = ref.commit if ref else ""
            commit = self._commits[source]
        return transport.at(source, commit) if commit else source

    def recorded(self, source: str) -> str:
        """Return the commit that an earlier operation held a moving revision to; empty where there was none."""
        with self._lock:
            return "" if source in self._new else self._commits.get(source, "")

    def renew(self, source: str, commit: str) -> None:
        """Hold a moving revision to another commit than before, for later operations too."""
        with self._lock:
            self._commits[source] = commit
            self._new.add(source)
        self.record(source)

    def keep(self, commits: Mapping[str, str]) -> None:
        """Hold sources to commits for this operation only."""
        with self._lock:
            self._commits.update(commits)

    def hold(self, transport: Transport, source: str, commit: str | None) -> None:
        """Hold a moving revision to a commit: at once for this operation, for later ones when a file of it is here."""
        with self._lock:
            if commit and not self._commits.get(source) and transport.at(source, commit) != source:
                self._commits[source] = commit
                self._new.add(source)

    def record(self, source: str) -> None:
        """Hold a revision for later operations too."""
        with self._lock:
            new = source in self._new
            self._new.discard(source)
            commit = self._commits.get(source, "")
        if new:
            with contextlib.suppress(CacheError):
                self._cache.write_ref(Ref(source, trust="hub", commit=commit))


def named_commit(transport: Transport, source: str) -> str:
    """Return the commit that a source itself names; empty for a moving revision, or where there are none."""
    found = _COMMIT.search(source)
    is_one = found is not None and transport.at(source, found[1]).rstrip("/") == source.rstrip("/")
    return found[1] if found is not None and is_one else ""
