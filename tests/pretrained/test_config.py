"""The base of configurations, by a family of the test's own."""

from __future__ import annotations

import copy
import json
import math
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

import registry
from registry import ConfigError, PretrainedConfig, RegistryError, RegistryWarning, UnknownFamily
from tests.registry_bert.tiny import SIZES
from tests.servers import file_server


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
    with pytest.raises(ConfigError, match="pruned_heads of AcmeConfig is expected to map layers to lists of heads"):
        AcmeConfig.from_dict({"pruned_heads": {"x": [1]}})


def test_labels_follow_when_one_is_set_later(tmp_path: Path) -> None:
    config = AcmeConfig()
    config.num_labels = 5
    assert config.id2label is not None and len(config.id2label) == 5 and config.label2id == {f"LABEL_{n}": n for n in range(5)}
    config.id2label = {0: "a", 1: "b", 2: "c"}
    assert config.num_labels == 3 and config.label2id == {"a": 0, "b": 1, "c": 2}
    config.to_json_file(tmp_path / "c.json")
    assert AcmeConfig.from_json_file(tmp_path / "c.json") == config
    with pytest.raises(ConfigError, match="names of the labels 0, 1"):
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
        ({"architectures": 5}, "architectures .* list of str or None, but is 5"),
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


@pytest.mark.parametrize("damaged", ["config.json", "vocab.txt", "tokenizer_config.json", "model.safetensors"])
def test_an_error_for_a_file_in_the_cache_says_which_of_the_model_it_is(damaged: str) -> None:
    files = {
        "config.json": json.dumps({"model_type": "bert", **SIZES}).encode(),
        "vocab.txt": b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n",
        "tokenizer_config.json": b"{}",
        "model.safetensors": b"",
    }
    with file_server({f"/m/{name}": b"\xff{" if name == damaged else data for name, data in files.items()}) as server:
        call = registry.load if damaged == "model.safetensors" else registry.load_tokenizer
        with pytest.raises(RegistryError) as caught:
            call(f"{server.url}/m/")
    assert damaged in str(caught.value)


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


@pytest.mark.parametrize("count", [0, -1, 1_000_001, 10**9, 10**18, pytest.param(10**5000, id="long")])
def test_an_impossible_number_of_labels_is_refused_before_names_are_made(count: int) -> None:
    with pytest.raises(ConfigError, match="num_labels of AcmeConfig"):
        AcmeConfig(num_labels=count)
    config = AcmeConfig()
    config.num_labels = count
    with pytest.raises(ConfigError, match="num_labels of AcmeConfig"):
        _ = config.id2label


def test_label_maps_are_made_when_they_are_asked_for() -> None:
    config = AcmeConfig(num_labels=1_000_000)
    for each in (config, config.replace(hidden_size=9), AcmeConfig.from_dict(config.to_dict()), copy.deepcopy(config)):
        assert "id2label" not in vars(each) and "label2id" not in vars(each) and each.num_labels == 1_000_000
    assert "id2label" not in config.to_dict()
    small = AcmeConfig(num_labels=2)
    assert small.id2label is not None and small.label2id == {"LABEL_0": 0, "LABEL_1": 1}
    small.id2label[0] = "no"
    assert small.id2label[0] == "no" and AcmeConfig.from_dict(small.to_dict()).id2label == {0: "no", 1: "LABEL_1"}
    small.id2label = None
    assert small.id2label == {0: "LABEL_0", 1: "LABEL_1"}


def test_numbers_that_were_given_to_labels_are_saved() -> None:
    config = AcmeConfig(label2id={"no": 0, "yes": 1})
    assert AcmeConfig.from_dict(json.loads(config.to_json_string())).label2id == {"no": 0, "yes": 1}


@pytest.mark.parametrize(
    "names",
    [{}, {0: "a", 2: "b"}, {"x": "a"}, {0: ["a"]}, {0: None}, {"0": "a", "00": "b"}, {0.0: "a"}, {-1: "a"}, {True: "a"}, 5],
)
def test_damaged_names_of_labels_are_named(names: Any) -> None:
    with pytest.raises(ConfigError, match="id2label of AcmeConfig"):
        AcmeConfig(id2label=names)
    with pytest.raises(ConfigError, match="id2label of AcmeConfig"):
        AcmeConfig().id2label = names


def test_a_map_of_labels_that_was_changed_in_place_is_checked() -> None:
    config = AcmeConfig(id2label={0: "a", 1: "b"})
    assert config.id2label is not None
    config.id2label[2] = "c"
    with pytest.raises(ConfigError, match="num_labels of AcmeConfig is expected to be the size of id2label, 3, but is 2"):
        config.check()


