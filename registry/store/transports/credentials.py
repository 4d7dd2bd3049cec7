"""What is sent, and trusted, at each server: a secret belongs to one origin and is never sent to another."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from urllib.parse import unquote, urlsplit

from registry.catalog.hosts import is_loopback
from registry.catalog.raw import Host
from registry.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import requests

__all__ = ["Credentials", "is_secure", "origin_of", "token_of"]

_PORTS = {"http": 80, "https": 443}

Auth = Callable[["requests.PreparedRequest"], "requests.PreparedRequest"]


class Credentials:
    """What the catalog's `hosts:`, an address itself and `.netrc` say of servers, in this order."""

    def __init__(self, hosts: Mapping[str, Host]) -> None:
        self._hosts = hosts

    def for_url(self, url: str) -> Auth:
        """Return what signs a request: always something, or requests would look into `.netrc` by itself.

        A token of the catalog goes before what stands in the address; `.netrc` is the last resort. Tokens and `.netrc` are
        for https, or for this machine.
        """
        if token := self.token(url):
            return _header(*token)
        parts = urlsplit(url)
        if parts.username is not None:
            return _basic(unquote(parts.username), unquote(parts.password or ""))
        if is_secure(url):
            from requests.utils import get_netrc_auth

            if found := get_netrc_auth(url):
                return _basic(*found)
        return lambda request: request

    def token(self, url: str) -> tuple[str, str] | None:
        """Return the secret header of this URL's origin and its value, where the catalog names one and it is safe to send."""
        host = self._host(url)
        if host is None or host.token_env is None or not is_secure(url):
            return None
        if not (token := token_of(host.token_env)):
            return None
        return host.header, f"Bearer {token}" if host.header.lower() == "authorization" else token

    def ca_file(self, url: str) -> str | None:
        """Return the file of certificates to trust for this URL; None for what requests uses by itself.

        The catalog's goes first, then `REQUESTS_CA_BUNDLE` and `CURL_CA_BUNDLE`, which requests reads, then `SSL_CERT_FILE`.
        """
        host = self._host(url)
        if host is not None and host.ca_file is not None:
            return host.ca_file
        if os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE"):
            return None
        return os.environ.get("SSL_CERT_FILE") or None

    def parallelism(self, url: str) -> int | None:
        """Return how many connections the catalog allows to this URL's host at once."""
        host = self._host(url)
        return host.parallelism if host is not None else None

    def mirrors(self, url: str) -> tuple[str, ...]:
        """Return the same URL at each of its host's mirrors."""
        host = self._host(url)
        if host is None:
            return ()
        parts = urlsplit(url)
        rest = parts.path + (f"?{parts.query}" if parts.query else "")
        return tuple(mirror.rstrip("/") + rest for mirror in host.mirrors)

    def _host(self, url: str) -> Host | None:
        try:
            scheme, name, port = origin_of(url)
        except ValueError:  # what is no address has no host
            return None
        shown = f"[{name}]" if ":" in name else name
        host = self._hosts.get(f"{shown}:{port}")
        if host is None and port == _PORTS.get(scheme):  # a host without a port is its scheme's own
            host = self._hosts.get(shown)
        return host


def token_of(variable: str) -> str:
    """Return the token that an environment variable holds; empty where it holds none.

    Raises:
        ConfigError: when no header can carry it.
    """
    token = os.environ.get(variable, "").strip()
    if not re.fullmatch(r"[\x21-\x7e]*", token):
        raise ConfigError(f"{variable} is expected to hold a token of plain characters, but has others in it")
    return token


def origin_of(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port: what a secret belongs to."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme, 80)


def is_secure(url: str) -> bool:
    """Whether what is sent to a URL can only be read there: over https, or on this machine."""
    scheme, name, _ = origin_of(url)
    return scheme == "https" or is_loopback(name)


def _header(name: str, value: str) -> Auth:
    def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers[name] = value
        return request

    return sign


def _basic(user: str, password: str) -> Auth:
    from requests.auth import HTTPBasicAuth

    sign: Auth = HTTPBasicAuth(user, password)
    return sign
