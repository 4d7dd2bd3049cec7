"""`generate` against transformers' own, and against 1.2.0 read token by token."""

from __future__ import annotations

from typing import Any
from unittest import mock

import torch
from torch import Tensor

import registry
from registry.pretrained import generation
from tests.oracles import new, old, quiet
from tests.parity_fuzz.decided import decided
from tests.parity_fuzz.models import build, lively, sizes_of, twin
from tests.parity_fuzz.trial import Refused, Trial, attempt

__all__ = ["run"]

#: Scores so near that rounding decides between them.
_NEAR = 1e-3


def run(trial: Trial) -> None:
    """Draw a causal head, prompts and settings."""
    name = trial.pick("class", ("GPT2LMHeadModel", "OpenAIGPTLMHeadModel", "TransfoXLLMHeadModel"))
    (_transfo_xl if name.startswith("Transfo") else _absolute)(trial, name)


class _Stops(new.StoppingCriteria):
    """Ends a row once it has generated one of some sequences."""

    def __init__(self, stops: list[list[int]], prompt: int, pad: int) -> None:
        self.stops, self.prompt = stops, prompt
        self.eos_token_id = pad  # a criterion that has it makes transformers fill up the rows that ended

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        def ended(row: list[int]) -> bool:
            return any(row[self.prompt :][-len(stop) :] == stop for stop in self.stops)

        return torch.tensor([ended(row) for row in input_ids.tolist()])


def _absolute(trial: Trial, name: str) -> None:
    sizes = sizes_of(trial, name)
    vocabulary = sizes["vocab_size"]
    batch, length, count = trial.size("batch"), trial.size("prompt", 5), trial.size("new tokens", 5, 9)
    sizes["n_positions"] = length + count - 1 + trial.pick("positions left", (0, 1, 3))
    generator = torch.Generator().manual_seed(trial.number("data", 0, 9))
    model = lively(build(registry, name, sizes), trial.number("weights", 0, 9))
    prompts = torch.randint(0, vocabulary, (batch, length), generator=generator)

    ends = trial.pick("eos", ([], [0], [1, 3], [2, 1, 0]))
    pad = trial.pick("pad", (None, 0, 1, 2))
    stops = trial.pick("stop", ([], [[1]], [[0, 1]], [[2], [1, 1, 0]]))
    # An id that the vocabulary lacks is an error here, and is never generated there.
    ends = [end for end in ends if end < vocabulary]
    stops = [stop for stop in stops if max(stop) < vocabulary]
    pad = pad if pad is not None and pad < vocabulary else None
    padding = trial.pick("padding", (None, "left", "right"))
    penalty = trial.pick("repetition_penalty", (1.0, 1.0, 1.3, 0.7))
    settings: dict[str, Any] = {"max_new_tokens": count, "repetition_penalty": penalty}
    if trial.flag("do_sample"):
        settings |= {
            "do_sample": True,
            "temperature": trial.pick("temperature", (1.0, 0.5, 3.0)),
            "top_k": trial.pick("top_k", (0, 1, 2, 3, 1000)),
            "top_p": trial.pick("top_p", (1.0, 0.9, 0.45, 0.01)),
            "num_return_sequences": trial.number("num_return_sequences", 1, 2),
        }
    given, aligned = _padded(prompts, padding, generator)
    if decided("penalised padding", padding is not None):
        settings["repetition_penalty"] = penalty = 1.0
    filled = pad if pad is not None else (ends[0] if ends else 0)

    theirs = twin(new, name, sizes, model)
    theirs.generation_config = new.GenerationConfig(pad_token_id=filled, top_k=0)
    criteria = {"stopping_criteria": [_Stops(stops, length, filled)]} if stops else {}
    their_settings = {**settings, "eos_token_id": ends or None, "output_scores": True, "return_dict_in_generate": True}

    def of_theirs() -> Any:
        with mock.patch("torch.multinomial", lambda scores, num_samples: scores.argmax(-1, keepdim=True)):
            return quiet(theirs.generate, aligned[0], attention_mask=aligned[1], **their_settings, **criteria)

    expected = attempt(of_theirs)
    if isinstance(expected, Refused):
        return
    recorded: list[Tensor] = []

    def best(scores: Tensor, draws: Tensor) -> Tensor:
        recorded.append(scores.clone())
        return scores.argmax(-1)

    def of_ours() -> list[list[int]]:
        with mock.patch.object(generation, "_sample", best):
            output = model.generate(
                given[0],
                attention_mask=given[1] if padding else None,
                eos_token_id=ends,
                pad_token_id=pad,
                stop=stops or None,
                **settings,
            )
        return _aside(output[:, length:].tolist(), expected.sequences[:, length:].tolist(), expected.scores)

    what = "sampled" if "do_sample" in settings else "greedy"
    trial.same(f"transformers: {what} tokens", of_ours, lambda: expected.sequences[:, length:].tolist())
    if recorded:
        trial.same(
            "transformers: scores that are sampled from",
            lambda: recorded[0].softmax(-1),
            lambda: expected.scores[0].softmax(-1),
        )
    if "do_sample" not in settings and not padding and penalty == 1.0 and not ends and not stops:
        ancient = twin(old, name, sizes, model)
        trial.same("1.2.0: greedy tokens", lambda: _row(model, prompts, count), lambda: _by_hand(ancient, prompts, count))


