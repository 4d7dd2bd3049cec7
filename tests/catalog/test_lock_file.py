"""The lock file: its text, what is refused of it, and what is told of two that differ."""

from __future__ import annotations

import difflib
import random
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from registry.base.names import unsafe_file_name
from registry.errors import CatalogError
from registry.lockfile.changes import Difference, differences
from registry.lockfile.format import LockedFile, LockedModel, LockFile, parse_lock, read_lock, render_lock

A, B, C = "a" * 64, "b" * 64, "0" * 64
COMMIT = "607a30d783dfa663caf39e06633721c8d4cfcd7e"

LOCK = LockFile(
    "0.1.0",
    {
        "legal": LockedModel(
            family="gpt2",
            plugin="pretrained-registry",
            plugin_version="0.1.0",
            source="./checkpoints/legal",
            files={"config.json": LockedFile(C, 0, "./checkpoints/legal/config.json")},
        ),
        "acme/support": LockedModel(
            family="bert",
            plugin="acme-registry",
            plugin_version="1.10",
            source="hf://acme/support@main",
            revision=COMMIT,
            files={
                "model.safetensors": LockedFile(B, 440449768, f"hf://acme/support@{COMMIT}/model.safetensors"),
                "config.json": LockedFile(A, 612, f"hf://acme/other@{COMMIT[::-1]}/c.json", COMMIT[::-1]),
            },
        ),
    },
    {"support": "acme/support", "on": "legal"},
)

TEXT = f"""\
# Written by `registry lock`: commit this file, and change it with that command only.
# When a merge conflicts in it, take either side whole and run the command again.
registry_lock: 1
registry: "0.1.0"
aliases:
  "on": "legal"
  support: "acme/support"
models:
  acme/support:
    family: "bert"
    plugin: "acme-registry"
    plugin_version: "1.10"
    source: "hf://acme/support@main"
    revision: "{COMMIT}"
    files:
      config.json:
        sha256: "{A}"
        size: 612
        url: "hf://acme/other@{COMMIT[::-1]}/c.json"
        revision: "{COMMIT[::-1]}"
      model.safetensors:
        sha256: "{B}"
        size: 440449768
        url: "hf://acme/support@{COMMIT}/model.safetensors"
  legal:
    family: "gpt2"
    plugin: "pretrained-registry"
    plugin_version: "0.1.0"
    source: "./checkpoints/legal"
    files:
      config.json:
        sha256: "{C}"
        size: 0
        url: "./checkpoints/legal/config.json"
...
"""


def refused(text: str) -> str:
    with pytest.raises(CatalogError) as caught:
        parse_lock(text, "models.lock")
    return caught.value.message


# -- the text ------------------------------------------------------------------------------------------------------------


def test_the_text_has_names_in_order_and_one_fact_to_a_line() -> None:
    assert render_lock(LOCK) == TEXT


def test_what_is_written_is_read() -> None:
    assert parse_lock(TEXT, "models.lock") == LOCK


def test_each_model_and_file_knows_its_line() -> None:
    read = parse_lock(TEXT, "models.lock")
    lines = TEXT.splitlines()
    assert lines[read.models["legal"].line - 1] == "  legal:"
    assert lines[read.models["acme/support"].files["model.safetensors"].line - 1] == "      model.safetensors:"


def test_another_reader_of_yaml_finds_the_same_facts() -> None:
    data = yaml.safe_load(TEXT)  # a reader of YAML 1.1, in which `on` is true
    assert data["registry_lock"] == 1
    assert data["registry"] == "0.1.0"
    assert data["aliases"] == {"on": "legal", "support": "acme/support"}
    assert data["models"]["acme/support"]["plugin_version"] == "1.10"
    assert data["models"]["legal"]["files"] == {
        "config.json": {"sha256": C, "size": 0, "url": "./checkpoints/legal/config.json"},
    }


def test_the_order_of_facts_does_not_matter() -> None:
    def shuffled(mapping: dict[str, object]) -> dict[str, object]:
        items = list(mapping.items())
        random.Random(1).shuffle(items)
        return dict(reversed(items))

    models = {name: replace(model, files=shuffled(dict(model.files))) for name, model in LOCK.models.items()}
    assert render_lock(LockFile("0.1.0", shuffled(models), shuffled(dict(LOCK.aliases)))) == TEXT  # type: ignore[arg-type]


def changed_hash() -> LockFile:
    model = LOCK.models["acme/support"]
    files = {**model.files, "model.safetensors": replace(model.files["model.safetensors"], sha256=C)}
    return replace(LOCK, models={**LOCK.models, "acme/support": replace(model, files=files)})


def test_one_changed_hash_is_two_lines_of_a_diff() -> None:
    diff = list(difflib.unified_diff(TEXT.splitlines(), render_lock(changed_hash()).splitlines(), n=0))
    assert [line for line in diff if line[:3] not in ("---", "+++") and line[0] in "+-"] == [
        f'-        sha256: "{B}"',
        f'+        sha256: "{C}"',
    ]


