"""The eight classes against pytorch-transformers 1.2.0 and transformers 5.23, on the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.oracles import assert_close, new, old, quiet
from tests.registry_bert.tiny import CLASSES, SIZES, WITHOUT_POOLER, build, inputs, labels, labels_of

#: What 1.2.0 called the labels.
OLD_LABELS = {
    "BertForPreTraining": {"labels": "masked_lm_labels"},
    "BertForMaskedLM": {"labels": "masked_lm_labels"},
    "BertForNextSentencePrediction": {"labels": "next_sentence_label"},
}


def old_twin(name: str, model: Any) -> Any:
    """Return 1.2.0's class with our weights. Where it has a pooler that we have not, its result is never used."""
    sizes = {key: value for key, value in SIZES.items() if key != "vocab_size"}
    config = old.BertConfig(vocab_size_or_config_json_file=SIZES["vocab_size"], num_labels=labels_of(name), **sizes)
    config.output_attentions = config.output_hidden_states = True
    twin = quiet(getattr(old, name), config)
    missing, unexpected = twin.load_state_dict(model.state_dict(), strict=False)
    assert all("pooler" in key for key in missing) and bool(missing) == (name in WITHOUT_POOLER)
    assert not unexpected
    return twin.eval()


def new_twin(name: str, model: Any, attention: str = "eager") -> Any:
    """Return transformers' class with our weights; its decoder bias is the same tensor as ours under a second name."""
    config = new.BertConfig(**SIZES, num_labels=labels_of(name), attn_implementation=attention)
    twin = getattr(new, name)(config)
    missing, unexpected = twin.load_state_dict(model.state_dict(), strict=False)
    assert set(missing) <= {"cls.predictions.decoder.bias"} and not unexpected
    twin.tie_weights()
    return twin.eval()


def loss_of(output: Any, given: dict[str, Tensor]) -> Tensor:
    """Return the loss, or for a class without one a sum that depends on every output differently."""
    if given:
        return output[0]
    return (output[0] * torch.linspace(-1, 1, output[0].shape[-1])).mean() + output[1].pow(2).mean()


