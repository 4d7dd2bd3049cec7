"""Read a pickle of plain containers as data: an interpreter of its own that has no way to call anything.

Strings, numbers, lists, tuples and dictionaries are what they are; `OrderedDict` and `Counter` become dictionaries. A
pickle that names anything else is refused by that name. The operations are those of Python's `pickletools`.
"""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from registry.errors import CheckpointError, UnsafeCheckpoint

__all__ = ["PlainArray", "read_plain_pickle"]

_MAX_OPERATIONS = 20_000_000
#: The first of the pickles that a file by torch before 1.6 begins with; two more follow before the object itself.
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C

_DICTIONARIES = frozenset({"collections.OrderedDict", "collections.Counter"})
_ARRAYS = frozenset(
    {
        "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray._reconstruct",
        "numpy.ndarray",
        "numpy.dtype",
        "_codecs.encode",
        "__builtin__.bytes",
    }
)


@dataclass
class PlainArray:
    """A numpy array in a pickle. `values` is the array, of numbers."""

    values: Any = None


@dataclass
class _Dtype:
    code: str
    order: str = "="


@dataclass(frozen=True)
class _Global:
    name: str


class _Unsafe(Exception):
    """Names what a pickle would call."""


class _Bounded:
    """A file whose reads never ask for more than there is, whatever length a pickle claims."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data

    def readline(self) -> bytes:
        data = self._file.readline(self._left)
        self._left -= len(data)
        return data


def read_plain_pickle(path: Path, *, arrays: bool = False, max_bytes: int = 256 << 20) -> Any:
    """Return the object in a pickle, or in a file that `torch.save` wrote without tensors, zip or legacy form.

    Args:
        path: the file.
        arrays: whether numpy arrays of numbers are plain too; each is a `PlainArray`.
        max_bytes: the largest pickle that is read.

    Raises:
        UnsafeCheckpoint: when it names anything but plain containers; nothing was run.
        CheckpointError: when it is damaged, too large, or no pickle.
    """
    allowed = _DICTIONARIES | (_ARRAYS if arrays else frozenset())
    try:
        with path.open("rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04"
        if is_zip:
            with zipfile.ZipFile(path) as archive:
                names = [info for info in archive.infolist() if info.filename.rpartition("/")[2] == "data.pkl"]
                if len(names) != 1 or names[0].compress_type != zipfile.ZIP_STORED:
                    raise ValueError("a zip file without one uncompressed data.pkl")
                with archive.open(names[0]) as member:
                    return _read(_limited(io.BufferedReader(member), names[0].file_size, max_bytes), allowed)  # type: ignore[type-var]
        with path.open("rb") as file:
            stream = _limited(file, path.stat().st_size, max_bytes)
            found = _read(stream, allowed)
            if found == _TORCH_MAGIC:
                for _ in range(3):
                    found = _read(stream, allowed)
            return found
    except _Unsafe as error:
        raise UnsafeCheckpoint(
            f"file {str(path)!r} is expected to hold only plain containers, but would call {error}; nothing was run",
            path=str(path),
            globals=[str(error)],
        ) from None
    except OSError as error:
        raise CheckpointError(
            f"file {str(path)!r} is expected to be readable, but is not ({error.strerror})", path=str(path)
        ) from error
    except Exception as error:  # pickletools and zipfile meet damage with whatever they stumble over
        reason = str(error).strip() or type(error).__name__
        raise CheckpointError(
            f"file {str(path)!r} is expected to be a pickle of plain containers, but is not ({reason}); fetch it again",
            path=str(path),
        ) from error


def _limited(file: IO[bytes], size: int, limit: int) -> _Bounded:
    if size > limit:
        raise ValueError(f"{size} bytes, more than {limit}")
    return _Bounded(file, size)


def _read(file: _Bounded, allowed: frozenset[str]) -> Any:
    """Return the object of the pickle at the file's position."""
    machine = _Machine(allowed)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):  # type: ignore[arg-type]  # reads are all it needs
        if count > _MAX_OPERATIONS:
            raise ValueError(f"more than {_MAX_OPERATIONS} operations")
        name = opcode.name
        if name in _CONSTANTS:
            machine.stack.append(_CONSTANTS[name])
        elif name in _TEXTS or name in _NUMBERS:
            machine.stack.append(argument)
        elif name in _PUTS:
            machine.memo[argument if argument is not None else len(machine.memo)] = machine.stack[-1]
        elif name in _GETS:
            machine.stack.append(machine.memo[argument])
        elif name in _ACTIONS:
            _ACTIONS[name](machine, argument)
        elif name not in _SILENT:
            raise _Unsafe("a tensor" if name.endswith("PERSID") else f"operation {name}")
    (result,) = machine.stack
    return result


