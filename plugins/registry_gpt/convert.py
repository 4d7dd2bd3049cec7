"""OpenAI's numpy release of GPT as tensors here (https://github.com/openai/finetune-transformer-lm, train.py)."""

from __future__ import annotations

from registry.checkpoint.name_table import Layout, Renamed, Rule
from registry.checkpoint.tensors import Checkpoint
from registry_gpt.config import OpenAIGPTConfig

__all__ = ["EMBEDDINGS", "LAYER", "load_numpy_weights"]

#: The arrays have no names: these come first,
EMBEDDINGS = ("positions_embed.weight", "tokens_embed.weight")
#: and then these of each layer.
LAYER: tuple[tuple[str, Layout], ...] = (
    ("attn.c_attn.weight", "squeezed"),
    ("attn.c_attn.bias", "same"),
    ("attn.c_proj.weight", "squeezed"),
    ("attn.c_proj.bias", "same"),
    ("ln_1.weight", "same"),
    ("ln_1.bias", "same"),
    ("mlp.c_fc.weight", "squeezed"),
    ("mlp.c_fc.bias", "same"),
    ("mlp.c_proj.weight", "squeezed"),
    ("mlp.c_proj.bias", "same"),
    ("ln_2.weight", "same"),
    ("ln_2.bias", "same"),
)


def load_numpy_weights(checkpoint: Checkpoint, config: OpenAIGPTConfig) -> Renamed:
    """Return the release's arrays under the names of the language model.

    Args:
        checkpoint: its tensors are named by their numbers.
        config: of the model; says how many layers there are.
    """
    rules = [Rule(str(number), f"transformer.{name}") for number, name in enumerate(EMBEDDINGS)]
    for layer in range(config.n_layer):
        begin = len(EMBEDDINGS) + layer * len(LAYER)
        rules += [
            Rule(str(begin + number), f"transformer.h.{layer}.{name}", layout) for number, (name, layout) in enumerate(LAYER)
        ]
    return Renamed(checkpoint, rules)
