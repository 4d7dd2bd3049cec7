"""The cache on disk: content-addressed blobs, what is known of URLs, and folders with conventional names.

    blobs/sha256/ab/abcd…          the bytes, read-only, complete and verified before they get this name
    blobs/sha256/ab/abcd….json     the stamp: size and time of the blob when its hash was last checked, and what it is
    blobs/sha256/ab/….partial      a file that is being brought, private to one process, with its journal
    refs/12/12cd….json             what a URL was found to be (named by the hash of the URL)
    folders/<name>-<hash>/         conventional file names for other programs
    folders/<name>-<hash>.json     which blobs such a folder holds
    quarantine/abcd…               bytes that were to be abcd… and are not, kept to be looked at
    unpacked/<sha256>/             the content of the archive that has this hash
    unpacked/<sha256>.json         hash, size and time of each file of it
    locks/…                        only save work; nothing depends on them

No symbolic links. Everything appears by a rename within one folder, so a reader sees all of a file or none of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple

from registry.base.files import make_folder, owner_token, share, sync_folder, write_atomically
from registry.base.logs import lazy_logger
from registry.base.regular import NO_TRAP, open_regular, regular
from registry.base.stamps import Stamp
from registry.base.stamps import stamp as file_stamp
from registry.base.urls import redact
from registry.errors import CacheError

__all__ = [
    "BELIEVED",
    "OF_LOCK",
    "VERSION",
    "About",
    "Cache",
    "Ref",
    "about_of",
    "cache_error",
    "file_sha256",
    "read_json",
    "ref_name",
    "ref_of",
    "stamp_fits",
    "stamp_path",
]


#: How many acceptances a stamp holds: of a few verifiers, for the models that share a blob.
_MAX_ACCEPTED = 256
logger = lazy_logger(__name__)


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file as hex digits."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Cache:
    """One cache: a folder that is written, and any number of read-only tiers behind it."""

    def __init__(self, folders: tuple[Path, ...]) -> None:
        self.root = folders[0]
        self.folders = folders
        #: Whether the network is off for the operation that uses this.
        self.offline = False
        #: What this object has looked at, as it was at the first look, by path. It is made anew for every operation.
        self.seen: dict[str, Stamp] = {}

    def note(self, path: Path) -> None:
        """Note what a file is, before it is looked at."""
        if (text := str(path)) not in self.seen:
            self.seen[text] = file_stamp(text)

    def _read(self, path: Path) -> dict[str, Any] | None:
        self.note(path)
        return read_json(path)

    # -- blobs -----------------------------------------------------------------------------------------------------

    @staticmethod
    def _blob(root: Path, digest: str) -> Path:
        return root / "blobs" / "sha256" / digest[:2] / digest

    def blob(self, digest: str) -> Path:
        """Return where the blob of this digest is or will be written."""
        return self._blob(self.root, digest)

    def lookup(self, digest: str) -> Path | None:
        """Return the verified blob, or None.

        A stat that fits the stamp is enough. A blob without one that fits is hashed again, and put away when it is not
        what its name says.
        """
        for root in self.folders:
            path = self._blob(root, digest)
            self.note(path)
            try:
                own = root == self.root
                stat = path.lstat() if own else path.stat()
            except OSError:
                continue
            if not S_ISREG(stat.st_mode):  # a link, pipe or device that somebody put into a shared cache
                continue
            stamp = self._read(stamp_path(path))
            if stamp_fits(stamp, stat):
                return path
            try:
                intact = (file_sha256(path) if own else self._tier_sha256(path, stat)) == digest
            except OSError:
                continue
            if intact:
                if own:
                    with contextlib.suppress(CacheError):
                        self._write_stamp(path, stat, about_of(stamp))
                return path
            if own:
                logger.warning("the cached file %s is damaged and is not used", path)
                with contextlib.suppress(OSError):
                    if path.stat().st_ino != stat.st_ino:  # another process has brought it anew meanwhile
                        return self.lookup(digest)
                    self.quarantine(path, digest)
        return None

    def is_published(self, digest: str) -> bool:
        """Whether the cache's own folder holds this blob and a stamp that fits: the last that is written of a download."""
        path = self.blob(digest)
        try:
            stat = path.stat()
        except OSError:
            return False
        return stamp_fits(read_json(stamp_path(path)), stat)

    def _tier_sha256(self, path: Path, stat: os.stat_result) -> str:
        """Return the hash of a blob that a tier has no stamp for.

        A tier is only read, even where it could be written, so what is found is noted in the cache's own folder.
        """
        url = path.absolute().as_uri()
        ref = self.read_ref(url)
        if ref is None or (ref.size, ref.mtime_ns) != (stat.st_size, stat.st_mtime_ns):
            ref = Ref(url, file_sha256(path), stat.st_size, mtime_ns=stat.st_mtime_ns)
            if ref.sha256 != path.name:
                logger.warning("the cached file %s is damaged and is not used", path)
            with contextlib.suppress(CacheError):
                self.write_ref(ref)
        return ref.sha256

    def publish(self, partial: Path, digest: str, about: About) -> Path:
        """Give a complete, synced, verified private file its name. The last step of every download."""
        path = self.blob(digest)
        try:
            make_folder(path.parent, self.root)
            partial.chmod(partial.stat().st_mode & 0o444)  # the umask decided who may read when it was created
            share(partial, self.root)
            stat = partial.stat()
            partial.replace(path)
            sync_folder(path.parent)
        except OSError as error:
            raise cache_error(path, error) from error
        self._write_stamp(path, stat, about)
        return path

    def adopt(self, found: Path, digest: str, about: About, hashed: os.stat_result, *, link: bool = True) -> Path:
        """Take over a verified file of another program's cache: as a hard link, or as a copy where a link fails.

        A link shares its bytes with that program's file. When those are changed, the stamp no longer fits, and the blob is
        hashed again before it is used.

        Args:
            found: the file.
            digest: its sha256.
            about: what it is, for people.
            hashed: its stat when it was hashed.
            link: False for a file that others may write to, which is copied.
        """
        path = self.blob(digest)
        stage = path.with_name(f"{digest}.{owner_token()}.partial")
        try:
            make_folder(path.parent, self.root)
            linked = False
            if link:
                with contextlib.suppress(OSError):  # another device, or a file system without hard links
                    os.link(found.resolve(), stage)
                    linked = True
            if not linked:
                import shutil  # here and below, because it imports every compressor

                self.require_space(found.stat().st_size)
                with open(found, "rb", opener=regular) as source, stage.open("xb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
                    file.flush()
                    os.fsync(file.fileno())
                if file_sha256(stage) != digest:
                    raise OSError(f"{found} changed while it was copied") from None
                return self.publish(stage, digest, about)
            with contextlib.suppress(OSError), stage.open("rb") as file:  # not every program does
                os.fsync(file.fileno())
            stage.replace(path)
            sync_folder(path.parent)
        except OSError as error:
            raise cache_error(path, error) from error
        finally:
            with contextlib.suppress(OSError):
                stage.unlink(missing_ok=True)
        self._write_stamp(path, hashed, about)  # if it was changed since, the stamp does not fit
        return path

    def restamp(self, blob: Path, hashed: os.stat_result) -> None:
        """Write the stamp of a blob that was hashed and is right; what was said of it stays.

        Raises:
            CacheError: when the cache cannot be written.
        """
        self._write_stamp(blob, hashed, about_of(read_json(stamp_path(blob))))

    def accepted(self, blob: Path) -> frozenset[str]:
        """Return the keys that were noted for a blob; see `registry.store.verifiers`."""
        said = (read_json(stamp_path(blob)) or {}).get("accepted")
        return frozenset(key for key in said if isinstance(key, str)) if isinstance(said, list) else frozenset()

    def note_accepted(self, blob: Path, keys: Iterable[str]) -> None:
        """Note keys in the stamp of a blob, where it can be written. What is lost to another process is asked anew."""
        if (stamp := read_json(stamp_path(blob))) is not None:
            latest = list(dict.fromkeys([*keys, *sorted(self.accepted(blob))]))[:_MAX_ACCEPTED]
            with contextlib.suppress(CacheError):
                self.write_json(stamp_path(blob), {**stamp, "accepted": latest})

    def quarantine(self, path: Path, digest: str) -> Path:
        """Put a file away that was to have this digest and has not; the last one of each digest is kept.

        Raises:
            OSError: when it cannot be moved.
        """
        place = self.root / "quarantine" / digest
        make_folder(place.parent, self.root)
        path.replace(place)
        with contextlib.suppress(OSError):
            stamp_path(path).unlink()
        return place

    def require_space(self, count: int) -> None:
        """Raise when the disk has not `count` bytes to give.

        Raises:
            CacheError: before anything is written.
        """
        import shutil

        folder = next((parent for parent in (self.root, *self.root.parents) if parent.is_dir()), self.root)
        try:
            free = shutil.disk_usage(folder).free
        except OSError:  # what cannot be told is found out by writing
            return
        if count > free:
            raise CacheError(
                f"disk of cache {self.root} is expected to have {count:,} bytes free, but has {free:,}; free space "
                "(`registry cache prune` helps), or set REGISTRY_CACHE to another folder",
                path=str(self.root),
            )

    def _write_stamp(self, path: Path, stat: os.stat_result, about: About) -> None:
        """Note that the bytes that had this size and time when they were hashed are right."""
        stamp = {"version": VERSION, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns, **about._asdict()}
        self.write_json(stamp_path(path), stamp)

    # -- refs ------------------------------------------------------------------------------------------------------

    def read_ref(self, url: str, *, of_lock: bool | None = None) -> Ref | None:
        """Return what is known of a URL, or None; a damaged record is as if absent.

        With `of_lock` what only a lock file says counts; by default it does while the network is off.
        """
        for root in self.folders:
            data = self._read(root / ref_name(url))
            ref = ref_of(url, data) if data is not None and data.get("url") == redact(url) else None
            if ref is not None and (ref.trust != OF_LOCK or (self.offline if of_lock is None else of_lock)):
                return ref
        return None

    def ref_path(self, url: str) -> Path:
        """Return where the record of a URL is or will be written."""
        return self.root / ref_name(url)

    def write_ref(self, ref: Ref) -> None:
        """Record what a URL is."""
        # The URL may hold a secret; the name of the record, its hash, tells it from others.
        self.write_json(self.ref_path(ref.url), {"version": VERSION, **ref._asdict(), "url": redact(ref.url)})

    # -- small files -----------------------------------------------------------------------------------------------

    def write_json(self, path: Path, data: Mapping[str, Any]) -> None:
        """Write a small record atomically."""
        try:
            make_folder(path.parent, self.root)
            write_atomically(path, json.dumps(data), self.root)
        except OSError as error:
            raise cache_error(path, error) from error


def cache_error(path: Path, error: OSError) -> CacheError:
    """Return the error that says why the cache cannot be written."""
    return CacheError(
        f"cache file {path} is expected to be writable, but is not ({error.strerror or error}); "
        "free space, mend its permissions, or set REGISTRY_CACHE to another folder",
        path=str(path),
    )


#: The version of every record in the cache.
VERSION = 1

#: The trust of what only a lock file says: it counts while the network is off, where nothing better is known.
OF_LOCK = "lock"

#: What is not enough where pins are required: the word of a plain server, or of the hub library's cache.
BELIEVED = frozenset({"first-use", "hub-cache"})


class Ref(NamedTuple):
    """What a URL was found to be. `trust` says by whose word: `catalog`, `hub`, `hub-cache`, `first-use` or `lock`."""

    url: str
    sha256: str = ""
    size: int = 0
    trust: str = ""
    #: True when the server said that there is no such file.
    absent: bool = False
    #: For a moving revision of a hub repository: the commit it stood for.
    commit: str = ""
    #: For a file in place: its time when it was hashed.
    mtime_ns: int = 0


class About(NamedTuple):
    """What a blob is, for people: the model and file name that it was first brought for, and from where."""

    model: str = ""
    name: str = ""
    url: str = ""


#: Bytes: what is longer is no record.
_MOST = 64 << 20
_BLANK = Ref("")._asdict()


def stamp_path(blob: Path) -> Path:
    """Return where the stamp of a blob stands."""
    return blob.with_name(f"{blob.name}.json")


def stamp_fits(stamp: Mapping[str, Any] | None, stat: os.stat_result) -> bool:
    """Whether a blob is still what it was when its stamp was written."""
    return stamp is not None and (stamp.get("size"), stamp.get("mtime_ns")) == (stat.st_size, stat.st_mtime_ns)


def ref_name(url: str) -> str:
    """Return where the record of a URL stands, below the folder of a cache."""
    key = hashlib.sha256(url.encode()).hexdigest()
    return f"refs/{key[:2]}/{key}.json"


def ref_of(url: str, data: Mapping[str, Any]) -> Ref | None:
    """Return the record of a URL, or None when a value of it cannot be right."""
    known = {key: value for key, value in data.items() if key in _BLANK and key != "url"}
    if any(type(value) is not type(_BLANK[key]) for key, value in known.items()):
        return None
    ref = Ref(url, **known)
    usable = re.fullmatch(r"[0-9a-f]{64}", ref.sha256) if ref.sha256 else ref.absent or ref.commit
    return ref if usable else None


def about_of(stamp: Mapping[str, Any] | None) -> About:
    """Return what a stamp says of its blob, as far as that can be right."""
    said = {key: (stamp or {}).get(key, "") for key in ("model", "name", "url")}
    return About(**{key: value for key, value in said.items() if isinstance(value, str)})


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a small record; a damaged one, or one of a newer version of this library, is as if absent."""
    try:
        # A file object would cost as much as the rest. What another user may have put here is not followed or waited for.
        descriptor = os.open(path, os.O_RDONLY | NO_TRAP)
        try:
            status = os.fstat(descriptor)
            data = json.loads(os.read(descriptor, min(status.st_size, _MOST))) if S_ISREG(status.st_mode) else None
        finally:
            os.close(descriptor)
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) and data.get("version") == VERSION else None
