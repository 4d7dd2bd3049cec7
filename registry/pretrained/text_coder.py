"""Text to ids and back, alone, in pairs and in batches: what every tokenizer does with its engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from numbers import Real
from typing import Any, ClassVar, Literal

from registry.base.logs import lazy_logger
from registry.errors import ConfigError
from registry.pretrained.batch_encoding import TRUNCATIONS, BatchEncoding, Truncation, as_tensors, pad_columns, shares
from registry.pretrained.config import shown
from registry.pretrained.engine import TextEncoding
from registry.pretrained.token_vocabulary import TokenVocabulary, as_list, is_unicode

__all__ = ["LIMIT_NAMES", "NO_LIMIT", "TextCoder", "token_limit"]

#: The arguments that say how many tokens the model can take.
LIMIT_NAMES = ("model_max_length", "max_len")
#: What 2019's `max_len` said for "none"; a larger number says so, too, as the 1e30 of transformers.
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

logger = lazy_logger(__name__)

Text = str | Sequence[str]
Padding = bool | Literal["longest", "max_length", "do_not_pad"]


class TextCoder(TokenVocabulary):
    """A vocabulary with an engine that splits text into its tokens, and with the limits of the model that reads them."""

    #: Whether a call returns `token_type_ids` when it does not say.
    returns_token_type_ids: ClassVar[bool] = True
    #: Whether `pad` adds an attention mask when it is not told.
    returns_attention_mask: ClassVar[bool] = True
    padding_side: str
    truncation_side: str

    # -- limits --------------------------------------------------------------------------------------------------------

    @property
    def model_max_length(self) -> int | None:
        """Tokens that the model can take; None when it has no limit, which a number of 10**12 or more says, too."""
        return self._model_max_length

    @model_max_length.setter
    def model_max_length(self, value: float | None) -> None:
        self._model_max_length = token_limit(value, f"model_max_length of {type(self).__name__}")

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
        truncation: Truncation | None = None,
        max_length: int | None = None,
        stride: int = 0,
        pad_to_multiple_of: int | None = None,
        is_split_into_words: bool = False,
        return_tensors: str | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool = True,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
    ) -> BatchEncoding:
        """Encode a text, a pair, or a batch of either.

        Args:
            text: a text, or a list of texts or of pairs; with `is_split_into_words` one level more, a text being its words.
            text_pair: the second text, or a list of as many as `text` has.
            add_special_tokens: whether to add what the family puts around a text.
            padding: True or `longest` pads to the longest row, `max_length` to `max_length` or, without it, to what the model
                can take; rows that are longer stay as they are.
            truncation: True or `longest_first`, `only_first`, `only_second`, or False. None, the default, is `longest_first`
                where `max_length` is given without `padding`, else False.
            max_length: the limit, special tokens included; by default what the model can take.
            stride: how many tokens a window shares with the one before, with `return_overflowing_tokens`.
            pad_to_multiple_of: round the padded length up. Where a length is a limit, too, it has to be such a multiple.
            is_split_into_words: whether texts come as lists of words.
            return_tensors: `pt` for int64 tensors `(batch, seq)`, `np` for arrays, None for lists.
            return_token_type_ids: whether to return which of a pair each token is of; None does as the family's models need.
            return_attention_mask: whether to return 1 for tokens and 0 for padding.
            return_overflowing_tokens: whether to return what is cut, too, as further rows: windows over the text that may be
                cut, each with the other text of a pair. `overflow_to_sample_mapping` has the number of each row's text.
            return_special_tokens_mask: whether to return 1 for special tokens.
            return_offsets_mapping: whether to return for each token its `(begin, end)` in the text, in characters.

        Tokens are cut, and windows begin, at the side that `truncation_side` says.

        Raises:
            ValueError: when an argument, or one of the texts, is not what it has to be.
        """
        single, firsts, seconds = _texts(text, text_pair, is_split_into_words)
        truncation = _truncation(truncation, padding, max_length)
        limit = self._limit(truncation, max_length)
        self._check_multiple(pad_to_multiple_of, padding, limit, max_length)
        _check_whole("stride", stride)
        if stride < 0:
            raise ValueError(f"stride is expected to be 0 or more, but is {stride}")
        samples: list[int] = []
        encode_all = partial(
            self._encode_all,
            firsts,
            seconds,
            add_special_tokens,
            is_split_into_words,
            truncation,
            limit,
            stride=stride if return_overflowing_tokens else 0,
        )

        def encode(*, whole: bool) -> list[TextEncoding]:
            try:
                encodings = encode_all(whole=whole)
            except Exception as error:
                _explain(firsts, seconds, is_split_into_words, single, error)
                raise
            if not return_overflowing_tokens:
                return encodings
            rows = [[encoding, *encoding.overflowing] for encoding in encodings]
            samples[:] = [number for number, windows in enumerate(rows) for _ in windows]
            return [window for windows in rows for window in windows]

        encodings = encode(whole=return_offsets_mapping)
        if limit is None:
            self._warn_of_length(encodings)

        columns: dict[str, list[Any]] = {"input_ids": [encoding.ids for encoding in encodings]}
        if self.returns_token_type_ids if return_token_type_ids is None else return_token_type_ids:
            columns["token_type_ids"] = [encoding.type_ids for encoding in encodings]
        if return_attention_mask:
            columns["attention_mask"] = [[1] * len(row) for row in columns["input_ids"]]  # the engine does not pad
        if return_special_tokens_mask:
            columns["special_tokens_mask"] = [encoding.special_tokens_mask for encoding in encodings]
        if return_offsets_mapping:
            columns["offset_mapping"] = [encoding.offsets for encoding in encodings]
        columns = self._padded(columns, padding, max_length, pad_to_multiple_of)
        if return_overflowing_tokens:
            columns["overflow_to_sample_mapping"] = samples
        result: Mapping[str, Any] = columns
        if return_tensors is not None:
            result = as_tensors(columns, return_tensors)
        elif single and not return_overflowing_tokens:
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
            kwargs: as in `__call__`; for lists `padding`, `truncation`, `max_length`, `pad_to_multiple_of` and
                `return_tensors`, with the same meaning.
        """
        if isinstance(text, str) and (text_pair is None or isinstance(text_pair, str)):
            encoded = self(text, text_pair, add_special_tokens=add_special_tokens, **kwargs)
            return encoded["input_ids"]
        if kwargs.get("is_split_into_words"):
            words: Any = text
            return self(words, text_pair, add_special_tokens=add_special_tokens, **kwargs)["input_ids"]  # type: ignore[arg-type]
        if unknown := set(kwargs) - {"max_length", "truncation", "padding", "pad_to_multiple_of", "return_tensors"}:
            raise ValueError(f"lists of tokens or ids are encoded without {sorted(unknown)[0]!r}; give text instead")
        first = self._ids_of(text)
        second = None if text_pair is None else self._ids_of(text_pair)
        padding, most, multiple = kwargs.get("padding", False), kwargs.get("max_length"), kwargs.get("pad_to_multiple_of")
        truncation = _truncation(kwargs.get("truncation"), padding, most)
        limit = self._limit(truncation, most)
        self._check_multiple(multiple, padding, limit, most)
        if limit is not None:
            room = limit - (self.num_special_tokens_to_add(second is not None) if add_special_tokens else 0)
            keep = shares(len(first), len(second or ()), room, truncation)
            first = self._kept(first, keep[0])
            second = None if second is None else self._kept(second, keep[1])
        ids = self.build_inputs_with_special_tokens(first, second) if add_special_tokens else first + (second or [])
        columns = self._padded({"input_ids": [ids]}, padding, most, multiple)
        if (kind := kwargs.get("return_tensors")) is not None:
            return as_tensors(columns, kind)["input_ids"]
        return columns["input_ids"][0]

    def _kept(self, ids: list[int], count: int) -> list[int]:
        return ids[:count] if self.truncation_side == "right" else ids[len(ids) - count :]

    def encode_plus(self, text: Any, text_pair: Any = None, **kwargs: Any) -> BatchEncoding:
        """Encode one text or pair; the same as calling the tokenizer."""
        return self(text, text_pair, **kwargs)

    def batch_encode_plus(self, texts: Sequence[Any], **kwargs: Any) -> BatchEncoding:
        """Encode a list of texts or of pairs; the same as calling the tokenizer."""
        return self(list(texts), **kwargs)

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of a text, without special ones around it."""
        return self._encode_text(text).tokens

    def _encode_text(self, text: str) -> TextEncoding:
        try:
            return self._engine.encode(text, add_special_tokens=False)
        except Exception as error:
            _explain([text], None, False, True, error)
            raise

    def _ids_of(self, text: str | Sequence[str] | Sequence[int]) -> list[int]:
        if isinstance(text, str):
            return self._encode_text(text).ids
        if text is None or not isinstance(text, Iterable) or isinstance(text, bytes | Mapping):
            raise ValueError(f"what is encoded is expected to be text, or a list of tokens or ids, but is {_shown(text)}")
        ids = []
        for index, item in enumerate(text):
            if isinstance(item, str):
                ids.append(self.convert_tokens_to_ids(item))
            elif hasattr(item, "__index__"):
                ids.append(item.__index__())
            else:
                raise ValueError(f"item {index} of what is encoded is expected to be a token or an id, but is {_shown(item)}")
        return ids

    def _limit(self, truncation: Truncation, max_length: int | None) -> int | None:
        if truncation in (False, "do_not_truncate"):
            return None
        return self.model_max_length if max_length is None else max_length

    def _check_multiple(self, multiple: int | None, padding: Padding, limit: int | None, max_length: int | None) -> None:
        """Check the lengths that a caller gives, and that rounding one up does not pass the length that rows may have."""
        _check_whole("max_length", max_length)
        _check_whole("pad_to_multiple_of", multiple)
        if multiple is None:
            return
        if multiple < 1:
            raise ValueError(f"pad_to_multiple_of is expected to be at least 1, but is {multiple}")
        if padding in (False, "do_not_pad"):
            return
        if padding == "max_length" and limit is None:
            limit = self.model_max_length if max_length is None else max_length
        if limit is not None and limit % multiple:
            raise ValueError(
                f"max_length is expected to be a multiple of pad_to_multiple_of={multiple}, but is {limit}; give "
                f"max_length={limit // multiple * multiple or multiple}"
            )

    def _encode_all(
        self,
        firsts: list[Any],
        seconds: list[Any] | None,
        add_special_tokens: bool,
        is_split: bool,
        truncation: Truncation,
        limit: int | None,
        *,
        stride: int,
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
                second = None if seconds is None else seconds[index]
                encodings[index] = self._cut(firsts[index], second, add_special_tokens, is_split, truncation, limit, stride)
        return encodings

    def _warn_of_length(self, encodings: Sequence[TextEncoding]) -> None:
        if (most := self.model_max_length) is None:
            return
        for encoding in encodings:
            if len(encoding) > most:
                logger.warning("a text has %d tokens, but the model takes %d; give truncation=True", len(encoding), most)

    def _cut(
        self,
        first: Any,
        second: Any,
        add_special_tokens: bool,
        is_split: bool,
        truncation: Truncation,
        limit: int,
        stride: int,
    ) -> TextEncoding:
        pair = second is not None
        parts = [self._engine.encode(first, is_pretokenized=is_split, add_special_tokens=False)]
        if pair:
            # As the second of a pair, so that each of its windows has the type of the second.
            empty = [] if is_split else ""
            parts.append(self._engine.encode(empty, second, is_pretokenized=is_split, add_special_tokens=False))
        room = limit - (self.num_special_tokens_to_add(pair) if add_special_tokens else 0)
        for part, kept in zip(parts, shares(len(parts[0]), len(parts[1]) if pair else 0, room, truncation), strict=False):
            if stride > 0 and stride >= kept < len(part):
                raise ValueError(
                    f"stride is expected to be less than the {kept} tokens of a window, but is {stride}; raise max_length"
                )
            part.truncate(kept, stride=stride, direction=self.truncation_side)
        return self._engine.post_process(parts[0], parts[1] if pair else None, add_special_tokens)

    # -- padding -------------------------------------------------------------------------------------------------------

    def pad(
        self,
        encoded_inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        padding: Padding = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
    ) -> BatchEncoding:
        """Pad what was encoded, as a `collate_fn` does with the examples of a batch.

        Args:
            encoded_inputs: what a call returned for a text or a batch, or a list of such for one text each. Lists, arrays or
                tensors.
            padding: as in `__call__`, and by default True.
            max_length: as in `__call__`.
            pad_to_multiple_of: round the padded length up.
            padding_side: `right` or `left`; None does as the tokenizer is set.
            return_attention_mask: whether to add a mask of 1 for tokens and 0 for padding where there is none.
            return_tensors: `pt`, `np`, or None for the kind that was given.

        `input_ids`, `token_type_ids`, `attention_mask` and `special_tokens_mask` are padded; other columns stay as they are.

        Raises:
            ValueError: when there are no `input_ids`, or columns differ in their number of rows.
        """
        if isinstance(encoded_inputs, Mapping):
            columns = dict(encoded_inputs)
        else:
            examples = list(encoded_inputs)
            columns = {name: [example[name] for example in examples] for name in (examples[0] if examples else ())}
        if "input_ids" not in columns:
            raise ValueError(f"what is padded is expected to hold input_ids, but holds {', '.join(columns) or 'nothing'}")
        if len(columns["input_ids"]) == 0:
            return BatchEncoding(columns)
        self._check_multiple(pad_to_multiple_of, padding, None, max_length)
        if return_tensors is None:
            return_tensors = _kind_of_tensor(columns["input_ids"])
        columns = {name: _plain(value) for name, value in columns.items()}
        single = isinstance(columns["input_ids"][0], int)
        if single:
            columns = {name: [value] for name, value in columns.items()}
        count = len(columns["input_ids"])
        for name, rows in columns.items():
            if len(rows) != count:
                raise ValueError(
                    f"{name} of what is padded is expected to have {count} rows, as input_ids, but has {len(rows)}"
                )
        if self.returns_attention_mask if return_attention_mask is None else return_attention_mask:
            columns.setdefault("attention_mask", [[1] * len(row) for row in columns["input_ids"]])
        columns = self._padded(columns, padding, max_length, pad_to_multiple_of, padding_side)
        if single:
            columns = {name: rows[0] for name, rows in columns.items()}
        batch = BatchEncoding(columns if return_tensors is None else as_tensors(columns, return_tensors))
        batch.pads_left = (padding_side or self.padding_side) == "left"
        return batch

    def _padded(
        self,
        columns: dict[str, list[Any]],
        padding: Padding,
        max_length: int | None,
        multiple: int | None,
        side: str | None = None,
    ) -> dict[str, list[Any]]:
        """Return the columns with every row filled up that is shorter than the length that `padding` says."""
        side = self.padding_side if side is None else side
        if side not in ("left", "right"):
            raise ValueError(f"padding_side is expected to be 'left' or 'right', but is {side!r}")
        length = self._padded_length(columns["input_ids"], padding, max_length, multiple)
        if length is None:
            return columns
        fill: dict[str, Any] = {"token_type_ids": 0, "attention_mask": 0, "special_tokens_mask": 1, "offset_mapping": (0, 0)}
        fill["input_ids"] = self.pad_token_id
        if self.pad_token_id is None and any(len(row) < length for row in columns["input_ids"]):
            why = "" if self.pad_token is None else f"{self.pad_token!r}, which the vocabulary lacks; "
            raise ConfigError(
                f"pad_token of {type(self).__name__} is expected to be a token of the vocabulary to pad a batch, but is "
                f"{why or 'not set; '}give it with add_special_tokens({{'pad_token': …}})"
            )
        if (most := self.model_max_length) is not None and length > most:
            logger.warning("rows are padded to %d tokens, but the model takes %d", length, most)
        return pad_columns(columns, fill, length, left=side == "left")

    def _padded_length(
        self, rows: list[list[int]], padding: Padding, max_length: int | None, multiple: int | None
    ) -> int | None:
        if padding in (False, "do_not_pad"):
            return None
        if padding == "max_length":
            wanted = self.model_max_length if max_length is None else max_length
            if wanted is None:
                return None
        elif padding in (True, "longest"):
            wanted = max((len(row) for row in rows), default=0)
        else:
            raise ValueError(f"padding is expected to be True, False, 'longest' or 'max_length', but is {padding!r}")
        return wanted if multiple is None else -(-wanted // multiple) * multiple

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

    def decode(self, token_ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool = True) -> Any:
        """Return the text of ids, or of a batch a list with the text of each row.

        Args:
            token_ids: a list or tensor of ids `(seq,)`, or a batch `(batch, seq)`, whose rows may differ in length.
            skip_special_tokens: whether to leave special tokens out.
            clean_up_tokenization_spaces: whether to close the gaps before punctuation and English contractions.

        Raises:
            ConfigError: when there is something else than ids.
        """
        values = token_ids.tolist() if hasattr(token_ids, "tolist") else token_ids
        if isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping):
            values = list(values)
            if values and (_is_row(values[0]) or (hasattr(values[0], "tolist") and values[0].ndim)):
                return [
                    self._decode(row, skip_special_tokens, clean_up_tokenization_spaces, f"ids of row {number}")
                    for number, row in enumerate(values)
                ]
        return self._decode(values, skip_special_tokens, clean_up_tokenization_spaces)

    def _decode(self, ids: Any, skip_special_tokens: bool, clean_up: bool, what: str = "ids") -> str:
        text = self._text_of(as_list(ids, what), skip_special_tokens)
        return self.clean_up_tokenization(text) if clean_up else text

    def _text_of(self, ids: list[int], skip_special_tokens: bool) -> str:
        return self._engine.decode(ids, skip_special_tokens=skip_special_tokens)

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """Return the text of tokens, known or not, as it is before any clean-up."""
        decoder = getattr(self._engine, "decoder", None)
        return " ".join(tokens) if decoder is None else str(decoder.decode(list(tokens)))

    def batch_decode(self, sequences: Iterable[Any], **kwargs: Any) -> list[str]:
        """Decode each of several sequences."""
        texts = self.decode(sequences, **kwargs)
        return [texts] if isinstance(texts, str) else list(texts)

    @staticmethod
    def clean_up_tokenization(text: str) -> str:
        """Close the gaps that splitting left before punctuation and English contractions."""
        for spaced, closed in _CLEAN_UP:
            text = text.replace(spaced, closed)
        return text


def token_limit(value: Any, what: str) -> int | None:
    """Return how many tokens a model can take, or None when there is no limit.

    Args:
        value: what was given or saved.
        what: the argument or field, and of what; for the error.

    Raises:
        ConfigError: when it is neither None nor a whole number above 0.
    """
    if value is None:
        return None
    number: Any = value if isinstance(value, Real) and not isinstance(value, bool) else 0
    if number >= NO_LIMIT:
        return None
    if number > 0 and number == int(number):
        return int(number)
    raise ConfigError(f"{what} is expected to be a whole number above 0, or None for no limit, but is {value!r:.80}")


def _texts(text: Any, text_pair: Any, is_split: bool) -> tuple[bool, list[Any], list[Any] | None]:
    """Return whether a call is for one text or pair, the first texts, and the second ones where there are pairs."""
    for name, value in (("text", text), ("text_pair", text_pair)):
        if not isinstance(value, Iterable) or isinstance(value, bytes | Mapping | set):
            if value is None and name == "text_pair":
                continue
            raise ValueError(f"{name} is expected to be text, or a list of texts or of pairs, but is {_shown(value)}")
    single = isinstance(text, str) or (is_split and (len(text) == 0 or isinstance(text[0], str)))
    firsts: list[Any] = [text] if single else list(text)
    if text_pair is not None:
        if isinstance(text_pair, str) and not single:
            raise ValueError("text_pair is expected to be a list of texts, as text is, but is one text")
        seconds = [text_pair] if single else list(text_pair)
        if len(seconds) != len(firsts):
            raise ValueError(f"text_pair is expected to have {len(firsts)} texts, as text has, but has {len(seconds)}")
        return single, firsts, seconds
    begin = firsts[0] if firsts and not single else ""
    if not isinstance(begin, list | tuple) or (is_split and not (begin and isinstance(begin[0], list | tuple))):
        return single, firsts, None
    for index, pair in enumerate(firsts):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError(f"text {index} is expected to be a pair of texts, as text 0 is, but is {_shown(pair)}")
    return single, [pair[0] for pair in firsts], [pair[1] for pair in firsts]


def _truncation(truncation: Truncation | None, padding: Padding, max_length: int | None) -> Truncation:
    """Return what `truncation` means: where it is not given, `max_length` without padding cuts, as in transformers."""
    if truncation is None:
        return "longest_first" if max_length is not None and padding is False else False
    if truncation not in TRUNCATIONS:
        raise ValueError(f"truncation is expected to be one of {', '.join(map(repr, TRUNCATIONS))}, but is {truncation!r}")
    return truncation


def _check_whole(name: str, value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not hasattr(value, "__index__")):
        raise ConfigError(f"{name} is expected to be a whole number, but is {shown(value)}")


def _is_row(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _explain(firsts: Sequence[Any], seconds: Sequence[Any] | None, is_split: bool, single: bool, error: Exception) -> None:
    """Raise an error that names the text that an engine could not take, if one of them is none."""
    for index in range(len(firsts)):
        for name, texts in (("", firsts), ("second ", seconds)):
            if texts is None:
                continue
            where = f"{name}text" if single else f"{name}text {index}"
            if is_split and not isinstance(texts[index], list | tuple):
                raise ValueError(f"{where} is expected to be a list of words, but is {_shown(texts[index])}") from error
            for position, piece in enumerate(texts[index] if is_split else texts[index : index + 1]):
                here = f"word {position} of {where}" if is_split else where
                if not isinstance(piece, str):
                    raise ValueError(f"{here} is expected to be text, but is {_shown(piece)}") from error
                if not is_unicode(piece):
                    at = next(at for at, character in enumerate(piece) if "\ud800" <= character <= "\udfff")
                    raise ValueError(
                        f"{here} is expected to be valid Unicode, but character {at} is the lone surrogate {piece[at]!a}"
                    ) from error
    if type(error) is Exception:  # as which the engine raises what it finds wrong with the vocabulary
        raise ConfigError(f"a text is expected to have tokens in this vocabulary, but: {error}") from error


def _shown(value: object) -> str:
    """Return what a value is that should be text: itself where it is small, else its type."""
    if value is None or isinstance(value, bool | int | float):
        return f"{value!r:.40}" if value is None else f"{value!r:.40}, a {type(value).__name__}"
    return f"a {type(value).__name__}"


def _kind_of_tensor(value: Any) -> str | None:
    """Return `pt` or `np` for a tensor, an array, or a list of such."""
    if isinstance(value, list | tuple):
        value = next((item for item in value if hasattr(item, "tolist") or len(item)), None) if _nested(value) else None
    if not hasattr(value, "tolist"):
        return None
    return "pt" if type(value).__module__.startswith("torch") else "np"


def _nested(value: Sequence[Any]) -> bool:
    return bool(value) and not isinstance(value[0], int)


def _plain(value: Any) -> Any:
    """Return lists for tensors and arrays, and for lists of such."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return [_plain(item) for item in value] if isinstance(value, list | tuple) and _nested(value) else value


def _again(known: Sequence[TextEncoding], encode: Callable[[], list[TextEncoding]]) -> list[TextEncoding]:
    """Return whole encodings of texts whose ids are known."""
    encodings = encode()
    if [each.ids for each in encodings] != [each.ids for each in known]:
        raise ValueError("encodings are expected to be asked for before the tokenizer is changed, but were not; encode anew")
    return encodings
