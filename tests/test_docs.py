"""What the pages say is so: code compiles, names exist, commands parse; and on the pages of RUN the code and commands run.

Above a fence, `<!-- from FILE -->` says that it is part of that file of the package that `registry new-family acme` writes, and
`<!-- not run: REASON -->` that it is only compiled or parsed.
"""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from registry.cli.commands import cli
from registry.cli.new_family import write_package

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*/README.md")])
#: Pages whose every block is run, in order.
RUN = ("public-api.md", "writing-a-family.md")

_FENCE = re.compile(
    r"^(?:<!-- (?P<mark>not run: \S[^\n]*|from [^\n]+) -->\n)?^```(?P<language>[a-z]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_SHELL = ("", "console", "sh", "bash")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str
    mark: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"

    def commands(self) -> Iterator[list[str]]:
        """Yield the `registry` commands of a shell block, in words."""
        joined = self.text.replace("\\\n", " ")
        for line in joined.splitlines():
            words = line.strip().removeprefix("$ ")
            if words.startswith("registry "):
                yield shlex.split(words, comments=True)[1:]


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, found.start()) + 1, found["language"], found["text"], found["mark"] or "")
        for found in _FENCE.finditer(text)
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def of(*languages: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in languages], ids=str)


def parse_command(words: list[str]) -> None:
    """Have click parse a command with its options and arguments, without running it."""
    command: click.Command = cli
    context = None
    while isinstance(command, click.Group):
        context = click.Context(command, info_name="registry", parent=context, **command.context_settings)
        name, found, words = command.resolve_command(context, list(words))
        assert found is not None, name
        command = found
    if not {"-h", "--help"} & set(words):  # which print and end
        command.make_context(command.name, words, parent=context)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_fence_is_seen(page: Path) -> None:
    fences = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("```")]
    assert len(fences) == 2 * len(blocks_of(page))


@of("python")
def test_python_compiles_and_imports_what_there_is(block: Block) -> None:
    tree = ast.parse(textwrap.dedent(block.text), filename=str(block))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "registry":
            module = importlib.import_module(node.module or "")
            for name in node.names:
                if not name.name.startswith(("Acme", "Roberta")):  # of a family that the page is about
                    assert hasattr(module, name.name), f"{block}: {node.module} has no {name.name}"


@of(*_SHELL)
def test_commands_parse(block: Block) -> None:
    for words in block.commands():
        try:
            parse_command(words)
        except click.ClickException as error:
            if "does not exist" not in error.format_message():  # a file of the reader's
                pytest.fail(f"{block}: registry {shlex.join(words)}: {error.format_message()}")


@pytest.mark.parametrize("name", RUN)
def test_a_page_runs_from_its_first_block_to_its_last(name: str) -> None:
    variables: dict[str, object] = {}
    ran = 0
    for block in (block for block in BLOCKS if block.page.name == name and not block.mark):
        if block.language == "python":
            exec(compile(block.text, str(block), "exec"), variables)
            ran += 1
        elif block.language in _SHELL:
            lines = [line for line in block.text.splitlines() if line.strip()]
            commands = list(block.commands())
            assert len(commands) == len(lines), (
                f"{block} has something to run that is no registry command; say why it is not run"
            )
            for words in commands:
                done = CliRunner().invoke(cli, words)
                assert done.exit_code == 0, f"{block}: registry {shlex.join(words)}\n{done.output}"
                ran += 1
    assert ran


def test_parts_of_the_template_are_shown_as_they_are(tmp_path: Path) -> None:
    package = write_package("acme", tmp_path)
    shown = [block for block in BLOCKS if block.mark.startswith("from ")]
    assert shown
    for block in shown:
        file = package / block.mark.removeprefix("from ")
        assert block.text in file.read_text(encoding="utf-8"), f"{block} is not in {file.name} any more"


def test_a_command_that_there_is_not_and_an_option_that_it_has_not_are_found() -> None:
    for words in (["lst"], ["list", "--jsn"], ["cache", "ls"], ["info"]):
        with pytest.raises(click.ClickException):
            parse_command(words)
