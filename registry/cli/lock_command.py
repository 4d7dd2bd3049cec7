"""`registry lock`: record the current files of each name in models.lock."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from registry.cli.layout import CACHE, JSON, OFFLINE

if TYPE_CHECKING:
    from registry.lockfile.changes import Difference

__all__ = ["lock"]

_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


@click.command(epilog="\b\nExamples:\n  registry lock\n  registry lock bert-base-uncased\n  registry lock --check")
@click.argument("names", nargs=-1)
@click.option("--file", type=click.Path(dir_okay=False), help="The lock file; by default beside the project's models.yaml.")
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 when the lock file is out of date.")
@click.option("--jobs", type=click.IntRange(1, 64), help="Files of a model to fetch concurrently (by default 4).")
@CACHE
@OFFLINE
@JSON
def lock(
    names: Sequence[str],
    file: str | None,
    check: bool,
    jobs: int | None,
    cache_dir: str | None,
    offline: bool | None,
    as_json: bool,
) -> None:
    """Fetch the current files of each NAME, and record their hashes, sizes, URLs, revision and plugin in models.lock.

    Without NAMES, lock every name of the project's models.yaml and REGISTRY_MODELS and all that are already locked. With
    NAMES, the other locked names do not change.
    """
    from registry.model_registry import default_registry

    result = default_registry().lock(names, file=file, check=check, cache_dir=cache_dir, offline=offline, jobs=jobs)
    if as_json:
        rows = [{"change": difference.change, **asdict(difference)} for difference in result.differences]
        click.echo(json.dumps({"file": str(result.file), "check": check, "differences": rows}, indent=2))
    else:
        for difference in result.differences:
            click.echo(_line(difference))
        files = sum(len(model.files) for model in result.lock.models.values())
        state = "is up to date" if not result.differences else "is out of date; run `registry lock`" if check else "written"
        click.echo(f"{result.file}: {_count(len(result.lock.models), 'model')}, {_count(files, 'file')}; {state}")
    if check and result.differences:
        click.get_current_context().exit(1)


def _line(difference: Difference) -> str:
    """Return one line for a difference: `+ name`, `- name`, or `~ name file fact: locked -> found`."""
    what = " ".join(part for part in (difference.model or "(lock file)", difference.file, difference.fact) if part)
    if not difference.fact:
        return f"{_SIGNS[difference.change]} {what}"
    values = " -> ".join(value for value in (difference.locked, difference.found) if value is not None)
    return f"{_SIGNS[difference.change]} {what}: {values}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
