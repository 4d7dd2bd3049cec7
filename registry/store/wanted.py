"""A file that an operation needs: its place, pin and sources, with the URL and the record of each source."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator, Mapping
from functools import cached_property

from registry.catalog.entry import FilePin
from registry.errors import CacheError, DownloadError
from registry.store.cache import Cache, Ref
from registry.store.target import Place
from registry.store.transports import Transport, Transports

__all__ = ["FileSource", "Revisions", "Wanted", "named_commit"]

#: The pin of a file that has none.
_NO_PIN = FilePin()


class Wanted:
    """One file of a place. Look-up, adoption, fetch and observers of one operation share it, so nothing is worked out twice.

    It is used by one thread. Transports, URLs and records are worked out when they are first needed: often the first source
    is enough. The error of a source is raised when that source has its turn.
    """

    def __init__(
        self, place: Place, name: str, cache: Cache, transports: Transports, revisions: Revisions, pin: FilePin | None = None
    ) -> None:
        """Without `pin` the place's own pin of the file counts."""
        self.place = place
        self.name = name
        self.pin = place.pins.get(name, _NO_PIN) if pin is None else pin
        #: What the operation uses.
        self.cache = cache
        self.transports = transports
        self.revisions = revisions
        #: The first record of a file without a pinned hash, and whether every source is recorded to lack the file; both as the
        #: last look-up found them.
        self.expected: Ref | None = None
        self.absent = False

    @property
    def label(self) -> str:
        """What people call the model."""
        return self.place.label

    @cached_property
    def sources(self) -> tuple[FileSource, ...]:
        """Where the file may come from, in order: its own address alone, when it has one; then mirrors of each."""
        sources = self.transports.with_mirrors((self.pin.url,) if self.pin.url else self.place.sources)
        return tuple([FileSource(self, source, more_sources=source != sources[-1]) for source in sources])

    def at(self, source: str) -> FileSource:
        """Return the file at a single source, which is the file's own address when the pin has one."""
        return FileSource(self, source, more_sources=False)

    @property
    def urls(self) -> list[str]:
        """The URLs of the file, up to the first source on this machine; a source without one is passed over."""
        return [source.url for source in self._remote()]

    @property
    def records(self) -> dict[str, Ref | None]:
        """Those URLs, and what each was found to be before."""
        return {source.url: source.record for source in self._remote()}

    def _remote(self) -> Iterator[FileSource]:
        for source in self.sources:
            with contextlib.suppress(DownloadError):
                if not source.transport.remote:
                    return
                source.url  # noqa: B018  # raises where there is none
                yield source


class FileSource:
    """A wanted file at one source: transport, URL and record."""

    #: The source at its commit that `_url` is of, and the URL that `_record` is of.
    _held: str | None = None
    _recorded: str | None = None
    _url = ""
    _record: Ref | None = None

    def __init__(self, wanted: Wanted, source: str, *, more_sources: bool) -> None:
        """With `more_sources` there is another source to ask when this one fails."""
        self.wanted = wanted
        self.source = source
        self.more_sources = more_sources

    @cached_property
    def transport(self) -> Transport:
        """The transport of the source's scheme; raises `DownloadError` when there is none."""
        return self.wanted.transports.for_source(self.source)

    @property
    def url(self) -> str:
        """The URL of the file, at the commit that the source is held to.

        That commit may become known between two uses, also by another file; the URL is worked out again then.
        """
        held = self.wanted.revisions.at_commit(self.transport, self.source)
        if held != self._held:
            self._url = held if self.wanted.pin.url else self.transport.join(held, self.wanted.name)
            self._held = held
        return self._url

    @property
    def record(self) -> Ref | None:
        """What the URL was found to be before, read once; a download reads it again once it has the lock."""
        if (url := self.url) != self._recorded:
            self._record = self.wanted.cache.read_ref(url)
            self._recorded = url
        return self._record


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
