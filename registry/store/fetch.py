"""Fetch one file from one source: ask what it is, download it once for all processes, and record what its URL is."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from registry.base.file_lock import file_lock
from registry.base.logs import lazy_logger
from registry.base.urls import redact
from registry.errors import CacheError, IntegrityError
from registry.store.adopt.adoption import Adoption
from registry.store.cache import About, Cache, Ref
from registry.store.download import Download, Patience
from registry.store.events import FileEvent, Observer, notify
from registry.store.expected import Claims, check_claims, mismatch
from registry.store.hashing import git_blob_sha1
from registry.store.lookup import Lookup, refuse_unpinned
from registry.store.partial import Partial, sweep
from registry.store.target import StoredFile
from registry.store.transports import FileMissing, Resource
from registry.store.transports.protocol import other_commit
from registry.store.verifiers import Refused, Verification
from registry.store.wanted import FileSource, Revisions

__all__ = ["Fetcher"]


logger = lazy_logger(__name__)


class Fetcher:
    """What asks servers in one operation. It has no state of its own, so each thread may have one."""

    def __init__(
        self,
        cache: Cache,
        lookup: Lookup,
        revisions: Revisions,
        adoption: Adoption,
        *,
        verification: Verification | None,
        observers: Sequence[Observer],
        stopped: threading.Event,
    ) -> None:
        """Set up for one operation.

        Args:
            cache: where files are kept.
            lookup: finds files in the cache, and notes which are absent.
            revisions: the commit of each source in this operation.
            adoption: finds a file in other libraries' caches by the hash that a server states.
            verification: accepts a file before it is published.
            observers: called with what happens to each file.
            stopped: ends downloads and pauses once it is set.
        """
        self._cache = cache
        self._lookup = lookup
        self._revisions = revisions
        self._adoption = adoption
        self._verification = verification
        self._observers = observers
        self._stopped = stopped

    def fetch(self, source: FileSource, claims: Claims) -> tuple[StoredFile, bool]:
        """Return a file that its source was asked for, and whether it was transferred: with a known hash it may be here.

        Args:
            source: the wanted file at one of its sources.
            claims: what others said of it; what this source says is added.

        Raises:
            FileMissing: when the source has no such file.
            DownloadError: when it cannot be read.
            IntegrityError: when the bytes are not those that are pinned, recorded or promised, or a verifier refuses them.
        """
        try:
            resource = claims.added_to(self.describe(source))
            found = self._download(source, resource, claims.trust)
        except FileMissing:
            self._lookup.note_absent(source)
            raise
        self._revisions.record(source.source)
        return found

    def describe(self, source: FileSource) -> Resource:
        """Ask what a source says of a file, at the commit that this operation holds its revision to."""
        transport = source.transport
        patience = Patience(self._stopped, more_sources=source.more_sources)
        # Another thread's question may be answered first, and the revision move meanwhile: then the commit is asked for.
        for _ in range(2):
            found: Resource | FileMissing
            try:
                found = patience.insist(lambda: transport.describe(source.url))
            except FileMissing as missing:
                found = missing
            self._revisions.hold(transport, source.source, found.commit)
            held = self._revisions.commit(source.source)
            if not held or found.commit in (None, held):
                if isinstance(found, FileMissing):
                    raise found
                return found
        raise other_commit(source.url, held, found.commit)

    def _download(self, source: FileSource, resource: Resource, trust: str) -> tuple[StoredFile, bool]:
        """Return a described file, and whether it was transferred; its URL is recorded as what it is."""
        wanted, url = source.wanted, source.url
        name, about = wanted.name, About(wanted.label, wanted.name, redact(url))
        sha256, size = check_claims(resource, wanted.pin.sha256, wanted.pin.size)
        resource = resource._replace(sha256=sha256, size=size)
        if trust == "first-use":
            refuse_unpinned(url)

        if sha256 and (found := self._lookup.already_here(url, name, sha256, size, trust)):
            return found, False
        word = self._adoption.with_hash([url], sha256=sha256, git_sha1=resource.git_sha1, size=size, trust=trust, record=url)
        if word and (found := self._adoption.take(word, about)):
            return found, False
        key = sha256 or hashlib.sha256(url.encode()).hexdigest()

        # If another process published the file and it is gone again, the second round waits for the lock.
        for done in (partial(self._cache.is_published, sha256) if sha256 else None, None):
            with file_lock(self._cache.root / "locks" / f"{key}.lock", self._stopped, done) as held:
                # The process that held the lock before may have brought the file.
                if sha256:
                    found = self._lookup.already_here(url, name, sha256, size, trust)
                else:
                    found = self._lookup.at_source(source, again=True)
                if found:
                    return found, False
                if not held:
                    continue
                path, digest, count = self._transfer(source, resource, about)
                self._cache.write_ref(Ref(url, digest, count, trust))
                break
        if trust == "first-use" and sha256 is None:
            logger.info("%s is not pinned; trusted on first use as sha256 %s", about.url, digest)
        event = FileEvent(model=about.model, name=name, url=about.url, size=count, done=count, sha256=digest, path=path)
        notify(self._observers, "published", event)
        return StoredFile(name, path, digest, trust), True

    def _transfer(self, source: FileSource, resource: Resource, about: About) -> tuple[Path, str, int]:
        """Copy a file into the cache; return its blob, sha256 and size in bytes.

        Wrong bytes are put in quarantine, and the file is asked for once more. A source that does not answer is given up early
        when there are more. Verifiers are asked about complete bytes before these are published; refused bytes are kept as
        those of an interrupted download are.

        Args:
            source: the wanted file at its source.
            resource: what is asked for, with the hash and size that the file must have, where known.
            about: what people and observers are told of it.

        Raises:
            DownloadError: when it does not arrive whole; what has arrived is kept for the next time, where that can resume it.
            IntegrityError: when hash or size are not the expected ones.
            CacheError: when the cache cannot be written.
        """
        cache = self._cache
        key = resource.sha256 or hashlib.sha256(resource.url.encode()).hexdigest()
        wrong: IntegrityError | None = None
        for _ in range(2):
            partial = Partial.claim(cache, key, resource.url, identified=resource.identified)
            download = Download(
                cache, partial, source.transport, resource, about, observers=self._observers, stopped=self._stopped
            )
            try:
                digest, count = download.run(Patience(self._stopped, more_sources=source.more_sources))
                wrong = _wrong(partial.path, resource, digest)
                if wrong is None:
                    if self._verification is not None:
                        self._verification.require(about.model, about.name, partial.path, digest, about.url)
                    partial.sync()
                    event = FileEvent(model=about.model, name=about.name, url=about.url, size=count, done=count, sha256=digest)
                    notify(self._observers, "verified", event)
                    path = cache.publish(partial.path, digest, about)
                    partial.discard()  # only its journal is left
                    sweep(cache, key)
                    return path, digest, count
                with contextlib.suppress(OSError):
                    place = cache.quarantine(partial.path, wrong.expected)
                    logger.warning("%s. The bytes are in %s", wrong.message, place)
                partial.discard()
            except Refused:
                partial.leave(resumable=resource.identified or partial.validator is not None)
                raise
            except IntegrityError:
                partial.discard()
                raise
            except OSError as error:  # of the disk, at the latest when the file is synced; the network's are DownloadErrors
                partial.leave(resumable=resource.identified or partial.validator is not None)
                raise CacheError(
                    f"cache file {partial.path} is expected to take the download, but does not ({error.strerror or error}); "
                    "free space, or set REGISTRY_CACHE to another folder",
                    path=str(partial.path),
                ) from error
            except BaseException:
                partial.leave(resumable=resource.identified or partial.validator is not None)
                raise
            finally:
                download.close()
        assert wrong is not None  # else the file was published
        raise wrong


def _wrong(path: Path, resource: Resource, digest: str) -> IntegrityError | None:
    """Return what is wrong with complete bytes, or None."""
    if resource.sha256 and digest != resource.sha256:
        return mismatch(resource.url, "sha256", resource.sha256, digest)
    if resource.git_sha1 and (actual := git_blob_sha1(path)) != resource.git_sha1:
        return mismatch(resource.url, "git blob sha1", resource.git_sha1, actual)
    return None
