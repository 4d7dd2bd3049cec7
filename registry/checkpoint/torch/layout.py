"""The two forms of torch's files, read without torch: where the pickles lie, and whether the storages are what they say.

The zip form holds one `data.pkl` and a record for each storage. The legacy form, of torch before 1.6, is five pickles
(magic number, protocol, system, object, keys of the storages), then each storage: a count of 8 bytes, and its values.
"""

from __future__ import annotations

import contextlib
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from registry.base.regular import open_regular
from registry.checkpoint.archives.stage import Refused
from registry.checkpoint.archives.zip import opened_zip, placed_members
from registry.checkpoint.torch.pickle_stream import (
    MAX_OPERATIONS,
    MAX_PICKLE,
    SAFE_GLOBALS,
    BeyondLimit,
    PickleReport,
    PickleStream,
    pickle_globals,
)
from registry.checkpoint.torch.plain_pickle import TORCH_MAGIC, PlainMachine, Unsafe
from registry.checkpoint.torch.tensor_pickle import Storage, TorchMachine, amount
from registry.errors import CheckpointError, UnsafeCheckpoint

__all__ = ["Layout", "Place", "check_sums", "explained", "read_layout", "scan_torch_file"]

_LEGACY_PICKLES = 5
_PROTOCOL = 1001
#: What follows the bytes of a record: torch always signs it.
_DESCRIPTORS = (16, 24)
_FOLDER = 0x10  # MS-DOS attribute; torch reads nothing of such a record, whatever its size
_PIECE = 1 << 20


class Place(NamedTuple):
    """Where the values of a storage lie in the file."""

    begin: int
    storage: Storage


class Layout(NamedTuple):
    """What a file holds, and where."""

    #: The object in the file, with a `TensorPart` in place of each tensor.
    value: Any
    #: Where each storage lies, by its key.
    places: Mapping[str, Place]
    #: True for the zip form.
    zipped: bool
    #: `little` or `big`.
    byte_order: str = "little"


def scan_torch_file(path: Path, *, max_bytes: int = MAX_PICKLE, max_operations: int = MAX_OPERATIONS) -> PickleReport:
    """Return what the pickles of a file would fetch.

    Args:
        path: the file.
        max_bytes: the largest pickle that is looked at.
        max_operations: the longest.

    Raises:
        CheckpointError: when the file holds no pickle that can be looked at.
    """
    found: set[str] = set()
    pickles = 0
    with explained(path), open_regular(path) as file:
        if _is_zip(file):
            stream, limit = _data_pickle(_records(file), file, max_bytes, max_operations), 1
        else:
            size = path.stat().st_size
            stream, limit = PickleStream(file, size, max_bytes=max_bytes, max_operations=max_operations), _LEGACY_PICKLES
        while pickles < limit:
            try:
                found.update(pickle_globals(stream))
            except BeyondLimit:
                raise
            except ValueError:
                if pickles == 0:
                    raise
                break  # a bare pickle ended before
            pickles += 1
    return PickleReport(tuple(sorted(found)), tuple(sorted(found - SAFE_GLOBALS)), pickles, stream.operations)


def read_layout(path: Path, *, max_bytes: int = MAX_PICKLE, max_operations: int = MAX_OPERATIONS) -> Layout:
    """Return what a file holds, and where its storages lie, each in full length.

    Arguments are those of `scan_torch_file`.

    Raises:
        UnsafeCheckpoint: when it would do more than make tensors.
        CheckpointError: when it is damaged, or says of its tensors what is not so.
    """
    with explained(path), open_regular(path) as file:
        zipped = _is_zip(file)
        machine = TorchMachine(views=not zipped)
        machine.max_copied = max_operations // 4
        if zipped:
            records = _records(file)
            value, places = _read_zip(records, _data_pickle(records, file, max_bytes, max_operations), machine)
            return Layout(value, places, True, _byte_order(records, file))
        size = path.stat().st_size
        stream = PickleStream(file, size, max_bytes=max_bytes, max_operations=max_operations)
        return Layout(*_read_legacy(file, stream, size, machine), False)


