"""Call the hooks of plugins: notify them of events, and find verifiers.

A plugin that fails to listen is warned of once and breaks nothing; a verifier that fails refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from registry.base.thread_lock import ForkSafeLock
from registry.errors import PluginError, said, text_of, warn
from registry.families.conflicts import import_plugin
from registry.families.discovery import EntryPoint, hook_entry_points
from registry.families.family import API_VERSION

if TYPE_CHECKING:
    from pluggy import PluginManager

    from registry.store.verifiers import Verifier

__all__ = ["PluginHooks", "load_hooks"]

_VERIFY = "registry_verify"


class UndeclaredVerifier(PluginError):
    """A plugin implements the verifier hook, but its entry point does not declare it."""


class PluginHooks:
    """The plugins of group `registry.plugins`. They and pluggy are imported at the first call of a hook."""

    def __init__(self, entry_points: Callable[[], Iterable[EntryPoint]] = hook_entry_points) -> None:
        self._find = entry_points
        self._lock = ForkSafeLock()
        self._points: tuple[EntryPoint, ...] | None = None
        #: The result of importing each plugin, by its module.
        self._managers: dict[str, PluginManager | PluginError] = {}

    def tell(self, hook: str, **what: Any) -> None:
        """Call a hook of every plugin that has it.

        Raises:
            PluginError: when a plugin is a verifier that is not declared as one, so that it would never run.
        """
        for point in self._plugins():
            try:
                first = point.module not in self._managers
                getattr(self._manager(point).hook, hook)(**what)
            except UndeclaredVerifier:
                raise
            except PluginError as error:
                if first:
                    warn(error.message)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                warn(f"plugin {point.value!r} of {point.release} ran {hook} into {said(error)}")

    def verifiers(self) -> list[Verifier]:
        """Return the installed verifiers. Each is imported at its first call."""
        from registry.store.verifiers import Verifier

        return [
            Verifier(f"verifier {point.value!r} of {point.release}", partial(self._ask, point))
            for point in self._plugins()
            if point.attribute == _VERIFY
        ]

    def _ask(self, point: EntryPoint, **what: Any) -> object:
        answers = self._manager(point).hook.registry_verify(**what)
        return answers[0] if answers else None

    def _plugins(self) -> tuple[EntryPoint, ...]:
        with self._lock:
            if self._points is None:
                # A module with two entry points is one plugin. It is a verifier if either declares it.
                points = sorted(self._find(), key=lambda point: point.attribute != _VERIFY)
                self._points = tuple({point.module: point for point in reversed(points)}.values())
            return self._points

    def _manager(self, point: EntryPoint) -> PluginManager:
        known = self._managers.get(point.module)
        if known is None:
            # Without holding a lock, as in the host: a plugin's import may wait for another thread.
            try:
                known = load_hooks(point)
            except PluginError as error:
                known = error
            known = self._managers.setdefault(point.module, known)
        if isinstance(known, PluginError):
            raise known.with_traceback(None)
        return known


def load_hooks(point: EntryPoint) -> PluginManager:
    """Import a plugin into its own plugin manager, so that its hooks cannot break those of others.

    Raises:
        PluginError: when the import fails, or its hooks do not match this version.
    """
    import pluggy

    from registry.families import hookspecs

    def failure(what: str, kind: type[PluginError] = PluginError) -> PluginError:
        return kind(f"plugin {point.value!r} of {point.release} {what}", family=point.name, distribution=point.distribution)

    module = import_plugin(point)
    try:
        api = getattr(module, "REGISTRY_API", API_VERSION)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # as in the host
        raise failure(f"is expected to state REGISTRY_API, if anything, but raised {said(error)}") from error
    if type(api) is not int or not 1 <= api <= API_VERSION:
        raise failure(f"is expected to speak version {API_VERSION} of the plugin contract, but states {text_of(api)}")
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module)
        manager.check_pending()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise failure(f"is expected to implement hooks of the registry, but raised {said(error)}") from error
    verifies = bool(manager.hook.registry_verify.get_hookimpls())
    if verifies and point.attribute != _VERIFY:
        raise failure(
            f"is expected to be named '{point.module}:{_VERIFY}' by its entry point, because it has that hook, but is not; "
            "otherwise the registry does not know that the plugin is a verifier. Correct its package, or disable it: "
            f"REGISTRY_PLUGINS_DISABLED={point.distribution}",
            UndeclaredVerifier,
        )
    if point.attribute == _VERIFY and not verifies:
        raise failure(f"is expected to implement the hook {_VERIFY}, as its entry point says, but does not")
    return manager
