"""Which folders hold the cache."""

from __future__ import annotations

import os
from pathlib import Path

from registry.catalog.names import user_path

__all__ = ["cache_folders"]

_LEAF = "pytorch_pretrained_bert"


def cache_folders(cache_dir: str | os.PathLike[str] | None = None) -> tuple[Path, ...]:
    """Return the cache folders: the first is written, the others are read-only tiers.

    The environment is read at each call. The first that is set decides: `cache_dir`, `REGISTRY_CACHE` (a path list),
    `PYTORCH_PRETRAINED_BERT_CACHE`, `TORCH_HOME`, `XDG_CACHE_HOME`, else `~/.cache/torch/pytorch_pretrained_bert`.
    """
    if cache_dir:
        return (_full(cache_dir),)
    if listed := [part for part in os.environ.get("REGISTRY_CACHE", "").split(os.pathsep) if part]:
        return tuple(_full(part) for part in listed)
    if own := os.environ.get("PYTORCH_PRETRAINED_BERT_CACHE"):
        return (_full(own),)
    if torch_home := os.environ.get("TORCH_HOME"):
        return (_full(torch_home) / _LEAF,)
    return (_full(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch" / _LEAF,)


def _full(path: str | os.PathLike[str]) -> Path:
    return user_path(path).absolute()
