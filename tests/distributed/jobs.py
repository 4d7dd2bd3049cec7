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
