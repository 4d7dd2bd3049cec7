from __future__ import annotations

from typing import Any

import pytest
import torch

from registry.errors import ConfigError
from registry_transfo_xl import TransfoXLConfig, TransfoXLLMHeadModel, TransfoXLModel
from tests.registry_transfo_xl.small import VARIANTS, VOCABULARY, config, ids, ours


def on_meta(cls: Any, settings: TransfoXLConfig) -> Any:
    with torch.device("meta"):
        model = cls(settings)
    model.tie_weights()
    return model


# -- names and sizes -----------------------------------------------------------------------------------------------------


def layer_shapes(layers: int, width: int, heads: int, head: int, inner: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for number in range(layers):
        attention, forward = f"layers.{number}.dec_attn.", f"layers.{number}.pos_ff."
        shapes |= {attention + "r_r_bias": (heads, head), attention + "r_w_bias": (heads, head)}
        shapes |= {attention + "qkv_net.weight": (3 * heads * head, width), attention + "o_net.weight": (width, heads * head)}
        shapes |= {attention + "r_net.weight": (heads * head, width)}
        shapes |= {forward + "CoreNet.0.weight": (inner, width), forward + "CoreNet.0.bias": (inner,)}
        shapes |= {forward + "CoreNet.3.weight": (width, inner), forward + "CoreNet.3.bias": (width,)}
        for norm in (attention, forward):
            shapes |= {norm + "layer_norm.weight": (width,), norm + "layer_norm.bias": (width,)}
    return shapes


def test_names_and_shapes_are_those_of_2019() -> None:
    base = layer_shapes(layers=2, width=8, heads=2, head=4, inner=16)
    for bucket, rows in enumerate((10, 10, 20, 10)):
        base |= {f"word_emb.emb_layers.{bucket}.weight": (rows, 8 // 2**bucket)}
        base |= {f"word_emb.emb_projs.{bucket}": (8, 8 // 2**bucket)}
    model = on_meta(TransfoXLModel, config())
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == base

    head: dict[str, tuple[int, ...]] = {"crit.cluster_weight": (3, 8), "crit.cluster_bias": (3,)}
    for bucket, rows in enumerate((10, 10, 20, 10)):
        head |= {f"crit.out_layers.{bucket}.weight": (rows, 8 // 2**bucket), f"crit.out_layers.{bucket}.bias": (rows,)}
        head |= {f"crit.out_projs.{bucket}": (8, 8 // 2**bucket)}
    model = on_meta(TransfoXLLMHeadModel, config())
    expected = {f"transformer.{name}": shape for name, shape in base.items()} | head
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == expected
    assert len(expected) + len(["transformer.pos_emb.inv_freq"]) == 49


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"div_val": 1}, {"transformer.word_emb.emb_layers.0.weight": (50, 8), "crit.out_layers.0.weight": (50, 8)}),
        ({"div_val": 1, "d_embed": 6}, {f"crit.out_projs.{number}": (8, 6) for number in range(4)}),
        ({"untie_r": False}, {"transformer.r_w_bias": (2, 4), "transformer.r_r_bias": (2, 4)}),
        ({"cutoffs": []}, {"transformer.word_emb.emb_projs.0": (8, 8), "crit.out_projs.0": (8, 8)}),
    ],
)
def test_variants_have_their_own_names(changes: dict[str, Any], expected: dict[str, tuple[int, ...]]) -> None:
    shapes = {name: tuple(value.shape) for name, value in on_meta(TransfoXLLMHeadModel, config(**changes)).state_dict().items()}
    assert expected.items() <= shapes.items()


def test_equal_widths_need_no_projection() -> None:
    names = on_meta(TransfoXLLMHeadModel, config(cutoffs=[], div_val=1)).state_dict()
    assert not [name for name in names if "proj" in name or "cluster" in name]


def test_parameters_of_the_published_model_are_285_million() -> None:
    # arXiv:1901.02860, table 1 says 257M, the authors' count without embeddings of the tail; these are all of them.
    layers = 18 * (2 * 16 * 64 + 3 * 1024**2 + 2 * 1024**2 + 2 * 1024 + 2 * 1024 * 4096 + 4096 + 1024 + 2 * 1024)
    buckets = [(20000, 1024), (20000, 256), (160000, 64), (67735, 16)]
    embedding = sum(rows * width + 1024 * width for rows, width in buckets)
    assert on_meta(TransfoXLModel, TransfoXLConfig()).num_parameters() == layers + embedding == 283_885_936
    head = 3 * 1024 + 3 + 267735 + 1024 * 1024
    assert on_meta(TransfoXLLMHeadModel, TransfoXLConfig()).num_parameters() == layers + embedding + head == 285_205_322


def test_a_new_model_begins_as_the_papers_code_did() -> None:
    torch.manual_seed(0)
    model = TransfoXLLMHeadModel(config(d_model=64, d_embed=64, d_inner=256))
    deviations = {
        "transformer.layers.0.pos_ff.CoreNet.0.weight": 0.02,
        "transformer.word_emb.emb_layers.0.weight": 0.02,
        "transformer.word_emb.emb_projs.0": 0.01,
        "crit.out_projs.0": 0.01,
        "transformer.layers.0.dec_attn.qkv_net.weight": 0.02,
    }
    for name, deviation in deviations.items():
        assert model.get_parameter(name).std().item() == pytest.approx(deviation, rel=0.15), name
    assert model.get_parameter("transformer.layers.0.dec_attn.layer_norm.weight").mean().item() == pytest.approx(1, abs=0.02)
    for name in ("crit.out_layers.0.bias", "crit.cluster_bias", "transformer.layers.0.pos_ff.CoreNet.0.bias"):
        assert not model.get_parameter(name).any()
    uniform = TransfoXLLMHeadModel(config(init="uniform", init_range=0.05))
    weight = uniform.get_parameter("transformer.layers.0.dec_attn.qkv_net.weight")
    assert weight.abs().max() <= 0.05 < 3 * weight.std()


# -- probabilities and losses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_probabilities_sum_to_one_and_losses_are_theirs_at_the_targets(name: str) -> None:
    model = ours(**VARIANTS[name])
    segment, targets = ids(3, 7), ids(3, 7, seed=5)
    logits = model(segment).logits
    assert logits.shape == (3, 7, VOCABULARY)
    torch.testing.assert_close(logits.exp().sum(-1), torch.ones(3, 7), rtol=0, atol=1e-5)
    expected = -logits.gather(-1, targets[..., None])[..., 0]
    torch.testing.assert_close(model(segment, targets=targets).losses, expected, rtol=0, atol=2e-5)


def test_labels_are_shifted_and_targets_are_not() -> None:
    model, segment = ours(), ids(2, 6)
    by_labels = model(segment, labels=segment)
    by_targets = model(segment, targets=torch.cat([segment[:, 1:], torch.full((2, 1), -100)], 1))
    torch.testing.assert_close(by_labels.losses, by_targets.losses[:, :-1])
    torch.testing.assert_close(by_labels.loss, by_targets.loss)
    torch.testing.assert_close(by_labels.loss, by_labels.losses.mean())
    torch.testing.assert_close(model(segment, target=segment).loss, model(segment, targets=segment).loss)


def test_ignored_labels_are_left_out_and_none_left_gives_zero() -> None:
    model, segment, targets = ours(), ids(2, 6), ids(2, 6, seed=5)
    targets[0, 1], targets[1, 4] = -1, -100
    found = model(segment, targets=targets)
    full = model(segment, targets=targets.clamp(min=0)).losses
    assert found.losses[0, 1] == found.losses[1, 4] == 0
    torch.testing.assert_close(found.loss, full[targets >= 0].mean())
    for value in (-1, -100):
        assert model(segment, targets=torch.full_like(targets, value)).loss == 0
    assert model(segment[:, :1], labels=segment[:, :1]).loss == 0


def test_a_target_outside_the_vocabulary_is_an_error() -> None:
    model, segment = ours(), ids(2, 6)
    for wrong in (VOCABULARY, -2):
        with pytest.raises(ValueError, match=r"in 0\.\.49"):
            model(segment, targets=torch.full_like(segment, wrong))
    with pytest.raises(ValueError, match="shape of the targets"):
        model(segment, targets=ids(2, 7))
    with pytest.raises(ValueError, match="both were given"):
        model(segment, targets=segment, labels=segment)


def test_targets_may_be_of_the_last_positions_alone() -> None:
    model, segment, targets = ours(), ids(2, 6), ids(2, 4, seed=5)
    expected = -model(segment).logits[:, 2:].gather(-1, targets[..., None])[..., 0]
    torch.testing.assert_close(model(segment, targets=targets).losses, expected, rtol=0, atol=2e-5)


# -- memory ----------------------------------------------------------------------------------------------------------------


def in_segments(model: TransfoXLLMHeadModel, text: torch.Tensor, length: int, mems: Any = None) -> torch.Tensor:
    parts = []
    for segment in text.split(length, 1):
        read = model(segment, mems=mems)
        parts.append(read.logits)
        mems = read.mems
    return torch.cat(parts, 1)


@pytest.mark.parametrize("length", [1, 3, 4, 7])
def test_segments_with_memory_give_the_perplexity_of_one_pass(length: int) -> None:
    text, targets = ids(2, 21), ids(2, 21, seed=5)
    # Every token sees its last six, however the text is cut.
    model = ours(same_length=True, mem_len=6)
    torch.testing.assert_close(in_segments(model, text, length), model(text).logits, rtol=0, atol=2e-5)
    # The memory reaches back to the first token; it begins empty.
    model = ours(same_length=False, mem_len=32, clamp_len=-1)
    empty = (torch.zeros(0, 2, 8),) * 2
    logits, whole = in_segments(model, text, length, empty), model(text, mems=empty)
    torch.testing.assert_close(logits, whole.logits, rtol=0, atol=2e-5)
    perplexity = (-logits.gather(-1, targets[..., None])).mean().exp()
    torch.testing.assert_close(perplexity, model(text, targets=targets, mems=empty).loss.exp(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("changes", [{"same_length": True}, {"same_length": True, "mem_len": 0}, {"same_length": False}])
def test_no_token_sees_the_future(changes: dict[str, Any]) -> None:
    model, text = ours(**changes), ids(2, 6)
    changed = text.clone()
    changed[:, 3:] = (changed[:, 3:] + 1) % VOCABULARY
    one, other = model(text).logits, model(changed).logits
    torch.testing.assert_close(one[:, :3], other[:, :3])
    assert not torch.allclose(one[:, 3:], other[:, 3:])


def test_same_length_lets_each_token_see_as_many_as_the_memory_holds() -> None:
    model = ours(same_length=True, mem_len=6)
    for count in (None, 6, 2, 9):
        mems = None if count is None else tuple(torch.randn(count, 2, 8) for _ in range(2))
        seen = (model(ids(2, 8), mems=mems, output_attentions=True).attentions[0] > 0).sum(-1)
        remembered = 6 if count is None else count
        assert torch.equal(seen[0, 0], torch.arange(1, 9).add(remembered).clamp(max=6))


def test_the_memory_leaves_out_what_the_next_segment_reads_again() -> None:
    model = ours(mem_len=6, ext_len=3)
    # Nothing of two new tokens is kept when the last three are read again.
    mems = model(ids(2, 2)).mems
    assert [mem.shape for mem in mems] == [(6, 2, 8)] * 2
    assert not mems[0].any()
    read = model(ids(2, 7), output_hidden_states=True)
    torch.testing.assert_close(read.mems[1][-4:], read.hidden_states[1][:, :4].transpose(0, 1))


def test_the_memory_keeps_its_place_and_carries_no_gradient() -> None:
    output = ours(mem_len=0)(ids(1, 4))
    assert len(output) == 2 and output[1] is None and output.mems is None
    read = ours()(ids(1, 4), labels=ids(1, 4))
    loss, logits, mems = read
    assert loss.requires_grad and logits is None and not mems[0].requires_grad
    assert ours(mem_len=0).init_mems(3) is None
    model = ours()
    assert model.init_mems(3)[1].shape == model.init_mems(torch.zeros(9, 3))[1].shape == (6, 3, 8)


def test_the_callers_memory_is_not_changed() -> None:
    mems = tuple(torch.randn(6, 2, 8) for _ in range(2))
    before = [mem.clone() for mem in mems]
    ours()(ids(2, 5), mems=mems)
    assert all(torch.equal(one, other) for one, other in zip(mems, before, strict=True))
    with pytest.raises(ValueError, match="each of 2 layers"):
        ours()(ids(2, 5), mems=mems[:1])


def test_positions_are_exact_in_half_precision() -> None:
    from registry_transfo_xl.attention import sinusoids

    found = sinusoids(torch.tensor([1000, 999]), 8)
    assert found[0, 0].item() == pytest.approx(0.8268795405, abs=1e-4)  # sin 1000
    assert found[1, 4].item() == pytest.approx(0.9996495, abs=1e-4)  # cos 999
    output = ours().bfloat16()(ids(2, 5))
    assert output.logits.dtype == torch.bfloat16 and output.logits.isfinite().all()


# -- generation --------------------------------------------------------------------------------------------------------------


STEPWISE: list[dict[str, Any]] = [
    {},
    {"pre_lnorm": True},
    {"untie_r": False},
    {"ext_len": 2},
    {"mem_len": 1},
    {"mem_len": 30},
    {"mem_len": 0},
]


@pytest.mark.parametrize("changes", STEPWISE)
def test_stepwise_generation_is_the_full_pass(changes: dict[str, Any]) -> None:
    model, text = ours(**changes), ids(2, 25)
    whole = model(text).logits
    state = model.start_generation(2, 25)
    first = model.generation_step(text[:, :9], torch.ones(2, 9), state)
    steps = [model.generation_step(text[:, at : at + 1], None, state) for at in range(9, 25)]
    torch.testing.assert_close(torch.stack([first, *steps], 1), whole[:, 8:], rtol=0, atol=2e-5)


@pytest.mark.parametrize("changes", [{"same_length": False}, {"same_length": True}, {"same_length": False, "clamp_len": -1}])
def test_stepwise_generation_is_a_pass_over_each_word_with_memory(changes: dict[str, Any]) -> None:
    model, text = ours(**changes), ids(2, 25)
    state = model.start_generation(2, 25)
    model.generation_step(text[:, :4], None, state)
    mems = model(text[:, :4]).mems
    for at in range(4, 25):
        read = model(text[:, at : at + 1], mems=mems)
        mems = read.mems
        scores = model.generation_step(text[:, at : at + 1], None, state)
        torch.testing.assert_close(scores, read.logits[:, -1], rtol=0, atol=2e-5)


def test_generation_goes_on_from_a_memory_that_still_grows_and_reads_several_words_at_once() -> None:
    model, text = ours(same_length=False, mem_len=12, clamp_len=-1), ids(2, 12)
    empty = (torch.zeros(0, 2, 8),) * 2
    state = model.start_generation(2, 20)
    state.mems = empty
    for begin, end in ((0, 3), (3, 4), (4, 9), (9, 12)):
        scores = model.generation_step(text[:, begin:end], None, state)
    torch.testing.assert_close(scores, model(text, mems=empty).logits[:, -1], rtol=0, atol=2e-5)
    more = ids(2, 3, seed=9)
    one_by_one = [model.generation_step(more[:, at : at + 1], None, state) for at in range(3)][-1]
    state = model.start_generation(2, 20)
    state.mems = model(text, mems=empty).mems
    model.generation_step(more[:, :1], None, state)
    torch.testing.assert_close(model.generation_step(more[:, 1:], None, state), one_by_one, rtol=0, atol=2e-5)


def test_generation_refuses_padding() -> None:
    model = ours()
    with pytest.raises(ValueError, match="no zeros"):
        model.generation_step(ids(2, 3), torch.tensor([[0, 1, 1], [1, 1, 1]]), model.start_generation(2, 5))


# -- training and sizes --------------------------------------------------------------------------------------------------------


def test_gradient_checkpointing_changes_nothing() -> None:
    model, segment = ours(dropout=0.0).train(), ids(2, 6)
    model(segment, labels=segment).loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    model.gradient_checkpointing_enable()
    model(segment, labels=segment).loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name])


def test_embeddings_can_be_given_instead_of_ids() -> None:
    model, segment = ours(), ids(2, 5)
    torch.testing.assert_close(model(inputs_embeds=model.transformer.word_emb(segment)).logits, model(segment).logits)
    for wrong in ({}, {"input_ids": segment, "inputs_embeds": torch.zeros(2, 5, 8)}):
        with pytest.raises(ValueError, match="input_ids or inputs_embeds"):
            model(**wrong)


@pytest.mark.parametrize("name", ["div_val 2", "div_val 1", "no cutoffs", "untied"])
@pytest.mark.parametrize("size", [45, 61])
def test_the_last_bucket_grows_and_shrinks(name: str, size: int) -> None:
    model, segment = ours(**VARIANTS[name]), ids(2, 5) % 45
    before = model(segment).logits
    embedding = model.resize_token_embeddings(size)
    assert embedding is model.get_input_embeddings() is model.transformer.word_emb
    assert model.config.n_token == model.config.vocab_size == size
    logits = model(segment, output_hidden_states=True).logits
    assert logits.shape == (2, 5, size)
    torch.testing.assert_close(logits.exp().sum(-1), torch.ones(2, 5), rtol=0, atol=1e-5)
    # The words before the last bucket are as likely as they were: its share of the probability is not its size.
    if name == "div_val 2":
        torch.testing.assert_close(logits[..., :40], before[..., :40], rtol=0, atol=2e-5)
    model(torch.full((1, 3), size - 1), targets=torch.full((1, 3), size - 1)).loss.backward()
    with pytest.raises(ValueError, match=r"in 0\.\."):
        model(segment, targets=torch.full_like(segment, size))


def test_a_bucket_cannot_vanish() -> None:
    model = ours()
    with pytest.raises(ValueError, match="at least 41"):
        model.resize_token_embeddings(40)
    assert model.resize_token_embeddings() is model.transformer.word_emb


def test_heads_cannot_be_pruned() -> None:
    with pytest.raises(ConfigError, match="no pruning"):
        ours().prune_heads({0: [1]})


def test_generation_ends_where_scores_are_no_numbers_and_names_wrong_arguments() -> None:
    model = ours()
    wrong: list[tuple[str, Any]] = [("max_new_tokens", True), ("temperature", None), ("top_k", 2.5), ("stop", [[5.5]])]
    wrong += [
        ("pad_token_id", 1.5),
        ("attention_mask", torch.tensor([[0, 1]])),
        ("attention_mask", torch.tensor([[1, torch.nan]])),
    ]
    for name, value in wrong:
        with pytest.raises(ConfigError, match=f"{name} "):
            model.generate(ids(1, 2), **{name: value})
    with pytest.raises(ConfigError, match="input_ids is expected to be a tensor"):
        model.generate([[1, 2]])
    size = model.config.vocab_size
    outside: list[tuple[str, Any]] = [("eos_token_id", [size]), ("pad_token_id", size), ("stop", [[1, size]])]
    for name, value in outside:
        with pytest.raises(ConfigError, match=rf"{name}.* a token of .* from 0 to {size - 1}, but is {size};"):
            model.generate(ids(1, 2), **{name: value})
    for value in (-1, size):
        with pytest.raises(ConfigError, match=rf"input_ids\[0, 1\] .* from 0 to {size - 1}, but is {value};"):
            model.generate(torch.tensor([[1, value]]))
    with torch.no_grad():
        model.transformer.layers[1].pos_ff.CoreNet[3].bias[0] = torch.nan
    for sample in (False, True):
        with pytest.raises(ConfigError, match="scores of row 0 .* one is nan"):
            model.generate(ids(2, 3), do_sample=sample)
