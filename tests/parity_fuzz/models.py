"""Every class of the four families: outputs, losses and gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import registry
from tests.oracles import new, old
from tests.parity_fuzz.decided import decided
from tests.parity_fuzz.trial import Refused, Trial, attempt

__all__ = ["BERT", "GPT", "build", "lively", "run", "sizes_of"]

BERT = (
    "BertModel",
    "BertForPreTraining",
    "BertForMaskedLM",
    "BertForNextSentencePrediction",
    "BertForSequenceClassification",
    "BertForMultipleChoice",
    "BertForTokenClassification",
    "BertForQuestionAnswering",
)
GPT = tuple(f"{stem}{name}" for stem in ("OpenAIGPT", "GPT2") for name in ("Model", "LMHeadModel", "DoubleHeadsModel"))
#: Those with one more dimension, which are drawn more often.
_WITH_CHOICES = ("BertForMultipleChoice", "OpenAIGPTDoubleHeadsModel", "GPT2DoubleHeadsModel", "BertForMultipleChoice")
#: Where 1.2.0 has another name for an input.
_OLD_LABELS = {
    "BertForPreTraining": "masked_lm_labels",
    "BertForMaskedLM": "masked_lm_labels",
    "BertForNextSentencePrediction": "next_sentence_label",
    "OpenAIGPTDoubleHeadsModel": "lm_labels",
    "GPT2DoubleHeadsModel": "lm_labels",
}
#: Wide enough for the kernels that divide a product.
_WIDE = 515


def run(trial: Trial) -> None:
    """Draw a class of any family and compare it."""
    name = trial.pick("class", (*BERT, *GPT, *_WITH_CHOICES, "TransfoXLModel", "TransfoXLLMHeadModel"))
    if name.startswith("Transfo"):
        _run_transfo_xl(trial, name)
    else:
        _run_absolute(trial, name)


# -- building ----------------------------------------------------------------------------------------------------------


def sizes_of(trial: Trial, name: str) -> dict[str, Any]:
    """Draw the configuration of a BERT, GPT or GPT-2."""
    heads = trial.size("heads")
    common = {
        "vocab_size": _WIDE if trial.flag("wide", 6) else trial.size("vocabulary", 7, 11, 41),
        "num_labels": trial.size("labels", 4),
    }
    layers, width, longest = trial.size("layers"), heads * trial.size("head size", 4, 8), trial.size("positions", 5, 9)
    tied = not trial.flag("untied", one_in=4)
    rates = {"initializer_range": 0.3, "tie_word_embeddings": tied}
    if name.startswith("Bert"):
        if name == "BertForQuestionAnswering":
            common["num_labels"] = 2
        return {
            **common,
            **rates,
            "hidden_size": width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": trial.size("intermediate", 8),
            "max_position_embeddings": longest,
            "type_vocab_size": trial.size("types"),
            "hidden_act": trial.pick("activation", ("gelu", "relu", "swish")),
            # With a width of 1 all that is left to normalise is rounding, and a tiny epsilon makes it large.
            "layer_norm_eps": trial.pick("epsilon", (1e-12, 1e-5, 1e-2) if width > 1 else (1e-2, 1e-5)),
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        }
    double = name.endswith("DoubleHeadsModel")
    summary = {
        "summary_type": trial.pick("summary type", ("cls_index", "last", "first", "mean")) if double else "cls_index",
        "summary_use_proj": not (double and trial.flag("no projection", 4)),
        "summary_activation": trial.pick("summary activation", (None, "tanh")) if double else None,
        "summary_proj_to_labels": not (double and trial.flag("no labels projection", 4)),
        "summary_first_dropout": 0.0,
    }
    return {
        **common,
        **rates,
        **summary,
        "n_embd": width,
        "n_layer": layers,
        "n_head": heads,
        "n_positions": longest,
        "layer_norm_epsilon": trial.pick("epsilon", (1e-5, 1e-2)),
        **({"afn": trial.pick("activation", ("gelu", "relu", "swish"))} if name.startswith("Open") else {}),
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    }


def lively(model: Any, seed: int) -> Any:
    """Give every weight a value that counts."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return model.eval()


