"""A transport that somebody else wrote, held to the protocol: what it does wrong becomes an error of the download."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from registry.errors import DownloadError, RegistryError
from registry.store.source import redact
from registry.store.transports.protocol import Body, Resource, Span, Transient, Transport

__all__ = ["GuardedTransport", "missing_methods"]

logger = logging.getLogger(__name__)

_METHODS = ("join", "at", "describe", "open", "parallelism", "close")
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
        self._hold_fields("describe", url, resource, ("url", "address"), ("commit",), ("size",))
        for digest, size in ((resource.sha256, 64), (resource.git_sha1, 40)):
            if digest is not None and not re.fullmatch(f"[0-9a-f]{{{size}}}", str(digest)):
                raise self._error("describe", url, f"gave {digest!r} for a hash, which is {size} hex digits")
        return replace(resource, path=None)

    @contextmanager
    def open(self, resource: Resource, span: Span | None = None) -> Iterator[Body]:
        """Open a file, or a part of it."""
        url = resource.url
        opened = self._run("open", url, lambda: self._transport.open(resource, span))
        body = self._typed(Body, "open", url, lambda: opened.__enter__())
        self._hold_fields("open", url, body, (), ("validator",), ("stop", "size"), ("start",))
        try:
            yield replace(body, pieces=self._pieces(body.pieces, url))
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
            raise self._error("say how many parts it sends of", resource.url, f"said {found!r}")
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

    def _hold_fields(
        self,
        verb: str,
        url: str,
        said: Resource | Body,
        texts: Sequence[str],
        maybe_texts: Sequence[str],
        maybe_counts: Sequence[str],
        counts: Sequence[str] = (),
    ) -> None:
        """Raise for the first of some fields that is not what its type says; a count is 0 or more."""
        for name in (*texts, *maybe_texts, *maybe_counts, *counts):
            value = getattr(said, name)
            may_lack = name in maybe_texts or name in maybe_counts
            is_text = name in texts or name in maybe_texts
            right = isinstance(value, str) if is_text else type(value) is int and value >= 0
            if not right and not (value is None and may_lack):
                expected = "text" if is_text else "a number from 0"
                raise self._error(verb, url, f"gave {value!r} for {name}, which is {expected}")

    def _typed(self, kind: type[_Result], verb: str, url: str, work: Callable[[], object]) -> _Result:
        result = self._run(verb, url, work)
        if not isinstance(result, kind):
            raise self._error(verb, url, f"gave {type(result).__name__} for {kind.__name__}")
        return result

    def _run(self, verb: str, url: str, work: Callable[[], _Result]) -> _Result:
        try:
            return work()
        except RegistryError:
            raise
        except (ConnectionError, TimeoutError) as error:
            shown = redact(url)
            raise Transient(f"{self._who} lost {shown}: {type(error).__name__}: {error}", url=shown) from error
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # what ends the process is not its to raise
            raise self._error(verb, url, f"raised {type(error).__name__}: {error}") from error

    def _error(self, verb: str, url: str, what: str) -> DownloadError:
        shown = redact(url)
        return DownloadError(f"{self._who} is expected to {verb} {shown}, but {what}", url=shown)

    @contextmanager
    def _tolerated(self, verb: str, url: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            logger.warning("%s did not %s %s: %s: %s", self._who, verb, redact(url), type(error).__name__, error)
