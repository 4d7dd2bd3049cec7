"""Load a `pytorch_model.bin` of gpt2's size a second time, beside transformers, as ratios of one run.

    python benchmarks/second_load.py [--rounds 7]

Random weights of GPT-2 small (124M, 498 MB) are saved in both forms of torch's pickles. In every round each library in turn
gets a fresh process that loads a tiny model first, so that nothing is imported in the time measured, and then the file; the
registry has loaded it once before, and has kept its safetensors form. Anonymous memory (RssAnon) is what the load adds,
before the first forward pass. Figures go to benchmarks/results/second_load.json; nothing here asserts one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from registry import GPT2Config, GPT2LMHeadModel

RESULTS = Path(__file__).parent / "results"

MEASURE = """
import sys, time
{load}
def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))
load(sys.argv[1])
before, began = anonymous(), time.perf_counter()
model = load(sys.argv[2])
print(time.perf_counter() - began, (anonymous() - before) * 1024)
"""
PROGRAMS = {
    "registry": "from registry import load",
    "transformers": "import transformers\ntransformers.logging.set_verbosity_error()\n"
    "transformers.logging.disable_progress_bar()\nload = transformers.GPT2LMHeadModel.from_pretrained",
}


def save(folder: Path, config: GPT2Config, *, zipped: bool) -> Path:
    """Write a model of random weights as `torch.save` writes it, in the form of today or that of before 1.6."""
    folder.mkdir()
    config.architectures = ["GPT2LMHeadModel"]
    config.to_json_file(folder / "config.json")
    weights = GPT2LMHeadModel(config).state_dict()
    torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    return folder


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    figures: dict[str, dict[str, list[list[float]]]] = {}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        tiny = save(folder / "tiny", GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=50, n_positions=8), zipped=True)
        environment = {**os.environ, "REGISTRY_CACHE": str(folder / "cache")}
        for form in ("zip", "legacy"):
            full = save(folder / form, GPT2Config(), zipped=form == "zip")
            for number in range(rounds + 1):  # the first round converts, and warms the machine
                for program, load in PROGRAMS.items():
                    code = MEASURE.format(load=load)
                    command = [sys.executable, "-c", code, str(tiny), str(full)]
                    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
                    if number:
                        figures.setdefault(form, {}).setdefault(program, []).append(
                            [float(part) for part in done.stdout.split()]
                        )
        size = (folder / "zip" / "pytorch_model.bin").stat().st_size
    print(f"{'form':8} {'ours':>9} {'peer':>9} {'ratio':>7} {'RssAnon / file':>15}   spread of ours, peer")
    for form, programs in figures.items():
        ours, peer = ([seconds for seconds, _ in programs[program]] for program in PROGRAMS)
        memory = statistics.median(count for _, count in programs["registry"]) / size
        a, b = statistics.median(ours), statistics.median(peer)
        spread = ", ".join(f"{min(values):.3f}-{max(values):.3f} s" for values in (ours, peer))
        print(f"{form:8} {a:8.3f}s {b:8.3f}s {a / b:7.3f} {memory:15.4f}   {spread}")
    host = {
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "second_load.json").write_text(json.dumps({"bytes": size, "host": host, "figures": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
