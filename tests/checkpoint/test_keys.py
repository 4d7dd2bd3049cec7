"""The bridge between names in files and names in models."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from registry.checkpoint.keys import match_names

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
