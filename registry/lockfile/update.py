"""What `models.lock` is written from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from registry.base.file_lock import file_lock
from registry.base.files import write_atomically
from registry.base.regular import unfit_target
from registry.catalog.entry import FilePin, ModelEntry
from registry.catalog.layers import CatalogSource, LayerKind, read_source
from registry.errors import CatalogError
from registry.lockfile.changes import Difference, differences
from registry.lockfile.format import LockedFile, LockedModel, LockFile, portable, read_lock, render_lock
from registry.lockfile.hold import registry_version
from registry.store.store import Store
from registry.store.target import StoredFile, Target

__all__ = ["LockResult", "locked_facts", "update_lock"]

#: The layers whose names are locked without being named: what a project says, not what everybody has.
_PROJECT_LAYERS = (LayerKind.PROJECT, LayerKind.ENVIRONMENT, LayerKind.ARGUMENT)


@dataclass(frozen=True, slots=True)
class LockResult:
    """What `ModelRegistry.lock` found."""

    file: Path
    lock: LockFile
    #: What was, or with `check` would be, changed.
    differences: tuple[Difference, ...]


def locked_facts(target: Target, files: Sequence[StoredFile], store: Store, path: Path, plugin: tuple[str, str]) -> LockedModel:
    """Return what a lock file at `path` says of a model with these files."""
    assert target.entry is not None
    entry, place = target.entry, target.place
    locked: dict[str, LockedFile] = {}
    revision = ""
    for file in files:
        pin = place.pins.get(file.name, FilePin())
        url, commit = store.origin(place, file.name)
        digest, size = store.measured(file)
        locked[file.name] = LockedFile(digest, size, portable(url, path.parent), commit if pin.url else "")
        revision = revision or ("" if pin.url else commit)
    return LockedModel(
        family=entry.family,
        source=portable(entry.source, path.parent),
        files=locked,
        revision=revision,
        plugin=plugin[0],
        plugin_version=plugin[1],
    )


def update_lock(
    names: Sequence[str],
    path: Path,
    sources: Sequence[CatalogSource],
    resolve: Callable[[str], ModelEntry | None],
    facts: Callable[[str, Path], LockedModel],
    guard: Path,
    *,
    check: bool,
) -> LockResult:
    """Bring a lock file up to date, and write it unless that is only to be checked.

    Args:
        names: what to lock, and to leave the rest as it is; empty for all that the project names and all that is locked.
        path: of the lock file.
        sources: the catalogs, of which those of the project say what all is.
        resolve: returns what a name means, or None where it means nothing, such as a disabled one.
        facts: fetches a model and returns what a lock file at a path says of it.
        guard: a file to lock while it is written, so that two of these at once do not undo each other's work.
        check: whether nothing is to be written.
    """
    if not check and (why := unfit_target(path)):  # before anything is fetched
        raise CatalogError(f"the lock file is expected to be a file of its project, but {why}", file=str(path))
    old = _maybe_read(path)
    wanted: Iterable[str] = names
    if not names:
        own = (name for source in sources if source.kind in _PROJECT_LAYERS for name in _names(source))
        wanted = [*own, *(name for name in (*old.aliases, *old.models) if resolve(name) is not None)] if old else own
    aliases: dict[str, str] = {}
    models: dict[str, LockedModel] = {}
    for name in sorted(set(wanted)):
        entry = resolve(name)
        if entry is None:
            continue
        if entry.via:
            aliases[name] = entry.name
        if entry.name not in models:
            models[entry.name] = facts(entry.name, path)
    if check:
        return _result(path, old, names, models, aliases)
    with file_lock(guard):
        result = _result(path, _maybe_read(path), names, models, aliases)
        if result.differences or not path.exists():
            _write(path, result.lock)
    return result


def _result(
    path: Path,
    old: LockFile | None,
    names: Sequence[str],
    models: dict[str, LockedModel],
    aliases: dict[str, str],
) -> LockResult:
    if names and old is not None:
        others = {name: target for name, target in old.aliases.items() if name not in models}
        models = {**{name: model for name, model in old.models.items() if name not in aliases}, **models}
        aliases = {**others, **aliases}
        aliases = {name: target for name, target in aliases.items() if target in models}
    new = LockFile(registry_version(), models, aliases, str(path))
    return LockResult(path, new, tuple(differences(old, new)))


def _names(source: CatalogSource) -> Iterable[str]:
    """Return the names that a catalog file says something of, usable or not."""
    file = read_source(source)
    if file.problems:
        raise file.problems[0]
    return [*file.entries, *file.broken]


def _maybe_read(path: Path) -> LockFile | None:
    try:
        return read_lock(path)
    except FileNotFoundError:
        return None


def _write(path: Path, lock: LockFile) -> None:
    try:
        write_atomically(Path(os.path.realpath(path)), render_lock(lock))
    except OSError as error:
        reason = error.strerror or error
        message = f"the lock file is expected to be writable, but is not ({reason}); mend its folder, or name another file"
        raise CatalogError(message, file=str(path)) from error
