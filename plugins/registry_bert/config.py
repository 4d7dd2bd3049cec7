"""The configuration of BERT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from registry.pretrained import PretrainedConfig

__all__ = ["BertConfig"]


@dataclass(kw_only=True)
class BertConfig(PretrainedConfig):
    """Sizes and rates of BERT; the defaults are those of `bert-base-uncased`."""

    model_type: ClassVar[str] = "bert"

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    #: Name of the activation, see `registry.pretrained.layers.ACTIVATIONS`.
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    #: The longest sequence, in tokens.
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    #: Standard deviation of new weights.
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    #: Dropout before a classifier; None takes `hidden_dropout_prob`.
    classifier_dropout: float | None = None
    #: Whether the output of the language model head shares the input embedding.
    tie_word_embeddings: bool = True
    position_embedding_type: str = "absolute"
    is_decoder: bool = False

    def validate(self) -> None:
        """Refuse what this implementation would compute wrongly or not at all."""
        from registry.pretrained.layers import ACTIVATIONS

        for name in (
            "vocab_size",
            "hidden_size",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
            "type_vocab_size",
        ):
            self.require(getattr(self, name) > 0, name, "positive")
        self.require(
            self.hidden_size % self.num_attention_heads == 0,
            "hidden_size",
            f"a multiple of num_attention_heads, {self.num_attention_heads}",
        )
        padding = self.pad_token_id
        # A negative one counts from the end of the vocabulary, as in torch.
        exists = padding is None or -self.vocab_size <= padding < self.vocab_size
        self.require(exists, "pad_token_id", f"None or a token of the vocabulary, below vocab_size, {self.vocab_size}")
        self.require(self.hidden_act in ACTIVATIONS, "hidden_act", f"one of {', '.join(ACTIVATIONS)}")
        self.require(self.position_embedding_type == "absolute", "position_embedding_type", "'absolute'")
        self.require(not self.is_decoder, "is_decoder", "False, because BERT is an encoder here")
