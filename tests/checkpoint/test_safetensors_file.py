"""safetensors files: what the header says, and values mapped or read."""

from __future__ import annotations

import json
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file

from registry import CheckpointError
from registry.checkpoint.open import open_checkpoint
from registry.checkpoint.safetensors import file as reading
from registry.checkpoint.safetensors.file import SafetensorsFile
from registry.checkpoint.safetensors.header import Header, read_header
from registry.checkpoint.save import write_weights
from registry.checkpoint.tensors import TensorInfo
from tests.checkpoint.forge import safetensors_file

_DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64")
_NEWER = ("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")
TENSORS = {
    **{name: torch.tensor([[0, 1], [1, 2]]).to(getattr(torch, name)) for name in (*_DTYPES, *_NEWER)},
    "scalar": torch.tensor(7.0),
    "empty": torch.zeros(3, 0, 2),
    "bert/encoder/layer_0": torch.arange(1001, dtype=torch.int16),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_file(TENSORS, tmp_path / "x.safetensors", metadata={"format": "pt", "größe": "“2”"})
    return tmp_path / "x.safetensors"


@pytest.mark.parametrize("mapped", [True, False])
def test_every_dtype_and_shape_as_the_library_reads_it(path: Path, mapped: bool) -> None:
    found = SafetensorsFile(path, mapped=mapped)
    with safe_open(path, "pt") as library:
        assert set(found.names()) == set(library.keys()) == set(TENSORS)
        assert found.metadata == library.metadata() == {"format": "pt", "größe": "“2”"}
        for name, expected in TENSORS.items():
            tensor = found.tensor(name)
            assert found.info(name) == TensorInfo.of(expected) == TensorInfo.of(tensor)
            assert tensor.dtype == library.get_tensor(name).dtype
            assert torch.equal(tensor.reshape(-1).view(torch.uint8), library.get_tensor(name).reshape(-1).view(torch.uint8))


def test_names_come_in_the_order_of_the_values(tmp_path: Path) -> None:
    fields = {name: {"dtype": "U8", "shape": [1], "data_offsets": [at, at + 1]} for name, at in (("a", 2), ("b", 0), ("c", 1))}
    (tmp_path / "x").write_bytes(safetensors_file(fields, b"\1\2\3"))
    assert list(SafetensorsFile(tmp_path / "x").names()) == ["b", "c", "a"]


def test_a_file_without_metadata_has_none(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(save({"a": torch.zeros(1)}))
    assert SafetensorsFile(tmp_path / "x").metadata == {}
    (tmp_path / "y").write_bytes(safetensors_file({}))
    assert list(SafetensorsFile(tmp_path / "y").names()) == []


def test_parameters_are_the_floating_point_scalars(path: Path) -> None:
    floating = sum(value.numel() for value in TENSORS.values() if value.is_floating_point())
    assert SafetensorsFile(path).parameters() == floating


@pytest.mark.parametrize("value", ["0", "false", "no", "OFF"])
def test_the_environment_turns_mapping_off(path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    def addresses() -> list[bool]:
        found = open_checkpoint(path)
        tensor = found.tensor("bert/encoder/layer_0")
        return [str(path) in line for line in maps() if within(line, tensor.data_ptr())]

    def maps() -> list[str]:
        return Path("/proc/self/maps").read_text().splitlines()

    def within(line: str, address: int) -> bool:
        begin, end = (int(part, 16) for part in line.split()[0].split("-"))
        return begin <= address < end

    assert addresses() == [True]
    monkeypatch.setenv("REGISTRY_MMAP", value)
    assert addresses() == [False]


def test_what_is_read_is_its_own_and_survives_the_file(path: Path) -> None:
    found = SafetensorsFile(path, mapped=False)
    first, second = found.tensor("float32"), found.tensor("float32")
    first.fill_(9)
    assert torch.equal(second, TENSORS["float32"])
    with path.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(CheckpointError, match="expected to be readable, but is not \\(it was cut\\)"):
        found.tensor("bert/encoder/layer_0")
    assert torch.equal(second, TENSORS["float32"])


def test_many_threads_read_one_file(tmp_path: Path) -> None:
    tensors = {str(index): torch.full((50_000,), index, dtype=torch.int32) for index in range(40)}
    save_file(tensors, tmp_path / "x")
    found = SafetensorsFile(tmp_path / "x", mapped=False)
    with ThreadPoolExecutor(8) as pool:
        for name, tensor in zip(tensors, pool.map(found.tensor, tensors), strict=True):
            assert torch.equal(tensor, tensors[name])


def test_without_positional_reads_values_are_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.preadv")
    found = SafetensorsFile(path, mapped=False)
    for name, expected in TENSORS.items():
        assert torch.equal(found.tensor(name).reshape(-1).view(torch.uint8), expected.reshape(-1).view(torch.uint8))


@pytest.mark.parametrize("safe", [True, False])
def test_shards_are_read_without_mapping_too(tmp_path: Path, safe: bool) -> None:
    tensors = {"a": torch.arange(4), "b": torch.ones(3), "c": torch.zeros(2, 2)}
    write_weights(tmp_path, tensors, safe=safe, max_shard_size=16)
    name = "model.safetensors.index.json" if safe else "pytorch_model.bin.index.json"
    found = open_checkpoint(tmp_path / name, mapped=False)
    assert all(torch.equal(found.tensor(key), value) for key, value in tensors.items())


def test_a_tensor_that_the_index_leaves_out_is_not_read_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_file({"a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "one")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "one"}}))
    assert list(open_checkpoint(index).names()) == ["a"]
    assert "does not list all that one holds; not read: b" in caplog.text


@pytest.mark.parametrize("name", ["../x", "/x", "a\0", ""])
def test_an_index_names_tensors_by_the_same_rules(tmp_path: Path, name: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {name: "one"}}))
    with pytest.raises(CheckpointError, match="expected to name tensors, but"):
        open_checkpoint(index)


_number = st.integers(0, 9) | st.sampled_from([-1, 2**31, 2**62, 2**63, 2**64, True, 1.0, None, "1"])
_shape = st.lists(_number, max_size=3)
_entry = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "U8", "BF16", "F33", None]),
        "shape": _shape,
        "data_offsets": st.lists(_number, min_size=2, max_size=2) | _shape,
    }
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(max_size=3), _entry, max_size=4), st.integers(0, 24))
def test_what_our_limits_let_through_is_what_the_library_takes(
    tmp_path_factory: pytest.TempPathFactory, header: dict[str, object], size: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "header"
    path.write_bytes(safetensors_file(header, bytes(size)))
    try:
        found = read_header(path)
    except CheckpointError:
        return
    with safe_open(path, "pt") as library:
        assert set(library.keys()) == set(found.tensors)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["U8", "F32", "I64"]), st.lists(st.integers(0, 3), max_size=3)), max_size=6))
