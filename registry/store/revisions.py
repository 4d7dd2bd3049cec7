"""Moving revisions: each is held to the commit that it was first seen at."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Mapping

from registry.errors import CacheError
from registry.store.cache import Cache
from registry.store.records import Ref
from registry.store.transports import Transport

__all__ = ["Revisions", "named_commit"]

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
