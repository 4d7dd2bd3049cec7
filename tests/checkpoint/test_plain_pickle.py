"""A pickle that is read as data: everything plain, nothing that runs."""

from __future__ import annotations

import contextlib
import os
import pickle
import pickletools
import struct
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.checkpoint.torch.plain_pickle import read_plain_pickle
from registry.errors import CheckpointError, UnsafeCheckpoint

PLAIN = {
    "idx2sym": ["<eos>", "the", "wörd", "日本"],
    "sym2idx": OrderedDict([("<eos>", 0), ("the", 1)]),
    "counter": Counter({"the": 3, "of": 2}),
    "numbers": [0, -1, 255, 70000, 2**40, 1.5, True, False, None],
    "nested": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), {"a": []}),
}

_key = st.text() | st.integers(-(2**64) + 1, 2**64 - 1)
_leaf = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
_plain = st.recursive(_leaf, lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(_key, inner))


@pytest.mark.parametrize("protocol", range(6))
def test_containers_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(pickle.dumps(PLAIN, protocol))
    assert read_plain_pickle(file) == PLAIN


@pytest.mark.parametrize("as_zip", [True, False])
def test_containers_that_torch_saved(tmp_path: Path, as_zip: bool) -> None:
    torch.save(PLAIN, tmp_path / "file", _use_new_zipfile_serialization=as_zip)
    assert read_plain_pickle(tmp_path / "file") == PLAIN


@settings(max_examples=40)
@given(_plain, st.integers(0, 5))
def test_whatever_is_plain_comes_back(tmp_path_factory: pytest.TempPathFactory, value: Any, protocol: int) -> None:
    file = tmp_path_factory.getbasetemp() / "plain"
    # Protocols below 3 write bytes as a call of _codecs.encode, which only arrays need.
    data = pickle.dumps(value, protocol)
    file.write_bytes(data)
    assert read_plain_pickle(file, arrays=True) == value


@pytest.mark.parametrize("protocol", range(5))
def test_arrays_of_numbers_where_they_are_wanted(tmp_path: Path, protocol: int) -> None:
    values = np.arange(-6, 6000, dtype=np.int64).reshape(3, -1)
    data = {"rows": values, "columns": np.asfortranarray(values), "big": values.astype(">i4"), "float": values / 7}
    file = tmp_path / "file"
    file.write_bytes(pickle.dumps(data, protocol))
    read = read_plain_pickle(file, arrays=True)
    for name, expected in data.items():
        np.testing.assert_array_equal(read[name].values, expected)
    with pytest.raises(UnsafeCheckpoint, match="_reconstruct"):
        read_plain_pickle(file)


class _Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("arrays", [True, False])
@pytest.mark.parametrize("form", ["pickle", "old pickle", "zip", "legacy"])
def test_code_is_named_and_never_run(tmp_path: Path, form: str, arrays: bool) -> None:
    marker, file = tmp_path / "marker", tmp_path / "vocab.bin"
    data = {"idx2sym": ["a"], "counter": _Hostile(marker)}
    if form in ("zip", "legacy"):
        torch.save(data, file, _use_new_zipfile_serialization=form == "zip")
    else:
        file.write_bytes(pickle.dumps(data, 4 if form == "pickle" else 0))
    with pytest.raises(UnsafeCheckpoint, match=r"would call (posix|nt)\.system; nothing was run") as caught:
        read_plain_pickle(file, arrays=arrays)
    assert caught.value.globals[0].endswith(".system")
    assert not marker.exists()


def _unsafe() -> dict[str, bytes]:
    return {
        "an object": pickle.dumps(Path("x")),
        "objects in an array": pickle.dumps(np.array([object()], dtype=object), 2),
        "another encoding": b"c_codecs\nencode\n(Va\nVrot13\ntR.",
        "a call of what is no name": b"(lI1\n(tR.",
        "an instance": b"(icollections\nOrderedDict\n.",
        "a persistent id": b"\x80\x02U\x01aQ.",
        "an extension": b"\x80\x02\x82\x01.",
        "the state of a dictionary": b"\x80\x02}}b.",
        "bytes of any number": b"c__builtin__\nbytes\n(I9\ntR.",
        "a builtin": b"cbuiltins\neval\n(V1\ntR.",
    }


