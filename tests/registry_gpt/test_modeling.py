"""OpenAI GPT and GPT-2 side by side: what is true of both is tested once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import registry_gpt
import registry_gpt2
from registry.errors import CheckpointError, ConfigError
from tests.oracles import new, old

SIZES: dict[str, Any] = {"n_positions": 12, "n_embd": 8, "n_layer": 2, "n_head": 2}
TOLERANCE = {"atol": 2e-5, "rtol": 0.0}


@dataclass(frozen=True)
class Family:
    ours: Any
    stem: str
    #: The names of the embeddings, the order of a block's parts, and what follows the blocks.
    embeddings: tuple[str, str]
    parts: tuple[str, ...]
    last: tuple[str, ...]

    def cls(self, library: Any, name: str) -> Any:
        return getattr(library, self.stem + name)

    def config(self, **changes: Any) -> Any:
        return self.cls(self.ours, "Config")(**{"vocab_size": 50, "initializer_range": 0.5, **SIZES, **changes})

    def model(self, name: str = "LMHeadModel", **changes: Any) -> Any:
        torch.manual_seed(0)
        model = self.cls(self.ours, name)(self.config(**changes)).eval()
        for parameter in model.parameters():  # biases and norms too, so that each of them counts
            if parameter.dim() == 1:
                torch.nn.init.normal_(parameter, 0.5, 0.5)
        return model

    def twin(self, library: Any, model: Any, **changes: Any) -> Any:
        """Return the same model in another library."""
        if library is old:
            sizes = {**SIZES, "n_ctx": SIZES["n_positions"], **changes}
            config = self.cls(old, "Config")(50, **sizes)
        else:
            config = self.cls(new, "Config")(vocab_size=50, **{**SIZES, **changes})
            config._attn_implementation = "eager"
        twin = getattr(library, type(model).__name__)(config).eval()
        state = {name: value.clone() for name, value in model.state_dict().items()}
        missing, unexpected = twin.load_state_dict(state, strict=False)
        assert not unexpected and all(name.endswith(".attn.bias") for name in missing)
        return twin


GPT = Family(registry_gpt, "OpenAIGPT", ("tokens_embed", "positions_embed"), ("attn", "ln_1", "mlp", "ln_2"), ())
GPT2 = Family(registry_gpt2, "GPT2", ("wte", "wpe"), ("ln_1", "attn", "ln_2", "mlp"), ("ln_f",))

both = pytest.mark.parametrize("family", [GPT, GPT2], ids=["gpt", "gpt2"])
heads = pytest.mark.parametrize("name", ["Model", "LMHeadModel", "DoubleHeadsModel"])


def ids(*shape: int) -> Tensor:
    return torch.randint(0, 50, shape, generator=torch.Generator().manual_seed(sum(shape)))


def flat(output: Any) -> list[Tensor]:
    """Every tensor of an output in its order."""
    tensors = []
    for item in output:
        tensors += [item] if isinstance(item, Tensor) else flat(item)
    return tensors


def assert_same(actual: list[Tensor], expected: list[Tensor]) -> None:
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, **TOLERANCE)


# -- against release 1.2.0 -----------------------------------------------------------------------------------------------


@both
@heads
def test_outputs_are_those_of_1_2_0_in_its_order(family: Family, name: str) -> None:
    model = family.model(name)
    twin = family.twin(old, model, output_hidden_states=True, output_attentions=True)
    shape = (2, 3, 9) if name == "DoubleHeadsModel" else (2, 9)
    inputs: dict[str, Any] = {
        "token_type_ids": ids(*shape),
        "position_ids": torch.arange(9).flip(0).expand(shape),
        "head_mask": torch.tensor([[1.0, 0.5], [0.0, 1.0]]),
    }
    labels: dict[str, Any] = {}
    if name == "LMHeadModel":
        labels = {"labels": ids(*shape).masked_fill(ids(*shape) < 20, -1)}
    elif name == "DoubleHeadsModel":
        labels = {
            "lm_labels": ids(*shape),
            "mc_labels": torch.tensor([2, 0]),
            "mc_token_ids": torch.tensor([[8, 3, 0], [1, 8, 5]]),
        }
    ours = model(ids(*shape), output_hidden_states=True, output_attentions=True, **inputs, **labels)
    theirs = twin(ids(*shape), **inputs, **labels)
    assert len(ours) == len(theirs)
    assert_same(flat(ours), flat(theirs))


@both
@heads
def test_gradients_are_those_of_1_2_0(family: Family, name: str) -> None:
    model = family.model(name)
    twin = family.twin(old, model)
    shape = (2, 3, 9) if name == "DoubleHeadsModel" else (2, 9)
    labels: dict[str, Any] = {}
    if name == "LMHeadModel":
        labels = {"labels": ids(*shape)}
    elif name == "DoubleHeadsModel":
        labels = {"lm_labels": ids(*shape), "mc_labels": torch.tensor([2, 0])}
    for each in (model, twin):
        output = each(ids(*shape), **labels)
        (output[0] + output[1] if name == "DoubleHeadsModel" else output[0].sum()).backward()
    expected = dict(twin.named_parameters())
    for key, parameter in model.named_parameters():
        gradient = expected[key].grad
        if gradient is None:  # a multiple choice head has none in a language model
            assert parameter.grad is None
        else:
            scale = max(1.0, gradient.abs().max().item())
            torch.testing.assert_close(parameter.grad / scale, gradient / scale, **TOLERANCE)


@both
@pytest.mark.parametrize(
    "changes",
    [
        {"summary_type": "mean"},
        {"summary_type": "cls_index", "num_labels": 3},
        {"summary_activation": "tanh"},
        {"summary_proj_to_labels": False},
        {"summary_use_proj": False},
    ],
    ids=str,
)
def test_choice_head_follows_its_configuration(family: Family, changes: dict[str, Any]) -> None:
    model = family.model("DoubleHeadsModel", **changes)
    if changes.get("summary_type") == "mean":  # 1.2.0 takes the mean over choices of a three-dimensional batch
        hidden = model.transformer(ids(2, 3, 9))[0].mean(-2)
        expected = model.multiple_choice_head.summary(hidden).squeeze(-1)
    else:
        expected = family.twin(old, model, **changes)(ids(2, 3, 9))[1]
    torch.testing.assert_close(model(ids(2, 3, 9)).mc_logits, expected, **TOLERANCE)


@both
def test_pruned_heads_give_what_1_2_0_gives(family: Family) -> None:
    model = family.model(n_head=4, n_embd=16)
    twin = family.twin(old, model, n_head=4, n_embd=16)
    for each in (model, twin):
        each.prune_heads({0: [1, 2], 1: [3]})
        each.prune_heads({0: [0]})
    assert model.config.pruned_heads == {0: [0, 1, 2], 1: [3]}
    assert model.transformer.h[0].attn.c_attn.weight.shape == (16, 3 * 4)
    assert_same(flat(model(ids(2, 9))), flat(twin(ids(2, 9))))


# -- against transformers 5 ----------------------------------------------------------------------------------------------


@both
def test_padded_batches_score_as_in_transformers(family: Family) -> None:
    model = family.model()
    twin = family.twin(new, model)
    keep = torch.ones(3, 9, dtype=torch.int64)
    keep[1, 6:] = 0
    keep[2, :4] = 0
    positions = (keep.cumsum(-1) - 1).clamp(min=0)
    labels = ids(3, 9).masked_fill(keep == 0, -100)
    ours = model(ids(3, 9), attention_mask=keep, position_ids=positions, labels=labels)
    theirs = twin(ids(3, 9), attention_mask=keep, position_ids=positions, labels=labels)
    torch.testing.assert_close(ours.logits[keep == 1], theirs.logits[keep == 1], **TOLERANCE)
    first = slice(0, 2)  # a row padded on the left predicts its first token from padding, of which each library makes its own
    ours = model(ids(3, 9)[first], attention_mask=keep[first], labels=labels[first])
    theirs = twin(ids(3, 9)[first], attention_mask=keep[first], labels=labels[first])
    torch.testing.assert_close(ours.loss, theirs.loss, **TOLERANCE)


# -- files ---------------------------------------------------------------------------------------------------------------


def expected_shapes(family: Family, name: str) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of 1.2.0's state dictionaries, without the causal mask; V 50, E 8, P 12, 2 layers."""
    part: dict[str, dict[str, tuple[int, ...]]] = {
        "ln_1": {"weight": (8,), "bias": (8,)},
        "ln_2": {"weight": (8,), "bias": (8,)},
        "attn": {"c_attn.weight": (8, 24), "c_attn.bias": (24,), "c_proj.weight": (8, 8), "c_proj.bias": (8,)},
        "mlp": {"c_fc.weight": (8, 32), "c_fc.bias": (32,), "c_proj.weight": (32, 8), "c_proj.bias": (8,)},
    }
    shapes: dict[str, tuple[int, ...]] = {f"{family.embeddings[0]}.weight": (50, 8), f"{family.embeddings[1]}.weight": (12, 8)}
    for layer in range(2):
        for each in family.parts:
            shapes |= {f"h.{layer}.{each}.{key}": shape for key, shape in part[each].items()}
    for each in family.last:
        shapes |= {f"{each}.weight": (8,), f"{each}.bias": (8,)}
    if name == "Model":
        return shapes
    shapes = {f"transformer.{key}": shape for key, shape in shapes.items()} | {"lm_head.weight": (50, 8)}
    if name == "DoubleHeadsModel":
        shapes |= {"multiple_choice_head.summary.weight": (1, 8), "multiple_choice_head.summary.bias": (1,)}
    return shapes


