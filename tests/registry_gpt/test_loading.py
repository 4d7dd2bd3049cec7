"""Both families through the door that every plugin uses: entry points, catalogs, a hub."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

import registry.model_registry
from registry import ConfigError, ModelRegistry, UnknownHead
from registry.families.discovery import EntryPoint
from registry.families.host import PluginHost
from registry_gpt import OpenAIGPTConfig, OpenAIGPTLMHeadModel, OpenAIGPTModel, OpenAIGPTTokenizer
from registry_gpt2 import GPT2Config, GPT2DoubleHeadsModel, GPT2LMHeadModel, GPT2Tokenizer
from tests.real_data import gpt2_merges, gpt2_vocabulary
from tests.servers import COMMIT, HubFiles, hub_server

POINTS = {"gpt": "registry_gpt.plugin", "openai-gpt": "registry_gpt.plugin", "gpt2": "registry_gpt2.plugin"}
SIZES: dict[str, Any] = {"n_positions": 32, "n_embd": 8, "n_layer": 2, "n_head": 2, "initializer_range": 0.5}
MODELS = {
    "openai-gpt": (OpenAIGPTConfig, OpenAIGPTLMHeadModel, OpenAIGPTTokenizer),
    "gpt2": (GPT2Config, GPT2LMHeadModel, GPT2Tokenizer),
    "gpt2-medium": (GPT2Config, GPT2LMHeadModel, GPT2Tokenizer),
}


@pytest.fixture
def families(monkeypatch: pytest.MonkeyPatch) -> PluginHost:
    """Return the families as an installation has them."""
    host = PluginHost(lambda: [EntryPoint(name, value, "pretrained-registry", "0") for name, value in POINTS.items()])
    monkeypatch.setattr(registry.model_registry, "_default", ModelRegistry(plugins=host))
    return host


def publish(model: Any, side: int, kind: str) -> dict[str, bytes]:
    """Return a folder as the publishers made theirs: no prefix, causal masks, no head; the vocabulary in two files."""
    state = {key.removeprefix("transformer."): value for key, value in model.state_dict().items() if key != "lm_head.weight"}
    mask = torch.ones(side, side).tril()[None, None]
    state |= {f"h.{layer}.attn.bias": mask.clone() for layer in range(model.config.n_layer)}
    config = model.config.to_dict()
    del config["model_type"]  # as in 2019
    files = {"config.json": json.dumps(config).encode()}
    if kind == "model.safetensors":
        files[kind] = save(state, {"format": "pt"})
    else:
        torch.save(state, buffer := io.BytesIO(), _use_new_zipfile_serialization=False)
        files[kind] = buffer.getvalue()
    if model.config.model_type == "gpt2":
        return {**files, "vocab.json": gpt2_vocabulary().read_bytes(), "merges.txt": gpt2_merges().read_bytes()}
    tokens = ["<unk>", "o", "n", "c", "e</w>", "u", "p", "n</w>", "on</w>", "onc", "on"]
    files["vocab.json"] = json.dumps({token: number for number, token in enumerate(tokens)}).encode()
    return {**files, "merges.txt": b"#version: 0.2\no n</w>\no n\non c\n"}


def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Redefine the public names; a new source drops the pins."""
    lines = [f"  {name}: {{base: {name}, source: 'hf://acme/{name}@{COMMIT}'}}" for name in MODELS]
    (tmp_path / "mine.yaml").write_text("\n".join(["registry: 1", "models:", *lines, ""]))
    monkeypatch.setenv("REGISTRY_MODELS", str(tmp_path / "mine.yaml"))
    monkeypatch.setenv("HF_ENDPOINT", url)


@pytest.fixture
def hub(families: PluginHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubFiles]:
    """Serve an empty hub under which the public names are redefined."""
    files = HubFiles()
    with hub_server(files) as server:
        catalog(tmp_path, monkeypatch, server.url)
        yield files


def test_public_names_are_there_and_resolve_without_importing_a_model(families: PluginHost) -> None:
    names = ModelRegistry(plugins=families)
    assert set(names.list_models()) == set(MODELS)
    assert names.resolve("openai-gpt").family == "gpt"
    entry = names.resolve("gpt2-medium")
    assert entry.source == "hf://openai-community/gpt2-medium@6dcaa7a952f72f9298047fd5137cd6e4f05f41da"
    assert dict(entry.tokenizer) == {"model_max_length": 1024}


