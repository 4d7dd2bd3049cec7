"""Reports about every installed plugin, for `registry plugins` and `registry doctor`.

Only this module imports all plugins.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from registry.errors import PluginError, RegistryWarning, said
from registry.families import discovery
from registry.families.conflicts import SLOW, import_plugin, is_contested, open_streams
from registry.families.discovery import EntryPoint
from registry.families.hooks import load_hooks
from registry.families.host import PluginHost, family_catalogs, package_catalogs
from registry.families.transports import TransportPlugins
from registry.store.transports import BUILTIN_SCHEMES

__all__ = ["PluginReport", "State", "plugin_reports"]

#: `off`: a built-in plugin has the name; `conflict`: another package claims the same name.
State = Literal["ok", "disabled", "off", "conflict", "broken"]

#: Modules that a plugin module must not import, because they make every command slow.
_HEAVY = ("torch", "numpy", "transformers", "tensorflow")
#: Number of conflicting packages that a report names.
_SHOWN = 5
_HOOKS = ("registry_verify", "registry_fetched", "registry_loaded")


@dataclass(kw_only=True)
class PluginReport:
    """One plugin module, or catalog package, of one distribution."""

    name: str
    distribution: str
    version: str
    #: The API version that it states, if it was imported and states one.
    api: int | None = None
    families: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()
    transports: tuple[str, ...] = ()
    #: Its models.yaml.
    catalogs: tuple[str, ...] = ()
    #: Seconds that its import took in this process, after earlier imports; None when it was not imported.
    seconds: float | None = None
    state: State = "ok"
    #: Remarks that are not failures.
    notes: list[str] = field(default_factory=list)
    error: PluginError | None = None


def plugin_reports() -> list[PluginReport]:
    """Return a report for every installed plugin, built-in ones first. Failures are reported, never raised."""
    reports = []
    # Computed once for all plugins, because there may be tens of thousands.
    points_of = {group: discovery.entry_points(group) for group in (discovery.FAMILIES, discovery.CATALOGS)}
    packages = (point.package for points in points_of.values() for point in points)
    known = _Environment(PluginHost(), {}, discovery.folders_of_packages(packages), dict(os.environ))
    for point in discovery.transport_entry_points():
        known.transports.setdefault(point.name.lower(), []).append(point)
    for (distribution, name), points in _modules().items():
        first = next(iter(points.values()))[0]
        report = PluginReport(
            name=name,
            distribution=distribution,
            version=first.version,
            families=_names(points, discovery.FAMILIES),
            transports=_names(points, discovery.TRANSPORTS),
        )
        _examine(report, points, known)
        reports.append(report)
    return reports


class _Environment(NamedTuple):
    """The installed and enabled plugins."""

    host: PluginHost
    #: Scheme to those that claim it.
    transports: dict[str, list[EntryPoint]]
    #: Package to its folders.
    folders: Mapping[str, Sequence[Path]]
    variables: Mapping[str, str]


def _modules() -> dict[tuple[str, str], dict[str, list[EntryPoint]]]:
    """Return the installed plugins, by distribution and module, and by group."""
    found: dict[tuple[str, str], dict[str, list[EntryPoint]]] = {}
    groups = (discovery.FAMILIES, discovery.HOOKS, discovery.TRANSPORTS, discovery.CATALOGS)
    points = [(group, point) for group in groups for point in discovery.installed_entry_points(group)]
    for group, point in sorted(points, key=lambda item: (not item[1].builtin, item[1].distribution)):
        found.setdefault((point.distribution, point.module), {}).setdefault(group, []).append(point)
    return found


def _names(points: Mapping[str, list[EntryPoint]], group: str) -> tuple[str, ...]:
    return tuple(point.name for point in points.get(group, ()))


def _examine(report: PluginReport, points: Mapping[str, list[EntryPoint]], known: _Environment) -> None:
    disabled = {point for listed in points.values() for point in listed if discovery.is_disabled(point)}
    enabled = {group: [point for point in listed if point not in disabled] for group, listed in points.items()}
    if off := [point.name for listed in points.values() for point in listed if point in disabled]:
        report.notes.append(f"REGISTRY_PLUGINS_DISABLED switches off {', '.join(off)}")
    if not any(enabled.values()):
        report.state = "disabled"
        return
    code = [point for group, listed in enabled.items() for point in listed if group != discovery.CATALOGS]
    try:
        report.catalogs = tuple(_catalogs(enabled, known))
        rivals = set(_rivals(report, enabled, known))
        if code and len(rivals) < len(code):
            with _watched(report, known.variables):
                _load(report, enabled, code[0], rivals, known)
    except PluginError as error:
        report.state, report.error = "broken", error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # its objects may raise anything when they are inspected
        report.state = "broken"
        report.error = PluginError(
            f"plugin {report.name!r} of {report.distribution} is expected to be an ordinary module, but raised {said(error)}",
            family=report.name,
            distribution=report.distribution,
        )
        report.error.__cause__ = error


def _catalogs(enabled: Mapping[str, list[EntryPoint]], known: _Environment) -> Iterator[str]:
    """Yield the models.yaml of a family's package, where it is optional, and of a catalog package, where it is required."""
    for source in family_catalogs(enabled.get(discovery.FAMILIES, ()), known.folders):
        yield source.path
    by_package = {point.package: point for point in enabled.get(discovery.CATALOGS, ())}
    for point, source in zip(by_package.values(), package_catalogs(by_package.values(), known.folders), strict=True):
        if not Path(source.path).is_file():
            raise PluginError(
                f"catalog package {point.package!r} of {point.release} is expected to hold models.yaml, but does not; "
                f"install it again, or uninstall {point.distribution}",
                family=point.name,
                distribution=point.distribution,
            )
        yield source.path


