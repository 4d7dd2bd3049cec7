"""Entries added to and removed from texts that people have written by hand."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from registry.catalog import yaml_nodes as document
from registry.catalog.edit.entries import add_entry, remove_entry
from registry.catalog.edit.style import flow_text, scalar_text
from registry.catalog.schema import CatalogFile, read_catalog
from registry.errors import CatalogError

FIELDS: dict[str, Any] = {"family": "bert", "source": "hf://acme/support@1f0c", "config": {"num_labels": 3}}


def models(text: str) -> dict[str, Any]:
    """Return what an independent reader of YAML finds under `models:`."""
    return yaml.safe_load(text.removeprefix("\ufeff"))["models"] or {}


# -- what is written -----------------------------------------------------------------------------------------------------


def test_a_block_gets_the_entry_at_its_end_in_its_own_style() -> None:
    text = """\
# The team's models.
registry: 1   # schema

models:
    first:    # the old one
       family: bert
       source: ./first

    # Routes mail.
    second:
       family: bert
       source: "./second"
       # head: base
    # third: soon

hosts: {}
"""
    assert add_entry(text, "acme", {**FIELDS, "description": "no: it is not"}) == text.replace(
        "    # third: soon\n",
        """\

    acme:
       family: bert
       source: hf://acme/support@1f0c
       config: {num_labels: 3}
       description: "no: it is not"
    # third: soon
""",
    )


def test_entries_on_one_line_each_get_another_such_line() -> None:
    text = "registry: 1\nmodels:\n  a: {family: bert, source: ./a}\n"
    assert add_entry(text, "b", FIELDS) == text + (
        "  b: {family: bert, source: hf://acme/support@1f0c, config: {num_labels: 3}}\n"
    )


def test_a_new_file_is_a_catalog() -> None:
    assert add_entry("", "acme", {"family": "bert", "files": {"a.bin": {"size": 3}, "b.bin": {}}}) == (
        "registry: 1\nmodels:\n  acme:\n    family: bert\n    files:\n      a.bin: {size: 3}\n      b.bin: {}\n"
    )


def test_the_section_comes_where_there_was_none() -> None:
    assert add_entry("---\nregistry: 1\n# Ours.\n...\n", "acme", {"family": "bert"}) == (
        "---\nregistry: 1\n# Ours.\n\nmodels:\n  acme:\n    family: bert\n...\n"
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{\n}", "{b: {family: bert}\n}"),
        ("{a: {family: x}}", "{a: {family: x}, b: {family: bert}}"),
        ("{a: {family: x}, }", "{a: {family: x}, b: {family: bert}, }"),
        ("{\n    a: {family: x} # ours\n  }", "{\n    a: {family: x}, # ours\n    b: {family: bert}\n  }"),
        ("{\n    a: {family: x},\n  }", "{\n    a: {family: x},\n    b: {family: bert},\n  }"),
        ('{"a": {"family": "x"}}', '{"a": {"family": "x"}, "b": {"family": "bert"}}'),
        ("\n  # none yet", "\n  b:\n    family: bert\n  # none yet"),
        ("  # ours", "  # ours\n  b:\n    family: bert"),
    ],
)
@pytest.mark.parametrize("end", ["", "\n", "\nhosts: {}\n"])
def test_a_section_in_any_style_keeps_it(before: str, after: str, end: str) -> None:
    text, added = f"registry: 1\nmodels: {before}{end}", f"registry: 1\nmodels: {after}{end}"
    assert add_entry(text, "b", {"family": "bert"}) == added
    assert remove_entry(added, "b") == text


@pytest.mark.parametrize("empty", ["{}", "{ }", "~", "null"])
@pytest.mark.parametrize("tail", ["", "  # ours"])
@pytest.mark.parametrize("end", ["", "\n", "\nhosts: {}\n"])
def test_an_empty_section_becomes_a_block(empty: str, tail: str, end: str) -> None:
    added = add_entry(f"registry: 1\nmodels: {empty}{tail}{end}", "b", {"family": "bert", "config": {"num_labels": 3}})
    assert added == f"registry: 1\nmodels:{tail}\n  b:\n    family: bert\n    config: {{num_labels: 3}}{end}"
    assert remove_entry(added, "b") == f"registry: 1\nmodels:{tail}{end}"


def test_json_stays_json() -> None:
    import json

    text = json.dumps({"registry": 1, "models": {"a": {"family": "bert", "source": "./a"}}}, indent=2)
    new = add_entry(text, "b", {**FIELDS, "override": True})
    assert json.loads(new)["models"] == {"a": {"family": "bert", "source": "./a"}, "b": {**FIELDS, "override": True}}
    assert remove_entry(new, "b") == text


def test_line_ends_the_byte_order_mark_and_a_missing_last_line_end_are_kept() -> None:
    text = "\ufeffregistry: 1\r\nmodels:\r\n  a: # ours\r\n    family: bert"
    new = add_entry(text, "b", {"family": "gpt2"})
    assert new == text + "\r\n  b:\r\n    family: gpt2"
    assert remove_entry(new, "b") == text


def test_a_kept_blank_line_of_text_stays_the_texts() -> None:
    text = "registry: 1\nmodels:\n  a:\n    description: |+\n      two\n      lines\n\n\n"
    new = add_entry(text, "b", {"family": "bert"})
    assert models(new) == {"a": {"description": "two\nlines\n\n\n"}, "b": {"family": "bert"}}
    assert remove_entry(new, "b") == text


# -- what is removed -----------------------------------------------------------------------------------------------------

SHELF = """\
registry: 1
models:
  # BERT

  # The first.
  # It has two lines.
  a:
    family: bert   # said here
    # head: base

    # config: {}
  # About b.
  b: {family: bert,
# in between
  source: x}

  c: {family: gpt2}
  # end
