"""TensorFlow checkpoints of Transformer-XL as tensors here (https://github.com/kimiyoung/transformer-xl, tf/model.py)."""

from __future__ import annotations

from registry.checkpoint.name_table import Renamed, Rule
from registry.checkpoint.tensors import Checkpoint
from registry_transfo_xl.config import TransfoXLConfig

__all__ = ["TENSORFLOW", "load_tf_weights"]

_LAYER, _OURS = r"transformer/layer_(\d+)/", r"transformer.layers.\1."
_EMBEDDING, _SOFTMAX = "transformer/adaptive_embed/", "transformer/adaptive_softmax/"

#: Where layers share their position biases, these are (heads, width), and otherwise one such matrix for each layer.
_SHARED = (Rule("transformer/(r_r_bias|r_w_bias)", r"transformer.\1"),)
_UNTIED = (Rule("transformer/(r_r_bias|r_w_bias)", r"transformer.layers.{row}.dec_attn.\1", "rows"),)

TENSORFLOW = (
    Rule(_LAYER + "rel_attn/qkv/kernel", _OURS + "dec_attn.qkv_net.weight", "transposed"),
    Rule(_LAYER + "rel_attn/o/kernel", _OURS + "dec_attn.o_net.weight", "transposed"),
    Rule(_LAYER + "rel_attn/r/kernel", _OURS + "dec_attn.r_net.weight", "transposed"),
    Rule(_LAYER + "rel_attn/LayerNorm/gamma", _OURS + "dec_attn.layer_norm.weight"),
    Rule(_LAYER + "rel_attn/LayerNorm/beta", _OURS + "dec_attn.layer_norm.bias"),
    Rule(_LAYER + "ff/layer_1/kernel", _OURS + "pos_ff.CoreNet.0.weight", "transposed"),
    Rule(_LAYER + "ff/layer_1/bias", _OURS + "pos_ff.CoreNet.0.bias"),
    Rule(_LAYER + "ff/layer_2/kernel", _OURS + "pos_ff.CoreNet.3.weight", "transposed"),
    Rule(_LAYER + "ff/layer_2/bias", _OURS + "pos_ff.CoreNet.3.bias"),
    Rule(_LAYER + "ff/LayerNorm/gamma", _OURS + "pos_ff.layer_norm.weight"),
    Rule(_LAYER + "ff/LayerNorm/beta", _OURS + "pos_ff.layer_norm.bias"),
    Rule(_SOFTMAX + "cutoff_0/cluster_W", "crit.cluster_weight"),
    Rule(_SOFTMAX + "cutoff_0/cluster_b", "crit.cluster_bias"),
    Rule(_SOFTMAX + r"cutoff_(\d+)/proj", r"crit.out_projs.\1", "transposed"),
)

#: Buckets with embeddings of their own widths.
_BUCKETS = (
    Rule(_EMBEDDING + r"cutoff_(\d+)/lookup_table", r"transformer.word_emb.emb_layers.\1.weight"),
    Rule(_EMBEDDING + r"cutoff_(\d+)/proj_W", r"transformer.word_emb.emb_projs.\1", "transposed"),
    Rule(_SOFTMAX + r"cutoff_(\d+)/b", r"crit.out_layers.\1.bias"),
    Rule(_SOFTMAX + r"cutoff_(\d+)/lookup_table", r"crit.out_layers.\1.weight"),  # where it is not the embedding's
)

#: Buckets that are rows of a single embedding, `div_val` 1, or a single bucket.
_ONE_EMBEDDING = (
    Rule(_EMBEDDING + "lookup_table", "transformer.word_emb.emb_layers.0.weight"),
    Rule(_EMBEDDING + "proj_W", "transformer.word_emb.emb_projs.0", "transposed"),
    Rule(_SOFTMAX + "bias", "crit.out_layers.0.bias"),
    Rule(_SOFTMAX + r"cutoff_\d+/b", "crit.out_layers.0.bias", "joined"),
    Rule(_SOFTMAX + r"cutoff_\d+/lookup_table", "crit.out_layers.0.weight", "joined"),
)


def load_tf_weights(checkpoint: Checkpoint, config: TransfoXLConfig) -> Renamed:
    """Return a TensorFlow checkpoint under the names of the language model.

    Args:
        checkpoint: of TensorFlow.
        config: of the model; `div_val` and `untie_r` say how variables are laid out.
    """
    embedding = _ONE_EMBEDDING if config.div_val == 1 else _BUCKETS
    return Renamed(checkpoint, (*TENSORFLOW, *embedding, *(_UNTIED if config.untie_r else _SHARED)))
