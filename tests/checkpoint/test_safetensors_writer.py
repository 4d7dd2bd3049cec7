"""What is written is what the format's own library reads, and begins where a processor likes it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from registry import CheckpointError
from registry.checkpoint.converted import open_stored
from registry.checkpoint.open import open_checkpoint
from registry.checkpoint.safetensors.file import SafetensorsFile
from registry.checkpoint.safetensors.write import write_safetensors
from registry.checkpoint.save import write_weights
from registry.checkpoint.tensors import TensorInfo
from registry.store.cache import Cache
from registry.store.store import Store
from registry.store.target import StoredFile

DTYPES = (
    "float64 float32 float16 bfloat16 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu complex64 "
    "int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool"
)


def some(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    return (torch.randn(shape) * 9).to(dtype)


def begins(path: Path) -> dict[str, tuple[int, int]]:
    """Return where in a file each tensor begins, and its size."""
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    offsets = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
    return {name: (begin + first, last - first) for name, (first, last) in offsets.items()}


@pytest.mark.parametrize("name", DTYPES.split())
def test_the_tensors_are_those_that_the_library_reads(name: str, tmp_path: Path) -> None:
    dtype = getattr(torch, name)
    tensors = {
        "b": some(dtype, 3, 5),
        "a.weight": some(dtype, 7),
        "scalar": some(dtype),
        "empty": some(dtype, 0, 4),
        "é": some(dtype, 1),
        "large": some(dtype, 8, 64),
        "turned": some(dtype, 4, 6).t(),
    }
    write_safetensors(tmp_path / "ours", tensors, {"format": "pt"})
    with safe_open(tmp_path / "ours", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        loaded = {key: file.get_tensor(key) for key in tensors}
        assert set(file.keys()) == tensors.keys()
    assert {key: (each.dtype, each.shape) for key, each in loaded.items()} == {
        key: (each.dtype, each.shape) for key, each in tensors.items()
    }
    ours = SafetensorsFile(tmp_path / "ours")
    for key, each in tensors.items():
        for found in (loaded[key], ours.tensor(key)):
            assert found.clone().reshape(-1).view(torch.uint8).equal(each.contiguous().reshape(-1).view(torch.uint8)), key


def test_values_begin_at_multiples_of_64_bytes(tmp_path: Path) -> None:
    """Where a tensor of a size that is no multiple of 64 ends, only others of such sizes begin."""
    numbers = random.Random(64)
    for _ in range(50):
        sizes = {f"{index}": numbers.choice((0, 1, 3, 4, 8, 16, 48, 64, 100, 256)) for index in range(numbers.randint(1, 12))}
        tensors = {key: some(getattr(torch, numbers.choice(DTYPES.split())), size) for key, size in sizes.items()}
        write_safetensors(tmp_path / "ours", tensors, {"note": "x" * numbers.randrange(80)})
        assert load_file(tmp_path / "ours").keys() == tensors.keys()
        for key, (begin, size) in begins(tmp_path / "ours").items():
            assert size % 64 or begin % 64 == 0, (key, begin, size)
            assert begin % tensors[key].element_size() == 0


def test_four_bit_values_are_counted_as_the_format_counts_them(tmp_path: Path) -> None:
    pairs = torch.arange(24, dtype=torch.uint8).reshape(4, 6).view(torch.float4_e2m1fn_x2)
    tensors = {"a": pairs, "turned": pairs.t(), "empty": pairs[:0], "n": torch.ones(3)}
    write_safetensors(tmp_path / "ours", tensors, {})
    with safe_open(tmp_path / "ours", "pt") as file:
        assert file.get_slice("a").get_shape() == [4, 12] and file.get_slice("turned").get_shape() == [6, 8]
        found = {name: file.get_tensor(name) for name in tensors}
    ours = SafetensorsFile(tmp_path / "ours")
    for name, tensor in tensors.items():
        assert ours.info(name) == TensorInfo.of(tensor) and found[name].shape == tensor.shape
        for each in (found[name], ours.tensor(name)):
            assert each.dtype == tensor.dtype and each.view(torch.uint8).equal(tensor.view(torch.uint8))
    assert ours.parameters() == 2 * (24 + 24) + 3
    with pytest.raises(CheckpointError, match="weight 'a' of torch.float4_e2m1fn_x2 is expected to have a dimension"):
        write_safetensors(tmp_path / "none", {"a": pairs[0, 0]}, {})


#: Contiguous for torch, which does not look at the stride of a dimension of 1, or at any of an empty tensor.
ODD = {
    "one": torch.tensor([7.0]).as_strided((1,), (5,)),
    "one of two dimensions": torch.tensor([7.0]).as_strided((1, 1), (7, 3)),
    "none": torch.zeros(1).as_strided((0, 3), (7, 2)),
    "a row": torch.arange(3.0).as_strided((1, 3), (9, 1)),
    "a column": torch.arange(3.0).as_strided((3, 1), (1, 9)),
    "in the middle": torch.arange(6.0).as_strided((2, 1, 3), (3, 77, 1)),
    "a number": torch.tensor(3),
    "a stride of zero": torch.tensor([7], dtype=torch.int64).as_strided((1, 1), (0, 0)),
    "a half": torch.tensor([1.0], dtype=torch.float16).as_strided((1, 1, 1), (2, 5, 3)),
}


def test_strides_that_are_of_no_meaning(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "ours", ODD, {})
    loaded = load_file(tmp_path / "ours")
    assert loaded.keys() == ODD.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in ODD.items())


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("limit", [None, 8])
def test_strides_that_are_of_no_meaning_are_saved_read_and_converted(tmp_path: Path, safe: bool, limit: int | None) -> None:
    (tmp_path / "model").mkdir()
    write_weights(tmp_path / "model", ODD, safe=safe, max_shard_size=limit)
    paths = sorted(path for path in (tmp_path / "model").iterdir() if path.suffix != ".json")
    store = Store(Cache((tmp_path / "cache",)), offline=True)
    found: dict[str, torch.Tensor] = {}
    for path in paths:
        for checkpoint in (
            open_checkpoint(path),
            open_checkpoint(path, mapped=False),
            open_stored(StoredFile(path.name, path, None), store, "odd"),
        ):
            for name in checkpoint.names():
                assert torch.equal(checkpoint.tensor(name), ODD[name]), name
                found[name] = checkpoint.tensor(name)
                if ODD[name].ndim and len(ODD[name]):
                    into = torch.empty(ODD[name].numel(), dtype=ODD[name].dtype).as_strided(ODD[name].shape, ODD[name].stride())
                    checkpoint.read_rows(name, 0, into)
                    assert torch.equal(into, ODD[name]), name
    assert found.keys() == ODD.keys()


def test_dtypes_together_are_aligned_and_read_by_the_library(tmp_path: Path) -> None:
    tensors = {name: some(getattr(torch, name), 3) for name in DTYPES.split()}
    write_safetensors(tmp_path / "ours", tensors, {})
    loaded = load_file(tmp_path / "ours")
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name].view(torch.uint8), tensor.view(torch.uint8)), name
        assert loaded[name].data_ptr() % tensor.element_size() == 0, name


def test_any_layout_and_sharing_of_memory(tmp_path: Path) -> None:
    base = torch.randn(6, 4)
    tensors = {
        "base": base,
        "same": base,
        "row": base[2],
        "column": base[:, 1],
        "transposed": base.T,
        "expanded": base[0].expand(5, 4),
        "every other": base[::2],
        "parameter": torch.nn.Parameter(base),
        "conjugate": torch.complex(base, base).conj(),
        "negative": torch.complex(base, base).conj().imag,
    }
    write_safetensors(tmp_path / "ours", tensors, {})
    loaded = load_file(tmp_path / "ours")
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_a_dtype_that_the_format_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"dtype of weight 'a' .* but is torch.complex128; convert it, or save with safe_"
    ):
        write_safetensors(tmp_path / "ours", {"a": torch.zeros(2, dtype=torch.complex128)}, {})
    assert not (tmp_path / "ours").exists()
