"""Places of models' files, and files that are here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from registry.catalog.entry import FilePin
from registry.errors import CheckpointError, ConfigError

__all__ = ["Place", "Replaced", "StoredFile", "is_off", "is_offline", "is_set"]

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


def is_set(variable: str) -> bool:
    """Whether an environment variable says yes.

    Raises:
        ConfigError: when it says neither yes nor no.
    """
    return _answer(variable) is True


def is_off(variable: str) -> bool:
    """Whether an environment variable says no; raises as `is_set`."""
    return _answer(variable) is False


def _answer(variable: str) -> bool | None:
    written = os.environ.get(variable, "")
    if (text := written.strip().lower()) in _TRUE:
        return True
    if text in _FALSE:
        return False
    if text:
        raise ConfigError(
            f"{variable} is expected to be 1, true, yes or on, or 0, false, no or off, but is {written!r}; correct or unset it"
        )
    return None


def is_offline(offline: bool | None = None) -> bool:
    """Whether the network is off: by argument, else by `REGISTRY_OFFLINE` or `HF_HUB_OFFLINE`."""
    return offline if offline is not None else is_set("REGISTRY_OFFLINE") or is_set("HF_HUB_OFFLINE")


class Replaced(CheckpointError):
    """A save replaced files of a folder while they were read: the operation can be done anew."""


@dataclass(frozen=True)
class Place:
    """Where a model's files lie: a folder, its mirrors in order, and what is known of single files."""

    sources: tuple[str, ...]
    pins: Mapping[str, FilePin] = field(default_factory=dict)
    #: What people call the model.
    label: str = ""
    #: The lock file that the pins are from, where there is one: a file without a pin is then as if it were not there.
    lock: str = ""
    #: Source to the commit that it is held to, whatever its revision stands for now.
    commits: Mapping[str, str] = field(default_factory=dict)


class StoredFile(NamedTuple):
    """A file on this machine. `sha256` and `trust` are empty for a file that is used in place and was never pinned."""

    name: str
    path: Path
    sha256: str = ""
    trust: str = ""

    @property
    def folder(self) -> Path | None:
        """The folder in which the file stands under its own conventional name, or None."""
        folder = self.path
        for part in reversed(self.name.split("/")):
            if folder.name != part:
                return None
            folder = folder.parent
        return folder
