"""`registry add` and `registry remove`: edit the entries of a models.yaml."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from registry.base.names import user_path
from registry.cli.layout import CACHE, JSON, OFFLINE, key_values, size_text, table

if TYPE_CHECKING:
    from registry.catalog.entry import FilePin
    from registry.model_registry import ModelRegistry

__all__ = ["add", "remove"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _file_options(command: _Command) -> _Command:
    for option in (
        click.option("--project", is_flag=True, help="Write the nearest models.yaml of the project, or one in this folder."),
        click.option("--user", is_flag=True, help="Write the user's own models.yaml."),
        click.option("--file", type=click.Path(), help="Write this models.yaml."),
    ):
        command = option(command)
    return command


@click.command(
    epilog="\b\nExamples:\n  registry add acme-support hf://acme/support-bert --config num_labels=3\n"
    "  registry add mine ./checkpoints/last --family bert --project\n"
    "  registry add acme-cased https://models.acme.example/cased/ --pin \\\n    --mirror https://mirror.acme.example/cased/"
)
@click.argument("name")
@click.argument("source")
@click.option("--family", help="The family; by default the one that the source's configuration names.")
@click.option("--head", help="The head; by default the one that the source's configuration names.")
@click.option("--config", multiple=True, metavar="KEY=VALUE", help="Override a field of the configuration.")
@click.option("--tokenizer", multiple=True, metavar="KEY=VALUE", help="Set an argument of the tokenizer.")
@click.option("--mirror", "mirrors", multiple=True, metavar="URL", help="Another source of the same files; may be repeated.")
@click.option("--revision", help="The branch, tag or commit of an hf:// source; it is pinned to its commit.")
@click.option("--description", help="A line about the model.")
@click.option("--license", "licence", help="The licence of its weights, such as Apache-2.0.")
@_file_options
@click.option("--override", is_flag=True, help="Redefine a name of a lower layer, from a project's file.")
@click.option("--replace", is_flag=True, help="Replace the entry if the file already has the name.")
@click.option("--pin", is_flag=True, help="Fetch files whose hash the server does not provide, and pin them.")
@click.option("--no-fetch", is_flag=True, help="Do not use the network; write only the given values.")
@CACHE
@OFFLINE
@JSON
def add(
    name: str,
    source: str,
    family: str | None,
    head: str | None,
    config: Sequence[str],
    tokenizer: Sequence[str],
    mirrors: Sequence[str],
    revision: str | None,
    description: str | None,
    licence: str | None,
    file: str | None,
    user: bool,
    project: bool,
    override: bool,
    replace: bool,
    pin: bool,
    no_fetch: bool,
    cache_dir: str | None,
    offline: bool | None,
    as_json: bool,
) -> None:
    """Add an entry NAME for the model at SOURCE (a folder, archive, URL or hf://org/repo@revision) to a models.yaml.

    The entry gets the sizes and hashes of the source's files, and the family and head that its configuration names. Large
    files are not fetched. Comments and order of the models.yaml do not change. By default it is the project's nearest
    models.yaml, else the user's.
    """
    from registry.cli.catalog_edits import add as add_to_catalog
    from registry.cli.catalog_edits import chosen_file
    from registry.model_registry import default_registry

    _refuse_several(file, user, project)
    if no_fetch and pin:
        raise click.UsageError("--pin fetches files, which --no-fetch forbids; give one of them")
    if no_fetch and family is None:
        raise click.UsageError("with --no-fetch nothing tells the family; give --family")
    registry = default_registry()
    path = chosen_file(file, user=user, project=project)
    source = _at_revision(_checked(source), revision)
    settings, arguments = key_values(config, "--config"), key_values(tokenizer, "--tokenizer")
    _check_family(registry, family, head, settings)
    pins: Mapping[str, FilePin] = {}
    if not no_fetch:
        here = source if "://" in _existing(source) else str(user_path(source).absolute())
        found = registry.survey(here, family=family, pin=pin, cache_dir=cache_dir, offline=offline)
        source = source if here != source and found.source == here else found.source
        if family is None:
            family = found.family.name
            _check_family(registry, family, head, settings)
        head = head or found.head
        pins = found.files
    written = {
        "family": family,
        "source": _as_written(source, path),
        "mirrors": [_as_written(_checked(mirror), path) for mirror in mirrors],
        "head": head,
        "config": settings,
        "tokenizer": arguments,
        "files": _files(pins) if pin or not _is_folder(source) else {},
        "description": description,
        "license": licence,
        "override": override,
    }
    fields: dict[str, object] = {key: value for key, value in written.items() if value}
    done = add_to_catalog(registry, path, name, fields, replace=replace, cache_dir=cache_dir)
    unpinned = [file for file, known in pins.items() if known.sha256 is None]
    if as_json:
        facts = {
            "name": name,
            "file": done.origin.file,
            "line": done.origin.line,
            "entry": fields,
            "unpinned": unpinned,
            "in_use": done.entry is not None and done.hidden_by is None,
        }
        click.echo(json.dumps(facts, indent=2))
        return
    for line in table(_rows(pins)):
        click.echo(line)
    click.echo(f"{name} is at {done.origin} ({family}{f', {head}' if head else ''})")
    for line in _notes(path, name, source, unpinned, done.entry is not None, done.hidden_by):
        click.echo(line, err=True)


@click.command(epilog="\b\nExamples:\n  registry remove acme-support\n  registry remove mine --file ./models.yaml --force")
@click.argument("name")
@_file_options
@click.option("--force", is_flag=True, help="Remove it even if other entries are based on it.")
@CACHE
@JSON
def remove(name: str, file: str | None, user: bool, project: bool, force: bool, cache_dir: str | None, as_json: bool) -> None:
    """Remove NAME from a models.yaml: the given file, by default the highest layer outside packages that has it.

    Files in the cache stay; `registry cache rm` removes them.
    """
    from registry.cli.catalog_edits import chosen_file
    from registry.cli.catalog_edits import remove as remove_from_catalog
    from registry.model_registry import default_registry

    _refuse_several(file, user, project)
    path = chosen_file(file, user=user, project=project) if file is not None or user or project else None
    done = remove_from_catalog(default_registry(), path, name, force=force, cache_dir=cache_dir)
    if as_json:
        left = {"file": done.left.file, "line": done.left.line} if done.left else None
        click.echo(json.dumps({"name": name, "file": done.origin.file, "line": done.origin.line, "left": left}, indent=2))
        return
    click.echo(f"{name} is removed; it was at {done.origin}")
    if done.left:
        click.echo(f"the name now means what {done.left} says", err=True)


def _refuse_several(file: str | None, user: bool, project: bool) -> None:
    if (file is not None) + user + project > 1:
        raise click.UsageError("--file, --user and --project name one models.yaml each; give one of them")


def _existing(source: str) -> str:
    """Return a source that is a URL, a folder or an archive.

    Raises:
        ConfigError: when it is something else.
    """
    from registry.errors import ConfigError
    from registry.store.target import names_archive

    path = user_path(source)
    if "://" in source or path.is_dir() or (path.is_file() and names_archive(path.name)):
        return source
    raise ConfigError(
        f"source is expected to be a folder, an archive or a URL, but {source!r} is "
        + ("a file; give the folder that it is in" if path.is_file() else "not there; a repository of the hub is hf://org/repo")
    )


def _checked(source: str) -> str:
    """Return a source after checking that it contains no secret.

    Raises:
        ConfigError: when it may contain one. The message does not show it.
    """
    from registry.base.urls import redact, scheme_of, unfit_authority
    from registry.errors import ConfigError

    if "://" not in source:
        return source
    if reason := unfit_authority(source):
        raise ConfigError(f"source is expected to be a URL, but {reason}; write scheme://host/path")
    secret = "?" in source or "#" in source or (scheme_of(source) != "hf" and "@" in source.split("/")[2])
    secret = secret or (scheme_of(source) == "hf" and ":" in source.partition("://")[2])
    if secret:
        shown = f"{scheme_of(source)}://…" if scheme_of(source) == "hf" else redact(source)
        raise ConfigError(
            f"source {shown} is expected to be an address alone, but has a user, password, query or fragment, which may be a "
            "secret; leave it out, and name the variable that holds a token under `hosts:`"
        )
    return source


def _at_revision(source: str, revision: str | None) -> str:
    from urllib.parse import quote

    from registry.base.urls import scheme_of
    from registry.errors import ConfigError

    if revision is None:
        return source
    if scheme_of(source) != "hf":
        raise ConfigError("--revision is expected with an hf:// source, but the source has another scheme; leave it out")
    if "@" in source:
        raise ConfigError("--revision is expected with a source that names none, but that names one; give one of them")
    org, _, rest = source.removeprefix("hf://").partition("/")
    name, slash, inner = rest.partition("/")
    return f"hf://{org}/{name}@{quote(revision, safe='')}{slash}{inner}"


def _check_family(registry: ModelRegistry, family: str | None, head: str | None, settings: Mapping[str, Any]) -> None:
    """Raise for a family, head or field of the configuration that does not exist."""
    if family is None:
        return
    described = registry.families.get(family)
    if head is not None:
        described.head_path(head)
    if settings:
        described.load_class(described.config).check_names(settings)


def _as_written(source: str, file: Path) -> str:
    """Format a source for a catalog: a path becomes relative to the file, or absolute in the user's own catalog."""
    from registry.cli.catalog_edits import is_users

    if "://" in source or source.startswith("~") or Path(source).is_absolute():
        return source
    full = Path(source).absolute()
    try:
        relative = Path(os.path.relpath(full, file.parent))
    except ValueError:  # on another drive
        return str(full)
    # With links, `..` may lead elsewhere.
    if is_users(file) or os.path.realpath(file.parent / relative) != os.path.realpath(full):
        return str(full)
    text = relative.as_posix()
    return text if text.startswith("..") else f"./{text}"


def _is_folder(source: str) -> bool:
    """Whether a source is a folder on this machine, whose files may change."""
    from registry.base.urls import scheme_of

    return scheme_of(source) == "file"


def _files(pins: Mapping[str, FilePin]) -> dict[str, dict[str, Any]]:
    return {
        name: {key: value for key, value in (("sha256", pin.sha256), ("size", pin.size)) if value is not None}
        for name, pin in pins.items()
    }


def _rows(pins: Mapping[str, FilePin]) -> list[tuple[str, str, str]]:
    return [
        (
            name,
            size_text(pin.size) if pin.size is not None else "of unknown size",
            f"sha256 {pin.sha256[:12]}…" if pin.sha256 else "not pinned",
        )
        for name, pin in pins.items()
    ]


def _notes(path: Path, name: str, source: str, unpinned: Sequence[str], in_layer: bool, hidden_by: object) -> list[str]:
    """Return the messages about a new entry."""
    notes = []
    if unpinned and not _is_folder(source):
        notes.append(f"not pinned: {', '.join(unpinned)}; the server does not tell their hash, --pin fetches and pins them")
    elif unpinned:
        notes.append("the files are on this machine and may change, so they are not pinned; --pin pins them as they are")
    if hidden_by is not None:
        notes.append(f"{name} does not count here: {hidden_by}, a higher layer, says something else")
    elif not in_layer:
        notes.append(f"{path} is not read here by itself; name it in REGISTRY_MODELS")
    return notes
