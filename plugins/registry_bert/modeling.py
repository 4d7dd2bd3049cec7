"""BERT: Pre-training of Deep Bidirectional Transformers (arXiv:1810.04805), with its eight heads.

Shapes: B batch, S sequence, H hidden size, A heads, V vocabulary, C labels, K choices. Ids, positions and labels are
int64; every other tensor has the dtype of the weights.
"""

from __future__ import annotations

from torch import Tensor, nn

from registry.pretrained import PreTrainedModel
from registry.pretrained.layers import Linear, check_pruning, head_masks, keep_mask
from registry.pretrained.losses import class_loss, classification_loss, masked_labels, span_loss
from registry.pretrained.outputs import BaseModelOutput, ClassifierOutput, PreTrainingOutput, QuestionAnsweringOutput
from registry_bert.config import BertConfig
from registry_bert.layers import BertAttention, BertEmbeddings, BertEncoder, BertHeads, BertPooler, BertPredictions

__all__ = [
    "BertForMaskedLM",
    "BertForMultipleChoice",
    "BertForNextSentencePrediction",
    "BertForPreTraining",
    "BertForQuestionAnswering",
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "BertModel",
    "BertPreTrainedModel",
]


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

    def stored_copies(self) -> dict[str, str]:
        """Return that a language model head's output weights are the word embedding."""
        main = "embeddings.word_embeddings.weight"
        return {"cls.predictions.decoder.weight": main} if self.config.tie_word_embeddings else {}

    def prune_layer(self, layer: int, heads: list[int]) -> None:
        """Cut heads out of a layer.

        Raises:
            ConfigError: when the layer or a head does not exist, or none would be left.
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


class _WithPredictions(BertPreTrainedModel):
    """A class that has a language model head."""

    def tied_weights(self) -> dict[str, str]:
        """Return that the head's output weights are the word embedding."""
        main = "bert.embeddings.word_embeddings.weight"
        return {"cls.predictions.decoder.weight": main} if self.config.tie_word_embeddings else {}

    def second_names(self) -> dict[str, str]:
        """Return that transformers has two biases in a head that is not tied, and computes with the decoder's."""
        return {} if self.config.tie_word_embeddings else {"cls.predictions.decoder.bias": "cls.predictions.bias"}

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
        first, least = (input_ids, 3) if input_ids is not None else (inputs.get("inputs_embeds"), 4)
        if not isinstance(first, Tensor) or first.dim() < least:
            raise ValueError("inputs are expected to have a dimension of choices: (batch, choices, seq)")
        flat = dict(inputs)
        for name, value in inputs.items():
            # What has the dimensions of batch and choices; positions that are the same for all have not. A head mask of
            # (layers, heads) can have any shape, so it is told by its name.
            if name != "head_mask" and isinstance(value, Tensor) and value.dim() > 2 and value.shape[:2] == first.shape[:2]:
                flat[name] = value.flatten(0, 1)
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
