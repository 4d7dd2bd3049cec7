"""Folders: ours, those of 1.2.0, and those of the publisher."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from registry.errors import CheckpointError
from registry_transfo_xl import TransfoXLConfig, TransfoXLLMHeadModel, TransfoXLModel
from tests.oracles import old as reference
from tests.registry_transfo_xl.small import VARIANTS, ids, ours, pair


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("safe", [True, False])
def test_a_saved_model_comes_back_equal(tmp_path: Path, name: str, safe: bool) -> None:
    model = ours(**VARIANTS[name])
    model.save_pretrained(tmp_path / "saved", safe_serialization=safe)
    again = TransfoXLLMHeadModel.from_pretrained(tmp_path / "saved")
    assert again.load_report.clean and not again.training
    segment = ids(2, 6)
    # Not to the last bit: a mapped tensor may be aligned otherwise, and is then summed in another order.
    torch.testing.assert_close(again(segment).logits, model(segment).logits, rtol=0, atol=5e-6)
    assert again.state_dict().keys() == model.state_dict().keys()
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)
    for tied, main in model.tied_weights().items():
        assert again.get_parameter(tied) is again.get_parameter(main)


def test_a_resized_model_comes_back_equal(tmp_path: Path) -> None:
    model = ours()
    model.resize_token_embeddings(57)
    model.save_pretrained(tmp_path / "saved")
    again = TransfoXLLMHeadModel.from_pretrained(tmp_path / "saved")
    assert again.config.n_token == 57
    torch.testing.assert_close(again(ids(1, 4)).logits, model(ids(1, 4)).logits, rtol=0, atol=5e-6)


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("name", ["div_val 2", "div_val 1, narrow embedding", "shared position biases", "untied"])
def test_a_folder_of_2019_loads_clean(tmp_path: Path, name: str, legacy: bool) -> None:
    theirs, _ = pair(**VARIANTS[name])
    theirs.save_pretrained(str(tmp_path))
    weights = tmp_path / "pytorch_model.bin"
    torch.save(theirs.state_dict(), weights, _use_new_zipfile_serialization=not legacy)
    model = TransfoXLLMHeadModel.from_pretrained(tmp_path)
    # The positions' frequencies stand in the file, but are computed here.
    assert model.load_report.clean and model.load_report.ignored == ("transformer.pos_emb.inv_freq",)
    torch.testing.assert_close(model(ids(2, 5)).logits, theirs(ids(2, 5))[0], rtol=0, atol=2e-5)


def test_2019s_library_loads_our_folder(tmp_path: Path) -> None:
    model = ours()
    model.save_pretrained(tmp_path / "saved", safe_serialization=False)
    theirs = reference.TransfoXLLMHeadModel.from_pretrained(str(tmp_path / "saved"))
    torch.testing.assert_close(theirs(ids(2, 5))[0], model(ids(2, 5)).logits, rtol=0, atol=2e-5)


def test_the_base_model_loads_from_the_language_model_and_the_other_way_round(tmp_path: Path) -> None:
    model = ours()
    model.save_pretrained(tmp_path / "headed")
    base = TransfoXLModel.from_pretrained(tmp_path / "headed")
    expected = model.transformer(ids(2, 5)).last_hidden_state
    torch.testing.assert_close(base(ids(2, 5)).last_hidden_state, expected, rtol=0, atol=5e-6)
    assert all(name.startswith("crit.") for name in base.load_report.unexpected) and base.load_report.unexpected
    base.save_pretrained(tmp_path / "base")
    headed = TransfoXLLMHeadModel.from_pretrained(tmp_path / "base")
    assert set(headed.load_report.newly_initialized) == {
        "crit.cluster_weight",
        "crit.cluster_bias",
        "crit.out_projs.0",
        *(f"crit.out_layers.{number}.bias" for number in range(4)),
    }


def test_copies_that_should_be_tied_and_differ_are_an_error() -> None:
    state = {name: value.clone() for name, value in ours().state_dict().items()}
    state["crit.out_layers.1.weight"] += 1
    settings = ours().config
    with pytest.raises(CheckpointError, match=r"'crit\.out_layers\.1\.weight'.*is expected to equal"):
        TransfoXLLMHeadModel.from_pretrained(None, config=settings, state_dict=state)
    untied = TransfoXLLMHeadModel.from_pretrained(None, config=settings.replace(tie_word_embeddings=False), state_dict=state)
    assert not torch.equal(untied.crit.out_layers[1].weight, untied.transformer.word_emb.emb_layers[1].weight)


def test_a_missing_layer_is_an_error() -> None:
    state = ours().state_dict()
    with pytest.raises(CheckpointError, match="lacks"):
        TransfoXLLMHeadModel.from_pretrained(
            None, config=TransfoXLConfig.from_dict({**ours().config.to_dict(), "n_layer": 3}), state_dict=state
        )
