"""Use a file that another library downloaded to this machine, after proof that it is the wanted file.

What each kind of evidence proves, strongest first:

- *sha256*, by the catalog's pin, the hub's word in this operation, or what a URL was found to be before: the content is
  that file, wherever it lay and whatever it was called. Only this is evidence for a source that is not the hub's.
- *git's blob sha1*, by the hub's word in this operation: the same, as far as sha1 holds; it is what the hub vouches with
  for small files, and what a download of them is checked with too.
- *a commit*: a snapshot of the hub's cache links the file, at the commit that is wanted, to a blob whose name is a hash, and
  the content has that hash. It proves that the bytes are intact, and that the hub's library was told, at whichever hub it
  was set to use, that they are this file at this commit. Who may write into that cache could have said anything, so it
  counts only where that is this user alone. Commits do not change, so no server needs to be asked. Trust is `hub-cache`,
  which is not enough where pins are required.
- *a revision*, only while the network is off: `refs/<revision>` says which commit a branch was when the hub's library last
  asked. It proves nothing of what the branch is today, so it is good for this operation only: what is recorded is the
  file at that commit, and the next operation with a network asks.
- *that there is no such file*, at a commit, or while the network is off at the commit of a revision: the hub's library
  was told so, and left a mark. It is good for files that a model may have or not. While the network is off, a snapshot
  with all that a model needs shows the same of what it lacks; that is not recorded.
- *MD5 at the old address*, only while the network is off: the old library recorded the ETag, the ETag is a plain MD5 of the
  object, and the content has it. It proves that the file is whole and is what the old address once sent; not that the hub
  has the same today (configurations differ, for one). So it is `first-use` trust, recorded for the old address and not
  for the hub's, and refused where pins are required. With a network the hub is asked instead, and its word finds the
  same file if it is the same. The German vocabulary's address is known to have sent two different files; there MD5
  tells nothing.

Bytes that are proven by a hash that this program knows may lie in any user's cache, and are copied from there. What a cache
itself says (commits, revisions, marks, ETags), and a hard link, need files and folders that belong to this user or root, and
that nobody else can write.

A user's file is never touched: it is linked to, or copied. When it is changed in place later, the cache's stamp no longer
fits, and the blob is hashed before it is used again.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from registry.base.files import is_private
from registry.base.logs import lazy_logger
from registry.base.names import unsafe_file_name
from registry.base.settings import is_off
from registry.base.urls import redact, scheme_of
from registry.errors import CacheError
from registry.store.adopt.other_caches import TWO_FACED, HubCache, UrlCaches, blob_name, old_address, regular
from registry.store.cache import BELIEVED, About, Cache, Ref, file_sha256
from registry.store.hashing import git_blob_sha1
from registry.store.target import StoredFile
from registry.store.verifiers import Verification
from registry.store.wanted import Wanted

__all__ = ["Adoption", "Found", "adoption_is_on"]

logger = lazy_logger(__name__)

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_QUOTED_MD5 = re.compile(r'"([0-9a-f]{32})"')
_QUOTED_SHA256 = re.compile(r'"([0-9a-f]{64})"')


def adoption_is_on() -> bool:
    """Whether other libraries' caches are looked at: unless `REGISTRY_ADOPT` says no."""
    return not is_off("REGISTRY_ADOPT")


class Found(NamedTuple):
    """A file that was proven to be the wanted one, as it was when it was hashed."""

    path: Path
    stat: os.stat_result
    sha256: str
    trust: str
    #: The URL that this is recorded for; empty where the hash was known before.
    url: str = ""


class _HubFile(NamedTuple):
    repo: str
    revision: str
    path: str

    def at(self, commit: str) -> str:
        """Return the URL of the file at a commit."""
        from registry.store.transports.hub import hub_url

        return hub_url(self.repo, commit, self.path)

    @property
    def address(self) -> str | None:
        return old_address(self.repo, self.path)


