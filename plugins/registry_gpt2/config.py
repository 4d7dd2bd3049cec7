"""The configuration of GPT-2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from registry.pretrained.causal_config import CausalConfig

__all__ = ["GPT2Config"]


@dataclass(kw_only=True)
class GPT2Config(CausalConfig):
    """Sizes and rates of GPT-2; the defaults are those of `gpt2`."""

    model_type: ClassVar[str] = "gpt2"
    aliases: ClassVar[dict[str, str]] = {**CausalConfig.aliases, "output_past": "use_cache", "n_vocab": "vocab_size"}

    #: Name of the activation, see `registry.pretrained.layers.ACTIVATIONS`.
    activation_function: str = "gelu_new"
    #: The width of the feed-forward part; None for four times `n_embd`.
    n_inner: int | None = None
    #: Whether keys and values are returned.
    use_cache: bool = True
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    add_cross_attention: bool = False

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build from the content of a config.json, or of OpenAI's `hparams.json`, where `n_ctx` is the only length."""
        if "n_ctx" in data and data.keys().isdisjoint(("n_positions", "max_position_embeddings")):
            data = {**data, "n_positions": data["n_ctx"]}
        return super().from_dict(data)

    def validate(self) -> None:
        """Refuse what this implementation would compute wrongly or not at all."""
        from registry.pretrained.layers import ACTIVATIONS

        super().validate()
        self.require(self.n_inner is None or self.n_inner > 0, "n_inner", "None or positive")
        self.require(self.activation_function in ACTIVATIONS, "activation_function", f"one of {', '.join(ACTIVATIONS)}")
        self.require(self.scale_attn_weights, "scale_attn_weights", "True")
        self.require(not self.scale_attn_by_inverse_layer_idx, "scale_attn_by_inverse_layer_idx", "False")
        self.require(not self.add_cross_attention, "add_cross_attention", "False")
