"""One small model of each built-in family, saved, to show that it still loads."""

from __future__ import annotations

from pathlib import Path

import registry

_GPT = {"vocab_size": 20, "n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 2}
_CONFIGS = {
    "BertForMaskedLM": (
        "BertConfig",
        {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8},
    ),
    "OpenAIGPTLMHeadModel": ("OpenAIGPTConfig", _GPT),
    "GPT2LMHeadModel": ("GPT2Config", _GPT),
    "TransfoXLLMHeadModel": (
        "TransfoXLConfig",
        {"n_token": 20, "cutoffs": [], "d_model": 8, "d_embed": 8, "n_head": 2, "d_head": 4, "d_inner": 8, "n_layer": 1},
    ),
}


def save_one_of_each(folder: Path) -> dict[str, Path]:
    """Save a model of each built-in family; return its class's name to its folder."""
    folders = {}
    for model, (config, sizes) in _CONFIGS.items():
        folders[model] = folder / model
        getattr(registry, model)(getattr(registry, config)(**sizes)).save_pretrained(folders[model])
    return folders
