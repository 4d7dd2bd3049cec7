"""Where catalogs lie, from the lowest layer to the highest."""

from __future__ import annotations

import contextlib
import os
import stat
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from registry.catalog.document import MAX_BYTES
from registry.catalog.schema import CatalogFile, read_catalog
from registry.errors import CatalogError, RegistryWarning

__all__ = [
    "FILE_NAME",
    "CatalogSource",
    "LayerKind",
    "environment_sources",
    "file_source",
    "project_source",
    "read_source",
    "signature",
]

FILE_NAME = "models.yaml"


class LayerKind(IntEnum):
    """The layers in order: a higher one wins."""

    FAMILY = 10
    PROJECT = 50
    ENVIRONMENT = 60
    ARGUMENT = 70


@dataclass(frozen=True)
class CatalogSource:
    """A catalog file that was located but not read; `read` returns its bytes."""

    kind: LayerKind
    path: str
    read: Callable[[], bytes]
    #: For a family's own file: it comes with this distribution, and its names are not an outsider's to redefine.
    builtin: bool = False


def file_source(kind: LayerKind, path: str | os.PathLike[str]) -> CatalogSource:
    """Return the source of an ordinary file; a folder stands for the models.yaml inside it."""
    full = Path(path)
    with contextlib.suppress(RuntimeError):  # the home of no known user: left as it is, and reported when it is read
        full = full.expanduser()
    full = full.absolute()
    if full.is_dir():
        full /= FILE_NAME
    return CatalogSource(kind, str(full), full.read_bytes)


def environment_sources() -> list[CatalogSource]:
    """Return the files of the path list `REGISTRY_MODELS`; as in every path list, an earlier one wins."""
    paths = [part for part in os.environ.get("REGISTRY_MODELS", "").split(os.pathsep) if part]
    return [file_source(LayerKind.ENVIRONMENT, path) for path in reversed(paths)]


def project_source(start: Path | None = None) -> CatalogSource | None:
    """Return the nearest models.yaml upward from `start`, by default the working folder.

    The search ends at the root of a git repository. Another user's file is not used: a shared folder such as /tmp must
    not decide what a name means.
    """
    try:
        folder = (start or Path.cwd()).absolute()
    except FileNotFoundError:  # the working folder was removed
        return None
    for parent in (folder, *folder.parents):
        candidate = parent / FILE_NAME
        status = _status(candidate)
        # A folder or pipe of this name is nobody's catalog.
        if status is not None and stat.S_ISREG(status.st_mode):
            if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
                warnings.warn(
                    f"{candidate} belongs to another user and is not used as project catalog; "
                    "name it in REGISTRY_MODELS to use it",
                    RegistryWarning,
                    stacklevel=2,
                )
                return None
            return file_source(LayerKind.PROJECT, candidate)
        if _status(parent / ".git") is not None:
            return None
    return None


def read_source(source: CatalogSource) -> CatalogFile:
    """Read one located catalog; what cannot be read becomes a problem of the result, never an exception."""
    try:
        data = source.read()
        if len(data) > MAX_BYTES:
            raise CatalogError(f"the file is expected to have at most {MAX_BYTES} bytes, but has {len(data)}", file=source.path)
        text = data.decode("utf-8-sig")
    except OSError as error:
        reason = error.strerror or str(error)
        problem = CatalogError(f"the file is expected to be readable, but is not ({reason})", file=source.path)
        return CatalogFile(source.path, problems=[problem])
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        problem = CatalogError("the file is expected to be UTF-8 text, but is not", file=source.path, line=line, column=column)
        return CatalogFile(source.path, problems=[problem])
    except CatalogError as error:
        return CatalogFile(source.path, problems=[error])
    return read_catalog(text, source.path)


def signature(sources: Iterable[CatalogSource]) -> tuple[tuple[str, int, int], ...]:
    """Return what changes when one of the files does: path, size and time of each."""
    found = []
    for source in sources:
        status = _status(Path(source.path))
        found.append((source.path, status.st_size, status.st_mtime_ns) if status else (source.path, -1, -1))
    return tuple(found)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
