"""GPT-2's tokenizer: byte pair encoding over bytes, so that every text has tokens and tokens have the text back."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors

from registry.errors import ConfigError
from registry.pretrained.bpe import BPETokenizer, FilePath, find_merges, read_bpe

__all__ = ["GPT2Tokenizer"]

_END = "<|endoftext|>"
_ERRORS = ("replace", "strict", "ignore")


class GPT2Tokenizer(BPETokenizer):
    """Splits text into words with the space before them, and words into pieces; white space is kept."""

    def __init__(
        self,
        vocab_file: FilePath,
        merges_file: FilePath | None = None,
        errors: str = "replace",
        unk_token: str | AddedToken = _END,
        bos_token: str | AddedToken = _END,
        eos_token: str | AddedToken = _END,
        add_prefix_space: bool = False,
        legacy: bool = False,
        **kwargs: Any,
    ) -> None:
        """Build from a vocabulary.

        Args:
            vocab_file: a `vocab.json` under any name, or a `tokenizer.json`.
            merges_file: a `merges.txt` under any name; None finds the one that `save_vocabulary` wrote beside `vocab_file`.
            errors: what decoding does with bytes that are no UTF-8: `replace`, `strict` or `ignore`.
            unk_token: stands for what the vocabulary cannot spell; nothing, in a complete vocabulary.
            bos_token: begins a text.
            eos_token: ends a text.
            add_prefix_space: put a space before a text that has none, so that its first word is like any other.
            legacy: split as release 1.2.0 did: strip the text between special tokens, then put a space before it.
            kwargs: as in `PreTrainedTokenizer`.

        Raises:
            ConfigError: when the files hold no vocabulary or do not belong together.
        """
        if errors not in _ERRORS:
            raise ConfigError(f"errors of GPT2Tokenizer is expected to be one of {', '.join(_ERRORS)}, but is {errors!r}")
        if legacy and add_prefix_space:
            raise ConfigError("legacy=True of GPT2Tokenizer adds a space by itself; give it without add_prefix_space")
        engine = Tokenizer(read_bpe(vocab_file, find_merges(vocab_file, merges_file)))
        if legacy:
            # What Python's str.strip takes for white space: U+001C to U+001F are not in the engine's class.
            blank = r"[\s\x{1c}-\x{1f}]+"
            edges = normalizers.Replace(Regex(rf"\A{blank}|{blank}\z"), "")
            engine.normalizer = normalizers.Sequence([edges, normalizers.Prepend(" ")])
        engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
        engine.post_processor = processors.TemplateProcessing(single="$A", pair="$A:0 $B:1")
        engine.decoder = decoders.ByteLevel()
        self._errors = errors
        self._legacy = legacy
        super().__init__(
            engine,
            settings={"errors": errors, "add_prefix_space": add_prefix_space, "legacy": legacy},
            unk_token=unk_token,
            bos_token=bos_token,
            eos_token=eos_token,
            **kwargs,
        )

    @classmethod
    def settings_names(cls) -> tuple[str, ...]:
        """Return the arguments that tokenizer_config.json keeps."""
        return ("errors", "add_prefix_space", "legacy")

    def tokenize(self, text: str, add_prefix_space: bool = False) -> list[str]:
        """Return the tokens of a text; `add_prefix_space` is as in the constructor, for this call."""
        return self._prefixing().tokenize(text) if add_prefix_space else super().tokenize(text)

    def encode(self, text: Any, text_pair: Any = None, add_special_tokens: bool = True, **kwargs: Any) -> Any:
        """Return the ids of a text or pair; `add_prefix_space` is as in the constructor, for this call."""
        if kwargs.pop("add_prefix_space", False):
            return self._prefixing().encode(text, text_pair, add_special_tokens, **kwargs)
        return super().encode(text, text_pair, add_special_tokens, **kwargs)

    def _prefixing(self) -> GPT2Tokenizer:
        """Return this tokenizer with `add_prefix_space`, for one call. It shares the vocabulary."""
        if self._legacy:  # adds a space by itself
            return self
        own = self._engine
        assert isinstance(own, Tokenizer)
        engine = Tokenizer(own.model)
        engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        engine.post_processor, engine.decoder = own.post_processor, own.decoder
        for _, token in sorted(own.get_added_tokens_decoder().items()):
            engine.add_tokens([token])
        other = copy(self)
        other._engine = engine
        return other

    def _add(self, token: str | AddedToken, special: bool) -> None:
        if self._legacy and isinstance(token, str):  # found before the text between them is stripped
            token = AddedToken(token, normalized=False, special=special)
        super()._add(token, special)

    def _text_of(self, ids: list[int], skip_special_tokens: bool) -> str:
        added = self._engine.get_added_tokens_decoder()
        # The engine takes a letter of an added token for the byte that it stands for elsewhere.
        mistaken = any(not token.content.isascii() and set(token.content) <= _BYTES.keys() for token in added.values())
        if self._errors == "replace" and not mistaken:
            return super()._text_of(ids, skip_special_tokens)
        kept = (number for number in ids if not (skip_special_tokens and number in added and added[number].special))
        return self.convert_tokens_to_string(
            token for number in kept if (token := self._engine.id_to_token(number)) is not None
        )

    def convert_tokens_to_string(self, tokens: Iterable[str]) -> str:
        """Return the text of tokens, known or not, as it is before any clean-up.

        Raises:
            UnicodeDecodeError: for bytes that are no UTF-8, with `errors="strict"`.
        """
        added = self.get_added_vocab()
        data = b""
        for token in tokens:
            is_text = token in added or not set(token) <= _BYTES.keys()
            data += token.encode() if is_text else bytes(_BYTES[character] for character in token)
        return data.decode(errors=self._errors)


def _bytes_of_characters() -> dict[str, int]:
    """Return the byte that each character of a token stands for: printable ones themselves, the others from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + number): byte for number, byte in enumerate(others)}


_BYTES = _bytes_of_characters()
