"""Lines of text to ids, one by one or all at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.programs.common import options, repeated, tell

Ids = list[list[int]]


def tokenizer_of(side: str, folder: str, family: str) -> Any:
    """Return ours or transformers' of a folder with a vocabulary."""
    if side == "ours":
        import registry

        return registry.load_tokenizer(folder, family=family)
    import transformers

    return (transformers.BertTokenizer if family == "bert" else transformers.GPT2Tokenizer).from_pretrained(folder)


def main() -> None:
    """Tokenize once, then some times more, and tell lines per second."""
    given = options()
    lines = Path(given["text"]).read_text(encoding="utf-8").splitlines()
    tokenizer = tokenizer_of(given["side"], given["folder"], given["family"])
    call: Callable[[], Ids]
    if given["side"] == "floor":  # the engine below transformers' tokenizer, with nothing around it
        engine = tokenizer.backend_tokenizer
        if given["batch"]:

            def call() -> Ids:
                return [encoding.ids for encoding in engine.encode_batch_fast(lines)]
        else:

            def call() -> Ids:
                return [engine.encode(line).ids for line in lines]
    elif given["batch"]:

        def call() -> Ids:
            found: Ids = tokenizer(lines)["input_ids"]
            return found
    else:

        def call() -> Ids:
            return [tokenizer(line)["input_ids"] for line in lines]

    ids = call()
    np.save(given["output"], np.array([each for line in ids for each in (*line, -1)]))
    del ids
    tell(value=len(lines) / repeated(call, given["times"]))


if __name__ == "__main__":
    main()
