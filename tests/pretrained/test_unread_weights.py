"""Weights of forms that are not read here are named as what they are, wherever they are met."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import registry
from registry import BertConfig, BertModel, CheckpointError, DownloadError, ModelRegistry
from tests.servers import HubFiles, hub_server, serving

SIZES: dict[str, Any] = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 24,
}
#: File name, its first bytes, what it is said to be, and what to do.
FORMS = [
    ("tf_model.h5", b"\x89HDF\r\n\x1a\n", "weights of TensorFlow 2", "from_tf=True"),
    ("flax_model.msgpack", b"\xde\x00\x10\xa5", "weights of Flax", "from_flax=True"),
    ("model-q4_0.gguf", b"GGUF\x03\x00\x00\x00{", "quantized weights of llama.cpp", "gguf_file"),
    ("model.onnx", b"\x08\x07\x12\x07pytorch", "an exported ONNX graph", "exported from"),
    ("tf_model-00001-of-00002.h5", b"\x89HDF\r\n\x1a\n", "weights of TensorFlow 2", "from_tf=True"),
]
every_form = pytest.mark.parametrize(("name", "head", "what", "advice"), FORMS, ids=[form[0] for form in FORMS])


def saved(folder: Path) -> Path:
    """Save a model whose weights are then taken away."""
    BertModel(BertConfig(**SIZES)).save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    return folder


def refused(call: Callable[[], object], *texts: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        call()
    assert all(text in str(caught.value) for text in texts), str(caught.value)


@every_form
def test_a_folder_of_such_weights_is_named_as_that(tmp_path: Path, name: str, head: bytes, what: str, advice: str) -> None:
    folder = saved(tmp_path / "m")
    (folder / name).write_bytes(head + bytes(100))
    catalog = tmp_path / "models.yaml"
    catalog.write_text(f"registry: 1\nmodels:\n  mine: {{family: bert, source: {folder}}}\n")
    for call in (
        lambda: registry.load(folder),
        lambda: BertModel.from_pretrained(folder),
        lambda: ModelRegistry(catalogs=[catalog]).load("mine"),
        lambda: ModelRegistry(catalogs=[catalog]).fetch("mine"),
        lambda: registry.load(folder / name),
        lambda: BertModel.from_pretrained(folder / name),
    ):
        refused(call, what, name, advice)
    (folder / "config.json").unlink()
    for call in (
        lambda: registry.load(folder),
        lambda: registry.load(folder / name),
        lambda: registry.load(folder, family="bert"),
    ):
        refused(call, what, name, advice)


@every_form
def test_such_weights_beside_ours_disturb_nothing(tmp_path: Path, name: str, head: bytes, what: str, advice: str) -> None:
    BertModel(BertConfig(**SIZES)).save_pretrained(tmp_path)
    (tmp_path / name).write_bytes(head)
    assert isinstance(registry.load(tmp_path), BertModel)
    (tmp_path / "config.json").unlink()
    with pytest.raises(DownloadError, match="configuration of .* but there is none"):
        registry.load(tmp_path, family="bert")


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_a_shard_without_its_index_is_named_as_that(tmp_path: Path, suffix: str) -> None:
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    model = BertModel(BertConfig(**SIZES))
    model.save_pretrained(tmp_path, max_shard_size=3_000, safe_serialization=suffix == "safetensors")
    shard = sorted(tmp_path.glob(f"{stem}-00001-of-*.{suffix}"))[0]
    index = tmp_path / f"{stem}.{suffix}.index.json"
    for call in (lambda: registry.load(shard), lambda: BertModel.from_pretrained(shard)):
        refused(call, "are one of", index.name)
    assert torch.equal(registry.load(index).pooler.dense.weight, model.pooler.dense.weight)
    index.unlink()
    for call in (lambda: registry.load(tmp_path), lambda: BertModel.from_pretrained(tmp_path)):
        refused(call, shard.name, "without their index", index.name)
    refused(lambda: registry.load(shard), "are one of", index.name)
    assert registry.load(shard, strict=False).load_report.missing


def test_a_part_of_a_tensorflow_checkpoint_without_its_index_is_named_as_that(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m")
    (folder / "model.ckpt.data-00000-of-00001").write_bytes(bytes(100))
    refused(lambda: registry.load(folder), "model.ckpt.data-00000-of-00001", "without its index", "model.ckpt.index")
    refused(lambda: registry.load(folder, head="base"), "model.ckpt.index")


@pytest.mark.parametrize(("name", "what"), [("tf_model.h5", "TensorFlow 2"), ("flax_model.msgpack", "Flax")])
def test_a_repository_of_such_weights_is_named_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, what: str
) -> None:
    config = (saved(tmp_path / "m") / "config.json").read_bytes()
    with hub_server(HubFiles({"acme/m": {"config.json": config, name: b"x" * 1_000}})) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        refused(lambda: registry.load("hf://acme/m"), what, name)
        assert not any(request.method == "GET" and request.path.endswith(name) for request in server.requests)


def test_an_address_of_such_a_file_is_named_as_that() -> None:
    with serving(lambda handler, request: handler.reply(request, 404, b"")) as server:
        refused(lambda: registry.load(f"{server.url}/files/model.gguf?download=1"), "llama.cpp", "model.gguf")


def test_a_folder_without_weights_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="expected to be model.safetensors or .* but there is none"):
        registry.load(saved(tmp_path / "m"))
