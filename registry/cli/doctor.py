"""`registry doctor`: check an installation and report problems."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from registry.cli.layout import CACHE, JSON, size_text, table

if TYPE_CHECKING:
    from registry.cli.diagnosis import Section

__all__ = ["doctor"]


@click.command(epilog="\b\nExamples:\n  registry doctor\n  registry doctor --json")
@CACHE
@JSON
def doctor(cache_dir: str | None, as_json: bool) -> None:
    """Check the environment, cache, catalogs, plugins, import times and settings.

    Problems come last, with advice, and make the exit code 1. Secrets are not shown.
    """
    from registry.cli import diagnosis
    from registry.model_registry import default_registry

    sections = [
        diagnosis.environment(),
        diagnosis.cache(cache_dir),
        diagnosis.catalogs(default_registry()),
        diagnosis.plugins(),
        diagnosis.imports(),
        diagnosis.settings(),
    ]
    if as_json:
        problems = [
            {"section": section.name, "what": problem.what, "fix": problem.fix}
            for section in sections
            for problem in section.problems
        ]
        shown = {section.name: {**section.facts, "remarks": section.remarks} for section in sections}
        click.echo(json.dumps({**shown, "problems": problems}, indent=2))
    else:
        for line in _lines(sections):
            click.echo(line)
    if any(section.problems for section in sections):
        click.get_current_context().exit(1)


def _lines(sections: list[Section]) -> Iterator[str]:
    for section in sections:
        yield section.name
        yield from table(_rows(section.facts))
        yield from (f"  note: {remark}" for remark in section.remarks)
        yield ""
    problems = [(section.name, problem) for section in sections for problem in section.problems]
    if not problems:
        yield "nothing is wrong"
    for name, problem in problems:
        yield f"wrong: {name}: {problem.what}"
        yield f"       {problem.fix}"


def _rows(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        if name == "places":
            for place in value:
                found = f"{place['names']} names" if place["found"] else "none"
                yield f"  {place['layer']}", f"{place['path']}: {found}"
        elif name == "hosts":
            for host in value:
                token = f"{host['token_env']}, {'set' if host['set'] else 'not set'}" if host["token_env"] else "no token_env"
                yield f"  {host['host']}", f"{token} ({host['place']})"
        elif isinstance(value, dict):
            said = [
                size_text(item) + " free"
                if key == "free bytes"
                else key
                if item is True
                else f"no {key}"
                if item is False
                else item
                for key, item in value.items()
                if item not in (None, "") and not (key == "tier" and item is False)
            ]
            yield f"  {name}", ", ".join(map(str, said))
        else:
            yield f"  {name}", str(value)
