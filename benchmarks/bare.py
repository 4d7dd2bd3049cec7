"""The floor of loading and of a first forward pass: a mapped file, and the models by hand in torch's own functions."""

from __future__ import annotations

import json
import mmap
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

__all__ = ["bert_logits", "gpt2_logits", "mapped"]


def mapped(path: str) -> dict[str, Tensor]:
    """Return the float32 tensors of a safetensors file, without reading them."""
    with Path(path).open("rb") as file:
        # Private to this process, and writable only because torch warns of buffers that are not.
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            flat = torch.frombuffer(content, dtype=torch.float32, count=(last - first) // 4, offset=begin + first)
            tensors[name] = flat.view(entry["shape"])
    return tensors


def _heads(projected: Tensor, heads: int) -> Tensor:
    """(B, S, E) to (B, A, S, D)."""
    batch, length, width = projected.shape
    return projected.view(batch, length, heads, width // heads).transpose(1, 2)


def gpt2_logits(weights: dict[str, Tensor], ids: Tensor, *, layers: int, heads: int) -> Tensor:
    """Return the logits (B, S, V) of GPT-2."""

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-5)

    def product(x: Tensor, name: str) -> Tensor:
        weight = weights[f"{name}.weight"]  # (in, out)
        return torch.addmm(weights[f"{name}.bias"], x.view(-1, x.shape[-1]), weight).view(*x.shape[:-1], weight.shape[1])

    words = weights["transformer.wte.weight"]
    hidden = F.embedding(ids, words) + weights["transformer.wpe.weight"][: ids.shape[1]]
    for number in range(layers):
        at = f"transformer.h.{number}"
        split = product(norm(hidden, f"{at}.ln_1"), f"{at}.attn.c_attn").chunk(3, -1)
        query, key, value = (_heads(each, heads) for each in split)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2).flatten(2)
        hidden = hidden + product(mixed, f"{at}.attn.c_proj")
        wide = F.gelu(product(norm(hidden, f"{at}.ln_2"), f"{at}.mlp.c_fc"), approximate="tanh")
        hidden = hidden + product(wide, f"{at}.mlp.c_proj")
    return F.linear(norm(hidden, "transformer.ln_f"), words)


def bert_logits(weights: dict[str, Tensor], ids: Tensor, *, layers: int, heads: int) -> Tensor:
    """Return the logits (B, S, V) of BERT's masked language model."""

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.LayerNorm.weight"], weights[f"{name}.LayerNorm.bias"], 1e-12)

    def product(x: Tensor, name: str) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    words = weights["bert.embeddings.word_embeddings.weight"]
    positions = weights["bert.embeddings.position_embeddings.weight"][: ids.shape[1]]
    types = weights["bert.embeddings.token_type_embeddings.weight"][0]
    hidden = norm(F.embedding(ids, words) + types + positions, "bert.embeddings")
    for number in range(layers):
        at = f"bert.encoder.layer.{number}"
        query, key, value = (
            _heads(product(hidden, f"{at}.attention.self.{name}"), heads) for name in ("query", "key", "value")
        )
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        hidden = norm(product(mixed, f"{at}.attention.output.dense") + hidden, f"{at}.attention.output")
        wide = F.gelu(product(hidden, f"{at}.intermediate.dense"))
        hidden = norm(product(wide, f"{at}.output.dense") + hidden, f"{at}.output")
    transformed = norm(F.gelu(product(hidden, "cls.predictions.transform.dense")), "cls.predictions.transform")
    return F.linear(transformed, words, weights["cls.predictions.bias"])
