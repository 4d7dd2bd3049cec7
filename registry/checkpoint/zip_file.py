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
from typing import BinaryIO

from registry.checkpoint.archive_stage import PIECE, Member, Refused

__all__ = ["holds_torch_checkpoint", "open_zip", "opened_zip", "refuse_overlap"]

#: What the list of members may take; `zipfile` reads it at once, and makes objects ten times as large of it.
_MAX_DIRECTORY = 4 << 20
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # APPNOTE.TXT 4.3.7: signature, …, length of the name, of the extra field
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
        length = _LOCAL_HEADER.unpack_from(head)[1] if len(head) >= _LOCAL_HEADER.size else 0
        names = [head[_LOCAL_HEADER.size :][:length].decode("utf-8", "replace")]
    return any(name.count("/") == 1 and name.endswith("/data.pkl") for name in names)


@contextlib.contextmanager
def open_zip(file: BinaryIO) -> Iterator[list[Member]]:
    """Yield the members of a zip archive; they can be read while it is open.

    Raises:
        Refused: for what is damaged or encrypted, and for everything but plain files and folders.
    """
    with opened_zip(file) as archive:
        infos = archive.infolist()
        refuse_overlap(file, infos, archive.start_dir)
        yield [_member(archive, info) for info in infos]


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


def refuse_overlap(file: BinaryIO, infos: list[zipfile.ZipInfo], directory: int) -> None:
    """Refuse members that share bytes, of which a small file can be unpacked to any size."""
    ordered = sorted(infos, key=lambda info: info.header_offset)
    starts = [*(info.header_offset for info in ordered), directory]
    for info, end in zip(ordered, starts[1:], strict=True):
        with _damage():
            file.seek(info.header_offset)
            magic, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        if magic != b"PK\x03\x04":
            raise Refused(f"member {info.orig_filename!r}", "where the list of members says", "is not")
        if info.header_offset + _LOCAL_HEADER.size + name + extra + info.compress_size > end:
            raise Refused(f"member {info.orig_filename!r}", "apart from every other", "shares bytes with one")


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
