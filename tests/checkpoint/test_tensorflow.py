"""TensorFlow checkpoints, read without it: all that real ones hold, and what hostile ones say."""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from registry import CheckpointError
from registry.checkpoint.open import checkpoint_format, open_checkpoint
from registry.checkpoint.tensorflow.file import TensorflowFile, data_shards
from registry.checkpoint.tensorflow.wire import slice_key
from registry.checkpoint.tensors import TensorInfo
from tests.processes import run_python
from tests.tensorflow import bundle
from tests.tensorflow.mutations import ODD, mutate, read_all

CHECKPOINTS = Path(__file__).parent.parent / "tensorflow" / "checkpoints"
EXPECTED = sorted(CHECKPOINTS.glob("*/expected.safetensors"))
FLOAT, STRING = 1, 7


def index_beside(expected: Path) -> Path:
    (index,) = (path for path in expected.parent.glob("*.index") if path.name != "far.index")
    return index


def same_bytes(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.equal(one.contiguous().reshape(-1).view(torch.uint8), other.contiguous().reshape(-1).view(torch.uint8))


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda path: path.parent.name)
def test_every_variable_is_what_tensorflow_reads(expected: Path) -> None:
    checkpoint = open_checkpoint(index_beside(expected))
    with safe_open(str(expected), framework="pt") as held:
        types = json.loads(held.metadata()["types"])
        wanted = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118 - it is no mapping
    types.pop("_CHECKPOINTABLE_OBJECT_GRAPH", None)
    assert sorted(checkpoint.names()) == sorted(types)
    assert len(wanted) > 1
    for name, tensor in wanted.items():
        if types[name] == "complex128":
            tensor = torch.view_as_complex(tensor)
        assert checkpoint.info(name) == TensorInfo.of(tensor)
        read = checkpoint.tensor(name)
        assert read.dtype == tensor.dtype and read.shape == tensor.shape and same_bytes(read, tensor), name
    for name in types.keys() - wanted.keys():
        with pytest.raises(CheckpointError, match=f"type {checkpoint.info(name).dtype}; torch has no such"):
            checkpoint.tensor(name)


def test_the_graph_of_python_objects_is_not_listed() -> None:
    index = CHECKPOINTS / "objects" / "ckpt-1.index"
    assert b"_CHECKPOINTABLE_OBJECT_GRAPH" in bundle.read_table(index.read_bytes())
    names = list(TensorflowFile(index).names())
    assert "net/kernel/.ATTRIBUTES/VARIABLE_VALUE" in names and "_CHECKPOINTABLE_OBJECT_GRAPH" not in names


def test_shards_are_named_by_the_index_and_found_wherever_they_are(tmp_path: Path) -> None:
    source = CHECKPOINTS / "sharded"
    shards = [f"model.ckpt.data-0000{number}-of-00003" for number in range(3)]
    assert data_shards(source / "model.ckpt.index") == shards
    # As in a cache, where a file is named by its hash.
    files = {name: tmp_path / str(number) for number, name in enumerate(shards)}
    for name, path in files.items():
        shutil.copyfile(source / name, path)
    shutil.copyfile(source / "model.ckpt.index", tmp_path / "blob")
    assert data_shards(tmp_path / "blob", "model.ckpt.index") == shards
    checkpoint = open_checkpoint(tmp_path / "blob", files.__getitem__, "model.ckpt.index")
    expected = open_checkpoint(source / "model.ckpt.index")
    assert all(torch.equal(checkpoint.tensor(name), expected.tensor(name)) for name in expected.names())


def test_ten_thousand_variables_in_five_shards() -> None:
    index = CHECKPOINTS / "many" / "model.ckpt.index"
    checkpoint = open_checkpoint(index)
    assert len(data_shards(index)) == 5
    names = list(checkpoint.names())
    assert len(names) == 10_000
    for name in random.Random(3).sample(names, 500):
        assert checkpoint.tensor(name) == int(name.rpartition("_")[2])


def test_keys_of_slices_are_encoded_as_tensorflow_does() -> None:
    keys = [key for key in bundle.read_table((CHECKPOINTS / "extents" / "far.index").read_bytes()) if key.startswith(b"\0")]
    starts = (63, 64, 8191, 8192, 1_048_575, 20_000_000, (1 << 40) - 1)
    assert keys == [slice_key(b"far", ((start, 1),)) for start in starts]