def gradients(model: Any) -> dict[str, Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("with_labels", [False, True])
@pytest.mark.parametrize("name", CLASSES)
def test_outputs_in_the_order_of_2019(name: str, with_labels: bool) -> None:
    model = build(name)
    given = labels(name) if with_labels else {}
    expected = old_twin(name, model)(
        **inputs(name), **{OLD_LABELS.get(name, {}).get(key, key): value.clone() for key, value in given.items()}
    )
    got = model(**inputs(name), **given, output_attentions=True, output_hidden_states=True)
    assert_close(got.to_tuple(), expected, name)


@pytest.mark.parametrize("name", [name for name in CLASSES if name in OLD_LABELS])
def test_the_label_names_of_2019_still_work(name: str) -> None:
    model, given = build(name), labels(name)
    renamed = {OLD_LABELS[name].get(key, key): value for key, value in given.items()}
    assert model(**inputs(name), **given).loss == model(**inputs(name), **renamed).loss


@pytest.mark.parametrize("name", CLASSES)
def test_gradients_of_2019(name: str) -> None:
    model = build(name)
    given = labels(name)
    twin = old_twin(name, model)
    renamed = {OLD_LABELS.get(name, {}).get(key, key): value.clone() for key, value in given.items()}
    loss_of(model(**inputs(name), **given), given).backward()
    loss_of(twin(**inputs(name), **renamed), given).backward()
    expected = gradients(twin)
    got = gradients(model)
    assert got.keys() == expected.keys()
    for key in got:
        assert_close(got[key], expected[key], key)


#: Where transformers 5.23 defines a loss differently. 1.2.0's definition is the one that is kept.
DIFFERENT_LOSS = {
    "BertForTokenClassification": "1.2.0 leaves masked positions out of the loss, transformers 5 counts them",
}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", CLASSES)
def test_outputs_of_today(name: str, attention: str) -> None:
    model = build(name)
    given = labels(name)
    twin = new_twin(name, model, attention)
    theirs = {key: value.masked_fill(value == -1, -100) for key, value in given.items()}
    need = {"output_hidden_states": True} | ({"output_attentions": True} if attention == "eager" else {})
    expected = twin(**inputs(name), **theirs, **need)
    got = model(**inputs(name), **given, **need)
    for key in expected.keys() - {"cross_attentions"}:  # which an encoder has none of
        if key == "loss" and name in DIFFERENT_LOSS:
            mask = inputs(name)["attention_mask"]
            unmasked = twin(**inputs(name), labels=given["labels"].masked_fill(mask == 0, -100)).loss
            assert_close(got.loss, unmasked, DIFFERENT_LOSS[name])
            assert not torch.isclose(got.loss, expected.loss)
        else:
            assert_close(got[key], expected[key], f"{name}.{key}")


@pytest.mark.parametrize("name", CLASSES)
def test_gradients_of_today(name: str) -> None:
    model, given = build(name), labels(name)
    twin = new_twin(name, model)
    theirs = {key: value.masked_fill(value == -1, -100) for key, value in given.items()}
    if name in DIFFERENT_LOSS:
        theirs["labels"] = theirs["labels"].masked_fill(inputs(name)["attention_mask"] == 0, -100)
    loss_of(model(**inputs(name), **given), given).backward()
    loss_of(twin(**inputs(name), **theirs).to_tuple(), given).backward()
    got, expected = gradients(model), gradients(twin)
    assert got.keys() == expected.keys()
    for key in got:
        assert_close(got[key], expected[key], key)


@pytest.mark.parametrize("shape", ["heads", "layers and heads"])
def test_head_mask_of_2019(shape: str) -> None:
    model = build("BertModel")
    mask = torch.tensor([1.0, 0.0, 0.5, 1.0])
    if shape != "heads":
        mask = torch.stack([mask, 1 - mask])
    expected = old_twin("BertModel", model)(**inputs("BertModel"), head_mask=mask)
    got = model(**inputs("BertModel"), head_mask=mask, output_attentions=True, output_hidden_states=True)
    assert_close(got.to_tuple(), expected)


def test_position_ids_of_2019() -> None:
    model = build("BertModel")
    positions = torch.arange(9).flip(0).expand(3, 9)
    expected = old_twin("BertModel", model)(**inputs("BertModel"), position_ids=positions)
    assert_close(model(**inputs("BertModel"), position_ids=positions)[0], expected[0])


def test_training_mode_drops_the_same_probabilities_as_2019() -> None:
    # Both draw from torch's generator; with only the attention's dropout on, 1.2.0 draws in the order of our explicit path.
    model = build("BertModel", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.4).train()
    twin = old_twin("BertModel", model).train()
    for module in twin.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for layer in twin.encoder.layer:
        layer.attention.self.dropout.p = 0.4
    torch.manual_seed(3)
    expected = twin(**inputs("BertModel"))
    torch.manual_seed(3)
    got = model(**inputs("BertModel"), output_attentions=True, output_hidden_states=True)
    assert_close(got.to_tuple(), expected)


@pytest.mark.parametrize("activation", ["gelu", "relu", "swish"])
def test_activations_of_2019(activation: str) -> None:
    model = build("BertForMaskedLM", hidden_act=activation)
    config = old.BertConfig(
        vocab_size_or_config_json_file=SIZES["vocab_size"],
        hidden_act=activation,
        **{key: value for key, value in SIZES.items() if key != "vocab_size"},
    )
    twin = old.BertForMaskedLM(config)
    twin.load_state_dict(model.state_dict(), strict=False)
    assert_close(model(**inputs("BertForMaskedLM"))[0], twin.eval()(**inputs("BertForMaskedLM"))[0])


def test_regression_with_one_label() -> None:
    model = build("BertForSequenceClassification", num_labels=1)
    targets = torch.tensor([0.5, -1.0, 2.0])  # -1 is a target here, not a label to ignore
    got = model(**inputs("BertForSequenceClassification"), labels=targets)
    assert_close(got.loss, (got.logits.flatten() - targets).pow(2).mean())
