"""What an observer of the store is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from registry.errors import RegistryError

__all__ = ["FileEvent", "Moment", "Observer", "ObserverFailed", "notify"]

Moment = Literal["started", "progressed", "verified", "published", "reused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEvent:
    """One file of one model at one moment. Nothing in it is secret: `url` comes without password and query."""

    model: str
    name: str
    url: str = ""
    #: Bytes of the whole file, where they are known.
    size: int | None = None
    #: Bytes that are here; those of an earlier, interrupted download count.
    done: int = 0
    #: Hex digest, once it is known.
    sha256: str = ""
    #: Where the file lies, once it can be used.
    path: Path | None = None


class Observer(Protocol):
    """What is called while files are fetched. Calls come from the thread that does the work, one at a time for each file.

    An exception that a method raises ends the fetch; what has arrived is kept for the next one.
    """

    def started(self, file: FileEvent) -> None:
        """Learn that a download begins, or resumes where an earlier one stopped."""
        ...

    def progressed(self, file: FileEvent) -> None:
        """Learn that more has arrived, or less after a restart; about ten times a second for each file at most."""
        ...

    def verified(self, file: FileEvent) -> None:
        """Learn that all bytes are here and were checked; they are not published yet."""
        ...

    def published(self, file: FileEvent) -> None:
        """Learn that the file is in the cache."""
        ...

    def reused(self, file: FileEvent) -> None:
        """Learn that the file was on this machine already."""
        ...


class ObserverFailed(Exception):
    """Carries what an observer raised past those who would take it for a failure of disk or network."""


def notify(observers: Sequence[Observer], moment: Moment, file: FileEvent) -> None:
    """Tell every observer, in order.

    Raises:
        ObserverFailed: with what one raised as its cause, where that could be taken for a failure of the download.
    """
    for observer in observers:
        try:
            getattr(observer, moment)(file)
        except (OSError, RegistryError) as error:
            raise ObserverFailed from error
