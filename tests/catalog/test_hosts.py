"""Headers that may carry a token, and mirrors that may stand in for a host."""

from __future__ import annotations

import ipaddress
import string
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from urllib3.util import parse_url

from registry.catalog.schema import unfit_header, unfit_mirror


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "authorization",
        "X-Private-Token",
        "PRIVATE-TOKEN",
        "X-JFrog-Art-Api",
        "Job-Token",
        "x",
        "!#$%&'*+-.^_`|~0",
    ],
)
def test_headers_that_may_carry_a_token(name: str) -> None:
    assert unfit_header(name) is None


#: What a request says itself, then what is of one connection (RFC 9110, section 7.6.1), then state, then the proxy's.
NEEDED = """
Host Content-Length Content-Type Content-Encoding Accept Accept-Encoding User-Agent Range If-Range If-None-Match Expect
Connection Keep-Alive TE Trailer Transfer-Encoding Upgrade Cookie Set-Cookie Proxy-Connection Proxy-Authorization
"""


@pytest.mark.parametrize("name", [*NEEDED.split(), "HOST", "range", "cOOKIE", "proxy-anything", "if-anything"])
def test_a_header_that_the_connection_needs_carries_no_token(name: str) -> None:
    reason = unfit_header(name)
    assert reason is not None and repr(name) in reason


@pytest.mark.parametrize(
    "name",
    ["", " ", "X Token", "X-Token:", "X-Token: s3cr", "X-T\r\nHost", "X-T\n", ":authority", "(x)", "a/b", "X-Tökén", "X\0"],
)
def test_what_is_no_header_name_is_refused_and_not_shown(name: str) -> None:
    reason = unfit_header(name)
    assert reason is not None and "is not one" in reason and "s3cr" not in reason


#: `tchar` of RFC 9110, section 5.6.2.
TCHAR = set(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~")


@given(st.text(max_size=12) | st.text("aX-:_ \r\n\t~", max_size=6))
def test_every_accepted_header_is_a_token_of_the_standard(name: str) -> None:
    reason = unfit_header(name)
    is_token = bool(name) and set(name) <= TCHAR
    assert is_token or reason is not None
    assert not is_token or reason is None or repr(name) in reason


@pytest.mark.parametrize(
    "url",
    [
        "https://mirror.example",
        "https://mirror.example/",
        "HTTPS://Mirror.Example:8443/a/b%20c/~x/@v1/;p=1",
        "https://10.0.0.1/hub/",
        "https://[2001:db8::1]:8443/hub",
        "http://localhost:8080/",
        "http://LOCALHOST/",
        "http://127.0.0.1:1",
        "http://127.255.0.9/x",
        "http://[::1]:9000/x",
    ],
)
def test_mirrors_that_may_stand_in_for_a_host(url: str) -> None:
    assert unfit_mirror(url) is None


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://mirror.example/", "http, which only this machine"),
        ("HTTP://mirror.example/", "http, which only this machine"),
        ("http://10.0.0.1/", "http, which only this machine"),
        ("http://128.0.0.1/", "http, which only this machine"),
        ("http://0.0.0.0/", "http, which only this machine"),
        ("http://[::2]/", "http, which only this machine"),
        ("http://localhost.evil.example/", "http, which only this machine"),
        ("http://127.0.0.1.evil.example/", "http, which only this machine"),
        ("https://s3cr@h/", "user"),
        ("https://u:s3cr@h/", "password"),
        ("https://@h/", "user"),
        ("https://h/?t=s3cr", "query"),
        ("https://h/?", "query"),
        ("https://h/#s3cr", "fragment"),
        ("https://h/#", "fragment"),
        ("https:///a", "host"),
        ("https://", "host"),
        ("https:h/a", "host"),
        ("//h/a", "host"),
        ("h/a", "host"),
        ("./copy", "host"),
        ("", "host"),
        ("ftp://h/", "host"),
        ("file:///a", "host"),
        ("hf://org/repo", "host"),
        ("https://h:0/", "port"),
        ("https://h:65536/", "is not one"),
        ("https://h:x/", "is not one"),
        ("https://[::1/", "is not one"),
        ("https://[1:2]/", "is not one"),
        ("https://h\\@evil/", "host"),
        ("https://h/a b", "path"),
        ("https://h/a\nb", "path"),
        (" https://h/", "host"),
        ("https://h/\n", "path"),
        ("https://ä.example/", "host"),
    ],
)
def test_mirrors_that_may_not(url: str, reason: str) -> None:
    found = unfit_mirror(url)
    assert found is not None and reason in found and "s3cr" not in found


PARTS = [
    "http",
    "https",
    "HTTP",
    ":",
    "//",
    "/",
    "\\",
    "@",
    "?",
    "#",
    "[",
    "]",
    "::1",
    "127.0.0.1",
    "localhost",
    "h",
    ".",
    "%2f",
    "\t",
    ":80",
    "é",
]


@given(st.lists(st.sampled_from(PARTS), max_size=8).map("".join) | st.text(max_size=20).map("https://".__add__))
@example("http://localhost\\@h/")
@example("http://h/@localhost")
@example("http://h\\.localhost/")
def test_an_accepted_mirror_holds_no_secret_and_two_parsers_agree_on_its_host(url: str) -> None:
    if unfit_mirror(url) is not None:
        return
    ours, theirs = urlsplit(url), parse_url(url)  # the latter is what sends the request
    assert theirs.auth is None and not theirs.query and not theirs.fragment
    host = (theirs.host or "").strip("[]")
    assert host and host == ours.hostname and theirs.port == ours.port
    assert theirs.scheme == "https" or host == "localhost" or ipaddress.ip_address(host).is_loopback
