"""Names that are held to `models.lock`: what is refused, what is warned of, and what goes on working."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import shutil
import tarfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import registry
import registry.lockfile.update as lock_update
from registry import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    CatalogError,
    CheckpointError,
    ConfigError,
    DownloadError,
    IntegrityError,
    ModelRegistry,
    OfflineError,
    RegistryWarning,
    UnknownModel,
)
from registry.families.family import Family
from registry.families.host import PluginHost
from tests.processes import ROOT, run_python
from tests.registry_bert.tiny import build, inputs
from tests.servers import COMMIT, HubFiles, Server, file_server, hub_server

CLASS = "BertForSequenceClassification"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world"]
LOCK = Path("models.lock")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def other_byte(data: bytes) -> bytes:
    """Return as many bytes, of which the last one is another."""
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `save_pretrained` makes it, with a vocabulary."""
    folder = tmp_path_factory.mktemp("saved") / "tiny-bert"
    build(CLASS).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return folder


@pytest.fixture
def files(saved: Path) -> dict[str, bytes]:
    """What the server has; a test changes it."""
    return {f"/acme/{path.name}": path.read_bytes() for path in saved.iterdir()}


@pytest.fixture
def server(files: dict[str, bytes]) -> Iterator[Server]:
    with file_server(files) as server:
        yield server


def catalog(**models: str) -> None:
    """Write the project's models.yaml: name to the fields of its entry, in YAML's flow style."""
    lines = [f"  {name}: {{{fields}}}\n" for name, fields in models.items()]
    Path("models.yaml").write_text("registry: 1\nmodels:\n" + "".join(lines))


@pytest.fixture
def locked(server: Server) -> Server:
    """A project whose one name, `acme`, is locked."""
    catalog(acme=f"family: bert, source: '{server.url}/acme/', head: sequence-classification")
    registry.default_registry().lock()
    server.requests.clear()
    return server


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """Another machine's cache for what the test does after it asks for this."""
    return tmp_path / "fresh"


def lock(*names: str, **options: Any) -> Any:
    return registry.default_registry().lock(names, **options)


def said() -> dict[str, Any]:
    """Return the lock file as another reader of YAML sees it."""
    data: dict[str, Any] = yaml.safe_load(LOCK.read_text())
    return data


# -- what is locked ------------------------------------------------------------------------------------------------------


def test_the_lock_says_what_the_server_has(locked: Server, files: dict[str, bytes]) -> None:
    assert said() == {
        "registry_lock": 1,
        "registry": registry.__version__,
        "models": {
            "acme": {
                "family": "bert",
                "plugin": "pretrained-registry",
                "plugin_version": registry.__version__,
                "source": f"{locked.url}/acme/",
                "files": {
                    name.rpartition("/")[2]: {"sha256": sha256(body), "size": len(body), "url": locked.url + name}
                    for name, body in files.items()
                },
            }
        },
    }


def test_locking_twice_changes_nothing(locked: Server) -> None:
    before = LOCK.read_bytes()
    assert lock().differences == ()
    assert LOCK.read_bytes() == before


def test_all_that_fetch_brings_is_locked(locked: Server, fresh: Path) -> None:
    folder = registry.fetch("acme", cache_dir=fresh)
    assert {path.name for path in folder.iterdir()} == set(said()["models"]["acme"]["files"])


@pytest.mark.parametrize("mode", [True, "exact"])
def test_what_is_locked_loads_on_another_machine(locked: Server, fresh: Path, mode: bool | str) -> None:
    model = registry.load("acme", locked=mode, cache_dir=fresh)
    with torch.no_grad():
        assert torch.equal(model(**inputs(CLASS)).logits, build(CLASS)(**inputs(CLASS)).logits)
    assert registry.load_config("acme", locked=mode, cache_dir=fresh).num_labels == 3
    assert registry.load_tokenizer("acme", locked=mode, cache_dir=fresh).encode("hello world") == [2, 5, 6, 3]
    assert (registry.fetch("acme", locked=mode, cache_dir=fresh) / "vocab.txt").read_text().split() == WORDS


def test_what_is_locked_and_here_needs_no_network(locked: Server) -> None:
    registry.load("acme", locked="exact", offline=True)
    registry.load_tokenizer("acme", locked="exact", offline=True)
    registry.fetch("acme", locked="exact", offline=True)
    assert not locked.requests


def test_what_is_locked_and_not_here_says_so_offline(locked: Server, fresh: Path) -> None:
    with pytest.raises(OfflineError, match=r"config\.json"):
        registry.load("acme", locked=True, offline=True, cache_dir=fresh)


def test_from_pretrained_takes_it_too(locked: Server, files: dict[str, bytes], fresh: Path) -> None:
    for cls in (BertConfig, BertTokenizer, BertForSequenceClassification):
        cls.from_pretrained("acme", locked="exact", cache_dir=fresh)
    for name in files:
        files[name] = other_byte(files[name])
    for cls in (BertConfig, BertTokenizer, BertForSequenceClassification):
        with pytest.raises(IntegrityError, match="locked sha256"):
            cls.from_pretrained("acme", locked=True, cache_dir=fresh / "other")


# -- must-show 5 ---------------------------------------------------------------------------------------------------------


