"""Locate the catalog files of every layer, from lowest to highest."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import NamedTuple

from registry.base.names import MAX_BYTES, maybe_user_path, user_path
from registry.base.regular import read_regular
from registry.base.stamps import Stamp, _status, stamp
from registry.catalog.entry import CatalogFile
from registry.errors import CatalogError, warn

__all__ = [
    "FILE_NAME",
    "INSTALLED",
    "CatalogSource",
    "LayerKind",
    "environment_sources",
    "file_source",
    "looked_at",
    "outer_sources",
    "places",
    "project_source",
    "read_bytes",
    "read_limited",
    "read_source",
    "signature",
    "system_sources",
    "user_source",
]


FILE_NAME = "models.yaml"

#: This library's folder inside each configuration folder.
_FOLDER = "registry"
_SYSTEM_FILE = "/etc/registry/models.yaml"
_SYSTEM_FOLDERS = "/etc/xdg"


class LayerKind(IntEnum):
    """The layers, lowest first. A higher one wins."""

    FAMILY = 10
    PACKAGE = 20
    SYSTEM = 30
    USER = 40
    PROJECT = 50
    ENVIRONMENT = 60
    ARGUMENT = 70


#: The layers of installed packages.
INSTALLED = (LayerKind.FAMILY, LayerKind.PACKAGE)


class CatalogSource(NamedTuple):
    """A catalog file that was located but not yet read. `read` returns its bytes."""

    kind: LayerKind
    path: str
    read: Callable[[], bytes]
    #: For a family's own file: its distribution. Other distributions may not redefine its names.
    builtin: bool = False
    #: The installed package of the file, and its version. Empty for a file outside packages.
    distribution: str = ""
    version: str = ""


def read_limited(path: Path) -> bytes:
    """Return the bytes of a file, up to one more than the size limit."""
    return read_regular(path, MAX_BYTES + 1)


def file_source(kind: LayerKind, path: str | os.PathLike[str]) -> CatalogSource:
    """Return the source of an ordinary file, or of the models.yaml inside a folder."""
    full = user_path(path).absolute()
    if os.path.isdir(full):  # noqa: PTH112  # Path.is_dir raises where the system does not take the path
        full /= FILE_NAME
    return CatalogSource(kind, str(full), partial(read_limited, full))


def environment_sources() -> list[CatalogSource]:
    """Return the files of the path list `REGISTRY_MODELS`. As in every path list, an earlier one wins."""
    paths = [part for part in os.environ.get("REGISTRY_MODELS", "").split(os.pathsep) if part]
    return [file_source(LayerKind.ENVIRONMENT, path) for path in reversed(paths)]


def system_sources() -> list[CatalogSource]:
    """Return the system's existing files, lowest first; `places` says where they may be."""
    return [source for kind, path in places() if kind is LayerKind.SYSTEM and (source := _optional(kind, path))]


def user_source() -> CatalogSource | None:
    """Return the user's own file, or None when it does not exist."""
    return next((source for kind, path in places() if kind is LayerKind.USER and (source := _optional(kind, path))), None)


def places() -> list[tuple[LayerKind, Path]]:
    """Return every possible place of the system's and the user's catalogs, lowest first, existing or not.

    The system's are /etc/registry/models.yaml, or the file that `REGISTRY_SYSTEM_MODELS` names (no file when it is set but
    empty), and registry/models.yaml in each folder of `XDG_CONFIG_DIRS`, where an earlier folder wins. The user's is
    registry/models.yaml in `XDG_CONFIG_HOME`, by default ~/.config
    (https://specifications.freedesktop.org/basedir-spec/latest/).
    """
    system = os.environ.get("REGISTRY_SYSTEM_MODELS", _SYSTEM_FILE)
    found = [(LayerKind.SYSTEM, user_path(system).absolute())] if system else []
    folders = (os.environ.get("XDG_CONFIG_DIRS") or _SYSTEM_FOLDERS).split(os.pathsep)
    # The specification says to ignore relative folders.
    found += [
        (LayerKind.SYSTEM, Path(folder) / _FOLDER / FILE_NAME) for folder in reversed(folders) if Path(folder).is_absolute()
    ]
    own = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    home = own if own.is_absolute() else maybe_user_path("~/.config")
    return [*found, (LayerKind.USER, home / _FOLDER / FILE_NAME)] if home is not None and home.is_absolute() else found


