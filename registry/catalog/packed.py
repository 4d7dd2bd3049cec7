"""Packed catalogs: files in which one name is found without reading the others.

A packed file is lines of ASCII. The first is a header in JSON: the version of this format, the files that it was made from,
and how many bytes follow. Each further line is one entry of one of those files: checksum, name, number of the file, and the
entry in JSON, with tabs between (which JSON never holds), sorted by name and number. A name is found by bisection, so that
a lookup reads about twenty lines, even of a large file. The checksum of every line that is read is verified, so damage is
detected before a result is used, including the result that a name is missing.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from registry.base.regular import no_link
from registry.catalog.entry import CatalogFile, Deprecation, FilePin, Host, Origin, RawEntry
from registry.errors import CatalogError

__all__ = ["FORMAT", "Item", "Packed", "Record", "Unusable", "facts_of", "file_of", "pack", "records_of"]

#: The version of this format. It is part of each file's name, so that versions of this library that share a cache do not
#: rewrite each other's files.
FORMAT = 2

#: What a file says of a name.
Item = RawEntry | CatalogError

_BUFFER = 2048
#: The fields of a host but for its place.
_HOST = ("name", "token_env", "header", "mirrors", "ca_file", "parallelism")


class Unusable(Exception):
    """A packed file is damaged, missing, of another version or another user's. Read the texts instead."""

    def __init__(self, reason: str, *, foreign: bool = False) -> None:
        super().__init__(reason)
        #: Whether it belongs to another user.
        self.foreign = foreign


class Record(NamedTuple):
    """One line without its checksum and file number. `name` and `value` are JSON."""

    name: bytes
    value: bytes


def pack(maker: object, facts: list[dict[str, Any]], records: Iterable[tuple[int, Record]]) -> bytes:
    """Return the bytes of a packed file.

    Args:
        maker: what read the texts, as JSON values: another parser may read them otherwise.
        facts: of each file, as `facts_of` made them and more.
        records: the entries with the numbers of their files.
    """
    lines = []
    for number, record in sorted(records, key=lambda one: (one[1].name, one[0])):
        line = b"%b\t%d\t%b" % (record.name, number, record.value)
        lines.append(b"%08x\t%b\n" % (zlib.crc32(line), line))
    body = b"".join(lines)
    header = _json({"format": FORMAT, "maker": maker, "size": len(body), "files": facts})
    return b"%08x\t%b\n%b" % (zlib.crc32(header), header, body)


def facts_of(file: CatalogFile) -> dict[str, Any]:
    """Return everything except entries of a file, as JSON values."""
    return {
        "path": file.path,
        "ours": file.ours,
        "suspicious": file.suspicious,
        "homes": file.homes,
        "problems": [[error.problem, error.line, error.column] for error in file.problems],
        "hosts": [
            [host.origin.line, host.origin.column, *(getattr(host, key) for key in _HOST)] for host in file.hosts.values()
        ],
    }


def file_of(facts: Mapping[str, Any]) -> CatalogFile:
    """Return the file that `facts_of` describes, without its entries."""
    path = facts["path"]
    hosts = {}
    for line, column, *values in facts["hosts"]:
        said = dict(zip(_HOST, values, strict=True))
        hosts[said["name"]] = Host(origin=Origin(path, line, column), **{**said, "mirrors": tuple(said["mirrors"])})
    problems = [CatalogError(problem, file=path, line=line, column=column) for problem, line, column in facts["problems"]]
    return CatalogFile(
        path, {}, hosts, {}, problems, ours=facts["ours"], suspicious=facts["suspicious"], homes=dict(facts["homes"])
    )


def records_of(file: CatalogFile) -> list[Record]:
    """Return the entries of a file, broken ones included."""
    good = [Record(_json(name), _json(_entry_to_json(entry))) for name, entry in file.entries.items()]
    return good + [Record(_json(name), _json([error.problem, error.line, error.column])) for name, error in file.broken.items()]


