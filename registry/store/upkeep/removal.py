"""Take files and folders out of a cache that other processes use.

Nothing is ever truncated or written to, since it may be mapped; a folder first gets a private name, so that nobody meets
half of it. What is gone already is no error.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from registry.base.files import owner_token
from registry.base.logs import lazy_logger
from registry.store.cache import stamp_path
from registry.store.upkeep.inventory import Blob, Folder, Private, Seen

__all__ = ["Removal", "Removed", "remove_folder"]

logger = lazy_logger(__name__)


@dataclass(frozen=True, slots=True)
class Removed:
    """One thing that was, or would be, removed; `size` is what stood in it, whether or not that was freed."""

    kind: str
    path: Path
    size: int = 0
    #: The model that it was of, where that is known.
    model: str = ""


@dataclass
class Removal:
    """Removes, or only notes what it would; what cannot be removed is warned of and left."""

    dry_run: bool = False
    removed: list[Removed] = field(default_factory=list)
    #: What could not be removed.
    failed: list[Path] = field(default_factory=list)
    _links: dict[tuple[int, int], tuple[int, int, set[Path]]] = field(default_factory=dict)

    @property
    def freed(self) -> int:
        """Bytes that the disk has got back: those of files of which the last hard link went. Records are not counted."""
        return sum(size for size, links, paths in self._links.values() if len(paths) >= links)

    def of(self, sizes: Mapping[tuple[int, int], tuple[int, int]]) -> int:
        """Return how many of these bytes (size and number of links by inode) have no link left."""
        return sum(
            size for inode, (size, links) in sizes.items() if inode in self._links and len(self._links[inode][2]) >= links
        )

    def file(self, kind: str, path: Path, model: str = "", *, seen: Seen | None = None) -> bool:
        """Remove a file; one that took the place of `seen` stays. Return whether it went."""
        try:
            found = Seen(path, path.lstat())
            if seen is not None and found.inode != seen.inode:
                return False
            if not self.dry_run:
                path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            self._warn(path, error)
            return False
        if kind not in ("record", "lock"):
            self._count(found)
        self.removed.append(Removed(kind, path, found.stat.st_size, model))
        return True

    def blob(self, blob: Blob, model: str = "") -> bool:
        """Remove a blob and its stamp; return whether it went."""
        path = blob.path
        if not self.file("blob", path, model or blob.said("model"), seen=blob.file):
            return False
        if not self.dry_run and not path.exists():  # else another process has just brought it anew
            with contextlib.suppress(OSError):
                stamp_path(path).unlink()
        return True

    def folder(self, folder: Folder, model: str = "") -> bool:
        """Remove a folder and its manifest; return whether it went."""
        kind = "unpacked" if folder.is_unpacked else "folder"
        return self._tree(kind, folder.path, folder.found, model or folder.model, folder.manifest)

    def private(self, item: Private, kind: str) -> bool:
        """Remove what a process left."""
        if item.path.is_dir() and not item.path.is_symlink():
            return self._tree(kind, item.path, item.files)
        return self.file(kind, item.path)

    def _tree(self, kind: str, path: Path, files: tuple[Seen, ...], model: str = "", manifest: Path | None = None) -> bool:
        # Links are counted while they are there: each one that goes lowers the count of the others.
        for file in files:
            self._count(file)
        if not self.dry_run:
            try:
                remove_folder(path, manifest)
            except OSError as error:
                self._warn(path, error)
                for file in files:
                    self._links[file.inode][2].discard(file.path)
                return False
        self.removed.append(Removed(kind, path, sum(file.stat.st_size for file in files), model))
        return True

    def _warn(self, path: Path, error: OSError) -> None:
        logger.warning("%s cannot be removed: %s", path, error.strerror or error)
        self.failed.append(path)

    def _count(self, file: Seen) -> None:
        size, links, paths = self._links.get(file.inode, (file.stat.st_size, file.stat.st_nlink, set()))
        paths.add(file.path)
        self._links[file.inode] = size, links, paths


def remove_folder(path: Path, manifest: Path | None = None) -> None:
    """Remove a folder so that nobody sees half of it; its manifest goes first.

    Raises:
        OSError: when it cannot be moved; then it is whole.
    """
    if manifest is not None:
        with contextlib.suppress(FileNotFoundError):
            manifest.unlink()
    away = path
    if not path.name.startswith("."):  # else its name is private already
        away = path.with_name(f".{path.name[:150]}.{owner_token()}")
        with contextlib.suppress(FileNotFoundError):
            path.rename(away)
    if away.is_symlink():  # that somebody put in the folder's place
        away.unlink()
    shutil.rmtree(away, ignore_errors=True)  # what stays for any reason has a private name, and the next prune finds it
