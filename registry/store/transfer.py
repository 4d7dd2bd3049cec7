"""Bring one file into the cache: private file, hash beside writing, every check before anybody can see it."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from registry.errors import CacheError, DownloadError, IntegrityError
from registry.store.cache import CHUNK, Cache
from registry.store.progress import progress_bar
from registry.store.source import redact
from registry.store.transports import Resource, Transport

__all__ = ["check_claims", "git_blob_sha1", "transfer"]

#: What is often served in the place of a file, with status 200.
_IMPOSTORS = {
    b"version https://git-lfs": "a git-lfs pointer, not the file it points to; use the address that serves the content",
    b"<!doctype html": "an HTML page, perhaps a login page; check the address and its token",
    b"<html": "an HTML page, perhaps a login page; check the address and its token",
}


def check_claims(resource: Resource, sha256: str | None, size: int | None) -> tuple[str | None, int | None]:
    """Hold what the place says of a file against what is expected; return the hash and size to check, where known.

    Raises:
        IntegrityError: when they differ; nothing was transferred.
    """
    if sha256 and resource.sha256 and sha256 != resource.sha256:
        raise _mismatch(resource.url, "sha256", sha256, resource.sha256)
    if size is not None and resource.size is not None and size != resource.size:
        raise _mismatch(resource.url, "size", str(size), str(resource.size))
    return sha256 or resource.sha256, resource.size if size is None else size


def transfer(
    cache: Cache, transport: Transport, resource: Resource, *, label: str, sha256: str | None, size: int | None
) -> tuple[Path, str, int]:
    """Copy a file into the cache; return its blob, sha256 and size in bytes.

    Raises:
        DownloadError: when it does not arrive whole.
        IntegrityError: when hash or size are not the expected ones.
        CacheError: when the cache cannot be written.
    """
    partial, file = cache.partial(sha256 or hashlib.sha256(resource.url.encode()).hexdigest())
    try:
        with file, transport.open(resource, CHUNK) as (length, pieces):
            if size is not None and length is not None and length != size:
                _refuse_impostor(next(pieces, b""), resource.url)  # a page in the file's place says more than its size
                raise _mismatch(resource.url, "size", str(size), str(length))
            expected = length if size is None else size
            if expected is None and not (sha256 or resource.git_sha1):
                raise DownloadError(
                    f"{redact(resource.url)} is expected to come with a length, but has neither length nor hash, so that "
                    "a cut could not be noticed; pin its sha256 in models.yaml",
                    url=redact(resource.url),
                )
            digest, count = hashlib.sha256(), 0
            with progress_bar(label, expected) as advance:
                for piece in pieces:
                    if count == 0:
                        _refuse_impostor(piece, resource.url)
                    count += len(piece)
                    if expected is not None and count > expected:
                        raise _mismatch(resource.url, "size", str(expected), f"more than {expected}")
                    digest.update(piece)
                    file.write(piece)
                    advance(len(piece))
            if expected is not None and count != expected:
                raise _mismatch(resource.url, "size", str(expected), str(count))
            file.flush()
            os.fsync(file.fileno())
        if sha256 and digest.hexdigest() != sha256:
            raise _mismatch(resource.url, "sha256", sha256, digest.hexdigest())
        if resource.git_sha1 and (blob_sha1 := git_blob_sha1(partial)) != resource.git_sha1:
            raise _mismatch(resource.url, "git blob sha1", resource.git_sha1, blob_sha1)
        return cache.publish(partial, digest.hexdigest()), digest.hexdigest(), count
    except OSError as error:  # of the disk, at the latest when the file is closed; the network's are DownloadErrors
        raise CacheError(
            f"cache file {partial} is expected to take the download, but does not ({error.strerror or error}); "
            "free space, or set REGISTRY_CACHE to another folder",
            path=str(partial),
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def git_blob_sha1(path: Path) -> str:
    """Return the name that git gives the content of a file (https://git-scm.com/book/en/v2/Git-Internals-Git-Objects)."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def _refuse_impostor(piece: bytes, url: str) -> None:
    head = piece[:64].lstrip().lower()
    for magic, what in _IMPOSTORS.items():
        if head.startswith(magic) and not url.endswith((".html", ".md")):
            raise DownloadError(f"content of {redact(url)} is expected to be the file itself, but is {what}", url=redact(url))


def _mismatch(url: str, what: str, expected: str, actual: str) -> IntegrityError:
    return IntegrityError(
        f"{what} of {redact(url)} is expected to be {expected}, but is {actual}; nothing was kept. "
        "Either the place or the pin is wrong: compare both with the publisher's",
        url=redact(url),
        expected=expected,
        actual=actual,
    )
