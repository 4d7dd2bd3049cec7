"""Arrays in the form of OpenAI's GPT release: one flat vector, cut into `.npy` files, and a JSON list of shapes.

`params_shapes.json` lists the shapes in the order in which the arrays stand in the vector; `params_0.npy` and its
followers are its pieces (https://github.com/openai/finetune-transformer-lm, model/). No array has a name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from registry.base.names import SHAPES_NAME
from registry.base.regular import open_regular
from registry.checkpoint.tensors import TensorInfo, WholeTensors
from registry.errors import CheckpointError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

__all__ = ["SHAPES_NAME", "NumpyPieces", "piece_name", "read_piece", "read_shapes"]

_MAX_JSON = 1 << 20
_MAX_VALUES = 1 << 40
_MAX_AXES = 8


def piece_name(number: int) -> str:
    """Return the name of the file with a piece, counted from 0."""
    return f"params_{number}.npy"


def read_shapes(path: Path) -> list[tuple[int, ...]]:
    """Return the shapes of the arrays.

    Raises:
        CheckpointError: when the file is no list of shapes.
    """
    try:
        with open_regular(path) as file:
            shapes = json.loads(file.read(_MAX_JSON + 1)[: _MAX_JSON + 1])
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise CheckpointError(
            f"{str(path)!r} is expected to be a JSON list of shapes, but is not ({error}); fetch it again", path=str(path)
        ) from error
    if (
        not isinstance(shapes, list)
        or not shapes
        or not all(isinstance(shape, list) and len(shape) <= _MAX_AXES for shape in shapes)
        or not all(type(size) is int and 0 < size <= _MAX_VALUES for shape in shapes for size in shape)
        or sum(math.prod(shape) for shape in shapes) > _MAX_VALUES
    ):
        raise CheckpointError(f"{str(path)!r} is expected to be a JSON list of shapes, but is not", path=str(path))
    return [tuple(shape) for shape in shapes]


def read_piece(path: Path) -> NDArray[np.float32]:
    """Return the flat vector in an `.npy` file, mapped.

    Raises:
        CheckpointError: when it is none of numbers.
    """
    import numpy as np  # not needed to find and fetch other forms

    try:
        piece = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy meets damage with whatever its header parser stumbles over
        raise CheckpointError(
            f"{str(path)!r} is expected to be a numpy file of numbers, but is not ({str(error)[:200]}); fetch it again",
            path=str(path),
        ) from error
    if not isinstance(piece, np.ndarray) or piece.ndim != 1 or piece.dtype not in (np.float16, np.float32, np.float64):
        form = f"{piece.dtype} {piece.shape}" if isinstance(piece, np.ndarray) else type(piece).__name__
        raise CheckpointError(f"{str(path)!r} is expected to be a vector of floats, but is {form}", path=str(path))
    return piece


class NumpyPieces(WholeTensors):
    """The arrays, named `0`, `1`, … in their order; each is read when it is asked for."""

    def __init__(self, shapes: Path, pieces: Sequence[Path]) -> None:
        """Map the pieces.

        Args:
            shapes: the list of shapes.
            pieces: in order.

        Raises:
            CheckpointError: when they do not hold as many values as the shapes say.
        """
        self.metadata: Mapping[str, str] = {}
        self._shapes = read_shapes(shapes)
        self._pieces = [read_piece(path) for path in pieces]
        held, needed = sum(map(len, self._pieces)), sum(map(math.prod, self._shapes))
        if held != needed:
            raise CheckpointError(
                f"the {len(pieces)} pieces beside {str(shapes)!r} are expected to hold {needed} values, but hold {held}; "
                "fetch them again",
                path=str(shapes),
            )
        if len(dtypes := sorted({piece.dtype.name for piece in self._pieces})) > 1:
            raise CheckpointError(
                f"the {len(pieces)} pieces beside {str(shapes)!r} are expected to have one dtype, but have "
                f"{' and '.join(dtypes)}; fetch them again",
                path=str(shapes),
            )
        self._begins = [0]
        for shape in self._shapes:
            self._begins.append(self._begins[-1] + math.prod(shape))

    def names(self) -> Iterable[str]:
        """Return the numbers of the arrays."""
        return [str(number) for number in range(len(self._shapes))]

    def info(self, name: str) -> TensorInfo:
        """Return what is known of an array."""
        dtype = self._pieces[0].dtype
        shape = self._shapes[int(name)]
        return TensorInfo(dtype.name, shape, math.prod(shape) * dtype.itemsize)

    def tensor(self, name: str) -> torch.Tensor:
        """Return an array, on the CPU, in memory of its own."""
        import numpy as np
        import torch

        parts = list(self._between(self._begins[int(name)], self._begins[int(name) + 1]))
        flat = np.concatenate(parts) if parts else self._pieces[0][:0].copy()
        return torch.from_numpy(flat.reshape(self._shapes[int(name)]))

    def _between(self, begin: int, end: int) -> Iterator[NDArray[np.float32]]:
        for piece in self._pieces:
            if begin < len(piece) and end > 0 and begin < end:
                yield piece[max(begin, 0) : end]
            begin, end = begin - len(piece), end - len(piece)
