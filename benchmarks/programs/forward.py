"""Forward passes of a model, without padding."""

from __future__ import annotations

import torch

from benchmarks.programs.common import load, options, repeated, save, tell, tokens


def main() -> None:
    """Compute once, then some times more, and tell the median of these."""
    given = options()
    model = load(given["side"], given["name"], given["head"], given["family"])
    ids = tokens(given["batch"], given["length"], model.config.vocab_size)
    with torch.inference_mode():
        for _ in range(2):
            result = model(ids)[0]
        save(given["output"], result[:, ::8])  # the logits of all positions take long to compare
        del result
        seconds = repeated(lambda: model(ids), given["times"])
    tell(value=seconds)


if __name__ == "__main__":
    main()
