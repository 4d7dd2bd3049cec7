"""Real English, which every Python has: its own reference manual, then the docstrings of its standard library."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from pydoc_data import topics

__all__ = ["real_lines"]

_FEWEST_WORDS = 4


def real_lines(count: int) -> list[str]:
    """Return this many different lines of at least four words, the same for one release of Python.

    Raises:
        ValueError: when there are not so many.
    """
    lines = list(islice(dict.fromkeys(line for line in _lines() if len(line.split()) >= _FEWEST_WORDS), count))
    if len(lines) < count:
        raise ValueError(f"the standard library is expected to hold {count} lines of text, but holds {len(lines)}")
    return lines


def _lines() -> Iterator[str]:
    for topic in sorted(topics.topics):
        yield from map(str.strip, topics.topics[topic].splitlines())
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for file in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, documented) and (text := ast.get_docstring(node)):
                yield from map(str.strip, text.splitlines())
