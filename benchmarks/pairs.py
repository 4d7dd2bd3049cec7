"""Measure this checkout and another one in turn: the ratio of each pair of samples, its median and its spread.

    python -m benchmarks.pairs OTHER [--rounds 7] [--only load,fetch]

Each sample is a process of its own, run by this interpreter with one checkout's packages first on its path. OTHER is, for
example, a clone of this repository at an earlier commit.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent

#: Prints seconds. Where there is a `{folder}`, it is the same one for both checkouts.
PROGRAMS = {
    "startup": """
import time; began = time.perf_counter()
import registry; registry.ModelRegistry
print(time.perf_counter() - began)
""",
    "resolve": """
import time; began = time.perf_counter()
import registry; registry.resolve("m-5000")
print(time.perf_counter() - began)
""",
    "load": """
import statistics, time, registry
registry.load("model")
samples = []
for _ in range(15):
    began = time.perf_counter(); registry.load("model"); samples.append(time.perf_counter() - began)
print(statistics.median(samples))
""",
    "first-logits": """
import time; began = time.perf_counter()
import registry, torch
model = registry.load("model")
with torch.inference_mode(): model(torch.arange(8)[None])
print(time.perf_counter() - began)
""",
    "fetch": """
import statistics, time, registry
registry.fetch("model")
samples = []
for number in range(200):
    began = time.perf_counter(); registry.fetch("model"); samples.append(time.perf_counter() - began)
print(statistics.median(samples))
""",
    "fetch-cold": """
import shutil, os, time, threading, functools, http.server, registry
class Quiet(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory="files"))
threading.Thread(target=server.serve_forever, daemon=True).start()
names = sorted(os.listdir("files"))
registry.load_config("model")
samples = []
for number in range(5):
    catalog = f"served-{number}.yaml"
    with open(catalog, "w") as file:
        print("registry: 1\\nmodels:\\n  served:\\n    family: bert\\n    files:", file=file)
        for name in names: print(f"      {name}:", file=file)
        print(f"    source: http://127.0.0.1:{server.server_port}/", file=file)
    own = registry.ModelRegistry(catalogs=[catalog], cache_dir=f"cold-{number}")
    began = time.perf_counter(); own.fetch("served"); samples.append(time.perf_counter() - began)
    shutil.rmtree(f"cold-{number}")
print(min(samples))
""",
}


def prepare(folder: Path) -> None:
    """Write a model of BERT's shapes with four layers, twelve small files, and a catalog of 10,000 names."""
    code = (
        "import registry_bert as b; b.BertForMaskedLM(b.BertConfig(num_hidden_layers=4, vocab_size=8000)).save_pretrained('m');"
        "b.BertForMaskedLM(b.BertConfig(num_hidden_layers=1, vocab_size=64, hidden_size=16, num_attention_heads=2,"
        " intermediate_size=32)).save_pretrained('files')"
    )
    run(ROOT, code, folder)
    for place in (folder / "m", folder / "files"):
        (place / "vocab.txt").write_text(
            "".join(f"{word}\n" for word in ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abc"])
        )
    for number in range(12 - len(list((folder / "files").iterdir()))):
        (folder / "files" / f"note-{number}.txt").write_text("a file without a role\n")
    names = "".join(f"  m-{number}: {{family: bert, source: ./m, description: number {number}}}\n" for number in range(10_000))
    (folder / "catalog.yaml").write_text(f"registry: 1\nmodels:\n  model: {{family: bert, head: base, source: ./m}}\n{names}")


def run(root: Path, code: str, folder: Path) -> str:
    """Run code with one checkout's packages, and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("REGISTRY_", "PYTHON"))}
    environment |= {
        "HOME": str(folder),
        "PYTHONPATH": os.pathsep.join((str(root), str(root / "plugins"))),
        "REGISTRY_CACHE": str(folder / f"cache-{root.name}"),
        "REGISTRY_MODELS": str(folder / "catalog.yaml"),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pairs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default=",".join(PROGRAMS), help="rows, with commas between them")
    options = parser.parse_args()
    other = options.other.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        prepare(folder)
        print(f"{'row':14} {'this':>10} {'other':>10} {'ratio':>7}  spread of {options.rounds} pairs")
        for row in options.only.split(","):
            sample: Callable[[Path], float] = lambda root, code=PROGRAMS[row]: float(run(root, code, folder))  # noqa: E731
            for root in (ROOT, other):
                sample(root)  # fills the caches of each
            pairs = [
                (sample(ROOT), sample(other)) if number % 2 else (sample(other), sample(ROOT))[::-1]
                for number in range(options.rounds)
            ]
            ratios = sorted(ours / theirs for ours, theirs in pairs)
            ours, theirs = (statistics.median(side) * 1000 for side in zip(*pairs, strict=True))
            spread = f"{ratios[0]:.2f}-{ratios[-1]:.2f}"
            print(f"{row:14} {ours:7.2f} ms {theirs:7.2f} ms {statistics.median(ratios):7.3f}  {spread}", flush=True)


if __name__ == "__main__":
    main()
