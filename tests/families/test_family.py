"""A family's description: what is checked at once, and what is imported when it is used."""

from __future__ import annotations

import collections
from importlib import import_module

import pytest

import registry
from registry.errors import PluginError, UnknownHead
from registry.families.family import Family


def family(**changes: object) -> Family:
    fields: dict[str, object] = {"name": "acme", "config": "m:C", "heads": {"base": "m:B", "lm": "m:L"}, "default_head": "base"}
    return Family(**{**fields, **changes})  # type: ignore[arg-type]


def test_files_have_defaults_by_role() -> None:
    files = {"config": ("acme.json", "config.json"), "vocab": ("vocab.txt",)}
    assert family(files=files).files == {"weights": ("model.safetensors", "pytorch_model.bin"), **files}


def test_the_default_head_is_one_of_the_heads() -> None:
    with pytest.raises(PluginError, match=r"default_head of family 'acme' .* \['base', 'lm'\], but is 'bass'"):
        family(default_head="bass")


@pytest.mark.parametrize("change", [{"config": "m.C"}, {"tokenizer": "m:a:b"}, {"heads": {"base": "m.B"}}])
def test_a_class_is_named_by_module_and_name(change: dict[str, object]) -> None:
    with pytest.raises(PluginError, match="family 'acme' is expected to be named 'module:Name'"):
        family(**change)


def test_class_paths_are_those_of_config_heads_and_tokenizer() -> None:
    assert family().class_paths() == ("m:C", "m:B", "m:L")
    assert family(tokenizer="m:T").class_paths() == ("m:C", "m:B", "m:L", "m:T")


def test_an_unknown_head_says_which_there_are() -> None:
    assert family().head_path("lm") == "m:L"
    with pytest.raises(UnknownHead, match="head of family 'acme' is expected to be one of base, lm, but is 'masked'") as caught:
        family().head_path("masked")
    assert (caught.value.head, caught.value.known) == ("masked", ("base", "lm"))


def test_a_class_is_imported_when_it_is_used() -> None:
    assert family().load_class("collections:OrderedDict") is collections.OrderedDict


@pytest.mark.parametrize(
    ("path", "cause"),
    [("no_such_module:C", ModuleNotFoundError), ("collections:NoSuchClass", AttributeError), (":C", ValueError)],
)
def test_a_class_that_cannot_be_imported_is_the_plugins_error(path: str, cause: type[Exception]) -> None:
    with pytest.raises(PluginError, match=f"'{path}' of family 'acme' .* raised {cause.__name__}") as caught:
        family().load_class(path)
    assert isinstance(caught.value.__cause__, cause)
    assert caught.value.family == "acme"


@pytest.mark.parametrize("package", ["registry_bert", "registry_gpt", "registry_gpt2", "registry_transfo_xl"])
def test_every_public_class_of_a_family_comes_from_the_top_package(package: str) -> None:
    home = import_module(package)
    for name in home.__all__:
        assert getattr(registry, name) is getattr(home, name)
    base = next(name for name in home.__all__ if name.endswith("PreTrainedModel"))
    heads = [getattr(home, name) for name in home.__all__ if name.endswith("Model") or "For" in name]
    assert len(heads) > 2 and all(issubclass(head, getattr(home, base)) for head in heads)


def test_further_classes_of_a_family_are_found() -> None:
    assert family(classes=("m:Base",)).class_paths() == ("m:C", "m:B", "m:L", "m:Base")
    with pytest.raises(PluginError, match="'module:Name'"):
        family(classes=("Base",))