def test_what_fits_byte_for_byte_is_let_through(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[str, list[int]]]
) -> None:
    header, end = {}, 0
    for index, (dtype, shape) in enumerate(parts):
        size = {"U8": 1, "F32": 4, "I64": 8}[dtype]
        for length in shape:
            size *= length
        header[str(index)] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    path = tmp_path_factory.getbasetemp() / "fits"
    path.write_bytes(safetensors_file(header, bytes(end)))
    assert len(read_header(path).tensors) == len(parts)
    with safe_open(path, "pt") as library:
        assert len(list(library.keys())) == len(parts)


def test_the_library_alone_takes_what_we_refuse(tmp_path: Path) -> None:
    """Should it refuse these itself one day, the limits can go."""
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    twice = json.dumps({"a": entry})[:-1] + "," + json.dumps({"a": entry})[1:]
    for index, header in enumerate((twice, json.dumps({"../../x\0": entry}))):
        path = tmp_path / str(index)
        path.write_bytes(safetensors_file(header, bytes(4)))
        safe_open(path, "pt")
        with pytest.raises(CheckpointError):
            SafetensorsFile(path)
    (tmp_path / "short").write_bytes(struct.pack("<Q", 10)[:5])
    with pytest.raises(SafetensorError):
        safe_open(tmp_path / "short", "pt")
    with pytest.raises(CheckpointError, match="claims 10 bytes of a file of 5"):
        SafetensorsFile(tmp_path / "short")


def test_a_file_that_is_replaced_while_it_is_opened_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(3)}, path)

    def replacing(path: Path) -> Header:
        header = read_header(path)
        save_file({"a": torch.ones(3), "b": torch.ones(2)}, path)
        return header

    monkeypatch.setattr(reading, "read_header", replacing)
    with pytest.raises(CheckpointError, match="was replaced; load it again"):
        SafetensorsFile(path)


def test_each_mapped_tensor_has_a_storage_of_its_own_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(3), "b": torch.zeros(0, 4), "c": torch.arange(6, dtype=torch.int16).reshape(2, 3)}, path)
    before = path.read_bytes()
    file = SafetensorsFile(path)
    tensors = {name: file.tensor(name) for name in file.names()}
    assert [tensor.untyped_storage().nbytes() for tensor in tensors.values()] == [
        tensor.numel() * tensor.element_size() for tensor in tensors.values()
    ]
    assert tensors["b"].shape == (0, 4)
    del file
    tensors["a"].zero_()
    assert path.read_bytes() == before
    assert torch.equal(SafetensorsFile(path).tensor("a"), torch.ones(3))
