"""Google's TensorFlow checkpoints, without TensorFlow, held against what 1.2.0 made of them with it."""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

import registry
import registry_bert
from registry import BertConfig, BertForPreTraining, BertTokenizer, CheckpointError
from tests.oracles import assert_close, old, quiet
from tests.servers import file_server
from tests.tensorflow.reading import CHECKPOINTS, as_tensorflow, tensorflow_reads

CLASSES = [name for name in registry_bert.__all__ if name.startswith(("BertFor", "BertModel"))]
IDS = torch.tensor([[2, 5, 96, 40, 7, 3], [2, 60, 61, 3, 9, 3]])


def reference(name: str, cls: Any, **config: Any) -> Any:
    """Return 1.2.0's model with the weights of a checkpoint."""
    settings = quiet(old.BertConfig.from_json_file, str(CHECKPOINTS / name / "bert_config.json"))
    settings.num_labels = config.get("num_labels", 2)
    model = quiet(cls, settings)
    with as_tensorflow(name):
        quiet(old.modeling_bert.load_tf_weights_in_bert, model, settings, str(CHECKPOINTS / name))
    return model.eval()


def test_pretraining_is_what_1_2_0_made_of_it() -> None:
    theirs = reference("bert", old.BertForPreTraining)
    ours = BertForPreTraining.from_pretrained(CHECKPOINTS / "bert", from_tf=True)
    assert "tensorflow" not in sys.modules
    weights, expected = ours.state_dict(), theirs.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in weights.items())
    for one, other in zip(ours(IDS), quiet(theirs, IDS), strict=True):
        assert_close(one, other)
    report = ours.load_report
    assert not (report.missing or report.unexpected or report.mismatched)
    slots = {name for name in tensorflow_reads("bert") if name.endswith(("/adam_m", "/adam_v"))}
    assert set(report.ignored) == {*slots, "global_step"}


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_loads_a_pretrained_checkpoint(name: str) -> None:
    expected = reference("bert", old.BertForPreTraining).state_dict()
    model = getattr(registry_bert, name).from_pretrained(CHECKPOINTS / "bert", from_tf=True)
    prefix = "bert." if name == "BertModel" else ""
    loaded = {key: value for key, value in model.state_dict().items() if key not in model.load_report.newly_initialized}
    assert all(torch.equal(value, expected[prefix + key]) for key, value in loaded.items())
    assert all(key.startswith(("classifier.", "qa_outputs.")) for key in model.load_report.newly_initialized)
    assert all(not parameter.is_meta for parameter in model.parameters())


def test_a_squad_checkpoint_answers_questions() -> None:
    # 1.2.0 put that head into the class for token classification; its two labels are the begins and the ends.
    theirs = reference("bert_squad", old.BertForTokenClassification)
    ours = registry_bert.BertForQuestionAnswering.from_pretrained(CHECKPOINTS / "bert_squad", from_tf=True)
    begins, ends = quiet(theirs, IDS)[0].unbind(-1)
    answers = ours(IDS)
    assert_close(answers.start_logits, begins)
    assert_close(answers.end_logits, ends)
    assert not ours.load_report.missing


def test_a_classifier_checkpoint_classifies() -> None:
    values = tensorflow_reads("bert_classifier")
    cls, folder = registry_bert.BertForSequenceClassification, CHECKPOINTS / "bert_classifier"
    ours = cls.from_pretrained(folder, from_tf=True, num_labels=3)
    assert not ours.load_report.missing
    assert torch.equal(ours.classifier.weight, torch.from_numpy(values["output_weights"]))
    # run_classifier.py: the logits are those of the pooled output, times the weights transposed, plus the bias.
    pooled = ours.bert(IDS).pooler_output
    by_hand = pooled @ torch.from_numpy(values["output_weights"]).T + torch.from_numpy(values["output_bias"])
    assert_close(ours(IDS).logits, by_hand)
    with pytest.raises(CheckpointError, match=r"classifier.weight: file \(3, 16\), model \(2, 16\)"):
        cls.from_pretrained(folder, from_tf=True)


@pytest.fixture
def zipped(tmp_path: Path) -> Path:
    """A zip file like Google's, with everything one folder down."""
    path = tmp_path / "uncased_L-2_H-16_A-4.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted((CHECKPOINTS / "bert").iterdir()):
            archive.write(file, f"{path.stem}/{file.name}")
    return path