def test_a_checkpoint_of_version_1_says_how_to_convert_it() -> None:
    path = CHECKPOINTS / "version_1" / "model.ckpt"
    for read in (open_checkpoint, data_shards):
        with pytest.raises(CheckpointError, match=r"version 2, but is of version 1; convert it .*tf\.raw_ops\.SaveV2"):
            read(path)


def test_formats_are_told_by_content(tmp_path: Path) -> None:
    shutil.copyfile(CHECKPOINTS / "gpt2" / "model.ckpt.index", tmp_path / "x.bin")
    assert checkpoint_format(tmp_path / "x.bin") == "tensorflow"
    with pytest.raises(CheckpointError, match=r"safetensors, torch or the index of a TensorFlow checkpoint, but it is"):
        open_checkpoint(CHECKPOINTS / "gpt2" / "model.ckpt.data-00000-of-00001")


def test_a_compressed_index_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cramjam", None)
    with pytest.raises(CheckpointError, match=r"pip install 'pretrained-registry\[tensorflow\]'"):
        open_checkpoint(CHECKPOINTS / "snappy" / "model.ckpt.index")


def test_a_compressed_block_that_promises_too_much_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import cramjam

    monkeypatch.setattr(cramjam, "snappy", None)
    content = bundle.varint((1 << 32) - 1) + b"\0" * 50
    handle = bundle.varint(0) + bundle.varint(len(content))
    with pytest.raises(CheckpointError, match="says that it holds 4294967295 bytes"):
        open_checkpoint(written(tmp_path, bundle.finish(bundle.sealed(content, 1), [(b"\xff", handle)])))


def written(folder: Path, index: bytes, data: bytes = b"") -> Path:
    path = folder / "model.ckpt.index"
    path.write_bytes(index)
    (folder / "model.ckpt.data-00000-of-00001").write_bytes(data)
    return path


def floats(*numbers: float) -> bytes:
    return torch.tensor(numbers, dtype=torch.float32).numpy().tobytes()


DATA = floats(1, 2, 3, 4, 5, 6)
CRC = bundle.crc32c(DATA)


def with_entry(value: bytes, **more: bytes) -> bytes:
    return bundle.table({b"": bundle.header(), b"a": value, **{name.encode(): content for name, content in more.items()}})


def test_what_the_tests_write_is_a_checkpoint(tmp_path: Path) -> None:
    path = written(tmp_path, with_entry(bundle.entry(FLOAT, (2, 3), 0, 24, CRC)), DATA)
    assert open_checkpoint(path).tensor("a").tolist() == [[1, 2, 3], [4, 5, 6]]
    with pytest.raises(CheckpointError, match="expected to hold 'b', but does not"):
        open_checkpoint(path).tensor("b")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (bundle.entry(FLOAT, (2, 4), 0, 24, CRC), r"shape \(2, 4\) of float32 does not fit its 24 bytes"),
        (bundle.entry(FLOAT, (1 << 50,), 0, 1 << 52, CRC), "expected to have 4503599627370496 bytes, .* but has 24"),
        (bundle.entry(FLOAT, (1 << 62, 1 << 62), 0, 24, CRC), "too large for any memory"),
        (bundle.entry(FLOAT, (0, 1 << 62, 1 << 62), 0, 0, CRC), "too large for any memory"),
        (bundle.entry(FLOAT, (-1,), 0, 24, CRC), "a size is -1"),
        (bundle.entry(FLOAT, (2, 3), 4, 24, CRC), "expected to have 28 bytes"),
        (bundle.entry(FLOAT, (2, 3), -4, 24, CRC), "a size is -4"),
        (bundle.entry(FLOAT, (2, 3), 0, 24, CRC, shard=1), "the shard has the number 1, and there are 1"),
        (bundle.entry(FLOAT, (1,) * 65, 0, 4, CRC), "more than 64"),
        (bundle.message([(1, FLOAT), (2, [(3, 1)])]), "a shape is unknown"),
        (bundle.message([(1, b"x")]), "a message stands where a number should"),
        (bundle.message([(2, 1)]), "a number stands where a message should"),
        (b"\x0a\xff\x01x", "a field of 255 bytes leaves its message"),
        (b"\x0b", "unknown kind 3"),
        (b"\x08" + b"\xff" * 11, "number of more than 64 bits"),
        (b"\x08" + b"\xff" * 9 + b"\x02", "number of more than 64 bits"),
        (b"\x08\xff", "ends within a number"),
    ],
)
def test_an_entry_that_lies_is_refused_by_its_name(tmp_path: Path, value: bytes, problem: str) -> None:
    with pytest.raises(CheckpointError, match=problem):
        open_checkpoint(written(tmp_path, with_entry(value), DATA))


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (bundle.header(shards=0), "has 0 shards"),
        (bundle.header(shards=1 << 40), "has 1099511627776 shards"),
        (bundle.header(needs=2), "needs a reader of version 2"),
        (bundle.message([(1, 1), (2, 7)]), "byte order is 7"),
        (b"", "has 0 shards"),
    ],
)
def test_a_header_that_cannot_be_is_refused(tmp_path: Path, header: bytes, problem: str) -> None:
    with pytest.raises(CheckpointError, match=problem):
        open_checkpoint(written(tmp_path, bundle.table({b"": header, b"a": bundle.entry(FLOAT, (2, 3), 0, 24, CRC)}), DATA))


