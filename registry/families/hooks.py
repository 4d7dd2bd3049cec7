"""Tell plugins what happened; a plugin that fails is warned of once and breaks nothing."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from registry.errors import RegistryWarning
from registry.families.discovery import EntryPoint, hook_entry_points
from registry.families.locks import ForkSafeLock

if TYPE_CHECKING:
    from pluggy import PluginManager

__all__ = ["PluginHooks"]


class PluginHooks:
    """The plugins of group `registry.plugins`. None is imported, and pluggy is not, before there is something to tell."""

    def __init__(self, entry_points: Callable[[], Iterable[EntryPoint]] = hook_entry_points) -> None:
        self._find = entry_points
        self._lock = ForkSafeLock()
        self._managers: list[tuple[EntryPoint, PluginManager]] | None = None

    def tell(self, hook: str, **what: Any) -> None:
        """Call a hook of every plugin that has it."""
        for point, manager in self._loaded():
            try:
                getattr(manager.hook, hook)(**what)
            except Exception as error:
                _warn(point, f"ran {hook} into {type(error).__name__}: {error}")

    def _loaded(self) -> list[tuple[EntryPoint, PluginManager]]:
        with self._lock:
            if self._managers is None:
                managers = []
                for point in self._find():
                    try:
                        managers.append((point, _manager(point)))
                    except (Exception, SystemExit) as error:
                        _warn(point, f"is not used, because it raised {type(error).__name__}: {error}")
                self._managers = managers
            return self._managers


def _manager(point: EntryPoint) -> PluginManager:
    """Import a plugin into a manager of its own: no plugin's hooks can break another's."""
    import pluggy

    from registry.families import hookspecs

    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(import_module(point.value.split(":")[0]))
    manager.check_pending()
    return manager


def _warn(point: EntryPoint, what: str) -> None:
    warnings.warn(f"plugin {point.value!r} of {point.distribution} {point.version} {what}", RegistryWarning, stacklevel=4)