class _Machine:
    """The stack of a pickle. An object under construction is never anything but a container."""

    def __init__(self, allowed: frozenset[str]) -> None:
        self.allowed = allowed
        self.copied = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[Any, Any] = {}

    def pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise ValueError("its stack is empty")
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def since_mark(self) -> list[Any]:
        begin = self.marks.pop()
        taken = self.stack[begin:]
        del self.stack[begin:]
        return taken

    def name(self, text: str) -> None:
        if text not in self.allowed:
            raise _Unsafe(text)
        self.stack.append(_Global(text))

    def name_from_stack(self) -> None:
        module, attribute = self.pop(2)
        self.name(f"{module}.{attribute}")

    def old_text(self, text: str) -> None:
        # Python 2 wrote text as bytes, which pickletools hands over as Latin-1.
        data = text.encode("latin-1")
        try:
            self.stack.append(data.decode("utf-8"))
        except UnicodeDecodeError:
            self.stack.append(data)

    def charge(self, count: int) -> None:
        """Count what one operation copies: a short file can ask for a long list again and again."""
        self.copied += count
        if self.copied > _MAX_OPERATIONS:
            raise ValueError(f"more than {_MAX_OPERATIONS} values copied")

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise ValueError("it adds items to what is no list")
        target.extend(items)

    def update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict:
            raise ValueError("it sets items of what is no dictionary")
        target.update(_dictionary(zip(items[::2], items[1::2], strict=True)))

    def dictionary(self) -> None:
        items = self.since_mark()
        self.stack.append({})
        self.update(items)

    def reduce(self) -> None:
        function, arguments = self.pop(2)
        if type(function) is not _Global or type(arguments) is not tuple:
            raise _Unsafe("what is no name")
        name = function.name
        if name in _DICTIONARIES:
            (items,) = arguments or ([],)
            if type(items) not in (list, tuple, dict):
                raise ValueError("it makes a dictionary of what is no list")
            self.charge(len(items))
            self.stack.append(_dictionary(items.items() if type(items) is dict else items))
        elif name == "_codecs.encode":
            text, encoding = arguments
            if encoding not in ("latin1", "latin-1") or not isinstance(text, str):
                raise _Unsafe("_codecs.encode of what is no text, or with another encoding")
            self.charge(len(text))
            self.stack.append(text.encode("latin-1"))
        elif name == "__builtin__.bytes" and not arguments:
            self.stack.append(b"")  # how protocols below 3 write no bytes at all
        elif name == "numpy.dtype" and re.fullmatch(r"[biuf]\d{1,2}", arguments[0]):
            self.stack.append(_Dtype(arguments[0]))
        elif name.endswith("._reconstruct") and arguments[0] == _Global("numpy.ndarray"):
            self.stack.append(PlainArray())
        else:
            raise _Unsafe(name)

    def build(self) -> None:
        (state,) = self.pop(1)
        target = self.stack[-1]
        if type(target) is _Dtype and state[1] in ("<", ">", "|", "="):
            target.order = state[1]
        elif type(target) is PlainArray:
            import numpy

            _, shape, kind, by_column, data = state
            if type(kind) is not _Dtype:
                raise _Unsafe("numpy.ndarray of objects")
            raw = data.encode("utf-8") if isinstance(data, str) else data
            values = numpy.frombuffer(raw, dtype=numpy.dtype(kind.order + kind.code))
            target.values = values.reshape(shape, order="F" if by_column else "C")
        else:
            raise _Unsafe(f"the state of a {type(target).__name__}")


def _dictionary(items: Any) -> dict[Any, Any]:
    """Return a dictionary with keys whose hash costs nothing: that of nested tuples can take for ever."""
    made = {}
    for key, value in items:
        if type(key) not in (str, int, float, bool, bytes, type(None)):
            raise ValueError(f"it has a key that is a {type(key).__name__}")
        made[key] = value
    return made


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_NUMBERS = frozenset(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"))
_TEXTS = frozenset(("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"))
_PUTS = frozenset(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"))
_GETS = frozenset(("GET", "BINGET", "LONG_BINGET"))
_SILENT = frozenset(("PROTO", "FRAME", "STOP"))
_ACTIONS: dict[str, Callable[[_Machine, Any], Any]] = {
    "STRING": _Machine.old_text,
    "BINSTRING": _Machine.old_text,
    "SHORT_BINSTRING": _Machine.old_text,
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "POP": lambda machine, _: machine.pop(1),
    "POP_MARK": lambda machine, _: machine.since_mark(),
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "LIST": lambda machine, _: machine.stack.append(machine.since_mark()),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.stack.append(tuple(machine.pop(1))),
    "TUPLE2": lambda machine, _: machine.stack.append(tuple(machine.pop(2))),
    "TUPLE3": lambda machine, _: machine.stack.append(tuple(machine.pop(3))),
    "DICT": lambda machine, _: machine.dictionary(),
    "APPEND": lambda machine, _: machine.extend(machine.pop(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.update(machine.pop(2)),
    "SETITEMS": lambda machine, _: machine.update(machine.since_mark()),
    "GLOBAL": lambda machine, name: machine.name(name.replace(" ", ".", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.name_from_stack(),
    "REDUCE": lambda machine, _: machine.reduce(),
    "BUILD": lambda machine, _: machine.build(),
}
