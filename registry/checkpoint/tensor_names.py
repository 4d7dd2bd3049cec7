"""Bring the names in a file and the names in a model together."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

__all__ = ["match_names", "unsafe_tensor_name", "wrapper_prefix"]

#: Attributes under which DistributedDataParallel, Lightning modules and torch.compile hold the model that was trained.
_WRAPPERS = ("module.", "model.", "_orig_mod.")
#: No key of a state dict has any; a control character in a name fools logs and terminals, a lone surrogate cannot be saved.
_NEVER_IN_NAMES = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]|^[/\\]|^[A-Za-z]:[/\\]|(^|[/\\])\.{1,2}([/\\]|$)")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{,500}")  # nearly all names
_MAX_NAME = 1000

#: Names of layer norm parameters in files converted from TensorFlow; only a whole last part is meant.
_OLD_PARTS = {"gamma": "weight", "beta": "bias"}


def unsafe_tensor_name(name: str) -> str | None:
    """Return why `name` must not name a tensor, or None when it may: what could be taken for a path that leads elsewhere.

    A `/` between words is legal: TensorFlow's names have it.
    """
    if _PLAIN_NAME.fullmatch(name):
        return None
    if not name:
        return "is empty"
    if len(name) > _MAX_NAME:
        return f"has more than {_MAX_NAME} characters"
    if name == "__metadata__":
        return "means something else in safetensors files"
    if found := _NEVER_IN_NAMES.search(name):
        return f"contains {found.group()!a}"
    return None


def wrapper_prefix(
    file_names: Collection[str], model_names: Collection[str], *, prefix: str, renamed: Mapping[str, str]
) -> str:
    """Return what stands before every name of a file because a wrapper of the model was saved; mostly nothing.

    It must be of well-known wrappers, `module._orig_mod.` say, and before *all* names. A model may have an attribute of
    that name itself: the shortest prefix without which most names are the model's is the wrapper's.
    """
    candidates = [""]
    while longer := _longer_wrapper(candidates[-1], file_names):
        candidates.append(longer)
    if len(candidates) == 1:
        return ""

    def count(wrapper: str) -> int:
        return sum(_bridge(name.removeprefix(wrapper), model_names, prefix, renamed) is not None for name in file_names)

    return max(candidates, key=count)  # the first of equals


def _longer_wrapper(wrapper: str, file_names: Collection[str]) -> str | None:
    for longer in (wrapper + more for more in _WRAPPERS):
        if file_names and all(name.startswith(longer) for name in file_names):
            return longer
    return None


def match_names(
    file_names: Iterable[str], model_names: Collection[str], *, prefix: str, renamed: Mapping[str, str], wrapper: str = ""
) -> tuple[dict[str, str], dict[str, str | None]]:
    """Return model name to file name, and every file name that is left over.

    A file saved from the bare model lacks the `prefix` that a model with a head has, and the other way round; either is
    bridged name by name, as are the family's `renamed` weights and old layer norms. A `wrapper`, as `wrapper_prefix` finds
    it, is taken off every name of the file first. An exact name goes before a bridged one. A left-over name maps to the
    file name that took its place in the model, or to None when nothing wants it.
    """
    matched: dict[str, str] = {}
    unmatched: dict[str, str | None] = {}
    bridged: list[tuple[str, str]] = []
    for name in file_names:
        inner = name.removeprefix(wrapper)
        if inner in model_names:
            matched[inner] = name
        elif (target := _bridge(inner, model_names, prefix, renamed)) is not None:
            bridged.append((target, name))
        else:
            unmatched[name] = None
    for target, name in bridged:
        if matched.setdefault(target, name) != name:
            unmatched[name] = matched[target]
    return matched, unmatched


def _bridge(name: str, model_names: Collection[str], prefix: str, renamed: Mapping[str, str]) -> str | None:
    head, dot, last = name.rpartition(".")
    forms = [name]
    if last in _OLD_PARTS:
        forms.append(f"{head}{dot}{_OLD_PARTS[last]}")
    if name in renamed:
        forms.append(renamed[name])
    for form in forms:
        for candidate in (form, form.removeprefix(f"{prefix}."), f"{prefix}.{form}"):
            if candidate in model_names:
                return candidate
    return None
