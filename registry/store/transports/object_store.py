"""Object stores: `s3://bucket/path`, `gs://bucket/path` and `az://container/path`, on obstore.

Addresses are taken as the stores' own tools take them: what follows the bucket is the key as it is, and nothing in it is
decoded. Who asks, and where, is said by the environment. What obstore says of a failure may hold signed addresses, keys
and whole answers, so that none of it is ever shown: it is only read, for what kind of failure it was.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

from registry.base.urls import redact
from registry.errors import DownloadError
from registry.store.transports.connections import host_slot
from registry.store.transports.failures import stalled
from registry.store.transports.object_environment import ADVICE, authorities_of, has_credentials, is_plain, setting
from registry.store.transports.protocol import Body, FileMissing, RangeRefused, Resource, Span, Transient

TYPE_CHECKING = False

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult
    from obstore.store import AzureStore, ClientConfig, GCSStore, S3Store

    _Bucket = S3Store | GCSStore | AzureStore

__all__ = ["ObjectStoreTransport", "object_failure"]


_Result = TypeVar("_Result")
_CONNECT = timedelta(seconds=10)
_READ = timedelta(seconds=30)

#: obstore limits a request as a whole, reading included, to 30 s unless told otherwise, and takes 0 for no time at all.
_WHOLE = timedelta(days=3650)

#: In the time that a read may take at least so many bytes must come, or the store has stalled.
_LEAST = 1 << 10

#: Every character that a bucket or container may have; anything else, such as a password, is not even asked about.
_BUCKET = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]*")

#: Set in a process that was forked after obstore had started its threads: it would wait for them forever.
_started = False
_forked = False


def _in_child() -> None:
    global _forked
    _forked = _started


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


class ObjectStoreTransport:
    """Read objects of S3 and what speaks like it, of Google Cloud Storage, and of Azure Blob Storage."""

    remote = True

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._buckets: dict[tuple[str, str], _Bucket] = {}
        #: Those that are known to exist.
        self._seen: set[tuple[str, str]] = set()

    def join(self, source: str, name: str) -> str:
        """Return the URL of the object `name` below `source`."""
        return f"{source.rstrip('/')}/{name}"

    def at(self, source: str, commit: str) -> str:
        """Return the source: a bucket has no revisions."""
        return source

    def describe(self, url: str) -> Resource:
        """Ask for an object's size. No hash of its content is known: an ETag is none, and obstore does not tell checksums."""
        place, bucket, key = self._find(url)
        import obstore

        try:
            meta = _ask(url, lambda: obstore.head(bucket, key))
        except FileMissing:
            if place not in self._seen:  # the answer to a HEAD has no body that would say what is missing
                first: GetOptions = {"range": (0, 1)}
                with contextlib.suppress(FileMissing):
                    _ask(url, lambda: obstore.get(bucket, key, options=first))
                self._seen.add(place)
            raise
        self._seen.add(place)
        return Resource(url, url, size=meta["size"])

    def parallelism(self, resource: Resource) -> int | None:
        """Return None: nothing is set for a bucket."""
        return None

    @contextmanager
    def open(self, resource: Resource, span: Span | None = None) -> Iterator[Body]:
        """Send one GET and read its body; a part is only sent of the version that `span` names."""
        url = resource.url
        place, bucket, key = self._find(url)
        import obstore

        options: GetOptions = {}
        if span is not None:
            options["range"] = {"offset": span.start} if span.stop is None else (span.start, span.stop)
            if span.validator is not None:
                options["if_match"] = span.validator
        with host_slot(place, None):
            result = _ask(url, lambda: obstore.get(bucket, key, options=options), part=span is not None)
            encoding = result.attributes.get("Content-Encoding", "").lower()
            # `aws-chunked` is of how the object was once uploaded, and some stores keep the word.
            if encoding not in ("", "identity", "aws-chunked"):
                raise DownloadError(
                    f"content of {redact(url)} is expected to be unencoded, but is {encoding[:20]!r}; store it as it is",
                    url=redact(url),
                )
            validator = _validator(result.meta["e_tag"])
            if span is not None and span.validator not in (None, validator):  # by a store that knows no conditions
                raise RangeRefused(f"{redact(url)} changed while it was read", url=redact(url))
            start, stop = result.range
            size = result.meta["size"]
            pieces = _pieces(result, url)
            del result  # a connection is dropped when nobody reads from it any more
            try:
                yield Body(
                    pieces,
                    start=start,
                    stop=None if span is None else stop,
                    size=size,
                    validator=validator,
                    ranges=True,
                )
            finally:
                pieces.close()

    def close(self) -> None:
        """Drop the connections."""
        with self._lock:
            self._buckets.clear()

    def _find(self, url: str) -> tuple[tuple[str, str], _Bucket, str]:
        """Return bucket and key of a URL."""
        scheme, _, rest = url.partition(":")
        name, _, key = rest.removeprefix("//").partition("/")
        place = scheme.lower(), name
        if not _BUCKET.fullmatch(name):
            raise DownloadError(
                f"a {place[0]} source is expected to be {place[0]}://bucket/path, but its bucket is no name of one; "
                f"credentials stand in the environment: {ADVICE[place[0]]}",
                url=f"{place[0]}://…",
            )
        if any(part in ("", ".", "..") for part in key.split("/")):
            raise DownloadError(
                f"path of {redact(url)} is expected to be of plain parts, but has one that is empty, '.' or '..'",
                url=redact(url),
            )
        with self._lock:
            if place not in self._buckets:
                self._buckets[place] = _bucket(*place, url)
            return place, self._buckets[place], key


