"""Checkpoints from an enemy: nothing runs, nothing is written, and memory stays where it was."""

from __future__ import annotations

import json
import random
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file

from tests.checkpoint.confined import load_confined
from tests.checkpoint.forge import (
    _HERE,
    MAGIC,
    PROTOCOL,
    SYSTEM,
    call,
    dictionary,
    for_legacy,
    legacy_file,
    name,
    number,
    numbers,
    pickled,
    safetensors_file,
    storage,
    tensor,
    text,
    tuple_of,
    zip_file,
)

#: File name to its bytes, the class of the error, and what its text says (and `globals`, where it is UnsafeCheckpoint).
Case = tuple[bytes, str, str]

V2 = "torch._utils._rebuild_tensor_v2"
FOUR = struct.pack("<4f", 1, 2, 3, 4)
GOOD = tensor(storage("0", 4), (2, 2), (2, 1))
GOOD_LEGACY = for_legacy(GOOD)


def both(body: bytes, count: int = 4, values: bytes = FOUR) -> dict[str, bytes]:
    """Return a pickle in a file of each form, with one storage of four numbers."""
    return {
        "zip": zip_file(pickled(body), {"data/0": values}),
        "legacy": legacy_file(pickled(for_legacy(body)), {"0": (count, values)}),
    }


#: Those of the following that name nothing but what is allowed.
ALLOWED_NAMES = (
    *("dtype", "untyped", "typed", "tensor-state", "instance-attribute"),
    *("call-of-data", "count", "persistent", "hooks"),
)


def code(canary: Path) -> dict[str, Case]:
    """Pickles that would run a command (rows 32 and 33 of the fault matrix)."""
    touch = text(f"touch {canary}")
    system = call("posix.system", touch)
    bodies = {
        "system": (system, "posix.system"),
        "eval": (call("builtins.eval", text(f"open({str(canary)!r}, 'w')")), "builtins.eval"),
        "python-2": (call("__builtin__.eval", touch), "__builtin__.eval"),
        "nested": (dictionary({"a": GOOD, "b": tuple_of(tuple_of(system))}), "posix.system"),
        "in-arguments": (call("collections.OrderedDict", b"](" + tuple_of(text("a"), system) + b"e"), "posix.system"),
        "beside": (dictionary({"state_dict": dictionary({"a": GOOD}), "epoch": system}), "posix.system"),
        "instance": (b"(" + touch + b"iposix\nsystem\n", "posix.system"),
        "object": (b"(" + name("posix.system") + touch + b"o", "posix.system"),
        "stack-global": (text("posix") + text("system") + b"\x93" + tuple_of(touch) + b"R", "posix.system"),
        "hidden-global": (text("posix") + b"0" + text("sys") + text("system") + b"\x93" + tuple_of(touch) + b"R", "sys.system"),
        "extension": (b"\x82\x01" + tuple_of(touch) + b"R", "?"),
        "as-state": (call("collections.OrderedDict") + dictionary({"_metadata": system}) + b"b", "posix.system"),
        "as-storage": (tuple_of(text("storage"), system, text("0"), text("cpu"), number(4)) + b"Q", "posix.system"),
        "namespace": (
            dictionary({"args": name("argparse.Namespace") + b")\x81", "model": dictionary({"a": GOOD})}), "argparse.Namespace",
        ),
        "bytearray": (call("builtins.bytearray", number(10**10)), "builtins.bytearray"),
        "set": (call("builtins.set", b"]"), "builtins.set"),
        "from-bytes": (call("torch.storage._load_from_bytes", text("x")), "torch.storage._load_from_bytes"),
        "meta-tensor": (call("torch._utils._rebuild_meta_tensor_no_storage"), "torch._utils._rebuild_meta_tensor_no_storage"),
        "sparse": (call("torch._utils._rebuild_sparse_tensor"), "torch._utils._rebuild_sparse_tensor"),
        # Allowed names, called as torch.save never does.
        "untyped": (call("torch.storage.UntypedStorage", number(10**10)), "torch.storage.UntypedStorage"),
        "typed": (call("torch.FloatStorage", number(10**10)), "torch.FloatStorage"),
        "dtype": (call("torch.float32"), "torch.float32"),
        "tensor-state": (GOOD + tuple_of(storage("0", 4), number(0), numbers(9), numbers(1)) + b"b", "the state of"),
        "instance-attribute": (call("collections.OrderedDict") + dictionary({"items": number(1)}) + b"b", "the state of"),
        "call-of-data": (text("posix.system") + tuple_of(touch) + b"R", "what is no name"),
        "count": (call("collections.Counter", b"]" + text("a") + b"a"), "collections.Counter of a list"),
        "persistent": (tuple_of(text("module"), name("collections.OrderedDict"), text("a"), text("b")) + b"Q", "no storage"),
        "hooks": (
            call(V2, storage("0", 4), number(0), numbers(4), numbers(1), b"\x89", dictionary({"a": b"N"})),
            "hooks or flags",
        ),
    }  # fmt: skip
    cases: dict[str, Case] = {}
    for label, (body, called) in bodies.items():
        for form, data in {**both(body), "bare": pickled(body)}.items():
            cases[f"{label}.{form}"] = data, "UnsafeCheckpoint", re.escape(called)
    for label, (body, _) in bodies.items():
        if label in ALLOWED_NAMES:  # a bare pickle of these is read no further
            cases[f"{label}.bare"] = pickled(body), "CheckpointError", "bare pickle"
    cases["no-stop.zip"] = zip_file(pickled(system)[:-1]), "CheckpointError", "STOP"
    cases["no-stop.legacy"] = MAGIC + PROTOCOL + SYSTEM + pickled(system)[:-1], "UnsafeCheckpoint", "posix.system"
    cases["in-the-system"] = MAGIC + PROTOCOL + pickled(system) + pickled(b"}") + pickled(b"]"), "UnsafeCheckpoint", "posix"
    cases["in-the-keys"] = MAGIC + PROTOCOL + SYSTEM + pickled(b"}") + pickled(system), "UnsafeCheckpoint", "posix"
    second = zip_file(pickled(dictionary({"a": GOOD})), {"data/0": FOUR, "b.pkl": pickled(system)})
    cases["second-pickle"] = second, "CheckpointError", "no second pickle"
    return cases


