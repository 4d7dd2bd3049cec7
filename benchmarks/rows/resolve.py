"""One name out of few and out of many, in fresh processes whose catalogs have been read before."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import Bar, Measure, Sample, Side, Trial
from benchmarks.inputs import Inputs
from benchmarks.stage import ROOT, Stage

_FEW = 20
#: Names each of the installed plugins has.
_EACH = 50


@dataclass(frozen=True)
class _Case:
    """Names in the user's catalog, and plugins beside the four built-in ones."""

    names: int
    plugins: int = 0


_CASES = {
    "resolve.10000": _Case(10_000),
    "resolve.100000": _Case(100_000),
    "resolve.200-plugins": _Case(10_000, 196),
}
_PEER = "one of 20"
MEASURES = (
    Measure(
        "resolve.10000",
        "resolve one of 10,000 names, whole process",
        "s",
        peer=_PEER,
        floor="bare interpreter",
        bars=(Bar("peer", 1.3),),
        warm_up=True,
    ),
    Measure(
        "resolve.100000",
        "resolve one of 100,000 names, whole process",
        "s",
        peer=_PEER,
        floor="bare interpreter",
        only_reported="ten times what the bar is for",
        warm_up=True,
    ),
    Measure(
        "resolve.200-plugins",
        "resolve one of 10,000 names beside 196 plugins of 50 names each, whole process",
        "s",
        peer=_PEER,
        floor="bare interpreter",
        only_reported="what installed plugins add",
        warm_up=True,
    ),
)

_ENTRY = """\
  {name}:
    family: bert
    source: hf://acme/{name}@1
    head: masked-lm
    config: {{num_labels: 3}}
    files:
      model.safetensors: {{sha256: "{digest}", size: 440449768}}
      vocab.txt: {{sha256: "{digest}", size: 231508}}
    description: one of many
    license: MIT
"""
_CODE = "import registry, sys; assert registry.resolve(sys.argv[1]).family == 'bert'"


def _write_catalog(path: Path, prefix: str, count: int) -> None:
    path.parent.mkdir(parents=True)
    entries = (_ENTRY.format(name=f"{prefix}-{number:06d}", digest=f"{number:064x}") for number in range(count))
    path.write_text("registry: 1\nmodels:\n" + "".join(entries), encoding="utf-8")


def _environment(folder: Path, case: _Case) -> dict[str, str]:
    """Write the user's catalog and the plugins as an installer leaves them; return the variables of the processes."""
    _write_catalog(folder / "config/registry/models.yaml", "mine", case.names)
    site = folder / "site"
    site.mkdir()
    for number in range(case.plugins):
        package = f"registry_p{number:03d}"
        _write_catalog(site / package / "models.yaml", f"p{number:03d}", _EACH)
        (site / package / "__init__.py").write_text("")
        (info := site / f"{package}-1.0.dist-info").mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: registry-p{number:03d}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[registry.families]\np{number:03d} = {package}.plugin\n")
    return {
        "REGISTRY_CACHE": str(folder / "cache"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "PYTHONPATH": os.pathsep.join(map(str, (site, ROOT, ROOT / "plugins"))),
    }


def trials(measure: Measure, stage: Stage, inputs: Inputs) -> Mapping[Side, Trial]:
    """Return how a sample of each side is taken."""
    case = _CASES[measure.key]
    if stage.quick:
        case = _Case(case.names // 5, case.plugins)

    def ready(label: str, case: _Case) -> Trial:
        folder = stage.folder / "resolve" / label
        variables = _environment(folder, case)
        arguments = ("-c", _CODE, f"mine-{case.names * 2 // 3:06d}")
        stage.python(*arguments, variables=variables)  # reads and packs the catalogs
        time.sleep(2.5)  # what was just written is not believed by its time alone
        stage.python(*arguments, variables=variables)
        return lambda: Sample(stage.python(*arguments, variables=variables))

    return {
        "ours": ready(f"{measure.key}-many", case),
        "peer": ready(f"{measure.key}-few", _Case(_FEW)),
        "floor": lambda: Sample(stage.python("-c", "pass")),
    }
