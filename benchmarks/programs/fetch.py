"""Fetch a model or a file: ours by name, the hub's library by repository, and a stat of the file as the least."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.programs.common import options, repeated, tell


def main() -> None:
    """Fetch something small when that is asked for, wait for a signal likewise, then fetch, and tell the seconds."""
    given = options()
    call: Callable[[], object]
    if given["side"] == "ours":
        import registry

        if "first" in given:  # imports and connections are not what is measured
            registry.fetch(given["first"], cache_dir=given.get("aside"))

        def call() -> object:
            return registry.fetch(given["name"])
    elif given["side"] == "peer":
        from huggingface_hub import hf_hub_download

        if "first" in given:
            hf_hub_download(given["repo"], given["first"], cache_dir=given["cache"])

        def call() -> object:
            return hf_hub_download(given["repo"], "model.safetensors", cache_dir=given["cache"])
    else:

        def call() -> object:
            return os.stat(given["file"])  # noqa: PTH116  # the least

    if given.get("warm"):
        call()
    if "ready" in given:
        Path(given["ready"]).touch()
        while not Path(given["go"]).exists():
            time.sleep(0.002)
    seconds = repeated(call, given["times"], in_a_row=given.get("in_a_row", 1))
    tell(value=seconds, ended=time.monotonic())


if __name__ == "__main__":
    main()
