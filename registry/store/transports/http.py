"""HTTP and HTTPS, on requests; redirects are followed here, so that a secret only ever reaches its own origin."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import quote, urljoin, urlsplit

from registry.catalog.schema import Host
from registry.errors import DownloadError
from registry.store.source import redact
from registry.store.transports.protocol import FileMissing, Resource

TYPE_CHECKING = False
if TYPE_CHECKING:
    import requests  # at run time only when a request is sent: addresses alone need no client

__all__ = ["HttpTransport", "origin_of"]

_TIMEOUT = (10.0, 30.0)  # seconds to connect, and between two reads; a download as a whole has no limit
_MAX_REDIRECTS = 10
_PORTS = {"http": 80, "https": 443}
_REDIRECTS = {301, 302, 303, 307, 308}
_HEADERS = {
    "User-Agent": "pretrained-registry",
    # Hashes and lengths are of the file, so it must come as it is.
    "Accept-Encoding": "identity",
}


class _Bearer:
    """A token. As an explicit auth object it also keeps `.netrc` from replacing it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class HttpTransport:
    """Read `http://` and `https://` URLs."""

    remote = True

    def __init__(self, hosts: Mapping[str, Host], proxies: Mapping[str, str] | None = None) -> None:
        """`proxies`, by scheme, go before those of the environment."""
        self._hosts = hosts
        self._proxies = dict(proxies or {})
        self._opened: requests.Session | None = None

    def join(self, source: str, name: str) -> str:
        """Return the URL of `name` below the folder `source`; a query of the folder stays at the end."""
        folder, mark, query = source.partition("?")
        return f"{folder.rstrip('/')}/{quote(name)}{mark}{query}"

    def at(self, source: str, commit: str) -> str:
        """Return the source: a plain server has no revisions."""
        return source

    def describe(self, url: str) -> Resource:
        """Return only the address: a plain server knows no hash, and the length comes with the content."""
        return Resource(url, url)

    @contextmanager
    def open(self, resource: Resource, chunk_size: int) -> Iterator[tuple[int | None, Iterator[bytes]]]:
        """Send one GET and read its body."""
        with self.request("GET", resource.address) as response:
            self.check(response, resource.url)
            if response.status_code != 200:  # such as 206: a part that nobody asked for would pass for the whole
                raise DownloadError(
                    f"{redact(resource.url)} is expected to be sent whole, but the server answers {response.status_code}",
                    url=redact(resource.url),
                    status=response.status_code,
                )
            encoding = response.headers.get("Content-Encoding", "").lower()
            if encoding not in ("", "identity"):
                raise DownloadError(
                    f"content of {redact(resource.url)} is expected to be unencoded, but is {encoding}",
                    url=redact(resource.url),
                )
            length = content_length(response.headers.get("Content-Length", ""))
            yield length, self._body(response, resource.url, chunk_size)

    def close(self) -> None:
        """Close the session's connections."""
        if self._opened is not None:
            self._opened.close()

    def request(self, method: str, url: str, *, follow: bool = True) -> requests.Response:
        """Send a request and follow its redirects, each hop with the credentials of its own origin only.

        Raises:
            DownloadError: when no answer comes, or a redirect is refused.
        """
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._send(method, url)
            if response.status_code not in _REDIRECTS or not follow:
                return response
            response.close()
            url = self.next_hop(url, response)
        raise DownloadError(
            f"{redact(url)} is expected to answer within {_MAX_REDIRECTS} redirects, but redirects on and on", url=redact(url)
        )

    @staticmethod
    def next_hop(url: str, response: requests.Response) -> str:
        """Return the target of a redirect, with what it must not do refused."""
        old = urlsplit(url).scheme
        try:
            location = response.headers.get("Location", "")
            target = urljoin(url, location)
            new = urlsplit(target).scheme if location else ""
        except ValueError:
            target = new = ""
        if new not in ("http", "https") or (old == "https" and new == "http"):
            raise DownloadError(
                f"redirect of {redact(url)} is expected to stay with {old}, but leads to {new or 'nowhere'}", url=redact(url)
            )
        return target

    def check(self, response: requests.Response, url: str) -> None:
        """Raise what a failed status means."""
        status = response.status_code
        if status < 400:
            return
        shown = redact(url)
        if status in (404, 410):
            raise FileMissing(f"{shown} is expected to be there, but the server answers {status}", url=shown, status=status)
        hint = "check its token" if status in (401, 403) else "try again later, or add a mirror"
        raise DownloadError(
            f"{shown} is expected to be readable, but the server answers {status}; {hint}", url=shown, status=status
        )

    def token_for(self, url: str) -> str | None:
        """Return the secret of this URL's origin, if the catalog names one; only over https, or on this machine."""
        scheme, name, port = origin_of(url)
        shown = f"[{name}]" if ":" in name else name
        host = self._hosts.get(f"{shown}:{port}")
        if host is None and port == _PORTS.get(scheme):  # a host without a port is its scheme's own
            host = self._hosts.get(shown)
        if host is None or host.token_env is None or not (scheme == "https" or is_loopback(name)):
            return None
        return os.environ.get(host.token_env) or None

    @property
    def _session(self) -> requests.Session:
        if self._opened is None:
            import requests

            self._opened = requests.Session()
        return self._opened

    def _send(self, method: str, url: str) -> requests.Response:
        try:
            token = self.token_for(url)
            return self._session.request(
                method,
                url,
                headers=_HEADERS,
                auth=_Bearer(token) if token else None,
                proxies=self._proxies,
                timeout=_TIMEOUT,
                allow_redirects=False,
                stream=True,
            )
        except (OSError, ValueError) as error:  # requests' own errors are OSErrors, as is a CA file that is not there
            raise _unreachable(url, error) from None

    @staticmethod
    def _body(response: requests.Response, url: str, chunk_size: int) -> Iterator[bytes]:
        from urllib3.exceptions import HTTPError

        try:
            while piece := response.raw.read(chunk_size):
                yield piece
        except (HTTPError, OSError) as error:
            raise DownloadError(
                f"content of {redact(url)} is expected to arrive whole, but broke off ({_reason(error)}); try again",
                url=redact(url),
            ) from None


def origin_of(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port: what a secret belongs to."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme, 80)


def content_length(value: str) -> int | None:
    """Return the number that a Content-Length header is, or None when it is none that a file can have."""
    return int(value) if re.fullmatch(r"[0-9]{1,18}", value) else None


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _unreachable(url: str, error: Exception) -> DownloadError:
    return DownloadError(
        f"{redact(url)} is expected to answer, but does not ({_reason(error)}); check the network and proxy, "
        "or set REGISTRY_OFFLINE=1 to use only what is cached",
        url=redact(url),
    )


def _reason(error: BaseException) -> str:
    """Return the innermost cause in words that cannot hold a URL, which may hold a secret."""
    from urllib3.exceptions import IncompleteRead

    seen: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in seen:
        seen.append(current)
        current = current.__cause__ or current.__context__ or getattr(current, "reason", None)
        if not isinstance(current, BaseException):
            break
    if any(isinstance(cause, socket.gaierror) for cause in seen):
        return "the host's address is not found"
    for cause in reversed(seen):
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        if isinstance(cause, IncompleteRead) and cause.expected is not None:
            return f"{cause.partial} bytes came, {cause.expected} were still to come"
    return type(error).__name__
