"""Where other libraries keep files on this machine, and how each of them names what it keeps.

The old libraries (`pytorch_pretrained_bert`, `pytorch_transformers`, `transformers` until 4.21): one flat folder; a file is
named `sha256(url)`, or `sha256(url).sha256(etag)` where the server sent an ETag, and `<name>.json` beside it says both.
The archives that `pytorch_pretrained_bert` kept of BERT (`<name>.tar.gz`) are not looked for: nothing published says what
their bytes, or those of the files inside, are to be.

The hub's library: `models--<org>--<name>/` with `blobs/` (named by the ETag of the hub: sha256 of large files, git's blob
sha1 of small ones), `snapshots/<commit>/<file>` (links to blobs), `.no_exist/<commit>/<file>` (empty: the hub has no such
file) and `refs/<revision>` (text: a commit).
A blob may itself be a link, into a part that repositories share, where names are of another kind.

Everything here only reads. A folder is listed at most once by each object, and no folder is walked.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat as mode
from collections.abc import Iterator
from pathlib import Path

from registry.base.files import is_private
from registry.base.names import maybe_user_path
from registry.base.regular import regular as open_regular

__all__ = [
    "TWO_FACED",
    "HubCache",
    "UrlCaches",
    "blob_name",
    "hub_folders",
    "hub_token",
    "old_address",
    "regular",
    "url_folders",
]

_OLD = "https://s3.amazonaws.com/models.huggingface.co/bert/"
#: Those under which the hub keeps what the old libraries knew by a shortcut: the last part of the repository's name.
_OLD_OWNERS = ("google-bert", "openai-community", "transfo-xl")
#: Files that the old libraries had from elsewhere.
_OLD_EXCEPTIONS = {
    ("bert-base-german-cased", "vocab.txt"): (
        "https://int-deepset-models-bert.s3.eu-central-1.amazonaws.com/pytorch/bert-base-german-cased-vocab.txt"
    ),
}
#: Addresses that are known to have sent one file first and another one later: a copy may be either.
TWO_FACED = frozenset(_OLD_EXCEPTIONS.values())

_URL_FILE = re.compile(r"([0-9a-f]{64})(\.[0-9a-f]{64})?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
#: A record or a ref is some hundred bytes; what is longer is something else.
_SMALL = 1 << 16
#: Bytes of the index of a model's shards.
_INDEX = 64 << 20
#: Of these sets a model with a tokenizer has at least one.
_VOCABULARIES = (
    {"vocab.txt"},
    {"vocab.json", "merges.txt"},
    {"vocab.bin"},
    {"tokenizer.json"},
    {"spiece.model"},
    {"sentencepiece.bpe.model"},
)
_WEIGHTS = re.compile(r".*model.*\.(safetensors|bin|h5|msgpack)")


def url_folders() -> tuple[Path, ...]:
    """Return the folders in which the old libraries name files by their URL, as the environment is now."""
    torch_home = os.environ.get("TORCH_HOME") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/torch"
    named = ("PYTORCH_TRANSFORMERS_CACHE", "PYTORCH_PRETRAINED_BERT_CACHE", "TRANSFORMERS_CACHE")
    return _known(
        *(os.environ.get(name) for name in named),
        *(f"{torch_home}/{leaf}" for leaf in ("pytorch_transformers", "transformers", "pytorch_pretrained_bert")),
        "~/.pytorch_pretrained_bert",
    )


def hub_folders() -> tuple[Path, ...]:
    """Return the folders that the hub's library uses, as the environment is now; `TRANSFORMERS_CACHE` was one for a time."""
    own = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or f"{_hub_home()}/hub"
    return _known(*(os.path.expandvars(name) for name in (own, os.environ.get("TRANSFORMERS_CACHE")) if name))


def hub_token() -> str:
    """Return the token that the hub's own login stored on this machine; empty where there is none."""
    path = os.environ.get("HF_TOKEN_PATH") or f"{_hub_home()}/token"
    return next((text.strip() for place in _known(os.path.expandvars(path)) if (text := _text(place))), "")


