"""`registry new-family`: what it writes, and what it refuses to write over or take."""

from __future__ import annotations

import ast
import importlib
import re
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from click import UsageError
from hypothesis import given
from hypothesis import strategies as st

from registry.catalog.yaml_nodes import parse
from registry.cli.new_family import write_package
from tests.cli.conftest import Run


def written(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_the_command_writes_a_package_and_says_what_comes_next(run: Run) -> None:
    done = run("new-family", "acme", "--path", "teams")
    assert done.code in (None, 0) and not done.err
    assert done.out.splitlines() == [
        "wrote teams/registry-acme; next:",
        "  pip install -e teams/registry-acme",
        "  pytest teams/registry-acme",
    ]
    assert set(written(Path("teams/registry-acme"))) == {
        ".gitignore",
        "README.md",
        "pyproject.toml",
        "src/registry_acme/__init__.py",
        "src/registry_acme/config.py",
        "src/registry_acme/modeling.py",
        "src/registry_acme/models.yaml",
        "src/registry_acme/plugin.py",
        "src/registry_acme/py.typed",
        "src/registry_acme/tokenization.py",
        "tests/test_conformance.py",
        "tests/test_modeling.py",
    }
    assert [path.name for path in Path("teams").iterdir()] == ["registry-acme"], "nothing is left beside it"


@given(st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,5}){0,2}", fullmatch=True))
def test_every_name_gives_files_that_parse(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    files = written(write_package(name, tmp_path_factory.mktemp("new")))
    package = f"registry_{name.replace('-', '_')}"
    for path, text in files.items():
        assert not re.search(r"\$[{a-z]", text), path
        if path.endswith(".py"):
            ast.parse(text)
    project = tomllib.loads(files["pyproject.toml"])
    assert project["project"]["entry-points"]["registry.families"] == {name: f"{package}.plugin"}
    assert project["project"]["name"] == f"registry-{name}"
    assert "license" not in project["project"], "which one is the author's to say"
    parse(files[f"src/{package}/models.yaml"], "models.yaml")


@pytest.mark.parametrize("name", ["for", "decoder", "train", "none", "forward"])
def test_a_name_that_means_something_else_to_python_or_torch_gives_a_model_that_works(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(write_package(name, tmp_path) / "src")
    modeling = importlib.import_module(f"registry_{name}.modeling")
    config = importlib.import_module(f"registry_{name}.config")
    model = getattr(modeling, f"{name.capitalize()}ForMaskedLM")(getattr(config, f"{name.capitalize()}Config")(vocab_size=9))
    assert model.eval()(torch.tensor([[1, 2]])).logits.shape == (1, 2, 9)


@pytest.mark.parametrize("name", ["", "Acme", "a_b", "-acme", "acme-", "a--b", "1acme", "ac me", "../acme", "acmé", "a" * 41])
def test_a_name_that_is_no_name_is_refused(name: str, run: Run) -> None:
    done = run("new-family", "--", name)
    assert done.code == 2 and "expected to be words of small letters and digits joined by hyphens" in " ".join(done.err.split())
    assert not list(Path().glob("registry*"))


@pytest.mark.parametrize(
    ("name", "rival"), [("bert", "bert"), ("gpt2", "gpt2"), ("transfoxl", "transfo-xl"), ("gpt-2", "gpt2")]
)
def test_the_name_of_an_installed_family_is_refused(name: str, rival: str, run: Run) -> None:
    done = run("new-family", name)
    assert done.code == 2 and f"family '{rival}' is installed" in " ".join(done.err.split())


def test_nothing_is_written_over(run: Run) -> None:
    Path("registry-acme").mkdir()
    Path("registry-acme/notes.txt").write_text("mine")
    done = run("new-family", "acme")
    assert done.code == 2 and "expected to be new, but exists" in done.err
    assert written(Path()) == {"registry-acme/notes.txt": "mine"}


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_link_to_nowhere_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "registry-acme").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="expected to be new"):
        write_package("acme", tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        write_package("acme", tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())


def test_a_parent_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="expected to be a folder that can be written"):
        write_package("acme", tmp_path / "file" / "below")
