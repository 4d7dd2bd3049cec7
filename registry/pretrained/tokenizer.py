"""The base of every tokenizer, around an engine: `tokenizers.Tokenizer`, or one that offers as much."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar, Literal

from tokenizers import AddedToken

from registry.checkpoint.json_file import read_json
from registry.checkpoint.writer import staged_folder
from registry.errors import ConfigError
from registry.pretrained.batch_encoding import TRUNCATIONS, BatchEncoding, Truncation, as_tensors, pad_columns, shares
from registry.pretrained.config import warn_of_code
from registry.pretrained.engine import Engine, TextEncoding
from registry.pretrained.token_vocabulary import EXTRA_TOKENS, SPECIAL_TOKENS, TokenVocabulary, as_list

__all__ = [
    "ADDED_TOKENS_NAME",
    "SPECIAL_TOKENS_MAP_NAME",
    "TOKENIZER_CONFIG_NAME",
    "TOKENIZER_FILES",
    "BatchEncoding",
    "PreTrainedTokenizer",
    "is_engine_file",
]

TOKENIZER_CONFIG_NAME = "tokenizer_config.json"
SPECIAL_TOKENS_MAP_NAME = "special_tokens_map.json"
ADDED_TOKENS_NAME = "added_tokens.json"
#: What may lie beside a vocabulary; each is optional.
TOKENIZER_FILES = (TOKENIZER_CONFIG_NAME, SPECIAL_TOKENS_MAP_NAME, ADDED_TOKENS_NAME)

_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_NO_LIMIT = 10**12  # what 2019's `max_len` said for "none"
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


class PreTrainedTokenizer(TokenVocabulary):
    """Text to ids and back. A family's class builds the engine from its vocabulary files and passes its settings on.

    An instance is safe to use from several threads as long as no tokens are added meanwhile, and pickles.
    """

    #: Constructor argument to the conventional name of the vocabulary file.
    vocab_files_names: ClassVar[Mapping[str, str]] = {}
    #: Whether a call returns `token_type_ids` when it does not say.
    returns_token_type_ids: ClassVar[bool] = True

    def __init__(
        self,
        engine: Engine,
        *,
        settings: Mapping[str, Any],
        model_max_length: int | None = None,
        padding_side: str = "right",
        truncation_side: str = "right",
        max_len: int | None = None,
        additional_special_tokens: Sequence[str] = (),
        **special_tokens: str | None,
    ) -> None:
        """Set up around an engine.

        Args:
            engine: with model, normalizer, pre-tokenizer, post-processor and decoder in place.
            settings: the family's own arguments, saved so that a reload has them.
            model_max_length: tokens that the model can take; None when it has no limit.
            padding_side: `right` or `left`.
            truncation_side: the side from which tokens are cut.
            max_len: 2019's name for `model_max_length`.
            additional_special_tokens: more tokens that are matched whole and can be skipped in decoding.
            special_tokens: `unk_token=`, `pad_token=` and the like; None for one that the family does not have.
        """
        for name, side in (("padding_side", padding_side), ("truncation_side", truncation_side)):
            if side not in ("left", "right"):
                raise ConfigError(f"{name} of {type(self).__name__} is expected to be 'left' or 'right', but is {side!r}")
        super().__init__(engine, special_tokens, additional_special_tokens)
        self._settings = dict(settings)
        self.model_max_length = max_len if model_max_length is None else model_max_length
        self.padding_side = padding_side
        self.truncation_side = truncation_side

    # -- loading and saving --------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], *init_inputs: Any, **kwargs: Any) -> Any:
        """Load the tokenizer of a name, folder, vocabulary file, URL or source.

        Args:
            pretrained_model_name_or_path: what to load.
            init_inputs: further positional arguments of the constructor, after the vocabulary files.
            kwargs: `cache_dir`, `force_download`, `offline`; the rest are arguments of the constructor.
        """
        from registry.pretrained.loading import load_tokenizer

        return load_tokenizer(cls, pretrained_model_name_or_path, *init_inputs, **kwargs)

    @classmethod
    def from_files(cls, vocabulary: Mapping[str, Path], side_files: Mapping[str, Path], *inputs: Any, **kwargs: Any) -> Any:
        """Build from vocabulary files, by constructor argument, and the JSON files beside them, by name."""
        saved = read_json(side_files[TOKENIZER_CONFIG_NAME]) if TOKENIZER_CONFIG_NAME in side_files else {}
        warn_of_code(saved, TOKENIZER_CONFIG_NAME)
        if (limit := kwargs.pop("max_len", None)) is not None:
            kwargs.setdefault("model_max_length", limit)
        decoder = saved.pop("added_tokens_decoder", None) or _added_in_engine_file(vocabulary.values())
        settings = cls._saved_settings(saved)
        if SPECIAL_TOKENS_MAP_NAME in side_files:
            for name, token in read_json(side_files[SPECIAL_TOKENS_MAP_NAME]).items():
                if name in SPECIAL_TOKENS or name == EXTRA_TOKENS:
                    settings.setdefault(name, _content(token))
        tokenizer = cls._build({name: str(path) for name, path in vocabulary.items()}, inputs, {**settings, **kwargs})
        if decoder:
            tokens = {int(number): _added_token(token) for number, token in decoder.items()}
        elif ADDED_TOKENS_NAME in side_files:
            special = set(tokenizer.all_special_tokens)
            tokens = {
                number: AddedToken(token, special=token in special, normalized=token not in special)
                for token, number in read_json(side_files[ADDED_TOKENS_NAME]).items()
            }
        else:
            tokens = {}
        tokenizer._restore(tokens)
        return tokenizer

    @classmethod
    def _build(cls, vocabulary: Mapping[str, str], inputs: Sequence[Any], settings: Mapping[str, Any]) -> Any:
        """Call the constructor, which begins with the vocabulary files."""
        build: Any = cls
        arguments = list(signature(cls).parameters)[len(vocabulary) :][: len(inputs)]
        named = {name: value for name, value in settings.items() if name not in arguments}  # the caller's go before saved ones
        return build(*vocabulary.values(), *inputs, **named)

    @classmethod
    def vocabulary_files(cls) -> dict[str, tuple[str, ...]]:
        """Return role to the file names that can fill it, best first; what a family's `files` say goes before this."""
        return {argument.removesuffix("_file"): (name,) for argument, name in cls.vocab_files_names.items()}

    @classmethod
    def _saved_settings(cls, saved: Mapping[str, Any]) -> dict[str, Any]:
        """Return what of a tokenizer_config.json this class takes; other libraries write much that only they know."""
        known = {*SPECIAL_TOKENS, EXTRA_TOKENS, "model_max_length", "padding_side", "truncation_side", *cls.settings_names()}
        settings = {name: _content(value) for name, value in saved.items() if name in known}
        if "extra_special_tokens" in saved and isinstance(saved["extra_special_tokens"], list):
            settings.setdefault(EXTRA_TOKENS, _content(saved["extra_special_tokens"]))
        limit = settings.get("model_max_length", saved.get("max_len"))
        for name in (EXTRA_TOKENS, *SPECIAL_TOKENS):
            if settings.get(name, "") is None:
                del settings[name]
        settings["model_max_length"] = int(limit) if isinstance(limit, int | float) and limit < _NO_LIMIT else None
        return settings

    @classmethod
    def settings_names(cls) -> tuple[str, ...]:
        """Return the constructor arguments of the family that are saved in tokenizer_config.json."""
        return ()

    def _restore(self, tokens: Mapping[int, AddedToken]) -> None:
        for number in sorted(tokens):
            token = tokens[number]
            (self._engine.add_special_tokens if token.special else self._engine.add_tokens)([token])
            if (actual := self._engine.token_to_id(token.content)) != number:
                raise ConfigError(
                    f"added token {token.content!r} is expected to have id {number}, as its file says, but gets {actual}; "
                    "the file does not belong to this vocabulary"
                )

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> tuple[str, ...]:
        """Write everything that a reload needs into a folder, which is made when it does not exist; return the paths.

        A `tokenizer.json` that another library wrote there is removed: it would go on to read the old tokenizer from that.

        Raises:
            CheckpointError: when the folder cannot take the files; what was there stays.
        """
        folder = Path(save_directory)
        with staged_folder(folder, replaces_tokenizer=True) as stage:
            names = [Path(path).name for path in self.save_vocabulary(stage)]
            for name, data in self._side_files().items():
                (stage / name).write_text(json.dumps(data, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        names += [SPECIAL_TOKENS_MAP_NAME, ADDED_TOKENS_NAME]
        return tuple(str(folder / name) for name in names)

    def save_vocabulary(self, vocab_path: str | os.PathLike[str]) -> tuple[str, ...]:
        """Write the vocabulary alone, into a folder or to a file; return the paths. Each family has its own form."""
        raise TypeError(f"{type(self).__name__} is expected to override save_vocabulary")

    def _side_files(self) -> dict[str, Any]:
        added = self._engine.get_added_tokens_decoder()
        return {
            TOKENIZER_CONFIG_NAME: {
                "tokenizer_class": type(self).__name__,
                **self._settings,
                **self.special_tokens_map,
                "model_max_length": self.model_max_length if self.model_max_length is not None else _NO_LIMIT,
                "padding_side": self.padding_side,
                "truncation_side": self.truncation_side,
                "added_tokens_decoder": {
                    str(number): {"content": token.content, **{flag: getattr(token, flag) for flag in _FLAGS}}
                    for number, token in sorted(added.items())
                },
            },
            SPECIAL_TOKENS_MAP_NAME: self.special_tokens_map,
            ADDED_TOKENS_NAME: {token.content: number for number, token in added.items() if number >= self._base_size},
        }

    # -- limits --------------------------------------------------------------------------------------------------------

    @property
    def max_len(self) -> int:
        """`model_max_length` as 2019's library gave it: a very large number when there is no limit."""
        return _NO_LIMIT if self.model_max_length is None else self.model_max_length

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

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} tokens, {self._settings})"


