"""What is sent, and trusted, at each server: a secret belongs to one origin and is never sent to another."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from registry.base.names import maybe_user_path
from registry.base.urls import is_secure, origin_of
from registry.catalog.entry import Host
from registry.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import requests

__all__ = ["Credentials", "checked_token", "token_of"]

_PORTS = {"http": 80, "https": 443}


class Credentials:
    """What the catalog's `hosts:`, an address itself and `.netrc` say of servers, in this order."""

    def __init__(self, hosts: Mapping[str, Host]) -> None:
        self._hosts = hosts

    def sign(self, request: requests.PreparedRequest) -> None:
        """Add what proves to the server of a prepared request who asks: its URL is the one that the connection goes to.

        A token of the catalog goes before what stands in the address; `.netrc` is the last resort. Tokens and `.netrc` are
        for https, or for this machine.
        """
        from requests.auth import HTTPBasicAuth

        url = request.url or ""
        if token := self.token(url):
            name, value = token
            request.headers[name] = value
            return
        parts = urlsplit(url)
        if parts.username is not None:
            HTTPBasicAuth(unquote(parts.username), unquote(parts.password or ""))(request)
        elif is_secure(url) and maybe_user_path(os.environ.get("NETRC", "~")):  # else requests takes `~` for a folder's name
            from requests.utils import get_netrc_auth

            if found := get_netrc_auth(url):
                HTTPBasicAuth(*found)(request)

    def token(self, url: str) -> tuple[str, str] | None:
        """Return the secret header of this URL's origin and its value, where the catalog names one and it is safe to send."""
        host = self._host(url)
        if host is None or host.token_env is None or not is_secure(url):
            return None
        if not (token := token_of(host.token_env)):
            return None
        return host.header, f"Bearer {token}" if host.header.lower() == "authorization" else token

    def advice(self, request: requests.PreparedRequest) -> str:
        """Return what to do when the server of a request refuses whoever it takes us for."""
        url = request.url or ""
        host = self._host(url)
        _, name, port = origin_of(url)
        shown = f"[{name}]" if ":" in name else name
        shown = shown if port in _PORTS.values() else f"{shown}:{port}"
        if host is None or host.token_env is None:
            if "Authorization" in request.headers:
                return f"check the user and password for {shown} in the address or .netrc"
            where = (
                f"the entry of {host.name} ({host.origin}) names no token_env" if host else f"no `hosts:` entry names {shown}"
            )
            return (
                f"{where}, so no token was sent: write `hosts: {{{shown!r}: {{token_env: VARIABLE}}}}` into your own "
                "models.yaml and set that variable"
            )
        if not token_of(host.token_env):
            return f"{host.token_env}, which is to hold the token of {host.name} ({host.origin}), is not set; set it"
        if host.header not in request.headers:
            return f"the token in {host.token_env} ({host.origin}) is sent over https only, without a proxy that reads it"
        return f"check the token in {host.token_env} ({host.origin})"

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
    return checked_token(os.environ.get(variable, "").strip(), variable)


def checked_token(token: str, where: str) -> str:
    """Return a token, of which only `where` is shown.

    Raises:
        ConfigError: when no header can carry it.
    """
    if not re.fullmatch(r"[\x21-\x7e]*", token):
        raise ConfigError(f"{where} is expected to hold a token of plain characters, but has others in it")
    return token
