"""What every model of a family checks when it is built, resized and pruned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import registry
from registry import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    BertModel,
    ConfigError,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
    OpenAIGPTModel,
    PreTrainedModel,
    TransfoXLConfig,
    TransfoXLLMHeadModel,
    TransfoXLModel,
)
from tests.oracles import old

BERT: dict[str, Any] = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 24,
}
GPT: dict[str, Any] = {"vocab_size": 30, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 24}
XL: dict[str, Any] = {
    "n_token": 30,
    "cutoffs": [10, 20],
    "d_model": 16,
    "d_embed": 16,
    "n_head": 2,
    "d_head": 8,
    "d_inner": 32,
    "n_layer": 2,
    "mem_len": 6,
    "div_val": 1,
    "tgt_len": 4,
}
FAMILIES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "bert": (BertConfig, BertModel, BERT),
    "gpt": (OpenAIGPTConfig, OpenAIGPTModel, GPT),
    "gpt2": (GPT2Config, GPT2Model, GPT),
    "transfo-xl": (TransfoXLConfig, TransfoXLModel, XL),
}
IDS = torch.tensor([[1, 2, 3, 4, 5]])

every_family = pytest.mark.parametrize("family", FAMILIES)


class Bare(PreTrainedModel):
    """A third party's model that has nothing."""


@every_family
@pytest.mark.parametrize(
    ("name", "value"),
    [("num_hidden_layers", 2**40), ("hidden_size", "8"), ("num_labels", 0), ("hidden_size", 15), ("num_attention_heads", 0)],
)
def test_what_was_changed_after_construction_counts(family: str, name: str, value: Any) -> None:
    config_class, model_class, sizes = FAMILIES[family]
    config = config_class(**sizes)
    setattr(config, name, value)
    with pytest.raises(ConfigError, match=f"{config_class.aliases.get(name, name)} of {config_class.__name__}"):
        model_class(config)


@pytest.mark.parametrize(
    ("family", "name", "value"),
    [
        ("bert", "is_decoder", True),
        ("bert", "hidden_act", "bogus"),
        ("bert", "pad_token_id", 30),
        ("bert", "pad_token_id", -(10**30)),
        ("bert", "type_vocab_size", 0),
        ("gpt", "afn", "bogus"),
        ("gpt2", "activation_function", "bogus"),
        ("gpt2", "summary_activation", "bogus"),
        ("gpt2", "add_cross_attention", True),
        ("gpt2", "n_inner", 0),
        ("transfo-xl", "cutoffs", [20, 10]),
        ("transfo-xl", "cutoffs", [-1, 10]),
        ("transfo-xl", "cutoffs", [10, 2.5]),
        ("transfo-xl", "cutoffs", 10),
        ("transfo-xl", "cutoffs", list(range(1, 200_000))),
        ("transfo-xl", "tie_projs", [True]),
        ("transfo-xl", "proj_share_all_but_first", False),
        ("transfo-xl", "mem_len", 2_000_000),
        ("transfo-xl", "d_embed", 2_000_000),
        ("transfo-xl", "pruned_heads", {0: [0]}),
    ],
)
def test_impossible_values_of_a_family_are_named_when_a_model_is_built(family: str, name: str, value: Any) -> None:
    config_class, model_class, sizes = FAMILIES[family]
    config = config_class(**sizes)
    setattr(config, name, value)
    with pytest.raises(ConfigError, match=f"{name} of {config_class.__name__} is expected") as caught:
        model_class(config)
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize("name", ["hidden_act", "activation_function", "afn", "summary_activation"])
def test_an_unknown_activation_is_refused_with_those_that_are_known(name: str) -> None:
    config_class, _, sizes = next(each for each in FAMILIES.values() if hasattr(each[0](), name))
    with pytest.raises(ConfigError, match=f"{name} of .* one of gelu, .*but is 'gelu_fast'"):
        config_class(**sizes, **{name: "gelu_fast"})


def test_an_activation_that_a_family_does_not_check_is_refused_by_name() -> None:
    from registry.pretrained.layers import ACTIVATIONS

    with pytest.raises(ConfigError, match="one of gelu, gelu_new.*but is 'bogus'"):
        ACTIVATIONS["bogus"]


def test_heads_that_a_family_does_not_prune_are_refused() -> None:
    with pytest.raises(ConfigError, match="pruned_heads of PretrainedConfig is expected to be empty"):
        Bare(registry.PretrainedConfig(pruned_heads={0: [1]}))


@pytest.mark.parametrize("family", ["bert", "gpt", "gpt2"])
def test_heads_that_do_not_exist_are_refused_from_a_folder_too(family: str, tmp_path: Path) -> None:
    config_class, model_class, sizes = FAMILIES[family]
    model_class(config_class(**sizes)).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "pruned_heads": {"9": [0]}}))
    for call in (lambda: registry.load(tmp_path), lambda: model_class.from_pretrained(tmp_path)):
        with pytest.raises(ConfigError, match="names 9"):
            call()
    model_class(config_class(**sizes)).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="names 7"):
        model_class.from_pretrained(tmp_path, pruned_heads={0: [7]})


@pytest.mark.parametrize("family", ["bert", "gpt", "gpt2"])
def test_a_negative_layer_is_pruned_from_the_end(family: str, tmp_path: Path) -> None:
    config_class, model_class, sizes = FAMILIES[family]
    model = model_class(config_class(**sizes)).eval()
    twin = model_class(model.config.replace()).eval()
    twin.load_state_dict(model.state_dict())
    model.prune_heads({-1: [1]})
    twin.prune_heads({1: [1]})
    assert model.config.pruned_heads == twin.config.pruned_heads == {1: [1]}
    assert torch.equal(model(IDS)[0], twin(IDS)[0])
    model.save_pretrained(tmp_path)
    assert torch.equal(registry.load(tmp_path, head="base")(IDS)[0], twin(IDS)[0])


