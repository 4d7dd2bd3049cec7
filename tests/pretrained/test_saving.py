"""What a saved folder holds, what a save costs, and what it never breaks."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import registry
from registry import CheckpointError, DownloadError
from registry.checkpoint.save import write_weights
from registry_bert import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertModel
from registry_gpt2 import GPT2Config, GPT2LMHeadModel
from tests.processes import run_python

SIZES: dict[str, Any] = {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 12}
FORMS: dict[str, dict[str, Any]] = {
    "one file": {},
    "shards": {"max_shard_size": "4KB"},
    "bin": {"safe_serialization": False},
    "bin shards": {"safe_serialization": False, "max_shard_size": "4KB"},
}
forms = pytest.mark.parametrize("form", FORMS)


def build(**changes: Any) -> GPT2LMHeadModel:
    torch.manual_seed(5)
    return GPT2LMHeadModel(GPT2Config(**{**SIZES, **changes})).eval()


def state_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_equal(state: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert state.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in state.items())


@pytest.mark.parametrize("after", FORMS)
@forms
def test_load_train_and_save_into_the_same_folder(form: str, after: str, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    build().save_pretrained(folder, **FORMS[form])
    model = registry.load(folder)
    before = state_of(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    ids = torch.arange(24).reshape(2, 12)
    model(ids, labels=ids).loss.backward()
    optimizer.step()
    trained = state_of(model)
    assert not torch.equal(trained["transformer.wte.weight"], before["transformer.wte.weight"])
    model.save_pretrained(folder, **FORMS[after])
    assert_equal(state_of(registry.load(folder, strict=True)), trained)
    assert_equal(state_of(model), trained)  # the file it was mapped from did not change below it
    model(ids, labels=ids).loss.backward()
    optimizer.step()
    assert_equal(state_of(registry.load(folder)), trained)  # nor does the folder change with the model


@forms
def test_files_have_the_names_of_the_hub_and_nothing_else_is_there(form: str, tmp_path: Path) -> None:
    build().save_pretrained(tmp_path / "m", **FORMS[form])
    stem, suffix = ("pytorch_model", "bin") if "bin" in form else ("model", "safetensors")
    names = {path.name for path in (tmp_path / "m").iterdir()} - {"config.json"}
    if "shards" not in form:
        assert names == {f"{stem}.{suffix}"}
        return
    names.remove(f"{stem}.{suffix}.index.json")
    index = json.loads((tmp_path / "m" / f"{stem}.{suffix}.index.json").read_text())
    assert names == set(index["weight_map"].values())
    assert names == {f"{stem}-{number:05d}-of-{len(names):05d}.{suffix}" for number in range(1, len(names) + 1)}
    # By hand: V E + P E, 2 layers of 12 E E + 13 E, and 2 E at the end; the head is tied. 4 bytes each.
    assert index["metadata"]["total_size"] == 4 * (40 * 16 + 12 * 16 + 2 * (12 * 16 * 16 + 13 * 16) + 2 * 16)


def test_tied_weights_are_written_once_and_for_2019s_library_under_both_names(tmp_path: Path) -> None:
    model = build()
    model.save_pretrained(tmp_path / "m", safe_serialization=False)
    written = torch.load(tmp_path / "m" / "pytorch_model.bin", weights_only=True)
    assert written.keys() == model.state_dict().keys()
    assert written["lm_head.weight"].data_ptr() == written["transformer.wte.weight"].data_ptr()
    model.save_pretrained(tmp_path / "m")
    size = 4 * model.num_parameters()
    assert size < (tmp_path / "m" / "model.safetensors").stat().st_size < size + 4096


@pytest.mark.parametrize("safe", [True, False])
def test_weights_that_share_memory_are_saved_each_and_no_more_than_that(safe: bool, tmp_path: Path) -> None:
    flat = torch.arange(250_000, dtype=torch.float32)
    tensors = {
        "one": flat[:100].view(10, 10),
        "two": flat[50:150].view(10, 10),
        "transposed": flat[:100].view(10, 10).T,
        "expanded": flat[:5].expand(4, 5),
        "steps": flat[:400:4],
    }
    (name,) = write_weights(tmp_path, tensors, safe=safe)
    from registry.checkpoint.open import open_checkpoint

    written = open_checkpoint(tmp_path / name)
    assert all(torch.equal(written.tensor(key), value) for key, value in tensors.items())
    assert (tmp_path / name).stat().st_size < 5_000, "of a million bytes that the views are of"


def test_layers_that_a_user_shares_come_back_equal(tmp_path: Path) -> None:
    model = build()
    model.transformer.h[1] = model.transformer.h[0]
    for form in FORMS:
        model.save_pretrained(tmp_path / form, **FORMS[form])
        assert_equal(state_of(registry.load(tmp_path / form, strict=True)), state_of(model))


def test_weights_without_values_are_refused_by_name(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = build()
    for form in FORMS.values():
        with pytest.raises(CheckpointError, match=r"weight 'transformer.wte.weight' is expected .* but is on the meta device"):
            model.save_pretrained(tmp_path / "m", **form)
    assert not (tmp_path / "m").exists() and not list(tmp_path.glob(".m*"))


def test_a_wrong_size_of_shards_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a size is expected"):
        build().save_pretrained(tmp_path / "m", max_shard_size="many")
    assert not (tmp_path / "m").exists()


@forms
def test_pruned_heads_and_labels_are_kept(form: str, tmp_path: Path) -> None:
    names = {0: "no", 1: "yes", 2: "perhaps"}
    config = BertConfig(
        vocab_size=20, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=16, id2label=names
    )
    model = BertForSequenceClassification(config).eval()
    model.prune_heads({0: [1], 1: [0, 2]})
    model.save_pretrained(tmp_path, **FORMS[form])
    again = registry.load(tmp_path, strict=True)
    assert again.config.pruned_heads == {0: [1], 1: [0, 2]} and again.config.id2label == names
    assert again.bert.encoder.layer[1].attention.self.query.out_features == 4
    assert_equal(state_of(again), state_of(model))


# -- the disk -----------------------------------------------------------------------------------------------------------


def in_child(action: Callable[[], None]) -> None:
    """Run something in a process of its own, whose limits die with it."""
    child = os.fork()
    if child == 0:
        try:
            action()
            os._exit(0)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("room", [200, 2_500, 9_000, 20_000])
@forms
def test_a_full_disk_is_an_error_and_the_old_set_stays(form: str, room: int, tmp_path: Path) -> None:
    old, new = build(), build(vocab_size=400)  # 25,600 bytes of embedding alone
    old.save_pretrained(tmp_path / "m")
    files = {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()}

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))  # no file may become larger
        for folder in ("m", "new"):
            with pytest.raises(CheckpointError, match=r"to take the files of a save, but cannot \(.*what was there is unchang"):
                new.save_pretrained(tmp_path / folder, **FORMS[form])

    in_child(limited)
    assert {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()} == files
    assert not [path for path in tmp_path.iterdir() if "new" in path.name]
    assert_equal(state_of(registry.load(tmp_path / "m")), state_of(old))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(CheckpointError, match="Permission denied"):
        build().save_pretrained(tmp_path / "m")


def test_a_folder_in_the_place_of_a_file_is_found_before_anything_changes(tmp_path: Path) -> None:
    old = build()
    old.save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors.index.json").mkdir()
    with pytest.raises(CheckpointError, match="index.json is a folder there.*unchanged"):
        build(n_layer=1).save_pretrained(tmp_path / "m", max_shard_size="4KB")
    (tmp_path / "m" / "model.safetensors.index.json").rmdir()
    assert_equal(state_of(registry.load(tmp_path / "m")), state_of(old))


MEMORY = """
import re, resource, sys, torch
from pathlib import Path
from registry.checkpoint.save import write_weights
import numpy

