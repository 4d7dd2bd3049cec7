"""Families that are not here: which package has them, so that whoever asks for one learns what to install."""

from __future__ import annotations

from collections.abc import Collection

from registry.errors import UnknownModel
from registry.families.discovery import FAMILIES, MOVED, entry_points, installed_entry_points
from registry.families.installed import canonical

__all__ = ["advice", "where_a_model_is"]

#: Well-known families that nobody has written a plugin for under this name, as far as we know: they are asked for because
#: other libraries have them. `xlnet`, `xlm`, `roberta` and `distilbert` were in the library of 2019.
_TRANSFORMERS = """
albert bart big-bird camembert ctrl deberta deberta-v2 distilbert electra falcon flaubert gemma gpt-neo gpt-neox gptj llama
longformer mbart mistral modernbert mpnet opt pegasus phi qwen2 roberta t5 xlm xlm-roberta xlnet
"""


def advice(family: str) -> str | None:
    """Return what to do about a family that is not here, or None when nothing is known of it.

    A package says where a family went by an entry point of group `registry.moved`: the family's name, and the distribution
    that has it now (`_` for `-`, as the form of entry points wants).
    """
    name = canonical(family)
    for point in installed_entry_points(FAMILIES):
        if canonical(point.name) == name:
            return f"{point.release} has it, but is switched off; take it out of REGISTRY_PLUGINS_DISABLED"
    for point in entry_points(MOVED):
        if canonical(point.name) == name:
            return f"as {point.release} says, it comes with another package: pip install {canonical(point.value)}"
    if name in _TRANSFORMERS.split():
        return (
            "it is not among those that come with pretrained-registry; install a plugin that provides it, write one "
            f"(registry new-family {name}), or use transformers (pip install transformers)"
        )
    return None


def where_a_model_is(error: UnknownModel, here: Collection[str]) -> UnknownModel:
    """Return the error for an unknown name with what to install, where the name begins with that of a family elsewhere.

    Args:
        error: as the catalog says it.
        here: the families that are here.
    """
    if error.distribution is not None:  # that which had this very name is known
        return error
    name = canonical(error.name)
    moved = [canonical(point.name) for point in entry_points(MOVED)]
    known = [family for family in (*moved, *_TRANSFORMERS.split()) if name == family or name.startswith(f"{family}-")]
    for family in sorted(known, key=len, reverse=True):
        if family in map(canonical, here):
            return error
        if what := advice(family):
            message = f"{error.message}. It may be of family {family!r}: {what}"
            return UnknownModel(message, name=error.name, suggestions=error.suggestions)
    return error
