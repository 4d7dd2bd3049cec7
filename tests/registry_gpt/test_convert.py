"""OpenAI's numpy release, held against what 1.2.0 made of it with a list of names that the release does not have."""

from __future__ import annotations

import json
import math
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import registry
from registry import (
    CheckpointError,
    DownloadError,
    OpenAIGPTDoubleHeadsModel,
    OpenAIGPTLMHeadModel,
    OpenAIGPTModel,
)
from tests.oracles import assert_close, old, quiet
from tests.servers import file_server

SIZES = {"vocab_size": 61, "n_positions": 10, "n_ctx": 10, "n_embd": 12, "n_layer": 2, "n_head": 3}
#: One layer's arrays in the order of train.py, with names as in parameters_names.json.
LAYER = {
    "attn/c_attn/w": [1, 12, 36],
    "attn/c_attn/b": [36],
    "attn/c_proj/w": [1, 12, 12],
    "attn/c_proj/b": [12],
    "ln_1/g": [12],
    "ln_1/b": [12],
    "mlp/c_fc/w": [1, 12, 48],
    "mlp/c_fc/b": [48],
    "mlp/c_proj/w": [1, 48, 12],
    "mlp/c_proj/b": [12],
    "ln_2/g": [12],
    "ln_2/b": [12],
}


def write_release(folder: Path, config: str | None = "config.json", pieces: int = 10) -> Path:
    """Write random arrays as OpenAI did: a flat vector in pieces that cut through arrays, and shapes."""
    folder.mkdir(parents=True)
    shapes = [[10, 12], [61, 12], *(shape for _ in range(2) for shape in LAYER.values())]
    generator = np.random.default_rng(5)
    flat = generator.standard_normal(sum(math.prod(shape) for shape in shapes)).astype(np.float32) * np.float32(0.3)
    for number, piece in enumerate(np.array_split(flat, pieces)):
        np.save(folder / f"params_{number}.npy", piece)
    (folder / "params_shapes.json").write_text(json.dumps(shapes))
    if config:
        (folder / config).write_text(json.dumps(SIZES))
    return folder


def of_1_2_0(folder: Path, tmp_path: Path) -> Any:
    """Return 1.2.0's model, converted by its own loader."""
    helped = tmp_path / "with_names"
    shutil.copytree(folder, helped)
    names = ["model/we:0", *(f"model/h{layer}/{name}:0" for layer in range(2) for name in LAYER)]
    (helped / "parameters_names.json").write_text(json.dumps([*names, "model/clf/w:0", "model/clf/b:0"]))
    model = quiet(old.OpenAIGPTModel, old.OpenAIGPTConfig(vocab_size_or_config_json_file=61, **{**SIZES, "vocab_size": 61}))
    quiet(old.modeling_openai.load_tf_weights_in_openai_gpt, model, model.config, str(helped))
    return model.eval()


IDS = torch.tensor([[5, 60, 0, 7, 7, 31], [1, 2, 3, 4, 5, 6]])


def test_the_model_is_that_of_1_2_0(tmp_path: Path) -> None:
    folder = write_release(tmp_path / "release")
    reference = of_1_2_0(folder, tmp_path)
    model = OpenAIGPTModel.from_pretrained(folder, from_tf=True)
    assert model.load_report.clean
    assert not model.training
    ours, theirs = model.state_dict(), reference.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert_close(model(IDS)[0], quiet(reference, IDS)[0])


@pytest.mark.parametrize("cls", [OpenAIGPTLMHeadModel, OpenAIGPTDoubleHeadsModel])
def test_classes_with_heads_load_it(cls: Any, tmp_path: Path) -> None:
    folder = write_release(tmp_path / "release")
    base = OpenAIGPTModel.from_pretrained(folder, from_tf=True)
    model = cls.from_pretrained(folder, from_tf=True)
    assert all(torch.equal(value, model.transformer.state_dict()[name]) for name, value in base.state_dict().items())
    assert not [name for name in model.load_report.missing if not name.startswith("multiple_choice_head.")]


def test_load_finds_it_without_being_told(tmp_path: Path) -> None:
    folder = write_release(tmp_path / "release", config="openai_gpt_config.json")
    model = registry.load(folder)
    assert isinstance(model, OpenAIGPTLMHeadModel)
    assert model.load_report is not None
    assert model.load_report.clean


def test_one_saved_here_goes_before_it_unless_it_is_asked_for(tmp_path: Path) -> None:
    folder = write_release(tmp_path / "release")
    model = OpenAIGPTModel.from_pretrained(folder)
    with torch.no_grad():
        model.tokens_embed.weight[0, 0] = 7.0
    model.save_pretrained(folder)
    assert OpenAIGPTModel.from_pretrained(folder).tokens_embed.weight[0, 0] == 7.0
    assert OpenAIGPTModel.from_pretrained(folder, from_tf=True).tokens_embed.weight[0, 0] != 7.0


