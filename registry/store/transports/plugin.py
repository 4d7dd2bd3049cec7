"""A transport that somebody else wrote, held to the protocol: what it does wrong becomes an error of the download."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from registry.base.logs import lazy_logger
from registry.base.urls import redact
from registry.errors import DownloadError, RegistryError, said, text_of
from registry.store.transports.protocol import Body, Resource, Span, Transient, Transport

__all__ = ["GuardedTransport", "missing_methods"]

logger = lazy_logger(__name__)

_METHODS = ("join", "at", "describe", "open", "parallelism", "close")
#: Field to what it must be, beside None where that is allowed.
_TEXT, _MAYBE_TEXT, _MAYBE_COUNT = (str,), (str, type(None)), (int, type(None))
_RESOURCE = {
    "url": _TEXT,
    "address": _TEXT,
    "size": _MAYBE_COUNT,
    "sha256": _MAYBE_TEXT,
    "git_sha1": _MAYBE_TEXT,
    "commit": _MAYBE_TEXT,
}
_BODY = {"start": (int,), "stop": _MAYBE_COUNT, "size": _MAYBE_COUNT, "validator": _MAYBE_TEXT, "ranges": (bool,)}
_Result = TypeVar("_Result")


def missing_methods(transport: object) -> list[str]:
    """Return the methods of the protocol that an object lacks."""
    return [name for name in _METHODS if not callable(getattr(transport, name, None))]


class GuardedTransport:
    """Another transport, of which nothing is believed but what it sends, and that only after its hash was taken.

    What it describes is never used in place: its bytes are copied into the cache and hashed like those of a server. It counts
    as remote, so it is not used while the network is off.
    """

    remote = True

    def __init__(self, transport: Transport, who: str) -> None:
        """`who` is the transport with its distribution, for errors."""
        self._transport = transport
        self._who = who

    def join(self, source: str, name: str) -> str:
        """Return the URL of the file `name` in the folder `source`."""
        return self._typed(str, "name a file of", source, lambda: self._transport.join(source, name))

    def at(self, source: str, commit: str) -> str:
        """Return `source` at a commit."""
        return self._typed(str, "name a revision of", source, lambda: self._transport.at(source, commit))

    def describe(self, url: str) -> Resource:
        """Return what is known of a file before it is read."""
        resource = self._typed(Resource, "describe", url, lambda: self._transport.describe(url))
        self._check_fields(resource, _RESOURCE, "describe", url)
        for digest, size in ((resource.sha256, 64), (resource.git_sha1, 40)):
            if digest is not None and not re.fullmatch(f"[0-9a-f]{{{size}}}", digest):
                raise self._error("describe", url, f"gave {digest!r} for a hash, which is {size} hex digits")
        return resource._replace(path=None)

    @contextmanager
    def open(self, resource: Resource, span: Span | None = None) -> Iterator[Body]:
        """Open a file, or a part of it."""
        url = resource.url
        opened = self._run("open", url, lambda: self._transport.open(resource, span))
        if not isinstance(opened, AbstractContextManager):
            raise self._error(
                "open", url, f"gave {type(opened).__name__} for a context manager; decorate it with @contextmanager"
            )
        body = self._typed(Body, "open", url, opened.__enter__)
        try:
            self._check_fields(body, _BODY, "open", url)
            yield body._replace(pieces=self._pieces(body.pieces, url))
        except BaseException as error:
            with self._tolerated("close", url):
                opened.__exit__(type(error), error, error.__traceback__)
            raise
        else:
            with self._tolerated("close", url):
                opened.__exit__(None, None, None)

    def parallelism(self, resource: Resource) -> int | None:
        """Return how many parts of a file may be read at once."""
        found = self._run("say how many parts it sends of", resource.url, lambda: self._transport.parallelism(resource))
        if found is not None and (type(found) is not int or found < 1):
            raise self._error("say how many parts it sends of", resource.url, f"said {text_of(found)}")
        return found

    def close(self) -> None:
        """Drop connections; what goes wrong is logged, because the files are here."""
        with self._tolerated("close", ""):
            self._transport.close()

    def _pieces(self, pieces: Iterator[bytes], url: str) -> Iterator[bytes]:
        iterator = self._run("read", url, lambda: iter(pieces))
        end = object()
        while (piece := self._run("read", url, lambda: next(iterator, end))) is not end:
            if not isinstance(piece, bytes):
                raise self._error("read", url, f"sent {type(piece).__name__} for bytes")
            yield piece

    def _check_fields(self, found: Resource | Body, kinds: Mapping[str, tuple[type, ...]], verb: str, url: str) -> None:
        for field, allowed in kinds.items():
            value = getattr(found, field)
            what = f"gave {type(found).__name__}({field}={text_of(value)})"
            if type(value) not in allowed:  # not isinstance: True is no number of bytes
                raise self._error(verb, url, f"{what}, where {allowed[0].__name__} belongs")
            if type(value) is int and value < 0:
                raise self._error(verb, url, f"{what}, which is less than 0")

    def _typed(self, kind: type[_Result], verb: str, url: str, work: Callable[[], object]) -> _Result:
        result = self._run(verb, url, work)
        if not isinstance(result, kind):
            raise self._error(verb, url, f"gave {type(result).__name__} for {kind.__name__}")
        return result

    def _run(self, verb: str, url: str, work: Callable[[], _Result]) -> _Result:
        try:
            return work()
        except (RegistryError, KeyboardInterrupt):
            raise
        except (ConnectionError, TimeoutError) as error:
            shown = redact(url)
            raise Transient(f"{self._who} lost {shown}: {said(error)}", url=shown) from error
        except BaseException as error:  # also sys.exit(), which is not a plugin's to call
            raise self._error(verb, url, f"raised {said(error)}") from error

    def _error(self, verb: str, url: str, what: str) -> DownloadError:
        shown = redact(url)
        return DownloadError(f"{self._who} is expected to {verb} {shown}, but {what}", url=shown)

    @contextmanager
    def _tolerated(self, verb: str, url: str) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            logger.warning("%s did not %s %s: %s", self._who, verb, redact(url), said(error))
