"""Values as YAML text, written so that every reader, of YAML 1.1 and of 1.2, reads the same value back."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import yaml

from registry.catalog.document import plain_scalar

__all__ = ["flow_text", "scalar_text"]

#: What may stand without quotes, in brackets or out of them: characters that mean nothing to YAML where they stand.
_PLAIN = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9_/.~](?:[A-Za-z0-9_/.~@+()=;-]|:(?=[A-Za-z0-9_/.@])| (?=[A-Za-z0-9_/.(]))*")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_RESOLVER = yaml.resolver.Resolver()
_TEXT = "tag:yaml.org,2002:str"


def scalar_text(value: object, quote: str = "'", *, always: bool = False) -> str:
    """Return a scalar as it is written on one line.

    Args:
        value: text, a number, true or false, or None.
        quote: the quotes for text that needs some, `'` or `"`.
        always: put any text in them.

    Raises:
        ValueError: when YAML has no such value.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ".nan" if value != value else ".inf" if value > 0 else "-.inf"
    if not isinstance(value, str):
        raise ValueError(f"a value is expected to be text, a number, true, false or null, but is {value!r}")
    if not always and _PLAIN.fullmatch(value) and _is_text(value):
        return value
    if quote == '"' or not value.isprintable():
        return '"' + "".join(map(_escaped, value)) + '"'
    return "'" + value.replace("'", "''") + "'"


def flow_text(value: object, quote: str = "'", *, always: bool = False) -> str:
    """Return any value on one line, collections in brackets. With `always` and `"` it is JSON."""
    if isinstance(value, Mapping):
        pairs = (
            f"{scalar_text(str(key), quote, always=always)}: {flow_text(item, quote, always=always)}"
            for key, item in value.items()
        )
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(flow_text(item, quote, always=always) for item in value) + "]"
    return scalar_text(value, quote, always=always)


def _is_text(value: str) -> bool:
    """Whether a plain word is text by YAML 1.1, where `on` and `1:30` are not, and by the core of 1.2."""
    tag = _RESOLVER.resolve(yaml.ScalarNode, value, (True, False))  # type: ignore[no-untyped-call]  # PyYAML's own
    return bool(tag == _TEXT) and isinstance(plain_scalar(value), str)


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    if 0xD800 <= code < 0xE000:
        raise ValueError("text is expected to be Unicode, but holds half of a surrogate pair")
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
