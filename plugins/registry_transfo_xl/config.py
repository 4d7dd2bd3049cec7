"""The configuration of Transformer-XL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar, Self

from registry.pretrained import PretrainedConfig

__all__ = ["TransfoXLConfig"]

#: Buckets after the first, each of which is several modules; the published model has 3.
_MAX_CUTOFFS = 100
_MAX_WIDTH = 1_000_000
_MAX_LENGTH = 1_000_000


@dataclass(kw_only=True)
class TransfoXLConfig(PretrainedConfig):
    """Sizes and rates of Transformer-XL; the defaults are those of `transfo-xl-wt103`."""

    model_type: ClassVar[str] = "transfo-xl"
    aliases: ClassVar[Mapping[str, str]] = {
        "vocab_size": "n_token",
        "hidden_size": "d_model",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
        "tie_word_embeddings": "tie_weight",
    }

    n_token: int = 267735
    #: First ids of the vocabulary's buckets after the first; ascending. None of them gives one bucket.
    cutoffs: list[int] = field(default_factory=lambda: [20000, 40000, 200000])
    d_model: int = 1024
    d_embed: int = 1024
    n_head: int = 16
    d_head: int = 64
    d_inner: int = 4096
    #: Each bucket's embedding is this many times narrower than the one before.
    div_val: int = 4
    #: Whether layer norms stand before attention and feed-forward, instead of after.
    pre_lnorm: bool = False
    n_layer: int = 18
    tgt_len: int = 128
    #: Tokens at the end of a segment that are read again in the next, and so are left out of the memory.
    ext_len: int = 0
    #: Tokens whose hidden states are remembered.
    mem_len: int = 1600
    #: The largest distance with a position of its own; 0 or less for no limit.
    clamp_len: int = 1000
    #: Whether each token attends to exactly `mem_len` tokens, itself included.
    same_length: bool = True
    #: Whether the output projections of all buckets but the first are those of the embedding; sets `tie_projs`.
    proj_share_all_but_first: bool = True
    #: For each bucket, whether its output projection is that of the embedding.
    tie_projs: list[bool] | None = None
    attn_type: int = 0
    sample_softmax: int = -1
    adaptive: bool = True
    #: Whether the output weights are the embedding.
    tie_weight: bool = True
    dropout: float = 0.1
    dropatt: float = 0.0
    #: Whether each layer has position biases of its own.
    untie_r: bool = True
    #: How new weights begin: `normal` with `init_std`, or `uniform` within `init_range`.
    init: str = "normal"
    init_range: float = 0.01
    proj_init_std: float = 0.01
    init_std: float = 0.02
    layer_norm_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        if isinstance(self.cutoffs, list) and isinstance(self.proj_share_all_but_first, bool):  # else the checks name them
            shared = [False] + [True] * min(len(self.cutoffs), _MAX_CUTOFFS + 1)
            if self.tie_projs is None:
                self.tie_projs = shared if self.proj_share_all_but_first else [False] * len(shared)
            self.proj_share_all_but_first = self.tie_projs == shared
        super().__post_init__()

    def validate(self) -> None:
        """Refuse what this implementation would compute wrongly or not at all."""
        for name in ("n_token", "d_model", "d_embed", "n_head", "d_head", "d_inner", "div_val", "n_layer"):
            self.require(getattr(self, name) > 0, name, "positive")
        for name in ("ext_len", "mem_len"):  # room for as many hidden states is made at the first token
            self.require(0 <= getattr(self, name) <= _MAX_LENGTH, name, f"0 or more and at most {_MAX_LENGTH:,}")
        for name in ("d_embed", "d_head"):
            self.require(getattr(self, name) <= _MAX_WIDTH, name, f"at most {_MAX_WIDTH:,}")
        self.require(self.tgt_len > 0, "tgt_len", "positive")
        self.require(not self.pruned_heads, "pruned_heads", "empty, because this family has no pruning")
        self.require(len(self.cutoffs) <= _MAX_CUTOFFS, "cutoffs", f"at most {_MAX_CUTOFFS} ids")
        self.require(self.d_model % 2 == 0, "d_model", "even, half for sines and half for cosines")
        ends = [0, *self.cutoffs, self.n_token]
        ascending = all(first < second for first, second in pairwise(ends))
        self.require(ascending, "cutoffs", f"ascending between 0 and n_token, {self.n_token}")
        narrowest = self.d_embed // self.div_val ** len(self.cutoffs)
        self.require(narrowest > 0, "div_val", f"small enough for {len(self.cutoffs) + 1} buckets of d_embed {self.d_embed}")
        fits = self.tie_projs is not None and len(self.tie_projs) == len(ends) - 1
        self.require(fits, "tie_projs", f"one value for each of {len(ends) - 1} buckets")
        is_shared = self.tie_projs == [False] + [True] * len(self.cutoffs)
        as_tied = f"{is_shared}, as tie_projs says; set tie_projs instead"
        self.require(self.proj_share_all_but_first == is_shared, "proj_share_all_but_first", as_tied)
        self.require(self.init in ("normal", "uniform"), "init", "'normal' or 'uniform'")
        self.require(self.attn_type == 0, "attn_type", "0, the relative attention of the paper and of the published model")
        self.require(self.sample_softmax <= 0, "sample_softmax", "-1, because sampled softmax is not implemented")

    @property
    def max_position_embeddings(self) -> int:
        """Tokens that one pass can see: those of a segment and those that are remembered."""
        return self.tgt_len + self.ext_len + self.mem_len

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build from the content of a config.json, where `n_token` goes before `vocab_size`, as it did in 2019."""
        if "n_token" in data:
            data = {name: value for name, value in data.items() if name != "vocab_size"}
        return super().from_dict(data)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed; ties of projections follow the buckets."""
        if not {"cutoffs", "proj_share_all_but_first"}.isdisjoint(changes):
            if "proj_share_all_but_first" not in changes:
                changes.setdefault("proj_share_all_but_first", self.proj_share_all_but_first)
            changes.setdefault("tie_projs", None)
        return super().replace(**changes)
