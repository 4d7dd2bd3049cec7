"""HTTP and HTTPS, on requests; redirects are followed here, so that a secret only ever reaches its own origin."""

from __future__ import annotations

import contextlib
import re
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from urllib.parse import quote, urljoin, urlsplit

from registry.base.urls import is_loopback, origin_of, redact, scheme_of, unfit_authority
from registry.catalog.entry import Host
from registry.errors import ConfigError, DownloadError
from registry.store.transports.connections import host_slot
from registry.store.transports.credentials import Credentials
from registry.store.transports.protocol import Body, RangeRefused, Resource, Span, other_commit

TYPE_CHECKING = False
if TYPE_CHECKING:
    import requests  # at run time only when a request is sent: addresses alone need no client

__all__ = ["HttpTransport", "content_length"]

#: Seconds to connect, and for a head or `_LEAST` bytes of content to arrive; a download as a whole has no limit.
_TIMEOUT = (10.0, 30.0)
_LEAST = 1 << 10
#: Seconds that content may take which nobody needs.
_REST = 1.0
_PIECE = 1 << 18
_MAX_REDIRECTS = 10
_REDIRECTS = {301, 302, 303, 307, 308}
_HEADERS = {
    "User-Agent": "pretrained-registry",
    # Hashes and lengths are of the file, so it must come as it is.
    "Accept-Encoding": "identity",
}
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.IGNORECASE)


