"""What a transport does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from registry.errors import DownloadError

__all__ = ["FileMissing", "Resource", "Transport"]


class FileMissing(DownloadError):
    """The place was reached and says that it has no such file: another name or mirror may be tried."""

    def __init__(self, message: str, *, url: str, status: int | None = None, commit: str | None = None) -> None:
        super().__init__(message, url=url, status=status)
        #: The commit at which a hub looked.
        self.commit = commit


@dataclass(frozen=True, slots=True)
class Resource:
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


class Transport(Protocol):
    """One way to reach files. An instance belongs to one thread."""

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
            DownloadError: when its place cannot be asked.
        """
        ...

    def open(self, resource: Resource, chunk_size: int) -> AbstractContextManager[tuple[int | None, Iterator[bytes]]]:
        """Open a file: its length in bytes, where the place says it, and its content in pieces.

        Raises:
            FileMissing: when its place has no such file.
            DownloadError: when it cannot be read; also from the iterator, when reading breaks off.
        """
        ...

    def close(self) -> None:
        """Drop connections."""
        ...
