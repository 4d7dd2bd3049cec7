"""Names of models, and names of files that a catalog or an index brings: neither may leave its folder."""

from __future__ import annotations

import ntpath
import os
import posixpath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from registry.catalog.names import MODEL_NAME, unsafe_file_name


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "model-00001-of-00002.safetensors",
        ".gitattributes",
        "1_Pooling/config.json",
        "onnx/model (copy).onnx",
        "..data",
        "a..b",
        "...a",
        "console.log",
        "com10",
        "nul-model.bin",
        "vocabulaire_français.txt",
        "x" * 200,
        "é" * 100,
        "/".join(["deep"] * 50),
    ],
)
def test_ordinary_file_names_are_safe(name: str) -> None:
    assert unsafe_file_name(name) is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"),
        ("..", "'..'"),
        (".", "'.'"),
        ("../model.bin", "'..'"),
        ("a/../../model.bin", "'..'"),
        ("a/..", "'..'"),
        ("./a", "'.'"),
        ("/etc/passwd", "empty path part"),
        ("a//b", "empty path part"),
        ("a/", "empty path part"),
        ("//server/share", "empty path part"),
        ("a\\b", r"'\\'"),
        ("..\\a", r"'\\'"),
        ("\\\\server\\share", r"'\\'"),
        ("C:x", "':'"),
        ("C:/x", "':'"),
        ("file.txt:stream", "':'"),
        ("a\0b", r"'\x00'"),
        ("a\nb", r"'\n'"),
        ("\x1b[31m", r"'\x1b'"),
        ("a\x7f", r"'\x7f'"),
        ("a*", "'*'"),
        ("a?", "'?'"),
        ("<a", "'<'"),
        ("a|b", "'|'"),
        ('a"', "'\"'"),
        ("\ud800", r"'\ud800'"),
        ("CON", "reserved"),
        ("con", "reserved"),
        ("Aux.txt", "reserved"),
        ("nul.tar.gz", "reserved"),
        ("a/PRN/b", "reserved"),
        ("com1", "reserved"),
        ("LPT9.bin", "reserved"),
        ("com\u00b9", "reserved"),
        ("a.", "ends with a dot"),
        ("a /b", "blank"),
        (" a", "blank"),
        ("...", "ends with a dot"),
        ("x" * 201, "200 bytes"),
        ("é" * 101, "200 bytes"),
        ("a/" + "x" * 100_000, "200 bytes"),
    ],
)
def test_a_name_that_is_unsafe_anywhere_is_unsafe(name: str, reason: str) -> None:
    found = unsafe_file_name(name)
    assert found is not None and reason in found


@settings(deadline=None)
@given(st.text(max_size=30) | st.text("a./\\:. ~-\0CON\u00b9", max_size=12))
@example("..")
@example("C:")
@example("a/../..")
def test_an_accepted_name_stays_inside_its_folder(name: str) -> None:
    if unsafe_file_name(name) is not None:
        return
    for flavour, folder in ((posixpath, "/cache/blobs"), (ntpath, "C:\\cache\\blobs")):
        path = flavour.normpath(flavour.join(folder, name))
        assert path.startswith(folder + flavour.sep)
        # Nothing was folded away: two names never meet in one file.
        assert path == folder + flavour.sep + name.replace("/", flavour.sep)
    assert all(len(os.fsencode(part)) <= 200 for part in name.split("/"))


@pytest.mark.parametrize("name", ["bert-base-uncased", "gpt2", "acme/support.v2", "a", "0", "A_b-c.d/e", "x" * 500])
def test_model_names(name: str) -> None:
    assert MODEL_NAME.fullmatch(name)


@pytest.mark.parametrize(
    "name", ["", "-a", ".a", "_a", "a b", "a/", "/a", "a//b", "a/../b", "a/.b", "a:b", "hf://a", "a@b", "ü", "a\n", "a\\b"]
)
def test_no_model_names(name: str) -> None:
    assert not MODEL_NAME.fullmatch(name)