def check_sums(path: Path) -> None:
    """Read a zip form file in full, and compare each record with its CRC-32; torch itself does not.

    A legacy file has no sums, and a file that was saved with `set_crc32_options(False)` has zeros.

    Raises:
        CheckpointError: naming the record that was changed.
    """
    with explained(path), open_regular(path) as file:
        if not _is_zip(file):
            return
        for name, record in _records(file).items():
            if record.crc and _crc(file, record) != record.crc:
                raise Refused(f"record {name!r}", "as it was saved", "was changed: its CRC-32 is another")


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Say of which file, and in our own errors, what is wrong with it."""
    try:
        yield
    except CheckpointError:
        raise
    except BeyondLimit as error:
        raise CheckpointError(
            f"size of checkpoint {str(path)!r} is expected to be that of a state dict, but {error}; if you trust it, load it "
            "where it was made and save its state_dict()",
            path=str(path),
        ) from error
    except Unsafe as error:
        raise UnsafeCheckpoint(
            f"checkpoint {str(path)!r} is expected to hold only tensors, but would call {error.name:.300}; nothing was run",
            path=str(path),
            globals=[error.name],
        ) from None
    except Refused as error:
        raise CheckpointError(
            f"{error.what} of checkpoint {str(path)!r} is expected to be {error.expected}, but {error.actual}; fetch it again",
            path=str(path),
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"checkpoint {str(path)!r} is expected to be readable, but is not ({error.strerror or error})", path=str(path)
        ) from error
    except Exception as error:  # damage leads the standard library's readers, and ours, to whatever they stumble over
        reason, *_ = (str(error).strip() or type(error).__name__).splitlines()  # what follows is torch's advice
        if isinstance(error, MemoryError) or "allocate memory" in reason:
            raise CheckpointError(
                f"memory for checkpoint {str(path)!r} is expected to suffice, but does not ({reason:.300}); load it where "
                "there is more, and save it as safetensors, which take none",
                path=str(path),
            ) from error
        raise CheckpointError(
            f"checkpoint {str(path)!r} is expected to be a torch file, but is not ({reason:.300}); fetch it again",
            path=str(path),
        ) from error


def _is_zip(file: BinaryIO) -> bool:
    """Tell the two forms apart as torch does, so that what is scanned is what is read."""
    found = file.read(4) == b"PK\x03\x04"
    file.seek(0)
    return found


@dataclass(frozen=True, slots=True)
class _Record:
    offset: int
    size: int
    crc: int


def _records(file: BinaryIO) -> Mapping[str, _Record]:
    """Return the records of a zip form file by their name, each apart from the others and stored as it is.

    A zip file can be made that two readers understand in two ways; this is stricter than either, so that both agree.
    """
    with opened_zip(file) as archive:
        if archive.comment:
            raise Refused("content", "one zip file from begin to end", "has something before or behind it")
        members = placed_members(file, archive, _DESCRIPTORS)
    names = [info.orig_filename for info, *_ in members]
    folder = names[0].partition("/")[0] + "/" if names else ""
    if folder + "data.pkl" not in names:
        raise Refused("content", "a file of torch.save", "is a zip file without data.pkl")
    if folder + "constants.pkl" in names:
        raise Refused("content", "a state dict", "is a TorchScript archive, which is code: save its state_dict()")
    records: dict[str, _Record] = {}
    lower: set[bytes] = set()
    for info, raw_name, begin in members:
        what, name = f"record {info.orig_filename!a:.80}", info.orig_filename.removeprefix(folder)
        if not info.orig_filename.startswith(folder) or "\0" in name:
            raise Refused(what, f"in the folder {folder!r}", "is not")
        if raw_name.lower() in lower:  # torch does not tell upper from lower case
            raise Refused(what, "there once", "is there twice")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 1:
            raise Refused(what, "stored as it is", "is compressed or encrypted")
        if name.lower().endswith(".pkl") and name != "data.pkl":
            raise Refused(what, "no second pickle", "is one")
        if name.endswith("/") or info.external_attr & _FOLDER:
            raise Refused(what, "one with bytes of its own", "is a folder")
        lower.add(raw_name.lower())
        records[name] = _Record(begin, info.file_size, info.CRC)
    return records


def _crc(file: BinaryIO, record: _Record) -> int:
    file.seek(record.offset)
    left, crc = record.size, 0
    while left and (piece := file.read(min(left, _PIECE))):
        crc, left = zlib.crc32(piece, crc), left - len(piece)
    return crc


def _data_pickle(records: Mapping[str, _Record], file: BinaryIO, max_bytes: int, max_operations: int) -> PickleStream:
    record = records["data.pkl"]
    if record.size > max_bytes:
        raise BeyondLimit(f"its pickle has {record.size:,} bytes, more than {max_bytes:,}")
    if record.crc and _crc(file, record) != record.crc:
        raise Refused("record 'data.pkl'", "as it was saved", "was changed: its CRC-32 is another")
    file.seek(record.offset)
    return PickleStream(file, record.size, max_bytes=max_bytes, max_operations=max_operations)


def _byte_order(records: Mapping[str, _Record], file: BinaryIO) -> str:
    """Return the order of the bytes of a value; older files do not say it, and were written on little-endian machines."""
    record = next((record for name, record in records.items() if name.lower() == "byteorder"), None)
    if record is None:
        return "little"
    file.seek(record.offset)
    said = file.read(min(record.size, 8))
    if said not in (b"little", b"big"):
        raise Refused("record 'byteorder'", "little or big", "is neither")
    return said.decode()


def _read_zip(records: Mapping[str, _Record], stream: PickleStream, machine: TorchMachine) -> tuple[Any, dict[str, Place]]:
    value = machine.run(stream)
    places = {}
    for key, storage in machine.storages.items():
        record = records.get(f"data/{key}")
        if record is None:
            raise Refused(f"storage {key!a:.40}", "a record of the file", "is not there")
        if record.size != storage.nbytes:
            raise Refused(
                f"storage {key!a:.40}", f"{amount(storage.nbytes)} bytes long, as its pickle says", f"has {record.size}"
            )
        places[key] = Place(record.offset, storage)
    return value, places


def _read_legacy(file: BinaryIO, stream: PickleStream, size: int, machine: TorchMachine) -> tuple[Any, dict[str, Place]]:
    with contextlib.suppress(tarfile.HeaderError):  # torch looks first whether it is one, of 2016, and believes its sizes
        file.seek(0)
        tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
        raise Refused("content", "pickles and values", "is a tar archive, too")
    file.seek(0)
    try:
        is_legacy = PlainMachine(frozenset()).run(stream) == TORCH_MAGIC
    except Unsafe:
        is_legacy = False
    if not is_legacy:
        raise ValueError("it is a bare pickle, and no file of torch.save; save the state dict with that")
    protocol = PlainMachine(frozenset()).run(stream)
    if type(protocol) is not int or protocol != _PROTOCOL:
        raise ValueError(f"its protocol is {amount(protocol)} and not {_PROTOCOL}")
    PlainMachine(frozenset()).run(stream)  # of the system; values are little-endian whatever it says
    value = machine.run(stream)
    keys = PlainMachine(frozenset()).run(stream)
    are_keys = type(keys) is list and len(keys) == len(machine.storages) and all(type(key) is str for key in keys)
    if not are_keys or set(keys) != set(machine.storages):
        raise ValueError("the list of its storages is another than those that its tensors have")
    places = _legacy_places(file, stream.position, size, [machine.storages[key] for key in keys])
    return value, places


def _legacy_places(file: BinaryIO, offset: int, size: int, storages: list[Storage]) -> dict[str, Place]:
    """Go from storage to storage, to the end of the file; return where each lies."""
    places = {}
    for storage in storages:
        file.seek(offset)
        count = int.from_bytes(file.read(8), "little")
        places[storage.key] = Place(offset + 8, storage)
        offset += 8 + storage.nbytes
        if count != storage.count or offset > size:
            raise ValueError(
                f"storage {storage.key!a:.40} has {amount(storage.count)} values in its pickle, {count} where it lies, in a "
                f"file of {size} bytes"
            )
    if offset != size:
        raise ValueError(f"it has {size - offset} bytes behind its last storage")
    return places
