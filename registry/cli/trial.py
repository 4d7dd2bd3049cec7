"""`registry try`: apply a model's head to texts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from registry.errors import ConfigError
from registry.model_registry import ModelRegistry
from registry.pretrained.streaming import TextStreamer

__all__ = ["Trial", "run_trial"]

_SENTENCES = ["A man is eating food.", "Someone eats a meal.", "A cheetah chases its prey.", "The stock market fell today."]
_BEGINNING = "Once upon a time"
_NEW_TOKENS = 40
_QUESTION = ["Where do cheetahs live?", "Cheetahs are large cats. They live in Africa and hunt by day."]


@dataclass(frozen=True)
class Trial:
    """A result, as data and as lines of text."""

    data: dict[str, Any]
    lines: list[str]


def run_trial(
    registry: ModelRegistry,
    name: str,
    texts: Sequence[str],
    *,
    head: str | None,
    cache_dir: str | None,
    offline: bool | None,
    write: Callable[[str], object] | None = None,
) -> Trial:
    """Load a model and run it on texts. Generated text is passed to `write` piece by piece, if given.

    Raises:
        ConfigError: when the head cannot be tried, or its input is wrong.
    """
    started = time.perf_counter()
    model = registry.load(name, head=head, cache_dir=cache_dir, offline=offline)
    loaded = time.perf_counter()
    tokenizer = registry.load_tokenizer(name, cache_dir=cache_dir, offline=offline)
    # A vocabulary alone does not show the model's maximum length.
    limits = (tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None))
    tokenizer.model_max_length = min((limit for limit in limits if limit is not None), default=None)
    chosen = registry.head_of(model)
    known = (*_BY_HEAD, "lm")
    if chosen not in known:
        raise ConfigError(f"head of {type(model).__name__} is expected to be one of {', '.join(known)}, but is {chosen!r}")
    with torch.inference_mode():
        if chosen == "lm":
            data, lines = _continue(model, tokenizer, list(texts), write)
        else:
            data, lines = _BY_HEAD[chosen](model, tokenizer, list(texts))
    ended = time.perf_counter()
    seconds = {"load": loaded - started, "run": ended - loaded}
    lines.append(f"loaded in {seconds['load']:.2f} s, tokenized and ran in {seconds['run']:.2f} s")
    return Trial({"model": name, "class": type(model).__name__, **data, "seconds": seconds}, lines)


def _encode(tokenizer: Any, *texts: Any) -> Any:
    return tokenizer(*texts, padding=True, truncation=True, return_tensors="pt")


def sentence_embeddings(model: Any, tokenizer: Any, texts: Sequence[str]) -> torch.Tensor:
    """Return the mean of each text's last hidden states, of length 1: `(texts, hidden)`."""
    # One at a time, because not every family can pad.
    means = [model(_encode(tokenizer, text)["input_ids"]).last_hidden_state[0].mean(0) for text in texts]
    return torch.nn.functional.normalize(torch.stack(means).float(), dim=-1)


def _similarity(model: Any, tokenizer: Any, texts: list[str]) -> tuple[dict[str, Any], list[str]]:
    texts = texts or _SENTENCES
    vectors = sentence_embeddings(model, tokenizer, texts)
    scores = (vectors @ vectors.T).tolist()
    width = max(len(text) for text in texts)
    lines = ["cosine similarity of mean-pooled sentences"]
    for text, row in zip(texts, scores, strict=True):
        lines.append(f"{text.ljust(width)}  " + "  ".join(f"{score:6.3f}" for score in row))
    return {"texts": texts, "similarity": scores}, lines


