"""Load a model over many ranks: torch shards it on the meta device, then each rank fills its own rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from types import MethodType
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from registry.checkpoint.tensors import Checkpoint
from registry.errors import ConfigError
from registry.pretrained.generation import GenerationMixin
from registry.pretrained.initialization import initialize_module, split_name
from registry.pretrained.model import PreTrainedModel
from registry.sharding.ranks import Ranks
from registry.sharding.rows import Deliverer, Reader, rows_of

__all__ = ["ModelShards", "checked_mesh", "shard"]


def checked_mesh(mesh: Any, parallel: str | None, device: Any) -> DeviceMesh:
    """Return the mesh that `load` was given.

    Raises:
        ConfigError: when the arguments conflict, or a model cannot be sharded over this mesh.
    """
    if parallel not in (None, "fsdp"):
        raise ConfigError(f"parallel is expected to be 'fsdp', but is {parallel!r}")
    if mesh is None:
        name = "broadcast" if parallel is None else "parallel"
        raise ConfigError(f"with {name}= a mesh= is expected, but none was given; make one with init_device_mesh")
    if not isinstance(mesh, DeviceMesh):
        raise ConfigError(f"mesh is expected to be a torch.distributed DeviceMesh, but is a {type(mesh).__name__}")
    if device is not None:
        raise ConfigError(f"with mesh= no device= is expected, because the mesh says {mesh.device_type!r}, but {device!r} was")
    if mesh.ndim > 2 or (mesh.ndim == 2 and mesh.mesh_dim_names is None):
        raise ConfigError(
            "mesh is expected to have one dimension, or two with names (the first of replicas, the second of shards), but is "
            f"{mesh}"
        )
    if not dist.is_initialized():
        raise ConfigError("with mesh= a process group is expected, but there is none; call init_process_group first")
    return mesh


def shard(model: PreTrainedModel, mesh: DeviceMesh) -> None:
    """Shard a model by rows: each of its blocks by itself, then what is left, with all that is tied across blocks.

    Args:
        model: on the meta device, or whole.
        mesh: of one dimension, or of two: replicas, then shards.

    Raises:
        ConfigError: when weights that are to be sharded together are not of one dtype.
    """
    blocks = model.blocks()
    holders: dict[nn.Parameter, set[int]] = {}
    for number, block in enumerate(blocks):
        for parameter in block.parameters():
            holders.setdefault(parameter, set()).add(number)
    inside = {module for block in blocks for module in block.modules()}
    for module in model.modules():
        if module not in inside:
            for parameter in module.parameters(recurse=False):
                holders.setdefault(parameter, set()).add(-1)
    # A parameter of several blocks belongs to what is around them; where nothing around has it, they are no blocks.
    bound = {number for found in holders.values() if len(found) > 1 and -1 not in found for number in found}
    units: list[tuple[nn.Module, set[nn.Parameter]]] = [
        (block, {parameter for parameter in block.parameters() if holders[parameter] != {number}})
        for number, block in enumerate(blocks)
        if number not in bound
    ]
    taken = {parameter for block, left in units for parameter in block.parameters() if parameter not in left}
    units.append((model, set()))
    for module, left in units:
        own = [each for each in module.parameters() if each not in left and (module is not model or each not in taken)]
        _require_one_dtype(own)
    for module, left in units:
        # By itself the engine leaves the root whole after a forward pass; an optimizer made then would train that copy.
        fully_shard(module, mesh=mesh, ignored_params=left, reshard_after_forward=True)
        for method in getattr(module, "forward_methods", ()):
            register_fsdp_forward_method(module, method)
    if isinstance(model, GenerationMixin):
        model.in_inference_mode = False
        model.all_finished = MethodType(_all_finished, model)  # type: ignore[method-assign]


def _require_one_dtype(parameters: Sequence[nn.Parameter]) -> None:
    dtypes = {parameter.dtype for parameter in parameters if parameter.requires_grad}
    if len(dtypes) > 1:
        names = " and ".join(sorted(map(str, dtypes)))
        raise ConfigError(f"weights of a sharded model are expected to have one dtype, but have {names}; give dtype=")


def _all_finished(model: Any, finished: Tensor) -> bool:
    """Whether the rows of every rank have ended: none can compute a step alone."""
    count = (~finished).sum()
    mesh = next(each for each in model.parameters() if isinstance(each, DTensor)).device_mesh
    for dimension in range(mesh.ndim):
        dist.all_reduce(count, group=mesh.get_group(dimension))
    return not count.item()


class ModelShards:
    """Fills a model for one rank, out of a checkpoint that every rank, or one of each node, can read."""

    def __init__(self, ranks: Ranks, checkpoint: Checkpoint, *, identity: str, broadcast: bool) -> None:
        """Set up.

        Args:
            ranks: those of the mesh.
            checkpoint: the weights.
            identity: names and hashes of the weights' files, which must be equal on every rank.
            broadcast: whether one rank of each node reads for all of them.
        """
        self._ranks = ranks
        self._checkpoint = checkpoint
        self._identity = identity
        self._broadcast = broadcast

    def realize(
        self, model: PreTrainedModel, sources: Mapping[str, str], missing: Sequence[str], *, dtype: torch.dtype | None
    ) -> Sequence[str]:
        """Shard a model on the meta device and fill it; see `registry.loading.fill.Shards`."""
        ranks, mesh = self._ranks, self._ranks.mesh
        self._outline_missing(model, missing, dtype)
        model.tie_weights()
        self._require_same(model)
        shard(model, mesh)
        _allocate(model, mesh)
        ranks.agree("ready")
        source = Deliverer(ranks, self._checkpoint) if self._broadcast else Reader(ranks, self._checkpoint)
        tied = {name: main for name, main in model.tied_weights().items() if name in sources}
        mains = {name: stored for name, stored in sources.items() if name not in tied}
        held = self._checkpoint.stored_name
        copies = [name for name, main in tied.items() if held(mains.setdefault(main, sources[name])) != held(sources[name])]
        differing: list[str] = []
        with torch.no_grad():
            for name, stored in mains.items():
                self._fill(model, source, name, stored)
            for name in copies:
                values = _parameter(model, name)
                other = torch.empty_like(values, requires_grad=False)
                assert isinstance(other, DTensor)
                source.fill(sources[name], other)
                if not torch.equal(other.to_local(), values.to_local()):
                    differing.append(name)
        if copies:
            found = ranks.gather("ties", "\n".join(differing))
            differing = [name for name in copies if any(name in each.split("\n") for each in found)]
        self._initialize(model, missing, dtype)
        return differing

    def _require_same(self, model: PreTrainedModel) -> None:
        """Compare what this rank loads with what the first one does: a moving revision may be another on another node."""
        ranks = self._ranks
        lines = [f"{name} {tuple(each.shape)} {each.dtype}" for name, each in model.named_parameters()]
        digest = hashlib.sha256("\n".join([self._identity, *lines]).encode()).hexdigest()
        if ranks.tell("model", digest if ranks.leads else None) != digest:
            raise ConfigError(
                f"model of rank {dist.get_rank()} is expected to be that of rank {ranks.members[0]}, but has other weights; "
                "load the same name with the same arguments on each rank, and pin a revision that moves"
            )

    def _outline_missing(self, model: PreTrainedModel, missing: Sequence[str], dtype: torch.dtype | None) -> None:
        for name in missing:
            path, attribute = split_name(name)
            module = model.get_submodule(path)
            old = module._parameters[attribute]
            assert old is not None
            module._parameters[attribute] = _outline(old, dtype)

    def _fill(self, model: PreTrainedModel, source: Reader | Deliverer, name: str, stored: str) -> None:
        path, attribute = split_name(name)
        module = model.get_submodule(path)
        if attribute in module._buffers:
            module._buffers[attribute] = self._checkpoint.tensor(stored).to(_device(self._ranks.mesh))
        else:
            values = _parameter(model, name)
            source.fill(stored, values)

    def _initialize(self, model: PreTrainedModel, missing: Sequence[str], dtype: torch.dtype | None) -> None:
        """Draw new weights as the first rank would draw them alone, module by module, and keep this rank's rows."""
        if not missing:
            return
        before = torch.get_rng_state()
        state = self._ranks.tell("rng", before.numpy().tobytes().hex() if self._ranks.leads else None)
        torch.set_rng_state(torch.frombuffer(bytearray.fromhex(state), dtype=torch.uint8))
        by_module: dict[str, list[str]] = {}
        for name in missing:
            path, attribute = split_name(name)
            by_module.setdefault(path, []).append(attribute)
        for path, attributes in by_module.items():
            module = model.get_submodule(path)
            sharded = dict(module._parameters)
            module._parameters.update({name: _outline(each, None) for name, each in sharded.items() if each is not None})
            try:
                initialize_module(model, module, attributes, dtype=dtype)
                drawn = {name: cast(Tensor, module._parameters[name]) for name in attributes}
            finally:
                module._parameters.update(sharded)
            with torch.no_grad():
                for name, values in drawn.items():
                    parameter = module._parameters[name]
                    assert isinstance(parameter, DTensor)
                    begin, end = rows_of(self._ranks, self._ranks.index, values.shape)
                    parameter.to_local().copy_(values[begin:end])
        if not self._ranks.leads:
            torch.set_rng_state(before)


def _outline(parameter: nn.Parameter, dtype: torch.dtype | None) -> nn.Parameter:
    empty = torch.empty(parameter.shape, dtype=dtype or parameter.dtype, device="meta")
    return nn.Parameter(empty, requires_grad=parameter.requires_grad)


def _parameter(model: nn.Module, name: str) -> DTensor:
    parameter = model.get_parameter(name)
    assert isinstance(parameter, DTensor)
    return parameter


def _allocate(model: nn.Module, mesh: DeviceMesh) -> None:
    """Give each rank memory for its shards, and none for buffers, which are not sharded."""
    buffers = [(module, dict(module._buffers)) for module in model.modules()]
    model.to_empty(device=_device(mesh))
    for module, held in buffers:
        module._buffers.update(held)


def _device(mesh: DeviceMesh) -> torch.device:
    if mesh.device_type == "cpu":
        return torch.device("cpu")
    return torch.device(mesh.device_type, torch.get_device_module(mesh.device_type).current_device())
