"""Fill a model on the meta device: assign the checkpoint's tensors and initialize the missing ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from registry.base.logs import lazy_logger
from registry.checkpoint.report import LoadReport, Mismatch
from registry.checkpoint.tensor_names import match_names, wrapper_prefix
from registry.checkpoint.tensors import Checkpoint
from registry.errors import CheckpointError
from registry.pretrained.initialization import initialize, require_values, split_name
from registry.pretrained.model import PreTrainedModel

__all__ = ["Shards", "fill", "outlined"]

logger = lazy_logger(__name__)


class Shards(Protocol):
    """Turns a model on the meta device into one whose parts are distributed over ranks."""

    def realize(
        self, model: PreTrainedModel, sources: Mapping[str, str], missing: Sequence[str], *, dtype: torch.dtype | None
    ) -> Sequence[str]:
        """Give parameters and stored buffers their values; return the tied names that the file holds twice, and not alike.

        Args:
            model: on the meta device, its parameters of the dtypes that they are to have.
            sources: every name that the file has, those of ties included, to its name there.
            missing: parameters that are to be initialised.
            dtype: of the missing ones; None for the model's own.
        """
        ...


def fill(
    model: PreTrainedModel,
    checkpoint: Checkpoint,
    *,
    source: str,
    strict: bool | None = None,
    dtype: torch.dtype | None = None,
    ignore_mismatched_sizes: bool = False,
    skipped: Sequence[str] = (),
    shards: Shards | None = None,
) -> LoadReport:
    """Give every parameter and buffer of a meta model its value.

    Tensors of the checkpoint are assigned as they are (mapped ones stay mapped), cast only when `dtype` is given.

    Args:
        model: a model on the meta device.
        checkpoint: where values come from.
        source: its name in messages and in the report.
        strict: None: missing weights of the base model and mismatched shapes raise, a new head does not; True: nothing may
            be missing, unexpected or mismatched; False: everything is only reported.
        dtype: for floating point weights; None keeps the checkpoint's, which new weights then take over.
        ignore_mismatched_sizes: whether a mismatched weight is newly initialised instead of raising.
        skipped: what the checkpoint holds besides that no model needs, for the report.
        shards: gives the model its values in the place of this function, where each rank has only a part of them.

    Raises:
        CheckpointError: as `strict` says.
    """
    expected = model.state_dict(keep_vars=True)
    tied = {name: to for name, to in model.tied_weights().items() if name in expected}
    names, prefix, renamed = list(checkpoint.names()), model.base_model_prefix, model.renamed_weights
    wrapper = wrapper_prefix(names, expected.keys(), prefix=prefix, renamed=renamed)
    matched, unmatched = match_names(names, expected.keys(), prefix=prefix, renamed=renamed, wrapper=wrapper)
    if wrapper:
        logger.info("every name in %s begins with %r, of what the model was wrapped in; it was taken off", source, wrapper)

    for name, target in model.base_model.stored_copies().items():
        full = target if model.base_model is model else f"{model.base_model_prefix}.{target}"
        if wrapper + name in unmatched and full in expected and full not in matched:
            matched[full] = wrapper + name
            del unmatched[wrapper + name]

    unused = []
    for name, main in model.second_names().items():
        if (twin := unmatched.pop(wrapper + name, None)) is not None:
            unused.append(twin)
            matched[main] = wrapper + name

    loaded: dict[str, Tensor] = {}
    mismatched: list[Mismatch] = []
    for name in filter(matched.__contains__, expected):  # in the model's order, not the file's
        tensor = checkpoint.tensor(matched[name]) if shards is None else outlined(checkpoint, matched[name])
        if tensor.shape != expected[name].shape:
            mismatched.append(Mismatch(name, tuple(tensor.shape), tuple(expected[name].shape)))
            continue
        loaded[name] = _cast(tensor, dtype, name, source) if dtype is not None and tensor.is_floating_point() else tensor
    sources = {name: matched[name] for name in loaded}
    differing = _settle_ties(loaded, tied)
    _refuse_differing(differing, tied, source, strict)

    ignored = [name for name, twin in unmatched.items() if _is_derivable(model, name) or _is_copy(checkpoint, name, twin)]
    missing = [
        name for name, value in expected.items() if name not in loaded and name not in tied and isinstance(value, nn.Parameter)
    ]
    report = LoadReport(
        missing=tuple(name for name in missing if not any(name == item.name for item in mismatched)),
        unexpected=(*(name for name in unmatched if name not in ignored), *(matched[name] for name in differing)),
        ignored=(*ignored, *unused, *skipped),
        mismatched=tuple(mismatched),
        newly_initialized=tuple(missing),
        tied=tied,
        wrapper=wrapper,
        source=source,
    )
    _judge(model, report, strict, ignore_mismatched_sizes)
    _assign(model, loaded)
    # New weights cannot be drawn in a dtype of 8 bits or fewer.
    present = (tensor.dtype for tensor in loaded.values() if tensor.is_floating_point() and tensor.element_size() > 1)
    new_dtype = dtype or next(present, None)
    if shards is None:
        initialize(model, missing, dtype=new_dtype)
    else:
        differing = shards.realize(model, sources, missing, dtype=new_dtype)
        _refuse_differing(differing, tied, source, strict)
        report = replace(report, unexpected=(*report.unexpected, *(sources[name] for name in differing)))
    model.tie_weights()
    model.reset_buffers()
    require_values(model)
    model.load_report = report
    if report.newly_initialized:
        logger.warning(
            "%s has no weights for %s; they are newly initialized: train them before use",
            source,
            ", ".join(report.newly_initialized),
        )
    return report


def outlined(checkpoint: Checkpoint, name: str) -> Tensor:
    """Return a tensor's shape and dtype as a tensor without values."""
    info = checkpoint.info(name)
    if not hasattr(torch, info.dtype):
        return checkpoint.tensor(name)  # raises the error that explains why
    return torch.empty(info.shape, dtype=getattr(torch, info.dtype), device="meta")