@both
@heads
def test_state_dict_has_the_published_names_shapes_and_order(family: Family, name: str) -> None:
    shapes = {key: tuple(value.shape) for key, value in family.model(name).state_dict().items()}
    assert shapes == expected_shapes(family, name)
    assert list(shapes) == list(expected_shapes(family, name))


@pytest.mark.parametrize(
    ("family", "name", "changes", "total"),
    [
        (GPT, "Model", {}, 116_534_784),
        (GPT, "LMHeadModel", {}, 116_534_784),
        (GPT, "DoubleHeadsModel", {}, 116_534_784 + 769),
        (GPT2, "LMHeadModel", {}, 124_439_808),
        (GPT2, "DoubleHeadsModel", {}, 124_439_808 + 769),
        (GPT2, "LMHeadModel", {"n_embd": 1024, "n_layer": 24, "n_head": 16}, 354_823_168),
        (GPT2, "DoubleHeadsModel", {"n_embd": 1024, "n_layer": 24, "n_head": 16}, 354_823_168 + 1025),
    ],
)
def test_default_sizes_have_the_published_number_of_parameters(
    family: Family, name: str, changes: dict[str, Any], total: int
) -> None:
    with torch.device("meta"):
        model = family.cls(family.ours, name)(family.cls(family.ours, "Config")(**changes))
    model.tie_weights()
    assert model.num_parameters() == total


