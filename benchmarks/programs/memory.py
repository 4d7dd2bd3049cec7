"""The anonymous memory of a process that has loaded a model, and has computed nothing."""

from __future__ import annotations

from benchmarks.programs.common import anonymous, load, options, tell


def main() -> None:
    """Import torch, load unless nothing is named, and tell the bytes above the interpreter with torch."""
    given = options()
    import torch  # noqa: F401  # what it takes is not the load's

    before = anonymous()
    model = load(given["side"], given["name"], given["head"], given["family"])
    after = anonymous()
    size = sum(each.numel() * each.element_size() for each in model.parameters())
    tell(value=(after - before) / size)


if __name__ == "__main__":
    main()
