"""The JSON Schema that editors use says what the parser says."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import registry.catalog.schema as parser
from registry.base.names import MODEL_NAME
from registry.catalog.yaml_nodes import parse
from tests.catalog import test_schema as parsing
from tests.catalog.test_mistakes import FILE_MISTAKES, MISTAKES, SOUND
from tests.processes import ROOT

SCHEMA: dict[str, Any] = json.loads((files("registry.catalog") / "models.schema.json").read_text(encoding="utf-8"))
DEFINITIONS = SCHEMA["definitions"]

#: What only the parser can tell: what is repeated or is no plain YAML, and what other names and machines there are.
BEYOND = {
    *("a home of nobody", "two files that are one", "an alias to nowhere", "a base that is no name", "a base that is an alias"),
    *("a circle of aliases", "a circle of bases", "a circle of replacements", "another's name", "a key twice", "a name twice"),
    *("a tag", "an anchor"),
}


def refused(text: str) -> list[str]:
    root = parse(text, "models.yaml")
    assert root is not None
    return [error.message for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(root.plain())]


def test_it_is_a_schema_of_draft_7() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    ("written", "known"),
    [
        (SCHEMA["properties"], parser.SECTIONS),
        (DEFINITIONS["model"]["properties"], parser.FIELDS),
        (DEFINITIONS["file"]["properties"], parser.PIN_FIELDS),
        (DEFINITIONS["deprecation"]["properties"], parser.DEPRECATION_FIELDS),
        (DEFINITIONS["host"]["properties"], parser.HOST_FIELDS),
    ],
    ids=["file", "model", "pin", "deprecation", "host"],
)
def test_it_knows_the_fields_that_the_parser_knows(written: dict[str, Any], known: Any) -> None:
    assert set(written) == set(known)
    assert all(field.get("description") for field in written.values())


def test_its_rules_are_the_parsers() -> None:
    model, host = DEFINITIONS["model"], DEFINITIONS["host"]
    assert SCHEMA["properties"]["registry"]["const"] == parser.SCHEMA_VERSION
    only_alias, only_disabled, _ = model["allOf"]
    assert set(only_alias["then"]["propertyNames"]["enum"]) == parser._BESIDE_ALIAS
    assert set(only_disabled["then"]["propertyNames"]["enum"]) == parser._BESIDE_DISABLED
    for pattern, known in (
        (DEFINITIONS["name"]["pattern"], MODEL_NAME.pattern),
        (DEFINITIONS["deprecation"]["properties"]["since"]["pattern"], parser._MONTH.pattern),
        (host["properties"]["token_env"]["pattern"], parser._VARIABLE.pattern),
        (SCHEMA["properties"]["hosts"]["propertyNames"]["pattern"], f"({parser._HOST.pattern})"),
    ):
        assert pattern == f"^{known}$"
    assert host["properties"]["parallelism"]["maximum"] == parser._MAX_PARALLELISM


@pytest.mark.parametrize("file", [ROOT / "models.yaml", *sorted((ROOT / "plugins").glob("*/models.yaml"))], ids=str)
def test_our_own_catalogs_are_right(file: Path) -> None:
    assert refused(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("text", [parsing.EVERY_KEY, SOUND, "registry: 1\n", "registry: 1\nmodels:\nhosts:\n"])
def test_what_the_parser_reads_is_right(text: str) -> None:
    assert refused(text) == []


@pytest.mark.parametrize("mistake", sorted(MISTAKES.keys() - BEYOND))
def test_a_mistake_in_an_entry_is_one_for_an_editor_too(mistake: str) -> None:
    assert refused(f"{SOUND}{MISTAKES[mistake][0]}\n")


@pytest.mark.parametrize("mistake", sorted(BEYOND))
def test_what_is_beyond_it_is_beyond_it(mistake: str) -> None:
    text = f"{SOUND}{MISTAKES[mistake][0]}\n"
    try:
        assert refused(text) == []
    except parser.CatalogError:  # no plain YAML
        assert mistake in ("a key twice", "a name twice", "a tag", "an anchor")


@pytest.mark.parametrize(
    "line", ["modles: {}", "hosts: {h: {token_env: s3cr-t}}", "hosts: {h: {header: X-T}}", "hosts: {h: {}}"]
)
def test_a_mistake_in_the_file_is_one_for_an_editor_too(line: str) -> None:
    assert refused(f"{SOUND}{line}\n")
    assert refused(SOUND.replace("registry: 1", "registry: 7")) and FILE_MISTAKES
