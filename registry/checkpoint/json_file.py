"""Read the small JSON files of a model folder, strictly."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from registry.errors import ConfigError

__all__ = ["read_json"]

_MAX_BYTES = 64 << 20  # a vocabulary of a million words fits


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        ConfigError: when it is not one: wrong syntax, a duplicate key, NaN, or nesting without end.
    """

    def fail(problem: str) -> NoReturn:
        raise ConfigError(f"file {str(path)!r} is expected to be a JSON object, but {problem}")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        data = dict(pairs)
        if len(data) != len(pairs):
            (double, _), *_ = Counter(key for key, _ in pairs).most_common(1)
            fail(f"has the key {double!r} twice")
        return data

    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            fail(f"has {size} bytes, more than {_MAX_BYTES}")
        data = json.loads(
            path.read_text(encoding="utf-8"),
            object_pairs_hook=unique,
            parse_constant=lambda name: fail(f"holds {name}, which is no JSON"),
        )
    except OSError as error:
        fail(f"cannot be read ({error.strerror})")
    except UnicodeDecodeError:
        fail("is not UTF-8 text; is it a weights file?")
    except json.JSONDecodeError as error:
        fail(f"line {error.lineno}, column {error.colno}: {error.msg}")
    except RecursionError:
        fail("nests too deep")
    if not isinstance(data, dict):
        fail(f"is a {type(data).__name__}")
    return data
