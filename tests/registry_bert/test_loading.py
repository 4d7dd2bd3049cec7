"""How names in files and in models meet, and what the report says of it."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import registry
from registry import CheckpointError, ConfigError, DownloadError, RegistryWarning, UnknownHead, UnknownModel, UnsafeCheckpoint
from registry_bert import BertConfig, BertForMaskedLM, BertForPreTraining, BertForSequenceClassification, BertModel
from tests.oracles import assert_close
from tests.registry_bert.tiny import SIZES, build, inputs


def folder_with(tmp_path: Path, tensors: dict[str, torch.Tensor], **config: Any) -> Path:
    """Write a folder as a publisher would: configuration and `model.safetensors`."""
    folder = tmp_path / "published"
    folder.mkdir(exist_ok=True)
    BertConfig(**{**SIZES, **config}).to_json_file(folder / "config.json")
    save_file({key: value.clone() for key, value in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
    return folder


def published_state() -> dict[str, torch.Tensor]:
    """Return pretraining weights as Google's converted files name them: gamma and beta, a decoder beside the embedding."""
    state = build("BertForPreTraining").state_dict()
    renamed = {}
    for key, value in state.items():
        head, _, last = key.rpartition(".")
        if head.endswith("LayerNorm"):
            key = f"{head}.{'gamma' if last == 'weight' else 'beta'}"
        renamed[key] = value
    return renamed


