"""The base of tokenizers whose vocabulary is a `vocab.json` and a `merges.txt`: byte pair encoding (arXiv:1508.07909)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, ClassVar

from tokenizers import Tokenizer, models

from registry.base.files import write_saved
from registry.base.json_file import read_json
from registry.base.names import user_path
from registry.errors import ConfigError
from registry.pretrained.token_vocabulary import check_vocabulary, read_lines, without_unused
from registry.pretrained.tokenizer import PreTrainedTokenizer, is_engine_file

__all__ = ["BPETokenizer", "find_merges", "read_bpe"]

_HEADER = "#version"

FilePath = str | os.PathLike[str]


class BPETokenizer(PreTrainedTokenizer):
    """A tokenizer that saves its vocabulary as two files."""

    vocab_files_names = {"vocab_file": "vocab.json", "merges_file": "merges.txt"}  # noqa: RUF012  # a class attribute by design
    # Token types are added to the words in these families: zeros would add the embedding of the first token.
    returns_token_type_ids: ClassVar[bool] = False

    def save_vocabulary(self, vocab_path: FilePath) -> tuple[str, ...]:
        """Write `vocab.json` and `merges.txt` into a folder; or the vocabulary to a file and the merges beside it.

        Beside `vocab.json` the merges are `merges.txt`, beside any other file they have its name and `.merges.txt`.
        """
        target = user_path(vocab_path)
        if os.path.isdir(target):  # noqa: PTH112  # Path.is_dir raises for a name that is too long
            target /= self.vocab_files_names["vocab_file"]
        merges = _beside(target)
        assert isinstance(self._engine, Tokenizer)
        saved = json.loads(self._engine.to_str())["model"]
        vocabulary = without_unused(self.vocab)
        lines = [f"{_HEADER}: 0.2", *(" ".join(pair) for pair in saved["merges"])]
        write_saved(target, json.dumps(vocabulary, ensure_ascii=False) + "\n")
        write_saved(merges, "".join(f"{line}\n" for line in lines))
        return str(target), str(merges)


def find_merges(vocab_file: FilePath, merges_file: FilePath | None) -> Path:
    """Return the file of the merges: the one given, else the one that `save_vocabulary` wrote beside the vocabulary.

    Raises:
        ConfigError: when there is none.
    """
    if merges_file is not None:
        return Path(merges_file)
    vocabulary = Path(vocab_file)
    if is_engine_file(vocabulary):
        return vocabulary
    candidates = dict.fromkeys((_beside(vocabulary), vocabulary.with_name("merges.txt")))
    for candidate in candidates:
        if os.path.isfile(candidate):  # noqa: PTH113  # as below
            return candidate
    raise ConfigError(
        f"merges of vocabulary {str(vocab_file)!r} are expected to be {' or '.join(map(str, candidates))}, but there is no "
        "such file; give merges_file"
    )


def read_bpe(vocab_file: FilePath, merges_file: FilePath, **options: Any) -> models.BPE:
    """Return the model of the engine.

    Args:
        vocab_file: a JSON object of token to id; or a `tokenizer.json`, which holds merges too.
        merges_file: two tokens a line, the most frequent pair first, with or without a first line `#version: …`; or that
            same `tokenizer.json`.
        options: of the engine's BPE, as `end_of_word_suffix`.

    Raises:
        ConfigError: when a file is missing or holds something else, or when the two do not belong together.
    """
    if not os.path.isfile(vocab_file):  # noqa: PTH113  # Path.is_file raises for a name that is too long
        raise ConfigError(f"vocabulary {str(vocab_file)!r} is expected to be a file, but is not there")
    data = read_json(Path(vocab_file))
    saved = data.get("model")
    if isinstance(saved, dict):
        if saved.get("type") != "BPE":
            raise ConfigError(f"file {str(vocab_file)!r} is expected to hold a BPE vocabulary, but does not")
        vocabulary = check_vocabulary(saved.get("vocab"), f"model.vocab of {str(vocab_file)!r}")
    else:
        vocabulary = check_vocabulary(data, f"vocabulary {str(vocab_file)!r}")
    if isinstance(saved, dict) and Path(merges_file) == Path(vocab_file):
        pairs = _merges_of(saved.get("merges"), f"model.merges of {str(vocab_file)!r}")
    else:
        pairs = _read_merges(Path(merges_file))
    try:
        return models.BPE(vocab=vocabulary, merges=[(first, second) for first, second in pairs], **options)
    except BaseException as error:  # the engine raises bare Exceptions; a token too long for it raises what is none
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        unknown = (token for pair in pairs for token in (*pair, "".join(pair)) if token not in vocabulary)
        why = f"that lacks {absent[:80]!r}" if (absent := next(unknown, None)) is not None else str(error)
        raise ConfigError(
            f"merges {str(merges_file)!r} are expected to belong to vocabulary {str(vocab_file)!r}, but do not: {why}"
        ) from error


def _merges_of(saved: Any, where: str) -> list[list[str]]:
    pairs: list[Any] = [None]
    if isinstance(saved, list):
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in saved]
    for number, pair in enumerate(pairs):
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(token, str) for token in pair):
            raise ConfigError(f"{where} is expected to be a list of two tokens each, but item {number} is not")
    return pairs


def _read_merges(path: Path) -> list[list[str]]:
    lines = read_lines(path, "merges")
    while lines and not lines[-1]:
        lines.pop()
    begin = 1 if lines and lines[0].startswith(_HEADER) else 0
    pairs = []
    for number, line in enumerate(lines[begin:], begin + 1):
        pair = line.split(" ")
        if len(pair) != 2 or not all(pair):
            raise ConfigError(f"line {number} of merges {str(path)!r} is expected to be two tokens, but is {line[:80]!r}")
        pairs.append(pair)
    return pairs


def _beside(vocabulary: Path) -> Path:
    """Return where the merges of a vocabulary file are saved."""
    name = "merges.txt" if vocabulary.name == "vocab.json" else f"{vocabulary.name}.merges.txt"
    return vocabulary.with_name(name)
