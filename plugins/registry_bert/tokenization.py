"""BERT's tokenizer: basic splitting, then WordPiece (arXiv:1609.08144) by greedy longest match."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from registry.base.files import write_saved
from registry.base.json_file import read_json
from registry.base.names import user_path
from registry.errors import ConfigError
from registry.pretrained import PreTrainedTokenizer
from registry.pretrained.token_vocabulary import check_vocabulary, read_lines

__all__ = ["BertTokenizer"]

_LONGEST_WORD = 100  # characters; a longer word is unknown


class BertTokenizer(PreTrainedTokenizer):
    """WordPiece over a `vocab.txt`: one token a line, its number the id."""

    vocab_files_names = {"vocab_file": "vocab.txt"}  # noqa: RUF012  # a class attribute by design

    def __init__(
        self,
        vocab_file: str | os.PathLike[str],
        do_lower_case: bool = True,
        do_basic_tokenize: bool = True,
        never_split: Sequence[str] | None = None,
        unk_token: str | AddedToken = "[UNK]",
        sep_token: str | AddedToken = "[SEP]",
        pad_token: str | AddedToken = "[PAD]",
        cls_token: str | AddedToken = "[CLS]",
        mask_token: str | AddedToken = "[MASK]",
        tokenize_chinese_chars: bool = True,
        strip_accents: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """Build from a vocabulary.

        Args:
            vocab_file: a `vocab.txt` under any name, or a `tokenizer.json` that holds a WordPiece vocabulary.
            do_lower_case: whether to lower-case, and with it to strip accents.
            do_basic_tokenize: whether to clean text and split punctuation; otherwise only white space splits.
            never_split: tokens of the vocabulary that are matched as they stand.
            unk_token: stands for what the vocabulary cannot spell.
            sep_token: ends each text.
            pad_token: fills up a batch.
            cls_token: begins a text.
            mask_token: hides a word.
            tokenize_chinese_chars: whether each CJK character is a word.
            strip_accents: whether to strip accents; None does as `do_lower_case` says.
            kwargs: as in `PreTrainedTokenizer`.

        Raises:
            ConfigError: when the file holds no vocabulary, or one without `unk_token`, `cls_token` or `sep_token`.
        """
        vocabulary = _read_vocabulary(Path(vocab_file))
        if str(unk_token) not in vocabulary:
            raise ConfigError(
                f"vocabulary {str(vocab_file)!r} is expected to hold {str(unk_token)!r}, but does not; is it of another model?"
            )
        try:
            model = models.WordPiece(vocabulary, unk_token=str(unk_token), max_input_chars_per_word=_LONGEST_WORD)
        except Exception as error:  # the engine raises bare Exceptions
            raise ConfigError(f"vocabulary {str(vocab_file)!r} is expected to hold tokens, but: {error}") from error
        engine = Tokenizer(model)
        if do_basic_tokenize:
            engine.normalizer = normalizers.BertNormalizer(
                clean_text=True,
                handle_chinese_chars=tokenize_chinese_chars,
                strip_accents=strip_accents,
                lowercase=do_lower_case,
            )
            engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        else:
            # What Python's str.split takes for white space: U+001C to U+001F are not in the engine's class.
            engine.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\x{1c}-\x{1f}]+"), "removed")
        engine.decoder = decoders.WordPiece(prefix="##", cleanup=False)
        if absent := [token for token in never_split or () if token not in vocabulary]:
            raise ConfigError(f"never_split is expected to list tokens of the vocabulary, but {absent[0]!r} is not one")
        engine.add_tokens([AddedToken(token, normalized=False, special=False) for token in never_split or ()])
        super().__init__(
            engine,
            settings={
                "do_lower_case": do_lower_case,
                "do_basic_tokenize": do_basic_tokenize,
                "never_split": list(never_split) if never_split else None,
                "tokenize_chinese_chars": tokenize_chinese_chars,
                "strip_accents": strip_accents,
            },
            unk_token=unk_token,
            sep_token=sep_token,
            pad_token=pad_token,
            cls_token=cls_token,
            mask_token=mask_token,
            **kwargs,
        )
        for token in (self.cls_token, self.sep_token):
            if self._engine.token_to_id(token) is None:
                raise ConfigError(
                    f"vocabulary {str(vocab_file)!r} is expected to hold {token!r}, but does not; is it of another model?"
                )
        self._refresh()

    def _refresh(self) -> None:
        """Put the tokens around a text that are set now, and take the unknown one that is set."""
        cls, sep, unknown = self.cls_token, self.sep_token, self.unk_token
        assert isinstance(self._engine, Tokenizer)
        model = self._engine.model
        for name, token in (("cls_token", cls), ("sep_token", sep), ("unk_token", unknown)):
            if token is None or (name == "unk_token" and model.token_to_id(token) is None):
                raise ConfigError(f"{name} of BertTokenizer is expected to be a token of its vocabulary, but is {token!r}")
        model.unk_token = unknown
        around = {"C": (cls, self.cls_token_id), "S": (sep, self.sep_token_id)}  # a token may have letters of the template
        self._engine.post_processor = processors.TemplateProcessing(
            single="C $A S",
            pair="C:0 $A:0 S:0 $B:1 S:1",
            special_tokens=[{"id": name, "ids": [number], "tokens": [token]} for name, (token, number) in around.items()],
        )

    @classmethod
    def settings_names(cls) -> tuple[str, ...]:
        """Return the arguments that tokenizer_config.json keeps."""
        return ("do_lower_case", "do_basic_tokenize", "never_split", "tokenize_chinese_chars", "strip_accents")

    def build_inputs_with_special_tokens(self, ids: Sequence[int], pair_ids: Sequence[int] | None = None) -> list[int]:
        """Return `[CLS] A [SEP]`, or `[CLS] A [SEP] B [SEP]`."""
        cls, sep = self.cls_token_id, self.sep_token_id
        return [cls, *ids, sep] if pair_ids is None else [cls, *ids, sep, *pair_ids, sep]

    def create_token_type_ids_from_sequences(self, ids: Sequence[int], pair_ids: Sequence[int] | None = None) -> list[int]:
        """Return 0 up to and including the first `[SEP]`, then 1."""
        return [0] * (len(ids) + 2) + ([] if pair_ids is None else [1] * (len(pair_ids) + 1))

    def save_vocabulary(self, vocab_path: str | os.PathLike[str]) -> tuple[str]:
        """Write the vocabulary, one token a line in the order of ids, to `vocab_path` or to `vocab.txt` in that folder."""
        target = user_path(vocab_path)
        if os.path.isdir(target):  # noqa: PTH112  # Path.is_dir raises for a name that is too long
            target /= self.vocab_files_names["vocab_file"]
        if broken := [token for token in self.vocab if "\n" in token or token.endswith("\r")]:
            raise ConfigError(f"tokens of {str(target)!r} are expected to be lines, but {broken[0]!r} is more than one")
        write_saved(target, "".join(f"{token}\n" for token in self.vocab))
        return (str(target),)


def _read_vocabulary(path: Path) -> dict[str, int]:
    """Return token to id. Where a line stands twice, the last one counts, as it always did."""
    lines = read_lines(path, "vocabulary")
    if lines and lines[0].startswith("{"):
        model = read_json(path).get("model")
        if not isinstance(model, dict) or model.get("type") != "WordPiece":
            raise ConfigError(f"file {str(path)!r} is expected to hold a WordPiece vocabulary, but does not")
        return check_vocabulary(model.get("vocab"), f"model.vocab of {str(path)!r}")
    return check_vocabulary({line: number for number, line in enumerate(lines)}, f"vocabulary {str(path)!r}")