def test_describing_a_family_imports_neither_torch_nor_tokenizers() -> None:
    code = (
        "import sys, registry_gpt.plugin as one, registry_gpt2.plugin as two\n"
        "families = [one.registry_family(), two.registry_family()]\n"
        "heavy = {'torch', 'tokenizers', 'registry_gpt.modeling', 'registry_gpt2.modeling'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "print([(family.name, sorted(family.heads), family.default_head) for family in families])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)})
    assert done.stdout.strip() == str([(name, ["base", "double-heads", "lm"], "lm") for name in ("gpt", "gpt2")]), done.stderr


def test_model_type_and_family_name_are_one_family(families: PluginHost) -> None:
    assert families.get("gpt") == families.get("openai-gpt")
    assert families.get("gpt") != families.get("gpt2")


@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("name", MODELS)
def test_published_layout_loads_by_name_and_generates(name: str, kind: str, hub: HubFiles) -> None:
    config, head, tokenizer_class = MODELS[name]
    torch.manual_seed(0)
    model = head(config(vocab_size=11 if name == "openai-gpt" else 50257, **SIZES)).eval()
    hub.files[f"acme/{name}"] = publish(model, 32, kind)

    loaded = registry.load(name)
    tokenizer = registry.load_tokenizer(name)
    assert type(loaded) is head and type(tokenizer) is tokenizer_class
    assert not loaded.load_report.missing and not loaded.load_report.unexpected
    prompt = tokenizer("Once upon" if name != "openai-gpt" else "onc on", return_tensors="pt")["input_ids"]
    assert torch.equal(loaded.generate(prompt, eos_token_id=[]), model.generate(prompt, eos_token_id=[]))
    double = registry.load(name, head="double-heads")
    assert double.load_report.newly_initialized == ("multiple_choice_head.summary.weight", "multiple_choice_head.summary.bias")
    again = head.from_pretrained(name)
    assert torch.equal(again(prompt).logits, model(prompt).logits)
    assert type(tokenizer_class.from_pretrained(name)) is tokenizer_class
    with pytest.raises(UnknownHead, match="base, double-heads, lm"):
        registry.load(name, head="masked-lm")


def test_class_of_the_other_family_is_refused_by_name(hub: HubFiles) -> None:
    with pytest.raises(ConfigError, match="expected to be that of OpenAIGPTConfig, but is 'gpt2'"):
        OpenAIGPTModel.from_pretrained("gpt2")


def test_saved_folder_tells_its_family_and_head(families: PluginHost, tmp_path: Path) -> None:
    for cls, config in ((OpenAIGPTModel, OpenAIGPTConfig), (GPT2DoubleHeadsModel, GPT2Config)):
        cls(config(vocab_size=20, **SIZES)).save_pretrained(tmp_path / cls.__name__)
        assert type(registry.load(tmp_path / cls.__name__)) is cls


def test_old_file_name_of_the_configuration_tells_the_family(families: PluginHost, tmp_path: Path) -> None:
    model = OpenAIGPTLMHeadModel(OpenAIGPTConfig(vocab_size=20, **SIZES))
    model.save_pretrained(tmp_path / "old")
    config = json.loads((tmp_path / "old" / "config.json").read_text())
    (tmp_path / "old" / "config.json").unlink()
    (tmp_path / "old" / "openai_gpt_config.json").write_text(json.dumps({**config, "model_type": None}))
    assert type(registry.load(tmp_path / "old")) is OpenAIGPTLMHeadModel
    assert type(OpenAIGPTModel.from_pretrained(tmp_path / "old")) is OpenAIGPTModel


@pytest.mark.slow
@pytest.mark.parametrize("name", ["openai-gpt", "gpt2-medium"])
def test_full_size_loads_by_name_and_generates(name: str, hub: HubFiles) -> None:
    config, head, _ = MODELS[name]
    sizes = {"n_embd": 1024, "n_layer": 24, "n_head": 16} if name == "gpt2-medium" else {}
    model = head(config(**sizes)).eval()
    hub.files[f"acme/{name}"] = publish(model, model.config.n_positions, "model.safetensors")
    loaded = registry.load(name)
    assert loaded.num_parameters() == model.num_parameters()
    prompt = torch.tensor([[40, 41, 42]])
    assert torch.equal(loaded.generate(prompt, max_new_tokens=3), model.generate(prompt, max_new_tokens=3))
