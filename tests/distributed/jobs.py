"""What the ranks of a test do; each function runs in every one of them, in a process group of its own."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any
from unittest import mock

import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor

import registry
from registry.checkpoint.safetensors_file import SafetensorsFile
from registry.errors import CheckpointError
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


def attempt(name: str, **options: Any) -> dict[str, Any]:
    """Load, and return how that ended and after how many seconds."""
    start = time.monotonic()
    found: dict[str, Any] = {"error": None}
    try:
        model = registry.load(name, mesh=mesh(), **options)
        found["sum"] = sum(float(each.full_tensor().double().sum()) for each in model.parameters())
    except Exception as error:
        found = {"error": type(error).__name__, "text": str(error), "ranks": getattr(error, "ranks", None)}
    return {**found, "seconds": time.monotonic() - start}


def failures(folder: str) -> list[dict[str, Any]]:
    """Try what rank 1 fails at with an error, then what it does not come to, then what all do; in one process group."""
    rank = dist.get_rank()
    found = []
    with mock.patch.object(SafetensorsFile, "read_rows", _break if rank == 1 else SafetensorsFile.read_rows):
        found.append(attempt(folder))
    found.append(attempt(folder if rank != 2 else f"{folder}/../gpt"))
    if rank == 1:
        time.sleep(6)
    found.append(attempt(folder))
    found.append(attempt(folder))
    return found


def _break(*arguments: object) -> None:
    raise CheckpointError("the disk is expected to be readable, but smokes")


def killed_while_loading(folder: str, victim: str, broadcast: str) -> dict[str, Any]:
    def die(*arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with mock.patch.object(SafetensorsFile, "read_rows", die if dist.get_rank() == int(victim) else SafetensorsFile.read_rows):
        return attempt(folder, broadcast=broadcast == "broadcast")