@both
def test_published_layout_loads_without_prefix_and_with_causal_masks(family: Family, tmp_path: Path) -> None:
    model = family.model()
    state = {key.removeprefix("transformer."): value for key, value in model.state_dict().items() if key != "lm_head.weight"}
    for layer in range(2):
        state[f"h.{layer}.attn.bias"] = torch.ones(20, 20).tril()[None, None]  # not even of this size
        state[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    torch.save(state, tmp_path / "pytorch_model.bin")
    model.config.save_pretrained(tmp_path)
    loaded, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert_same(flat(loaded(ids(2, 9))), flat(model(ids(2, 9))))
    assert report.missing == () and report.unexpected == ()
    assert sorted(report.ignored) == sorted(
        key for key in state if key.endswith(("attn.bias", "masked_bias")) and "c_" not in key
    )
    assert "transformer.h.0.attn.c_attn.bias" not in report.ignored


@both
def test_bias_of_the_attention_projection_is_not_taken_for_a_causal_mask(family: Family) -> None:
    model = family.model()
    state = model.state_dict()
    del state["transformer.h.0.attn.c_attn.bias"]
    with pytest.raises(CheckpointError, match=r"c_attn\.bias"):
        type(model).from_pretrained(None, config=model.config, state_dict=state)


@both
def test_head_names_of_release_0_6_are_mapped(family: Family) -> None:
    model = family.model("DoubleHeadsModel")
    renamed = {"lm_head.weight": "lm_head.decoder.weight"}
    renamed |= {f"multiple_choice_head.summary.{kind}": f"multiple_choice_head.linear.{kind}" for kind in ("weight", "bias")}
    state = {renamed.get(key, key): value for key, value in model.state_dict().items()}
    loaded = type(model).from_pretrained(None, config=model.config, state_dict=state, strict=True)
    assert_same(flat(loaded(ids(2, 3, 9))), flat(model(ids(2, 3, 9))))


@both
def test_head_that_a_file_lacks_is_reported_and_initialized(family: Family) -> None:
    language = family.model("LMHeadModel")
    cls = family.cls(family.ours, "DoubleHeadsModel")
    model, report = cls.from_pretrained(
        None, config=language.config, state_dict=language.state_dict(), output_loading_info=True
    )
    assert report.missing == ("multiple_choice_head.summary.weight", "multiple_choice_head.summary.bias")
    torch.testing.assert_close(model(ids(2, 3, 9)).logits, language(ids(2, 3, 9)).logits)
    base, report = family.cls(family.ours, "Model").from_pretrained(
        None, config=language.config, state_dict=language.state_dict(), output_loading_info=True
    )
    torch.testing.assert_close(base(ids(2, 9))[0], language.transformer(ids(2, 9))[0])


@both
@heads
def test_save_and_reload_gives_equal_outputs(family: Family, name: str, tmp_path: Path) -> None:
    model = family.model(name)
    model.prune_heads({1: [0]})
    model.resize_token_embeddings(53)
    shape = (2, 3, 9) if name == "DoubleHeadsModel" else (2, 9)
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["model_type"] == family.config().model_type and saved["architectures"] == [type(model).__name__]
    again = type(model).from_pretrained(tmp_path, strict=True)
    assert again.config.pruned_heads == {1: [0]} and again.config.vocab_size == 53
    for one, other in zip(flat(again(ids(*shape))), flat(model(ids(*shape))), strict=True):
        assert torch.equal(one, other)


# -- behaviour -----------------------------------------------------------------------------------------------------------


@both
def test_minus_1_and_minus_100_are_both_ignored_and_nothing_to_learn_costs_nothing(family: Family) -> None:
    model = family.model()
    labels = ids(2, 9).clone()
    labels[0, 4:] = -1
    other = labels.masked_fill(labels == -1, -100)
    kept = labels.clone()
    assert model(ids(2, 9), labels=labels).loss == model(ids(2, 9), lm_labels=other).loss
    assert torch.equal(labels, kept)
    assert model(ids(2, 9), labels=torch.full((2, 9), -1)).loss == 0
    double = family.model("DoubleHeadsModel")
    assert double(ids(2, 3, 9), mc_labels=torch.tensor([-1, -100])).mc_loss == 0


@both
def test_masked_token_changes_nothing_and_nothing_is_nan(family: Family) -> None:
    model = family.model()
    keep = torch.ones(2, 9, dtype=torch.bool)
    keep[0, 5:] = False
    keep[1] = False
    changed = ids(2, 9).clone()
    changed[0, 5:] = 7
    one, other = (model(batch, attention_mask=keep, labels=batch) for batch in (ids(2, 9), changed))
    assert torch.equal(one.logits[0, :5], other.logits[0, :5])
    assert one.logits.isfinite().all()
    one.loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    alone = model(ids(2, 9)[:1, :5])
    torch.testing.assert_close(one.logits[:1, :5], alone.logits, **TOLERANCE)


@both
def test_mask_may_have_any_type_and_attention_weights_agree_with_the_fused_kernel(family: Family) -> None:
    model = family.model()
    keep = torch.ones(2, 9)
    keep[0, 6:] = 0
    outputs = [model(ids(2, 9), attention_mask=keep.to(kind)).logits for kind in (torch.bool, torch.int64, torch.float16)]
    outputs.append(model(ids(2, 9), attention_mask=keep, output_attentions=True).logits)
    for output in outputs[1:]:
        torch.testing.assert_close(output[keep == 1], outputs[0][keep == 1], **TOLERANCE)
    plain = model(ids(2, 9))
    weighed = model(ids(2, 9), output_attentions=True)
    torch.testing.assert_close(weighed.logits, plain.logits, **TOLERANCE)
    for weights in weighed.attentions:
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 9))
        assert (weights.triu(1) == 0).all()


