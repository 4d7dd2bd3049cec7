"""The base of configurations, by a family of the test's own."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

import registry
from registry import ConfigError, PretrainedConfig, RegistryError, RegistryWarning, UnknownFamily


@dataclass(kw_only=True)
class AcmeConfig(PretrainedConfig):
    model_type: ClassVar[str] = "acme"
    aliases: ClassVar[dict[str, str]] = {"n_embd": "hidden_size"}
    vocab_size: int = 100
    hidden_size: int = 8


def test_a_file_survives_with_the_keys_that_only_others_know(tmp_path: Path) -> None:
    data = {"hidden_size": 16, "directionality": "bidi", "task_specific_params": {"a": [1]}, "model_type": "acme"}
    (tmp_path / "c.json").write_text(json.dumps(data))
    config = AcmeConfig.from_json_file(tmp_path / "c.json")
    assert config.hidden_size == 16 and config.directionality == "bidi"
    config.directionality = "left"
    config.save_pretrained(tmp_path / "new")
    saved = json.loads((tmp_path / "new" / "config.json").read_text())
    assert saved | data | {"directionality": "left"} == saved
    assert AcmeConfig.from_pretrained(tmp_path / "new") == config == config.replace()


def test_the_first_argument_of_2019(tmp_path: Path) -> None:
    assert AcmeConfig(7).vocab_size == 7 == AcmeConfig(vocab_size_or_config_json_file=7).vocab_size
    AcmeConfig(7, hidden_size=3).to_json_file(tmp_path / "c.json")
    assert AcmeConfig(str(tmp_path / "c.json")) == AcmeConfig(tmp_path / "c.json") == AcmeConfig(vocab_size=7, hidden_size=3)
    with pytest.raises(TypeError, match="one positional argument"):
        AcmeConfig(7, 8)


def test_aliases_read_write_and_override() -> None:
    config = AcmeConfig.from_dict({"n_embd": 5})
    assert config.hidden_size == config.n_embd == 5
    config.n_embd = 6
    assert config.hidden_size == 6 and config.replace(n_embd=7).hidden_size == 7
    assert "n_embd" not in config.to_dict()


@pytest.mark.parametrize(
    ("given", "labels", "names"),
    [
        ({}, 2, {0: "LABEL_0", 1: "LABEL_1"}),
        ({"num_labels": 3}, 3, {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}),
        ({"id2label": {"0": "no", "1": "yes", "2": "both"}}, 3, {0: "no", 1: "yes", 2: "both"}),
    ],
)
def test_labels_and_their_number_agree(given: dict[str, Any], labels: int, names: dict[int, str]) -> None:
    config = AcmeConfig.from_dict(given)
    assert config.num_labels == labels and config.id2label == names
    assert config.label2id == {name: number for number, name in names.items()}
    assert AcmeConfig.from_dict(json.loads(config.to_json_string())) == config


def test_changing_the_number_of_labels_drops_their_names() -> None:
    config = AcmeConfig(id2label={0: "no", 1: "yes"}).replace(num_labels=3)
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    named = AcmeConfig(num_labels=3).replace(id2label={0: "a", 1: "b"})
    assert named.num_labels == 2 and named.label2id == {"a": 0, "b": 1}
    with pytest.raises(ConfigError, match="size of id2label, 2, but is 5"):
        AcmeConfig(num_labels=5, id2label={0: "a", 1: "b"})


def test_unknown_names_are_refused_with_the_nearest() -> None:
    for call in (lambda: AcmeConfig(hidden_sizes=1), lambda: AcmeConfig().replace(hidden_sizes=1)):
        with pytest.raises(ConfigError, match="did you mean 'hidden_size'"):
            call()
    with pytest.raises(AttributeError, match="'AcmeConfig' object has no attribute 'absent'"):
        _ = AcmeConfig().absent


def test_code_in_a_file_is_ignored_with_a_warning_and_not_saved() -> None:
    with pytest.warns(RegistryWarning, match=r"'auto_map' .*never run"):
        config = AcmeConfig.from_dict({"auto_map": {"AutoModel": "x.Y"}})
    assert "auto_map" not in config.to_dict()


def test_unused_arguments_come_back_when_asked_for(tmp_path: Path) -> None:
    AcmeConfig().save_pretrained(tmp_path)
    config, rest = AcmeConfig.from_pretrained(tmp_path, hidden_size=9, foo=1, return_unused_kwargs=True)
    assert config.hidden_size == 9 and rest == {"foo": 1}
    with pytest.raises(ConfigError, match="'foo'"):
        AcmeConfig.from_pretrained(tmp_path, foo=1)


def test_copies_share_nothing() -> None:
    config = AcmeConfig(pruned_heads={"0": [2, 1]})
    assert config.pruned_heads == {0: [1, 2]}
    copied = config.replace()
    copied.pruned_heads[0].append(3)
    assert config.pruned_heads == {0: [1, 2]}


def test_dtype_is_read_by_either_name() -> None:
    assert AcmeConfig.from_dict({"dtype": "bfloat16"}).torch_dtype == "bfloat16"
    assert AcmeConfig.from_dict({"torch_dtype": "float16"}).torch_dtype == "float16"


def test_values_of_impossible_types_are_an_error_of_ours() -> None:
    with pytest.raises(ConfigError, match="valid values"):
        AcmeConfig.from_dict({"pruned_heads": {"x": [1]}})


def test_labels_follow_when_one_is_set_later(tmp_path: Path) -> None:
    config = AcmeConfig()
    config.num_labels = 5
    assert config.id2label is not None and len(config.id2label) == 5 and config.label2id == {f"LABEL_{n}": n for n in range(5)}
    config.id2label = {0: "a", 1: "b", 2: "c"}
    assert config.num_labels == 3 and config.label2id == {"a": 0, "b": 1, "c": 2}
    config.to_json_file(tmp_path / "c.json")
    assert AcmeConfig.from_json_file(tmp_path / "c.json") == config
    with pytest.raises(ConfigError, match="name the labels 0, 1"):
        config.id2label = {3: "x", 7: "y"}


def test_an_attribute_that_a_user_sets_is_saved(tmp_path: Path) -> None:
    config = AcmeConfig()
    config.my_note = [1, 2]
    config.save_pretrained(tmp_path)
    assert AcmeConfig.from_pretrained(tmp_path).my_note == [1, 2]
    assert AcmeConfig() != config


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ({"hidden_size": "8"}, "hidden_size of AcmeConfig is expected to be int, but is '8'"),
        ({"hidden_size": True}, "hidden_size .* int, but is True"),
        ({"num_labels": None}, "num_labels .* int, but is None"),
        ({"architectures": 5}, "architectures .* list or None, but is 5"),
        ({"output_attentions": "no"}, "output_attentions .* bool"),
        ({"id2label": ["a"]}, "id2label .* dict or None"),
    ],
)
def test_values_of_wrong_types_are_named(data: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        AcmeConfig.from_dict(data)
    with pytest.raises(ConfigError, match=what):
        AcmeConfig().replace(**data)


@pytest.mark.parametrize("content", ['{"hidden_size": []}', '{"num_labels": 0}', '{"id2label": {"a": "b"}}', "[]", "{"])
def test_the_error_for_a_file_names_the_file_once(content: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    for read in (AcmeConfig.from_json_file, AcmeConfig, AcmeConfig.from_pretrained):
        with pytest.raises(ConfigError) as caught:
            read(path)
        assert str(caught.value).count(repr(str(path))) == 1
        assert caught.value.message in str(caught.value) and caught.value.args == (caught.value.message,)


@pytest.mark.parametrize(("model_type", "error"), [("nobodys", UnknownFamily), (7, ConfigError), (None, ConfigError)])
def test_a_model_type_that_tells_no_family_names_the_file(
    model_type: object, error: type[RegistryError], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(error, match=r"config\.json of .*" + re.escape(str(tmp_path))):
        registry.load_config(tmp_path)


def test_a_file_of_another_family_is_warned_of() -> None:
    with pytest.warns(RegistryWarning, match="expected to be 'acme', but the file says 'other'"):
        AcmeConfig.from_dict({"model_type": "other"})


def test_a_dotted_architecture_is_warned_of() -> None:
    with pytest.warns(RegistryWarning, match="architectures.*never run"):
        AcmeConfig.from_dict({"architectures": ["evil.module.Model"]})


def test_threads_write_one_file_without_collisions(tmp_path: Path) -> None:
    configs = [AcmeConfig(hidden_size=size) for size in range(1, 9)]
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(config.to_json_file, tmp_path / "c.json") for config in configs * 5]:
            done.result()
    assert AcmeConfig.from_json_file(tmp_path / "c.json") in configs
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["c.json"]
