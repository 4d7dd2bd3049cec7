"""The configuration of RoBERTa."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from registry_bert import BertConfig

__all__ = ["RobertaConfig"]


@dataclass(kw_only=True)
class RobertaConfig(BertConfig):
    """BERT's sizes and rates with the values of `roberta-base`."""

    model_type: ClassVar[str] = "roberta"

    vocab_size: int = 50265
    #: Rows of the table of positions: the longest sequence, and the rows up to and including that of padding.
    max_position_embeddings: int = 514
    type_vocab_size: int = 1
    layer_norm_eps: float = 1e-5
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2

    def validate(self) -> None:
        """Refuse what this implementation would compute wrongly or not at all."""
        super().validate()
        self.require(self.pad_token_id is not None, "pad_token_id", "given, because positions count from it")
        self.require(self.longest > 0, "max_position_embeddings", f"more than pad_token_id + 1, {self.first_position}")

    @property
    def first_position(self) -> int:
        """The row of the first token's position."""
        return (self.pad_token_id or 0) + 1

    @property
    def longest(self) -> int:
        """The longest sequence, in tokens."""
        return self.max_position_embeddings - self.first_position