folder, safe = Path(sys.argv[1]), sys.argv[2] == "True"
write_weights(folder, {"warm": torch.ones(10)}, safe=safe)
tensors = {f"layer.{n}": torch.ones(4 << 20) for n in range(8)}  # 8 times 16 MiB
used = int(re.search(r"VmData:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) << 10
resource.setrlimit(resource.RLIMIT_DATA, (used + (12 << 20), -1))
try:
    torch.ones(4 << 20)
except RuntimeError:
    write_weights(folder, tensors, safe=safe)
    print("written")
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="RLIMIT_DATA as Linux counts it")
@pytest.mark.parametrize("safe", [True, False])
def test_a_save_needs_no_room_for_a_copy_of_one_tensor(safe: bool, tmp_path: Path) -> None:
    assert run_python("-c", MEMORY, str(tmp_path), str(safe)).stdout == "written\n"
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) > 128 << 20


# -- the card -----------------------------------------------------------------------------------------------------------


def card_of(folder: Path) -> tuple[dict[str, Any], str]:
    _, front, body = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), body


def test_a_card_is_written_on_request_only_and_says_what_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    model.save_pretrained(tmp_path / "m")
    assert not (tmp_path / "m" / "README.md").exists()
    model.to(torch.bfloat16).save_pretrained(tmp_path / "m", model_card=True)
    front, body = card_of(tmp_path / "m")
    assert front == {"library_name": "pretrained-registry", "pipeline_tag": "text-generation", "tags": ["gpt2"]}
    for fact in ("GPT2LMHeadModel", "parameters: 7,424", "bfloat16", "registry.load('./m')", "GPT2LMHeadModel.from_pretrained"):
        assert fact in body, fact
    code = body.split("```python\n")[1].split("```")[0]
    there: dict[str, Any] = {}
    monkeypatch.chdir(tmp_path)
    exec(code, there)
    assert type(there["model"]) is GPT2LMHeadModel


