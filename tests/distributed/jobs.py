"""What the ranks of a test do; each function runs in every one of them, in a process group of its own."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor

import registry
from registry.checkpoint.safetensors.file import FilePieces, SafetensorsFile
from registry.checkpoint.safetensors.write import stored_order, write_safetensors
from registry.errors import CheckpointError
from registry.sharding import save as sharded_saving
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
    for name in models.TRAINED:
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
    found.append(attempt(folder if rank != 2 else f"{folder}/../in-pieces"))
    if rank == 1:
        time.sleep(11)
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


def _whole(model: Any) -> dict[str, Any]:
    return {name: each.full_tensor() if isinstance(each, DTensor) else each for name, each in model.state_dict().items()}


def details(folder: str) -> dict[str, Any]:
    """Return, for four ranks, what loading in less common ways gives."""
    place, ranks, found = Path(folder), mesh(), dict[str, Any]()
    torch.manual_seed(21 if dist.get_rank() == 0 else 22)
    model = registry.load(place / "bert", head="sequence-classification", num_labels=3, mesh=ranks)
    found["head"], found["report"] = _whole(model), model.load_report
    found["drawn after"] = torch.rand(1)
    model = registry.load(place / "bert", dtype="bfloat16", mesh=ranks)
    found["cast"] = _whole(model)
    found["pickle"] = _whole(registry.load(place / "pickle", mesh=ranks))
    found["pieces"] = _whole(registry.load(place / "pieces", mesh=ranks, broadcast=True))
    built = models.build("gpt2")
    state = built.state_dict()
    found["state"] = _whole(type(built).from_pretrained(None, config=built.config, state_dict=state, mesh=ranks))
    found["twice"] = _whole(registry.load(place / "twice", mesh=ranks))
    found["differs"] = attempt(str(place / "differs"))
    found["differs, not strict"] = registry.load(place / "differs", strict=False, mesh=ranks).load_report
    found["lacks"] = attempt(str(place / "lacks"))
    found["mixed"] = attempt(str(place / "mixed"))
    found["mixed, cast"] = attempt(str(place / "mixed"), dtype="float32")
    replicas = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicas", "shards"))
    model = registry.load(place / "gpt2", mesh=replicas, parallel="fsdp")
    found["replicas"] = models.compute("gpt2", model, lambda tensor: tensor.full_tensor())
    model.save_pretrained(place / "of-replicas")
    return found


def generation(folder: str) -> dict[str, Any]:
    """Generate on each rank from a prompt of its own, that ends where it ends; train with recomputed layers."""
    found = {}
    model = registry.load(Path(folder) / "gpt2", mesh=mesh())
    prompt, end = models.prompt(dist.get_rank())
    found["tokens"] = model.generate(prompt, max_new_tokens=8, eos_token_id=end, pad_token_id=0)
    model.train()
    model.gradient_checkpointing_enable()
    model.config.attn_pdrop = 0.0
    output = model(prompt, labels=prompt)
    found["type"] = type(output).__name__
    output.loss.backward()
    found["gradient"] = all(each.grad is not None for each in model.parameters())
    return found


def broadcast_reads(folder: str) -> dict[str, Any]:
    """Load as four ranks of two nodes; return how many bytes of values each has read."""
    count, read = 0, FilePieces.read

    def counted(self: Any, into: memoryview, offset: int) -> None:
        nonlocal count
        count += len(into)
        read(self, into, offset)

    nodes = mock.patch("registry.sharding.rows.host_name", lambda: f"node {dist.get_rank() // 2}")
    with nodes, mock.patch.object(FilePieces, "read", counted):
        model = registry.load(Path(folder) / "gpt2", mesh=mesh(), broadcast=True)
    return {"bytes": count, "weights": _whole(model)}


def untouched(folder: str) -> list[str]:
    """Load without a mesh while a process group is there, and break everything that would touch it."""

    def touch(*arguments: object, **options: object) -> None:
        raise AssertionError("the process group was touched")

    names = [
        "all_gather_object",
        "barrier",
        "broadcast",
        "all_reduce",
        "monitored_barrier",
        "new_group",
        "get_rank",
        "send",
        "recv",
    ]
    with contextlib.ExitStack() as patched:
        for name in names:
            patched.enter_context(mock.patch.object(dist, name, touch))
        patched.enter_context(mock.patch.object(dist.distributed_c10d, "_get_default_group", touch))
        patched.enter_context(mock.patch.object(dist.distributed_c10d, "_get_default_store", touch))
        model = registry.load(Path(folder) / "gpt2")
        return [type(each).__name__ for each in model.parameters()]


def _saved(model: Any, out: str) -> dict[str, Any]:
    start = time.monotonic()
    found: dict[str, Any] = {"error": None}
    try:
        model.save_pretrained(out)
    except Exception as error:
        found = {"error": type(error).__name__, "text": str(error), "ranks": getattr(error, "ranks", None)}
    return {**found, "seconds": time.monotonic() - start, "files": sorted(path.name for path in Path(out).glob("*"))}


def saving_failures(folder: str, out: str) -> list[dict[str, Any]]:
    """Save where rank 1 finds a full disk, then where it is not, then where two ranks do not see the folder."""

    def full(path: Path, tensors: Any, metadata: Any, whole: Any) -> None:
        whole(tensors[stored_order(tensors)[0]])
        path.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    model = registry.load(Path(folder) / "gpt2", mesh=mesh())
    found = []
    with mock.patch.object(sharded_saving, "write_safetensors", full if dist.get_rank() == 1 else write_safetensors):
        found.append(_saved(model, f"{out}/old"))
        found.append(_saved(model, f"{out}/new"))
    found.append(_saved(model, f"{out}/old"))
    is_dir = Path.is_dir
    with mock.patch.object(Path, "is_dir", lambda path: is_dir(path) and not (dist.get_rank() and ".saving" in path.name)):
        found.append(_saved(model, f"{out}/elsewhere"))
    return found


def killed_while_saving(folder: str, out: str) -> dict[str, Any]:
    model = registry.load(Path(folder) / "gpt2", mesh=mesh())
    count, full = 0, DTensor.full_tensor

    def die(tensor: DTensor) -> torch.Tensor:
        nonlocal count
        count += 1
        if count == 5 and dist.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return full(tensor)

    with mock.patch.object(DTensor, "full_tensor", die):
        return _saved(model, out)
