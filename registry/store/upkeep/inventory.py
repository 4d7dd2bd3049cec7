"""What lies in a cache: its blobs, folders, unfinished and useless files. Only names, times and records are looked at.

Nothing here writes. Other processes come and go meanwhile, so whatever vanishes while it is looked at is left out.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry.base.files import OWNED, OwnerState, owner_state
from registry.catalog.providers import ENDING
from registry.catalog.shelf import FOLDER as CATALOGS
from registry.catalog.shelf import SUFFIX
from registry.store.cache import VERSION, Cache, read_json, ref_of, stamp_path
from registry.store.partial import JOURNAL

__all__ = [
    "Blob",
    "CacheContents",
    "CachedFile",
    "CachedModel",
    "Folder",
    "Inventory",
    "PartialDownload",
    "Private",
    "Seen",
    "contents",
    "is_broken",
    "take_inventory",
    "tree",
]


_DIGEST = re.compile(r"[0-9a-f]{64}")

#: Bytes are put away under the hash that they should have: a sha256, or a sha1 of git's.
_PUT_AWAY = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")

#: `conventional_folder` names a folder by its model and a hash of what is in it.
_FOLDER = re.compile(r".+-[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Seen:
    """One file as it was seen."""

    path: Path
    stat: os.stat_result

    @property
    def inode(self) -> tuple[int, int]:
        """What hard links have in common."""
        return self.stat.st_dev, self.stat.st_ino

    @property
    def used(self) -> int:
        """When it was last read or written, as far as the file system notes it, in nanoseconds."""
        return max(self.stat.st_atime_ns, self.stat.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob and what its stamp says of it; `stamp` is None when there is no usable one."""

    digest: str
    file: Seen
    stamp: Mapping[str, Any] | None
    #: When the stamp was written: when the blob was brought, or last found right.
    stamped: int

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.file.path

    @property
    def verified(self) -> bool:
        """Whether the stamp fits, which is what a hit asks."""
        said = (self.stamp.get("size"), self.stamp.get("mtime_ns")) if self.stamp else None
        return said == (self.file.stat.st_size, self.file.stat.st_mtime_ns)

    @property
    def used(self) -> int:
        """When it was last used, in nanoseconds. One that was taken over from another program is new here, however old."""
        return max(self.file.used, self.stamped)

    def said(self, key: str) -> str:
        """Return what the stamp says under `key`, or nothing."""
        value = self.stamp.get(key) if self.stamp else None
        return value if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder with conventional names, or the content of an archive; `files` is name to digest, as its manifest says."""

    path: Path
    #: None for an archive's content of which nothing says what it holds; it is unpacked anew at its next use.
    manifest: Path | None
    model: str
    files: Mapping[str, str]
    found: tuple[Seen, ...]

    @property
    def is_unpacked(self) -> bool:
        """Whether it is the content of an archive, whose digest is its name."""
        return self.path.parent.name == "unpacked"

    @property
    def digests(self) -> frozenset[str]:
        """The blobs that belong to it."""
        return frozenset([self.path.name]) if self.is_unpacked else frozenset(self.files.values())

    @property
    def used(self) -> int:
        """When one of its files was last used, in nanoseconds."""
        return max((file.used for file in self.found), default=0)


@dataclass(frozen=True, slots=True)
class Private:
    """A file or folder that one process is making, or has left; `files` is all of it."""

    path: Path
    files: tuple[Seen, ...]
    #: When something of it was last written, in nanoseconds.
    changed: int

    @property
    def owner(self) -> OwnerState:
        """What is known of its maker, now."""
        return owner_state(self.path.name)

    @property
    def is_partial(self) -> bool:
        """Whether it is a file that is being brought."""
        return self.path.name.endswith((".partial", JOURNAL))


@dataclass(slots=True)
class Inventory:
    """All that the library itself has put into one cache folder."""

    root: Path
    blobs: dict[str, Blob] = field(default_factory=dict)
    folders: list[Folder] = field(default_factory=list)
    #: Folders of which no manifest says what they hold.
    unknown: list[Private] = field(default_factory=list)
    private: list[Private] = field(default_factory=list)
    quarantine: list[Seen] = field(default_factory=list)
    #: Stamps without a blob, by the blob's digest; manifests without a folder; and records that nobody can read.
    stamps: dict[str, Path] = field(default_factory=dict)
    manifests: list[Path] = field(default_factory=list)
    broken: list[Path] = field(default_factory=list)
    locks: list[Path] = field(default_factory=list)
    #: Catalogs in the form in which names are looked up, and what they brought once; as records, none of a model's bytes.
    catalogs: list[Path] = field(default_factory=list)

    def refs(self) -> Iterator[tuple[Path, dict[str, Any] | None]]:
        """Yield every record of a URL; None where this version cannot read it."""
        for folder in _entries(self.root / "refs"):
            for entry in _entries(folder.path):
                if entry.name.endswith(".json") and not OWNED.search(entry.name):
                    data = read_json(path := Path(entry.path))
                    yield path, data if data is not None and ref_of("", data) else None

    def labels(self) -> dict[str, set[str]]:
        """Return the digests of each model, by what people call it; one blob may be of several."""
        labels: dict[str, set[str]] = {}
        for folder in self.folders:
            labels.setdefault(self.label_of(folder), set()).update(folder.digests)
        held = {digest for digests in labels.values() for digest in digests}
        for digest, blob in self.blobs.items():
            if blob.said("model") or digest not in held:
                labels.setdefault(blob.said("model"), set()).add(digest)
        return labels

    def label_of(self, folder: Folder) -> str:
        """Return the model of a folder; that of an archive's content is what the archive's stamp says."""
        blob = self.blobs.get(folder.path.name)
        return blob.said("model") if folder.is_unpacked and blob is not None else folder.model

    def sizes(self) -> dict[tuple[int, int], tuple[int, int]]:
        """Return bytes and number of links here for each inode, of all but records; hard links are one."""
        sizes: dict[tuple[int, int], tuple[int, int]] = {}
        kept = [*self.quarantine, *(blob.file for blob in self.blobs.values())]
        kept += [file for folder in self.folders for file in folder.found]
        kept += [file for item in (*self.private, *self.unknown) for file in item.files]
        for file in kept:
            sizes[file.inode] = (file.stat.st_size, sizes.get(file.inode, (0, 0))[1] + 1)
        return sizes


def take_inventory(cache: Cache) -> Inventory:
    """Look at everything in the cache's own folder; tiers are not looked at."""
    inventory = Inventory(cache.root)
    for folder in _entries(cache.root / "blobs" / "sha256"):
        _blobs(inventory, cache, Path(folder.path))
    _folders(inventory)
    for entry in _entries(cache.root / "unpacked"):
        path = Path(entry.path)
        if _DIGEST.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
            said = _manifest(read_json(manifest := path.with_name(f"{path.name}.json")))
            inventory.folders.append(Folder(path, manifest if said else None, *(said or ("", {})), tuple(tree(path))))
        elif _is_private(entry):
            inventory.private.append(_private(path))
        elif _DIGEST.fullmatch(entry.name.removesuffix(".json")) and not path.with_suffix("").is_dir():
            inventory.manifests.append(path)
    for entry in _entries(cache.root / "quarantine"):
        if _PUT_AWAY.fullmatch(entry.name) and (seen := _seen(Path(entry.path))):
            inventory.quarantine.append(seen)
    for entry in _entries(cache.root / CATALOGS):
        if entry.name.endswith((SUFFIX, ENDING)):
            inventory.catalogs.append(Path(entry.path))
        elif _is_private(entry):
            inventory.private.append(_private(Path(entry.path)))
    others: list[str | Path] = [
        *(folder.path for folder in _entries(cache.root / "refs")),
        cache.root,
        cache.root / "quarantine",
        cache.root / "locks",
    ]
    for entry in (entry for folder in others for entry in _entries(folder, is_root=folder == cache.root)):
        if OWNED.search(entry.name) and _is_private(entry):
            inventory.private.append(_private(Path(entry.path)))
    inventory.locks = [Path(entry.path) for entry in _entries(cache.root / "locks") if entry.name.endswith(".lock")]
    # A record of this version that can be read, and of which a value cannot be right, is broken too.
    unusable = (path for path, data in inventory.refs() if data is None)
    inventory.broken += [path for path in unusable if is_broken(path) or read_json(path) is not None]
    return inventory


