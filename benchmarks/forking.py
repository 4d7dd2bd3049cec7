"""Processes of a quick run: forked from one that has imported torch or transformers, instead of started anew."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.harness import NotMeasured

__all__ = ["Parent"]

_PARENT = Path(__file__).parent / "programs/parent.py"


class Parent:
    """The process that is forked; it ends with `close`."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *modules: str) -> None:
        """Start it in a folder; `modules` are what it imports beside torch."""
        self._out = folder / f"forked-{'-'.join(modules) or 'torch'}.txt"
        self._process = subprocess.Popen(
            [sys.executable, "-P", _PARENT, *modules],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, program: Path, options: str) -> str:
        """Run a program in a fork; return what it printed.

        Raises:
            NotMeasured: when it fails.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        asked = {"program": str(program), "options": options, "out": str(self._out)}
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        code = self._process.stdout.readline().strip()
        if code != "0":
            printed = self._out.read_text(encoding="utf-8")[-3000:] if code else "its parent has ended"
            raise NotMeasured(f"{program.name} {options} ended with {code or 'nothing'}: {printed}")
        return self._out.read_text(encoding="utf-8")

    def close(self) -> None:
        """End it."""
        self._process.communicate()
