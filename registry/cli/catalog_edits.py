"""Choose the models.yaml that a command edits, and check the result of the edit."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from registry.base.names import user_path
from registry.base.settings import cache_folders
from registry.catalog.catalog import Catalog
from registry.catalog.edit.entries import add_entry, remove_entry
from registry.catalog.edit.rewrite import rewrite
from registry.catalog.entry import ModelEntry, Origin
from registry.catalog.layers import (
    FILE_NAME,
    CatalogSource,
    LayerKind,
    environment_sources,
    outer_sources,
    places,
    project_source,
    read_limited,
    read_source,
)
from registry.catalog.schema import read_catalog
from registry.errors import CatalogError, RegistryWarning
from registry.model_registry import ModelRegistry

__all__ = ["Added", "Removed", "add", "chosen_file", "is_users", "remove"]


@dataclass(frozen=True)
class Added:
    """The result of adding a name."""

    origin: Origin
    #: The name's entry now; None if the file is not part of any layer.
    entry: ModelEntry | None
    #: The place in a higher layer that overrides the new entry.
    hidden_by: Origin | None


@dataclass(frozen=True)
class Removed:
    """The result of removing a name."""

    origin: Origin
    #: The name's remaining entry in a lower layer, if any.
    left: Origin | None


def is_users(path: Path) -> bool:
    """Whether a catalog is the user's own, which is not part of a project."""
    return (LayerKind.USER, path) in places()


def chosen_file(file: str | None, *, user: bool, project: bool) -> Path:
    """Return the catalog to write: the given one, the user's or the project's.

    By default it is the nearest one of the project, if it is a catalog, empty or damaged, else the user's.
    """
    if file is not None:
        path = user_path(file).absolute()
        return path / FILE_NAME if path.is_dir() else path
    if user:
        return _user_file()
    nearest = project_source()
    if project:
        return Path(nearest.path) if nearest is not None else Path.cwd() / FILE_NAME
    if nearest is None:
        return _user_file()
    found = read_source(nearest)
    # Another program may have a file of this name, too.
    return Path(nearest.path) if found.ours or found.empty or found.problems else _user_file()


def _user_file() -> Path:
    """Return the path of the user's own catalog, existing or not."""
    for kind, path in places():
        if kind is LayerKind.USER:
            return path
    raise CatalogError(
        "the user's catalog is expected to stand in a home folder, but there is none; give --file", file=FILE_NAME
    )


def add(
    registry: ModelRegistry, path: Path, name: str, fields: dict[str, object], *, replace: bool, cache_dir: str | None = None
) -> Added:
    """Write an entry into a catalog after checking that the name then resolves to the entry.

    Raises:
        CatalogError: when the file cannot take the entry, the entry is none, or its layer may not have it. The file is left
            as it is.
    """
    found: list[Added] = []

    def change(text: str) -> str:
        new = add_entry(text, name, fields, str(path), replace=replace)
        found.append(_checked(registry, path, name, new))
        return new

    rewrite(path, change, cache_folders(cache_dir)[0] / "locks", trusted=_is_trusted(path))
    return found[-1]


def _checked(registry: ModelRegistry, path: Path, name: str, text: str) -> Added:
    """Read a catalog's new text together with all other layers, as every load does."""
    file = read_catalog(text.removeprefix("\ufeff"), str(path))
    if problem := file.broken.get(name):
        raise problem
    origin = file.entries[name].origin
    sources, is_layer = _with_text(registry, path, text)
    with warnings.catch_warnings():  # of other files and other names
        warnings.simplefilter("ignore", RegistryWarning)
        entry = Catalog(sources).resolve(name)
    above = [source for source in sources[_index(sources, path) + 1 :] if name in read_source(source).entries]
    hidden_by = read_source(above[-1]).entries[name].origin if above else None
    return Added(origin, entry if is_layer else None, hidden_by)


