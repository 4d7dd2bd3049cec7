"""OpenAI GPT is held to what every family is held to."""

from __future__ import annotations

import json

import pytest

from registry.testing import Case, FamilySuite

_LETTERS = [*"thecasonm", *(f"{letter}</w>" for letter in "thecasonm")]
_MERGES = [("t", "h"), ("th", "e</w>"), ("c", "a"), ("ca", "t</w>")]
_TOKENS = ["<unk>", *_LETTERS, *("".join(pair) for pair in _MERGES)]


class TestGPT(FamilySuite):
    family = "gpt"
    config = {"vocab_size": 40, "n_positions": 16, "n_embd": 8, "n_layer": 3, "n_head": 2, "afn": "relu"}
    cases = {"double-heads": Case(shape=(2, 3, 7))}
    vocabulary = {
        "vocab.json": json.dumps({token: number for number, token in enumerate(_TOKENS)}),
        "merges.txt": "#version: 0.2\n" + "".join(f"{first} {second}\n" for first, second in _MERGES),
    }
    tokenizer = {"model_max_length": 16}
    texts = ["the cat", "a mat on the coast"]
    test_spawned_process_loads_the_same = pytest.mark.slow(FamilySuite.test_spawned_process_loads_the_same)