# far end
"""


@pytest.mark.parametrize(("name", "first", "last"), [("a", 4, 11), ("b", 12, 15), ("c", 16, 17)])
def test_an_entry_goes_with_its_own_comments_and_the_blank_line_before_it(name: str, first: int, last: int) -> None:
    lines = SHELF.splitlines(keepends=True)
    assert remove_entry(SHELF, name) == "".join(lines[: first - 1] + lines[last:])


def test_removing_all_one_after_the_other_leaves_a_catalog_of_none() -> None:
    text = SHELF
    for name in ("b", "a", "c"):
        text = remove_entry(text, name)
        assert name not in models(text)
    assert text.splitlines() == ["registry: 1", "models:", "  # BERT", "  # end", "# far end"]


@pytest.mark.parametrize(
    ("before", "name", "after"),
    [
        ("{a: 1, b: 2, c: 3}", "a", "{b: 2, c: 3}"),
        ("{a: 1, b: 2, c: 3}", "b", "{a: 1, c: 3}"),
        ("{a: 1, b: 2, c: 3}", "c", "{a: 1, b: 2}"),
        ("{a: 1, b: 2,}", "b", "{a: 1,}"),
        ("{\n  a: 1, # one\n  # two\n  b: 2\n  }", "a", "{\n  # two\n  b: 2\n  }"),
        ("{\n  a: 1, # one\n  # two\n  b: 2\n  }", "b", "{\n  a: 1 # one\n  }"),
        ("{a: 1}", "a", "{}"),
    ],
)
def test_an_entry_in_brackets_goes_with_its_comma(before: str, name: str, after: str) -> None:
    assert remove_entry(f"registry: 1\nmodels: {before}\n", name) == f"registry: 1\nmodels: {after}\n"


def test_a_broken_entry_can_be_removed() -> None:
    text = "registry: 1\nmodels:\n  a: !python/object {x: 1}\n  b: {famly: bert}\n"
    assert remove_entry(remove_entry(text, "a"), "b") == "registry: 1\nmodels:\n"


def test_blank_lines_after_an_entry_do_not_become_those_of_the_text_before_it() -> None:
    text = "registry: 1\nmodels:\n  a:\n    description: |+\n      first\n\n  b: {family: bert}\n\n\n  # About c.\n  c: {}\n"
    assert remove_entry(text, "b") == text.replace("  b: {family: bert}\n\n\n", "")


# -- replacing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["", "\n"])
def test_an_entry_is_replaced_where_it_stands(end: str) -> None:
    text = "registry: 1\nmodels:\n  # About a.\n  a:\n    family: gpt2 # was\n\n  b: # kept\n    family: gpt2" + end
    assert add_entry(text, "a", {"family": "bert"}, replace=True) == text.replace("family: gpt2 # was", "family: bert")
    assert add_entry(text, "b", {"family": "bert"}, replace=True) == text.replace(
        "b: # kept\n    family: gpt2", "b:\n    family: bert"
    )


def test_an_entry_in_brackets_is_replaced_where_it_stands() -> None:
    text = "registry: 1\nmodels: {a: {family: gpt2}, b: {}} # c\n"
    assert add_entry(text, "a", {"family": "bert"}, replace=True) == text.replace("gpt2", "bert")


# -- what is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("registry: 1\nmodels:\n  a: {family: bert}\n", "3:3", "'a' is expected to be new"),
        ("models:\n  b: {family: bert}\n", "1:1", "`registry: 1`"),
        ("- a\n- b\n", "1:1", "belongs to another program"),
        ("registry: 2\n", "1:11", "schema version 1, but is the int 2"),
        ("registry: 1\nmodels: [b]\n", "2:9", "models is expected to be a mapping, but is a list"),
        ("registry: 1\nmodels: {}\nmodels: {}\n", "3:1", "stands twice"),
        ("registry: 1\nmodels: &all {}\n", "2:9", "anchors"),
        ("registry: 1\nmodels: {b: {}\n", "3:1", "expected to be YAML"),
        ("registry: 1\n---\nregistry: 1\n", "2:1", "second one"),
        ("registry: 1\nmodels:\n  b:\n    description: |\n      x", "5:1", "last line of the file is expected to have an end"),
        ("registry: 1\nmodels: ''\n", "2:9", "models is expected to be a mapping"),
        ("{registry: 1}\n", "1:1", "add `models: {}`"),
        ("registry: 1\nmodels: \x00\n", "2:9", "character"),
    ],
)
def test_a_file_that_cannot_take_an_entry_says_where_and_why(text: str, place: str, words: str) -> None:
    with pytest.raises(CatalogError) as raised:
        add_entry(text, "a", FIELDS, "team.yaml")
    assert str(raised.value).startswith(f"[R201] team.yaml:{place}: ")
    assert words in raised.value.message


def test_a_name_that_is_not_there_cannot_be_removed() -> None:
    with pytest.raises(CatalogError, match="model 'b' is expected to stand in this file, but does not"):
        remove_entry("registry: 1\nmodels: {a: {family: bert}}\n", "b")


@pytest.mark.parametrize("replace", [False, True])
def test_of_a_name_that_stands_twice_nothing_is_guessed(replace: bool) -> None:
    text = "registry: 1\nmodels:\n  a: {family: bert}\n  a: {family: gpt2}\n"
    with pytest.raises(CatalogError, match="stands twice" if replace else "there already"):
        add_entry(text, "a", FIELDS, replace=replace)
    with pytest.raises(CatalogError, match="stands twice, first in line 3"):
        remove_entry(text, "a")


def test_half_a_character_is_refused() -> None:
    with pytest.raises(CatalogError, match="surrogate"):
        add_entry("registry: 1\n", "a", {"description": "\ud800"})


# -- values --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("bert-base", "bert-base"),
        ("https://models.acme.example:8443/a_b/", "https://models.acme.example:8443/a_b/"),
        ("hf://org/repo@refs/pr/5", "hf://org/repo@refs/pr/5"),
        ("~/models", "~/models"),
        ("two words (and more)", "two words (and more)"),
        ("", "''"),
        ("~", "'~'"),
        ("null", "'null'"),
        ("True", "'True'"),
        ("on", "'on'"),
        ("No", "'No'"),
        ("1.0", "'1.0'"),
        ("1e3", "'1e3'"),
        ("0o17", "'0o17'"),
        ("0x1f", "'0x1f'"),
        ("1_000", "'1_000'"),
        ("1:30", "'1:30'"),
        ("2026-05-01", "'2026-05-01'"),
        (".inf", "'.inf'"),
        ("=", "'='"),
        ("- a", "'- a'"),
        ("-", "'-'"),
        ("---", "'---'"),
        ("...", "'...'"),
        ("a: b", "'a: b'"),
        ("a:", "'a:'"),
        ("a #b", "'a #b'"),
        ("it's", "'it''s'"),
        ("a\nb", '"a\\nb"'),
        ("\x85\u2028\ufeff", '"\\x85\\u2028\\ufeff"'),
        (" a", "' a'"),
        ("a ", "'a '"),
        ("größe", "'größe'"),
        (True, "true"),
        (None, "null"),
        (3, "3"),
        (1e-12, "1e-12"),
        (float("inf"), ".inf"),
    ],
)
def test_scalars_have_quotes_where_some_reader_needs_them(value: object, written: str) -> None:
    assert scalar_text(value) == written


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    | st.sampled_from(
        ["on", "1:30", "2026-05-01", "0o7", "1_0", "...", "a: b", "#", "- x", "? x", "{a", "x]", "%", "&a", "*a"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab1: #-'\"\n,{é", max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(VALUES, st.sampled_from(["'", '"']), st.booleans())
def test_our_reader_reads_every_value_back(value: object, quote: str, always: bool) -> None:
    text = "registry: 1\nmodels:\n  a: " + flow_text({"x": value}, quote, always=always) + "\n"
    found = document.parse(text, "x")
    assert found is not None
    assert repr(found.plain()["models"]["a"]["x"]) == repr(value)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.from_regex(r"[0-9+.eE_:xo-]{1,8}", fullmatch=True))
def test_another_reader_reads_every_text_as_text(value: str) -> None:
    assert yaml.safe_load(f"x: {scalar_text(value)}") == {"x": value}
    assert yaml.safe_load(f"[{scalar_text(value)}, {{{scalar_text(value)}: 1}}]") == [value, {value: 1}]


# -- add, then remove ----------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["new", "org/new-1.5", "1", "true", "no", "0x1f", "2026-05-01", "1e5", "New_x"])
BLANK = st.sampled_from(["", "", "", "  ", "\t"])
WORDS = st.sampled_from(["# a", "#", "# new: {family: bert}", "#\tü € 😀", "# a: 'b", "# | > {", "#x\u2029# y"])
TAIL = st.sampled_from(["", "", "", " ", " # said", "\t# tab"])


@st.composite
def filler(draw: st.DrawFn, column: int) -> list[str]:
    """Draw blank lines and comments at, above and below a column."""
    indents = st.sampled_from([0, column, column, column + 2, column + 5]).map(lambda count: " " * count) | st.just("\t")
    comment = st.tuples(indents, WORDS).map("".join)
    return draw(st.lists(BLANK | comment, max_size=3))


@st.composite
def entry(draw: st.DrawFn, name: str, column: int, step: int) -> list[str]:
    """Draw the lines of one entry of a block, in one of many forms."""
    at, deeper, tail = " " * column, " " * (column + step), draw(TAIL)
    quoted = draw(st.sampled_from([name, f"'{name}'", f'"{name}"']))
    form = draw(st.integers(0, 9))
    if form == 0:
        return [f"{at}{quoted}: {{family: bert, source: './x # y'}}{tail}"]
    if form == 1:
        return [f"{at}{quoted}: {{family: bert,{tail}", "# between", "   source: x", f"  }}{tail}"]
    if form == 2:
        chomp = draw(st.sampled_from(["|", ">", "|+", "|-", ">+", "|2+" if step == 2 else "|"]))
        rest = draw(st.lists(st.sampled_from([deeper + "  text", "", deeper + "  # text too", deeper + "   more"]), max_size=4))
        return [f"{at}{quoted}:{tail}", f"{deeper}description: {chomp}{tail}", f"{deeper}  first", *rest]
    if form == 3:
        return [f"{at}{quoted}:{tail}"]
    if form == 4:
        return [f"{at}? {quoted}{tail}", f"{at}: {{family: bert}}{tail}"]
    if form == 5:
        return [f"{at}{quoted}:{tail}", f"{deeper}config:{tail}", f"{deeper}{deeper}labels:", f"{deeper}{deeper}- a{tail}"]
    if form == 6:
        return [f"{at}{quoted}:{tail}", f'{deeper}description: "two{draw(BLANK)}', "", f'{deeper} lines \\"#\\""{tail}']
    if form == 7:
        return [f"{at}{quoted}: !odd {{x: &y 1, z: *y}}{tail}"]
    return [
        f"{at}{quoted}:{tail}",
        f"{deeper}family: bert{draw(TAIL)}",
        *draw(filler(column + step)),
        f"{deeper}head: base{tail}",
    ]


@st.composite
def catalogs(draw: st.DrawFn) -> str:
    """Draw the text of a catalog as people leave them."""
    root = draw(st.sampled_from([0, 0, 0, 2]))
    step = draw(st.sampled_from([1, 2, 2, 4]))
    at, column = " " * root, root + step
    lines = [*draw(st.sampled_from([[], ["# Ours."], ["---"], ["%YAML 1.1", "---"], ["", "--- # start"]])), *draw(filler(root))]
    registry_line = f"{at}registry: 1{draw(TAIL)}"
    form = draw(st.sampled_from(["none", "null", "empty", "flow", "flow lines", "block", "block", "block"]))
    section: list[str] = []
    tail = draw(TAIL)
    names = draw(st.lists(st.sampled_from(["a", "b/c", "d-1", "yes", "7"]), min_size=1, max_size=4, unique=True))
    if form == "null":
        section = [f"{at}models:{tail}", *draw(filler(column))]
    elif form == "empty":
        section = [f"{at}models: {draw(st.sampled_from(['{}', '{ }', '{' + chr(10) + at + ' }']))}{tail}"]
    elif form == "flow":
        pairs = ", ".join(f"{name}: {{family: bert}}" for name in names)
        section = [f"{at}models: {{{pairs}{draw(st.sampled_from(['', ',', ' , ']))}}}{tail}"]
    elif form == "flow lines":
        section = [f"{at}models: {{{tail}"]
        for number, name in enumerate(names, start=1):
            comma = "," if number < len(names) or draw(st.booleans()) else ""
            section += [*draw(filler(column)), f"{at}  {name}: {{family: bert}}{comma}{draw(TAIL)}"]
        section += [*draw(filler(column)), f"{at} }}{tail}"]
    elif form == "block":
        between = draw(st.sampled_from([[], [""], None]))
        section = [f"{at}models:{tail}"]
        for number, name in enumerate(names):
            gap = draw(filler(column)) if between is None else between if number else []
            section += [*gap, *draw(entry(name, column, step))]
    hosts = draw(st.sampled_from([[], [f"{at}hosts:{tail}"], [f"{at}hosts:", f"{at}    acme: {{token_env: T}}{tail}"]]))
    parts = draw(st.permutations([[registry_line], section, hosts]))
    for part in parts:
        lines += [*part, *draw(filler(root))]
    lines += draw(st.sampled_from([[], [], ["..."], ["", "... # end", "# after"]]))
    ends = draw(st.sampled_from([["\n"], ["\n"], ["\r\n"], ["\r"], ["\n", "\r\n"]]))
    text = "".join(line + draw(st.sampled_from(ends)) for line in lines)
    if draw(st.booleans()):
        text = re.sub(r"(\r\n|\n|\r)\Z", "", text)
    return draw(st.sampled_from(["", "", "\ufeff"])) + text


def readable(text: str) -> bool:
    try:
        root = document.parse_leniently(text.removeprefix("\ufeff"), "x")
    except CatalogError:
        return False
    return root is not None


ENTRIES = st.fixed_dictionaries(
    {"family": st.just("bert")},
    optional={
        "source": st.just("./x y"),
        "config": st.just({"a": 1}),
        "files": st.just({"m.bin": {"size": 1}}),
        "description": st.text("a:# '\n", min_size=1, max_size=5),
    },
)


def parsed(text: str) -> CatalogFile:
    return read_catalog(text.removeprefix("\ufeff"), "x")


def check_add_then_remove(text: str, name: str, fields: dict[str, Any]) -> None:
    if not readable(text):
        event("unreadable")
        return
    try:
        before, added = parsed(text), add_entry(text, name, fields)
    except CatalogError as error:
        assert "last line of the file is expected to have an end" in error.message and not text.endswith(("\n", "\r"))
        return
    after = parsed(added)
    assert after.entries[name].fields.keys() == fields.keys() and after.entries[name].fields["family"] == "bert"
    assert [*after.entries, *after.broken] == [*before.entries, name, *before.broken]
    assert {k: v.fields for k, v in after.entries.items() if k != name} == {k: v.fields for k, v in before.entries.items()}
    text = re.sub(r"((?:^|[\r\n]) *models:) \{ ?\}", r"\1", text)  # an empty section becomes a block
    assert is_subsequence(text, added)
    assert remove_entry(added, name) == text
    again = add_entry(added, name, {"family": "gpt2"}, replace=True)
    assert parsed(again).entries[name].fields == {"family": "gpt2"}


def check_remove(text: str, data: st.DataObject) -> None:
    if not readable(text):
        event("unreadable")
        return
    before = parsed(text)
    if names := sorted([*before.entries, *before.broken]):
        name = data.draw(st.sampled_from(names))
        removed = remove_entry(text, name)
        after = parsed(removed)
        assert [*after.entries, *after.broken] == [n for n in [*before.entries, *before.broken] if n != name]
        assert {k: v.fields for k, v in after.entries.items()} == {k: v.fields for k, v in before.entries.items() if k != name}
        assert is_subsequence(removed, text)


@settings(max_examples=40, deadline=None)
@given(catalogs(), NAMES, ENTRIES)
def test_add_then_remove_gives_the_text_back_to_the_byte(text: str, name: str, fields: dict[str, Any]) -> None:
    check_add_then_remove(text, name, fields)


@settings(max_examples=40, deadline=None)
@given(catalogs(), st.data())
def test_removing_takes_only_the_entry_and_its_comments(text: str, data: st.DataObject) -> None:
    check_remove(text, data)


@pytest.fixture(params=["C", "Python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test with both of PyYAML's parsers: a machine may have only the second."""
    if request.param == "Python":
        monkeypatch.setattr(document, "LOADER", yaml.SafeLoader)


MANY = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.slow
@pytest.mark.usefixtures("parser")
@MANY
@given(catalogs(), NAMES, ENTRIES)
def test_add_then_remove_gives_many_texts_back(text: str, name: str, fields: dict[str, Any]) -> None:
    check_add_then_remove(text, name, fields)


@pytest.mark.slow
@pytest.mark.usefixtures("parser")
@MANY
@given(catalogs(), st.data())
def test_removing_from_many_texts_takes_only_the_entry(text: str, data: st.DataObject) -> None:
    check_remove(text, data)


def is_subsequence(short: str, long: str) -> bool:
    """Whether all characters of one text stand in another in the same order."""
    rest = iter(long)
    return all(character in rest for character in short)
