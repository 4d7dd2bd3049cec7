"""Checks of saving and loading a family's models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from registry.checkpoint.report import LoadReport
from registry.errors import CheckpointError
from registry.pretrained.config import CONFIG_NAME
from registry.pretrained.model import SAFE_WEIGHTS_NAME
from registry.testing.bench import Bench, differing

__all__ = ["FileChecks"]


class FileChecks:
    """What files hold, what they may lack, and what the report says of both."""

    def test_saved_model_reloads_bit_for_bit(self, bench: Bench, head: str) -> None:
        """Save a model and load the folder by nothing but its path: same class, same weights, same output."""
        bench.reloaded(head)

    def test_shards_reload_bit_for_bit(self, bench: Bench, head: str, tmp_path: Path) -> None:
        """Save in several files with an index, and load them."""
        new = bench.new_model(head)
        bench.loaded(head)
        folder = tmp_path / "shards"
        new.save_pretrained(folder, max_shard_size="1KB")
        assert (folder / f"{SAFE_WEIGHTS_NAME}.index.json").is_file(), (
            "save_pretrained is expected to heed max_shard_size, but wrote no index; override it only through super()"
        )
        assert differing(new, bench.registry.load(folder, strict=True)) == []

    def test_head_takes_over_the_base(self, bench: Bench, head: str) -> None:
        """Load a base model's folder with a head: its weights are taken over, and only the head is new; and the other way."""
        base = "base"
        if head == base or base not in bench.family().heads:
            pytest.skip("head 'base' has nothing to take over" if head == base else "the family has no head 'base'")
        bench.loaded(head)
        headed = bench.registry.load(bench.saved(base), head=head, **bench.case(head).config)
        report, prefix = _report(headed), f"{headed.base_model_prefix}."
        kept = {name: value for name, value in headed.state_dict().items() if name.startswith(prefix)}
        assert kept, f"base_model_prefix of {type(headed).__name__} is expected to be the attribute of the base model"
        optional = tuple(prefix + name for name in headed.optional_weights)
        new = [name for name in report.newly_initialized if name in kept and not (optional and name.startswith(optional))]
        assert not new, f"weights of the base model are expected to be taken over, but these are newly initialized: {new}"
        saved = bench.new_model(base).state_dict()
        for name in kept.keys() - set(report.newly_initialized):
            assert torch.equal(kept[name], saved[name.removeprefix(prefix)]), f"{name} is expected to be the base model's"
        back = bench.registry.load(bench.saved(head), head=base)
        inner = bench.new_model(head).base_model.state_dict()
        for name in inner.keys() - set(_report(back).newly_initialized):
            assert torch.equal(back.state_dict()[name], inner[name]), f"{name} is expected to be that of the model with a head"

    def test_report_names_weights_that_no_parameter_takes(self, bench: Bench, head: str, tmp_path: Path) -> None:
        """Report a tensor that the model has no place for; with `strict=True` it is an error."""
        bench.loaded(head)
        folder = _copy(bench.saved(head), tmp_path, add={"of_another_model.weight": torch.ones(2, 3)})
        report = bench.registry.load(folder).load_report
        assert report is not None and report.unexpected == ("of_another_model.weight",), (
            "a weight of another model is expected to be reported as unexpected, but is not; make derivable_weights and "
            "renamed_weights narrower"
        )
        with pytest.raises(CheckpointError):
            bench.registry.load(folder, strict=True)

    def test_missing_base_weights_are_refused(self, bench: Bench, head: str, tmp_path: Path) -> None:
        """Refuse a file without a weight of the base model, instead of a model that is partly random."""
        model = bench.loaded(head)
        stored = load_file(bench.saved(head) / SAFE_WEIGHTS_NAME)
        needed = [name for name in stored if model.is_required(name)]
        assert needed, f"{type(model).__name__} is expected to need some weight, but optional_weights covers all"
        folder = _copy(bench.saved(head), tmp_path, drop=needed[0])
        with pytest.raises(CheckpointError):
            bench.registry.load(folder)

    def test_torch_defaults_decide_nothing(self, bench: Bench, head: str) -> None:
        """Load under a default dtype that a caller has set: weights and buffers are those of the file and of the family."""
        expected = bench.loaded(head)
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            model = bench.registry.load(bench.saved(head))
        finally:
            torch.set_default_dtype(before)
        buffers = dict(expected.named_buffers())
        odd = [name for name, value in model.named_buffers() if value.dtype != buffers[name].dtype]
        assert not odd, (
            f"buffers are expected not to depend on torch's default dtype, but {odd} do; name a dtype in reset_buffers"
        )
        assert differing(expected, model) == []


def _report(model: Any) -> LoadReport:
    report = model.load_report
    assert isinstance(report, LoadReport)
    return report


def _copy(folder: Path, into: Path, *, add: dict[str, Any] | None = None, drop: str | None = None) -> Path:
    """Return a copy of a model's folder with other weights."""
    target = into / "copy"
    target.mkdir()
    (target / CONFIG_NAME).write_text(json.dumps(json.loads((folder / CONFIG_NAME).read_text())))
    tensors = load_file(folder / SAFE_WEIGHTS_NAME)
    save_file({name: tensor for name, tensor in {**tensors, **(add or {})}.items() if name != drop}, target / SAFE_WEIGHTS_NAME)
    return target