def test_a_byte_that_changed_at_the_source_is_refused_with_both_hashes(
    locked: Server, files: dict[str, bytes], fresh: Path
) -> None:
    old = files["/acme/model.safetensors"]
    files["/acme/model.safetensors"] = new = other_byte(old)
    for use in (registry.load, registry.fetch):
        with pytest.raises(IntegrityError) as caught:
            use("acme", locked=True, cache_dir=fresh)
        assert (caught.value.expected, caught.value.actual) == (sha256(old), sha256(new))
        assert f"locked sha256 {sha256(old)}, found sha256 {sha256(new)}" in caught.value.message
        assert "model.safetensors of model 'acme'" in caught.value.message
        assert "`registry lock acme`" in caught.value.message
    registry.load("acme", cache_dir=fresh)  # who does not ask for the lock gets what is there
    with pytest.raises(IntegrityError):
        registry.load("acme", locked=True, cache_dir=fresh)


def test_a_file_of_another_size_is_refused_with_both_sizes(locked: Server, files: dict[str, bytes], fresh: Path) -> None:
    size = len(files["/acme/vocab.txt"])
    files["/acme/vocab.txt"] += b"more\n"
    with pytest.raises(IntegrityError, match=f"locked size {size}, found size {size + 5}"):
        registry.load_tokenizer("acme", locked=True, cache_dir=fresh)


def test_the_locked_bytes_are_used_where_they_are_here_whatever_the_source_has(locked: Server, files: dict[str, bytes]) -> None:
    weights = files["/acme/model.safetensors"]
    files["/acme/model.safetensors"] = other_byte(weights)
    assert (registry.fetch("acme", locked=True) / "model.safetensors").read_bytes() == weights
    registry.fetch("acme", refresh=True)  # somebody takes the new ones
    assert (registry.fetch("acme", locked=True) / "model.safetensors").read_bytes() == weights


def test_a_hash_that_changed_in_the_catalog_is_refused_before_anything_is_fetched(locked: Server, fresh: Path) -> None:
    catalog(acme=f"family: bert, source: '{locked.url}/acme/', files: {{vocab.txt: {{sha256: {'5f' * 32}}}}}")
    digest = said()["models"]["acme"]["files"]["vocab.txt"]["sha256"]
    for use in (registry.load, registry.load_tokenizer, registry.load_config, registry.fetch):
        with pytest.raises(IntegrityError) as caught:
            use("acme", locked=True, cache_dir=fresh)
        assert (caught.value.expected, caught.value.actual) == (digest, "5f" * 32)
        line = LOCK.read_text().splitlines().index("      vocab.txt:") + 1
        assert f"locked {digest} ({LOCK.absolute()}:{line}), but is pinned as {'5f' * 32}" in caught.value.message
        assert f"{Path('models.yaml').absolute()}:3" in caught.value.message
    assert not locked.requests


def test_a_size_that_changed_in_the_catalog_is_refused_too(locked: Server) -> None:
    catalog(acme=f"family: bert, source: '{locked.url}/acme/', files: {{vocab.txt: {{size: 3}}}}")
    with pytest.raises(IntegrityError, match=r"size of vocab.txt .* but is pinned as 3 "):
        registry.load("acme", locked=True)


def test_a_pin_that_is_as_locked_is_fine(locked: Server, files: dict[str, bytes]) -> None:
    pin = f"sha256: {sha256(files['/acme/vocab.txt'])}, size: {len(files['/acme/vocab.txt'])}"
    catalog(acme=f"family: bert, source: '{locked.url}/acme/', files: {{vocab.txt: {{{pin}}}}}")
    registry.load_tokenizer("acme", locked="exact")


PLUGIN = """
import dataclasses
import registry_bert.plugin
from registry import hookimpl

REGISTRY_API = 1

@hookimpl
def registry_family():
    return dataclasses.replace(registry_bert.plugin.registry_family(), name="acme-bert")
"""


def install(site: Path, version: str) -> None:
    """Install version so of a plugin for the family acme-bert, in place of another."""
    for old in site.glob("*.dist-info"):
        shutil.rmtree(old)
    (site / "acme_plugin.py").write_text(PLUGIN)
    info = site / f"acme_bert-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: acme-bert\nVersion: {version}\n")
    (info / "entry_points.txt").write_text("[registry.families]\nacme-bert = acme_plugin\n")


