"""What goes wrong over HTTP, as errors: in words that cannot hold a URL, which may hold a secret."""

from __future__ import annotations

import datetime
import email.utils
import re
import socket
import ssl
from collections.abc import Iterator, Mapping

from registry.base.urls import redact
from registry.errors import DownloadError
from registry.store.transports.protocol import FileMissing, Transient

__all__ = ["failed_request", "failed_status", "stalled", "torn"]

#: Statuses that may be others in a moment; those from 520 on are a content network's words for a server that is out of reach.
_PASSING = {408, 425, 429, 500, 502, 503, 504, *range(520, 531)}


def failed_status(status: int, headers: Mapping[str, str], url: str, advice: str = "check its token") -> DownloadError:
    """Return what a status of 400 or more means; `advice` is what to do about one that asks for another user."""
    shown = redact(url)
    if status in (404, 410):
        return FileMissing(
            f"{shown} is expected to be there, but the server answers {status}; check the address", url=shown, status=status
        )
    if status == 407:
        return _proxy_refuses(url)
    hint = advice if status in (401, 403) else "try again later, or add a mirror"
    message = f"{shown} is expected to be readable, but the server answers {status}; {hint}"
    if status in _PASSING:
        return Transient(message, url=shown, status=status, retry_after=_retry_after(headers))
    return DownloadError(message, url=shown, status=status)


def failed_request(url: str, error: Exception) -> DownloadError:
    """Return why no answer came: something that may pass, or a certificate, an address or a setting that is wrong."""
    from requests.exceptions import ConnectionError, ProxyError, Timeout

    if any(re.match(r"Tunnel connection failed: 407\b", str(cause)) for cause in _causes(error)):
        return _proxy_refuses(url)
    shown = redact(url)
    who = f"the proxy for {shown}" if isinstance(error, ProxyError) else shown
    message = (
        f"{who} is expected to answer, but does not ({_reason(error)}); check the network and proxy, "
        "or set REGISTRY_OFFLINE=1 to use only what is cached"
    )
    causes = list(_causes(error))
    wrong_for_good = (
        any(isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError) for cause in causes)
        or any(isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN for cause in causes)
        or not isinstance(error, ConnectionError | Timeout)
    )
    return DownloadError(message, url=shown) if wrong_for_good else Transient(message, url=shown)


def _proxy_refuses(url: str) -> DownloadError:
    return DownloadError(
        f"the proxy for {redact(url)} is expected to let requests through, but answers 407; check its user and password in "
        "http_proxy and https_proxy",
        url=redact(url),
        status=407,
    )


def torn(url: str, error: Exception) -> Transient:
    """Return the error for content that broke off."""
    return Transient(
        f"content of {redact(url)} is expected to arrive whole, but broke off ({_reason(error)}); try again", url=redact(url)
    )


def stalled(url: str, seconds: float) -> Transient:
    """Return the error for content that goes on coming and never arrives."""
    return Transient(
        f"content of {redact(url)} is expected to arrive, but next to nothing came in {seconds:.0f} s; try again",
        url=redact(url),
        stalled=True,
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds a server asks to wait: `Retry-After` (RFC 9110, 10.2.3), else the hub's `RateLimit`."""
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,18}", value):
        return float(value)
    if value:
        try:
            until = email.utils.parsedate_to_datetime(value)
        except ValueError:
            return None
        until = until if until.tzinfo else until.replace(tzinfo=datetime.UTC)
        return max(0.0, (until - datetime.datetime.now(datetime.UTC)).total_seconds())
    limit = re.search(r";\s*t=([0-9]{1,9})", headers.get("RateLimit", ""))
    return float(limit[1]) if limit else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what led to it, the innermost last."""
    seen: list[BaseException] = []
    current: object = error
    while isinstance(current, BaseException) and current not in seen:
        seen.append(current)
        yield current
        reason = getattr(current, "reason", None)
        within = next((part for part in current.args if isinstance(part, BaseException)), None)
        current = current.__cause__ or current.__context__ or (reason if isinstance(reason, BaseException) else within)


def _reason(error: BaseException) -> str:
    from urllib3.exceptions import IncompleteRead

    causes = list(_causes(error))
    if type(error) is OSError and (bundle := re.search(r"invalid path: (.*)", str(error))):  # in the words of requests
        return f"the file of certificates {bundle[1]} is not there"
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return "the host's address is not found"
    for cause in reversed(causes):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message}; set SSL_CERT_FILE to that of your authority"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        if isinstance(cause, IncompleteRead) and cause.expected is not None:
            return f"{cause.partial} bytes came, {cause.expected} were still to come"
    return type(error).__name__
