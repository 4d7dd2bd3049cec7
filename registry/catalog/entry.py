"""What a name means: the values that a catalog yields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from registry.errors import CatalogError

__all__ = ["MERGED_FIELDS", "CatalogFile", "Deprecation", "FilePin", "Host", "ModelEntry", "Origin", "RawEntry", "twin_message"]


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


#: Fields that inherit key by key instead of as a whole.
MERGED_FIELDS = frozenset(("config", "tokenizer", "files"))


@dataclass(frozen=True, kw_only=True)
class Host:
    """How to speak to one host: its token, its mirrors, whom to trust, and how much to ask at once."""

    #: `host` or `host:port`, in lower case.
    name: str
    origin: Origin
    #: The environment variable that holds the token; the token is this host's alone, and no mirror gets it.
    token_env: str | None = None
    #: The header that carries the token: `Authorization` as `Bearer <token>`, any other the token alone.
    header: str = "Authorization"
    #: Base URLs that serve the same paths as this host: https, or this machine.
    mirrors: tuple[str, ...] = ()
    #: A PEM bundle of the authorities that vouch for this host.
    ca_file: str | None = None
    #: Connections to this host at once, 1 to 64; None leaves it to the store.
    parallelism: int | None = None


class RawEntry(NamedTuple):
    """One entry as written: only the fields it says, before inheritance."""

    name: str
    origin: Origin
    fields: Mapping[str, Any]
    origins: Mapping[str, Origin]
    override: bool = False


@dataclass
class CatalogFile:
    """One models.yaml: its good entries, and for each bad one the error instead."""

    path: str
    entries: dict[str, RawEntry] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)
    broken: dict[str, CatalogError] = field(default_factory=dict)
    #: What is wrong with the file itself, outside any one entry.
    problems: list[CatalogError] = field(default_factory=list)
    #: False for a file without our version line: it belongs to another program.
    ours: bool = True
    #: True for such a file when it looks as if the line was forgotten.
    suspicious: bool = False
    #: True for a file that says nothing at all.
    empty: bool = False
    #: `~` and `~user` to the home folder that was put for it, None where there is none.
    homes: dict[str, str | None] = field(default_factory=dict)


def twin_message(what: str, name: str, other: str) -> str:
    """Return the message for a file name that some file systems take for another; both are shown with escapes."""
    return (
        f"a file name of {what} is expected to be one file everywhere, but {name!a} differs from {other} only in case or "
        "Unicode form; remove one, or write both alike"
    )
