"""Who asks for a family that is not here learns what to install."""

from __future__ import annotations

import pytest
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

import registry
from registry.errors import UnknownFamily, UnknownModel
from registry.families.entry_points import canonical
from registry.families.host import _TRANSFORMERS, PluginHost
from tests.families.conftest import Install, family_files


def unknown(name: str) -> str:
    with pytest.raises(UnknownModel) as caught:
        registry.resolve(name)
    with pytest.raises(UnknownModel) as again:
        registry.load(name)
    assert str(caught.value) == str(again.value) and caught.value.name == name
    return str(caught.value)


def unknown_family(name: str) -> str:
    with pytest.raises(UnknownFamily) as caught:
        PluginHost().get(name)
    return str(caught.value)


def test_the_families_of_transformers_are_families_of_transformers() -> None:
    assert set(_TRANSFORMERS.split()) <= {canonical(name) for name in CONFIG_MAPPING_NAMES}


@pytest.mark.parametrize("family", ["xlnet", "xlm", "roberta", "distilbert"])
def test_a_family_of_the_library_of_2019_that_is_not_here_is_told_where_it_is(family: str) -> None:
    assert f"registry new-family {family}), or use transformers (pip install transformers)" in unknown_family(family)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("roberta-base", "roberta"),
        ("xlm-mlm-en-2048", "xlm"),
        ("xlm-roberta-large", "xlm-roberta"),
        ("distilbert-base-uncased-distilled-squad", "distilbert"),
        ("T5_small", "t5"),
    ],
)
def test_a_name_of_such_a_family_is_told_so_too(name: str, family: str) -> None:
    assert f"It may be of family {family!r}: " in unknown(name)


@pytest.mark.parametrize("name", ["bert-base-uncasd", "robertabase", "t5ish", "zzz"])
def test_any_other_name_is_not(name: str) -> None:
    assert "of family" not in unknown(name)


def test_a_package_can_say_where_a_family_went(install: Install) -> None:
    install("acme-all", {"acme-xl": "acme_xl_models", "roberta": "acme_roberta"}, group="registry.moved", version="9.1")
    said = "as acme-all 9.1 says, it comes with another package: pip install acme-xl-models"
    assert said in unknown_family("acme-xl")
    assert said in unknown_family("acme_xl")
    assert said in unknown("acme-xl-small")
    assert "pip install acme-roberta" in unknown("roberta-large")


def test_a_family_that_came_back_is_looked_for_no_more(install: Install) -> None:
    install("acme-all", {"acme": "acme_models"}, group="registry.moved")
    install("acme-models", {"acme": "acme_family.plugin"}, family_files("acme_family", "acme"))
    assert PluginHost().get("acme").name == "acme"
    assert "of family" not in unknown("acme-small")


def test_a_family_that_is_switched_off_says_whose_it_is(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("acme-models", {"acme": "acme_family.plugin"}, family_files("acme_family", "acme"), version="1.2")
    monkeypatch.setenv("REGISTRY_PLUGINS_DISABLED", "acme,gpt2")
    assert "acme-models 1.2 has it, but is switched off; take it out of REGISTRY_PLUGINS_DISABLED" in unknown_family("acme")
    assert "pretrained-registry" in unknown_family("gpt2")
