"""Transformer-XL's tokenizer: words between white space, looked up in a dictionary."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken

from registry.base.logs import lazy_logger
from registry.base.names import user_path
from registry.base.regular import open_regular
from registry.errors import ConfigError
from registry.pretrained import BatchEncoding, PreTrainedTokenizer
from registry.pretrained.token_vocabulary import is_unicode
from registry_transfo_xl.vocabulary import Vocabulary, fits_text, read_vocabulary, write_vocabulary
from registry_transfo_xl.word_engine import WordEngine

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TransfoXLTokenizer"]

_UNKNOWN = ("<UNK>", "<unk>")
_SENTENCE = "<S>"  # what stands before and after a sentence of the One Billion Word benchmark

logger = lazy_logger(__name__)


class TransfoXLTokenizer(PreTrainedTokenizer):
    """Whole words over a vocabulary that is read from a file, or counted and built here."""

    vocab_files_names = {"vocab_file": "vocab.txt"}  # noqa: RUF012  # a class attribute by design
    _engine: WordEngine

    def __init__(
        self,
        special: Sequence[str] | None = None,
        min_freq: int | None = None,
        max_size: int | None = None,
        lower_case: bool | None = None,
        delimiter: str | None = None,
        vocab_file: str | os.PathLike[str] | None = None,
        pretrained_vocab_file: str | os.PathLike[str] | None = None,
        never_split: Sequence[str] | None = None,
        unk_token: str | AddedToken = "<unk>",
        eos_token: str | AddedToken = "<eos>",
        additional_special_tokens: Sequence[str | AddedToken] = ("<formula>",),
        **kwargs: Any,
    ) -> None:
        """Build from a vocabulary, or without one to count words first.

        Args:
            special: words that a built vocabulary begins with.
            min_freq: how often a word must occur to be in a built vocabulary; 0 by default.
            max_size: the most words that are taken from those counted; None for all.
            lower_case: whether to lower-case. None takes what the file says, else False; so do the arguments before and after.
            delimiter: what stands between words; None for white space, empty for words of one character.
            vocab_file: a `vocab.txt`, `vocab.json` or `vocab.bin` under any name.
            pretrained_vocab_file: the same; where both are given this one gives the settings and `vocab_file` the words.
            never_split: further words that are matched wherever they stand, as they are.
            unk_token: stands for words that the vocabulary does not have. For the default it is `<UNK>` where the vocabulary
                has that instead; another one that the vocabulary lacks is added.
            eos_token: ends a line.
            additional_special_tokens: more tokens that are matched whole.
            kwargs: as in `PreTrainedTokenizer`.

        Raises:
            ConfigError: when a file holds no vocabulary.
            UnsafeCheckpoint: when a pickled one asks for code.
        """
        if isinstance(special, str | os.PathLike):
            raise ConfigError(f"special is expected to be a list of words, but is {special!r}; a file is given as vocab_file=")
        file = vocab_file if pretrained_vocab_file is None else pretrained_vocab_file
        read = Vocabulary([]) if file is None else read_vocabulary(Path(file))
        if pretrained_vocab_file is not None and vocab_file is not None:
            read.words = read_vocabulary(Path(vocab_file)).words
        given = {
            "special": None if special is None else list(special),
            "min_freq": min_freq,
            "max_size": max_size,
            "lower_case": lower_case,
            "delimiter": delimiter,
        }
        settings: dict[str, Any] = {"special": [], "min_freq": 0, "max_size": None, "lower_case": False, "delimiter": None}
        settings |= read.settings | {name: value for name, value in given.items() if value is not None}
        self.special: list[str] = list(settings["special"])
        self.min_freq: int = settings["min_freq"]
        self.max_size: int | None = settings["max_size"]
        self.lower_case: bool = settings["lower_case"]
        self.delimiter: str | None = settings["delimiter"]
        self.vocab_file = None if vocab_file is None else os.fspath(vocab_file)
        #: How often each word was counted.
        self.counter: Counter[str] = read.counter
        words = _numbered(read.words)
        if str(unk_token) == _UNKNOWN[-1] and str(unk_token) not in words:
            unk_token = next((token for token in (read.unknown, *_UNKNOWN) if token in words), None) or unk_token
        super().__init__(
            WordEngine(words, unknown=str(unk_token), delimiter=self.delimiter, lower_case=self.lower_case),
            settings={**settings, "never_split": None if never_split is None else list(never_split)},
            unk_token=unk_token,
            eos_token=eos_token,
            additional_special_tokens=additional_special_tokens,
            **kwargs,
        )
        special_tokens = set(self.all_special_tokens)
        others = [token for token in never_split or () if token not in special_tokens]
        self._engine.match([AddedToken(token, normalized=False) for token in others])

    # -- files -----------------------------------------------------------------------------------------------------------

    @classmethod
    def settings_names(cls) -> tuple[str, ...]:
        """Return the arguments that tokenizer_config.json keeps."""
        return ("special", "min_freq", "max_size", "lower_case", "delimiter", "never_split")

    @classmethod
    def vocabulary_files(cls) -> dict[str, tuple[str, ...]]:
        """Return the names of a vocabulary's file: ours, those of 2019, that of transformers 4."""
        return {"vocab": ("vocab.txt", "vocab.json", "vocab.bin", "vocab.pkl")}

    @classmethod
    def _build(cls, vocabulary: Mapping[str, str], inputs: Sequence[Any], settings: Mapping[str, Any]) -> Any:
        # A file that the caller names goes before the one that was found.
        return cls(*inputs, **({**vocabulary, **settings}))

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> tuple[str, ...]:
        """Write everything that a reload needs into a folder, which is made when it does not exist; return the paths."""
        paths = super().save_pretrained(save_directory)
        if Path(paths[0]).suffix == ".json":  # an older `vocab.txt` would be read before it
            (Path(save_directory) / "vocab.txt").unlink(missing_ok=True)
        return paths

    def save_vocabulary(self, vocab_path: str | os.PathLike[str]) -> tuple[str]:
        """Write the words, in the order of ids, to `vocab_path` or into that folder.

        In a folder the file is `vocab.txt`, or `vocab.json` when a word has white space.

        Raises:
            ConfigError: when `vocab_path` is a text file and a word has white space.
        """
        words = self.idx2sym[: self.vocab_size]
        target = user_path(vocab_path)
        if os.path.isdir(target):  # noqa: PTH112  # Path.is_dir raises for a name that is too long
            target /= "vocab.txt" if fits_text(words) else "vocab.json"
        write_vocabulary(target, words)
        return (str(target),)

    # -- counting and building -------------------------------------------------------------------------------------------

    def count_file(self, path: str | os.PathLike[str], verbose: bool = False, add_eos: bool = False) -> list[list[str]]:
        """Count the words of a file; return them, line by line."""
        sentences = list(self._lines(path, verbose, add_eos, False))
        self.count_sents(sentences)
        return sentences

    def count_sents(self, sents: Iterable[Sequence[str]], verbose: bool = False) -> None:
        """Count the words of sentences."""
        for number, sentence in enumerate(sents):
            _report(verbose, "counting", number)
            self.counter.update(sentence)

    def build_vocab(self) -> None:
        """Make the vocabulary: from `vocab_file` where one was given, else special words and then those counted, most first."""
        if self.vocab_file is not None:
            words = read_vocabulary(Path(self.vocab_file)).words
        else:
            often = (word for word, count in self.counter.most_common(self.max_size) if count >= self.min_freq)
            words = [*self.special, *often]
        engine, numbered = self._engine, _numbered(words)
        engine.set_vocabulary(numbered)
        self._base_size = len(numbered)
        self._cached.clear()
        if (
            engine.unknown == _UNKNOWN[-1]
            and engine.unknown not in numbered
            and (found := next((token for token in _UNKNOWN if token in numbered), None))
        ):
            engine.unknown = self._special["unk_token"] = found
            self._mark_special([found])
        # As in the constructor: else a saved tokenizer would get them when it is loaded.
        for name, tokens in self.special_tokens_map.items():
            for token in tokens if isinstance(tokens, list) else [tokens]:
                if self._is_absent(token) and not self._is_default(name, token):
                    self._add(token, special=True)

    def _mark_special(self, tokens: Iterable[str]) -> None:
        # Matched even where the vocabulary does not have them: it may be built later.
        added = self._engine.get_added_tokens_decoder()
        known = {token.content: token for token in added.values()}
        marked = [known.get(token, AddedToken(token, normalized=False)) for token in map(str, tokens)]
        for token in marked:
            token.special = True
        self._engine.match(marked)

    def _add(self, token: str | AddedToken, special: bool) -> None:
        if self._base_size:
            super()._add(token, special)
            return
        marked = copy(token) if isinstance(token, AddedToken) else AddedToken(token, normalized=not special)
        marked.special |= special
        self._engine.match([marked])

    def _refresh(self) -> None:
        self._engine.unknown = self.unk_token

    # -- vocabulary --------------------------------------------------------------------------------------------------------

    @property
    def idx2sym(self) -> list[str]:
        """The words in the order of their ids, added ones included. The list is shared between calls."""
        if "words" not in self._cached:
            self._cached["words"] = list(self.get_vocab())
        words: list[str] = self._cached["words"]
        return words

    @property
    def sym2idx(self) -> dict[str, int]:
        """Word to id, added ones included. The dictionary is shared and cannot be changed."""
        return self.get_vocab()

    @property
    def never_split(self) -> list[str]:
        """The words that are matched wherever they stand: those that were given, else the special tokens."""
        given: list[str] | None = self._settings["never_split"]
        return self.all_special_tokens if given is None else list(given)

    @property
    def unk_idx(self) -> int | None:
        """The id of the unknown word."""
        return self._engine.token_to_id(self._engine.unknown or "")

    @property
    def eos_idx(self) -> int | None:
        """The id of the word that ends a line."""
        return self._engine.token_to_id(self.eos_token)

    # -- text to ids -------------------------------------------------------------------------------------------------------

    def __call__(self, text: Any, text_pair: Any = None, **kwargs: Any) -> BatchEncoding:
        """Encode as `PreTrainedTokenizer` does, by default without what the model does not take: segments and a mask."""
        return super().__call__(text, text_pair, **{"return_token_type_ids": False, "return_attention_mask": False, **kwargs})

    def tokenize(self, text: str, add_eos: bool = False, add_double_eos: bool = False) -> list[str]:
        """Return the words of a text, known or not.

        Args:
            text: the text.
            add_eos: whether `eos_token` follows.
            add_double_eos: whether `<S>` stands before and after, instead.

        Raises:
            ValueError: when it is not text, or holds a lone surrogate.
        """
        if not isinstance(text, str) or not is_unicode(text):
            super().tokenize(text)  # raises, and says what is wrong
        words = [word for word, _, _ in self._engine.words(text)]
        if add_double_eos:
            return [_SENTENCE, *words, _SENTENCE]
        return [*words, self.eos_token] if add_eos else words

    def encode(
        self,
        text: str | Sequence[str] | Sequence[int],
        text_pair: str | Sequence[str] | Sequence[int] | None = None,
        add_special_tokens: bool = True,
        *,
        add_eos: bool = False,
        add_double_eos: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Return the ids of a text or pair, as `PreTrainedTokenizer.encode` does; for the other arguments see `tokenize`."""
        if add_eos or add_double_eos:
            text = self.tokenize(text, add_eos, add_double_eos) if isinstance(text, str) else text
            text_pair = self.tokenize(text_pair, add_eos, add_double_eos) if isinstance(text_pair, str) else text_pair
        return super().encode(text, text_pair, add_special_tokens, **kwargs)

    def convert_tokens_to_ids(self, tokens: str | Sequence[str]) -> Any:
        """Return the id of a word, or the ids of a list.

        Raises:
            ConfigError: for a word that the vocabulary does not have, when it has no unknown word either.
        """
        return self._engine.id_of(tokens) if isinstance(tokens, str) else [self._engine.id_of(token) for token in tokens]

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """Return words with spaces between them, or none where words are characters."""
        return ("" if self.delimiter == "" else " ").join(tokens).strip()

    def convert_to_tensor(self, symbols: Sequence[str]) -> Tensor:
        """Return the ids of words, int64 (words,)."""
        import torch

        return torch.tensor(self.convert_tokens_to_ids(symbols), dtype=torch.int64)

    def encode_file(
        self,
        path: str | os.PathLike[str],
        ordered: bool = False,
        verbose: bool = False,
        add_eos: bool = True,
        add_double_eos: bool = False,
    ) -> Any:
        """Return the ids of a file, int64: one tensor for each line, or with `ordered` a single one."""
        return self.encode_sents(self._lines(path, verbose, add_eos, add_double_eos), ordered)

    def encode_sents(self, sents: Iterable[Sequence[str]], ordered: bool = False, verbose: bool = False) -> Any:
        """Return the ids of sentences, int64: one tensor for each, or with `ordered` a single one."""
        import torch

        encoded = []
        for number, sentence in enumerate(sents):
            _report(verbose, "encoding", number)
            encoded.append(self.convert_to_tensor(sentence))
        return torch.cat([torch.empty(0, dtype=torch.int64), *encoded]) if ordered else encoded

    def _lines(self, path: str | os.PathLike[str], verbose: bool, add_eos: bool, add_double_eos: bool) -> Iterator[list[str]]:
        with io.TextIOWrapper(open_regular(path), encoding="utf-8") as file:
            for number, line in enumerate(file):
                _report(verbose, f"reading {os.fspath(path)}", number)
                yield self.tokenize(line, add_eos, add_double_eos)


def _numbered(words: Iterable[str]) -> dict[str, int]:
    """Return word to id; a word that repeats counts once."""
    return {word: number for number, word in enumerate(dict.fromkeys(words))}


def _report(verbose: bool, what: str, number: int) -> None:
    if verbose and number and number % 500_000 == 0:
        logger.info("%s: %d lines", what, number)
