"""`registry lock`, and `registry fetch --locked`."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

import registry
from registry.lockfile.format import parse_lock
from tests.cli.conftest import Run
from tests.processes import ROOT

LOCK = Path("models.lock")


@pytest.fixture
def project(tiny_bert: Path) -> Path:
    """A project with a model of its own, `tiny`; return the model's folder."""
    shutil.copytree(tiny_bert, "tiny-bert")
    Path("models.yaml").write_text("registry: 1\nmodels:\n  tiny: {family: bert, source: ./tiny-bert}\n")
    return Path("tiny-bert")


def count(folder: Path) -> int:
    return sum(path.is_file() for path in folder.iterdir())


def test_lock_writes_beside_the_projects_catalog(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = f"{Path.cwd()}/models.lock"
    Path("below").mkdir()
    monkeypatch.chdir("below")
    done = run("lock")
    assert (done.code, done.err) == (0, "")
    assert done.out == f"+ tiny\n{where}: 1 model, {count(Path('..') / project)} files; written\n"
    assert run("lock").out == f"{where}: 1 model, {count(Path('..') / project)} files; is up to date\n"


def test_lock_of_names_adds_those(run: Run, project: Path) -> None:
    run("lock", "tiny")
    Path("models.yaml").write_text(Path("models.yaml").read_text() + "  b: {base: tiny}\n  c: {base: tiny}\n  d: {alias: b}\n")
    done = run("lock", "d")
    assert done.out.splitlines()[:2] == ["+ d alias: b", "+ b"]
    assert "2 models" in done.out
    assert run("lock", "--check", "d").code == 0
    assert [line for line in run("lock", "--check").out.splitlines() if line[0] in "+-~"] == ["+ c"]


def test_check_writes_nothing_and_says_what_differs(run: Run, project: Path) -> None:
    done = run("lock", "--check")
    assert (done.code, done.out.splitlines()[0]) == (1, "+ tiny")
    assert "is out of date; run `registry lock`" in done.out
    assert not LOCK.exists()
    run("lock")
    assert run("lock", "--check").code == 0
    before = LOCK.read_bytes()
    (project / "vocab.txt").write_text("[UNK]\n")
    (project / "added_tokens.json").unlink()
    done = run("lock", "--check")
    lines = done.out.splitlines()
    assert done.code == 1
    assert lines[0] == "- tiny added_tokens.json"
    assert lines[-2].startswith("~ tiny vocab.txt size: ") and lines[-2].endswith(" -> 6")
    assert any(line.startswith("~ tiny vocab.txt sha256: ") for line in lines)
    assert LOCK.read_bytes() == before
    Path("models.yaml").write_text("registry: 1\nmodels: {}\n")
    done = run("lock", "--check")
    assert (done.code, done.out.splitlines()[0]) == (1, "- tiny")


def test_json_is_for_scripts(run: Run, project: Path) -> None:
    run("lock")
    size = (project / "vocab.txt").stat().st_size
    text = LOCK.read_text()
    assert f"size: {size}\n" in text
    LOCK.write_text(text.replace(f"size: {size}\n", "size: 5\n"))
    done = run("lock", "--check", "--json")
    assert done.code == 1
    assert json.loads(done.out) == {
        "file": f"{Path.cwd()}/models.lock",
        "check": True,
        "differences": [
            {
                "change": "changed",
                "model": "tiny",
                "file": "vocab.txt",
                "fact": "size",
                "locked": "5",
                "found": str(size),
            }
        ],
    }
    assert json.loads(run("lock", "--json").out)["differences"]
    assert json.loads(run("lock", "--json").out)["differences"] == []


def test_a_file_can_be_named(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("lock", "--file", "ci.lock").code == 0
    assert not LOCK.exists()
    assert run("fetch", "tiny", "--locked").code == 1
    monkeypatch.setenv("REGISTRY_LOCK_FILE", "ci.lock")
    assert run("fetch", "tiny", "--locked").code == 0


def test_fetch_takes_locked_bytes_only(run: Run, project: Path) -> None:
    run("lock")
    done = run("fetch", "--locked", "tiny")
    assert done.code == 0
    (project / "vocab.txt").write_text("[UNK]\n")
    for option in ("--locked", "--exact"):
        done = run("fetch", option, "tiny")
        assert (done.code, done.out) == (1, "")
        assert "error: [R402] vocab.txt of model 'tiny'" in done.err and "locked sha256" in done.err
    assert run("fetch", "tiny").code == 0


def test_fetch_warns_of_other_versions_and_exact_refuses_them(run: Run, project: Path) -> None:
    run("lock")
    LOCK.write_text(LOCK.read_text().replace(registry.__version__, "0.0.7"))
    done = run("fetch", "--locked", "tiny")
    assert done.code == 0 and done.out
    assert done.err.count("warning: ") == 1 and "locked version 0.0.7" in done.err
    done = run("fetch", "--exact", "tiny")
    assert (done.code, done.out) == (1, "")
    assert "error: [R201]" in done.err and "locked version 0.0.7" in done.err


def test_fetch_of_a_name_that_is_not_locked_names_the_command(run: Run, project: Path) -> None:
    run("lock")
    done = run("fetch", "--locked", "gpt2", "tiny")
    assert done.code == 1
    assert "run `registry lock gpt2`" in done.err
    assert done.out.splitlines()  # the other one is fetched


def test_a_damaged_lock_is_an_error_with_its_place(run: Run, project: Path) -> None:
    run("lock")
    text = LOCK.read_text()
    for damaged, place in ((text.replace("  tiny:", "=======\n  tiny:"), "models.lock:6:1"), (text[:-5], "models.lock:")):
        LOCK.write_text(damaged)
        for command in (("lock",), ("lock", "--check"), ("lock", "tiny"), ("fetch", "--locked", "tiny")):
            done = run(*command)
            assert (done.code, done.out) == (1, "")
            assert f"error: [R201] {Path.cwd()}/{place}" in done.err


def test_without_a_project_the_error_names_the_option(run: Run) -> None:
    done = run("lock", "bert-base-cased")
    assert done.code == 1
    assert "--file" in done.err


def test_the_commands_and_the_code_of_the_page_work(run: Run, minilm_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "models.yaml", "models.yaml")
    page = (ROOT / "docs" / "lock-file.md").read_text()
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert {kind for kind, _ in blocks} == {"sh", "python", "yaml"}
    for kind, text in blocks:
        if kind == "python":
            exec(text, {})
        elif kind == "yaml":
            assert set(parse_lock(text, "page").models) == {"acme-support"}
        else:
            for line in text.splitlines():
                variables, command = [], shlex.split(line.removeprefix("export "))
                while command and "=" in command[0]:
                    variables.append(command.pop(0).split("="))
                with monkeypatch.context() as patch:
                    for name, value in variables:
                        patch.setenv(name, value)
                    if command:
                        done = run(*command[1:])
                        assert (command[0], done.code, done.err) == ("registry", 0, ""), line
                    else:
                        registry.load_config("minilm")
    assert set(parse_lock(LOCK.read_text(), "models.lock").models) == {"minilm"}
