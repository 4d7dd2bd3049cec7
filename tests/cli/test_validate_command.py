"""`registry validate`: what it finds, where, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.catalog.test_mistakes import FILE_MISTAKES, MISTAKES, SOUND
from tests.cli.conftest import Run


def test_catalogs_without_mistakes_end_with_0(run: Run) -> None:
    done = run("validate")
    assert (done.code, done.out, done.err) == (0, "4 files: no mistakes\n", "")
    Path("models.yaml").write_text(SOUND)
    assert run("validate").out == "5 files: no mistakes\n"
    assert run("validate", "models.yaml").out == "1 file: no mistakes\n"
    assert json.loads(run("validate", "--json", ".").out) == {
        "files": [str(Path("models.yaml").absolute())],
        "mistakes": [],
        "remarks": [],
    }


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_shown_with_its_place_and_ends_with_1(mistake: str, run: Run) -> None:
    text, line, column, words = MISTAKES[mistake]
    path = Path("models.yaml").absolute()
    path.write_text(f"{SOUND}{text}\n")
    whole, alone = run("validate"), run("validate", "models.yaml", "--json")
    assert whole.code == alone.code == 1
    shown = [row for row in whole.out.splitlines() if row.startswith(f"{path}:{line}:{column}: error: ")]
    assert shown and all(word in shown[0] for word in words)
    found = json.loads(alone.out)["mistakes"]
    assert {"file": str(path), "line": line, "column": column} in [
        {key: value for key, value in row.items() if key != "message"} for row in found
    ]
    assert len(found) == len(whole.out.splitlines())


def test_all_mistakes_of_a_file_are_shown_at_once_in_order(run: Run) -> None:
    entries = [text.replace("  m:", f"  m{number}:") for number, (text, *_) in enumerate(MISTAKES.values()) if "\n" not in text]
    Path("models.yaml").write_text(SOUND + "\n".join(entries) + "\nhosts: {h: {token_env: T}}\nmore: 1\n")
    done = run("validate", "models.yaml")
    lines = [int(row.split(":")[1]) for row in done.out.splitlines()]
    assert done.code == 1 and lines == sorted(lines)
    assert set(lines) == {*range(7, 7 + len(entries) + 2)}
    assert done.err == f"{len(lines)} mistakes in 1 file\n"


@pytest.mark.parametrize("mistake", FILE_MISTAKES)
def test_a_mistake_outside_the_entries_is_shown_too(mistake: str, run: Run) -> None:
    import re

    pattern, text, line, column, words = FILE_MISTAKES[mistake]
    Path("models.yaml").write_text(re.sub(pattern, text, SOUND, count=1))
    done = run("validate", "models.yaml")
    assert done.code == 1
    assert f"models.yaml:{line}:{column}: error: " in done.out and all(word in done.out for word in words)


def test_a_file_that_is_no_layer_is_read_above_the_others(run: Run, tmp_path: Path) -> None:
    Path("models.yaml").write_text(SOUND)
    (named := tmp_path / "named.yaml").write_text(
        "registry: 1\nmodels:\n  mine: {base: good}\n  gpt2: {base: gpt2, head: lm}\n  bad: {alias: mien}\n"
        "hosts: {h: {token_env: T}}\n"
    )
    done = run("validate", named)
    assert done.code == 1
    (only,) = done.out.splitlines()
    assert only.startswith(f"{named}:5:9: error: alias of model 'bad'") and "did you mean 'mine'?" in only


def test_a_mistake_that_a_higher_layer_hides_is_shown(run: Run) -> None:
    (user := Path.home() / ".config/registry/models.yaml").parent.mkdir(parents=True)
    user.write_text("registry: 1\nmodels:\n  m: {famly: bert}\n")
    Path("models.yaml").write_text("registry: 1\nmodels:\n  m: {family: bert, source: ./x, override: true}\n")
    assert run("validate", "models.yaml").code == 0
    done = run("validate")
    assert done.code == 1 and f"{user}:3:7: error: " in done.out


def test_what_may_be_meant_is_a_warning(run: Run, tmp_path: Path) -> None:
    Path("models.yaml").write_text("registry: 1\nmodels:\n  m: {family: brt, source: ./x}\n  n: {base: m}\n")
    done = run("validate", "models.yaml")
    assert done.code == 0
    assert "models.yaml:3:7: warning: family of model 'm' is expected to be installed, but 'brt' is not; did you" in done.out
    Path("models.yaml").write_text("models:\n  m: {family: bert, source: ./x}\n")
    assert "models.yaml:1:1: warning: the file is expected to say `registry: 1`" in run("validate").out
    done = run("validate", "models.yaml")  # who names a file means it
    assert done.code == 1 and ":1:1: error: the file is expected to say `registry: 1`" in done.out


def test_a_replacement_that_no_catalog_has_is_a_mistake(run: Run) -> None:
    Path("models.yaml").write_text(f"{SOUND}  m: {{base: good, deprecated: {{since: 2026-05, use: goood}}}}\n")
    done = run("validate")
    assert done.code == 1 and ":7:48: error: use of deprecated of model 'm'" in done.out


def test_a_file_that_is_not_there_is_wrong_usage(run: Run) -> None:
    assert run("validate", "no.yaml").code == 2