@pytest.fixture
def outsider(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A locked name of a family that another distribution provides; return where that is installed."""
    site = tmp_path / "site"
    site.mkdir()
    install(site, "1.0")
    monkeypatch.syspath_prepend(site)
    catalog(acme=f"family: acme-bert, source: '{server.url}/acme/'")
    registry.default_registry().lock()
    model = said()["models"]["acme"]
    assert (model["plugin"], model["plugin_version"]) == ("acme-bert", "1.0")
    return site


def test_another_version_of_the_plugin_is_warned_of_once_and_refused_when_exact(outsider: Path) -> None:
    registry.load("acme", locked="exact")
    install(outsider, "1.1")
    code = """
import registry, sys, warnings
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    registry.load("acme", locked=True), registry.load_tokenizer("acme", locked=True), registry.fetch("acme", locked=True)
print(*(each.message for each in told), sep="\\n")
try:
    registry.load("acme", locked="exact")
except registry.CatalogError as error:
    print(error)
"""
    warned, refused = run_python("-c", code, path=[outsider]).stdout.splitlines()
    for message in (warned, refused):
        assert "plugin of family 'acme-bert' is expected to be the locked acme-bert 1.0, but is acme-bert 1.1" in message
        assert f"{LOCK.absolute()}:6" in message
    assert refused.startswith("[R201]")


def test_a_plugin_that_is_not_installed_is_named_with_its_version(outsider: Path) -> None:
    shutil.rmtree(next(outsider.glob("*.dist-info")))
    code = "import registry; registry.load('acme', locked=True)"
    done = run_python("-c", code, path=[outsider], check=False)
    assert "UnknownFamily: [R102]" in done.stderr
    assert "pip install acme-bert==1.0" in done.stderr


def relock(old: str, new: str) -> None:
    """Change the lock file by hand."""
    text = LOCK.read_text()
    assert old in text
    LOCK.write_text(text.replace(old, new))


def test_another_version_of_the_library_is_one_warning(locked: Server) -> None:
    relock(f'"{registry.__version__}"', '"0.0.7"')  # of the library and of the families that come with it
    with pytest.warns(RegistryWarning) as told:
        registry.load("acme", locked=True)
    (only,) = told
    assert f"pretrained-registry is expected to be the locked version 0.0.7, but is {registry.__version__}" in str(only.message)
    with pytest.raises(CatalogError, match=r"locked version 0\.0\.7"):
        registry.load("acme", locked="exact")


def test_a_family_that_is_registered_in_the_process_has_no_plugin(server: Server) -> None:
    bert = PluginHost().get("bert")
    own = ModelRegistry()
    own.register(Family(**{field: getattr(bert, field) for field in ("config", "heads", "default_head", "files")}, name="mine"))
    catalog(acme=f"family: mine, source: '{server.url}/acme/'")
    own.lock()
    assert "plugin" not in said()["models"]["acme"]
    own.load("acme", locked="exact")
    relock('    source: "http', '    plugin: "acme-bert"\n    plugin_version: "1.0"\n    source: "http')
    with pytest.raises(CatalogError, match="locked acme-bert 1.0, but is registered in the process"):
        own.load("acme", locked="exact")


# -- files that are not locked -------------------------------------------------------------------------------------------


def test_a_file_that_came_to_the_source_later_is_not_even_asked_for(
    locked: Server, files: dict[str, bytes], fresh: Path
) -> None:
    files["/acme/added_tokens.json"] = b'{"hello world": 7}'
    folder = registry.fetch("acme", locked=True, cache_dir=fresh)
    assert not (folder / "added_tokens.json").exists()
    assert len(registry.load_tokenizer("acme", locked=True, cache_dir=fresh)) == len(WORDS)
    assert {request.path for request in locked.requests} == set(files) - {"/acme/added_tokens.json"}


def test_a_file_beside_a_local_model_is_not_used(saved: Path) -> None:
    shutil.copytree(saved, "model")
    catalog(acme="family: bert, source: ./model, head: sequence-classification")
    lock()
    torch.save({}, "model/pytorch_model.bin")  # newer, so that without the lock it would be loaded, with a warning
    Path("model/added_tokens.json").write_text('{"hello world": 7}')
    assert registry.load("acme", locked=True).load_report.clean
    assert len(registry.load_tokenizer("acme", locked=True)) == len(WORDS)
    folder = registry.fetch("acme", locked=True)
    assert {path.name for path in folder.iterdir()} == {path.name for path in saved.iterdir()}
    (folder / "model.safetensors").write_bytes(b"somebody edits what he got")
    registry.load("acme", locked=True)


def test_what_fetch_returns_shares_no_bytes_with_a_local_model(saved: Path) -> None:
    shutil.copytree(saved, "model")
    with Path("model/vocab.txt").open("a") as file:  # as large as what is linked from the cache
        file.writelines(f"word{number}\n" for number in range(200_000))
    Path("model/notes.txt").write_text("not of the model")
    catalog(acme="family: bert, source: ./model")
    lock()
    folder = registry.fetch("acme", locked=True)
    assert (folder / "vocab.txt").read_bytes() == Path("model/vocab.txt").read_bytes()
    assert not (folder / "vocab.txt").samefile("model/vocab.txt")


def test_a_file_that_is_not_locked_is_told_as_such(locked: Server, files: dict[str, bytes]) -> None:
    with pytest.raises(DownloadError, match=r"model\.ckpt\.index.* none of it is locked.*`registry lock acme`"):
        BertForSequenceClassification.from_pretrained("acme", from_tf=True, locked=True)


def test_named_weights_that_the_lock_lacks_are_told_as_not_locked(saved: Path) -> None:
    shutil.copytree(saved, "model")
    catalog(acme="family: bert, source: ./model, files: {config.json: {}, model.safetensors: {}, vocab.txt: {}}")
    lock()
    text = LOCK.read_text()
    assert "model.safetensors:" in text
    LOCK.write_text(text.replace("model.safetensors:", "other.safetensors:"))
    with pytest.raises(DownloadError, match=r"model\.safetensors of .*models\.lock, but none of it is locked"):
        registry.load("acme", locked=True)


def test_a_file_that_is_locked_and_gone_is_told(locked: Server, files: dict[str, bytes], fresh: Path) -> None:
    del files["/acme/vocab.txt"]
    with pytest.raises(DownloadError, match=r"vocab\.txt"):
        registry.load_tokenizer("acme", locked=True, cache_dir=fresh)


def test_the_environment_holds_single_files_too(locked: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_LOCKED", "1")
    assert registry.default_registry().fetch_file("acme", "vocab.txt").read_text().split() == WORDS
    with pytest.raises(DownloadError, match="none of it is locked"):
        registry.default_registry().fetch_file("acme", "corpus.bin")


# -- names ---------------------------------------------------------------------------------------------------------------


def test_a_name_that_is_not_locked_is_refused_with_the_command(locked: Server) -> None:
    for use in (registry.load, registry.load_tokenizer, registry.load_config, registry.fetch):
        with pytest.raises(CatalogError, match=r"models\.lock:1:1: model 'gpt2' .* run `registry lock gpt2`"):
            use("gpt2", locked=True)
    with pytest.raises(UnknownModel):
        registry.load("gpt22", locked=True)


def test_without_a_lock_file_it_is_named(server: Server) -> None:
    catalog(acme=f"family: bert, source: '{server.url}/acme/'")
    with pytest.raises(CatalogError, match=r"models\.lock:1:1: .*run `registry lock`") as caught:
        registry.load("acme", locked=True)
    assert caught.value.file == str(LOCK.absolute())
    assert not server.requests


def test_without_a_project_the_file_must_be_named(saved: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    elsewhere = tmp_path / "shared" / "models.yaml"
    elsewhere.parent.mkdir()
    elsewhere.write_text(f"registry: 1\nmodels:\n  acme: {{family: bert, source: {saved}}}\n")
    monkeypatch.setenv("REGISTRY_MODELS", str(elsewhere))
    for use in (lambda: registry.load("acme", locked=True), lock):
        with pytest.raises(ConfigError, match="REGISTRY_LOCK_FILE"):
            use()
    lock(file="my.lock")
    monkeypatch.setenv("REGISTRY_LOCK_FILE", "my.lock")
    registry.load("acme", locked="exact")
    assert lock(check=True).differences == ()


def test_an_alias_is_locked_to_its_model(locked: Server) -> None:
    fields = f"family: bert, source: '{locked.url}/acme/'"
    catalog(acme=fields, prod="alias: acme", v2=fields)
    with pytest.raises(CatalogError, match="`registry lock prod`"):
        registry.load("prod", locked=True)
    lock()
    registry.load("prod", locked="exact")
    catalog(acme=fields, prod="alias: v2", v2=fields)
    with pytest.raises(CatalogError, match=r"'prod' is expected to be the locked 'acme', but is 'v2' .*models\.yaml:4"):
        registry.load("prod", locked=True)
    catalog(acme=fields, prod=fields, v2=fields)
    with pytest.raises(CatalogError, match="'prod' is expected to be the locked 'acme', but is 'prod'"):
        registry.load("prod", locked=True)


def test_another_family_is_refused(locked: Server) -> None:
    catalog(acme=f"family: gpt2, source: '{locked.url}/acme/'")
    with pytest.raises(CatalogError, match=r"family .* locked 'bert', but is 'gpt2' .*models\.yaml:3"):
        registry.load("acme", locked=True)
    assert not locked.requests


def test_only_names_are_locked(locked: Server, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for given in (str(saved), saved, f"{locked.url}/acme/", "hf://acme/tiny"):
        with pytest.raises(ConfigError, match="only names are locked"):
            registry.load(given, locked=True)
    monkeypatch.setenv("REGISTRY_LOCKED", "1")
    registry.load(saved)  # the caller's own files are used
    with pytest.raises(ConfigError, match="only names are locked"):
        registry.load(f"{locked.url}/acme/", family="bert")
    registry.load(f"{locked.url}/acme/", family="bert", locked=False)


@pytest.mark.parametrize("broken", ["registry: 1\nmodels: {}\n", "models:\n  a: [\n"])
@pytest.mark.parametrize("mode", ["1", "exact"])
@pytest.mark.filterwarnings("ignore:.*expected to be YAML")  # what is broken is told beside
def test_a_folder_does_not_stand_for_a_locked_name_that_no_catalog_has(
    saved: Path, monkeypatch: pytest.MonkeyPatch, broken: str, mode: str
) -> None:
    catalog(tiny=f"family: bert, source: {saved}", prod="alias: tiny")
    lock()
    for folder in ("tiny", "prod", "other"):
        shutil.copytree(saved, folder)
    Path("models.yaml").write_text(broken)
    for name in ("tiny", "prod"):
        with pytest.raises(CatalogError, match=rf"models\.lock:\d+:1: .*'{name}'.* locked, but no catalog has it") as caught:
            registry.load(name, locked=mode)
        assert caught.value.file == str(LOCK.absolute())
    with pytest.raises(ConfigError, match="only names are locked"):
        registry.load("./tiny", locked=mode)
    monkeypatch.setenv("REGISTRY_LOCKED", mode)
    for name in ("tiny", "prod"):
        for use in (registry.load, registry.fetch, BertForSequenceClassification.from_pretrained):
            with pytest.raises(CatalogError, match=rf"'{name}'.* locked, but no catalog has it; .*'\./{name}'"):
                use(name)
    for given in ("./tiny", Path("tiny"), "other"):  # the caller's own files are used
        registry.load(given)
    registry.load("tiny", locked=False)


def test_a_folder_is_used_where_nothing_is_locked(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(saved, "tiny")
    monkeypatch.setenv("REGISTRY_LOCKED", "exact")
    registry.load("tiny")
    catalog()
    registry.load("tiny")


def test_a_configuration_that_is_given_by_name_is_held_to_the_lock_too(locked: Server) -> None:
    registry.load("acme", locked=True, config="acme")
    with pytest.raises(CatalogError, match="`registry lock bert-base-uncased`"):
        registry.load("acme", locked=True, config="bert-base-uncased")
    with pytest.raises(CatalogError, match="`registry lock bert-base-uncased`"):
        BertForSequenceClassification.from_pretrained("acme", locked=True, config="bert-base-uncased")


# -- asking for it -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "argument", "held"),
    [
        ("1", None, True),
        ("true", None, True),
        ("ON", None, True),
        ("exact", None, True),
        ("0", None, False),
        ("", None, False),
        ("1", False, False),
        ("exact", False, False),
        ("0", True, True),
        ("", "exact", True),
    ],
)
def test_the_argument_goes_before_the_environment(
    locked: Server,
    files: dict[str, bytes],
    fresh: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    argument: bool | str | None,
    held: bool,
) -> None:
    monkeypatch.setenv("REGISTRY_LOCKED", variable)
    files["/acme/vocab.txt"] = other_byte(files["/acme/vocab.txt"])
    if held:
        with pytest.raises(IntegrityError):
            registry.load_tokenizer("acme", locked=argument, cache_dir=fresh)
    else:
        registry.load_tokenizer("acme", locked=argument, cache_dir=fresh)


def test_what_is_neither_yes_nor_no_is_refused(locked: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="locked is expected to be true, false or 'exact', but is 'strictly'"):
        registry.load("acme", locked="strictly")
    monkeypatch.setenv("REGISTRY_LOCKED", "frozen")
    with pytest.raises(ConfigError, match="REGISTRY_LOCKED .* 'frozen'"):
        registry.load("acme")


def test_the_environment_does_not_keep_from_looking_after_the_cache(locked: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog(acme=f"family: bert, source: '{locked.url}/acme/'", other=f"family: bert, source: '{locked.url}/acme/'")
    registry.fetch("other")
    monkeypatch.setenv("REGISTRY_LOCKED", "1")
    assert registry.default_registry().cached_files("other")
    registry.default_registry().evict("other")


def test_the_lock_file_can_be_an_argument(locked: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = LOCK.rename(tmp_path / "its.lock")
    own = ModelRegistry(lock_file=elsewhere)
    own.load("acme", locked="exact")
    assert own.lock(check=True).differences == ()
    pickle.loads(pickle.dumps(own)).load("acme", locked="exact")
    with pytest.raises(CatalogError):
        registry.load("acme", locked=True)


def test_a_locked_name_needs_no_pins_in_the_catalog(locked: Server, fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_REQUIRE_PINS", "1")
    with pytest.raises(IntegrityError, match="expected to be pinned"):
        registry.load("acme", cache_dir=fresh)
    registry.load("acme", locked="exact", cache_dir=fresh)


def test_the_environment_does_not_keep_from_locking_anew(
    locked: Server, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_LOCKED", "exact")
    files["/acme/vocab.txt"] = other_byte(files["/acme/vocab.txt"])
    assert len(lock().differences) == 1
    registry.load_tokenizer("acme")


def test_a_registry_that_was_pickled_knows_its_lock_file_elsewhere(
    locked: Server, files: dict[str, bytes], fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickled = pickle.dumps(ModelRegistry())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    there = pickle.loads(pickled)
    there.load("acme", locked="exact", cache_dir=fresh)
    files["/acme/vocab.txt"] = other_byte(files["/acme/vocab.txt"])
    with pytest.raises(IntegrityError):
        there.load_tokenizer("acme", locked=True, cache_dir=fresh / "2")


def test_a_lock_that_changed_is_read_again(locked: Server) -> None:
    registry.load_config("acme", locked=True)
    relock('    family: "bert"', '    family: "gpt2"')
    with pytest.raises(CatalogError, match="'gpt2'"):
        registry.load_config("acme", locked=True)


@pytest.mark.parametrize(
    ("damage", "place", "words"),
    [
        (lambda text: text[:-40], r"models\.lock:\d+:\d+", "cut off"),
        (lambda text: text.replace("  acme:", "<<<<<<< HEAD\n  acme:"), r"models\.lock:6:1", "conflict mark <<<<<<<"),
        (lambda text: text.replace("size: ", "size: x", 1), r"models\.lock:\d+:15", "number of bytes"),
        (lambda text: text.replace('family: "bert"', "family: bert\n   - x"), r"models\.lock:8:", "YAML"),
    ],
)
def test_a_damaged_lock_is_refused_by_all_that_use_it(locked: Server, damage: Any, place: str, words: str) -> None:
    LOCK.write_text(damage(LOCK.read_text()))
    damaged = LOCK.read_bytes()
    for use in (lambda: registry.load("acme", locked=True), lambda: registry.fetch("acme", locked=True), lock):
        with pytest.raises(CatalogError, match=f"{place}.*{words}"):
            use()
    assert LOCK.read_bytes() == damaged
    assert not locked.requests


# -- sources -------------------------------------------------------------------------------------------------------------


def test_a_revision_that_moved_stays_at_the_locked_commit(saved: Path, fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = HubFiles(files={"acme/tiny": {path.name: path.read_bytes() for path in saved.iterdir()}})
    later = "f" * 40
    with hub_server(hub) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        catalog(acme="family: bert, source: 'hf://acme/tiny@main'")
        lock()
        model = said()["models"]["acme"]
        assert (model["source"], model["revision"]) == ("hf://acme/tiny@main", COMMIT)
        assert model["files"]["config.json"]["url"] == f"hf://acme/tiny@{COMMIT}/config.json"
        hub.commits = {"main": later, "old": COMMIT}
        server.requests.clear()
        registry.load("acme", locked="exact", cache_dir=fresh)
        asked = [request.path for request in server.requests if "/resolve/" in request.path]
        assert asked and all(f"/resolve/{COMMIT}/" in path for path in asked)
        registry.fetch("acme", cache_dir=fresh)  # unlocked, it is where the branch is now
        assert any("/resolve/main/" in request.path for request in server.requests)
        (difference, *urls) = lock(check=True).differences
        assert (difference.fact, difference.locked, difference.found) == ("revision", COMMIT, later)
        assert {each.fact for each in urls} == {"url"}


def test_the_commit_is_asked_for_where_all_files_are_here(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sides = dict.fromkeys(("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"), b"{}")
    contents = {path.name: path.read_bytes() for path in saved.iterdir()} | sides
    pins = ", ".join(f"{name}: {{sha256: {sha256(body)}}}" for name, body in contents.items())
    with hub_server(HubFiles(files={"acme/tiny": contents})) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        catalog(acme=f"family: bert, source: 'hf://acme/tiny', files: {{{pins}}}")
        lock()
        shutil.rmtree(Path(os.environ["REGISTRY_CACHE"]) / "refs", ignore_errors=True)
        LOCK.unlink()
        with pytest.raises(OfflineError, match="revision of hf://acme/tiny"):
            lock(offline=True)
        lock()
        assert said()["models"]["acme"]["revision"] == COMMIT


def test_a_commit_that_the_catalog_names_is_the_revision_even_offline(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = HubFiles(files={"acme/tiny": {path.name: path.read_bytes() for path in saved.iterdir()}})
    with hub_server(hub) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        catalog(acme=f"family: bert, source: 'hf://acme/tiny@{COMMIT}'")
        lock()
        text = LOCK.read_text()
        assert said()["models"]["acme"]["revision"] == COMMIT
        server.requests.clear()
        lock(offline=True)
        assert LOCK.read_text() == text and not server.requests


def test_an_address_of_a_files_own_is_locked_at_its_commit(
    saved: Path, files: dict[str, bytes], server: Server, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = HubFiles(files={"acme/words": {"v.txt": files["/acme/vocab.txt"]}})
    with hub_server(hub) as other:
        monkeypatch.setenv("HF_ENDPOINT", other.url)
        url = "hf://acme/words@main/v.txt"
        catalog(acme=f"family: bert, source: '{server.url}/acme/', files: {{vocab.txt: {{url: '{url}'}}}}")
        lock()
        file = said()["models"]["acme"]["files"]["vocab.txt"]
        assert (file["url"], file["revision"]) == (f"hf://acme/words@{COMMIT}/v.txt", COMMIT)
        hub.commits = {"main": "f" * 40, "old": COMMIT}
        other.requests.clear()
        registry.load_tokenizer("acme", locked="exact", cache_dir=fresh)
        assert f"/acme/words/resolve/{COMMIT}/v.txt" in {request.path for request in other.requests}


def test_a_source_that_moved_is_warned_of_and_held_to_the_lock(locked: Server, files: dict[str, bytes], fresh: Path) -> None:
    files |= {name.replace("/acme/", "/moved/"): body for name, body in files.items()}
    catalog(acme=f"family: bert, source: '{locked.url}/moved/'")
    with pytest.warns(RegistryWarning, match=r"source of model 'acme' .*/acme/, but is .*/moved/ .*models\.yaml:3"):
        registry.load("acme", locked=True, cache_dir=fresh)
    assert {request.path.split("/")[1] for request in locked.requests} == {"moved"}
    with pytest.raises(CatalogError, match="source of model"):
        registry.load("acme", locked="exact")
    files["/moved/vocab.txt"] = other_byte(files["/moved/vocab.txt"])
    with pytest.raises(IntegrityError, match="locked sha256"):
        registry.load_tokenizer("acme", locked=True, cache_dir=fresh / "2")


def test_mirrors_are_used_and_held_to_the_lock(locked: Server, files: dict[str, bytes], fresh: Path) -> None:
    files |= {name.replace("/acme/", "/mirror/"): body for name, body in files.items()}
    catalog(acme=f"family: bert, source: '{locked.url}/acme/', mirrors: ['{locked.url}/mirror/']")
    for name in [name for name in files if name.startswith("/acme/")]:
        del files[name]
    registry.load("acme", locked="exact", cache_dir=fresh)
    files["/mirror/vocab.txt"] = other_byte(files["/mirror/vocab.txt"])
    with pytest.raises(IntegrityError, match="/mirror/vocab.txt: locked sha256"):
        registry.load_tokenizer("acme", locked=True, cache_dir=fresh)


def test_secrets_are_not_locked_and_still_used(server: Server, files: dict[str, bytes], fresh: Path) -> None:
    catalog(acme=f"family: bert, source: '{server.url}/acme/?key=s3cret'")
    lock()
    assert "s3cret" not in LOCK.read_text()
    assert said()["models"]["acme"]["source"] == f"{server.url}/acme/"
    server.requests.clear()
    registry.load("acme", locked="exact", cache_dir=fresh)
    assert server.requests and all(request.path.endswith("?key=s3cret") for request in server.requests)


def test_a_checkout_moves_with_its_models(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "work" / "project"
    shutil.copytree(saved, project / "models" / "tiny")
    monkeypatch.chdir(project)
    catalog(acme="family: bert, source: ./models/tiny")
    lock()
    model = said()["models"]["acme"]
    assert model["source"] == "./models/tiny"
    assert model["files"]["vocab.txt"]["url"] == "./models/tiny/vocab.txt"
    Path("ci").mkdir()
    lock(file="ci/models.lock")
    assert yaml.safe_load(Path("ci/models.lock").read_text())["models"]["acme"]["source"] == "../models/tiny"
    monkeypatch.chdir(tmp_path)
    project.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    registry.load("acme", locked="exact")
    assert lock(check=True).differences == ()


def test_a_model_outside_the_checkout_is_locked_by_its_path(saved: Path) -> None:
    catalog(acme=f"family: bert, source: {saved}")
    lock()
    assert said()["models"]["acme"]["source"] == saved.as_posix()
    assert said()["models"]["acme"]["files"]["config.json"]["url"] == (saved / "config.json").as_posix()


def test_a_byte_that_changed_in_a_local_file_is_refused(saved: Path) -> None:
    shutil.copytree(saved, "model")
    catalog(acme="family: bert, source: ./model")
    lock()
    weights = Path("model/model.safetensors")
    old = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(other_byte(old))
    with pytest.raises(IntegrityError, match=f"locked sha256 {sha256(old)}, found sha256 {sha256(other_byte(old))}"):
        registry.load("acme", locked=True)


def test_of_an_archive_the_archive_is_locked(saved: Path, files: dict[str, bytes], server: Server, fresh: Path) -> None:
    with tarfile.open("tiny.tar.gz", "w:gz") as archive:
        archive.add(saved, "tiny")
    files["/tiny.tar.gz"] = Path("tiny.tar.gz").read_bytes()
    catalog(acme=f"family: bert, source: '{server.url}/tiny.tar.gz', head: sequence-classification")
    lock()
    locked = said()["models"]["acme"]["files"]
    assert list(locked) == ["tiny.tar.gz"]
    assert locked["tiny.tar.gz"]["sha256"] == sha256(files["/tiny.tar.gz"])
    registry.load("acme", locked="exact", offline=True)
    assert registry.load("acme", locked="exact", cache_dir=fresh).load_report.clean
    files["/tiny.tar.gz"] = other_byte(files["/tiny.tar.gz"])
    with pytest.raises(IntegrityError, match="locked sha256"):
        registry.load("acme", locked=True, cache_dir=fresh / "2")


def test_shards_are_locked_with_their_index(tmp_path: Path, files: dict[str, bytes], server: Server, fresh: Path) -> None:
    build(CLASS).save_pretrained(tmp_path / "shards", max_shard_size=20_000)
    del files["/acme/model.safetensors"]
    files |= {f"/acme/{path.name}": path.read_bytes() for path in (tmp_path / "shards").iterdir()}
    catalog(acme=f"family: bert, source: '{server.url}/acme/', head: sequence-classification")
    lock()
    names = set(said()["models"]["acme"]["files"])
    shards = {name for name in names if re.fullmatch(r"model-\d+-of-\d+\.safetensors", name)}
    assert len(shards) > 1 and "model.safetensors.index.json" in names
    assert registry.load("acme", locked="exact", cache_dir=fresh).load_report.clean
    shard = f"/acme/{min(shards)}"
    files[shard] = other_byte(files[shard])
    with pytest.raises(IntegrityError, match=f"{min(shards)} of model 'acme'"):
        registry.load("acme", locked=True, cache_dir=fresh / "2")


def test_a_tensorflow_checkpoint_is_locked_with_its_data_and_another_beside_it_is_not_in_the_way() -> None:
    folder = shutil.copytree(ROOT / "tests" / "tensorflow" / "checkpoints" / "bert", "release")
    catalog(acme="family: bert, source: ./release, head: pretraining")
    lock()
    assert set(said()["models"]["acme"]["files"]) == {
        "bert_config.json",
        "bert_model.ckpt.data-00000-of-00001",
        "bert_model.ckpt.index",
        "vocab.txt",
    }
    shutil.copy(Path(folder, "bert_model.ckpt.index"), Path(folder, "later.ckpt.index"))
    with pytest.raises(CheckpointError, match=r"later\.ckpt\.index"):
        registry.load("acme")
    assert not registry.load("acme", locked="exact").load_report.missing


def test_the_tokenizer_that_transformers_saved_over_another_is_fetched_and_locked(saved: Path, tmp_path: Path) -> None:
    from transformers import BertTokenizerFast

    folder = Path("model")
    shutil.copytree(saved, folder)
    words = tmp_path / "words" / "vocab.txt"
    words.parent.mkdir()
    words.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "world", "hello"]) + "\n")
    BertTokenizerFast.from_pretrained(words.parent).save_pretrained(folder)
    assert (folder / "vocab.txt").is_file()  # the older one's, which is no more to be used
    catalog(acme="family: bert, source: ./model")
    lock()
    assert "tokenizer.json" in said()["models"]["acme"]["files"]
    unlocked = registry.load_tokenizer("acme").encode("hello world")
    assert unlocked == [2, 6, 5, 3]
    assert registry.load_tokenizer("acme", locked=True).encode("hello world") == unlocked


# -- writing -------------------------------------------------------------------------------------------------------------


def test_locking_one_name_leaves_the_others_as_they_are(locked: Server, files: dict[str, bytes]) -> None:
    fields = f"family: bert, source: '{locked.url}/acme/'"
    before = LOCK.read_text()
    files["/acme/vocab.txt"] = other_byte(files["/acme/vocab.txt"])
    catalog(acme=fields, zeta=fields)
    result = lock("zeta")
    assert [(each.change, each.model) for each in result.differences] == [("added", "zeta")]
    block = before[before.index("  acme:") : before.index("...")]
    assert LOCK.read_text().count(block) == 1
    models = said()["models"]
    assert models["zeta"]["files"]["vocab.txt"]["sha256"] == sha256(files["/acme/vocab.txt"])
    assert models["acme"]["files"]["vocab.txt"]["sha256"] != sha256(files["/acme/vocab.txt"])


def test_a_new_lock_has_what_the_source_has_now_whatever_was_believed(locked: Server, files: dict[str, bytes]) -> None:
    old = files["/acme/vocab.txt"]
    files["/acme/vocab.txt"] = new = other_byte(old)
    before = LOCK.read_text().splitlines()
    (difference,) = lock(check=True).differences
    assert (difference.file, difference.locked, difference.found) == ("vocab.txt", sha256(old), sha256(new))
    assert LOCK.read_text().splitlines() == before
    lock()
    changed = [(a, b) for a, b in zip(before, LOCK.read_text().splitlines(), strict=True) if a != b]
    assert changed == [(f'        sha256: "{sha256(old)}"', f'        sha256: "{sha256(new)}"')]


def test_without_names_the_projects_and_those_already_locked_are_locked(
    locked: Server, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = f"family: bert, source: '{locked.url}/acme/'"
    extra = tmp_path / "extra.yaml"
    extra.write_text(f"registry: 1\nmodels:\n  extra: {{{fields}}}\n  bert-base-cased: {{{fields}}}\n")
    monkeypatch.setenv("REGISTRY_MODELS", str(extra))
    catalog(mine=fields, again="alias: mine")
    result = lock()
    assert set(said()["models"]) == {"bert-base-cased", "extra", "mine"}  # acme is in no catalog any more
    assert said()["aliases"] == {"again": "mine"}
    assert ("removed", "acme") in [(each.change, each.model) for each in result.differences]
    # A public name that was locked by name stays locked.
    monkeypatch.delenv("REGISTRY_MODELS")
    catalog(mine=fields, **{"bert-base-cased": f"override: true, {fields}"})
    lock("bert-base-cased")
    assert set(said()["models"]) == {"bert-base-cased", "extra", "mine"}
    lock()
    assert set(said()["models"]) == {"bert-base-cased", "mine"}
    assert "aliases" not in said()


def test_a_deprecated_name_is_locked_too(locked: Server) -> None:
    catalog(acme=f"family: bert, source: '{locked.url}/acme/'", old="alias: acme, deprecated: {since: 2026-05, note: renamed}")
    with pytest.warns(RegistryWarning, match="deprecated"):
        lock()
    assert said()["aliases"] == {"old": "acme"}


def test_a_disabled_name_is_not_locked(locked: Server) -> None:
    fields = f"family: bert, source: '{locked.url}/acme/'"
    catalog(acme=fields, other=fields)
    lock()
    catalog(acme=fields, other="disabled: not for now")
    lock()
    assert set(said()["models"]) == {"acme"}


def test_a_catalog_that_is_also_named_in_the_environment_has_its_lock_beside_it(
    locked: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_MODELS", str(Path("models.yaml").absolute()))
    registry.load("acme", locked="exact")
    assert lock(check=True).differences == ()


def test_what_cannot_be_locked_leaves_the_lock_as_it_is(locked: Server, files: dict[str, bytes]) -> None:
    before = LOCK.read_bytes()
    fields = f"family: bert, source: '{locked.url}/acme/'"
    for broken in (f"famly: bert, source: '{locked.url}/acme/'", f"family: bert, source: '{locked.url}/nowhere/'"):
        catalog(acme=fields, broken=broken)
        with pytest.raises((CatalogError, DownloadError)):
            lock()
        assert LOCK.read_bytes() == before
    with pytest.raises(UnknownModel):
        lock("./model")


def test_a_lock_that_cannot_be_written_is_told(locked: Server, tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="writable"):
        lock(file=tmp_path / "no" / "such" / "folder" / "models.lock")
    LOCK.unlink()
    LOCK.mkdir()
    with pytest.raises(CatalogError, match="readable"):
        lock()


def test_two_that_lock_at_once_do_not_undo_each_other(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    met, render, calls = threading.Event(), lock_update.render_lock, []

    def slowly(lock: Any) -> str:
        calls.append(lock)
        if len(calls) == 1:
            met.wait(0.3)  # for another to get as far, which only happens when nothing keeps it from that
        else:
            met.set()
        return render(lock)

    monkeypatch.setattr(lock_update, "render_lock", slowly)
    fields = f"family: bert, source: '{server.url}/acme/'"
    names = [f"m{number}" for number in range(4)]
    catalog(**dict.fromkeys(names, fields))
    failures: list[BaseException] = []

    def one(name: str) -> None:
        try:
            ModelRegistry().lock([name])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=one, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert list(said()["models"]) == names


def test_a_locked_model_is_converted_from_the_locked_bytes(locked: Server, files: dict[str, bytes], fresh: Path) -> None:
    registry.default_registry().convert("acme", "out", locked=True, cache_dir=fresh)
    assert registry.load("out").load_report.clean
    files["/acme/model.safetensors"] = other_byte(files["/acme/model.safetensors"])
    with pytest.raises(IntegrityError, match="locked sha256"):
        registry.default_registry().convert("acme", "out2", locked=True, cache_dir=fresh / "2")
    assert not Path("out2").exists()


def test_nothing_is_said_where_all_is_as_locked(locked: Server) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registry.load("acme", locked=True)
