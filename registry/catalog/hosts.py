"""What an entry of `hosts:` may name: headers that can carry a token, and mirrors that can be trusted.

The values that are refused may hold a secret, so no reason here shows one.
"""

from __future__ import annotations

import re

from registry.base.urls import is_secure, origin_of

__all__ = ["unfit_header", "unfit_mirror"]

#: A `token` of RFC 9110, section 5.6.2.
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: What a request needs for itself, or a proxy reads on the way: a token there would break the one or reach the other.
_TAKEN = re.compile(
    r"(?i:accept(-encoding)?|connection|content-(encoding|length|type)|cookie2?|date|expect|host|http2-settings|if-.*|keep-alive"
    r"|location|max-forwards|origin|proxy-.*|range|referer|set-cookie2?|te|trailer|transfer-encoding|upgrade|user-agent|via)"
)
#: Scheme, host, port and path of RFC 3986, and nothing else: there is no place for a secret.
_MIRROR = re.compile(
    r"(?i:https?)://([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?"
)


def unfit_header(name: str) -> str | None:
    """Return why a header must not carry a token, or None when it may."""
    if not _HEADER.fullmatch(name):
        return "is not one; never write the secret itself here"
    if _TAKEN.fullmatch(name):
        return f"is {name!r}, which the connection needs for itself; write another, such as X-Private-Token"
    return None


def unfit_mirror(url: str) -> str | None:
    """Return why a URL must not stand in for a host, or None when it may."""
    try:
        origin_of(url)
        fits = _MIRROR.fullmatch(url)
    except ValueError:
        fits = None
    if not fits:
        return "is not one of only host, port and path; never write a user, a password, a query or a fragment here"
    if not is_secure(url):
        return "is http, which only this machine may be; write https://"
    return None
