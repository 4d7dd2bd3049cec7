"""The public face: what importing costs, which names there are, and what the errors carry."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import pytest
from torch.distributed import HashStore

import registry
import registry.errors
from registry import ModelRegistry, RegistryError
from registry.families.discovery import family_entry_points
from registry.families.family import Family
from registry.families.host import PluginHost
from tests.distributed.threads import joined
from tests.processes import ROOT, run_python
from tests.servers import file_server
from tests.snapshot import assert_snapshot

HEAVY = {
    *("torch", "numpy", "yaml", "requests", "urllib3", "pluggy", "tokenizers", "safetensors", "filelock", "tqdm", "click"),
    *("platformdirs", "importlib.metadata", "dataclasses", "inspect", "json", "logging", "asyncio", "ssl", "registry_bert"),
}


def imported(done: subprocess.CompletedProcess[str]) -> set[str]:
    """Return the modules of an `-X importtime` report."""
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


# -- what importing costs ------------------------------------------------------------------------------------------------


def test_importing_the_package_imports_nothing_heavy() -> None:
    modules = imported(run_python("-X", "importtime", "-c", "import registry"))
    assert "registry" in modules
    # What the interpreter itself brings, for instance through an editable install, is not ours.
    modules -= imported(run_python("-X", "importtime", "-c", ""))
    assert not {name for name in modules if name in HEAVY or name.partition(".")[0] in HEAVY}
    assert modules == {"registry"}


def test_importing_needs_no_installed_package() -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import registry; print(registry.UnknownModel.code)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["R101"]


def test_resolving_imports_neither_torch_nor_a_plugin() -> None:
    code = "import registry, sys; e = registry.resolve('bert-base-uncased'); print(e.family, *sorted(sys.modules), sep='\\n')"
    family, *modules = run_python("-c", code).stdout.split()
    assert family == "bert"
    assert "yaml" in modules
    for name in ("torch", "numpy", "requests", "pluggy", "tokenizers", "safetensors", "filelock", "tqdm", "ssl"):
        assert name not in modules
    for name in ("importlib.metadata", "logging", "socket", "concurrent.futures"):
        assert name not in modules
    assert not [name for name in modules if name.startswith("registry_bert")]
    assert not [name for name in modules if name.startswith(("registry.pretrained", "registry.checkpoint", "registry.cli"))]
    assert {name for name in modules if name.startswith("registry.store")} == set()


def test_resolving_opens_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was made")

    monkeypatch.setattr(socket, "socket", refuse)
    assert registry.resolve("bert-base-uncased").family == "bert"
    assert registry.list_models("bert-base-*cased")[0] == "bert-base-cased"


# -- names ---------------------------------------------------------------------------------------------------------------


def test_every_public_name_is_there() -> None:
    for name in registry.__all__:
        assert getattr(registry, name) is not None, name
    assert set(registry.__all__) <= set(dir(registry))
    star: dict[str, object] = {}
    exec("from registry import *", star)
    assert set(registry.__all__) <= set(star)


def test_the_public_names_are_sorted() -> None:
    def constants_classes_functions(name: str) -> tuple[int, str]:
        return (0 if name.isupper() else 1 if name[0].isupper() else 2), name

    assert registry.__all__ == sorted(set(registry.__all__), key=constants_classes_functions)


def test_every_public_error_is_a_public_name() -> None:
    assert set(registry.errors.__all__) <= set(registry.__all__)


@pytest.mark.parametrize("name", ["BertConfig", "BertTokenizer", "BertModel", "BertForQuestionAnswering"])
def test_a_class_of_a_family_is_the_same_from_its_home(name: str) -> None:
    import registry_bert

    vars(registry).pop(name, None)
    assert getattr(registry, name) is getattr(registry_bert, name)
    assert name in vars(registry)  # the second access costs nothing


@pytest.mark.parametrize("name", ["BertForNothing", "NoSuchFamilyModel", "loads", "_private", "__wrapped__", "X"])
def test_an_unknown_attribute_is_an_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError, match=f"module 'registry' has no attribute '{name}'"):
        getattr(registry, name)
    assert not hasattr(registry, name)


def test_an_unknown_name_cannot_be_imported() -> None:
    with pytest.raises(ImportError, match="BertForNothing"):
        exec("from registry import BertForNothing")


def test_the_version_is_the_distributions() -> None:
    assert registry.__version__ == version("pretrained-registry")
    assert re.match(r"\d+\.\d+\.\d+", registry.__version__)


def test_the_builtin_names_are_those_of_the_snapshot() -> None:
    builtin = ModelRegistry(plugins=PluginHost(lambda: [point for point in family_entry_points() if point.builtin]))
    found = {
        name: {field: getattr(entry, field) for field in ("family", "head", "source", "license")}
        for name in builtin.list_models()
        for entry in (builtin.resolve(name),)
    }
    assert sum(entry["family"] == "bert" for entry in found.values()) == 13
    assert_snapshot("models.json", json.dumps(found, indent=2) + "\n")


def test_every_builtin_bert_says_its_case_and_licence_and_has_no_loose_revision() -> None:
    for name in registry.list_models("bert-*"):
        entry = registry.resolve(name)
        assert entry.tokenizer["do_lower_case"] is ("uncased" in name)
        assert entry.license in ("Apache-2.0", "MIT")
        assert entry.description
        repository, _, revision = entry.source.removeprefix("hf://").partition("@")
        assert repository == f"google-bert/{name}"
        # The full commit of this one is not known.
        assert re.fullmatch("[0-9a-f]{40}", revision) or name == "bert-large-cased-whole-word-masking"


# -- errors --------------------------------------------------------------------------------------------------------------


def folder_with(path: Path, **files: bytes) -> Path:
    """Make a model folder with a configuration and these files, `__` standing for a dot in their names."""
    path.mkdir()
    (path / "config.json").write_text('{"model_type": "bert", "num_hidden_layers": 1, "hidden_size": 12}')
    for name, data in files.items():
        (path / name.replace("__", ".")).write_bytes(data)
    return path


class Payload:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch ran",)


def bad_pin(folder: Path) -> None:
    pinned = folder.parent / "pinned.yaml"
    entry = f"{{family: bert, source: {folder}, files: {{config.json: {{sha256: {'f' * 64}}}}}}}"
    pinned.write_text(f"registry: 1\nmodels:\n  pinned: {entry}\n")
    ModelRegistry(catalogs=[pinned]).load_config("pinned")


def missing_on_server() -> None:
    with file_server({}) as server:
        registry.load_config(f"{server.url}/model/", family="bert")


def locked_twice(path: Path) -> None:
    from registry.base.file_lock import file_lock

    os.environ["REGISTRY_LOCK_TIMEOUT"] = "0.05"
    with file_lock(path), file_lock(path):
        pass


def cache_is_a_file(path: Path) -> None:
    path.write_text("a file")
    with file_server({"/model/config.json": b"{}"}) as server:
        registry.load_config(f"{server.url}/model/", family="bert", cache_dir=path)


def conflicting() -> None:
    family = Family(name="twice", config="m:C", heads={"base": "m:M"}, default_head="base")
    models = ModelRegistry()
    models.register(family)
    models.register(family)


def waiting_alone() -> None:
    """Be one of two ranks, of which the other never comes."""
    with mock.patch.dict(os.environ, REGISTRY_RANK_TIMEOUT="0.1"), joined(HashStore(), 0, 2) as ranks:
        ranks.agree("here")


#: Class to a use that ends in it, and the attributes that it then carries.
REACHED: dict[str, tuple[Callable[[Path], object], dict[str, object]]] = {
    "UnknownModel": (lambda _: registry.load("bert-base-uncasd"), {"name": "bert-base-uncasd"}),
    "UnknownFamily": (lambda at: registry.load_config(folder_with(at / "m"), family="brt"), {"family": "brt"}),
    "UnknownHead": (lambda _: registry.load("bert-base-uncased", head="masked"), {"head": "masked"}),
    "CatalogError": (lambda at: ModelRegistry(catalogs=[at / "none.yaml"]), {"line": 1, "column": 1}),
    "PluginError": (lambda _: Family(name="f", config="m.C", heads={"b": "m:B"}, default_head="b"), {"family": "f"}),
    "PluginConflict": (lambda _: conflicting(), {"family": "twice"}),
    "DownloadError": (lambda _: missing_on_server(), {"status": 404}),
    "IntegrityError": (lambda at: bad_pin(folder_with(at / "m")), {"expected": "f" * 64}),
    "OfflineError": (lambda _: registry.fetch("bert-base-uncased", offline=True), {}),
    "LockTimeout": (lambda at: locked_twice(at / "lock"), {}),
    "CacheError": (lambda at: cache_is_a_file(at / "file"), {}),
    "CheckpointError": (lambda at: registry.load(folder_with(at / "m", model__safetensors=b"not weights")), {}),
    "UnsafeCheckpoint": (lambda at: registry.load(folder_with(at / "m", pytorch_model__bin=pickle.dumps(Payload()))), {}),
    "ConfigError": (lambda at: registry.load_config(folder_with(at / "m"), num_labls=3), {}),
    "DistributedError": (lambda _: waiting_alone(), {"ranks": (1,)}),
}


def every_error() -> set[type[RegistryError]]:
    found: set[type[RegistryError]] = set()
    new = {RegistryError}
    while new:
        found |= new
        new = {below for above in new for below in above.__subclasses__()} - found
    return {kind for kind in found if kind.__module__ == "registry.errors"}


@pytest.mark.parametrize("name", REACHED)
def test_every_error_is_reached_and_crosses_processes_with_its_data(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_LOCK_TIMEOUT", "60")  # so that what a use sets is taken back
    use, attributes = REACHED[name]
    with pytest.raises(RegistryError) as caught:
        use(tmp_path)
    error = caught.value
    assert type(error) is getattr(registry, name)
    assert str(error) == f"[{error.code}] {error.message}"
    assert {key: getattr(error, key) for key in attributes} == attributes
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), again.args, again.__dict__) == (str(error), error.args, error.__dict__)
    assert not list(tmp_path.rglob("ran"))


def test_the_table_of_errors_is_complete() -> None:
    assert {kind.__name__ for kind in every_error()} - {"RegistryError"} == set(REACHED)
    assert {kind.__name__ for kind in every_error()} | {"RegistryWarning"} == set(registry.errors.__all__)


def test_codes_are_stable_and_unique() -> None:
    assert {kind.__name__: kind.code for kind in every_error()} == {
        "RegistryError": "R100",
        "UnknownModel": "R101",
        "UnknownFamily": "R102",
        "UnknownHead": "R103",
        "CatalogError": "R201",
        "PluginError": "R301",
        "PluginConflict": "R302",
        "DownloadError": "R401",
        "IntegrityError": "R402",
        "OfflineError": "R403",
        "LockTimeout": "R404",
        "CacheError": "R405",
        "CheckpointError": "R501",
        "UnsafeCheckpoint": "R502",
        "ConfigError": "R601",
        "DistributedError": "R701",
    }


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("UnknownModel", LookupError),
        ("UnknownFamily", LookupError),
        ("UnknownHead", LookupError),
        ("CatalogError", ValueError),
        ("ConfigError", ValueError),
        ("LockTimeout", TimeoutError),
    ],
)
def test_an_error_is_also_pythons_own_kind(name: str, builtin: type[Exception]) -> None:
    assert issubclass(getattr(registry, name), builtin)


def test_an_entry_is_a_value() -> None:
    entry = registry.resolve("bert-base-uncased")
    assert pickle.loads(pickle.dumps(entry)) == entry
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.source = "elsewhere"  # type: ignore[misc]


# -- must-show 8 ---------------------------------------------------------------------------------------------------------


def test_a_misspelt_key_names_file_line_and_key() -> None:
    Path("models.yaml").write_text("registry: 1\nmodels:\n  mine:\n    family: bert\n    sorce: ./x\n")
    with pytest.raises(registry.CatalogError, match=r"models.yaml:5:5: .*'sorce'; did you mean 'source'\?"):
        registry.load("mine")


@pytest.mark.parametrize("use", ["load", "load_config", "load_tokenizer", "fetch"])
def test_an_unreachable_server_is_no_unknown_name(use: str, closed_port: int) -> None:
    Path("models.yaml").write_text(
        f"registry: 1\nmodels:\n  far: {{family: bert, source: 'http://127.0.0.1:{closed_port}/model/'}}\n"
    )
    with pytest.raises(registry.DownloadError) as caught:
        getattr(registry, use)("far")
    assert f"127.0.0.1:{closed_port}" in str(caught.value)


def test_an_unknown_name_is_unknown_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was made")

    monkeypatch.setattr(socket, "socket", refuse)
    for use in (registry.load, registry.load_config, registry.load_tokenizer, registry.fetch):
        with pytest.raises(registry.UnknownModel, match="did you mean 'bert-base-uncased'"):
            use("bert-base-uncasd")
    with pytest.raises(registry.UnknownHead):
        registry.load("bert-base-uncased", head="masked")
