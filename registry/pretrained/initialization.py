"""Allocate and initialise parameters: those of a new model, of a new head, of new rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import nn

from registry.errors import PluginError

__all__ = ["Initializes", "composite_members", "initialize", "initialize_module", "require_values", "split_name"]


class Initializes(Protocol):
    """A model that knows how its modules begin."""

    def init_weights(self, module: nn.Module) -> None:
        """Give a module's parameters their first values."""
        ...

    def named_modules(self, *args: Any, **kwargs: Any) -> Iterable[tuple[str, nn.Module]]:
        """Yield the modules with their names."""
        ...


def split_name(name: str) -> tuple[str, str]:
    """Return the module path and the attribute of a parameter's name."""
    path, _, attribute = name.rpartition(".")
    return path, attribute


def composite_members(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the members of the outermost module lists whose members are made of several modules: a model's blocks."""
    for child in module.children():
        if isinstance(child, nn.ModuleList) and len(child) and all(next(each.children(), None) is not None for each in child):
            yield from child
        else:
            yield from composite_members(child)


def initialize(
    model: Initializes, names: Iterable[str], *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> None:
    """Allocate and initialise the parameters of these names, module by module in their order."""
    by_module: dict[str, list[str]] = {}
    for name in names:
        path, attribute = split_name(name)
        by_module.setdefault(path, []).append(attribute)
    if not by_module:
        return
    modules = dict(model.named_modules(remove_duplicate=False))
    for path, attributes in by_module.items():
        initialize_module(model, modules[path], attributes, dtype=dtype, device=device)


def initialize_module(
    model: Initializes,
    module: nn.Module,
    attributes: Iterable[str],
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> None:
    """Run the family's initialisation on some of a module's parameters; its others keep their values.

    Raises:
        PluginError: when `init_weights` leaves one of them without a value.
    """
    wanted = set(attributes)
    kept = {name: value for name, value in module._parameters.items() if value is not None and name not in wanted}
    for name, value in kept.items():  # `init_weights` may write to all; these are thrown away
        module._parameters[name] = nn.Parameter(torch.empty_like(value, device=device), requires_grad=False)
    for name in wanted:
        old = module._parameters[name]
        assert old is not None
        fresh = torch.empty(old.shape, dtype=dtype or old.dtype, device=device)
        module._parameters[name] = nn.Parameter(fresh.fill_(torch.nan), requires_grad=old.requires_grad)

    def empty(name: str) -> bool:
        value = module._parameters[name]
        return value is not None and bool(value.numel()) and bool(value.flatten()[0].isnan())

    with torch.no_grad():
        model.init_weights(module)
        reset = getattr(module, "reset_parameters", None)
        if reset is not None and any(map(empty, wanted)):
            reset()  # a layer of torch that the family does not know
        for name in wanted:
            if empty(name):
                raise PluginError(
                    f"init_weights of {type(model).__name__} is expected to give {type(module).__name__}.{name} a value, "
                    "but does not; override it, call super().init_weights(module), and fill that module's parameters",
                    family=type(model).__module__,
                )
    module._parameters.update(kept)


def require_values(model: nn.Module) -> None:
    """Raise when a parameter or buffer is still without memory.

    Raises:
        PluginError: naming it; a buffer that no checkpoint holds is the business of `reset_buffers`.
    """
    if not _lacks_values(model):
        return
    for kind, tensors in (("parameter", model.named_parameters()), ("buffer", model.named_buffers())):
        for name, tensor in tensors:
            if tensor.is_meta:
                raise PluginError(
                    f"{kind} {name!r} of {type(model).__name__} is expected to have a value after loading, but has none; "
                    "fill buffers in reset_buffers",
                    family=type(model).__module__,
                )


def _lacks_values(model: nn.Module) -> bool:
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for tensor in tensors.values():
                if tensor is not None and tensor.is_meta:
                    return True
    return False
