"""RoBERTa is held to what every family of the registry is held to."""

import json

from registry.testing import Case, FamilySuite

_LETTERS = [*"acehiostnm", "Ġ"]
_MERGES = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("c", "a"), ("ca", "t")]
_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", *_LETTERS, *("".join(pair) for pair in _MERGES), "<mask>"]


class TestRoberta(FamilySuite):
    family = "roberta"
    config = {
        "vocab_size": 41,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 14,
        "initializer_range": 0.3,
        "layer_norm_eps": 1e-6,
        "classifier_dropout": 0.2,
        "eos_token_id": 3,
    }
    cases = {
        "sequence-classification": Case(config={"num_labels": 3}),
        "token-classification": Case(config={"num_labels": 3}),
    }
    vocabulary = {
        "vocab.json": json.dumps({token: number for number, token in enumerate(_TOKENS)}),
        "merges.txt": "#version: 0.2\n" + "".join(f"{first} {second}\n" for first, second in _MERGES),
    }
    tokenizer = {"add_prefix_space": True, "model_max_length": 12}
    texts = [" the cat", " cats on a moth "]
