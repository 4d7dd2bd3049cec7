"""The suite that a plugin's tests inherit."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

import registry.model_registry
from registry.errors import RegistryError
from registry.families.host import PluginHost
from registry.testing.bench import Bench
from registry.testing.case import Case
from registry.testing.config_checks import ConfigChecks
from registry.testing.file_checks import FileChecks
from registry.testing.model_checks import ModelChecks
from registry.testing.plugin_checks import PluginChecks
from registry.testing.process_checks import ProcessChecks
from registry.testing.tokenizer_checks import TokenizerChecks

__all__ = ["FamilySuite"]

#: What decides for the registry from outside.
_OURS = ("REGISTRY_", "HF_HUB_OFFLINE", "TORCH_HOME", "XDG_")

_BENCH = pytest.StashKey[Bench]()


class FamilySuite(PluginChecks, ConfigChecks, ModelChecks, FileChecks, TokenizerChecks, ProcessChecks):
    """Checks of one installed family. A subclass named `Test…` says which; its inherited checks are what pytest runs.

    No check touches the network, this machine's cache or its catalogs, and all models are as small as `config` says.
    """

    #: The family's name, which is its entry point's.
    family: ClassVar[str]
    #: Fields of the configuration that make a model small: every dimension, and the vocabulary.
    config: ClassVar[Mapping[str, Any]] = {}
    #: Heads that need other fields or inputs.
    cases: ClassVar[Mapping[str, Case]] = {}
    #: Contents of the vocabulary's files, by name.
    vocabulary: ClassVar[Mapping[str, str | bytes]] = {}
    #: Arguments of the tokenizer; give each setting that it saves a value that is not its default.
    tokenizer: ClassVar[Mapping[str, Any]] = {}
    #: Texts that decoding gives back as they are.
    texts: ClassVar[Sequence[str]] = ()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run the checks of a head once for each head that the plugin names."""
        if "head" in metafunc.fixturenames:
            metafunc.parametrize("head", self._heads())

    def _heads(self) -> list[str]:
        try:
            return list(PluginHost().get(self.family).heads)
        except RegistryError:  # no heads to check; the checks of the plugin say why
            return []

    @pytest.fixture
    def bench(
        self,
        request: pytest.FixtureRequest,
        tmp_path: Path,
        tmp_path_factory: pytest.TempPathFactory,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Iterator[Bench]:
        """Give what the checks share, away from this machine's settings, files and network."""
        for name in list(os.environ):
            if name.startswith(_OURS):
                monkeypatch.delenv(name)
        monkeypatch.setenv("REGISTRY_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("REGISTRY_OFFLINE", "1")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "config"))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(registry.model_registry, "_default", None)
        node = request.node.getparent(pytest.Class)
        if (shared := node.stash.get(_BENCH, None)) is None:
            selected = {getattr(item, "originalname", "") for item in request.session.items if node in item.listchain()}
            shared = node.stash[_BENCH] = Bench(type(self), tmp_path_factory.mktemp("family"), frozenset(selected))
        shared.check = request.function.__name__
        yield shared
        shared.check = ""
