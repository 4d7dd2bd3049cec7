"""What the configurations of OpenAI GPT and GPT-2 have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from registry.pretrained.config import PretrainedConfig

__all__ = ["CausalConfig"]


@dataclass(kw_only=True)
class CausalConfig(PretrainedConfig):
    """Sizes and rates of a decoder that reads from left to right, under the names of OpenAI's code."""

    aliases: ClassVar[dict[str, str]] = {
        "hidden_size": "n_embd",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
        "max_position_embeddings": "n_positions",
    }

    num_labels: int = 1
    vocab_size: int = 50257
    #: The longest sequence, in tokens.
    n_positions: int = 1024
    #: The side of the causal mask that older programs store; nothing here depends on it. None takes `n_positions`.
    n_ctx: int | None = None
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    #: Standard deviation of new weights.
    initializer_range: float = 0.02
    #: Which position the multiple choice head reads: `cls_index` (given by `mc_token_ids`), `last`, `first` or `mean`.
    summary_type: str = "cls_index"
    #: Whether that head projects what it reads, to `num_labels` or, without the next field, to `n_embd`.
    summary_use_proj: bool = True
    summary_proj_to_labels: bool = True
    #: Activation after the projection, see `registry.pretrained.layers.ACTIVATIONS`; None for none.
    summary_activation: str | None = None
    #: Dropout before the projection.
    summary_first_dropout: float = 0.1
    #: Whether the output of the language model head shares the input embedding.
    tie_word_embeddings: bool = True
    bos_token_id: int | None = None
    #: What ends a generated text; None for nothing.
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None

    def __post_init__(self) -> None:
        if self.n_ctx is None:
            self.n_ctx = self.n_positions
        super().__post_init__()

    def validate(self) -> None:
        """Refuse what this implementation would compute wrongly or not at all."""
        from registry.pretrained.layers import ACTIVATIONS

        for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head"):
            self.require(getattr(self, name) > 0, name, "positive")
        self.require(self.n_embd % self.n_head == 0, "n_embd", f"a multiple of n_head, {self.n_head}")
        kinds = ("cls_index", "last", "first", "mean")
        self.require(self.summary_type in kinds, "summary_type", f"one of {', '.join(kinds)}")
        known = self.summary_activation is None or self.summary_activation in ACTIVATIONS
        self.require(known, "summary_activation", f"None or one of {', '.join(ACTIVATIONS)}")
