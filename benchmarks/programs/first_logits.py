"""From the start of a process to the first logits of a model whose files are here."""

from __future__ import annotations

import time

from benchmarks.programs.common import load, options, save, tell


def main() -> None:
    """Load, compute, and tell when that was done."""
    given = options()
    if given["side"] == "floor":
        import torch

        from benchmarks import bare

        compute = bare.gpt2_logits if given["family"] == "gpt2" else bare.bert_logits
        with torch.inference_mode():
            weights = bare.mapped(f"{given['folder']}/model.safetensors")
            logits = compute(weights, torch.tensor([given["ids"]]), layers=given["layers"], heads=given["heads"])
    else:
        name = given["name"] if given["side"] == "ours" else given["folder"]
        model = load(given["side"], name, given["head"], given["family"])
        import torch

        with torch.inference_mode():
            logits = model(torch.tensor([given["ids"]])).logits
    reached = time.monotonic()
    save(given["output"], logits)
    tell(reached=reached)


if __name__ == "__main__":
    main()
