"""Ranks that are threads of one process and meet in a store in memory: enough for what needs no collective."""

from __future__ import annotations

from types import SimpleNamespace
from unittest import mock

import torch
from torch.distributed import PrefixStore, Store
from torch.distributed.device_mesh import DeviceMesh

from registry.sharding.ranks import Ranks


def joined(store: Store, rank: int, world: int, what: str = "load 'model'") -> Ranks:
    """Return what one of `world` ranks enters; as in processes, each of them makes its own."""
    mesh = DeviceMesh("cpu", torch.arange(world, dtype=torch.int), _init_backend=False, _rank=rank)
    group = SimpleNamespace(WORLD=SimpleNamespace(get_group_store=lambda: store))
    fake = SimpleNamespace(get_rank=lambda: rank, group=group, PrefixStore=PrefixStore)
    # The number of the operation is counted per process, and these have one: the store tells them apart.
    with mock.patch("registry.sharding.ranks.dist", fake), mock.patch("registry.sharding.ranks._next", lambda _: 0):
        return Ranks(mesh, what)
