"""BERT: Pre-training of Deep Bidirectional Transformers (arXiv:1810.04805), with its eight heads.

Shapes: B batch, S sequence, H hidden size, A heads, V vocabulary, C labels, K choices. Ids, positions and labels are
int64; every other tensor has the dtype of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry.pretrained import PreTrainedModel
from registry.pretrained.layers import (
    ACTIVATIONS,
    Embedding,
    LayerNorm,
    Linear,
    attend,
    check_pruning,
    head_masks,
    keep_mask,
    prune_linear,
    remaining_heads,
)
from registry.pretrained.losses import class_loss, classification_loss, masked_labels, span_loss
from registry.pretrained.outputs import BaseModelOutput, ClassifierOutput, PreTrainingOutput, QuestionAnsweringOutput
from registry_bert.config import BertConfig

__all__ = [
    "BertForMaskedLM",
    "BertForMultipleChoice",
    "BertForNextSentencePrediction",
    "BertForPreTraining",
    "BertForQuestionAnswering",
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "BertModel",
]


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
            return projected.view(batch, length, -1, self.head_size).transpose(1, 2)

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


class BertPreTrainedModel(PreTrainedModel):
    """What every BERT class shares."""

    config_class = BertConfig
    base_model_prefix = "bert"
    optional_weights = ("pooler.",)
    derivable_weights = ("embeddings.position_ids",)
    renamed_weights = {"cls.predictions.decoder.bias": "cls.predictions.bias"}  # noqa: RUF012  # a class attribute by design
    config: BertConfig

    def init_weights(self, module: nn.Module) -> None:
        """Initialise as the paper's code did: normal weights, zero biases."""
        super().init_weights(module)
        if isinstance(module, BertPredictions):
            module.bias.zero_()