@both
def test_wrong_inputs_are_named(family: Family) -> None:
    model = family.model()
    with pytest.raises(ValueError, match="at most 12 tokens, but has 13"):
        model(ids(1, 13))
    with pytest.raises(ValueError, match=r"attention_mask is expected to have the shape \(2, 9\)"):
        model(ids(2, 9), attention_mask=torch.ones(2, 8))
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        model()
    with pytest.raises(ValueError, match="mc_token_ids"):
        family.model("DoubleHeadsModel")(ids(2, 3, 9), mc_token_ids=torch.tensor([1, 2]))
    with pytest.raises(TypeError):
        model(ids(1, 9), ids(1, 9))
    with pytest.raises(ConfigError, match="multiple of n_head"):
        family.config(n_head=3)
    with pytest.raises(ConfigError, match="summary_type"):
        family.config(summary_type="attn")
    with pytest.raises(ValueError, match="keep at least one head"):
        model.prune_heads({0: [0, 1]})
    with pytest.raises(ValueError, match="name layers from -2 to 1, but names 2"):
        model.prune_heads({2: [0]})


@both
def test_embeddings_may_be_given_instead_of_ids(family: Family) -> None:
    model = family.model()
    words = model.get_input_embeddings()(ids(2, 9))
    assert torch.equal(model(inputs_embeds=words).logits, model(ids(2, 9)).logits)


