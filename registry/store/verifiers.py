"""Run verifier plugins on a file before its first use, for signatures and policies.

It fails closed: a verifier that refuses, raises, answers with something else or cannot be asked refuses the file.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from registry.base.urls import redact
from registry.errors import IntegrityError, said, text_of
from registry.store.cache import Cache
from registry.store.target import StoredFile

__all__ = ["Refused", "Verification", "Verifier"]


class Refused(IntegrityError):
    """A verifier refuses a file. No other source is tried, because the refusal is about this file."""


class Verifier(NamedTuple):
    """One verifier plugin.

    `ask` takes the keywords `model`, `file`, `path`, `sha256` and `url`, and returns None or the reason to refuse.
    """

    #: The plugin with its version: another version is asked again.
    name: str
    ask: Callable[..., object]


class Verification:
    """The verifiers of one operation. Which of them accepted a blob of the cache, and as what, is noted in its stamp."""

    def __init__(self, cache: Cache, verifiers: Sequence[Verifier]) -> None:
        self._cache = cache
        self._verifiers = tuple(verifiers)
        self._accepted: set[str] = set()
        self._lock = threading.Lock()

    def require_file(self, model: str, file: StoredFile, urls: Sequence[str], sha256_of: Callable[[StoredFile], str]) -> None:
        """Ask about a file that is here; `urls` are those that it could have come from, best first.

        Raises:
            Refused: when it is not accepted, or cannot be hashed.
        """
        url = redact(urls[0]) if urls else file.path.absolute().as_uri()
        try:
            digest = sha256_of(file)
        except OSError as error:
            raise Refused(
                f"file {file.path} is expected to be readable, so that it can be verified, but is not "
                f"({error.strerror or error}); mend it, or fetch it anew",
                url=url,
                expected="a readable file",
                actual=str(error),
            ) from error
        self.require(model, file.name, file.path, digest, url)

    def require(self, model: str, file: str, path: Path, sha256: str, url: str) -> None:
        """Ask every verifier that has not accepted these bytes as this file of this model.

        Args:
            model: what people call the model.
            file: the file's name.
            path: where its bytes lie now, complete.
            sha256: their hash, as hex digits.
            url: where they came from or would come from, without secrets.

        Raises:
            Refused: when one does not accept them.
        """
        keys = [_key(verifier, model, file, sha256) for verifier in self._verifiers]
        is_blob = path == self._cache.blob(sha256)
        noted = self._cache.accepted(path) if is_blob else frozenset()
        if noted.issuperset(keys):
            return
        for verifier, key in zip(self._verifiers, keys, strict=True):
            if key not in noted and key not in self._accepted:
                _ask(verifier, model, file, path, sha256, url)
                with self._lock:
                    self._accepted.add(key)
        if is_blob:
            self._cache.note_accepted(path, keys)


def _ask(verifier: Verifier, model: str, file: str, path: Path, sha256: str, url: str) -> None:
    try:
        answer = verifier.ask(model=model, file=file, path=path, sha256=sha256, url=url)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _refused(verifier, model, file, url, f"it raised {said(error)}") from error
    if answer is not None:
        reason = answer if isinstance(answer, str) and answer else f"it answered {text_of(answer)}, and only None accepts"
        raise _refused(verifier, model, file, url, reason)


def _refused(verifier: Verifier, model: str, file: str, url: str, reason: str) -> Refused:
    return Refused(
        f"file {file!r} of {model!r} is expected to be accepted by {verifier.name}, but is refused: {reason}. Nothing of it is "
        "used; ask whoever installed that verifier",
        url=url,
        expected=f"accepted by {verifier.name}",
        actual=reason,
    )


def _key(verifier: Verifier, model: str, file: str, sha256: str) -> str:
    return hashlib.sha256("\n".join((verifier.name, model, file, sha256)).encode()).hexdigest()[:32]
