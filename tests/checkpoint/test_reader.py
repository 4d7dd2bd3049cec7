"""Files that are, and are not, checkpoints."""

from __future__ import annotations

import json
import pickle
import random
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import registry
from registry import BertConfig, BertModel, CheckpointError, ConfigError, UnsafeCheckpoint
from registry.base.json_file import read_json
from registry.checkpoint.open import open_checkpoint, shard_names
from registry.checkpoint.save import write_weights
from registry.checkpoint.torch.file import scan_torch_file
from registry.checkpoint.torch.pickle_stream import SAFE_GLOBALS, PickleStream, pickle_globals

CONFIG = BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4)
TENSORS = {
    "a": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "b": torch.tensor([1, 2, 3]),
    "c": torch.tensor([1.5], dtype=torch.bfloat16),
    "d": torch.tensor([True, False]),
    "empty": torch.zeros(0, 4),
}


def assert_holds(path: Path) -> None:
    checkpoint = open_checkpoint(path)
    assert sorted(checkpoint.names()) == sorted(TENSORS)
    for name, tensor in TENSORS.items():
        assert torch.equal(checkpoint.tensor(name), tensor) and checkpoint.tensor(name).dtype == tensor.dtype


def test_every_format_gives_the_same_tensors_whatever_it_is_called(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "x.bin")
    torch.save(TENSORS, tmp_path / "y.safetensors")
    torch.save(OrderedDict(TENSORS), tmp_path / "z", _use_new_zipfile_serialization=False)
    for name in ("x.bin", "y.safetensors", "z"):
        assert_holds(tmp_path / name)


@pytest.mark.parametrize("safe", [True, False])
def test_shards_are_written_and_read_by_their_index(tmp_path: Path, safe: bool) -> None:
    names = write_weights(tmp_path, TENSORS, safe=safe, max_shard_size=24)
    assert len(names) > 1 and all((tmp_path / name).exists() for name in names)
    index = tmp_path / ("model.safetensors.index.json" if safe else "pytorch_model.bin.index.json")
    assert_holds(index)
    assert json.loads(index.read_text())["metadata"]["total_size"] == 24 + 24 + 2 + 2


def test_an_index_is_told_by_its_own_name_where_its_path_has_another(tmp_path: Path) -> None:
    # As in a cache, where a file is named by its hash.
    write_weights(tmp_path, TENSORS, safe=True, max_shard_size=24)
    index = (tmp_path / "model.safetensors.index.json").rename(tmp_path / "blob")
    checkpoint = open_checkpoint(index, tmp_path.joinpath, "model.safetensors.index.json")
    assert sorted(checkpoint.names()) == sorted(TENSORS)
    # A file that is whole has no use for a place of shards.
    save_file(TENSORS, tmp_path / "whole")
    assert sorted(open_checkpoint(tmp_path / "whole", tmp_path.joinpath, "model.safetensors").names()) == sorted(TENSORS)


@pytest.mark.parametrize("shard", ["../secret", "/etc/passwd", "a/b", "C:x", "", "a\\b", "con"])
def test_an_index_cannot_lead_out_of_its_folder(tmp_path: Path, shard: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(CheckpointError, match="plain file name"):
        shard_names(index)


@pytest.mark.parametrize("twins", [("Model.safetensors", "model.safetensors"), ("caf\u00e9.bin", "cafe\u0301.bin")])
def test_an_index_cannot_name_two_shards_that_are_one_file_somewhere(tmp_path: Path, twins: tuple[str, str]) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict(zip("ab", twins, strict=True))}))
    with pytest.raises(CheckpointError, match="plain file name, but .* on some file systems"):
        shard_names(index)


def index_of(shard: object) -> bytes:
    return json.dumps({"weight_map": {"embeddings.word_embeddings.weight": shard}}).encode()


