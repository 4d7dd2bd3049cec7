"""The reference implementations that results are held against."""

from __future__ import annotations

import warnings
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what 2019's code does to today's Python and torch is its own business
    import pytorch_transformers as old
    import transformers as new

__all__ = ["TOLERANCE", "assert_close", "new", "old", "quiet"]

new.logging.set_verbosity_error()
new.logging.disable_progress_bar()

#: Greatest absolute difference between two correct float32 implementations of a tiny model.
TOLERANCE = 2e-5


def quiet(call: Any, *args: Any, **kwargs: Any) -> Any:
    """Call into an oracle without its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(*args, **kwargs)


def assert_close(ours: Any, theirs: Any, what: str = "") -> None:
    """Compare tensors, or tuples of them, within the tolerance."""
    import torch

    if isinstance(theirs, tuple | list):
        assert len(ours) == len(theirs), what
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_close(one, other, f"{what}[{index}]")
        return
    assert ours.shape == theirs.shape, what
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0, msg=lambda message: f"{what}: {message}")
