"""What is written is what the format's own library writes, and reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from registry import CheckpointError
from registry.checkpoint.safetensors_writer import write_safetensors

DTYPES = (
    "float64 float32 float16 bfloat16 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz complex64 "
    "int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool"
)


def some(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    return (torch.randn(shape) * 9).to(dtype)


@pytest.mark.parametrize("name", DTYPES.split())
def test_the_bytes_are_those_of_the_library(name: str, tmp_path: Path) -> None:
    dtype = getattr(torch, name)
    tensors = {
        "b": some(dtype, 3, 5),
        "a.weight": some(dtype, 7),
        "scalar": some(dtype),
        "empty": some(dtype, 0, 4),
        "é": some(dtype, 1),
    }
    write_safetensors(tmp_path / "ours", tensors, {"format": "pt"})
    save_file(tensors, tmp_path / "theirs", metadata={"format": "pt"})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


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
