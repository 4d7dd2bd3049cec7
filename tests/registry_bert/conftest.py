"""Fixtures of the BERT tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from registry_bert import BertConfig, BertForPreTraining

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "hello",
    "world",
    "the",
    "a",
    "man",
    "eat",
    "##s",
    "##ing",
    "food",
    "play",
    ".",
    ",",
    "!",
    "?",
    "'",
    "don",
    "t",
    "é",
    "caf",
    "##é",
    "日",
    "本",
]


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    """Return a small vocabulary file that is not called vocab.txt."""
    path = tmp_path / "words.list"
    path.write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return `bert-base-uncased` at its real size with random weights, in both layouts that were published."""
    folder = tmp_path_factory.mktemp("full-size")
    torch.manual_seed(0)
    model = BertForPreTraining(BertConfig())
    state = {}
    for key, value in model.state_dict().items():
        head, _, last = key.rpartition(".")
        if head.endswith("LayerNorm"):
            key = f"{head}.{'gamma' if last == 'weight' else 'beta'}"
        state[key] = value
    for layout in ("safetensors", "legacy"):
        (folder / layout).mkdir()
        model.config.to_json_file(folder / layout / "config.json")
    torch.save(state, folder / "legacy" / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    del state["cls.predictions.decoder.weight"]  # the safetensors files keep a shared tensor once
    save_file(state, folder / "safetensors" / "model.safetensors", {"format": "pt"})
    return folder