def _hub_home() -> str:
    return os.environ.get("HF_HOME") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"


def _known(*paths: str | None) -> tuple[Path, ...]:
    """Return each folder or file once, without those in a home folder that is not known."""
    found = (maybe_user_path(path) for path in paths if path)
    return tuple(dict.fromkeys(path.absolute() for path in found if path is not None))


def old_address(repo: str, path: str) -> str | None:
    """Return where the old libraries had a file of a hub repository from, when it is one that they knew by a shortcut."""
    owner, _, name = repo.rpartition("/")
    if owner not in _OLD_OWNERS or "/" in path:
        return None
    return _OLD_EXCEPTIONS.get((name, path), f"{_OLD}{name}-{path}")


def regular(path: Path) -> tuple[Path, os.stat_result] | None:
    """Return the file that a path leads to through any links; None when it leads nowhere, or to something else."""
    try:
        real = path.resolve(strict=True)
        stat = real.stat()
    except (OSError, RuntimeError):  # RuntimeError: links in a circle, before Python 3.13
        return None
    return (real, stat) if mode.S_ISREG(stat.st_mode) else None


def _text(path: Path, most: int = _SMALL) -> str | None:
    """Return the content of a small file, or None."""
    found = regular(path)
    if found is None or found[1].st_size > most:
        return None
    try:
        with open(found[0], encoding="utf-8", opener=open_regular) as file:
            return file.read(most)
    except (OSError, ValueError):
        return None


class UrlCaches:
    """The old libraries' caches, as one operation sees them."""

    def __init__(self) -> None:
        self.folders = url_folders()
        self._listed: dict[Path, dict[str, list[str]]] = {}

    def files(self, url: str) -> list[Path]:
        """Return what is kept of a URL, whichever ETag it had; in a folder the newest first."""
        key = hashlib.sha256(url.encode()).hexdigest()
        found = []
        for folder in self.folders:
            paths = [folder / name for name in self._names(folder, key)]
            times = {path: there[1].st_mtime_ns for path in paths if (there := regular(path))}
            found += sorted(times, key=lambda path: times[path], reverse=True)
        return found

    def etag(self, file: Path) -> str | None:
        """Return the ETag that is recorded beside a file; None when there is none, or the record is not this file's."""
        try:
            data = json.loads(_text(file.with_name(f"{file.name}.json")) or "")
        except (ValueError, RecursionError):
            return None
        url, etag = (data.get("url"), data.get("etag")) if isinstance(data, dict) else (None, None)
        if not isinstance(url, str) or not isinstance(etag, str):
            return None
        named = ".".join(hashlib.sha256(each.encode("utf-8", "replace")).hexdigest() for each in (url, etag))
        return etag if file.name == named else None

    def _names(self, folder: Path, key: str) -> list[str]:
        if folder not in self._listed:
            names: dict[str, list[str]] = {}
            try:
                for path in folder.iterdir():
                    if found := _URL_FILE.fullmatch(path.name):
                        names.setdefault(found[1], []).append(path.name)
            except OSError:  # it is not there, or not ours to read
                pass
            self._listed[folder] = names
        return self._listed[folder].get(key, [])


