"""The store: from a place and file names to verified local files."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from registry.base.logs import lazy_logger
from registry.base.names import unsafe_file_name
from registry.base.urls import redact, scheme_of
from registry.catalog.entry import FilePin, Host
from registry.errors import CacheError, ConfigError, DownloadError, IntegrityError, OfflineError, RegistryError
from registry.store.cache import OF_LOCK, About, Cache, Ref, file_sha256
from registry.store.events import FileEvent, Observer, ObserverFailed, notify
from registry.store.expected import Claims
from registry.store.lookup import Lookup, in_place_url, pins_required
from registry.store.progress import ProgressBars, ProgressLines, end_progress
from registry.store.target import Place, StoredFile
from registry.store.transports import FileMissing, Transport, Transports
from registry.store.verifiers import Refused, Verification, Verifier
from registry.store.wanted import FileSource, Revisions, Wanted, named_commit

if TYPE_CHECKING:
    from registry.store.adopt.adoption import Adoption
    from registry.store.fetch import Fetcher

__all__ = ["Moved", "Store", "Vanished", "as_locked", "at_once", "holds_more"]


logger = lazy_logger(__name__)

#: Schemes of what is on this machine, and is used where it lies.
_LOCAL = ("file", "package")

#: Stands for a commit where it is asked whether a source has any.
_ANY_COMMIT = "0" * 40


class Vanished(CacheError):
    """A file of the cache was removed while an operation used it: the operation can be repeated."""


class Moved(Vanished):
    """A revision now stands for a later commit: the operation can be repeated, so that all its files are of that commit."""


class Store:
    """One operation's view of the cache and the network. Use it as a context manager; its methods are safe for threads."""

    def __init__(
        self,
        cache: Cache,
        *,
        offline: bool,
        hosts: Callable[[], Mapping[str, Host]] = dict,
        refresh: bool = False,
        proxies: Mapping[str, str] | None = None,
        observers: Sequence[Observer] = (),
        transports: Callable[[str], Transport | None] | None = None,
        verifiers: Sequence[Verifier] = (),
    ) -> None:
        """Set up for one operation.

        Args:
            cache: where files are kept.
            offline: True disables network access.
            hosts: returns what the catalog says of hosts; called once a remote source is used.
            refresh: ignore records of URLs, and ask their servers again.
            proxies: scheme to proxy, before those of the environment.
            observers: called with what happens to each file.
            transports: makes the transport of a scheme that is not built in, or returns None.
            verifiers: decide, after the check of the hash, if a file may be used.
        """
        self.cache = cache
        cache.offline = offline
        #: True if network access is disabled for the whole operation, not for one thread only.
        self._unplugged = offline
        self._local = threading.local()
        self._refresh = refresh
        #: Whether anything but the cache was looked at: a server, another library's cache, a user's own files.
        self.asked = False
        self._transports = Transports(hosts, proxies or {}, transports)
        self._revisions = Revisions(cache, refresh=refresh)
        self._lookup = Lookup(cache, self._revisions, refresh=refresh)
        self._observers = tuple(observers)
        self._verification = Verification(cache, verifiers) if verifiers else None
        self._lock = threading.Lock()
        self._given: set[Path] = set()
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._transports.close()
        end_progress(self._observers)
        if isinstance(error, ObserverFailed) and error.__cause__ is not None:
            raise error.__cause__ from None
        if error is None:
            self._lookup.record_absent()
        elif isinstance(error, Exception) and (gone := self._vanished()):
            raise Vanished(
                f"cache file {gone} is expected to stay while it is in use, but was removed meanwhile; try again",
                path=str(gone),
            ) from error

    @property
    def repeatable(self) -> bool:
        """True if the result depends on `cache.seen` alone, and no observer or verifier has to be called."""
        watched = any(not isinstance(observer, ProgressBars | ProgressLines) for observer in self._observers)
        return not (self.asked or self._refresh or watched or self._verification)

    def first(self, place: Place, candidates: Sequence[str]) -> StoredFile | None:
        """Return the first of `candidates` that the place has, or None; before one is fetched, another that is here is used.

        When the catalog lists some of them, only those are considered. `refresh` asks for them in order.
        """
        listed = [name for name in candidates if name in place.pins]
        files = [self._wanted(place, name) for name in (listed if listed or place.lock else candidates)]
        if not self._refresh and len(files) > 1 and (found := self._any_here(files)) is not None:
            return found
        return next((found for wanted in files if (found := self._get(wanted)) is not None), None)

    def get(self, place: Place, name: str) -> StoredFile | None:
        """Return one file of a place, fetched and verified when it is not here yet; None when no source has it.

        Raises:
            OfflineError: when it would have to be fetched while the network is off.
            DownloadError: when no source can be read.
            IntegrityError: when the bytes are not those that are pinned, recorded or promised, or a verifier refuses them.
        """
        return self._get(self._wanted(place, name))

    def _wanted(self, place: Place, name: str, pin: FilePin | None = None) -> Wanted:
        return Wanted(place, name, self.cache, self._transports, self._revisions, pin)

    def _get(self, wanted: Wanted) -> StoredFile | None:
        """Return a file as `get` does."""
        place, pin = wanted.place, wanted.pin
        _refuse_unsafe(place, wanted.name)
        if place.lock and wanted.name not in place.pins:
            return None
        self._revisions.keep(place.commits)
        if found := self._lookup.find(wanted):
            return self._accepted(wanted, self._reused(wanted, found))
        if wanted.absent:
            return None
        self.asked = True
        if found := self._adopted(wanted):
            return self._accepted(wanted, self._reused(wanted, found))
        if pin.sha256 and not self.offline and self._lookup.is_other(wanted):
            self._ask_revisions_again(wanted)
        failures: list[RegistryError] = []
        before = self._lookup.trusted(wanted) if self._refresh and not pin.sha256 else None
        ref = wanted.expected
        trust = "catalog" if pin.sha256 else ref.trust if ref else "first-use"
        claims = Claims(pin.sha256 or (ref.sha256 if ref else None), None, trust)
        for source in wanted.sources:
            try:
                file = self._get_from(source, claims)
            except FileMissing:
                continue
            except Refused:
                raise
            except (DownloadError, IntegrityError, OfflineError) as error:
                logger.info("%s", error)
                failures.append(error)
                continue
            if before is not None and file.sha256 not in ("", before.sha256):
                logger.warning(
                    "%s, trusted on first use as sha256 %s, was replaced: it is sha256 %s now",
                    redact(before.url),
                    before.sha256,
                    file.sha256,
                )
            return self._accepted(wanted, file)
        if failures and place.lock:
            raise as_locked(failures[0], place, wanted.name)
        if any(isinstance(error, IntegrityError) for error in failures):
            self._ask_revisions_again(wanted)
        if failures:
            raise self._advised(failures[0], wanted)
        return None

    def is_there(self, place: Place, name: str) -> bool:
        """Whether a source says that it has a file, which is not fetched; False where none can be asked."""
        if self.offline:
            return False
        for source in place.sources:
            transport = self._transports.for_source(source)
            with contextlib.suppress(RegistryError):
                transport.describe(transport.join(source, name))
                return True
        return False

    def _advised(self, error: RegistryError, wanted: Wanted) -> RegistryError:
        """Return an error for other bytes than expected that says how to ask again, where that may help."""
        moving = any(self._revisions.commit(source.source) for source in wanted.sources)
        if not isinstance(error, IntegrityError) or (wanted.pin.sha256 and not moving):
            return error
        return IntegrityError(
            f"{error.message}. If the publisher has replaced it, --refresh (refresh=True) asks for what is there now",
            url=error.url,
            expected=error.expected,
            actual=error.actual,
        )

    def _ask_revisions_again(self, wanted: Wanted) -> None:
        """Hold a moving revision to the commit that it stands for now, if a file of that commit fits its pin.

        A pin that was changed in a catalog may be of a later commit than the one that a branch is held to.

        Raises:
            Moved: when it does: the files of an operation are of one commit.
        """
        place, pin = wanted.place, wanted.pin
        if self._refresh or place.lock or (pin.sha256 is None and pin.size is None):
            return
        for each in wanted.sources:
            source = each.source
            held = self._revisions.recorded(source)
            if not held:
                continue
            with contextlib.suppress(DownloadError, IntegrityError):  # the commit that it is held to stays
                transport = each.transport
                commit = transport.describe(source if pin.url else transport.join(source, wanted.name)).commit
                if commit in (None, held):
                    continue
                claims = Claims(pin.sha256, None, "catalog" if pin.sha256 else "first-use")
                self._fetch(wanted.at(transport.at(source, commit)), claims)
                self._revisions.renew(source, commit)
                raise Moved(
                    f"revision of {redact(source)} has moved to a commit that fits the pin of {wanted.name!r}; try again",
                    path=str(self.cache.root),
                )

    def folder(self, label: str, files: Iterable[StoredFile], *, alone: bool = False) -> Path:
        """Return a folder with these files under their names: their own, when they lie together in one already.

        With `alone` that folder may hold nothing else.
        """
        files = list(files)
        parents = {file.folder for file in files}
        if len(parents) == 1 and (only := parents.pop()) is not None and not (alone and holds_more(only, files)):
            return only
        from registry.store.folders import conventional_folder  # here, because `load` needs none

        return conventional_folder(
            self.cache, label, {file.name: (file.path, file.sha256 or file_sha256(file.path)) for file in files}
        )

    def note_unlocked(self, place: Place, optional: Iterable[str]) -> None:
        """Record for later uses without network and lock what the lock file says: commits, and which files are not there.

        It counts only where nothing better is known, and only while the network is off: a lock file may be a stranger's.

        Args:
            place: with pins of a lock file.
            optional: files that a model may have or not.
        """
        refs = [Ref(source, trust=OF_LOCK, commit=commit) for source, commit in place.commits.items()]
        stale = set[str]()
        for name in optional:
            urls = self._wanted(place, name, FilePin()).urls
            if name in place.pins:
                stale.update(urls)
            else:
                refs += [Ref(url, trust=OF_LOCK, absent=True) for url in urls]
        with contextlib.suppress(CacheError, OSError):
            for ref in refs:
                known = self.cache.read_ref(ref.url, of_lock=True)
                if known is None or (known.trust == OF_LOCK and known != ref):
                    self.cache.write_ref(ref)
            for url in stale:
                if (known := self.cache.read_ref(url, of_lock=True)) is not None and known.trust == OF_LOCK:
                    self.cache.ref_path(url).unlink(missing_ok=True)

    def stop(self) -> None:
        """End the downloads of other threads at their next piece; what has arrived is kept."""
        self._stopped.set()

    @property
    def offline(self) -> bool:
        """True if network access is disabled for the current thread."""
        return self._unplugged or getattr(self._local, "only", False)

    @contextlib.contextmanager
    def local_only(self) -> Iterator[None]:
        """Raise `OfflineError` in this thread for what would have to be fetched, to learn whether all is here."""
        before = getattr(self._local, "only", False)
        self._local.only = True
        try:
            yield
        finally:
            self._local.only = before

    def is_cached(self, place: Place, name: str) -> StoredFile | None:
        """Return the file if it is on this machine; never touches the network."""
        _refuse_unsafe(place, name)
        wanted = self._wanted(place, name)
        if found := self._lookup.by_pin(wanted):
            return found
        for source in wanted.sources:
            with contextlib.suppress(DownloadError, IntegrityError):
                if found := self._lookup.at_source(source):
                    return found
        return None

    def known_sha256(self, place: Place, name: str) -> str | None:
        """Return the hash that a file must have, by its pin or by a record of its URL; the file may be missing here."""
        return self._lookup.known_sha256(self._wanted(place, name))

    def addresses(self, place: Place, names: Iterable[str]) -> set[str]:
        """Return the sources of a place and the URLs of its files: everything that records may be about."""
        urls = {url for name in names for url in self._wanted(place, name).urls}
        return urls.union(self._transports.with_mirrors(place.sources))

    def sha256_of(self, file: StoredFile) -> str:
        """Return the hash of a file; one that is used in place is hashed again only when its size or time changed."""
        return file.sha256 or self._lookup.hashed(file.path).sha256

    def hashed_before(self, file: StoredFile) -> str | None:
        """Return what the hash of a file that is used in place was when it was last asked for."""
        ref = self.cache.read_ref(in_place_url(file.path))
        return ref.sha256 if ref is not None else None

    def measured(self, file: StoredFile) -> tuple[str, int]:
        """Return hash and size in bytes of a file, of one moment."""
        if file.sha256 and any(file.path.is_relative_to(root) for root in self.cache.folders):
            return file.sha256, file.path.stat().st_size
        ref = self._lookup.hashed(file.path)
        return ref.sha256, ref.size

    def origin(self, place: Place, name: str) -> tuple[str, str]:
        """Return the first URL of a file, and the commit that is in it; empty where its source has no revisions.

        A revision that was not asked for yet is asked for.

        Raises:
            OfflineError: when it would have to be asked for while the network is off.
            DownloadError: when it cannot be.
        """
        wanted = self._wanted(place, name)
        source = wanted.pin.url or place.sources[0]
        first = wanted.at(source)
        transport = first.transport
        commit = named_commit(transport, source)
        if not commit and transport.at(source, _ANY_COMMIT) != source:
            self._revisions.at_commit(transport, source)
            if not self._revisions.commit(source):
                if self.offline:
                    raise OfflineError(
                        f"revision of {redact(source)} is expected to be known, because the network is off, but is not; "
                        "allow the network once to ask what it stands for",
                        url=redact(source),
                    )
                with contextlib.suppress(FileMissing):  # a mirror has it
                    self._fetcher.describe(first)
            commit = self._revisions.commit(source)
        return first.url, commit

    # ------------------------------------------------------------------------------------------------------------------

    @cached_property
    def _adoption(self) -> Adoption:
        from registry.store.adopt.adoption import Adoption

        return Adoption(self.cache, self._verification)

    @cached_property
    def _fetcher(self) -> Fetcher:
        from registry.store.fetch import Fetcher

        return Fetcher(
            self.cache,
            self._lookup,
            self._revisions,
            self._adoption,
            verification=self._verification,
            observers=self._observers,
            stopped=self._stopped,
        )

    def _accepted(self, wanted: Wanted, file: StoredFile) -> StoredFile:
        """Return a file that is here, once every verifier has accepted it."""
        if self._verification is not None:
            self._verification.require_file(wanted.label, file, wanted.urls, self.sha256_of)
        return file

    def _give(self, file: StoredFile) -> bool:
        """Note that a file of the cache is in use; return whether that is new."""
        with self._lock:
            new = file.path not in self._given
            if any(file.path.is_relative_to(root) for root in self.cache.folders):
                self._given.add(file.path)
            return new

    def _vanished(self) -> Path | None:
        """Return a file that was given out and is gone, or None: after a prune of the cache it can be fetched again."""
        with self._lock:
            return next((path for path in self._given if not os.path.exists(path)), None)  # noqa: PTH110  # Path.exists may raise

    def _any_here(self, files: Sequence[Wanted]) -> StoredFile | None:
        """Return the first of several files of a remote place that is on this machine: in the cache, or else in another's."""
        files = [each for each in files if scheme_of(each.pin.url or (*each.place.sources, "")[0]) not in _LOCAL]
        for wanted in files:
            if found := self._lookup.find(wanted):
                return self._accepted(wanted, self._reused(wanted, found))
        for wanted in files:
            if wanted.absent:
                continue
            self.asked = True
            if found := self._adopted(wanted):
                return self._accepted(wanted, self._reused(wanted, found))
        return None

    def _adopted(self, wanted: Wanted) -> StoredFile | None:
        """Take a file over from another library's cache by what is known of it without network access."""
        found = self._adoption.find(wanted, refresh=self._refresh, offline=self._unplugged, first_use=not pins_required())
        return self._adoption.take(found, About(wanted.label, wanted.name)) if found else None

    def _reused(self, wanted: Wanted, file: StoredFile) -> StoredFile:
        """Tell the observers that a file is here already."""
        if self._give(file) and self._observers:
            size = file.path.stat().st_size
            event = FileEvent(model=wanted.label, name=file.name, size=size, done=size, sha256=file.sha256, path=file.path)
            notify(self._observers, "reused", event)
        return file

    def _get_from(self, source: FileSource, claims: Claims) -> StoredFile:
        """Return a file from one source, as `get` does."""
        if found := self._lookup.at_source(source):
            return self._reused(source.wanted, found)
        url = source.url
        unpinned = source.wanted.pin.sha256 is None and not self._refresh
        if unpinned and (absent := self._adoption.absent(url, offline=self._unplugged)) is not None:
            self._lookup.note_absent(source, absent)
            raise FileMissing(f"{redact(url)} was not there when the hub's library asked for it", url=redact(url), status=404)
        if unpinned and self._unplugged and self._adoption.is_left_out(url):
            raise FileMissing(f"{redact(url)} is not in the hub's cache, which has the rest", url=redact(url), status=404)
        if self.offline:
            raise OfflineError(
                f"file {source.wanted.name!r} is expected to be in the cache, because the network is off, but is not; "
                "allow the network once (offline=True, --offline, REGISTRY_OFFLINE and HF_HUB_OFFLINE forbid it) to fetch "
                f"{redact(url)}",
                url=redact(url),
            )
        return self._fetch(source, claims)

    def _fetch(self, source: FileSource, claims: Claims) -> StoredFile:
        """Return a file that its source is asked for."""
        file, transferred = self._fetcher.fetch(source, claims)
        if not transferred:
            return self._reused(source.wanted, file)
        self._give(file)
        return file