@dataclass(kw_only=True)
class DeepConfig(PretrainedConfig):
    """A third party's, that checks nothing itself."""

    model_type: ClassVar[str] = "deep"
    num_hidden_layers: int = 2
    num_attention_heads: int = 2
    hidden_size: int = 4
    some_dropout: float = 0.1
    layer_norm_eps: float | None = 1e-5
    initializer_range: float = 0.02
    ends: int | list[int] | None = None
    anything: Any = None


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("num_hidden_layers", 1_001, "between 0 and 1,000"),
        ("num_hidden_layers", -1, "between 0 and 1,000"),
        ("hidden_size", 2**40, "from -2,147,483,647 to 2,147,483,647"),
        pytest.param("hidden_size", 10**5000, "is an integer of 16,610 bits", id="long"),
        ("hidden_size", 1_000_001, "between 0 and 1,000,000"),
        ("num_attention_heads", 10_001, "between 0 and 10,000"),
        ("some_dropout", 2.0, "between 0 and 1, but is 2.0"),
        ("some_dropout", -0.1, "between 0 and 1"),
        ("some_dropout", math.nan, "finite, but is nan"),
        ("some_dropout", 10**400, "from -2,147,483,647"),
        ("some_dropout", True, "float, but is True"),
        ("layer_norm_eps", -1e-5, "0 or more"),
        ("layer_norm_eps", math.inf, "finite"),
        ("initializer_range", -1.0, "between 0 and 1,000,000"),
        ("ends", [1, 2.5], "int or list of int or None"),
        ("ends", [True], "int or list of int or None"),
        ("ends", [2**40], "from -2,147,483,647"),
        ("ends", ["a" * 10_000] * 10_000, "list of int"),
        ("architectures", [None], "list of str"),
        ("torch_dtype", {"a": 1}, "str or None"),
        ("label2id", {"a": [0]}, "numbers of labels"),
        ("pruned_heads", {9: [0]}, "name layers from -2 to 1, but names 9"),
        ("pruned_heads", {"-3": [0]}, "name layers from -2 to 1, but names -3"),
        ("pruned_heads", {0: [2]}, "name heads from 0 to 1 in layer 0, but names 2"),
        ("pruned_heads", {0: [-1]}, "name heads from 0 to 1 in layer 0, but names -1"),
        ("pruned_heads", {0: [True]}, "but names True"),
        ("pruned_heads", {0: 1}, "map layers to lists of heads"),
        ("pruned_heads", {0.5: [1]}, "map layers to lists of heads"),
        ("pruned_heads", [[0]], "dict, but is"),
    ],
)
def test_impossible_values_are_named_whenever_they_come(name: str, value: Any, expected: str) -> None:
    later = DeepConfig()
    setattr(later, name, value)
    for call in (
        lambda: DeepConfig(**{name: value}),
        lambda: DeepConfig.from_dict({name: value}),
        lambda: DeepConfig().replace(**{name: value}),
        later.check,
    ):
        with pytest.raises(ConfigError, match=f"(?s){name} of DeepConfig is expected.*{re.escape(expected)}") as caught:
            call()
        assert len(str(caught.value)) < 1_500


def test_a_field_of_any_type_takes_any_value() -> None:
    assert DeepConfig(anything=True).anything is True and DeepConfig(anything=[1, "a"]).anything == [1, "a"]


def test_negative_layers_count_from_the_end_as_in_1_2_0() -> None:
    config = DeepConfig(pruned_heads={"-1": [1], "1": [1]})
    assert config.pruned_heads == {1: [1]} and DeepConfig.from_dict(config.to_dict()) == config
    config.pruned_heads = {-2: {0}}
    config.check()
    assert config.pruned_heads == {0: [0]}


@pytest.mark.parametrize("depth", [101, 300, 600, 5_000])
def test_a_file_that_nests_deep_is_refused_and_not_half_read(tmp_path: Path, depth: int) -> None:
    (tmp_path / "c.json").write_text('{"note": ' + '{"a": [' * (depth // 2) + "]}" * (depth // 2) + "}")
    with pytest.raises(ConfigError, match="nests too deep"):
        AcmeConfig.from_json_file(tmp_path / "c.json")
    (tmp_path / "c.json").write_text('{"note": ' + '{"a": [' * 45 + "]}" * 45 + "}")
    AcmeConfig.from_json_file(tmp_path / "c.json").replace(hidden_size=3)


@pytest.mark.parametrize("value", [math.nan, {1, 2}])
def test_what_json_cannot_hold_is_not_written(tmp_path: Path, value: Any) -> None:
    config = AcmeConfig()
    config.my_note = value
    with pytest.raises(ConfigError, match="what JSON can hold"):
        config.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()