class HubCache:
    """The hub library's cache, as one operation sees it."""

    def __init__(self) -> None:
        self.folders = hub_folders()
        self._listed: dict[Path, list[str]] = {}
        self._commits: dict[tuple[str, str], str | None] = {}

    def blobs(self, name: str, repos: tuple[str, ...]) -> Iterator[Path]:
        """Yield where a blob of this name may be: in the folders of these repositories first, then in all others."""
        own = [place for repo in repos for place in self._repositories(repo)]
        yield from (place / "blobs" / name for place in own)
        for folder in self.folders:
            places = (folder / entry for entry in self._names(folder) if entry.startswith("models--"))
            yield from (place / "blobs" / name for place in places if place not in own)

    def pointers(self, repo: str, commit: str, path: str) -> Iterator[Path]:
        """Yield where a repository's file may be, at a commit first, then at any other."""
        for place in self._repositories(repo):
            snapshots = place / "snapshots"
            if _COMMIT.fullmatch(commit):
                yield snapshots / commit / path
            yield from (snapshots / other / path for other in self._names(snapshots) if other != commit)

    def named(self, repo: str, commit: str, path: str) -> Iterator[tuple[Path, str]]:
        """Yield a repository's file at a commit, with the name of the blob that it is linked to."""
        for place in self._repositories(repo):
            pointer = place / "snapshots" / commit / path
            if (name := blob_name(pointer)) and self.is_believed(pointer):
                yield pointer, name

    def was_absent(self, repo: str, commit: str, path: str) -> bool:
        """Whether the hub's library asked for a repository's file at a commit, and there was none: it leaves an empty file."""
        marks = (place / ".no_exist" / commit / path for place in self._repositories(repo))
        return any(regular(mark) and self.is_believed(mark) for mark in marks)

    def is_left_out(self, repo: str, commit: str, path: str) -> bool:
        """Return True if a snapshot lacks a file and has all that a model needs: then the repository has no such file.

        The hub's library keeps no note of what is whole. It brings the weights last, so that a snapshot with configuration,
        vocabulary and every shard is taken for whole.
        """
        snapshots = [place / "snapshots" / commit for place in self._repositories(repo)]
        return not any(os.path.lexists(folder / path) for folder in snapshots) and any(
            _has_all(folder, self._names(folder)) and self.is_believed(folder) for folder in snapshots
        )

    def is_believed(self, path: Path) -> bool:
        """Return True if only this user and root can have written what is noted at a path of the cache."""
        return is_private(path, self.folders)

    def commit(self, repo: str, revision: str) -> str | None:
        """Return the commit that a revision was when the hub was last asked; the same answer for the whole operation."""
        if (repo, revision) not in self._commits:
            refs = [place / "refs" / revision for place in self._repositories(repo)]
            texts = [text for ref in refs if (text := _text(ref)) and self.is_believed(ref)]
            commits = [text.strip() for text in texts if _COMMIT.fullmatch(text.strip())]
            self._commits[repo, revision] = commits[0] if commits else None
        return self._commits[repo, revision]

    def _repositories(self, repo: str) -> list[Path]:
        """Return the folders of a repository: under its name, and under the one it had before it got an owner."""
        owner, _, name = repo.rpartition("/")
        names = [repo, name] if owner in _OLD_OWNERS else [repo]
        return [folder / f"models--{each.replace('/', '--')}" for folder in self.folders for each in names]

    def _names(self, folder: Path) -> list[str]:
        if folder not in self._listed:
            try:
                self._listed[folder] = sorted(path.name for path in folder.iterdir())
            except OSError:  # it is not there, or not ours to read
                self._listed[folder] = []
        return self._listed[folder]


def _has_all(folder: Path, names: list[str]) -> bool:
    """Return True if there are a configuration, a vocabulary, and weights with every shard that their index names."""
    if "config.json" not in names or not any(files.issubset(names) for files in _VOCABULARIES):
        return False
    if not any(_WEIGHTS.fullmatch(name) and regular(folder / name) for name in names):
        return False
    for index in (name for name in names if name.endswith(".index.json")):
        try:
            data = json.loads(_text(folder / index, _INDEX) or "")
            shards = set(data["weight_map"].values())
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return False
        if not all(shard in names and regular(folder / shard) for shard in shards):
            return False
    return True


def blob_name(pointer: Path) -> str | None:
    """Return the name of the blob that a file of a snapshot is linked to; None when it is no such link.

    Only the first link counts: a blob that repositories share is a link too, to a name that is not the hash of its bytes.
    """
    try:
        target = Path(os.path.normpath(pointer.parent.resolve(strict=True) / pointer.readlink()))
        snapshots = next(parent for parent in pointer.parents if parent.name == "snapshots")
        blobs = (snapshots.parent / "blobs").resolve(strict=True)
    except (OSError, RuntimeError, StopIteration):
        return None
    return target.name if target.parent.resolve() == blobs else None
