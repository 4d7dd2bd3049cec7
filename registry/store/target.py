"""What a name, path or URL points at, before anything is fetched."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from registry.base.urls import is_url, redact, scheme_of
from registry.catalog.entry import FilePin, ModelEntry
from registry.errors import CatalogError, CheckpointError, DownloadError, warn
from registry.store.transports.local import local_path

__all__ = [
    "Place",
    "Replaced",
    "StoredFile",
    "Target",
    "entry_target",
    "maybe_path_target",
    "names_archive",
    "newest_first",
    "path_target",
    "source_target",
    "url_target",
]


#: A URL or source that ends so is one file; anything else is a folder.
_FILE = re.compile(r"\.(safetensors|bin|pt|pth|ckpt(-\d+)?|index|json|txt|tar|gz|tgz|zip)$", re.IGNORECASE)

#: Schemes whose paths have escapes, and those in which everything is a character of the path.
_ESCAPED = ("http", "https", "hf", "file")
_AS_IS = ("package", "s3", "gs", "az")
_ARCHIVE = re.compile(r"\.(tar|gz|tgz|zip)$", re.IGNORECASE)


@dataclass(frozen=True)
class Target:
    """A place with a label, and what is said of it."""

    label: str
    place: Place
    entry: ModelEntry | None = None
    #: The folder, when the place is one on this machine.
    folder: Path | None = None
    #: The name of the single file that was given instead of a folder.
    file: str | None = None
    #: The name of the archive that holds everything else; it is opened before anything is looked for.
    archive: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def listed(self) -> Mapping[str, FilePin]:
        """The files that the entry names, but for the archive that holds the others; a lock file does not change them."""
        if self.entry is None or not self.entry.files:
            return {}
        archive = _split(self.entry.source, _ARCHIVE)[1]
        return {name: pin for name, pin in self.entry.files.items() if name != archive}


def path_target(path: Path, label: str) -> Target:
    """Return the target of an existing folder or file on this machine."""
    if path.is_dir():
        return Target(label, Place((str(path),), label=label), folder=path)
    return Target(label, Place((str(path.parent),), label=label), folder=path.parent, file=path.name)


def maybe_path_target(path: Path, label: str) -> Target | None:
    """Return the target of a path, or None when there is none.

    A checkpoint of TensorFlow may be named, as it is there, by what the names of its files begin with.
    """
    for found in (path, Path(f"{path}.index")):
        try:
            if found.exists():
                return path_target(found, label)
        except (OSError, ValueError):  # too long, or with a character that no path has
            return None
    return None


def entry_target(entry: ModelEntry) -> Target:
    """Return the target of a catalog's entry.

    Raises:
        CatalogError: when its source is an archive and a mirror is one of another name.
    """
    source, file = _split(entry.source, _ARCHIVE)
    mirrors = []
    for mirror in entry.mirrors:
        folder, name = _split(mirror, _ARCHIVE) if file else (mirror, None)
        if name not in (None, file):
            place = entry.origins["mirrors"]
            raise CatalogError(
                f"mirror {redact(mirror)} of model {entry.name!r} is expected to be named {file!r}, as the source is, but is "
                f"not; give the folder that holds it under that name",
                file=place.file,
                line=place.line,
                column=place.column,
            )
        mirrors.append(folder)
    return Target(
        entry.name,
        Place((source, *mirrors), entry.files, entry.name),
        entry,
        folder=_local_folder(source),
        file=file,
        config=entry.config,
        tokenizer=entry.tokenizer,
    )


def url_target(url: str) -> Target:
    """Return the target of a URL or source; one that ends like a file's name is that file."""
    source, name = _split(url, _FILE)
    return Target(redact(url), Place((source,), label=redact(url)), folder=_local_folder(source), file=name)


def source_target(source: str) -> Target:
    """Return the target of a source that has no name yet: a folder, or an archive."""
    folder, file = _split(source, _ARCHIVE)
    return Target(redact(source), Place((folder,), label=redact(source)), folder=_local_folder(folder), file=file)


def names_archive(name: str) -> bool:
    """Whether a file's name is one that archives have; its content decides."""
    return _ARCHIVE.search(name) is not None


def _split(source: str, file: re.Pattern[str]) -> tuple[str, str | None]:
    """Return the folder and the name of a source that ends as `file` says, else the source itself and None."""
    path, mark, query = source.partition("?") if is_url(source) and scheme_of(source) not in _AS_IS else (source, "", "")
    folder, _, name = path.rpartition("/") if is_url(source) else (str(Path(path).parent), "", Path(path).name)
    if not file.search(name) or ((local := _local_folder(path)) is not None and local.is_dir()):
        return source, None
    return folder + mark + query, _unescaped(name) if scheme_of(path) in _ESCAPED and is_url(path) else name


def _unescaped(name: str) -> str:
    """Return a file's name for the last part of a URL, which escapes it; as it is where no name can be meant."""
    try:
        plain = unquote(name, errors="strict")
    except UnicodeDecodeError:
        return name
    return name if "/" in plain else plain


def _local_folder(source: str) -> Path | None:
    """Return the folder on this machine that a source means; None for a remote one, or a package that is not there."""
    if scheme_of(source) not in ("file", "package"):
        return None
    try:
        return local_path(source)
    except DownloadError:  # the store says so, after it has tried the mirrors
        return None


def newest_first(folder: Path, names: Sequence[str]) -> Sequence[str]:
    """Put the newest of several weights files first: somebody saved it beside the others by an older recipe."""
    there = [name for name in names if (folder / name).is_file()]
    if len(there) < 2:
        return names
    newest = max(there, key=lambda name: (folder / name).stat().st_mtime_ns)
    warn(f"folder {str(folder)!r} holds {' and '.join(there)}; the newer, {newest}, is loaded. Remove the other")
    return [newest, *(name for name in names if name != newest)]


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
