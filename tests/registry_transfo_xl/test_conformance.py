"""Transformer-XL is held to what every family is held to."""

from __future__ import annotations

import pytest

from registry.testing import FamilySuite
from tests.registry_transfo_xl.small import SIZES, VOCABULARY


class TestTransfoXL(FamilySuite):
    family = "transfo-xl"
    config = {**SIZES, "n_token": VOCABULARY, "untie_r": False, "init": "uniform", "init_range": 0.3}
    vocabulary = {"vocab.txt": "<unk>\n<eos>\nthe\ncat\nsits\n"}
    tokenizer = {"lower_case": True, "never_split": ["Cat-Sits"], "model_max_length": 24}
    texts = ["the cat sits", "cat the cat"]
    test_spawned_process_loads_the_same = pytest.mark.slow(FamilySuite.test_spawned_process_loads_the_same)
