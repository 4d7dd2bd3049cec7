"""Which of several plugins that claim one name is used, and how one is imported."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from registry.errors import PluginConflict, PluginError, RegistryWarning
from registry.families.discovery import EntryPoint

__all__ = ["import_plugin", "is_contested", "settle"]


def is_contested(claims: Sequence[EntryPoint]) -> bool:
    """Whether two outside distributions claim a name that is not built in."""
    return not claims[0].builtin and len({claim.distribution for claim in claims}) > 1


def settle(what: str, claims: Sequence[EntryPoint]) -> EntryPoint:
    """Return the entry point that is used, of all that claim one name; what is built in comes first and keeps its name.

    Args:
        what: kind and name, as `family 'bert'`.
        claims: at least one, built-in ones first.

    Raises:
        PluginConflict: when two outside distributions claim it.
    """
    first, others = claims[0], [claim for claim in claims[1:] if claim.distribution != claims[0].distribution]
    if is_contested(claims):
        choice = ",".join(f"{claim.distribution}:{claim.name}" for claim in others)
        raise PluginConflict(
            f"{what} is expected to come from one distribution, but {_list(claims)} provide it; uninstall all but one, or "
            f"switch all but one off: REGISTRY_PLUGINS_DISABLED={choice} leaves that of {first.distribution}",
            family=first.name,
            distribution=first.distribution,
        )
    if others:
        warnings.warn(
            f"{what} is built in, so that of {_list(others)} is off; "
            f"set REGISTRY_PLUGINS_DISABLED={first.distribution}:{first.name} to use it instead",
            RegistryWarning,
            stacklevel=2,
        )
    return first


def import_plugin(point: EntryPoint) -> ModuleType:
    """Import the module of an entry point.

    Raises:
        PluginError: when it fails, in whatever way, even one that is meant to end the program; only the user's own
            interruption passes.
    """
    try:
        return import_module(point.module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginError(
            f"plugin {point.value!r} of {point.release} is expected to import, but raised {type(error).__name__}: {error}; "
            "`registry plugins -v` shows where",
            family=point.name,
            distribution=point.distribution,
        ) from error


def _list(claims: Sequence[EntryPoint]) -> str:
    return " and ".join(dict.fromkeys(claim.release for claim in claims))
