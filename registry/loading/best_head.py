"""Find the head that fits a checkpoint's weights, when neither caller nor configuration names it."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from registry.checkpoint.tensor_names import match_names, wrapper_prefix
from registry.errors import ConfigError

if TYPE_CHECKING:
    from registry.families.family import Family
    from registry.pretrained.config import PretrainedConfig

__all__ = ["best_head"]


def best_head(described: Family, config: PretrainedConfig, names: Collection[str]) -> str:
    """Return the head that leaves the fewest weights unused; among equals, the one with the fewest missing weights.

    Args:
        described: the family.
        config: of the model.
        names: of the checkpoint's tensors.
    """
    import torch

    def misfit(head: str) -> tuple[int, int, bool]:
        with torch.device("meta"):
            try:
                model = described.load_class(described.head_path(head))(config)
            except ConfigError:  # not with this configuration: its number of labels, say
                return len(names) + 1, 0, True
        expected, tied = model.state_dict().keys(), model.tied_weights()
        prefix, renamed = model.base_model_prefix, model.renamed_weights
        wrapper = wrapper_prefix(names, expected, prefix=prefix, renamed=renamed)
        matched, left = match_names(names, expected, prefix=prefix, renamed=renamed, wrapper=wrapper)
        # What every model of the family can do without, or computes, tells no head from another.
        common = (*model.optional_weights, *(f"{model.base_model_prefix}.{name}" for name in model.optional_weights))
        unused = [
            name
            for name, twin in left.items()
            if twin is None and not name.removeprefix(wrapper).startswith(common) and not name.endswith(model.derivable_weights)
        ]
        lacking = [name for name in expected if name not in matched and name not in tied]
        return len(unused), len(lacking), head != described.default_head

    return min(described.heads, key=misfit)