def _optional(kind: LayerKind, path: Path) -> CatalogSource | None:
    """Return the source of an optional file, or None when it does not exist. An unreadable file is reported later."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        pass
    return CatalogSource(kind, str(path), partial(read_limited, path))


def project_source(start: Path | None = None) -> CatalogSource | None:
    """Return the nearest models.yaml in `start` (by default the working folder) or a folder above it.

    The search ends at the root of a git repository. Another user's file is not used: a shared folder such as /tmp must
    not decide what a name means.
    """
    try:
        folder = (start or Path.cwd()).absolute()
    except FileNotFoundError:  # the working folder was removed
        return None
    for parent in (folder, *folder.parents):
        candidate = parent / FILE_NAME
        status = _status(candidate, os.lstat)
        if status is not None and stat.S_ISLNK(status.st_mode) and (status := _status(candidate)) is None:
            return file_source(LayerKind.PROJECT, candidate)  # a dangling link, which is reported when it is read
        # A folder or pipe of this name is not a catalog.
        if status is not None and stat.S_ISREG(status.st_mode):
            if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
                warn(
                    f"{candidate} belongs to another user and is not used as project catalog; "
                    "name it in REGISTRY_MODELS to use it"
                )
                return None
            return file_source(LayerKind.PROJECT, candidate)
        if _status(parent / ".git") is not None:
            return None
    return None


def outer_sources(catalogs: Iterable[Path] = ()) -> list[CatalogSource]:
    """Locate the layers above those of installed packages, lowest first. `catalogs` are files that the caller passes."""
    user, project = user_source(), project_source()
    below = [*system_sources(), *([user] if user else [])]
    above = [*environment_sources(), *(file_source(LayerKind.ARGUMENT, path) for path in catalogs)]
    # A file that the user names explicitly is trusted, even if it is also the project's file.
    if project is not None and project.path in {source.path for source in (*below, *above)}:
        project = None
    return [*below, *([project] if project else []), *above]


def looked_at() -> list[str]:
    """Return every path where environment and working folder allow a catalog, existing or not."""
    found = [str(path) for _, path in places()]
    found += [source.path for source in environment_sources()]
    try:
        folder = Path.cwd()
    except FileNotFoundError:
        return found
    for parent in (folder, *folder.parents):
        found.append(str(parent / FILE_NAME))
        found.append(str(parent / ".git"))
        if _status(found[-1]) is not None:
            break
    return found


def signature(sources: Iterable[CatalogSource]) -> tuple[Stamp, ...]:
    """Return a value that changes when one of the files changes."""
    return tuple(stamp(source.path) for source in sources)


def read_source(source: CatalogSource) -> CatalogFile:
    """Read one located catalog. An unreadable file becomes a problem of the result, not an exception."""
    try:
        data = source.read()
    except OSError as error:
        reason = error.strerror or str(error)
        message = f"the file is expected to be readable, but is not ({reason}); mend or remove it"
        return CatalogFile(source.path, problems=[CatalogError(message, file=source.path)])
    return read_bytes(data, source.path)


def read_bytes(data: bytes, path: str) -> CatalogFile:
    """Parse the bytes of one catalog; otherwise as `read_source`."""
    # The parser is imported here, because a packed catalog is read without it.
    from registry.catalog.schema import read_catalog

    if len(data) > MAX_BYTES:
        message = f"the file is expected to have at most {MAX_BYTES} bytes, but has more; write several files"
        return CatalogFile(path, problems=[CatalogError(message, file=path)])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        message = "the file is expected to be UTF-8 text, but is not; save it as UTF-8"
        return CatalogFile(path, problems=[CatalogError(message, file=path, line=line, column=column)])
    return read_catalog(text, path)