def _fill_in(model: Any, tokenizer: Any, texts: list[str]) -> tuple[dict[str, Any], list[str]]:
    texts = texts or [f"Paris is the {tokenizer.mask_token} of France."]
    data, lines = [], []
    for text in texts:
        inputs = _encode(tokenizer, text)
        places = (inputs["input_ids"][0] == tokenizer.mask_token_id).nonzero().flatten().tolist()
        if not places:
            raise ConfigError(f"a text for this head is expected to hold {tokenizer.mask_token}, but {text!r} does not")
        output = model(**inputs)
        logits = output.logits if hasattr(output, "logits") else output.prediction_logits
        for place in places:
            best = logits[0, place].float().softmax(-1).topk(5)
            words = tokenizer.convert_ids_to_tokens(best.indices)
            found = [{"token": word, "score": score} for word, score in zip(words, best.values.tolist(), strict=True)]
            data.append({"text": text, "place": place, "tokens": found})
            lines.append(f"{text}  ->  " + ", ".join(f"{item['token']} {item['score']:.3f}" for item in found))
    return {"fill-in": data}, lines


def _answer(model: Any, tokenizer: Any, texts: list[str]) -> tuple[dict[str, Any], list[str]]:
    texts = texts or _QUESTION
    if len(texts) != 2:
        raise ConfigError(f"this head is expected to get a question and a text, but got {len(texts)} texts")
    question, text = texts
    try:
        encoded = tokenizer(question, text, truncation="only_second", return_offsets_mapping=True)
    except ValueError as error:
        raise ConfigError(f"the question is expected to leave room for the text, but is too long: {error}") from error
    inputs = {name: torch.tensor([encoded[name]]) for name in ("input_ids", "token_type_ids", "attention_mask")}
    output = model(**inputs)
    second = torch.tensor([sequence == 1 for sequence in encoded.encodings[0].sequence_ids])
    if not second.any():
        raise ConfigError(f"the text after the question is expected to hold words, but is {text!r}")
    begin = output.start_logits[0].float().masked_fill(~second, -torch.inf).softmax(-1)
    end = output.end_logits[0].float().masked_fill(~second, -torch.inf).softmax(-1)
    # The best span that ends where it begins or after, and has at most 30 tokens.
    spans = (begin[:, None] * end[None, :]).triu().tril(29)
    first, last = divmod(int(spans.argmax()), spans.shape[1])
    offsets = encoded["offset_mapping"]
    answer = text[offsets[first][0] : offsets[last][1]]
    score = float(spans[first, last])
    return {"question": question, "answer": answer, "score": score}, [f"{question}  ->  {answer!r} ({score:.3f})"]


def _labels(model: Any, tokenizer: Any, texts: list[str]) -> tuple[dict[str, Any], list[str]]:
    texts = texts or _SENTENCES[:1]
    output = model(**_encode(tokenizer, texts))
    data, lines = [], []
    for text, logits in zip(texts, output.logits.float(), strict=True):
        scores = logits.tolist() if len(logits) == 1 else logits.softmax(-1).tolist()
        labels = {model.config.id2label[number]: score for number, score in enumerate(scores)}
        data.append({"text": text, "labels": labels})
        lines.append(f"{text}  ->  " + ", ".join(f"{label} {score:.3f}" for label, score in labels.items()))
    return {"labels": data}, lines


def _token_labels(model: Any, tokenizer: Any, texts: list[str]) -> tuple[dict[str, Any], list[str]]:
    texts = texts or _SENTENCES[:1]
    data, lines = [], []
    for text in texts:
        inputs = _encode(tokenizer, text)
        best = model(**inputs).logits[0].argmax(-1).tolist()
        tokens = tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
        labels = [{"token": token, "label": model.config.id2label[label]} for token, label in zip(tokens, best, strict=True)]
        data.append({"text": text, "tokens": labels})
        lines.append(" ".join(f"{item['token']}/{item['label']}" for item in labels))
    return {"tokens": data}, lines