def _cast(tensor: Tensor, dtype: torch.dtype, name: str, source: str) -> Tensor:
    try:
        return tensor.to(dtype)
    except NotImplementedError as error:
        raise CheckpointError(
            f"weight {name!r} of {source} is expected to be of a dtype that torch converts to {dtype}, but is {tensor.dtype}; "
            "leave dtype= out",
            path=source,
        ) from error


def _refuse_differing(differing: Sequence[str], tied: Mapping[str, str], source: str, strict: bool | None) -> None:
    if differing and strict is not False:
        name = differing[0]
        raise CheckpointError(
            f"{name!r} of {source} is expected to equal {tied[name]!r}, because the model ties them, but differs; "
            "load with tie_word_embeddings=False where the family has it, or repair the file",
            path=source,
        )


def _is_derivable(model: PreTrainedModel, name: str) -> bool:
    return bool(model.derivable_weights) and name.endswith(model.derivable_weights)


def _is_copy(checkpoint: Checkpoint, name: str, twin: str | None) -> bool:
    """Whether a tensor repeats, under another library's name, one that was loaded."""
    return twin is not None and torch.equal(checkpoint.tensor(name), checkpoint.tensor(twin))


def _settle_ties(loaded: dict[str, Tensor], tied: dict[str, str]) -> Sequence[str]:
    """Reduce each tied pair to its main name; return those that the file holds twice, and not alike."""
    differing = []
    for name, main in tied.items():
        if name not in loaded:
            continue
        copy = loaded.pop(name)
        if main not in loaded:
            loaded[main] = copy
        elif copy.data_ptr() != loaded[main].data_ptr() and not torch.equal(copy, loaded[main]):
            differing.append(name)
    return differing


def _judge(model: PreTrainedModel, report: LoadReport, strict: bool | None, ignore_mismatched_sizes: bool) -> None:
    name, hint = type(model).__name__, "give strict=False to load what fits"
    if strict is False:
        return
    if strict and not (report.clean or (ignore_mismatched_sizes and not (report.missing or report.unexpected))):
        raise CheckpointError(
            f"{report.source} is expected to fit {name} exactly, but does not: {report.summary()}; "
            "leave strict out to allow new heads and dropped ones"
        )
    if report.mismatched and not ignore_mismatched_sizes:
        raise CheckpointError(
            f"shapes in {report.source} are expected to be those of {name}, but differ: "
            f"{'; '.join(map(str, report.mismatched))}; check the configuration, or give ignore_mismatched_sizes=True"
        )
    if gone := [missing for missing in report.missing if model.is_required(missing)]:
        raise CheckpointError(
            f"{report.source} is expected to hold the weights of {name}, but lacks {len(gone)} of the base model: "
            f"{', '.join(gone[:6])}{'…' if len(gone) > 6 else ''}; is it of another family? {hint}"
        )


def _assign(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    modules = dict(model.named_modules(remove_duplicate=False))
    for name, tensor in tensors.items():
        path, attribute = split_name(name)
        module = modules[path]
        if attribute in module._parameters:
            old = module._parameters[attribute]
            assert old is not None
            module._parameters[attribute] = nn.Parameter(tensor, requires_grad=old.requires_grad and tensor.is_floating_point())
        else:
            module._buffers[attribute] = tensor
