"""RoBERTa: A Robustly Optimized BERT Pretraining Approach (arXiv:1907.11692).

The encoder is BERT's. What differs: positions count from the padding token's id and pass over padding, texts have no types,
and the heads have other parts and names. Names of weights are those of transformers.

Shapes: B batch, S sequence, H hidden size, V vocabulary, C labels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from registry.pretrained import PreTrainedModel
from registry.pretrained.layers import Embedding, LayerNorm, Linear
from registry.pretrained.losses import class_loss, classification_loss, masked_labels, span_loss
from registry.pretrained.outputs import BaseModelOutput, ClassifierOutput, QuestionAnsweringOutput
from registry_bert import BertModel
from registry_roberta.config import RobertaConfig

__all__ = [
    "RobertaForMaskedLM",
    "RobertaForQuestionAnswering",
    "RobertaForSequenceClassification",
    "RobertaForTokenClassification",
    "RobertaModel",
]

_WORDS = "embeddings.word_embeddings.weight"


class RobertaPreTrainedModel(PreTrainedModel):
    """What every class of the family shares."""

    config_class = RobertaConfig
    base_model_prefix = "roberta"
    optional_weights = ("pooler.",)
    derivable_weights = ("embeddings.position_ids",)
    renamed_weights = {"lm_head.decoder.bias": "lm_head.bias"}
    config: RobertaConfig

    def init_weights(self, module: nn.Module) -> None:
        """Initialise as BERT: normal weights, zero biases."""
        super().init_weights(module)
        if isinstance(module, RobertaLMHead):
            module.bias.zero_()

    def vocabulary_weights(self) -> tuple[str, ...]:
        """Return the word embedding's name."""
        return (_WORDS if self.base_model is self else f"roberta.{_WORDS}",)


class RobertaModel(RobertaPreTrainedModel, BertModel):
    """The bare encoder: BERT's, with positions of its own."""

    config: RobertaConfig

    def __init__(self, config: RobertaConfig, add_pooling_layer: bool = True) -> None:
        """With `add_pooling_layer=False` there is no `pooler`, as inside the heads."""
        super().__init__(config, add_pooling_layer)
        table = Embedding(config.max_position_embeddings, config.hidden_size, padding_idx=config.pad_token_id)
        self.embeddings.position_embeddings = table

    def stored_copies(self) -> dict[str, str]:
        """Return that a language model head's output weights are the word embedding."""
        return {"lm_head.decoder.weight": _WORDS} if self.config.tie_word_embeddings else {}

    def forward(
        self,
        input_ids: Tensor | None = None,
        *,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **inputs: Tensor | bool | None,
    ) -> BaseModelOutput:
        """Encode a batch.

        Args:
            input_ids: (B, S).
            position_ids: (B, S) or (S,), rows of the table of positions; by default those of the tokens that are no padding.
            inputs_embeds: (B, S, H), instead of `input_ids`; nothing there is taken for padding.
            inputs: the other inputs of `BertModel.forward`.

        Raises:
            ValueError: when a sequence is longer than the table of positions allows.
        """
        given = input_ids if inputs_embeds is None else inputs_embeds
        if given is not None:
            length, limit = given.shape[1], self.config.longest
            if length > limit:
                raise ValueError(f"a sequence is expected to have at most {limit} tokens, but has {length}; truncate it")
            if position_ids is None:
                position_ids = self._positions(given)
        encoded: BaseModelOutput = super().forward(input_ids, position_ids=position_ids, inputs_embeds=inputs_embeds, **inputs)
        return encoded

    def _positions(self, given: Tensor) -> Tensor:
        first, padding = self.config.first_position, self.config.pad_token_id
        if given.dim() == 3:  # embeddings
            return torch.arange(first, first + given.shape[1], device=given.device)
        is_word = (given != padding).long()
        return is_word.cumsum(-1) * is_word + first - 1  # padding has its own row, that of its id


class RobertaLMHead(nn.Module):
    """Scores over the vocabulary; `decoder.weight` is the word embedding, the bias is its own."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.layer_norm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.decoder = Linear(config.hidden_size, config.vocab_size, bias=False)
        self.bias = nn.Parameter(torch.empty(config.vocab_size))

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, S, H) to (B, S, V)."""
        return F.linear(self.layer_norm(F.gelu(self.dense(hidden))), self.decoder.weight, self.bias)


