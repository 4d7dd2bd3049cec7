"""Ask sources for size, hash and commit of files, without a download."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from registry.base.urls import redact
from registry.catalog.entry import Host
from registry.errors import OfflineError
from registry.store.download import Patience
from registry.store.transports import FileMissing, RangeRefused, Resource, Span, Transport, Transports

__all__ = ["Inquiry"]


class Inquiry:
    """The questions of one operation. Use it as a context manager; its methods are safe for threads."""

    def __init__(
        self,
        hosts: Callable[[], Mapping[str, Host]],
        *,
        offline: bool,
        transports: Callable[[str], Transport | None] | None = None,
    ) -> None:
        """Set up; arguments as those of a `Store`."""
        self._transports = Transports(hosts, {}, transports)
        self._offline = offline
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._stopped.set()
        self._transports.close()

    def at_commit(self, source: str, name: str) -> str:
        """Return a source with its moving revision replaced by the commit that it is now, where its place has revisions.

        The place is asked for the file `name`, which need not be there.
        """
        transport = self._transports.for_source(source)
        if transport.at(source, "0" * 40) == source:
            return source
        try:
            commit = self._ask(transport, source, name).commit
        except FileMissing as missing:
            commit = missing.commit
        return transport.at(source, commit) if commit else source

    def describe(self, source: str, name: str) -> Resource | None:
        """Return what a place tells of a file; None when it has none.

        A server that says nothing of it beforehand begins to send it; at least the size is known then, where there is one.

        Raises:
            OfflineError: when it would have to be asked while the network is off.
            DownloadError: when it cannot be asked.
        """
        transport = self._transports.for_source(source)
        try:
            found = self._ask(transport, source, name)
            if found.size is not None or found.path is not None:
                return found
            return found._replace(size=Patience(self._stopped).insist(lambda: _size(transport, found)))
        except FileMissing:
            return None

    def _ask(self, transport: Transport, source: str, name: str) -> Resource:
        url = transport.join(source, name)
        if transport.remote and self._offline:
            raise OfflineError(
                f"{redact(url)} is expected to be asked for, but the network is off; allow it, or fetch nothing",
                url=redact(url),
            )
        return Patience(self._stopped).insist(lambda: transport.describe(url))


def _size(transport: Transport, resource: Resource) -> int | None:
    try:
        with transport.open(resource, Span(0, 1)) as body:
            return body.size
    except RangeRefused:  # an empty file has no first byte
        with transport.open(resource) as body:
            return body.size