def build(library: Any, name: str, sizes: dict[str, Any]) -> Any:
    """Return a model of one of the libraries, in evaluation mode."""
    stem = next(stem for stem in ("Bert", "OpenAIGPT", "GPT2") if name.startswith(stem))
    config = getattr(library, f"{stem}Config")
    if library is registry:
        return getattr(library, name)(config(**sizes)).eval()
    if library is new:
        made = config(**sizes)
        made._attn_implementation = "eager"
        return getattr(library, name)(made).eval()
    sizes = {key: value for key, value in sizes.items() if key != "tie_word_embeddings"}
    vocabulary = sizes.pop("vocab_size")
    if stem != "Bert":
        sizes["n_ctx"] = sizes["n_positions"]
    return getattr(library, name)(config(vocabulary, **sizes)).eval()


def twin(library: Any, name: str, sizes: dict[str, Any], model: Any) -> Any:
    """Return the same model in another library."""
    theirs = build(library, name, sizes)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    if not sizes["tie_word_embeddings"] and library is old:  # which ties always
        for module, key in (("lm_head", "lm_head.weight"), ("cls.predictions.decoder", "cls.predictions.decoder.weight")):
            if key in state:
                theirs.get_submodule(module).weight = torch.nn.Parameter(state[key].clone())
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert not unexpected, unexpected
    if "cls.predictions.decoder.bias" in missing:
        with torch.no_grad():
            theirs.cls.predictions.decoder.bias.copy_(state["cls.predictions.bias"])
    return theirs


# -- inputs ------------------------------------------------------------------------------------------------------------


def _draw_mask(trial: Trial, shape: tuple[int, ...], generator: torch.Generator) -> Tensor | None:
    kind = trial.pick("mask", (None, "right", "left", "random"))
    if kind is None:
        return None
    length = shape[-1]
    kept = torch.randint(1, length + 1, shape[:-1], generator=generator)[..., None]
    if kind == "random":
        keep = torch.rand(shape, generator=generator) < 0.6
        keep |= torch.arange(length) == kept - 1  # one at least
    else:
        keep = torch.arange(length) < kept if kind == "right" else torch.arange(length) >= length - kept
    return keep.to(trial.pick("mask dtype", (torch.int64, torch.float32, torch.bool)))


def _ignored(labels: Tensor, generator: torch.Generator, value: int) -> Tensor:
    return labels.masked_fill(torch.rand(labels.shape, generator=generator) < 0.3, value)


def _draw_labels(trial: Trial, name: str, sizes: dict[str, Any], shape: tuple[int, ...], generator: Any) -> dict[str, Tensor]:
    if name.endswith("Model") and not name.endswith(("HeadModel", "HeadsModel")):
        return {}
    if not trial.flag("labels given"):
        return {}

    def below(count: int, *size: int) -> Tensor:
        return torch.randint(0, count, size, generator=generator)

    vocabulary, batch, ignore = sizes["vocab_size"], shape[0], trial.flag("some ignored")
    words = below(vocabulary, *shape)
    words = _ignored(words, generator, -1) if ignore else words
    match name.removeprefix("BertFor"):
        case "PreTraining":
            return {"labels": words, "next_sentence_label": below(2, batch)}
        case "MaskedLM":
            return {"labels": words}
        case "NextSentencePrediction":
            return {"labels": below(2, batch)}
        case "SequenceClassification":
            count = sizes["num_labels"]
            return {"labels": torch.randn(batch, generator=generator) if count == 1 else below(count, batch)}
        case "MultipleChoice":
            return {"labels": below(shape[1], batch)}
        case "TokenClassification":
            labels = below(sizes["num_labels"], *shape)
            return {"labels": _ignored(labels, generator, -1) if ignore else labels}
        case "QuestionAnswering":
            size = (batch, 1) if trial.flag("positions in a column") else (batch,)
            first, last = (-1, shape[-1] + 2) if ignore else (0, shape[-1])
            return {key: torch.randint(first, last, size, generator=generator) for key in ("start_positions", "end_positions")}
    if name.endswith("LMHeadModel"):
        return {"labels": words}
    return {"labels": words, **({"mc_labels": below(shape[1], batch)} if trial.flag("choice labels") else {})}