def test_a_new_model_adds_lines_and_changes_none() -> None:
    more = replace(LOCK, models={**LOCK.models, "zeta": LOCK.models["legal"], "beta": LOCK.models["legal"]})
    diff = difflib.ndiff(TEXT.splitlines(), render_lock(more).splitlines())
    assert not [line for line in diff if line.startswith("-")]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@given(TEXTS, TEXTS.filter(lambda name: unsafe_file_name(name) is None))
def test_any_text_survives(text: str, file: str) -> None:
    model = LockedModel(
        family=text, source=f"./{text}", plugin=text, plugin_version=text, files={file: LockedFile(A, 1, f"./{text}")}
    )
    lock = LockFile(text, {"m": model}, {})
    written = render_lock(lock)
    assert parse_lock(written, "models.lock") == lock
    assert yaml.safe_load(written)["models"]["m"]["files"][file]["url"] == f"./{text}"


def test_text_that_no_file_can_hold_is_refused() -> None:
    model = replace(LOCK.models["legal"], source="./caf\udce9")
    with pytest.raises(CatalogError, match=r"UTF-8 can hold.*caf.udce9"):
        render_lock(replace(LOCK, models={"legal": model}, aliases={}))


def test_an_empty_lock_is_one() -> None:
    assert parse_lock(render_lock(LockFile("1.0")), "models.lock") == LockFile("1.0")


def test_windows_line_ends_are_read() -> None:
    assert parse_lock(TEXT.replace("\n", "\r\n"), "models.lock") == LOCK


# -- damage --------------------------------------------------------------------------------------------------------------


def test_a_lock_that_is_cut_off_anywhere_is_refused_with_its_last_line() -> None:
    for end in range(len(TEXT.rstrip())):
        cut = TEXT[:end]
        lines = cut.rstrip().splitlines() or [""]
        assert f"models.lock:{len(lines)}:" in refused(cut), cut[-40:]


@pytest.mark.parametrize("mark", ["<<<<<<< HEAD", "||||||| 1234567", "=======", ">>>>>>> theirs", "<<<<<<< HEAD\r"])
def test_a_merge_that_was_not_finished_is_told_with_its_line(mark: str) -> None:
    lines = TEXT.splitlines()
    lines.insert(11, mark)
    message = refused("\n".join(lines) + "\n")
    assert "models.lock:12:1:" in message
    assert mark.split()[0] in message
    assert "`registry lock`" in message


def with_line(old: str, new: str) -> str:
    assert TEXT.count(old) == 1
    return TEXT.replace(old, new)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (with_line("registry_lock: 1", "registry_lock: 2"), "3:16", ["version 1", "int 2", "upgrade"]),
        (with_line("registry_lock: 1", 'registry_lock: "1"'), "3:16", ["version 1", "str '1'"]),
        (with_line("registry_lock: 1\n", ""), "3:1", ["'registry_lock'"]),
        (with_line('registry: "0.1.0"\n', ""), "3:1", ["'registry'"]),
        (with_line('registry: "0.1.0"', "registry: 0.1"), "4:11", ["text in quotes", "float"]),
        (with_line("registry_lock: 1", "registry_lock: 1\nlocks: 2"), "4:1", ["unknown key 'locks'"]),
        (with_line('    family: "bert"\n', ""), "10:5", ["'acme/support'", "'family'"]),
        (with_line('    family: "bert"', '    family: "bert"\n    family: "gpt"'), "11:5", ["'family' stands twice"]),
        (with_line('    family: "bert"', '    famly: "bert"'), "10:5", ["'family'"]),
        (with_line('    family: "bert"', '    family: "bert"\n    head: "lm"'), "11:5", ["unknown key 'head'"]),
        (with_line(f'sha256: "{A}"', f'sha256: "{A[1:]}"'), "17:17", ["sha256 of file 'config.json'", "64 hex digits"]),
        (with_line(f'sha256: "{A}"', f'sha256: "{A.upper()}"'), "17:17", ["64 hex digits"]),
        (with_line("size: 612", "size: -1"), "18:15", ["number of bytes", "-1"]),
        (with_line("size: 612", "size: true"), "18:15", ["number of bytes"]),
        (with_line("size: 612", 'size: "612"'), "18:15", ["number of bytes"]),
        (with_line("        size: 612\n", ""), "17:9", ["'size'"]),
        (with_line('source: "hf://acme/support@main"', 'source: "https://u:pw@acme/s/"'), "13:13", ["without password"]),
        (with_line('source: "hf://acme/support@main"', 'source: "https://acme/s/?token=pw"'), "13:13", ["without password"]),
        (with_line('source: "hf://acme/support@main"', r'source: "https://evil\\acme/s/"'), "13:13", ["has a backslash"]),
        (with_line(f'    revision: "{COMMIT}"\n', '    revision: "../x"\n'), "14:15", ["a commit"]),
        (with_line("      model.safetensors:", "      ../model.safetensors:"), "21:7", ["plain relative path"]),
        (with_line("      model.safetensors:", "      /model.safetensors:"), "21:7", ["plain relative path"]),
        (with_line('  support: "acme/support"', '  support: "acme/suport"'), "7:12", ["'acme/suport' is not locked"]),
        (with_line('  support: "acme/support"', '  legal: "acme/support"'), "7:3", ["alias or a model, but is both"]),
        (with_line("  legal:\n", "  ../legal:\n"), "25:3", ["model name"]),
        (with_line('  "on": "legal"', "  ? [x]\n  : legal"), "6:5", ["a key"]),
        (with_line("models:\n", "models: &m\n"), "8:9", ["anchors"]),
        (with_line('    source: "./checkpoints/legal"', "    source: !x legal"), "29:13", ["tag"]),
        (TEXT.replace("...", "---\nx: 1\n..."), "35:1", ["one YAML document"]),
        (TEXT[: TEXT.index("models:")] + "models: 3\n...\n", "8:9", ["mapping"]),
        ("...\n", "1:1", []),
        ("- a\n...\n", "1:1", ["mapping"]),
        (with_line('"gpt2"', '"gp\x00t2"'), "26:16", ["character"]),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, place: str, words: list[str]) -> None:
    message = refused(text)
    assert f"models.lock:{place}" in message
    for word in words:
        assert word in message
    assert "pw" not in message


