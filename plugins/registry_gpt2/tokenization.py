"""GPT-2's tokenizer: byte pair encoding over bytes, so that every text has tokens and tokens have the text back."""

from __future__ import annotations

from collections.abc import Sequence
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
        unk_token: str = _END,
        bos_token: str = _END,
        eos_token: str = _END,
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
        engine.post_processor = processors.ByteLevel(trim_offsets=False)
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
        return super().tokenize(_with_space(text) if add_prefix_space else text)

    def encode(self, text: Any, text_pair: Any = None, add_special_tokens: bool = True, **kwargs: Any) -> Any:
        """Return the ids of a text or pair; `add_prefix_space` is as in the constructor, for this call."""
        if kwargs.pop("add_prefix_space", False):
            text, text_pair = _with_space(text), _with_space(text_pair)
        return super().encode(text, text_pair, add_special_tokens, **kwargs)

    def add_tokens(self, new_tokens: str | Sequence[str | AddedToken], special_tokens: bool = False) -> int:
        """Add tokens that the vocabulary does not have; return how many. Then resize the model's embeddings."""
        if self._legacy:  # found before the text between them is stripped
            tokens = [new_tokens] if isinstance(new_tokens, str | AddedToken) else new_tokens
            new_tokens = [
                AddedToken(token, normalized=False, special=special_tokens) if isinstance(token, str) else token
                for token in tokens
            ]
        return super().add_tokens(new_tokens, special_tokens)

    def decode(self, token_ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool = True) -> str:
        """Return the text of ids; arguments as in `PreTrainedTokenizer.decode`.

        Raises:
            UnicodeDecodeError: for bytes that are no UTF-8, with `errors="strict"`.
        """
        added = {token.content for token in self._engine.get_added_tokens_decoder().values()}
        # The engine takes a letter of an added token for the byte that it stands for elsewhere.
        mistaken = any(not token.isascii() and set(token) <= _BYTES.keys() for token in added)
        if self._errors == "replace" and not mistaken:
            return super().decode(token_ids, skip_special_tokens, clean_up_tokenization_spaces)
        data = b""
        for token in self.convert_ids_to_tokens(token_ids, skip_special_tokens):
            if token is not None:
                data += token.encode() if token in added else bytes(_BYTES[character] for character in token)
        text = data.decode(errors=self._errors)
        return self.clean_up_tokenization(text) if clean_up_tokenization_spaces else text


def _with_space(text: Any) -> Any:
    """Put a space before a text that begins without white space; lists of tokens or ids stay."""
    return f" {text}" if isinstance(text, str) and text and not text[0].isspace() else text


def _bytes_of_characters() -> dict[str, int]:
    """Return the byte that each character of a token stands for: printable ones themselves, the others from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + number): byte for number, byte in enumerate(others)}


_BYTES = _bytes_of_characters()
