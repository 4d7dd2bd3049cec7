"""The commands `list`, `info`, `fetch` and `try`, and the loader of all others."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from registry.base.names import maybe_user_path
from registry.base.urls import redact
from registry.catalog.catalog import close_names
from registry.catalog.entry import FilePin, Origin
from registry.cli.layout import CACHE, EXACT, JSON, LOCKED, OFFLINE, each, folded, printable, table, terminal_width
from registry.errors import RegistryError, warn
from registry.families.roles import looked_up, role_of
from registry.model_registry import default_registry

if TYPE_CHECKING:
    from registry.families.family import Family
    from registry.store.target import StoredFile

__all__ = ["cli"]

_EPILOG = """\b
Examples:
  registry list 'bert-*uncased*'
  registry info bert-base-uncased
  registry fetch bert-base-uncased
  registry try minilm 'A man eats.' 'Someone is eating.' 'Stocks fell.'
"""


#: The commands of other modules.
_HOMES = {
    "add": "edit_commands",
    "cache": "cache_commands",
    "convert": "checkpoint_commands",
    "doctor": "doctor",
    "inspect": "checkpoint_commands",
    "lock": "lock_command",
    "new-family": "new_family",
    "plugins": "plugin_commands",
    "remove": "edit_commands",
    "validate": "validate_command",
    "verify": "cache_commands",
}


class _LazyGroup(click.Group):
    """Imports the module of a command when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self.commands, *_HOMES})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _HOMES and cmd_name not in self.commands:
            home = import_module(f"registry.cli.{_HOMES[cmd_name]}")
            self.add_command(getattr(home, cmd_name.replace("-", "_")))
        return super().get_command(ctx, cmd_name)


