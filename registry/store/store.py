"""The store: from a place and file names to verified local files."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from registry.catalog.entry import FilePin
from registry.catalog.schema import Host
from registry.errors import CacheError, DownloadError, IntegrityError, OfflineError, RegistryError
from registry.store.adoption import Adoption, Found
from registry.store.cache import About, Cache, Ref, file_sha256
from registry.store.events import FileEvent, Observer, notify
from registry.store.locks import file_lock
from registry.store.patience import Patience
from registry.store.source import redact, scheme_of
from registry.store.transfer import check_claims, transfer
from registry.store.transports import FileMissing, Resource, Transport, Transports

__all__ = ["Place", "Store", "StoredFile", "Vanished", "is_offline"]

logger = logging.getLogger(__name__)

_TRUE = {"1", "true", "yes", "on"}
#: Schemes of what is on this machine, and is used where it lies.
_LOCAL = ("file", "package")


def is_offline(offline: bool | None = None) -> bool:
    """Whether the network is off: by argument, else by `REGISTRY_OFFLINE` or `HF_HUB_OFFLINE`."""
    if offline is not None:
        return offline
    return any(os.environ.get(name, "").lower() in _TRUE for name in ("REGISTRY_OFFLINE", "HF_HUB_OFFLINE"))


@dataclass(frozen=True)
class Place:
    """Where a model's files lie: a folder, its mirrors in order, and what is known of single files."""

    sources: tuple[str, ...]
    pins: Mapping[str, FilePin] = field(default_factory=dict)
    #: What people call the model.
    label: str = ""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file on this machine. `sha256` and `trust` are empty for a file that is used in place and was never pinned."""

    name: str
    path: Path
    sha256: str = ""
    trust: str = ""


class Vanished(CacheError):
    """A file of the cache was removed while an operation used it: the operation can be done anew."""


class Store:
    """One operation's view of the cache and the network. Use it as a context manager; its methods are safe for threads."""

    def __init__(
        self,
        cache: Cache,
        *,
        offline: bool,
        hosts: Mapping[str, Host] | None = None,
        refresh: bool = False,
        proxies: Mapping[str, str] | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        """Set up for one operation.

        Args:
            cache: where files are kept.
            offline: whether the network is off.
            hosts: what the catalog says of hosts.
            refresh: ask anew what URLs were found to be in the past.
            proxies: scheme to proxy, before those of the environment.
            observers: who is told what happens to each file.
        """
        self.cache = cache
        #: Whether the network is off.
        self.offline = offline
        #: Whether it is off for the whole operation, so that nobody can be asked later.
        self._unplugged = offline
        self._refresh = refresh
        self._transports = Transports(hosts or {}, proxies or {})
        self._adoption = Adoption(cache)
        self._commits: dict[str, str] = {}
        self._new_commits: set[str] = set()
        self._absent: dict[str, str] = {}
        self._observers = tuple(observers)
        self._lock = threading.Lock()
        self._given: set[Path] = set()
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._transports.close()
        if error is None:
            self._remember_absent()
        elif isinstance(error, Exception) and (gone := self._vanished()):
            raise Vanished(
                f"cache file {gone} is expected to stay while it is in use, but was removed meanwhile; try again",
                path=str(gone),
            ) from error

    def first(self, place: Place, candidates: Sequence[str]) -> StoredFile | None:
        """Return the first of `candidates` that the place has, or None; before one is fetched, another that is here is used.

        When the catalog lists some of them, only those are considered. `refresh` asks for them in order.
        """
        candidates = [name for name in candidates if name in place.pins] or candidates
        if not self._refresh and len(candidates) > 1 and (found := self._any_here(place, candidates)) is not None:
            return found
        for name in candidates:
            if (found := self.get(place, name)) is not None:
                return found
        return None

    def get(self, place: Place, name: str) -> StoredFile | None:
        """Return one file of a place, fetched and verified when it is not here yet; None when no source has it.

        Raises:
            OfflineError: when it would have to be fetched while the network is off.
            DownloadError: when no source can be read.
            IntegrityError: when the bytes are not those that are pinned, recorded or promised.
        """
        pin = place.pins.get(name, FilePin())
        if found := self._cached_by_pin(name, pin) or self._cached_by_url(place, name, pin) or self._adopted(place, name, pin):
            return self._reused(place, found)
        failures: list[RegistryError] = []
        sources = self._sources(place, pin)
        for number, source in enumerate(sources, start=1):
            try:
                return self._get_from(source, place.label, name, pin, more_sources=number < len(sources))
            except FileMissing:
                continue
            except (DownloadError, IntegrityError, OfflineError) as error:
                logger.info("%s", error)
                failures.append(error)
        if failures:
            raise failures[0]
        return None

    def folder(self, label: str, files: Iterable[StoredFile]) -> Path:
        """Return a folder with these files under their names: their own, when they lie together in one already."""
        files = list(files)
        parents = {_parent(file) for file in files}
        if len(parents) == 1 and (only := parents.pop()) is not None:
            return only
        return self.cache.folder(label, {file.name: (file.path, file.sha256 or file_sha256(file.path)) for file in files})

    def stop(self) -> None:
        """End the downloads of other threads at their next piece; what has arrived is kept."""
        self._stopped.set()

    @contextlib.contextmanager
    def local_only(self) -> Iterator[None]:
        """Raise `OfflineError` for what would have to be fetched, to learn whether all is here. For one thread only."""
        before, self.offline = self.offline, True
        try:
            yield
        finally:
            self.offline = before

    def is_cached(self, place: Place, name: str) -> StoredFile | None:
        """Return the file if it is on this machine; never touches the network."""
        pin = place.pins.get(name, FilePin())
        if found := self._cached_by_pin(name, pin):
            return found
        for source in self._sources(place, pin):
            with contextlib.suppress(DownloadError, IntegrityError):
                transport = self._transports.for_source(source)
                url = self._url(transport, source, name, pin)
                if not transport.remote:
                    return self._in_place(transport.describe(url), name, pin)
                if found := self._cached_by_ref(url, name, pin):
                    return found
        return None

    def sha256_of(self, file: StoredFile) -> str:
        """Return the hash of a file; one that is used in place is hashed again only when its size or time changed."""
        return file.sha256 or self._hashed(file.path).sha256

    def known_sha256(self, place: Place, name: str) -> str | None:
        """Return the hash that a file is held to, by its pin or by what its URL was found to be; it need not be here."""
        pin = place.pins.get(name, FilePin())
        if pin.sha256 is not None:
            return pin.sha256
        for source in self._sources(place, pin):
            with contextlib.suppress(DownloadError, IntegrityError):  # told when the file is got
                transport = self._transports.for_source(source)
                if not transport.remote:
                    return None
                if (ref := self._ref(self._url(transport, source, name, pin), pin)) is not None:
                    return ref.sha256
        return None

    # ------------------------------------------------------------------------------------------------------------------

    def _give(self, file: StoredFile) -> bool:
        """Note that a file of the cache is in use; return whether that is new."""
        with self._lock:
            new = file.path not in self._given
            if any(file.path.is_relative_to(root) for root in self.cache.folders):
                self._given.add(file.path)
            return new

    def _vanished(self) -> Path | None:
        """Return a file that was given out and is gone: somebody pruned the cache, and it can be had anew."""
        with self._lock:
            return next((path for path in self._given if not path.exists()), None)

    def _any_here(self, place: Place, names: Sequence[str]) -> StoredFile | None:
        """Return the first of several files of a remote place that is on this machine: in the cache, or else in another's."""
        pins = [(name, place.pins.get(name, FilePin())) for name in names]
        pins = [(name, pin) for name, pin in pins if scheme_of(pin.url or (*place.sources, "")[0]) not in _LOCAL]
        for name, pin in pins:
            if found := self._cached_by_pin(name, pin) if pin.sha256 else self._cached_by_url(place, name, pin):
                return self._reused(place, found)
        for name, pin in pins:
            if found := self._adopted(place, name, pin):
                return self._reused(place, found)
        return None

    def _adopted(self, place: Place, name: str, pin: FilePin) -> StoredFile | None:
        """Take a file over from another library's cache by what is known of it, asking nobody."""
        found = self._adoption.find(
            self._urls(place, name, pin),
            pin,
            refresh=self._refresh,
            offline=self._unplugged,
            first_use=not _pins_required(),
        )
        return self._take(found, About(place.label, name)) if found else None

    def _take(self, found: Found, about: About) -> StoredFile | None:
        path = self._adoption.take(found, about)
        return StoredFile(about.name, path, found.sha256, found.trust) if path else None

    def _urls(self, place: Place, name: str, pin: FilePin) -> list[str]:
        """Return the URLs of a file, up to the first source that is on this machine and is looked at in its turn."""
        urls = []
        for source in self._sources(place, pin):
            with contextlib.suppress(DownloadError):  # told when the source has its turn
                transport = self._transports.for_source(source)
                if not transport.remote:
                    break
                urls.append(self._url(transport, source, name, pin))
        return urls

    def _sources(self, place: Place, pin: FilePin) -> tuple[str, ...]:
        """Return where a file may come from, in order: its own address alone, when it has one; then mirrors of each."""
        return self._transports.with_mirrors((pin.url,) if pin.url else place.sources)

    def _reused(self, place: Place, file: StoredFile) -> StoredFile:
        """Tell the observers that a file is here already."""
        if self._give(file) and self._observers:
            size = file.path.stat().st_size
            event = FileEvent(model=place.label, name=file.name, size=size, done=size, sha256=file.sha256, path=file.path)
            notify(self._observers, "reused", event)
        return file

    def _url(self, transport: Transport, source: str, name: str, pin: FilePin) -> str:
        """Return the URL of a file; with an address of its own that address is the source."""
        held = self._at_commit(transport, source)
        return held if pin.url else transport.join(held, name)

    def _at_commit(self, transport: Transport, source: str) -> str:
        """Replace a moving revision by the commit that it was first seen at."""
        if transport.remote and source not in self._commits and not self._refresh:
            ref = self.cache.read_ref(source)
            self._commits[source] = ref.commit if ref else ""
        commit = self._commits.get(source)
        return transport.at(source, commit) if commit else source

    def _cached_by_pin(self, name: str, pin: FilePin) -> StoredFile | None:
        if pin.sha256 is None:
            return None
        path = self.cache.lookup(pin.sha256)
        return StoredFile(name, path, pin.sha256, "catalog") if path else None

    def _cached_by_url(self, place: Place, name: str, pin: FilePin) -> StoredFile | None:
        """Return the file as any source gave it before, so that one that is down now is not asked."""
        for source in self._sources(place, pin):
            with contextlib.suppress(DownloadError, IntegrityError):  # told when the source has its turn
                transport = self._transports.for_source(source)
                if not transport.remote:  # what is on this machine is looked at, in its turn
                    return None
                if found := self._cached_by_ref(self._url(transport, source, name, pin), name, pin):
                    return found
        return None

    def _cached_by_ref(self, url: str, name: str, pin: FilePin) -> StoredFile | None:
        """Return the file that a URL without a pinned hash was found to be, when it is here."""
        ref = self._ref(url, pin)
        path = self.cache.lookup(ref.sha256) if ref else None
        return StoredFile(name, path, ref.sha256, ref.trust) if ref and path else None

    def _ref(self, url: str, pin: FilePin) -> Ref | None:
        """Return what a URL without a pinned hash was found to be."""
        ref = None if self._refresh or pin.sha256 else self.cache.read_ref(url)
        if ref is None:
            return None
        if ref.absent:
            raise FileMissing(f"{redact(url)} was not there when it was last asked for", url=redact(url), status=404)
        if ref.trust == "first-use":
            _refuse_unpinned(url)
        return ref if ref.sha256 and pin.size in (None, ref.size) else None

    def _get_from(self, source: str, label: str, name: str, pin: FilePin, *, more_sources: bool) -> StoredFile:
        transport = self._transports.for_source(source)
        place = Place((source,), label=label)
        url = self._url(transport, source, name, pin)
        if not transport.remote:
            return self._reused(place, self._in_place(transport.describe(url), name, pin))
        if found := self._cached_by_ref(url, name, pin):
            return self._reused(place, found)
        if self.offline:
            raise OfflineError(
                f"file {name!r} is expected to be in the cache, because the network is off, but is not; "
                "allow the network once (offline=True, --offline, REGISTRY_OFFLINE and HF_HUB_OFFLINE forbid it) to fetch "
                f"{redact(url)}",
                url=redact(url),
            )
        try:
            resource = self._describe(transport, source, name, pin, more_sources)
        except FileMissing as missing:
            self._hold(transport, source, missing.commit)
            with self._lock:
                self._absent[self._url(transport, source, name, pin)] = source
            raise
        url = self._url(transport, source, name, pin)
        try:
            file = self._download(transport, resource, url, label, name, pin, more_sources)
        except FileMissing:
            with self._lock:
                self._absent[url] = source
            raise
        self._record_commit(source)
        self._give(file)
        return file

    def _describe(self, transport: Transport, source: str, name: str, pin: FilePin, more_sources: bool) -> Resource:
        """Ask what a place says of a file, at the commit that this operation holds its revision to."""
        patience = Patience(self._stopped, more_sources=more_sources)
        while True:
            resource = patience.insist(lambda: transport.describe(self._url(transport, source, name, pin)))
            self._hold(transport, source, resource.commit)
            held = self._commits.get(source)
            if not held or resource.commit in (None, held):
                return resource
            # Another thread's question was answered first, and the revision has moved since.

    def _hold(self, transport: Transport, source: str, commit: str | None) -> None:
        """Hold a moving revision to a commit: at once for this operation, for later ones when a file of it is here."""
        with self._lock:
            if commit and not self._commits.get(source) and transport.at(source, commit) != source:
                self._commits[source] = commit
                self._new_commits.add(source)

    def _download(
        self,
        transport: Transport,
        resource: Resource,
        url: str,
        label: str,
        name: str,
        pin: FilePin,
        more_sources: bool,
    ) -> StoredFile:
        held = None if self._refresh else self.cache.read_ref(url)
        known = pin.sha256 or (held.sha256 if held else None)
        sha256, size = check_claims(resource, known, pin.size)
        trust = "catalog" if pin.sha256 else "hub" if resource.sha256 or resource.git_sha1 else "first-use"
        if trust == "first-use":
            _refuse_unpinned(url)
        place = Place((), label=label)
        if sha256 and (found := self._already_here(url, name, sha256, size, trust)):
            return self._reused(place, found)
        word = self._adoption.with_hash([url], sha256=sha256, git_sha1=resource.git_sha1, size=size, trust=trust, record=url)
        if word and (found := self._take(word, About(label, name))):
            return self._reused(place, found)
        key = sha256 or hashlib.sha256(url.encode()).hexdigest()
        about = About(label, name, redact(url))
        with file_lock(self.cache.root / "locks" / f"{key}.lock"):
            # Whoever held the lock before may have brought the file.
            found = self._already_here(url, name, sha256, size, trust) if sha256 else self._cached_by_ref(url, name, pin)
            if found:
                return self._reused(place, found)
            path, digest, count = transfer(
                self.cache,
                transport,
                resource,
                about,
                sha256=sha256,
                size=size,
                observers=self._observers,
                more_sources=more_sources,
                stopped=self._stopped,
            )
            self.cache.write_ref(Ref(url, digest, count, trust))
        if trust == "first-use" and held is None:
            logger.info("%s is not pinned; trusted on first use as sha256 %s", redact(url), digest)
        event = FileEvent(model=label, name=name, url=about.url, size=count, done=count, sha256=digest, path=path)
        notify(self._observers, "published", event)
        return StoredFile(name, path, digest, trust)

    def _already_here(self, url: str, name: str, sha256: str, size: int | None, trust: str) -> StoredFile | None:
        """Return the blob of a hash, and record that the URL is that."""
        if (path := self.cache.lookup(sha256)) is None:
            return None
        here = path.stat().st_size
        check_claims(Resource(url, url, size=here), None, size)
        with contextlib.suppress(CacheError):  # found in a tier behind a cache that cannot be written: asked again next time
            self.cache.write_ref(Ref(url, sha256, here, trust))
        return StoredFile(name, path, sha256, trust)

    def _in_place(self, resource: Resource, name: str, pin: FilePin) -> StoredFile:
        """Use a local file where it lies, held to its pin; it is hashed again only when its size or time changed."""
        assert resource.path is not None
        if pin.sha256 is None:
            check_claims(resource, None, pin.size)
            return StoredFile(name, resource.path)
        ref = self._hashed(resource.path)
        seen = Resource(resource.url, resource.address, size=ref.size, sha256=ref.sha256)
        check_claims(seen, pin.sha256, pin.size)
        return StoredFile(name, resource.path, pin.sha256, "catalog")

    def _hashed(self, path: Path) -> Ref:
        """Return size and hash of a local file, as they are or, where size and time are the same, were."""
        stat = path.stat()
        key = f"file://{path.absolute()}"
        ref = self.cache.read_ref(key)
        if ref is None or (ref.size, ref.mtime_ns) != (stat.st_size, stat.st_mtime_ns):
            ref = Ref(key, file_sha256(path), stat.st_size, mtime_ns=stat.st_mtime_ns)
            with contextlib.suppress(CacheError):  # without a writable cache it is hashed at each use
                self.cache.write_ref(ref)
        return ref

    def _record_commit(self, source: str) -> None:
        with self._lock:
            new = source in self._new_commits
            self._new_commits.discard(source)
        if new:
            with contextlib.suppress(CacheError):
                self.cache.write_ref(Ref(source, trust="hub", commit=self._commits[source]))

    def _remember_absent(self) -> None:
        """Record which files are not there, so that the next use asks nobody."""
        for url, source in self._absent.items():
            self._record_commit(source)
            with contextlib.suppress(CacheError):
                self.cache.write_ref(Ref(url, absent=True))


def _pins_required() -> bool:
    return os.environ.get("REGISTRY_REQUIRE_PINS", "").lower() in _TRUE


def _refuse_unpinned(url: str) -> None:
    """Refuse a file that nobody vouches for, where pins are required."""
    if _pins_required():
        raise IntegrityError(
            f"sha256 of {redact(url)} is expected to be pinned, because REGISTRY_REQUIRE_PINS is set, but is not; "
            "add it to models.yaml",
            url=redact(url),
            expected="a pin",
            actual="none",
        )


def _parent(file: StoredFile) -> Path | None:
    """Return the folder in which a file stands under its own conventional name, or None."""
    folder = file.path
    for part in reversed(file.name.split("/")):
        if folder.name != part:
            return None
        folder = folder.parent
    return folder
