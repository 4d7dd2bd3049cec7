"""URLs and sources: what they are, which host a request to them reaches, and what of them may be shown."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

__all__ = ["is_loopback", "is_secure", "is_url", "origin_of", "redact", "scheme_of", "unfit_authority"]

#: The scheme, and the authority: what stands between `//` and the path (RFC 3986, section 3).
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)")
#: Some programs end the host at a backslash, some leave blanks and controls out: they would not read the same host.
_AMBIGUOUS = re.compile(r"[\\\s\x00-\x20\x7f-\x9f]")
#: An IPv6 address, or a name without the characters that have a meaning of their own; then perhaps a port.
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_][A-Za-z0-9._-]*)(?::(?P<port>[0-9]{0,5}))?")
_PORTS = {"http": 80, "https": 443}


def is_url(text: str) -> bool:
    """Return True if `text` is a URL-like source and not a path."""
    return _URL.match(text) is not None


def scheme_of(source: str) -> str:
    """Return the scheme in lower case; `file` for a plain path."""
    found = _URL.match(source)
    return found["scheme"].lower() if found else "file"


def unfit_authority(url: str) -> str | None:
    """Return why the part of a URL that names its host is not to be used, or None when it may be; paths are fine.

    The reason shows nothing of the URL, which may hold a secret. An `hf://` source names no host.
    """
    found = _URL.match(url)
    if found is None or (scheme := scheme_of(url)) == "hf":
        return None
    if _AMBIGUOUS.search(found["authority"]):
        return "has a backslash, blank or control character before its path"
    if scheme not in _PORTS:
        return None
    try:
        origin_of(url)
    except ValueError:
        return "names no host that a request can be sent to"
    return None


def origin_of(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of an http(s) URL: where a request to it goes, and what a secret belongs to.

    The host is in lower case, without the brackets of an IPv6 address, and in its ASCII form (IDNA 2008, as urllib3 has it).

    Raises:
        ValueError: when the URL is not http(s), or other programs may read another host from it.
    """
    url_parts = _URL.match(url)
    if url_parts is None or (scheme := scheme_of(url)) not in _PORTS:
        raise ValueError("not an http or https URL")
    if _AMBIGUOUS.search(authority := url_parts["authority"]):
        raise ValueError("ambiguous host")
    host = authority.rpartition("@")[2]
    if not host.isascii():
        host = _ascii_host(host)
    found = _HOST.fullmatch(host)
    port = int(found["port"] or _PORTS[scheme]) if found else 0
    if found is None or not 0 < port < 1 << 16:
        raise ValueError("no host, or a port that does not exist")
    name = found["host"].lower()
    if name.startswith("["):
        import ipaddress  # 2 ms that few addresses need

        name = name[1:-1]
        ipaddress.IPv6Address(name)
    return scheme, name, port


def is_secure(url: str) -> bool:
    """Return True if what is sent to an http(s) URL can be read only there: over https, or on this machine."""
    scheme, name, _ = origin_of(url)
    return scheme == "https" or is_loopback(name)


def is_loopback(host: str) -> bool:
    """Return True if a host, an IPv6 address without its brackets, is this machine."""
    if host.lower() == "localhost":
        return True
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def redact(url: str) -> str:
    """Return `url` as it may be shown: without user, password and query, which may be secrets."""
    if not is_url(url):
        return url
    try:
        if unfit_authority(url) is not None:  # which part of it is the host depends on who reads it
            raise ValueError
        parts = urlsplit(url)
    except ValueError:  # in what cannot be taken apart, nothing is known to be no secret
        return f"{scheme_of(url)}://…"
    host = parts.netloc if parts.scheme.lower() == "hf" else parts.netloc.rpartition("@")[2]  # a hub's `@` is a revision
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _ascii_host(host: str) -> str:
    """Return a host and port with the host as a request sends it.

    Raises:
        ValueError: when the name has no such form.
    """
    from urllib3.util import parse_url  # what reads the URL that a request is sent to

    return parse_url(f"http://{host}").netloc or ""
