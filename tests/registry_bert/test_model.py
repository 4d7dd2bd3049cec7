"""What one does to a BERT model besides loading it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import registry
from registry import ConfigError
from registry_bert import (
    BertConfig,
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForPreTraining,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
)
from tests.oracles import assert_close, old
from tests.registry_bert.tiny import CLASSES, SIZES, VOCAB, build, inputs, labels


def test_new_weights_have_the_statistics_of_the_paper() -> None:
    torch.manual_seed(0)
    model = BertForPreTraining(BertConfig(**{**SIZES, "hidden_size": 128, "vocab_size": 2000, "initializer_range": 0.02}))
    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm):
            assert torch.all(module.weight == 1) and torch.all(module.bias == 0), name
        elif isinstance(module, nn.Linear | nn.Embedding):
            assert abs(float(module.weight.detach().std()) - 0.02) < 0.004, name
            assert getattr(module, "bias", None) is None or torch.all(module.bias == 0), name
    assert torch.all(model.cls.predictions.bias == 0)
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    assert model.training and model.load_report is None


def test_one_seed_gives_one_model() -> None:
    models = []
    for _ in range(2):
        torch.manual_seed(5)
        models.append(BertForMaskedLM(BertConfig(**SIZES)))
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_constructing_on_meta_allocates_nothing() -> None:
    with torch.device("meta"):
        model = BertModel(BertConfig())
    assert all(parameter.is_meta for parameter in model.parameters())
    assert model.num_parameters() == 109_482_240


#: Totals of BertModel and BertForPreTraining by vocabulary, unique parameters.
TOTALS = {
    (30522, "base"): (109_482_240, 110_106_428),
    (28996, "base"): (108_310_272, 108_932_934),
    (105879, "base"): (167_356_416, 168_055_961),
    (119547, "base"): (177_853_440, 178_566_653),
    (21128, "base"): (102_267_648, 102_882_442),
    (30522, "large"): (335_141_888, 336_226_108),
    (28996, "large"): (333_579_264, 334_661_958),
}


@pytest.mark.parametrize(("vocabulary", "size"), TOTALS)
def test_parameter_totals_of_the_published_sizes(vocabulary: int, size: str) -> None:
    large = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    config = BertConfig(vocab_size=vocabulary, **(large if size == "large" else {}))
    with torch.device("meta"):
        models = BertModel(config), BertForPreTraining(config)
    models[1].tie_weights()
    assert tuple(model.num_parameters() for model in models) == TOTALS[vocabulary, size]


@pytest.mark.parametrize("size", [VOCAB + 7, VOCAB - 9])
@pytest.mark.parametrize("name", CLASSES)
def test_resizing_keeps_old_rows_and_reaches_every_head(name: str, size: int, tmp_path: Path) -> None:
    model = build(name)
    before = copy.deepcopy(model)
    embedding = model.resize_token_embeddings(size)
    assert embedding is model.get_input_embeddings() and embedding.weight.shape == (size, 32)
    assert embedding.num_embeddings == size and embedding.padding_idx == 0 and model.config.vocab_size == size
    kept = min(size, VOCAB)
    assert torch.equal(embedding.weight[:kept], before.get_input_embeddings().weight[:kept])
    given = inputs(name) | {"input_ids": inputs(name)["input_ids"].clamp(max=kept - 1)}
    got, expected = model(**given), before(**given)
    if hasattr(model, "cls") and hasattr(model.cls, "predictions"):
        first, was = (output.to_tuple()[0] for output in (got, expected))
        assert first.shape[-1] == size == model.cls.predictions.decoder.out_features
        assert_close(first[..., :kept], was[..., :kept])
        assert model.cls.predictions.decoder.weight is embedding.weight
        assert size < VOCAB or torch.all(model.cls.predictions.bias[VOCAB:] == 0)
    else:
        assert_close(got.to_tuple(), expected.to_tuple())
    model.save_pretrained(tmp_path / "m")
    again = registry.load(tmp_path / "m", strict=True)
    assert_close(again(**given).to_tuple(), got.to_tuple())


def test_resizing_to_nothing_changes_nothing() -> None:
    model = build("BertModel")
    weight = model.embeddings.word_embeddings.weight
    assert model.resize_token_embeddings().weight is weight
    assert model.resize_token_embeddings(VOCAB).weight is weight
    with pytest.raises(ValueError, match="at least 1"):
        model.resize_token_embeddings(0)


@pytest.mark.parametrize("name", CLASSES)
def test_pruned_heads_are_those_that_a_mask_takes_out(name: str, tmp_path: Path) -> None:
    model = build(name)
    mask = torch.ones(2, 4)
    mask[0, [0, 2]] = 0
    mask[1, 3] = 0
    expected = model(**inputs(name), head_mask=mask).to_tuple()
    model.prune_heads({0: [0, 2], 1: {3}})
    assert_close(model(**inputs(name)).to_tuple(), expected)
    model.prune_heads({0: [2]})  # gone already
    model.save_pretrained(tmp_path / "m")
    again = registry.load(tmp_path / "m", strict=True)
    assert again.config.pruned_heads == {0: [0, 2], 1: [3]}
    assert_close(again(**inputs(name)).to_tuple(), expected)
    again.prune_heads({1: [0]})  # original numbers still
    mask[1, 0] = 0
    assert_close(again(**inputs(name)).to_tuple(), build(name)(**inputs(name), head_mask=mask).to_tuple())


def test_pruning_agrees_with_2019() -> None:
    model = build("BertModel")
    twin = old.BertModel(
        old.BertConfig(vocab_size_or_config_json_file=VOCAB, **{k: v for k, v in SIZES.items() if k != "vocab_size"})
    ).eval()
    twin.load_state_dict(model.state_dict())
    for either in (model, twin):
        either.prune_heads({0: [1], 1: [0, 3]})
    assert {key: value.shape for key, value in model.state_dict().items()} == {
        key: value.shape for key, value in twin.state_dict().items()
    }
    assert_close(model(**inputs("BertModel")).to_tuple(), twin(**inputs("BertModel")))


@pytest.mark.parametrize(
    ("heads", "what"),
    [
        ({2: [0]}, "name layers from -2 to 1, but names 2"),
        ({-3: [0]}, "name layers from -2 to 1, but names -3"),
        ({0: [4]}, "name heads from 0 to 3 in layer 0, but names 4"),
        ({0: [-1]}, "name heads from 0 to 3 in layer 0, but names -1"),
        ({0: [0, 1, 2, 3]}, "at least one"),
        ({1: [0], 0: [0, 1, 2, 3]}, "at least one"),
        ({0: 1}, "map layers to lists of heads"),
        ([0], "map layers to lists of heads"),
    ],
)
def test_pruning_what_is_not_there(heads: dict[int, list[int]], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        build("BertModel").prune_heads(heads)


@pytest.mark.parametrize("name", CLASSES)
def test_gradient_checkpointing_changes_no_gradient(name: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = build(name, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        calls = 0

        def count(*_: Any) -> None:
            nonlocal calls
            calls += 1

        model.base_model.encoder.layer[0].register_forward_pre_hook(count)
        output = model(**inputs(name), **labels(name))
        (output[0].sum() if name == "BertModel" else output.loss).backward()
        assert calls == (2 if checkpointing else 1), "a checkpointed layer runs again in the backward pass"
        gradients.append({key: p.grad for key, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for key, value in gradients[0].items():
        assert_close(gradients[1][key], value, key)


@pytest.mark.parametrize("options", [{}, {"output_hidden_states": True}])
def test_the_base_model_compiles_without_graph_breaks(options: dict[str, bool]) -> None:
    model = build("BertModel")
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert_close(compiled(**inputs("BertModel"), **options).to_tuple(), model(**inputs("BertModel"), **options).to_tuple())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of torch's own deprecations
def test_the_compiled_base_model_is_exact() -> None:
    model = build("BertModel")
    assert_close(
        torch.compile(model, fullgraph=True)(**inputs("BertModel")).to_tuple(), model(**inputs("BertModel")).to_tuple()
    )


@pytest.mark.parametrize("kind", [torch.bool, torch.int64, torch.float32])
def test_masks_of_any_dtype_mean_the_same(kind: torch.dtype) -> None:
    model, given = build("BertModel"), inputs("BertModel")
    expected = model(**given)[0]
    assert_close(model(**given | {"attention_mask": given["attention_mask"].to(kind)})[0], expected)
    wide = given["attention_mask"][:, None, :].expand(3, 9, 9)
    assert_close(model(**given | {"attention_mask": wide})[0], expected)
    assert_close(model(**given | {"attention_mask": wide[:, None]})[0], expected)
    with pytest.raises(ValueError, match="2, 3 or 4 dimensions"):
        model(**given | {"attention_mask": given["attention_mask"][0]})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("explicit", [False, True])
def test_masked_tokens_change_nothing_and_empty_rows_are_no_nan(dtype: torch.dtype, explicit: bool) -> None:
    model, given = build("BertModel").to(dtype), inputs("BertModel")
    changed = given | {"input_ids": torch.where(given["attention_mask"] == 0, 5, given["input_ids"])}
    first, second = (model(**each, output_attentions=explicit)[0] for each in (given, changed))
    seen = given["attention_mask"] != 0
    assert torch.equal(first[seen], second[seen])
    nothing = given | {"attention_mask": torch.zeros_like(given["attention_mask"])}
    assert not model(**nothing, output_attentions=explicit)[0].isnan().any()


def test_the_fused_and_the_explicit_attention_agree() -> None:
    model, given = build("BertModel"), inputs("BertModel")
    assert_close(model(**given)[0], model(**given, output_attentions=True)[0])
    assert_close(model(**given)[0], model(**given, head_mask=torch.ones(4))[0])


@pytest.mark.parametrize("name", ["BertForMaskedLM", "BertForPreTraining", "BertForQuestionAnswering"])
def test_labels_that_are_all_ignored_give_zero(name: str) -> None:
    given = {key: torch.full_like(value, 99 if "position" in key else -100) for key, value in labels(name).items()}
    loss = build(name)(**inputs(name), **given).loss
    assert loss == 0 and not loss.isnan()


def test_minus_one_and_minus_hundred_are_both_ignored() -> None:
    model, given = build("BertForMaskedLM"), labels("BertForMaskedLM")["labels"]
    assert (
        model(**inputs("BertForMaskedLM"), labels=given).loss
        == model(**inputs("BertForMaskedLM"), labels=given.masked_fill(given == -1, -100)).loss
    )


def test_answer_positions_are_left_alone_and_may_lie_outside() -> None:
    model, name = build("BertForQuestionAnswering"), "BertForQuestionAnswering"
    starts, ends = torch.tensor([[-5], [3], [2]]), torch.tensor([[5], [99], [3]])
    loss = model(**inputs(name), start_positions=starts, end_positions=ends).loss
    inside = model(**inputs(name), start_positions=torch.tensor([0, 3, 2]), end_positions=torch.tensor([5, 50, 3])).loss
    assert loss == inside and starts.tolist() == [[-5], [3], [2]] and ends.tolist() == [[5], [99], [3]]


def test_only_input_ids_is_positional() -> None:
    model, given = build("BertModel"), inputs("BertModel")
    assert_close(model(given["input_ids"])[0], model(input_ids=given["input_ids"])[0])
    with pytest.raises(TypeError, match="positional"):
        model(given["input_ids"], given["attention_mask"])
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        model()


def test_embeddings_in_place_of_ids() -> None:
    model, given = build("BertForMultipleChoice"), inputs("BertForMultipleChoice")
    embedded = model.get_input_embeddings()(given["input_ids"])
    rest = {key: value for key, value in given.items() if key != "input_ids"}
    assert_close(model(inputs_embeds=embedded, **rest).logits, model(**given).logits)
    with pytest.raises(ValueError, match="choices"):
        model(given["input_ids"][:, 0])


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("choices", [1, 2])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_head_mask_is_never_taken_for_choices(batch: int, choices: int, heads: int) -> None:
    """A mask of (layers, heads) has the shape (batch, choices) by chance, above all where there is one of each."""
    layers = 2 if batch == 2 else 1
    model = build("BertForMultipleChoice", num_attention_heads=heads, num_hidden_layers=layers)
    ids = torch.randint(1, 30, (batch, choices, 5), generator=torch.Generator().manual_seed(batch))
    for shape in ((heads,), (layers, heads)):
        mask = torch.full(shape, 0.5)
        alone = [[model(ids[row : row + 1, k : k + 1], head_mask=mask).logits for k in range(choices)] for row in range(batch)]
        together = model(ids, head_mask=mask).logits
        assert_close(together, torch.cat([torch.cat(row, 1) for row in alone]))
        assert not torch.allclose(together, model(ids).logits)


@pytest.mark.parametrize(("batch", "choices", "length"), [(1, 1, 1), (2, 1, 1), (2, 2, 2), (1, 3, 3), (3, 3, 3)])
def test_inputs_of_choices_keep_their_meaning_whatever_the_sizes(batch: int, choices: int, length: int) -> None:
    model = build("BertForMultipleChoice")
    ids = torch.randint(1, 30, (batch, choices, length), generator=torch.Generator().manual_seed(batch))
    types, mask = ids % 2, torch.ones_like(ids)
    mask[..., 1:] = 0
    positions = torch.arange(length)
    given = {"token_type_ids": types, "attention_mask": mask}
    expected = model(ids, **given).logits
    flat = model.bert(ids.flatten(0, 1), token_type_ids=types.flatten(0, 1), attention_mask=mask.flatten(0, 1)).pooler_output
    assert_close(expected, model.classifier(flat).view(batch, choices))
    for same in (positions, positions.expand(batch, choices, length), positions.expand(batch * choices, length)):
        assert_close(model(ids, **given, position_ids=same).logits, expected)
    with pytest.raises(ValueError, match="choices"):
        model(inputs_embeds=model.get_input_embeddings()(ids[:, 0]))


def test_too_long_a_sequence_says_how_long_it_may_be() -> None:
    with pytest.raises(ValueError, match="at most 24 tokens, but has 25"):
        build("BertModel")(torch.ones(1, 25, dtype=torch.int64))


def test_outputs_are_tuples_with_names() -> None:
    output = build("BertModel")(**inputs("BertModel"), output_hidden_states=True)
    hidden, pooled, states = output
    assert output[0] is hidden is output.last_hidden_state is output["last_hidden_state"]
    assert output[1:] == (pooled, states) and len(output) == 3 and len(states) == 3
    leaves = torch.utils._pytree.tree_leaves(output)
    assert sum(leaf is not None for leaf in leaves) == 5


def test_2019_constructors_take_their_counts() -> None:
    config = BertConfig(**SIZES)
    assert BertForSequenceClassification(config, 5).classifier.out_features == 5
    assert BertForTokenClassification(config, num_labels=4).config.num_labels == 4
    assert BertForMultipleChoice(config, 4).classifier.out_features == 1
    assert config.num_labels == 2, "the caller's configuration is left alone"


@pytest.mark.parametrize(
    ("sizes", "what"),
    [
        ({"hidden_size": 30}, "hidden_size .* multiple of num_attention_heads, 4, but is 30"),
        ({"hidden_act": "geloo"}, "hidden_act .* one of gelu"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"is_decoder": True}, "is_decoder"),
        ({"vocab_size": 0}, "vocab_size .* positive"),
        ({"num_labels": 0}, "num_labels .* between 1 and"),
        ({"hiden_size": 4}, "did you mean 'hidden_size'"),
    ],
)
def test_impossible_configurations_are_refused(sizes: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        BertConfig(**{**SIZES, **sizes})


def test_a_question_answering_head_needs_two_labels() -> None:
    with pytest.raises(ConfigError, match="num_labels .* expected to be 2"):
        build("BertForQuestionAnswering", num_labels=3)


def test_a_model_wants_a_configuration_of_its_family() -> None:
    with pytest.raises(TypeError, match="use BertModel.from_pretrained"):
        BertModel("bert-base-uncased")


def resident_anonymous() -> int:
    """Return RssAnon of this process in bytes (Linux)."""
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSES)
def test_a_full_size_checkpoint_loads_into_every_class_from_both_published_layouts(
    name: str, full_size: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import registry_bert

    cls = getattr(registry_bert, name)
    for layout in ("safetensors", "legacy"):
        model = cls.from_pretrained(full_size / layout)
        assert not [key for key in model.load_report.missing if key.startswith("bert.") or name == "BertModel"]
        assert all(key.startswith("cls.") or "pooler" in key for key in model.load_report.unexpected)
    assert (full_size / "safetensors" / "model.safetensors").stat().st_size > 400 << 20


@pytest.mark.slow
def test_loading_full_size_raises_anonymous_memory_by_less_than_a_twentieth_of_the_file(full_size: Path) -> None:
    registry.load(full_size / "safetensors", head="pretraining")  # whatever is imported or cached once
    before = resident_anonymous()
    model = registry.load(full_size / "safetensors", head="pretraining")
    grown = resident_anonymous() - before
    assert model.load_report.clean
    assert grown < 0.05 * (full_size / "safetensors" / "model.safetensors").stat().st_size, grown
