"""Every class that this library and transformers 5.23 both have goes both ways, in each form in which weights are saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import registry
from registry import WEIGHTS_NAME
from registry.families.host import PluginHost
from tests.oracles import assert_close, new

FAMILIES = ("bert", "gpt", "gpt2", "transfo-xl")
CLASSES = [
    name
    for family in FAMILIES
    for path in PluginHost().get(family).heads.values()
    if hasattr(new, name := path.partition(":")[2])
]
BERT: dict[str, Any] = {
    "vocab_size": 41,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 12,
    "initializer_range": 0.3,
}
GPT: dict[str, Any] = {"vocab_size": 41, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 12, "initializer_range": 0.3}
FORMS = ["one file", "shards", "bfloat16", "bfloat16 shards", "bin", "bin shards"]
SHARD = 5_000
#: What a class can give; each library has those of its class.
OUTPUTS = (
    "last_hidden_state",
    "pooler_output",
    "logits",
    "mc_logits",
    "prediction_logits",
    "seq_relationship_logits",
    "start_logits",
    "end_logits",
)
every_class = pytest.mark.parametrize("name", CLASSES)
every_form = pytest.mark.parametrize("form", FORMS)


def test_the_classes_are_those_of_three_families() -> None:
    """transformers 5 dropped Transformer-XL."""
    assert len(CLASSES) == 8 + 3 + 3


def build(library: Any, name: str, form: str = "", **changes: Any) -> Any:
    """Return a small model of either library in which every weight counts."""
    stem = next(stem for stem in ("Bert", "OpenAIGPT", "GPT2") if name.startswith(stem))
    config = getattr(library, f"{stem}Config")(**(BERT if stem == "Bert" else GPT), **changes)
    torch.manual_seed(3)
    model = getattr(library, name)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.to(torch.bfloat16) if "bfloat16" in form else model


def ids(name: str) -> torch.Tensor:
    shape = (2, 3, 9) if name.endswith(("MultipleChoice", "DoubleHeadsModel")) else (2, 9)
    return torch.randint(0, 41, shape, generator=torch.Generator().manual_seed(1))


def assert_equal_outputs(name: str, one: Any, other: Any) -> None:
    """Compare in float32: what is held against each other are weights, not roundings."""
    first, second = one.float()(input_ids=ids(name)), other.float()(input_ids=ids(name))
    both = [output for output in OUTPUTS if getattr(second, output, None) is not None]
    assert both == [output for output in OUTPUTS if getattr(first, output, None) is not None]
    for output in both:
        assert_close(getattr(first, output), getattr(second, output), output)


def opened_there(name: str, folder: Path) -> Any:
    model, info = getattr(new, name).from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
    return model.eval()


def assert_same_weights(ours: Any, theirs: Any) -> None:
    state = theirs.state_dict()
    assert ours.dtype == theirs.dtype
    assert all(torch.equal(value, state[key]) for key, value in ours.state_dict().items())


@every_form
@every_class
def test_a_folder_of_ours_opens_there(name: str, form: str, tmp_path: Path) -> None:
    ours = build(registry, name, form)
    limit = SHARD if "shards" in form else None
    ours.save_pretrained(tmp_path / "m", safe_serialization="bin" not in form, max_shard_size=limit)
    assert ("shards" in form) == (len(list((tmp_path / "m").glob("*-of-*"))) > 1)
    theirs = opened_there(name, tmp_path / "m")
    assert_same_weights(ours, theirs)
    assert_equal_outputs(name, ours, theirs)
    if form == "one file":
        assert type(new.AutoModel.from_pretrained(tmp_path / "m").base_model) is type(theirs.base_model)


@every_form
@every_class
def test_a_folder_from_there_opens_here(name: str, form: str, tmp_path: Path) -> None:
    theirs = build(new, name, form)
    theirs.save_pretrained(tmp_path / "m", max_shard_size=SHARD if "shards" in form else "5GB")
    if "bin" in form:  # which it reads, and no longer writes
        in_the_old_form(tmp_path / "m")
    ours = registry.load(tmp_path / "m", strict=True)
    assert type(ours) is getattr(registry, name) and ours.load_report.clean
    assert_same_weights(ours, theirs)
    assert_equal_outputs(name, ours, theirs)


def in_the_old_form(folder: Path) -> None:
    """Turn a folder's safetensors into what transformers 4 wrote with `safe_serialization=False`."""
    from safetensors.torch import load_file

    renamed = {}
    for file in sorted(folder.glob("*.safetensors")):
        renamed[file.name] = file.name.replace("model", "pytorch_model").replace(".safetensors", ".bin")
        torch.save(load_file(file), folder / renamed[file.name])
        file.unlink()
    if (index := folder / "model.safetensors.index.json").exists():
        data = json.loads(index.read_text())
        data["weight_map"] = {tensor: renamed[file] for tensor, file in data["weight_map"].items()}
        (folder / f"{WEIGHTS_NAME}.index.json").write_text(json.dumps(data))
        index.unlink()


