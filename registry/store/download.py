"""Download the bytes of one file, in one stream or in concurrent parts, and resume after a dropped connection."""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from registry.base.logs import lazy_logger
from registry.base.urls import redact
from registry.errors import ConfigError, DownloadError
from registry.store.cache import About, Cache
from registry.store.events import FileEvent, Moment, Observer, notify
from registry.store.expected import mismatch
from registry.store.hashing import GrowingHash
from registry.store.partial import Partial
from registry.store.transports import Body, RangeRefused, Resource, Span, Transient, Transport

__all__ = ["Download", "Patience"]


logger = lazy_logger(__name__)

#: Bytes: the size from which files may come in parts, and the size of each part.
_PARTS_FROM = 64 << 20
_PART = 16 << 20

#: Bytes of a first request, which tells how large the file is and how fast one connection.
_PROBE = 4 << 20

#: Parts at once, where neither `REGISTRY_PARALLEL` nor the catalog's `hosts:` says.
_PARALLEL = 8

#: Bytes a second: a single connection that is faster is not helped by others.
_FAST = 150e6

#: Small by their nature, so that the first request asks for all of such a file.
_TEXT = (".json", ".txt", ".md", ".yaml", ".model", ".py")

#: Seconds between two reports of progress.
_REPORT_EVERY = 0.1

#: So many bytes at a file's beginning are looked at for what is often served in its place, with status 200.
_HEAD = 1 << 10
_IMPOSTORS = {
    re.compile(
        rb"version https://git-lfs"
    ): "a git-lfs pointer, not the file it points to; use the address that serves the content",
    re.compile(
        rb"(\xef\xbb\xbf)?+(\s++|<\?xml[^>]*+>|<!--((?!-->).)*+-->)*+<(!doctype html|html)", re.IGNORECASE | re.DOTALL
    ): "an HTML page, perhaps a login page; check the address and its token",
}


