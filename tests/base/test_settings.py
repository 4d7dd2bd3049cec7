"""The table of settings has every environment variable that the source reads, and the documentation shows that table."""

from __future__ import annotations

import ast
import os
import re
from collections import Counter

from registry.base.settings import SETTINGS
from tests.processes import ROOT

NAMES = [name for names, *_ in SETTINGS for name in names]
#: Functions that take the name of a variable first.
READERS = {"is_set", "is_off", "_answer", "setting", "token_of"}
#: Read by requests.
BY_OTHERS = {name for name in NAMES if name.lower().endswith("_proxy")}
#: Constants that look like a variable's name and are none.
NO_VARIABLES = {"REGISTRY_API", "URL", "TOKEN", "CREDENTIAL", "SECRET", "PASSWORD", "KEY", "TWO_FACED"}
PAGE = ROOT / "docs" / "settings.md"


def sources() -> list[ast.Module]:
    return [ast.parse(path.read_text()) for folder in ("registry", "plugins") for path in sorted((ROOT / folder).rglob("*.py"))]


def is_environment(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "environ"


def reads(tree: ast.Module) -> list[ast.expr]:
    """Return the expressions that name a variable where one is read."""
    found: list[ast.expr] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            function = node.func
            if isinstance(function, ast.Attribute) and function.attr in ("get", "getenv", "pop"):
                found += node.args[:1] if is_environment(function.value) or function.attr == "getenv" else []
            elif isinstance(function, ast.Name) and function.id in READERS:
                found.append(node.args[0])
        elif isinstance(node, ast.Subscript) and is_environment(node.value):
            found.append(node.slice)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Attribute) and is_environment(node.value.value):
            found.append(node.value)  # `get = os.environ.get`
        elif isinstance(node, ast.Compare) and any(map(is_environment, node.comparators)):
            found.append(node.left)
    return found


def texts(tree: ast.Module) -> set[str]:
    """Return the strings of a module but those of `__all__`."""
    parts = [node for node in tree.body if not (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__")]
    nodes = [node for part in parts for node in ast.walk(part)]
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_every_variable_that_the_source_reads_is_in_the_table() -> None:
    read: set[str] = set()
    for tree in sources():
        if expressions := reads(tree):
            read |= {each.value for each in expressions if isinstance(each, ast.Constant) and isinstance(each.value, str)}
            if not all(isinstance(each, ast.Constant) for each in expressions):  # names that stand in tuples
                read |= {text for text in texts(tree) if re.fullmatch(r"[A-Z]{3,}(_[A-Z0-9]+)*", text)} - NO_VARIABLES
        read |= {text for text in texts(tree) if re.fullmatch(r"REGISTRY_[A-Z_]*[A-Z]", text)} - NO_VARIABLES
    assert {"REGISTRY_RANK_TIMEOUT", "PMI_RANK", "AWS_ENDPOINT", "HF_TOKEN", "NETRC"} <= read
    assert read <= set(NAMES)


def test_every_variable_of_the_table_is_read() -> None:
    text = "\n".join(path.read_text() for folder in ("registry", "plugins") for path in (ROOT / folder).rglob("*.py"))
    unread = {name for name in NAMES if len(re.findall(rf"[\"']{name}[\"']", text)) < 2}  # once in the table itself
    assert unread == BY_OTHERS
    assert [name for name, times in Counter(NAMES).items() if times > 1] == []


def test_the_documentation_shows_the_table() -> None:
    rows = "".join(
        f"| {', '.join(f'`{name}`' for name in names)} | {kind} | {default} | {meaning} |\n"
        for names, kind, default, meaning in SETTINGS
    )
    text = PAGE.read_text(encoding="utf-8")
    head, line, shown = text.partition("|---|---|---|---|\n")
    if os.environ.get("UPDATE_SNAPSHOTS") == "1":
        PAGE.write_text(head + line + rows, encoding="utf-8")
        shown = rows
    assert shown == rows, "docs/settings.md differs from registry.base.settings; run this test with UPDATE_SNAPSHOTS=1"


def test_pages_name_only_variables_of_the_table() -> None:
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        named = set(re.findall(r"REGISTRY_[A-Z_]*[A-Z]\b", path.read_text(encoding="utf-8")))
        assert named - {"REGISTRY_API"} <= set(NAMES), path.name
