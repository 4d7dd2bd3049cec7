"""What many ranks save, one process loads, and any other number of ranks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers

import registry
from tests.distributed import models
from tests.distributed.group import results, run, running


@pytest.mark.slow
def test_a_folder_of_four_ranks_is_loaded_by_one_process_by_transformers_and_by_two_ranks(tmp_path: Path) -> None:
    models.save_all(tmp_path / "models")
    out = tmp_path / "out"
    run("save", 4, tmp_path / "group", str(tmp_path / "models"), str(out))
    states = {name: registry.load(out / name).state_dict() for name in models.NAMES}
    for name in models.NAMES:
        before = registry.load(tmp_path / "models" / name)
        assert states[name].keys() == before.state_dict().keys()
        same = all(torch.equal(states[name][key], value) for key, value in before.state_dict().items())
        assert same == (name != "gpt2")
        index = json.loads((out / name / "model.safetensors.index.json").read_text())
        files = sorted(path.name for path in (out / name).glob("*.safetensors"))
        assert sorted(set(index["weight_map"].values())) == files and len(files) >= 3
        assert index["weight_map"].keys() == states[name].keys() - before.tied_weights().keys()
        config = json.loads((out / name / "config.json").read_text())
        assert config["architectures"] == [type(before).__name__]
        assert sorted(path.name for path in (out / name).iterdir()) == sorted(
            [*files, "config.json", "model.safetensors.index.json"]
        )
    for name, cls in (("bert", "BertForMaskedLM"), ("gpt2", "GPT2LMHeadModel"), ("gpt", "OpenAIGPTLMHeadModel")):
        theirs = getattr(transformers, cls).from_pretrained(out / name).eval()
        with torch.no_grad():
            expected = theirs(models.ids(name)).logits
            found = registry.load(out / name)(models.ids(name))
        torch.testing.assert_close(found.logits, expected, rtol=0, atol=2e-5)
    for rank in run("gathered", 2, tmp_path / "again", str(out)):
        for name, state in rank.items():
            assert state.keys() == states[name].keys()
            assert all(torch.equal(value, states[name][key]) for key, value in state.items())


@pytest.mark.slow
@pytest.mark.filterwarnings("default:torch.distributed is disabled:UserWarning")  # which it is, in one process
def test_training_goes_on_with_the_same_losses_on_more_ranks_and_in_one_process(tmp_path: Path) -> None:
    models.save_all(tmp_path / "models")
    folders = (str(tmp_path / "models"), str(tmp_path / "checkpoints"))
    first, *others = run("train", 2, tmp_path / "two", *folders, "save")
    assert others == [first]
    for rank in run("train", 4, tmp_path / "four", *folders, "resume"):
        for name in models.TRAINED:
            assert rank[name] == pytest.approx(first[name], abs=2e-5)
    for name in models.TRAINED:
        model = registry.load(tmp_path / "models" / name)
        alone = models.train(name, model, tmp_path / "checkpoints" / name, "resume")
        assert alone == pytest.approx(first[name], abs=2e-5)
        assert alone[0] != alone[1]


@pytest.mark.slow
def test_a_save_that_fails_on_one_rank_fails_on_all_and_leaves_what_was_there(tmp_path: Path) -> None:
    models.build("gpt2").save_pretrained(tmp_path / "models/gpt2")
    out = tmp_path / "out"
    models.build("gpt2").save_pretrained(out / "old")
    before = {path.name: path.read_bytes() for path in (out / "old").iterdir()}
    found = run("saving_failures", 3, tmp_path / "group", str(tmp_path / "models"), str(out))
    full, full_new, well, elsewhere = zip(*found, strict=True)
    for each, files in ((full, sorted(before)), (full_new, [])):
        assert each[1]["error"] == "CheckpointError" and "No space left on device" in each[1]["text"]
        for rank in (0, 2):
            assert each[rank]["error"] == "DistributedError" and each[rank]["ranks"] == (1,)
            assert "rank 1 is expected to save into" in each[rank]["text"] and "No space left" in each[rank]["text"]
        assert each[0]["files"] == files
    for rank in range(3):
        assert well[rank]["error"] is None and len(well[rank]["files"]) >= 4
        assert elsewhere[rank]["error"] is None
    assert sorted(path.name for path in out.iterdir()) == ["elsewhere", "old"]
    assert "model.safetensors" not in well[0]["files"]
    expected = registry.load(tmp_path / "models/gpt2").state_dict()
    for name in ("old", "elsewhere"):
        state = registry.load(out / name).state_dict()
        assert all(torch.equal(state[key], value) for key, value in expected.items())


@pytest.mark.slow
def test_a_rank_that_is_killed_while_saving_is_named_and_nothing_appears(tmp_path: Path) -> None:
    models.build("gpt2").save_pretrained(tmp_path / "models/gpt2")
    arguments = (str(tmp_path / "models"), str(tmp_path / "out/new"))
    with running("killed_while_saving", 3, tmp_path / "group", *arguments, env={"REGISTRY_RANK_TIMEOUT": "8"}) as ranks:
        codes = [code for code, _ in ranks.wait(90)]
    assert codes[0] == codes[2] == 0
    for rank in (0, 2):
        found = results(tmp_path / "group", 3)[rank]
        assert found["error"] == "DistributedError" and found["ranks"] == (1,) and found["seconds"] < 20
        assert "gave no sign of life" in found["text"]
    assert list((tmp_path / "out").iterdir()) == []
