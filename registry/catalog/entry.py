"""The values of a catalog: entries, pins, hosts and their origins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from registry.errors import CatalogError

__all__ = ["MERGED_FIELDS", "CatalogFile", "Deprecation", "FilePin", "Host", "ModelEntry", "Origin", "RawEntry", "twin_message"]


class Origin(NamedTuple):
    """The place of a value in a catalog file. Line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class FilePin(NamedTuple):
    """What the catalog says of one file before it is fetched.

    `sha256` is 64 lower-case hex digits of the content, `size` is in bytes, `url` replaces the place under `source`.
    """

    sha256: str | None = None
    size: int | None = None
    url: str | None = None


class Deprecation(NamedTuple):
    """Since when a name is deprecated (`YYYY-MM` or `YYYY-MM-DD`), why, and what to use instead."""

    since: str
    note: str = ""
    #: The name to use instead. Empty for an alias, whose replacement is its target.
    use: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """One resolved name: every field after inheritance, and the origin of each."""

    name: str
    #: The names that led here: the requested one, then each alias on the way. Empty for a direct hit.
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
    #: Field name to its origin.
    origins: Mapping[str, Origin] = field(default_factory=dict)
    #: Origins of the same name in lower layers, nearest first.
    shadows: tuple[Origin, ...] = ()


#: Fields that inherit key by key instead of as a whole.
MERGED_FIELDS = frozenset(("config", "tokenizer", "files"))


@dataclass(frozen=True, kw_only=True)
class Host:
    """How to access one host: token, mirrors, certificate authorities, number of connections."""

    #: `host` or `host:port`, in lower case.
    name: str
    origin: Origin
    #: The environment variable that holds the token. The token is sent to this host only, not to its mirrors.
    token_env: str | None = None
    #: The header of the token: `Authorization` carries `Bearer <token>`, any other header the bare token.
    header: str = "Authorization"
    #: Base URLs that serve the same paths as this host. They must use https or be on this machine.
    mirrors: tuple[str, ...] = ()
    #: A PEM bundle of certificate authorities for this host.
    ca_file: str | None = None
    #: Concurrent connections to this host, 1 to 64. None uses the store's default.
    parallelism: int | None = None


class RawEntry(NamedTuple):
    """One entry as written: only its own fields, before inheritance."""

    name: str
    origin: Origin
    fields: Mapping[str, Any]
    origins: Mapping[str, Origin]
    override: bool = False


@dataclass
class CatalogFile:
    """One models.yaml: its valid entries, and an error for each invalid one."""

    path: str
    entries: dict[str, RawEntry] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)
    broken: dict[str, CatalogError] = field(default_factory=dict)
    #: Problems of the file outside its entries.
    problems: list[CatalogError] = field(default_factory=list)
    #: False for a file without our version line: it belongs to another program.
    ours: bool = True
    #: True for such a file when it looks as if the line was forgotten.
    suspicious: bool = False
    #: True for a file that says nothing at all.
    empty: bool = False
    #: `~` and `~user` to the home folder that replaced it, or None without one.
    homes: dict[str, str | None] = field(default_factory=dict)


def twin_message(what: str, name: str, other: str) -> str:
    """Return the message for a file name that some file systems treat as equal to another; both are shown escaped."""
    return (
        f"a file name of {what} is expected to be one file everywhere, but {name!a} differs from {other} only in case or "
        "Unicode form; remove one, or write both alike"
    )
