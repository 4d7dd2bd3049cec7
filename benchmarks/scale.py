"""What one node needs for a model of BERT-large's size (335M, 1.3 GB), for the sums of docs/scale.md.

    python benchmarks/scale.py [--rounds 5]

Random weights are served by a plain server, a process of its own on this machine, and pinned in a catalog. In every round:

- fetch: `registry.fetch` into an empty cache, verified and synced
- hash: sha256 of the file alone
- load: `registry.load` from a read-only tier behind an empty cache
- load, times lost: the same from a tier whose files have other times than their stamps say, as some image builders leave them

Everything is imported and the served file is in the page cache before the clock starts. Figures go to
benchmarks/results/scale.json; nothing here asserts one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from registry import BertConfig, BertModel, ModelRegistry

RESULTS = Path(__file__).parent / "results"
FILES = ("config.json", "model.safetensors")
SERVER = """
import functools, http.server, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=sys.argv[1]))
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """Serve a folder, and yield the port."""
    with subprocess.Popen([sys.executable, "-c", SERVER, str(folder)], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield int(server.stdout.readline())
        finally:
            server.kill()


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that an action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def measure(models: ModelRegistry, weights: Path, work: Path, tier: Path) -> dict[str, float]:
    """Return the seconds of one round."""
    seconds = {}
    os.environ["REGISTRY_CACHE"] = str(tier)
    seconds["fetch"] = timed(lambda: models.fetch("large"))
    seconds["hash"] = timed(lambda: file_sha256(weights))
    os.environ["REGISTRY_CACHE"] = f"{work}{os.pathsep}{tier}"
    seconds["load"] = timed(lambda: models.load("large"))
    for blob in tier.glob("blobs/sha256/*/*"):
        if not blob.suffix:
            os.utime(blob, (1, 1))
    shutil.rmtree(work, ignore_errors=True)
    seconds["load, times lost"] = timed(lambda: models.load("large"))
    shutil.rmtree(work)
    shutil.rmtree(tier)
    return seconds


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    os.environ["REGISTRY_QUIET"] = "1"
    with tempfile.TemporaryDirectory() as made, serving(Path(made)) as port:
        folder = Path(made)
        sizes = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
        BertModel(BertConfig(**sizes)).save_pretrained(folder / "large")
        pins = "".join(f"      {name}: {{sha256: {file_sha256(folder / 'large' / name)}}}\n" for name in FILES)
        (folder / "models.yaml").write_text(
            f"registry: 1\nmodels:\n  large:\n    family: bert\n    source: http://127.0.0.1:{port}/large/\n    files:\n{pins}"
        )
        models = ModelRegistry(catalogs=[folder / "models.yaml"])
        weights = folder / "large" / "model.safetensors"
        size = weights.stat().st_size
        # The first round warms the machine.
        found = [measure(models, weights, folder / "work", folder / "tier") for _ in range(rounds + 1)][1:]
    seconds = {what: [each[what] for each in found] for what in found[0]}
    print(f"{'':18} {'median':>9} {'rate':>11}   spread")
    for what, each in seconds.items():
        median = statistics.median(each)
        print(f"{what:18} {median:7.3f} s {size / median / 1e6:6.0f} MB/s   {min(each):.3f} to {max(each):.3f}")
    RESULTS.mkdir(exist_ok=True)
    host = {"machine": platform.machine(), "cpus": os.cpu_count(), "python": platform.python_version()}
    result = {"bytes": size, "host": host, "seconds": seconds}
    (RESULTS / "scale.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
