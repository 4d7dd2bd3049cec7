"""Find sentences that mean the same, with real weights that are loaded by name. Run by `make demo`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def timed(what: str, step: Callable[[], _T]) -> _T:
    started = time.perf_counter()
    result = step()
    print(f"{what:<64} {time.perf_counter() - started:7.3f} s")
    return result


def main() -> None:
    def import_registry() -> object:
        import registry

        return registry

    def import_torch() -> object:
        import torch

        return torch

    timed("import registry", import_registry)
    import registry

    entry = timed('registry.resolve("minilm"): which files, by which catalog', lambda: registry.resolve("minilm"))
    print(f"    {entry.source}, said by {entry.origins['source']}")
    folder = timed('registry.fetch("minilm"): verified against their sha256', lambda: registry.fetch("minilm"))
    print(f"    {', '.join(sorted(path.name for path in folder.glob('*.safetensors')))} in {folder.name}/")
    timed("import torch", import_torch)
    model = timed('registry.load("minilm"): mapped, not copied', lambda: registry.load("minilm"))
    assert model.load_report is not None
    print(f"    {type(model).__name__}, {model.num_parameters():,} parameters; {model.load_report.summary()}")
    tokenizer = timed('registry.load_tokenizer("minilm")', lambda: registry.load_tokenizer("minilm"))

    import torch

    sentences = [
        "A man is eating food.",
        "Someone is having a meal.",
        "A cheetah is running behind its prey.",
        "A big cat chases an animal.",
        "The stock market fell sharply today.",
        "Shares lost much of their value this afternoon.",
    ]

    def embed() -> torch.Tensor:
        inputs = tokenizer(sentences, padding=True, return_tensors="pt")
        with torch.inference_mode():
            hidden = model(**inputs).last_hidden_state  # (batch, seq, hidden)
        weight = inputs["attention_mask"][..., None]
        return torch.nn.functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1)

    vectors = timed(f"tokenize and encode {len(sentences)} sentences", embed)
    print("\ncosine similarity")
    print(" " * 52 + "".join(f"{number:>7}" for number in range(1, len(sentences) + 1)))
    for number, (sentence, row) in enumerate(zip(sentences, (vectors @ vectors.T).tolist(), strict=True), 1):
        print(f"{number}  {sentence:<49}" + "".join(f"{score:7.2f}" for score in row))


if __name__ == "__main__":
    main()
