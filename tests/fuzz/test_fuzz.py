"""Some of the damaged files of `make fuzz`, the same ones each time."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.processes import environment


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_damaged_files_of_every_kind_end_in_a_result_or_an_error_that_names_the_file() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--examples", "200", "--seed", "5", "--jobs", "2"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
