"""Names of models, and names of files that a catalog or an index brings: neither may leave its folder."""

from __future__ import annotations

import ntpath
import os
import posixpath
import unicodedata
from pathlib import PureWindowsPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from registry.base.names import MODEL_NAME, twin_key, unsafe_file_name


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
        "/".join(["x" * 199] * 5),
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
        ("a\\..\\b", r"'\\'"),
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
        ("a\udfff.bin", r"'\udfff'"),
        ("\udce9", r"'\udce9'"),
        ("CON", "reserved"),
        ("con", "reserved"),
        ("con.txt", "reserved"),
        ("con .txt", "reserved"),
        ("CONIN$", "reserved"),
        ("a/conout$.bin", "reserved"),
        ("Aux.txt", "reserved"),
        ("nul.tar.gz", "reserved"),
        ("a/PRN/b", "reserved"),
        ("com1", "reserved"),
        ("LPT9.bin", "reserved"),
        ("com\u00b9", "reserved"),
        ("a.", "ends with a dot"),
        ("a /b", "blank"),
        ("a ", "blank"),
        ("a./b", "ends with a dot"),
        (" a", "blank"),
        ("...", "ends with a dot"),
        ("x" * 201, "200 bytes"),
        ("x" * 300, "200 bytes"),
        ("é" * 101, "200 bytes"),
        ("a/" + "x" * 100_000, "200 bytes"),
        ("/".join(["x" * 199] * 5) + "/x", "1000 bytes in all"),
        ("/".join(["é" * 99] * 6), "1000 bytes in all"),
        ("a/" * 50_000 + "a", "1000 bytes in all"),
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
    assert not any(is_reserved(part) for part in name.split("/"))


def is_reserved(part: str) -> bool:
    """Ask Python itself whether Windows would take this for a device."""
    newer = getattr(ntpath, "isreserved", None)  # from Python 3.13, where pathlib's is deprecated
    return bool(newer(part)) if newer else PureWindowsPath(part).is_reserved()


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("config.json", "Config.json"),
        ("Sub/vocab.txt", "sub/VOCAB.TXT"),
        ("caf\u00e9.txt", "cafe\u0301.txt"),
        ("CAF\u00c9.txt", "cafe\u0301.txt"),
        ("stra\u00dfe", "STRASSE"),
        ("\u212bngstrom", "\u00e5ngstrom"),  # the unit's sign and the letter
        ("\u212a.bin", "k.bin"),  # the sign of kelvin
        ("\uac00", "\u1100\u1161"),  # one syllable of Hangul, and its letters
        ("\u03c3", "\u03c2"),  # sigma, and sigma at a word's end
        ("q\u0307\u0323", "q\u0323\u0307"),  # dots above and below, in either order
    ],
)
def test_names_that_some_file_system_takes_for_one_are_twins(left: str, right: str) -> None:
    assert left != right and twin_key(left) == twin_key(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("config.json", "config.jso"),
        ("cafe", "caf\u00e9"),
        ("a/b", "ab"),
        ("a-1", "a_1"),
        ("o", "\u00f8"),
        ("2", "\u00b2"),  # alike only in the compatibility forms, which no file system uses
        ("i", "\u0131"),
    ],
)
def test_names_that_every_file_system_keeps_apart_are_no_twins(left: str, right: str) -> None:
    assert twin_key(left) != twin_key(right)


@settings(deadline=None)
@given(st.text(max_size=20))
@example("\u0345\u0301")
@example("\ud800")
def test_every_spelling_of_a_name_is_its_twin(name: str) -> None:
    key = twin_key(name)
    assert twin_key(key) == key
    for form in ("NFC", "NFD"):
        assert twin_key(unicodedata.normalize(form, name)) == key
    if "\u0345" not in unicodedata.normalize("NFD", name):  # the one mark whose folding is a letter, which no longer moves
        assert twin_key(name.casefold()) == key


@pytest.mark.parametrize("name", ["bert-base-uncased", "gpt2", "acme/support.v2", "a", "0", "A_b-c.d/e", "x" * 200])
def test_model_names(name: str) -> None:
    assert MODEL_NAME.fullmatch(name)


@pytest.mark.parametrize(
    "name", ["", "-a", ".a", "_a", "a b", "a/", "/a", "a//b", "a/../b", "a/.b", "a:b", "hf://a", "a@b", "ü", "a\n", "a\\b"]
)
def test_no_model_names(name: str) -> None:
    assert not MODEL_NAME.fullmatch(name)
