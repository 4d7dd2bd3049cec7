"""examples/finetune.py at a tiny size: in one process and in two, which end with the same model."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from registry import ModelRegistry
from registry_bert import BertForSequenceClassification
from tests.processes import ROOT, run_python

EXAMPLE = ROOT / "examples" / "finetune.py"
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
TINY = ("--limit", "128", "--batch-size", "16", "--epochs", "2")


def finetune(output: Path, *launcher: str) -> tuple[dict[str, Any], str]:
    """Run the example where `minilm` is known, and return its metrics and what it printed."""
    printed = run_python(*launcher, str(EXAMPLE), *TINY, "--output", str(output), cwd=ROOT).stdout
    return json.loads((output / "metrics.json").read_text()), printed


def test_it_needs_nothing_but_torch_and_the_package() -> None:
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(EXAMPLE.read_text()))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [])
        + ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [])
    }
    assert imported - sys.stdlib_module_names == {"torch", "registry"}


@pytest.mark.slow
def test_two_processes_end_with_the_model_of_one_and_it_loads_by_its_name(tmp_path: Path) -> None:
    one, printed = finetune(tmp_path / "one")
    two, _ = finetune(tmp_path / "two", *TORCHRUN)
    for alone, together in zip(one["epochs"], two["epochs"], strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], rel=1e-4)
        assert together["accuracy"] == pytest.approx(alone["accuracy"], abs=1.5 / 128)
    assert one["epochs"][1]["loss"] < one["epochs"][0]["loss"]
    assert one["reloaded"] == one["epochs"][-1]["accuracy"] > 2 / 7, "twice what a guess among seven labels gives"
    assert two["reloaded"] == two["epochs"][-1]["accuracy"]
    assert f"accuracy {one['reloaded']:.3f}" in printed.splitlines()[-1]

    catalog = ModelRegistry(catalogs=[tmp_path / "two" / "models.yaml"])
    model = catalog.load("docstring-router")
    assert type(model) is BertForSequenceClassification and model.load_report is not None and model.load_report.clean
    texts = ["Run the event loop until the coroutine is done.", "Parse the headers of a MIME message."]
    with torch.inference_mode():
        labels = model(**catalog.load_tokenizer("docstring-router")(texts, padding=True, return_tensors="pt")).logits.argmax(-1)
    assert [model.config.id2label[int(label)] for label in labels] == ["asyncio", "email"]

    # AdamW steps by the learning rate whatever a gradient's size, so what has no gradient but for rounding may differ by that.
    weights = [load_file(tmp_path / run / "model" / "model.safetensors") for run in ("one", "two")]
    for name in ("bert.pooler.dense.weight", "classifier.weight", "bert.encoder.layer.0.output.dense.weight"):
        torch.testing.assert_close(weights[1][name], weights[0][name], atol=1e-4, rtol=0)


@pytest.mark.slow
def test_a_batch_that_the_processes_cannot_share_is_refused(tmp_path: Path) -> None:
    arguments = (*TORCHRUN, str(EXAMPLE), "--batch-size", "15", "--output", str(tmp_path / "out"))
    done = run_python(*arguments, cwd=ROOT, check=False)
    assert done.returncode != 0 and "--batch-size is expected to be a multiple of the 2 processes, but is 15" in done.stderr
    assert not (tmp_path / "out").exists()
