"""OpenAI GPT: Improving Language Understanding by Generative Pre-Training (Radford and others, 2018), with its two heads.

Shapes: N rows of the flattened batch, S sequence, T sequence with its past, E width, A heads, D = E / A.
"""

from __future__ import annotations

from torch import Tensor, nn

from registry.pretrained.causal_layers import CausalAttention, FeedForward, KeyValueCache
from registry.pretrained.causal_model import CausalDoubleHeadsModel, CausalLMHeadModel, CausalModel, CausalPreTrainedModel
from registry.pretrained.layers import ACTIVATIONS, Embedding, LayerNorm
from registry_gpt.config import ACTIVATION_NAMES, OpenAIGPTConfig

__all__ = ["OpenAIGPTDoubleHeadsModel", "OpenAIGPTLMHeadModel", "OpenAIGPTModel", "OpenAIGPTPreTrainedModel"]


class OpenAIGPTBlock(nn.Module):
    """Attention, then feed-forward; what each adds is normalised together with its input."""

    def __init__(self, config: OpenAIGPTConfig, layer: int) -> None:
        super().__init__()
        self.attn = CausalAttention(config, layer)
        self.ln_1 = LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = FeedForward(config, 4 * config.n_embd, ACTIVATIONS[ACTIVATION_NAMES[config.afn]])
        self.ln_2 = LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)

    def forward(
        self,
        hidden: Tensor,
        keep: Tensor | None,
        past: Tensor | KeyValueCache | None,
        head_mask: Tensor | None,
        need_weights: bool,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return (N, S, E), keys and values so far (2, N, A, T, D), and the attention weights, if asked for."""
        attended, present, weights = self.attn(hidden, keep, past, head_mask, need_weights)
        hidden = self.ln_1(hidden + attended)
        return self.ln_2(hidden + self.mlp(hidden)), present, weights


class OpenAIGPTPreTrainedModel(CausalPreTrainedModel):
    """What every class of the family shares; the base of a head of one's own."""

    config_class = OpenAIGPTConfig
    config: OpenAIGPTConfig


class OpenAIGPTModel(CausalModel, OpenAIGPTPreTrainedModel):
    """The bare decoder: learned positions and blocks."""

    config_class = OpenAIGPTConfig
    embedding_names = ("tokens_embed", "positions_embed")
    restores_attentions = False

    def __init__(self, config: OpenAIGPTConfig) -> None:
        super().__init__(config)
        self.tokens_embed = Embedding(config.vocab_size, config.n_embd)
        self.positions_embed = Embedding(config.n_positions, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList(OpenAIGPTBlock(config, number) for number in range(config.n_layer))


class OpenAIGPTLMHeadModel(CausalLMHeadModel, OpenAIGPTPreTrainedModel):
    """OpenAI GPT as a language model."""

    config_class = OpenAIGPTConfig
    model_class = OpenAIGPTModel


class OpenAIGPTDoubleHeadsModel(CausalDoubleHeadsModel, OpenAIGPTPreTrainedModel):
    """OpenAI GPT as a language model that also picks one of several sequences."""

    config_class = OpenAIGPTConfig
    model_class = OpenAIGPTModel
