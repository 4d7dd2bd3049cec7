"""Checks of a family's models in memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from registry.pretrained import GenerationMixin, ModelOutput
from registry.testing.bench import Bench, leaves, ties_apart

__all__ = ["ModelChecks"]

_NEW_TOKENS = 4


class ModelChecks:
    """How models are built and what they return."""

    def test_constructor_gives_no_values(self, bench: Bench, head: str) -> None:
        """Build on the meta device: a constructor decides shapes, and a checkpoint or `init_weights` gives the values."""
        with torch.device("meta"):
            model = bench.model_class(head)(bench.config(head))
        tensors = (*model.named_parameters(), *model.named_buffers())
        made = sorted(name for name, tensor in tensors if not tensor.is_meta)
        assert not made, (
            f"the constructor of {type(model).__name__} is expected to allocate nothing, but makes values of "
            f"{', '.join(made)}; fill buffers in reset_buffers, parameters in init_weights"
        )

    def test_new_model_has_values(self, bench: Bench, head: str) -> None:
        """Build without a checkpoint: every parameter and buffer is there and finite."""
        model = bench.new_model(head)
        tensors = (*model.named_parameters(), *model.named_buffers())
        wrong = [name for name, value in tensors if value.is_floating_point() and not bool(value.isfinite().all())]
        assert not wrong, f"values of a new {type(model).__name__} are expected to be finite, but those of {wrong} are not"

    def test_ties_are_declared(self, bench: Bench, head: str) -> None:
        """Find each parameter under one name, unless `tied_weights` says the other; loading would lose it."""
        bench.meta_model(head)

    def test_ties_hold(self, bench: Bench, head: str) -> None:
        """Keep tied weights one parameter: in a new model, after loading, and after the vocabulary was resized."""
        if not bench.ties(head):
            pytest.skip(f"{bench.model_class(head).__name__} ties nothing")
        resized = bench.registry.load(bench.saved(head))
        if resized.vocabulary_weights():
            resized.resize_token_embeddings(resized.config.vocab_size + 3)
        for what, model in (("loaded", bench.loaded(head)), ("resized", resized)):
            apart = ties_apart(model)
            assert not apart, f"tied weights of a {what} {type(model).__name__} are expected to be one, but are two: {apart}"

    def test_evaluation_repeats_itself(self, bench: Bench, head: str) -> None:
        """Give the same output for the same input, bit for bit, and no nan."""
        output = bench.output(head)
        found = leaves(output)
        assert found, f"the output of head {head!r} is expected to hold tensors, but holds none"
        assert all(bool(tensor.isfinite().all()) for tensor in found), "an output is expected to be finite, but is not"

    def test_output_has_names_and_places(self, bench: Bench, head: str) -> None:
        """Return a ModelOutput, which reads as a tuple and which torch's containers look into."""
        output = bench.output(head)
        assert isinstance(output, ModelOutput), (
            f"head {head!r} is expected to return a ModelOutput, but returns a {type(output).__name__}"
        )
        values = output.to_tuple()
        assert len(output) == len(values) and len(list(output)) == len(values), "len() and iteration are of its places"
        assert output[0] is values[0] and output[:1] == values[:1]
        assert {id(leaf) for leaf in leaves(values)} <= {id(leaf) for leaf in leaves(output)}, (
            f"{type(output).__name__} is expected to show torch's containers all its tensors; declare it with @dataclass"
        )

    def test_bfloat16(self, bench: Bench, head: str) -> None:
        """Load and run in half the memory: nothing in a forward pass insists on another dtype."""
        model = bench.registry.load(bench.saved(head), dtype="bfloat16")
        wide = [name for name, parameter in model.named_parameters() if parameter.dtype == torch.float32]
        assert not wide, f"parameters are expected to be bfloat16, as asked for, but {wide} are float32"
        output = bench.run(model, head)
        assert all(bool(tensor.isfinite().all()) for tensor in leaves(output))

    def test_generation_equals_reading_everything_again(self, bench: Bench, head: str) -> None:
        """Generate greedily with the head's own memory: the tokens are those of a forward pass over all text before each."""
        model = bench.new_model(head)
        if not isinstance(model, GenerationMixin) or not hasattr(model, "forward"):
            pytest.skip(f"{type(model).__name__} does not generate")
        bench.output(head)  # where a forward pass fails, that is another check's
        prompt = bench.inputs(head)["input_ids"]
        if prompt.dim() != 2:
            pytest.skip(f"head {head!r} is run with choices")
        generated = model.generate(prompt, max_new_tokens=_NEW_TOKENS, eos_token_id=[])
        expected = _by_reading_again(model, prompt)
        assert generated.tolist() == expected.tolist(), (
            f"generate of {type(model).__name__} is expected to continue as its forward pass does, but does not; "
            "look at generation_step: the state, and the positions of what it reads"
        )


@torch.no_grad()
def _by_reading_again(model: Any, ids: torch.Tensor) -> torch.Tensor:
    for _ in range(_NEW_TOKENS):
        ids = torch.cat((ids, model(input_ids=ids).logits[:, -1].argmax(-1, keepdim=True)), dim=1)
    return ids
