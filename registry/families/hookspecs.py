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
def registry_verify(model: str, file: str, path: Path, sha256: str, url: str) -> str | None:
    """Accept a file by returning None; return the reason, or raise, to refuse it.

    Asked before a file is first used: before a download gets its name, before another program's file is taken over, and for
    each use of a file that is read where it lies. What was accepted is noted by model, file, hash and the version of the
    verifier's distribution, and not asked again. Calls come from several threads.

    The entry point must name the hook, as `module:registry_verify`: what is known to be a verifier refuses every file when it
    cannot be imported.

    Args:
        model: the model's name, or the path or URL that was given.
        file: the file's name, as `model.safetensors`.
        path: where all of its bytes lie; not to be changed.
        sha256: their hash, taken by the store.
        url: where they came from, without secrets; of a file that was here already, where it would come from.
    """


@hookspec
def registry_loaded(model: str, instance: Any) -> None:
    """Learn that a model was loaded; `instance` is the `PreTrainedModel` that the caller gets."""
