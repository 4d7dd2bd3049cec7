"""Read the small JSON files of a model folder, strictly."""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from registry.base.regular import read_regular
from registry.errors import ConfigError

__all__ = ["naming", "read_json"]

_MAX_BYTES = 64 << 20  # a vocabulary of a million words fits
#: Lists and objects; an empty one takes two bytes in the file, and fifty in memory. The merges of a tokenizer are lists.
_MAX_CONTAINERS = 1_000_000
#: Lists and objects inside each other; what goes through a file's content level by level, such as a copy, has a limit, too.
_MAX_DEPTH = 100
#: Colons, which tokens may hold, too.
_MAX_FIELDS = 4_000_000


def read_json(path: Path, *, max_bytes: int = _MAX_BYTES) -> dict[str, Any]:
    """Return the JSON object in a file.

    Args:
        path: the file.
        max_bytes: the largest that is read.

    Raises:
        ConfigError: when it is not one: wrong syntax, a duplicate key, NaN or a number beyond all, or nesting without end.
    """

    def fail(problem: str) -> NoReturn:
        raise ConfigError(f"file {str(path)!r} is expected to be a JSON object, but {problem}")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        data = dict(pairs)
        if len(data) != len(pairs):
            (double, _), *_ = Counter(key for key, _ in pairs).most_common(1)
            fail(f"has the key {double!r:.80} twice")
        return data

    def finite(text: str) -> float:
        if math.isinf(number := float(text)):
            fail(f"holds {text:.40}, which is beyond every number")
        return number

    try:
        content = read_regular(path, max_bytes + 1)
        if len(content) > max_bytes:
            fail(f"has more than {max_bytes:,} bytes")
        if content.count(b":") > _MAX_FIELDS:
            fail(f"has more than {_MAX_FIELDS:,} fields")
        if (containers := content.count(b"[") + content.count(b"{")) > _MAX_CONTAINERS:
            fail(f"has more than {_MAX_CONTAINERS:,} lists and objects")
        data = json.loads(
            content.decode("utf-8-sig"),
            object_pairs_hook=unique,
            parse_constant=lambda name: fail(f"holds {name}, which is no JSON"),
            parse_float=finite,
        )
    except OSError as error:
        fail(f"cannot be read ({error.strerror})")
    except UnicodeDecodeError:
        fail("is not UTF-8 text; is it a weights file?")
    except json.JSONDecodeError as error:
        fail(f"line {error.lineno}, column {error.colno}: {error.msg}")
    except RecursionError:
        fail("nests too deep")
    except ValueError as error:  # a number of thousands of digits
        fail(f"holds what cannot be read ({error})")
    if not isinstance(data, dict):
        fail(f"is a {type(data).__name__}")
    if containers > _MAX_DEPTH and _depth(data) > _MAX_DEPTH:
        fail("nests too deep")
    return data


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the name of a file before the text of a ConfigError that its content causes in the block."""
    try:
        yield
    except ConfigError as error:
        if (name := repr(str(path))) not in error.message:
            error.message = f"file {name}: {error.message}"
            error.args = (error.message,)
        raise


def _depth(data: object) -> int:
    """Return how many lists and objects lie inside each other, counted to one more than the limit."""
    level, depth = [data], 0
    while level and depth <= _MAX_DEPTH:
        depth += 1
        held = (each.values() if isinstance(each, dict) else each for each in level)
        level = [item for items in held for item in items if isinstance(item, dict | list)]  # type: ignore[attr-defined]
    return depth
