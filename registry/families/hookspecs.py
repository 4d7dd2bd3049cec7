"""The hooks of a family plugin."""

from __future__ import annotations

import pluggy

from registry.families.family import Family

__all__ = ["PROJECT", "hookimpl", "hookspec"]

PROJECT = "registry"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec(firstresult=True)
def registry_family() -> Family:  # type: ignore[empty-body]  # a hook specification has no body
    """Return the description of the family that this plugin provides."""
