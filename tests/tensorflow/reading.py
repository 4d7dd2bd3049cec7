"""What TensorFlow reads from the checkpoints of this folder, also for programs that want TensorFlow itself."""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

__all__ = ["CHECKPOINTS", "as_tensorflow", "tensorflow_reads"]

CHECKPOINTS = Path(__file__).parent / "checkpoints"


def tensorflow_reads(name: str) -> dict[str, NDArray[np.float32]]:
    """Return every variable of a checkpoint, as TensorFlow read it when the checkpoint was written."""
    return load_file(CHECKPOINTS / name / "expected.safetensors")


@contextlib.contextmanager
def as_tensorflow(name: str) -> Iterator[None]:
    """Let `import tensorflow` give what lists and loads these variables, as the loaders of 2019 do."""
    values = tensorflow_reads(name)
    module = types.SimpleNamespace(
        train=types.SimpleNamespace(
            list_variables=lambda path: [(key, list(value.shape)) for key, value in sorted(values.items())],
            load_variable=lambda path, key: values[key],
        )
    )
    with mock.patch.dict(sys.modules, {"tensorflow": module}):
        yield
