"""Read and write the vocabularies of Transformer-XL: text, JSON, and the pickle of 2019."""

from __future__ import annotations

import codecs
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry.base.files import write_saved
from registry.base.json_file import read_json
from registry.base.regular import open_regular
from registry.checkpoint.torch.plain_pickle import read_plain_pickle
from registry.errors import ConfigError
from registry.pretrained.token_vocabulary import check_vocabulary, is_unicode

__all__ = ["Vocabulary", "fits_text", "read_vocabulary", "write_vocabulary"]

_SETTINGS: Mapping[str, tuple[type, ...]] = {
    "special": (list, tuple),
    "min_freq": (int,),
    "max_size": (int,),
    "lower_case": (bool,),
    "delimiter": (str,),
}


@dataclass
class Vocabulary:
    """Words in the order of their ids, and what else a file says of them."""

    words: list[str]
    #: Arguments of the tokenizer; only those that the file sets.
    settings: dict[str, Any] = field(default_factory=dict)
    counter: Counter[str] = field(default_factory=Counter)
    #: The word that stands for unknown ones, where the file says which.
    unknown: str | None = None


def read_vocabulary(path: Path) -> Vocabulary:
    """Read a vocabulary; its form is told by its content.

    Args:
        path: lines whose first field is a word (a word that repeats counts once), a JSON object of word to id, or a pickle of
            the tokenizer's attributes (`vocab.bin`), which is read as data and never run.

    Raises:
        UnsafeCheckpoint: when a pickle holds more than plain containers.
        CheckpointError: when a pickle is damaged.
        ConfigError: when the file holds no vocabulary.
    """
    try:
        with open_regular(path) as file:
            begins = file.read(8).removeprefix(codecs.BOM_UTF8)
            file.seek(-min(8, path.stat().st_size), os.SEEK_END)
            ends = file.read().strip()
        if begins.startswith((b"\x80", b"PK\x03\x04", b"(dp", b"(lp")):  # the last two as protocol 0 begins
            return _from_pickle(path)
        if begins.startswith(b"{") and ends.endswith(b"}"):
            return Vocabulary(_from_json(path))
        with path.open(encoding="utf-8-sig") as lines:
            words = dict.fromkeys(fields[0] for line in lines if (fields := line.split(maxsplit=1)))
    except OSError as error:
        raise ConfigError(f"vocabulary {str(path)!r} is expected to be readable, but is not ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"vocabulary {str(path)!r} is expected to be UTF-8 text, JSON or a pickle, but is none; is it a weights file?"
        ) from error
    if not words:
        raise ConfigError(f"vocabulary {str(path)!r} is expected to hold words, but holds none")
    return Vocabulary(list(words))


def _from_json(path: Path) -> list[str]:
    ids = read_json(path)
    count = len(ids)
    if len(check_vocabulary(ids, f"vocabulary {str(path)!r}")) != count:
        raise ConfigError(f"vocabulary {str(path)!r} is expected to map words to 0, 1, 2, …, each once, but does not")
    return sorted(ids, key=ids.__getitem__)


def _from_pickle(path: Path) -> Vocabulary:
    data = read_plain_pickle(path)
    words = data.get("idx2sym") if isinstance(data, dict) else None
    if not (
        isinstance(words, list)
        and all(isinstance(word, str) and is_unicode(word) for word in words)
        and len(set(words)) == len(words)
    ):
        raise ConfigError(f"vocabulary {str(path)!r} is expected to hold a list of different words, idx2sym, but does not")
    settings: dict[str, Any] = {}
    for name, kinds in _SETTINGS.items():
        if (value := data.get(name)) is not None:
            if type(value) not in kinds or (
                isinstance(value, list | tuple) and not all(isinstance(item, str) and is_unicode(item) for item in value)
            ):
                # Shown by its type alone: what a hostile file nests can take for ever to show.
                raise ConfigError(
                    f"{name} of vocabulary {str(path)!r} is expected to be a {kinds[0].__name__} of plain values, but is a "
                    f"{type(value).__name__}"
                )
            settings[name] = value
    counter = data.get("counter", {})
    if not isinstance(counter, dict) or not all(
        isinstance(word, str) and type(count) is int and is_unicode(word) for word, count in counter.items()
    ):
        raise ConfigError(f"counter of vocabulary {str(path)!r} is expected to hold the number of each word, but does not")
    unknown = data.get("unk_idx")
    return Vocabulary(
        words,
        settings,
        Counter(counter),
        words[unknown] if type(unknown) is int and 0 <= unknown < len(words) else None,
    )


def fits_text(words: Sequence[str]) -> bool:
    """Whether every word can stand on a line of a `vocab.txt`: it has no white space."""
    return all(word.split() == [word] for word in words)


def write_vocabulary(target: Path, words: Sequence[str]) -> None:
    """Write a vocabulary in the form that the file's suffix says, `.json` or text, replacing the file in one step.

    Raises:
        ConfigError: when a word has white space and the form is text.
    """
    if target.suffix == ".json":
        text = json.dumps({word: number for number, word in enumerate(words)}, ensure_ascii=False) + "\n"
    elif fits_text(words):
        text = "".join(f"{word}\n" for word in words)
    else:
        raise ConfigError(
            f"words of a text vocabulary such as {str(target)!r} are expected to be without white space, but some have it; "
            "give a name that ends in .json"
        )
    write_saved(target, text)
