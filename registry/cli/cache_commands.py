"""`registry cache` and `registry verify`: list, verify and remove cached files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from registry.cli.layout import CACHE, JSON, each, size_text, table

if TYPE_CHECKING:
    from registry.store.upkeep.inventory import CacheContents
    from registry.store.upkeep.prune import Pruned

__all__ = ["cache", "duration", "size", "verify"]


_SIZES = {"b": 1} | {
    prefix + end: base**power
    for power, prefix in enumerate("kmgt", start=1)
    for end, base in (("", 1000), ("b", 1000), ("ib", 1024))
}
_DURATIONS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def size(text: str) -> int:
    """Parse `500MB` or `1.5GiB` as bytes. The help shows this function's name."""
    return _quantity(text, _SIZES, "a size with its unit, such as 500MB, 20GB or 1.5GiB (bytes: 10B)")


def duration(text: str) -> int:
    """Parse `30d`, `12h`, `45m`, `90s` or `2w` as seconds."""
    return _quantity(text, _DURATIONS, "a duration such as 2w, 30d, 12h, 45m or 90s")


def _quantity(text: str, units: Mapping[str, int], expected: str) -> int:
    if text.strip() == "0":  # needs no unit
        return 0
    found = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,9})?) ?([A-Za-z]*)", text.strip())
    if found is None or found[2].lower() not in units:
        raise click.BadParameter(f"it is expected to be {expected}, but is {text!r}")
    return int(Decimal(found[1]) * units[found[2].lower()])


@click.command(epilog="\b\nExamples:\n  registry verify\n  registry verify bert-base-uncased --repair")
@click.argument("names", nargs=-1)
@click.option("--repair", is_flag=True, help="Quarantine damaged files and fetch them again; read-only tiers are not changed.")
@CACHE
@JSON
def verify(names: Sequence[str], repair: bool, cache_dir: str | None, as_json: bool) -> None:
    """Verify the sha256 of each NAME's cached files, or of all, including read-only tiers; show damaged ones.

    The exit code is 1 when damage remains.
    """
    from registry.model_registry import default_registry

    checks = default_registry().verify(names, repair=repair, cache_dir=cache_dir)
    wrong = [check for check in checks if check.state in ("damaged", "missing")]
    if as_json:
        rows = [
            {
                "model": check.model,
                "name": check.name,
                "state": check.state,
                "sha256": check.sha256,
                "size": check.size,
                "path": str(check.path),
                "tier": check.in_tier,
            }
            for check in checks
        ]
        click.echo(json.dumps(rows, indent=2))
    else:
        shown = [check for check in checks if check.state != "ok"]
        for line in table((check.state, check.model or "(unknown)", check.name, str(check.path)) for check in shown):
            click.echo(line)
        intact = sum(check.state == "ok" for check in checks)
        click.echo(
            f"{intact} of {len(checks)} files intact, {len(checks) - intact - len(wrong)} repaired, {len(wrong)} damaged"
        )
        if any(check.in_tier for check in wrong):
            click.echo("read-only tiers are not repaired from here; their owner can do it, with --cache-dir", err=True)
    if wrong:
        click.get_current_context().exit(1)


@click.group(epilog="\b\nExamples:\n  registry cache list\n  registry cache prune --older-than 30d --dry-run")
def cache() -> None:
    """Show and clean up the cache."""


@cache.command("dir", epilog="\b\nExamples:\n  registry cache dir\n  du -sh $(registry cache dir)")
@CACHE
@JSON
def dir_command(cache_dir: str | None, as_json: bool) -> None:
    """Print the cache folder that is written to."""
    from registry.base.settings import cache_folders

    root, *tiers = map(str, cache_folders(cache_dir))
    click.echo(json.dumps({"dir": root, "tiers": tiers}, indent=2) if as_json else root)


