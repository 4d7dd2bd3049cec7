"""Distributions as an installer leaves them: metadata and packages in a folder of the import path."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

#: Installs a distribution: `install(name, {entry point: value}, {path: text}, version=…, folder=…)`.
Install = Callable[..., Path]

PLUGIN = """\
from registry import Family, hookimpl

REGISTRY_API = 1


@hookimpl
def registry_family():
    return Family(
        name="{family}",
        config="{package}.model:{prefix}Config",
        heads={{"base": "{package}.model:{prefix}Model", "lm": "{package}.model:{prefix}ForLM"}},
        default_head="base",
    )
"""
MODEL = "class {prefix}Config: ...\nclass {prefix}Model: ...\nclass {prefix}ForLM: ...\n"


def family_files(package: str, family: str, prefix: str = "Acme") -> dict[str, str]:
    """Return the files of a sound plugin package."""
    names = {"package": package, "family": family, "prefix": prefix}
    return {
        f"{package}/__init__.py": "",
        f"{package}/plugin.py": PLUGIN.format(**names),
        f"{package}/model.py": MODEL.format(**names),
    }


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder at the head of the import path, whose modules are forgotten after the test."""
    folder = tmp_path / "site"
    folder.mkdir()
    before = set(sys.modules)
    monkeypatch.syspath_prepend(folder)
    yield folder
    ours = {path.name.removesuffix(".py") for path in tmp_path.glob("**/*") if path.suffix == ".py" or path.is_dir()}
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ours:  # a module may have put another object in its place
            del sys.modules[name]


@pytest.fixture
def install(site: Path) -> Install:
    """Write the metadata and the files of a distribution into the folder `site`, or another."""

    def install(
        distribution: str,
        entry_points: Mapping[str, str],
        files: Mapping[str, str] | None = None,
        *,
        version: str = "1.0",
        folder: Path = site,
        group: str = "registry.families",
    ) -> Path:
        info = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        points = "".join(f"{name} = {value}\n" for name, value in entry_points.items())
        written = {
            f"{info.name}/METADATA": f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n",
            f"{info.name}/entry_points.txt": f"[{group}]\n{points}",
            **(files or {}),
        }
        for name, text in written.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(textwrap.dedent(text), encoding="utf-8")
        importlib.invalidate_caches()
        return info

    return install


@pytest.fixture
def acme(install: Install) -> str:
    """Install a sound family `acme` of the distribution acme-family 1.0."""
    install("acme-family", {"acme": "acme_family.plugin"}, family_files("acme_family", "acme"))
    return "acme"
