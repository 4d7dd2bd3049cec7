"""The strings that say where files lie, and what of them may be shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.store.source import is_url, redact, scheme_of


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
