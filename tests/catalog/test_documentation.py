"""What docs/models-yaml.md shows works as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from registry.catalog.layers import LayerKind
from registry.catalog.schema import FIELDS, HOST_FIELDS, read_catalog
from registry.model_registry import ModelRegistry
from tests.cli.conftest import run  # noqa: F401  # a fixture
from tests.processes import ROOT

PAGE = (ROOT / "docs/models-yaml.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_its_catalogs_are_right() -> None:
    models, hosts = blocks("yaml")
    for text in (models, hosts):
        file = read_catalog(text, "models.yaml")
        assert file.ours and not file.problems and not file.broken
    Path("models.yaml").write_text(models)
    registry = ModelRegistry()
    assert registry.list_models("acme*") == ["acme-support", "acme-support-legal"]
    assert not registry.catalog.broken
    assert registry.resolve("acme-support-legal").files == {}


def test_it_knows_every_field_and_layer() -> None:
    _, hosts = blocks("yaml")
    rows = re.findall(r"^\| (`[^|]*|[a-z ]+) \|", PAGE, re.MULTILINE)
    fields = {field for row in rows for field in re.findall(r"`(\w+)`", row)}
    assert fields == set(FIELDS)
    (host,) = read_catalog(hosts, "models.yaml").hosts.values()
    assert all(getattr(host, field) for field in HOST_FIELDS)
    layers = [row for row in rows if "`" not in row and row not in ("field", "layer")]
    assert len(layers) == len(LayerKind)


def test_its_commands_and_code_run(run) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    Path("models.yaml").write_text(blocks("yaml")[0])
    _, commands = blocks("sh")  # the first, of editing, has a test of its own
    for command in commands.splitlines():
        program, *arguments = shlex.split(command)
        assert program == "registry"
        assert run(*arguments).code == 0, command
    (code,) = blocks("python")
    exec(code, {})
    assert '"$schema"' in Path("models.schema.json").read_text()


@pytest.mark.parametrize("name", re.findall(r"`(REGISTRY_\w+|XDG_\w+)", PAGE))
def test_its_variables_are_read_by_the_library(name: str) -> None:
    assert any(f'"{name}"' in path.read_text(encoding="utf-8") for path in (ROOT / "registry").rglob("*.py"))
