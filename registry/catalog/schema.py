"""The schema of models.yaml, version 1: from YAML nodes to checked values."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from registry.base.names import MODEL_NAME, home_folder, twin_key, unsafe_file_name
from registry.base.urls import is_secure, is_url, origin_of, unfit_authority
from registry.catalog.entry import MERGED_FIELDS, CatalogFile, Deprecation, FilePin, Host, Origin, RawEntry, twin_message
from registry.catalog.yaml_nodes import Node, parse_leniently, shortened
from registry.errors import CatalogError

__all__ = [
    "DEPRECATION_FIELDS",
    "FIELDS",
    "HOST_FIELDS",
    "PIN_FIELDS",
    "SCHEMA_VERSION",
    "SECTIONS",
    "read_catalog",
    "unfit_header",
    "unfit_mirror",
]


SCHEMA_VERSION = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])(-[0-9]{2})?")
_HOST = re.compile(r"[A-Za-z0-9.-]+(:\d{1,5})?|\[[0-9a-fA-F:]+\](:\d{1,5})?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MAX_PARALLELISM = 64

#: Characters of a text; paths end at 4,096.
_MAX_TEXT = 10_000

#: Keys of the file, of one file's pin, and of a deprecation.
SECTIONS = ("registry", "models", "hosts")
PIN_FIELDS = ("sha256", "size", "url")
DEPRECATION_FIELDS = ("since", "note", "use")

#: Keys that are allowed beside `alias`, and beside `disabled`.
#: C0 and C1 controls but for the ends of lines and tabs.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_BESIDE_ALIAS = {"alias", "deprecated", "description", "override"}
_BESIDE_DISABLED = {"description", "disabled", "override"}


class _Reader:
    """Checks the nodes of one file. Each method returns a plain value, or raises an error with the node's place."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.folder = Path(path).parent
        #: `~` or `~user` to the home folder that replaced it, or None without one. The text alone does not decide this.
        self.homes: dict[str, str | None] = {}

    def error(self, node: Node, message: str) -> CatalogError:
        return CatalogError(message, file=self.path, line=node.line, column=node.column)

    def origin(self, node: Node) -> Origin:
        return Origin(self.path, node.line, node.column)

    def text(self, node: Node, what: str) -> str:
        if not isinstance(node.value, str) or not node.value:
            raise self.error(node, f"{what} is expected to be text, but is {node.kind}; put it in quotes")
        if len(node.value) > _MAX_TEXT:
            raise self.error(node, f"{what} is expected to have at most {_MAX_TEXT:,} characters, but has more; shorten it")
        if found := _CONTROLS.search(node.value):  # a terminal would execute them
            raise self.error(node, f"{what} is expected to hold no control characters, but has {found.group()!a}; remove it")
        return node.value

    def mapping(self, node: Node, what: str) -> dict[str, tuple[Node, Node]]:
        if not isinstance(node.value, dict):
            raise self.error(node, f"{what} is expected to be a mapping, but is {node.kind}; write {{key: value}}")
        return node.value

    def known(self, node: Node, what: str, keys: Mapping[str, object]) -> dict[str, tuple[Node, Node]]:
        mapping = self.mapping(node, what)
        for name, (key, _) in mapping.items():
            if name not in keys:
                close = difflib.get_close_matches(name, keys, n=1)
                advice = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(sorted(keys))}"
                raise self.error(key, f"{what} has the unknown key {shortened(name)}; {advice}")
        return mapping

    def name(self, node: Node, what: str) -> str:
        name = self.text(node, what)
        if not MODEL_NAME.fullmatch(name):
            raise self.error(
                node,
                f"{what} is expected to be a model name, but is {shortened(name)}; "
                "use at most 200 letters, digits, '.', '_', '-' and '/', beginning with a letter or digit",
            )
        return name

    def source(self, node: Node, what: str) -> str:
        source = self.text(node, what)
        if reason := unfit_authority(source):
            raise self.error(node, f"{what} is expected to be a URL or path, but {reason}; write scheme://host/path")
        if is_url(source):
            return source
        # A path is relative to the file that contains it, not to the working folder.
        if not source.startswith("~"):
            return str(self.folder / source)
        home = self.homes[source.partition("/")[0]] = home_folder(source.partition("/")[0])
        if home is None:
            raise self.error(
                node, f"{what} is expected to be a path, but {source!r} is in the home of no known user; write it in full"
            )
        return str(Path(source).expanduser())

    def sources(self, node: Node, what: str) -> tuple[str, ...]:
        if not isinstance(node.value, list):
            raise self.error(node, f"{what} is expected to be a list, but is {node.kind}; write [a, b]")
        return tuple(self.source(item, f"an item of {what}") for item in node.value)

    def settings(self, node: Node, what: str) -> dict[str, Any]:
        self.mapping(node, what)
        plain: dict[str, Any] = node.plain()
        return plain

    def files(self, node: Node, what: str) -> dict[str, FilePin]:
        pins: dict[str, FilePin] = {}
        seen: dict[str, str] = {}
        for name, (key, value) in self.mapping(node, what).items():
            if reason := unsafe_file_name(name):
                raise self.error(
                    key,
                    f"a file name of {what} is expected to be a plain relative path, but {shortened(name)} {reason}; rename it",
                )
            if (twin := seen.setdefault(twin_key(name), name)) != name:
                raise self.error(key, twin_message(what, name, f"{twin!a}"))
            pins[name] = self.pin(value, f"file {name!r}")
        return pins

    def pin(self, node: Node, what: str) -> FilePin:
        if node.value is None:
            return FilePin()
        values: dict[str, Any] = {}
        for key, (_, value) in self.known(node, what, dict.fromkeys(PIN_FIELDS)).items():
            if key == "size":
                if not isinstance(value.value, int) or isinstance(value.value, bool) or value.value < 0:
                    raise self.error(
                        value,
                        f"size of {what} is expected to be a number of bytes, but is {value.kind}; write it without a unit",
                    )
                values[key] = value.value
            elif key == "sha256":
                if not isinstance(value.value, str) or not _SHA256.fullmatch(value.value.lower()):
                    raise self.error(
                        value, f"sha256 of {what} is expected to be 64 hex digits, but is {value.kind}; run sha256sum on it"
                    )
                values[key] = value.value.lower()
            else:
                values[key] = self.source(value, f"url of {what}")
        return FilePin(**values)

    def deprecation(self, node: Node, what: str) -> Deprecation:
        values = self.known(node, what, dict.fromkeys(DEPRECATION_FIELDS))
        if "since" not in values:
            raise self.error(node, f"{what} is expected to say since when; add `since: YYYY-MM`")
        since = values["since"][1]
        if not isinstance(since.value, str) or not _MONTH.fullmatch(since.value):
            raise self.error(since, f"since of {what} is expected to be YYYY-MM, but is {since.kind}; write such as 2026-05")
        note = self.text(values["note"][1], f"note of {what}") if "note" in values else ""
        return Deprecation(since.value, note, self.name(values["use"][1], f"use of {what}") if "use" in values else "")

    def flag(self, node: Node, what: str) -> bool:
        if not isinstance(node.value, bool):
            raise self.error(node, f"{what} is expected to be true or false, but is {node.kind}; write `true`, or leave it out")
        return node.value

    def entry(self, name_node: Node, node: Node) -> RawEntry:
        name = self.name(name_node, "a key of models")
        written = self.known(node, f"model {name!r}", FIELDS)
        if "disabled" in written and (others := sorted(set(written) - _BESIDE_DISABLED)):
            raise self.error(
                written[others[0]][0],
                f"model {name!r} is expected to say only why it is off, because it has `disabled`, but also has {others[0]!r}; "
                "remove one of the two",
            )
        if "alias" in written and (others := sorted(set(written) - _BESIDE_ALIAS)):
            raise self.error(
                written[others[0]][0],
                f"model {name!r} is expected to be only another name, because it has `alias`, but also has {others[0]!r}; "
                "use `base` to inherit and change",
            )
        if not written:
            raise self.error(node, f"model {name!r} is expected to say something, but is empty; add `source` or `base`")
        fields = {key: FIELDS[key](self, value, f"{key} of model {name!r}") for key, (_, value) in written.items()}
        override = bool(fields.pop("override", False))
        origins = {key: self.origin(key_node) for key, (key_node, _) in written.items()}
        for group in sorted(MERGED_FIELDS & written.keys()):
            origins |= {f"{group}.{key}": self.origin(at) for key, (at, _) in written[group][1].value.items()}
        if "deprecated" in fields and "use" in (said := written["deprecated"][1].value):
            if "alias" in fields:
                raise self.error(
                    said["use"][0], f"model {name!r} has `alias`, which says already what to use instead; remove `use`"
                )
            origins["deprecated.use"] = self.origin(said["use"][0])
        return RawEntry(name, self.origin(name_node), fields, origins, override)

    def host(self, key: Node, node: Node) -> Host:
        if not _HOST.fullmatch(key.value):
            secret = any(mark in key.value for mark in "@?#")
            but = "has more, which may be a secret; remove it" if secret else f"is {key.value!r}"
            raise self.error(key, f"a key of hosts is expected to be host or host:port, but {but}")
        what = f"host {key.value!r}"
        if not isinstance(node.value, dict):  # the value may be a secret, so it is not shown
            raise self.error(node, f"{what} is expected to be a mapping; write {{token_env: NAME_OF_A_VARIABLE}}")
        written = self.known(node, what, HOST_FIELDS)
        if not written:
            keys = ", ".join(sorted(HOST_FIELDS))
            raise self.error(
                node, f"{what} is expected to say at least one of {keys}, but is empty; add such as `token_env: NAME`"
            )
        if "header" in written and "token_env" not in written:
            raise self.error(
                written["header"][0],
                f"{what} is expected to name a token's variable beside `header`, but names none; add `token_env: NAME`",
            )
        fields = {name: HOST_FIELDS[name](self, value, f"{name} of {what}") for name, (_, value) in written.items()}
        return Host(name=key.value.lower(), origin=self.origin(key), **fields)

    # A value of a host may be a misplaced secret, so these messages show no values.

    def variable(self, node: Node, what: str) -> str:
        if not isinstance(node.value, str) or not _VARIABLE.fullmatch(node.value):
            raise self.error(
                node,
                f"{what} is expected to be the name of an environment variable, but is not one; "
                "never write the secret itself here",
            )
        return node.value

    def header(self, node: Node, what: str) -> str:
        name = node.value if isinstance(node.value, str) else ""
        if reason := unfit_header(name):
            raise self.error(node, f"{what} is expected to be the name of an HTTP header, but {reason}")
        return name

    def bases(self, node: Node, what: str) -> tuple[str, ...]:
        if not isinstance(node.value, list):
            raise self.error(node, f"{what} is expected to be a list of URLs, but is not one; write [https://…, https://…]")
        for item in node.value:
            if reason := unfit_mirror(item.value if isinstance(item.value, str) else ""):
                raise self.error(item, f"an item of {what} is expected to be an https URL, but {reason}")
        return tuple(item.value for item in node.value)

    def bundle(self, node: Node, what: str) -> str:
        path = node.value
        # More than one line is the bundle itself, or a key.
        if not isinstance(path, str) or not path or is_url(path) or _CONTROL.search(path):
            raise self.error(
                node, f"{what} is expected to be the path of a PEM file, but is not one; write a path, relative to this file"
            )
        return self.source(node, what)

    def parallelism(self, node: Node, what: str) -> int:
        count = node.value
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= _MAX_PARALLELISM:
            but = "is text" if isinstance(count, str) else f"is {node.kind}"
            raise self.error(node, f"{what} is expected to be a number from 1 to {_MAX_PARALLELISM}, but {but}")
        return count


