"""What GPT-2 has and OpenAI GPT has not: a past, and settings that later libraries added."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from registry.errors import ConfigError
from registry_gpt2 import GPT2Config, GPT2DoubleHeadsModel, GPT2LMHeadModel, GPT2Model
from tests.oracles import new, old

SIZES: dict[str, Any] = {"n_positions": 16, "n_embd": 8, "n_layer": 3, "n_head": 2}
TOLERANCE = {"atol": 2e-5, "rtol": 0.0}


def model(cls: Any = GPT2LMHeadModel, **changes: Any) -> Any:
    torch.manual_seed(0)
    return cls(GPT2Config(vocab_size=50, initializer_range=0.5, **{**SIZES, **changes})).eval()


def ids(*shape: int) -> Tensor:
    return torch.randint(0, 50, shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_past_of_two_segments_is_that_of_1_2_0() -> None:
    ours = model()
    theirs = old.GPT2LMHeadModel(old.GPT2Config(50, n_ctx=16, **SIZES)).eval()
    theirs.load_state_dict(ours.state_dict(), strict=False)
    past = None
    for length in (5, 4, 1):
        one, other = ours(ids(2, length), past=past), theirs(ids(2, length), past=past)
        torch.testing.assert_close(one[0], other[0], **TOLERANCE)
        assert len(one[1]) == len(other[1]) == 3
        for mine, its in zip(one[1], other[1], strict=True):
            assert mine.shape == its.shape
            torch.testing.assert_close(mine, its, **TOLERANCE)
        past = other[1]  # 1.2.0's own is accepted, and ours equals it


@pytest.mark.parametrize("explicit", [False, True])
def test_reading_in_pieces_equals_reading_at_once(explicit: bool) -> None:
    net = model()
    whole = net(ids(2, 12), output_attentions=explicit)
    past, pieces = None, []
    for begin, end in ((0, 5), (5, 6), (6, 12)):
        output = net(ids(2, 12)[:, begin:end], past_key_values=past, output_attentions=explicit)
        past = output.past_key_values
        pieces.append(output.logits)
    torch.testing.assert_close(torch.cat(pieces, 1), whole.logits, **TOLERANCE)
    assert past is not None and past[0].shape == (2, 2, 2, 12, 4)


def test_past_goes_with_a_mask_over_everything_so_far() -> None:
    net = model()
    keep = torch.ones(2, 9, dtype=torch.int64)
    keep[0, :3] = 0
    first = net(ids(2, 9)[:, :6], attention_mask=keep[:, :6])
    second = net(ids(2, 9)[:, 6:], attention_mask=keep, past_key_values=first.past_key_values)
    whole = net(ids(2, 9), attention_mask=keep)
    torch.testing.assert_close(second.logits, whole.logits[:, 6:], **TOLERANCE)


def test_gradients_flow_through_the_past() -> None:
    net = model()
    first = net(ids(1, 4))
    net(ids(1, 3), past=first.past_key_values).logits.sum().backward()
    pieces = net.transformer.wte.weight.grad.clone()
    net.zero_grad()
    net(torch.cat((ids(1, 4), ids(1, 3)), 1)).logits[:, 4:].sum().backward()
    torch.testing.assert_close(pieces, net.transformer.wte.weight.grad, atol=2e-4, rtol=1e-4)


def test_past_of_choices_has_one_row_for_each_as_in_1_2_0() -> None:
    output = model(GPT2DoubleHeadsModel)(ids(2, 3, 5))
    assert output.past_key_values[0].shape == (2, 6, 2, 5, 4)
    again = model(GPT2DoubleHeadsModel)(ids(2, 3, 2), past=output.past_key_values)
    assert again.past_key_values[0].shape == (2, 6, 2, 7, 4)


def test_no_past_is_returned_where_none_is_wanted() -> None:
    assert model()(ids(1, 3), use_cache=False).past_key_values is None
    assert model(use_cache=False)(ids(1, 3)).past_key_values is None
    assert model(output_past=False)(ids(1, 3)).past_key_values is None
    net = model().train()
    net.gradient_checkpointing_enable()
    assert net(ids(1, 3)).past_key_values is None


def test_past_that_does_not_fit_is_named() -> None:
    net = model(GPT2Model)
    past = net(ids(1, 10)).past_key_values
    with pytest.raises(ValueError, match="at most 16 tokens, but has 17"):
        net(ids(1, 7), past=past)
    with pytest.raises(ValueError, match="3 layers, but has 2"):
        net(ids(1, 2), past=past[:2])


def test_later_settings_are_followed_or_refused() -> None:
    ours = model(n_inner=12, activation_function="relu")
    theirs = new.GPT2LMHeadModel(new.GPT2Config(vocab_size=50, n_inner=12, activation_function="relu", **SIZES)).eval()
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(ids(2, 9)).logits, theirs(ids(2, 9)).logits, **TOLERANCE)
    for wrong in ({"scale_attn_weights": False}, {"scale_attn_by_inverse_layer_idx": True}, {"add_cross_attention": True}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            GPT2Config(**wrong)