def is_broken(path: Path) -> bool:
    """Whether a record is none of this version and none of a newer one either, which may share this cache."""
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return True
    except OSError:  # gone, or not ours to read
        return False
    version = data.get("version") if isinstance(data, dict) else None
    return type(version) is not int or version < VERSION


def tree(folder: Path) -> Iterator[Seen]:
    """Yield every file below a folder."""
    return (seen for seen in _walk(folder) if not stat.S_ISDIR(seen.stat.st_mode))


def _blobs(inventory: Inventory, cache: Cache, folder: Path) -> None:
    entries = {entry.name: entry for entry in _entries(folder)}
    for name, entry in entries.items():
        digest, stamp = name.removesuffix(".json"), stamp_path(cache.blob(name))
        if _DIGEST.fullmatch(name):
            if (seen := _seen(cache.blob(name))) is not None:
                written = _seen(stamp)
                inventory.blobs[name] = Blob(name, seen, read_json(stamp), written.stat.st_mtime_ns if written else 0)
        elif _DIGEST.fullmatch(digest):
            path = folder / name
            if not cache.blob(digest).exists():
                inventory.stamps[digest] = path
            elif read_json(path) is None and is_broken(path):
                inventory.broken.append(path)
        elif _is_private(entry):
            inventory.private.append(_private(Path(entry.path)))


