"""TensorFlow checkpoints of Transformer-XL, without TensorFlow, held against 1.2.0 where it could read them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from registry import TransfoXLLMHeadModel, TransfoXLModel
from tests.oracles import assert_close, old, quiet
from tests.tensorflow.reading import CHECKPOINTS, as_tensorflow, tensorflow_reads

WT103 = "transfo_xl_wt103"
IDS = torch.tensor([[5, 60, 0, 7, 80, 96], [1, 2, 33, 49, 50, 6]])


def reference(cls: Any) -> Any:
    sizes = json.loads((CHECKPOINTS / WT103 / "config.json").read_text())
    config = old.TransfoXLConfig(vocab_size_or_config_json_file=sizes.pop("n_token"), **sizes)
    config.tie_projs = [False, True, True, True]
    model = quiet(cls, config)
    with as_tensorflow(WT103):
        quiet(old.modeling_transfo_xl.load_tf_weights_in_transfo_xl, model, config, str(CHECKPOINTS / WT103))
    if cls is old.TransfoXLLMHeadModel:
        model.tie_weights()
    return model.eval()


@pytest.mark.parametrize(
    ("cls", "of_1_2_0"), [(TransfoXLModel, old.TransfoXLModel), (TransfoXLLMHeadModel, old.TransfoXLLMHeadModel)]
)
def test_the_form_of_wt103_is_what_1_2_0_made_of_it(cls: Any, of_1_2_0: Any) -> None:
    theirs = reference(of_1_2_0)
    ours = cls.from_pretrained(CHECKPOINTS / WT103, from_tf=True)
    expected = theirs.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in ours.state_dict().items())
    assert not ours.load_report.missing
    assert_close(ours(IDS)[0], quiet(theirs, IDS)[0])
    slots = {name for name in tensorflow_reads(WT103) if name.rpartition("/")[2] in ("Adam", "Adam_1")}
    assert set(ours.load_report.ignored) >= {*slots, "beta1_power", "beta2_power", "global_step"}


def test_nothing_is_tied_that_the_checkpoint_has_apart() -> None:
    values = tensorflow_reads("transfo_xl_untied")
    model = TransfoXLLMHeadModel.from_pretrained(CHECKPOINTS / "transfo_xl_untied", from_tf=True)
    assert model.load_report.clean
    held = model.state_dict()
    for bucket in range(4):
        softmax = f"transformer/adaptive_softmax/cutoff_{bucket}"
        assert_close(held[f"crit.out_layers.{bucket}.weight"], torch.from_numpy(values[f"{softmax}/lookup_table"]))
        assert_close(held[f"crit.out_projs.{bucket}"], torch.from_numpy(values[f"{softmax}/proj"].T.copy()))
    for name in ("r_r_bias", "r_w_bias"):  # one for all layers
        assert all(
            torch.equal(held[f"transformer.layers.{layer}.dec_attn.{name}"], torch.from_numpy(values[f"transformer/{name}"]))
            for layer in range(2)
        )


def test_buckets_of_one_width_are_rows_of_one_embedding() -> None:
    values = tensorflow_reads("transfo_xl_div_val_1")
    model = TransfoXLLMHeadModel.from_pretrained(CHECKPOINTS / "transfo_xl_div_val_1", from_tf=True)
    assert model.load_report.clean
    embedding = values["transformer/adaptive_embed/lookup_table"]
    projection = values["transformer/adaptive_embed/proj_W"]
    biases = np.concatenate([values[f"transformer/adaptive_softmax/cutoff_{bucket}/b"] for bucket in range(4)])
    assert torch.equal(model.crit.out_layers[0].bias, torch.from_numpy(biases))
    # tf/model.py: rows of the table, times the projection, times the root of the width.
    by_hand = torch.from_numpy(embedding[IDS.numpy()] @ projection) * 16**0.5
    assert_close(model.transformer.word_emb(IDS), by_hand)
