"""An engine whose tokens are the words of a text: a dictionary over `str.split`.

`WordLevel` and `Split` of tokenizers cannot replace it. Their encoding shows an unknown word as the unknown token, a token that
is matched whole always gets an id, empty words between delimiters are dropped, and Σ at the end of a word is not lower-cased as
Python does, which made the vocabularies. To build the published vocabulary takes ten times as long, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, fields
from typing import Any

from tokenizers import AddedToken

from registry.errors import ConfigError

__all__ = ["WordEncoding", "WordEngine"]


@dataclass
class WordEncoding:
    """An encoded text: one value a token, named as in `tokenizers.Encoding`."""

    ids: list[int]
    tokens: list[str]
    #: Begin and end in the text, in characters.
    offsets: list[tuple[int, int]]
    #: The number of the word that each token is.
    word_ids: list[int | None]
    #: Which of a pair each token is of; as numbers for the model, and by another name.
    type_ids: list[int]
    sequence_ids: list[int | None]
    attention_mask: list[int]
    special_tokens_mask: list[int]
    #: The further windows over the text, where it was cut.
    overflowing: list[WordEncoding] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def truncate(self, max_length: int, stride: int = 0, direction: str = "right") -> None:
        """Keep the first `max_length` tokens, or the last ones when the direction is `left`, and the rest as `overflowing`.

        Each further window shares `stride` tokens with the one before.
        """
        count = len(self)
        if max_length >= count:
            return
        step = max(1, max_length - stride)
        if direction == "right":
            begins = range(0, max(1, count - stride), step) if max_length else (0,)
            ranges = [(begin, min(begin + max_length, count)) for begin in begins]
        else:
            ends = range(count, min(stride, count - 1), -step) if max_length else (count,)
            ranges = [(max(0, end - max_length), end) for end in ends]
        first, *rest = [self._between(begin, end) for begin, end in ranges]
        if not max_length:
            rest = [self._between(0, count)]
        for item in _COLUMNS:
            setattr(self, item, getattr(first, item))
        self.overflowing = rest

    def _between(self, begin: int, end: int) -> WordEncoding:
        return WordEncoding(*(getattr(self, item)[begin:end] for item in _COLUMNS))

    def join(self, pair: WordEncoding) -> WordEncoding:
        """Return this encoding and another behind it; each window of one with each of the other is overflowing."""
        joined = self._before(pair)
        joined.overflowing = [own._before(other) for own in self.overflowing for other in (pair, *pair.overflowing)]
        joined.overflowing += [self._before(other) for other in pair.overflowing]
        return joined

    def _before(self, pair: WordEncoding) -> WordEncoding:
        joined = WordEncoding(*(getattr(self, item) + getattr(pair, item) for item in _COLUMNS))
        joined.type_ids = [0] * len(self) + [1] * len(pair)
        joined.sequence_ids = list(joined.type_ids)
        return joined


_COLUMNS = tuple(item.name for item in fields(WordEncoding) if item.name != "overflowing")


class WordEngine:
    """A vocabulary of whole words. It offers what `registry.pretrained.engine.Engine` asks for.

    Tokens that were added, and special ones, are matched wherever they stand, before the text is split.
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        *,
        unknown: str | None = None,
        delimiter: str | None = None,
        lower_case: bool = False,
    ) -> None:
        """Set up.

        Args:
            vocabulary: word to id, the ids being 0, 1, 2, ….
            unknown: the word that stands for those that the vocabulary does not have.
            delimiter: what stands between words; None for white space, empty for words of one character.
            lower_case: whether to lower-case what is not matched whole.
        """
        self.unknown = unknown
        self.delimiter = delimiter
        self.lower_case = lower_case
        self._base = 0
        self._words: list[str] = []
        self._whole: dict[str, AddedToken] = {}
        self._matched: re.Pattern[str] | None = None
        self.set_vocabulary(vocabulary)

    def set_vocabulary(self, vocabulary: Mapping[str, int]) -> None:
        """Replace the vocabulary; tokens that were added to the one before get new ids behind it."""
        added = self._words[self._base :]
        self._base = len(vocabulary)
        self._ids = dict(vocabulary)
        self._words = list(vocabulary)
        if list(vocabulary.values()) != list(range(self._base)):
            raise ConfigError(f"ids of a word vocabulary are expected to be 0 to {self._base - 1} in order, but are not")
        for token in added:
            self._number(token)

    # -- vocabulary ----------------------------------------------------------------------------------------------------

    def get_vocab(self, with_added_tokens: bool = True) -> dict[str, int]:
        """Return word to id."""
        return dict(self._ids) if with_added_tokens else {word: self._ids[word] for word in self._words[: self._base]}

    def get_vocab_size(self, with_added_tokens: bool = True) -> int:
        """Return the number of words."""
        return len(self._words) if with_added_tokens else self._base

    def get_added_tokens_decoder(self) -> dict[int, AddedToken]:
        """Return id to token of those that are matched whole."""
        return {self._ids[token]: flags for token, flags in self._whole.items() if token in self._ids}

    def add_tokens(self, tokens: list[AddedToken]) -> int:
        """Match tokens whole, giving an id to those that have none; return how many got one."""
        before = len(self._words)
        for token in tokens:
            self._number(token.content)
        self.match(tokens)
        return len(self._words) - before

    def add_special_tokens(self, tokens: list[AddedToken]) -> int:
        """Do as `add_tokens`; decoding can skip these."""
        for token in tokens:
            token.special = True
        return self.add_tokens([copy(token) for token in tokens])

    def match(self, tokens: Sequence[AddedToken]) -> None:
        """Match tokens whole, whether the vocabulary has them or not."""
        self._whole |= {token.content: token for token in tokens if token.content}
        longest_first = sorted(self._whole.values(), key=lambda token: len(token.content), reverse=True)
        self._matched = re.compile("|".join(map(_pattern, longest_first))) if longest_first else None

    def token_to_id(self, token: str) -> int | None:
        """Return the id of a word, or None."""
        return self._ids.get(token)

    def id_to_token(self, id: int) -> str | None:
        """Return the word of an id, or None."""
        return self._words[id] if 0 <= id < len(self._words) else None

    def id_of(self, word: str) -> int:
        """Return the id of a word, or that of the unknown one.

        Raises:
            ConfigError: when the vocabulary has neither.
        """
        number = self._ids.get(word)
        if number is None:
            number = None if self.unknown is None else self._ids.get(self.unknown)
        if number is None:
            raise ConfigError(
                f"word {word!r} is expected to be in the vocabulary of {len(self._words)} words, or an unknown word for it, "
                "but neither is; build or load a vocabulary"
            )
        return number

    def _number(self, token: str) -> None:
        if token and token not in self._ids:
            self._ids[token] = len(self._words)
            self._words.append(token)

    # -- text to words -------------------------------------------------------------------------------------------------

    def words(self, text: str) -> Iterator[tuple[str, int, int]]:
        """Yield each word of a text with its begin and end."""
        at = 0
        for found in self._matched.finditer(text) if self._matched else ():
            yield from self._split(text, at, found.start())
            yield found[found.lastindex or 0], found.start(), found.end()
            at = found.end()
        yield from self._split(text, at, len(text))

    def _split(self, text: str, begin: int, end: int) -> Iterator[tuple[str, int, int]]:
        piece = text[begin:end]
        begin += len(piece) - len(piece.lstrip())
        piece = piece.strip()
        if not piece:
            return
        lowered = piece.lower() if self.lower_case else piece
        if len(lowered) == len(piece):  # then characters keep their places
            for word, at in self._cut(lowered):
                yield word, begin + at, begin + at + len(word)
        else:
            for word, at in self._cut(piece):
                yield word.lower(), begin + at, begin + at + len(word)

    def _cut(self, piece: str) -> Iterator[tuple[str, int]]:
        if self.delimiter == "":
            yield from ((character, at) for at, character in enumerate(piece))
            return
        at = 0
        for word in piece.split(self.delimiter):
            if self.delimiter is None:
                at = piece.index(word, at)
            yield word, at
            at += len(word) + len(self.delimiter or "")

    def encode(
        self,
        sequence: str | Sequence[str],
        pair: str | Sequence[str] | None = None,
        *,
        is_pretokenized: bool = False,
        add_special_tokens: bool = True,
    ) -> WordEncoding:
        """Encode a text or pair, or lists of words, each of which is split as a text is; nothing is put around it."""
        if pair is not None:
            return self.post_process(
                self.encode(sequence, is_pretokenized=is_pretokenized), self.encode(pair, is_pretokenized=is_pretokenized)
            )
        encoding = WordEncoding([], [], [], [], [], [], [], [])
        texts: list[Any] = list(sequence) if is_pretokenized else [sequence]
        if not all(isinstance(text, str) for text in texts) or not isinstance(sequence, str | list | tuple):
            raise TypeError("a text is expected to be a str")
        "".join(texts).encode()  # raises for a lone surrogate, as the other engine does
        for position, text in enumerate(texts):
            for word, begin, end in self.words(text):
                encoding.word_ids.append(position if is_pretokenized else len(encoding.tokens))
                encoding.tokens.append(word)
                encoding.offsets.append((begin, end))
        encoding.ids = [self.id_of(word) for word in encoding.tokens]
        count = len(encoding.ids)
        encoding.type_ids, encoding.sequence_ids = [0] * count, [0] * count
        encoding.attention_mask, encoding.special_tokens_mask = [1] * count, [0] * count
        return encoding

    def encode_batch(
        self, input: Sequence[Any], *, is_pretokenized: bool = False, add_special_tokens: bool = True
    ) -> list[WordEncoding]:
        """Encode texts; a tuple is a pair."""
        encoded = []
        for item in input:
            first, second = item if isinstance(item, tuple) else (item, "")
            one = self.encode(first, is_pretokenized=is_pretokenized)
            if isinstance(item, tuple):
                one = self.post_process(one, self.encode(second, is_pretokenized=is_pretokenized))
            encoded.append(one)
        return encoded

    encode_batch_fast = encode_batch

    def post_process(
        self, encoding: WordEncoding, pair: WordEncoding | None = None, add_special_tokens: bool = True
    ) -> WordEncoding:
        """Return the encoding of a pair, one text after the other."""
        return encoding if pair is None else encoding.join(pair)

    def num_special_tokens_to_add(self, is_pair: bool) -> int:
        """Return 0."""
        return 0

    # -- words to text -------------------------------------------------------------------------------------------------

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Return the words of ids with spaces between them, or none where words are characters.

        Raises:
            ValueError: for an id that is none.
        """
        words = []
        for number in ids:
            word = self.id_to_token(number)
            if word is None:
                raise ValueError(f"an id is expected to be in 0..{len(self._words) - 1}, but is {number}")
            flags = self._whole.get(word)
            if not (skip_special_tokens and flags is not None and flags.special):
                words.append(word)
        return ("" if self.delimiter == "" else " ").join(words).strip()


def _pattern(token: AddedToken) -> str:
    """Return what matches a token whole: with the white space, and only at the edges of words, that its flags say."""
    edges = (r"(?<!\w)", r"(?!\w)") if token.single_word else ("", "")
    before, after = (r"\s*" if token.lstrip else "", r"\s*" if token.rstrip else "")
    return f"{before}{edges[0]}({re.escape(token.content)}){edges[1]}{after}"
