"""The family through its door: names, heads, files of the published layout."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from registry import ModelRegistry
from registry.errors import UnknownHead
from registry.families.discovery import EntryPoint
from registry.families.host import PluginHost
from registry_transfo_xl import TransfoXLConfig, TransfoXLLMHeadModel, TransfoXLModel, TransfoXLTokenizer
from tests.registry_transfo_xl.small import VOCABULARY, ids, ours
from tests.servers import HubFiles, hub_server

PLUGIN = EntryPoint("transfo-xl", "registry_transfo_xl.plugin", "pretrained-registry", "0")


@pytest.fixture
def registry() -> ModelRegistry:
    return ModelRegistry(plugins=PluginHost(lambda: [PLUGIN]))


def published(model: TransfoXLLMHeadModel) -> dict[str, bytes]:
    """Return a model's files in the layout of the hub: every pickle of the old form, no safetensors."""
    state = model.state_dict()
    state["transformer.pos_emb.inv_freq"] = 1 / 10000 ** (torch.arange(0, model.config.d_model, 2) / model.config.d_model)
    words = ["<eos>", "the", "<unk>", *(f"word{number}" for number in range(3, model.config.n_token))]
    vocabulary = {
        "counter": Counter(words),
        "special": ["<eos>"],
        "min_freq": 0,
        "max_size": None,
        "lower_case": False,
        "delimiter": None,
        "vocab_file": None,
        "idx2sym": words,
        "sym2idx": OrderedDict((word, number) for number, word in enumerate(words)),
        "eos_idx": 0,
    }
    settings = {**model.config.to_dict(), "architectures": ["TransfoXLLMHeadModel"], "vocab_size": model.config.n_token}
    files = {"config.json": json.dumps(settings).encode()}
    for name, content in {"pytorch_model.bin": state, "vocab.bin": vocabulary}.items():
        buffer = io.BytesIO()
        torch.save(content, buffer, _use_new_zipfile_serialization=False)
        files[name] = buffer.getvalue()
    return files


def test_the_name_is_pinned_to_a_commit_and_to_what_its_publisher_says(registry: ModelRegistry) -> None:
    entry = registry.resolve("transfo-xl-wt103")
    assert entry.family == "transfo-xl" and entry.head == "lm"
    assert entry.source == "hf://transfo-xl/transfo-xl-wt103@40a186da79458c9f9de846edfaea79c412137f97"
    pins = {name: pin.sha256 for name, pin in entry.files.items()}
    assert {name: sha256 and len(sha256) for name, sha256 in pins.items()} == {"pytorch_model.bin": 64, "vocab.bin": 64}


def test_importing_the_plugin_imports_nothing_heavy() -> None:
    code = (
        "import sys, registry_transfo_xl, registry_transfo_xl.plugin as p; family = p.registry_family();"
        "print(sorted({'torch', 'yaml', 'tokenizers', 'numpy', 'registry_transfo_xl.modeling'} & set(sys.modules)))"
    )
    paths = [
        str(Path(module.__file__ or "").parents[1]) for module in (sys.modules["registry"], sys.modules["registry_transfo_xl"])
    ]
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}; {code}"], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


def test_heads_are_chosen_by_name(registry: ModelRegistry, tmp_path: Path) -> None:
    ours().save_pretrained(tmp_path / "model")
    assert type(registry.load(tmp_path / "model")) is TransfoXLLMHeadModel
    base = registry.load(tmp_path / "model", head="base")
    assert type(base) is TransfoXLModel and registry.head_of(base) == "base"
    with pytest.raises(UnknownHead, match="base, lm"):
        registry.load(tmp_path / "model", head="question-answering", family="transfo-xl")
    assert registry.find_class("TransfoXLTokenizer") is TransfoXLTokenizer


def load_by_name(registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, bytes]) -> Any:
    catalog = tmp_path / "mine.yaml"
    catalog.write_text(
        "registry: 1\nmodels:\n  transfo-xl-wt103: {base: transfo-xl-wt103, source: 'hf://transfo-xl/transfo-xl-wt103'}\n"
    )
    monkeypatch.setenv("REGISTRY_MODELS", str(catalog))
    with hub_server(HubFiles({"transfo-xl/transfo-xl-wt103": files})) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        return registry.load("transfo-xl-wt103"), registry.load_tokenizer("transfo-xl-wt103")


def test_the_published_layout_loads_by_name(registry: ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = ours()
    model, tokenizer = load_by_name(registry, monkeypatch, tmp_path, published(expected))
    assert model.load_report.clean and model.config.n_token == VOCABULARY
    torch.testing.assert_close(model(ids(2, 5)).logits, expected(ids(2, 5)).logits, rtol=0, atol=5e-6)
    assert tokenizer.encode("the end word7", add_eos=True) == [1, 2, 7, 0]


@pytest.mark.slow
def test_the_real_size_loads_by_name_and_generates(
    registry: ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    files = published(TransfoXLLMHeadModel(TransfoXLConfig()))
    model, tokenizer = load_by_name(registry, monkeypatch, tmp_path, files)
    assert model.num_parameters() == 285_205_322 and len(tokenizer) == 267_735
    read = tokenizer("the word7 of word267734", return_tensors="pt").input_ids
    assert read.tolist() == [[1, 7, 2, 267734]]
    with torch.inference_mode():
        state = model.start_generation(1, 6)
        scores = model.generation_step(read, None, state)
        assert state.mems[0].shape == (1600, 1, 1024)
        torch.testing.assert_close(scores.exp().sum(-1), torch.ones(1), rtol=0, atol=1e-3)
        following = model.generation_step(scores.argmax(-1, keepdim=True), None, state)
    written = model.generate(read, max_new_tokens=2)
    assert written.tolist() == [[1, 7, 2, 267734, int(scores.argmax()), int(following.argmax())]]