class Adoption:
    """What one operation finds in other libraries' caches. Nothing of them is read before it is asked for something."""

    def __init__(self, cache: Cache, verification: Verification | None) -> None:
        """With `verification` a file is taken only when that accepts it."""
        self._cache = cache
        self._verification = verification

    @functools.cached_property
    def _is_on(self) -> bool:
        return adoption_is_on()

    @functools.cached_property
    def _hub(self) -> HubCache:
        return HubCache()

    @functools.cached_property
    def _old(self) -> UrlCaches:
        return UrlCaches()

    def find(self, wanted: Wanted, *, refresh: bool, offline: bool, first_use: bool) -> Found | None:
        """Return a file by pins and records, without network access.

        Args:
            wanted: the file; its URLs are tried in order.
            refresh: ignore records: without a pinned hash the servers are asked again.
            offline: the network is off, so that weaker evidence is better than none.
            first_use: whether a file may be trusted that only its own server vouched for.
        """
        if not self._is_on:
            return None
        pin = wanted.pin
        if refresh and not pin.sha256:
            return None
        refs = dict.fromkeys(wanted.urls) if refresh else wanted.records
        there = [url for url, ref in refs.items() if not (ref and ref.absent)]
        if not there:
            return None
        if pin.sha256:
            return self.with_hash(there, sha256=pin.sha256, size=pin.size, trust="catalog")
        for url in there:
            ref = refs[url]
            found = None
            if ref and ref.sha256 and (first_use or ref.trust not in BELIEVED) and pin.size in (None, ref.size):
                found = self.with_hash([url], sha256=ref.sha256, size=ref.size, trust=ref.trust)
            elif first_use:
                found = self._at_commit(url, pin.size)
            if found:
                return found
        if offline:
            return next((found for url in there if (found := self._offline(url, pin.size, first_use))), None)
        return None

    def absent(self, url: str, *, offline: bool) -> str | None:
        """Return the URL, at a commit, of a file that the hub's library recorded as absent; None where it did not."""
        if not self._is_on or (file := _hub_file(url)) is None:
            return None
        commit: str | None = file.revision
        if not _COMMIT.fullmatch(file.revision):
            commit = self._hub.commit(file.repo, file.revision) if offline else None
        if commit is None or not self._hub.was_absent(file.repo, commit, file.path):
            return None
        return file.at(commit)

    def is_left_out(self, url: str) -> bool:
        """Return True if, while the network is off, a whole snapshot of the hub's cache shows that there is no such file.

        It is good for this operation only.
        """
        if not self._is_on or (file := _hub_file(url)) is None:
            return False
        commit = file.revision if _COMMIT.fullmatch(file.revision) else self._hub.commit(file.repo, file.revision)
        return commit is not None and self._hub.is_left_out(file.repo, commit, file.path)

    def with_hash(
        self,
        urls: Iterable[str],
        *,
        sha256: str | None = None,
        git_sha1: str | None = None,
        size: int | None = None,
        trust: str,
        record: str = "",
    ) -> Found | None:
        """Return a file whose content has the sha256, or else the git blob sha1, wherever it lies.

        Args:
            urls: where it is to be had; they tell where to look.
            sha256: hex digits.
            git_sha1: hex digits of git's name for it.
            size: in bytes, where known.
            trust: by whose word it is this hash.
            record: the URL that this is to be recorded for.
        """
        wanted = sha256 or git_sha1
        if not self._is_on or wanted is None:
            return None
        kind, hash_of = ("sha256", file_sha256) if sha256 else ("git", git_blob_sha1)
        for path in _once(self._candidates(list(urls), wanted)):
            if (proven := _proven(path, kind, hash_of, wanted, size)) and (found := _found(*proven, trust, record, sha256)):
                return found
        return None

    def take(self, found: Found, about: About) -> StoredFile | None:
        """Take a found file into the cache, and record what it is; None when it is gone or changed since it was hashed.

        Raises:
            CacheError: when the cache cannot be written.
            Refused: when a verifier does not accept the file.
        """
        if self._verification is not None:
            url = redact(found.url) or found.path.absolute().as_uri()
            self._verification.require(about.model, about.name, found.path, found.sha256, url)
        path = self._cache.lookup(found.sha256)
        if path is None:
            try:
                own = is_private(found.path, (*self._hub.folders, *self._old.folders))
                self._cache.adopt(found.path, found.sha256, about._replace(url=found.path.as_uri()), found.stat, link=own)
            except CacheError:
                if _unchanged(found.path, found.stat):
                    raise
                return None
            path = self._cache.lookup(found.sha256)
        if path is not None:
            logger.info("%s is used from %s", about.name, found.path)
            if found.url:
                self._cache.write_ref(Ref(found.url, found.sha256, found.stat.st_size, found.trust))
        return StoredFile(about.name, path, found.sha256, found.trust) if path else None

    # ------------------------------------------------------------------------------------------------------------------

    def _candidates(self, urls: list[str], wanted: str) -> Iterator[Path]:
        """Yield files that may have the wanted hash, likely ones first."""
        hub_files = [file for url in urls if (file := _hub_file(url))]
        own = tuple(file.repo for file in hub_files)
        blobs = self._hub.blobs(wanted, own)
        # A small file lies under another hash than the one that a catalog pins, so its name in a snapshot leads to it.
        pointers = (path for file in hub_files for path in self._hub.pointers(file.repo, file.revision, file.path))
        yield from blobs
        for path in pointers:
            name = blob_name(path)
            if name is None or len(name) != len(wanted) or name == wanted:
                yield path
        addresses = [file.address for file in hub_files] + [url for url in urls if scheme_of(url) != "hf"]
        for address in addresses:
            for path in self._old.files(address) if address else ():
                told = _QUOTED_SHA256.fullmatch(self._old.etag(path) or "")
                if told is None or len(wanted) != 64 or told[1] == wanted:
                    yield path

    def _at_commit(self, url: str, size: int | None) -> Found | None:
        """Return a file of the hub that a snapshot of the hub's cache has at the very commit."""
        file = _hub_file(url)
        if file is None or not _COMMIT.fullmatch(file.revision):
            return None
        for path, name in self._hub.named(file.repo, file.revision, file.path):
            if _SHA256.fullmatch(name):
                proven = _proven(path, "sha256", file_sha256, name, size)
            elif _COMMIT.fullmatch(name):
                proven = _proven(path, "git", git_blob_sha1, name, size)
            else:
                continue
            if proven and (found := _found(*proven, "hub-cache", url, name if len(name) == 64 else None)):
                return found
        return None

    def _offline(self, url: str, size: int | None, first_use: bool) -> Found | None:
        """Return a file of the hub by evidence that is not good enough where the hub can be asked."""
        if (file := _hub_file(url)) is None:
            return None
        if not _COMMIT.fullmatch(file.revision) and (commit := self._hub.commit(file.repo, file.revision)):
            held = file.at(commit)
            if found := self._recorded_before(held, size, first_use) or (self._at_commit(held, size) if first_use else None):
                return found
        address = file.address
        if address is None or address in TWO_FACED or not first_use:
            return None
        return self._recorded_before(address, size, first_use) or self._by_md5(address, size)

    def _recorded_before(self, url: str, size: int | None, first_use: bool) -> Found | None:
        """Return the blob that an earlier operation took over and recorded."""
        ref = self._cache.read_ref(url)
        if ref is not None and ref.trust in BELIEVED and not first_use:
            return None
        path = self._cache.lookup(ref.sha256) if ref and ref.sha256 else None
        if ref is None or path is None or size not in (None, ref.size):
            return None
        return Found(path, path.stat(), ref.sha256, ref.trust)

    def _by_md5(self, address: str, size: int | None) -> Found | None:
        for path in self._old.files(address):
            believed = all(is_private(each, self._old.folders) for each in (path, path.with_name(f"{path.name}.json")))
            md5 = _QUOTED_MD5.fullmatch(self._old.etag(path) or "") if believed else None
            proven = _proven(path, "md5", _file_md5, md5[1], size) if md5 else None
            if proven and (found := _found(*proven, "first-use", address, None)):
                return found
        return None