def test_every_form_of_path_loads(zipped: Path, tmp_path: Path) -> None:
    expected = BertForPreTraining.from_pretrained(CHECKPOINTS / "bert", from_tf=True).state_dict()
    folder = CHECKPOINTS / "bert"
    site = {f"/bert/{file.name}": file.read_bytes() for file in folder.iterdir()}
    with file_server({**site, f"/{zipped.name}": zipped.read_bytes()}) as server:
        for place in (
            str(folder / "bert_model.ckpt"),
            folder / "bert_model.ckpt.index",
            zipped,
            f"{server.url}/{zipped.name}",
            f"{server.url}/bert/bert_model.ckpt",
            f"{server.url}/bert/bert_model.ckpt.index",
        ):
            model = BertForPreTraining.from_pretrained(place, from_tf=True, cache_dir=tmp_path / "cache")
            assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items()), place


def test_load_finds_it_without_being_told(zipped: Path) -> None:
    model = registry.load(CHECKPOINTS / "bert_classifier", head="sequence-classification", num_labels=3)
    assert model.load_report is not None
    assert not model.load_report.missing
    assert len(registry.load_tokenizer(zipped, family="bert")) == 97
    assert len(BertTokenizer.from_pretrained(CHECKPOINTS / "bert" / "bert_model.ckpt.index")) == 97


def test_a_name_of_a_catalog_can_mean_one(tmp_path: Path) -> None:
    folder = CHECKPOINTS / "bert"
    catalog = tmp_path / "models.yaml"
    site = {f"/bert/{file.name}": file.read_bytes() for file in folder.iterdir()}
    with file_server(site) as server:
        catalog.write_text(
            "registry: 1\nmodels:\n  old-bert:\n    family: bert\n    head: pretraining\n"
            f"    source: {server.url}/bert/\n    files: {{bert_model.ckpt.index: {{}}}}\n"
        )
        models = registry.ModelRegistry(catalogs=[catalog], cache_dir=tmp_path / "cache")
        loaded = models.load("old-bert")
        fetched = models.fetch("old-bert")
    assert loaded.load_report is not None
    assert not loaded.load_report.missing
    assert {file.name for file in fetched.iterdir()} == {
        "bert_config.json",
        "bert_model.ckpt.data-00000-of-00001",
        "bert_model.ckpt.index",
        "vocab.txt",
    }
    again = models.load(fetched, head="pretraining")
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in again.state_dict().items())


def test_of_several_checkpoints_the_one_that_the_saver_names_is_meant(tmp_path: Path) -> None:
    folder = shutil.copytree(CHECKPOINTS / "bert_squad", tmp_path / "run")
    (folder / "model.ckpt-7.index").write_bytes(b"older")
    model = registry_bert.BertForQuestionAnswering.from_pretrained(folder, from_tf=True)
    assert model.load_report.source.endswith("(model.ckpt-30.index)")
    (folder / "checkpoint").unlink()
    with pytest.raises(
        CheckpointError, match=r"expected to hold one TensorFlow checkpoint.*model.ckpt-30.index.*name one of them"
    ):
        registry_bert.BertForQuestionAnswering.from_pretrained(folder, from_tf=True)


def test_a_shard_given_for_its_index_says_so() -> None:
    with pytest.raises(CheckpointError, match=r"one of its shards; name bert_model.ckpt.index, or bert_model.ckpt$"):
        BertForPreTraining.from_pretrained(CHECKPOINTS / "bert" / "bert_model.ckpt.data-00000-of-00001", from_tf=True)


def test_a_family_without_a_table_says_so(tmp_path: Path) -> None:
    shutil.copytree(CHECKPOINTS / "gpt2", tmp_path / "gpt")
    (tmp_path / "gpt" / "config.json").write_text('{"model_type": "openai-gpt", "n_embd": 16, "n_head": 4}')
    with pytest.raises(CheckpointError, match="family 'gpt' is expected to have a converter for tensorflow checkpoints"):
        registry.load(tmp_path / "gpt" / "model.ckpt.index")


def test_it_is_float32_whatever_is_asked_for_later() -> None:
    model = BertForPreTraining.from_pretrained(CHECKPOINTS / "bert", from_tf=True, dtype="bfloat16")
    assert model.dtype == torch.bfloat16
    assert BertConfig.from_pretrained(CHECKPOINTS / "bert").hidden_size == 16
