"""Names held to the bytes that `models.lock` says."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from registry.base.names import user_path
from registry.base.thread_lock import ForkSafeLock
from registry.catalog.entry import FilePin, ModelEntry
from registry.catalog.layers import project_source
from registry.errors import CatalogError, ConfigError, IntegrityError, UnknownFamily, warn
from registry.families.discovery import DISTRIBUTION

if TYPE_CHECKING:  # where no name is held to a lock, nothing of this is needed
    from registry.families.host import PluginHost
    from registry.lockfile.format import LockedModel, LockFile
    from registry.store.target import Target

__all__ = ["Locking", "held", "lock_mode", "locked_model", "registry_version"]

_MODES: dict[str, Literal["off", "on", "exact"]] = {
    **dict.fromkeys(("", "0", "false", "no", "off"), "off"),
    **dict.fromkeys(("1", "true", "yes", "on"), "on"),
    "exact": "exact",
}


def lock_mode(locked: bool | str | None) -> Literal["off", "on", "exact"]:
    """Return how names are held to the lock file: by argument, else by `REGISTRY_LOCKED`.

    Raises:
        ConfigError: when it says neither yes, no nor `exact`.
    """
    if isinstance(locked, bool):
        return "on" if locked else "off"
    text = os.environ.get("REGISTRY_LOCKED", "") if locked is None else locked
    if not isinstance(text, str) or (mode := _MODES.get(text.strip().lower())) is None:
        if locked is not None:
            raise ConfigError(f"locked is expected to be true, false or 'exact', but is {text!r}")
        raise ConfigError(
            f"REGISTRY_LOCKED is expected to be 1, true, yes or on, or 0, false, no or off, or exact, but is {text!r}; "
            "correct or unset it"
        )
    return mode


class Locking:
    """The lock file of one registry, read again when it has changed."""

    def __init__(self, families: PluginHost, file: Path | None = None) -> None:
        """Set up for the plugins that versions are asked of, and for the lock file where it is known already."""
        self._families = families
        #: Where it stands, or None where there is none, in a tuple; None where the environment is to tell.
        self._frozen: tuple[Path | None] | None = (file,) if file else None
        self._lock = ForkSafeLock()
        self._read: tuple[object, LockFile] | None = None
        self._told: set[tuple[object, str]] = set()

    # -- where it stands -----------------------------------------------------------------------------------------------

    def maybe_path(self) -> Path | None:
        """Return where the lock file stands or will stand: `REGISTRY_LOCK_FILE`, else beside the project's models.yaml."""
        if self._frozen is not None:
            return self._frozen[0]
        if file := os.environ.get("REGISTRY_LOCK_FILE"):
            return user_path(file).absolute()
        from registry.lockfile.format import LOCK_NAME

        project = project_source()
        return Path(project.path).with_name(LOCK_NAME) if project else None

    def freeze(self, path: Path | None) -> None:
        """Look for the lock file nowhere but at `path`, whatever the working folder becomes."""
        self._frozen = (path,)

    def path(self) -> Path:
        """Return where the lock file stands.

        Raises:
            ConfigError: when nothing tells.
        """
        if (path := self.maybe_path()) is None:
            from registry.lockfile.format import LOCK_NAME

            raise ConfigError(
                f"{LOCK_NAME} is expected to stand beside the project's models.yaml, but there is none from the working folder "
                "upward; set REGISTRY_LOCK_FILE, or name the file with `registry lock --file`"
            )
        return path

    def read(self, path: Path) -> LockFile:
        """Return the lock file.

        Raises:
            CatalogError: when there is none, or it is damaged.
        """
        from registry.lockfile.format import read_lock

        with self._lock:
            try:
                status = path.stat()
                now = path, status.st_size, status.st_mtime_ns, status.st_ino
                if self._read is None or self._read[0] != now:
                    self._read = now, read_lock(path)
                return self._read[1]
            except FileNotFoundError:
                message = "the lock file is expected to exist, but does not; run `registry lock` and commit what it writes"
                raise CatalogError(message, file=str(path)) from None
            except OSError as error:
                message = f"the lock file is expected to be readable, but is not ({error.strerror or error})"
                raise CatalogError(message, file=str(path)) from error

    # -- holding a name to it ------------------------------------------------------------------------------------------

    def hold(self, target: Target, locked: bool | str | None) -> Target:
        """Return a target held to the lock file; as it is where that is not asked for.

        A path that is not a name is refused with the argument; with `REGISTRY_LOCKED` it is the caller's own file and is
        used, and a URL is refused with both.

        Raises:
            CatalogError: when the name is not locked, is another model now, or, with `exact`, other versions are installed.
            UnknownFamily: when the locked plugin is not installed.
            ConfigError: when what is asked for is no name.
            IntegrityError: when the catalog pins other bytes.
        """
        if (mode := lock_mode(locked)) == "off":
            return target
        from registry.base.urls import is_url

        if target.entry is None:
            if locked is None and not is_url(target.place.sources[0]):
                return target
            raise ConfigError(
                f"a locked model is expected to be a name of the catalog, but is {target.label!r}; only names are locked: add "
                "it to models.yaml and run `registry lock`, or load it with locked=False"
            )
        lock = self.read(self.path())
        model = locked_model(lock, target.entry)
        if model.plugin and model.family not in self._families.names():
            raise UnknownFamily(
                f"family {model.family!r} of model {target.entry.name!r} is expected to come from the locked {model.plugin} "
                f"{model.plugin_version}, but no installed plugin provides it; "
                f"pip install {model.plugin}=={model.plugin_version}",
                family=model.family,
                known=self._families.names(),
            )
        for difference in self._other_versions(lock, model, target.entry):
            self._tell(difference, lock, model, mode)
        return held(target, model, lock)

    def refuse_path(self, name: str, locked: bool | str | None) -> None:
        """Refuse to take a word for a path when it is a locked name, which a catalog that is broken or gone does not have.

        Raises:
            CatalogError: when it is, or the lock file is damaged.
        """
        if lock_mode(locked) == "off" or (path := self.maybe_path()) is None or not path.exists():
            return
        lock = self.read(path)
        if (model := lock.models.get(lock.aliases.get(name, name))) is None:
            return
        otherwise = f"write './{name}' for the path" if locked is None else f"load './{name}' with locked=False for the path"
        raise CatalogError(
            f"model {name!r} is expected to be one of a catalog, as it is locked, but no catalog has it; mend models.yaml, or "
            f"{otherwise}",
            file=lock.path,
            line=model.line,
        )

    def _tell(self, difference: str, lock: LockFile, model: LockedModel, mode: str) -> None:
        """Refuse what is not as locked beside bytes when all of it is to be; else warn of it once."""
        if mode == "exact":
            raise CatalogError(difference, file=lock.path, line=model.line)
        with self._lock:
            read = self._read and self._read[0]
            new = (read, difference) not in self._told
            self._told.add((read, difference))
        if new:
            warn(f"{lock.path}:{model.line}: {difference}")

    def _other_versions(self, lock: LockFile, model: LockedModel, entry: ModelEntry) -> Iterable[str]:
        """Yield what is not as locked, but leaves the bytes as they are."""
        from registry.lockfile.format import portable

        here = registry_version()
        if lock.registry != here:
            yield (
                f"{DISTRIBUTION} is expected to be the locked version {lock.registry}, but is {here}; install that one, or run "
                "`registry lock`"
            )
        plugin, installed = self.plugin(model.family)
        told = plugin == model.plugin == DISTRIBUTION and model.plugin_version == lock.registry
        if (model.plugin, model.plugin_version) != (plugin, installed) and not told:
            was = f"{model.plugin} {model.plugin_version}".strip() or "registered in the process"
            now = f"{plugin} {installed}".strip() or "registered in the process"
            yield (
                f"plugin of family {model.family!r} is expected to be the locked {was}, but is {now}; install that one, or run "
                f"`registry lock {entry.name}`"
            )
        source = portable(entry.source, Path(lock.path).parent)
        if source != model.source:
            yield (
                f"source of model {entry.name!r} is expected to be the locked {model.source}, but is {source} "
                f"({entry.origins['source']}); the locked files are used. If the new one is meant, "
                f"run `registry lock {entry.name}`"
            )

    def plugin(self, family: str) -> tuple[str, str]:
        """Return distribution and version of a family's plugin; empty for one that is registered in the process."""
        points = self._families.entry_points().get(family)
        return (points[0].distribution, points[0].version) if points else ("", "")


def registry_version() -> str:
    """Return the installed version of this library."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:  # a source tree that is on the path without being installed
        return "unknown"


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
    return replace(target, place=replace(place, pins=pins, lock=lock.path, commits=commits))


def _is_source(entry: ModelEntry, model: LockedModel, lock: LockFile) -> bool:
    from registry.lockfile.format import portable

    return portable(entry.source, Path(lock.path).parent) == model.source
