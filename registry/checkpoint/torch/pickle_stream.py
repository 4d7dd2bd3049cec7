"""Look at a pickle without running it: read its operations, within limits, and name the callables that it would fetch."""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

__all__ = ["MAX_OPERATIONS", "MAX_PICKLE", "SAFE_GLOBALS", "BeyondLimit", "PickleReport", "PickleStream", "pickle_globals"]

#: A state dict takes about 60 operations for a tensor, its optimizer three times as many.
MAX_OPERATIONS = 2_000_000
#: Bytes of the pickles of a file. The values of tensors do not lie in them.
MAX_PICKLE = 32 << 20
#: Bits of a number. torch's magic number has 77; what Python writes of any size, it also prints at any cost.
_MAX_BITS = 2048
#: Characters of what is named by two texts.
_MAX_NAME = 1000

_STORAGES = (
    "Float",
    "Double",
    "Half",
    "BFloat16",
    "Long",
    "Int",
    "Short",
    "Char",
    "Byte",
    "Bool",
    "ComplexFloat",
    "ComplexDouble",
)
_DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
_NEW_DTYPES = ("uint16", "uint32", "uint64", "complex32", "complex64", "complex128")
_SMALL_DTYPES = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2")

#: What a state dict of tensors needs, and all that it may name.
SAFE_GLOBALS = frozenset(
    {
        "collections.Counter",
        "collections.OrderedDict",
        "torch.Size",
        "torch.device",
        "torch.nn.parameter.Parameter",
        "torch._utils._rebuild_device_tensor_from_cpu_tensor",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_tensor_v3",
        "torch.serialization._get_layout",
        "torch.storage.UntypedStorage",
        *(f"torch.{name}Storage" for name in _STORAGES),
        *(f"torch.cuda.{name}Storage" for name in _STORAGES),
        *(f"torch.{name}" for name in (*_DTYPES, *_NEW_DTYPES, *_SMALL_DTYPES)),
    }
)

_STRINGS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"}
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_GETS = {"GET", "BINGET", "LONG_BINGET"}
_NOTED = {"GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4", "PROTO", "FRAME", *_STRINGS, *_PUTS, *_GETS}
#: Bytes that are read at a time.
_CHUNK = 1 << 16


class BeyondLimit(ValueError):
    """A pickle asks for more than any checkpoint needs; the text says of what."""


@dataclass(frozen=True, slots=True)
class PickleReport:
    """What the pickles of a file are, found without running them."""

    #: Every `module.name` that they would fetch, sorted; `?` where the name cannot be told.
    globals: tuple[str, ...]
    #: Those of `globals` that a state dict does not need. A file with any is not loaded.
    refused: tuple[str, ...]
    pickles: int
    operations: int


class PickleStream:
    """The pickles that a file begins with. They share limits, and no read asks for more than there is.

    It knows Python's operations from `pickletools`, whose own reader takes ten times as long.
    """

    def __init__(
        self, file: IO[bytes], size: int, *, max_bytes: int = MAX_PICKLE, max_operations: int = MAX_OPERATIONS
    ) -> None:
        """Read `file` from where it stands; `size` bytes are left of it."""
        self._file = file
        self._size = size
        self._max_bytes = max_bytes
        self._max_operations = max_operations
        self._window = b""
        self._at = 0
        self._before = 0
        #: Operations that were read.
        self.operations = 0

    @property
    def position(self) -> int:
        """Bytes that were read."""
        return self._before + self._at

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, or what there is, whatever length a pickle claims."""
        if self._at + size > len(self._window):
            self._fill(size)
        data = self._window[self._at : self._at + size]
        self._at += len(data)
        return data

    def readline(self) -> bytes:
        """Return the next line, or what there is."""
        while (end := self._window.find(b"\n", self._at)) < 0:
            if not self._fill(2 * (len(self._window) - self._at) + _CHUNK):
                break
        return self.read((len(self._window) if end < 0 else end + 1) - self._at)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Yield the name and argument of each operation of the next pickle.

        Raises:
            BeyondLimit: for more bytes, operations or digits than are read.
            ValueError: when the bytes are no pickle.
        """
        while True:
            if self._at >= len(self._window) and not self._fill(1):
                raise ValueError("it ends without STOP")
            opcode = _OPERATIONS.get(self._window[self._at])
            if opcode is None:
                raise ValueError(f"it has the byte {self._window[self._at]:#04x} in place of an operation")
            self._at += 1
            name, reader = opcode
            self.operations += 1
            if self.operations > self._max_operations:
                raise BeyondLimit(f"its pickle has more than {self._max_operations:,} operations")
            if reader is None:
                yield name, None
                if name == "STOP":
                    return
                continue
            argument = reader(self)
            if type(argument) is int and argument.bit_length() > _MAX_BITS:
                raise BeyondLimit(f"its pickle holds a number of {argument.bit_length():,} bits")
            yield name, argument

    def _fill(self, size: int) -> bool:
        """Have `size` bytes in the window, or all that is left; return whether there are more than before."""
        rest = self._window[self._at :]
        begin = self._before + self._at
        left = min(self._size, self._max_bytes) - begin - len(rest)
        more = self._file.read(min(max(size - len(rest), _CHUNK), left))
        if len(rest) + len(more) < size and self._size > self._max_bytes:
            raise BeyondLimit(f"its pickle has more than {self._max_bytes:,} bytes")
        self._window, self._at, self._before = rest + more, 0, begin
        return bool(more)


_OPERATIONS: dict[int, tuple[str, Any]] = {
    ord(opcode.code): (opcode.name, opcode.arg.reader if opcode.arg is not None else None) for opcode in pickletools.opcodes
}


def pickle_globals(stream: PickleStream) -> Iterator[str]:
    """Yield each `module.name` that the next pickle of a stream would fetch.

    What cannot be told is yielded as `?`, which no list allows.

    Raises:
        ValueError: when the bytes are no pickle, or one beyond the limits.
    """
    # The two topmost values of the stack, where they are known texts.
    below: str | None = None
    top: str | None = None
    memo: dict[int, str | None] = {}
    for name, argument in stream:
        if name not in _NOTED:  # it may have pushed a value: that is no known text
            below, top = top, None
        elif name in _STRINGS:
            below, top = top, str(argument)
        elif name in _PUTS:
            memo[len(memo) if argument is None else int(argument)] = top
        elif name in _GETS:
            below, top = top, memo.get(int(argument))
        elif name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".", 1)
            below, top = top, None
        elif name == "STACK_GLOBAL":
            # A short file can name a long text again and again; each time it would be copied.
            yield f"{below}.{top}" if below and top and len(below) + len(top) <= _MAX_NAME else "?"
            below, top = top, None
        elif name in ("EXT1", "EXT2", "EXT4"):
            yield "?"
            below, top = top, None
