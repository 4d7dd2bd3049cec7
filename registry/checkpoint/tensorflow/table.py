"""The table of a TensorFlow `.index` file: sorted keys with their values, in checked blocks.

The format is LevelDB's (https://github.com/google/leveldb, doc/table_format.md), as TensorFlow's lib/io/table writes it. A
file is its data blocks, a block that lists them, and a footer of 48 bytes. Any of it may be a lie, so every length is held
against the file, or a limit, before anything is read or allocated.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import google_crc32c

from registry.base.regular import open_regular
from registry.checkpoint.tensorflow.wire import varint
from registry.errors import CheckpointError

if TYPE_CHECKING:
    pass

__all__ = ["TABLE_MAGIC", "Table", "damaged", "masked_crc32c"]


_FOOTER = 48
_TRAILER = 5  # after every block: its type, and the checksum of block and type
_PLAIN, _SNAPPY = 0, 1

# An index of 10,000 variables has 0.6 MB, and TensorFlow ends a block at 0.25 MB.
_MAX_BLOCK = 16 << 20
_MAX_DECODED = 32 << 20
_MAX_BLOCKS = 1 << 16
_MAX_ENTRIES = 1 << 18
_MAX_KEY = 16 << 10


class _Handle(NamedTuple):
    """Where a block lies in the file, without its trailer."""

    offset: int
    size: int

    @property
    def end(self) -> int:
        return self.offset + self.size + _TRAILER


def damaged(path: Path, reason: str) -> CheckpointError:
    """Return the error that says what is wrong with an index."""
    return CheckpointError(
        f"index {str(path)!r} is expected to be that of a TensorFlow checkpoint, but {reason}; fetch it again", path=str(path)
    )


def masked_crc32c(crc: int) -> int:
    """Return a checksum as TensorFlow stores it: turned and shifted, so that one of checksums does not come out even."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


class Table:
    """The keys and values of one file. Blocks are read one after the other, and none is kept."""

    def __init__(self, path: Path) -> None:
        """Read the footer and the list of blocks.

        Raises:
            CheckpointError: when the file is no table, or a part of it lies outside of it.
        """
        self.path = path
        try:
            with open_regular(path) as file:
                self._blocks = self._list(file)
        except OSError as error:
            raise damaged(path, f"it cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise damaged(path, str(error)) from error

    def head(self) -> bytes:
        """Return the first bytes of the first block, or none if there is no block; they are not checked."""
        if not self._blocks:
            return b""
        with open_regular(self.path) as file:
            file.seek(self._blocks[0].offset)
            return file.read(min(self._blocks[0].size, 32))

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield every key with its value, in the keys' order.

        Raises:
            CheckpointError: when a block is damaged, or the table is larger than any index.
        """
        last: bytes | None = None
        entries = decoded = 0
        try:
            with open_regular(self.path) as file:
                for handle in self._blocks:
                    for key, value in _entries(self._block(file, handle)):
                        if last is not None and key <= last:
                            raise ValueError(f"the key {key[:80]!r} does not come after {last[:80]!r}")
                        last = key
                        entries += 1
                        decoded += len(key) + len(value)
                        if entries > _MAX_ENTRIES or decoded > _MAX_DECODED:
                            raise ValueError(f"it has more than {_MAX_ENTRIES} entries, or {_MAX_DECODED} bytes in all")
                        yield key, value
        except OSError as error:
            raise damaged(self.path, f"it cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise damaged(self.path, str(error)) from error

    def _list(self, file: BinaryIO) -> list[_Handle]:
        size = file.seek(0, os.SEEK_END)
        if size < _FOOTER:
            raise ValueError(f"it has {size} bytes, and its footer alone would have {_FOOTER}")
        file.seek(size - _FOOTER)
        footer = file.read(_FOOTER)
        if not footer.endswith(TABLE_MAGIC):
            raise ValueError("it does not end in the magic number of a table")
        _, position = _handle(footer, 0)  # of the block with statistics, which TensorFlow leaves empty
        handle, _ = _handle(footer, position)
        self._end = size - _FOOTER
        blocks: list[_Handle] = []
        before = 0
        for _, value in _entries(self._block(file, handle)):
            block, _ = _handle(value, 0)
            # In the file's order and apart, so that no byte is decoded twice.
            if block.offset < before or block.end > self._end:
                raise ValueError(f"the block of {block.size} bytes at {block.offset} overlaps another, or leaves the file")
            before = block.end
            blocks.append(block)
            if len(blocks) > _MAX_BLOCKS:
                raise ValueError(f"it has more than {_MAX_BLOCKS} blocks")
        return blocks

    def _block(self, file: BinaryIO, handle: _Handle) -> bytes:
        if handle.end > self._end or handle.size > _MAX_BLOCK:
            raise ValueError(f"the block of {handle.size} bytes at {handle.offset} is too large, or leaves the file")
        file.seek(handle.offset)
        content = file.read(handle.size + _TRAILER)
        if len(content) < handle.size + _TRAILER:
            raise ValueError(f"it ends within the block at {handle.offset}")
        checked, stored = content[:-4], int.from_bytes(content[-4:], "little")
        if masked_crc32c(google_crc32c.value(checked)) != stored:
            raise ValueError(f"the checksum of the block at {handle.offset} is wrong")
        kind, block = checked[-1], checked[:-1]
        if kind == _PLAIN:
            return block
        if kind == _SNAPPY:
            return self._unpack(block)
        raise ValueError(f"the block at {handle.offset} is of the unknown type {kind}")

    def _unpack(self, block: bytes) -> bytes:
        size, _ = varint(block, 0, len(block))
        if size > _MAX_BLOCK:
            raise ValueError(f"a compressed block says that it holds {size} bytes, more than {_MAX_BLOCK}")
        try:
            import cramjam
        except ImportError as error:
            raise CheckpointError(
                f"index {str(self.path)!r} is expected to be uncompressed, but is compressed with snappy; "
                "pip install 'pretrained-registry[tensorflow]'",
                path=str(self.path),
            ) from error
        try:
            return bytes(cramjam.snappy.decompress_raw(block))
        except cramjam.DecompressionError as error:
            raise ValueError(f"a compressed block is damaged ({error})") from error


def _handle(data: bytes, position: int) -> tuple[_Handle, int]:
    offset, position = varint(data, position, len(data))
    size, position = varint(data, position, len(data))
    return _Handle(offset, size), position


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a block. A key is stored as what it shares with the one before, and the rest."""
    # At the end stand positions to search from, and their number.
    end = len(block) - 4 - 4 * int.from_bytes(block[-4:], "little") if len(block) >= 4 else -1
    if end < 0:
        raise ValueError(f"a block of {len(block)} bytes is too short for what its end says")
    key = b""
    position = 0
    while position < end:
        shared, position = varint(block, position, end)
        fresh, position = varint(block, position, end)
        length, position = varint(block, position, end)
        value = position + fresh
        if shared > len(key) or value + length > end or shared + fresh > _MAX_KEY:
            raise ValueError(f"an entry of a block has a key of {shared} and {fresh} bytes and a value of {length}")
        key = key[:shared] + block[position:value]
        position = value + length
        yield key, block[value:position]


#: The last bytes of every table, the format of TensorFlow's `.index` files.
TABLE_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