class Download:
    """One file on its way into a partial file."""

    def __init__(
        self,
        cache: Cache,
        partial: Partial,
        transport: Transport,
        resource: Resource,
        about: About,
        *,
        observers: Sequence[Observer],
        stopped: threading.Event,
    ) -> None:
        """Set up.

        Args:
            cache: asked for room on the disk.
            partial: where the bytes go.
            transport: asks for the bytes.
            resource: what is asked for, with the hash and size that the file must have, where known.
            about: what observers are told of it.
            observers: called at each step.
            stopped: once it is set, the download ends with an error.
        """
        self._cache = cache
        self._partial = partial
        self._transport = transport
        self._resource = resource
        self._size = resource.size
        self._identified = resource.identified
        self._observers = observers
        self._stopped = stopped
        self._event = FileEvent(model=about.model, name=about.name, url=about.url)
        self._hash = GrowingHash(partial.path)
        self._lock = threading.Lock()
        self._reported = 0.0
        self._parallel, self._forced = parallelism(transport.parallelism(resource))
        #: True if the source says that it sends parts; a download that is resumed came from such a source.
        self._ranges = partial.have > 0
        #: True once the place has sent something else than the part it was asked for.
        self._refused = False
        #: Bytes a second of the last request for a part.
        self._rate: float | None = None

    def run(self, patience: Patience) -> tuple[str, int]:
        """Download all missing bytes; return sha256 and size of the whole file.

        Raises:
            DownloadError, IntegrityError, CacheError, OSError: as `transfer` says.
        """
        best = self._partial.have
        self._tell("started")
        self._require_space()
        self._hash.advance(self._partial.frontier)
        while True:
            try:
                while holes := self._partial.holes():
                    if self._in_parts():
                        self._bring_parts(holes)
                    else:
                        self._bring(*holes[0])
                size = self._partial.size
                assert size is not None  # without holes it is known
                self._tell("progressed")
                return self._hash.finish(size), size
            except RangeRefused as error:
                if self._refused:  # it was asked for the whole
                    raise DownloadError(error.message, url=error.url, status=error.status) from None
                logger.info("%s; asking for all of it", error.message)
                self._refused = True
                self._begin(None, None)
            except Transient as error:
                if self._partial.have > best and not error.stalled:  # drops now and then would keep it waiting for ever
                    patience.progressed()
                best = max(best, self._partial.have)
                patience.pause(error)

    def close(self) -> None:
        """End what runs beside."""
        self._hash.abandon()

    # -- one stream ----------------------------------------------------------------------------------------------------

    def _bring(self, start: int, stop: int | None) -> None:
        """Ask for a hole, or for its beginning where that is to tell how the rest is best asked for."""
        if self._partial.have and not self._may_combine():
            self._begin(None, None)
            start, stop = 0, None
        if self._probes():
            stop = start + _PROBE if stop is None else min(stop, start + _PROBE)
        span = None if start == 0 and stop in (None, self._partial.size) else Span(start, stop, self._partial.validator)
        with self._transport.open(self._resource, span) as body:
            began = time.monotonic()  # the time before the first byte would pass again for each part
            if body.start == 0:
                body = body._replace(pieces=_head_first(body.pieces))
            if body.stop is None or self._partial.have == 0:
                self._accept(body)
            else:
                self._check_part(body, start)
            self._receive(body)
        if body.stop is not None:
            self._rate = (body.stop - start) / max(time.monotonic() - began, 1e-6)

    def _probes(self) -> bool:
        """Whether the next request is to ask for a first part only."""
        if self._parallel < 2 or self._refused or self._rate is not None:
            return False
        size = self._whole
        return size >= _PARTS_FROM if size is not None else not self._event.name.lower().endswith(_TEXT)

    def _accept(self, body: Body) -> None:
        """Take an answer that begins at the file's start as the version to download."""
        if body.start != 0:
            raise RangeRefused(f"{self._shown} sends another part than was asked for", url=self._shown)
        if self._size is not None and body.size is not None and body.size != self._size:
            _refuse_impostor(next(body.pieces, b""), self._resource.url)  # a page in the file's place says more than its size
            raise mismatch(self._resource.url, "size", str(self._size), str(body.size))
        size = body.size if self._size is None else self._size
        if size is None and not self._identified:
            _refuse_impostor(next(body.pieces, b""), self._resource.url)  # a page is made as it is sent
            raise DownloadError(
                f"{self._shown} is expected to come with a length, but has neither length nor hash, so that "
                "a cut could not be noticed; pin its sha256 in models.yaml",
                url=self._shown,
            )
        self._begin(body.validator, size)
        self._ranges = body.ranges
        self._require_space()

    def _check_part(self, body: Body, start: int) -> None:
        """Refuse an answer that is not a part of the version that is downloaded."""
        # Without a hash no later check would notice, so an answer without a validator is refused.
        silent = body.validator is None and self._identified
        other = not silent and self._partial.validator not in (None, body.validator)
        size = body.size if self._partial.size is None else self._partial.size
        if body.stop is None or body.start != start or body.size not in (None, size) or other:
            raise RangeRefused(f"{self._shown} changed while it was read", url=self._shown)
        if size is not None and self._partial.size is None:
            self._partial.end(size)

    def _receive(self, body: Body, stopped: threading.Event | None = None) -> None:
        """Write an answer's bytes where they belong."""
        end = self._partial.size if body.stop is None else body.stop
        with self._partial.writer(body.start) as writer:
            for piece in body.pieces:
                if writer.position == 0:
                    _refuse_impostor(piece, self._resource.url)
                if end is not None and writer.position + len(piece) > end:
                    if body.stop is not None:
                        raise RangeRefused(f"{self._shown} sends more than the part that was asked for", url=self._shown)
                    raise mismatch(self._resource.url, "size", str(end), f"more than {end}")
                writer.write(piece)
                self._advance()
                if stopped is not None and stopped.is_set():
                    return
        self._advance()
        if end is None:
            self._partial.end(writer.position)
        elif writer.position < end:
            raise Transient(
                f"content of {self._shown} is expected to arrive whole, but broke off at byte {writer.position} of {end}; "
                "try again",
                url=self._shown,
            )

    # -- several parts at once -----------------------------------------------------------------------------------------

    def _in_parts(self) -> bool:
        """Whether it pays, and is safe, to ask for several parts at once."""
        if self._parallel < 2 or not self._ranges or self._rate is None or self._partial.size is None:
            return False
        missing = self._partial.size - self._partial.have
        return self._may_combine() and missing > _PART and (self._forced or self._rate < _FAST)

    def _may_combine(self) -> bool:
        """Return True if bytes of several answers may be combined: only a hash or a validator shows a mix of versions."""
        return not self._refused and (self._identified or self._partial.validator is not None)

    def _bring_parts(self, holes: list[tuple[int, int | None]]) -> None:
        parts: deque[Span] = deque()
        for start, stop in holes:
            assert stop is not None
            for at in range(start, stop, _PART):
                parts.append(Span(at, min(at + _PART, stop), self._partial.validator))
        stopped = threading.Event()
        failures: list[BaseException] = []

        def work() -> None:
            try:
                while not stopped.is_set():
                    try:
                        span = parts.popleft()
                    except IndexError:
                        return
                    with self._transport.open(self._resource, span) as body:
                        self._check_part(body, span.start)
                        self._receive(body, stopped)
            except BaseException as error:  # all that can happen here is told to who waits
                failures.append(error)
                stopped.set()

        threads = [
            threading.Thread(target=work, name="registry-part", daemon=True) for _ in range(min(self._parallel, len(parts)))
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            stopped.set()
            for thread in threads:  # no thread may write to the file once this returns
                if thread.ident is not None:
                    thread.join()
        if any(isinstance(error, Transient) and error.status is not None for error in failures):
            self._parallel = max(1, self._parallel // 2)  # it may be one connection too many
        if failures:  # what cannot pass goes before what can
            raise min(failures, key=lambda error: isinstance(error, Transient | RangeRefused))

    # ------------------------------------------------------------------------------------------------------------------

    @property
    def _whole(self) -> int | None:
        """Bytes of the whole file: as the answer said, or else as they must be, where known."""
        size = self._partial.size
        return self._size if size is None else size

    @property
    def _shown(self) -> str:
        return redact(self._resource.url)

    def _begin(self, validator: str | None, size: int | None) -> None:
        self._hash.abandon()
        self._partial.begin(validator, size)
        self._hash = GrowingHash(self._partial.path)

    def _require_space(self) -> None:
        self._cache.require_space((self._whole or 0) - self._partial.have)

    def _advance(self) -> None:
        """Let the hash follow, and the observers know."""
        self._hash.advance(self._partial.frontier)
        if self._stopped.is_set():
            raise DownloadError(f"{self._shown} is not read to its end, because the operation was stopped", url=self._shown)
        with self._lock:
            now = time.monotonic()
            due = now - self._reported >= _REPORT_EVERY
            if due:
                self._reported = now
                self._tell("progressed")

    def _tell(self, moment: Moment) -> None:
        if self._observers:
            notify(self._observers, moment, replace(self._event, size=self._whole, done=self._partial.have))


def parallelism(of_place: int | None) -> tuple[int, bool]:
    """Return how many parts to ask for concurrently, and True if a setting says so."""
    written = os.environ.get("REGISTRY_PARALLEL", "").strip()
    if not written:
        return (_PARALLEL, False) if of_place is None else (of_place, False)
    if not re.fullmatch("[0-9]{1,9}", written) or not 1 <= int(written) <= 64:
        raise ConfigError(
            f"REGISTRY_PARALLEL is expected to be a number from 1 to 64 (1: off), but is {written!r}; correct or unset it"
        )
    return min(int(written), of_place or 64), True


def _head_first(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield pieces; the first is long enough to recognize the type of the content, unless the content is shorter."""
    head = b""
    try:
        for piece in pieces:
            head += piece
            if len(head) >= _HEAD:
                break
    except DownloadError:
        if head:
            yield head
        raise
    if head:
        yield head
    yield from pieces


def _refuse_impostor(piece: bytes, url: str) -> None:
    shown = redact(url)
    for sign, what in _IMPOSTORS.items():
        if sign.match(piece[:_HEAD]) and not shown.endswith((".html", ".md")):
            raise DownloadError(f"content of {shown} is expected to be the file itself, but is {what}", url=shown)


_Result = TypeVar("_Result")

#: Tries in a row without a new byte before the download fails; `REGISTRY_RETRIES` changes it.
_TRIES = 5

#: Seconds: the longest that the first pause can be, that any pause can be, and that may pass without progress.
_FIRST = 1.0
_LONGEST = 20.0
_BUDGET = 120.0


class Patience:
    """The state of one series of tries."""

    def __init__(self, stopped: threading.Event, *, more_sources: bool = False) -> None:
        """Begin. With `more_sources` another place can be asked, and this one gets two tries only; `stopped` ends a pause."""
        self._stopped = stopped
        self._limit = min(tries(), 2) if more_sources else tries()
        self.progressed()

    def progressed(self) -> None:
        """Start counting again: something has arrived."""
        self._failed = 0
        self._since = time.monotonic()

    def pause(self, error: Transient) -> None:
        """Wait before the next try, as long as the server asks or chance decides.

        Raises:
            DownloadError: what went wrong, when it is time to give up.
        """
        self._failed += 1
        left = _BUDGET - (time.monotonic() - self._since)
        # Full jitter: many that fail at the same moment do not come back at the same moment.
        wait = random.uniform(0, min(_LONGEST, _FIRST * 2 ** (self._failed - 1)))
        if error.retry_after is not None:
            wait = max(wait, error.retry_after)
        if self._failed >= self._limit or wait > left:
            why = f" (after {self._failed} tries)" if self._failed > 1 else ""
            if error.retry_after is not None and error.retry_after > left:
                why = (
                    f" (the server asks to wait {error.retry_after:.0f} s, and {_BUDGET:.0f} s without progress are the limit)"
                )
            raise DownloadError(f"{error.message}{why}", url=error.url, status=error.status) from None
        logger.info("%s; trying again in %.1f s", error.message, wait)
        if self._stopped.wait(wait):
            raise DownloadError(
                f"{error.message} (and the operation was stopped)", url=error.url, status=error.status
            ) from None

    def insist(self, call: Callable[[], _Result]) -> _Result:
        """Return what `call` returns, trying again while what it raises may pass."""
        while True:
            try:
                return call()
            except Transient as error:
                self.pause(error)


def tries() -> int:
    """Return how often something is tried that may pass."""
    written = os.environ.get("REGISTRY_RETRIES", "").strip()
    if not written:
        return _TRIES
    if not re.fullmatch("[0-9]{1,9}", written):
        raise ConfigError(
            f"REGISTRY_RETRIES is expected to be a number such as 0 or 5, but is {written!r}; correct or unset it"
        )
    return int(written) + 1
