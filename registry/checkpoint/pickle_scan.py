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

_STORAGES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
_DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
_NEW_DTYPES = ("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2")

#: What a state dict of tensors needs, and all that it may name.
SAFE_GLOBALS = frozenset(
    {
        "collections.Counter",
        "collections.OrderedDict",
        "torch.Size",
        "torch.device",
        "torch.nn.parameter.Parameter",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_tensor_v3",
        "torch.serialization._get_layout",
        "torch.storage.UntypedStorage",
        *(f"torch.{name}Storage" for name in _STORAGES),
        *(f"torch.cuda.{name}Storage" for name in _STORAGES),
        *(f"torch.{name}" for name in (*_DTYPES, *_NEW_DTYPES)),
    }
)

_STRINGS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"}
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}
_GETS = {"GET", "BINGET", "LONG_BINGET"}


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
    """The pickles that a file begins with. They share limits, and no read asks for more than there is."""

    def __init__(
        self, file: IO[bytes], size: int, *, max_bytes: int = MAX_PICKLE, max_operations: int = MAX_OPERATIONS
    ) -> None:
        """Read `file` from where it stands; `size` bytes are left of it."""
        self._file = file
        self._size = size
        self._max_bytes = max_bytes
        self._max_operations = max_operations
        #: Bytes that were read.
        self.position = 0
        #: Operations that were read.
        self.operations = 0

    def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes, or what there is, whatever length a pickle claims."""
        left = self._left()
        return self._took(self._file.read(left if size < 0 else min(size, left)))

    def readline(self) -> bytes:
        """Return the next line, or what there is."""
        return self._took(self._file.readline(self._left()))

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Yield the name and argument of each operation of the next pickle.

        Raises:
            BeyondLimit: for more bytes, operations or digits than are read.
            ValueError: when the bytes are no pickle.
        """
        for opcode, argument, _ in pickletools.genops(self):  # type: ignore[arg-type]  # these two methods are all it needs
            self.operations += 1
            if self.operations > self._max_operations:
                raise BeyondLimit(f"its pickle has more than {self._max_operations:,} operations")
            if type(argument) is int and argument.bit_length() > _MAX_BITS:
                raise BeyondLimit(f"its pickle holds a number of {argument.bit_length():,} bits")
            yield opcode.name, argument

    def _left(self) -> int:
        return min(self._size, self._max_bytes) - self.position

    def _took(self, data: bytes) -> bytes:
        self.position += len(data)
        if self.position >= self._max_bytes and self._size > self._max_bytes:
            raise BeyondLimit(f"its pickle has more than {self._max_bytes:,} bytes")
        return data


def pickle_globals(stream: PickleStream) -> Iterator[str]:
    """Yield each `module.name` that the next pickle of a stream would fetch.

    What cannot be told is yielded as `?`, which no list allows.

    Raises:
        ValueError: when the bytes are no pickle, or one beyond the limits.
    """
    strings: list[str | None] = []
    memo: dict[int, str | None] = {}
    for name, argument in stream:
        if name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".", 1)
        elif name == "STACK_GLOBAL":
            module, attribute = strings[-2:] if len(strings) >= 2 else (None, None)
            yield f"{module}.{attribute}" if module and attribute else "?"
        elif name in ("EXT1", "EXT2", "EXT4"):
            yield "?"
        elif name in _PUTS:
            memo[int(argument)] = strings[-1] if strings else None
        elif name == "MEMOIZE":
            memo[len(memo)] = strings[-1] if strings else None
        if name in _STRINGS:
            strings.append(str(argument))
        elif name in _GETS:
            strings.append(memo.get(int(argument)))
        elif name not in _PUTS and name not in ("MEMOIZE", "PROTO", "FRAME"):
            # Anything else that may have pushed a value: it is not a known string.
            strings.append(None)
        del strings[:-4]