def test_an_index_needs_its_header(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="stands where the header should"):
        open_checkpoint(written(tmp_path, bundle.table({b"a": bundle.entry(FLOAT, (2, 3), 0, 24, CRC)}), DATA))
    with pytest.raises(CheckpointError, match="is empty"):
        open_checkpoint(written(tmp_path, bundle.table({})))


def test_tensors_do_not_overlap(tmp_path: Path) -> None:
    value = bundle.entry(FLOAT, (2, 3), 0, 24, CRC)
    with pytest.raises(CheckpointError, match="overlap at byte 4"):
        open_checkpoint(written(tmp_path, with_entry(value, b=bundle.entry(FLOAT, (1,), 4, 4, CRC)), DATA))


def blocks(*parts: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    out, handles = b"", []
    for number, part in enumerate(parts):
        handles.append((bytes([number]), bundle.varint(len(out)) + bundle.varint(len(part))))
        out += bundle.sealed(part)
    return out, handles


def test_blocks_and_keys_come_in_order(tmp_path: Path) -> None:
    first, second = bundle.block([(b"", bundle.header())]), bundle.block([(b"", bundle.header())])
    content, handles = blocks(first, second)
    with pytest.raises(CheckpointError, match="does not come after"):
        open_checkpoint(written(tmp_path, bundle.finish(content, handles)))
    twice = [(b"a", handles[0][1]), (b"b", handles[0][1])]
    with pytest.raises(CheckpointError, match="overlaps another"):
        open_checkpoint(written(tmp_path, bundle.finish(content, twice)))
    with pytest.raises(CheckpointError, match="overlaps another, or leaves the file"):
        open_checkpoint(written(tmp_path, bundle.finish(content, [(b"a", bundle.varint(0) + bundle.varint(1 << 40))])))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\x01\x00\x00" + b"\0\0\0\0\1\0\0\0", "key of 1 and 0 bytes"),
        (b"\x00\x7f\x00" + b"\0\0\0\0\1\0\0\0", "key of 0 and 127 bytes"),
        (b"\x00\x00\x7f" + b"\0\0\0\0\1\0\0\0", "value of 127"),
        (b"\x00\x80" + b"\0\0\0\0\1\0\0\0", "ends within a number"),
        (b"\0\0\0\0\xff\xff\xff\xff", "too short for what its end says"),
        (b"\0", "too short"),
    ],
)
def test_a_block_that_contradicts_itself_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    with pytest.raises(CheckpointError, match=problem):
        open_checkpoint(written(tmp_path, bundle.finish(*blocks(content))))


def test_too_many_blocks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.checkpoint.tensorflow.table._MAX_BLOCKS", 1)
    with pytest.raises(CheckpointError, match="more than 1 blocks"):
        open_checkpoint(CHECKPOINTS / "many" / "model.ckpt.index")


