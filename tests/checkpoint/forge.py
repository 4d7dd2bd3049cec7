"""Pickles, torch files and safetensors files put together by hand, byte by byte: what no library would write."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Mapping

MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
PROTOCOL = b"\x80\x02M\xe9\x03."
SYSTEM = b"\x80\x02}."


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    """An int as torch's own reader takes it, of up to 255 bytes."""
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def tuple_of(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def numbers(*values: int) -> bytes:
    return tuple_of(*map(number, values))


def name(dotted: str) -> bytes:
    module, _, attribute = dotted.rpartition(".")
    return b"c" + module.encode() + b"\n" + attribute.encode() + b"\n"


def call(dotted: str, *arguments: bytes) -> bytes:
    return name(dotted) + tuple_of(*arguments) + b"R"


#: Between the last part of a storage's identity and its end: the legacy form has one part more. It remembers and does nothing.
_HERE = b"tq\xfeQ"


def storage(key: str, count: int, kind: str = "FloatStorage", location: str = "cpu", *view: bytes) -> bytes:
    return tuple_of(text("storage"), name(f"torch.{kind}"), text(key), text(location), number(count), *view)[:-1] + _HERE


def for_legacy(body: bytes) -> bytes:
    """Say of each storage that it is no view."""
    return body.replace(_HERE, b"N" + _HERE)


def tensor(held: bytes, shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    hooks = call("collections.OrderedDict")
    return call("torch._utils._rebuild_tensor_v2", held, number(offset), numbers(*shape), numbers(*stride), b"\x89", hooks)


def dictionary(items: Mapping[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def pickled(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def zip_file(pickle: bytes, records: Mapping[str, bytes] = {}, *, method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("x/data.pkl", pickle)
        for key, values in {"version": b"3\n", **records}.items():
            archive.writestr(f"x/{key}", values)
    return buffer.getvalue()


def legacy_file(pickle: bytes, storages: Mapping[str, tuple[int, bytes]] = {}) -> bytes:
    """`storages` maps a key to the count that stands before its values, and the values."""
    keys = pickled(b"](" + b"".join(map(text, storages)) + b"e")
    values = b"".join(struct.pack("<q", count) + data for count, data in storages.values())
    return MAGIC + PROTOCOL + SYSTEM + pickle + keys + values


def safetensors_file(header: object, values: bytes = b"", *, length: int | None = None) -> bytes:
    """`header` is JSON, or text as it shall stand; `length` is what the file says of its length."""
    data = header.encode() if isinstance(header, str) else json.dumps(header).encode()
    return struct.pack("<Q", len(data) if length is None else length) + data + values
