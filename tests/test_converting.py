"""`ModelRegistry.convert`, and what is found of checkpoints that say little of themselves."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import registry
from registry import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    CheckpointError,
    ConfigError,
    DownloadError,
    ModelRegistry,
)
from registry.checkpoint.name_table import Renamed, Rule
from registry.checkpoint.numpy_pieces import NumpyPieces
from registry.checkpoint.tensors import StateDict
from tests.servers import file_server
from tests.tensorflow.reading import CHECKPOINTS

SIZES = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 20}


def config_of_2019(folder: Path, **more: Any) -> None:
    """Write a configuration that names no class, as 2019's did not."""
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **SIZES, **more}))


def equal(one: Any, other: Any) -> bool:
    expected = other.state_dict()
    return all(torch.equal(value, expected[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("wrapper", ["", "module.", "model.", "module._orig_mod."])
@pytest.mark.parametrize("labels", [2, 5])
def test_the_head_of_a_wrapped_classifier_is_found(wrapper: str, labels: int, tmp_path: Path) -> None:
    model = BertForSequenceClassification(BertConfig(**SIZES, num_labels=labels))
    config_of_2019(tmp_path / "ddp", num_labels=labels)
    torch.save({wrapper + name: value for name, value in model.state_dict().items()}, tmp_path / "ddp" / "pytorch_model.bin")
    converted = ModelRegistry().convert(tmp_path / "ddp", tmp_path / "ddp")
    assert isinstance(converted, BertForSequenceClassification)
    assert equal(registry.load(tmp_path / "ddp"), model)


def test_a_conversion_in_place_that_would_lose_weights_is_refused(tmp_path: Path) -> None:
    model = BertForSequenceClassification(BertConfig(**SIZES))
    config_of_2019(tmp_path / "m")
    torch.save({**model.state_dict(), "extra.weight": torch.ones(3)}, tmp_path / "m" / "pytorch_model.bin")
    before = {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()}
    with pytest.raises(CheckpointError, match=r"extra.weight would be left out; write into another folder"):
        ModelRegistry().convert(tmp_path / "m", tmp_path / "m")
    assert {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()} == before
    assert isinstance(ModelRegistry().convert(tmp_path / "m", tmp_path / "out"), BertForSequenceClassification)


def test_fields_of_the_configuration_and_the_tokenizer_can_be_set(tmp_path: Path) -> None:
    model = ModelRegistry().convert(
        CHECKPOINTS / "bert_classifier", tmp_path / "out", num_labels=3, tokenizer_settings={"do_lower_case": False}
    )
    assert isinstance(model, BertForSequenceClassification)
    assert equal(registry.load(tmp_path / "out"), model)
    assert "'do_lower_case': False" in repr(registry.load_tokenizer(tmp_path / "out"))


def test_weights_under_any_name_convert(tmp_path: Path) -> None:
    model = BertModel(BertConfig(**SIZES))
    config_of_2019(tmp_path / "run")
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, tmp_path / "run" / "epoch3.pt")
    assert equal(ModelRegistry().convert(tmp_path / "run" / "epoch3.pt", tmp_path / "out"), model)


def test_from_tf_passes_over_a_file_of_our_own_form(tmp_path: Path) -> None:
    folder = shutil.copytree(CHECKPOINTS / "bert", tmp_path / "bert")
    expected = BertModel.from_pretrained(folder, from_tf=True)
    torch.save(BertModel(expected.config).state_dict(), folder / "bert_model.ckpt")
    assert equal(BertModel.from_pretrained(folder / "bert_model.ckpt", from_tf=True), expected)
    assert not equal(BertModel.from_pretrained(folder / "bert_model.ckpt"), expected)
    expected.save_pretrained(folder)
    with pytest.raises(CheckpointError, match="expected to be another program's, because from_tf=True says so"):
        BertModel.from_pretrained(folder / "model.safetensors", from_tf=True)


def test_a_folder_with_a_checkpoint_of_version_1_says_how_to_convert_it(tmp_path: Path) -> None:
    shutil.copy(CHECKPOINTS / "bert" / "bert_config.json", tmp_path)
    (older,) = (path for path in (CHECKPOINTS / "version_1").iterdir() if path.suffix == ".ckpt")
    shutil.copy(older, tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match="version 1"):
        BertModel.from_pretrained(tmp_path, from_tf=True)


def test_the_family_is_asked_for_where_nothing_tells_it(tmp_path: Path) -> None:
    shutil.copytree(CHECKPOINTS / "gpt2", tmp_path / "117M")
    with pytest.raises(DownloadError, match="if its family is known otherwise, give family="):
        registry.load(tmp_path / "117M")
    (tmp_path / "117M" / "hparams.json").rename(tmp_path / "117M" / "gpt2_config.json")
    assert registry.load(tmp_path / "117M").config.model_type == "gpt2"


def test_a_configuration_of_endless_layers_is_refused(tmp_path: Path) -> None:
    config_of_2019(tmp_path / "m", num_hidden_layers=10**12)
    with pytest.raises(ConfigError, match="num_hidden_layers of BertConfig is expected to be from .* but is 1000000000000"):
        registry.load_config(tmp_path / "m")


def test_values_of_a_shard_are_never_taken_for_a_pickle(tmp_path: Path) -> None:
    """A shard has no form of its own: its first bytes are those of the first tensor, here those of a pickle."""
    folder = shutil.copytree(CHECKPOINTS / "gpt2", tmp_path / "gpt2")
    shard = folder / "model.ckpt.data-00000-of-00001"
    shard.write_bytes(b"\x80\x02" + shard.read_bytes()[2:])
    assert ModelRegistry().inspect(folder / "model.ckpt").pickles == {}


@pytest.mark.parametrize("rows", [0, 1 << 40])
def test_a_table_makes_no_endless_rows(rows: int) -> None:
    variable = torch.empty(rows, 0, device="meta")
    with pytest.raises(CheckpointError, match=f"rows of 'biases' are expected to be 1 to 10000.*are {rows}"):
        Renamed(StateDict({"biases": variable}), [Rule("biases", "layer.{row}", "rows")])


@pytest.mark.parametrize("shapes", [[(2, 3), (2, 4)], [(), ()], [(2,), ()]])
def test_parts_that_do_not_fit_are_not_joined(shapes: list[tuple[int, ...]]) -> None:
    parts = {f"part_{number}": torch.zeros(shape) for number, shape in enumerate(shapes)}
    with pytest.raises(CheckpointError, match="parts of 'whole' are expected to differ in their rows alone"):
        Renamed(StateDict(parts), [Rule(r"part_\d+", "whole", "joined")])


def test_two_variables_are_not_one_tensor() -> None:
    with pytest.raises(CheckpointError, match="'a' and 'b' are both 'c'"):
        Renamed(StateDict({"a": torch.zeros(1), "b": torch.zeros(1)}), [Rule("a|b", "c")])


@pytest.mark.parametrize(
    "shapes", ["[[1000000000000000000000000000000]]", "[[true]]", "[[0]]", "[" * 100_000, "[[1,1,1,1,1,1,1,1,1]]"]
)
def test_shapes_that_no_release_has_are_refused(shapes: str, tmp_path: Path) -> None:
    (tmp_path / "params_shapes.json").write_text(shapes)
    with pytest.raises(CheckpointError, match="JSON list of shapes"):
        NumpyPieces(tmp_path / "params_shapes.json", [])


@pytest.mark.parametrize("damage", ["longdouble", "header", "objects"])
def test_pieces_that_are_no_vectors_are_refused(damage: str, tmp_path: Path) -> None:
    (tmp_path / "params_shapes.json").write_text("[[2]]")
    piece = tmp_path / "params_0.npy"
    if damage == "longdouble":
        np.save(piece, np.zeros(2, np.longdouble))
    elif damage == "objects":
        np.save(piece, np.array([None, None]), allow_pickle=True)
    else:
        header = b"(" * 3000
        piece.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(CheckpointError, match=r"params_0.npy"):
        NumpyPieces(tmp_path / "params_shapes.json", [piece])


def test_pieces_of_two_dtypes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "params_shapes.json").write_text("[[2], [3]]")
    pieces = [tmp_path / "params_0.npy", tmp_path / "params_1.npy"]
    np.save(pieces[0], np.zeros(2, np.float16))
    np.save(pieces[1], np.zeros(3, np.float64))
    with pytest.raises(CheckpointError, match=r"params_shapes.json.* one dtype, but have float16 and float64"):
        NumpyPieces(tmp_path / "params_shapes.json", pieces)


def test_a_model_whose_weights_are_those_of_a_converted_file_stays(cache: Path, tmp_path: Path) -> None:
    model = BertModel(BertConfig(**SIZES))
    config_of_2019(tmp_path / "mine")
    torch.save(model.state_dict(), tmp_path / "mine" / "pytorch_model.bin")
    registry.load(tmp_path / "mine")
    (made,) = (path for path in (cache / "blobs").rglob("*") if path.is_file() and len(path.name) == 64)
    files = {"/config.json": (tmp_path / "mine" / "config.json").read_bytes(), "/model.safetensors": made.read_bytes()}
    with file_server(files) as server:
        registry.load(server.url)
        torch.save(BertModel(BertConfig(**SIZES)).state_dict(), tmp_path / "mine" / "pytorch_model.bin")
        registry.load(tmp_path / "mine")
    assert equal(registry.load(server.url, offline=True), model)


def test_a_converted_file_that_is_pruned_at_once_is_made_again(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from registry.checkpoint import converted

    model = BertModel(BertConfig(**SIZES))
    config_of_2019(tmp_path / "mine")
    torch.save(model.state_dict(), tmp_path / "mine" / "pytorch_model.bin")
    opened, pruned = converted._open, list[Path]()

    def prune_then_open(path: Path) -> Any:
        if not pruned:
            pruned.append(path)
            path.unlink()
        return opened(path)

    monkeypatch.setattr(converted, "_open", prune_then_open)
    assert equal(registry.load(tmp_path / "mine"), model)
    assert pruned
