"""Load a model of bert-large's size in shards, and count what each rank keeps in memory and what all of them read.

    python benchmarks/sharded_load.py [--ranks 4] [--layers 24] [--broadcast]

Random weights of BERT large (335M parameters, 1.34 GB) are written as safetensors, tensor by tensor. Each rank is a process on
gloo that loads them with `registry.load(folder, mesh=…)`, after a tiny model, so that nothing is imported while bytes are
counted; one more process is a rank that loads nothing, not even that. Memory is the peak of RssAnon, which this program looks
up every few milliseconds from outside; the figure is what a rank has above the one that loads nothing, as a part of the
weights. Bytes read are what the kernel counts for read calls (rchar in /proc/PID/io) from
before the load to after it, headers and all, and what a rank has touched of the file where it is mapped (Rss in
/proc/PID/smaps). Figures go to benchmarks/results/sharded_load.json; nothing here asserts one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
TINY = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 50}
LARGE = {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096}


def write_model(folder: Path, layers: int, sizes: dict[str, int]) -> int:
    """Write a masked language model of random weights; return the bytes of its weights file."""
    from registry.checkpoint.safetensors.write import write_safetensors
    from registry_bert import BertConfig, BertForMaskedLM

    folder.mkdir()
    config = BertConfig(num_hidden_layers=layers, **sizes)
    config.architectures = ["BertForMaskedLM"]
    config.to_json_file(folder / "config.json")
    with torch.device("meta"):
        model = BertForMaskedLM(config)
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name not in model.tied_weights()}
    path = folder / "model.safetensors"
    write_safetensors(path, tensors, {"format": "pt"}, lambda tensor: torch.randn(tensor.shape, dtype=tensor.dtype) * 0.02)
    return path.stat().st_size


def rank_main(folder: Path, rank: int, ranks: int, broadcast: bool) -> None:
    """Be one rank, or with `rank` -1 a process that loads nothing; print what was read."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    import registry
    import registry.loading.sharded

    idle = rank < 0
    store = dist.FileStore(str(folder / ("idle" if idle else "store")), 1 if idle else ranks)
    dist.init_process_group("gloo", store=store, rank=max(rank, 0), world_size=1 if idle else ranks)
    mesh = init_device_mesh("cpu", (1 if idle else ranks,))
    if not idle:
        registry.load(folder / "tiny", mesh=mesh)
        before, began = read_bytes(), time.perf_counter()
        model = registry.load(folder / "model", mesh=mesh, parallel="fsdp", broadcast=broadcast)
        held = sum(each.to_local().nbytes for each in model.parameters())
        found = {"read": read_bytes() - before, "seconds": time.perf_counter() - began, "touched": touched(), "held": held}
        print(json.dumps(found))
    sys.stdout.flush()
    time.sleep(0.3)  # to be looked at
    os._exit(0)


def read_bytes() -> int:
    """Return what this process has read by read calls, of whatever file."""
    return next(int(line.split()[1]) for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("rchar"))


def touched() -> int:
    """Return what this process has touched of a mapped weights file."""
    count, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ", 1)[0]:
            inside = line.endswith(".safetensors")
        elif inside and line.startswith("Rss:"):
            count += int(line.split()[1]) * 1024
    return count


def anonymous(pid: int) -> int:
    """Return RssAnon of a process; 0 when it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon")), 0)


def measure(folder: Path, ranks: int, broadcast: bool) -> tuple[list[dict[str, Any]], list[int]]:
    """Return what each rank printed, and the peak of each, the process that loads nothing last."""
    command = [sys.executable, __file__, "--folder", str(folder), "--ranks", str(ranks), *(["--broadcast"] * broadcast)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    processes = [
        subprocess.Popen([*command, "--rank", str(rank)], env=environment, stdout=subprocess.PIPE, text=True)
        for rank in (*range(ranks), -1)
    ]
    peaks = [0] * len(processes)
    try:
        while any(process.poll() is None for process in processes):
            peaks = [max(peak, anonymous(process.pid)) for peak, process in zip(peaks, processes, strict=True)]
            time.sleep(0.004)
        outputs = [process.communicate()[0] for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
    return [json.loads(output) for output in outputs[:ranks]], peaks


def main() -> None:
    """Measure, print, and write the results; with `--rank`, be one of what is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--broadcast", action="store_true")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, and write no file")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.rank is not None:
        rank_main(given.folder, given.rank, given.ranks, given.broadcast)
    with tempfile.TemporaryDirectory() as made:
        write_model(Path(made) / "tiny", 2, TINY)
        size = write_model(Path(made) / "model", given.layers, LARGE)
        found, (*peaks, idle) = measure(Path(made), given.ranks, given.broadcast)
    read = sum(each["read"] + each["touched"] for each in found)
    figures = {
        "ranks": given.ranks,
        "broadcast": given.broadcast,
        "bytes": size,
        "idle": idle,
        "peaks": peaks,
        "above_idle": [(peak - idle) / size for peak in peaks],
        "read": [each["read"] for each in found],
        "touched": [each["touched"] for each in found],
        "read_over_file": read / size,
        "seconds": [each["seconds"] for each in found],
    }
    if given.json:
        print(json.dumps(figures))
        return
    print(f"{size:,} bytes of weights, {given.ranks} ranks; a process that loads nothing has {idle:,} bytes of RssAnon")
    print(f"{'rank':>4} {'peak':>15} {'above / weights':>16} {'read':>15} {'mapped':>11} {'seconds':>8}")
    for rank, (each, peak) in enumerate(zip(found, peaks, strict=True)):
        part = (peak - idle) / size
        print(f"{rank:4} {peak:15,} {part:16.4f} {each['read']:15,} {each['touched']:11,} {each['seconds']:8.2f}")
    print(f"read by all ranks together / file: {read / size:.4f}")
    host = {
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "sharded_load.json").write_text(json.dumps({"host": host, **figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
