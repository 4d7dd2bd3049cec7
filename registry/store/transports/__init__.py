"""How bytes reach this machine: one small protocol, one module for each way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property

from registry.base.urls import redact, scheme_of, unfit_authority
from registry.catalog.entry import Host
from registry.errors import DownloadError, PluginError
from registry.store.transports.credentials import Credentials
from registry.store.transports.protocol import Body, FileMissing, RangeRefused, Resource, Span, Transient, Transport

__all__ = ["BUILTIN_SCHEMES", "Body", "FileMissing", "RangeRefused", "Resource", "Span", "Transient", "Transport", "Transports"]

#: No plugin can take the place of these.
BUILTIN_SCHEMES = ("file", "package", "http", "https", "hf", "s3", "gs", "az")


class Transports:
    """The transports of one operation, each made when it is first needed; close it to drop connections."""

    def __init__(
        self,
        hosts: Callable[[], Mapping[str, Host]],
        proxies: Mapping[str, str],
        others: Callable[[str], Transport | None] | None = None,
    ) -> None:
        """`others` makes the transport of a scheme that is not built in, or returns None."""
        self._read_hosts = hosts
        self._others = others
        self._proxies = proxies
        self._made: dict[str, Transport] = {}
        self._lock = threading.Lock()

    def for_source(self, source: str) -> Transport:
        """Return the transport of a source's scheme.

        Raises:
            DownloadError: when there is none, or when it is unclear which host the source names.
        """
        if reason := unfit_authority(source):
            raise DownloadError(
                f"{redact(source)} is expected to be an address, but {reason}; write scheme://host/path", url=redact(source)
            )
        scheme = scheme_of(source)
        with self._lock:
            if scheme not in self._made:
                self._made[scheme] = self._make(scheme, source)
            return self._made[scheme]

    def with_mirrors(self, sources: Iterable[str]) -> tuple[str, ...]:
        """Return sources, each followed by the same one at the mirrors that the catalog names for its host."""
        found: dict[str, None] = {}
        for source in sources:
            found[source] = None
            if scheme_of(source) in ("http", "https") and any(host.mirrors for host in self._hosts.values()):
                found.update(dict.fromkeys(Credentials(self._hosts).mirrors(source)))
        return tuple(found)

    @cached_property
    def _hosts(self) -> Mapping[str, Host]:
        return self._read_hosts()

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            transports = list(self._made.values())
            self._made.clear()
        for transport in transports:
            transport.close()

    def _make(self, scheme: str, source: str) -> Transport:
        if scheme in ("file", "package"):
            from registry.store.transports.local import LocalTransport

            return LocalTransport()
        if scheme in ("http", "https"):
            from registry.store.transports.http import HttpTransport

            return HttpTransport(self._hosts, self._proxies)
        if scheme == "hf":
            from registry.store.transports.hub import HubTransport

            return HubTransport(self._hosts, self._proxies)
        if scheme in ("s3", "gs", "az"):
            from registry.store.transports.object_store import ObjectStoreTransport

            return ObjectStoreTransport()
        try:
            if self._others is not None and (made := self._others(scheme)) is not None:
                return made
        except PluginError as error:
            raise DownloadError(error.message, url=redact(source)) from error
        raise DownloadError(
            f"scheme of {redact(source)} is expected to be {', '.join(BUILTIN_SCHEMES)}, or that of an installed transport, "
            f"but is {scheme!r}; install the package that has it",
            url=redact(source),
        )
