"""Fetch one file from one source: ask what it is, bring it once for all processes, and record what the URL was found to be."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from registry.base.urls import redact
from registry.catalog.entry import FilePin
from registry.store.adoption import Adoption
from registry.store.cache import Cache
from registry.store.claims import Claims, check_claims
from registry.store.events import FileEvent, Observer, notify
from registry.store.known import Known, refuse_unpinned
from registry.store.lazy_logger import lazy_logger
from registry.store.locks import file_lock
from registry.store.patience import Patience
from registry.store.place import Place, StoredFile
from registry.store.records import About, Ref
from registry.store.revisions import Revisions
from registry.store.transports import FileMissing, Resource, Transport
from registry.store.transports.protocol import other_commit
from registry.store.verification import Verification

__all__ = ["Fetcher"]

logger = lazy_logger(__name__)


class Fetcher:
    """What asks servers in one operation. It has no state of its own, so each thread may have one."""

    def __init__(
        self,
        cache: Cache,
        known: Known,
        revisions: Revisions,
        adoption: Adoption,
        *,
        verification: Verification | None,
        observers: Sequence[Observer],
        reused: Callable[[Place, StoredFile], StoredFile],
        stopped: threading.Event,
    ) -> None:
        """Set up for one operation.

        Args:
            cache: where files are kept.
            known: what is known of files, and hears which are absent.
            revisions: the commits that sources are held to.
            adoption: finds a file in other libraries' caches by the hash that a server states.
            verification: accepts a file before it is published.
            observers: who is told what happens to each file.
            reused: tells them of a file that is here after all, and returns it.
            stopped: ends downloads and pauses once it is set.
        """
        self._cache = cache
        self._known = known
        self._revisions = revisions
        self._adoption = adoption
        self._verification = verification
        self._observers = observers
        self._reused = reused
        self._stopped = stopped

    def fetch(
        self,
        transport: Transport,
        source: str,
        label: str,
        name: str,
        pin: FilePin,
        claims: Claims,
        *,
        more_sources: bool,
    ) -> StoredFile:
        """Return a file that its source was asked for: fetched, or from this machine once its hash is known.

        Args:
            transport: of the source.
            source: a folder, or the file's own address.
            label: what people call the model.
            name: of the file.
            pin: what the catalog says of it.
            claims: what others said of it; what this source says is added.
            more_sources: whether there is another to turn to when this one fails.

        Raises:
            FileMissing: when the source has no such file.
            DownloadError: when it cannot be read.
            IntegrityError: when the bytes are not those that are pinned, recorded or promised, or a verifier refuses them.
        """
        try:
            resource = self.describe(transport, source, name, pin, more_sources)
        except FileMissing:
            self._known.note_absent(self._known.url(transport, source, name, pin), source)
            raise
        url = self._known.url(transport, source, name, pin)
        resource = claims.added_to(resource)
        try:
            file = self._download(transport, resource, url, label, name, pin, claims.trust, more_sources)
        except FileMissing:
            self._known.note_absent(url, source)
            raise
        self._revisions.record(source)
        return file

    def describe(self, transport: Transport, source: str, name: str, pin: FilePin, more_sources: bool) -> Resource:
        """Ask what a place says of a file, at the commit that this operation holds its revision to."""
        patience = Patience(self._stopped, more_sources=more_sources)
        # Another thread's question may be answered first, and the revision move meanwhile: then the commit is asked for.
        for _ in range(2):
            found: Resource | FileMissing
            try:
                found = patience.insist(lambda: transport.describe(self._known.url(transport, source, name, pin)))
            except FileMissing as missing:
                found = missing
            self._revisions.hold(transport, source, found.commit)
            held = self._revisions.commit(source)
            if not held or found.commit in (None, held):
                if isinstance(found, FileMissing):
                    raise found
                return found
        raise other_commit(self._known.url(transport, source, name, pin), held, found.commit)

    def _download(
        self,
        transport: Transport,
        resource: Resource,
        url: str,
        label: str,
        name: str,
        pin: FilePin,
        trust: str,
        more_sources: bool,
    ) -> StoredFile:
        sha256, size = check_claims(resource, pin.sha256, pin.size)
        if trust == "first-use":
            refuse_unpinned(url)
        from registry.store.transfer import transfer

        place = Place((), label=label)
        if sha256 and (found := self._known.already_here(url, name, sha256, size, trust)):
            return self._reused(place, found)
        word = self._adoption.with_hash([url], sha256=sha256, git_sha1=resource.git_sha1, size=size, trust=trust, record=url)
        if word and (found := self._adoption.take(word, About(label, name))):
            return self._reused(place, found)
        key = sha256 or hashlib.sha256(url.encode()).hexdigest()
        about = About(label, name, redact(url))

        def accept(path: Path, digest: str) -> None:
            assert self._verification is not None
            self._verification.require(label, name, path, digest, about.url)

        # Should the file be gone again once another process has brought it, the lock is waited for after all.
        for done in (partial(self._cache.is_published, sha256) if sha256 else None, None):
            with file_lock(self._cache.root / "locks" / f"{key}.lock", self._stopped, done) as held:
                # Whoever held the lock before may have brought the file.
                found = (
                    self._known.already_here(url, name, sha256, size, trust) if sha256 else self._known.by_ref(url, name, pin)
                )
                if found:
                    return self._reused(place, found)
                if not held:
                    continue
                path, digest, count = transfer(
                    self._cache,
                    transport,
                    resource,
                    about,
                    sha256=sha256,
                    size=size,
                    observers=self._observers,
                    more_sources=more_sources,
                    stopped=self._stopped,
                    accept=accept if self._verification is not None else None,
                )
                self._cache.write_ref(Ref(url, digest, count, trust))
                break
        if trust == "first-use" and sha256 is None:
            logger.info("%s is not pinned; trusted on first use as sha256 %s", redact(url), digest)
        event = FileEvent(model=label, name=name, url=about.url, size=count, done=count, sha256=digest, path=path)
        notify(self._observers, "published", event)
        return StoredFile(name, path, digest, trust)