#: Key of an entry to the check of its value.
FIELDS: dict[str, Callable[[_Reader, Node, str], Any]] = {
    "alias": _Reader.name,
    "base": _Reader.name,
    "config": _Reader.settings,
    "deprecated": _Reader.deprecation,
    "description": _Reader.text,
    "disabled": _Reader.text,
    "family": _Reader.text,
    "files": _Reader.files,
    "head": _Reader.text,
    "license": _Reader.text,
    "mirrors": _Reader.sources,
    "override": _Reader.flag,
    "source": _Reader.source,
    "tokenizer": _Reader.settings,
}

#: Key of a host to the check of its value.
HOST_FIELDS: dict[str, Callable[[_Reader, Node, str], Any]] = {
    "ca_file": _Reader.bundle,
    "header": _Reader.header,
    "mirrors": _Reader.bases,
    "parallelism": _Reader.parallelism,
    "token_env": _Reader.variable,
}


def read_catalog(text: str, path: str) -> CatalogFile:
    """Read the text of one models.yaml.

    A mistake inside one entry is kept for that entry (`broken`), one outside all entries for the file (`problems`);
    neither takes away what is right.
    """
    catalog = CatalogFile(path)
    reader = _Reader(path)
    catalog.homes = reader.homes
    try:
        root = parse_leniently(text, path)
        if root is None or not isinstance(root.value, dict) or "registry" not in root.value:
            catalog.ours, catalog.empty = False, root is None or root.value is None
            catalog.suspicious = root is not None and isinstance(root.value, dict) and "models" in root.value
            return catalog
        version = root.value["registry"][1]
        if (fault := root.fault or version.fault) is not None:
            raise fault
        if type(version.value) is not int or version.value != SCHEMA_VERSION:
            newer = type(version.value) is int and version.value > SCHEMA_VERSION
            raise reader.error(
                version,
                f"registry is expected to be schema version {SCHEMA_VERSION}, but is {version.kind}; "
                + ("upgrade pretrained-registry" if newer else f"write `registry: {SCHEMA_VERSION}`"),
            )
    except CatalogError as error:
        catalog.problems.append(error)
        return catalog
    try:
        reader.known(root, "models.yaml", dict.fromkeys(SECTIONS))
    except CatalogError as error:
        catalog.problems.append(error)
    models, hosts = (_section(reader, root, section, catalog) for section in ("models", "hosts"))
    for name, (key, node) in models.items():
        try:
            if (fault := node.first_fault()) is not None:
                raise fault
            catalog.entries[name] = reader.entry(key, node)
        except CatalogError as error:
            catalog.broken[name] = error.with_traceback(None)  # its frames would keep objects alive
    for key, node in hosts.values():
        try:
            if (fault := node.first_fault()) is not None:
                raise fault
            host = reader.host(key, node)
            if first := catalog.hosts.get(host.name):
                raise reader.error(key, f"host {host.name!r} stands twice, first in line {first.origin.line}; remove one")
            catalog.hosts[host.name] = host
        except CatalogError as error:
            catalog.problems.append(error)
    return catalog