class HttpTransport:
    """Read `http://` and `https://` URLs."""

    remote = True

    def __init__(
        self,
        hosts: Mapping[str, Host],
        proxies: Mapping[str, str] | None = None,
        timeout: tuple[float, float] | None = None,
    ) -> None:
        """Set up.

        Args:
            hosts: what the catalog says of hosts.
            proxies: by scheme; they go before those of the environment.
            timeout: seconds to connect, and for a head or the least content to arrive; by default 10 and 30.
        """
        self.credentials = Credentials(hosts)
        self._timeout = timeout or _TIMEOUT
        self._proxies = dict(proxies or {})
        self._local = threading.local()
        self._lock = threading.Lock()
        #: Those of threads that live: with every file that comes in parts there are new ones.
        self._sessions: weakref.WeakSet[requests.Session] = weakref.WeakSet()

    def join(self, source: str, name: str) -> str:
        """Return the URL of `name` below the folder `source`; a query of the folder stays at the end."""
        folder, mark, query = source.partition("?")
        return f"{folder.rstrip('/')}/{quote(name)}{mark}{query}"

    def at(self, source: str, commit: str) -> str:
        """Return the source: a plain server has no revisions."""
        return source

    def describe(self, url: str) -> Resource:
        """Return only the address: a plain server knows no hash, and the length comes with the content."""
        if "#" in url:
            raise DownloadError(
                f"{redact(url)} is expected to be an address without a fragment, but has a #; write it as %23", url=redact(url)
            )
        return Resource(url, url)

    def parallelism(self, resource: Resource) -> int | None:
        """Return what the catalog's `hosts:` says."""
        return self.credentials.parallelism(resource.address)

    @contextlib.contextmanager
    def open(self, resource: Resource, span: Span | None = None) -> Iterator[Body]:
        """Send one GET and read its body."""
        headers = {}
        if span is not None:
            headers["Range"] = f"bytes={span.start}-{'' if span.stop is None else span.stop - 1}"
            if span.validator is not None:
                headers["If-Range"] = span.validator
        with (
            host_slot(origin_of(resource.address), self.parallelism(resource)),
            self.request("GET", resource.address, headers) as response,
        ):
            if span is not None and response.status_code == 416:
                if span.start and response.headers.get("Content-Range", "").strip() == f"bytes */{span.start}":  # all is here
                    yield Body(iter(()), span.start, span.start, size=span.start, validator=span.validator, ranges=True)
                    return
                raise RangeRefused(f"{redact(resource.url)} has not the part that was asked for", url=redact(resource.url))
            self.check(response, resource.url)
            if resource.commit and (answered := response.headers.get("X-Repo-Commit", resource.commit)) != resource.commit:
                raise other_commit(resource.url, resource.commit, answered[:40])
            yield self._body(response, resource.url, span)

    def close(self) -> None:
        """Close the connections of every thread; after Ctrl-C, some of them may still be making theirs."""
        with self._lock:
            sessions = list(self._sessions)
            self._sessions.clear()
        for session in sessions:
            session.close()
        self._local = threading.local()

    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, *, follow: bool = True
    ) -> requests.Response:
        """Send a request and follow its redirects, each hop with the credentials of its own origin only.

        Raises:
            DownloadError: when no answer comes, or a redirect is refused.
        """
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._send(method, url, headers or {})
            if method == "HEAD" or response.status_code in _REDIRECTS:
                self._read_rest(response, url)
            if response.status_code not in _REDIRECTS or not follow:
                return response
            response.close()
            url = self.next_hop(url, response)
        raise DownloadError(
            f"{redact(url)} is expected to answer within {_MAX_REDIRECTS} redirects, but redirects on and on; "
            "check the address and its token",
            url=redact(url),
        )

    @staticmethod
    def next_hop(url: str, response: requests.Response) -> str:
        """Return the target of a redirect, with what it must not do refused; within its origin a URL's password stays."""
        old = scheme_of(url)
        location = response.headers.get("Location", "")
        with contextlib.suppress(UnicodeError):  # headers are read as Latin-1, and addresses are written in UTF-8
            location = location.encode("latin-1").decode()
        try:
            target = urljoin(url, location) if location else ""
        except ValueError:
            target = ""
        new = scheme_of(target) if target else "nowhere"
        if unfit_authority(target):
            new = "an address without a clear host"
        if new not in ("http", "https") or (old == "https" and new == "http"):
            raise DownloadError(
                f"redirect of {redact(url)} is expected to stay with {old}, but leads to {new}; use another address or mirror",
                url=redact(url),
            )
        secret, at, _ = urlsplit(url).netloc.rpartition("@")
        if at and "@" not in urlsplit(target).netloc and origin_of(target) == origin_of(url):
            target = target.replace("//", f"//{secret}@", 1)
        return target

    def check(self, response: requests.Response, url: str) -> None:
        """Raise what a failed status means."""
        if response.status_code >= 400:
            from registry.store.transports.failures import failed_status  # not needed while all goes well

            advice = self.credentials.advice(response.request) if response.status_code in (401, 403) else ""
            raise failed_status(response.status_code, response.headers, url, advice)

    def _send(self, method: str, url: str, headers: Mapping[str, str]) -> requests.Response:
        import requests
        from requests.utils import select_proxy

        from registry.store.transports.connections import discreet

        # Raised below and not where it is caught: what requests says may hold secrets, and would hang on to the error.
        failure: DownloadError
        try:
            with discreet():
                session = self._session
                request = session.prepare_request(
                    # Without an `auth` of ours, requests would look into `.netrc` by itself.
                    requests.Request(method, url, {**_HEADERS, **headers}, auth=lambda request: request)
                )
                # From here on all that depends on the host goes by the URL that the connection is made from.
                address = request.url or ""
                settings = session.merge_environment_settings(
                    address, dict(self._proxies), True, self.credentials.ca_file(address), None
                )
                scheme, host, _ = origin_of(address)
                if is_loopback(host):  # another machine's proxy would look for it there, and read what is sent in the clear
                    settings["proxies"] = {}
                if scheme == "https" or not select_proxy(address, settings["proxies"]):
                    self.credentials.sign(request)
                return session.send(request, timeout=self._timeout, allow_redirects=False, **settings)
        except ConfigError:
            raise
        except (OSError, ValueError) as error:  # requests' own errors are OSErrors, as is a CA file that is not there
            from registry.store.transports.failures import failed_request

            failure = failed_request(url, error)
        raise failure

    @property
    def _session(self) -> requests.Session:
        """The session of the thread that asks: connections are kept between its requests."""
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            from http.cookiejar import DefaultCookiePolicy

            import requests

            from registry.store.transports.deadline import PromptAdapter

            session = self._local.session = requests.Session()
            # It would read the content of every redirect, however much there is.
            session.get_redirect_target = lambda resp: None  # type: ignore[method-assign]
            session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))  # they would reach other origins
            for scheme in ("http://", "https://"):
                session.mount(scheme, PromptAdapter())
            with self._lock:
                self._sessions.add(session)
        return session

    def _body(self, response: requests.Response, url: str, span: Span | None) -> Body:
        status, headers, shown = response.status_code, response.headers, redact(url)
        encoding = headers.get("Content-Encoding", "").lower()
        if encoding not in ("", "identity"):
            raise DownloadError(
                f"content of {shown} is expected to be unencoded, but is {encoding}; use another address or mirror", url=shown
            )
        validator = _validator(headers)
        pieces = self._pieces(response, url)
        if status == 200:
            return Body(
                pieces,
                size=content_length(headers.get("Content-Length", "")),
                validator=validator,
                ranges=headers.get("Accept-Ranges", "").lower() == "bytes",
            )
        if status != 206 or span is None:  # such as a part that nobody asked for, which would pass for the whole
            raise DownloadError(
                f"{shown} is expected to be sent whole, but the server answers {status}; use another address or mirror",
                url=shown,
                status=status,
            )
        found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
        first, last = (int(found[1]), int(found[2])) if found else (-1, -1)
        if found is None or first != span.start or last < first or (span.stop is not None and last >= span.stop):
            raise RangeRefused(f"{shown} sends another part than was asked for", url=shown)
        total = None if found[3] == "*" else int(found[3])
        if total is None or last >= total:
            raise RangeRefused(f"{shown} does not say what its part is a part of", url=shown)
        return Body(pieces, start=first, stop=last + 1, size=total, validator=validator, ranges=True)

    def _read_rest(self, response: requests.Response, url: str) -> None:
        """Read content that nobody needs, if it is short and quick: then the connection can be used again."""
        count = 0
        with contextlib.suppress(DownloadError):
            for piece in self._pieces(response, url, min(_REST, self._timeout[1])):
                count += len(piece)
                if count > _LEAST:
                    break

    def _pieces(self, response: requests.Response, url: str, limit: float | None = None) -> Iterator[bytes]:
        """Yield the content as it arrives; in each `limit` of waiting for it at least `_LEAST` bytes must come."""
        from urllib3.exceptions import HTTPError

        from registry.store.transports.deadline import Deadline, socket_of

        limit = limit or self._timeout[1]
        left, count = limit, 0
        failure: DownloadError
        with Deadline(socket_of(response.raw)) as deadline:
            while True:
                began = time.monotonic()
                deadline.set(left)  # a single read waits for all of a chunk's head, or for all trailers
                broken: Exception | None = None
                try:
                    piece = response.raw.read1(_PIECE)
                except (HTTPError, OSError) as error:
                    broken, piece = error, b""
                deadline.set(None)
                left -= time.monotonic() - began
                count += len(piece)
                if count >= _LEAST:
                    left, count = limit, 0
                if piece:
                    yield piece
                elif broken is None and not deadline.passed:
                    return
                if deadline.passed or left <= 0:
                    from registry.store.transports.failures import stalled

                    failure = stalled(url, limit)
                    break
                if broken is not None:
                    from registry.store.transports.failures import torn

                    failure = torn(url, broken)
                    break
        raise failure  # not while the other is handled, as above


def content_length(value: str) -> int | None:
    """Return the number that a Content-Length header is, or None when it is none that a file can have."""
    return int(value) if re.fullmatch(r"[0-9]{1,18}", value) else None


def _validator(headers: Mapping[str, str]) -> str | None:
    """Return what `If-Range` may name: a strong ETag, else the time of the last change (RFC 9110, 13.1.5)."""
    etag = headers.get("ETag", "")
    if re.fullmatch(r'"[\x21\x23-\x7e]*"', etag):
        return etag
    changed = headers.get("Last-Modified", "")
    # Within the second in which a file was changed its time says nothing.
    return changed if changed and changed != headers.get("Date") else None
