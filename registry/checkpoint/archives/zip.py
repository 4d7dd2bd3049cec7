"""Read a zip archive: files and folders that say what they are, each with bytes of its own."""

from __future__ import annotations

import calendar
import contextlib
import io
import stat
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from registry.checkpoint.archives.stage import PIECE, Member, Refused

__all__ = ["Placed", "holds_torch_checkpoint", "open_zip", "opened_zip", "placed_members"]

#: What the list of members may take; `zipfile` reads it at once, and makes objects ten times as large of it.
_MAX_DIRECTORY = 4 << 20
# The records of APPNOTE.TXT, 4.3.7, 4.3.12 and 4.3.14 to 4.3.16, without versions, times and attributes.
_LOCAL_HEADER = struct.Struct("<4s2xHH4xLLLHH")  # signature, flags, method, CRC, sizes, length of name and extra field
_CENTRAL_HEADER = struct.Struct("<4s24xHHHH10x")  # signature, length of name, extra field and comment, disk
_END64 = struct.Struct("<4sQ4xLLQQQQ")  # signature, bytes that follow, disks, counts, size and offset of the list
_LOCATOR = struct.Struct("<4sLQL")  # signature, disk, offset of the record above, number of disks
_END = struct.Struct("<4sHHHHLLH")  # signature, disks, counts, size and offset of the list, length of the comment
#: The two disks, two counts, size and offset of the last record where the zip64 record has the values instead.
_IN_END64 = (0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
_ZIP64_FIELD = 1
_HAS_DESCRIPTOR = 0x8
#: Encrypted, patch data, strongly encrypted, with hidden headers (APPNOTE.TXT 4.4.4).
_ENCRYPTED, _UNREADABLE = 0x1 | 0x40 | 0x2000, 0x20


def holds_torch_checkpoint(path: Path) -> bool:
    """Whether a file that begins as a zip archive is one that `torch.save` wrote, or the beginning of one."""
    try:
        with path.open("rb") as file, opened_zip(file) as archive:
            names = [info.orig_filename for info in archive.infolist()]
    except Refused:  # cut or damaged: torch writes this member first
        with path.open("rb") as file:
            head = file.read(_LOCAL_HEADER.size + 512)
        length = _LOCAL_HEADER.unpack_from(head)[-2] if len(head) >= _LOCAL_HEADER.size else 0
        names = [head[_LOCAL_HEADER.size :][:length].decode("utf-8", "replace")]
    return any(name.count("/") == 1 and name.endswith("/data.pkl") for name in names)


@contextlib.contextmanager
def open_zip(file: BinaryIO) -> Iterator[list[Member]]:
    """Yield the members of a zip archive; they can be read while it is open.

    Raises:
        Refused: for what is damaged or encrypted, and for everything but plain files and folders.
    """
    with opened_zip(file) as archive:
        members = [_member(archive, info) for info in archive.infolist()]
        placed_members(file, archive)
        yield members


@contextlib.contextmanager
def opened_zip(file: BinaryIO) -> Iterator[zipfile.ZipFile]:
    """Yield a zip file, its list of members read within limits.

    Raises:
        Refused: for what is damaged, or has too long a list.
    """
    with _damage():
        archive = zipfile.ZipFile(_Wary(file))  # reading needs no more than it has
    with archive:
        yield archive


class _Wary:
    """A file that is not read in pieces beyond reason, whatever lengths are written in it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(_MAX_DIRECTORY + 1 if size < 0 else min(size, _MAX_DIRECTORY + 1))
        if len(data) > _MAX_DIRECTORY:
            raise Refused("the list of members", f"at most {_MAX_DIRECTORY:,} bytes long", "is longer")
        return data

    def close(self) -> None:
        """Leave the file to whoever opened it."""


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    """Say that the archive is damaged, with whatever `zipfile` stumbles over."""
    try:
        yield
    except Refused:
        raise
    except Exception as error:
        raise Refused("content", "a zip file that can be read", f"is damaged ({error})") from error


class Placed(NamedTuple):
    """A member, and where in the file its stored bytes begin. `raw_name` is its name as it is written."""

    info: zipfile.ZipInfo
    raw_name: bytes
    begin: int


def placed_members(file: BinaryIO, archive: zipfile.ZipFile, descriptors: tuple[int, ...] = (12, 16, 20, 24)) -> list[Placed]:
    """Return the members in the order of the list, after checking that they, the list and its end are all of the file.

    `zipfile` takes the records from where it expects them, others from where the file says that they are, and both pass
    over what lies between: such a file could be read in two ways.

    Args:
        file: the archive.
        archive: the same, opened.
        descriptors: how long the record behind a member's bytes may be that repeats its CRC and sizes.

    Raises:
        Refused: for bytes that belong to no member, members that share bytes, and records that do not agree.
    """
    with _damage():
        directory, names = _directory(file, archive)
        placed: dict[int, Placed] = {}
        ordered = sorted(zip(archive.infolist(), names, strict=True), key=lambda item: item[0].header_offset)
        starts = [*(info.header_offset for info, _ in ordered), directory]
        if starts[0] != 0:
            raise Refused("content", "one zip file from begin to end", f"has {starts[0]} bytes before it")
        for (info, raw_name), end in zip(ordered, starts[1:], strict=True):
            what = f"member {info.orig_filename!a:.200}"
            file.seek(info.header_offset)
            magic, flags, method, *sums, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
            if magic != b"PK\x03\x04":
                raise Refused(what, "where the list of members says", "is not")
            own = [info.CRC, info.compress_size, info.file_size]
            # The sizes of a large member stand in a field behind its name, those of a streamed one behind its bytes.
            if (
                (file.read(name), method) != (raw_name, info.compress_type)
                or (flags ^ info.flag_bits) & (_ENCRYPTED | _HAS_DESCRIPTOR)
                or not (flags & _HAS_DESCRIPTOR or sums == own or sums[1:] == [0xFFFFFFFF] * 2)
            ):
                raise Refused(what, "what the list of members says", "says otherwise where it lies")
            begin = info.header_offset + _LOCAL_HEADER.size + name + extra
            if (more := end - begin - info.compress_size) < 0:
                raise Refused(what, "apart from every other", "shares bytes with one")
            if more:
                file.seek(end - more)
                if more not in descriptors or not flags & _HAS_DESCRIPTOR or file.read(more) not in _descriptors(*own):
                    raise Refused(what, "followed by the next", f"is followed by {more:,} bytes that belong to no member")
            placed[id(info)] = Placed(info, raw_name, begin)
        return [placed[id(info)] for info in archive.infolist()]


def _directory(file: BinaryIO, archive: zipfile.ZipFile) -> tuple[int, list[bytes]]:
    """Return where the list of members begins, and the names in it, after checking that the file's end agrees with it."""
    comment = len(archive.comment)
    at = file.seek(0, io.SEEK_END) - _END.size - comment
    file.seek(before := max(0, at - _LOCATOR.size - _END64.size))
    tail = file.read(at - before + _END.size)
    magic, *said, length = _END.unpack_from(tail, at - before)
    if magic != b"PK\x05\x06" or length != comment:
        raise Refused("content", "one zip file from begin to end", "has something before or behind it")
    end = at
    located = at - before - _LOCATOR.size
    if located >= 0 and tail.startswith(b"PK\x06\x07", located):
        end = before
        magic64, more, *said64 = _END64.unpack_from(tail)
        is_there = _LOCATOR.unpack_from(tail, located)[1:] == (0, end, 1) and (magic64, more) == (b"PK\x06\x06", 44)
        if not is_there or any(
            value not in (value64, most) for value, value64, most in zip(said, said64, _IN_END64, strict=True)
        ):
            raise Refused("end", "one record that all agree with", "has a zip64 record that does not agree")
        said = said64
    if said[:2] != [0, 0] or said[2] != said[3]:
        raise Refused("end", "that of a zip file in one part", "is of one in several")
    size, directory = said[4:]
    if directory + size != end or archive.start_dir != directory:
        raise Refused("content", "one zip file from begin to end", "has something before or behind its list of members")
    file.seek(directory)
    listed, names, at = file.read(size), [], 0
    while at < size:
        magic, name, extra, text, disk = _CENTRAL_HEADER.unpack_from(listed, at)
        at += _CENTRAL_HEADER.size
        names.append(listed[at : at + name])
        at += name + extra
        if magic != b"PK\x01\x02" or disk or _zip64_fields(listed[at - extra : at]) > 1:
            raise Refused("the list of members", "one that has a single meaning", "is damaged")
        at += text
    if at != size or len(names) != said[2]:
        raise Refused("the list of members", f"{said[2]:,} entries in {size:,} bytes", f"has {len(names):,} in {at:,}")
    return directory, names


def _zip64_fields(extra: bytes) -> int:
    """Return how many fields with large sizes an entry of the list has: two readers may take a different one."""
    count = at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        count += kind == _ZIP64_FIELD
        at += 4 + length
    return count


def _descriptors(crc: int, packed: int, size: int) -> Iterator[bytes]:
    """Yield the records that may stand behind a member's bytes (APPNOTE.TXT 4.3.9)."""
    for form in ("<LLL", "<LQQ"):
        with contextlib.suppress(struct.error):  # too large for 32 bits
            record = struct.pack(form, crc, packed, size)
            yield record
            yield b"PK\x07\x08" + record


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    """Return a member. Its name is the one that is written: `zipfile` cuts it at a NUL."""
    name = info.orig_filename
    is_folder = name.endswith("/")
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was not made on Unix
    if info.flag_bits & _ENCRYPTED:
        raise Refused(f"member {name!r}", "readable by everybody", "is encrypted")
    if kind not in (0, stat.S_IFDIR if is_folder else stat.S_IFREG):
        actual = {stat.S_IFLNK: "is a symbolic link", stat.S_IFDIR: "is a folder without a slash"}.get(kind)
        raise Refused(f"member {name!r}", "a file or folder", actual or f"is of type {kind:o}")
    # Other methods unpack a piece to any size at once.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & _UNREADABLE:
        raise Refused(f"member {name!r}", "stored or deflated", f"is packed by method {info.compress_type}")
    if is_folder and info.file_size:
        raise Refused(f"folder {name!r}", "without content", f"has {info.file_size} bytes")
    try:
        mtime = calendar.timegm(info.date_time)
    except ValueError:  # month 13
        mtime = 0
    return Member(name, info.file_size, mtime, is_folder, lambda: _content(archive, info))


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    with _damage():
        content: io.BufferedIOBase = archive.open(info)  # type: ignore[assignment]
    with content:
        while True:
            with _damage():
                piece = content.read(PIECE)
            if not piece:
                return
            yield piece
