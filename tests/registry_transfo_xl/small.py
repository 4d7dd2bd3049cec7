"""A Transformer-XL small enough to check by hand, here and in the reference library."""

from __future__ import annotations

from typing import Any

import torch

from registry_transfo_xl import TransfoXLConfig, TransfoXLLMHeadModel
from tests.oracles import old as reference

VOCABULARY = 50
SIZES: dict[str, Any] = {
    "cutoffs": [10, 20, 40],
    "d_model": 8,
    "d_embed": 8,
    "n_head": 2,
    "d_head": 4,
    "d_inner": 16,
    "div_val": 2,
    "n_layer": 2,
    "tgt_len": 4,
    "ext_len": 0,
    "mem_len": 6,
    "clamp_len": 5,
}

#: What differs from `SIZES`, by what it is about.
VARIANTS: dict[str, dict[str, Any]] = {
    "div_val 2": {},
    "div_val 4": {"div_val": 4, "d_embed": 64},
    "div_val 1": {"div_val": 1},
    "div_val 1, narrow embedding": {"div_val": 1, "d_embed": 6},
    "div_val 1, narrow, untied": {"div_val": 1, "d_embed": 6, "tie_weight": False, "proj_share_all_but_first": False},
    "no cutoffs": {"cutoffs": []},
    "no cutoffs, div_val 1": {"cutoffs": [], "div_val": 1},
    "no cutoffs, div_val 1, narrow": {"cutoffs": [], "div_val": 1, "d_embed": 6},
    "untied": {"tie_weight": False, "proj_share_all_but_first": False},
    "weights tied alone": {"proj_share_all_but_first": False},
    "shared position biases": {"untie_r": False},
    "pre_lnorm": {"pre_lnorm": True},
    "growing length": {"same_length": False},
    "no clamp": {"clamp_len": -1},
    "no memory": {"mem_len": 0, "same_length": False},
}


def config(**changes: Any) -> TransfoXLConfig:
    return TransfoXLConfig(VOCABULARY, **{**SIZES, **changes})


def pair(seed: int = 0, **changes: Any) -> tuple[Any, TransfoXLLMHeadModel]:
    """Return the reference's model and ours with the same lively weights, both in evaluation mode."""
    torch.manual_seed(seed)
    theirs = reference.TransfoXLLMHeadModel(reference.TransfoXLConfig(VOCABULARY, **{**SIZES, **changes})).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(0.0, 0.4)
    ours = TransfoXLLMHeadModel.from_pretrained(None, config=config(**changes), state_dict=theirs.state_dict())
    return theirs, ours


def ours(seed: int = 0, **changes: Any) -> TransfoXLLMHeadModel:
    """Return a model with lively weights, in evaluation mode."""
    torch.manual_seed(seed)
    model = TransfoXLLMHeadModel(config(**changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.4)
    return model


def ids(batch: int, length: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))
