"""Transformer-XL's corpora: vocabulary, ids and batches against 1.2.0."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import registry_transfo_xl
from tests.oracles import old, quiet
from tests.parity_fuzz.decided import decided
from tests.parity_fuzz.trial import Trial

__all__ = ["run"]

_reference = old.tokenization_transfo_xl
_WORDS = ("the", "cat", "sat", "on", "a", "mat", ",", ".", "Cat", "THE", "é", "日本", "x-y", "1,000", "don't")
_ODD = ("<unk>", "<eos>", "<formula>", "<S>", "a<unk>b", "\x1c", "a\x1cb", "\xa0", "\u3000", "  ", "\t", "İ", "e\u0301", "")
_ENDS = ("\n", " \n", "\n\n", " . \n")
_SPLITS = ("train", "valid", "test")


def run(trial: Trial) -> None:
    """Draw texts, settings of the vocabulary, and iterators."""
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        _corpus(trial, Path(folder))
    _iterators(trial)


def _lines(trial: Trial, split: str) -> str:
    words = trial.pick(f"{split}, words", (_WORDS[:6], _WORDS, (*_WORDS, *_ODD)))
    lines = []
    for number in range(trial.number(f"{split}, lines", 1, 6)):
        count = trial.number(f"{split}, line {number}, words", 0, 8)
        line = " ".join(trial.pick(f"{split}, line {number}, word {word}", words) for word in range(count))
        lines.append(line + trial.pick(f"{split}, line {number}, end", _ENDS))
    lines = "".join(lines).split("\n")
    return "".join(f"{line}\n" for line in lines if not decided("a text of blanks", not line.strip()))


def _corpus(trial: Trial, folder: Path) -> None:
    texts = {split: _lines(trial, split) for split in _SPLITS}
    for split, text in texts.items():
        (folder / f"{split}.txt").write_text(text, encoding="utf-8")
    options: dict[str, Any] = {
        "special": trial.pick("special", (["<eos>"], ["<unk>", "<eos>"], [], ["the", "<eos>", "<unk>"])),
        "lower_case": trial.flag("lower_case"),
        "min_freq": trial.pick("min_freq", (0, 0, 2)),
        "max_size": trial.pick("max_size", (None, None, 5)),
        "delimiter": trial.pick("delimiter", (None, None, None, "", ",")),
    }
    if trial.flag("vocabulary of a file", 3):
        words = dict.fromkeys(("<eos>", "<unk>", *(_WORDS[: trial.number("words of the file", 0, 15)])))
        (folder / "words.txt").write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
        options["vocab_file"] = str(folder / "words.txt")
    dataset = trial.pick("dataset", ("ptb", "wt2", "enwik8", "text8", "wt103", "lm1b"))
    if dataset == "lm1b":
        files = folder / "1-billion-word-language-modeling-benchmark-r13output" / "training-monolingual.tokenized.shuffled"
        files.mkdir(parents=True)
        for number in range(2):
            (files / f"news.en-0000{number}-of-00100").write_text(texts["train"], encoding="utf-8")

    def built(library: Any) -> Any:
        given = {key: list(value) if isinstance(value, list) else value for key, value in options.items()}
        corpus = library.TransfoXLCorpus(**given)
        quiet(corpus.build_corpus, str(folder), dataset)
        return corpus

    special = ("<unk>", "<eos>", "<formula>")

    def ends(text: str) -> bool:
        """Whether 1.2.0 puts ends into a text where it has special tokens."""
        return decided("ends of pieces", any(token in text for token in special) or not text)

    made: dict[str, Any] = {}

    if dataset not in ("enwik8", "text8") and any(ends(text) for text in texts.values()):
        return

    def content(library: Any, name: str) -> dict[str, Any]:
        made[name] = corpus = built(library)
        splits = {split: getattr(corpus, split) for split in _SPLITS if dataset != "lm1b" or split != "train"}
        return {"words": list(corpus.vocab.idx2sym), **splits}

    trial.same("a corpus", lambda: content(registry_transfo_xl, "ours"), lambda: content(_reference, "theirs"))
    if len(made) < 2:
        return
    line = _lines(trial, "line")
    ends_given = (False,) if ends(line) else (False, True)
    trial.same(
        "tokenize",
        lambda: [made["ours"].vocab.tokenize(line, add_eos=add) for add in ends_given],
        lambda: [made["theirs"].vocab.tokenize(line, add_eos=add) for add in ends_given],
    )
    trial.same("encode", lambda: made["ours"].vocab.encode(line), lambda: made["theirs"].vocab.encode(line))
    ids = list(range(min(len(made["theirs"].vocab.idx2sym), 6)))
    trial.same(
        "tokens of ids",
        lambda: made["ours"].vocab.convert_ids_to_tokens(ids),
        lambda: made["theirs"].vocab.convert_ids_to_tokens(ids),
    )
    split, batch, length = trial.pick("split", _SPLITS), trial.size("batch"), trial.size("length", 5)
    if dataset == "lm1b" and split == "train":
        made["theirs"].train.sort()
    trial.same(
        "batches of a corpus",
        lambda: _batches(made["ours"].get_iterator(split, batch, length)),
        lambda: _batches(made["theirs"].get_iterator(split, batch, length)),
    )


def _batches(iterator: Any) -> list[Any]:
    np.random.seed(3)
    # 1.2.0 writes the next batch into the one that it yielded where that needs no copy.
    return [(data.clone(), target.clone(), length) for data, target, length in iterator]


def _iterators(trial: Trial) -> None:
    generator = torch.Generator().manual_seed(trial.number("data", 0, 9))
    text = torch.randint(0, 50, (trial.number("length of the text", 1, 60),), generator=generator)
    batch, length = trial.size("batch of a text", 5), trial.size("length of a segment", 7, 20)
    ext = trial.pick("ext_len", (None, 0, 1, 2, 9))
    start = trial.number("start", 0, 3)

    def ordered(library: Any, kind: str) -> list[Any]:
        iterator = library.LMOrderedIterator(text.clone(), batch, length, ext_len=ext)
        read = {
            "all": iter,
            "fixed": lambda each: each.get_fixlen_iter(start),
            "random": lambda each: each.get_varlen_iter(start),
        }
        return [*_batches(read[kind](iterator)), iterator.n_step, iterator.n_batch]

    for kind in ("all", "fixed", "random"):
        if kind == "random" and decided("an empty batch", len(text) // batch - start < 2):
            continue
        trial.same(
            f"ordered batches, {kind}", lambda k=kind: ordered(registry_transfo_xl, k), lambda k=kind: ordered(_reference, k)
        )
    sentences = [
        torch.randint(0, 50, (trial.number(f"sentence {number}", 1, 9),), generator=generator)
        for number in range(trial.number("sentences", 1, 12))
    ]
    shuffle = trial.flag("shuffle")

    def shuffled(library: Any) -> list[Any]:
        iterator = library.LMShuffledIterator([each.clone() for each in sentences], batch, length, shuffle=shuffle)
        return _batches(iterator)

    trial.same("shuffled batches", lambda: shuffled(registry_transfo_xl), lambda: shuffled(_reference))
