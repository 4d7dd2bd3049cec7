"""Compare what the pin, the record and each source say of a file, before its bytes are here."""

from __future__ import annotations

from dataclasses import dataclass

from registry.base.urls import redact
from registry.errors import IntegrityError
from registry.store.cache import BELIEVED
from registry.store.transports import Resource

__all__ = ["Claims", "check_claims", "mismatch"]


@dataclass
class Claims:
    """What earlier sources or a record say of one file: its mirrors must not differ from it."""

    sha256: str | None
    git_sha1: str | None
    #: By whose word, as in a `Ref`.
    trust: str

    def added_to(self, resource: Resource) -> Resource:
        """Return what a place says of the file together with what others said, and remember the former.

        Raises:
            IntegrityError: when they differ. The hub's word goes before what was merely believed.
        """
        if resource.sha256 or resource.git_sha1:
            if self.trust in BELIEVED:
                self.sha256, self.trust = None, "hub"
            self.git_sha1 = resource.git_sha1 or self.git_sha1
        self.sha256, _ = check_claims(resource, self.sha256, None)
        return resource._replace(sha256=self.sha256, git_sha1=self.git_sha1)


def check_claims(resource: Resource, sha256: str | None, size: int | None) -> tuple[str | None, int | None]:
    """Hold what the place says of a file against what is expected; return the hash and size to check, where known.

    Raises:
        IntegrityError: when they differ; nothing was transferred.
    """
    if sha256 and resource.sha256 and sha256 != resource.sha256:
        raise mismatch(resource.url, "sha256", sha256, resource.sha256)
    if size is not None and resource.size is not None and size != resource.size:
        raise mismatch(resource.url, "size", str(size), str(resource.size))
    return sha256 or resource.sha256, resource.size if size is None else size


def mismatch(url: str, what: str, expected: str, actual: str) -> IntegrityError:
    """Return the error for bytes, or a claim about them, that are not what is expected."""
    return IntegrityError(
        f"{what} of {redact(url)} is expected to be {expected}, but is {actual}; nothing of it is used. "
        "Either the place or the pin is wrong: compare both with the publisher's",
        url=redact(url),
        expected=expected,
        actual=actual,
    )
