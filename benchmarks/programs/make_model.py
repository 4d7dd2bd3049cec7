"""Write a model of random weights, as its publisher would have it."""

from __future__ import annotations

import torch

import registry
from benchmarks.programs.common import options, tell


def main() -> None:
    """Write it."""
    given = options()
    family, folder = given.pop("family"), given.pop("folder")
    torch.manual_seed(0)
    if family == "gpt2":
        model = registry.GPT2LMHeadModel(registry.GPT2Config(**given))
    else:
        model = registry.BertForPreTraining(registry.BertConfig(**given))
    model.save_pretrained(folder)
    tell(parameters=sum(each.numel() for each in model.parameters()))


if __name__ == "__main__":
    main()
