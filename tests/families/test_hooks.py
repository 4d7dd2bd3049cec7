"""Plugins that want to know what happens."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import registry
from registry import ModelRegistry
from registry.errors import RegistryWarning
from tests.cli.conftest import tiny_bert  # noqa: F401  # a fixture
from tests.families.conftest import Install
from tests.servers import file_server

AUDIT = """
from registry import hookimpl

seen = []

@hookimpl
def registry_fetched(model, files):
    seen.append(("fetched", model, sorted(files)))

@hookimpl
def registry_loaded(model, instance):
    seen.append(("loaded", model, type(instance).__name__))
"""
FILES = {"/config.json": b'{"model_type": "bert"}', "/vocab.txt": b"[UNK]\n", "/model.safetensors": b"weights"}


def test_a_plugin_is_told_of_what_is_fetched_and_loaded(install: Install, tiny_bert: Path) -> None:  # noqa: F811
    install("acme-audit", {"acme-audit": "acme_audit"}, {"acme_audit.py": AUDIT}, group="registry.plugins")
    with file_server(FILES) as server:
        folder = registry.fetch(server.url)
        assert sys.modules["acme_audit"].seen == [("fetched", server.url, ["config.json", "model.safetensors", "vocab.txt"])]
    assert folder.is_dir()
    registry.load(tiny_bert)
    registry.BertForMaskedLM.from_pretrained(tiny_bert)
    told = sys.modules["acme_audit"].seen[1:]
    assert told == [("loaded", str(tiny_bert), "BertForPreTraining"), ("loaded", str(tiny_bert), "BertForMaskedLM")]


def test_no_plugin_is_imported_before_there_is_something_to_tell(install: Install, tiny_bert: Path) -> None:  # noqa: F811
    install("acme-audit", {"acme-audit": "acme_audit"}, {"acme_audit.py": AUDIT}, group="registry.plugins")
    registry.list_models()
    registry.load_config(tiny_bert)
    assert "acme_audit" not in sys.modules


BROKEN = {
    "that does not import": "raise RuntimeError('broken')",
    "that ends the program": "raise SystemExit(3)",
    "with a hook of another form": "from registry import hookimpl\n@hookimpl\ndef registry_fetched(nonsense): ...\n",
    "with a hook that nobody calls": "from registry import hookimpl\n@hookimpl\ndef registry_fetchd(model): ...\n",
    "whose hook fails": "from registry import hookimpl\n@hookimpl\ndef registry_fetched(model): raise KeyError(model)\n",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=list(BROKEN))
def test_a_plugin_that_fails_is_warned_of_and_breaks_neither_fetch_nor_others(text: str, install: Install) -> None:
    install("acme-broken", {"broken": "acme_broken"}, {"acme_broken.py": text}, group="registry.plugins", version="2.5")
    install("zeta-audit", {"zeta": "zeta_audit"}, {"zeta_audit.py": AUDIT}, group="registry.plugins")
    with file_server(FILES) as server, pytest.warns(RegistryWarning, match=re.escape("'acme_broken' of acme-broken 2.5")):
        assert registry.fetch(server.url).is_dir()
    assert len(sys.modules["zeta_audit"].seen) == 1


def test_a_plugin_can_be_switched_off(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("acme-audit", {"acme-audit": "acme_audit"}, {"acme_audit.py": AUDIT}, group="registry.plugins")
    monkeypatch.setenv("REGISTRY_PLUGINS_DISABLED", "acme-audit")
    with file_server(FILES) as server:
        registry.fetch(server.url)
    assert "acme_audit" not in sys.modules


def test_an_observer_of_a_registry_is_told_of_each_file_and_does_not_pickle() -> None:
    import pickle

    class Counter:
        total = 0
        reused_files = 0

        def started(self, file: registry.FileEvent) -> None: ...
        def progressed(self, file: registry.FileEvent) -> None: ...
        def verified(self, file: registry.FileEvent) -> None: ...
        def published(self, file: registry.FileEvent) -> None:
            assert file.size is not None
            self.total += file.size

        def reused(self, file: registry.FileEvent) -> None:
            self.reused_files += 1

    counter = Counter()
    watched = ModelRegistry(observers=[counter])
    with file_server(FILES) as server:
        watched.fetch(server.url)
        assert (counter.total, counter.reused_files) == (sum(map(len, FILES.values())), 0)
        watched.fetch(server.url)
        assert (counter.total, counter.reused_files) == (sum(map(len, FILES.values())), 3)
        pickle.loads(pickle.dumps(watched)).fetch(server.url)
        assert counter.reused_files == 3
