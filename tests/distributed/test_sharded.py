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


@pytest.mark.slow
def test_what_is_loaded_in_less_common_ways_is_what_one_process_loads(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    for name in ("bert", "gpt2"):
        models.build(name).save_pretrained(folder / name)
    models.save_odd(folder)
    first, *others = run("details", 4, tmp_path / "group", str(folder))
    plain = registry.load(folder / "gpt2").state_dict()

    torch.manual_seed(21)
    alone = registry.load(folder / "bert", head="sequence-classification", num_labels=3)
    _require_same(first["head"], alone.state_dict())
    assert torch.equal(first["drawn after"], torch.rand(1))
    for report, expected in ((first["report"], alone.load_report),):
        assert report == expected and "classifier.weight" in report.newly_initialized
    _require_same(first["cast"], registry.load(folder / "bert", dtype="bfloat16").state_dict())
    for form in ("pickle", "pieces", "state", "twice"):
        _require_same(first[form], plain)
    for other in others:
        for form in ("head", "cast", "pickle", "pieces", "state", "twice"):
            _require_same(other[form], first[form])
        assert not torch.equal(other["drawn after"], first["drawn after"])  # a rank's own numbers go on
    for rank in (first, *others):
        # Whoever holds no row that differs hears of it from the rank that does.
        assert rank["differs"]["error"] == "CheckpointError" and "the model ties them, but differs" in rank["differs"]["text"]
        assert rank["differs, not strict"].unexpected == ("lm_head.weight",)
        assert rank["lacks"]["error"] in ("CheckpointError", "DistributedError")
        assert "lacks 1 of the base model: transformer.ln_f.weight" in rank["lacks"]["text"]
        assert rank["mixed"]["error"] in ("ConfigError", "DistributedError")
        assert "one dtype, but have torch.float16 and torch.float32; give dtype=" in rank["mixed"]["text"]
        assert rank["mixed, cast"]["error"] is None
    alone_computed = models.compute("gpt2", registry.load(folder / "gpt2"))
    for rank in (first, *others):
        for what, expected in alone_computed.items():
            _require_equal(rank["replicas"][what], expected, what)
    _require_same(registry.load(folder / "of-replicas").state_dict(), first["replicas"]["weights"])


@pytest.mark.slow
def test_ranks_generate_from_prompts_of_their_own_until_all_have_ended(tmp_path: Path) -> None:
    models.build("gpt2").save_pretrained(tmp_path / "models/gpt2")
    found = run("generation", 2, tmp_path / "group", str(tmp_path / "models"))
    for rank, each in enumerate(found):
        prompt, end = models.prompt(rank)
        alone = models.build("gpt2").generate(prompt, max_new_tokens=8, eos_token_id=end, pad_token_id=0)
        length = alone.shape[1]
        assert torch.equal(each["tokens"][:, :length], alone) and not each["tokens"][:, length:].any()
        assert each["type"] == "CausalLMOutput" and each["gradient"]
    assert found[0]["tokens"].shape == found[1]["tokens"].shape


@pytest.mark.slow
def test_with_broadcast_one_rank_of_each_node_reads(tmp_path: Path) -> None:
    models.build("gpt2").save_pretrained(tmp_path / "models/gpt2")
    plain = registry.load(tmp_path / "models/gpt2").state_dict()
    size = sum(value.nbytes for name, value in plain.items() if name != "lm_head.weight")
    found = run("broadcast_reads", 4, tmp_path / "group", str(tmp_path / "models"))
    assert found[1]["bytes"] == found[3]["bytes"] == 0
    assert found[0]["bytes"] + found[2]["bytes"] == size
    for rank in found:
        _require_same(rank["weights"], plain)


@pytest.mark.slow
def test_without_a_mesh_no_process_group_is_touched(tmp_path: Path) -> None:
    models.build("gpt2").save_pretrained(tmp_path / "models/gpt2")
    for kinds in run("untouched", 2, tmp_path / "group", str(tmp_path / "models")):
        assert set(kinds) == {"Parameter"}


def _require_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value), name


def _require_equal(found: object, expected: object, what: str) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5, msg=lambda text: f"{what}: {text}")
