"""A model over several ranks is the model in one process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import registry
from tests.distributed import models
from tests.distributed.group import run


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 4])
def test_outputs_training_and_generation_of_every_family_are_those_of_one_process(world: int, tmp_path: Path) -> None:
    models.save_all(tmp_path / "models")
    found = run("compute", world, tmp_path / "group", str(tmp_path / "models"))
    for name in models.NAMES:
        alone = models.compute(name, registry.load(tmp_path / "models" / name))
        for rank in found:
            shared = rank[name]
            assert shared.keys() == alone.keys()
            for what in shared:
                _require_equal(shared[what], alone[what], f"{name} {what}")


def _require_equal(found: object, expected: object, what: str) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5, msg=lambda text: f"{what}: {text}")
