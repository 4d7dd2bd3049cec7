"""A process that imports what takes longest, then forks itself for every program that it is asked to run.

A line of JSON in: `program` (a path), `options` (its argument), `out` (a file for what it prints). A line out: the exit code.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import traceback
from typing import Any

#: transformers imports the modules of a class when the class is first asked for.
_PEERS = ("GPT2LMHeadModel", "BertModel", "BertForMaskedLM", "GPT2Tokenizer", "BertTokenizer")


def _run(asked: dict[str, Any]) -> int:
    """Be the program, in a process of its own; return its exit code."""
    out = os.open(asked["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(out, stream)
    sys.argv = [asked["program"], asked["options"]]
    try:
        runpy.run_path(asked["program"], run_name="__main__")
    except BaseException:  # whatever it is, the parent's loop is not to go on here
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def main() -> None:
    """Import, then serve until there is no more input."""
    import torch  # noqa: F401

    if "transformers" in sys.argv[1:]:
        import transformers

        for name in _PEERS:
            getattr(transformers, name)
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            os._exit(_run(asked))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
