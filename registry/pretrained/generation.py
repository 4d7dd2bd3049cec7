"""Generate tokens with any causal head: greedily, or by sampling.

Shapes: B rows of the batch, S prompt, V vocabulary. Nothing that happens to one row depends on another: padding takes
neither positions nor attention, and every row draws from a generator of its own.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from registry.errors import ConfigError
from registry.pretrained.config import shown

__all__ = ["GenerationMixin", "Streamer", "keep_top_k", "keep_top_p", "penalize_repetition"]


#: The most that may be asked for: room for all of it is made before the first token.
_MOST_TOKENS = 10_000_000
_MOST_ROWS = 100_000
_MAX_INT64 = 2**63 - 1
#: Below it a float32 has no reciprocal; the best token is certain long before.
_LEAST_TEMPERATURE = 1e-37


class Streamer(Protocol):
    """Receives tokens while they are generated."""

    def put(self, value: Tensor) -> None:
        """Take the new token of every row, int64 (B,) on the CPU; a finished row has its padding token."""
        ...

    def end(self) -> None:
        """Learn that there is no more."""
        ...


class GenerationMixin:
    """Gives a causal head `generate`. The head implements `start_generation` and `generation_step`."""

    #: Methods that compute with the weights, as `forward` does; those of a sharded model gather them first.
    forward_methods: ClassVar[tuple[str, ...]] = ("start_generation", "generation_step")
    #: Whether nothing that a generation makes is ever trained on; what is gathered of a sharded model is.
    in_inference_mode = True

    def all_finished(self, finished: Tensor) -> bool:
        """Whether a generation may end, as each of its rows has, (B,); a sharded model asks the other ranks."""
        return bool(finished.all())

    def start_generation(self, batch_size: int, max_length: int) -> Any:
        """Return the state of a generation, with whatever memory it needs allocated at once.

        Args:
            batch_size: rows.
            max_length: how many tokens the steps will read in all, padding included.
        """
        raise NotImplementedError(f"{type(self).__name__} is expected to implement start_generation")

    def generation_step(self, input_ids: Tensor, attention_mask: Tensor | None, state: Any) -> Tensor:
        """Read tokens, update the state in place, and return the scores (B, V) of the token after the last one.

        Args:
            input_ids: int64 (B, new): the whole prompt first, then one token at a time.
            attention_mask: bool (B, all so far), False for padding, which is on the left; None when nothing is padded.
            state: what `start_generation` returned.
        """
        raise NotImplementedError(f"{type(self).__name__} is expected to implement generation_step")

    def generate(
        self,
        input_ids: Tensor,
        *,
        attention_mask: Tensor | None = None,
        max_new_tokens: int = 20,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        repetition_penalty: float = 1.0,
        num_return_sequences: int = 1,
        eos_token_id: int | Sequence[int] | None = None,
        pad_token_id: int | None = None,
        stop: Sequence[Sequence[int]] | None = None,
        seed: int | None = None,
        streamer: Streamer | None = None,
    ) -> Tensor:
        """Continue prompts. A model in training mode drops out here too: call `eval()` first.

        Args:
            input_ids: int64 or int32 (B, S), padded on either side.
            attention_mask: (B, S), any dtype, zero for padding and above zero for the rest; None when there is none.
            max_new_tokens: how many tokens to add at most.
            do_sample: draw each token from the distribution, instead of taking the best one.
            temperature: divides the scores; sampling only, as the next two.
            top_k: sample from this many best tokens; 0 for all.
            top_p: sample from the fewest tokens whose probabilities reach this sum (arXiv:1904.09751); 1 for all.
            repetition_penalty: divides the scores of tokens that the row has already (arXiv:1909.05858); 1 for none.
            num_return_sequences: samples of each prompt, as neighbouring rows.
            eos_token_id: one or several tokens that end a row; None takes the configuration's, an empty list none.
            pad_token_id: fills up rows that end early; None takes the configuration's, else the first that ends a row.
            stop: sequences of tokens that end a row once it has generated one of them.
            seed: row r draws from a generator that is seeded with seed + r; None takes torch's global generator.
            streamer: gets every token as soon as it is there.

        Returns:
            int64 (B * num_return_sequences, S + new): the prompts as given, then the new tokens; `new` is less than
            `max_new_tokens` when every row has ended.

        Raises:
            ConfigError: a ValueError that names the argument that is wrong, such as an id that the vocabulary lacks, or the row
                and step whose scores are NaN or infinite.
        """
        config = getattr(self, "config", None)
        size: int | None = getattr(config, "vocab_size", None)
        _check_prompt(input_ids, attention_mask, size)
        max_new_tokens = _whole("max_new_tokens", max_new_tokens, 1, _MOST_TOKENS)
        num_return_sequences = _whole("num_return_sequences", num_return_sequences, 1, _MOST_ROWS)
        _require(_is_whole(top_k) and top_k >= 0, "top_k", "a whole number, 0 (all tokens) or more", top_k)
        fits = seed is None or (_is_whole(seed) and abs(int(seed)) <= _MAX_INT64)
        _require(fits, "seed", "None or a whole number of 64 bits", seed)
        top_k, seed = int(top_k), None if seed is None else int(seed)
        temperature = _number("temperature", temperature, "(for the best token each time give do_sample=False)")
        top_p = _number("top_p", top_p)
        repetition_penalty = _number("repetition_penalty", repetition_penalty)
        _require(top_p <= 1, "top_p", "above 0 and at most 1", top_p)
        _require(isinstance(do_sample, bool), "do_sample", "True or False", do_sample)
        alone = do_sample or num_return_sequences == 1
        _require(alone, "num_return_sequences", "1 without do_sample=True", num_return_sequences)
        streams = streamer is None or all(callable(getattr(streamer, name, None)) for name in ("put", "end"))
        _require(streams, "streamer", "an object with the methods put and end", streamer)
        ends, pad = _ends(eos_token_id, pad_token_id, config, size)
        stops = [torch.tensor(sequence, dtype=torch.int64, device=input_ids.device) for sequence in _stops(stop, size)]
        prompt = input_ids.long().repeat_interleave(num_return_sequences, 0)
        rows, length = prompt.shape
        # Allocated before inference mode begins: a tensor that is born inside it could not be trained on.
        output = torch.cat((prompt, prompt.new_full((rows, max_new_tokens), pad)), dim=1)
        draws = _draws(rows, max_new_tokens, seed).to(prompt.device) if do_sample else None
        finished = torch.zeros(rows, dtype=torch.bool, device=prompt.device)
        ending = torch.tensor(ends, dtype=torch.int64, device=prompt.device)

        with torch.no_grad(), torch.inference_mode(self.in_inference_mode):
            tokens, mask = _align(prompt, attention_mask, num_return_sequences, max_new_tokens)
            seen: Tensor | None = None
            state = self.start_generation(rows, length + max_new_tokens - 1)  # the last token is never read
            for position in range(length, length + max_new_tokens):
                scores = self.generation_step(tokens, None if mask is None else mask[:, :position], state).float()
                if repetition_penalty != 1.0:
                    seen = torch.zeros_like(scores, dtype=torch.bool) if seen is None else seen
                    seen.scatter_(1, tokens, True)
                    scores = penalize_repetition(scores, seen, repetition_penalty)
                chosen = scores.argmax(-1)  # of a NaN where there is one, else of the best
                best = scores.gather(-1, chosen[:, None])
                _require_finite(best, finished, position - length)
                if draws is not None:
                    scores = (scores - best) / max(temperature, _LEAST_TEMPERATURE)  # the best is 0: nothing overflows
                    scores = keep_top_p(keep_top_k(scores, top_k), top_p)
                    chosen = _sample(scores, draws[:, position - length])
                output[:, position] = torch.where(finished, pad, chosen)
                if streamer is not None:
                    streamer.put(output[:, position].cpu())
                if ends or stops:
                    finished |= torch.isin(chosen, ending)
                    for sequence in stops:
                        begin = position + 1 - len(sequence)
                        if begin >= length:
                            finished |= (output[:, begin : position + 1] == sequence).all(-1)
                    if self.all_finished(finished):
                        break
                tokens = chosen[:, None]  # not the padding of `output`, which need not be in the vocabulary
        if streamer is not None:
            streamer.end()
        return output[:, : position + 1]


# -- scores ------------------------------------------------------------------------------------------------------------


def penalize_repetition(scores: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Return scores (B, V) with those that `seen` (bool, B, V) marks made less likely by a factor (arXiv:1909.05858, 4.1)."""
    return torch.where(seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores)


