"""What `mesh=`, `parallel=` and `broadcast=` may be, and which modules are sharded by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

import registry
from registry import ConfigError, PretrainedConfig, PreTrainedModel
from registry.sharding.ranks import rank_timeout
from tests.distributed import models
from tests.registry_bert import tiny


def _mesh(*shape: int, names: tuple[str, ...] | None = None) -> DeviceMesh:
    return DeviceMesh("cpu", torch.zeros(shape, dtype=torch.int), mesh_dim_names=names, _init_backend=False, _rank=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parallel": "fsdp"}, r"with parallel= a mesh= is expected, but none was given"),
        ({"broadcast": True}, r"with broadcast= a mesh= is expected, but none was given"),
        ({"parallel": "tensor", "mesh": (1,)}, r"parallel is expected to be 'fsdp', but is 'tensor'"),
        ({"parallel": "ddp"}, r"parallel is expected to be 'fsdp', but is 'ddp'"),
        ({"mesh": (1,)}, r"with mesh= a process group is expected, but there is none"),
        ({"mesh": (1,), "device": "cpu"}, r"with mesh= no device= is expected, because the mesh says 'cpu', but 'cpu' was"),
        ({"mesh": (1, 1, 1)}, r"mesh is expected to have one dimension, or two with names"),
        ({"mesh": (1, 1)}, r"mesh is expected to have one dimension, or two with names"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused_before_anything_is_read(options: dict[str, Any], message: str) -> None:
    if "mesh" in options:
        options = {**options, "mesh": _mesh(*options["mesh"])}
    with pytest.raises(ConfigError, match=message):
        registry.load("no-such-model", **options)
    with pytest.raises(ConfigError, match=message):
        registry.BertModel.from_pretrained("no-such-model", **options)


@pytest.mark.parametrize("written", ["0", "-1", "soon", "nan", "inf"])
def test_the_time_to_wait_for_a_rank_is_a_number_of_seconds(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rank_timeout() == 1800
    monkeypatch.setenv("REGISTRY_RANK_TIMEOUT", written)
    with pytest.raises(
        ConfigError, match=f"REGISTRY_RANK_TIMEOUT is expected to be a number of seconds above 0, but is '{written}'"
    ):
        rank_timeout()


def test_a_conversion_takes_no_mesh(tmp_path: Path) -> None:
    tiny.build("BertModel").save_pretrained(tmp_path / "model")
    with pytest.raises(ConfigError, match="mesh"):
        registry.default_registry().convert(tmp_path / "model", tmp_path / "out", mesh=_mesh(1))


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("bert", "BertLayer"), ("gpt2", "GPT2Block"), ("gpt", "OpenAIGPTBlock"), ("transfo-xl", "TransfoXLLayer")],
)
def test_the_blocks_of_every_family_are_its_layers(name: str, blocks: str) -> None:
    model = models.build(name)
    found = model.blocks()
    assert [type(block).__name__ for block in found] == [blocks] * len(found)
    assert len(found) == getattr(model.config, "num_hidden_layers", len(found)) > 1


def test_lists_of_single_layers_and_lists_within_blocks_are_no_blocks() -> None:
    class Model(PreTrainedModel):
        def __init__(self, config: PretrainedConfig) -> None:
            super().__init__(config)
            self.tables = nn.ModuleList(nn.Embedding(3, 2) for _ in range(2))
            self.stacks = nn.ModuleList(nn.Sequential(nn.ModuleList([nn.Sequential(nn.Linear(2, 2))])) for _ in range(3))
            self.empty = nn.ModuleList()

    with torch.device("meta"):
        model = Model(PretrainedConfig())
    assert model.blocks() == list(model.stacks)