def _again(known: Sequence[TextEncoding], encode: Callable[[], list[TextEncoding]]) -> list[TextEncoding]:
    """Return whole encodings of texts whose ids are known."""
    encodings = encode()
    if [each.ids for each in encodings] != [each.ids for each in known]:
        raise ValueError("encodings are expected to be asked for before the tokenizer is changed, but were not; encode anew")
    return encodings


def _content(value: Any) -> Any:
    """Return the text of a token that may have been saved with its flags."""
    if isinstance(value, dict) and "content" in value:
        return value["content"]
    return [_content(item) for item in value] if isinstance(value, list) else value


def is_engine_file(path: Path) -> bool:
    """Whether a file is a `tokenizer.json`, which holds all that a tokenizer needs."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        begins = file.read(64)
    return begins.startswith(b"{") and b'"version"' in begins


def _added_in_engine_file(paths: Iterable[Path]) -> dict[int, Any]:
    """Return id to added token of a `tokenizer.json`, where a vocabulary is one: transformers 5 keeps them only there."""
    for path in paths:
        if is_engine_file(path):
            return {token["id"]: token for token in read_json(path).get("added_tokens", ())}
    return {}


def _added_token(saved: Mapping[str, Any]) -> AddedToken:
    return AddedToken(saved["content"], **{flag: bool(saved[flag]) for flag in _FLAGS if flag in saved})