def test_a_card_has_no_task_where_the_hub_has_none(tmp_path: Path) -> None:
    class Mine(BertModel):
        pass

    config = BertConfig(vocab_size=20, hidden_size=12, num_hidden_layers=1, num_attention_heads=3, intermediate_size=16)
    Mine(config).save_pretrained(tmp_path / "a", model_card=True)
    assert "pipeline_tag" not in card_of(tmp_path / "a")[0]
    pruned = BertForMaskedLM(config)
    pruned.prune_heads({0: [1]})
    pruned.save_pretrained(tmp_path / "b", model_card=True)
    front, body = card_of(tmp_path / "b")
    assert front["pipeline_tag"] == "fill-mask" and "transformers" not in body, "which cannot open it"


def test_a_card_of_ones_own_is_not_written_over_and_one_of_ours_is(tmp_path: Path) -> None:
    model = build()
    model.save_pretrained(tmp_path / "m", model_card=True)
    model.to(torch.float16).save_pretrained(tmp_path / "m", model_card=True)
    assert "float16" in (tmp_path / "m" / "README.md").read_text()
    (tmp_path / "m" / "README.md").write_text("# Mine\n")
    model.save_pretrained(tmp_path / "m")
    with pytest.raises(CheckpointError, match=r"README.md' is expected .* but is somebody's own; leave model_card out"):
        model.save_pretrained(tmp_path / "m", model_card=True)
    assert (tmp_path / "m" / "README.md").read_text() == "# Mine\n"


@pytest.mark.parametrize("safe", [True, False])
def test_a_shard_that_is_gone_is_told_with_the_index_that_names_it(safe: bool, tmp_path: Path) -> None:
    build().save_pretrained(tmp_path / "m", max_shard_size="4KB", safe_serialization=safe)
    stem, suffix = ("model", "safetensors") if safe else ("pytorch_model", "bin")
    gone = sorted((tmp_path / "m").glob(f"{stem}-*.{suffix}"))[1]
    gone.unlink()
    with pytest.raises(DownloadError) as caught:
        registry.load(tmp_path / "m")
    assert gone.name in str(caught.value) and f"{stem}.{suffix}.index.json" in str(caught.value)
