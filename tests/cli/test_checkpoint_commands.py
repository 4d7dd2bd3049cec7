"""`registry inspect` and `registry convert`."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import registry
from tests.cli.conftest import Run
from tests.oracles import new, quiet
from tests.registry_gpt.test_convert import write_release
from tests.tensorflow.reading import CHECKPOINTS


def test_inspect_lists_tensors_and_metadata(run: Run, tmp_path: Path) -> None:
    tensors = {"a.weight": torch.zeros(3, 5, dtype=torch.bfloat16), "b": torch.zeros((), dtype=torch.int64)}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt", "by": "hand"})
    data = json.loads(run("inspect", str(tmp_path / "model.safetensors"), "--json").out)
    assert data["format"] == "safetensors"
    assert data["metadata"] == {"format": "pt", "by": "hand"}
    assert sorted(data["tensors"], key=lambda row: row["name"]) == [
        {"name": "a.weight", "dtype": "bfloat16", "shape": [3, 5], "bytes": 30},
        {"name": "b", "dtype": "int64", "shape": [], "bytes": 8},
    ]
    text = run("inspect", str(tmp_path)).out
    assert "a.weight  bfloat16  [3, 5]  30 bytes" in text
    assert "safetensors, 1 file: 2 tensors, 38 bytes" in text


@pytest.mark.parametrize("legacy", [True, False])
def test_inspect_tells_what_a_pickle_fetches(legacy: bool, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.zeros(2, 2)}, path, _use_new_zipfile_serialization=not legacy)
    (pickles,) = json.loads(run("inspect", str(path), "--json").out)["pickles"]
    assert set(pickles["globals"]) == {"torch.FloatStorage", "torch._utils._rebuild_tensor_v2", "collections.OrderedDict"}
    assert pickles["refused"] == []


class Hostile:
    def __reduce__(self) -> Any:
        return eval, ("1/0",)


def test_inspect_shows_a_hostile_pickle_and_runs_nothing(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(pickle.dumps({"a": Hostile()}, protocol=2))
    done = run("inspect", str(path))
    assert done.code == 1
    assert "  __builtin__.eval (refused)" in done.out
    assert "refused: checkpoint" in done.out


def test_inspect_reads_other_programs_forms(run: Run, tmp_path: Path) -> None:
    data = json.loads(run("inspect", str(CHECKPOINTS / "gpt2" / "model.ckpt"), "--json").out)
    assert data["format"] == "tensorflow"
    assert {"name": "model/wpe", "dtype": "float32", "shape": [20, 16], "bytes": 1280} in data["tensors"]
    data = json.loads(run("inspect", str(write_release(tmp_path / "release")), "--json").out)
    assert (data["format"], len(data["tensors"]), len(data["files"])) == ("numpy", 26, 11)


def test_inspect_of_what_is_no_checkpoint_is_an_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("<html>")
    done = run("inspect", str(tmp_path / "model.safetensors"))
    assert done.code == 1
    assert "it is an HTML page" in done.err


def test_convert_writes_a_folder_that_transformers_opens(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "bert"
    done = run("convert", str(CHECKPOINTS / "bert"), str(out), "--json")
    assert json.loads(done.out)["class"] == "BertForPreTraining"
    assert {path.name for path in out.iterdir()} >= {"config.json", "model.safetensors", "vocab.txt"}
    ours = registry.load(out)
    theirs, info = quiet(new.BertForPreTraining.from_pretrained, out, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    expected = theirs.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in ours.state_dict().items())
    assert new.AutoTokenizer.from_pretrained(out).vocab_size == 97


def test_convert_chooses_the_head_that_the_weights_are_of(run: Run, tmp_path: Path) -> None:
    for name, expected in (("bert_squad", "BertForQuestionAnswering"), ("transfo_xl_wt103", "TransfoXLLMHeadModel")):
        arguments = ["--family", "transfo-xl"] if name.startswith("transfo") else []
        done = run("convert", str(CHECKPOINTS / name), str(tmp_path / name), "--json", *arguments)
        assert json.loads(done.out)["class"] == expected
        assert all(left.startswith("bert.pooler.") for left in json.loads(done.out)["left_out"])  # which this head has not


def test_convert_takes_type_and_size_of_shards(run: Run, tmp_path: Path) -> None:
    source = write_release(tmp_path / "release", config="openai_gpt_config.json")
    out = tmp_path / "out"
    done = run("convert", str(source), str(out), "--dtype", "float16", "--max-shard-size", "2kB")
    assert done.out.startswith("OpenAIGPTLMHeadModel of 4,620 parameters, torch.float16")
    assert len(list(out.glob("model-*.safetensors"))) > 2
    assert registry.load(out).dtype == torch.float16


def test_convert_that_fails_writes_nothing(run: Run, tmp_path: Path) -> None:
    source = write_release(tmp_path / "release", config="openai_gpt_config.json")
    (source / "params_4.npy").unlink()
    assert run("convert", str(source), str(tmp_path / "out")).code == 1
    assert not (tmp_path / "out").exists()
    done = run("convert", str(source), str(tmp_path / "out"), "--max-shard-size", "big")
    assert done.code == 2
    assert "expected to be a number of bytes" in done.err
