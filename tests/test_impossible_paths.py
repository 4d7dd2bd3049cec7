"""Paths that no file system takes: one error of ours, wherever they are given."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import registry
from registry import BertConfig, BertModel, RegistryError
from registry_bert import BertTokenizer
from registry_gpt import OpenAIGPTTokenizer
from registry_gpt2 import GPT2Tokenizer
from registry_transfo_xl import TransfoXLTokenizer

LONG = "a" * 300
CHARACTERS = ["a\0b", "a\ud800b"]


@pytest.fixture
def tokenizers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
    Path("words.txt").write_text("<unk>\n<eos>\na\n")
    Path("vocab.json").write_text(json.dumps({"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}))
    Path("merges.txt").write_text("a b\n")
    return [
        BertTokenizer("vocab.txt"),
        TransfoXLTokenizer(vocab_file="words.txt"),
        GPT2Tokenizer("vocab.json", "merges.txt"),
    ]


def refused(*calls: Callable[[], Any]) -> None:
    before = sorted(Path().rglob("*"))
    for call in calls:
        with pytest.raises(RegistryError, match="expected"):
            call()
    assert sorted(Path().rglob("*")) == before


@pytest.mark.usefixtures("tokenizers")
@pytest.mark.parametrize("path", [LONG, "/".join(["b" * 200] * 30), *CHARACTERS])
def test_vocabularies(path: str) -> None:
    refused(
        lambda: BertTokenizer(path),
        lambda: TransfoXLTokenizer(vocab_file=path),
        lambda: TransfoXLTokenizer(pretrained_vocab_file=path),
        lambda: GPT2Tokenizer(path),
        lambda: GPT2Tokenizer(path, path),
        lambda: GPT2Tokenizer("vocab.json", path),
        lambda: OpenAIGPTTokenizer(path, path),
        lambda: BertTokenizer.from_pretrained(path),
        lambda: registry.load_tokenizer(path),
    )


@pytest.mark.parametrize("path", [LONG, *CHARACTERS])
def test_what_is_saved(tokenizers: list[Any], path: str) -> None:
    refused(*(lambda each=each: each.save_vocabulary(path) for each in tokenizers), lambda: BertConfig().to_json_file(path))
    sizes = {"vocab_size": 8, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4}
    refused(*(lambda each=each: each.save_pretrained(path) for each in tokenizers))
    refused(lambda: BertConfig().save_pretrained(path), lambda: BertModel(BertConfig(**sizes)).save_pretrained(path))


@pytest.mark.usefixtures("tokenizers")
@pytest.mark.parametrize("path", CHARACTERS)
def test_places(path: str) -> None:
    refused(
        lambda: registry.fetch(path),
        lambda: registry.fetch(f"./{path}"),
        lambda: registry.fetch(Path(path)),
        lambda: registry.load(path),
        lambda: registry.fetch(f"file:///{path}"),
        lambda: registry.fetch("http://127.0.0.1:9/x", cache_dir=path),
        lambda: registry.ModelRegistry(cache_dir=path),
        lambda: registry.ModelRegistry(lock_file=path),
        lambda: registry.ModelRegistry(catalogs=[path]),
    )
