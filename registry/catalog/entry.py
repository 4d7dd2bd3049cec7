"""What a name means: the values that a catalog yields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["Deprecation", "FilePin", "ModelEntry", "Origin"]


class Origin(NamedTuple):
    """The place in a catalog file at which something is said; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class FilePin(NamedTuple):
    """What is known of one file before it is fetched.

    `sha256` is 64 lower-case hex digits of the content, `size` is in bytes, `url` replaces the place under `source`.
    """

    sha256: str | None = None
    size: int | None = None
    url: str | None = None


class Deprecation(NamedTuple):
    """Since when a name should no longer be used (`YYYY-MM` or `YYYY-MM-DD`), why, and what to use instead."""

    since: str
    note: str = ""
    #: Another name; for an alias it is the name that it stands for, and this is empty.
    use: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """One resolved name: every field after inheritance, and where each of them was said."""

    name: str
    #: The names that led here: what was asked for first, then each alias on the way; empty for a direct hit.
    via: tuple[str, ...] = ()
    family: str
    source: str
    mirrors: tuple[str, ...] = ()
    #: The head's name, or None for the family's default.
    head: str | None = None
    #: Overrides of the configuration, by field.
    config: Mapping[str, Any] = field(default_factory=dict)
    #: Settings of the tokenizer, by argument.
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, FilePin] = field(default_factory=dict)
    description: str = ""
    license: str | None = None
    deprecated: Deprecation | None = None
    #: Field name to the place that said it.
    origins: Mapping[str, Origin] = field(default_factory=dict)
    #: Places of the same name in lower layers, nearest first.
    shadows: tuple[Origin, ...] = ()