@cache.command("list", epilog="\b\nExamples:\n  registry cache list\n  registry cache list --json")
@CACHE
@JSON
def list_command(cache_dir: str | None, as_json: bool) -> None:
    """List cached models with size and last use, unfinished downloads, and read-only tiers."""
    from registry.model_registry import default_registry

    folders = default_registry().cached_models(cache_dir)
    if as_json:
        click.echo(json.dumps([_facts(folder, is_tier=number > 0) for number, folder in enumerate(folders)], indent=2))
        return
    for number, folder in enumerate(folders):
        click.echo(f"{folder.root}{' (a read-only tier)' if number else ''}: {size_text(folder.size)}")
        rows = [
            (
                f"  {model.label or '(unknown)'}",
                _count(len(model.files), "file"),
                size_text(model.size),
                f"used {_day(model.last_used)}",
            )
            for model in folder.models
        ]
        rows += [
            ("  partial download", f"owner {item.owner.value}", size_text(item.size), str(item.path))
            for item in folder.partials
        ]
        rows += [("  in quarantine", "", size_text(path.stat().st_size), str(path)) for path in folder.quarantine]
        for line in table(rows):
            click.echo(line)


@cache.command("rm", epilog="\b\nExamples:\n  registry cache rm bert-base-uncased\n  registry cache rm gpt2 gpt2-medium --json")
@click.argument("names", nargs=-1, required=True)
@CACHE
@JSON
def rm_command(names: Sequence[str], cache_dir: str | None, as_json: bool) -> None:
    """Remove each NAME from the cache. Files that other models share stay."""
    from registry.model_registry import default_registry

    done, all_done = each(names, lambda name: default_registry().evict(name, cache_dir=cache_dir))
    if as_json:
        click.echo(json.dumps({name: _removals(pruned) for name, pruned in done.items()}, indent=2))
    else:
        rows = (
            (name, _count(len(pruned.removed), "item"), f"{size_text(pruned.freed)} freed") for name, pruned in done.items()
        )
        for line in table(rows):
            click.echo(line)
    if not all_done or any(pruned.failed for pruned in done.values()):
        click.get_current_context().exit(1)


@cache.command(
    epilog="\b\nExamples:\n  registry cache prune\n  registry cache prune --max-size 20GB --older-than 30d --dry-run"
)
@click.option("--max-size", type=size, help="Remove the least recently used models until this size, such as 20GB.")
@click.option("--older-than", type=duration, help="Remove models that were not used for this time, such as 30d.")
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@CACHE
@JSON
def prune(max_size: int | None, older_than: int | None, dry_run: bool, cache_dir: str | None, as_json: bool) -> None:
    """Remove rests of failed downloads, quarantine and useless records; with options also models that were not used lately."""
    from registry.model_registry import default_registry

    pruned = default_registry().prune(max_size=max_size, older_than=older_than, dry_run=dry_run, cache_dir=cache_dir)
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, **_removals(pruned)}, indent=2))
    else:
        for line in table((item.kind, item.model, size_text(item.size), str(item.path)) for item in pruned.removed):
            click.echo(line)
        click.echo(f"{size_text(pruned.freed)} {'would be ' if dry_run else ''}freed, {size_text(pruned.left)} left")
    if pruned.failed:
        click.get_current_context().exit(1)


def _facts(folder: CacheContents, *, is_tier: bool) -> dict[str, Any]:
    return {
        "dir": str(folder.root),
        "tier": is_tier,
        "size": folder.size,
        "models": [
            {
                "model": model.label,
                "size": model.size,
                "last_used": model.last_used,
                "folders": [str(path) for path in model.folders],
                "files": [
                    {
                        "name": file.name,
                        "sha256": file.sha256,
                        "size": file.size,
                        "verified": file.verified,
                        "last_used": file.last_used,
                    }
                    for file in model.files
                ],
            }
            for model in folder.models
        ],
        "partials": [{"path": str(item.path), "size": item.size, "owner": item.owner.value} for item in folder.partials],
        "quarantine": [str(path) for path in folder.quarantine],
    }


def _removals(pruned: Pruned) -> dict[str, Any]:
    removed = [{"kind": i.kind, "model": i.model, "size": i.size, "path": str(i.path)} for i in pruned.removed]
    return {"freed": pruned.freed, "left": pruned.left, "removed": removed, "failed": [str(path) for path in pruned.failed]}


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _day(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds).astimezone().date().isoformat()
    except (ValueError, OverflowError, OSError):  # a time that is far off
        return "at no known time"
