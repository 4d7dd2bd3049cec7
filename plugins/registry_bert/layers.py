"""The parts of BERT, named as its published weights are (arXiv:1810.04805, section 3).

Shapes: B batch, S sequence, H hidden size, A heads, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from registry.pretrained.kernels import linear
from registry.pretrained.layers import ACTIVATIONS, Embedding, LayerNorm, Linear, attend, prune_linear, remaining_heads
from registry_bert.config import BertConfig

__all__ = ["BertAttention", "BertEmbeddings", "BertEncoder", "BertHeads", "BertPooler", "BertPredictions"]


class BertEmbeddings(nn.Module):
    """The sum of word, position and segment embeddings, normalised."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        padding = config.pad_token_id
        self.word_embeddings = Embedding(config.vocab_size, config.hidden_size, padding_idx=padding)
        self.position_embeddings = Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, words: Tensor, token_type_ids: Tensor | None, position_ids: Tensor | None) -> Tensor:
        """Add positions and segments to embedded words (B, S, H)."""
        length, limit = words.shape[1], self.position_embeddings.num_embeddings
        if length > limit:
            raise ValueError(f"a sequence is expected to have at most {limit} tokens, but has {length}; truncate it")
        table = self.position_embeddings
        positions = table.weight[:length] if position_ids is None else table(position_ids)
        table = self.token_type_embeddings
        types = table.weight[0] if token_type_ids is None else table(token_type_ids)
        summed: Tensor = self.dropout(self.LayerNorm(words + types + positions))
        return summed


class BertSelfAttention(nn.Module):
    """Multi-head attention before its output projection."""

    def __init__(self, config: BertConfig, heads: int) -> None:
        super().__init__()
        self.head_size = config.hidden_size // config.num_attention_heads
        self.dropout = config.attention_probs_dropout_prob
        self.query = Linear(config.hidden_size, heads * self.head_size)
        self.key = Linear(config.hidden_size, heads * self.head_size)
        self.value = Linear(config.hidden_size, heads * self.head_size)

    def forward(
        self, hidden: Tensor, keep: Tensor | None, head_mask: Tensor | None, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return (B, S, A * head size), and the weights (B, A, S, S) when they are asked for."""

        def split(projection: nn.Module) -> Tensor:  # (B, S, A * head size) -> (B, A, S, head size)
            batch, length, _ = hidden.shape
            projected: Tensor = projection(hidden)
            return projected.view(batch, length, projected.shape[-1] // self.head_size, self.head_size).transpose(1, 2)

        result, weights = attend(
            split(self.query),
            split(self.key),
            split(self.value),
            keep,
            dropout=self.dropout if self.training else 0.0,
            head_mask=head_mask,
            need_weights=need_weights,
        )
        return result.transpose(1, 2).flatten(2), weights


class BertResidual(nn.Module):
    """Project, drop out, add the input, normalise: how both halves of a layer end."""

    def __init__(self, config: BertConfig, in_features: int) -> None:
        super().__init__()
        self.dense = Linear(in_features, config.hidden_size)
        self.LayerNorm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """Map (B, S, in) and (B, S, H) to (B, S, H)."""
        normalized: Tensor = self.LayerNorm(self.dropout(self.dense(x)) + residual)
        return normalized


class BertAttention(nn.Module):
    """Self-attention with its output projection; the unit that pruning works on."""

    def __init__(self, config: BertConfig, layer: int) -> None:
        super().__init__()
        heads = remaining_heads(config.num_attention_heads, config.pruned_heads.get(layer, ()))
        self.heads = heads  # original numbers of those that are left
        self.self = BertSelfAttention(config, len(heads))
        self.output = BertResidual(config, len(heads) * (config.hidden_size // config.num_attention_heads))

    def forward(
        self, hidden: Tensor, keep: Tensor | None, head_mask: Tensor | None, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return (B, S, H) and the weights, if asked for."""
        if head_mask is not None and head_mask.shape[1] != len(self.heads):
            head_mask = head_mask[:, self.heads]
        result, weights = self.self(hidden, keep, head_mask, need_weights)
        return self.output(result, hidden), weights

    def prune(self, gone: Sequence[int]) -> None:
        """Cut heads by their original numbers."""
        attention: BertSelfAttention = self.self
        kept = [index for index, head in enumerate(self.heads) if head not in gone]
        rows = torch.cat([torch.arange(attention.head_size) + index * attention.head_size for index in kept])
        for projection in (attention.query, attention.key, attention.value):
            prune_linear(projection, rows, dim=0)
        prune_linear(self.output.dense, rows, dim=1)
        self.heads = [self.heads[index] for index in kept]


class BertIntermediate(nn.Module):
    """The widening half of the feed-forward part."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, S, H) to (B, S, intermediate)."""
        return self.activation(self.dense(hidden))


class BertLayer(nn.Module):
    """One encoder layer: attention, then feed-forward, each followed by a layer norm."""

    def __init__(self, config: BertConfig, layer: int) -> None:
        super().__init__()
        self.attention = BertAttention(config, layer)
        self.intermediate = BertIntermediate(config)
        self.output = BertResidual(config, config.intermediate_size)

    def forward(
        self, hidden: Tensor, keep: Tensor | None, head_mask: Tensor | None, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return (B, S, H) and the attention weights, if asked for."""
        attended, weights = self.attention(hidden, keep, head_mask, need_weights)
        return self.output(self.intermediate(attended), attended), weights


class BertEncoder(nn.Module):
    """The stack of layers."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(BertLayer(config, number) for number in range(config.num_hidden_layers))


class BertPooler(nn.Module):
    """The first token's hidden state, mapped for whole-sequence heads."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, S, H) to (B, H)."""
        return torch.tanh(self.dense(hidden[:, 0]))


class BertTransform(nn.Module):
    """The last layer before the vocabulary."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.activation = ACTIVATIONS[config.hidden_act]
        self.LayerNorm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, S, H) to (B, S, H)."""
        normalized: Tensor = self.LayerNorm(self.activation(self.dense(hidden)))
        return normalized


class BertPredictions(nn.Module):
    """Scores over the vocabulary; `decoder.weight` is the word embedding, the bias is its own."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.transform = BertTransform(config)
        self.decoder = Linear(config.hidden_size, config.vocab_size, bias=False)
        self.bias = nn.Parameter(torch.empty(config.vocab_size))

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, S, H) to (B, S, V)."""
        return linear(self.transform(hidden), self.decoder.weight, self.bias)


class BertHeads(nn.Module):
    """The pretraining heads, of which a class has one or both."""

    def __init__(self, config: BertConfig, *, predictions: bool, relationship: bool) -> None:
        super().__init__()
        if predictions:
            self.predictions = BertPredictions(config)
        if relationship:
            self.seq_relationship = Linear(config.hidden_size, 2)
