"""Look at a pickle without running it: name the callables that it would fetch."""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from typing import IO

__all__ = ["SAFE_GLOBALS", "pickle_globals"]

_MAX_OPCODES = 20_000_000

_STORAGES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
_DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")

#: What a state dict of tensors needs, and all that it may name.
SAFE_GLOBALS = frozenset(
    {
        "collections.OrderedDict",
        "torch.Size",
        "torch.device",
        "torch.nn.parameter.Parameter",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch.serialization._get_layout",
        "torch.storage.UntypedStorage",
        *(f"torch.{name}Storage" for name in _STORAGES),
        *(f"torch.cuda.{name}Storage" for name in _STORAGES),
        *(f"torch.{name}" for name in _DTYPES),
    }
)

_STRINGS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"}
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}
_GETS = {"GET", "BINGET", "LONG_BINGET"}


def pickle_globals(file: IO[bytes]) -> Iterator[str]:
    """Yield each `module.name` that the pickle at the file's position would fetch; leave the file behind its end.

    What cannot be told is yielded as `?`, which no list allows.

    Raises:
        ValueError: when the bytes are no pickle.
    """
    strings: list[str | None] = []
    memo: dict[int, str | None] = {}
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count > _MAX_OPCODES:
            raise ValueError(f"more than {_MAX_OPCODES} operations")
        name = opcode.name
        if name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".", 1)
        elif name == "STACK_GLOBAL":
            module, attribute = strings[-2:] if len(strings) >= 2 else (None, None)
            yield f"{module}.{attribute}" if module and attribute else "?"
        elif name in ("EXT1", "EXT2", "EXT4"):
            yield "?"
        elif name in _PUTS:
            memo[int(argument)] = strings[-1] if strings else None  # type: ignore[arg-type]  # the opcode's own index
        elif name == "MEMOIZE":
            memo[len(memo)] = strings[-1] if strings else None
        if name in _STRINGS:
            strings.append(str(argument))
        elif name in _GETS:
            strings.append(memo.get(int(argument)))  # type: ignore[arg-type]
        elif name not in _PUTS and name not in ("MEMOIZE", "PROTO", "FRAME"):
            # Anything else that may have pushed a value: it is not a known string.
            strings.append(None)
        del strings[:-4]
