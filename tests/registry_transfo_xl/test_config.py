from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from registry.errors import ConfigError
from registry_transfo_xl import TransfoXLConfig
from tests.oracles import old as reference
from tests.registry_transfo_xl.small import SIZES


def test_the_defaults_are_the_published_model() -> None:
    ours, theirs = TransfoXLConfig(), reference.TransfoXLConfig()
    shared = set(theirs.to_dict()) & set(ours.to_dict())
    assert {"n_token", "cutoffs", "tie_projs", "clamp_len"} <= shared
    for name in shared:
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.max_position_embeddings == theirs.max_position_embeddings == 1728


@pytest.mark.parametrize("alias", ["vocab_size", "hidden_size", "num_attention_heads", "num_hidden_layers"])
def test_other_libraries_names_are_the_same_fields(alias: str) -> None:
    assert getattr(TransfoXLConfig(), alias) == getattr(reference.TransfoXLConfig(), alias)


def test_a_name_of_another_library_can_be_given() -> None:
    assert TransfoXLConfig(vocab_size=300000).n_token == TransfoXLConfig(300000).n_token == 300000


def test_a_config_goes_there_and_back(tmp_path: Path) -> None:
    theirs = reference.TransfoXLConfig(50, **SIZES)
    theirs.save_pretrained(str(tmp_path))
    ours = TransfoXLConfig.from_pretrained(tmp_path)
    assert (ours.n_token, ours.cutoffs, ours.tie_projs) == (50, [10, 20, 40], [False, True, True, True])
    ours.save_pretrained(tmp_path / "again")
    again = reference.TransfoXLConfig.from_pretrained(str(tmp_path / "again"))
    for name in theirs.to_dict():
        assert getattr(again, name) == getattr(theirs, name), name
    assert json.loads((tmp_path / "again" / "config.json").read_text())["model_type"] == "transfo-xl"


def test_the_old_size_goes_before_its_newer_name() -> None:
    config = TransfoXLConfig.from_dict({"n_token": 50, "vocab_size": 60, "cutoffs": [10]})
    assert config.n_token == config.vocab_size == 50


def test_ties_follow_the_buckets() -> None:
    config = TransfoXLConfig(50, **SIZES)
    assert config.replace(cutoffs=[5]).tie_projs == [False, True]
    assert config.replace(proj_share_all_but_first=False).tie_projs == [False] * 4
    assert config.replace(proj_share_all_but_first=False).replace(cutoffs=[]).tie_projs == [False]
    assert config.replace(tie_projs=[True] * 4).replace(dropout=0.2).tie_projs == [True] * 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attn_type": 2}, "attn_type of TransfoXLConfig is expected to be 0"),
        ({"sample_softmax": 100}, "sampled softmax is not implemented"),
        ({"cutoffs": [20, 10]}, "cutoffs of TransfoXLConfig is expected to be ascending"),
        ({"cutoffs": [50]}, "ascending between 0 and n_token, 50"),
        ({"div_val": 4}, "div_val of TransfoXLConfig is expected to be small enough for 4 buckets"),
        ({"tie_projs": [True]}, "one value for each of 4 buckets"),
        ({"d_model": 7}, "even"),
        ({"mem_len": -1}, "0 or more"),
        ({"init": "zeros"}, "'normal' or 'uniform'"),
    ],
)
def test_what_cannot_be_computed_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TransfoXLConfig(50, **{**SIZES, **changes})