@pytest.mark.parametrize("name", [r"a\0b", "a//b", "a/./b", r"a\\b", "CON", "nul.txt", "a:b", "a.", " a", "", "a" * 201])
def test_a_file_name_that_no_catalog_may_have_is_refused(name: str) -> None:
    message = refused(with_line("      model.safetensors:", f'      "{name}":'))
    assert "models.lock:21:7: a file name of model 'acme/support' is expected to be a plain relative path, but" in message


@pytest.mark.parametrize("twin", ["Config.json", "CONFIG.JSON", r"con\uFB01g.json"])
def test_two_files_that_are_one_on_some_file_systems_are_refused(twin: str) -> None:
    message = refused(with_line("      model.safetensors:", f'      "{twin}":'))
    assert "models.lock:21:7: a file name of model 'acme/support' is expected to be one file everywhere, but" in message
    assert "differs from 'config.json'" in message


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "models.lock"
    file.write_bytes(TEXT.encode().replace(b"bert", b"b\xffrt"))
    with pytest.raises(CatalogError, match=r"models\.lock:10:15: .*UTF-8"):
        read_lock(file)


def test_a_folder_is_no_lock_file(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="expected to be readable"):
        read_lock(tmp_path)


def test_no_file_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_lock(tmp_path / "models.lock")


@given(st.integers(0, len(TEXT) - 1), st.text(max_size=3))
def test_no_damage_raises_anything_else(at: int, junk: str) -> None:
    try:
        parse_lock(TEXT[:at] + junk + TEXT[at + len(junk) :], "models.lock")
    except CatalogError as error:
        assert error.file == "models.lock"


# -- differences ---------------------------------------------------------------------------------------------------------


def test_what_is_the_same_differs_in_nothing() -> None:
    assert differences(LOCK, parse_lock(TEXT, "elsewhere")) == []


def test_a_changed_hash_is_told_with_both() -> None:
    (only,) = differences(LOCK, changed_hash())
    assert only == Difference("acme/support", "model.safetensors", "sha256", B, C)
    assert only.change == "changed"


def test_models_files_aliases_and_versions_that_come_and_go_are_told() -> None:
    legal = LOCK.models["legal"]
    more = replace(legal, files={**legal.files, "vocab.json": LockedFile(A, 3, "./v")}, plugin_version="0.2.0")
    found = LockFile("0.2.0", {"legal": more, "new": legal}, {"support": "legal"})
    assert [(d.change, d.model, d.file, d.fact, d.locked, d.found) for d in differences(LOCK, found)] == [
        ("changed", "", "", "registry", "0.1.0", "0.2.0"),
        ("removed", "on", "", "alias", "legal", None),
        ("changed", "support", "", "alias", "acme/support", "legal"),
        ("removed", "acme/support", "", "", "hf://acme/support@main", None),
        ("changed", "legal", "", "plugin_version", "0.1.0", "0.2.0"),
        ("added", "legal", "vocab.json", "", None, A),
        ("added", "new", "", "", None, "./checkpoints/legal"),
    ]


def test_a_revision_that_is_new_or_gone_is_told() -> None:
    support = LOCK.models["acme/support"]
    without = replace(LOCK, models={**LOCK.models, "acme/support": replace(support, revision="")})
    assert differences(LOCK, without) == [Difference("acme/support", "", "revision", COMMIT, None)]
    assert [d.change for d in differences(without, LOCK)] == ["added"]


def test_against_no_lock_all_models_are_new() -> None:
    assert [(d.change, d.model) for d in differences(None, LOCK)] == [
        ("added", "on"),
        ("added", "support"),
        ("added", "acme/support"),
        ("added", "legal"),
    ]
