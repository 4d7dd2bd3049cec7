"""RoBERTa's tokenizer: GPT-2's byte pair encoding over bytes, with BERT's tokens around a text under other names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors

from registry import ConfigError
from registry.pretrained.bpe import BPETokenizer, FilePath, find_merges, read_bpe

__all__ = ["RobertaTokenizer"]


class RobertaTokenizer(BPETokenizer):
    """Splits text into words with the space before them, and words into pieces; white space is kept."""

    def __init__(
        self,
        vocab_file: FilePath,
        merges_file: FilePath | None = None,
        bos_token: str | AddedToken = "<s>",
        eos_token: str | AddedToken = "</s>",
        sep_token: str | AddedToken = "</s>",
        cls_token: str | AddedToken = "<s>",
        unk_token: str | AddedToken = "<unk>",
        pad_token: str | AddedToken = "<pad>",
        mask_token: str | AddedToken = "<mask>",
        add_prefix_space: bool = False,
        **kwargs: Any,
    ) -> None:
        """Build from a vocabulary.

        Args:
            vocab_file: a `vocab.json` under any name, or a `tokenizer.json`.
            merges_file: a `merges.txt` under any name; None finds the one that `save_vocabulary` wrote beside `vocab_file`.
            bos_token: begins a text; the same token as `cls_token`.
            eos_token: ends a text; the same token as `sep_token`.
            sep_token: ends each text; between two texts it stands twice.
            cls_token: begins the input.
            unk_token: stands for what the vocabulary cannot spell; nothing, in a complete vocabulary.
            pad_token: fills up a batch.
            mask_token: hides a word, and takes the space before it along.
            add_prefix_space: put a space before a text that has none, so that its first word is like any other.
            kwargs: as in `PreTrainedTokenizer`.

        Raises:
            ConfigError: when the files hold no vocabulary, or one without `cls_token` or `sep_token`.
        """
        engine = Tokenizer(read_bpe(vocab_file, find_merges(vocab_file, merges_file)))
        for token in (str(cls_token), str(sep_token)):
            if engine.token_to_id(token) is None:
                raise ConfigError(f"vocabulary {str(vocab_file)!r} is expected to hold {token!r}, but does not; is it GPT-2's?")
        engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
        engine.post_processor = processors.RobertaProcessing(
            (str(sep_token), engine.token_to_id(str(sep_token))),
            (str(cls_token), engine.token_to_id(str(cls_token))),
            trim_offsets=True,
            add_prefix_space=add_prefix_space,
        )
        engine.decoder = decoders.ByteLevel()
        if isinstance(mask_token, str) and engine.token_to_id(mask_token) is not None:
            mask_token = AddedToken(mask_token, lstrip=True, normalized=False, special=True)
        super().__init__(
            engine,
            settings={"add_prefix_space": add_prefix_space},
            bos_token=bos_token,
            eos_token=eos_token,
            sep_token=sep_token,
            cls_token=cls_token,
            unk_token=unk_token,
            pad_token=pad_token,
            mask_token=mask_token,
            **kwargs,
        )

    @classmethod
    def settings_names(cls) -> tuple[str, ...]:
        """Return the arguments that tokenizer_config.json keeps."""
        return ("add_prefix_space",)

    def build_inputs_with_special_tokens(self, ids: Sequence[int], pair_ids: Sequence[int] | None = None) -> list[int]:
        """Return `<s> A </s>`, or `<s> A </s></s> B </s>`."""
        cls, sep = self.cls_token_id, self.sep_token_id
        return [cls, *ids, sep] if pair_ids is None else [cls, *ids, sep, sep, *pair_ids, sep]