def keep_top_k(scores: Tensor, k: int) -> Tensor:
    """Return scores (B, V) with all but the `k` best, and those equal to the last of them, at minus infinity; 0 keeps all."""
    if k == 0 or k >= scores.shape[-1]:
        return scores
    return scores.masked_fill(scores < scores.topk(k).values[..., -1:], -torch.inf)


def keep_top_p(scores: Tensor, p: float) -> Tensor:
    """Return scores (B, V) with all but the fewest best whose probabilities reach `p` at minus infinity (arXiv:1904.09751)."""
    if p == 1.0:
        return scores
    ordered, index = scores.sort(dim=-1)
    drop = ordered.softmax(-1).cumsum(-1) <= 1 - p
    drop[..., -1] = False
    return scores.masked_fill(drop.scatter(-1, index, drop), -torch.inf)


def _sample(scores: Tensor, draws: Tensor) -> Tensor:
    """Return the token (B,) at which each row's cumulative probability passes its draw from [0, 1)."""
    exact = torch.float32 if scores.device.type == "mps" else torch.float64
    cumulative = scores.to(exact).softmax(-1).cumsum(-1)
    wanted = draws.to(exact)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, wanted, right=True).squeeze(-1).clamp(max=scores.shape[-1] - 1)


def _draws(rows: int, count: int, seed: int | None) -> Tensor:
    """Return `count` numbers from [0, 1) for each row, (rows, count), each row from its own generator."""
    first = int(torch.randint(2**62, ())) if seed is None else seed
    generators = (torch.Generator().manual_seed(first + row) for row in range(rows))
    return torch.stack([torch.rand(count, generator=generator, dtype=torch.float64) for generator in generators])


