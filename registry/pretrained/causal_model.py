"""The base model and the two heads that OpenAI GPT and GPT-2 share; a family adds its block and its names.

Shapes: B batch, S sequence, T sequence with its past, E width, A heads, V vocabulary, K choices. Ids may have any leading
dimensions, such as (B, K, S); outputs have them too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from registry.errors import ConfigError
from registry.pretrained.causal_config import CausalConfig
from registry.pretrained.causal_layers import CausalAttention, Conv1D, KeyValueCache, SequenceSummary, causal_keep
from registry.pretrained.generation import GenerationMixin
from registry.pretrained.layers import Embedding, Linear, check_pruning, head_masks
from registry.pretrained.losses import class_loss, next_token_loss
from registry.pretrained.model import PreTrainedModel
from registry.pretrained.outputs import CausalLMOutput, CausalModelOutput, DoubleHeadsOutput

__all__ = ["CausalDoubleHeadsModel", "CausalLMHeadModel", "CausalModel", "CausalPreTrainedModel", "Past"]

Past = Sequence[Tensor] | KeyValueCache


class CausalPreTrainedModel(PreTrainedModel):
    """What every class of these families shares: names in files, and first values."""

    base_model_prefix = "transformer"
    # The causal mask, which older programs saved with every layer.
    derivable_weights = (".attn.bias", ".attn.masked_bias")
    # The names of release 0.6.
    renamed_weights = {  # noqa: RUF012  # a class attribute by design
        "lm_head.decoder.weight": "lm_head.weight",
        "multiple_choice_head.linear.weight": "multiple_choice_head.summary.weight",
        "multiple_choice_head.linear.bias": "multiple_choice_head.summary.bias",
    }
    config: CausalConfig

    def init_weights(self, module: nn.Module) -> None:
        """Initialise as 1.2.0 did: normal weights, zero biases."""
        super().init_weights(module)
        if isinstance(module, Conv1D):
            module.weight.normal_(0.0, self.config.initializer_range)
            module.bias.zero_()


class CausalModel(CausalPreTrainedModel):
    """A stack of blocks that each position reads from left to right.

    A family's constructor sets the two embeddings, `drop`, and the blocks `h`, each with its attention in `attn`.
    """

    #: The attributes that hold the token and the position embedding.
    embedding_names: ClassVar[tuple[str, str]]
    #: Whether attention weights get back the leading dimensions of the ids, as 1.2.0 did in one family and not in the other.
    restores_attentions: ClassVar[bool] = True
    drop: nn.Dropout
    h: nn.ModuleList

    def finish(self, hidden: Tensor) -> Tensor:
        """Map the last block's output to the last hidden state."""
        return hidden

    def uses_cache(self) -> bool:
        """Whether keys and values are returned when the caller does not say."""
        return False

    def vocabulary_weights(self) -> tuple[str, ...]:
        """Return the token embedding's name."""
        return (f"{self.embedding_names[0]}.weight",)

    def stored_copies(self) -> dict[str, str]:
        """Return that a language model head's weights are the token embedding."""
        if not self.config.tie_word_embeddings:
            return {}
        return dict.fromkeys(("lm_head.weight", "lm_head.decoder.weight"), f"{self.embedding_names[0]}.weight")

    def prune_layer(self, layer: int, heads: list[int]) -> None:
        """Cut heads out of a layer.

        Raises:
            ConfigError: when the layer or a head does not exist, or none would be left.
        """
        attentions: list[CausalAttention] = [block.get_submodule("attn") for block in self.h]  # type: ignore[misc]
        check_pruning(layer, heads, [attention.heads for attention in attentions])
        attentions[layer].prune(heads)

    def forward(
        self,
        input_ids: Tensor | None = None,
        *,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Past | None = None,
        past: Past | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> CausalModelOutput:
        """Read a batch.

        Args:
            input_ids: (B, S), or any leading dimensions.
            attention_mask: (B, T), any dtype, nonzero for tokens that may be seen, those of the past included.
            token_type_ids: (B, S), ids of the vocabulary whose embeddings are added.
            position_ids: (B, S) or (S,); by default they count on from the past.
            past_key_values: what an earlier call returned for the tokens before these; or a `KeyValueCache`, which is filled.
            past: 2019's name for `past_key_values`.
            head_mask: (A,) or (layers, A), factors of the attention weights by head.
            inputs_embeds: (B, S, E), instead of `input_ids`.
            use_cache: return keys and values; GPT-2 does by default.
            output_attentions: return the attention weights of each layer, (B, A, S, T).
            output_hidden_states: return layers + 1 hidden states, (B, S, E).

        Raises:
            ValueError: when past and ids together are longer than `n_positions`, or a shape does not fit.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("either input_ids or inputs_embeds is expected, but both or neither were given")
        need_weights = self.config.output_attentions if output_attentions is None else output_attentions
        collect = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        if use_cache is None:
            use_cache = self.uses_cache() and not (self.gradient_checkpointing and self.training)
        past_key_values = past if past_key_values is None else past_key_values

        tokens: Embedding = getattr(self, self.embedding_names[0])
        words: Tensor = tokens(input_ids) if inputs_embeds is None else inputs_embeds
        leading, length = words.shape[:-2], words.shape[-2]
        start = self._past_length(past_key_values)
        hidden = words + self._positions(position_ids, start, length)
        if token_type_ids is not None:
            hidden = hidden + tokens(token_type_ids)
        hidden = self.drop(hidden).reshape(-1, length, words.shape[-1])
        if attention_mask is not None:
            if attention_mask.shape != (*leading, start + length):
                raise ValueError(
                    f"attention_mask is expected to have the shape {(*leading, start + length)}, past included, but has "
                    f"{tuple(attention_mask.shape)}"
                )
            attention_mask = attention_mask.reshape(-1, start + length)
        explicit = need_weights or head_mask is not None
        keep = causal_keep(attention_mask, length, start + length, device=hidden.device, explicit=explicit)

        states: tuple[Tensor, ...] = ()
        presents: tuple[Tensor, ...] = ()
        attentions: tuple[Tensor, ...] = ()
        for number, (block, mask) in enumerate(zip(self.h, head_masks(head_mask, len(self.h), self.dtype), strict=True)):
            if collect:
                states = (*states, hidden.view(*leading, length, -1))
            before = past_key_values if isinstance(past_key_values, KeyValueCache | None) else past_key_values[number]
            hidden, present, weights = self.checkpointed(block, hidden, keep, before, mask, need_weights)
            if use_cache:
                presents = (*presents, present)
            if need_weights:
                attentions = (*attentions, weights.unflatten(0, leading) if self.restores_attentions and leading else weights)
        if isinstance(past_key_values, KeyValueCache):
            past_key_values.length += length
        hidden = self.finish(hidden).view(*leading, length, -1)
        return CausalModelOutput(
            last_hidden_state=hidden,
            past_key_values=presents if use_cache else None,
            hidden_states=(*states, hidden) if collect else None,
            attentions=attentions if need_weights else None,
        )

    def _past_length(self, past: Past | None) -> int:
        if past is None:
            return 0
        if isinstance(past, KeyValueCache):
            return past.length
        if len(past) != len(self.h):
            raise ValueError(f"past_key_values is expected to have {len(self.h)} layers, but has {len(past)}")
        return past[0].shape[-2]

    def _positions(self, position_ids: Tensor | None, start: int, length: int) -> Tensor:
        """Return the embeddings of the positions, (S, E) or (B, S, E)."""
        table: Embedding = getattr(self, self.embedding_names[1])
        if position_ids is not None:
            embedded: Tensor = table(position_ids)
            return embedded
        limit = table.num_embeddings
        if start + length > limit:
            raise ValueError(f"a sequence is expected to have at most {limit} tokens, but has {start + length}; truncate it")
        return table.weight[start : start + length]


class CausalLMHeadModel(CausalPreTrainedModel, GenerationMixin):
    """Predicts the next token, and generates text."""

    #: The family's base model.
    model_class: ClassVar[type[CausalModel]]
    transformer: CausalModel

    def __init__(self, config: CausalConfig) -> None:
        super().__init__(config)
        self.transformer = self.model_class(config)
        self.lm_head = Linear(config.n_embd, config.vocab_size, bias=False)

    def tied_weights(self) -> dict[str, str]:
        """Return that the head's weights are the token embedding."""
        main = f"transformer.{self.transformer.vocabulary_weights()[0]}"
        return {"lm_head.weight": main} if self.config.tie_word_embeddings else {}

    def vocabulary_weights(self) -> tuple[str, ...]:
        """Return the embedding and the head's weights."""
        return (f"transformer.{self.transformer.vocabulary_weights()[0]}", "lm_head.weight")

    def forward(
        self,
        input_ids: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        lm_labels: Tensor | None = None,
        **inputs: Tensor | Past | bool | None,
    ) -> CausalLMOutput:
        """Score the token after each position: logits (B, S, V).

        Args:
            input_ids: (B, S).
            labels: (B, S), usually `input_ids` themselves, because they are shifted here; -1 and -100 are ignored.
            lm_labels: 2019's name for `labels`.
            inputs: the other inputs of the base model's `forward`.
        """
        labels = lm_labels if labels is None else labels
        read = self.transformer(input_ids, **inputs)
        logits = self.lm_head(read.last_hidden_state)
        loss = None if labels is None else next_token_loss(logits, labels)
        return CausalLMOutput(loss, logits, read.past_key_values, read.hidden_states, read.attentions)

    def start_generation(self, batch_size: int, max_length: int) -> KeyValueCache:
        """Allocate keys and values for a whole generation.

        Raises:
            ConfigError: when `max_length` is more than the model has positions for.
        """
        limit = self.config.n_positions
        if max_length > limit:
            raise ConfigError(
                f"prompt and new tokens are expected to fit into {limit} positions, but {max_length} are needed; "
                "shorten the prompt or lower max_new_tokens"
            )
        embedding = self.get_input_embeddings().weight
        attentions: list[CausalAttention] = [block.get_submodule("attn") for block in self.transformer.h]  # type: ignore[misc]
        return KeyValueCache(
            [
                embedding.new_empty((2, batch_size, len(attention.heads), max_length, attention.head_size))  # type: ignore[operator]
                for attention in attentions
            ]
        )

    def generation_step(self, input_ids: Tensor, attention_mask: Tensor | None, state: KeyValueCache) -> Tensor:
        """Read the next tokens and return logits (B, V) for the one after them."""
        positions = None
        if attention_mask is not None:  # padding on the left takes no positions
            positions = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, -input_ids.shape[1] :]
        read = self.transformer(
            input_ids,
            attention_mask=attention_mask,
            position_ids=positions,
            past_key_values=state,
            use_cache=False,
            output_attentions=False,
            output_hidden_states=False,
        )
        logits: Tensor = self.lm_head(read.last_hidden_state[:, -1])
        return logits