def _counts(name: str, labels: dict[str, Tensor], length: int) -> bool:
    """Whether every loss has something to count."""
    for key, value in labels.items():
        if key.endswith("positions"):
            if not bool((value < length).any()):
                return False
        elif value.is_floating_point():
            continue
        else:
            counted = value[..., 1:] if key == "labels" and not name.startswith("Bert") else value
            if not bool((counted >= 0).any()):
                return False
    return True


# -- BERT, GPT and GPT-2 -----------------------------------------------------------------------------------------------


def _run_absolute(trial: Trial, name: str) -> None:
    sizes = sizes_of(trial, name)
    causal = not name.startswith("Bert")
    generator = torch.Generator().manual_seed(trial.number("data", 0, 9))
    choices = name.endswith(("MultipleChoice", "DoubleHeadsModel"))
    batch, length = trial.size("batch"), min(trial.size("length", 5, 8), sizes.get("n_positions", 9))
    length = min(length, sizes.get("max_position_embeddings", length))
    shape = (batch, trial.size("choices"), length) if choices else (batch, length)
    layers, heads = sizes.get("n_layer", sizes.get("num_hidden_layers")), sizes.get("n_head", sizes.get("num_attention_heads"))

    inputs: dict[str, Any] = {"input_ids": torch.randint(0, sizes["vocab_size"], shape, generator=generator)}
    if trial.flag("types given"):
        types = sizes["vocab_size"] if causal else sizes["type_vocab_size"]
        inputs["token_type_ids"] = torch.randint(0, types, shape, generator=generator)
    positions = trial.pick("position ids", (None, "row", "all"))
    longest = sizes.get("n_positions", sizes.get("max_position_embeddings"))
    if positions is not None:
        size = shape if positions == "all" else (1, length)
        inputs["position_ids"] = torch.randint(0, longest, size, generator=generator)
    mask = _draw_mask(trial, shape, generator)
    if mask is not None:
        inputs["attention_mask"] = mask
    head_mask = trial.pick("head mask", (None, None, "heads", "layers and heads", "layers and heads"))
    if head_mask is not None:
        size = (heads,) if head_mask == "heads" else (layers, heads)
        inputs["head_mask"] = torch.randint(0, 3, size, generator=generator) / 2
    if name.endswith("DoubleHeadsModel") and trial.flag("mc_token_ids given"):
        inputs["mc_token_ids"] = torch.randint(0, length, shape[:-1], generator=generator)
    labels = _draw_labels(trial, name, sizes, shape, generator)
    if causal and mask is not None and "labels" in labels:
        keep = mask != 0
        keep[..., 1:] &= keep[..., :-1].clone()  # what a masked position predicts is not compared
        labels["labels"] = labels["labels"].masked_fill(~keep, -1)
    counted = dict(labels)
    if name == "BertForTokenClassification" and labels and mask is not None:
        counted["labels"] = labels["labels"].masked_fill(mask == 0, -1)
    if decided("loss of nothing", not _counts(name, counted, length)):
        labels = {}
    flags = {key: trial.flag(key) for key in ("output_attentions", "output_hidden_states")}

    model = lively(build(registry, name, sizes), trial.number("weights", 0, 9))
    gone = {layer: [layer % heads] for layer in range(layers)} if heads > 1 and trial.flag("pruned", 6) else {}
    if gone:
        inputs.pop("head_mask", None)
    else:
        without = {key: value for key, value in inputs.items() if key != "head_mask"}  # transformers has none
        _against_new(trial, name, sizes, model, without, labels, flags)
        _transforms(trial, name, sizes, model, without)
    if causal:
        inputs.pop("attention_mask", None)  # which 1.2.0 does not have
    _against_old(trial, name, sizes, model, inputs, labels, flags, gone)


