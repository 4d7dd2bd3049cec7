"""Write a safetensors file one tensor after the other, straight from the memory that holds each.

The library's own `save_file` wants all tensors contiguous, on the CPU and apart from each other at once; here only the one
that is being written is brought into that form. Of tensors of one dtype the bytes are the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from registry.checkpoint.safetensors.file import bytes_of
from registry.checkpoint.safetensors.header import DTYPES, PAIRS
from registry.errors import CheckpointError

__all__ = ["stored_order", "write_safetensors"]

#: torch's dtypes, and the format's names of them.
_CODES = {getattr(torch, name): code for code, (name, _) in DTYPES.items()}
#: Values begin at a multiple of this in a mapped file: a processor computes with what lies otherwise in another way, and
#: a model would give other last bits than before it was saved.
_ALIGNMENT = 64


def stored_order(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the names in the order in which a file has them, without gaps.

    Those come first whose size is a multiple of 64 bytes, then of 32, and so on: each begins at a multiple of as much.
    """

    def begins_at(name: str) -> int:
        size = tensors[name].numel() * tensors[name].element_size() or _ALIGNMENT
        return min(size & -size, _ALIGNMENT)

    return sorted(tensors, key=lambda name: (-begins_at(name), name))


def write_safetensors(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str],
    whole: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor,
) -> None:
    """Write tensors of any device and layout of memory to a new file.

    Args:
        path: the file.
        tensors: name to tensor.
        metadata: what the file says of itself.
        whole: returns the values of a tensor of which there is only a part here; called once for each, in `stored_order`.

    Raises:
        CheckpointError: when the format has no such dtype.
        OSError: when the file cannot be written.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    names = stored_order(tensors)
    for name in names:
        tensor = tensors[name]
        if tensor.dtype not in _CODES:
            raise CheckpointError(
                f"dtype of weight {name!r} is expected to be one that safetensors has, but is {tensor.dtype}; "
                "convert it, or save with safe_serialization=False"
            )
        begin, end = end, end + tensor.numel() * tensor.element_size()
        shape = list(tensor.shape)
        if tensor.dtype == getattr(torch, PAIRS):
            if not shape:
                raise CheckpointError(f"weight {name!r} of {tensor.dtype} is expected to have a dimension, but has none")
            shape[-1] *= 2
        header[name] = {"dtype": _CODES[tensor.dtype], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            file.write(bytes_of(whole(tensors[name]).detach().cpu().resolve_conj().resolve_neg().contiguous()))
