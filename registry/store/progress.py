"""Progress of a transfer: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(label: str, total: int | None) -> Iterator[Callable[[int], object]]:
    """Yield a function to call with each number of bytes that arrived."""
    try:
        shown = sys.stderr.isatty()
    except (AttributeError, ValueError):  # no stderr, or a closed one
        shown = False
    if not shown:
        yield lambda count: None
        return
    from tqdm import tqdm

    with tqdm(desc=label, total=total, unit="B", unit_scale=True, unit_divisor=1024, leave=False) as bar:
        yield bar.update
