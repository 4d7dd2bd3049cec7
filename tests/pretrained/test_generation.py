from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers.generation.logits_process import (
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from registry import ConfigError
from registry.pretrained.generation import GenerationMixin, keep_top_k, keep_top_p, penalize_repetition
from registry_gpt import OpenAIGPTConfig, OpenAIGPTLMHeadModel
from registry_gpt2 import GPT2Config, GPT2DoubleHeadsModel, GPT2LMHeadModel
from tests.oracles import new

SIZES: dict[str, Any] = {"n_positions": 40, "n_embd": 16, "n_layer": 2, "n_head": 4}
FAMILIES = {"gpt": (OpenAIGPTConfig, OpenAIGPTLMHeadModel), "gpt2": (GPT2Config, GPT2LMHeadModel)}

both = pytest.mark.parametrize("family", list(FAMILIES))


def build(family: str = "gpt2", seed: int = 0, **changes: Any) -> Any:
    torch.manual_seed(seed)
    config, model = FAMILIES[family]
    return model(config(vocab_size=50, initializer_range=0.5, **{**SIZES, **changes})).eval()


def twin(model: Any) -> Any:
    cls = type(model).__name__
    config = getattr(new, cls.removesuffix("LMHeadModel") + "Config")(
        vocab_size=50, bos_token_id=None, eos_token_id=None, pad_token_id=0, **SIZES
    )
    theirs = getattr(new, cls)(config).eval()
    theirs.load_state_dict(model.state_dict(), strict=False)
    return theirs


def ids(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(1, 50, shape, generator=torch.Generator().manual_seed(seed))


def padded(side: str) -> tuple[Tensor, Tensor]:
    """Three prompts of 7, 4 and 1 tokens, filled up with 0."""
    prompts, mask = ids(3, 7), torch.zeros(3, 7, dtype=torch.int64)
    for row, length in enumerate((7, 4, 1)):
        mask[row, -length if side == "left" else 0 : None if side == "left" else length] = 1
    return prompts * mask, mask


class Counter(GenerationMixin):
    """A head over ten tokens that always counts on: the token after t is t + 1."""

    def start_generation(self, batch_size: int, max_length: int) -> list[int]:
        self.max_length = max_length
        self.read = [0]
        return self.read

    def generation_step(self, input_ids: Tensor, attention_mask: Tensor | None, state: list[int]) -> Tensor:
        state[0] += input_ids.shape[1]
        return torch.nn.functional.one_hot((input_ids[:, -1] + 1) % 10, 10) * 5.0


# -- greedy --------------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_greedy_tokens_are_those_of_transformers(family: str, seed: int) -> None:
    model = build(family, seed)
    expected = twin(model).generate(ids(3, 7, seed=seed), max_new_tokens=25, do_sample=False)
    assert model.generate(ids(3, 7, seed=seed), max_new_tokens=25).tolist() == expected.tolist()


@both
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_greedy_tokens_of_a_padded_batch_are_those_of_transformers(family: str, seed: int) -> None:
    model = build(family, seed)
    prompts, mask = padded("left")
    ours = model.generate(prompts, attention_mask=mask, max_new_tokens=20)
    theirs = twin(model)
    if family == "gpt2":
        expected = theirs.generate(prompts, attention_mask=mask, max_new_tokens=20, do_sample=False)
        assert ours.tolist() == expected.tolist()
    for row, length in enumerate((7, 4, 1)):  # its OpenAI GPT lets padding take positions, so row by row
        expected = theirs.generate(prompts[row : row + 1, -length:], max_new_tokens=20, do_sample=False)
        assert ours[row, 7:].tolist() == expected[0, length:].tolist()


@both
def test_cached_tokens_are_those_of_reading_everything_anew(family: str) -> None:
    model = build(family)
    tokens = ids(2, 5)
    for _ in range(20):
        tokens = torch.cat((tokens, model(tokens).logits[:, -1:].argmax(-1)), 1)
    assert torch.equal(model.generate(ids(2, 5), max_new_tokens=20), tokens)


@both
def test_repetition_penalty_is_that_of_transformers(family: str) -> None:
    model = build(family)
    expected = twin(model).generate(ids(3, 7), max_new_tokens=20, do_sample=False, repetition_penalty=1.7)
    assert model.generate(ids(3, 7), max_new_tokens=20, repetition_penalty=1.7).tolist() == expected.tolist()


def test_double_heads_generate_too() -> None:
    torch.manual_seed(0)
    model = GPT2DoubleHeadsModel(GPT2Config(vocab_size=50, **SIZES)).eval()
    language = GPT2LMHeadModel(model.config).eval()
    language.load_state_dict(model.state_dict(), strict=False)
    assert torch.equal(model.generate(ids(1, 4)), language.generate(ids(1, 4)))


def test_pruned_model_generates_what_it_scores() -> None:
    model = build()
    model.prune_heads({0: [0, 2], 1: [1]})
    tokens = ids(2, 5)
    for _ in range(8):
        tokens = torch.cat((tokens, model(tokens).logits[:, -1:].argmax(-1)), 1)
    assert torch.equal(model.generate(ids(2, 5), max_new_tokens=8), tokens)


# -- batches -------------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("sample", [False, True])
@pytest.mark.parametrize("side", ["left", "right"])
def test_row_does_not_depend_on_its_batch_mates(family: str, side: str, sample: bool) -> None:
    model = build(family)
    prompts, mask = padded(side)
    together = model.generate(prompts, attention_mask=mask, max_new_tokens=12, do_sample=sample, repetition_penalty=1.3, seed=5)
    assert torch.equal(together[:, :7], prompts)
    for row in range(3):
        alone = prompts[row][mask[row] == 1][None]
        expected = model.generate(alone, max_new_tokens=12, do_sample=sample, repetition_penalty=1.3, seed=5 + row)
        assert together[row, 7:].tolist() == expected[0, alone.shape[1] :].tolist()


def test_padding_may_be_a_token_that_the_vocabulary_does_not_have() -> None:
    model = build()
    prompts, mask = padded("left")
    strange = prompts.masked_fill(mask == 0, 50256)
    expected = model.generate(prompts, attention_mask=mask)[:, 7:]
    assert torch.equal(model.generate(strange, attention_mask=mask)[:, 7:], expected)


def test_memory_is_allocated_once_for_what_is_read() -> None:
    model = build()
    state = model.start_generation(2, 9)
    rooms = [layer.data_ptr() for layer in state.layers]
    assert [tuple(layer.shape) for layer in state.layers] == [(2, 2, 4, 9, 4)] * 2
    tokens = ids(2, 4)
    for step in range(5):
        model.generation_step(tokens if step == 0 else tokens[:, :1], None, state)
    assert state.length == 8 and [layer.data_ptr() for layer in state.layers] == rooms
    model.generation_step(tokens[:, :1], None, state)
    with pytest.raises(ValueError, match="hold 9 positions at most, but 10"):
        model.generation_step(tokens[:, :1], None, state)
    counter = Counter()
    counter.generate(torch.tensor([[0, 1]]), max_new_tokens=4)
    assert counter.read == [5] and counter.max_length == 5


@both
def test_last_position_of_the_model_is_used_and_no_more(family: str) -> None:
    model = build(family)
    assert model.generate(ids(1, 30), max_new_tokens=11).shape == (1, 41)  # the last token is not read
    with pytest.raises(ValueError, match="fit into 40 positions, but 41"):
        model.generate(ids(1, 30), max_new_tokens=12)


# -- endings -------------------------------------------------------------------------------------------------------------


def test_rows_that_have_ended_are_filled_up_and_the_batch_ends_with_its_last() -> None:
    prompts = torch.tensor([[1], [4], [2]])
    output = Counter().generate(prompts, max_new_tokens=9, eos_token_id=6, pad_token_id=0)
    assert output.tolist() == [[1, 2, 3, 4, 5, 6], [4, 5, 6, 0, 0, 0], [2, 3, 4, 5, 6, 0]]


def test_several_tokens_or_sequences_can_end_a_row() -> None:
    prompts = torch.tensor([[1], [4]])
    output = Counter().generate(prompts, max_new_tokens=9, eos_token_id=[3, 7], pad_token_id=0)
    assert output.tolist() == [[1, 2, 3, 0], [4, 5, 6, 7]]
    output = Counter().generate(prompts, max_new_tokens=9, stop=[[8], [2, 3, 4]], pad_token_id=0)
    assert output.tolist() == [[1, 2, 3, 4, 0], [4, 5, 6, 7, 8]]


def test_stop_sequence_counts_generated_tokens_only() -> None:
    output = Counter().generate(torch.tensor([[2, 3, 4]]), max_new_tokens=3, stop=[[3, 4], [4, 5]])
    assert output.tolist() == [[2, 3, 4, 5, 6, 7]]


def test_end_and_padding_come_from_the_configuration() -> None:
    model = build()
    free = model.generate(ids(1, 4), eos_token_id=[])
    assert free.shape == (1, 24)
    end = int(free[0, 6])
    first = free[0, 4:].tolist().index(end) + 5
    model.config.eos_token_id = end
    assert model.generate(ids(1, 4)).tolist() == free[:, :first].tolist()
    assert model.generate(ids(1, 4), eos_token_id=[]).shape == (1, 24)
    other = Counter().generate(torch.tensor([[1], [4]]), max_new_tokens=9, eos_token_id=6)
    assert other.tolist() == [[1, 2, 3, 4, 5, 6], [4, 5, 6, 6, 6, 6]]


def test_streamer_gets_every_token_once_and_the_end() -> None:
    class Recorder:
        def __init__(self) -> None:
            self.tokens: list[list[int]] = []
            self.ended = 0

        def put(self, value: Tensor) -> None:
            self.tokens.append(value.tolist())

        def end(self) -> None:
            self.ended += 1

    recorder = Recorder()
    output = Counter().generate(torch.tensor([[1], [4]]), max_new_tokens=9, eos_token_id=6, pad_token_id=0, streamer=recorder)
    assert torch.tensor(recorder.tokens).T.tolist() == output[:, 1:].tolist()
    assert recorder.ended == 1


def test_result_can_be_trained_on() -> None:
    model = build()
    output = model.generate(ids(2, 4))
    assert not output.is_inference()
    model(output, labels=output).loss.backward()


# -- sampling ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3, 49, 50, 70])
def test_top_k_keeps_what_transformers_keeps(k: int) -> None:
    scores = torch.randn(4, 50).round(decimals=1)  # with ties
    assert torch.equal(keep_top_k(scores, k), TopKLogitsWarper(k)(ids(4, 3), scores))


@pytest.mark.parametrize("p", [1e-6, 0.3, 0.5, 0.9, 0.9999])
def test_top_p_keeps_what_transformers_keeps(p: float) -> None:
    scores = torch.randn(4, 50) * 3
    assert torch.equal(keep_top_p(scores, p), TopPLogitsWarper(p)(ids(4, 3), scores))


@pytest.mark.parametrize("penalty", [0.5, 1.2, 3.0])
def test_repetition_penalty_scores_as_transformers(penalty: float) -> None:
    scores, tokens = torch.randn(4, 50), ids(4, 9)
    seen = torch.zeros(4, 50, dtype=torch.bool).scatter(1, tokens, True)
    expected = RepetitionPenaltyLogitsProcessor(penalty)(tokens, scores)
    torch.testing.assert_close(penalize_repetition(scores, seen, penalty), expected)


class Fixed(GenerationMixin):
    """A head with the same scores at every step."""

    def __init__(self, probabilities: list[float]) -> None:
        self.scores = torch.tensor(probabilities).log()

    def start_generation(self, batch_size: int, max_length: int) -> int:
        return batch_size

    def generation_step(self, input_ids: Tensor, attention_mask: Tensor | None, state: int) -> Tensor:
        return self.scores.expand(state, -1)


def test_samples_follow_the_distribution() -> None:
    probabilities = [0.1, 0.0, 0.5, 0.25, 0.0, 0.15]
    drawn = Fixed(probabilities).generate(torch.zeros(20, 1).long(), max_new_tokens=500, do_sample=True, seed=3)[:, 1:]
    counts = torch.bincount(drawn.flatten(), minlength=6) / drawn.numel()
    # Ten thousand draws: five standard deviations of the most uncertain share are 0.025.
    torch.testing.assert_close(counts, torch.tensor(probabilities), atol=0.025, rtol=0.0)
    assert counts[1] == 0 and counts[4] == 0


def test_temperature_and_filters_apply_to_samples() -> None:
    prompt = torch.zeros(20, 1).long()
    head = Fixed([0.4, 0.3, 0.2, 0.1])
    settings: dict[str, Any] = {"max_new_tokens": 200, "do_sample": True, "seed": 0}
    assert set(head.generate(prompt, top_k=2, **settings)[:, 1:].unique().tolist()) == {0, 1}
    assert set(head.generate(prompt, top_p=0.75, **settings)[:, 1:].unique().tolist()) == {0, 1, 2}
    assert set(head.generate(prompt, temperature=0.01, **settings)[:, 1:].unique().tolist()) == {0}
    squared = head.generate(prompt, temperature=0.5, **settings)[:, 1:]
    torch.testing.assert_close((squared == 0).float().mean(), torch.tensor(0.16 / 0.30), atol=0.04, rtol=0.0)


def test_seed_decides_and_torchs_generator_without_one() -> None:
    model = build()
    settings: dict[str, Any] = {"do_sample": True, "max_new_tokens": 12}
    assert torch.equal(model.generate(ids(2, 4), seed=1, **settings), model.generate(ids(2, 4), seed=1, **settings))
    assert not torch.equal(model.generate(ids(2, 4), seed=1, **settings), model.generate(ids(2, 4), seed=9, **settings))
    before = torch.get_rng_state()
    model.generate(ids(2, 4), seed=1, **settings)
    assert torch.equal(torch.get_rng_state(), before)
    runs = []
    for _ in range(2):
        torch.manual_seed(4)
        runs.append(model.generate(ids(2, 4), **settings))
    assert torch.equal(*runs)
    assert not torch.equal(runs[0], model.generate(ids(2, 4), **settings))


def test_longer_sample_begins_with_the_shorter_one() -> None:
    model = build()
    short = model.generate(ids(2, 4), do_sample=True, seed=1, max_new_tokens=3)
    long = model.generate(ids(2, 4), do_sample=True, seed=1, max_new_tokens=30)
    assert torch.equal(long[:, :7], short)


def test_samples_of_one_prompt_are_neighbours_and_differ() -> None:
    model = build()
    output = model.generate(ids(2, 4), do_sample=True, num_return_sequences=3, seed=2, max_new_tokens=10)
    assert output.shape == (6, 14)
    assert torch.equal(output[:, :4], ids(2, 4).repeat_interleave(3, 0))
    assert len({tuple(row) for row in output[:3].tolist()}) == 3
    prompts, mask = padded("left")
    output = model.generate(prompts, attention_mask=mask, do_sample=True, num_return_sequences=2, seed=2)
    alone = model.generate(prompts[1:2, 3:], do_sample=True, num_return_sequences=2, seed=4)
    assert torch.equal(output[2:4, 7:], alone[:, 4:])


# -- arguments -----------------------------------------------------------------------------------------------------------


NUMBERS = [None, "1", [1], True, 1 + 2j, math.nan, math.inf, -math.inf, torch.tensor(1)]
WRONG: list[tuple[str, Any, str]] = [
    *(("max_new_tokens", value, "a whole number from 1 to 10,000,000") for value in (*NUMBERS, 0, -1, 1.5, 2**40, 10**5000)),
    *(("num_return_sequences", value, "a whole number from 1 to") for value in (*NUMBERS, 0, -1, 1.5, 10**9)),
    ("num_return_sequences", 2, "1 without do_sample=True, but is 2"),
    *(("temperature", value, "a finite number above 0") for value in (*NUMBERS, 0, 0.0, -1.0, 10**400)),
    *(("top_k", value, "a whole number, 0") for value in (*NUMBERS, -1, 2.5)),
    *(("top_p", value, "a finite number above 0") for value in (*NUMBERS, 0.0, -0.5)),
    ("top_p", 1.5, "above 0 and at most 1"),
    *(("repetition_penalty", value, "a finite number above 0") for value in (*NUMBERS, 0.0, -1)),
    *(("do_sample", value, "True or False") for value in (None, 1, "yes", 1.0)),
    *(("seed", value, "None or a whole number") for value in ("1", 1.5, True, 2**64, math.nan, [1])),
    *(
        ("eos_token_id", value, "a token's id")
        for value in ([-1], -1, 1.5, True, "5", [1, 2.5], [None], torch.tensor([1.5]), 2**70)
    ),
    *(("pad_token_id", value, "a token's id") for value in (-1, 1.5, True, "5", [1], 2**70)),
    *(
        ("stop", value, "a list of lists")
        for value in ("a", 5, [5], [[]], [[5.5]], [[True]], ["ab"], [[-1]], [[None]], {1: 2}, [[2**70]])
    ),
    *(("stop", value, "a list of lists") for value in (torch.tensor([[5.5]]), torch.tensor(5), [[[1]]])),
    *(("streamer", value, "the methods put and end") for value in (print, "x", 5)),
    ("attention_mask", [[1, 1], [1, 1]], "a tensor or None, but is a list"),
    ("attention_mask", torch.ones(2, 3), "the shape of input_ids"),
    ("attention_mask", torch.ones(2), "the shape of input_ids"),
    ("attention_mask", torch.tensor([[1, 1], [0, 0]]), "keep at least one token of every row"),
    ("attention_mask", torch.tensor([[1, math.nan], [1, 1]]), "negative, infinite or NaN"),
    ("attention_mask", torch.tensor([[0, -math.inf], [0, 0]]), "negative, infinite or NaN"),
    ("attention_mask", torch.tensor([[0.0, -10000.0], [0, 0]]), "negative, infinite or NaN"),
    ("attention_mask", torch.tensor([[0, -10000], [0, 0]]), "negative, infinite or NaN"),
    ("attention_mask", torch.tensor([[math.inf, 1], [1, 1]]), "negative, infinite or NaN"),
    ("attention_mask", torch.ones(2, 2, dtype=torch.complex64), "negative, infinite or NaN"),
]


@pytest.mark.parametrize(
    ("name", "value", "message"), WRONG, ids=[f"{number}-{name}" for number, (name, _, _) in enumerate(WRONG)]
)
def test_wrong_argument_is_named(name: str, value: Any, message: str) -> None:
    model, prompt = Counter(), torch.tensor([[1, 2], [3, 4]])
    for sample in (False, True):
        if (name, value) == ("num_return_sequences", 2) and sample:
            continue
        with pytest.raises(ConfigError, match=f"{name} is expected to .*{message}"):
            model.generate(prompt, **{"do_sample": sample, name: value})
    assert not hasattr(model, "read"), "nothing is read before the arguments are known to be right"


@pytest.mark.parametrize(
    "prompt",
    [
        torch.tensor([1, 2]),
        torch.zeros(1, 0).long(),
        torch.zeros(1, 2),
        *(torch.ones(1, 2, dtype=dtype) for dtype in (torch.int8, torch.uint8, torch.int16, torch.bool, torch.bfloat16)),
        [[1, 2]],
        "text",
        None,
        {"input_ids": torch.tensor([[1, 2]])},
    ],
    ids=["1-d", "empty", "float", "int8", "uint8", "int16", "bool", "bfloat16", "list", "str", "None", "dict"],
)
def test_wrong_prompt_is_named(prompt: Any) -> None:
    with pytest.raises(ConfigError, match="input_ids is expected to be (ids|a tensor)"):
        Counter().generate(prompt)


def test_wrong_ends_of_a_configuration_are_named() -> None:
    model = build()
    for name, value in (("eos_token_id", 1.5), ("pad_token_id", -1)):
        setattr(model.config, name, value)
        with pytest.raises(ConfigError, match=f"{name} is expected to be a token's id"):
            model.generate(ids(1, 3))
        setattr(model.config, name, None)


OUTSIDE: list[tuple[str, Any, str]] = [
    ("eos_token_id", 50, "eos_token_id"),
    ("eos_token_id", [1, 99], r"eos_token_id\[1\]"),
    ("eos_token_id", torch.tensor([50]), r"eos_token_id\[0\]"),
    ("pad_token_id", 50, "pad_token_id"),
    ("stop", [[1], [2, 50]], r"stop\[1\]\[1\]"),
    ("stop", torch.tensor([[2**40]]), r"stop\[0\]\[0\]"),
]


@both
@pytest.mark.parametrize(("name", "value", "named"), OUTSIDE)
def test_an_id_outside_the_vocabulary_is_named(family: str, name: str, value: Any, named: str) -> None:
    class Silent:
        def put(self, value: Tensor) -> None:
            raise AssertionError("nothing is generated")

        end = put

    for streamer in (None, Silent()):
        with pytest.raises(ConfigError, match=rf"^\[R601\] {named} is expected to be a token .*, from 0 to 49, but is \d+;"):
            build(family).generate(ids(2, 3), streamer=streamer, **{name: value})


@both
@pytest.mark.parametrize("value", [-1, -100, 50, 2**31 - 1])
def test_a_prompt_outside_the_vocabulary_is_named(family: str, value: int) -> None:
    model = build(family)
    for dtype in (torch.int64, torch.int32):
        prompt, mask = ids(2, 4).to(dtype), torch.ones(2, 4)
        prompt[1, 2] = value
        for settings in ({}, {"attention_mask": mask}, {"do_sample": True, "seed": 1}):
            with pytest.raises(ConfigError, match=rf"input_ids\[1, 2\] is expected to be .*, from 0 to 49, but is {value};"):
                model.generate(prompt, **settings)
    # What is masked is not read: it may be any number.
    prompt, mask = ids(2, 4), torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    expected = model.generate(prompt, attention_mask=mask)[:, 4:]
    prompt[1, :2] = value
    assert torch.equal(model.generate(prompt, attention_mask=mask)[:, 4:], expected)


def test_an_end_that_a_configuration_has_by_default_need_not_be_in_a_small_vocabulary() -> None:
    model = build()
    assert model.config.eos_token_id == 50256
    first = int(model.generate(ids(2, 3), eos_token_id=[])[0, 3])
    output = model.generate(ids(2, 3), stop=[[first]])
    assert output.max() < 50  # rows are filled up with a token of the vocabulary
    model.config.pad_token_id = 50
    with pytest.raises(ConfigError, match="pad_token_id is expected to be a token .*, from 0 to 49, but is 50"):
        model.generate(ids(1, 3))


@both
def test_prompts_of_32_bits_and_numbers_of_numpy_are_as_good(family: str) -> None:
    model = build(family)
    settings = {"max_new_tokens": np.int64(6), "top_k": np.int32(9), "top_p": np.float32(0.9), "temperature": np.float64(0.8)}
    settings |= {"seed": np.int64(3), "repetition_penalty": 2, "eos_token_id": np.int64(49), "stop": np.array([[1, 2]])}
    expected = model.generate(
        ids(2, 5),
        max_new_tokens=6,
        top_k=9,
        top_p=float(np.float32(0.9)),
        temperature=0.8,
        seed=3,
        repetition_penalty=2.0,
        eos_token_id=[49],
        stop=[[1, 2]],
        do_sample=True,
    )
    assert torch.equal(model.generate(ids(2, 5).int(), do_sample=True, **settings), expected)


# -- scores that are no numbers ------------------------------------------------------------------------------------------


class Scores(Counter):
    """Counts on, but for one score of one row at one step."""

    def __init__(self, value: float, row: int = 1, step: int = 2, every_token: bool = False) -> None:
        self.value, self.row, self.step, self.every_token = value, row, step, every_token

    def generation_step(self, input_ids: Tensor, attention_mask: Tensor | None, state: list[int]) -> Tensor:
        scores = super().generation_step(input_ids, attention_mask, state)
        if state[0] - 1 == self.step:  # the prompt is one token
            scores[self.row, slice(None) if self.every_token else 0] = self.value
        return scores


@pytest.mark.parametrize(
    "settings", [{}, {"do_sample": True}, {"repetition_penalty": 1.5}, {"do_sample": True, "top_k": 2, "top_p": 0.5}]
)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_no_numbers_are_named_by_row_and_step(value: float, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"scores of row 1 .*for new token 2 one is {value}"):
        Scores(value).generate(torch.tensor([[1], [2]]), **settings)


@pytest.mark.parametrize("sample", [False, True])
def test_tokens_may_be_ruled_out_but_not_all(sample: bool) -> None:
    prompt = torch.tensor([[1], [2]])
    assert Scores(-math.inf).generate(prompt, max_new_tokens=4, do_sample=sample, top_k=1).tolist() == [
        [1, 2, 3, 4, 5],
        [2, 3, 4, 5, 6],
    ]
    with pytest.raises(ConfigError, match="row 1 .*for new token 2 all tokens are ruled out"):
        Scores(-math.inf, every_token=True).generate(prompt, do_sample=sample)


def test_a_row_that_has_ended_spoils_no_other() -> None:
    output = Scores(math.nan).generate(torch.tensor([[1], [2]]), max_new_tokens=5, eos_token_id=4, pad_token_id=0)
    assert output.tolist() == [[1, 2, 3, 4], [2, 3, 4, 0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@both
def test_weights_that_are_no_numbers_end_a_generation(family: str, dtype: torch.dtype) -> None:
    model = build(family).to(dtype)
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.bias[0] = math.nan
    with pytest.raises(ConfigError, match="row 0 .*new token 0 one is nan"):
        model.generate(ids(2, 3))


@pytest.mark.parametrize("temperature", [1e-300, 1e-45, 1e-38, 1e-30])
def test_the_coldest_sample_is_the_best_token(temperature: float) -> None:
    model = build()
    assert torch.equal(model.generate(ids(2, 3), do_sample=True, temperature=temperature), model.generate(ids(2, 3)))


def test_head_that_implements_neither_method_says_so() -> None:
    with pytest.raises(NotImplementedError, match="start_generation"):
        GenerationMixin().generate(torch.tensor([[1]]))
