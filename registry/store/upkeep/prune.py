"""What keeps a cache in order: forget a model, and prune.

Both work on the cache's own folder only, and while other processes fetch and load: a reader keeps the files that it has
open or mapped, or finds that they are gone and fetches them anew.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from registry.base.files import OwnerState, owner_token
from registry.catalog.shelf import is_stale
from registry.errors import CacheError
from registry.store.cache import Cache, cache_error
from registry.store.partial import JOURNAL
from registry.store.upkeep.inventory import Blob, Folder, Inventory, Private, take_inventory
from registry.store.upkeep.removal import Removal, Removed

__all__ = ["Pruned", "prune", "remove"]

_SECOND = 10**9
#: After so long without a change, what a process left is nobody's, where this machine cannot see that process.
_IDLE = 24 * 3600 * _SECOND


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed from a cache, or would be."""

    removed: tuple[Removed, ...]
    #: Bytes that the disk got back; those of a file to which another program has a hard link are not among them.
    freed: int
    #: Bytes that the cache still holds; hard links count once.
    left: int
    #: What could not be removed.
    failed: tuple[Path, ...] = ()


def remove(cache: Cache, labels: Collection[str] = (), digests: Collection[str] = (), urls: Collection[str] = ()) -> Pruned:
    """Remove models: their blobs, folders, and what is known of their URLs.

    Blobs that another model holds as well stay: those in its folders, and those that were brought for it, unless all that
    was is being removed here, for then it is the same model by another name.

    Args:
        cache: whose first folder is changed.
        labels: what people call the models: names, or URLs without their secrets.
        digests: further blobs.
        urls: of which it is forgotten, too, that there is no file, or what their revision was.
    """
    inventory, removal = take_inventory(cache), Removal()
    known = inventory.labels()
    wanted = {*digests, *(digest for label in labels for digest in known.get(label, ()))}
    kept = {digest for label, held in known.items() if label and label not in labels and not held <= wanted for digest in held}
    gone = []
    for folder in inventory.folders:
        if (label := inventory.label_of(folder)) in labels or (folder.is_unpacked and folder.path.name in wanted - kept):
            removal.folder(folder, label)
            gone.append(folder)
    kept |= {digest for folder in inventory.folders if folder not in gone for digest in folder.digests}
    for digest in sorted(wanted - kept):
        if (blob := inventory.blobs.get(digest)) is not None:
            removal.blob(blob)
        elif (stamp := inventory.stamps.get(digest)) is not None:
            removal.file("record", stamp)
    named = {cache.ref_path(url) for url in urls}
    for path, said in inventory.refs():
        if said is not None and (said.get("sha256") in wanted - kept or (path in named and not said.get("sha256"))):
            removal.file("record", path)
    return _report(cache, removal)


def prune(cache: Cache, max_size: int | None = None, older_than: float | None = None, *, dry_run: bool = False) -> Pruned:
    """Remove what is of no use from a cache, and what was not used for long when that is asked for.

    Always goes what dead processes left, also downloads that could be resumed; what nobody wrote to for a day where its
    process cannot be seen from here, or where nothing says what it is; quarantine; records that nobody can read, or without
    what they are about; packed catalogs of which the text is gone or another; locks that nobody holds. What a newer version
    of this library wrote stays.

    A folder is used when one of its files is; a blob when it or a folder that holds it is. A folder stays when only its blobs
    are gone: it works without them, and they may be in a tier. What a URL was trusted for on first use is kept, so that it is
    held to the same bytes when it is fetched again.

    The time is that of the cache's own file system, on which the times of its files were noted. A time in the future counts
    as now.

    Args:
        cache: whose first folder is changed.
        max_size: bytes that may stay; the least recently used goes first.
        older_than: seconds; what was not used for longer goes.
        dry_run: only report, also on a cache that cannot be written; nothing is removed.

    Raises:
        CacheError: when the cache cannot be written.
    """
    if not cache.root.is_dir():
        return Pruned((), 0, 0)
    try:
        now = _file_system_time(cache.root)
    except CacheError:
        if not dry_run:
            raise
        now = time.time_ns()
    inventory, removal = take_inventory(cache), Removal(dry_run)
    _remove_useless(inventory, removal, now)
    evicted = _evict(inventory, removal, now, max_size, None if older_than is None else int(older_than * _SECOND))
    for path, said in inventory.refs():
        if said is not None and said.get("sha256") in evicted and said.get("trust") != "first-use":
            removal.file("record", path)
    _remove_locks(inventory, removal)
    return _report(cache, removal)