def _rivals(report: PluginReport, enabled: Mapping[str, list[EntryPoint]], known: _Environment) -> Iterator[EntryPoint]:
    """Yield the names that other plugins claim too and that are therefore not used from this one, and report it."""
    for point in enabled.get(discovery.FAMILIES, ()):
        claims = known.host.entry_points()[point.name]
        if claims[0].builtin and not point.builtin:
            yield _off(report, point, f"family {point.name!r} is built in", f"{claims[0].distribution}:{point.name}")
        elif is_contested(claims):
            yield _conflict(report, point, "family", claims)
    for point in enabled.get(discovery.TRANSPORTS, ()):
        if (scheme := point.name.lower()) in BUILTIN_SCHEMES:
            yield _off(report, point, f"scheme {scheme!r} is built in", "")
        elif is_contested(claims := known.transports[scheme]):
            yield _conflict(report, point, "transport", claims)


def _off(report: PluginReport, point: EntryPoint, why: str, instead: str) -> EntryPoint:
    choice = f"; REGISTRY_PLUGINS_DISABLED={instead} uses this one" if instead else ""
    report.notes.append(f"{why}, so this one is off{choice}")
    report.state = "off"
    return point


def _conflict(report: PluginReport, point: EntryPoint, kind: str, claims: list[EntryPoint]) -> EntryPoint:
    others = [claim.release for claim in claims if claim.distribution != point.distribution]
    others = [*others[:_SHOWN], f"{len(others) - _SHOWN} more"] if len(others) > _SHOWN else others
    mine = f"{point.distribution}:{point.name}"
    report.notes.append(
        f"{kind} {point.name!r} is provided by {' and '.join(others)} too, so neither is used; "
        f"uninstall one, or REGISTRY_PLUGINS_DISABLED={mine} leaves the other"
    )
    report.state = "conflict"
    return point


def _load(
    report: PluginReport,
    enabled: Mapping[str, list[EntryPoint]],
    first: EntryPoint,
    rivals: Collection[EntryPoint],
    known: _Environment,
) -> None:
    began = time.perf_counter()
    module = import_plugin(first)
    report.seconds = time.perf_counter() - began
    api = getattr(module, "REGISTRY_API", None)
    report.api = api if type(api) is int else None
    report.hooks = tuple(name for name in _HOOKS if _implements(module, name))
    for point in enabled.get(discovery.FAMILIES, ()):
        if point not in rivals:
            family = known.host.get(point.name)
            if family.name not in report.families:
                report.notes.append(f"family {point.name!r} calls itself {family.name!r}")
    for point in enabled.get(discovery.HOOKS, ()):
        load_hooks(point)
    for point in enabled.get(discovery.TRANSPORTS, ()):
        claims = partial(known.transports.__getitem__, point.name.lower())
        if point not in rivals and (transport := TransportPlugins(claims).maybe_make(point.name.lower())) is not None:
            transport.close()


def _implements(module: object, hook: str) -> bool:
    """Whether a module implements a hook, by the marker that pluggy sets."""
    return getattr(getattr(module, hook, None), "registry_impl", None) is not None


def _working_folder() -> Path | None:
    with contextlib.suppress(FileNotFoundError):
        return Path.cwd()
    return None


class _Heard(io.StringIO):
    """Captures what a plugin prints, even after it closed the stream."""

    def close(self) -> None:
        """Stay open."""


@contextlib.contextmanager
def _watched(report: PluginReport, variables: Mapping[str, str]) -> Iterator[None]:
    """Record what a plugin prints and which heavy libraries it imports, and undo its changes to the process."""
    heard, before = _Heard(), {name for name in _HEAVY if name in sys.modules}
    folder, path, errors = _working_folder(), [*sys.path], sys.stderr
    with open_streams(), contextlib.redirect_stdout(heard), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", SLOW, RegistryWarning)
        try:
            yield
        finally:
            sys.stderr, sys.path[:] = errors, path
            if dict(os.environ) != variables:
                os.environ.clear()
                os.environ.update(variables)
            if folder is not None:
                with contextlib.suppress(OSError):  # the plugin may have removed that folder
                    os.chdir(folder)
            if heavy := [name for name in _HEAVY if name in sys.modules and name not in before]:
                report.notes.append(
                    f"it imports {' and '.join(heavy)}, which makes commands slow; import them where they are used"
                )
            if heard.getvalue().strip():
                report.notes.append(f"it prints when it is imported: {heard.getvalue().strip()[:80]!r}")
