"""docs/scale.md: its commands run in their order, its sums are those of the figures that were measured."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry_bert import BertConfig, BertForSequenceClassification, BertTokenizer
from tests.processes import ROOT, environment
from tests.servers import Handler, Request, Server, serving
from tests.test_docs import Block, blocks_of

PAGE = ROOT / "docs" / "scale.md"
BLOCKS = blocks_of(PAGE)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "fine", "day", "."]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Server]:
    """Serve a small model, and name it `acme-support` in the catalog of the working folder."""
    folder = tmp_path / "support-bert"
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertForSequenceClassification(BertConfig(vocab_size=len(WORDS), **sizes)).save_pretrained(folder)
    (tmp_path / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS))
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(folder)
    files = {f"/support-bert/{path.name}": path.read_bytes() for path in folder.iterdir()}

    def answer(handler: Handler, request: Request) -> None:
        if request.path in files:
            handler.reply_part(request, files[request.path], etag='"1"')
        else:
            handler.reply(request, 404)

    with serving(answer) as server:
        Path("models.yaml").write_text(
            f"registry: 1\nmodels:\n  acme-support: {{family: bert, source: {server.url}/support-bert/}}\n"
        )
        yield server


def shell(block: Block, folder: Path, *, check: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a block as a script, or with `check` only parse it, with the `registry` command on the path."""
    ours = {"SHARED": str(folder / "shared"), "SCRATCH": str(folder / "scratch"), "REGISTRY_QUIET": "1"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", "-n" if check else "-eu", "-c", block.text]
    env = {**environment(), **ours, "PATH": path}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_scripts_of_a_cluster_parse(tmp_path: Path) -> None:
    scripts = [block for block in BLOCKS if block.language == "sh" and block.mark]
    assert scripts
    for block in scripts:
        assert shell(block, tmp_path, check=True).returncode == 0, block


def test_the_commands_run_in_their_order_and_a_shared_tier_is_asked_for_nothing(served: Server, tmp_path: Path) -> None:
    scripts = [block for block in BLOCKS if block.language == "sh" and not block.mark]
    asked: dict[str, int] = {}
    for block in scripts:
        before = len(served.requests)
        done = shell(block, tmp_path)
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        asked[block.text] = len(served.requests) - before
    by_tier = [text for text in asked if "$SCRATCH" in text]
    assert len(by_tier) == 2 and all(asked[text] == 0 for text in by_tier)
    assert not (tmp_path / "scratch" / "registry" / "blobs").exists(), "nothing of a tier is copied to the node"
    assert (tmp_path / "shared" / "registry").stat().st_mode & 0o7777 == 0o2775
    mirrored = {path.name: path.read_bytes() for path in (tmp_path / "shared" / "mirror" / "support-bert").iterdir()}
    assert mirrored["model.safetensors"] == (tmp_path / "support-bert" / "model.safetensors").read_bytes()
    assert {"config.json", "vocab.txt"} <= mirrored.keys()
    assert "acme-support" in Path("models.lock").read_text()


@pytest.fixture(scope="module")
def sums() -> dict[str, Any]:
    """The variables of the page's sums."""
    (block,) = (block for block in BLOCKS if block.language == "python" and not block.mark)
    variables: dict[str, Any] = {}
    exec(compile(block.text, str(block), "exec"), variables)
    return variables


def test_the_figures_that_the_sums_begin_with_are_the_measured_ones(sums: dict[str, Any]) -> None:
    measured = json.loads((ROOT / "benchmarks" / "results" / "scale.json").read_text())
    assert sums["size"] == pytest.approx(measured["bytes"], rel=0.005)
    rate = measured["bytes"] / statistics.median(measured["seconds"]["fetch"])
    assert sums["fetch"] == pytest.approx(rate, rel=0.03)
    shown = rows("What was measured")
    assert [row[0] for row in shown] == ["fetch", "hash", "load", "load, times lost"]
    for name, seconds, *_ in shown:
        median = statistics.median(measured["seconds"][name])
        assert float(seconds.removesuffix(" s")) == pytest.approx(median, rel=0.03), name


def test_the_table_of_a_thousand_nodes_holds_what_the_sums_give(sums: dict[str, Any]) -> None:
    shown = {plan: float(seconds.replace(",", "")) for plan, seconds, *_ in rows("A thousand nodes")}
    assert shown == {plan: pytest.approx(seconds, rel=0.02) for plan, seconds in sums["plans"].items()}


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading, without its own head."""
    section = re.search(rf"^### {heading}\n(.*?)(?=^##)", PAGE.read_text() + "\n## ", re.MULTILINE | re.DOTALL)
    assert section is not None
    lines = [line for line in section[1].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