# -- arguments ---------------------------------------------------------------------------------------------------------


def _align(prompt: Tensor, mask: Tensor | None, copies: int, new: int) -> tuple[Tensor, Tensor | None]:
    """Move all padding to the left; return tokens (B, S), and the mask (B, S + new), or None when nothing is padded."""
    if mask is None or bool((mask != 0).all()):
        return prompt, None
    keep = (mask != 0).repeat_interleave(copies, 0)
    order = keep.to(torch.uint8).argsort(dim=1, stable=True)
    keep, tokens = keep.gather(1, order), prompt.gather(1, order)
    # What is read in place of padding is masked, so it may be any token of the row: that is always in the vocabulary.
    tokens = torch.where(keep, tokens, tokens[:, -1:])
    return tokens, torch.cat((keep, keep.new_ones(len(keep), new)), dim=1)


def _ends(eos: Any, pad: Any, config: Any, size: int | None) -> tuple[list[int], int]:
    """Return the tokens that end a row, and the one that fills it up."""
    is_given = eos is not None
    if eos is None:
        eos = getattr(config, "eos_token_id", None)
    values = eos.tolist() if hasattr(eos, "tolist") else eos  # an array or tensor of ids
    ends = [] if values is None else list(values) if isinstance(values, list | tuple) else [values]
    _require(all(map(_is_token, ends)), "eos_token_id", "a token's id or a list of ids", eos)
    ends = list(map(int, ends))
    if is_given:
        for index, end in enumerate(ends):
            _require_in_vocabulary(f"eos_token_id[{index}]" if isinstance(values, list | tuple) else "eos_token_id", end, size)
    elif size is not None:  # a smaller model may have the default of its configuration; what it cannot choose ends nothing
        ends = [end for end in ends if end < size]
    if pad is None:
        pad = getattr(config, "pad_token_id", None)
    if pad is None:
        return ends, ends[0] if ends else 0
    _require(_is_token(pad), "pad_token_id", "a token's id", pad)
    _require_in_vocabulary("pad_token_id", int(pad), size)
    return ends, int(pad)


def _stops(stop: Any, size: int | None) -> list[list[int]]:
    values = stop.tolist() if hasattr(stop, "tolist") else stop
    is_list = values is None or isinstance(values, list | tuple)
    _require(is_list, "stop", "a list of lists of token ids", stop)
    sequences: list[list[int]] = []
    for number, each in enumerate(() if values is None else values):
        sequence = each.tolist() if hasattr(each, "tolist") else each
        fits = isinstance(sequence, list | tuple) and len(sequence) > 0 and all(map(_is_token, sequence))
        if not fits:
            raise ConfigError(
                f"stop is expected to be a list of lists of token ids, none of them empty, but holds {shown(each)}"
            )
        sequences.append(list(map(int, sequence)))
        for index, token in enumerate(sequences[-1]):
            _require_in_vocabulary(f"stop[{number}][{index}]", token, size)
    return sequences


