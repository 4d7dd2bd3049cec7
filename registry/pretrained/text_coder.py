"""Text to ids and back, alone, in pairs and in batches: what every tokenizer does with its engine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

from registry.pretrained.batch_encoding import TRUNCATIONS, BatchEncoding, Truncation, as_tensors, pad_columns, shares
from registry.pretrained.engine import TextEncoding
from registry.pretrained.token_vocabulary import TokenVocabulary, as_list

__all__ = ["NO_LIMIT", "TextCoder"]

#: What 2019's `max_len` said for "none".
NO_LIMIT = 10**12
_CLEAN_UP = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" do not", " don't"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)

logger = logging.getLogger(__name__)

Text = str | Sequence[str]
Padding = bool | Literal["longest", "max_length", "do_not_pad"]


class TextCoder(TokenVocabulary):
    """A vocabulary with an engine that splits text into its tokens, and with the limits of the model that reads them."""

    #: Whether a call returns `token_type_ids` when it does not say.
    returns_token_type_ids: ClassVar[bool] = True
    #: Tokens that the model can take; None when it has no limit.
    model_max_length: int | None
    padding_side: str
    truncation_side: str

    # -- limits --------------------------------------------------------------------------------------------------------

    @property
    def max_len(self) -> int:
        """`model_max_length` as 2019's library gave it: a very large number when there is no limit."""
        return NO_LIMIT if self.model_max_length is None else self.model_max_length

    @property
    def max_len_single_sentence(self) -> int:
        """Tokens of one text that fit beside the special ones."""
        return self.max_len - self.num_special_tokens_to_add()

    @property
    def max_len_sentences_pair(self) -> int:
        """Tokens of two texts that fit beside the special ones."""
        return self.max_len - self.num_special_tokens_to_add(pair=True)

    # -- text to ids ---------------------------------------------------------------------------------------------------

    def __call__(
        self,
        text: Text | Sequence[Sequence[str]],
        text_pair: Text | Sequence[Sequence[str]] | None = None,
        *,
        add_special_tokens: bool = True,
        padding: Padding = False,
        truncation: Truncation = False,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        is_split_into_words: bool = False,
        return_tensors: str | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool = True,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
    ) -> BatchEncoding:
        """Encode a text, a pair, or a batch of either.

        Args:
            text: a text, or a list of texts or of pairs; with `is_split_into_words` one level more, a text being its words.
            text_pair: the second text, or a list of as many as `text` has.
            add_special_tokens: whether to add what the family puts around a text.
            padding: True or `longest`, `max_length`, or False.
            truncation: True or `longest_first`, `only_first`, `only_second`, or False.
            max_length: the limit, special tokens included; by default what the model can take.
            pad_to_multiple_of: round the padded length up.
            is_split_into_words: whether texts come as lists of words.
            return_tensors: `pt` for int64 tensors `(batch, seq)`, `np` for arrays, None for lists.
            return_token_type_ids: whether to return which of a pair each token is of; None does as the family's models need.
            return_attention_mask: whether to return 1 for tokens and 0 for padding.
            return_special_tokens_mask: whether to return 1 for special tokens.
            return_offsets_mapping: whether to return for each token its `(begin, end)` in the text, in characters.
        """
        single = isinstance(text, str) or (is_split_into_words and (not text or isinstance(text[0], str)))
        firsts: list[Any] = [text] if single else list(text)
        seconds: list[Any] | None = None
        if text_pair is not None:
            if isinstance(text_pair, str) and not single:
                raise ValueError("text_pair is expected to be a list of texts, as text is, but is one text")
            seconds = [text_pair] if single else list(text_pair)
            if len(seconds) != len(firsts):
                raise ValueError(f"text_pair is expected to have {len(firsts)} texts, as text has, but has {len(seconds)}")
        elif not single and firsts and not is_split_into_words and not isinstance(firsts[0], str):
            firsts, seconds = [pair[0] for pair in firsts], [pair[1] for pair in firsts]
        limit = self._limit(truncation, max_length)
        encode = partial(self._encode_all, firsts, seconds, add_special_tokens, is_split_into_words, truncation, limit)
        encodings = encode(whole=return_offsets_mapping)
        if limit is None:
            self._warn_of_length(encodings)

        columns: dict[str, list[list[Any]]] = {"input_ids": [encoding.ids for encoding in encodings]}
        fill: dict[str, Any] = {"input_ids": 0, "token_type_ids": 0, "attention_mask": 0, "special_tokens_mask": 1}
        fill["offset_mapping"] = (0, 0)
        if self.returns_token_type_ids if return_token_type_ids is None else return_token_type_ids:
            columns["token_type_ids"] = [encoding.type_ids for encoding in encodings]
        if return_attention_mask:
            columns["attention_mask"] = [[1] * len(row) for row in columns["input_ids"]]  # the engine does not pad
        if return_special_tokens_mask:
            columns["special_tokens_mask"] = [encoding.special_tokens_mask for encoding in encodings]
        if return_offsets_mapping:
            columns["offset_mapping"] = [encoding.offsets for encoding in encodings]
        length = self._padded_length(columns["input_ids"], padding, max_length, pad_to_multiple_of)
        if length is not None:
            if self.pad_token_id is None and any(len(row) != length for row in columns["input_ids"]):
                raise ValueError(
                    f"pad_token of {type(self).__name__} is expected to be set to pad a batch, but is not; "
                    "give it with add_special_tokens({'pad_token': …})"
                )
            fill["input_ids"] = self.pad_token_id  # None where every row has that length already
            columns = pad_columns(columns, fill, length, left=self.padding_side == "left")
        result: Mapping[str, Any] = columns
        if return_tensors is not None:
            result = as_tensors(columns, return_tensors)
        elif single:
            result = {name: rows[0] for name, rows in columns.items()}
        batch = BatchEncoding(result)
        batch.pads_left = self.padding_side == "left"
        if return_offsets_mapping:
            batch.encodings = tuple(encodings)
        else:
            batch.encode_later(partial(_again, encodings, partial(encode, whole=True)))
        return batch

    def encode(
        self,
        text: str | Sequence[str] | Sequence[int],
        text_pair: str | Sequence[str] | Sequence[int] | None = None,
        add_special_tokens: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Return the ids of a text or pair; each may also be a list of tokens or of ids.

        Args:
            text: what to encode.
            text_pair: the second of a pair.
            add_special_tokens: whether to add what the family puts around a text.
            kwargs: as in `__call__`; `max_length` alone truncates, as it did in 2019.
        """
        if "max_length" in kwargs:
            kwargs.setdefault("truncation", True)
        if isinstance(text, str) and (text_pair is None or isinstance(text_pair, str)):
            encoded = self(text, text_pair, add_special_tokens=add_special_tokens, **kwargs)
            return encoded["input_ids"]
        if unknown := set(kwargs) - {"max_length", "truncation"}:
            raise ValueError(f"lists of tokens or ids are encoded without {sorted(unknown)[0]!r}; give text instead")
        first = self._ids_of(text)
        second = None if text_pair is None else self._ids_of(text_pair)
        limit = self._limit(kwargs.get("truncation", False), kwargs.get("max_length"))
        if limit is not None:
            room = limit - (self.num_special_tokens_to_add(second is not None) if add_special_tokens else 0)
            keep = shares(len(first), len(second or ()), room, kwargs["truncation"])
            first, second = first[: keep[0]], None if second is None else second[: keep[1]]
        return self.build_inputs_with_special_tokens(first, second) if add_special_tokens else first + (second or [])

    def encode_plus(self, text: Any, text_pair: Any = None, **kwargs: Any) -> BatchEncoding:
        """Encode one text or pair, as a call does; `max_length` alone truncates, as in `encode`."""
        if "max_length" in kwargs and kwargs.get("padding") != "max_length":
            kwargs.setdefault("truncation", True)
        return self(text, text_pair, **kwargs)

    def batch_encode_plus(self, texts: Sequence[Any], **kwargs: Any) -> BatchEncoding:
        """Encode a list of texts or of pairs; the same as calling the tokenizer."""
        return self(list(texts), **kwargs)

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of a text, without special ones around it."""
        return self._engine.encode(text, add_special_tokens=False).tokens

    def _ids_of(self, text: str | Sequence[str] | Sequence[int]) -> list[int]:
        if isinstance(text, str):
            return self._engine.encode(text, add_special_tokens=False).ids
        return [item if isinstance(item, int) else self.convert_tokens_to_ids(item) for item in text]

    def _limit(self, truncation: Truncation, max_length: int | None) -> int | None:
        if truncation not in TRUNCATIONS:
            raise ValueError(f"truncation is expected to be one of {', '.join(map(repr, TRUNCATIONS))}, but is {truncation!r}")
        if truncation in (False, "do_not_truncate"):
            return None
        return self.model_max_length if max_length is None else max_length

    def _encode_all(
        self,
        firsts: list[Any],
        seconds: list[Any] | None,
        add_special_tokens: bool,
        is_split: bool,
        truncation: Truncation,
        limit: int | None,
        *,
        whole: bool,
    ) -> list[TextEncoding]:
        """Encode; unless `whole`, without tokens, offsets and words, which would take a third longer."""
        inputs = firsts if seconds is None else list(zip(firsts, seconds, strict=True))
        options = {"is_pretokenized": is_split, "add_special_tokens": add_special_tokens}
        engine = self._engine
        encodings = list((engine.encode_batch if whole else engine.encode_batch_fast)(inputs, **options))
        if limit is None:
            return encodings
        # The engine can truncate too, but its setting is one for all threads; so only what is too long is cut here.
        for index, encoding in enumerate(encodings):
            if len(encoding) > limit:
                encodings[index] = self._cut(
                    firsts[index], None if seconds is None else seconds[index], add_special_tokens, is_split, truncation, limit
                )
        return encodings

    def _warn_of_length(self, encodings: Sequence[TextEncoding]) -> None:
        if (most := self.model_max_length) is None:
            return
        for encoding in encodings:
            if len(encoding) > most:
                logger.warning("a text has %d tokens, but the model takes %d; give truncation=True", len(encoding), most)

    def _cut(
        self, first: Any, second: Any, add_special_tokens: bool, is_split: bool, truncation: Truncation, limit: int
    ) -> TextEncoding:
        pair = second is not None
        one = self._engine.encode(first, is_pretokenized=is_split, add_special_tokens=False)
        two = self._engine.encode(second, is_pretokenized=is_split, add_special_tokens=False) if pair else None
        room = limit - (self.num_special_tokens_to_add(pair) if add_special_tokens else 0)
        keep = shares(len(one), len(two) if two else 0, room, truncation)
        one.truncate(keep[0], direction=self.truncation_side)
        if two is not None:
            two.truncate(keep[1], direction=self.truncation_side)
        return self._engine.post_process(one, two, add_special_tokens)

    def _padded_length(
        self, rows: list[list[int]], padding: Padding, max_length: int | None, multiple: int | None
    ) -> int | None:
        if padding in (False, "do_not_pad"):
            return None
        longest = max((len(row) for row in rows), default=0)
        if padding == "max_length":
            wanted = self.model_max_length if max_length is None else max_length
            longest = max(longest, wanted or 0)
        elif padding not in (True, "longest"):
            raise ValueError(f"padding is expected to be True, False, 'longest' or 'max_length', but is {padding!r}")
        if multiple is not None and multiple < 1:
            raise ValueError(f"pad_to_multiple_of is expected to be at least 1, but is {multiple}")
        return longest if multiple is None else -(-longest // multiple) * multiple

    # -- special tokens around a text ----------------------------------------------------------------------------------

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """Return how many special tokens the family puts around a text or pair."""
        return self._engine.num_special_tokens_to_add(pair)

    def build_inputs_with_special_tokens(self, ids: Sequence[int], pair_ids: Sequence[int] | None = None) -> list[int]:
        """Return ids with what the family puts around a text or pair."""
        return list(ids) + list(pair_ids or ())

    def add_special_tokens_single_sentence(self, ids: Sequence[int]) -> list[int]:
        """Return ids with what the family puts around a text; the name of release 1.2.0."""
        return self.build_inputs_with_special_tokens(ids)

    def add_special_tokens_sentences_pair(self, ids: Sequence[int], pair_ids: Sequence[int]) -> list[int]:
        """Return ids with what the family puts around a pair; the name of release 1.2.0."""
        return self.build_inputs_with_special_tokens(ids, pair_ids)

    # -- ids to text ---------------------------------------------------------------------------------------------------

    def decode(self, token_ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool = True) -> str:
        """Return the text of ids.

        Args:
            token_ids: a list or one-dimensional tensor of ids.
            skip_special_tokens: whether to leave special tokens out.
            clean_up_tokenization_spaces: whether to close the gaps before punctuation and English contractions.
        """
        text = self._engine.decode(as_list(token_ids), skip_special_tokens=skip_special_tokens)
        return self.clean_up_tokenization(text) if clean_up_tokenization_spaces else text

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """Return the text of tokens, as it is before any clean-up."""
        return self.decode(self.convert_tokens_to_ids(tokens), clean_up_tokenization_spaces=False)

    def batch_decode(self, sequences: Iterable[Any], **kwargs: Any) -> list[str]:
        """Decode each of several sequences."""
        return [self.decode(sequence, **kwargs) for sequence in sequences]

    @staticmethod
    def clean_up_tokenization(text: str) -> str:
        """Close the gaps that splitting left before punctuation and English contractions."""
        for spaced, closed in _CLEAN_UP:
            text = text.replace(spaced, closed)
        return text


def _again(known: Sequence[TextEncoding], encode: Callable[[], list[TextEncoding]]) -> list[TextEncoding]:
    """Return whole encodings of texts whose ids are known."""
    encodings = encode()
    if [each.ids for each in encodings] != [each.ids for each in known]:
        raise ValueError("encodings are expected to be asked for before the tokenizer is changed, but were not; encode anew")
    return encodings