def _follows(model: Any, tokenizer: Any, texts: list[str]) -> tuple[dict[str, Any], list[str]]:
    texts = texts or _SENTENCES[:2]
    if len(texts) != 2:
        raise ConfigError(f"this head is expected to get two texts, but got {len(texts)}")
    output = model(**_encode(tokenizer, *texts))
    score = float(output.logits[0].float().softmax(-1)[0])
    return {"texts": texts, "follows": score}, [f"the second text follows the first: {score:.3f}"]


def _choose(model: Any, tokenizer: Any, texts: list[str]) -> tuple[dict[str, Any], list[str]]:
    texts = texts or _SENTENCES
    if len(texts) < 3:
        raise ConfigError(f"this head is expected to get a text and at least two choices, but got {len(texts)} texts")
    first, choices = texts[0], texts[1:]
    inputs = _encode(tokenizer, [first] * len(choices), choices)
    output = model(**{name: tensor[None] for name, tensor in inputs.items()})
    scores = output.logits[0].float().softmax(-1).tolist()
    data = [{"choice": choice, "score": score} for choice, score in zip(choices, scores, strict=True)]
    return {"text": first, "choices": data}, [f"{item['score']:.3f}  {item['choice']}" for item in data]


def _continue(
    model: Any, tokenizer: Any, texts: list[str], write: Callable[[str], object] | None
) -> tuple[dict[str, Any], list[str]]:
    data, lines = [], []
    limit = tokenizer.model_max_length
    for text in texts or [_BEGINNING]:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        room = _NEW_TOKENS if limit is None else min(_NEW_TOKENS, limit - ids.shape[1])
        if ids.shape[1] == 0 or room < 1:
            raise ConfigError(f"a text is expected to have at least one token and less than {limit}, but has {ids.shape[1]}")
        if write is not None:
            write(text)
        prompt = ids[0].tolist()
        streamer = None if write is None else TextStreamer(tokenizer, write, prompt)
        # A fixed seed makes the output reproducible.
        output = model.generate(ids, max_new_tokens=room, do_sample=True, top_k=50, top_p=0.95, seed=0, streamer=streamer)
        decoded = [
            tokenizer.decode(part, skip_special_tokens=True, clean_up_tokenization_spaces=False) for part in (prompt, output[0])
        ]
        continuation = decoded[1][len(decoded[0]) :]
        data.append({"text": text, "continuation": continuation})
        if write is None:
            lines.append(f"{text}{continuation}")
        else:
            write("\n")
    return {"generated": data}, lines


def _choose_continuation(model: Any, tokenizer: Any, texts: list[str]) -> tuple[dict[str, Any], list[str]]:
    texts = texts or _SENTENCES
    if len(texts) < 3:
        raise ConfigError(f"this head is expected to get a text and at least two choices, but got {len(texts)} texts")
    first, choices = texts[0], texts[1:]
    rows = [tokenizer(f"{first} {choice}", truncation=True)["input_ids"] for choice in choices]
    longest = max(len(row) for row in rows)
    ids = torch.tensor([[row + row[-1:] * (longest - len(row)) for row in rows]])
    mask = torch.tensor([[[1] * len(row) + [0] * (longest - len(row)) for row in rows]])
    last = torch.tensor([[len(row) - 1 for row in rows]])
    scores = model(ids, attention_mask=mask, mc_token_ids=last).mc_logits[0].float().softmax(-1).tolist()
    data = [{"choice": choice, "score": score} for choice, score in zip(choices, scores, strict=True)]
    return {"text": first, "choices": data}, [f"{item['score']:.3f}  {item['choice']}" for item in data]


_Show = Callable[[Any, Any, list[str]], tuple[dict[str, Any], list[str]]]
_BY_HEAD: dict[str, _Show] = {
    "base": _similarity,
    "pretraining": _fill_in,
    "masked-lm": _fill_in,
    "question-answering": _answer,
    "sequence-classification": _labels,
    "token-classification": _token_labels,
    "next-sentence": _follows,
    "multiple-choice": _choose,
    "double-heads": _choose_continuation,
}