def _padded(
    prompts: Tensor, side: str | None, generator: torch.Generator
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return prompts and mask, as this library gets them, and with the padding on the left."""
    length = prompts.shape[1]
    if side is None:
        return (prompts, torch.ones_like(prompts)), (prompts, torch.ones_like(prompts))
    kept = torch.randint(1, length + 1, (len(prompts), 1), generator=generator)
    left = (torch.arange(length) >= length - kept).long()
    aligned = prompts * left, left
    if side == "left":
        return aligned, aligned
    rows = [row.roll(int(count)) for row, count in zip(prompts * left, kept.flatten(), strict=True)]
    return (torch.stack(rows), (torch.arange(length) < kept).long()), aligned


def _aside(ours: list[list[int]], theirs: list[list[int]], scores: tuple[Tensor, ...]) -> list[list[int]]:
    """Return our rows, or theirs where two scores were so near that rounding decided."""
    rows = []
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        apart = next((at for at, (first, second) in enumerate(zip(one, other, strict=False)) if first != second), None)
        if apart is not None:
            step = scores[apart][number]
            gap = (step[other[apart]] - step[one[apart]]).abs() if one[apart] < len(step) else torch.tensor(1.0)
            rows.append(other if gap < _NEAR else one)
        else:
            rows.append(one)
    return rows


def _row(model: Any, prompts: Tensor, count: int) -> list[list[int]]:
    return model.generate(prompts, max_new_tokens=count, eos_token_id=[]).tolist()


def _by_hand(model: Any, prompts: Tensor, count: int) -> list[list[int]]:
    """Generate with a model of 1.2.0: the best token each time, reading all of the text again."""
    with torch.no_grad():
        for _ in range(count):
            chosen = model(prompts)[0][:, -1].argmax(-1, keepdim=True)
            prompts = torch.cat((prompts, chosen), 1)
    return prompts.tolist()


def _transfo_xl(trial: Trial, name: str) -> None:
    vocabulary = trial.size("vocabulary", 7, 12)
    config: dict[str, Any] = {
        "cutoffs": [each for each in (trial.number("cutoff", 0, 6),) if 0 < each < vocabulary],
        "d_model": 2 * trial.size("half of d_model", 4),
        "d_embed": 4 * trial.size("embedding"),
        "n_head": trial.size("heads"),
        "d_head": trial.size("head size", 4),
        "d_inner": trial.size("inner"),
        "div_val": trial.pick("div_val", (1, 2)),
        "n_layer": trial.size("layers"),
        "tgt_len": trial.size("target length"),
        "mem_len": trial.pick("mem_len", (1, 2, 3, 6, 20, 0)),
        "clamp_len": trial.pick("clamp_len", (-1, 1, 2, 5)),
        "same_length": trial.flag("same_length"),
        "pre_lnorm": trial.flag("pre_lnorm"),
        "untie_r": not trial.flag("shared biases"),
    }
    if decided("no look-ahead", config["same_length"] and config["mem_len"] == 0):
        return
    theirs = lively(old.TransfoXLLMHeadModel(old.TransfoXLConfig(vocabulary, **config)), trial.number("weights", 0, 9))
    ours = registry.TransfoXLLMHeadModel.from_pretrained(
        None, config=registry.TransfoXLConfig(vocabulary, **config), state_dict=theirs.state_dict()
    ).eval()
    generator = torch.Generator().manual_seed(trial.number("data", 0, 9))
    prompts = torch.randint(0, vocabulary, (trial.size("batch"), trial.size("prompt", 5)), generator=generator)
    count = trial.size("new tokens", 5, 9)
    scores: list[Tensor] = []

    def read() -> list[list[int]]:
        rows, given, mems = prompts, prompts, None
        with torch.no_grad():
            for _ in range(count):
                output = theirs(given, mems=mems)
                scores.append(output[0][:, -1])
                chosen = scores[-1].argmax(-1, keepdim=True)
                rows = torch.cat((rows, chosen), 1)
                mems, given = (output[1], chosen) if config["mem_len"] else (None, rows)
        return rows[:, prompts.shape[1] :].tolist()

    expected = attempt(read)
    if not isinstance(expected, Refused):
        trial.same(
            "1.2.0: greedy tokens of Transformer-XL",
            lambda: _aside([row[prompts.shape[1] :] for row in _row(ours, prompts, count)], expected, tuple(scores)),
            lambda: expected,
        )
