"""Look at every installed plugin at once, for those who want to know what is wrong: `registry plugins`, `registry doctor`.

This imports them all, which nothing else does.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from registry.errors import PluginError
from registry.families import discovery
from registry.families.catalogs import family_catalogs, package_catalogs
from registry.families.claims import import_plugin, is_contested
from registry.families.discovery import EntryPoint
from registry.families.hooks import load_hooks
from registry.families.host import PluginHost
from registry.families.transports import TransportPlugins
from registry.store.transports import BUILTIN_SCHEMES

__all__ = ["PluginReport", "State", "plugin_reports"]

#: `off`: what it claims is built in; `conflict`: another package claims the same.
State = Literal["ok", "disabled", "off", "conflict", "broken"]

#: What a light plugin module does not import; it makes every command slow.
_HEAVY = ("torch", "numpy", "transformers", "tensorflow")
_HOOKS = ("registry_verify", "registry_fetched", "registry_loaded")


@dataclass(kw_only=True)
class PluginReport:
    """One plugin module, or catalog package, of one distribution."""

    name: str
    distribution: str
    version: str
    #: The contract that it states, where it was imported and states one.
    api: int | None = None
    families: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()
    transports: tuple[str, ...] = ()
    #: The models.yaml that it brings.
    catalogs: tuple[str, ...] = ()
    #: Seconds that importing it took here, after whatever was imported before; None when it was not.
    seconds: float | None = None
    state: State = "ok"
    #: What is worth knowing, and is no failure.
    notes: list[str] = field(default_factory=list)
    error: PluginError | None = None


def plugin_reports() -> list[PluginReport]:
    """Return a report of every installed plugin, built-in ones first; what fails is in its report, never raised."""
    reports = []
    for (distribution, name), points in _modules().items():
        first = next(iter(points.values()))[0]
        report = PluginReport(
            name=name,
            distribution=distribution,
            version=first.version,
            families=_names(points, discovery.FAMILIES),
            transports=_names(points, discovery.TRANSPORTS),
        )
        _examine(report, points)
        reports.append(report)
    return reports


def _modules() -> dict[tuple[str, str], dict[str, list[EntryPoint]]]:
    """Return what is installed, by distribution and module, and by group."""
    found: dict[tuple[str, str], dict[str, list[EntryPoint]]] = {}
    groups = (discovery.FAMILIES, discovery.HOOKS, discovery.TRANSPORTS, discovery.CATALOGS)
    points = [(group, point) for group in groups for point in discovery.installed_entry_points(group)]
    for group, point in sorted(points, key=lambda item: (not item[1].builtin, item[1].distribution)):
        found.setdefault((point.distribution, point.module), {}).setdefault(group, []).append(point)
    return found


def _names(points: Mapping[str, list[EntryPoint]], group: str) -> tuple[str, ...]:
    return tuple(point.name for point in points.get(group, ()))


def _examine(report: PluginReport, points: Mapping[str, list[EntryPoint]]) -> None:
    enabled = {group: [point for point in listed if not discovery.is_disabled(point)] for group, listed in points.items()}
    off = [point.name for group, listed in points.items() for point in listed if point not in enabled[group]]
    if off:
        report.notes.append(f"REGISTRY_PLUGINS_DISABLED switches off {', '.join(off)}")
    if not any(enabled.values()):
        report.state = "disabled"
        return
    code = [point for group, listed in enabled.items() for point in listed if group != discovery.CATALOGS]
    try:
        report.catalogs = tuple(_catalogs(enabled))
        with _watched(report):
            rivals = list(_rivals(report, enabled))
            if code and len(rivals) < len(code):
                _load(report, enabled, code[0], rivals)
    except PluginError as error:
        report.state, report.error = "broken", error


def _catalogs(enabled: Mapping[str, list[EntryPoint]]) -> Iterator[str]:
    """Yield the models.yaml of a family's package, if it has one, and of a catalog package, which must."""
    for source in family_catalogs(enabled.get(discovery.FAMILIES, ())):
        yield source.path
    for point, source in zip(
        enabled.get(discovery.CATALOGS, ()), package_catalogs(enabled.get(discovery.CATALOGS, ())), strict=True
    ):
        if not Path(source.path).is_file():
            raise PluginError(
                f"catalog package {point.package!r} of {point.release} is expected to hold models.yaml, but does not; "
                f"install it anew, or uninstall {point.distribution}",
                family=point.name,
                distribution=point.distribution,
            )
        yield source.path


