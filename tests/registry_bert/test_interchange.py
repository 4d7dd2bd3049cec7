"""Labels, poolers and saved forms of BERT folders, and the recipes of the 2019 documentation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import registry
from registry_bert import BertConfig, BertForQuestionAnswering, BertModel, BertTokenizer
from tests.oracles import assert_close, new
from tests.registry_bert.test_parity import new_twin
from tests.registry_bert.tiny import CLASSES, build, inputs


def test_a_base_model_of_transformers_without_pooler_gets_a_new_one_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = new.BertModel(new_twin("BertModel", build("BertModel")).config, add_pooling_layer=False)
    theirs.save_pretrained(tmp_path / "m")
    model = BertModel.from_pretrained(tmp_path / "m")
    assert model.load_report.newly_initialized == ("pooler.dense.weight", "pooler.dense.bias")
    assert "pooler.dense.weight" in caplog.text
    assert_close(model(**inputs("BertModel"))[0], theirs.eval()(**inputs("BertModel"))[0])


@pytest.mark.parametrize("labels", [1, 2, 5])
def test_labels_survive_both_ways(labels: int, tmp_path: Path) -> None:
    names = {number: f"class {number}" for number in range(labels)}
    model = build("BertForSequenceClassification", num_labels=labels, id2label=names)
    model.save_pretrained(tmp_path / "a")
    theirs = new.BertForSequenceClassification.from_pretrained(tmp_path / "a")
    assert theirs.config.id2label == names and theirs.config.num_labels == labels
    theirs.save_pretrained(tmp_path / "b")
    again = registry.load(tmp_path / "b")
    assert again.config.id2label == names and again.classifier.out_features == labels


def test_transformers_reads_the_label_count_without_names(tmp_path: Path) -> None:
    build("BertForTokenClassification", num_labels=7).save_pretrained(tmp_path)
    assert new.BertForTokenClassification.from_pretrained(tmp_path).num_labels == 7


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("safe", [True, False])
def test_save_and_reload_give_equal_outputs(name: str, safe: bool, tmp_path: Path) -> None:
    model = build(name)
    model.save_pretrained(tmp_path / "m", safe_serialization=safe)
    again = registry.load(tmp_path / "m", strict=True)
    assert type(again) is type(model) and again.load_report.clean
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    for one, other in zip(again(**inputs(name)), model(**inputs(name)), strict=True):
        assert torch.equal(one, other)


def test_the_first_recipe_of_2019(tmp_path: Path, vocabulary: Path) -> None:
    """Save under the default names, reload from the folder."""
    model = build("BertForQuestionAnswering")
    tokenizer = BertTokenizer(str(vocabulary), do_lower_case=False)
    torch.save(model.state_dict(), tmp_path / registry.WEIGHTS_NAME)
    model.config.to_json_file(tmp_path / registry.CONFIG_NAME)
    tokenizer.save_pretrained(str(tmp_path))

    again = BertForQuestionAnswering.from_pretrained(str(tmp_path))
    assert_close(tuple(again(**inputs("BertForQuestionAnswering"))), tuple(model(**inputs("BertForQuestionAnswering"))))
    reloaded = BertTokenizer.from_pretrained(str(tmp_path), do_lower_case=False)
    assert reloaded.encode("Hello world") == tokenizer.encode("Hello world")


def test_the_second_recipe_of_2019(tmp_path: Path, vocabulary: Path) -> None:
    """Save and reload with paths of one's own."""
    model = build("BertForQuestionAnswering")
    tokenizer = BertTokenizer(str(vocabulary), do_lower_case=True)
    torch.save(model.state_dict(), tmp_path / "my_own_model_file.bin")
    model.config.to_json_file(tmp_path / "my_own_config_file.json")
    tokenizer.save_vocabulary(str(tmp_path / "my_own_vocab_file.txt"))

    config = BertConfig.from_json_file(tmp_path / "my_own_config_file.json")
    again = BertForQuestionAnswering(config)
    again.load_state_dict(torch.load(tmp_path / "my_own_model_file.bin"))
    again.eval()
    reloaded = BertTokenizer(str(tmp_path / "my_own_vocab_file.txt"), do_lower_case=True)
    assert_close(tuple(again(**inputs("BertForQuestionAnswering"))), tuple(model(**inputs("BertForQuestionAnswering"))))
    assert reloaded.encode("Hello world") == tokenizer.encode("Hello world")


def test_saving_over_the_folder_one_was_loaded_from(tmp_path: Path) -> None:
    build("BertModel").save_pretrained(tmp_path / "m")
    model = registry.load(tmp_path / "m")
    expected = {key: value.clone() + 1 for key, value in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    model.save_pretrained(tmp_path / "m")
    again = registry.load(tmp_path / "m")
    for key, value in expected.items():
        assert torch.equal(again.state_dict()[key], value)
        assert torch.equal(model.state_dict()[key], value), "the mapped model is not changed under its feet"


def test_saving_in_another_form_takes_the_place_of_the_first(tmp_path: Path) -> None:
    model = build("BertModel")
    folder = tmp_path / "m"
    model.save_pretrained(folder, max_shard_size=20_000)
    assert (folder / "model.safetensors.index.json").exists()
    model.save_pretrained(folder, safe_serialization=False)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "pytorch_model.bin"]


def test_a_saved_folder_names_no_class_path(tmp_path: Path) -> None:
    build("BertForMaskedLM").save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["model_type"] == "bert" and saved["architectures"] == ["BertForMaskedLM"]
    assert "registry_bert" not in (tmp_path / "config.json").read_text()