def _folders(inventory: Inventory) -> None:
    entries = {entry.name: entry for entry in _entries(inventory.root / "folders")}
    for name, entry in entries.items():
        path = Path(entry.path)
        if _is_private(entry):
            inventory.private.append(_private(path))
        elif entry.is_dir(follow_symlinks=False) and _FOLDER.fullmatch(name):
            manifest = path.with_name(f"{name}.json")
            data = read_json(manifest)
            said = _manifest(data)
            if data is None and f"{name}.json" in entries and not is_broken(manifest):
                said = "", {}  # of a newer version, which knows what it holds
            if said is None:
                inventory.unknown.append(_private(path))
            else:
                inventory.folders.append(Folder(path, manifest, *said, tuple(tree(path))))
        elif _FOLDER.fullmatch(name.removesuffix(".json")) and name.endswith(".json"):
            if not path.with_suffix("").is_dir():
                inventory.manifests.append(path)
            elif is_broken(path) or ((data := read_json(path)) is not None and _manifest(data) is None):
                inventory.broken.append(path)


def _manifest(data: Mapping[str, Any] | None) -> tuple[str, dict[str, str]] | None:
    """Return the model and the digests by name that a manifest says, or None when it cannot be right."""
    if data is None:
        return None
    model, files = data.get("model"), data.get("files")
    if not isinstance(model, str) or not isinstance(files, dict):
        return None
    if not all(isinstance(digest, str) and _DIGEST.fullmatch(digest) for digest in files.values()):
        return None
    # A name that leads out of the folder was not written by us.
    if any(name.startswith("/") or ".." in name.split("/") for name in files):
        return None
    return model, files


def _is_private(entry: os.DirEntry[str]) -> bool:
    if entry.is_dir(follow_symlinks=False):
        return entry.name.startswith(".")
    return entry.name.endswith((".partial", f".partial{JOURNAL}", ".tmp"))


def _private(path: Path) -> Private:
    everything = [seen for seen in [_seen(path)] if seen]
    everything += _walk(path)
    files = tuple(seen for seen in everything if not stat.S_ISDIR(seen.stat.st_mode))
    return Private(path, files, max((seen.stat.st_mtime_ns for seen in everything), default=0))


