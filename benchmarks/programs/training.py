"""Steps of training: forward with dropout, backward, AdamW."""

from __future__ import annotations

import torch

from benchmarks.programs.common import load, options, repeated, save, tell, tokens


def main() -> None:
    """Take one step, then some more, and tell the median of these."""
    given = options()
    model = load(given["side"], given["name"], given["head"], given["family"])
    ids = tokens(given["batch"], given["length"], model.config.vocab_size)
    hidden = torch.rand(ids.shape, generator=torch.Generator().manual_seed(1)) < 0.15  # as in the paper
    labels = torch.where(hidden, ids, -100)
    # Dropout draws differ between the sides; without it the loss and a gradient are the same.
    loss = model(ids, labels=labels).loss
    loss.backward()
    gradient = model.get_input_embeddings().weight.grad
    save(given["output"], torch.cat((loss.detach()[None], gradient.norm()[None], gradient[ids[0, :8], 0])))
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def step() -> None:
        optimizer.zero_grad()
        model(ids, labels=labels).loss.backward()
        optimizer.step()

    step()
    tell(value=repeated(step, given["times"]))


if __name__ == "__main__":
    main()
