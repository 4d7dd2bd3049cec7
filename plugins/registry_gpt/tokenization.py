"""OpenAI GPT's tokenizer: words in lower case, then byte pair encoding whose pieces know where a word ends."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors

from registry.errors import ConfigError
from registry.pretrained.batch_encoding import BatchEncoding, Truncation
from registry.pretrained.bpe import BPETokenizer, FilePath, find_merges, read_bpe
from registry.pretrained.engine import TextEncoding

__all__ = ["OpenAIGPTTokenizer"]

_ROADS = ("basic", "spacy")


class OpenAIGPTTokenizer(BPETokenizer):
    """Byte pair encoding over lower-cased words, by either of two roads from text to words.

    `basic` is BERT's splitting; it needs nothing more and is what today's libraries do. `spacy` is the paper's: ftfy mends
    the text, spaCy splits it; the published model was trained on such words. It keeps accents, contractions and lines.
    """

    def __init__(
        self,
        vocab_file: FilePath,
        merges_file: FilePath | None = None,
        unk_token: str | AddedToken = "<unk>",
        pre_tokenizer: str = "basic",
        **kwargs: Any,
    ) -> None:
        """Build from a vocabulary.

        Args:
            vocab_file: a `vocab.json` under any name, or a `tokenizer.json`.
            merges_file: a `merges.txt` under any name; None finds the one that `save_vocabulary` wrote beside `vocab_file`.
            unk_token: stands for what the vocabulary cannot spell.
            pre_tokenizer: `basic`, or `spacy`, which needs `pip install pretrained-registry[spacy]`.
            kwargs: as in `PreTrainedTokenizer`.

        Raises:
            ConfigError: when the files hold no vocabulary or do not belong together, or spaCy or ftfy is not installed.
        """
        if pre_tokenizer not in _ROADS:
            raise ConfigError(
                f"pre_tokenizer of OpenAIGPTTokenizer is expected to be one of {', '.join(_ROADS)}, but is {pre_tokenizer!r}"
            )
        merges = find_merges(vocab_file, merges_file)
        model = read_bpe(vocab_file, merges, unk_token=str(unk_token), end_of_word_suffix="</w>", fuse_unk=False)
        engine = Tokenizer(model)
        if pre_tokenizer == "basic":
            engine.normalizer = normalizers.BertNormalizer(lowercase=True)
            engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        else:
            _word_splitter()  # so that a missing package shows here
        engine.post_processor = processors.TemplateProcessing(single="$A", pair="$A:0 $B:1")
        engine.decoder = decoders.BPEDecoder(suffix="</w>")
        self._is_spacy = pre_tokenizer == "spacy"
        super().__init__(engine, settings={"pre_tokenizer": pre_tokenizer}, unk_token=unk_token, **kwargs)
        self._refresh()

    def _refresh(self) -> None:
        """Take the unknown token that is set."""
        assert isinstance(self._engine, Tokenizer)
        model, token = self._engine.model, self.unk_token
        if token is None or (model.token_to_id(token) is None and not self._is_default("unk_token", token)):
            raise ConfigError(f"unk_token of OpenAIGPTTokenizer is expected to be a token of its vocabulary, but is {token!r}")
        model.unk_token = token

    @classmethod
    def settings_names(cls) -> tuple[str, ...]:
        """Return the arguments that tokenizer_config.json keeps."""
        return ("pre_tokenizer",)

    def __call__(self, *args: Any, **kwargs: Any) -> BatchEncoding:
        """Encode a text, a pair, or a batch of either; arguments as in `PreTrainedTokenizer`.

        Raises:
            ValueError: for offsets on the road of spaCy, where ftfy changes the text before it is split.
        """
        if self._is_spacy and kwargs.get("return_offsets_mapping"):
            raise ValueError("offsets are expected of pre_tokenizer='basic' only: ftfy changes the text before it is split")
        return super().__call__(*args, **kwargs)

    def _encode_text(self, text: str) -> TextEncoding:
        if self._is_spacy and isinstance(text, str):
            return self._engine.encode(self._words(text), is_pretokenized=True, add_special_tokens=False)
        return super()._encode_text(text)

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
        if self._is_spacy and not is_split:
            firsts = [self._words(text) for text in firsts]
            seconds = None if seconds is None else [self._words(text) for text in seconds]
            is_split = True
        return super()._encode_all(firsts, seconds, add_special_tokens, is_split, truncation, limit, stride=stride, whole=whole)

    def _words(self, text: str) -> list[str]:
        """Split as the paper did; special and added tokens stay whole."""
        split = _word_splitter()
        whole = [token.content for token in self._engine.get_added_tokens_decoder().values()]
        longest = sorted(whole, key=len, reverse=True)
        parts = re.split(f"({'|'.join(map(re.escape, longest))})", text) if whole else [text]
        words: list[str] = []
        for number, part in enumerate(parts):  # every second part is a token
            words += [part] if number % 2 else split(part)
        return words


@cache
def _word_splitter() -> Callable[[str], list[str]]:
    try:
        ftfy, english = import_module("ftfy"), import_module("spacy.lang.en")
    except ImportError as error:
        raise ConfigError(
            f"pre_tokenizer='spacy' of OpenAIGPTTokenizer is expected to find ftfy and spaCy, but: {error}; "
            "run `pip install pretrained-registry[spacy]`, or give pre_tokenizer='basic'"
        ) from error
    tokenizer = english.English().tokenizer

    def split(text: str) -> list[str]:
        words = (word.text.lower() for word in tokenizer(_standardize(ftfy.fix_text(text))))
        return ["\n" if word == "\n " else word for word in words]  # spaCy keeps the blank after a line end in its word

    return split


_LOOKALIKES = str.maketrans({"—": "-", "–": "-", "―": "-", "…": "...", "´": "'"})  # noqa: RUF001  # dashes and an accent


def _standardize(text: str) -> str:
    """Return text in the form that the paper's code gave it: plain dashes, punctuation and line ends apart."""
    text = text.translate(_LOOKALIKES)
    text = re.sub(r"""([-~!";?+,)(\\/*\[\]}{|_])\1*""", r" \g<0> ", text)  # each run of one of these
    text = re.sub(r"\s*\n\s*", " \n ", text)
    return re.sub(r"[^\S\n]+", " ", text).strip()
