"""Load a model again in a process that has loaded it once."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.programs.common import load, options, repeated, tell


def main() -> None:
    """Load once, then some times more, and tell the median of these."""
    given = options()
    call: Callable[[], object]
    if given["side"] == "floor":
        from benchmarks.bare import mapped

        def call() -> object:
            return mapped(f"{given['folder']}/model.safetensors")
    else:

        def call() -> object:
            return load(given["side"], given["name"], given["head"], given["family"])

    call()
    tell(value=repeated(call, given["times"]))


if __name__ == "__main__":
    main()
