"""Read a pickle of plain containers as data: an interpreter of its own that has no way to call anything.

Strings, numbers, lists, tuples and dictionaries are what they are; `OrderedDict` and `Counter` become dictionaries. A
pickle that names anything else is refused by that name. The operations are those of Python's `pickletools`.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from registry.base.regular import open_regular
from registry.checkpoint.torch.pickle_stream import BeyondLimit, PickleStream
from registry.errors import CheckpointError, UnsafeCheckpoint

__all__ = ["TORCH_MAGIC", "Global", "PlainArray", "PlainMachine", "Unsafe", "dictionary_of", "read_plain_pickle"]

_MAX_OPERATIONS = 20_000_000
#: Containers inside containers that are not finished yet.
_MAX_MARKS = 1000
#: The first of the pickles that a file by torch before 1.6 begins with; two more follow before the object itself.
TORCH_MAGIC = 0x1950A86A20F9469CFC6C

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
class Global:
    """What a pickle names in order to call it."""

    name: str


class Unsafe(Exception):
    """A pickle calls, or does, what is not allowed; `name` says what."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


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
        with open_regular(path) as file:
            is_zip = file.read(4) == b"PK\x03\x04"
        if is_zip:
            with zipfile.ZipFile(path) as archive:
                names = [info for info in archive.infolist() if info.filename.rpartition("/")[2] == "data.pkl"]
                if len(names) != 1 or names[0].compress_type != zipfile.ZIP_STORED:
                    raise ValueError("a zip file without one uncompressed data.pkl")
                with archive.open(names[0]) as member:
                    stream = _limited(io.BufferedReader(member), names[0].file_size, max_bytes)  # type: ignore[type-var]
                    return PlainMachine(allowed).run(stream)
        with open_regular(path) as file:
            stream = _limited(file, path.stat().st_size, max_bytes)
            found = PlainMachine(allowed).run(stream)
            if found == TORCH_MAGIC:
                for _ in range(3):
                    found = PlainMachine(allowed).run(stream)
            return found
    except Unsafe as error:
        raise UnsafeCheckpoint(
            f"file {str(path)!r} is expected to hold only plain containers, but would call {error!s:.300}; nothing was run",
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
            f"file {str(path)!r} is expected to be a pickle of plain containers, but is not ({reason:.300}); fetch it again",
            path=str(path),
        ) from error


def _limited(file: IO[bytes], size: int, limit: int) -> PickleStream:
    if size > limit:
        raise BeyondLimit(f"it has {size} bytes, more than {limit}")
    return PickleStream(file, size, max_bytes=limit, max_operations=_MAX_OPERATIONS)


