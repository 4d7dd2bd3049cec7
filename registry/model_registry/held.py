"""A name held to what the lock file says of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from registry.catalog.entry import FilePin, ModelEntry
from registry.catalog.lock_file import LockedModel, LockFile
from registry.errors import CatalogError, IntegrityError
from registry.store.locked import portable
from registry.store.place import Place
from registry.store.target import Target

__all__ = ["held", "locked_model"]


def locked_model(lock: LockFile, entry: ModelEntry) -> LockedModel:
    """Return what is locked of the name that was asked for.

    Raises:
        CatalogError: when it is nothing, or of another model or family.
    """
    asked = entry.via[0] if entry.via else entry.name
    meant = lock.aliases.get(asked, asked)
    if meant not in lock.models:
        raise CatalogError(
            f"model {asked!r} is expected to be locked, but is not; run `registry lock {asked}` and commit what it writes",
            file=lock.path,
        )
    model = lock.models[meant]
    what = None
    if meant != entry.name or (entry.via and asked not in lock.aliases):
        what = f"model {asked!r} is expected to be the locked {meant!r}, but is {entry.name!r} in the catalog"
        place = entry.origins["alias"] if entry.via else entry.origins["source"]
    elif model.family != entry.family:
        what = (
            f"family of model {asked!r} is expected to be the locked {model.family!r}, but is {entry.family!r} in the catalog"
        )
        place = entry.origins["family"]
    if what is not None:
        raise CatalogError(f"{what} ({place}); change it back, or run `registry lock {asked}`", file=lock.path, line=model.line)
    return model


def held(target: Target, model: LockedModel, lock: LockFile) -> Target:
    """Return the target with the pins of the lock, and moving revisions at the locked commits."""
    assert target.entry is not None
    place = target.place
    # What the catalog says of files in an archive is still held against them.
    pins = dict(place.pins) if target.archive is not None else {}
    commits = {place.sources[0]: model.revision} if model.revision and _is_source(target.entry, model, lock) else {}
    for name, file in model.files.items():
        pin = place.pins.get(name, FilePin())
        for what, said, locked in (("sha256", pin.sha256, file.sha256), ("size", pin.size, file.size)):
            if said is not None and said != locked:
                origin = target.entry.origins.get(f"files.{name}") or target.entry.origins["source"]
                raise IntegrityError(
                    f"{what} of {name} of model {target.entry.name!r} is expected to be the locked {locked} "
                    f"({lock.path}:{file.line}), but is pinned as {said} ({origin}); nothing is fetched. If the pin is right, "
                    f"run `registry lock {target.entry.name}` and commit the difference",
                    url=file.url,
                    expected=str(locked),
                    actual=str(said),
                )
        if pin.url and file.revision:
            commits[pin.url] = file.revision
        pins[name] = FilePin(file.sha256, file.size, pin.url)
    return replace(target, place=Place(place.sources, pins, place.label, lock.path, commits))


def _is_source(entry: ModelEntry, model: LockedModel, lock: LockFile) -> bool:
    return portable(entry.source, Path(lock.path).parent) == model.source