def test_a_block_of_an_unknown_type_is_refused(tmp_path: Path) -> None:
    content = bundle.block([(b"", bundle.header())])
    handle = bundle.varint(0) + bundle.varint(len(content))
    with pytest.raises(CheckpointError, match="unknown type 9"):
        open_checkpoint(written(tmp_path, bundle.finish(bundle.sealed(content, 9), [(b"a", handle)])))


def test_shared_keys_cannot_grow_into_memory(tmp_path: Path) -> None:
    # Each entry of 7 bytes repeats a key of 16,000 bytes but its end: 0.1 MB would be 256 MB.
    content = bundle.varint(0) + bundle.varint(16_000) + b"\0" + b"k" * 15_998 + b"\0\0"
    content += b"".join(bundle.varint(15_998) + b"\x02\x00" + bytes(divmod(number, 128)) for number in range(1, 16_000))
    index = bundle.finish(*blocks(bundle.block([(b"", bundle.header())]), content + b"\0\0\0\0\1\0\0\0"))
    with pytest.raises(CheckpointError, match="bytes in all"):
        open_checkpoint(written(tmp_path, index))


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b"\x78\x00" * 1000, "a message has more than 32 fields"),
        (bundle.message([(2, b"\x12\x00" * 1000)]), "more than 64 axes"),
        (bundle.message([(7, b"\x0a\x00" * 1000)]), "more than 64 axes"),
        (b"\x3a\x00" * 300_000, "more than 262144 axes of slices"),
    ],
    ids=["fields", "axes", "extents", "slices"],
)
def test_an_entry_cannot_repeat_its_parts_without_end(tmp_path: Path, value: bytes, problem: str) -> None:
    with pytest.raises(CheckpointError, match=problem):
        open_checkpoint(written(tmp_path, with_entry(value), DATA))


def test_too_many_entries_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.checkpoint.tensorflow.table._MAX_ENTRIES", 9_999)
    with pytest.raises(CheckpointError, match="more than 9999 entries"):
        open_checkpoint(CHECKPOINTS / "many" / "model.ckpt.index")


def extents(*axes: tuple[int, int] | None) -> list[object]:
    return [(1, [(1, axis[0]), (2, axis[1])] if axis else []) for axis in axes]


def sliced(parts: list[tuple[tuple[int, int], ...]], shape: tuple[int, ...] = (4,), dtype: int = FLOAT) -> dict[bytes, bytes]:
    """Return the entries of a variable of slices, each with values from the start of `DATA`."""
    entries = {b"": bundle.header()}
    entries[b"v"] = bundle.entry(FLOAT, shape, 0, 0, 0, slices=[extents(*part) for part in parts])
    offset = 0
    for part in parts:
        lengths = [length for _, length in part]
        size = 4 * torch.Size(lengths).numel()
        content = DATA[offset : offset + size]
        entries[slice_key(b"v", part)] = bundle.entry(dtype, lengths, offset, size, bundle.crc32c(content))
        offset += size
    return entries


def test_slices_are_put_together(tmp_path: Path) -> None:
    entries = sliced([((2, 2),), ((0, 2),)])
    assert open_checkpoint(written(tmp_path, bundle.table(entries), DATA)).tensor("v").tolist() == [3, 4, 1, 2]


def test_a_slice_is_named_once_in_whatever_way(tmp_path: Path) -> None:
    whole, named = ((0, -1),), ((0, 4),)
    entries = sliced([named])
    entries[b"v"] = bundle.entry(FLOAT, (4,), 0, 0, 0, slices=[extents(*named), extents(None)])
    entries[slice_key(b"v", whole)] = bundle.entry(FLOAT, (4,), 16, 16, 0)
    with pytest.raises(CheckpointError, match="do not fill"):
        open_checkpoint(written(tmp_path, bundle.table(entries), DATA + DATA))