def test_an_archive_and_a_url_of_it_load(tmp_path: Path) -> None:
    folder = write_release(tmp_path / "site" / "release", config="openai_gpt_config.json")
    with tarfile.open(tmp_path / "site" / "release.tar.gz", "w:gz") as archive:
        archive.add(folder, "gpt")
    here = OpenAIGPTModel.from_pretrained(folder, from_tf=True).state_dict()
    site = {f"/{path.relative_to(tmp_path / 'site')}": path.read_bytes() for path in (tmp_path / "site").rglob("*.*")}
    with file_server(site) as server:
        for place in (f"{server.url}/release.tar.gz", f"{server.url}/release/"):
            model = OpenAIGPTModel.from_pretrained(place, from_tf=True, cache_dir=tmp_path / "cache")
            assert all(torch.equal(value, here[name]) for name, value in model.state_dict().items())
        fetched = registry.fetch(f"{server.url}/release/", family="gpt", cache_dir=tmp_path / "cache")
    names = {path.name for path in fetched.iterdir()}
    assert names == {"openai_gpt_config.json", "params_shapes.json", *(f"params_{number}.npy" for number in range(10))}


def test_without_a_configuration_it_is_of_the_published_size(tmp_path: Path) -> None:
    folder = write_release(tmp_path / "release", config=None)
    with pytest.raises(CheckpointError, match=r"tokens_embed.weight: file \(61, 12\), model \(40478, 768\)"):
        OpenAIGPTModel.from_pretrained(folder, from_tf=True)
    with pytest.raises(CheckpointError, match="shapes in"):
        registry.load(folder / "params_shapes.json", family="gpt")


def test_it_becomes_float32_unless_asked_otherwise(tmp_path: Path) -> None:
    folder = write_release(tmp_path / "release")
    for path in folder.glob("params_*.npy"):
        np.save(path, np.load(path).astype(np.float16))
    assert OpenAIGPTModel.from_pretrained(folder, from_tf=True).dtype == torch.float32
    assert OpenAIGPTModel.from_pretrained(folder, from_tf=True, dtype="bfloat16").dtype == torch.bfloat16


def spoil_piece(folder: Path) -> None:
    np.save(folder / "params_3.npy", np.array([object()]), allow_pickle=True)


def spoil_shapes(folder: Path) -> None:
    (folder / "params_shapes.json").write_text('[[1, "2"]]')


def drop_piece(folder: Path) -> None:
    (folder / "params_4.npy").unlink()


def lengthen_piece(folder: Path) -> None:
    np.save(folder / "params_9.npy", np.zeros(10_000, np.float32))


def empty_piece(folder: Path) -> None:
    np.save(folder / "params_2.npy", np.zeros(0, np.float32))


def cut_piece(folder: Path) -> None:
    path = folder / "params_1.npy"
    path.write_bytes(path.read_bytes()[:-1])


def turn_piece(folder: Path) -> None:
    np.save(folder / "params_1.npy", np.load(folder / "params_1.npy").reshape(2, -1)[:, :1])


@pytest.mark.parametrize(
    ("spoil", "error", "said"),
    [
        (spoil_piece, CheckpointError, "numpy file of numbers"),
        (spoil_shapes, CheckpointError, "list of shapes"),
        (drop_piece, DownloadError, "params_4.npy"),
        (lengthen_piece, CheckpointError, "hold 4620 values, but hold 14158"),
        (empty_piece, CheckpointError, "is empty"),
        (cut_piece, CheckpointError, "numpy file of numbers"),
        (turn_piece, CheckpointError, "vector of floats"),
    ],
)
def test_a_damaged_one_is_refused(spoil: Any, error: type[Exception], said: str, tmp_path: Path) -> None:
    folder = write_release(tmp_path / "release")
    spoil(folder)
    with pytest.raises(error, match=said):
        OpenAIGPTModel.from_pretrained(folder, from_tf=True)


def test_a_long_header_is_not_shown_whole(tmp_path: Path) -> None:
    folder = write_release(tmp_path / "gpt")
    header = b"{'descr': '<f4', 'fortran_order': False, 'sh" + b"x" * 5_000 + b"': (3,)}\n"
    (folder / "params_0.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(CheckpointError, match=r"params_0\.npy") as caught:
        registry.load(folder, family="gpt")
    assert len(str(caught.value)) < 1_000
