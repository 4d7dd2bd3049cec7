"""`registry new-family`: write a complete package for a new family, with passing tests, as a start for its author."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from string import Template

import click

from registry.base.files import atomic_folder

__all__ = ["new_family", "write_package"]

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST = 40

#: Template to its path in the package's folder; `$package` is replaced by the package's name.
_FILES = {
    "README.md": "README.md",
    "pyproject.toml": "pyproject.toml",
    "gitignore": ".gitignore",
    "init.py": "src/$package/__init__.py",
    "plugin.py": "src/$package/plugin.py",
    "config.py": "src/$package/config.py",
    "modeling.py": "src/$package/modeling.py",
    "tokenization.py": "src/$package/tokenization.py",
    "models.yaml": "src/$package/models.yaml",
    "test_conformance.py": "tests/test_conformance.py",
    "test_modeling.py": "tests/test_modeling.py",
}


@click.command(
    "new-family",
    epilog="\b\nExamples:\n  registry new-family acme\n  pip install -e ./registry-acme\n  pytest ./registry-acme",
)
@click.argument("name")
@click.option("--path", "parent", type=click.Path(file_okay=False, path_type=Path), default=".", help="The parent folder.")
def new_family(name: str, parent: Path) -> None:
    """Write a package registry-NAME that adds the family NAME: a plugin with a small model, a tokenizer and passing tests.

    No licence is chosen; that is the author's to do. Nothing that exists is overwritten.
    """
    from registry.model_registry import default_registry

    folder = write_package(name, parent, taken=default_registry().families.names())
    click.echo(f"wrote {folder}; next:")
    click.echo(f"  pip install -e {folder}")
    click.echo(f"  pytest {folder}")


def write_package(name: str, parent: Path, *, taken: list[str] | None = None) -> Path:
    """Write the package of a new family into `parent`, whole or not at all, and return its folder.

    Args:
        name: of the family: words of small letters and digits, joined by hyphens.
        parent: the folder that gets `registry-NAME`; it is made when it does not exist.
        taken: names of families that there are already.

    Raises:
        click.UsageError: when the name is invalid or taken, or the folder exists.
    """
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise click.UsageError(
            f"NAME is expected to be words of small letters and digits joined by hyphens, at most {_LONGEST} characters and "
            f"the first a letter, but is {name!r}; it becomes part of the package's name"
        )
    plain = name.replace("-", "")
    if rival := next((other for other in taken or () if re.sub("[-_.]", "", other).lower() == plain), None):
        raise click.UsageError(f"NAME is expected to be new, but family {rival!r} is installed; choose another")
    target = parent / f"registry-{name}"
    if target.exists() or target.is_symlink():
        raise click.UsageError(f"{target} is expected to be new, but exists; nothing was written")
    words = {
        "family": name,
        "package": f"registry_{name.replace('-', '_')}",
        "prefix": "".join(word.capitalize() for word in name.split("-")),
    }
    with atomic_folder(target) as stage:
        try:
            parent.mkdir(parents=True, exist_ok=True)
            stage.mkdir()
        except OSError as error:
            raise click.UsageError(f"{parent} is expected to be a folder that can be written, but is not ({error})") from error
        for template, place in _FILES.items():
            file = stage / Template(place).substitute(words)
            file.parent.mkdir(parents=True, exist_ok=True)
            text = (files("registry.cli") / "family_template" / f"{template}.template").read_text(encoding="utf-8")
            file.write_text(Template(text).substitute(words), encoding="utf-8")
        (stage / "src" / words["package"] / "py.typed").touch()
    return target