def test_every_true_is_the_same(tmp_path: Path) -> None:
    data = b"\0\1\2\xff"
    path = written(tmp_path, with_entry(bundle.entry(10, (4,), 0, 4, bundle.crc32c(data))), data)
    read = open_checkpoint(path).tensor("a")
    assert read.dtype == torch.bool and read.view(torch.uint8).tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize(
    "parts",
    [
        [((0, 2),)],
        [((0, 2),), ((3, 1),)],
        [((0, 2),), ((1, 3),)],
        [((0, 2),), ((2, 3),)],
        [((0, 4),), ((0, 2),)],
        [((1, 3),)],
    ],
)
def test_slices_that_do_not_fill_their_variable_are_refused(tmp_path: Path, parts: list[tuple[tuple[int, int], ...]]) -> None:
    with pytest.raises(CheckpointError, match=r"slices of 'v' do not fill the shape \(4,\) exactly"):
        open_checkpoint(written(tmp_path, bundle.table(sliced(parts)), DATA))


WHOLE = [((0, 2),), ((2, 2),)]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda entries: entries.pop(slice_key(b"v", WHOLE[1])), "missing, or named twice"),
        (lambda entries: entries.pop(b"v"), "belongs to no variable"),
        (lambda entries: entries.update(sliced([*WHOLE, WHOLE[1]])), "missing, or named twice"),
        (lambda entries: entries.update({slice_key(b"v", WHOLE[1]): bundle.entry(3, (2,), 8, 8, 0)}), "another type or shape"),
        (lambda entries: entries.update({slice_key(b"v", WHOLE[1]): bundle.entry(FLOAT, (2, 1), 8, 8, 0)}), "another type"),
        (lambda entries: entries.update({b"v": sliced(WHOLE, (4, 1))[b"v"]}), "has 1 axes, and the variable 2"),
    ],
)
def test_a_variable_and_its_slices_agree(tmp_path: Path, change: Callable[[dict[bytes, bytes]], object], problem: str) -> None:
    entries = sliced(WHOLE)
    assert open_checkpoint(written(tmp_path, bundle.table(entries), DATA)).tensor("v").tolist() == [1, 2, 3, 4]
    change(entries)
    with pytest.raises(CheckpointError, match=problem):
        open_checkpoint(written(tmp_path, bundle.table(entries), DATA))


def copied(name: str, folder: Path) -> Path:
    shutil.copytree(CHECKPOINTS / name, folder / name)
    return index_beside(folder / name / "expected.safetensors")


def test_damaged_values_are_found_when_they_are_read(tmp_path: Path) -> None:
    index = copied("gpt2", tmp_path)
    shard = index.with_name("model.ckpt.data-00000-of-00001")
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    checkpoint = open_checkpoint(index)
    damaged = []
    for name in checkpoint.names():
        try:
            checkpoint.tensor(name)
        except CheckpointError as error:
            assert "checksum is wrong; fetch it again" in str(error)
            damaged.append(name)
    assert damaged == ["model/wte"]  # the last by name is the last in the file


def test_a_shard_that_is_missing_or_short_is_named_before_anything_is_read(tmp_path: Path) -> None:
    index = copied("sharded", tmp_path)
    shard = index.with_name("model.ckpt.data-00001-of-00003")
    size = shard.stat().st_size
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=f"00001-of-00003' is expected to have {size} bytes, .* but has {size - 1}"):
        open_checkpoint(index)
    shard.unlink()
    with pytest.raises(CheckpointError, match="00001-of-00003' of .* is expected to be there, but is not"):
        open_checkpoint(index)
    with pytest.raises(CheckpointError, match="is expected to be there, but is not"):
        open_checkpoint(index, {}.__getitem__)


def test_a_shard_that_shrinks_after_it_was_found_is_an_error(tmp_path: Path) -> None:
    index = copied("gpt2", tmp_path)
    checkpoint = open_checkpoint(index)
    index.with_name("model.ckpt.data-00000-of-00001").write_bytes(b"")
    with pytest.raises(CheckpointError, match="it ends before"):
        checkpoint.tensor("model/wte")


@pytest.mark.parametrize("name", ["gpt2", "snappy"])
def test_damage_of_an_index_is_never_taken_for_its_content(tmp_path: Path, name: str) -> None:
    index = copied(name, tmp_path)
    whole = index.read_bytes()
    infos = {name: open_checkpoint(index).info(name) for name in open_checkpoint(index).names()}
    unnoticed = []
    for place in range(0, len(whole), 19):
        index.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            checkpoint = open_checkpoint(index)
        except CheckpointError:
            continue
        assert {name: checkpoint.info(name) for name in checkpoint.names()} == infos
        unnoticed.append(place)
    # Only the statistics, a block without entries, and the part of the footer that leads there or is nothing, say nothing.
    footer = len(whole) - 48
    statistics, _ = bundle.number(whole, footer)
    assert all(statistics <= place < statistics + 13 or footer <= place < footer + 40 for place in unnoticed)


