"""What the programs share: options in, a line of JSON out, medians of repeated calls, and both sides' ways to a model."""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

__all__ = ["anonymous", "load", "options", "repeated", "save", "tell", "tokens"]

#: transformers' class for a head of a family.
_PEERS = {
    ("gpt2", "lm"): "GPT2LMHeadModel",
    ("bert", "base"): "BertModel",
    ("bert", "masked-lm"): "BertForMaskedLM",
}


def options() -> dict[str, Any]:
    """Return what the harness asks for."""
    given: dict[str, Any] = json.loads(sys.argv[1])
    return given


def tell(**facts: Any) -> None:
    """Tell the harness."""
    print(json.dumps(facts))


def repeated(call: Callable[[], object], times: int, *, in_a_row: int = 1) -> float:
    """Return the median of seconds of some calls; what the last of a row returned is dropped outside the time.

    A collection of garbage goes before each row, which leaves the processor's caches cold: a call of microseconds is
    timed `in_a_row`, as `timeit` does.
    """
    taken = []
    for _ in range(times):
        gc.collect()
        began = time.perf_counter()
        for _ in range(in_a_row):
            result = call()
        taken.append((time.perf_counter() - began) / in_a_row)
        del result
    return median(taken)


def load(side: str, name: str, head: str, family: str, dtype: str | None = None) -> Any:
    """Load a model in evaluation mode: a name or folder by ours, a folder by transformers with its fused attention."""
    if side == "ours":
        import registry

        return registry.load(name, head=head, dtype=dtype)
    import transformers

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    kind = getattr(transformers, _PEERS[family, head])
    return kind.from_pretrained(name, attn_implementation="sdpa", dtype=dtype or "auto")


def tokens(batch: int, length: int, vocabulary: int) -> Any:
    """Return ids (batch, length), the same for every side."""
    import torch

    return torch.randint(1000, vocabulary, (batch, length), generator=torch.Generator().manual_seed(0))


def save(output: str, values: Any) -> None:
    """Save a tensor for the comparison of both sides."""
    import numpy as np
    import torch

    np.save(output, (values.float() if values.dtype == torch.bfloat16 else values).numpy())


def anonymous() -> int:
    """Return the bytes of this process's memory that lie in no file."""
    with Path("/proc/self/status").open() as status:
        return 1024 * next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))
