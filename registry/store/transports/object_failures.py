"""What goes wrong at object stores, as errors: obstore's words are read for their kind, and never shown."""

from __future__ import annotations

import re
from collections.abc import Mapping

from registry.base.urls import redact
from registry.errors import DownloadError
from registry.store.transports.object_environment import ADVICE, has_credentials
from registry.store.transports.protocol import FileMissing, RangeRefused, Transient

__all__ = ["object_failure"]

_STATUS = re.compile(r"inner: Status \{\s+status: (\d{3})")
_PASSING = {"408", "425", "429", "500", "502", "503", "504"}
#: Of the services that tell a machine its role.
_METADATA = ("/latest/api/token", "/latest/meta-data/", "/computeMetadata/", "/metadata/identity/")
_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|specified bucket does not exist")
#: What obstore's words for a failure before an answer mean.
_FOR_GOOD: Mapping[str, str] = {
    "InvalidCertificate": "its certificate is not trusted; set SSL_CERT_FILE to that of your authority",
    "BadScheme": "it redirects to http",
    "TooManyRedirects": "it redirects on and on",
    "MissingContentLength": "its answer has no length",
}
_FOR_NOW: Mapping[str, str] = {
    "dns error": "the host's address is not found",
    "Timeout": "nothing came in time",
    "HttpError": "the connection fails",
}


def object_failure(url: str, said: str, *, part: bool, reading: bool) -> DownloadError:
    """Return what class and words of an error of obstore's mean: while asking for a part, or while reading content."""
    shown = redact(url)
    scheme = url.partition("://")[0].lower()
    # Classes, numbers and words are looked for where neither an address nor a key, which may be any words, can stand.
    words = "\n".join(line for line in said.splitlines() if "://" not in line and not line.strip().startswith("path:"))
    found = _STATUS.search(words)
    status = int(found[1]) if found else None
    answers = f"the store answers {status}" if status else "the store refuses"
    if status == 404 and _NO_BUCKET.search(said):
        return DownloadError(f"bucket of {shown} is expected to exist, but does not", url=shown, status=status)
    if said.startswith("FileNotFoundError"):
        return FileMissing(f"{shown} is expected to be there, but {answers}", url=shown, status=status)
    if said.startswith("PreconditionError"):
        return RangeRefused(f"{shown} changed while it was read", url=shown, status=status)
    if part and (status == 416 or "NotPartial" in words or "UnexpectedRange" in words):
        return RangeRefused(f"{shown} has not the part that was asked for", url=shown, status=status)
    if any(path in said for path in _METADATA):
        return DownloadError(
            f"{shown} is expected to be asked for by the role of this machine, but it has none; set {ADVICE[scheme]}",
            url=shown,
        )
    if status in (401, 403):
        how = "without credentials" if not has_credentials(scheme) else "with the credentials that are set"
        return DownloadError(
            f"{shown} is expected to be readable {how}, but {answers}, as some stores do for what is not there; "
            f"set {ADVICE[scheme]}",
            url=shown,
            status=status,
        )
    if scheme == "s3" and status == 400:  # the answer to a HEAD does not say which
        return DownloadError(
            f"{shown} is expected to be readable, but {answers}, as it does for a wrong region and for expired credentials; "
            "set AWS_REGION to the bucket's, or renew the credentials",
            url=shown,
            status=status,
        )
    if status in (301, 307, 308) or "BareRedirect" in words:
        return DownloadError(
            f"{shown} is expected to be in the region that is set, but {answers}; set AWS_REGION to the bucket's",
            url=shown,
            status=status,
        )
    if found and found[1] in _PASSING:
        return Transient(f"{shown} is expected to be readable, but {answers}; try again later", url=shown, status=status)
    if status:
        return DownloadError(f"{shown} is expected to be readable, but {answers}", url=shown, status=status)
    if reading:
        why = "nothing came in time" if "Timeout" in words else "the connection ended"
        return Transient(f"content of {shown} is expected to arrive whole, but broke off ({why}); try again", url=shown)
    for sign, why in _FOR_GOOD.items():
        if sign in words:
            return DownloadError(f"{shown} is expected to be answered for, but is not ({why})", url=shown)
    for sign, why in _FOR_NOW.items():
        if sign in words:
            return Transient(
                f"{shown} is expected to be answered for, but is not ({why}); check the network and the endpoint, "
                "or set REGISTRY_OFFLINE=1 to use only what is cached",
                url=shown,
            )
    return DownloadError(
        f"{shown} is expected to be read with the settings of the environment, but they do not fit; check {ADVICE[scheme]}",
        url=shown,
    )