def _refuse_unsafe(place: Place, name: str) -> None:
    """Refuse a file name that must not become a path, before anything is asked for.

    In a folder on this machine files are called what they are called; their names must only stay in it.

    Raises:
        ConfigError: when it must not.
    """
    if place.sources and all(scheme_of(source) in _LOCAL for source in place.sources):
        parts = name.split("/")
        reason = "leads out of its folder" if ".." in parts or Path(name).is_absolute() else None
    else:
        reason = unsafe_file_name(name)
    if reason:
        raise ConfigError(f"a file name is expected to be a plain relative path, but {name!r} {reason}")


#: Files at once, where the caller does not say. The connections to one host have a limit of their own.
_JOBS = 4

#: Seconds of one wait for them.
_WAIT = 0.5


def at_once(store: Store, tasks: Sequence[Callable[[], Any]], jobs: int | None = None) -> list[Any]:
    """Return what each task returns, in order; they share a store. The first error ends them all.

    Where all files are here, no thread is started.
    """
    try:
        with store.local_only():
            return [task() for task in tasks]
    except OfflineError:
        if store.offline:
            raise
    from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait  # not needed where all files are here

    pool = ThreadPoolExecutor(jobs or _JOBS, thread_name_prefix="registry-file")
    try:
        futures = [pool.submit(task) for task in tasks]
        pending = set(futures)
        while pending:  # Ctrl-C that comes just before a wait does not end it
            done, pending = wait(pending, timeout=_WAIT, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        results = [future.result() for future in futures]
    except BaseException as error:
        store.stop()
        # A user who interrupts does not wait for a silent server: each thread ends with the next byte, or its own limit.
        pool.shutdown(wait=not isinstance(error, KeyboardInterrupt), cancel_futures=True)
        raise
    pool.shutdown()
    return results


_SHA256_DIGITS, _SHA1_DIGITS = 64, 40


def as_locked(error: RegistryError, place: Place, name: str) -> RegistryError:
    """Return the error of a file that differs from its lock, in the words of the lock; any other error unchanged."""
    if not isinstance(error, IntegrityError) or len(error.expected) == _SHA1_DIGITS:  # the last is between a hub and its file
        return error
    what = "sha256" if len(error.expected) == _SHA256_DIGITS else "size"
    return IntegrityError(
        f"{name} of model {place.label!r} is expected to be as {place.lock} locks it, but is not at {error.url}: "
        f"locked {what} {error.expected}, found {what} {error.actual}; nothing of it is used. "
        f"If the new file is meant, run `registry lock {place.label}` and commit the difference",
        url=error.url,
        expected=error.expected,
        actual=error.actual,
    )


def holds_more(folder: Path, files: Sequence[StoredFile]) -> bool:
    """Whether a folder holds something besides these files."""
    own = {file.path for file in files} | {parent for file in files for parent in file.path.parents}
    return any(path not in own for path in folder.rglob("*"))
