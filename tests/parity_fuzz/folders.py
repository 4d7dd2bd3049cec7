"""Round trips: what one library saves, the others open; resized, pruned, untied and with any strides."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import registry
from tests.oracles import new, old
from tests.parity_fuzz.decided import decided
from tests.parity_fuzz.models import BERT, GPT, build, lively, sizes_of, twin
from tests.parity_fuzz.trial import Refused, Trial, attempt

__all__ = ["run"]

_FORMS = ("safetensors", "shards", "bin", "bin shards")
_SHARD = 200


def run(trial: Trial) -> None:
    """Draw a model and what is done to it, then save and open it in each direction."""
    name = trial.pick("class", (*BERT, *GPT, "TransfoXLModel", "TransfoXLLMHeadModel"))
    with tempfile.TemporaryDirectory(prefix="parity-") as folder, torch.no_grad():
        (_transfo_xl if name.startswith("Transfo") else _absolute)(trial, name, Path(folder))


def _absolute(trial: Trial, name: str, folder: Path) -> None:
    sizes = sizes_of(trial, name)
    vocabulary, heads = sizes["vocab_size"], sizes.get("n_head", sizes.get("num_attention_heads"))
    if name.endswith("DoubleHeadsModel"):
        sizes["num_labels"] = 1
    if name.startswith("Bert"):
        sizes["pad_token_id"] = trial.number("pad_token_id", 0, min(vocabulary, 3) - 1)
    model = lively(build(registry, name, sizes), trial.number("weights", 0, 9))
    theirs = twin(new, name, sizes, model)
    count = trial.pick("resized to", (None, None, vocabulary + 1, vocabulary + 5, max(1, vocabulary - 1), 1, 2))
    if count is not None and decided("padding outside the vocabulary", count <= sizes.get("pad_token_id", 0)):
        state = {key: value.clone() for key, value in model.state_dict().items()}
        refused = attempt(lambda: model.resize_token_embeddings(count))
        trial.require("resizing below the padding", isinstance(refused, Refused), f"it gives {refused}")
        trial.same("a model that was not resized", model.state_dict, lambda: state)
        count = None
    if count is not None:
        trial.same(
            "transformers: resized",
            lambda: _resized(model, count, vocabulary),
            lambda: _resized(theirs, count, vocabulary),
        )
        sizes["vocab_size"] = count
    theirs = twin(new, name, sizes, model)
    pruned = heads > 1 and trial.flag("pruned", 6)
    if pruned:
        model.prune_heads({0: [heads - 1]})
        theirs = None
    dtype = trial.pick("dtype", (torch.float32, torch.bfloat16, torch.float16))
    model.to(dtype)
    if trial.flag("odd strides"):
        _spread(model, trial.number("strides", 0, 9))

    form = trial.pick("form", _FORMS)
    limit = _SHARD if form.endswith("shards") else None
    state = {key: value.clone() for key, value in model.state_dict().items()}
    again = trial.same(
        "saved and opened here",
        lambda: _saved_and_opened(model, folder / "ours", safe_serialization="bin" not in form, max_shard_size=limit),
        lambda: state,
    )
    if again is None:
        return
    if theirs is not None:
        theirs.to(dtype)
        trial.same("opened by transformers", lambda: _opened_there(name, folder / "ours", state), lambda: state)
        theirs.save_pretrained(folder / "theirs", max_shard_size=limit or "5GB")
        if trial.flag("old form"):
            in_the_old_form(folder / "theirs", trial.number("old strides", 0, 3))
        trial.same("saved by transformers", lambda: _opened(folder / "theirs", strict=True), lambda: state)
    if pruned or not sizes["tie_word_embeddings"] or dtype is not torch.float32 or sizes.get("pad_token_id"):
        return  # 1.2.0 knows none of these
    if count is not None and name.startswith("GPT2") and sizes["n_positions"] == 1:
        return
    ancient = twin(old, name, sizes, model)
    (folder / "old").mkdir()
    ancient.save_pretrained(str(folder / "old"))
    trial.same("saved by 1.2.0", lambda: _opened(folder / "old", cls=getattr(registry, name)), lambda: state)
    if form == "bin":
        trial.same("opened by 1.2.0", lambda: _opened_by_old(name, folder / "ours", state), lambda: state)


def _resized(model: Any, count: int, vocabulary: int) -> dict[str, Any]:
    """Resize; return the shapes, and what was there before."""
    options = {"mean_resizing": False} if type(model).__module__.startswith("transformers") else {}
    model.resize_token_embeddings(count, **options)
    state = {key: value for key, value in model.state_dict().items() if key != "cls.predictions.decoder.bias"}
    kept = min(count, vocabulary)
    return {
        key: [list(value.shape), value[:kept].clone() if value.shape[0] == count else value.clone()]
        for key, value in state.items()
    } | {"vocab_size": model.config.vocab_size}


def _spread(model: Any, seed: int) -> None:
    """Give every weight other strides: those of a dimension of one element may be anything."""
    generator = torch.Generator().manual_seed(seed)
    done: dict[Tensor, torch.nn.Parameter] = {}
    for module in model.modules():
        for key, parameter in list(module._parameters.items()):
            if parameter is not None:
                if parameter not in done:
                    done[parameter] = torch.nn.Parameter(_strided(parameter.detach(), generator))
                module._parameters[key] = done[parameter]


def _strided(tensor: Tensor, generator: torch.Generator) -> Tensor:
    strides, step = [0] * tensor.dim(), 1
    for dimension in torch.randperm(tensor.dim(), generator=generator).tolist():
        step *= int(torch.randint(1, 4, (), generator=generator))
        strides[dimension] = step
        step *= tensor.shape[dimension]
    return torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype).copy_(tensor)


def _saved_and_opened(model: Any, folder: Path, **options: Any) -> dict[str, Tensor]:
    model.save_pretrained(folder, **options)
    return _opened(folder, strict=True)


def _opened(folder: Path, cls: Any = None, strict: bool | None = None) -> dict[str, Tensor]:
    model = registry.load(folder, strict=strict) if cls is None else cls.from_pretrained(str(folder))
    return {key: value.contiguous() for key, value in model.state_dict().items()}


def _opened_there(name: str, folder: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    model, info = getattr(new, name).from_pretrained(folder, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    return {key: value for key, value in model.state_dict().items() if key in state}


def _opened_by_old(name: str, folder: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    model = getattr(old, name).from_pretrained(str(folder))
    return {key: value for key, value in model.state_dict().items() if key in state}


def in_the_old_form(folder: Path, seed: int) -> None:
    """Turn safetensors into what transformers 4 wrote, with strides that it may have had."""
    from safetensors.torch import load_file

    generator = torch.Generator().manual_seed(seed)
    for file in sorted(folder.glob("*.safetensors")):
        tensors = {key: _strided(value, generator) for key, value in load_file(file).items()}
        torch.save(tensors, folder / _old_name(file.name), _use_new_zipfile_serialization=bool(seed % 2))
        file.unlink()
    if (index := folder / "model.safetensors.index.json").exists():
        data = json.loads(index.read_text())
        data["weight_map"] = {tensor: _old_name(file) for tensor, file in data["weight_map"].items()}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(data))
        index.unlink()


def _old_name(name: str) -> str:
    return name.replace("model", "pytorch_model").replace(".safetensors", ".bin")


def _transfo_xl(trial: Trial, name: str, folder: Path) -> None:
    vocabulary = trial.size("vocabulary", 7, 12)
    cutoffs = [each for each in (trial.number("cutoff", 0, 6),) if 0 < each < vocabulary]
    div = trial.size("div_val")
    config = {
        "cutoffs": cutoffs,
        "d_model": 2 * trial.size("half of d_model"),
        "d_embed": trial.size("embedding") * div ** len(cutoffs),
        "n_head": trial.size("heads"),
        "d_head": trial.size("head size"),
        "d_inner": trial.size("inner"),
        "div_val": div,
        "n_layer": trial.size("layers"),
        "tgt_len": 2,
        "mem_len": trial.size("mem_len"),
        "untie_r": not trial.flag("shared biases"),
        "tie_weight": not trial.flag("untied"),
        "proj_share_all_but_first": not trial.flag("untied projections"),
    }
    theirs = lively(getattr(old, name)(old.TransfoXLConfig(vocabulary, **config)), trial.number("weights", 0, 9))
    (folder / "old").mkdir()
    theirs.save_pretrained(str(folder / "old"))
    cls = getattr(registry, name)
    known = theirs.state_dict()
    ours = cls.from_pretrained(None, config=registry.TransfoXLConfig(vocabulary, **config), state_dict=known)
    state = {key: known[key].clone() for key in ours.state_dict()}
    trial.same("saved by 1.2.0", lambda: _opened(folder / "old", cls=cls), lambda: state)
    if trial.flag("odd strides"):
        _spread(ours, trial.number("strides", 0, 9))
    form = trial.pick("form", _FORMS)
    limit = _SHARD if form.endswith("shards") else None
    trial.same(
        "saved and opened here",
        lambda: _saved_and_opened(ours, folder / "ours", safe_serialization="bin" not in form, max_shard_size=limit),
        lambda: state,
    )
    if form == "bin":
        trial.same("opened by 1.2.0", lambda: _opened_by_old(name, folder / "ours", state), lambda: state)
