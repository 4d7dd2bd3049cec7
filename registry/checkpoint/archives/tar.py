"""Read a tar archive as a stream: files and folders, and nothing else that the format knows.

The headers are read here and not by `tarfile`, which believes what they say of lengths, allocates it, recurses, and can be
led in circles. Format: POSIX.1-2024, `pax`, section "ustar Interchange Format"; GNU tar's manual, "Basic Tar Format".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from registry.checkpoint.archives.stage import PIECE, Member, Refused

__all__ = ["is_tar_header", "tar_members"]

Read = Callable[[int], bytes]

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_MAX_EXTENSION = 1 << 20  # a long name, or attributes that are not used
_EXTENSIONS = (b"x", b"g", b"L")
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a fifo",
    b"K": "a link with a long name",
    b"S": "a sparse file",
}


def is_tar_header(block: bytes) -> bool:
    """Whether a file that begins so is a tar archive: its first header has the right sum."""
    if len(block) != _BLOCK or block == _ZEROS:
        return False
    try:
        return _number(block[148:156]) == sum(block[:148]) + 8 * ord(" ") + sum(block[156:])
    except ValueError:
        return False


def tar_members(read: Read) -> Iterator[Member]:
    """Yield the members of a tar archive. The content of one must be read before the next is asked for.

    Args:
        read: returns up to so many bytes, fewer only at the end; it raises nothing but `Refused`.

    Raises:
        Refused: for what is damaged, and for everything but plain files and folders.
    """
    pending: dict[bytes, bytes] = {}
    while (block := _exactly(read, _BLOCK)) != _ZEROS:
        if not is_tar_header(block):
            raise Refused("a header", "one of a tar archive", "is damaged")
        kind = block[156:157]
        if kind in _EXTENSIONS:
            size = _field(block[124:136])
            if kind in pending or size > _MAX_EXTENSION:
                raise Refused("a header extension", f"alone and at most {_MAX_EXTENSION} bytes long", "is not")
            pending[kind] = _exactly(read, _padded(size))[:size]
            continue
        member = _member(block, pending, read)
        pending.clear()
        yield member
    if pending:
        raise Refused("a header extension", "followed by a member", "is the last")
    while piece := read(PIECE):
        if piece.strip(b"\0"):  # another archive, which some programs would go on with
            raise Refused("the end", "followed by zeros alone", "is followed by other bytes")


def _member(block: bytes, pending: dict[bytes, bytes], read: Read) -> Member:
    """Return the member of a header and its extensions."""
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
        name = f"{prefix}/{name}"
    if b"L" in pending:
        name = _text(pending[b"L"])
    records = _records(pending.get(b"x", b""))
    common = _records(pending.get(b"g", b""))  # of all members that follow: git writes its commit there
    if alike := sorted(key for key in common if key in ("path", "size") or key.startswith("GNU.sparse")):
        raise Refused("a global header", "without name and size", f"sets {alike[0]}")
    name = records.get("path", name)
    kind = block[156:157]
    if any(key.startswith("GNU.sparse") for key in records):
        kind = b"S"
    is_folder = kind == b"5" or (kind == b"\0" and name.endswith("/"))  # the latter before 1988
    if kind not in (b"0", b"\0", b"5"):
        actual = _KINDS.get(kind, f"of type {kind.decode('latin-1')!r}")
        raise Refused(f"member {name!r}", "a file or folder", f"is {actual}")
    size = _field(block[124:136])
    if "size" in records:
        if not re.fullmatch("[0-9]{1,18}", records["size"]):
            raise Refused(f"size of member {name!r}", "a number", f"is {records['size'][:20]!r}")
        size = int(records["size"])
    if is_folder and size:
        raise Refused(f"folder {name!r}", "without content", f"has {size} bytes")
    try:
        mtime = _number(block[136:148])
    except ValueError:  # before 1970
        mtime = 0
    return Member(name, size, mtime, is_folder, lambda: _content(read, size))


def _content(read: Read, size: int) -> Iterator[bytes]:
    left = size
    while left:
        piece = _exactly(read, min(left, PIECE))
        left -= len(piece)
        yield piece
    _exactly(read, _padded(size) - size)


def _exactly(read: Read, size: int) -> bytes:
    data = read(size) if size else b""
    if len(data) != size:
        raise Refused("content", "complete", "ends in the middle")
    return data


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")  # such a character is no name's, and is refused


def _number(field: bytes) -> int:
    """Return a number of a header: octal digits, or GNU's binary form of large ones.

    Raises:
        ValueError: when it is neither, or negative.
    """
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.partition(b"\0")[0].strip(b" ")
    if not re.fullmatch(b"[0-7]*", digits):
        raise ValueError(field)
    return int(digits or b"0", 8)


def _field(field: bytes) -> int:
    try:
        return _number(field)
    except ValueError:
        raise Refused("a size", "a number", f"is {field!r}") from None


def _records(data: bytes) -> dict[str, str]:
    """Return the records of a pax header: each is `length key=value` and a newline, the length that of all of it."""
    records: dict[str, str] = {}
    at = 0
    while at < len(data):
        digits = data[at : at + 10].partition(b" ")[0]
        end = at + int(digits) if re.fullmatch(b"[0-9]{1,9}", digits) else 0
        record = data[at + len(digits) + 1 : end]
        key, equals, value = record[:-1].partition(b"=")
        name = key.decode("utf-8", "surrogateescape")
        if end > len(data) or not record.endswith(b"\n") or not equals or name in records:
            raise Refused("a header extension", "records of a length, a key and a value", "is damaged")
        records[name] = value.decode("utf-8", "surrogateescape")
        at = end
    return records
