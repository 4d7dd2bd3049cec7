"""Zip files are read in one way: what ours accepts torch reads in the same way, and nothing lies beside the members."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from registry import CheckpointError
from registry.checkpoint.archives.extract import extract_archive
from registry.checkpoint.torch.file import TorchFile
from registry.checkpoint.torch.layout import _records
from tests.checkpoint.forge import dictionary, pickled, storage, tensor
from tests.checkpoint.zip_forge import Entry, Zip, joined, mutated

FOUR, OTHER = struct.pack("<4f", 1, 2, 3, 4), struct.pack("<4f", 5, 6, 7, 8)
PICKLE = pickled(dictionary({"a": tensor(storage("0", 4), (4,), (1,))}))
OTHER_PICKLE = pickled(dictionary({"b": tensor(storage("0", 4), (2, 2), (1, 2))}))


def torch_zip(pickle: bytes = PICKLE, values: bytes = FOUR, descriptor: int = 16) -> Zip:
    """Return what `torch.save` writes."""
    members = {b"data.pkl": pickle, b"byteorder": b"little", b"data/0": values, b"version": b"3\n"}
    return Zip(
        tuple(
            Entry(b"x/" + name, data, descriptor=descriptor, local={"extra": b"FB\4\0ZZZZ"}) for name, data in members.items()
        ),
        zip64=True,
    )


def agree(path: Path) -> bool:
    """Whether ours reads a file; where it does, torch must find the same records at the same places, and equal tensors."""
    try:
        found = TorchFile(path)
        tensors = {name: found.tensor(name) for name in found.names()}
    except CheckpointError as error:
        assert path.name in str(error)
        return False
    with path.open("rb") as file:
        records = _records(file)
        ours = {}
        for name, record in records.items():
            file.seek(record.offset)
            ours[name] = record.offset, file.read(record.size)
    reader = torch._C.PyTorchFileReader(str(path))
    names = [name for name in reader.get_all_records() if not name.startswith(".data/")]
    assert sorted(names) == sorted(name for name in ours if not name.startswith(".data/"))
    assert {name: (reader.get_record_offset(name), reader.get_record(name)) for name in names} == {
        name: ours[name] for name in names
    }
    theirs = torch.load(path, weights_only=True)
    assert theirs.keys() == tensors.keys()
    assert all(torch.equal(theirs[name].view(torch.uint8), tensors[name].view(torch.uint8)) for name in tensors)
    return True


@pytest.mark.parametrize("descriptor", [0, 16, 24])
@pytest.mark.parametrize("zip64", [True, False])
def test_the_forms_that_torch_writes_are_read(tmp_path: Path, descriptor: int, zip64: bool) -> None:
    (tmp_path / "x").write_bytes(joined(replace(torch_zip(descriptor=descriptor), zip64=zip64)))
    assert agree(tmp_path / "x")


@pytest.mark.parametrize("seed", range(4))
def test_changed_zip_files_are_refused_or_read_as_torch_reads_them(tmp_path: Path, seed: int) -> None:
    numbers = random.Random(f"zip {seed}")
    other = joined(torch_zip(OTHER_PICKLE, OTHER))
    counts: Counter[bool] = Counter()
    for index in range(750):
        source = replace(torch_zip(descriptor=numbers.choice((0, 16, 24))), zip64=numbers.random() < 0.7)
        path = tmp_path / f"{seed}-{index}"
        path.write_bytes(mutated(source, other, numbers))
        counts[agree(path)] += 1
        path.unlink()
    assert counts[True] > 20 and counts[False] > 400, counts


def two_directories() -> bytes:
    """Return a file whose locator points to one list, while another stands where Python's reader looks for it."""
    first, second = torch_zip(), torch_zip(OTHER_PICKLE, OTHER)
    whole, inner = joined(first), joined(second)
    at = inner.index(b"PK\1\2")
    members, listed = inner[:at], bytearray(inner[at : inner.index(b"PK\6\6")])
    position = 0
    begin = whole.index(b"PK\1\2")
    while position < len(listed):  # the second file's members come behind those of the first
        (offset,) = struct.unpack_from("<L", listed, position + 42)
        struct.pack_into("<L", listed, position + 42, offset + begin)
        position += 46 + struct.unpack_from("<H", listed, position + 28)[0]
    out = whole[:begin] + members
    hidden = len(out)
    out += listed
    record = len(out)
    form = "<4sQHHLLQQQQ"
    out += struct.pack(form, b"PK\6\6", 44, 45, 45, 0, 0, 4, 4, len(listed), hidden)
    shown = len(out)
    directory = whole[begin : whole.index(b"PK\6\6")]
    out += directory + struct.pack(form, b"PK\6\6", 44, 45, 45, 0, 0, 4, 4, len(directory), shown)
    out += struct.pack("<4sLQL", b"PK\6\7", 0, record, 1)
    return out + struct.pack("<4sHHHHLLH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)


def test_a_locator_that_points_to_another_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(two_directories())
    with zipfile.ZipFile(tmp_path / "x") as archive:
        assert archive.read("x/data.pkl") == PICKLE
    assert torch._C.PyTorchFileReader(str(tmp_path / "x")).get_record("data.pkl") == OTHER_PICKLE
    with pytest.raises(CheckpointError, match="zip64 record that does not agree"):
        TorchFile(tmp_path / "x")


def test_a_pickle_that_is_marked_as_a_folder_is_refused(tmp_path: Path) -> None:
    source = torch_zip()
    marked = replace(source.entries[0], listed={"outer": 0x10})
    (tmp_path / "x").write_bytes(joined(replace(source, entries=(marked, *source.entries[1:]))))
    with pytest.raises(CheckpointError, match=r"record 'x/data.pkl' .* is a folder"):
        TorchFile(tmp_path / "x")


def plain_zip(**changes: object) -> Zip:
    entries = (Entry(b"config.json", b"{}"), Entry(b"vocab.txt", b"[PAD]\n"))
    return replace(Zip(entries), **changes)  # type: ignore[arg-type]


def with_first(**changes: object) -> Zip:
    source = plain_zip()
    return replace(source, entries=(replace(source.entries[0], **changes), source.entries[1]))  # type: ignore[arg-type]


def gap(place: int, data: bytes = b"\0") -> Zip:
    gaps = [b""] * 6
    gaps[place] = data
    return plain_zip(gaps=tuple(gaps), zip64=place in (3, 4))


def extract(tmp_path: Path, data: bytes) -> dict[str, bytes]:
    (tmp_path / "archive").write_bytes(data)
    extract_archive(tmp_path / "archive", tmp_path / "out")
    return {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}


GOOD = {
    "as it is": plain_zip(),
    "with a comment": plain_zip(comment=b"packed by hand"),
    "with a zip64 record": plain_zip(zip64=True),
    "in another order": plain_zip(is_shuffled=True),
    "with counts in the zip64 record alone": plain_zip(
        zip64=True, end={"count": 0xFFFF, "total": 0xFFFF, "length": 0xFFFFFFFF, "offset": 0xFFFFFFFF}
    ),
    **{f"with a descriptor of {size} bytes": with_first(descriptor=size) for size in (12, 16, 20, 24)},
}


@pytest.mark.parametrize("label", GOOD)
def test_archives_of_all_programs_are_unpacked(tmp_path: Path, label: str) -> None:
    assert extract(tmp_path, joined(GOOD[label])) == {"config.json": b"{}", "vocab.txt": b"[PAD]\n"}


def test_an_archive_that_was_streamed_is_unpacked(tmp_path: Path) -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.data += bytes(data)
            return len(data)

    with zipfile.ZipFile(pipe := Pipe(), "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[call-overload]
        archive.mkdir("model")
        archive.writestr("model/config.json", b"{}")
        with archive.open("model/vocab.txt", "w", force_zip64=True) as member:
            member.write(b"[PAD]\n")
    assert b"PK\7\10" in pipe.data
    assert extract(tmp_path, pipe.data) == {"config.json": b"{}", "vocab.txt": b"[PAD]\n"}


BAD = {
    "bytes before": (gap(0, b"PK\3\4"), "before|damaged"),
    "bytes before, with offsets from behind them": (plain_zip(), "before"),
    "bytes before the list": (gap(1), "followed by 1 bytes"),
    "bytes behind the list": (gap(2), "before or behind|damaged"),
    "bytes behind the zip64 record": (gap(3), "zip64 record|damaged"),
    "bytes behind the locator": (gap(4), "before or behind|damaged"),
    "bytes behind": (gap(5), "before or behind|damaged"),
    "an end record behind": (gap(5, b"PK\5\6" + bytes(18)), "before or behind|damaged|entries"),
    "bytes between": (with_first(behind=b"\0"), "followed by 1 bytes"),
    "a member that is not listed": (with_first(times=0), "before it"),
    "a member that is listed twice": (with_first(times=2), "shares bytes"),
    "a descriptor that is not announced": (with_first(behind=b"PK\7\10" + bytes(12)), "followed by 16 bytes"),
    "a descriptor of another member": (with_first(descriptor=16, described={"crc": 1}), "followed by 16 bytes"),
    "a descriptor of another size": (with_first(descriptor=24, described={"size": 1}), "followed by 24 bytes"),
    "another size where it lies": (with_first(local={"size": 1}), "says otherwise"),
    "another method where it lies": (with_first(local={"method": 8}), "says otherwise"),
    "another name where it lies": (with_first(local={"name": b"Config.json"}), "says otherwise"),
    "a count that is too small": (plain_zip(end={"count": 1, "total": 1}), "1 entries"),
    "a count that is too large": (plain_zip(end={"count": 3, "total": 3}), "3 entries"),
    "two counts": (plain_zip(end={"count": 1}), "several"),
    "a second disk": (plain_zip(end={"disk": 1}), "several"),
    "a count of the zip64 record": (plain_zip(zip64=True, end64={"count": 3, "total": 3}), "zip64 record"),
    "a comment with an end record": (plain_zip(comment=b"!" + b"PK\5\6" + bytes(18)), "before or behind|entries|damaged"),
    "a comment that is longer than it says": (plain_zip(comment=b"text", end={"comment": 2}), "before or behind|damaged"),
}


@pytest.mark.parametrize("label", BAD)
def test_an_archive_with_more_than_its_members_is_refused(tmp_path: Path, label: str) -> None:
    source, reason = BAD[label]
    data = joined(source)
    if label == "bytes before, with offsets from behind them":
        data = b"PK\3\4" + joined(plain_zip())
    with pytest.raises(CheckpointError, match=reason):
        extract(tmp_path, data)


def test_two_archives_joined_are_refused(tmp_path: Path) -> None:
    data = joined(plain_zip())
    with pytest.raises(CheckpointError, match="before"):
        extract(tmp_path, data + data)
    with pytest.raises(CheckpointError, match="before"):  # as programs do that mend the offsets of the second
        extract(tmp_path, joined(plain_zip(gaps=(data, b"", b"", b"", b"", b""))))


def test_what_a_changed_archive_unpacks_to_is_what_another_reader_finds(tmp_path: Path) -> None:
    numbers = random.Random("archives")
    other = joined(plain_zip())
    accepted = 0
    for index in range(300):
        data = mutated(plain_zip(zip64=numbers.random() < 0.5), other, numbers)
        folder = tmp_path / str(index)
        folder.mkdir()
        try:
            found = extract(folder, data)
        except CheckpointError:
            continue
        accepted += 1
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {info.filename.rpartition("/")[2]: archive.read(info) for info in archive.infolist()}
        assert found == {name: content for name, content in members.items() if name}, data
    assert accepted > 5