@pytest.mark.parametrize("name", ["BertForMaskedLM", "BertForPreTraining", "OpenAIGPTLMHeadModel", "GPT2LMHeadModel"])
def test_a_head_that_is_not_tied_goes_both_ways(name: str, tmp_path: Path) -> None:
    ours = build(registry, name, tie_word_embeddings=False)
    assert not torch.equal(*(value for value in ours.state_dict().values() if value.shape == (41, 16))), "two of that shape"
    ours.save_pretrained(tmp_path / "ours")
    theirs = opened_there(name, tmp_path / "ours")
    assert_same_weights(ours, theirs)
    assert_equal_outputs(name, ours, theirs)
    with torch.no_grad():
        for bias in (key for key in theirs.state_dict() if key.endswith("decoder.bias")):
            theirs.get_parameter(bias).add_(1)  # BERT there has another one, too, that nothing reads
    theirs.save_pretrained(tmp_path / "theirs")
    again = registry.load(tmp_path / "theirs", strict=True)
    assert again.config.tie_word_embeddings is False
    assert_equal_outputs(name, again, theirs)


@pytest.mark.parametrize("name", ["BertForTokenClassification", "GPT2LMHeadModel"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_the_dtype_of_a_folder_is_read_from_either_key(name: str, dtype: str, tmp_path: Path) -> None:
    ours = build(registry, name).to(getattr(torch, dtype))
    ours.save_pretrained(tmp_path / "ours")
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["torch_dtype"] == dtype
    theirs = opened_there(name, tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    assert json.loads((tmp_path / "theirs" / "config.json").read_text())["dtype"] == dtype
    again = registry.load(tmp_path / "theirs")
    assert again.config.torch_dtype == dtype and again.dtype == getattr(torch, dtype)
    again.save_pretrained(tmp_path / "again")
    assert "dtype" not in json.loads((tmp_path / "again" / "config.json").read_text()), "one key, not two that can differ"


def vocabulary(folder: Path, family: str) -> Any:
    """Return a tokenizer of few words."""
    if family == "bert":
        (folder / "words.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world"]) + "\n")
        return registry.BertTokenizer(str(folder / "words.txt"))
    ends = "</w>" if family == "gpt" else ""
    letters = [*"helo wrd".replace(" ", "" if ends else "Ġ"), *(letter + ends for letter in "od" if ends)]
    tokens = [*letters, "he", "<unk>" if ends else "<|endoftext|>"]
    (folder / "words.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\nh e\n")
    cls = registry.OpenAIGPTTokenizer if ends else registry.GPT2Tokenizer
    return cls(str(folder / "words.json"), str(folder / "merges.txt"))


@pytest.mark.parametrize(
    ("family", "name"),
    [("bert", "BertForSequenceClassification"), ("gpt", "OpenAIGPTLMHeadModel"), ("gpt2", "GPT2LMHeadModel")],
)
def test_model_and_tokenizer_of_one_folder_open_by_the_auto_classes(family: str, name: str, tmp_path: Path) -> None:
    tokenizer = vocabulary(tmp_path, family)
    build(registry, name).save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    theirs = new.AutoTokenizer.from_pretrained(tmp_path / "m")
    assert theirs("hello world")["input_ids"] == tokenizer("hello world")["input_ids"]
    assert new.AutoConfig.from_pretrained(tmp_path / "m").architectures == [name]
    theirs.save_pretrained(tmp_path / "m")
    assert registry.load_tokenizer(tmp_path / "m")("hello world")["input_ids"] == tokenizer("hello world")["input_ids"]


@pytest.mark.parametrize("family", ["bert", "gpt", "gpt2"])
def test_a_tokenizer_saved_over_one_of_theirs_is_the_one_that_is_opened_there(family: str, tmp_path: Path) -> None:
    vocabulary(tmp_path, family).save_pretrained(tmp_path / "m")
    theirs = new.AutoTokenizer.from_pretrained(tmp_path / "m")
    theirs.save_pretrained(tmp_path / "m")
    assert (tmp_path / "m" / "tokenizer.json").exists()
    ours = vocabulary(tmp_path, family)
    ours.add_tokens(["xyz"])
    ours.save_pretrained(tmp_path / "m")
    assert not (tmp_path / "m" / "tokenizer.json").exists()
    again = new.AutoTokenizer.from_pretrained(tmp_path / "m")
    assert again("hello xyz")["input_ids"] == ours("hello xyz")["input_ids"] != theirs("hello xyz")["input_ids"]


@pytest.mark.parametrize("family", ["bert", "gpt", "gpt2"])
def test_a_tokenizer_of_theirs_saved_over_one_of_ours_is_the_one_that_is_opened_here(family: str, tmp_path: Path) -> None:
    ours = vocabulary(tmp_path, family)
    ours.save_pretrained(tmp_path / "m")
    theirs = new.AutoTokenizer.from_pretrained(tmp_path / "m")
    theirs.add_tokens(["xyz"])
    theirs.save_pretrained(tmp_path / "m")
    assert len(list((tmp_path / "m").glob("vocab.*"))) == 1, "it leaves the vocabulary of the earlier save there"
    again = registry.load_tokenizer(tmp_path / "m", family=family)
    assert again("hello xyz")["input_ids"] == theirs("hello xyz")["input_ids"] != ours("hello xyz")["input_ids"]