def _objective(output: tuple[Any, ...], labels: dict[str, Tensor], keep: Tensor | None) -> Tensor:
    """Return a number that depends on every output, or the losses."""
    if labels:
        losses = [each for each in output[:2] if isinstance(each, Tensor) and each.dim() == 0]
        return torch.stack(losses).sum()
    total = torch.zeros(())
    for each in output[:2]:
        if isinstance(each, Tensor) and each.is_floating_point():
            weight = torch.linspace(-1, 1, each.numel()).view(each.shape)
            if keep is not None and keep.shape == each.shape[: keep.dim()]:
                weight = weight * keep[(...,) + (None,) * (each.dim() - keep.dim())]
            total = total + (each * weight).sum()
    return total


def _gradients(model: Any, objective: Any) -> dict[str, Tensor]:
    model.zero_grad()
    objective().backward()
    return {key: each.grad for key, each in model.named_parameters() if each.grad is not None}


def _same_gradients(trial: Trial, what: str, ours: Any, theirs: Any, our_objective: Any, their_objective: Any) -> None:
    expected = attempt(lambda: _gradients(theirs, their_objective))
    if isinstance(expected, Refused):
        return
    known = {key for key, _ in ours.named_parameters()}
    expected = {key: value for key, value in expected.items() if key in known}

    def scaled() -> dict[str, Tensor]:
        found = _gradients(ours, our_objective)
        return {key: found[key] / expected[key].abs().max().clamp(min=1) if key in found else None for key in expected}

    trial.same(what, scaled, lambda: {key: value / value.abs().max().clamp(min=1) for key, value in expected.items()})


def _against_old(
    trial: Trial, name: str, sizes: dict[str, Any], model: Any, inputs: Any, labels: Any, flags: Any, gone: Any
) -> None:
    if name.endswith("DoubleHeadsModel") and _other_summary(sizes):
        return
    theirs = twin(old, name, {**sizes, **flags}, model)
    for each in (model, theirs):
        each.prune_heads({layer: list(heads) for layer, heads in gone.items()})
    renamed = {_OLD_LABELS.get(name, key) if key == "labels" else key: value for key, value in labels.items()}

    def old_call() -> tuple[Any, ...]:
        given = {key: value.clone() for key, value in {**inputs, **renamed}.items()}
        if given.get("attention_mask") is not None:
            given["attention_mask"] = given["attention_mask"].float()
        if name == "BertForTokenClassification" and "labels" in given:
            given["labels"] = given["labels"].masked_fill(given["labels"] == -1, -100)  # this class alone ignored torch's own
        return tuple(theirs(**given))

    def our_call() -> tuple[Any, ...]:
        return tuple(model(**inputs, **labels, **flags).to_tuple())

    # A class that has no pooler here has one there, whose result it does not use.
    trial.same("1.2.0: outputs", our_call, old_call)
    if trial.flag("gradients of 1.2.0"):
        _same_gradients(
            trial,
            "1.2.0: gradients",
            model,
            theirs,
            lambda: _objective(our_call(), labels, None),
            lambda: _objective(old_call(), labels, None),
        )
    if (
        name.startswith("GPT2")
        and not gone
        and not labels
        and "position_ids" not in inputs
        and inputs["input_ids"].shape[-1] > 1
    ):
        cut = trial.number("past", 1, inputs["input_ids"].shape[-1] - 1)

        def pieces(each: Any) -> list[Any]:
            first = {
                key: value[..., :cut] if key in ("input_ids", "token_type_ids") else value for key, value in inputs.items()
            }
            second = {
                key: value[..., cut:] if key in ("input_ids", "token_type_ids") else value for key, value in inputs.items()
            }
            first.pop("mc_token_ids", None), second.pop("mc_token_ids", None)
            place = 2 if name.endswith("DoubleHeadsModel") else 1
            past = tuple(each(**first))[place]
            output = tuple(each(**second, past=past))
            return [output[:place], list(output[place])]

        trial.same("1.2.0: past", lambda: pieces(model), lambda: pieces(theirs))


def _other_summary(sizes: dict[str, Any]) -> bool:
    return decided("summary of choices", sizes["summary_type"] != "cls_index")


