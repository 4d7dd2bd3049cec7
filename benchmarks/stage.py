"""Where a run happens: a temporary folder, an environment that is nobody's, and fresh processes in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.forking import Parent
from benchmarks.harness import NotMeasured, Sample
from benchmarks.servers import Server, running

__all__ = ["ROOT", "Stage"]

ROOT = Path(__file__).parent.parent
_PROGRAMS = Path(__file__).parent / "programs"

#: What would decide for the libraries, or for one of the sides alone.
_OTHERS = ("REGISTRY_", "XDG_", "PYTHON", "HF_", "HUGGINGFACE_", "TRANSFORMERS_", "TORCH", "OMP_", "MKL_", "TOKENIZERS_")
_LONGEST = 900
_OFFLINE = {"HF_HUB_OFFLINE": "1"}
#: Programs of which the imports are a part of what is measured, or which are told of a server by their environment.
_NEVER_FORKED = ("first_logits", "memory", "fetch")


class Stage:
    """A run's folder and processes; a context manager that takes both away."""

    def __init__(self, folder: Path, *, quick: bool) -> None:
        self.folder = folder
        #: Whether sizes and counts are small: to see that it works, not to publish.
        self.quick = quick
        self._exit = ExitStack()
        self._parents: dict[str, Parent] = {}
        for name in ("work/.git", "home", "config/registry", "outputs"):
            (folder / name).mkdir(parents=True)

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *exception: object) -> None:
        self._exit.close()

    @cached_property
    def server(self) -> Server:
        """An nginx for the whole run, started when it is first needed."""
        return self._exit.enter_context(running(self.folder / "server"))

    @property
    def cache(self) -> Path:
        """Our cache, which holds every name that was published."""
        return self.folder / "cache"

    @cached_property
    def environment(self) -> dict[str, str]:
        """The variables of every process: this checkout's library, and a home that nobody has used."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OTHERS)}
        return {
            **kept,
            "HOME": str(self.folder / "home"),
            "REGISTRY_CACHE": str(self.cache),
            "REGISTRY_SYSTEM_MODELS": "",
            "REGISTRY_QUIET": "1",
            "XDG_CONFIG_DIRS": str(self.folder / "none"),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "NO_PROXY": "127.0.0.1,127.0.0.2",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "plugins"))),
        }

    def run(self, command: Sequence[str | Path], variables: Mapping[str, str] | None = None) -> tuple[float, str]:
        """Run a command; return its seconds from start to end, and what it printed.

        Raises:
            NotMeasured: when it fails.
        """
        began = time.monotonic()
        done = subprocess.run(
            [str(part) for part in command],
            cwd=self.folder / "work",
            env={**self.environment, **(variables or {})},
            capture_output=True,
            text=True,
            timeout=_LONGEST,
            check=False,
        )
        taken = time.monotonic() - began
        if done.returncode:
            raise NotMeasured(f"{' '.join(map(str, command))} ended with {done.returncode}: {done.stderr[-3000:]}")
        return taken, done.stdout

    def python(self, *arguments: str, variables: Mapping[str, str] | None = None) -> float:
        """Return the seconds of an interpreter from start to end."""
        return self.run([sys.executable, *arguments], variables)[0]

    def command(self, name: str) -> str:
        """Return the path of a console script of this environment."""
        found = shutil.which(name, path=str(Path(sys.executable).parent))
        if found is None:
            raise NotMeasured(f"the command {name} is expected to be installed beside {sys.executable}, but is not")
        return found

    def program(self, program: str, variables: Mapping[str, str] | None = None, /, **options: Any) -> dict[str, Any]:
        """Run one of the programs in a fresh process; return what it told, and when it was started (`began`).

        In a quick run that process is a fork of one which has imported torch, or transformers where `variables` are its.
        """
        began = time.monotonic()
        file, argument = _PROGRAMS / f"{program}.py", json.dumps(options)
        if self.quick and program not in _NEVER_FORKED and (variables or {}) in ({}, _OFFLINE):
            out = self._parent("transformers" if variables else "").run(file, argument)
        else:
            # -P: the modules beside a program are not to be taken for anything else's.
            _, out = self.run([sys.executable, "-P", file, argument], variables)
        told: dict[str, Any] = json.loads(out.splitlines()[-1])
        return {**told, "began": began}

    def _parent(self, module: str) -> Parent:
        if module not in self._parents:
            environment = {**self.environment, **(_OFFLINE if module else {})}
            self._parents[module] = Parent(self.folder / "work", environment, *([module] if module else []))
            self._exit.callback(self._parents[module].close)
        return self._parents[module]

    def sample(self, program: str, variables: Mapping[str, str] | None = None, /, **options: Any) -> Sample:
        """Run one of the programs in a fresh process; return its sample. One that tells `reached` is timed from its start."""
        output = self.folder / "outputs" / f"{time.monotonic_ns()}.npy"
        told = self.program(program, variables, output=str(output), **options)
        # The clock is the machine's, not the process's.
        value = told["reached"] - told["began"] if "reached" in told else told["value"]
        return Sample(value, output if output.exists() else None, told.get("note", ""))
