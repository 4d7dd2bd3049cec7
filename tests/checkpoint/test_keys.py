"""The bridge between names in files and names in models."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.checkpoint.tensor_names import match_names, wrapper_prefix

MODEL = ("net.a.weight", "net.norm.weight", "net.norm.bias", "head.weight")


def test_prefix_is_added_and_norms_renamed() -> None:
    matched, left = match_names(["a.weight", "norm.gamma", "norm.beta", "x"], MODEL, prefix="net", renamed={})
    assert matched == {"net.a.weight": "a.weight", "net.norm.weight": "norm.gamma", "net.norm.bias": "norm.beta"}
    assert left == {"x": None}


def test_prefix_is_removed() -> None:
    matched, left = match_names(["net.a.weight", "head.weight"], ["a.weight"], prefix="net", renamed={})
    assert matched == {"a.weight": "net.a.weight"} and left == {"head.weight": None}


def test_a_second_name_of_one_tensor_says_which_was_taken() -> None:
    matched, left = match_names(["head.weight", "old.weight"], MODEL, prefix="net", renamed={"old.weight": "head.weight"})
    assert matched == {"head.weight": "head.weight"} and left == {"old.weight": "head.weight"}


def test_a_parameter_that_is_called_gamma_keeps_its_name() -> None:
    assert match_names(["x.gamma"], ["x.gamma", "x.weight"], prefix="", renamed={})[0] == {"x.gamma": "x.gamma"}


@given(st.lists(st.sampled_from([*MODEL, "a.weight", "norm.gamma", "norm.bias", "zzz", "net.net.a.weight"]), unique=True))
def test_every_name_of_a_file_is_either_used_once_or_left_over(names: list[str]) -> None:
    matched, left = match_names(names, MODEL, prefix="net", renamed={})
    assert sorted([*matched.values(), *left]) == sorted(names)
    assert set(matched) <= set(MODEL)


def wrapper(names: list[str], model: tuple[str, ...] = MODEL, prefix: str = "net") -> str:
    return wrapper_prefix(names, model, prefix=prefix, renamed={})


@pytest.mark.parametrize(
    "taken", ["module.", "model.", "_orig_mod.", "module._orig_mod.", "model._orig_mod.", "module.module."]
)
@pytest.mark.parametrize("inner", ["net.", ""])
def test_what_wrappers_put_before_every_name_is_taken_off(taken: str, inner: str) -> None:
    names = [taken + inner + name for name in ("a.weight", "norm.gamma", "norm.beta")]
    assert wrapper(names) == taken
    matched, left = match_names(names, MODEL, prefix="net", renamed={}, wrapper=taken)
    assert list(matched) == ["net.a.weight", "net.norm.weight", "net.norm.bias"] and list(matched.values()) == names
    assert not left


@pytest.mark.parametrize(
    ("names", "model", "prefix"),
    [
        # The attribute of the base model has a wrapper's name.
        (["model.a", "model.b"], ("model.a", "model.b", "head"), "model"),
        (["module.a", "module.b"], ("module.a", "module.b"), "module"),
        # So has an attribute of the model that is no base model.
        (["model.a", "model.b"], ("model.a", "model.b"), "net"),
        # The file is of the bare model, whose own attribute is called so.
        (["model.a"], ("net.model.a", "head"), "net"),
        # Some names have it, others not.
        (["model.a", "loss.weight"], ("a", "b"), "net"),
        (["modela.x", "modela.y"], ("x", "y"), "net"),
        (["other.a"], ("a",), "net"),
        # Nothing fits either way.
        (["model.x", "model.y"], ("a",), "net"),
        ([], ("a",), "net"),
    ],
)
def test_a_name_of_the_model_itself_is_no_wrapper(names: list[str], model: tuple[str, ...], prefix: str) -> None:
    assert wrapper(names, model, prefix) == ""


@pytest.mark.parametrize(
    ("names", "model", "prefix", "taken"),
    [
        # A wrapped model whose base model is called model, saved with its head and without.
        (["module.model.a", "module.head"], ("model.a", "head"), "model", "module."),
        (["module.model.a"], ("model.a", "head"), "model", "module."),
        # Lightning holds it as `model`, and it holds its base as `model`.
        (["model.model.a", "model.head"], ("model.a", "head"), "model", ""),
        (["model.model.a"], ("a", "b"), "net", "model.model."),
        # An attribute `module` within a wrapped model.
        (["module.module.a", "module.head"], ("module.a", "head"), "net", "module."),
    ],
)
def test_the_shortest_prefix_that_explains_most_names_is_taken(
    names: list[str], model: tuple[str, ...], prefix: str, taken: str
) -> None:
    assert wrapper(names, model, prefix) == taken
    matched, left = match_names(names, model, prefix=prefix, renamed={}, wrapper=taken)
    assert sorted(matched.values()) == sorted(names) and not left
