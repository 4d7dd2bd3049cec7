"""GPT-2: Language Models are Unsupervised Multitask Learners (Radford and others, 2019), with its two heads.

Shapes: N rows of the flattened batch, S sequence, T sequence with its past, E width, A heads, D = E / A.
"""

from __future__ import annotations

from torch import Tensor, nn

from registry.pretrained.causal_layers import CausalAttention, FeedForward, KeyValueCache
from registry.pretrained.causal_model import CausalDoubleHeadsModel, CausalLMHeadModel, CausalModel, CausalPreTrainedModel
from registry.pretrained.layers import ACTIVATIONS, Embedding, LayerNorm
from registry_gpt2.config import GPT2Config

__all__ = ["GPT2DoubleHeadsModel", "GPT2LMHeadModel", "GPT2Model", "GPT2PreTrainedModel"]


class GPT2Block(nn.Module):
    """Attention, then feed-forward; each reads the normalised stream and adds to it."""

    def __init__(self, config: GPT2Config, layer: int) -> None:
        super().__init__()
        width = 4 * config.n_embd if config.n_inner is None else config.n_inner
        self.ln_1 = LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = CausalAttention(config, layer)
        self.ln_2 = LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = FeedForward(config, width, ACTIVATIONS[config.activation_function])

    def forward(
        self,
        hidden: Tensor,
        keep: Tensor | None,
        past: Tensor | KeyValueCache | None,
        head_mask: Tensor | None,
        need_weights: bool,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return (N, S, E), keys and values so far (2, N, A, T, D), and the attention weights, if asked for."""
        attended, present, weights = self.attn(self.ln_1(hidden), keep, past, head_mask, need_weights)
        hidden = hidden + attended
        return hidden + self.mlp(self.ln_2(hidden)), present, weights


class GPT2PreTrainedModel(CausalPreTrainedModel):
    """What every class of the family shares; the base of a head of one's own."""

    config_class = GPT2Config
    config: GPT2Config


class GPT2Model(CausalModel, GPT2PreTrainedModel):
    """The bare decoder: learned positions, blocks, and a last layer norm."""

    config_class = GPT2Config
    embedding_names = ("wte", "wpe")
    config: GPT2Config

    def __init__(self, config: GPT2Config) -> None:
        super().__init__(config)
        self.wte = Embedding(config.vocab_size, config.n_embd)
        self.wpe = Embedding(config.n_positions, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList(GPT2Block(config, number) for number in range(config.n_layer))
        self.ln_f = LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)

    def finish(self, hidden: Tensor) -> Tensor:
        """Normalise the stream."""
        normalized: Tensor = self.ln_f(hidden)
        return normalized

    def uses_cache(self) -> bool:
        """Return what the configuration says."""
        return self.config.use_cache


class GPT2LMHeadModel(CausalLMHeadModel, GPT2PreTrainedModel):
    """GPT-2 as a language model."""

    config_class = GPT2Config
    model_class = GPT2Model


class GPT2DoubleHeadsModel(CausalDoubleHeadsModel, GPT2PreTrainedModel):
    """GPT-2 as a language model that also picks one of several sequences."""

    config_class = GPT2Config
    model_class = GPT2Model