def test_negative_layers_are_those_of_1_2_0() -> None:
    model = BertModel(BertConfig(**BERT)).eval()
    theirs = old.BertModel(old.BertConfig(30, **{name: value for name, value in BERT.items() if name != "vocab_size"})).eval()
    theirs.load_state_dict(model.state_dict(), strict=False)
    for each in (model, theirs):
        each.prune_heads({-1: [0]})
    torch.testing.assert_close(model(IDS)[0], theirs(IDS)[0])


def test_nothing_is_pruned_when_something_cannot_be() -> None:
    model = BertModel(BertConfig(**BERT))
    for wrong in ({0: [1], 5: [0]}, {0: [1], 1: [0, 1]}, {0: [1], 1: [7]}):
        with pytest.raises(ConfigError):
            model.prune_heads(wrong)
        assert model.config.pruned_heads == {} and model.encoder.layer[0].attention.heads == [0, 1]


# -- vocabularies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_class", "config"),
    [
        (BertForMaskedLM, BertConfig(**BERT)),
        (BertForPreTraining, BertConfig(**BERT, tie_word_embeddings=False)),
        (GPT2LMHeadModel, GPT2Config(**GPT)),
        (OpenAIGPTLMHeadModel, OpenAIGPTConfig(**GPT)),
        (TransfoXLLMHeadModel, TransfoXLConfig(**XL)),
    ],
)
def test_the_inner_model_of_a_language_model_is_not_resized_alone(model_class: Any, config: Any, tmp_path: Path) -> None:
    model = model_class(config).eval()
    inner = model.base_model
    before = model.state_dict()
    with pytest.raises(ConfigError, match=f"vocabulary of a {model_class.__name__} is expected to be resized as a whole"):
        inner.resize_token_embeddings(33)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.config.vocab_size == 30 and inner.resize_token_embeddings() is inner.resize_token_embeddings(30)
    model.resize_token_embeddings(33)
    expected = model(IDS)[0]
    model.save_pretrained(tmp_path)
    loaded = model_class.from_pretrained(tmp_path)
    assert expected.shape[-1] == 33 and torch.equal(loaded(IDS)[0], expected)
    with pytest.raises(ConfigError, match="as a whole"):
        loaded.base_model.resize_token_embeddings(34)


def test_the_inner_model_of_a_classifier_is_resized_with_it(tmp_path: Path) -> None:
    model = BertForSequenceClassification(BertConfig(**BERT)).eval()
    model.bert.resize_token_embeddings(33)
    model.save_pretrained(tmp_path)
    assert torch.equal(BertForSequenceClassification.from_pretrained(tmp_path)(IDS)[0], model(IDS)[0])


def test_a_vocabulary_keeps_its_padding_token(tmp_path: Path) -> None:
    model = BertForMaskedLM(BertConfig(**BERT, pad_token_id=20)).eval()
    before = model.state_dict()
    with pytest.raises(ConfigError, match="pad_token_id of BertConfig is expected to be None or a token .* vocab_size, 20"):
        model.resize_token_embeddings(20)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.config.pad_token_id = 3
    model.resize_token_embeddings(20)
    model.save_pretrained(tmp_path)
    assert torch.equal(BertForMaskedLM.from_pretrained(tmp_path)(IDS)[0], model(IDS)[0])


@every_family
@pytest.mark.parametrize("size", [0, -1, True, 3.5, "33", [33]])
def test_a_size_that_no_vocabulary_has_is_named(family: str, size: Any) -> None:
    config_class, model_class, sizes = FAMILIES[family]
    with pytest.raises(ConfigError, match="number of tokens is expected to be at least"):
        model_class(config_class(**sizes)).resize_token_embeddings(size)


def test_a_vocabulary_of_buckets_ends_after_the_last_cutoff(tmp_path: Path) -> None:
    model = TransfoXLLMHeadModel(TransfoXLConfig(**{**XL, "div_val": 2})).eval()
    with pytest.raises(ConfigError, match="at least 21"):
        model.resize_token_embeddings(20)
    model.resize_token_embeddings(21)
    model.save_pretrained(tmp_path)
    assert torch.equal(TransfoXLLMHeadModel.from_pretrained(tmp_path)(IDS)[0], model(IDS)[0])


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # of torch's own jvp
@pytest.mark.parametrize(
    "model",
    [
        BertForMaskedLM(BertConfig(**{**BERT, "vocab_size": 1030})),
        GPT2LMHeadModel(GPT2Config(**{**GPT, "vocab_size": 1030})),
        OpenAIGPTLMHeadModel(OpenAIGPTConfig(**{**GPT, "vocab_size": 1030})),
    ],
    ids=["bert", "gpt2", "gpt"],
)
def test_transforms_of_torch_work_without_gradients(model: Any) -> None:
    """With attention weights, because torch's fused kernel has no forward-mode derivative."""
    model.eval()
    words = model.get_input_embeddings()(torch.tensor([[1, 2, 3], [4, 5, 6]])).detach()

    def scores(x: Tensor) -> Tensor:
        result: Tensor = model(inputs_embeds=x, output_attentions=True).logits
        return result

    _, expected = torch.func.jvp(scores, (words,), (torch.ones_like(words),))
    with torch.no_grad():
        _, moved = torch.func.jvp(scores, (words,), (torch.ones_like(words),))
        torch.testing.assert_close(moved, expected)
        torch.testing.assert_close(torch.func.vmap(scores)(words[:, None])[:, 0], scores(words))
