"""Run Python in a process of its own, with this checkout and the environment of the test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent


def environment(*first_on_path: str | Path) -> dict[str, str]:
    """Return this process's environment with the checkout importable, behind the folders given."""
    folders = [*first_on_path, ROOT, ROOT / "plugins"]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}


def run_python(
    *arguments: str, path: Sequence[str | Path] = (), cwd: str | Path | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run the interpreter with `arguments`, and fail with its error output when `check` and it fails."""
    done = subprocess.run(
        [sys.executable, *arguments], env=environment(*path), cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    assert not check or done.returncode == 0, done.stderr
    return done
