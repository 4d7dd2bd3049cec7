"""OpenAI's TensorFlow checkpoints, without TensorFlow, held against what 1.2.0 made of them with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import registry
from registry import GPT2Config, GPT2DoubleHeadsModel, GPT2LMHeadModel, GPT2Model
from tests.oracles import assert_close, old, quiet
from tests.tensorflow.reading import CHECKPOINTS, as_tensorflow

IDS = torch.tensor([[5, 60, 0, 7, 7, 96], [1, 2, 3, 4, 5, 6]])


def reference() -> Any:
    config = old.GPT2Config(vocab_size_or_config_json_file=97, n_positions=20, n_ctx=20, n_embd=16, n_layer=2, n_head=4)
    model = quiet(old.GPT2Model, config)
    with as_tensorflow("gpt2"):
        quiet(old.modeling_gpt2.load_tf_weights_in_gpt2, model, config, str(CHECKPOINTS / "gpt2"))
    return model.eval()


def test_the_model_is_what_1_2_0_made_of_it() -> None:
    theirs = reference()
    ours = GPT2Model.from_pretrained(CHECKPOINTS / "gpt2", from_tf=True)
    expected = theirs.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in ours.state_dict().items())
    assert ours.load_report.clean
    assert not ours.load_report.ignored
    assert_close(ours(IDS)[0], quiet(theirs, IDS)[0])


@pytest.mark.parametrize("cls", [GPT2LMHeadModel, GPT2DoubleHeadsModel])
def test_classes_with_heads_load_it(cls: Any) -> None:
    expected = reference().state_dict()
    model = cls.from_pretrained(CHECKPOINTS / "gpt2" / "model.ckpt.index", from_tf=True)
    assert all(torch.equal(value, expected[name]) for name, value in model.transformer.state_dict().items())
    assert all(name.startswith("multiple_choice_head.") for name in model.load_report.missing)


def test_hparams_are_a_configuration() -> None:
    config = GPT2Config.from_pretrained(CHECKPOINTS / "gpt2")
    sizes = (config.vocab_size, config.n_positions, config.n_ctx, config.n_embd, config.n_head, config.n_layer)
    assert sizes == (97, 20, 20, 16, 4, 2)
    model = registry.load(CHECKPOINTS / "gpt2", family="gpt2")
    assert isinstance(model, GPT2LMHeadModel)