def _bucket(scheme: str, name: str, url: str) -> _Bucket:
    """Set up the client of a bucket as the environment says."""
    global _started
    shown = redact(url)
    try:
        from obstore.store import AzureStore, GCSStore, S3Store
    except ImportError:
        raise DownloadError(
            f"{shown} is expected to be read by obstore, but that is not installed; "
            "pip install 'pretrained-registry[object-store]'",
            url=shown,
        ) from None
    if _forked:
        raise DownloadError(
            f"{shown} is expected to be read by a process of its own, but this one was forked from one that had read from an "
            "object store; fetch before forking, or start processes with 'spawn'",
            url=shown,
        )
    if scheme == "az" and not (setting("AZURE_STORAGE_ACCOUNT_NAME") or setting("AZURE_STORAGE_USE_EMULATOR")):
        raise DownloadError(
            f"{shown} is expected to belong to an account, but none is set; set AZURE_STORAGE_ACCOUNT_NAME", url=shown
        )
    options: ClientConfig = {
        "allow_http": is_plain(scheme, shown),
        "allow_invalid_certificates": False,
        "connect_timeout": _CONNECT,
        "read_timeout": _READ,
        "timeout": _WHOLE,
        "user_agent": "pretrained-registry",
    }
    if options["allow_http"]:  # of this machine: no proxy may read what is sent in the clear
        options |= {"proxy_url": "http://127.0.0.1:9", "proxy_excludes": "localhost,127.0.0.0/8,::1"}
    if (authorities := authorities_of(scheme, shown)) is not None:
        options["root_certificate"] = authorities
    anonymous = not has_credentials(scheme)
    _started = True

    def make() -> _Bucket:
        # Tries are counted by who calls, and each is to be seen.
        if scheme == "s3":
            return S3Store(
                name,
                config={"skip_signature": True} if anonymous else {},
                client_options=options,
                retry_config={"max_retries": 0},
            )
        if scheme == "gs":
            return GCSStore(
                name,
                config={"skip_signature": True} if anonymous else {},
                client_options=options,
                retry_config={"max_retries": 0},
            )
        return AzureStore(
            name, config={"skip_signature": True} if anonymous else {}, client_options=options, retry_config={"max_retries": 0}
        )

    return _ask(url, make)


def _validator(etag: str | None) -> str | None:
    """Return an ETag that names one version of the content, byte by byte."""
    return etag if etag and not etag.startswith("W/") else None


def _pieces(result: GetResult, url: str) -> Generator[bytes, None, None]:
    # What is short of a whole chunk is lost when the stream breaks, so that a chunk is whatever has come.
    stream = result.stream(min_chunk_size=1)
    since, count = time.monotonic(), 0
    limit = _READ.total_seconds()
    while (piece := _ask(url, lambda: next(stream, None), reading=True)) is not None:
        yield piece
        count += len(piece)
        if count >= _LEAST:
            since, count = time.monotonic(), 0
        elif time.monotonic() - since > limit:
            raise stalled(url, limit)


def _ask(url: str, call: Callable[[], _Result], *, part: bool = False, reading: bool = False) -> _Result:
    """Return what obstore returns, or raise in our words what it raises."""
    from obstore.exceptions import BaseError

    try:
        return call()
    except (BaseError, OSError, ValueError, RuntimeError) as error:
        failure = object_failure(url, f"{type(error).__name__} {error}", part=part, reading=reading)
    raise failure  # not while the other is handled: it would hang on to this one, and show what it says


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
