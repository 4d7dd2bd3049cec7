"""Damage TensorFlow checkpoints in ways that checksums catch, and in ways that they do not.

Run as a module it damages one in a folder a number of times, and reads each in limited memory:

    python -m tests.tensorflow.mutations SOURCE FOLDER COUNT SEED MEGABYTES
"""

from __future__ import annotations

import json
import random
import resource
import sys
from pathlib import Path

import torch

from registry import CheckpointError
from registry.checkpoint.open import open_checkpoint
from tests.tensorflow import bundle

#: Numbers that lengths, offsets and counts are replaced with.
ODD = (0, 1, 2, 47, 255, 1 << 14, (1 << 31) - 1, 1 << 32, (1 << 40) + 3, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)


def mutate(numbers: random.Random, index: bytes, data: bytes) -> tuple[bytes, bytes]:
    """Return the two files, one of them damaged."""
    kind = numbers.choice(("flip", "cut", "data", "short data", "fields", "block", "compressed", "keys", "handles"))
    if kind == "flip":
        return _flip(numbers, index), data
    if kind == "cut":
        return index[: numbers.randrange(len(index))], data
    if kind == "data":
        return index, _flip(numbers, data)
    if kind == "short data":
        return index, data[: numbers.randrange(len(data))]
    entries = bundle.read_table(index)
    if kind == "handles":
        blocks = bundle.sealed(bundle.block(sorted(entries.items())))
        places = [numbers.choice((*ODD, numbers.randrange(len(blocks)))) for _ in range(2 * numbers.randint(1, 4))]
        handles = [bundle.varint(start) + bundle.varint(size) for start, size in zip(places[::2], places[1::2], strict=True)]
        return bundle.finish(blocks, [(bytes([number]), handle) for number, handle in enumerate(handles)]), data
    if kind in ("block", "compressed"):
        content = bundle.block(sorted(entries.items()))
        if kind == "compressed":
            import cramjam

            content = bytes(cramjam.snappy.compress_raw(content))
            if numbers.random() < 0.3:
                content = bundle.varint(numbers.choice(ODD)) + content[2:]
        content = _flip(numbers, content)
        handle = bundle.varint(0) + bundle.varint(len(content))
        return bundle.finish(bundle.sealed(content, int(kind == "compressed")), [(b"\xff", handle)]), data
    key = numbers.choice(sorted(entries))
    value = entries.pop(key)
    if kind == "keys":
        key = _flip(numbers, key) if key else b"x"
    elif numbers.random() < 0.5:
        fields = bundle.read_fields(value)
        place = numbers.randrange(len(fields))
        fields[place] = fields[place][0], numbers.choice((*ODD, numbers.randbytes(numbers.randrange(9))))
        value = bundle.message(fields)
    else:
        value = _flip(numbers, value)
    return bundle.table({**entries, key: value}), data


def _flip(numbers: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(numbers.randint(1, 4)):
        if changed:
            changed[numbers.randrange(len(changed))] ^= numbers.randint(1, 255)
    return bytes(changed)


def read_all(index: Path) -> bool:
    """Read a checkpoint, and return whether it was refused."""
    try:
        checkpoint = open_checkpoint(index)
        for name in checkpoint.names():
            info = checkpoint.info(name)
            if hasattr(torch, info.dtype) and not info.dtype.startswith("q"):
                assert checkpoint.tensor(name).nbytes == info.nbytes
    except CheckpointError:
        return True
    return False


def main(source: str, folder: str, count: str, seed: str, megabytes: str) -> None:
    index, data = Path(source).read_bytes(), Path(source.replace(".index", ".data-00000-of-00001")).read_bytes()
    place = Path(folder) / "model.ckpt.index"
    beside = place.with_name("model.ckpt.data-00000-of-00001")
    place.write_bytes(index)
    beside.write_bytes(data)
    assert not read_all(place)  # and all that reading imports is there before memory is limited
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + (int(megabytes) << 20),) * 2)
    numbers = random.Random(int(seed))
    refused = 0
    for _ in range(int(count)):
        damaged, content = mutate(numbers, index, data)
        for path, written in ((place, damaged), (beside, content)):
            path.unlink()  # a file that is cut to nothing and written again is flushed at once by some file systems
            path.write_bytes(written)
        refused += read_all(place)
    print(json.dumps({"refused": refused}))


if __name__ == "__main__":
    main(*sys.argv[1:])