def _with_text(registry: ModelRegistry, path: Path, text: str) -> tuple[list[CatalogSource], bool]:
    """Return the sources of all layers as if `path` had this text, and whether it is the file of a layer."""
    sources = [*registry.families.catalog_sources(), *outer_sources()]
    data = text.encode("utf-8")
    kinds = {kind for kind, place in places() if place == path}
    project = project_source()
    if _index(sources, path) >= 0:
        kind = sources[_index(sources, path)].kind
    elif kinds:
        kind = kinds.pop()
    elif path == Path.cwd() / FILE_NAME and project is None:
        kind = LayerKind.PROJECT
    else:
        return [*sources, CatalogSource(LayerKind.ARGUMENT, str(path), lambda: data)], False
    new = CatalogSource(kind, str(path), lambda: data)
    others = [source for source in sources if source.path != str(path)]
    if len(others) < len(sources):
        return [new if source.path == str(path) else source for source in sources], True
    below = [source for source in others if source.kind <= kind]
    return [*below, new, *others[len(below) :]], True


def _index(sources: list[CatalogSource], path: Path) -> int:
    return next((number for number, source in enumerate(sources) if source.path == str(path)), -1)


def remove(registry: ModelRegistry, path: Path | None, name: str, *, force: bool, cache_dir: str | None = None) -> Removed:
    """Remove a name from a catalog, by default from the highest one outside packages that has it.

    Raises:
        UnknownModel: when no catalog has it.
        CatalogError: when it is the base of another entry, unless `force` is set. The file is not changed.
    """
    sources = [*registry.families.catalog_sources(), *outer_sources()]
    path = path or _holder(registry, sources, name)
    origin = _place_of(name, path)
    kept = [source for source in sources if source.path != str(path)]
    left = next((read_source(source).entries[name].origin for source in reversed(kept) if _knows(source, name)), None)
    if left is None and not force and (users := list(_users(sources, name))):
        shown = ", ".join(f"{user!r} ({place})" for user, place in users)
        raise CatalogError(
            f"model {name!r} is expected to be used by no other entry, but {shown} would be broken; remove or change that "
            "first, or use --force",
            file=origin.file,
            line=origin.line,
            column=origin.column,
        )
    rewrite(
        path, lambda text: remove_entry(text, name, str(path)), cache_folders(cache_dir)[0] / "locks", trusted=_is_trusted(path)
    )
    return Removed(origin, left)


def _is_trusted(path: Path) -> bool:
    """Whether the user or administrator put a catalog in its place, so that it did not come with a cloned project."""
    return str(path) in {*(str(place) for _, place in places()), *(source.path for source in environment_sources())}


def _place_of(name: str, path: Path) -> Origin:
    """Return the place of a name in a file.

    Raises:
        CatalogError: when the file lacks the name or cannot be read.
    """
    file = read_source(CatalogSource(LayerKind.ARGUMENT, str(path), partial(read_limited, path)))
    if name in file.entries:
        return file.entries[name].origin
    if (broken := file.broken.get(name)) is not None:
        return Origin(broken.file, broken.line, broken.column)
    for problem in file.problems:
        raise problem
    raise CatalogError(f"model {name!r} is expected to stand in this file, but does not", file=str(path))


def _knows(source: CatalogSource, name: str) -> bool:
    return name in read_source(source).entries


def _holder(registry: ModelRegistry, sources: list[CatalogSource], name: str) -> Path:
    """Return the highest file outside packages that has a name."""
    for source in reversed(sources):
        file = read_source(source)
        if name not in file.entries and name not in file.broken:
            continue
        if source.distribution:
            raise CatalogError(
                f"model {name!r} is expected to stand in a catalog of yours, but comes with {source.distribution}; "
                "uninstall that, or disable the name in a catalog of yours",
                file=source.path,
                line=file.entries[name].origin.line if name in file.entries else 1,
            )
        return Path(source.path)
    raise registry.catalog.unknown(name)


def _users(sources: list[CatalogSource], name: str) -> Iterator[tuple[str, Origin]]:
    """Yield the names that depend on another name, with their places."""
    for source in sources:
        for other, entry in read_source(source).entries.items():
            for key in ("alias", "base"):
                if other != name and entry.fields.get(key) == name:
                    yield other, entry.origins[key]