class Packed:
    """A packed file on disk. It is opened at each use, so forks and threads do not share a file position."""

    def __init__(self, path: Path) -> None:
        """Read the header.

        Raises:
            Unusable: in every case in which it cannot be trusted.
        """
        self.path = path
        with self._open(None) as file:
            status = os.fstat(file.fileno())
            # This file decides which servers get tokens, so only its user may write it, even in a shared cache.
            if hasattr(os, "geteuid") and (status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o022):
                raise Unusable("it is another user's, or others can write it", foreign=True)
            header = _checked(file.readline())
            self._start = file.tell()
            self._size = status.st_size
            self._identity = _identity(status)
        try:
            said = json.loads(header)
            self.facts: list[dict[str, Any]] = said["files"]
            self.maker: object = said["maker"]
            sound = said["format"] == FORMAT and self._start + said["size"] == status.st_size
        except (ValueError, LookupError, TypeError):
            sound = False
        if not sound:
            raise Unusable("its header is wrong")

    def find(self, name: str) -> list[tuple[int, Item]]:
        """Return the entry or error of `name` in each file that has it, by file number.

        Raises:
            Unusable: as on construction.
        """
        wanted, found = _json(name), []
        with self._open(self._identity) as file:
            # The first line whose name is not smaller begins at `low` or later, and not after `high`.
            low, high = self._start, self._size
            while low < high:
                middle = (low + high) // 2
                begin = self._next_line(file, middle)
                if begin >= high:
                    high = middle
                    continue
                line = file.readline()
                if _checked(line).partition(b"\t")[0] < wanted:
                    low = begin + len(line)
                else:
                    high = middle
            file.seek(low)
            while line := file.readline():
                written, number, value = _checked(line).split(b"\t")
                if written != wanted:
                    break
                found.append((int(number), self._item(name, int(number), value)))
        return found

    def names(self) -> list[str]:
        """Return all names, each once.

        Raises:
            Unusable: as on construction.
        """
        return [json.loads(name) for name in dict.fromkeys(record.name for _, record in self.records())]

    def items(self) -> Iterator[tuple[str, int, Item]]:
        """Yield every record: name, file number, and the entry or error.

        Raises:
            Unusable: as on construction.
        """
        for number, record in self.records():
            name = json.loads(record.name)
            yield name, number, self._item(name, number, record.value)

    def records(self) -> list[tuple[int, Record]]:
        """Return all records with their file numbers.

        Raises:
            Unusable: as on construction.
        """
        with self._open(self._identity) as file:
            file.seek(self._start)
            lines = file.readlines()
        if sum(map(len, lines)) != self._size - self._start:
            raise Unusable("it is cut short")
        split = (_checked(line).split(b"\t") for line in lines)
        return [(int(number), Record(name, value)) for name, number, value in split]

    @contextlib.contextmanager
    def _open(self, identity: tuple[int, ...] | None) -> Iterator[IO[bytes]]:
        """Yield the open file. Errors of opening or reading it become `Unusable`."""
        try:
            with open(self.path, "rb", buffering=_BUFFER, opener=no_link) as file:
                if identity is not None and _identity(os.fstat(file.fileno())) != identity:
                    raise Unusable("it was replaced")
                yield file
        except OSError as error:
            raise Unusable(str(error)) from error

    def _next_line(self, file: IO[bytes], offset: int) -> int:
        """Seek to the first line start at or after `offset`, and return its position."""
        if offset <= self._start:
            file.seek(self._start)
            return self._start
        file.seek(offset - 1)
        return offset - 1 + len(file.readline())

    def _item(self, name: str, number: int, value: bytes) -> Item:
        path, said = self.facts[number]["path"], json.loads(value)
        if isinstance(said, list):
            problem, line, column = said
            return CatalogError(problem, file=path, line=line, column=column)
        return _entry_from_json(name, path, said)


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def _checked(line: bytes) -> bytes:
    """Return a line without its checksum.

    Raises:
        Unusable: when the checksum does not match.
    """
    try:
        right = line[8:9] == b"\t" and line[-1:] == b"\n" and int(line[:8], 16) == zlib.crc32(line[9:-1])
    except ValueError:
        right = False
    if not right:
        raise Unusable("a line is damaged")
    return line[9:-1]


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _entry_to_json(entry: RawEntry) -> dict[str, Any]:
    fields = dict(entry.fields)
    if "files" in fields:
        fields["files"] = {name: [pin.sha256, pin.size, pin.url] for name, pin in fields["files"].items()}
    if "deprecated" in fields:
        fields["deprecated"] = [fields["deprecated"].since, fields["deprecated"].note, fields["deprecated"].use]
    origins = [[field, origin.line, origin.column] for field, origin in entry.origins.items()]
    return {"at": [entry.origin.line, entry.origin.column], "fields": fields, "origins": origins, "override": entry.override}


def _entry_from_json(name: str, path: str, said: Mapping[str, Any]) -> RawEntry:
    fields = said["fields"]
    if "mirrors" in fields:
        fields["mirrors"] = tuple(fields["mirrors"])
    if "files" in fields:
        fields["files"] = {file: FilePin(*pin) for file, pin in fields["files"].items()}
    if "deprecated" in fields:
        fields["deprecated"] = Deprecation(*fields["deprecated"])
    origins = {field: Origin(path, line, column) for field, line, column in said["origins"]}
    return RawEntry(name, Origin(path, *said["at"]), fields, origins, said["override"])
