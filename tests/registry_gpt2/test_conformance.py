"""GPT-2 is held to what every family is held to."""

from __future__ import annotations

import pytest

from registry.testing import Case, FamilySuite
from tests.real_data import gpt2_merges, gpt2_vocabulary


class TestGPT2(FamilySuite):
    family = "gpt2"
    config = {"vocab_size": 50, "n_positions": 16, "n_embd": 8, "n_layer": 3, "n_head": 2, "n_inner": 20, "eos_token_id": 3}
    cases = {"double-heads": Case(shape=(2, 3, 7))}
    vocabulary = {"vocab.json": gpt2_vocabulary().read_bytes(), "merges.txt": gpt2_merges().read_bytes()}
    tokenizer = {"add_prefix_space": True, "errors": "ignore", "model_max_length": 16}
    texts = [" Hello, world!  It's\n\there", " naïve café 日本語 😀"]
    test_spawned_process_loads_the_same = pytest.mark.slow(FamilySuite.test_spawned_process_loads_the_same)