def _section(reader: _Reader, root: Node, name: str, catalog: CatalogFile) -> dict[str, tuple[Node, Node]]:
    if name not in root.value:
        return {}
    section = root.value[name][1]
    if section.fault is None and section.value is None:
        return {}
    try:
        if section.fault is not None:
            raise section.fault
        return reader.mapping(root.value[name][1], name)
    except CatalogError as error:
        catalog.problems.append(error)
        return {}


#: A `token` of RFC 9110, section 5.6.2.
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

#: Headers that a request needs for itself, where a token would break it, and headers that a proxy reads.
_TAKEN = re.compile(
    r"(?i:accept(-encoding)?|connection|content-(encoding|length|type)|cookie2?|date|expect|host|http2-settings|if-.*|keep-alive"
    r"|location|max-forwards|origin|proxy-.*|range|referer|set-cookie2?|te|trailer|transfer-encoding|upgrade|user-agent|via)"
)

#: Only scheme, host, port and path of RFC 3986, so that there is no place for a secret.
_MIRROR = re.compile(
    r"(?i:https?)://([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?"
)


def unfit_header(name: str) -> str | None:
    """Return why a header must not carry a token, or None when it may."""
    if not _HEADER.fullmatch(name):
        return "is not one; never write the secret itself here"
    if _TAKEN.fullmatch(name):
        return f"is {name!r}, which the connection needs for itself; write another, such as X-Private-Token"
    return None


def unfit_mirror(url: str) -> str | None:
    """Return why a URL must not be a mirror of a host, or None when it may."""
    try:
        origin_of(url)
        fits = _MIRROR.fullmatch(url)
    except ValueError:
        fits = None
    if not fits:
        return "is not one of only host, port and path; never write a user, a password, a query or a fragment here"
    if not is_secure(url):
        return "is http, which only this machine may be; write https://"
    return None