@both
def test_resizing_keeps_rows_and_the_tie(family: Family) -> None:
    model = family.model()
    before = model(ids(2, 9)).logits
    model.resize_token_embeddings(60)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert model(ids(2, 9)).logits.shape == (2, 9, 60)
    assert torch.equal(model(ids(2, 9)).logits[..., :50], before)
    untied = family.model(tie_word_embeddings=False)
    untied.resize_token_embeddings(40)
    assert untied.lm_head.weight.shape == (40, 8) and untied.lm_head.weight is not untied.get_input_embeddings().weight


@both
def test_gradient_checkpointing_changes_no_gradient(family: Family) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = family.model(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(ids(2, 9), labels=ids(2, 9)).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert_same(*gradients)


@both
def test_dropout_is_active_in_training_only(family: Family) -> None:
    model = family.model()
    assert torch.equal(model(ids(2, 9)).logits, model(ids(2, 9)).logits)
    model.train()
    assert not torch.equal(model(ids(2, 9)).logits, model(ids(2, 9)).logits)


@pytest.mark.slow
@both
def test_base_model_compiles_to_one_graph(family: Family) -> None:
    model = family.model("Model")
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    keep = torch.ones(2, 9, dtype=torch.int64)
    keep[0, 6:] = 0
    for mask in (None, keep):
        actual, expected = compiled(ids(2, 9), attention_mask=mask)[0], model(ids(2, 9), attention_mask=mask)[0]
        torch.testing.assert_close(actual, expected, **TOLERANCE)


@both
def test_configuration_answers_to_the_names_of_other_libraries(family: Family) -> None:
    config = family.cls(family.ours, "Config")(hidden_size=16, num_attention_heads=4, num_hidden_layers=1, n_positions=7)
    assert (config.n_embd, config.n_head, config.n_layer, config.max_position_embeddings) == (16, 4, 1, 7)
    assert config.n_ctx == 7 and config.num_labels == 1
    assert family.cls(family.ours, "Config")(77).vocab_size == 77
    assert config.to_dict()["n_embd"] == 16 and "hidden_size" not in config.to_dict()


def test_tokens_that_release_0_6_counted_apart_are_part_of_the_vocabulary() -> None:
    config = registry_gpt.OpenAIGPTConfig.from_dict({"vocab_size": 40478, "n_special": 3})
    assert config.vocab_size == 40481
    assert registry_gpt.OpenAIGPTConfig.from_dict(config.to_dict()).vocab_size == 40481


@pytest.mark.parametrize("name", ["gelu", "swish", "silu"])
def test_activations_of_gpt_are_those_of_transformers(name: str) -> None:
    model = GPT.model(afn=name)
    torch.testing.assert_close(model(ids(2, 9)).logits, GPT.twin(new, model, afn=name)(ids(2, 9)).logits, **TOLERANCE)
    with pytest.raises(ConfigError, match="afn"):
        GPT.config(afn="mish")


@pytest.mark.parametrize("count", [-1, 2**40, "3", 1.5, True, [1]])
def test_an_impossible_number_of_added_tokens_is_named(count: Any) -> None:
    with pytest.raises(ConfigError, match="n_special of OpenAIGPTConfig is expected to be from 0 to"):
        registry_gpt.OpenAIGPTConfig.from_dict({"n_special": count})
    assert registry_gpt.OpenAIGPTConfig.from_dict({"vocab_size": 10, "n_special": 3}).vocab_size == 13
