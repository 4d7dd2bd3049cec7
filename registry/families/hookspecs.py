"""The hook specifications: for families (group `registry.families`), and for observers and verifiers (`registry.plugins`)."""

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
    """Handle the event that all files of a model are available and verified. `files` maps usual names to paths."""


@hookspec
def registry_verify(model: str, file: str, path: Path, sha256: str, url: str) -> str | None:
    """Accept a file by returning None; return the reason, or raise, to refuse it.

    Called before the first use of a file: before a download gets its final name, before another program's file is adopted,
    and at each use of a file outside the cache. Acceptance is recorded by model, file, hash and version of the verifier's
    distribution, and the verifier is not called again for them. Calls come from several threads.

    The entry point must name the hook, as `module:registry_verify`. A declared verifier that cannot be imported refuses
    every file.

    Args:
        model: the model's name, or the path or URL that was given.
        file: the file's name, as `model.safetensors`.
        path: where all of its bytes lie; not to be changed.
        sha256: their hash, taken by the store.
        url: where they came from, without secrets; of a file that was here already, where it would come from.
    """


@hookspec
def registry_loaded(model: str, instance: Any) -> None:
    """Handle the event that a model was loaded. `instance` is the `PreTrainedModel` that the caller gets."""
