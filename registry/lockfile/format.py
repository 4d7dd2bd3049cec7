"""The lock file `models.lock`: which bytes each name stood for when it was locked, and what was installed then.

It is YAML that one command writes: names in order, one fact to a line, every text in double quotes, and `...` (YAML's own mark
of a document's end) as its last line, without which it is known to be cut off.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.base.names import MAX_BYTES, MODEL_NAME, twin_key, unsafe_file_name
from registry.base.regular import read_regular
from registry.base.urls import is_url, redact, scheme_of, unfit_authority
from registry.catalog.entry import twin_message
from registry.errors import CatalogError, DownloadError

if TYPE_CHECKING:
    from registry.catalog.yaml_nodes import Node

__all__ = [
    "LOCK_NAME",
    "LOCK_VERSION",
    "LockFile",
    "LockedFile",
    "LockedModel",
    "facts_of",
    "parse_lock",
    "portable",
    "read_lock",
    "render_lock",
]


LOCK_NAME = "models.lock"
LOCK_VERSION = 1
_HEADER = """\
# Written by `registry lock`: commit this file, and change it with that command only.
# When a merge conflicts in it, take either side whole and run the command again.
"""
_END = "..."
_CONFLICT = re.compile(r"^(<{7}|\|{7}|={7}|>{7})( .*)?\r?$", re.MULTILINE)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

#: What a URL may hold a secret in: a user before the host (an hf source has its revision after the `@`), or a query.
_SECRET = re.compile(r"(?!hf://)[A-Za-z][A-Za-z0-9+.-]*://[^/]*@|[A-Za-z][A-Za-z0-9+.-]*://.*[?#]", re.IGNORECASE)

#: Keys that every reader of YAML takes for text: YAML 1.1 makes of `on` and `1.5` something else.
_PLAIN_KEY = re.compile(r"(?!(?:y|n|yes|no|on|off|true|false|null)\Z)[A-Za-z][A-Za-z0-9._/-]*", re.IGNORECASE)
_AGAIN = "restore it from version control, or remove it and run `registry lock`"


@dataclass(frozen=True, slots=True)
class LockedFile:
    """The bytes of one file: 64 hex digits of their hash, their number, and where they were found."""

    sha256: str
    size: int
    #: Without secrets; a path is relative to the lock file where both lie in one checkout.
    url: str
    #: The commit of an address of the file's own, where that names a moving revision.
    revision: str = ""
    line: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedModel:
    """What one name stood for."""

    family: str
    #: As the catalog says it, without secrets.
    source: str
    files: Mapping[str, LockedFile]
    #: The commit that the source stood for, where it has revisions.
    revision: str = ""
    #: Distribution and version of the family's plugin; empty for one that is registered in the process.
    plugin: str = ""
    plugin_version: str = ""
    line: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class LockFile:
    """All of a lock file. `registry` is the version of this library that wrote it last."""

    registry: str
    models: Mapping[str, LockedModel] = field(default_factory=dict)
    #: Another name to the model that it led to.
    aliases: Mapping[str, str] = field(default_factory=dict)
    path: str = field(default="", compare=False)


# -- reading -------------------------------------------------------------------------------------------------------------
def read_lock(path: Path) -> LockFile:
    """Read a lock file.

    Raises:
        CatalogError: when it cannot be read or is not one, with line and column.
        FileNotFoundError: when there is none.
    """
    try:
        data = read_regular(path, MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise CatalogError(f"the lock file is expected to have at most {MAX_BYTES} bytes, but has more", file=str(path))
        text = data.decode("utf-8-sig")
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise CatalogError(f"the lock file is expected to be readable, but is not ({reason})", file=str(path)) from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        message = f"the lock file is expected to be UTF-8 text, but is not; {_AGAIN}"
        raise CatalogError(message, file=str(path), line=line, column=column) from None
    return parse_lock(text, str(path))


def parse_lock(text: str, path: str) -> LockFile:
    """Read the text of a lock file; `path` is what errors call it.

    Raises:
        CatalogError: for whatever `registry lock` does not write, with line and column.
    """
    if conflict := _CONFLICT.search(text):
        raise CatalogError(
            f"the lock file is expected to be merged, but holds the conflict mark {conflict[1]}; take either side whole and "
            "run `registry lock`",
            file=path,
            line=text.count("\n", 0, conflict.start()) + 1,
        )
    from registry.catalog.yaml_nodes import parse

    reader = _Reader(path)
    lines = text.rstrip().splitlines() or [""]
    if lines[-1] != _END:
        message = f"the lock file is expected to end with the line `{_END}`, but is cut off before it; {_AGAIN}"
        raise CatalogError(message, file=path, line=len(lines), column=len(lines[-1]) + 1)
    root = parse(text, path)
    if root is None:
        raise CatalogError(f"the lock file is expected to hold something, but is empty; {_AGAIN}", file=path)
    keys = reader.keys(root, "the lock file", ("registry_lock",), ("registry", "aliases", "models"), others=True)
    _check_version(reader, keys["registry_lock"])
    keys = reader.keys(root, "the lock file", ("registry_lock", "registry", "models"), ("aliases",))
    models = {name: reader.model(key, node) for name, (key, node) in reader.named(keys["models"], "models").items()}
    aliases = {}
    for name, (key, node) in reader.named(keys["aliases"], "aliases").items() if "aliases" in keys else ():
        aliases[name] = reader.text(node, f"alias {name!r}")
        if aliases[name] not in models:
            raise reader.error(
                node, f"alias {name!r} is expected to lead to a locked model, but {aliases[name]!r} is not locked"
            )
        if name in models:
            raise reader.error(key, f"{name!r} is expected to be an alias or a model, but is both")
    return LockFile(reader.text(keys["registry"], "registry"), models, aliases, path)


def _check_version(reader: _Reader, node: Node) -> None:
    if type(node.value) is not int or node.value != LOCK_VERSION:
        newer = type(node.value) is int and node.value > LOCK_VERSION
        raise reader.error(
            node,
            f"registry_lock is expected to be version {LOCK_VERSION} of the format, but is {node.kind}; "
            + ("upgrade pretrained-registry" if newer else _AGAIN),
        )


class _Reader:
    """Checks the nodes of a lock file; each method returns a value or raises with the node's place."""

    def __init__(self, path: str) -> None:
        self._path = path

    def error(self, node: Node, message: str) -> CatalogError:
        return CatalogError(message, file=self._path, line=node.line, column=node.column)

    def keys(
        self, node: Node, what: str, needed: tuple[str, ...], allowed: tuple[str, ...], *, others: bool = False
    ) -> dict[str, Node]:
        """Return a mapping that has the needed keys, and no more than the allowed ones unless there may be others."""
        if not isinstance(node.value, dict):
            raise self.error(node, f"{what} is expected to be a mapping, but is {node.kind}; {_AGAIN}")
        for name in needed:
            if name not in node.value:
                raise self.error(node, f"{what} is expected to have {name!r}, but has not; {_AGAIN}")
        for name, (key, _) in node.value.items():
            if not others and name not in needed and name not in allowed:
                raise self.error(key, f"{what} has the unknown key {name!r}; {_AGAIN}")
        return {name: value for name, (_, value) in node.value.items()}

    def named(self, node: Node, what: str) -> dict[str, tuple[Node, Node]]:
        """Return a mapping whose keys are models' names; empty when nothing is written."""
        if node.value is not None and not isinstance(node.value, dict):
            raise self.error(node, f"{what} is expected to be a mapping, but is {node.kind}; {_AGAIN}")
        from registry.catalog.yaml_nodes import shortened

        found: dict[str, tuple[Node, Node]] = node.value or {}
        for name, (key, _) in found.items():
            if not MODEL_NAME.fullmatch(name):
                raise self.error(key, f"a key of {what} is expected to be a model name, but is {shortened(name)}; {_AGAIN}")
        return found

    def text(self, node: Node, what: str) -> str:
        if not isinstance(node.value, str) or not node.value:
            raise self.error(node, f"{what} is expected to be text in quotes, but is {node.kind}; {_AGAIN}")
        return node.value

    def shaped(self, node: Node, what: str, shape: re.Pattern[str], shown: str) -> str:
        text = self.text(node, what)
        if not shape.fullmatch(text):
            raise self.error(node, f"{what} is expected to be {shown}, but is {node.kind}; {_AGAIN}")
        return text

    def url(self, node: Node, what: str) -> str:
        text = self.text(node, what)
        if _SECRET.match(text):  # which is not shown
            raise self.error(node, f"{what} is expected to be without password and query, but has one; remove what is secret")
        if reason := unfit_authority(text):
            raise self.error(node, f"{what} is expected to be a URL or path, but {reason}; {_AGAIN}")
        return text

    def model(self, key: Node, node: Node) -> LockedModel:
        what = f"model {key.value!r}"
        needed, allowed = ("family", "source", "files"), ("revision", "plugin", "plugin_version")
        facts = self.keys(node, what, needed, allowed)
        files = {}
        seen: dict[str, str] = {}
        listed = facts["files"].value
        if not isinstance(listed, dict) or not listed:
            raise self.error(
                facts["files"], f"files of {what} is expected to be a mapping, but is {facts['files'].kind}; {_AGAIN}"
            )
        for name, (file_key, file) in listed.items():
            if reason := unsafe_file_name(name):
                raise self.error(
                    file_key, f"a file name of {what} is expected to be a plain relative path, but {name!r} {reason}; {_AGAIN}"
                )
            if (twin := seen.setdefault(twin_key(name), name)) != name:
                raise self.error(file_key, twin_message(what, name, f"{twin!a}"))
            files[name] = self.file(file_key, file, f"file {name!r} of {what}")
        return LockedModel(
            family=self.text(facts["family"], f"family of {what}"),
            source=self.url(facts["source"], f"source of {what}"),
            files=files,
            revision=self._commit(facts, what),
            plugin=self.text(facts["plugin"], f"plugin of {what}") if "plugin" in facts else "",
            plugin_version=self.text(facts["plugin_version"], f"plugin_version of {what}") if "plugin_version" in facts else "",
            line=key.line,
        )

    def file(self, key: Node, node: Node, what: str) -> LockedFile:
        facts = self.keys(node, what, ("sha256", "size", "url"), ("revision",))
        size = facts["size"].value
        if type(size) is not int or size < 0:
            raise self.error(facts["size"], f"size of {what} is expected to be a number of bytes, but is {facts['size'].kind}")
        digest = self.shaped(facts["sha256"], f"sha256 of {what}", _SHA256, "64 hex digits in lower case")
        return LockedFile(digest, size, self.url(facts["url"], f"url of {what}"), self._commit(facts, what), key.line)

    def _commit(self, facts: Mapping[str, Node], what: str) -> str:
        return self.shaped(facts["revision"], f"revision of {what}", _COMMIT, "a commit") if "revision" in facts else ""