def test_a_cut_index_is_refused(tmp_path: Path) -> None:
    index = copied("gpt2", tmp_path)
    whole = index.read_bytes()
    for size in range(0, len(whole), 7):
        index.write_bytes(whole[:size])
        with pytest.raises(CheckpointError):
            open_checkpoint(index)
        with pytest.raises(CheckpointError):
            TensorflowFile(index)


def test_damage_of_every_kind_ends_in_one_kind_of_error(tmp_path: Path) -> None:
    source = CHECKPOINTS / "slices" / "model.ckpt.index"
    index, data = source.read_bytes(), source.with_name("model.ckpt.data-00000-of-00001").read_bytes()
    numbers = random.Random(8)
    refused = sum(read_all(written(tmp_path, *mutate(numbers, index, data))) for _ in range(100))
    assert refused > 60


FIELD = st.tuples(st.integers(1, 8), st.one_of(st.sampled_from(ODD), st.integers(0, 30), st.binary(max_size=12)))
KEY = st.one_of(st.binary(max_size=12), st.just(b"v"), st.integers(0, 4).map(lambda start: slice_key(b"v", ((start, 1),))))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(KEY, st.lists(FIELD, max_size=8).map(bundle.message), max_size=5), st.booleans(), st.integers(1, 3))
def test_no_entry_under_right_checksums_does_harm(
    tmp_path: Path, entries: dict[bytes, bytes], compress: bool, per_block: int
) -> None:
    entries[b""] = bundle.header()
    read_all(written(tmp_path, bundle.table(entries, compress, per_block), DATA))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=80), st.sampled_from([0, 1]))
def test_no_block_under_a_right_checksum_does_harm(tmp_path: Path, content: bytes, kind: int) -> None:
    handle = bundle.varint(0) + bundle.varint(len(content))
    assert read_all(written(tmp_path, bundle.finish(bundle.sealed(content, kind), [(b"\xff", handle)]))) or kind == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", ["slices", "types"])
def test_ten_thousand_damaged_checkpoints_in_little_memory(tmp_path: Path, name: str, seed: int) -> None:
    source = CHECKPOINTS / name / "model.ckpt.index"
    megabytes = 200
    done = run_python("-m", "tests.tensorflow.mutations", str(source), str(tmp_path), "2500", str(seed), str(megabytes))
    refused = json.loads(done.stdout)["refused"]
    assert 1000 < refused < 2500  # not every byte is looked at, and some damage is none


MEMORY = """
import sys
from pathlib import Path
from registry.checkpoint.open import open_checkpoint

def anonymous():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon"))

tensor = open_checkpoint(Path(sys.argv[2])).tensor("model/wte")
assert tensor[0, 0] != 1000.0  # all that reading and comparing needs is there
before = anonymous()
checkpoint = open_checkpoint(Path(sys.argv[1]))
most = 0
for name in checkpoint.names():
    tensor = checkpoint.tensor(name)
    most = max(most, anonymous() - before)
    assert tensor[-1] == float(name)
    del tensor
print(most)
"""


@pytest.mark.slow
def test_reading_holds_one_tensor_at_a_time(tmp_path: Path) -> None:
    size, count = 40 << 20, 10  # blocks of 32 MB and more go back to the system at once, whatever the allocator remembers
    entries = {b"": bundle.header()}
    with (tmp_path / "model.ckpt.data-00000-of-00001").open("wb") as file:
        for number in range(count):
            content = floats(number) * (size // 4)
            entries[str(number).encode()] = bundle.entry(FLOAT, (size // 4,), number * size, size, bundle.crc32c(content))
            file.write(content)
    (tmp_path / "model.ckpt.index").write_bytes(bundle.table(entries))
    done = run_python("-c", MEMORY, str(tmp_path / "model.ckpt.index"), str(CHECKPOINTS / "gpt2" / "model.ckpt.index"))
    assert int(done.stdout) < 1.2 * size / 1024
