"""Answers that this process gave before, good while every file that led to them is what it was.

A file's stamp is taken before the file is read, so what changes meanwhile is seen the next time. What was not there counts
too. Only an answer that nobody was asked for, on the network, among other libraries' caches or among a user's own files, is
remembered; the next time it costs a look at each of those files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from registry.base.names import user_path
from registry.base.stamps import Stamp, stamp

if TYPE_CHECKING:
    from registry.store.cache import Cache
    from registry.store.target import Target

__all__ = ["Answer", "Remembered", "circumstances", "deciding", "is_plain"]

#: Seconds. The time at which a stamp in the cache was last read says which files are still in use, so they are read again.
_GOOD_FOR = 600.0
_MOST = 256
#: What else decides which files are looked at, and whether what is here may be used.
_VARIABLES = (
    *("HOME", "XDG_CONFIG_DIRS", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "TORCH_HOME", "PYTORCH_PRETRAINED_BERT_CACHE"),
    *("REGISTRY_CACHE", "REGISTRY_MODELS", "REGISTRY_SYSTEM_MODELS", "REGISTRY_LOCKED", "REGISTRY_LOCK_FILE"),
    *("REGISTRY_REQUIRE_PINS", "HF_ENDPOINT"),
)


def circumstances() -> tuple[str | None, ...] | None:
    """Return what an answer depends on beside arguments and files: working folder and variables; None where it is removed."""
    get = os.environ.get
    try:
        return (os.getcwd(), *[get(name) for name in _VARIABLES])  # noqa: PTH109  # no object for what is only compared
    except FileNotFoundError:
        return None


class Answer(NamedTuple):
    """A folder with files under their conventional names."""

    label: str
    folder: Path
    files: tuple[tuple[str, Path], ...]


class Remembered:
    """Some answers, by what was asked; safe for threads."""

    def __init__(self) -> None:
        self._answers: dict[Hashable, tuple[float, tuple[Stamp, ...], Answer]] = {}

    def maybe_get(self, asked: Hashable) -> Answer | None:
        """Return the answer to what was asked before, or None once a file that led to it is another."""
        if (held := self._answers.get(asked)) is None:
            return None
        until, stamps, answer = held
        if time.monotonic() < until:
            for known in stamps:
                if stamp(known[0]) != known:
                    break
            else:
                return answer
        self._answers.pop(asked, None)
        return None

    def keep(self, asked: Hashable, stamps: Iterable[Stamp], answer: Answer) -> None:
        """Remember an answer, in the place of the oldest when there are many."""
        while len(self._answers) >= _MOST:
            self._answers.pop(next(iter(self._answers)), None)
        self._answers[asked] = time.monotonic() + _GOOD_FOR, tuple(stamps), answer


def is_plain(target: Target) -> bool:
    """Whether a target is what a name alone stands for: no lock, no archive, nothing to warn of at each use."""
    entry = target.entry
    if entry is None or entry.via or entry.deprecated or target.place.lock or target.archive:
        return False
    from registry.store.target import maybe_path_target

    return maybe_path_target(user_path(entry.name), entry.name) is None


def deciding(cache: Cache, folder: Path) -> Iterable[Stamp]:
    """Return the files of a cache on which it depends that a folder is the answer, and what is in it.

    A folder that the cache made holds the content of its blobs, so it stays right without them.
    """
    if folder.parent != cache.root / "folders":
        return cache.seen.values()
    blobs = f"{cache.root / 'blobs'}{os.sep}"
    return (stamp for path, stamp in cache.seen.items() if not path.startswith(blobs))