# -- writing -------------------------------------------------------------------------------------------------------------
def render_lock(lock: LockFile) -> str:
    """Return the text of a lock file: the same for the same facts, whatever the order that they come in.

    Raises:
        CatalogError: when a fact cannot stand in a text file.
    """
    facts: dict[str, Any] = {"registry_lock": LOCK_VERSION, "registry": lock.registry}
    if lock.aliases:
        facts["aliases"] = dict(sorted(lock.aliases.items()))
    facts["models"] = {name: _model_facts(model) for name, model in sorted(lock.models.items())}
    text = _HEADER + "".join(f"{line}\n" for line in _lines(facts)) + _END + "\n"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        at = text[: error.start].rpartition("\n")[2] + text[error.start :].partition("\n")[0]
        raise CatalogError(
            f"a fact of the lock file is expected to be text that UTF-8 can hold, but {at.strip()!a} is not; rename it",
            file=lock.path,
        ) from None
    return text


def _model_facts(model: LockedModel) -> dict[str, Any]:
    return {**facts_of(model), "files": {name: facts_of(file) for name, file in sorted(model.files.items())}}


def facts_of(part: LockedModel | LockedFile) -> dict[str, str | int]:
    """Return the facts of a model or a file in the order of the file, with what is empty left out."""
    if isinstance(part, LockedModel):
        names: tuple[str, ...] = ("family", "plugin", "plugin_version", "source", "revision")
    else:
        names = ("sha256", "size", "url", "revision")
    return {name: value for name in names if (value := getattr(part, name)) != ""}


