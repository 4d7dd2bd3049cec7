"""Where the cache lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from registry.base.settings import cache_folders
from registry.model_registry import ModelRegistry

#: Every variable that decides, strongest first, and the folder that it means.
ORDER = [
    ("REGISTRY_CACHE", "/a", "/a"),
    ("PYTORCH_PRETRAINED_BERT_CACHE", "/b", "/b"),
    ("TORCH_HOME", "/c", "/c/pytorch_pretrained_bert"),
    ("XDG_CACHE_HOME", "/d", "/d/torch/pytorch_pretrained_bert"),
]


@pytest.fixture(autouse=True)
def no_cache_variable(isolated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REGISTRY_CACHE")


@pytest.mark.parametrize("strongest", range(len(ORDER)))
def test_the_first_variable_that_is_set_decides(strongest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value, _ in ORDER[strongest:]:
        monkeypatch.setenv(name, value)
    assert cache_folders() == (Path(ORDER[strongest][2]),)


def test_an_argument_is_stronger_than_every_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value, _ in ORDER:
        monkeypatch.setenv(name, value)
    assert cache_folders("/given") == cache_folders(Path("/given")) == (Path("/given"),)


def test_without_any_variable_the_cache_is_in_the_home() -> None:
    assert cache_folders() == (Path.home() / ".cache/torch/pytorch_pretrained_bert",)


@pytest.mark.parametrize("name", [name for name, _, _ in ORDER])
def test_an_empty_variable_is_as_if_unset(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "")
    assert cache_folders() == (Path.home() / ".cache/torch/pytorch_pretrained_bert",)


def test_an_empty_argument_is_as_if_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script's variable that is not set must not turn the working folder into a cache."""
    monkeypatch.setenv("REGISTRY_CACHE", "/set")
    assert cache_folders("") == (Path("/set"),)
    registry = ModelRegistry(cache_dir="")
    assert [contents.root for contents in registry.cached_models("")] == [Path("/set")]


@pytest.mark.parametrize("listed", ["/first:/second:/third", "/first::/second:/third:"])
def test_registry_cache_is_a_path_list(listed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_CACHE", listed.replace(":", os.pathsep))
    assert cache_folders() == (Path("/first"), Path("/second"), Path("/third"))


def test_variables_are_read_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", "/before")
    before = cache_folders()
    monkeypatch.setenv("TORCH_HOME", "/after")
    assert (before, cache_folders()) == (
        (Path("/before/pytorch_pretrained_bert"),),
        (Path("/after/pytorch_pretrained_bert"),),
    )


@pytest.mark.parametrize(
    ("name", "below"),
    [
        ("REGISTRY_CACHE", ""),
        ("PYTORCH_PRETRAINED_BERT_CACHE", ""),
        ("TORCH_HOME", "pytorch_pretrained_bert"),
        ("XDG_CACHE_HOME", "torch/pytorch_pretrained_bert"),
    ],
)
def test_a_tilde_is_the_home(name: str, below: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "~/models")
    assert cache_folders() == (Path.home() / "models" / below,)


def test_a_tilde_in_the_argument_is_the_home() -> None:
    assert cache_folders("~/models") == (Path.home() / "models",)


def test_a_relative_folder_does_not_move_with_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = cache_folders("models")
    expected = Path.cwd() / "models"
    monkeypatch.chdir(tmp_path)
    assert folders == (expected,)
