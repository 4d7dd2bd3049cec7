"""Every warning points at the line of who called, however deep it comes from."""

from __future__ import annotations

import ast
import functools
import json
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import registry
from registry.errors import RegistryWarning, warn
from tests.processes import ROOT

CATALOG = """\
registry: 1
models:
  new: {family: bert, source: ./m}
  old0: {alias: new, deprecated: {since: 2026-01}}
  old1: {alias: new, deprecated: {since: 2026-01}}
  broken: {famly: bert}
"""
CONFIG = {
    "model_type": "bert",
    "auto_map": {"AutoModel": "x.Y"},
    "vocab_size": 6,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
}


@pytest.fixture
def folder() -> Path:
    """A folder that asks for code, with its entry, two deprecated names and a broken one in the project's catalog."""
    path = Path("m")
    path.mkdir()
    (path / "config.json").write_text(json.dumps(CONFIG))
    (path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
    (path / "model.safetensors").write_bytes(b"")
    Path("models.yaml").write_text(CATALOG)
    return path


@pytest.mark.parametrize(
    "call",
    [
        lambda folder: registry.resolve("old0"),
        lambda folder: registry.load_config("old0"),
        lambda folder: registry.load_tokenizer("old0"),
        lambda folder: registry.fetch("old0"),
        lambda folder: registry.list_models(),
        lambda folder: registry.ModelRegistry().resolve("old0"),
        lambda folder: registry.ModelRegistry().fetch("old0"),
        lambda folder: registry.BertConfig.from_pretrained("old0"),
        lambda folder: registry.BertConfig.from_json_file(folder / "config.json"),
        lambda folder: registry.BertConfig.from_dict({"model_type": "gpt2"}),
        lambda folder: registry.BertTokenizer.from_pretrained("old0"),
        lambda folder: registry.load_config(folder),
        functools.partial(lambda call, folder: call(folder), lambda folder: registry.load_config(folder)),
    ],
)
def test_a_warning_points_at_the_callers_line(call: Callable[[Path], object], folder: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(folder)
    ours = [warning for warning in caught if warning.category is RegistryWarning]
    assert ours and {warning.filename for warning in ours} == {__file__}


def test_a_line_of_a_thread_is_found_too(folder: Path) -> None:
    with warnings.catch_warnings(record=True) as caught, ThreadPoolExecutor(1) as pool:
        warnings.simplefilter("always")
        pool.submit(lambda: registry.load_config(folder)).result()
    assert {warning.filename for warning in caught} == {__file__}


def test_who_is_told_once_is_told_once_a_line() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()
        for _ in range(3):
            warn("look")
        warn("look")
    assert len({warning.lineno for warning in caught}) == len(caught) == 2


def test_a_filter_can_make_it_an_error() -> None:
    with warnings.catch_warnings(), pytest.raises(RegistryWarning):
        warnings.simplefilter("error")
        warn("look")


def test_nothing_warns_with_a_depth_of_its_own() -> None:
    files = [*(ROOT / "registry").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]
    found = [
        str(file)
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr == "warn"
        and isinstance(node.value, ast.Name)
        and node.value.id == "warnings"
    ]
    assert found == []
