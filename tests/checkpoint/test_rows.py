"""Rows of a tensor are those of the whole tensor, in every form; of safetensors no other bytes are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from registry.checkpoint.name_table import Renamed, Rule
from registry.checkpoint.numpy_pieces import NumpyPieces
from registry.checkpoint.open import open_checkpoint
from registry.checkpoint.safetensors.file import FilePieces, SafetensorsFile
from registry.checkpoint.save import write_weights
from registry.checkpoint.tensors import Checkpoint, StateDict
from registry.errors import CheckpointError


def _tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {"deep": torch.randn(7, 3, 2), "flat": torch.randn(9), "half": torch.randn(5, 4).half(), "none": torch.randn(3, 0)}


def _safetensors(folder: Path) -> Checkpoint:
    save_file(_tensors(), folder / "model.safetensors")
    return open_checkpoint(folder / "model.safetensors", mapped=True)


def _read(folder: Path) -> Checkpoint:
    save_file(_tensors(), folder / "model.safetensors")
    return open_checkpoint(folder / "model.safetensors", mapped=False)


def _shards(folder: Path) -> Checkpoint:
    assert len(write_weights(folder, _tensors(), max_shard_size=100)) > 1
    return open_checkpoint(folder / "model.safetensors.index.json")


def _pickle(folder: Path) -> Checkpoint:
    torch.save(_tensors(), folder / "pytorch_model.bin")
    return open_checkpoint(folder / "pytorch_model.bin")


def _legacy(folder: Path) -> Checkpoint:
    torch.save(_tensors(), folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    return open_checkpoint(folder / "pytorch_model.bin")


def _state_dict(folder: Path) -> Checkpoint:
    return StateDict(_tensors())


def _renamed(folder: Path) -> Checkpoint:
    rules = [Rule("deep", "turned", "transposed"), Rule("half", "row.{row}", "rows"), Rule("flat", "same")]
    return Renamed(_safetensors(folder), rules)


def _numpy(folder: Path) -> Checkpoint:
    (folder / "params_shapes.json").write_text("[[5, 2], [4]]")
    np.save(folder / "params_0.npy", np.arange(6, dtype=np.float32))
    np.save(folder / "params_1.npy", np.arange(8, dtype=np.float32))
    return NumpyPieces(folder / "params_shapes.json", [folder / "params_0.npy", folder / "params_1.npy"])


@pytest.mark.parametrize("opened", [_safetensors, _read, _shards, _pickle, _legacy, _state_dict, _renamed, _numpy])
def test_rows_are_those_of_the_whole_tensor(opened: Callable[[Path], Checkpoint], tmp_path: Path) -> None:
    checkpoint = opened(tmp_path)
    for name in checkpoint.names():
        whole = checkpoint.tensor(name)
        for begin, end in ((0, len(whole)), (1, min(3, len(whole))), (len(whole) - 1, len(whole)), (2, 2)):
            for dtype in (whole.dtype, torch.float64, torch.bfloat16):
                into = torch.full((end - begin, *whole.shape[1:]), 9.0, dtype=dtype)
                checkpoint.read_rows(name, begin, into)
                assert torch.equal(into, whole[begin:end].to(dtype)), (name, begin, end, dtype)
        scattered = torch.zeros(1, *whole.shape[1:], 2, dtype=whole.dtype)[..., 0]
        checkpoint.read_rows(name, 1, scattered)
        assert torch.equal(scattered, whole[1:2])
        assert checkpoint.stored_name(name) == name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_no_other_bytes_are_read_of_safetensors(dtype: torch.dtype, tmp_path: Path) -> None:
    save_file(
        {"before": torch.randn(100), "wide": torch.randn(1000, 16), "z": torch.randn(100)}, tmp_path / "model.safetensors"
    )
    checkpoint = SafetensorsFile(tmp_path / "model.safetensors")
    sizes: list[int] = []
    read = FilePieces.read

    def counted(self: FilePieces, into: memoryview, offset: int) -> None:
        sizes.append(len(into))
        read(self, into, offset)

    into = torch.empty(250, 16, dtype=dtype)
    with mock.patch.object(FilePieces, "read", counted), mock.patch("registry.checkpoint.safetensors.file._PIECE", 4096):
        checkpoint.read_rows("wide", 500, into)
    assert sum(sizes) == 250 * 16 * 4
    assert len(sizes) == (1 if dtype == torch.float32 else 4)  # what is cast goes through a piece of memory
    assert torch.equal(into, checkpoint.tensor("wide")[500:750].to(dtype))


def test_two_names_of_one_tensor_have_one_stored_name(tmp_path: Path) -> None:
    tensor = torch.randn(4, 4)
    tensors = {"first": tensor, "second": tensor, "part": tensor[:2], "other": tensor.clone()}
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    for checkpoint in (StateDict(tensors), open_checkpoint(tmp_path / "pytorch_model.bin")):
        assert [checkpoint.stored_name(name) for name in tensors] == ["first", "first", "part", "other"]


def test_a_file_that_was_cut_is_an_error_and_not_the_end_of_the_process(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"wide": torch.randn(1000, 16)}, path)
    checkpoint = SafetensorsFile(path)
    with path.open("rb+") as file:
        file.truncate(10_000)
    with pytest.raises(CheckpointError, match="is expected to be readable, but is not \\(it was cut\\)"):
        checkpoint.read_rows("wide", 900, torch.empty(100, 16))
    path.unlink()
    save_file({"wide": torch.randn(1000, 16)}, path)
    checkpoint = SafetensorsFile(path)
    path.unlink()
    with pytest.raises(CheckpointError, match="is expected to be readable, but is not \\(No such file"):
        checkpoint.read_rows("wide", 900, torch.empty(100, 16))
