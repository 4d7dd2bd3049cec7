"""Against pytorch-transformers 1.2.0, of which this family is the successor."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.registry_transfo_xl.small import VARIANTS, ids, pair

TOLERANCE = 2e-5


def assert_same(actual: Any, expected: Any) -> None:
    if isinstance(expected, list | tuple):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            assert_same(one, other)
    elif expected is None:
        assert actual is None
    else:
        torch.testing.assert_close(actual, expected, rtol=0, atol=TOLERANCE)


@pytest.fixture(params=VARIANTS, scope="module")
def variant(request: pytest.FixtureRequest) -> dict[str, Any]:
    return VARIANTS[request.param]


def test_outputs_states_attentions_and_memory_agree_over_two_segments(variant: dict[str, Any]) -> None:
    theirs, ours = pair(output_hidden_states=True, output_attentions=True, **variant)
    their_mems = our_mems = None
    for seed in (1, 2):
        segment = ids(3, 7, seed)
        expected, actual = theirs(segment, mems=their_mems), ours(segment, mems=our_mems)
        assert_same(actual.to_tuple(), expected)
        their_mems, our_mems = expected[1], actual.mems


def test_the_bare_model_agrees(variant: dict[str, Any]) -> None:
    theirs, ours = pair(output_hidden_states=True, output_attentions=True, **variant)
    assert_same(ours.transformer(ids(2, 5)).to_tuple(), theirs.transformer(ids(2, 5)))


def test_losses_are_the_same_numbers(variant: dict[str, Any]) -> None:
    theirs, ours = pair(**variant)
    segment, targets = ids(3, 7), ids(3, 7, seed=5)
    expected = theirs(segment, labels=targets)
    actual = ours(segment, targets=targets)
    # 1.2.0 groups them by bucket; ours are in the order of the input.
    assert_same(actual.losses.flatten().sort().values, expected[0].flatten().sort().values)
    assert_same(actual.loss, expected[0].mean())
    assert len(actual) == len(expected) and actual[1] is None
    assert_same(actual[2], expected[2])


def test_gradients_agree(variant: dict[str, Any]) -> None:
    theirs, ours = pair(**variant)
    segment, targets = ids(2, 6), ids(2, 6, seed=5)
    theirs(segment, labels=targets)[0].mean().backward()
    ours(segment, targets=targets).loss.backward()
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    compared = 0
    for name, parameter in ours.named_parameters():
        if name in expected and expected[name] is not None:
            assert_same(parameter.grad, expected[name])
            compared += 1
    assert compared > 20


def test_a_head_mask_agrees() -> None:
    theirs, ours = pair(output_attentions=True)
    for mask in (torch.tensor([1.0, 0.0]), torch.tensor([[1.0, 0.5], [0.0, 1.0]])):
        assert_same(ours(ids(2, 5), head_mask=mask).to_tuple(), theirs(ids(2, 5), head_mask=mask))


def test_reset_length_agrees() -> None:
    theirs, ours = pair()
    theirs.reset_length(5, 0, 3)
    ours.reset_length(5, 0, 3)
    expected, actual = theirs(ids(2, 5)), ours(ids(2, 5))
    assert actual.mems[0].shape == (3, 2, 8)
    assert_same(actual.to_tuple(), expected)


def test_training_agrees_where_nothing_is_dropped() -> None:
    theirs, ours = pair(dropout=0.0, dropatt=0.0)
    theirs.train()
    ours.train()
    assert_same(ours(ids(2, 5)).to_tuple(), theirs(ids(2, 5)))


@pytest.mark.parametrize("name", VARIANTS)
def test_our_state_dict_loads_into_theirs(name: str) -> None:
    theirs, ours = pair(**VARIANTS[name])
    missing, unexpected = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert missing == ["transformer.pos_emb.inv_freq"] and not unexpected