class CausalDoubleHeadsModel(CausalLMHeadModel):
    """Predicts the next token, and which of several sequences is the right one."""

    def __init__(self, config: CausalConfig) -> None:
        super().__init__(config)
        self.multiple_choice_head = SequenceSummary(config)

    def forward(  # type: ignore[override]  # one more head, one more output
        self,
        input_ids: Tensor | None = None,
        *,
        mc_token_ids: Tensor | None = None,
        labels: Tensor | None = None,
        lm_labels: Tensor | None = None,
        mc_labels: Tensor | None = None,
        **inputs: Tensor | Past | bool | None,
    ) -> DoubleHeadsOutput:
        """Score next tokens, (B, K, S, V), and choices, (B, K), or (B, K, C) with several labels.

        Args:
            input_ids: (B, K, S).
            mc_token_ids: (B, K), the position from which each choice is judged; None for the last.
            labels: (B, K, S), as in the language model head.
            lm_labels: 2019's name for `labels`.
            mc_labels: (B,), the right choice.
            inputs: the other inputs of the base model's `forward`.
        """
        labels = lm_labels if labels is None else labels
        read = self.transformer(input_ids, **inputs)
        logits = self.lm_head(read.last_hidden_state)
        choices = self.multiple_choice_head(read.last_hidden_state, mc_token_ids)
        if choices.shape[-1] == 1:
            choices = choices.squeeze(-1)
        return DoubleHeadsOutput(
            None if labels is None else next_token_loss(logits, labels),
            None if mc_labels is None else class_loss(choices, mc_labels),
            logits,
            choices,
            read.past_key_values,
            read.hidden_states,
            read.attentions,
        )