def _against_new(trial: Trial, name: str, sizes: dict[str, Any], model: Any, inputs: Any, labels: Any, flags: Any) -> None:
    causal = not name.startswith("Bert")
    double = name.endswith("DoubleHeadsModel")
    if double and (_other_summary(sizes) or decided("labels of choices", sizes["num_labels"] > 1)):
        return
    theirs = twin(new, name, sizes, model)
    given = {
        **inputs,
        **{key: value.masked_fill(value == -1, -100) if value.dtype == torch.int64 else value for key, value in labels.items()},
    }
    if name == "BertForQuestionAnswering":
        given |= {key: value.clamp(min=0) for key, value in labels.items()}
    mask = inputs.get("attention_mask")
    if decided("token classification", name == "BertForTokenClassification" and mask is not None and bool(labels)):
        given["labels"] = given["labels"].masked_fill(mask == 0, -100)
        if not bool((given["labels"] >= 0).any()):
            return
    if double and causal and ("position_ids" in inputs or (mask is not None and inputs["input_ids"].dim() == 3)):
        return  # it broadcasts them against the flattened batch
    if trial.flag("inputs_embeds", 4) and not (causal and inputs["input_ids"].dim() == 3):
        embeds = model.get_input_embeddings()(inputs["input_ids"]).detach()
        inputs = {**inputs, "input_ids": None, "inputs_embeds": embeds}
        given |= {"input_ids": None, "inputs_embeds": embeds}
    keep = mask != 0 if decided("masked queries", causal and mask is not None) else None

    def visible(value: Any) -> Any:
        if isinstance(value, tuple | list):
            return [visible(each) for each in value]
        if keep is not None and isinstance(value, Tensor) and value.dim() > 1:
            if value.shape[: keep.dim()] == keep.shape and value.dim() == keep.dim() + 1:
                return value[keep]
            if value.dim() == 4:  # attentions (B, A, S, S)
                return value.transpose(1, 2)[keep]
        return value

    def named(output: Any) -> dict[str, Any]:
        return {
            key: visible(output[key])
            for key in ("loss", "mc_loss", *_OUTPUTS, "hidden_states", "attentions")
            if getattr(output, key, None) is not None
        }

    trial.same(
        "transformers: outputs",
        lambda: named(model(**inputs, **labels, **flags)),
        lambda: named(theirs(**given, **flags)),
    )
    if trial.flag("gradients of transformers"):

        def objective(output: Any) -> Tensor:
            first = [output[key] for key in ("loss", "mc_loss") if getattr(output, key, None) is not None]
            rest = [output[key] for key in _OUTPUTS if getattr(output, key, None) is not None]
            return _objective((*first, *rest)[:2], labels, keep)

        _same_gradients(
            trial,
            "transformers: gradients",
            model,
            theirs,
            lambda: objective(model(**inputs, **labels)),
            lambda: objective(theirs(**given)),
        )


_OUTPUTS = (
    "last_hidden_state",
    "pooler_output",
    "logits",
    "mc_logits",
    "prediction_logits",
    "seq_relationship_logits",
    "start_logits",
    "end_logits",
)


def _transforms(trial: Trial, name: str, sizes: dict[str, Any], model: Any, inputs: dict[str, Any]) -> None:
    """Compare what torch's transforms make of a model with plain calls, and derivatives with those of the twin."""
    kind = trial.pick("transform", (None, "vmap", "jvp"))
    if kind is None or inputs["input_ids"].dim() != 2 or "head_mask" in inputs:
        return
    ids, flags = inputs["input_ids"], {"output_attentions": True}
    with torch.no_grad():
        if kind == "vmap":

            def alone(row: Tensor) -> Tensor:
                return model(row[None], **flags)[0][0]

            trial.same("vmap", lambda: torch.func.vmap(alone)(ids), lambda: torch.stack([alone(row) for row in ids]))
        else:
            theirs = twin(new, name, sizes, model)
            embeds = model.get_input_embeddings()(ids)
            direction = torch.linspace(-1, 1, embeds.numel()).view(embeds.shape)

            def along(each: Any) -> Tensor:
                return torch.func.jvp(lambda given: each(inputs_embeds=given, **flags)[0], (embeds,), (direction,))[1]

            trial.same("transformers: forward-mode derivative", lambda: along(model), lambda: along(theirs))


