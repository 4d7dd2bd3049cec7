"""`registry plugins`: list installed plugins and whether they work."""

from __future__ import annotations

import json
import traceback
from typing import TYPE_CHECKING, Any

import click

from registry.cli.layout import JSON, table

if TYPE_CHECKING:
    from registry.families.reports import PluginReport

__all__ = ["facts", "lines", "plugins"]

#: The states that require action.
WRONG = ("broken", "conflict")


@click.command(epilog="\b\nExamples:\n  registry plugins\n  registry plugins -v\n  registry plugins --json")
@click.option("-v", "--verbose", is_flag=True, help="Show catalogs, the contract's version, and errors with their traceback.")
@JSON
def plugins(verbose: bool, as_json: bool) -> None:
    """Import every installed plugin, and show what it provides, how long it takes to import, and whether it works.

    The exit code is 1 when one is broken, or two claim the same.
    """
    from registry.families.reports import plugin_reports

    reports = plugin_reports()
    if as_json:
        click.echo(json.dumps([facts(report) for report in reports], indent=2))
    else:
        for line in lines(reports, verbose=verbose):
            click.echo(line)
    if any(report.state in WRONG for report in reports):
        click.get_current_context().exit(1)


def lines(reports: list[PluginReport], *, verbose: bool) -> list[str]:
    """Format reports as text: a table, and notes about single plugins."""
    shown = table(
        (report.name, f"{report.distribution} {report.version}".rstrip(), report.state, _time(report), _provides(report))
        for report in reports
    )
    for report in reports:
        about = [*report.notes]
        if report.error is not None:
            about.append(str(report.error))
        if verbose:
            about += [f"catalog {path}" for path in report.catalogs]
            about += [f"contract {report.api}"] if report.api is not None else []
        if about:
            shown += ["", f"{report.name} of {report.distribution} {report.version}".rstrip()]
            shown += [f"  {line}" for line in about]
        if verbose and report.error is not None and report.error.__cause__ is not None:
            shown += [f"  {line}" for text in traceback.format_exception(report.error.__cause__) for line in text.splitlines()]
    return shown


def facts(report: PluginReport) -> dict[str, Any]:
    """Format a report for JSON."""
    error = report.error
    cause = error.__cause__ if error is not None else None
    return {
        "name": report.name,
        "distribution": report.distribution,
        "version": report.version,
        "state": report.state,
        "api": report.api,
        "families": list(report.families),
        "hooks": list(report.hooks),
        "transports": list(report.transports),
        "catalogs": list(report.catalogs),
        "seconds": report.seconds,
        "notes": report.notes,
        "error": None if error is None else {"code": error.code, "message": error.message},
        "traceback": None if cause is None else "".join(traceback.format_exception(cause)),
    }


def _provides(report: PluginReport) -> str:
    parts = {"families": report.families, "transports": report.transports, "hooks": report.hooks}
    said = [f"{what}: {', '.join(names)}" for what, names in parts.items() if names]
    return "; ".join([*said, *(["a catalog"] if report.catalogs else [])])


def _time(report: PluginReport) -> str:
    return "" if report.seconds is None else f"{report.seconds * 1000:.0f} ms"
