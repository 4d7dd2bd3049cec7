"""What the ranks of a test do; each function runs in every one of them, in a process group of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor

import registry
from tests.distributed import models


def mesh() -> DeviceMesh:
    return init_device_mesh("cpu", (dist.get_world_size(),))


def compute(folder: str) -> dict[str, Any]:
    found = {}
    for name in models.NAMES:
        model = registry.load(Path(folder) / name, mesh=mesh(), parallel="fsdp")
        assert all(isinstance(each, DTensor) for each in model.parameters())
        found[name] = models.compute(name, model, lambda tensor: tensor.full_tensor())
    return found


def save(models_folder: str, out: str) -> None:
    for name in models.NAMES:
        model = registry.load(Path(models_folder) / name, mesh=mesh())
        models.compute(name, model, lambda tensor: None) if name == "gpt2" else None  # saved after a pass, and with new values
        model.save_pretrained(Path(out) / name)
        assert (Path(out) / name / "config.json").exists()


def gathered(folder: str) -> dict[str, Any]:
    found = {}
    for name in models.NAMES:
        model = registry.load(Path(folder) / name, mesh=mesh(), parallel="fsdp", broadcast=True)
        found[name] = {key: value.full_tensor() for key, value in model.state_dict().items()}
    return found


def train(folder: str, checkpoint: str, action: str) -> dict[str, list[float]]:
    found = {}
    for name in models.NAMES:
        model = registry.load(Path(folder) / name, mesh=mesh())
        found[name] = models.train(name, model, Path(checkpoint) / name, action)
    return found