class BertModel(BertPreTrainedModel):
    """The bare encoder."""

    def __init__(self, config: BertConfig, add_pooling_layer: bool = True) -> None:
        """With `add_pooling_layer=False` there is no `pooler`, as inside heads that do not use it."""
        super().__init__(config)
        self.embeddings = BertEmbeddings(config)
        self.encoder = BertEncoder(config)
        self.pooler = BertPooler(config) if add_pooling_layer else None

    def vocabulary_weights(self) -> tuple[str, ...]:
        """Return the word embedding's name."""
        return ("embeddings.word_embeddings.weight",)

    def prune_layer(self, layer: int, heads: list[int]) -> None:
        """Cut heads out of a layer.

        Raises:
            ValueError: when the layer or a head does not exist, or none would be left.
        """
        attentions: list[BertAttention] = [each.get_submodule("attention") for each in self.encoder.layer]  # type: ignore[misc]
        check_pruning(layer, heads, [attention.heads for attention in attentions])
        attentions[layer].prune(heads)

    def forward(
        self,
        input_ids: Tensor | None = None,
        *,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> BaseModelOutput:
        """Encode a batch.

        Args:
            input_ids: (B, S).
            attention_mask: nonzero for tokens that may be seen, any dtype: (B, S), (B, S, S) or (B, A, S, S).
            token_type_ids: (B, S), 0 for the first text of a pair and 1 for the second; zeros by default.
            position_ids: (B, S) or (S,); 0, 1, 2, … by default.
            head_mask: (A,) or (layers, A), factors of the attention weights by head.
            inputs_embeds: (B, S, H), instead of `input_ids`.
            output_attentions: return the attention weights of each layer, (B, A, S, S).
            output_hidden_states: return layers + 1 hidden states, (B, S, H).

        Returns:
            the last hidden state (B, S, H) and, with a pooling layer, (B, H).
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("either input_ids or inputs_embeds is expected, but both or neither were given")
        need_weights = self.config.output_attentions if output_attentions is None else output_attentions
        collect = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        words = self.embeddings.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        hidden = self.embeddings(words, token_type_ids, position_ids)
        keep = keep_mask(attention_mask)
        masks = head_masks(head_mask, self.config.num_hidden_layers, self.dtype)
        states: tuple[Tensor, ...] = (hidden,)
        attentions: tuple[Tensor, ...] = ()
        for layer, mask in zip(self.encoder.layer, masks, strict=True):
            hidden, weights = self.checkpointed(layer, hidden, keep, mask, need_weights)
            if collect:
                states = (*states, hidden)
            if need_weights:
                attentions = (*attentions, weights)
        return BaseModelOutput(
            last_hidden_state=hidden,
            pooler_output=None if self.pooler is None else self.pooler(hidden),
            hidden_states=states if collect else None,
            attentions=attentions if need_weights else None,
        )


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
        return F.linear(self.transform(hidden), self.decoder.weight, self.bias)


class BertHeads(nn.Module):
    """The pretraining heads, of which a class has one or both."""

    def __init__(self, config: BertConfig, *, predictions: bool, relationship: bool) -> None:
        super().__init__()
        if predictions:
            self.predictions = BertPredictions(config)
        if relationship:
            self.seq_relationship = Linear(config.hidden_size, 2)


class _WithPredictions(BertPreTrainedModel):
    """A class that has a language model head."""

    def tied_weights(self) -> dict[str, str]:
        """Return that the head's output weights are the word embedding."""
        main = "bert.embeddings.word_embeddings.weight"
        return {"cls.predictions.decoder.weight": main} if self.config.tie_word_embeddings else {}

    def vocabulary_weights(self) -> tuple[str, ...]:
        """Return the embedding, the head's weights and its bias."""
        return ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight", "cls.predictions.bias")


class _WithoutPredictions(BertPreTrainedModel):
    """A class whose only vocabulary is that of its encoder."""

    def vocabulary_weights(self) -> tuple[str, ...]:
        """Return the word embedding's name."""
        return ("bert.embeddings.word_embeddings.weight",)


class BertForPreTraining(_WithPredictions):
    """Both pretraining tasks: masked words and next sentence."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.bert = BertModel(config)
        self.cls = BertHeads(config, predictions=True, relationship=True)

    def forward(
        self,
        input_ids: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        next_sentence_label: Tensor | None = None,
        masked_lm_labels: Tensor | None = None,
        **inputs: Tensor | bool | None,
    ) -> PreTrainingOutput:
        """Score words and the pair; `inputs` are those of `BertModel.forward`.

        Args:
            input_ids: (B, S).
            labels: (B, S), the word at each position, -1 or -100 where there is nothing to learn.
            next_sentence_label: (B,), 0 when the second text follows the first, 1 when it is a random one.
            masked_lm_labels: 2019's name for `labels`.
            inputs: the other inputs.

        Returns:
            the loss when both labels are given, then (B, S, V) and (B, 2).
        """
        labels = masked_lm_labels if labels is None else labels
        encoded = self.bert(input_ids, **inputs)
        words = self.cls.predictions(encoded.last_hidden_state)
        follows = self.cls.seq_relationship(encoded.pooler_output)
        loss = None
        if labels is not None and next_sentence_label is not None:
            loss = class_loss(words, labels) + class_loss(follows, next_sentence_label)
        return PreTrainingOutput(loss, words, follows, encoded.hidden_states, encoded.attentions)


class BertForMaskedLM(_WithPredictions):
    """Predicts masked words."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.cls = BertHeads(config, predictions=True, relationship=False)

    def forward(
        self,
        input_ids: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        masked_lm_labels: Tensor | None = None,
        **inputs: Tensor | bool | None,
    ) -> ClassifierOutput:
        """Score words: logits (B, S, V); arguments as in `BertForPreTraining.forward`."""
        labels = masked_lm_labels if labels is None else labels
        encoded = self.bert(input_ids, **inputs)
        logits = self.cls.predictions(encoded.last_hidden_state)
        loss = None if labels is None else class_loss(logits, labels)
        return ClassifierOutput(loss, logits, encoded.hidden_states, encoded.attentions)


class BertForNextSentencePrediction(_WithoutPredictions):
    """Tells whether the second text of a pair follows the first."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.bert = BertModel(config)
        self.cls = BertHeads(config, predictions=False, relationship=True)

    def forward(
        self,
        input_ids: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        next_sentence_label: Tensor | None = None,
        **inputs: Tensor | bool | None,
    ) -> ClassifierOutput:
        """Score a pair: logits (B, 2), first for "follows".

        Args:
            input_ids: (B, S).
            labels: (B,), 0 when the second text follows the first, 1 when it is a random one.
            next_sentence_label: 2019's name for `labels`.
            inputs: the other inputs of `BertModel.forward`.
        """
        labels = next_sentence_label if labels is None else labels
        encoded = self.bert(input_ids, **inputs)
        logits = self.cls.seq_relationship(encoded.pooler_output)
        loss = None if labels is None else class_loss(logits, labels)
        return ClassifierOutput(loss, logits, encoded.hidden_states, encoded.attentions)


class _WithClassifier(_WithoutPredictions):
    """A class with dropout and one linear layer on top."""

    def __init__(self, config: BertConfig, num_labels: int | None = None, *, pooled: bool, outputs: int | None = None) -> None:
        if num_labels is not None:
            config = config.replace(num_labels=num_labels)
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=pooled)
        rate = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        self.dropout = nn.Dropout(rate)
        self.classifier = Linear(config.hidden_size, config.num_labels if outputs is None else outputs)


class BertForSequenceClassification(_WithClassifier):
    """Labels a text or pair; with one label it predicts a number."""

    def __init__(self, config: BertConfig, num_labels: int | None = None) -> None:
        super().__init__(config, num_labels, pooled=True)

    def forward(
        self, input_ids: Tensor | None = None, *, labels: Tensor | None = None, **inputs: Tensor | bool | None
    ) -> ClassifierOutput:
        """Score labels: logits (B, C).

        Args:
            input_ids: (B, S).
            labels: (B,), int64 classes, or numbers when there is one label.
            inputs: the other inputs of `BertModel.forward`.
        """
        encoded = self.bert(input_ids, **inputs)
        logits = self.classifier(self.dropout(encoded.pooler_output))
        loss = None if labels is None else classification_loss(logits, labels)
        return ClassifierOutput(loss, logits, encoded.hidden_states, encoded.attentions)


class BertForMultipleChoice(_WithClassifier):
    """Picks one of several texts."""

    def __init__(self, config: BertConfig, num_choices: int | None = None) -> None:
        """`num_choices` is accepted for the sake of 2019's calls; the inputs say how many there are."""
        super().__init__(config, pooled=True, outputs=1)

    def forward(
        self, input_ids: Tensor | None = None, *, labels: Tensor | None = None, **inputs: Tensor | bool | None
    ) -> ClassifierOutput:
        """Score choices: logits (B, K).

        Args:
            input_ids: (B, K, S), as are the masks and types among `inputs`; embeddings are (B, K, S, H).
            labels: (B,), the right choice.
            inputs: the other inputs of `BertModel.forward`; what they return has B * K rows.
        """
        first = input_ids if input_ids is not None else inputs.get("inputs_embeds")
        if not isinstance(first, Tensor) or first.dim() < 3:
            raise ValueError("inputs are expected to have a dimension of choices: (batch, choices, seq)")
        flat = {
            name: value.flatten(0, 1) if isinstance(value, Tensor) and name != "head_mask" else value
            for name, value in inputs.items()
        }
        encoded = self.bert(None if input_ids is None else input_ids.flatten(0, 1), **flat)
        logits = self.classifier(self.dropout(encoded.pooler_output)).view(first.shape[:2])
        loss = None if labels is None else class_loss(logits, labels)
        return ClassifierOutput(loss, logits, encoded.hidden_states, encoded.attentions)


class BertForTokenClassification(_WithClassifier):
    """Labels every token."""

    def __init__(self, config: BertConfig, num_labels: int | None = None) -> None:
        super().__init__(config, num_labels, pooled=False)

    def forward(
        self,
        input_ids: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **inputs: Tensor | bool | None,
    ) -> ClassifierOutput:
        """Score labels of tokens: logits (B, S, C).

        Args:
            input_ids: (B, S).
            labels: (B, S); those of masked positions, -1 and -100 are left out of the loss.
            attention_mask: as in `BertModel.forward`.
            inputs: its other inputs.
        """
        encoded = self.bert(input_ids, attention_mask=attention_mask, **inputs)
        logits = self.classifier(self.dropout(encoded.last_hidden_state))
        loss = None if labels is None else class_loss(logits, masked_labels(labels, attention_mask))
        return ClassifierOutput(loss, logits, encoded.hidden_states, encoded.attentions)


class BertForQuestionAnswering(_WithoutPredictions):
    """Finds the span of a text that answers a question."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        config.require(config.num_labels == 2, "num_labels", "2 (begin and end of the answer)")
        self.bert = BertModel(config, add_pooling_layer=False)
        self.qa_outputs = Linear(config.hidden_size, 2)

    def forward(
        self,
        input_ids: Tensor | None = None,
        *,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        **inputs: Tensor | bool | None,
    ) -> QuestionAnsweringOutput:
        """Score begins and ends: two logits (B, S).

        Args:
            input_ids: (B, S).
            start_positions: (B,) or (B, 1); negatives count as 0, those past the end are left out of the loss.
            end_positions: as `start_positions`; the loss needs both.
            inputs: the other inputs of `BertModel.forward`.
        """
        encoded = self.bert(input_ids, **inputs)
        starts, ends = self.qa_outputs(encoded.last_hidden_state).unbind(-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = span_loss(starts, ends, start_positions, end_positions)
        return QuestionAnsweringOutput(loss, starts, ends, encoded.hidden_states, encoded.attentions)