def _walk(folder: Path) -> Iterator[Seen]:
    for entry in _entries(folder):
        if (seen := _seen(Path(entry.path))) is not None:
            yield seen
            if stat.S_ISDIR(seen.stat.st_mode):
                yield from _walk(seen.path)


def _seen(path: Path) -> Seen | None:
    try:
        return Seen(path, path.lstat())
    except OSError:
        return None


def _entries(folder: Path | str, *, is_root: bool = False) -> list[os.DirEntry[str]]:
    """Return what is in a folder, in order; nothing where there is none, or where it may not be read.

    A link in its place is not followed, unless the cache itself is one.
    """
    try:
        if not is_root and Path(folder).is_symlink():
            return []
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


@dataclass(frozen=True, slots=True)
class CachedFile:
    """One file of a model. It is `verified` when its bytes were hashed, and neither size nor time changed since."""

    name: str
    sha256: str
    size: int
    verified: bool
    #: Seconds since 1970, as far as the file system notes it (many note a reading only once a day).
    last_used: float


@dataclass(frozen=True, slots=True)
class CachedModel:
    """The files of one model, by what people call it: a name, or a URL without its secrets; "" where that is not known."""

    label: str
    files: tuple[CachedFile, ...]
    #: Folders under which other programs find the files.
    folders: tuple[Path, ...]
    #: Bytes on the disk: hard links count once, copies each. What models share is counted for each of them.
    size: int
    last_used: float


@dataclass(frozen=True, slots=True)
class PartialDownload:
    """A file that is being brought, or of which bringing stopped."""

    path: Path
    size: int
    owner: OwnerState


@dataclass(frozen=True, slots=True)
class CacheContents:
    """One folder of a cache."""

    root: Path
    models: tuple[CachedModel, ...]
    partials: tuple[PartialDownload, ...]
    #: Files that were to have the hash that is their name, and have not.
    quarantine: tuple[Path, ...]
    #: Bytes on the disk of all this; hard links and what models share count once.
    size: int


def contents(cache: Cache) -> CacheContents:
    """Return what the cache's own folder holds, models in order of their labels; nothing is read but names and records."""
    inventory = take_inventory(cache)
    partials = [item for item in inventory.private if item.path.name.endswith(".partial")]
    return CacheContents(
        root=cache.root,
        models=tuple(_model(inventory, label, digests) for label, digests in sorted(inventory.labels().items())),
        partials=tuple(
            PartialDownload(item.path, sum(file.stat.st_size for file in item.files), item.owner) for item in partials
        ),
        quarantine=tuple(file.path for file in inventory.quarantine),
        size=sum(size for size, _ in inventory.sizes().values()),
    )


def _model(inventory: Inventory, label: str, digests: set[str]) -> CachedModel:
    folders = [folder for folder in inventory.folders if inventory.label_of(folder) == label]
    blobs = [inventory.blobs[digest] for digest in digests if digest in inventory.blobs]
    names = {(name, digest) for folder in folders for name, digest in folder.files.items()}
    named = {digest for _, digest in names}
    names |= {(blob.said("name"), blob.digest) for blob in blobs if blob.digest not in named}
    files = []
    for name, digest in sorted(names):
        blob = inventory.blobs.get(digest)
        here = [file for folder in folders for file in folder.found if file.path == folder.path / name]
        seen = [*([blob.file] if blob else []), *here]
        if seen:
            used = max(*(file.used for file in seen), blob.used if blob else 0)
            files.append(CachedFile(name, digest, seen[0].stat.st_size, blob is not None and blob.verified, used / 1e9))
    found = [*(blob.file for blob in blobs), *(file for folder in folders for file in folder.found)]
    return CachedModel(
        label=label,
        files=tuple(files),
        folders=tuple(folder.path for folder in folders),
        size=sum({file.inode: file.stat.st_size for file in found}.values()),
        last_used=max((*(file.used for file in found), *(blob.used for blob in blobs)), default=0) / 1e9,
    )
