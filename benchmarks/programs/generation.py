"""Greedy generation, with each library's own cache of keys and values."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.programs.common import load, options, repeated, save, tell, tokens


def main() -> None:
    """Generate a little, then some times all, and tell the new tokens of all rows per second."""
    given = options()
    model = load(given["side"], given["name"], "lm", "gpt2", given["dtype"])
    ids = tokens(given["batch"], given["prompt"], model.config.vocab_size)
    if given["side"] == "ours":
        # None ends early: transformers is told so by `min_new_tokens`.
        def generate(new: int) -> Any:
            return model.generate(ids, max_new_tokens=new, eos_token_id=[])
    else:
        mask = torch.ones_like(ids)
        model.generation_config.eos_token_id = None
        model.generation_config.pad_token_id = 0

        def generate(new: int) -> Any:
            return model.generate(ids, attention_mask=mask, do_sample=False, min_new_tokens=new, max_new_tokens=new)

    with torch.inference_mode():
        generate(min(8, given["new"]))
        results: list[Any] = []
        seconds = repeated(lambda: results.append(generate(given["new"])), given["times"])
        save(given["output"], results[-1][:, given["prompt"] :])
    tell(value=given["batch"] * given["new"] / seconds)


if __name__ == "__main__":
    main()
