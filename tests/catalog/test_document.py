"""YAML into nodes: what YAML 1.2's core schema says of scalars, and the place of everything that is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from registry.catalog import yaml_nodes as document
from registry.catalog.yaml_nodes import Node, parse
from registry.errors import CatalogError


@pytest.fixture(params=["C", "Python"], autouse=True)
def either_parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test with both of PyYAML's parsers: a machine may have only the second."""
    if request.param == "Python":
        monkeypatch.setattr(document, "LOADER", yaml.SafeLoader)
    elif document.LOADER is yaml.SafeLoader:
        pytest.skip("PyYAML has no C parser here")


def value_of(text: str) -> Any:
    node = parse(text, "models.yaml")
    assert node is not None
    return node.plain()


def error_of(text: str) -> CatalogError:
    with pytest.raises(CatalogError) as caught:
        parse(text, "models.yaml")
    return caught.value


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        # https://yaml.org/spec/1.2.2/#103-core-schema, and the strings that YAML 1.1 made something else of.
        *((null, None) for null in ("", "~", "null", "Null", "NULL")),
        *((true, True) for true in ("true", "True", "TRUE")),
        *((false, False) for false in ("false", "False", "FALSE")),
        *((word, word) for word in ("on", "On", "ON", "off", "yes", "Yes", "no", "NO", "y", "n", "nUll", "tRUE", "None")),
        ("0", 0),
        ("7", 7),
        ("-19", -19),
        ("+12", 12),
        ("012", 12),
        ("-0", 0),
        ("0o7", 7),
        ("0o14", 12),
        ("0x3A", 58),
        ("0xff", 255),
        ("0o8", "0o8"),
        ("0xG", "0xG"),
        ("0X1", "0X1"),
        ("0b1", "0b1"),
        ("-0x1", "-0x1"),
        ("-0o1", "-0o1"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("190:20:30", "190:20:30"),
        ("0.", 0.0),
        ("-0.0", -0.0),
        (".5", 0.5),
        ("+12e03", 12000.0),
        ("-2E+05", -200000.0),
        ("12.5e-1", 1.25),
        ("1e3", 1000.0),
        ("1e", "1e"),
        (".", "."),
        ("e3", "e3"),
        ("1.2.3", "1.2.3"),
        ("\u0663", "\u0663"),  # a digit of Unicode is no digit of YAML
        ("2026-05-01", "2026-05-01"),
        ("=", "="),
        ("<<", "<<"),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("+.INF", math.inf),
        ("inf", "inf"),
        (".iNF", ".iNF"),
        ("nan", "nan"),
        ("-.nan", "-.nan"),
        ("9" * 100, 10**100 - 1),
    ],
)
def test_plain_scalars_follow_the_core_schema(written: str, meant: object) -> None:
    found = value_of(f"key: {written}")
    assert found == {"key": meant}
    assert type(found["key"]) is type(meant)


@pytest.mark.parametrize("written", [".nan", ".NaN", ".NAN"])
def test_not_a_number_is_one_of_three_words(written: str) -> None:
    assert math.isnan(value_of(f"key: {written}")["key"])


@pytest.mark.parametrize("word", ["true", "null", "12", "0x1F", "1e3", ".inf", ""])
@pytest.mark.parametrize("style", ["'{}'", '"{}"', "|-\n  {}", ">-\n  {}"])
def test_what_is_quoted_or_a_block_is_text(word: str, style: str) -> None:
    assert value_of("key: " + style.format(word)) == {"key": word}


def test_keys_are_the_words_that_were_written() -> None:
    assert value_of("1: a\ntrue: b\n0x10: c\n~: d\n'': e") == {"1": "a", "true": "b", "0x10": "c", "~": "d", "": "e"}


def test_a_merge_key_is_an_ordinary_key() -> None:
    assert value_of("<<: {a: 1}\nb: 2") == {"<<": {"a": 1}, "b": 2}


def test_nodes_know_their_places() -> None:
    root = parse("# a comment\nfirst:\n  - {é: x, second: [1, 2]}\n", "models.yaml")
    assert root is not None
    key, items = root.value["first"]
    assert (key.line, key.column) == (2, 1)
    assert (items.line, items.column) == (3, 3)
    key, numbers = items.value[0].value["second"]
    assert (key.line, key.column) == (3, 12)
    assert [(node.line, node.column) for node in numbers.value] == [(3, 21), (3, 24)]


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "\ufeff"])
def test_a_file_without_a_document_is_nothing(text: str) -> None:
    assert parse(text, "models.yaml") is None


def test_a_document_without_content_is_empty() -> None:
    assert value_of("---\n") is None


def test_a_byte_order_mark_is_no_content() -> None:
    assert value_of("\ufeffkey: 1") == {"key": 1}