class RobertaForMaskedLM(RobertaPreTrainedModel):
    """Predicts masked words."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__(config)
        self.roberta = RobertaModel(config, add_pooling_layer=False)
        self.lm_head = RobertaLMHead(config)

    def tied_weights(self) -> dict[str, str]:
        """Return that the head's output weights are the word embedding."""
        return {"lm_head.decoder.weight": f"roberta.{_WORDS}"} if self.config.tie_word_embeddings else {}

    def second_names(self) -> dict[str, str]:
        """Return that transformers has two biases in a head that is not tied, and computes with the decoder's."""
        return {} if self.config.tie_word_embeddings else {"lm_head.decoder.bias": "lm_head.bias"}

    def vocabulary_weights(self) -> tuple[str, ...]:
        """Return the embedding, the head's weights and its bias."""
        return (f"roberta.{_WORDS}", "lm_head.decoder.weight", "lm_head.bias")

    def forward(
        self, input_ids: Tensor | None = None, *, labels: Tensor | None = None, **inputs: Tensor | bool | None
    ) -> ClassifierOutput:
        """Score words: logits (B, S, V).

        Args:
            input_ids: (B, S).
            labels: (B, S), the word at each position, -1 or -100 where there is nothing to learn.
            inputs: the other inputs of `RobertaModel.forward`.
        """
        encoded = self.roberta(input_ids, **inputs)
        logits = self.lm_head(encoded.last_hidden_state)
        loss = None if labels is None else class_loss(logits, labels)
        return ClassifierOutput(loss, logits, encoded.hidden_states, encoded.attentions)


class RobertaClassificationHead(nn.Module):
    """Two layers on the first token, in place of a pooler."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(_classifier_dropout(config))
        self.out_proj = Linear(config.hidden_size, config.num_labels)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, S, H) to (B, C)."""
        scores: Tensor = self.out_proj(self.dropout(torch.tanh(self.dense(self.dropout(hidden[:, 0])))))
        return scores


class RobertaForSequenceClassification(RobertaPreTrainedModel):
    """Labels a text or pair; with one label it predicts a number."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__(config)
        self.roberta = RobertaModel(config, add_pooling_layer=False)
        self.classifier = RobertaClassificationHead(config)

    def forward(
        self, input_ids: Tensor | None = None, *, labels: Tensor | None = None, **inputs: Tensor | bool | None
    ) -> ClassifierOutput:
        """Score labels: logits (B, C).

        Args:
            input_ids: (B, S).
            labels: (B,), int64 classes, or numbers when there is one label.
            inputs: the other inputs of `RobertaModel.forward`.
        """
        encoded = self.roberta(input_ids, **inputs)
        logits = self.classifier(encoded.last_hidden_state)
        loss = None if labels is None else classification_loss(logits, labels)
        return ClassifierOutput(loss, logits, encoded.hidden_states, encoded.attentions)


class RobertaForTokenClassification(RobertaPreTrainedModel):
    """Labels every token."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__(config)
        self.roberta = RobertaModel(config, add_pooling_layer=False)
        self.dropout = nn.Dropout(_classifier_dropout(config))
        self.classifier = Linear(config.hidden_size, config.num_labels)

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
            attention_mask: (B, S), nonzero for tokens that may be seen.
            inputs: the other inputs of `RobertaModel.forward`.
        """
        encoded = self.roberta(input_ids, attention_mask=attention_mask, **inputs)
        logits = self.classifier(self.dropout(encoded.last_hidden_state))
        loss = None if labels is None else class_loss(logits, masked_labels(labels, attention_mask))
        return ClassifierOutput(loss, logits, encoded.hidden_states, encoded.attentions)


class RobertaForQuestionAnswering(RobertaPreTrainedModel):
    """Finds the span of a text that answers a question."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__(config)
        config.require(config.num_labels == 2, "num_labels", "2 (begin and end of the answer)")
        self.roberta = RobertaModel(config, add_pooling_layer=False)
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
            start_positions: (B,); negatives count as 0, those past the end are left out of the loss.
            end_positions: as `start_positions`; the loss needs both.
            inputs: the other inputs of `RobertaModel.forward`.
        """
        encoded = self.roberta(input_ids, **inputs)
        starts, ends = self.qa_outputs(encoded.last_hidden_state).unbind(-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = span_loss(starts, ends, start_positions, end_positions)
        return QuestionAnsweringOutput(loss, starts, ends, encoded.hidden_states, encoded.attentions)


def _classifier_dropout(config: RobertaConfig) -> float:
    return config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
