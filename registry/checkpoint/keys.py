"""Bring the names in a file and the names in a model together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

__all__ = ["match_names"]

#: Names of layer norm parameters in files converted from TensorFlow; only a whole last part is meant.
_OLD_PARTS = {"gamma": "weight", "beta": "bias"}


def match_names(
    file_names: Iterable[str], model_names: Collection[str], *, prefix: str, renamed: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str | None]]:
    """Return model name to file name, and every file name that is left over.

    A file saved from the bare model lacks the `prefix` that a model with a head has, and the other way round; either is
    bridged name by name, as are the family's `renamed` weights and old layer norms. An exact name goes before a bridged
    one. A left-over name maps to the file name that took its place in the model, or to None when nothing wants it.
    """
    matched: dict[str, str] = {}
    unmatched: dict[str, str | None] = {}
    bridged: list[tuple[str, str]] = []
    for name in file_names:
        if name in model_names:
            matched[name] = name
        elif (target := _bridge(name, model_names, prefix, renamed)) is not None:
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
