"""What a user who installs the wheel gets."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_data_file_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"  # a copy, because building leaves things behind
    source.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("registry", "plugins"):
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-q", "--no-deps", "-w", str(tmp_path), "."]
    subprocess.run(command, cwd=source, check=True)
    (wheel,) = tmp_path.glob("pretrained_registry-*.whl")

    expected = set()
    for top in (ROOT, ROOT / "plugins"):
        for package in top.glob("registry*"):
            if package.is_dir() and package.suffix != ".egg-info":
                for pattern in ("*.py", "py.typed", "models.yaml", "models.schema.json", "*.template"):
                    expected |= {path.relative_to(top).as_posix() for path in package.rglob(pattern)}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        entry_points = archive.read(next(name for name in archive.namelist() if name.endswith("entry_points.txt"))).decode()
    assert held == expected
    for family in ("registry_bert", "registry_gpt", "registry_gpt2", "registry_transfo_xl"):
        assert {f"{family}/plugin.py", f"{family}/models.yaml", f"{family}/py.typed"} <= held
        assert f"= {family}.plugin" in entry_points
    assert "registry/catalog/models.schema.json" in held
    assert "registry/py.typed" in held and "registry = registry.cli:main" in entry_points
