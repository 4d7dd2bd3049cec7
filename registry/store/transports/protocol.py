"""What a transport does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from registry.errors import DownloadError

__all__ = ["Body", "FileMissing", "RangeRefused", "Resource", "Span", "Transient", "Transport", "other_commit"]


class FileMissing(DownloadError):
    """The place was reached and says that it has no such file: another name or mirror may be tried."""

    def __init__(self, message: str, *, url: str, status: int | None = None, commit: str | None = None) -> None:
        super().__init__(message, url=url, status=status)
        #: The commit at which a hub looked.
        self.commit = commit


class Transient(DownloadError):
    """A failure that may be over in a moment: the same may be tried again."""

    def __init__(
        self, message: str, *, url: str, status: int | None = None, retry_after: float | None = None, stalled: bool = False
    ) -> None:
        super().__init__(message, url=url, status=status)
        #: Seconds that the server asks to wait, where it does.
        self.retry_after = retry_after
        #: Whether content came so slowly that it would never have ended: what came then is no progress.
        self.stalled = stalled


class RangeRefused(DownloadError):
    """What came is not the part that was asked for: the file is to be asked for from its start."""


def other_commit(url: str, asked: str, answered: str | None) -> DownloadError:
    """Return the error for an answer that is about another commit than the one that was asked for."""
    return DownloadError(
        f"{url} is expected to be answered at commit {asked}, but the answer is about commit {answered}; it is not used. "
        "Name a commit that the hub has, or use another mirror of it",
        url=url,
    )


class Resource(NamedTuple):
    """A file at its place, as far as its place tells without sending it.

    `sha256` and `git_sha1` are hex digests by the word of the place; `address` is where `open` reads, which may differ
    from `url` after redirects.
    """

    url: str
    address: str
    #: Set when the file is on this machine already.
    path: Path | None = None
    size: int | None = None
    sha256: str | None = None
    #: The sha1 of git's blob object, by which the hub identifies small files.
    git_sha1: str | None = None
    #: The commit that a hub revision stands for.
    commit: str | None = None

    @property
    def identified(self) -> bool:
        """Whether a hash is known, so that bytes of several answers cannot be put together unnoticed."""
        return bool(self.sha256 or self.git_sha1)


class Span(NamedTuple):
    """The bytes from `start` to before `stop` (None: to the end) of one version of a file."""

    start: int
    stop: int | None = None
    #: The version's name at its place, as a `Body` told it; None when any will do.
    validator: str | None = None


class Body(NamedTuple):
    """What a place sends: a part of the file, or (with a `stop` of None) all of it, whatever was asked for."""

    pieces: Iterator[bytes]
    start: int = 0
    #: Before which byte of the file a part ends.
    stop: int | None = None
    #: Bytes of the whole file, where the place says it.
    size: int | None = None
    #: A strong name of this version of the content, where the place has one.
    validator: str | None = None
    #: Whether parts of the file can be asked for.
    ranges: bool = False


class Transport(Protocol):
    """One way to reach files. Several threads may use an instance at once."""

    #: False when reading needs no network.
    remote: bool

    def join(self, source: str, name: str) -> str:
        """Return the URL of the file `name` in the folder `source`."""
        ...

    def at(self, source: str, commit: str) -> str:
        """Return `source` with its moving revision replaced by a commit; unchanged where there are no revisions."""
        ...

    def describe(self, url: str) -> Resource:
        """Return what is known of a file before it is read.

        Raises:
            FileMissing: when its place has no such file.
            Transient: when it may help to ask again.
            DownloadError: when its place cannot be asked.
        """
        ...

    def open(self, resource: Resource, span: Span | None = None) -> AbstractContextManager[Body]:
        """Open a file, or a part of it.

        Raises:
            FileMissing: when its place has no such file.
            RangeRefused: when the place answers with something else than the part, or the version is another one.
            Transient: when it may help to ask again; also from the pieces, when reading breaks off or stalls.
            DownloadError: when it cannot be read.
        """
        ...

    def parallelism(self, resource: Resource) -> int | None:
        """Return how many parts of a file may be read at once by what was set for its place; None when nothing was."""
        ...

    def close(self) -> None:
        """Drop connections."""
        ...
