"""A family's own models.yaml is found without importing the family."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from registry.errors import CatalogError, PluginError, RegistryWarning
from registry.families.discovery import package_folders
from registry.families.host import PluginHost
from registry.model_registry import ModelRegistry
from tests.families.conftest import Install, family_files

CATALOG = "registry: 1\nmodels:\n  {name}: {{family: {family}, source: ./weights}}\n"
EXPLODES = "raise AssertionError('imported')\n"


def test_the_catalog_lies_in_the_top_level_package_and_nothing_is_imported(install: Install, site: Path) -> None:
    files = {
        "acme/__init__.py": EXPLODES,
        "acme/deep/__init__.py": EXPLODES,
        "acme/deep/plugin.py": EXPLODES,
        "acme/models.yaml": CATALOG.format(name="acme-small", family="acme"),
        "acme/deep/models.yaml": CATALOG.format(name="not-here", family="acme"),
    }
    install("acme-family", {"acme": "acme.deep.plugin"}, files)
    registry = ModelRegistry()
    entry = registry.resolve("acme-small")
    assert (entry.family, entry.source) == ("acme", str(site / "acme/weights"))
    assert entry.origins["family"].file == str(site / "acme/models.yaml")
    assert "not-here" not in registry.list_models()
    assert "acme" not in sys.modules
    with pytest.raises(PluginError, match="imported"):
        registry.families.get("acme")


def test_the_catalog_of_a_package_that_is_imported_is_found_too(acme: str, site: Path) -> None:
    (site / "acme_family/models.yaml").write_text(CATALOG.format(name="acme-small", family="acme"))
    host = PluginHost()
    host.get("acme")
    assert [Path(source.path) for source in host.catalog_sources() if not source.builtin] == [site / "acme_family/models.yaml"]


def test_a_namespace_package_has_its_catalog_in_any_of_its_folders(install: Install, site: Path, tmp_path: Path) -> None:
    files = family_files("acme_space", "acme")
    del files["acme_space/__init__.py"]
    install("acme", {"acme": "acme_space.plugin"}, files)
    (tmp_path / "later/acme_space").mkdir(parents=True)
    (tmp_path / "later/acme_space/models.yaml").write_text(CATALOG.format(name="acme-small", family="acme"))
    sys.path.append(str(tmp_path / "later"))  # taken away with the rest of the path by the fixture `site`
    assert ModelRegistry().resolve("acme-small").source == str(tmp_path / "later/acme_space/weights")


def test_a_plugin_that_is_one_module_has_no_catalog(install: Install) -> None:
    install("acme", {"acme": "acme_module"}, {"acme_module.py": EXPLODES})
    assert all(source.builtin for source in PluginHost().catalog_sources())


@pytest.mark.parametrize("package", ["no_such_package", "", "sys"])
def test_what_is_no_package_has_no_folders(package: str) -> None:
    assert list(package_folders(package)) == []


def test_a_familys_broken_catalog_is_reported_and_the_rest_works(acme: str, site: Path) -> None:
    (site / "acme_family/models.yaml").write_text("registry: 1\nmodels: [\n")
    registry = ModelRegistry()
    with pytest.warns(RegistryWarning, match="acme_family/models.yaml:3:1: "):
        assert "bert-base-uncased" in registry.list_models()
    assert registry.families.get("acme").name == "acme"


def test_a_familys_broken_entry_breaks_no_other(acme: str, site: Path) -> None:
    text = CATALOG.format(name="acme-small", family="acme") + "  acme-odd: {sorce: ./x}\n"
    (site / "acme_family/models.yaml").write_text(text)
    registry = ModelRegistry()
    assert registry.resolve("acme-small").family == "acme"
    with pytest.raises(CatalogError, match="'sorce'"):
        registry.resolve("acme-odd")


def test_a_familys_names_go_when_it_is_switched_off(acme: str, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (site / "acme_family/models.yaml").write_text(CATALOG.format(name="acme-small", family="acme"))
    assert ModelRegistry().maybe_resolve("acme-small") is not None
    monkeypatch.setenv("REGISTRY_PLUGINS_DISABLED", "acme-family,pretrained-registry")
    assert ModelRegistry().list_models() == []


def test_an_outsider_cannot_redefine_a_builtin_name(acme: str, site: Path) -> None:
    text = CATALOG.format(name="bert-base-cased", family="acme") + "  acme-small: {family: acme, source: ./x}\n"
    (site / "acme_family/models.yaml").write_text(text)
    registry = ModelRegistry()
    with pytest.warns(RegistryWarning, match="'bert-base-cased' is built in"):
        assert registry.resolve("bert-base-cased").family == "bert"
    assert registry.resolve("acme-small").family == "acme"
