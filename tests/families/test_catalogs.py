"""Catalogs that installed packages bring: found by metadata, without importing any."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from registry.catalog.layers import LayerKind
from registry.errors import RegistryWarning, UnknownModel
from registry.families.host import PluginHost
from registry.model_registry import ModelRegistry
from tests.families.conftest import Install, family_files

CATALOG = "registry: 1\nmodels:\n  {name}: {{family: {family}, source: ./weights}}\n"


def catalog(name: str, family: str = "bert") -> str:
    return CATALOG.format(name=name, family=family)


@pytest.fixture
def models(install: Install) -> Path:
    """A catalog package acme-models 1.2, whose module must not be imported."""
    files = {
        "acme_models/__init__.py": "raise AssertionError('imported')\n",
        "acme_models/models.yaml": catalog("acme-support"),
    }
    return install("acme-models", {"acme": "acme_models"}, files, version="1.2", group="registry.catalogs")


def test_a_catalog_package_is_a_layer_above_families_and_is_not_imported(models: Path, site: Path) -> None:
    registry = ModelRegistry()
    entry = registry.resolve("acme-support")
    assert entry.source == f"{site}/acme_models/weights"
    assert entry.origins["source"].file == f"{site}/acme_models/models.yaml"
    assert "acme-support" in registry.list_models()
    sources = registry.families.catalog_sources()
    assert [source.kind for source in sources] == [*[LayerKind.FAMILY] * 4, LayerKind.PACKAGE]
    assert (sources[-1].distribution, sources[-1].version, sources[-1].builtin) == ("acme-models", "1.2", False)
    assert "acme_models" not in sys.modules


@pytest.mark.parametrize("value", ["acme_models.deep.module", "acme_models:models.yaml"])
def test_only_the_top_level_name_of_the_entry_point_is_looked_at(value: str, install: Install) -> None:
    files = {"acme_models/__init__.py": "", "acme_models/models.yaml": catalog("acme-support")}
    install("acme-models", {"acme": value}, files, group="registry.catalogs")
    assert ModelRegistry().resolve("acme-support").family == "bert"


@pytest.mark.parametrize("disabled", ["acme", "acme-models", "Acme_Models", "acme-models:acme"])
def test_a_catalog_package_can_be_switched_off(disabled: str, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ModelRegistry().resolve("acme-support")
    monkeypatch.setenv("REGISTRY_PLUGINS_DISABLED", disabled)
    with pytest.raises(UnknownModel, match="was provided by acme-models 1.2; remove that from REGISTRY_PLUGINS_DISABLED"):
        ModelRegistry().resolve("acme-support")


@pytest.mark.parametrize("files", [{"acme_models/__init__.py": ""}, {}], ids=["no catalog", "no package"])
def test_a_catalog_package_without_its_catalog_is_reported_and_the_rest_works(files: dict[str, str], install: Install) -> None:
    install("acme-models", {"acme": "acme_models"}, files, group="registry.catalogs")
    registry = ModelRegistry()
    with pytest.warns(RegistryWarning, match=r"acme_models/models.yaml:1:1: .* readable, but is not \(No such file"):
        assert registry.resolve("bert-base-uncased").family == "bert"


def test_a_broken_catalog_of_a_package_is_reported_and_the_rest_works(install: Install, models: Path, site: Path) -> None:
    files = {"bad_models/__init__.py": "", "bad_models/models.yaml": "registry: 1\nmodels: [x\n"}
    install("bad-models", {"bad": "bad_models"}, files, group="registry.catalogs")
    for _ in range(2):
        registry = ModelRegistry()
        with pytest.warns(RegistryWarning, match=f"{site}/bad_models/models.yaml:3:1: .* expected to be YAML"):
            assert registry.resolve("acme-support").family == "bert"
        assert "bert-base-uncased" in registry.list_models()


def test_a_family_and_a_catalog_package_in_one_distribution_are_both_found(install: Install) -> None:
    files = {
        **family_files("acme_family", "acme"),
        "acme_family/models.yaml": catalog("one", "acme"),
        "acme_models/__init__.py": "",
        "acme_models/models.yaml": catalog("two", "acme"),
    }
    info = install("acme", {"acme": "acme_family.plugin"}, files)
    with (info / "entry_points.txt").open("a") as points:
        points.write("[registry.catalogs]\nacme = acme_models\n")
    registry = ModelRegistry()
    assert registry.resolve("one").family == registry.resolve("two").family == "acme"


def test_a_host_without_families_takes_its_catalogs_from_where_it_is_told(models: Path) -> None:
    assert [source.kind for source in PluginHost(list).catalog_sources()] == [LayerKind.PACKAGE]
    assert PluginHost(list, list).catalog_sources() == []


def test_a_name_of_an_uninstalled_family_says_what_to_install(install: Install, site: Path) -> None:
    import shutil

    files = {**family_files("acme_family", "acme"), "acme_family/models.yaml": catalog("acme-base", "acme")}
    info = install("acme-family", {"acme": "acme_family.plugin"}, files, version="1.2")
    assert ModelRegistry().resolve("acme-base").family == "acme"
    for folder in (info, site / "acme_family"):
        shutil.rmtree(folder)
    message = "was provided by acme-family 1.2, which is not installed; pip install acme-family"
    with pytest.raises(UnknownModel, match=message) as caught:
        ModelRegistry().resolve("acme-base")
    assert caught.value.distribution == "acme-family"
    with pytest.raises(UnknownModel, match=message):
        ModelRegistry().load("acme-base")
    assert ModelRegistry().resolve("bert-base-uncased").family == "bert"
