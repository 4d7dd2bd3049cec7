"""Transformer-XL: Attentive Language Models Beyond a Fixed-Length Context (arXiv:1901.02860), with its language model.

Shapes: B batch, S sequence, M memory, K = M + S keys, D hidden size, N heads, d head size, V vocabulary. Ids and labels
are int64; every other tensor has the dtype of the weights. The memory alone is time first: (M, B, D).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from registry.errors import ConfigError
from registry.pretrained import PreTrainedModel
from registry.pretrained.generation import GenerationMixin
from registry.pretrained.layers import LayerNorm, Linear, head_masks
from registry_transfo_xl.adaptive import AdaptiveEmbedding, AdaptiveLogSoftmax
from registry_transfo_xl.attention import KeyMemory, TransfoXLAttention, sinusoids
from registry_transfo_xl.config import TransfoXLConfig
from registry_transfo_xl.generation import GenerationState
from registry_transfo_xl.outputs import TransfoXLLMHeadModelOutput, TransfoXLModelOutput

__all__ = ["TransfoXLLMHeadModel", "TransfoXLModel", "TransfoXLPreTrainedModel"]

_BIASES = ("r_w_bias", "r_r_bias")


class TransfoXLFeedForward(nn.Module):
    """Two linear layers with a residual connection."""

    def __init__(self, config: TransfoXLConfig) -> None:
        super().__init__()
        self.pre_lnorm = config.pre_lnorm
        self.CoreNet = nn.Sequential(
            Linear(config.d_model, config.d_inner),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            Linear(config.d_inner, config.d_model),
            nn.Dropout(config.dropout),
        )
        self.layer_norm = LayerNorm(config.d_model, eps=config.layer_norm_epsilon)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, S, D) to (B, S, D)."""
        result: Tensor
        if self.pre_lnorm:
            result = hidden + self.CoreNet(self.layer_norm(hidden))
        else:
            result = self.layer_norm(hidden + self.CoreNet(hidden))
        return result