def test_published_names_load_into_the_pretraining_class_with_nothing_left_over(tmp_path: Path) -> None:
    model = BertForPreTraining.from_pretrained(folder_with(tmp_path, published_state()))
    assert model.load_report.clean
    assert dict(model.load_report.tied) == {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"}
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    expected = build("BertForPreTraining")(**inputs("BertForPreTraining")).to_tuple()
    assert_close(model(**inputs("BertForPreTraining")).to_tuple(), expected)


def test_a_headed_file_in_the_base_class_reports_what_was_dropped(tmp_path: Path) -> None:
    model = BertModel.from_pretrained(folder_with(tmp_path, published_state()))
    assert not model.load_report.missing
    assert sorted(model.load_report.unexpected) == sorted(key for key in published_state() if key.startswith("cls."))
    assert_close(model(**inputs("BertModel"))[0], build("BertForPreTraining").bert(**inputs("BertModel"))[0])


def test_a_base_file_in_a_headed_class_reports_the_new_head(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = folder_with(tmp_path, build("BertModel").state_dict())
    model, info = BertForSequenceClassification.from_pretrained(folder, num_labels=3, output_loading_info=True)
    assert model.load_report.newly_initialized == ("classifier.weight", "classifier.bias")
    assert info["missing_keys"] == ["classifier.weight", "classifier.bias"]
    assert info["unexpected_keys"] == [] and info["error_msgs"] == []
    assert "classifier.weight" in caplog.text and "train them" in caplog.text
    assert model.classifier.weight.std() > 0 and torch.all(model.classifier.bias == 0)


def test_gamma_and_beta_are_renamed_only_as_whole_last_parts(tmp_path: Path) -> None:
    state = build("BertModel").state_dict() | {"encoder.betas": torch.zeros(1), "gammatone.weight": torch.zeros(1)}
    report = BertModel.from_pretrained(folder_with(tmp_path, state)).load_report
    assert sorted(report.unexpected) == ["encoder.betas", "gammatone.weight"]


def test_a_position_buffer_of_a_later_library_is_neither_missed_nor_unexpected(tmp_path: Path) -> None:
    state = build("BertModel").state_dict() | {"embeddings.position_ids": torch.arange(24)[None]}
    report = BertModel.from_pretrained(folder_with(tmp_path, state)).load_report
    assert report.clean and report.ignored == ("embeddings.position_ids",)


def test_an_exact_name_goes_before_a_bridged_one(tmp_path: Path) -> None:
    state = build("BertModel").state_dict()
    state = state | {"bert.pooler.dense.bias": state["pooler.dense.bias"] + 1}
    model = BertModel.from_pretrained(folder_with(tmp_path, state))
    assert torch.equal(model.pooler.dense.bias, state["pooler.dense.bias"])
    assert model.load_report.unexpected == ("bert.pooler.dense.bias",)


def test_missing_backbone_weights_raise_and_name_them(tmp_path: Path) -> None:
    state = build("BertModel").state_dict()
    del state["encoder.layer.1.output.dense.weight"]
    folder = folder_with(tmp_path, state)
    with pytest.raises(CheckpointError, match=r"R501.*encoder\.layer\.1\.output\.dense\.weight"):
        BertModel.from_pretrained(folder)
    report = registry.load(folder, strict=False).load_report
    assert report.missing == report.newly_initialized == ("encoder.layer.1.output.dense.weight",)


def test_strict_true_accepts_nothing_missing_or_unexpected(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, published_state())
    registry.load(folder, head="pretraining", strict=True)
    for head in ("base", "masked-lm", "sequence-classification"):
        with pytest.raises(CheckpointError, match="fit .* exactly"):
            registry.load(folder, head=head, strict=True)


def test_mismatched_shapes_raise_with_both_and_can_be_passed_over(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, build("BertForSequenceClassification", num_labels=3).state_dict())
    with pytest.raises(CheckpointError, match=r"classifier\.weight: file \(3, 32\), model \(5, 32\)"):
        BertForSequenceClassification.from_pretrained(folder, num_labels=5)
    model = BertForSequenceClassification.from_pretrained(folder, num_labels=5, ignore_mismatched_sizes=True)
    assert [item.name for item in model.load_report.mismatched] == ["classifier.weight", "classifier.bias"]
    assert model.classifier.weight.shape == (5, 32) and not model.load_report.missing


def test_only_the_tied_copy_in_the_file_is_enough(tmp_path: Path) -> None:
    state = build("BertForMaskedLM").state_dict()
    main = state.pop("bert.embeddings.word_embeddings.weight")
    model = BertForMaskedLM.from_pretrained(folder_with(tmp_path, state))
    assert torch.equal(model.bert.embeddings.word_embeddings.weight, main)


def test_a_tied_pair_that_differs_is_not_settled_in_silence(tmp_path: Path) -> None:
    state = build("BertForMaskedLM").state_dict()
    state["cls.predictions.decoder.weight"] = state["cls.predictions.decoder.weight"] + 1
    folder = folder_with(tmp_path, state)
    with pytest.raises(CheckpointError, match="expected to equal"):
        BertForMaskedLM.from_pretrained(folder)
    untied = BertForMaskedLM.from_pretrained(folder, tie_word_embeddings=False)
    assert torch.equal(untied.cls.predictions.decoder.weight, state["cls.predictions.decoder.weight"])


def test_a_callers_state_dict_is_used_and_left_alone(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, build("BertModel").state_dict())
    (folder / "model.safetensors").unlink()  # it is not needed
    given = published_state()
    before = {key: value.clone() for key, value in given.items()}
    model = BertModel.from_pretrained(folder, state_dict=given)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert given.keys() == before.keys()
    assert all(torch.equal(given[key], value) for key, value in before.items())
    assert BertModel.from_pretrained(None, config=BertConfig(**SIZES), state_dict=given).load_report.unexpected


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_load_in_both_forms(tmp_path: Path, zipped: bool) -> None:
    model = build("BertForPreTraining")
    model.config.to_json_file(tmp_path / "config.json")
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    again = registry.load(tmp_path, head="pretraining", strict=True)
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module._orig_mod."])
def test_the_checkpoint_of_a_training_run_loads(tmp_path: Path, prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    model = build("BertForMaskedLM")
    state = {prefix + key: value for key, value in model.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 2, "global_step": 100}, tmp_path / "last.ckpt")
    with caplog.at_level("INFO"):
        again = BertForMaskedLM.from_pretrained(tmp_path / "last.ckpt", config=model.config, strict=True)
    assert again.load_report.clean and again.load_report.wrapper == prefix
    assert "only 'state_dict' is read" in caplog.text and f"begins with {prefix!r}" in caplog.text
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)


@pytest.mark.parametrize("prefix", ["module.", "module.bert."])
def test_a_wrapped_file_of_another_head_says_what_is_new_and_left(tmp_path: Path, prefix: str) -> None:
    state = {prefix + key: value for key, value in build("BertModel").state_dict().items()}
    state[f"{prefix}embeddings.word_embeddings.extra"] = torch.zeros(1)
    report = BertForSequenceClassification.from_pretrained(folder_with(tmp_path, state)).load_report
    assert report.newly_initialized == ("classifier.weight", "classifier.bias")
    assert report.unexpected == (f"{prefix}embeddings.word_embeddings.extra",) and report.wrapper == "module."


def test_a_weights_file_by_itself_takes_its_configuration_from_the_argument(tmp_path: Path) -> None:
    model = build("BertModel")
    torch.save(model.state_dict(), tmp_path / "mine.pt")
    again = BertModel.from_pretrained(tmp_path / "mine.pt", config=model.config)
    assert_close(again(**inputs("BertModel"))[0], model(**inputs("BertModel"))[0])
    model.config.to_json_file(tmp_path / "sizes.json")
    again = BertModel.from_pretrained(str(tmp_path / "mine.pt"), config=str(tmp_path / "sizes.json"))
    assert_close(again(**inputs("BertModel"))[0], model(**inputs("BertModel"))[0])


class Evil:
    """Pickles as a call of os.system."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle", "protocol 4"])
def test_a_pickle_that_calls_is_refused_by_name_and_never_runs(tmp_path: Path, form: str) -> None:
    marker = tmp_path / "ran"
    BertConfig(**SIZES).to_json_file(tmp_path / "config.json")
    path = tmp_path / "pytorch_model.bin"
    if form in ("zip", "legacy"):
        torch.save({"weight": Evil(marker)}, path, _use_new_zipfile_serialization=form == "zip")
    else:
        path.write_bytes(pickle.dumps({"weight": Evil(marker)}, protocol=4 if form == "protocol 4" else 2))
    with pytest.raises(UnsafeCheckpoint, match=r"(posix|nt)\.system") as caught:
        registry.load(tmp_path)
    assert caught.value.globals == (f"{os.name}.system",)
    assert not marker.exists()


def test_a_pickled_whole_module_is_refused_with_what_to_do(tmp_path: Path) -> None:
    BertConfig(**SIZES).to_json_file(tmp_path / "config.json")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "pytorch_model.bin")
    with pytest.raises(UnsafeCheckpoint, match=r"torch\.nn\.modules\.linear\.Linear.*state_dict\(\)"):
        registry.load(tmp_path)


def test_a_class_path_in_a_configuration_is_ignored_with_a_warning(tmp_path: Path) -> None:
    build("BertModel").save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace("{", '{"auto_map": {"AutoModel": "evil.module.Model"},', 1))
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.warns(RegistryWarning, match=r"auto_map.*never run"):
        model = registry.load(tmp_path)
    assert type(model) is BertModel
    model.save_pretrained(tmp_path / "again")
    assert "evil" not in (tmp_path / "again" / "config.json").read_text()


def test_two_weights_files_load_the_newer_and_name_both(tmp_path: Path) -> None:
    model = build("BertModel")
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        model.pooler.dense.bias.add_(1)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    os.utime(tmp_path / "model.safetensors", (1, 1))
    with pytest.warns(RegistryWarning, match=r"model\.safetensors and pytorch_model\.bin"):
        again = registry.load(tmp_path)
    assert torch.equal(again.pooler.dense.bias, model.pooler.dense.bias)


def test_the_file_name_of_a_configuration_tells_the_family(tmp_path: Path) -> None:
    build("BertModel").save_pretrained(tmp_path)
    (tmp_path / "config.json").rename(tmp_path / "bert_config.json")
    text = (tmp_path / "bert_config.json").read_text()
    (tmp_path / "bert_config.json").write_text(text.replace('"model_type": "bert"', '"x": 1'))
    assert type(registry.load(tmp_path)) is BertModel


def test_a_configuration_without_model_type_needs_family(tmp_path: Path) -> None:
    build("BertForMaskedLM").save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('"model_type": "bert"', '"x": 1'))
    with pytest.raises(ConfigError, match="model_type.*give family="):
        registry.load(tmp_path)
    assert type(registry.load(tmp_path, family="bert")) is BertForMaskedLM


def test_head_dtype_and_overrides(tmp_path: Path) -> None:
    build("BertModel").save_pretrained(tmp_path)
    model = registry.load(tmp_path, head="token-classification", num_labels=5, dtype="bfloat16", output_attentions=True)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.classifier.weight.shape == (5, 32) and model.config.output_attentions and not model.training
    with pytest.raises(UnknownHead, match="token-classification"):
        registry.load(tmp_path, head="token-classifier", family="bert")
    with pytest.raises(ConfigError, match="'num_labls'.*did you mean 'num_labels'"):
        registry.load(tmp_path, num_labls=5)
    with pytest.raises(ConfigError, match="dtype.*'float61'"):
        registry.load(tmp_path, dtype="float61")
    with pytest.raises(ConfigError, match="mesh is expected to be a torch.distributed DeviceMesh, but is a str"):
        registry.load(tmp_path, mesh="4 ranks")


def test_positional_arguments_reach_the_constructor(tmp_path: Path) -> None:
    build("BertModel").save_pretrained(tmp_path)
    model = BertForSequenceClassification.from_pretrained(tmp_path, 4)
    assert model.classifier.weight.shape == (4, 32) and model.config.num_labels == 4
    with pytest.raises(TypeError, match="nonsense"):
        BertForSequenceClassification.from_pretrained(tmp_path, nonsense=1)


def test_a_name_of_another_family_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    class OtherConfig(registry.PretrainedConfig):
        model_type = "other"

    with pytest.raises(ConfigError, match="'bert-base-uncased'.*OtherConfig.*'bert'"):
        OtherConfig.from_pretrained("bert-base-uncased", offline=True)


def test_an_unknown_name_says_which_is_close() -> None:
    with pytest.raises(UnknownModel, match="did you mean 'bert-base-uncased'") as caught:
        registry.load("bert-base-uncasd")
    assert caught.value.suggestions[0] == "bert-base-uncased"


def test_from_tf_asks_for_such_a_checkpoint_alone(tmp_path: Path) -> None:
    build("BertModel").save_pretrained(tmp_path)
    with pytest.raises(DownloadError, match=r"weights of .* is expected to be model.ckpt.index"):
        BertModel.from_pretrained(tmp_path, from_tf=True)


def test_from_tf_without_a_converter_says_so(tmp_path: Path) -> None:
    class OtherConfig(BertConfig):
        model_type = "nobodys"

    class OtherModel(BertModel):
        config_class = OtherConfig

    build("BertModel").save_pretrained(tmp_path)
    with pytest.warns(registry.RegistryWarning, match="model_type"), pytest.raises(CheckpointError, match="have a converter"):
        OtherModel.from_pretrained(tmp_path, from_tf=True)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>login</html>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a git-lfs pointer"),
        (b"\x1f\x8b\x08\x00rest", "a gzip archive"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    ],
)
def test_what_is_no_checkpoint_is_called_by_its_name(tmp_path: Path, content: bytes, what: str) -> None:
    BertConfig(**SIZES).to_json_file(tmp_path / "config.json")
    (tmp_path / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(CheckpointError, match=what):
        registry.load(tmp_path)


@pytest.mark.parametrize("cut", [4, 100, -1])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_cut_weights_file_is_an_error_of_ours(tmp_path: Path, name: str, cut: int) -> None:
    build("BertModel").save_pretrained(tmp_path, safe_serialization=name.endswith("safetensors"))
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[:cut])
    with pytest.raises(CheckpointError):
        registry.load(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_new_head_has_the_dtype_of_the_weights_beside_it(tmp_path: Path, dtype: torch.dtype) -> None:
    build("BertModel").to(dtype).save_pretrained(tmp_path / "m")
    model = registry.load(tmp_path / "m", head="sequence-classification")
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert model.config.torch_dtype == str(dtype).removeprefix("torch.")


@pytest.mark.parametrize("argument", ["dtype", "torch_dtype"])
@pytest.mark.parametrize("value", [torch.float16, "float16", "torch.float16"])
def test_dtype_by_either_name(tmp_path: Path, argument: str, value: object) -> None:
    build("BertModel").save_pretrained(tmp_path / "m")
    assert BertModel.from_pretrained(tmp_path / "m", **{argument: value}).dtype == torch.float16
    assert registry.load(tmp_path / "m", **{argument: value}).dtype == torch.float16
    for wrong in ("int64", torch.int64, 3):
        with pytest.raises(ConfigError, match="floating point type"):
            registry.load(tmp_path / "m", **{argument: wrong})


def test_a_configuration_that_is_named_is_the_one_that_is_read(tmp_path: Path) -> None:
    build("BertModel").save_pretrained(tmp_path / "m")
    BertConfig(**{**SIZES, "num_labels": 7}).to_json_file(tmp_path / "m" / "other.cfg")
    assert BertConfig.from_pretrained(tmp_path / "m" / "other.cfg").num_labels == 7
    model = BertForSequenceClassification.from_pretrained(tmp_path / "m", config=str(tmp_path / "m" / "other.cfg"))
    assert model.classifier.out_features == 7


def test_shards_are_older_than_the_file_saved_over_them(tmp_path: Path) -> None:
    model = build("BertModel")
    model.save_pretrained(tmp_path / "m", max_shard_size=20_000)
    for file in (tmp_path / "m").iterdir():
        os.utime(file, (1, 1))
    with torch.no_grad():
        model.pooler.dense.bias.add_(1)
    torch.save(model.state_dict(), tmp_path / "m" / "pytorch_model.bin")
    with pytest.warns(RegistryWarning, match=r"model\.safetensors\.index\.json and pytorch_model\.bin"):
        again = registry.load(tmp_path / "m")
    assert torch.equal(again.pooler.dense.bias, model.pooler.dense.bias)


def test_a_folder_with_an_unfinished_save_is_refused_by_every_road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build("BertModel").save_pretrained(tmp_path / "m")
    (tmp_path / "m" / ".registry-save.ready").mkdir()
    (tmp_path / "c.yaml").write_text("registry: 1\nmodels:\n  mine: {family: bert, source: ./m}\n")
    monkeypatch.setenv("REGISTRY_MODELS", str(tmp_path / "c.yaml"))
    for road in (str(tmp_path / "m"), str(tmp_path / "m" / "model.safetensors"), f"file://{tmp_path / 'm'}", "mine"):
        with pytest.raises(CheckpointError, match="interrupted"):
            registry.load(road)


def test_the_argument_names_of_2019(tmp_path: Path) -> None:
    model = build("BertModel")
    model.save_pretrained(save_directory=tmp_path / "m")
    assert BertModel.from_pretrained(pretrained_model_name_or_path=tmp_path / "m", proxies={"https": "http://127.0.0.1:9"})
    config = BertConfig.from_pretrained(pretrained_model_name_or_path=tmp_path / "m")
    config.to_json_file(json_file_path=tmp_path / "c.json")
    assert BertConfig.from_json_file(json_file=tmp_path / "c.json") == config


def test_an_index_by_its_path_is_weights(tmp_path: Path) -> None:
    model = build("BertModel")
    model.save_pretrained(tmp_path / "m", max_shard_size=20_000)
    again = registry.load(tmp_path / "m" / "model.safetensors.index.json")
    assert_close(again(**inputs("BertModel"))[0], model(**inputs("BertModel"))[0])


def test_differing_ties_are_only_reported_when_nothing_is_strict(tmp_path: Path) -> None:
    state = build("BertForMaskedLM").state_dict()
    state["cls.predictions.decoder.weight"] = state["cls.predictions.decoder.weight"] + 1
    report = BertForMaskedLM.from_pretrained(folder_with(tmp_path, state), strict=False).load_report
    assert report.unexpected == ("cls.predictions.decoder.weight",)


def test_the_report_reads_as_the_dictionary_of_2019(tmp_path: Path) -> None:
    build("BertModel").save_pretrained(tmp_path / "m")
    _, info = BertForSequenceClassification.from_pretrained(tmp_path / "m", output_loading_info=True)
    assert "missing_keys" in info and dict(info)["missing_keys"] == ["classifier.weight", "classifier.bias"]
    assert info.get("nothing") is None


@pytest.mark.parametrize("name", ["", "a" * 5000, None, 7])
def test_what_cannot_be_a_name_is_an_error_of_ours(name: object) -> None:
    with pytest.raises((UnknownModel, ConfigError)):
        registry.load(name)


def test_a_user_subclass_with_layers_of_its_own_loads_a_base_model(tmp_path: Path) -> None:
    class Tagger(BertForMaskedLM):
        def __init__(self, config: BertConfig) -> None:
            super().__init__(config)
            self.lstm = torch.nn.LSTM(config.hidden_size, 5)

    build("BertForMaskedLM").save_pretrained(tmp_path / "m")
    model = Tagger.from_pretrained(tmp_path / "m")
    assert all("lstm" in key for key in model.load_report.missing) and not model.lstm.weight_ih_l0.isnan().any()
    assert not Tagger(BertConfig(**SIZES)).lstm.weight_ih_l0.isnan().any()


def test_threads_that_save_into_one_folder_leave_one_whole_set(tmp_path: Path) -> None:
    models = [build("BertModel") for _ in range(2)]
    with torch.no_grad():
        models[1].pooler.dense.bias.add_(1)
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(models[number % 2].save_pretrained, tmp_path / "m") for number in range(12)]:
            done.result()
    again = registry.load(tmp_path / "m", strict=True)
    assert any(torch.equal(again.pooler.dense.bias, model.pooler.dense.bias) for model in models)
    assert sorted(path.name for path in tmp_path.joinpath("m").iterdir()) == ["config.json", "model.safetensors"]