# -- Transformer-XL ----------------------------------------------------------------------------------------------------


def _run_transfo_xl(trial: Trial, name: str) -> None:
    vocabulary = trial.size("vocabulary", 7, 12, 20)
    cutoffs = sorted({each for each in (trial.number(f"cutoff {n}", 0, 12) for n in range(2)) if 0 < each < vocabulary})
    div = trial.size("div_val", 4)
    heads, layers = trial.size("heads"), trial.size("layers")
    config: dict[str, Any] = {
        "cutoffs": cutoffs,
        "d_model": 2 * trial.size("half of d_model", 4),
        "d_embed": trial.size("embedding", 4) * div ** len(cutoffs),
        "n_head": heads,
        "d_head": trial.size("head size", 4),
        "d_inner": trial.size("inner", 8),
        "div_val": div,
        "n_layer": layers,
        "tgt_len": trial.size("target length", 5),
        "ext_len": trial.pick("ext_len", (0, 0, 1, 2)),
        "mem_len": trial.pick("mem_len", (1, 2, 3, 6, 0)),
        "clamp_len": trial.pick("clamp_len", (-1, 1, 2, 5)),
        "same_length": trial.flag("same_length"),
        "pre_lnorm": trial.flag("pre_lnorm"),
        "untie_r": not trial.flag("shared biases"),
        "tie_weight": not trial.flag("untied"),
        "proj_share_all_but_first": not trial.flag("untied projections"),
        "dropout": 0.0,
        "dropatt": 0.0,
        "output_attentions": trial.flag("output_attentions"),
        "output_hidden_states": trial.flag("output_hidden_states"),
    }
    if decided("no look-ahead", config["same_length"] and config["mem_len"] == 0):
        return
    theirs = lively(getattr(old, name)(old.TransfoXLConfig(vocabulary, **config)), trial.number("weights", 0, 9))
    ours = getattr(registry, name).from_pretrained(
        None, config=registry.TransfoXLConfig(vocabulary, **config), state_dict=theirs.state_dict()
    )
    generator = torch.Generator().manual_seed(trial.number("data", 0, 9))
    batch = trial.size("batch")
    head_mask = trial.pick("head mask", (None, "heads", "layers and heads"))
    mask = {}
    if head_mask is not None:
        size = (heads,) if head_mask == "heads" else (layers, heads)
        mask["head_mask"] = torch.randint(0, 3, size, generator=generator) / 2
    segments = [
        torch.randint(0, vocabulary, (batch, trial.size(f"length of segment {number}", 5)), generator=generator)
        for number in range(trial.size("segments"))
    ]

    shortest = min(config["mem_len"] or 9, *(segment.shape[1] for segment in segments))
    if decided("swapped lengths", config["ext_len"] > shortest):
        return

    def read(model: Any) -> list[Any]:
        mems, results = None, []
        for segment in segments:
            output = model(segment, mems=mems, **mask)
            output = output if isinstance(output, tuple | list) else output.to_tuple()
            mems = output[1]
            results.append([list(each) if isinstance(each, tuple | list) else each for each in output])
        return results

    trial.same("1.2.0: outputs over segments", lambda: read(ours), lambda: read(theirs))
    if name == "TransfoXLModel":
        return
    targets = torch.randint(0, vocabulary, segments[0].shape, generator=generator)
    trial.same(
        "1.2.0: losses",
        lambda: ours(segments[0], targets=targets, **mask).losses.flatten().sort().values,
        lambda: theirs(segments[0], labels=targets, **mask)[0].flatten().sort().values,
    )
    _same_gradients(
        trial,
        "1.2.0: gradients",
        ours,
        theirs,
        lambda: ours(segments[0], targets=targets, **mask).loss,
        lambda: theirs(segments[0], labels=targets, **mask)[0].mean(),
    )