def _lines(facts: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for key, value in facts.items():
        shown = key if _PLAIN_KEY.fullmatch(key) else _quoted(key)
        if isinstance(value, dict):
            yield f"{indent}{shown}:" if value else f"{indent}{shown}: {{}}"
            yield from _lines(value, indent + "  ")
        else:
            yield f"{indent}{shown}: {value if isinstance(value, int) else _quoted(value)}"


def _quoted(text: str) -> str:
    """Return text in YAML's double quotes, on one line."""
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    code = ord(character)
    if character.isprintable() or 0xD800 <= code < 0xE000:
        return character
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def portable(source: str, folder: Path) -> str:
    """Return a source as a file in `folder` says it: without secrets, and a path of the same checkout relative to it."""
    from registry.store.transports.local import local_path  # reading a lock file needs no transport

    if is_url(source) and scheme_of(source) != "file":
        return redact(source)
    try:
        path = Path(os.path.normpath(local_path(source).absolute()))  # not resolved: a link stays what the project calls it
    except (DownloadError, ValueError):
        return redact(source)
    folder = Path(os.path.normpath(folder.absolute()))
    checkout = next((parent for parent in (folder, *folder.parents) if (parent / ".git").exists()), folder)
    if not path.is_relative_to(checkout):
        return path.as_posix()
    relative = Path(os.path.relpath(path, folder)).as_posix()
    return relative if relative.startswith("..") else f"./{relative}"
