"""Tokenizer files with wrong values: one error of ours, which names the file and the field."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import registry
from registry import ConfigError
from registry_bert import BertTokenizer
from registry_gpt2 import GPT2Tokenizer
from registry_transfo_xl import TransfoXLTokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##c"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "v.txt").write_text("".join(f"{word}\n" for word in WORDS))
    BertTokenizer(tmp_path / "v.txt").save_pretrained(tmp_path / "bert")
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    return tmp_path / "bert"


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("tokenizer_config", {"unk_token": ["a"]}, "unk_token .*a token, but is a list"),
        ("tokenizer_config", {"mask_token": {"content": 5}}, "content of mask_token .*text of a token, but is 5"),
        (
            "tokenizer_config",
            {"mask_token": {"content": "a", "lstrip": "no"}},
            "lstrip of mask_token .*true or false, but is 'no'",
        ),
        ("tokenizer_config", {"additional_special_tokens": "a"}, "additional_special_tokens .*list of tokens, but is 'a'"),
        ("tokenizer_config", {"additional_special_tokens": ["a", 1]}, r"additional_special_tokens\[1\] .*a token, but is 1"),
        ("tokenizer_config", {"do_lower_case": "yes"}, "do_lower_case .*bool, but is 'yes'"),
        ("tokenizer_config", {"never_split": "ab"}, "never_split .*list or None, but is 'ab'"),
        ("tokenizer_config", {"never_split": [1]}, "never_split .*list of str, but is"),
        ("tokenizer_config", {"model_max_length": "512"}, "model_max_length .*whole number above 0.*, but is '512'"),
        ("tokenizer_config", {"model_max_length": -1}, "model_max_length .*whole number above 0.*, but is -1"),
        ("tokenizer_config", {"model_max_length": 0}, "model_max_length .*whole number above 0.*, but is 0"),
        ("tokenizer_config", {"model_max_length": 2.5}, "model_max_length .*whole number above 0.*, but is 2.5"),
        ("tokenizer_config", {"max_len": True}, "max_len .*whole number above 0.*, but is True"),
        ("tokenizer_config", {"padding_side": "up"}, "padding_side .*'left' or 'right', but is 'up'"),
        ("tokenizer_config", {"truncation_side": ["left"]}, "truncation_side .*'left' or 'right', but is a list"),
        ("tokenizer_config", {"added_tokens_decoder": [1]}, "added_tokens_decoder .*object of ids to tokens, but is a list"),
        (
            "tokenizer_config",
            {"added_tokens_decoder": {"x": {"content": "a"}}},
            "an id of added_tokens_decoder .*a number, but is 'x'",
        ),
        ("tokenizer_config", {"added_tokens_decoder": {"5": {}}}, "content of added_tokens_decoder.5 .*text of a token"),
        (
            "tokenizer_config",
            {"added_tokens_decoder": {"5": {"content": "\ud800"}}},
            r"content of added_tokens_decoder.5 .*ud800",
        ),
        ("tokenizer_config", {"added_tokens_decoder": {"99": {"content": "z"}}}, "'z' is expected to have id 99, .*but gets 8"),
        ("special_tokens_map", {"pad_token": 3}, "pad_token .*a token, but is 3"),
        ("special_tokens_map", {"pad_token": {"lstrip": True}}, "content of pad_token"),
        ("added_tokens", {"q": "x"}, "the id of 'q' .*a number of its own, but is 'x'"),
        ("added_tokens", {"q": 8, "r": 8}, "the id of 'r' .*a number of its own, but is 8"),
        ("added_tokens", {"q": -8}, "the id of 'q' .*a number of its own, but is -8"),
        ("added_tokens", {"q": 5}, "'q' is expected to have id 5"),
    ],
)
def test_a_wrong_value_is_named_with_its_file(folder: Path, name: str, content: Any, what: str) -> None:
    for each in ("tokenizer_config", "special_tokens_map", "added_tokens"):
        (folder / f"{each}.json").write_text(json.dumps(content) if each == name else "{}")
    for load in (registry.load_tokenizer, BertTokenizer.from_pretrained):
        with pytest.raises(ConfigError, match=what) as caught:
            load(folder)
        assert f"{name}.json" in str(caught.value)


@pytest.mark.parametrize("value", ["big", -1, 0, True, 2.5, math.nan, [1]])
@pytest.mark.parametrize("name", ["model_max_length", "max_len"])
def test_a_limit_is_a_whole_number_above_0_wherever_it_is_given(folder: Path, name: str, value: Any) -> None:
    said = ".nan" if value != value else json.dumps(value)
    (folder / "models.yaml").write_text(
        f"registry: 1\nmodels:\n  acme: {{family: bert, source: {folder}, tokenizer: {{{name}: {said}}}}}\n"
    )
    models = registry.ModelRegistry(catalogs=[folder / "models.yaml"])
    loads: list[Callable[[], Any]] = [
        lambda: BertTokenizer(folder / "vocab.txt", **{name: value}),
        lambda: registry.load_tokenizer(folder, **{name: value}),
        lambda: BertTokenizer.from_pretrained(folder, **{name: value}),
        lambda: BertTokenizer(folder / "vocab.txt", **{**dict.fromkeys(("model_max_length", "max_len"), 5), name: value}),
        lambda: models.load_tokenizer("acme"),
    ]
    for load in loads:
        with pytest.raises(
            ConfigError, match="(model_max_length|max_len) .* is expected to be a whole number above 0, or None"
        ):
            load()
    if name == "model_max_length":
        tokenizer = BertTokenizer(folder / "vocab.txt", model_max_length=5)
        with pytest.raises(ConfigError, match="model_max_length of BertTokenizer"):
            tokenizer.model_max_length = value
        assert tokenizer.model_max_length == 5


def test_a_huge_limit_means_none(folder: Path) -> None:
    for value in (None, 1e30, 10**12, 10**30, math.inf):
        assert BertTokenizer(folder / "vocab.txt", model_max_length=value).model_max_length is None
        assert registry.load_tokenizer(folder, model_max_length=value).model_max_length is None
    for value in (1e30, 1000000000000000019884624838656, 10**12):  # transformers writes the second
        (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": value}))
        assert registry.load_tokenizer(folder).model_max_length is None
        assert registry.load_tokenizer(folder, model_max_length=np.int64(7)).model_max_length == 7


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"[" * 100_000, b'{"a": ' * 5000, b"5", b"", b'{"a": 1, "a": 2}', b'{"a": NaN}']
)
@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"])
def test_what_is_no_json_object_is_named(folder: Path, name: str, content: bytes) -> None:
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / name).write_bytes(content)
    with pytest.raises(ConfigError, match=name):
        registry.load_tokenizer(folder)


MODEL = {"type": "WordPiece", "vocab": {word: number for number, word in enumerate(WORDS)}}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({"model": []}, "hold a WordPiece vocabulary"),
        ({"model": {"type": "WordPiece"}}, "model.vocab of .*map tokens to ids"),
        ({"model": {"type": "WordPiece", "vocab": ["a"]}}, "model.vocab of .*map tokens to ids"),
        ({"model": {**MODEL, "vocab": {**MODEL["vocab"], "x": "8"}}}, "map tokens to ids"),  # type: ignore[dict-item]
        ({"model": {**MODEL, "vocab": {**MODEL["vocab"], "x": True}}}, "map tokens to ids"),  # type: ignore[dict-item]
        ({"model": {**MODEL, "vocab": {**MODEL["vocab"], "x": 1 << 40}}}, "map tokens to ids"),  # type: ignore[dict-item]
        ({"model": {**MODEL, "vocab": {**MODEL["vocab"], "x": 7}}}, "an id of its own, but gives 7 twice"),  # type: ignore[dict-item]
        ({"model": {**MODEL, "vocab": {**MODEL["vocab"], "\ud800": 8}}}, "Unicode"),  # type: ignore[dict-item]
        ({"added_tokens": {"a": 1}}, "added_tokens .*a list"),
        ({"added_tokens": [{"content": "q"}]}, r"added_tokens\[0\].id"),
        ({"added_tokens": [{"content": "q", "id": 8}, {"content": "r", "id": 8}]}, r"added_tokens\[1\].id"),
        ({"added_tokens": [{"id": 8}]}, r"content of added_tokens\[0\]"),
        ({"added_tokens": ["q"]}, r"added_tokens\[0\]"),
    ],
)
def test_a_damaged_engine_file_is_named(tmp_path: Path, content: dict[str, Any], what: str) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": MODEL, **content}))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ConfigError, match=what) as caught:
        registry.load_tokenizer(tmp_path)
    assert "tokenizer.json" in str(caught.value)


@pytest.mark.parametrize(
    ("vocabulary", "merges", "what"),
    [
        ('{"a": 1, "b": 1}', "", "vocab.json.* an id of its own, but gives 1 twice"),
        ('{"a": 0, "b": -1}', "", "vocab.json.* map tokens to ids"),
        ('{"a": 0, "b": null}', "", "vocab.json.* map tokens to ids"),
        ('{"a": 0, "b": 1}', "a b\n", "merges.txt.*belong to vocabulary"),
        ('{"a": 0, "b": 1}', "a\n", "line 1 of merges .*merges.txt"),
        ('{"a": 0, "b": 1}', "\n\na b\n", "line 1 of merges .*merges.txt"),
    ],
)
def test_damaged_files_of_byte_pairs_are_named(tmp_path: Path, vocabulary: str, merges: str, what: str) -> None:
    (tmp_path / "vocab.json").write_text(vocabulary)
    (tmp_path / "merges.txt").write_text(merges)
    with pytest.raises(ConfigError, match=what):
        GPT2Tokenizer.from_pretrained(tmp_path)


def test_a_token_of_several_lines_is_not_saved_as_text(tmp_path: Path) -> None:
    vocabulary = {**{word: number for number, word in enumerate(WORDS)}, "x\ny": 8}
    (tmp_path / "tokenizer.json").write_text(
        json.dumps({"version": "1.0", "model": {"type": "WordPiece", "vocab": vocabulary}})
    )
    with pytest.raises(ConfigError, match="more than one"):
        BertTokenizer(tmp_path / "tokenizer.json").save_pretrained(tmp_path / "out")


def test_a_wrong_argument_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match="do_lower_case .*bool, but is 'yes'"):
        BertTokenizer.from_pretrained(folder, do_lower_case="yes")
    with pytest.raises(ConfigError, match="mask_token of BertTokenizer is expected to be text or an AddedToken, but is a int"):
        BertTokenizer(folder / "vocab.txt", mask_token=5)
    with pytest.raises(ConfigError, match="additional_special_tokens of TransfoXLTokenizer .*list of tokens, but is a str"):
        TransfoXLTokenizer(additional_special_tokens="ab")
