"""Load many files in one process that may take little memory and write nothing; a program, and what starts it."""

from __future__ import annotations

import json
import resource
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.processes import run_python

#: Bytes that the process may take beyond what torch and a first checkpoint took.
HEADROOM = 768 << 20
#: Seconds for one file; those that are refused take hundredths.
PATIENCE = 30


def load_confined(paths: Iterable[Path], first: Path, headroom: int = HEADROOM) -> dict[str, tuple[str, str, list[str]]]:
    """Return, by file name, the class and text of the error that loading a file ended in, and the globals it names.

    Class and text are `loaded` and the number of tensors where it did not. `first` is a good file, loaded before the limits.
    """
    done = run_python("-W", "ignore", __file__, str(headroom), str(first), *map(str, paths))
    return {key: (kind, said, names) for key, (kind, said, names) in json.loads(done.stdout).items()}


class TooLong(BaseException):
    """Nothing that means to catch errors catches this one."""


def _load(path: Path) -> tuple[str, str, list[str]]:
    from registry.checkpoint.open import open_checkpoint

    def too_long(*_: object) -> None:
        raise TooLong(f"{path.name} takes more than {PATIENCE} seconds")

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(PATIENCE)
    try:
        checkpoint = open_checkpoint(path)
        names = list(checkpoint.names())
        for name in names:
            checkpoint.info(name)
            checkpoint.tensor(name).clone()
        return "loaded", str(len(names)), []
    except BaseException as error:  # whatever it is, the test wants to know
        return type(error).__name__, str(error), list(getattr(error, "globals", ()))
    finally:
        signal.alarm(0)


def _main(headroom: int, first: Path, paths: list[Path]) -> dict[str, Any]:
    if (begin := _load(first))[0] != "loaded":
        raise SystemExit(f"the first file is expected to load, but: {begin}")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + headroom
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    return {path.name: _load(path) for path in paths}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_main(int(sys.argv[1]), Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])))