def test_a_document_may_be_marked() -> None:
    assert value_of("%YAML 1.2\n---\nkey: 1\n...\n") == {"key": 1}


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, 1, ["'a'", "twice", "line 1"]),
        ("{a: 1, a: 2}", 1, 8, ["'a'", "twice"]),
        ('a: 1\n"a": 2\n', 2, 1, ["'a'", "twice"]),
        ("x:\n  on: 1\n  'on': 2\n", 3, 3, ["'on'", "twice", "line 2"]),
        ("a: !!python/object:os.system {}", 1, 4, ["tags", "python/object:os.system"]),
        ("a: !!python/object/apply:os.system [id]", 1, 4, ["tags", "os.system"]),
        ("!!map {a: 1}", 1, 1, ["tags", "'tag:yaml.org,2002:map'"]),
        ("a: !!str 1", 1, 4, ["tags", "'tag:yaml.org,2002:str'"]),
        ("a: ! 1", 1, 4, ["tags", "'!'"]),
        ("a: !mine 1", 1, 4, ["tags", "'!mine'"]),
        ("a:\n  - !!int '1'\n", 2, 5, ["tags"]),
        ("!!str a: 1", 1, 1, ["tags"]),
        ("a: &x 1\nb: *x\n", 1, 4, ["anchors", "base:"]),
        ("a: 1\nb: *x\n", 2, 4, ["aliases"]),
        ("a: &x [*x]", 1, 4, ["anchors"]),
        ("b: {<<: *x}", 1, 9, ["aliases"]),
        ("&x a: 1", 1, 1, ["anchors"]),
        ("a: 1\n---\nb: 2\n", 2, 1, ["one YAML document", "second"]),
        ("[a]: b", 1, 1, ["key", "word"]),
        ("? {a: b}\n: c\n", 1, 3, ["key", "word"]),
        ("? - a\n: c\n", 1, 3, ["key", "word"]),
        ("\ta: 1", 1, 1, ["YAML", "cannot start any token"]),
        ("a:\n\tb: 1\n", 2, 1, ["YAML", "cannot start any token"]),
        ("a: b: c", 1, 5, ["YAML", "not allowed"]),
        ("a: 1\n b: 2\n", 2, 3, ["YAML"]),
        ("a: @x", 1, 4, ["YAML", "cannot start any token"]),
        ("a: 'open\n", 2, 1, ["YAML", "end of stream"]),
        ("%YAML 2.0\n---\na: 1\n", 1, 1, ["YAML", "incompatible"]),
        ("a: \0", 1, 4, [r"'\x00'", "remove"]),
        ("é: é\n  # é \x01\n", 2, 7, [r"'\x01'"]),
        ("a: \x1b[31m", 1, 4, [r"'\x1b'"]),
        ("a: \x7f", 1, 4, [r"'\x7f'"]),
        ("a:\n\r\n\ud800", 3, 1, [r"'\ud800'"]),
        ("a: " + "9" * 101, 1, 4, ["100 digits"]),
        ("a: " + "9" * 5000, 1, 4, ["100 digits"]),
        ("a: [1, -0x" + "f" * 5000 + ", 0x" + "f" * 5000 + "]", 1, 5013, ["100 digits"]),
    ],
)
def test_what_is_refused_has_its_place(text: str, line: int, column: int, words: list[str]) -> None:
    error = error_of(text)
    assert (error.file, error.line, error.column) == ("models.yaml", line, column)
    assert str(error).startswith(f"[R201] models.yaml:{line}:{column}: ")
    for word in words:
        assert word in error.problem


DEEP = 100_000


@pytest.mark.parametrize(
    "text",
    [
        "[" * DEEP,
        "[" * DEEP + "]" * DEEP,
        "a: " + "[" * DEEP,
        "{" * DEEP,
        "{a: " * DEEP,
        "- " * DEEP,
        "? " * DEEP,
        "[? " * DEEP,
        "\n".join(" " * depth + "a:" for depth in range(1000)),
    ],
    ids=["lists", "closed lists", "list in a key", "mappings", "keyed mappings", "block lists", "keys", "list keys", "block"],
)
def test_nesting_without_end_is_an_error_with_a_place(text: str) -> None:
    error = error_of(text)
    assert "at most 40 deep" in error.problem


def test_forty_levels_are_no_nesting_without_end() -> None:
    assert json.dumps(value_of("[" * 40 + "]" * 40)) == "[" * 40 + "]" * 40
    assert error_of("[" * 42 + "]" * 42).column == 42


def test_a_long_wrong_value_is_not_shown_whole() -> None:
    assert len(error_of("a: !" + "x" * 100_000 + " 1").problem) < 200
    assert len(Node("x" * 100_000, 1, 1).kind) < 100


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({}, "a mapping"),
        ([], "a list"),
        (None, "empty"),
        (1.5, "the float 1.5"),
        ("no", "the str 'no'"),
        (True, "the bool True"),
    ],
)
def test_a_node_says_what_it_is(value: object, kind: str) -> None:
    assert Node(value, 1, 1).kind == kind


YAML_TEXT = st.text("abé:-?[]{},&*!|>'\"%@#~ \t\n\r\\0123456789.eox_<=\ufeff\x85\u2028\x00\ud800", max_size=60)


@settings(deadline=None)
@given(YAML_TEXT | st.text(max_size=60))
@example('"\\UFFFFFFFF"')
@example("%YAML 1.1\n--- [")
@example("%YAML 1." + "9" * 5000 + "\n---\na")
@example("? ")
@example("- !")
@example("!<")
def test_any_text_is_read_or_refused_and_nothing_else_happens(text: str) -> None:
    try:
        node = parse(text, "models.yaml")
    except CatalogError as error:
        assert error.line >= 1 and error.column >= 1
    else:
        assert node is None or isinstance(node, Node)


# JSON is YAML, but for what JSON writes as is (DEL), and for pairs of surrogate escapes.
JSON_TEXT = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"], exclude_characters="\x7f"), max_size=30)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | JSON_TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(JSON_TEXT, inner, max_size=5),
    max_leaves=20,
)


@settings(deadline=None)
@given(JSON_VALUES)
def test_json_comes_back_as_it_was(value: object) -> None:
    assert value_of(json.dumps(value)) == value