def _check_prompt(input_ids: Any, attention_mask: Any, size: int | None) -> None:
    if not isinstance(input_ids, Tensor):
        raise ConfigError(
            f"input_ids is expected to be a tensor of the shape (batch, seq), but is a {type(input_ids).__name__}; "
            "give torch.tensor(ids), with a list for each text"
        )
    if input_ids.dim() != 2 or input_ids.dtype not in (torch.int64, torch.int32) or 0 in input_ids.shape:
        raise ConfigError(
            "input_ids is expected to be ids (int64 or int32) of the shape (batch, seq), with at least one token, but is "
            f"{input_ids.dtype} of the shape {tuple(input_ids.shape)}"
        )
    if attention_mask is not None:
        _check_mask(input_ids, attention_mask)
    if size is None:
        return
    least, most = torch.stack(input_ids.aminmax()).tolist()  # one copy from another device
    if least >= 0 and most < size:
        return
    wrong = (input_ids < 0) | (input_ids >= size)
    if attention_mask is not None:  # padding is not read
        wrong &= attention_mask != 0
    for row, column in wrong.nonzero()[:1].tolist():
        _require_in_vocabulary(f"input_ids[{row}, {column}]", int(input_ids[row, column]), size)


def _check_mask(input_ids: Tensor, attention_mask: Any) -> None:
    if not isinstance(attention_mask, Tensor):
        raise ConfigError(f"attention_mask is expected to be a tensor or None, but is a {type(attention_mask).__name__}")
    if attention_mask.shape != input_ids.shape:
        raise ConfigError(
            f"attention_mask is expected to have the shape of input_ids, {tuple(input_ids.shape)}, but has "
            f"{tuple(attention_mask.shape)}"
        )
    if attention_mask.is_complex() or not bool(((attention_mask >= 0) & (attention_mask < math.inf)).all()):
        raise ConfigError(
            "attention_mask is expected to be zero for padding and above zero for tokens, but holds values that are negative, "
            "infinite or NaN; give the mask itself, not what is added to the scores"
        )
    if not bool((attention_mask != 0).any(-1).all()):
        raise ConfigError("attention_mask is expected to keep at least one token of every row, but keeps none of some")


def _require(condition: bool, name: str, expected: str, value: object) -> None:
    if not condition:
        raise ConfigError(f"{name} is expected to be {expected}, but is {shown(value)}")


def _require_in_vocabulary(name: str, token: int, size: int | None) -> None:
    if size is not None and not 0 <= token < size:
        raise ConfigError(
            f"{name} is expected to be a token of the model's vocabulary, from 0 to {size - 1}, but is {token}; is it "
            "of another model, or an added token? Then call resize_token_embeddings"
        )


def _whole(name: str, value: Any, least: int, most: int) -> int:
    """Return a whole number of any library, which is no bool, from `least` to `most`."""
    _require(_is_whole(value) and least <= int(value) <= most, name, f"a whole number from {least:,} to {most:,}", value)
    return int(value)


def _number(name: str, value: Any, advice: str = "") -> float:
    """Return a number of any library, which is no bool, above 0 and finite."""
    number = math.nan
    if isinstance(value, Real) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            number = float(value)
    _require(0 < number < math.inf, name, f"a finite number above 0 {advice}".rstrip(), value)
    return number


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_token(value: Any) -> bool:
    return _is_whole(value) and 0 <= int(value) <= _MAX_INT64


def _require_finite(best: Tensor, finished: Tensor, step: int) -> None:
    """Refuse scores from which no token can be chosen; those of tokens that are ruled out may be minus infinity.

    Args:
        best: (B, 1), each row's best score, which is NaN where any score is.
        finished: (B,), rows whose tokens are of no use any more.
        step: how many tokens are there already.
    """
    fits = best.squeeze(-1).isfinite() | finished
    if bool(fits.all()):
        return
    row = int(fits.logical_not().nonzero()[0, 0])
    value = float(best[row, 0])
    found = "all tokens are ruled out" if value == -math.inf else f"one is {value}"
    raise ConfigError(
        f"scores of row {row} are expected to be finite, but for new token {step} {found}; look for NaN or infinite weights, "
        "a repetition_penalty far from 1, or a dtype of too narrow a range (float16)"
    )