# -- hashing, once --------------------------------------------------------------------------------------------------------

#: What files were found to be that were not what was wanted, by path, size, time and kind of hash: they are not read again.
_others: dict[tuple[str, int, int, str], str] = {}


def _proven(
    path: Path, kind: str, hash_of: Callable[[Path], str], wanted: str, size: int | None
) -> tuple[Path, os.stat_result] | None:
    """Return the file behind a path, and its stat, when its content has the wanted hash."""
    found = regular(path)
    if found is None or size not in (None, found[1].st_size):
        return None
    real, stat = found
    key = (str(real), stat.st_size, stat.st_mtime_ns, kind)
    if _others.get(key, wanted) != wanted:
        return None
    try:
        digest = hash_of(real)
    except OSError:
        return None
    if digest == wanted:
        return found
    logger.info("%s is expected to have the %s %s, but has %s; it is not used", real, kind, wanted, digest)
    _others[key] = digest
    return None


def _found(path: Path, stat: os.stat_result, trust: str, url: str, sha256: str | None) -> Found | None:
    """Return the finding, with the file's sha256 where that is not known yet; None when it changes under our eyes."""
    try:
        digest = sha256 or file_sha256(path)
    except OSError:
        return None
    return Found(path, stat, digest, trust, url) if _unchanged(path, stat) else None


def _unchanged(path: Path, before: os.stat_result) -> bool:
    try:
        now = path.stat()
    except OSError:
        return False
    return (now.st_ino, now.st_size, now.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)


def _file_md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _once(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files behind paths, each a single time."""
    seen: set[Path] = set()
    for path in paths:
        found = regular(path)
        if found is not None and found[0] not in seen:
            seen.add(found[0])
            yield found[0]


def _hub_file(url: str) -> _HubFile | None:
    if scheme_of(url) != "hf":
        return None
    from registry.store.transports.hub import split_hub_url

    file = _HubFile(*split_hub_url(url))
    return None if unsafe_file_name(file.path) or unsafe_file_name(file.revision) else file
