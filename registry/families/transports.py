"""Transports of other packages, by URL scheme. Each is imported when a source of its scheme is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from registry.errors import PluginError, said
from registry.families.conflicts import import_plugin, named_when_slow, settle
from registry.families.discovery import EntryPoint, transport_entry_points

if TYPE_CHECKING:
    from registry.store.transports import Transport

__all__ = ["TransportPlugins"]


class TransportPlugins:
    """The installed transports, without the built-in ones."""

    def __init__(self, entry_points: Callable[[], Iterable[EntryPoint]] = transport_entry_points) -> None:
        self._find = entry_points

    def claims(self, scheme: str) -> list[EntryPoint]:
        """Return the entry points that claim a scheme. Schemes are compared in lower case."""
        return [point for point in self._find() if point.name.lower() == scheme]

    def schemes(self) -> list[str]:
        """Return the schemes that installed packages claim."""
        return sorted({point.name.lower() for point in self._find()})

    def maybe_make(self, scheme: str) -> Transport | None:
        """Return a new transport for a scheme, or None when no package has one.

        Raises:
            PluginError: when creating the transport fails.
            PluginConflict: when two packages claim the scheme.
        """
        if not (claims := self.claims(scheme)):
            return None
        from registry.store.transports.plugin import GuardedTransport, missing_methods

        point = settle(f"transport {scheme!r}", claims)
        who = f"transport {scheme!r} of {point.release}"

        def failure(what: str) -> PluginError:
            return PluginError(f"{who} is expected to {what}", family=scheme, distribution=point.distribution)

        module = import_plugin(point)
        try:
            factory = getattr(module, point.attribute, None)
            if callable(factory):
                with named_when_slow(who):
                    made = factory()
                missing = missing_methods(made)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise failure(f"be made by {point.value}(), but that raised {said(error)}") from error
        if not callable(factory):
            raise failure(f"be named 'module:factory' by its entry point, but {point.value!r} is not callable")
        if missing:
            raise failure(f"have the methods of registry.store.transports.Transport, but lacks {', '.join(missing)}")
        return GuardedTransport(made, who)
