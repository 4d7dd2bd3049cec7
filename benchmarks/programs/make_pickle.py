"""Write a model's tensors as `torch.save` does: as a zip, or in the form of before 1.6."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.programs.common import options, tell


def main() -> None:
    """Write it."""
    given = options()
    target = Path(given["target"])
    target.mkdir(parents=True)
    shutil.copy(Path(given["source"]) / "config.json", target)
    weights = load_file(Path(given["source"]) / "model.safetensors")
    torch.save(weights, target / "pytorch_model.bin", _use_new_zipfile_serialization=given["form"] == "zip")
    tell(tensors=len(weights))


if __name__ == "__main__":
    main()
