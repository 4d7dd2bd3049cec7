"""What a cache holds, for people: models and their files, and what is no model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from registry.store.cache import Cache
from registry.store.inventory import Inventory, take_inventory
from registry.store.owner import OwnerState

__all__ = ["CacheContents", "CachedFile", "CachedModel", "PartialDownload", "contents"]


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