class PlainMachine:
    """The stack of a pickle. An object under construction is never anything but a container."""

    #: Values that may be copied from one container to another.
    max_copied = _MAX_OPERATIONS
    #: What each operation does.
    actions: Mapping[str, Callable[[Any, Any], Any]]

    def __init__(self, allowed: frozenset[str]) -> None:
        self.allowed = allowed
        self.copied = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[Any, Any] = {}

    def run(self, stream: PickleStream) -> Any:
        """Return the object of the next pickle of a stream.

        Raises:
            Unsafe: when it names, or does, what is not allowed.
            ValueError: and whatever else damage leads to.
        """
        actions = self.actions
        for name, argument in stream:
            action = actions.get(name)
            if action is None:
                self.unknown(name)
            else:
                action(self, argument)
        if self.marks:
            raise ValueError("it ends within a container")
        (result,) = self.stack
        return result

    def unknown(self, operation: str) -> None:
        """Refuse an operation that is none of `actions`."""
        raise Unsafe("a tensor" if operation.endswith("PERSID") else f"operation {operation}")

    def mark(self) -> None:
        """Begin a container."""
        self.marks.append(len(self.stack))
        if len(self.marks) > _MAX_MARKS:
            raise BeyondLimit(f"its pickle nests more than {_MAX_MARKS:,} deep")

    def pop(self, count: int) -> list[Any]:
        """Take the topmost values off the stack; none from below a mark."""
        if len(self.stack) - count < (self.marks[-1] if self.marks else 0):
            raise ValueError("its stack is empty")
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def since_mark(self) -> list[Any]:
        """Take all values above the last mark off the stack."""
        begin = self.marks.pop()
        taken = self.stack[begin:]
        del self.stack[begin:]
        return taken

    def name(self, text: str) -> None:
        """Push what a pickle names, when it is allowed."""
        if text not in self.allowed:
            raise Unsafe(text)
        self.stack.append(Global(text))

    def name_from_stack(self) -> None:
        """Push what two texts on the stack name."""
        module, attribute = self.pop(2)
        if type(module) is not str or type(attribute) is not str:
            raise ValueError(f"it names what is no text, but of type {type(module).__name__} and {type(attribute).__name__}")
        self.name(f"{module}.{attribute}")

    def old_text(self, text: str) -> None:
        """Push a text of Python 2."""
        # Python 2 wrote text as bytes, which pickletools hands over as Latin-1.
        data = text.encode("latin-1")
        try:
            self.stack.append(data.decode("utf-8"))
        except UnicodeDecodeError:
            self.stack.append(data)

    def charge(self, count: int) -> None:
        """Count what one operation copies: a short file can ask for a long list again and again."""
        self.copied += count
        if self.copied > self.max_copied:
            raise BeyondLimit(f"its pickle copies more than {self.max_copied:,} values")

    def extend(self, items: list[Any]) -> None:
        """Add items to the list on the stack."""
        target = self.stack[-1]
        if type(target) is not list:
            raise ValueError("it adds items to what is no list")
        target.extend(items)

    def update(self, items: list[Any]) -> None:
        """Set items, each key before its value, of the dictionary on the stack."""
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise ValueError("it sets items of what is no dictionary")
        target.update(dictionary_of(zip(items[::2], items[1::2], strict=True)))

    def set_items(self) -> None:
        """Push a dictionary of all values above the last mark."""
        items = self.since_mark()
        self.stack.append({})
        self.update(items)

    def reduce(self) -> None:
        """Push what a call of an allowed name would make."""
        function, arguments = self.pop(2)
        if type(function) is not Global or type(arguments) is not tuple:
            raise Unsafe("what is no name")
        name = function.name
        if name in _DICTIONARIES:
            (items,) = arguments or ([],)
            if type(items) not in (list, tuple, dict):
                raise ValueError("it makes a dictionary of what is no list")
            self.charge(len(items))
            self.stack.append(dictionary_of(items.items() if type(items) is dict else items))
        elif name == "_codecs.encode":
            text, encoding = arguments
            if encoding not in ("latin1", "latin-1") or not isinstance(text, str):
                raise Unsafe("_codecs.encode of what is no text, or with another encoding")
            self.charge(len(text))
            self.stack.append(text.encode("latin-1"))
        elif name == "__builtin__.bytes" and not arguments:
            self.stack.append(b"")  # how protocols below 3 write no bytes at all
        elif name == "numpy.dtype" and re.fullmatch(r"[biuf]\d{1,2}", arguments[0]):
            self.stack.append(_Dtype(arguments[0]))
        elif name.endswith("._reconstruct") and arguments[0] == Global("numpy.ndarray"):
            self.stack.append(PlainArray())
        else:
            raise Unsafe(name)

    def build(self) -> None:
        """Give the object on the stack its state."""
        (state,) = self.pop(1)
        target = self.stack[-1]
        if type(target) is _Dtype and state[1] in ("<", ">", "|", "="):
            target.order = state[1]
        elif type(target) is PlainArray:
            import numpy

            _, shape, kind, by_column, data = state
            if type(kind) is not _Dtype:
                raise Unsafe("numpy.ndarray of objects")
            if isinstance(data, str):
                self.charge(len(data) // 16)  # all of the largest file may be such text, once
                data = data.encode("utf-8")
            values = numpy.frombuffer(data, dtype=numpy.dtype(kind.order + kind.code))
            target.values = values.reshape(shape, order="F" if by_column else "C")
        else:
            raise Unsafe(f"the state of a {type(target).__name__}")


def dictionary_of(items: Any) -> dict[Any, Any]:
    """Return a dictionary with keys whose hash costs nothing: that of nested tuples can take for ever."""
    made = {}
    for key, value in items:
        if type(key) not in (str, int, float, bool, bytes, type(None)):
            raise ValueError(f"it has a key that is a {type(key).__name__}")
        if type(key) is int and key.bit_length() > 64:  # there are many with one hash
            raise ValueError(f"it has a key of {key.bit_length()} bits")
        made[key] = value
    return made


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_NUMBERS = frozenset(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"))
_TEXTS = frozenset(("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"))
_PUTS = frozenset(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"))
_GETS = frozenset(("GET", "BINGET", "LONG_BINGET"))
_SILENT = frozenset(("PROTO", "FRAME", "STOP"))
_ACTIONS: dict[str, Callable[[PlainMachine, Any], Any]] = {
    "STRING": PlainMachine.old_text,
    "BINSTRING": PlainMachine.old_text,
    "SHORT_BINSTRING": PlainMachine.old_text,
    "MARK": lambda machine, _: machine.mark(),
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
    "DICT": lambda machine, _: machine.set_items(),
    "APPEND": lambda machine, _: machine.extend(machine.pop(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.update(machine.pop(2)),
    "SETITEMS": lambda machine, _: machine.update(machine.since_mark()),
    "GLOBAL": lambda machine, name: machine.name(name.replace(" ", ".", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.name_from_stack(),
    "REDUCE": lambda machine, _: machine.reduce(),
    "BUILD": lambda machine, _: machine.build(),
}


def _remember(machine: PlainMachine, index: Any) -> None:
    machine.memo[len(machine.memo) if index is None else index] = machine.stack[-1]


def _push(value: Any) -> Callable[[PlainMachine, Any], Any]:
    return lambda machine, _: machine.stack.append(value)


PlainMachine.actions = {
    **_ACTIONS,
    **{name: _push(value) for name, value in _CONSTANTS.items()},
    **dict.fromkeys(_TEXTS | _NUMBERS, lambda machine, argument: machine.stack.append(argument)),
    **dict.fromkeys(_PUTS, _remember),
    **dict.fromkeys(_GETS, lambda machine, index: machine.stack.append(machine.memo[index])),
    **dict.fromkeys(_SILENT, lambda machine, _: None),
}
