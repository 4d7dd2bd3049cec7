"""What one node needs for a model of BERT-large's size (335M, 1.3 GB), for the sums of docs/scale.md.

    python benchmarks/scale.py [--rounds 5]

Random weights are served by a plain server on this machine and pinned in a catalog. In every round, each in a fresh process
that has imported everything before the clock starts:

- fetch: `registry.fetch` into an empty cache, verified and synced
- hash: sha256 of the file alone
- load: `registry.load` from a read-only tier behind an empty cache
- load, times lost: the same from a tier whose files have other times than their stamps say, as some image builders leave them

Files are in the page cache. Figures go to benchmarks/results/scale.json; nothing here asserts one.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import http.server
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from registry import BertConfig, BertModel

RESULTS = Path(__file__).parent / "results"
FILES = ("config.json", "model.safetensors")

MEASURE = """
import hashlib, sys, time
import registry
def fetch(path): registry.fetch("large")
def load(path): registry.load("large")
def sha256(path):
    with open(path, "rb") as file:
        hashlib.file_digest(file, "sha256")
registry.load(sys.argv[3])
began = time.perf_counter()
{"fetch": fetch, "hash": sha256, "load": load}[sys.argv[1]](sys.argv[2])
print(time.perf_counter() - began)
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def serve(folder: Path) -> http.server.ThreadingHTTPServer:
    """Serve a folder on a free port of this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def save(folder: Path, **sizes: int) -> Path:
    """Write a BERT of random weights."""
    BertModel(BertConfig(**sizes)).save_pretrained(folder)
    return folder


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        tiny = save(folder / "tiny", hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=50)
        large = save(folder / "large", hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096)
        pins = "".join(
            f"      {name}: {{sha256: {hashlib.sha256((large / name).read_bytes()).hexdigest()}}}\n" for name in FILES
        )
        server = serve(folder)
        (folder / "models.yaml").write_text(
            f"registry: 1\nmodels:\n  large:\n    family: bert\n    source: http://127.0.0.1:{server.server_port}/large/\n"
            f"    files:\n{pins}"
        )
        for number in range(rounds + 1):  # the first round warms the machine
            work, tier = folder / "work", folder / "tier"
            for what, action, caches in (
                ("fetch", "fetch", (tier,)),
                ("hash", "hash", (work,)),
                ("load", "load", (work, tier)),
                ("load, times lost", "load", (work, tier)),
            ):
                if what == "load, times lost":
                    for blob in tier.glob("blobs/sha256/*/*"):
                        if not blob.suffix:
                            os.utime(blob, (1, 1))
                environment = {
                    **os.environ,
                    "REGISTRY_MODELS": str(folder / "models.yaml"),
                    "REGISTRY_CACHE": os.pathsep.join(map(str, caches)),
                    "REGISTRY_QUIET": "1",
                }
                command = [sys.executable, "-c", MEASURE, action, str(large / "model.safetensors"), str(tiny)]
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
                if number:
                    seconds.setdefault(what, []).append(float(done.stdout))
                shutil.rmtree(work, ignore_errors=True)
            shutil.rmtree(tier)
        size = (large / "model.safetensors").stat().st_size
        server.shutdown()
    print(f"{'':18} {'median':>9} {'rate':>10}   spread")
    for what, found in seconds.items():
        median = statistics.median(found)
        print(f"{what:18} {median:7.3f} s {size / median / 1e6:5.0f} MB/s   {min(found):.3f} to {max(found):.3f}")
    RESULTS.mkdir(exist_ok=True)
    host = {"machine": platform.machine(), "cpus": os.cpu_count(), "python": platform.python_version()}
    result = {"bytes": size, "host": host, "seconds": seconds}
    (RESULTS / "scale.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
