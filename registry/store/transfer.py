"""Bring one file into the cache: a private file, every check, and only then its name."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from registry.errors import CacheError, IntegrityError
from registry.store.cache import Cache
from registry.store.claims import mismatch
from registry.store.download import Download
from registry.store.events import FileEvent, Observer, notify
from registry.store.hashing import git_blob_sha1
from registry.store.lazy_logger import lazy_logger
from registry.store.partial import Partial, sweep
from registry.store.patience import Patience
from registry.store.records import About
from registry.store.transports import Resource, Transport
from registry.store.verification import Refused

__all__ = ["transfer"]

logger = lazy_logger(__name__)


def transfer(
    cache: Cache,
    transport: Transport,
    resource: Resource,
    about: About,
    *,
    sha256: str | None,
    size: int | None,
    observers: Sequence[Observer] = (),
    more_sources: bool = False,
    stopped: threading.Event | None = None,
    accept: Callable[[Path, str], None] | None = None,
) -> tuple[Path, str, int]:
    """Copy a file into the cache; return its blob, sha256 and size in bytes.

    Bytes that turn out wrong are put in quarantine and asked for once more. With `more_sources` a place that does not answer
    is given up early, because another can be asked; once `stopped` is set, all ends. `accept` is called with complete bytes and
    their hash before anybody can see them, and raises to refuse them; they are then kept as an interrupted download is.

    Raises:
        DownloadError: when it does not arrive whole; what has arrived is kept for the next time, where that can go on with it.
        IntegrityError: when hash or size are not the expected ones.
        CacheError: when the cache cannot be written.
    """
    key = sha256 or hashlib.sha256(resource.url.encode()).hexdigest()
    stopped = stopped or threading.Event()
    identified = bool(sha256 or resource.git_sha1)
    wrong: IntegrityError | None = None
    for _ in range(2):
        partial = Partial.claim(cache, key, resource.url, identified=identified)
        download = Download(
            cache,
            partial,
            transport,
            resource,
            about,
            size=size,
            identified=identified,
            observers=observers,
            stopped=stopped,
        )
        try:
            digest, count = download.run(Patience(stopped, more_sources=more_sources))
            wrong = _wrong(partial.path, resource, sha256, digest)
            if wrong is None:
                if accept is not None:
                    accept(partial.path, digest)
                partial.sync()
                event = FileEvent(model=about.model, name=about.name, url=about.url, size=count, done=count, sha256=digest)
                notify(observers, "verified", event)
                path = cache.publish(partial.path, digest, about)
                partial.discard()  # of which only the journal is left
                sweep(cache, key)
                return path, digest, count
            with contextlib.suppress(OSError):
                place = cache.quarantine(partial.path, wrong.expected)
                logger.warning("%s. The bytes are in %s", wrong.message, place)
            partial.discard()
        except Refused:
            partial.leave(resumable=identified or partial.validator is not None)
            raise
        except IntegrityError:
            partial.discard()
            raise
        except OSError as error:  # of the disk, at the latest when the file is synced; the network's are DownloadErrors
            partial.leave(resumable=identified or partial.validator is not None)
            raise CacheError(
                f"cache file {partial.path} is expected to take the download, but does not ({error.strerror or error}); "
                "free space, or set REGISTRY_CACHE to another folder",
                path=str(partial.path),
            ) from error
        except BaseException:
            partial.leave(resumable=identified or partial.validator is not None)
            raise
        finally:
            download.close()
    assert wrong is not None  # else the file was published
    raise wrong


def _wrong(path: Path, resource: Resource, sha256: str | None, digest: str) -> IntegrityError | None:
    """Return what is wrong with complete bytes, or None."""
    if sha256 and digest != sha256:
        return mismatch(resource.url, "sha256", sha256, digest)
    if resource.git_sha1 and (actual := git_blob_sha1(path)) != resource.git_sha1:
        return mismatch(resource.url, "git blob sha1", resource.git_sha1, actual)
    return None
