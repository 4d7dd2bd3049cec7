"""The strings that say where files lie, and what of them may be shown."""

from __future__ import annotations

import random
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter

from registry.base.urls import is_loopback, is_secure, is_url, origin_of, redact, scheme_of, unfit_authority


@pytest.mark.parametrize(
    ("source", "scheme"),
    [
        ("https://a/b", "https"),
        ("HTTPS://a/b", "https"),
        ("hf://org/repo@main", "hf"),
        ("package://module/path", "package"),
        ("file:///a", "file"),
        ("/a/b", "file"),
        ("./b", "file"),
        ("name", "file"),
        ("C:/windows", "file"),
        ("://odd", "file"),
    ],
)
def test_the_scheme_of_a_source(source: str, scheme: str) -> None:
    assert scheme_of(source) == scheme
    assert is_url(source) == (scheme != "file" or source.startswith("file://"))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:hunter2@host:8080/a/b.bin?token=x#part", "https://host:8080/a/b.bin"),
        ("https://tok@host/a", "https://host/a"),
        ("HTTP://me:p@ss@host/a", "http://host/a"),
        ("hf://org/repo@main/config.json", "hf://org/repo@main/config.json"),
        ("s3://bucket/key?secret=x", "s3://bucket/key"),
        ("s3://AKIA:hunter2@bucket/key", "s3://bucket/key"),
        ("/a/plain path?x", "/a/plain path?x"),
    ],
)
def test_user_password_and_query_are_not_shown(url: str, shown: str) -> None:
    assert redact(url) == shown


@pytest.mark.parametrize(
    "url", ["https://me:hunter2@[::1/a?token=hunter2", "http://[hunter2]/a", "https://me:hunter2@ho\u2100st/a"]
)
def test_a_broken_url_is_not_shown_at_all(url: str) -> None:
    assert "hunter2" not in redact(url)


@given(st.sampled_from(["http", "https"]), st.text(), st.text())
def test_no_url_breaks_what_shows_it(scheme: str, rest: str, query: str) -> None:
    shown = redact(f"{scheme}://me:SECRET@{rest}?token=SECRET{query}")
    assert "token=SECRET" not in shown or "?" in rest


#: Pieces of which odd addresses are made: what ends a host for one program or another, and what they leave out.
PIECES = [
    *(
        "evil.example",
        "good.example",
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0x7f.1",
        "2130706433",
        "ü.example",
    ),
    *("\\", "@", "/", "//", "?", "#", ":", "::", ":80", ":443", ":0", ":65536", ":٣", "%", "%40", "%2f", "%5c", "%00", "."),
    *(
        " ",
        "\t",
        "\n",
        "\r",
        "\x00",
        "\x0b",
        "\x1f",
        "\x7f",
        "\x85",
        "\xa0",
        "\u2028",
        "\u3000",
        "\ufeff",
        "\u200b",
        "℀",
        "．",
        "。",
        "＠",
    ),
    *(
        "[",
        "]",
        "user",
        "user:pw@",
        "*",
        "_",
        "-",
        "..",
        "ß",
        "İ",
        ";",
        ",",
        "'",
        '"',
        "<",
        "|",
        "`",
        "{",
        "~",
        "!",
        "$",
        "&",
        "+",
        "=",
    ),
]


def connects_to(url: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port that requests opens a connection to, or None when it refuses the URL."""
    try:
        prepared = requests.Request("GET", url).prepare()
        attributes: tuple[dict[str, Any], Any] = HTTPAdapter().build_connection_pool_key_attributes(prepared, True)
    except ValueError:  # all its own errors about URLs are such
        return None
    host = attributes[0]
    return host["scheme"], (host["host"] or "").strip("[]"), host["port"] or {"http": 80, "https": 443}[host["scheme"]]


def test_our_reading_of_an_address_is_that_of_the_request() -> None:
    draw = random.Random(420)
    agreed = refused = 0
    for _ in range(20_000):
        url = draw.choice(["http://", "https://", "HTTP://"]) + "".join(draw.choices(PIECES, k=draw.randint(1, 6)))
        try:
            ours = origin_of(url)
        except ValueError:
            assert unfit_authority(url)
            refused += 1
            continue
        assert unfit_authority(url) is None
        theirs = connects_to(url)
        assert theirs in (ours, None), url
        agreed += theirs is not None
    assert agreed > 1000 and refused > 1000


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Good.Example/a", ("https", "good.example", 443)),
        ("HTTPS://good.example:8443", ("https", "good.example", 8443)),
        ("http://me:p@ss@good.example:/a@b", ("http", "good.example", 80)),
        ("https://[::1]:8080/a", ("https", "::1", 8080)),
        ("https://good.example?@evil.example/", ("https", "good.example", 443)),
        ("https://good.example#@evil.example/", ("https", "good.example", 443)),
        ("https://bücher.example/", ("https", "xn--bcher-kva.example", 443)),
        ("http://registry_1:80/", ("http", "registry_1", 80)),
    ],
)
def test_the_origin_of_an_address(url: str, origin: tuple[str, str, int]) -> None:
    assert origin_of(url) == origin == connects_to(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example\\@good.example/",
        "http://evil.example\\@127.0.0.1/",
        "https://good.example\\.evil.example/",
        "https://evil.example\t@good.example/",
        "https://evil.example @good.example/",
        "https://good.\nexample/",
        "https://good.example\x00/",
        "https://good.example\u2028/",
        "https://good.example:0/",
        "https://good.example:65536/",
        "https://good.example:٣/",
        "https://good%2eexample/",
        "https://[::1/",
        "https://[::1]x/",
        "https://[1.2.3.4]/",
        "https:///path",
        "https://",
        "https://.example/",
        "https://*.example/",
    ],
)
def test_an_address_whose_host_is_unclear_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ValueError):
        origin_of(url)
    assert unfit_authority(url)
    assert redact(url) == "https://…" or redact(url) == "http://…"


@pytest.mark.parametrize("url", ["s3://bu\\cket/key", "package://mod ule/a", "file://ho\\st/a"])
def test_no_scheme_takes_a_backslash_or_blank_for_a_host(url: str) -> None:
    assert unfit_authority(url)


@pytest.mark.parametrize(
    "url", ["s3://bucket/a b", "file:///a b/c", "hf://org/a", "a b\\c", "https://h/a b\\c", "package://m/a b"]
)
def test_a_path_may_hold_what_a_host_may_not(url: str) -> None:
    assert unfit_authority(url) is None


def test_only_https_and_this_machine_are_secure() -> None:
    assert is_secure("https://h/") and is_secure("http://127.0.0.1:8/") and is_secure("http://[::1]/")
    assert not is_secure("http://h/") and not is_secure("http://127.0.0.1.h/")
    with pytest.raises(ValueError):
        is_secure("http://h\\@localhost/")


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True),
        ("LocalHost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("0:0:0:0:0:0:0:1", True),
        ("126.255.255.255", False),
        ("127.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("[::1]", False),
        ("localhost.", False),
        ("mylocalhost", False),
        ("", False),
    ],
)
def test_only_loopback_is_this_machine(host: str, here: bool) -> None:
    assert is_loopback(host) is here