@pytest.mark.parametrize("name", _unsafe())
def test_what_is_not_plain_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(_unsafe()[name])
    with pytest.raises(UnsafeCheckpoint):
        read_plain_pickle(file, arrays=True)


def _damaged() -> dict[str, bytes]:
    huge = struct.pack("<Q", 1 << 60)
    return {
        "nothing": b"",
        "text": b"the\nof\n",
        "cut off": pickle.dumps(PLAIN)[:-20],
        "an empty stack": b"\x80\x020.",
        "two values": b"\x80\x02NN.",
        "no mark": b"\x80\x02Nt.",
        "a memo that is not there": b"\x80\x02h\x07.",
        "a text longer than the file": b"\x80\x04\x8d" + huge + b"abc.",
        "a number longer than the file": b"\x80\x04\x8b\xff\xff\xff\x7fabc.",
        "items of no list": b"\x80\x02N(NNe.",
        "items of no dictionary": b"\x80\x02N(NNu.",
        # Hashing it takes 2^40 steps.
        "a key of nested tuples": b"\x80\x02}N\x85" + b"2\x86" * 40 + b"Ns.",
        "a key of many bits": b"\x80\x02}\x8a\x0a" + b"\x01" * 10 + b"Ns.",
        "a number of many digits": b"\x80\x02\x8b" + struct.pack("<i", 300) + b"\x01" * 300 + b".",
        "marks without end": b"\x80\x02" + b"(" * 2000 + b"t" * 2000 + b".",
        "a key without a value": b"\x80\x02}(Nu.",
        "a frame of the whole world": b"\x80\x04\x95" + huge + b"N.",
    }


@pytest.mark.parametrize("name", _damaged())
def test_what_is_damaged_is_an_error_and_costs_nothing(tmp_path: Path, name: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(_damaged()[name])
    if name == "a frame of the whole world":
        assert read_plain_pickle(file) is None  # a frame only says how to buffer
        return
    with pytest.raises(CheckpointError):
        read_plain_pickle(file)


@given(st.binary(max_size=200))
def test_any_bytes_are_plain_or_an_error(tmp_path_factory: pytest.TempPathFactory, tail: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any"
    file.write_bytes(b"\x80\x02" + tail)
    with contextlib.suppress(CheckpointError):
        read_plain_pickle(file, arrays=True)


@given(st.data())
def test_a_pickle_with_one_byte_changed_is_plain_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = bytearray(pickle.dumps({**PLAIN, "array": np.arange(5)}, data.draw(st.integers(0, 4))))
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / "changed"
    file.write_bytes(bytes(whole))
    with contextlib.suppress(CheckpointError):
        read_plain_pickle(file, arrays=True)


def test_too_large_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(pickle.dumps("x" * 1000))
    with pytest.raises(CheckpointError, match="more than 100"):
        read_plain_pickle(file, max_bytes=100)
    with zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps("x" * 10_000_000))
    with pytest.raises(CheckpointError, match="uncompressed"):
        read_plain_pickle(tmp_path / "bomb")


def test_every_operation_that_runs_nothing_is_known() -> None:
    """The list of operations is Python's; a new one must be looked at."""
    from registry.checkpoint.torch import plain_pickle

    known = {*plain_pickle._CONSTANTS, *plain_pickle._NUMBERS, *plain_pickle._TEXTS, *plain_pickle._PUTS, *plain_pickle._GETS}
    known |= {*plain_pickle._ACTIONS, *plain_pickle._SILENT}
    assert {opcode.name for opcode in pickletools.opcodes} - known == {
        *("PERSID", "BINPERSID", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"),
        *("BYTEARRAY8", "NEXT_BUFFER", "READONLY_BUFFER", "EMPTY_SET", "ADDITEMS", "FROZENSET"),
    }
