"""Small models of every family, saved for the ranks of a test to load, and what is computed with each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from registry_gpt import OpenAIGPTConfig, OpenAIGPTLMHeadModel
from registry_gpt2 import GPT2Config, GPT2LMHeadModel
from tests.registry_bert import tiny
from tests.registry_transfo_xl import small

NAMES = ["bert", "bert-base", "gpt2", "gpt", "transfo-xl", "transfo-xl-shared"]
#: Some of them, with every kind of tie among them.
TRAINED = ["bert", "gpt2", "transfo-xl-shared"]


def build(name: str) -> Any:
    """Return a model whose rows divide by no number of ranks, in evaluation mode."""
    torch.manual_seed(3)
    sizes: dict[str, Any] = {"n_embd": 20, "n_layer": 3, "n_head": 2, "n_positions": 30}
    if name == "bert":
        return tiny.build("BertForMaskedLM")
    if name == "bert-base":
        return tiny.build("BertModel")
    if name == "gpt2":
        return _lively(GPT2LMHeadModel(GPT2Config(vocab_size=53, **sizes)))
    if name == "gpt":
        return _lively(OpenAIGPTLMHeadModel(OpenAIGPTConfig(vocab_size=53, **sizes)))
    return small.ours(untie_r=name == "transfo-xl")


def _lively(model: Any) -> Any:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3)
    return model.eval()


def save_all(folder: Path) -> None:
    for name in NAMES:
        build(name).save_pretrained(folder / name)


def ids(name: str) -> torch.Tensor:
    return torch.randint(1, 50, (4, 8), generator=torch.Generator().manual_seed(5))


def compute(name: str, model: Any, full: Any = lambda tensor: tensor.detach().clone()) -> dict[str, Any]:
    """Return outputs, generated tokens, and the weights after one step of training; twice, to see what a pass leaves behind."""
    found: dict[str, Any] = {}
    inputs = ids(name)
    with torch.no_grad():
        found["output"] = model(inputs)[0].clone()
    if hasattr(model, "generate"):
        found["tokens"] = model.generate(inputs, max_new_tokens=6, pad_token_id=0)
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for attribute in ("dropout", "dropatt"):
            if isinstance(getattr(module, attribute, None), float):
                setattr(module, attribute, 0.0)
    # Not Adam: a gradient that is 0 but for rounding, of a key's bias say, becomes a step of full length in either direction.
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
    for _ in range(2):
        output = model(inputs) if name == "bert-base" else model(inputs, labels=inputs)
        loss = (output[0].mean() - output[1].mean()).pow(2) if name == "bert-base" else output.loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.setdefault("losses", []).append(loss.item())
    model.eval()
    found["weights"] = {key: full(value) for key, value in model.state_dict().items()}
    with torch.no_grad():
        found["after"] = model(inputs)[0].clone()
    if hasattr(model, "generate"):
        found["tokens after"] = model.generate(inputs, max_new_tokens=6, pad_token_id=0)
    return found


def train(name: str, model: Any, checkpoint: Path, action: str) -> list[float]:
    """Train two steps and save a training checkpoint, or go on from one; return the losses of the two steps after it."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    inputs = ids(name)

    def step() -> float:
        loss = model(inputs, labels=inputs).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.item())

    if action == "save":
        step(), step()
    weights, state = get_state_dict(model, optimizer)
    parts = {"model": weights, "optimizer": state}
    if action == "save":
        dcp.save(parts, checkpoint_id=checkpoint)
    else:
        dcp.load(parts, checkpoint_id=checkpoint)
        set_state_dict(model, optimizer, model_state_dict=parts["model"], optim_state_dict=parts["optimizer"])
    return [step(), step()]


def prompt(rank: int) -> tuple[torch.Tensor, int]:
    """Return a prompt of a rank's own, and the token that ends it: for the first rank the very first that follows."""
    model = build("gpt2")
    tokens = torch.randint(1, 50, (1, 6), generator=torch.Generator().manual_seed(40 + rank))
    end = int(model.generate(tokens, max_new_tokens=1, eos_token_id=[])[0, -1]) if rank == 0 else 52
    return tokens, end


def save_odd(folder: Path) -> None:
    """Write one model in the forms that loading has a road of its own for."""
    from safetensors.torch import load_file, save_file

    model = build("gpt2")
    model.save_pretrained(folder / "pickle", safe_serialization=False)
    model.save_pretrained(folder / "pieces", max_shard_size=3000)
    for name in ("twice", "differs", "lacks", "mixed"):
        model.save_pretrained(folder / name)
        path = folder / name / "model.safetensors"
        tensors = load_file(path)
        if name == "lacks":
            del tensors["transformer.ln_f.weight"]
        elif name == "mixed":
            tensors["transformer.ln_f.weight"] = tensors["transformer.ln_f.weight"].half()
        else:
            tensors["lm_head.weight"] = tensors["transformer.wte.weight"].clone()
        if name == "differs":
            tensors["lm_head.weight"][-1, -1] += 1
        save_file(tensors, path, {"format": "pt"})
