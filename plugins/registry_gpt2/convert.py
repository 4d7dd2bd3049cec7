"""OpenAI's TensorFlow checkpoints of GPT-2 as tensors here (https://github.com/openai/gpt-2, src/model.py)."""

from __future__ import annotations

from registry.checkpoint.name_table import Renamed, Rule
from registry.checkpoint.tensors import Checkpoint
from registry_gpt2.config import GPT2Config

__all__ = ["TENSORFLOW", "load_tf_weights"]

# There a linear layer is a convolution of width 1, (1, in, out); here it is (in, out), as in every release of GPT-2.
TENSORFLOW = (
    Rule(r"model/(wte|wpe)", r"transformer.\1.weight"),
    Rule(r"model/h(\d+)/(ln_1|ln_2)/g", r"transformer.h.\1.\2.weight"),
    Rule(r"model/h(\d+)/(ln_1|ln_2)/b", r"transformer.h.\1.\2.bias"),
    Rule(r"model/h(\d+)/(attn|mlp)/(c_attn|c_fc|c_proj)/w", r"transformer.h.\1.\2.\3.weight", "squeezed"),
    Rule(r"model/h(\d+)/(attn|mlp)/(c_attn|c_fc|c_proj)/b", r"transformer.h.\1.\2.\3.bias"),
    Rule(r"model/ln_f/g", "transformer.ln_f.weight"),
    Rule(r"model/ln_f/b", "transformer.ln_f.bias"),
)


def load_tf_weights(checkpoint: Checkpoint, config: GPT2Config) -> Renamed:
    """Return a TensorFlow checkpoint under the names of the language model.

    Args:
        checkpoint: of TensorFlow.
        config: of the model; no name depends on it.
    """
    return Renamed(checkpoint, TENSORFLOW)
