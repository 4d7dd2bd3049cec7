"""What `PreTrainedTokenizer` needs of an engine: a part of what `tokenizers.Tokenizer` and its `Encoding` offer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from tokenizers import AddedToken

__all__ = ["Engine", "TextEncoding"]


class TextEncoding(Protocol):
    """An encoded text, one value a token."""

    def __len__(self) -> int:
        """Return the number of tokens, without making a list of them."""

    @property
    def ids(self) -> list[int]:
        """The ids."""

    @property
    def tokens(self) -> list[str]:
        """The tokens."""

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """Begin and end in the text, in characters."""

    @property
    def type_ids(self) -> list[int]:
        """Which of a pair each token is of."""

    @property
    def attention_mask(self) -> list[int]:
        """1 for tokens."""

    @property
    def special_tokens_mask(self) -> list[int]:
        """1 for what the family put around a text."""

    @property
    def overflowing(self) -> Sequence[TextEncoding]:
        """The further windows over the text, where it was cut."""

    def truncate(self, max_length: int, stride: int = 0, direction: str = "right") -> None:
        """Keep `max_length` tokens, and what is cut as further windows, each with `stride` tokens of the one before."""


class Engine(Protocol):
    """Splits text into tokens of a vocabulary."""

    def get_vocab(self, with_added_tokens: bool = True) -> dict[str, int]:
        """Return token to id."""

    def get_vocab_size(self, with_added_tokens: bool = True) -> int:
        """Return the number of tokens."""

    def get_added_tokens_decoder(self) -> dict[int, AddedToken]:
        """Return id to token of those that are matched whole."""

    def add_tokens(self, tokens: list[AddedToken]) -> int:
        """Match tokens whole, giving an id to those that have none; return how many got one."""

    def add_special_tokens(self, tokens: list[AddedToken]) -> int:
        """Do as `add_tokens`; decoding can skip these."""

    def token_to_id(self, token: str) -> int | None:
        """Return the id of a token, or None."""

    def id_to_token(self, id: int) -> str | None:
        """Return the token of an id, or None."""

    def encode(
        self, sequence: Any, pair: Any = None, *, is_pretokenized: bool = False, add_special_tokens: bool = True
    ) -> TextEncoding:
        """Return the encoding of a text or pair, each a str or a list of words."""

    def encode_batch(
        self, input: Any, *, is_pretokenized: bool = False, add_special_tokens: bool = True
    ) -> Sequence[TextEncoding]:
        """Return the encodings of several texts or pairs."""

    def encode_batch_fast(
        self, input: Any, *, is_pretokenized: bool = False, add_special_tokens: bool = True
    ) -> Sequence[TextEncoding]:
        """Do as `encode_batch`; tokens, offsets and words may be left out."""

    def post_process(self, encoding: Any, pair: Any = None, add_special_tokens: bool = True) -> TextEncoding:
        """Join the encodings of a pair, with special tokens."""

    def num_special_tokens_to_add(self, is_pair: bool) -> int:
        """Return how many special tokens stand around a text or pair."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Return the text of ids."""