class TransfoXLLayer(nn.Module):
    """Attention, then feed-forward."""

    #: What computes with this layer's weights beside `forward`.
    forward_methods = ("remember", "step")

    def __init__(self, config: TransfoXLConfig) -> None:
        super().__init__()
        self.dec_attn = TransfoXLAttention(config)
        self.pos_ff = TransfoXLFeedForward(config)

    def forward(
        self,
        hidden: Tensor,
        positions: Tensor,
        keep: Tensor,
        mem: Tensor | None,
        head_mask: Tensor | None,
        need_weights: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Return (B, S, D) and the attention weights, if asked for."""
        attended, weights = self.dec_attn(hidden, positions, keep, mem, head_mask, need_weights)
        return self.pos_ff(attended), weights

    def remember(self, mem: Tensor, positions: Tensor) -> KeyMemory:
        """Return a memory for `step`, as `TransfoXLAttention.remember` does."""
        return self.dec_attn.remember(mem, positions)

    def step(self, hidden: Tensor, memory: KeyMemory, keep: Tensor, place: int) -> Tensor:
        """Read one token (B, 1, D) and return (B, 1, D); arguments as in `TransfoXLAttention.step`."""
        result: Tensor = self.pos_ff(self.dec_attn.step(hidden, memory, keep, place))
        return result


class TransfoXLPreTrainedModel(PreTrainedModel):
    """What both classes share."""

    config_class = TransfoXLConfig
    base_model_prefix = "transformer"
    derivable_weights = ("pos_emb.inv_freq",)
    config: TransfoXLConfig

    def init_weights(self, module: nn.Module) -> None:
        """Initialise as the paper's code did: weights by `init`, projections by their own deviation, zero biases."""
        config, weights = self.config, list[Tensor]()
        match module:
            case nn.LayerNorm():
                module.weight.normal_(1.0, config.init_std)
            case nn.ParameterList():
                for projection in module:
                    projection.normal_(0.0, config.proj_init_std)
            case nn.Linear() | nn.Embedding():
                weights = [module.weight]
            case AdaptiveLogSoftmax():
                weights = [module.cluster_weight]
                module.cluster_bias.zero_()
            case TransfoXLAttention() | TransfoXLModel():
                weights = [module.get_parameter(name) for name in _BIASES]
        for weight in weights:
            if config.init == "uniform":
                weight.uniform_(-config.init_range, config.init_range)
            else:
                weight.normal_(0.0, config.init_std)
        if isinstance(module, nn.Linear | nn.LayerNorm) and module.bias is not None:
            module.bias.zero_()

    @property
    def _transformer(self) -> TransfoXLModel:
        inner = self.base_model
        assert isinstance(inner, TransfoXLModel)
        return inner

    def tied_weights(self) -> dict[str, str]:
        """Return that all layers share the position biases, unless `untie_r` says otherwise."""
        if self.config.untie_r:
            return {}
        prefix = "" if self.base_model is self else f"{self.base_model_prefix}."
        return {
            f"{prefix}layers.{layer}.dec_attn.{name}": f"{prefix}{name}"
            for layer in range(self.config.n_layer)
            for name in _BIASES
        }

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding of all buckets."""
        return self._transformer.word_emb

    def resize_token_embeddings(self, new_num_tokens: int | None = None) -> nn.Module:
        """Change the size of the vocabulary, in the last bucket and in the head; return the embedding.

        Raises:
            ConfigError: when nothing of the last bucket would be left.
        """
        least = max([0, *self.config.cutoffs]) + 1
        if type(new_num_tokens) is int and new_num_tokens < least:
            raise ConfigError(
                f"the number of tokens is expected to be at least {least}, which leaves one in the last bucket, "
                f"but is {new_num_tokens}"
            )
        return super().resize_token_embeddings(new_num_tokens)

    def rows_before(self) -> int:
        """Return how many tokens the buckets before the last hold."""
        return self._transformer.word_emb.begins[-1]

    def reset_length(self, tgt_len: int, ext_len: int, mem_len: int) -> None:
        """Set the lengths of segment, extended context and memory, in tokens; the configuration stays."""
        inner = self._transformer
        inner.tgt_len, inner.ext_len, inner.mem_len = tgt_len, ext_len, mem_len

    def init_mems(self, data: int | Tensor) -> tuple[Tensor, ...] | None:
        """Return an empty memory, for each layer zeros (mem_len, B, D); None when there is no memory.

        Args:
            data: the number of texts in a batch, or, as in 2019, ids (S, B).
        """
        inner = self._transformer
        if inner.mem_len == 0:
            return None
        batch = data if isinstance(data, int) else data.shape[1]
        zeros = torch.zeros(inner.mem_len, batch, self.config.d_model, dtype=self.dtype, device=self.device)
        return (zeros,) * self.config.n_layer


class TransfoXLModel(TransfoXLPreTrainedModel):
    """The bare model."""

    def __init__(self, config: TransfoXLConfig) -> None:
        super().__init__(config)
        self.tgt_len, self.ext_len, self.mem_len = config.tgt_len, config.ext_len, config.mem_len
        self.same_length, self.clamp_len = config.same_length, config.clamp_len
        if not config.untie_r:
            self.r_w_bias = nn.Parameter(torch.empty(config.n_head, config.d_head))
            self.r_r_bias = nn.Parameter(torch.empty(config.n_head, config.d_head))
        self.word_emb = AdaptiveEmbedding(config)
        self.drop = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(TransfoXLLayer(config) for _ in range(config.n_layer))

    def vocabulary_weights(self) -> tuple[str, ...]:
        """Return the name of the last bucket's embedding."""
        return (f"word_emb.emb_layers.{len(self.word_emb.emb_layers) - 1}.weight",)

    def stored_copies(self) -> dict[str, str]:
        """Return which weights of the adaptive softmax are those of the embedding."""
        config, copies = self.config, dict[str, str]()
        if config.tie_weight:
            for number in range(len(self.word_emb.emb_layers)):
                copies[f"crit.out_layers.{number}.weight"] = f"word_emb.emb_layers.{number}.weight"
        for number, tied in enumerate(config.tie_projs or ()):
            if tied and len(self.word_emb.emb_projs):
                copies[f"crit.out_projs.{number}"] = f"word_emb.emb_projs.{0 if config.div_val == 1 else number}"
        return copies

    def forward(
        self,
        input_ids: Tensor | None = None,
        *,
        mems: Sequence[Tensor] | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        ext_len: int | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> TransfoXLModelOutput:
        """Read a segment.

        Args:
            input_ids: (B, S); all texts have one length, there is no mask.
            mems: what the pass over the segment before returned, for each layer (M, B, D); zeros by default, which take
                part in attention as they did in training.
            head_mask: (N,) or (layers, N), factors of the attention weights by head.
            inputs_embeds: (B, S, D), instead of `input_ids`.
            ext_len: tokens at the end that the next segment reads again, by default as the model says.
            output_attentions: return the attention weights of each layer, (B, N, S, K).
            output_hidden_states: return layers + 1 hidden states, (B, S, D).

        Returns:
            the last hidden state (B, S, D) and the new memory, cut off from the gradient.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("either input_ids or inputs_embeds is expected, but both or neither were given")
        need_weights = self.config.output_attentions if output_attentions is None else output_attentions
        collect = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        hidden = self.drop(self.word_emb(input_ids) if inputs_embeds is None else inputs_embeds)
        if mems is None:
            mems = self.init_mems(hidden.shape[0])
        elif len(mems) != len(self.layers):
            raise ValueError(f"mems is expected to have a tensor for each of {len(self.layers)} layers, but has {len(mems)}")
        remembered = 0 if mems is None else mems[0].shape[0]
        positions, keep = self.positions(hidden, remembered)
        states: tuple[Tensor, ...] = (hidden,)
        attentions: tuple[Tensor, ...] = ()
        for number, (layer, mask) in enumerate(
            zip(self.layers, head_masks(head_mask, self.config.n_layer, self.dtype), strict=True)
        ):
            mem = None if mems is None else mems[number]
            hidden, weights = self.checkpointed(layer, hidden, positions, keep, mem, mask, need_weights)
            states = (*states, hidden)
            if need_weights:
                attentions = (*attentions, weights)
        hidden = self.drop(hidden)
        return TransfoXLModelOutput(
            last_hidden_state=hidden,
            mems=self._remember(states[:-1], mems, self.ext_len if ext_len is None else ext_len),
            hidden_states=(*states[:-1], hidden) if collect else None,
            attentions=attentions if need_weights else None,
        )

    def positions(self, hidden: Tensor, remembered: int) -> tuple[Tensor, Tensor]:
        """Return the vectors of the distances (K, D), far to near, and which key each of `hidden` (B, S, D) may see (S, K)."""
        keys, device = remembered + hidden.shape[1], hidden.device
        distances = torch.arange(keys - 1, -1, -1, device=device)
        behind = torch.arange(remembered, keys, device=device)[:, None] - torch.arange(keys, device=device)
        keep = behind >= 0
        if self.same_length and self.mem_len > 0:
            keep &= behind < self.mem_len
        if self.clamp_len > 0:
            distances = distances.clamp(max=self.clamp_len)
        return self.drop(sinusoids(distances, self.config.d_model).to(hidden.dtype)), keep

    def _remember(self, inputs: Sequence[Tensor], mems: Sequence[Tensor] | None, ext_len: int) -> tuple[Tensor, ...] | None:
        """Return the last `mem_len` layer inputs before those tokens that the next segment reads again."""
        if mems is None or self.mem_len == 0:
            return None
        end = mems[0].shape[0] + max(0, inputs[0].shape[1] - ext_len)
        begin = max(0, end - self.mem_len)
        joined = (torch.cat([mem, new.transpose(0, 1)]) for mem, new in zip(mems, inputs, strict=True))
        return tuple(states[begin:end].detach() for states in joined)

    def read(self, input_ids: Tensor, state: GenerationState) -> Tensor:
        """Read ids (B, S) into the state of a generation and return the last hidden state (B, D).

        A prompt is read as any text is. After it, word by word, the memory stands as keys and values: to project all of it
        again for each word would take most of the time.
        """
        # The memory can turn in a ring once it has its full size; with dropout it has to be projected again each time.
        is_full = state.mems is not None and state.mems[0].shape[0] == self.mem_len and not self.training
        if state.layers or (is_full and input_ids.shape[1] == 1):
            for number in range(input_ids.shape[1]):
                hidden = self._step(input_ids[:, number : number + 1], state)
            return hidden
        if state.mems is None:
            state.input_ids = input_ids if state.input_ids is None else torch.cat([state.input_ids, input_ids], 1)
            return self(state.input_ids).last_hidden_state[:, -1]  # type: ignore[no-any-return]
        length = input_ids.shape[1]
        # With `same_length` each word sees the same keys however the text is cut, so a long prompt needs no more room.
        size = self.tgt_len if self.same_length else length
        for begin in range(0, length, size):
            read = self(input_ids[:, begin : begin + size], mems=state.mems, ext_len=0)
            state.mems = read.mems
        return read.last_hidden_state[:, -1]  # type: ignore[no-any-return]

    def _step(self, input_ids: Tensor, state: GenerationState) -> Tensor:
        hidden: Tensor = self.word_emb(input_ids)
        if state.mems is not None:
            positions, keep = self.positions(hidden, self.mem_len)
            pairs = zip(self.layers, state.mems, strict=True)
            state.layers = [layer.remember(mem, positions) for layer, mem in pairs]  # type: ignore[operator]
            state.keep, state.place, state.mems = keep[0], self.mem_len, None
        for layer, memory in zip(self.layers, state.layers, strict=True):
            hidden = layer.step(hidden, memory, state.keep, state.place)  # type: ignore[operator]
        state.place = (state.place + 1) % (self.mem_len + 1)
        return hidden[:, -1]


class TransfoXLLMHeadModel(GenerationMixin, TransfoXLPreTrainedModel):
    """The language model: an adaptive softmax whose weights are those of the embedding."""

    def __init__(self, config: TransfoXLConfig) -> None:
        super().__init__(config)
        self.transformer = TransfoXLModel(config)
        self.crit = AdaptiveLogSoftmax(config)

    def tied_weights(self) -> dict[str, str]:
        """Return that output weights, and some projections, are those of the embedding."""
        config, tied = self.config, super().tied_weights()
        if config.tie_weight:
            for number in range(len(self.crit.out_layers)):
                tied[f"crit.out_layers.{number}.weight"] = f"transformer.word_emb.emb_layers.{number}.weight"
        assert config.tie_projs is not None
        for number in range(len(self.crit.out_projs)):
            if config.tie_projs[number]:
                source = 0 if config.div_val == 1 else number
                tied[f"crit.out_projs.{number}"] = f"transformer.word_emb.emb_projs.{source}"
        return tied

    def vocabulary_weights(self) -> tuple[str, ...]:
        """Return the names of the last bucket: embedding, output weights, output bias."""
        last = len(self.crit.out_layers) - 1
        embedding = f"transformer.word_emb.emb_layers.{last}.weight"
        return (embedding, f"crit.out_layers.{last}.weight", f"crit.out_layers.{last}.bias")

    def forward(
        self,
        input_ids: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        targets: Tensor | None = None,
        target: Tensor | None = None,
        **inputs: Tensor | Sequence[Tensor] | bool | None,
    ) -> TransfoXLLMHeadModelOutput:
        """Predict each next word; `inputs` are those of `TransfoXLModel.forward`.

        Args:
            input_ids: (B, S).
            labels: (B, S), the ids again; each position is scored with the label of the next. -1 and -100 are ignored.
            targets: (B, T) instead, as the corpus iterators yield them: the next word of each of the last T positions.
            target: 2018's name for `targets`.
            inputs: the other inputs.

        Returns:
            log-probabilities (B, S, V); with labels, instead of them, the mean loss, and `.losses` (B, S - 1) or (B, T).
        """
        targets = target if targets is None else targets
        if labels is not None and targets is not None:
            raise ValueError("either labels or targets are expected, but both were given")
        read = self.transformer(input_ids, **inputs)
        rest = {"mems": read.mems, "hidden_states": read.hidden_states, "attentions": read.attentions}
        hidden = read.last_hidden_state
        if labels is not None:
            hidden, targets = hidden[:, :-1], labels[:, 1:]
        if targets is None:
            return TransfoXLLMHeadModelOutput(logits=self.crit(hidden), **rest)
        losses = self.crit.losses(hidden[:, max(0, hidden.shape[1] - targets.shape[1]) :], targets)
        count = ((targets != -1) & (targets != -100)).sum().clamp(min=1)
        return TransfoXLLMHeadModelOutput(loss=losses.sum() / count, losses=losses, **rest)

    def start_generation(self, batch_size: int, max_length: int) -> GenerationState:
        """Return the state before the first token; `max_length` sets nothing aside, the memory has one size."""
        return GenerationState(self.init_mems(batch_size))

    def generation_step(self, input_ids: Tensor, attention_mask: Tensor | None, state: GenerationState) -> Tensor:
        """Read tokens that follow those read before, into the state, and predict the next.

        Args:
            input_ids: (B, S), the prompt or what was chosen after it.
            attention_mask: None or ones; this model's texts have one length.
            state: what `start_generation` returned.

        Returns:
            log-probabilities (B, V).

        Raises:
            ConfigError: when the mask hides something.
        """
        if attention_mask is not None and not attention_mask.bool().all():
            raise ConfigError(
                "attention_mask of Transformer-XL is expected to hold no zeros, but does; generate for texts of one length"
            )
        with torch.no_grad():
            scores: Tensor = self.crit(self.transformer.read(input_ids, state))
        return scores