def _rivals(report: PluginReport, enabled: Mapping[str, list[EntryPoint]]) -> Iterator[EntryPoint]:
    """Yield what is claimed by others too and so not used from here, and say so."""
    host = PluginHost()
    for point in enabled.get(discovery.FAMILIES, ()):
        claims = host.entry_points()[point.name]
        if claims[0].builtin and not point.builtin:
            yield _off(report, point, f"family {point.name!r} is built in", f"{claims[0].distribution}:{point.name}")
        elif is_contested(claims):
            yield _conflict(report, point, "family", claims)
    for point in enabled.get(discovery.TRANSPORTS, ()):
        if (scheme := point.name.lower()) in BUILTIN_SCHEMES:
            yield _off(report, point, f"scheme {scheme!r} is built in", "")
        elif is_contested(claims := TransportPlugins().claims(scheme)):
            yield _conflict(report, point, "transport", claims)


def _off(report: PluginReport, point: EntryPoint, why: str, instead: str) -> EntryPoint:
    choice = f"; REGISTRY_PLUGINS_DISABLED={instead} uses this one" if instead else ""
    report.notes.append(f"{why}, so this one is off{choice}")
    report.state = "off"
    return point


def _conflict(report: PluginReport, point: EntryPoint, kind: str, claims: list[EntryPoint]) -> EntryPoint:
    others = " and ".join(claim.release for claim in claims if claim.distribution != point.distribution)
    mine = f"{point.distribution}:{point.name}"
    report.notes.append(
        f"{kind} {point.name!r} is provided by {others} too, so neither is used; "
        f"uninstall one, or REGISTRY_PLUGINS_DISABLED={mine} leaves the other"
    )
    report.state = "conflict"
    return point


def _load(
    report: PluginReport, enabled: Mapping[str, list[EntryPoint]], first: EntryPoint, rivals: Iterable[EntryPoint]
) -> None:
    began = time.perf_counter()
    module = import_plugin(first)
    report.seconds = time.perf_counter() - began
    api = getattr(module, "REGISTRY_API", None)
    report.api = api if type(api) is int else None
    report.hooks = tuple(name for name in _HOOKS if _implements(module, name))
    rivals = list(rivals)
    for point in enabled.get(discovery.FAMILIES, ()):
        if point not in rivals:
            family = PluginHost().get(point.name)
            if family.name not in report.families:
                report.notes.append(f"family {point.name!r} calls itself {family.name!r}")
    for point in enabled.get(discovery.HOOKS, ()):
        load_hooks(point)
    for point in enabled.get(discovery.TRANSPORTS, ()):
        if point not in rivals and (transport := TransportPlugins().maybe_make(point.name.lower())) is not None:
            transport.close()


def _implements(module: object, hook: str) -> bool:
    """Whether a module has an implementation of a hook, which pluggy's mark tells."""
    return getattr(getattr(module, hook, None), "registry_impl", None) is not None


@contextlib.contextmanager
def _watched(report: PluginReport) -> Iterator[None]:
    """Note what importing a plugin does beside: what it prints, and what heavy library it brings."""
    said, before = io.StringIO(), set(sys.modules)
    with contextlib.redirect_stdout(said), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            if heavy := [name for name in _HEAVY if name in sys.modules and name not in before]:
                report.notes.append(
                    f"it imports {' and '.join(heavy)}, which makes commands slow; import them where they are used"
                )
            if said.getvalue().strip():
                report.notes.append(f"it prints when it is imported: {said.getvalue().strip()[:80]!r}")
