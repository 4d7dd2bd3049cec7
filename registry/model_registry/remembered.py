"""The in-process memo of `fetch`: an answer is valid while no file that led to it has changed.

A file's stamp is taken before the file is read, so a change during the read is noticed at the next use. Missing files have
stamps, too. An answer is kept only if it needed no network, no other library's cache and no file of the user's; using it
again costs one stat for each of its files.
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

#: Seconds. Pruning sees from the access times of stamps which files are in use, so stamps are read again after this time.
_GOOD_FOR = 600.0
_MOST = 256
#: Environment variables that decide which files are used.
_VARIABLES = (
    *("HOME", "XDG_CONFIG_DIRS", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "TORCH_HOME", "PYTORCH_PRETRAINED_BERT_CACHE"),
    *("REGISTRY_CACHE", "REGISTRY_MODELS", "REGISTRY_SYSTEM_MODELS", "REGISTRY_LOCKED", "REGISTRY_LOCK_FILE"),
    *("REGISTRY_REQUIRE_PINS", "HF_ENDPOINT"),
)


def circumstances() -> tuple[str | None, ...] | None:
    """Return the working folder and variables that an answer depends on; None if the working folder was removed."""
    get = os.environ.get
    try:
        return (os.getcwd(), *[get(name) for name in _VARIABLES])  # noqa: PTH109  # no object for what is only compared
    except FileNotFoundError:
        return None


class Answer(NamedTuple):
    """A folder with files under their usual names."""

    label: str
    folder: Path
    files: tuple[tuple[str, Path], ...]


class Remembered:
    """A limited number of answers by question. Safe for threads."""

    def __init__(self) -> None:
        self._answers: dict[Hashable, tuple[float, tuple[Stamp, ...], Answer]] = {}

    def maybe_get(self, asked: Hashable) -> Answer | None:
        """Return the answer to a question, or None when there is no answer or a file that led to it has changed."""
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
        """Keep an answer; at the limit, drop the oldest."""
        while len(self._answers) >= _MOST:
            self._answers.pop(next(iter(self._answers)), None)
        self._answers[asked] = time.monotonic() + _GOOD_FOR, tuple(stamps), answer


def is_plain(target: Target) -> bool:
    """Whether a target is an ordinary catalog entry: without lock and archive, and without a warning at each use."""
    entry = target.entry
    if entry is None or entry.via or entry.deprecated or target.place.lock or target.archive:
        return False
    from registry.store.target import maybe_path_target

    return maybe_path_target(user_path(entry.name), entry.name) is None


def deciding(cache: Cache, folder: Path) -> Iterable[Stamp]:
    """Return stamps of the cache files that decide that a folder is the answer.

    A folder that the cache made has the content of its blobs, so their stamps are not needed.
    """
    if folder.parent != cache.root / "folders":
        return cache.seen.values()
    blobs = f"{cache.root / 'blobs'}{os.sep}"
    return (stamp for path, stamp in cache.seen.items() if not path.startswith(blobs))