def _report(cache: Cache, removal: Removal) -> Pruned:
    sizes = take_inventory(cache).sizes()
    left = sum(size for size, _ in sizes.values()) - (removal.of(sizes) if removal.dry_run else 0)
    return Pruned(tuple(removal.removed), removal.freed, left, tuple(removal.failed))


def _remove_useless(inventory: Inventory, removal: Removal, now: int) -> None:
    # A download's bytes and its journal go or stay together.
    changed: dict[str, int] = {}
    for item in inventory.private:
        key = item.path.name.removesuffix(JOURNAL)
        changed[key] = max(item.changed, changed.get(key, item.changed))

    def is_left(item: Private) -> bool:
        state = item.owner
        return state is OwnerState.DEAD or (
            state is OwnerState.UNKNOWN and now - changed[item.path.name.removesuffix(JOURNAL)] > _IDLE
        )

    def is_nothing(folder: Private) -> bool:
        # One that is being built gets its manifest last. The files of one that is in use are read.
        return now - max((folder.changed, *(file.used for file in folder.files))) > _IDLE

    gone = [i for i in inventory.private if is_left(i) and removal.private(i, "partial" if i.is_partial else "temporary")]
    gone += [folder for folder in inventory.unknown if is_nothing(folder) and removal.private(folder, "folder")]
    inventory.private = [item for item in inventory.private if item not in gone]
    inventory.unknown = [folder for folder in inventory.unknown if folder not in gone]
    inventory.quarantine = [file for file in inventory.quarantine if not removal.file("quarantine", file.path)]
    stale = (path for path in inventory.catalogs if is_stale(path))
    for path in (*inventory.stamps.values(), *inventory.manifests, *inventory.broken, *stale):
        removal.file("record", path)


def _evict(inventory: Inventory, removal: Removal, now: int, max_size: int | None, age: int | None) -> set[str]:
    """Remove the least recently used as long as it is too old, or too much; return the digests of the blobs that went."""
    sizes = inventory.sizes()
    total = sum(size for size, _ in sizes.values())
    holders = {digest: [folder for folder in inventory.folders if digest in folder.digests] for digest in inventory.blobs}

    used: dict[Path, int] = {}
    for folder in inventory.folders:
        blobs = (inventory.blobs[digest].used for digest in folder.digests if digest in inventory.blobs)
        used[folder.path] = min(now, max(folder.used, *blobs, 0))
    for blob in inventory.blobs.values():
        used[blob.path] = min(now, max(blob.used, *(used[folder.path] for folder in holders[blob.digest]), 0))

    evicted = set()
    # A blob is never older than a folder that holds it, and the sort keeps the order of equals: folders come first.
    items: list[Blob | Folder] = [*inventory.folders, *inventory.blobs.values()]
    for item in sorted(items, key=lambda item: used[item.path]):
        too_old = age is not None and now - used[item.path] > age
        if not too_old and (max_size is None or total <= max_size):
            continue
        if isinstance(item, Folder):
            went = removal.folder(item, inventory.label_of(item))
            for digest in item.digests & holders.keys() if went else ():
                holders[digest].remove(item)
        else:
            went = not holders[item.digest] and removal.blob(item)
            evicted |= {item.digest} if went else set()
        for file in (item.found if isinstance(item, Folder) else [item.file]) if went else ():
            size, links = sizes[file.inode]
            sizes[file.inode] = size, links - 1
            total -= size if links == 1 else 0
    return evicted


def _remove_locks(inventory: Inventory, removal: Removal) -> None:
    """Remove the lock files that nobody holds; who waits for one meanwhile finds that it has no name, and makes a new one."""
    from filelock import FileLock, Timeout

    for path in inventory.locks:
        lock = FileLock(path, blocking=False, mode=0o666, fallback_to_soft=False)
        try:
            with lock:
                removal.file("lock", path)
        except (Timeout, OSError):  # it is held, or cannot be locked here
            continue


def _file_system_time(root: Path) -> int:
    """Return what the file system of a folder takes for now, in nanoseconds; this machine's clock may be another.

    Raises:
        CacheError: when it cannot be written.
    """
    probe = root / f".now.{owner_token()}.tmp"
    try:
        probe.touch()
        return probe.stat().st_mtime_ns
    except OSError as error:
        raise cache_error(probe, error) from error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