#: What an index file may hold beside what it should.
BAD_INDEXES = {
    "itself": index_of("model.safetensors.index.json"),
    "another index": index_of("pytorch_model.bin.index.json"),
    "another index in capitals": index_of("MODEL.SAFETENSORS.INDEX.JSON"),
    "a TensorFlow index": index_of("model.ckpt.index"),
    "the configuration": index_of("config.json"),
    "a path": index_of("../model.safetensors"),
    "an absolute path": index_of("/etc/passwd"),
    "a subfolder": index_of("a/model.safetensors"),
    "a backslash": index_of("..\\model.safetensors"),
    "a NUL": index_of("model.safetensors\0"),
    "a long name": index_of("x" * 100_000),
    "no name": index_of(""),
    "a lone surrogate": index_of("\ud800.safetensors"),
    "a text": index_of("vocab.txt"),
    "nothing": b'{"weight_map": {}}',
    "no map": b"{}",
    "no tensor's name": b'{"weight_map": {"": "model.safetensors"}}',
    "a long tensor's name": json.dumps({"weight_map": {"x" * 100_000: "model.safetensors"}}).encode(),
    "an empty file": b"",
    "an empty list": b"[]",
    "null": b"null",
    "a number": b"1" * 5000,
    "no JSON": b"{",
    "no UTF-8": b"\xff\xfe",
    "a weights file": b"PK\3\4" + bytes(100),
    "NaN": b'{"weight_map": NaN}',
    "a key twice": b'{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}',
    "nesting": b'{"weight_map": ' + b"[" * 100_000,
    "nesting that ends": b'{"weight_map": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "many lists": b'{"weight_map": [' + b"[]," * 1_000_001 + b"[]]}",
    "too many bytes": b" " * ((64 << 20) + 1),
    **{f"a shard that is {value!r:.20}": index_of(value) for value in (None, 1, 1.5, True, [], {}, ["a"], {"a": "b"})},
    **{f"a map that is {value!r:.20}": json.dumps({"weight_map": value}).encode() for value in (None, 1, "a", [], ["a"], True)},
}


@pytest.mark.parametrize("label", BAD_INDEXES)
@pytest.mark.parametrize("name", ["model.safetensors.index.json", "pytorch_model.bin.index.json"])
def test_an_index_that_makes_no_sense_is_one_error_that_names_it(label: str, name: str, tmp_path: Path) -> None:
    BertModel(CONFIG).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    (tmp_path / name).write_bytes(BAD_INDEXES[label])
    for call in (registry.load, BertModel.from_pretrained, _opened(name)):
        with pytest.raises(CheckpointError) as caught:
            call(tmp_path)
        said = str(caught.value)
        assert (name in said or "vocab.txt" in said) and len(said) < 1000


def _opened(name: str) -> Callable[[Path], object]:
    return lambda folder: open_checkpoint(folder / name)


def test_an_index_that_does_not_fit_its_shards_is_named(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "one.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "one.safetensors"}}))
    with pytest.raises(CheckpointError, match="expected to hold 'b'"):
        open_checkpoint(index)
    index.write_text(json.dumps({"weight_map": []}))
    with pytest.raises(CheckpointError, match="weight_map"):
        open_checkpoint(index)


@pytest.mark.parametrize("value", [{"a": 1}, [torch.zeros(1)], torch.zeros(1), {1: torch.zeros(1)}])
def test_a_torch_file_that_is_no_state_dict_is_refused(tmp_path: Path, value: object) -> None:
    torch.save(value, tmp_path / "x.bin")
    with pytest.raises(CheckpointError, match=r"expected to (hold a state dict|be a tensor|be text)"):
        open_checkpoint(tmp_path / "x.bin")


def test_a_pickled_tensor_dictionary_names_only_safe_globals(tmp_path: Path) -> None:
    for zipped in (True, False):
        torch.save(OrderedDict(TENSORS), tmp_path / "x", _use_new_zipfile_serialization=zipped)
        report = scan_torch_file(tmp_path / "x")
        assert set(report.globals) <= SAFE_GLOBALS and "torch._utils._rebuild_tensor_v2" in report.globals
        assert report.refused == () and report.pickles == (1 if zipped else 5)


class Calls:
    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("function", [eval, exec, __import__, bytearray, getattr, print])
def test_no_callable_hides_from_the_scan(tmp_path: Path, protocol: int, function: object) -> None:
    data = pickle.dumps({"x": Calls(function, "1"), "y": [Calls(function, "1")]}, protocol=protocol)
    path = tmp_path / "x"
    path.write_bytes(data)
    with path.open("rb") as file:
        found = set(pickle_globals(PickleStream(file, len(data))))
    assert any(name.endswith(f".{function.__name__}") for name in found), found  # type: ignore[attr-defined]
    assert not found <= SAFE_GLOBALS


def test_a_global_whose_name_cannot_be_told_is_not_safe(tmp_path: Path) -> None:
    # STACK_GLOBAL on names that were put together by code: module "o"+"s" does not stand in the pickle as one string.
    data = b"\x80\x04N\x8c\x06system\x93."
    (tmp_path / "x").write_bytes(data)
    assert scan_torch_file(tmp_path / "x").refused == ("?",)
    with pytest.raises(UnsafeCheckpoint, match=r"would call \?"):
        open_checkpoint(tmp_path / "x")


def test_a_compressed_pickle_in_a_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", pickle.dumps({}))
    with pytest.raises(CheckpointError, match="compressed"):
        open_checkpoint(tmp_path / "x")
    with zipfile.ZipFile(tmp_path / "y", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match=r"data\.pkl"):
        open_checkpoint(tmp_path / "y")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.booleans())
def test_random_bytes_are_an_error_of_ours_or_a_checkpoint(tmp_path: Path, noise: bytes, pickled: bool) -> None:
    path = tmp_path / "noise"
    path.write_bytes((b"\x80\x02" if pickled else b"") + noise)
    with pytest.raises(CheckpointError):
        open_checkpoint(path)


@pytest.mark.filterwarnings("ignore")  # torch and pickletools warn of some damage before they fail
@pytest.mark.parametrize("form", ["safetensors", "zip", "legacy"])
def test_flipped_bytes_never_end_in_another_kind_of_error(tmp_path: Path, form: str) -> None:
    if form == "safetensors":
        save_file(TENSORS, tmp_path / "whole")
    else:
        torch.save(TENSORS, tmp_path / "whole", _use_new_zipfile_serialization=form == "zip")
    whole = (tmp_path / "whole").read_bytes()
    numbers = random.Random(form)
    refused = 0
    for trial in range(300):
        content = bytearray(whole)
        for _ in range(numbers.randint(1, 4)):
            content[numbers.randrange(len(content))] ^= numbers.randint(1, 255)
        path = tmp_path / str(trial)  # a new file each time: an earlier one may still be mapped
        path.write_bytes(content)
        try:
            checkpoint = open_checkpoint(path)
            for name in checkpoint.names():
                checkpoint.tensor(name)
        except CheckpointError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"a": 1, "a": 2}', "'a' twice"),
        ('{"a": NaN}', "NaN"),
        ('{"a": [-Infinity]}', "-Infinity, which is no JSON"),
        ('{"a": 1e999}', "1e999, which is beyond every number"),
        ('{"a": ' + "1" * 5000 + "}", "cannot be read"),
        ('{"a": [' + "[]," * 1_000_001 + "1]}", "more than 1,000,000 lists"),
        ("[" * 100_000, "nests too deep"),
        ("[1]", "is a list"),
        ('{"a": }', "line 1, column 7"),
        ("\xff", "line 1"),
    ],
)
def test_json_is_read_strictly(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ConfigError, match=what):
        read_json(tmp_path / "x.json")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_json(tmp_path / "absent.json")
