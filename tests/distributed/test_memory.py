"""What a rank keeps and reads, by the program that measures it at full size."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.processes import ROOT, environment


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--broadcast"]])
def test_a_rank_keeps_its_part_and_all_together_read_the_file_once(options: list[str]) -> None:
    command = [sys.executable, "benchmarks/sharded_load.py", "--layers", "4", "--json", *options]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["ranks"] == 4 and figures["bytes"] > 3e8
    assert max(figures["above_idle"]) <= 0.25 + 0.15
    assert figures["read_over_file"] <= 1.05
