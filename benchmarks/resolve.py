"""Resolve one name out of few and out of many, in fresh processes, as ratios of one run.

    python benchmarks/resolve.py [--rounds 7] [--quick]

Each environment is a folder of installed plugins (metadata and a models.yaml, as an installer leaves them) and a user's
catalog. In every round each environment in turn gets a fresh process that imports the library and resolves one name; the
median over the rounds is divided by that of the smallest environment. Before, each gets one process with an empty cache,
which parses and packs everything. Wall clock and processor time are both told: the latter is the steadier one where other
programs run. Figures go to benchmarks/results/resolve.json; nothing here asserts one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"

ENTRY = """\
  {name}:
    family: bert
    source: hf://acme/{name}@1
    head: masked-lm
    config: {{num_labels: 3}}
    files:
      model.safetensors: {{sha256: {digest}, size: 440449768}}
      vocab.txt: {{sha256: {digest}, size: 231508}}
    description: one of many
    license: MIT
"""
CODE = "import registry, sys; assert registry.resolve(sys.argv[1]).family == 'bert'"
IMPORT = "import registry.model_registry"


@dataclass(frozen=True)
class Environment:
    """Names in the user's file, and plugins beside the four built-in ones, each with its names."""

    label: str
    names: int
    plugins: int = 0
    names_each: int = 50


def write_catalog(path: Path, prefix: str, count: int) -> None:
    """Write a catalog of `count` names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = (ENTRY.format(name=f"{prefix}-{number:06d}", digest=f"{number:064x}") for number in range(count))
    path.write_text("registry: 1\nmodels:\n" + "".join(entries), encoding="utf-8")


def set_up(folder: Path, environment: Environment) -> dict[str, str]:
    """Write an environment, and return the variables of its processes."""
    write_catalog(folder / "config/registry/models.yaml", "mine", environment.names)
    site = folder / "site"
    site.mkdir()
    for number in range(environment.plugins):
        package = f"registry_p{number:03d}"
        write_catalog(site / package / "models.yaml", f"p{number:03d}", environment.names_each)
        (site / package / "__init__.py").write_text("")
        (info := site / f"{package}-1.0.dist-info").mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: registry-p{number:03d}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[registry.families]\np{number:03d} = {package}.plugin\n")
    (folder / "work/.git").mkdir(parents=True)
    ours = ("REGISTRY_", "XDG_", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {
        **kept,
        "HOME": str(folder),
        "REGISTRY_CACHE": str(folder / "cache"),
        "REGISTRY_SYSTEM_MODELS": "",
        "XDG_CONFIG_DIRS": str(folder / "none"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "PYTHONPATH": os.pathsep.join(map(str, (site, ROOT, ROOT / "plugins"))),
    }


def run(code: str, folder: Path, variables: dict[str, str], *arguments: str) -> tuple[float, float]:
    """Return seconds of wall clock and of processor of one process."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", code, *arguments], cwd=folder / "work", env=variables, check=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure, print a table, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="a tenth of the names, to see that it runs")
    options = parser.parse_args()
    less = 10 if options.quick else 1
    environments = [
        Environment("20 names, 4 plugins", 20),
        Environment("10,000 names, 4 plugins", 10_000 // less),
        Environment("20 names, 200 plugins", 20, 196),
        Environment("10,000 names, 200 plugins", 10_000 // less, 196),
        Environment("100,000 names, 4 plugins", 100_000 // less),
    ]
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        places = []
        for number, environment in enumerate(environments):
            (folder := Path(temporary, str(number))).mkdir()
            variables = set_up(folder, environment)
            name = f"mine-{environment.names * 2 // 3:06d}"
            places.append((folder, variables, name, run(CODE, folder, variables, name)[0]))
        time.sleep(2.5)  # what was just written is not believed by its time alone
        for folder, variables, name, _ in places:
            run(CODE, folder, variables, name)
        taken: list[list[tuple[float, float]]] = [[] for _ in places]
        bare = []
        for _ in range(options.rounds):
            for times, (folder, variables, name, _) in zip(taken, places, strict=True):
                times.append(run(CODE, folder, variables, name))
            bare.append(run(IMPORT, *places[0][:2]))
        smallest = [statistics.median(times[which] for times in taken[0]) for which in (0, 1)]
        for environment, times, place in zip(environments, taken, places, strict=True):
            wall, cpu = (statistics.median(one[which] for one in times) for which in (0, 1))
            packed = sum(file.stat().st_size for file in (place[0] / "cache/catalogs").iterdir())
            rows.append(
                {
                    "environment": environment.label,
                    "cold_s": place[3],
                    "wall_s": wall,
                    "cpu_s": cpu,
                    "wall_ratio": wall / smallest[0],
                    "cpu_ratio": cpu / smallest[1],
                    "packed_bytes": packed,
                }
            )
    imported = [statistics.median(one[which] for one in bare) for which in (0, 1)]
    print(f"{'':<28}{'cold':>9}{'wall':>9}{'ratio':>7}{'cpu':>9}{'ratio':>7}{'packed':>11}")
    for row in rows:
        times_of = f"{row['cold_s']:>8.2f}s{row['wall_s'] * 1000:>7.0f}ms{row['wall_ratio']:>7.2f}"
        print(
            f"{row['environment']:<28}{times_of}{row['cpu_s'] * 1000:>7.0f}ms{row['cpu_ratio']:>7.2f}{row['packed_bytes']:>11,}"
        )
    print(f"{'importing model_registry':<37}{imported[0] * 1000:>7.0f}ms{'':>7}{imported[1] * 1000:>7.0f}ms")
    RESULTS.mkdir(exist_ok=True)
    facts = {"python": platform.python_version(), "machine": platform.machine(), "processors": os.cpu_count()}
    written = {**facts, "rounds": options.rounds, "quick": options.quick, "import_s": imported, "rows": rows}
    (RESULTS / "resolve.json").write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
