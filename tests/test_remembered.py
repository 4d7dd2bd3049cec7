"""A fetch that is repeated in one process: it opens nothing, and sees whatever changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from registry import ModelRegistry, RegistryError
from registry.store.store import Store
from tests.servers import file_server

_FILES = {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"weights", "vocab.txt": b"[PAD]\n"}


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelRegistry:
    """A registry whose name `mine` is in the cache, and was fetched once more without a server."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    with file_server({f"/{name}": content for name, content in _FILES.items()}) as server:
        write_catalog(tmp_path / "models.yaml", server.url)
        models = ModelRegistry(cache_dir=tmp_path / "cache")
        models.fetch("mine")
    models.fetch("mine")
    return models


def write_catalog(path: Path, url: str, **more: str) -> None:
    files = {name: {"sha256": sha256(content).hexdigest()} for name, content in _FILES.items()}
    entry = {"family": "bert", "source": url, "files": files, **more}
    path.write_text(json.dumps({"registry": 1, "models": {"mine": entry}}))


def test_a_repeated_fetch_makes_no_store(models: ModelRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    before = models.fetch("mine")
    monkeypatch.setattr(Store, "first", None)
    assert models.fetch("mine") == before
    with pytest.raises(TypeError):
        models.fetch("mine", family="bert")  # something else is asked for


def damage_folder(models: ModelRegistry, tmp_path: Path) -> None:
    (models.fetch("mine") / "vocab.txt").write_bytes(b"other")


def lose_folder(models: ModelRegistry, tmp_path: Path) -> None:
    (models.fetch("mine") / "vocab.txt").unlink()


@pytest.mark.parametrize("change", [damage_folder, lose_folder])
def test_a_folder_that_changed_is_mended(
    change: Callable[[ModelRegistry, Path], None], models: ModelRegistry, tmp_path: Path
) -> None:
    change(models, tmp_path)
    assert {path.name: path.read_bytes() for path in models.fetch("mine").iterdir()} == _FILES


def test_a_file_that_is_lost_is_asked_for(models: ModelRegistry, tmp_path: Path) -> None:
    digest = sha256(_FILES["model.safetensors"]).hexdigest()
    (tmp_path / "cache/blobs/sha256" / digest[:2] / digest).unlink()
    folder = models.fetch("mine", offline=True)  # it holds all that the blob held
    assert (folder / "model.safetensors").read_bytes() == _FILES["model.safetensors"]
    (folder / "model.safetensors").unlink()
    with pytest.raises(RegistryError, match=r"model\.safetensors"):  # its server is gone
        models.fetch("mine", offline=True)


def test_a_catalog_that_changed_is_read(models: ModelRegistry, tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text('{"registry": 1, "models": {"mine": {"disabled": "it is wrong"}}}')
    with pytest.raises(RegistryError, match="it is wrong"):
        models.fetch("mine")


def test_a_catalog_that_appears_is_read(models: ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (inner := tmp_path / "inner").mkdir()
    monkeypatch.chdir(inner)
    models.fetch("mine")
    (inner / "models.yaml").write_text('{"registry": 1, "models": {"mine": {"disabled": "it is wrong"}}}')
    with pytest.raises(RegistryError, match="it is wrong"):
        models.fetch("mine")


def test_a_lock_that_the_environment_asks_for_is_looked_at(models: ModelRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_LOCKED", "1")
    with pytest.raises(RegistryError, match="lock"):
        models.fetch("mine")


def test_a_path_of_the_name_is_warned_of_at_each_use(models: ModelRegistry, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for _ in range(2):
        with pytest.warns(match="both a model's name and a path"):
            models.fetch("mine")
