"""The hooks of plugins: of a family (group `registry.families`), and of who wants to know what happens (`registry.plugins`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pluggy

from registry.families.family import Family

__all__ = ["PROJECT", "hookimpl", "hookspec"]

PROJECT = "registry"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec(firstresult=True)
def registry_family() -> Family:  # type: ignore[empty-body]  # a hook specification has no body
    """Return the description of the family that this plugin provides."""


@hookspec
def registry_fetched(model: str, files: Mapping[str, Path]) -> None:
    """Learn that all files of a model are here and verified; `files` are their paths by conventional name."""


@hookspec
def registry_loaded(model: str, instance: Any) -> None:
    """Learn that a model was loaded; `instance` is the `PreTrainedModel` that the caller gets."""