@click.group(cls=_LazyGroup, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pretrained-registry", prog_name="registry")
def cli() -> None:
    """Turn a model name into a verified, running PyTorch model."""


@cli.command("list", epilog="\b\nExamples:\n  registry list\n  registry list 'bert-large-*' --json")
@click.argument("pattern", default="*")
@JSON
def list_command(pattern: str, as_json: bool) -> None:
    """List the names that match PATTERN (a shell pattern, by default all). The exit code is 1 when no name matches."""
    registry = default_registry()
    entries = [(name, registry.resolve(name)) for name in registry.list_models(pattern)]
    if not entries and not as_json:
        close = close_names(pattern, registry.list_models(), 1)
        what = f"did you mean {close[0]!r}?" if close else "`registry list` shows all"
        click.echo(printable(f"error: no name matches {pattern!r}; {what}"), err=True)
    if as_json:
        rows = [
            {"name": name, "model": entry.name, "family": entry.family, "head": entry.head, "description": entry.description}
            for name, entry in entries
        ]
        click.echo(json.dumps(rows, indent=2))
    else:
        for line in table(((name, entry.family, entry.description) for name, entry in entries), fit=True):
            click.echo(line)
    if not entries:
        click.get_current_context().exit(1)


@cli.command(epilog="\b\nExamples:\n  registry info bert-base-uncased\n  registry info minilm --json")
@click.argument("name")
@CACHE
@JSON
def info(name: str, cache_dir: str | None, as_json: bool) -> None:
    """Show the entry of NAME: every field with the file and line that sets it, its files, and which are cached."""
    registry = default_registry()
    entry = registry.maybe_resolve(name)
    if entry is None and Path(name).exists():
        raise click.UsageError(f"{name} is a path, and info is about names of the catalog; `registry try {name}` takes it")
    entry = entry or registry.resolve(name)
    family: Family | None = None
    cached: dict[str, StoredFile] = {}
    parameters = None
    try:
        family = registry.families.get(entry.family)
        cached = registry.cached_files(name, cache_dir=cache_dir)
        parameters = _parameters(cached)
    except RegistryError as error:  # the entry is worth showing even if it cannot be used
        warn(str(error))
    # The installed family says which role a file has; without it no files are searched for.
    roles = (entry.files, family.files, family.converters) if family is not None else ({}, {}, {})
    searched = looked_up(*roles)
    files = {
        file: {
            "role": role_of(file, *roles[1:]) or None,
            "sha256": pin.sha256 or (cached[file].sha256 if file in cached else None) or None,
            "size": pin.size,
            "trust": "catalog" if pin.sha256 else (cached[file].trust if file in cached else "") or None,
            "path": str(cached[file].path) if file in cached else None,
        }
        for file, pin in {**dict.fromkeys(cached, FilePin()), **entry.files}.items()
    }
    values = {
        "name": entry.name,
        "via": list(entry.via),
        "family": entry.family,
        "head": entry.head or (family.default_head if family else None),
        "heads": sorted(family.heads) if family else [],
        "source": redact(entry.source),
        "mirrors": [redact(mirror) for mirror in entry.mirrors],
        "config": dict(entry.config),
        "tokenizer": dict(entry.tokenizer),
        "description": entry.description,
        "license": entry.license,
        "parameters": parameters,
    }
    if as_json:
        origins = {field: {"file": o.file, "line": o.line, "column": o.column} for field, o in entry.origins.items()}
        shadows = [{"file": o.file, "line": o.line} for o in entry.shadows]
        click.echo(
            json.dumps({**values, "files": files, "looked_up": searched, "origins": origins, "shadows": shadows}, indent=2)
        )
        return
    rows = []
    for field, value in values.items():
        if value in (None, [], {}, ""):
            continue
        shown = f"{value:,}" if isinstance(value, int) else ", ".join(value) if isinstance(value, list) else str(value)
        rows.append((field, shown, _place(entry.origins[field]) if field in entry.origins else ""))
    rows += [("shadows", _place(origin), "") for origin in entry.shadows]
    for line in folded(rows):
        click.echo(line)
    click.echo("files")
    listed = []
    for file, facts in files.items():
        digest = f"sha256 {str(facts['sha256'])[:12]}…" if facts["sha256"] else "not pinned"
        size = f"{facts['size']:,} bytes" if facts["size"] is not None else ""
        listed.append((f"  {file}", digest, size, str(facts["trust"] or ""), str(facts["path"] or "not here")))
    for line in folded(listed):
        click.echo(line)
    for role, names in searched.items():
        text = printable(f"{role} is looked up: {', '.join(names)}")
        click.echo(click.wrap_text(text, terminal_width(), "  ", "    "))


@cli.command(epilog="\b\nExamples:\n  registry fetch bert-base-uncased\n  registry fetch minilm bert-base-cased --json")
@click.argument("names", nargs=-1, required=True)
@CACHE
@OFFLINE
@LOCKED
@EXACT
@click.option("--refresh", is_flag=True, help="Ask the source again instead of using recorded answers.")
@click.option("--jobs", type=click.IntRange(1, 64), help="Files of a model to fetch concurrently (by default 4).")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@JSON
def fetch(
    names: Sequence[str],
    cache_dir: str | None,
    offline: bool | None,
    locked: str | None,
    refresh: bool,
    jobs: int | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Fetch and verify the files of each NAME, and print their folder."""

    def fetched(name: str) -> str:
        options: dict[str, Any] = {"offline": offline, "locked": locked, "refresh": refresh, "jobs": jobs}
        folder = str(default_registry().fetch(name, cache_dir=cache_dir, **options))
        if not as_json:
            click.echo(folder)
        return folder

    with _progress_lines(quiet):
        folders, all_done = each(names, fetched)
    if as_json:
        click.echo(json.dumps(folders, indent=2))
    if not all_done:
        click.get_current_context().exit(1)


@cli.command(
    "try",
    epilog="\b\nExamples:\n  registry try minilm 'A man eats.' 'Someone is eating.'\n"
    "  registry try bert-base-uncased --head masked-lm \\\n    'Paris is the [MASK] of France.'\n"
    "  registry try bert-large-uncased-whole-word-masking-finetuned-squad \\\n    'Who wrote it?' 'Ada wrote the book.'\n"
    "  registry try gpt2 'Once upon'",
)
@click.argument("name")
@click.argument("texts", nargs=-1)
@click.option("--head", help="Use this head instead of the model's own.")
@CACHE
@OFFLINE
@JSON
def try_command(
    name: str, texts: Sequence[str], head: str | None, cache_dir: str | None, offline: bool | None, as_json: bool
) -> None:
    """Load NAME and apply its head to TEXTS.

    Sentence similarity for `base`, words for [MASK] with `masked-lm`, an answer (question, then text) with
    `question-answering`, labels with classifiers, more text with `lm`, the likeliest choice (text, then choices) with
    `multiple-choice` and `double-heads`. Without TEXTS it uses an example.
    """
    from registry.cli.trial import run_trial

    write = None if as_json else functools.partial(click.echo, nl=False)
    result = run_trial(default_registry(), name, list(texts), head=head, cache_dir=cache_dir, offline=offline, write=write)
    click.echo(json.dumps(result.data, indent=2) if as_json else "\n".join(result.lines))


@contextlib.contextmanager
def _progress_lines(quiet: bool) -> Iterator[None]:
    """Print progress lines to standard error when there is no terminal for progress bars."""
    import logging

    from registry.store import progress

    with contextlib.ExitStack() as stack:
        if quiet:
            stack.enter_context(progress.silenced())
        else:
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("%(message)s"))
            level = progress.logger.level
            progress.logger.addHandler(handler)
            progress.logger.setLevel(logging.INFO)
            stack.callback(progress.logger.setLevel, level)
            stack.callback(progress.logger.removeHandler, handler)
        yield


def _place(origin: Origin) -> str:
    """Return a file and line, with the file relative to the working folder if that is shorter."""
    path = Path(origin.file)
    for folder, short in ((_here(), ""), (maybe_user_path("~"), "~/")):
        if folder is not None and path.is_relative_to(folder):
            return f"{short}{path.relative_to(folder)}:{origin.line}"
    return str(origin)


def _here() -> Path | None:
    with contextlib.suppress(FileNotFoundError):
        return Path.cwd()
    return None


def _parameters(cached: Mapping[str, StoredFile]) -> int | None:
    """Return the number of scalars in the weights, if a cached header shows it."""
    if (file := cached.get("model.safetensors")) is None:
        return None
    from registry.checkpoint.safetensors.file import SafetensorsFile

    return SafetensorsFile(file.path).parameters()
