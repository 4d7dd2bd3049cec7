"""BERT is held to what every family is held to."""

from __future__ import annotations

import pytest

from registry.testing import Case, FamilySuite
from tests.registry_bert.tiny import SIZES

_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "The", "cat", "sit", "##s", "on", "a", "mat"]


class TestBert(FamilySuite):
    family = "bert"
    config = {**SIZES, "layer_norm_eps": 1e-6, "classifier_dropout": 0.2}
    cases = {
        "sequence-classification": Case(config={"num_labels": 3}),
        "token-classification": Case(config={"num_labels": 3}),
        "multiple-choice": Case(shape=(2, 3, 7)),
    }
    vocabulary = {"vocab.txt": "".join(f"{word}\n" for word in _WORDS)}
    tokenizer = {"do_lower_case": False, "tokenize_chinese_chars": False, "model_max_length": 24}
    texts = ["The cat sits on a mat", "a mat on The cat"]
    test_spawned_process_loads_the_same = pytest.mark.slow(FamilySuite.test_spawned_process_loads_the_same)