#: Bombs that take seconds to refuse.
HEAVY = ("five-million", "marks", "deep", "collisions", "copies", "copied", "million")


def bombs() -> dict[str, Case]:
    """Pickles that are small, and would take all memory or time."""
    collide = b"".join(number(value * (2**61 - 1)) + b"N" for value in range(1, 100_000))
    bodies = {
        "five-million-numbers": (b"](" + b"K\x01" * 5_000_000 + b"e", "more than 2,000,000 operations"),
        "text-of-4-gb": (b"X\xff\xff\xff\xff" + b"abc", "expected 4294967295 bytes"),
        "text-of-2^60": (b"\x8d" + struct.pack("<Q", 1 << 60) + b"abc", "expected 1152921504606846976 bytes"),
        "number-of-2-gb": (b"\x8b\xff\xff\xff\x7f" + b"abc", "not enough data"),
        "number-of-a-kilobyte": (b"\x8b" + struct.pack("<i", 1000) + b"\x01" * 1000, "number of 7,993 bits"),
        "frame": (b"\x95" + struct.pack("<Q", 1 << 60) + b"}", "operation FRAME"),
        "buffer": (b"\x96" + struct.pack("<Q", 1 << 60) + b"}", "expected 1152921504606846976 bytes"),
        "memo": (b"}r\xff\xff\xff\xff" + b"0", "operation POP"),
        "marks": (b"(" * 1_000_000 + b"t" * 1_000_000, "more than 2,000,000 operations|more than 1,000 deep"),
        "deep": (b"N" + b"\x85" * 1_000_000, "what it holds is of type tuple|list of its storages"),
        "hash": (b"}N\x85" + b"q\x00h\x00\x86" * 60 + b"Ns", "a key that is a tuple"),
        "collisions": (b"}(" + collide + b"u", "a key of 6[5-9]|a key of 7"),
        "copies": (
            b"](" + b"K\x01" * 1000 + b"eq\x00" + (name("torch.Size") + b"h\x00\x85R") * 100_000,
            "copies more than 500,000 values",
        ),
        "copied-dictionaries": (
            dictionary({str(index): b"N" for index in range(20_000)}) + b"q\x00"
            + (name("collections.OrderedDict") + b"h\x00\x85R") * 10_000,
            "copies more than 500,000 values",
        ),
        "million-tensors": (
            b"](" + name(V2) + b"q\x00" + tuple_of(storage("0", 4), number(0), numbers(4), numbers(1), b"\x89", b"}") + b"q\x01"
            + b"R" + b"h\x00h\x01R" * 100_001 + b"e",
            "more than 100,000 tensors",
        ),
        "million-storages": (
            b"](" + b"".join(storage(str(index), 4) for index in range(100_002)) + b"e", "more than 100,000 storages|2,000,000",
        ),
        "text": (b"X" + struct.pack("<I", 34_000_000) + b"a" * 34_000_000, "more than 33,554,432"),
        "views": (
            dictionary({str(index): tensor(storage("0", 262144), (262144 - index,), (1,), index) for index in range(200)}),
            "overlap so far",
        ),
    }  # fmt: skip
    cases: dict[str, Case] = {}
    for label, (body, said) in bodies.items():
        values = bytes(1 << 20) if label == "views" else FOUR
        for form, data in both(body, len(values) // 4, values).items():
            cases[f"{label}.{form}"] = data, "CheckpointError", said
    del cases["text.legacy"]  # there the limit is on what all pickles have together
    return cases


def doubled(times: int = 60) -> bytes:
    """A tuple of two references to a tuple of two … : five bytes a level, 2**times leaves where it is walked through."""
    return b"N\x85" + b"q\x00h\x00\x86" * times


def doubled_everywhere() -> dict[str, Case]:
    """Files with a tuple in each place that takes 2**60 steps to show, hash or compare."""
    bomb = doubled()

    def held(place: int) -> bytes:
        parts = [text("storage"), name("torch.FloatStorage"), text("0"), text("cpu"), number(4)]
        parts[place] = bomb
        return tuple_of(*parts)[:-1] + b"tq\xfeQ"

    def made(place: int, function: str = V2, *more: bytes) -> bytes:
        parts = [storage("0", 4), number(0), numbers(4), numbers(1), b"\x89", call("collections.OrderedDict"), *more]
        parts[place] = bomb
        return call(function, *parts)

    v3 = "torch._utils._rebuild_tensor_v3"
    bodies = {
        "instead-of-a-storage": bomb + b"Q",
        **{f"storage-{place}": held(place) for place in range(5)},
        **{f"tensor-{place}": made(place) for place in range(6)},
        "tensor-metadata": made(6, V2, b"N"),
        "tensor-dtype": made(6, v3, b"N"),
        "sizes": tensor(storage("0", 4), (4,), (1,)).replace(numbers(4), tuple_of(bomb)),
        "parameter": call("torch._utils._rebuild_parameter", bomb, b"\x89", call("collections.OrderedDict")),
        "parameter-hooks": call("torch._utils._rebuild_parameter", GOOD, b"\x89", bomb),
        "device": call("torch.device", bomb),
        "size": call("torch.Size", bomb),
        "layout": call("torch.serialization._get_layout", bomb),
        "function": bomb + tuple_of(text("a")) + b"R",
        "arguments": name(V2) + bomb + b"R",
        "items": call("collections.OrderedDict", bomb),
        "item": call("collections.OrderedDict", tuple_of(bomb)),
        "key": call("collections.OrderedDict", tuple_of(tuple_of(bomb, text("a")))),
        "count": call("collections.Counter", bomb),
        "state": call("collections.OrderedDict") + bomb + b"b",
        "state-of": bomb + dictionary({"a": b"N"}) + b"b",
        "key-of-a-state": call("collections.OrderedDict") + b"}" + bomb + b"Nsb",
        "set-item": b"}" + bomb + text("a") + b"s",
        "set-item-of": bomb + text("a") + text("a") + b"s",
        "append-to": bomb + text("a") + b"a",
        "all": bomb,
        "value": dictionary({"a": bomb}),
        "value-beside": dictionary({"a": GOOD, "b": bomb}),
        "container": dictionary({"state_dict": bomb}),
        "name": dictionary({"state_dict": b"}" + bomb + GOOD + b"s"}),
    }  # fmt: skip
    data = {f"{label}.{form}": each for label, body in bodies.items() for form, each in both(dictionary({"x": body})).items()}
    data |= {f"{label}-at-the-top.{form}": each for label, body in bodies.items() for form, each in both(body).items()}
    whole = pickled(dictionary({"a": GOOD_LEGACY}))
    keys, values = pickled(b"]" + text("0") + b"a"), struct.pack("<q", 4) + FOUR
    end = whole + keys + values
    data |= {
        "magic.legacy": pickled(bomb) + PROTOCOL + SYSTEM + end,
        "protocol.legacy": MAGIC + pickled(bomb) + SYSTEM + end,
        "keys.legacy": MAGIC + PROTOCOL + SYSTEM + whole + pickled(bomb) + values,
        "key.legacy": MAGIC + PROTOCOL + SYSTEM + whole + pickled(b"]" + bomb + b"a") + values,
        "system-key.legacy": MAGIC + PROTOCOL + pickled(b"}" + bomb + b"Ns") + end,
        "named.legacy": pickled(bomb + text("a") + b"\x93") + PROTOCOL + SYSTEM + end,
        "named-in-all.legacy": MAGIC + PROTOCOL + pickled(text("a") + bomb + b"\x93") + end,
    }
    for place in range(3):
        view = [text("v"), number(1), number(2)]
        view[place] = bomb
        part = storage("0", 4, "FloatStorage", "cpu", tuple_of(*view))
        data[f"view-{place}.legacy"] = legacy_file(pickled(dictionary({"a": tensor(part, (2,), (1,))})), {"0": (4, FOUR)})
    part = storage("0", 4, "FloatStorage", "cpu", bomb)
    data["view.legacy"] = legacy_file(pickled(dictionary({"a": tensor(part, (2,), (1,))})), {"0": (4, FOUR)})
    # Neither reader looks at the device of a storage.
    allowed = ("storage-3.", "storage-3-")
    return {
        f"doubled-{label}": (each, "CheckpointError|UnsafeCheckpoint", "")
        for label, each in data.items()
        if not label.startswith(allowed)
    }


def copied() -> dict[str, Case]:
    """Files in which a short operation names something long, again and again."""
    long, many = text("k" * 1_000_000), b"(" + b"K\x00" * 200_000 + b"t"
    held = tuple_of(text("storage"), name("torch.FloatStorage"), b"h\x00", text("cpu"), number(4))[:-1] + _HERE
    parameter = "torch._utils._rebuild_parameter"
    sizes = tuple_of(b"h\x01", number(0), b"h\x00", b"h\x00", b"\x89", b"}")
    bodies = {
        "key": long + b"q\x00" + (held + b"0") * 100,
        "shape": many + b"q\x00" + storage("0", 4) + b"q\x01" + name(V2) + b"q\x02" + (b"h\x02" + sizes + b"R") * 20_000,
        "arguments": tuple_of(GOOD, b"\x89", b"}", many[1:-1])
        + b"q\x00"
        + name(parameter)
        + b"q\x01"
        + b"h\x01h\x00R" * 90_000,
        "name": long + b"q\x00" + b"h\x00h\x00\x93" * 100_000,
        "view": storage("0", 4, "FloatStorage", "cpu", tuple_of(long, number(1), number(2))),
    }
    return {
        f"copied-{label}.{form}": (each, "CheckpointError|UnsafeCheckpoint", "")
        for label, body in bodies.items()
        for form, each in both(body).items()
    }


def lies() -> dict[str, Case]:
    """Tensors that do not lie where they say (row 34)."""

    def of(shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0, count: int = 4) -> bytes:
        return dictionary({"a": tensor(storage("0", count), shape, stride, offset)})

    ends = "ends at|has .* values"
    bodies = {
        "shape": (of((5,), (1,)), ends),
        "stride": (of((2, 2), (3, 1)), ends),
        "offset": (of((4,), (1,), 1), ends),
        "offset-of-nothing": (of((0,), (1,), 1 << 60), ends),
        "expanded": (of((10**6, 10**6), (0, 0)), "has 1000000000000 values"),
        "overflow": (of((2**62, 4), (0, 0)), "more than 2\\^64"),
        "overflow-of-nothing": (of((0, 2**62, 2**62), (1, 1, 1)), "ends at"),
        "negative": (of((-1,), (1,)), "no sizes"),
        "negative-stride": (of((2,), (-1,)), "no sizes"),
        "negative-offset": (of((2,), (1,), -1), "no sizes"),
        "beyond-64-bits": (of((2**64,), (1,)), "no sizes"),
        "dimensions": (of((1,) * 100, (1,) * 100), "100 dimensions"),
        "rank": (of((2, 2), (1,)), "2 dimensions and 1 strides"),
        "count": (of((4,), (1,), count=10**12), "storage '0' .*(bytes long|10+ values)"),
        "count-below": (of((3,), (1,), count=3), "storage '0'"),
        "count-negative": (of((0,), (1,), count=-4), "-4 values"),
        "count-without-end": (of((0,), (1,), count=2**1000), "more than 2\\^64"),
        "absent": (dictionary({"a": tensor(storage("1", 4), (4,), (1,))}), "storage '1'|list of its storages"),
        "two-types": (dictionary({"a": GOOD, "b": tensor(storage("0", 2, "DoubleStorage"), (2,), (1,))}), "two types"),
    }  # fmt: skip
    cases: dict[str, Case] = {}
    for label, (body, said) in bodies.items():
        for form, data in both(body).items():
            cases[f"lie-{label}.{form}"] = data, "CheckpointError", said
    view = storage("0", 4, "FloatStorage", "cpu", tuple_of(text("v"), number(2), number(3)))
    beyond = legacy_file(pickled(dictionary({"a": tensor(view, (3,), (1,))})), {"0": (4, FOUR)})
    cases["lie-view"] = beyond, "CheckpointError", "ends at 5 of 4 values"
    whole = pickled(dictionary({"a": GOOD_LEGACY}))
    good = legacy_file(whole, {"0": (4, FOUR)})
    cases["legacy-cut"] = good[:-1], "CheckpointError", "in a file of"
    cases["legacy-longer"] = good + b"\0", "CheckpointError", "1 bytes behind"
    cases["legacy-count"] = legacy_file(whole, {"0": (5, FOUR)}), "CheckpointError", "5 where it lies"
    cases["legacy-unlisted"] = legacy_file(whole), "CheckpointError", "list of its storages"
    cases["legacy-twice"] = legacy_file(whole, {"0": (4, FOUR), "1": (4, FOUR)}), "CheckpointError", "list of its storages"
    # A comment that makes the beginning the header of a tar archive, with another header of 8 GB inside.
    header = tarfile.TarInfo("x")
    header.size, header.type = (8 << 30) - 1, tarfile.XHDTYPE
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    begin = MAGIC + PROTOCOL + SYSTEM + b"\x80\x02}(X" + struct.pack("<I", 600)
    block[: len(begin)] = begin
    block[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(block))[0]
    tar = bytes(block) + bytes(600 + len(begin) - len(block)) + GOOD_LEGACY + b"u." + pickled(b"](" + text("0") + b"e")
    cases["legacy-tar"] = tar + struct.pack("<q", 4) + FOUR, "CheckpointError", "is a tar archive, too"
    cases["legacy-protocol"] = MAGIC + SYSTEM + PROTOCOL, "CheckpointError", "protocol is"
    cases["bare"] = whole, "CheckpointError", "bare pickle"
    return cases


def zips() -> dict[str, Case]:
    """Zip files that two readers read differently."""
    whole = pickled(dictionary({"a": GOOD}))
    good = zip_file(whole, {"data/0": FOUR})
    twice = zip_file(whole, {"data/0": FOUR, "data/1": FOUR})
    upper = twice.replace(b"x/data/1", b"x/DATA/0")
    flipped = good.replace(b"}(X", b"}(T")
    overlap = bytearray(twice)
    second = twice.rindex(b"PK\x01\x02")
    first = twice.rindex(b"PK\x01\x02", 0, second)
    overlap[second + 42 : second + 46] = overlap[first + 42 : first + 46]
    return {
        "zip-deflated": (zip_file(whole, {"data/0": FOUR}, method=zipfile.ZIP_DEFLATED), "CheckpointError", "compressed"),
        "zip-twice": (twice.replace(b"x/data/1", b"x/data/0"), "CheckpointError", "is there twice"),
        "zip-twice-in-capitals": (upper, "CheckpointError", "is there twice"),
        "zip-overlap": (bytes(overlap), "CheckpointError", "shares bytes|where the list"),
        "zip-outside": (good.replace(b"x/data/0", b"../../ya"), "CheckpointError", "in the folder"),
        "zip-flipped": (flipped, "CheckpointError", "CRC-32 is another"),
        "zip-behind": (good + b"\0", "CheckpointError", "before or behind|damaged"),
        "zip-comment": (good[:-2] + b"\x01\x00!", "CheckpointError", "before or behind"),
        "zip-before": (good + good, "CheckpointError", "before or behind|where the list"),
        "zip-cut": (good[:-30], "CheckpointError", "damaged"),
        "zip-script": (zip_file(whole, {"constants.pkl": whole, "data/0": FOUR}), "CheckpointError", "TorchScript"),
        "zip-nul": (good.replace(b"x/data/0", b"x/data\x000"), "CheckpointError", "in the folder"),
    }


def headers() -> dict[str, Case]:
    """safetensors headers (rows 35 to 37)."""

    def entry(begin: int = 0, end: int = 4, shape: object = [1], dtype: object = "F32") -> dict[str, object]:
        return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}

    one = json.dumps({"a": entry()})
    many = "{" + ",".join(f'"{index}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for index in range(1_500_000)) + "}"
    cases: dict[str, tuple[bytes, str]] = {
        "header-of-100-gb": (safetensors_file({}, length=100 << 30), "claims 107,374,182,400 bytes"),
        "header-of-2^64": (safetensors_file({}, length=2**64 - 1), "claims 18,446,744,073,709,551,615"),
        "header-beyond": (safetensors_file({"a": entry()}, bytes(4), length=1000), "claims 1,000 bytes"),
        "header-large": (safetensors_file("{" + " " * 25_000_000 + "}"), "more than 25,000,000"),
        "million-tensors": (safetensors_file(many), "more than 25,000,000"),
        "many-tensors": (safetensors_file(many[:24_000_000].rpartition(",\"")[0] + "}"), "at most 100,000 tensors"),
        "many-lists": (safetensors_file('{"a": ' + "[" * 12_000_000 + "}"), "more than 201,000 times '\\['"),
        "many-numbers": (safetensors_file('{"a": [' + "1," * 12_000_000 + "1]}"), "more than 1,000,000 times ','"),
        "deep": (safetensors_file('{"a": ' + "[" * 200_000), "nests too deep"),
        "overlap": (safetensors_file({"a": entry(0, 4), "b": entry(2, 6)}, bytes(6)), "begins at 2"),
        "hole": (safetensors_file({"a": entry(0, 4), "b": entry(8, 12)}, bytes(12)), "begins at 8"),
        "late": (safetensors_file({"a": entry(4, 8)}, bytes(8)), "begins at 4"),
        "trailing": (safetensors_file({"a": entry()}, bytes(5)), "tensors end at"),
        "cut": (safetensors_file({"a": entry()}, bytes(3)), "tensors end at"),
        "overflow": (safetensors_file({"a": entry(0, 4, [2**62, 4])}, bytes(4)), "does not fill"),
        "overflow-of-nothing": (safetensors_file({"a": entry(0, 0, [0, 2**62, 2**62])}), "does not fill"),
        "negative": (safetensors_file({"a": entry(0, 4, [-1])}, bytes(4)), "no sizes"),
        "fraction": (safetensors_file({"a": entry(0, 4, [1.0])}, bytes(4)), "no sizes"),
        "truth": (safetensors_file({"a": entry(0, 4, [True])}, bytes(4)), "no sizes"),
        "long-number": (safetensors_file('{"a":{"dtype":"F32","shape":[' + "1" * 5000 + "]}}", bytes(4)), "limit"),
        "dimensions": (safetensors_file({"a": entry(0, 4, [1] * 100)}, bytes(4)), "more than these"),
        "backwards": (safetensors_file({"a": entry(4, 0)}, bytes(4)), "does not fill"),
        "dtype": (safetensors_file({"a": entry(dtype="F33")}, bytes(4)), "tensor 'a' is of dtype 'F33', which is no dtype"),
        "dtype-of-6-bits": (safetensors_file({"a": entry(0, 4, [5], "F6_E2M3")}, bytes(4)), "does not fill"),
        "dtype-of-4-bits": (safetensors_file({"a": entry(0, 4, [7], "F4")}, bytes(4)), "does not fill"),
        "dtype-of-6-bits-alone": (safetensors_file({"a": entry(0, 3, [4], "F6_E2M3")}, bytes(3)), "tensor 'a' .* is F6_E2M3"),
        "dtype-of-4-bits-odd": (safetensors_file({"a": entry(0, 3, [2, 3], "F4")}, bytes(3)), "tensor 'a' .* but is F4"),
        "dtype-list": (safetensors_file({"a": entry(dtype=[])}, bytes(4)), "no dtype that is known"),
        "no-offsets": (safetensors_file({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)), "no offsets"),
        "more": (safetensors_file({"a": {**entry(), "code": 1}}, bytes(4)), "no sizes"),
        "no-fields": (safetensors_file({"a": 1}, bytes(4)), "no dtype"),
        "nan": (safetensors_file('{"a": NaN}'), "NaN"),
        "list": (safetensors_file('{"__metadata__": []}'[:-1] + "x"), "delimiter"),
        "twice": (safetensors_file(one[:-1] + "," + one[1:], bytes(4)), "key 'a' twice"),
        "field-twice": (safetensors_file('{"a":{"dtype":"F32","dtype":"I32","shape":[1]}}', bytes(4)), "'dtype' twice"),
        "twice-in-other-letters": (safetensors_file(one[:-1] + r',"\u0061"' + one[4:], bytes(4)), "key 'a' twice"),
        "twice-once-empty": (safetensors_file('{"a": {},' + one[1:], bytes(4)), "key 'a' twice"),
        "twice-once-a-number": (safetensors_file('{"a": 1,' + one[1:], bytes(4)), "key 'a' twice"),
        "twice-metadata": (safetensors_file('{"__metadata__":{"k":"1","k":"2"},' + one[1:], bytes(4)), "key 'k' twice"),
        "metadata-twice": (safetensors_file('{"__metadata__":{},"__metadata__":{"k":"2"},' + one[1:], bytes(4)), "twice"),
        "metadata": (safetensors_file({"__metadata__": {"a": 1}, "b": entry()}, bytes(4)), "text to text"),
        "not-utf-8": (b"\x04\0\0\0\0\0\0\0{\xff\xff}", "utf-8"),
    }  # fmt: skip
    paths = ("../../x\0", "../x", "a/../../b", "/etc/passwd", "C:\\x", "a\\..\\b", "..")
    for index, bad in enumerate((*paths, "a\nb", "", "x" * 2000, "\x1b[2J")):
        cases[f"name-{index}"] = safetensors_file({bad: entry()}, bytes(4)), "the name"
    return {f"safetensors-{label}": (data, "CheckpointError", said) for label, (data, said) in cases.items()}


def good_files() -> Iterator[tuple[str, bytes]]:
    """What is like the hostile files, and right."""
    yield from ((f"good.{form}", data) for form, data in both(dictionary({"a": GOOD})).items())
    yield "good.safetensors", save({"bert/encoder.weight": torch.ones(2, 2)})
    row = tensor(storage("0", 4), (1, 4), (0, 1))  # torch.arange(4).expand(1, -1)
    yield from ((f"expanded.{form}", data) for form, data in both(dictionary({"a": row, "b": GOOD})).items())


def check(folder: Path, cases: dict[str, Case]) -> None:
    """Write the files, load them confined, and compare how it ends with what it must."""
    folder.mkdir()
    good = dict(good_files())
    for label, data in {**good, **{label: case[0] for label, case in cases.items()}}.items():
        (folder / label).write_bytes(data)
    before = {path: path.stat().st_mtime_ns for path in folder.parent.rglob("*")}
    found = load_confined([folder / label for label in [*cases, *good]], first=folder / "good.zip")
    assert {path: path.stat().st_mtime_ns for path in folder.parent.rglob("*")} == before
    assert {found[label][0] for label in good} == {"loaded"}, {label: found[label] for label in good}
    wrong = {}
    for label, (_, kind, said) in cases.items():
        actual, message, names = found[label]
        if not re.fullmatch(kind, actual) or not re.search(said, message) or label not in message:
            wrong[label] = (kind, said, actual, message)
        if actual == "UnsafeCheckpoint" and not any(re.search(said, called) for called in names):
            wrong[label] = (kind, said, actual, str(names))
    assert not wrong, "\n".join(map(str, wrong.items()))


def test_hostile_files_run_nothing_write_nothing_and_are_named(tmp_path: Path) -> None:
    quick = {label: case for label, case in bombs().items() if not label.startswith(HEAVY)}
    check(tmp_path / "files", {**code(tmp_path / "canary"), **lies(), **zips(), **headers(), **quick})
    assert not (tmp_path / "canary").exists()


@pytest.mark.slow
def test_a_small_pickle_cannot_take_all_memory_or_time(tmp_path: Path) -> None:
    check(tmp_path / "files", {label: case for label, case in bombs().items() if label.startswith(HEAVY)})


@pytest.mark.parametrize("cases", [doubled_everywhere, copied])
def test_a_field_of_a_torch_file_takes_no_more_than_its_bytes(tmp_path: Path, cases: Callable[[], dict[str, Case]]) -> None:
    check(tmp_path / "files", cases())


def test_the_confinement_is_one(tmp_path: Path) -> None:
    """What torch alone would do with one of these files shows that the limit bites."""
    good = tmp_path / "good"
    save_file({"a": torch.zeros(1)}, good)
    big = tmp_path / "big"
    torch.save({"a": torch.zeros(50 << 20)}, big, _use_new_zipfile_serialization=False)
    ((kind, said, _),) = load_confined([big], first=good, headroom=128 << 20).values()
    assert kind == "CheckpointError" and "expected to suffice" in said and "can't allocate memory" in said


def _changed(data: bytes, numbers: random.Random) -> bytes:
    """Return data with some bytes changed, moved, taken out or put in; or with numbers that mean trouble."""
    content = bytearray(data)
    for _ in range(numbers.choice((1, 1, 1, 2, 4))):
        at = numbers.randrange(len(content))
        match numbers.randrange(6):
            case 0 | 1:
                content[at] ^= numbers.randint(1, 255)
            case 2:
                content[at : at + numbers.randint(1, 16)] = b""
            case 3:
                begin = numbers.randrange(len(content))
                content[at:at] = content[begin : begin + numbers.randint(1, 64)]
            case 4:
                content[at : at + 8] = numbers.choice((b"\xff" * 8, bytes(8), b"\xff" * 7 + b"\x7f", bytes(7) + b"\x80"))
            case _:
                content[at] = numbers.choice(b"()]}t0.2bRQcXJKMqhrj\x81\x85\x86\x87\x88\x89\x8a\x8b\x93Nsuea")
    return bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["zip", "pickle in zip", "legacy", "safetensors"])
