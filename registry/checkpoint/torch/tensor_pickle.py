"""Read the pickle in a torch file as data: which tensors there are, and of which part of which storage each is a view.

Nothing is called. What torch's restricted unpickler would be asked to do is checked here, argument by argument,
and tensors are made of what was checked, so that a stranger's file never reaches torch's unpickler.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from registry.checkpoint.torch.pickle_stream import SAFE_GLOBALS, BeyondLimit
from registry.checkpoint.torch.plain_pickle import Global, PlainMachine, Unsafe, dictionary_of

__all__ = ["MAX_TENSORS", "Storage", "TensorPart", "TorchMachine", "amount"]

#: Tensors of one file.
MAX_TENSORS = 100_000
_MAX_DIMENSIONS = 64
_MAX_OFFSET = 1 << 48
#: Characters of the key of a storage. torch writes numbers; each mention of a long text would copy it.
_MAX_KEY = 255
#: Arguments of a call that makes a part of a tensor.
_MAX_ARGUMENTS = 8

_WIDTHS = {
    **dict.fromkeys(("bool", "uint8", "int8", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"), 1),
    **dict.fromkeys(("float8_e8m0fnu", "float4_e2m1fn_x2"), 1),
    **dict.fromkeys(("int16", "uint16", "float16", "bfloat16"), 2),
    **dict.fromkeys(("int32", "uint32", "float32", "complex32"), 4),
    **dict.fromkeys(("int64", "uint64", "float64", "complex64"), 8),
    "complex128": 16,
}
_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}
#: All that torch's restricted unpickler knows; `torch.save` writes no other.
_OPERATIONS = frozenset(
    (
        *("PROTO", "STOP", "GLOBAL", "REDUCE", "BUILD", "BINPERSID"),
        *("MARK", "APPEND", "APPENDS", "SETITEM", "SETITEMS", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT", "NONE", "NEWTRUE", "NEWFALSE"),
        *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"),
        *("BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT"),
    )
)


@dataclass(frozen=True, slots=True)
class Storage:
    """Values that tensors are views of: a record of a zip file, or the like of a legacy file."""

    key: str
    dtype: str
    #: Number of values.
    count: int
    #: For a part of another storage: the key of that, and the value at which the part begins.
    whole: str = ""
    begin: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return self.count * _WIDTHS[self.dtype]


@dataclass(frozen=True, slots=True)
class TensorPart:
    """A tensor, before it is read: a view of a storage. Offset, shape and stride count values."""

    storage: str
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * _WIDTHS[self.dtype]


class TorchMachine(PlainMachine):
    """Containers, and the few calls of which tensors are made."""

    max_copied = 500_000

    def __init__(self, *, views: bool) -> None:
        """Begin. `views` says whether a storage may be a part of another, as only the legacy form has it."""
        super().__init__(SAFE_GLOBALS)
        self._with_views = views
        #: Each storage that tensors were made of, by its key.
        self.storages: dict[str, Storage] = {}
        self._views: dict[str, tuple[Storage, Storage]] = {}
        self._tensors = 0

    def unknown(self, operation: str) -> None:
        """Refuse an operation that torch's restricted unpickler does not know."""
        raise ValueError(f"its pickle has the operation {operation}, which torch.save does not write unless told to")

    def reduce(self) -> None:
        """Make what a call of a safe name would make."""
        function, arguments = self.pop(2)
        if type(function) is not Global or type(arguments) is not tuple:
            raise Unsafe("what is no name")
        name = function.name
        if len(arguments) > _MAX_ARGUMENTS:
            raise Unsafe(f"{name} with {len(arguments)} arguments")
        if name in ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"):
            made: Any = self._tensor(name, *arguments[:4])
            _check_hooks(name, *arguments[4:7])
        elif name == "torch._utils._rebuild_tensor_v3":
            made = self._tensor(name, *arguments[:4], *arguments[6:7])
            _check_hooks(name, *arguments[4:6], *arguments[7:8])
        elif name in ("torch._utils._rebuild_parameter", "torch.nn.parameter.Parameter"):
            made, *rest = arguments
            if type(made) is not TensorPart:
                raise Unsafe(f"{name} of what is no tensor")
            _check_hooks(name, *rest[:2])
        elif name == "torch._utils._rebuild_device_tensor_from_cpu_tensor":  # of devices without storages, such as XLA's
            made, dtype, _, requires_grad = arguments
            if type(made) is not TensorPart or dtype != Global(f"torch.{made.dtype}"):
                raise Unsafe(f"{name} of what is no tensor, or of another dtype")
            _check_hooks(name, requires_grad)
        elif name in ("collections.OrderedDict", "collections.Counter"):
            made = self._dictionary(name, *arguments)
        elif name == "torch.Size":
            (sizes,) = arguments or ((),)
            self.charge(len(sizes))
            made = _whole_numbers(name, sizes)
        elif name in ("torch.device", "torch.serialization._get_layout"):
            if not all(type(value) in (str, int) for value in arguments):
                raise Unsafe(f"{name} of what is no name")
            made = None  # beside the tensors; nothing looks at it
        else:
            raise Unsafe(name)
        self.stack.append(made)

    def build(self) -> None:
        """Take the one attribute that dictionaries of tensors have: the versions of their modules."""
        (state,) = self.pop(1)
        target = self.stack[-1]
        if type(target) is not OrderedDict or not isinstance(state, dict) or set(state) - {"_metadata"}:
            raise Unsafe(f"the state of a {type(target).__name__}")

    def _dictionary(self, name: str, items: Any = ()) -> dict[Any, Any]:
        if not isinstance(items, dict | list | tuple):
            raise Unsafe(f"{name} of a {type(items).__name__}")
        if name == "collections.Counter" and items and not isinstance(items, dict):
            raise Unsafe(f"{name} of a {type(items).__name__}")  # it would count them, whatever that costs
        self.charge(len(items))
        pairs = dictionary_of(items.items() if isinstance(items, dict) else items)
        return OrderedDict(pairs) if name == "collections.OrderedDict" else Counter(pairs)

    def _storage(self, identity: Any) -> Storage:
        kind, *rest = identity if type(identity) is tuple else (None,)
        if kind != "storage" or len(rest) != 4 + self._with_views:
            raise Unsafe(f"a persistent object that is no storage (of type {type(identity).__name__})")
        type_, key, _, count, *view = rest  # the device it lay on is not looked at: everything is read to the CPU
        if type(type_) is not Global or (dtype := _STORAGES.get(type_.name.rpartition(".")[2])) is None:
            raise Unsafe("a storage of no known type")
        if type(key) is not str or len(key) > _MAX_KEY:
            raise ValueError(f"the key of a storage is no text of at most {_MAX_KEY} characters (of type {type(key).__name__})")
        if type(count) is not int or count < 0:
            raise ValueError(f"storage {key!a:.40} has {amount(count)} values")
        storage = Storage(key, dtype, count)
        if self.storages.setdefault(key, storage) != storage or key in self._views:
            raise ValueError(f"storage {key!a:.40} has two types or sizes")
        if len(self.storages) > MAX_TENSORS:
            raise BeyondLimit(f"it has more than {MAX_TENSORS:,} storages")
        return self._view(storage, *view) if view and view[0] is not None else storage

    def _view(self, storage: Storage, view: Any) -> Storage:
        """Return a part of a storage, as files of 2017 name them."""
        if type(view) is not tuple or len(view) != 3 or type(view[0]) is not str or len(view[0]) > _MAX_KEY:
            raise ValueError(f"a view of storage {storage.key!a:.40} is none")
        key, offset, count = view
        offset, count = _whole_numbers("view", (offset, count))
        if offset + count > storage.count:
            raise ValueError(
                f"a view of storage {storage.key!a:.40} ends at {amount(offset + count)} of {storage.count} values"
            )
        part = Storage(f"{storage.key}[{offset}:{offset + count}]", storage.dtype, count, storage.key, offset)
        if key in self.storages or self._views.setdefault(key, (storage, part)) != (storage, part):
            raise ValueError(f"view {key!a:.40} is two")
        return part

    def _tensor(self, name: str, storage: Any, offset: Any, shape: Any, stride: Any, dtype: Any = None) -> TensorPart:
        if type(storage) is not Storage:
            raise Unsafe(f"{name} of what is no storage")
        if dtype is not None and (type(dtype) is not Global or dtype.name.removeprefix("torch.") not in _WIDTHS):
            raise Unsafe(f"{name} of no known dtype")
        kind = storage.dtype if dtype is None else dtype.name.removeprefix("torch.")
        for values in (shape, stride):
            if type(values) in (tuple, list) and len(values) > _MAX_DIMENSIONS:  # before they are looked at one by one
                raise ValueError(f"a tensor has {len(values):,} dimensions, more than {_MAX_DIMENSIONS}")
        (offset,), shape, stride = _whole_numbers(name, (offset,)), _whole_numbers(name, shape), _whole_numbers(name, stride)
        if len(shape) != len(stride):
            raise ValueError(f"a tensor has {len(shape)} dimensions and {len(stride)} strides")
        held, count = storage.nbytes // _WIDTHS[kind], math.prod(shape)
        # An empty tensor lies nowhere, but torch keeps the offset that it had in what it was taken from.
        end = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) + 1 if count else offset
        if count > held:  # with a stride of 0 it would be of any size
            raise ValueError(f"a tensor has {amount(count)} values, and storage {storage.key!a:.40} only {held}")
        if end > (held if count else _MAX_OFFSET) or math.prod(size for size in shape if size) > max(held, 1 << 62):
            raise ValueError(f"a tensor ends at {amount(end)} of the {held} values of storage {storage.key!a:.40}")
        self._tensors += 1
        if self._tensors > MAX_TENSORS:
            raise BeyondLimit(f"it has more than {MAX_TENSORS:,} tensors")
        skipped, rest = divmod(storage.begin * _WIDTHS[storage.dtype], _WIDTHS[kind])
        if rest:
            raise ValueError(f"a view of storage {storage.whole!a:.40} begins within a value")
        return TensorPart(storage.whole or storage.key, kind, shape, stride, offset + skipped)


def amount(count: Any) -> str:
    """Return a number for a message, however large it is."""
    if type(count) is not int:
        return f"{type(count).__name__}"
    return str(count) if abs(count) < 1 << 64 else "more than 2^64"


def _whole_numbers(name: str, values: Iterable[Any]) -> tuple[int, ...]:
    if type(values) not in (tuple, list) or not all(type(value) is int and 0 <= value < 1 << 63 for value in values):
        raise ValueError(f"{name} is given what are no sizes")
    return tuple(values)


def _check_hooks(name: str, requires_grad: Any = False, hooks: Any = None, metadata: Any = None) -> None:
    """Refuse what may hang at a tensor beside its values; `torch.save` writes nothing of it for a state dict."""
    if type(requires_grad) is not bool or hooks or metadata or not isinstance(hooks, dict | None):
        raise Unsafe(f"{name} with hooks or flags")


TorchMachine.actions = {
    **{name: action for name, action in PlainMachine.actions.items() if name in _OPERATIONS},
    "BINPERSID": lambda machine, _: machine.stack.append(machine._storage(*machine.pop(1))),
}
