"""Files that hold a tied weight only under the head's name load into models without that head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import registry
from registry_bert import BertConfig, BertForMaskedLM
from registry_gpt import OpenAIGPTConfig, OpenAIGPTDoubleHeadsModel
from registry_gpt2 import GPT2Config, GPT2LMHeadModel
from registry_transfo_xl import TransfoXLConfig, TransfoXLLMHeadModel

GPT: dict[str, Any] = {"vocab_size": 30, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16}
CASES: dict[str, tuple[type, Any, tuple[str, ...]]] = {
    "gpt": (OpenAIGPTDoubleHeadsModel, OpenAIGPTConfig(**GPT), ("transformer.tokens_embed.weight",)),
    "gpt2": (GPT2LMHeadModel, GPT2Config(**GPT), ("transformer.wte.weight",)),
    "transfo-xl": (
        TransfoXLLMHeadModel,
        TransfoXLConfig(
            n_token=30, cutoffs=[10, 20], d_model=8, d_embed=8, d_head=4, n_head=2, d_inner=8, n_layer=1, mem_len=4, div_val=2
        ),
        tuple(f"transformer.word_emb.emb_layers.{number}.weight" for number in range(3)),
    ),
    "bert": (
        BertForMaskedLM,
        BertConfig(vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8),
        ("bert.embeddings.word_embeddings.weight",),
    ),
}


@pytest.mark.parametrize("family", CASES)
@pytest.mark.parametrize("head", ["own", "base"])
def test_the_heads_copy_is_enough(family: str, head: str, tmp_path: Path) -> None:
    cls, config, names = CASES[family]
    model = cls(config).eval()
    state = {name: value.clone() for name, value in model.state_dict().items() if name not in names}
    assert len(state) == len(model.state_dict()) - len(names)
    model.config.to_json_file(tmp_path / "config.json")
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    loaded = registry.load(tmp_path, family=family) if head == "own" else registry.load(tmp_path, head="base", family=family)
    expected = model if head == "own" else model.base_model
    ids = torch.tensor([[1, 2, 25]])
    if head == "own":
        loaded = type(model).from_pretrained(tmp_path)
    assert torch.equal(loaded(ids)[0], expected(ids)[0])


@pytest.mark.parametrize("family", ["gpt2", "transfo-xl"])
def test_half_precision_losses_of_many_tokens_are_finite(family: str) -> None:
    config = {
        "gpt2": GPT2Config(**{**GPT, "n_positions": 1024, "vocab_size": 2000}),
        "transfo-xl": TransfoXLConfig(
            n_token=2000, cutoffs=[], d_model=8, d_embed=8, d_head=4, n_head=2, d_inner=8, n_layer=1, mem_len=0, div_val=1
        ),
    }[family]
    cls: Any = CASES[family][0]
    torch.manual_seed(0)
    model = cls(config).eval()
    ids = torch.randint(2000, (12, 1000))
    full = model(ids, labels=ids).loss
    half = model.half()(ids, labels=ids).loss
    assert half.dtype == torch.float32 and torch.isclose(half, full, rtol=1e-2)