def test_changed_files_are_tensors_or_errors_of_ours(tmp_path: Path, form: str) -> None:
    tensors = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(3, dtype=torch.bfloat16), "n": torch.tensor(7)}
    optimizer = {"state": {0: {"step": tensors["n"]}}, "param_groups": [{"lr": 0.1}]}
    state = {"state_dict": tensors, "epoch": 3, "optimizer": optimizer}
    if form == "safetensors":
        whole = save(tensors, {"format": "pt"})
    else:
        torch.save(state, tmp_path / "whole", _use_new_zipfile_serialization=form != "legacy")
        whole = (tmp_path / "whole").read_bytes()
    (tmp_path / "good").write_bytes(whole)
    numbers = random.Random(form)
    paths = [tmp_path / f"{index}.bin" for index in range(1000)]
    for path in paths:
        path.write_bytes(_wrapped(tmp_path / "good", numbers) if form == "pickle in zip" else _changed(whole, numbers))
    found = load_confined(paths, first=tmp_path / "good")
    assert len(found) == len(paths)
    kinds = {kind for kind, *_ in found.values()}
    assert kinds <= {"loaded", "CheckpointError", "UnsafeCheckpoint"}, [said for said in found.values() if said[0] not in kinds]
    assert {"loaded", "CheckpointError"} <= kinds


def _wrapped(path: Path, numbers: random.Random) -> bytes:
    """Return a zip form file with a changed pickle, under a sum that fits it."""
    with zipfile.ZipFile(path) as archive:
        content = {info.filename.partition("/")[2]: archive.read(info) for info in archive.infolist()}
    return zip_file(_changed(content.pop("data.pkl"), numbers), content)
