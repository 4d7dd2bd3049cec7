"""Damage good files of every kind at random, and look for anything but a usable result or a named error.

    python -m tests.fuzz [--examples 2000] [--seed 1] [--kinds "config.json bert,vocab.txt"] [--only 137] [--jobs 2]

An example is drawn from the seed, its kind and its number, so it can be had again alone: `--kinds KIND --only NUMBER` shows
its traceback, and keeps its folder where `--keep FOLDER` says. The exit code is 1 when anything was found.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import warnings
from pathlib import Path


def main() -> int:
    """Run the examples, print the table and what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=2_000, help="of each kind")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--kinds", default="", help="names, or beginnings of names, with commas between them; by default all")
    parser.add_argument("--only", type=int, help="the number of one example")
    parser.add_argument("--keep", type=Path, help="a folder that does not exist, for the files of --only")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 8))
    options = parser.parse_args()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # it is a text file
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        _isolate(folder)
        return _run(folder, options)


def _isolate(folder: Path) -> None:
    """Take away the environment that decides for the library, before it is imported."""
    for name in list(os.environ):
        if name.startswith(("REGISTRY_", "HF_", "HUGGINGFACE_", "TRANSFORMERS_", "PYTORCH_", "TORCH_HOME", "XDG_")):
            del os.environ[name]
    for name in ("home", "empty", "empty/.git"):
        (folder / name).mkdir()
    os.environ |= {
        "HOME": str(folder / "home"),
        "REGISTRY_CACHE": str(folder / "cache"),
        "XDG_CONFIG_DIRS": str(folder / "empty"),
        "REGISTRY_SYSTEM_MODELS": "",
        "REGISTRY_QUIET": "1",
        "REGISTRY_RETRIES": "1",
        "NO_PROXY": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    os.chdir(folder / "empty")


def _run(folder: Path, options: argparse.Namespace) -> int:
    import logging

    import registry.store.download
    from tests.fuzz.kinds import build_kinds
    from tests.fuzz.running import damaged, distinct, run, run_example, shrunk

    logging.disable()  # what is expected here would fill screens
    registry.store.download._FIRST = 0.001
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kinds = build_kinds(folder / "seeds")
    names = [name.strip() for name in options.kinds.split(",")]
    exact = {name for name in names if any(kind.name == name for kind in kinds)}
    begins = tuple(name for name in names if name not in exact)
    kinds = [kind for kind in kinds if kind.name in exact or kind.name.startswith(begins)]
    if options.only is not None:
        for kind in kinds:
            good, content, steps = damaged(kind, options.seed, options.only)
            print(f"{kind.name} {options.only}: {good.folder.name}/{good.file} {' '.join(steps)}; {len(content):,} bytes")
            print(repr(content[:3_000]))
            refused, finding = run_example(kind, options.seed, options.only, options.keep or folder / "work")
            print(finding.detail if finding else "refused with a good error" if refused else "used")
        return 0
    print(f"seed {options.seed}, {options.examples:,} examples of each kind\n")
    print(f"{'kind':25}{'good files':>12}{'examples':>10}{'refused':>10}{'found':>8}{'distinct':>10}{'seconds':>9}")
    results = []
    for kind in kinds:
        result = run(kind, options.seed, range(options.examples), folder / "work", options.jobs)
        results.append(result)
        found = result.findings
        row = (
            f"{kind.name:25}{len(kind.seeds):12}{result.examples:10}{result.refused:10}{len(found):8}{len(distinct(found)):10}"
        )
        print(f"{row}{result.seconds:9.0f}", flush=True)
    for result in results:
        for (what, where), found in distinct(result.findings).items():
            smaller = (shrunk(result.kind, options.seed, each, folder / "shrink") for each in found[:3])
            least = min(smaller, key=lambda one: len(one.steps))
            print(f"\n{result.kind.name}, {len(found)} times: {what}, in {where}")
            print(f"  {' '.join(least.steps)}")
            print(f"  {(least.detail.strip().splitlines() or ['no traceback'])[-1][:600]}")
            print(f"  again: python -m tests.fuzz --seed {options.seed} --kinds {result.kind.name!r} --only {least.number}")
    return 1 if any(result.findings for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
