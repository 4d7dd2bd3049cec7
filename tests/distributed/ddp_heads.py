"""Train every head of every family under DistributedDataParallel, as one of two processes; run by test_ddp.

In processes of their own, because torch's gloo group can lock up when it is taken down in a process that goes on.
"""

from __future__ import annotations

import os
import sys
import warnings
from datetime import timedelta

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from registry import PreTrainedModel
from tests.distributed.ddp_cases import Case, build, cases, heads


def shared_out(values: dict[str, Tensor], rank: int) -> dict[str, Tensor]:
    """Return the half of the rows that is this process's."""
    return {name: value.chunk(2)[rank] for name, value in values.items()}


def gradients(model: PreTrainedModel) -> dict[str, Tensor | None]:
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def trains_all(family: str, head: str, case: Case, rank: int) -> None:
    """Two processes with half the rows each get the gradients that one gets from all rows, and outputs of the same class."""
    alone, model = build(family, head), build(family, head)
    output = alone(**case.inputs, **case.labels)
    case.loss(output).backward()
    wrapped = DistributedDataParallel(model)
    for recompute in (False, True):  # the second step fails when the first left a parameter unused
        model.zero_grad()
        if recompute:
            model.gradient_checkpointing_enable()
        found = wrapped(**shared_out(case.inputs, rank), **shared_out(case.labels, rank))
        assert type(found) is type(output), type(found)
        case.loss(found).backward()
    for name, expected in gradients(alone).items():
        actual = gradients(model)[name]
        assert expected is not None and actual is not None, name
        torch.testing.assert_close(actual, expected, atol=2e-6, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


def trains_parts(family: str, head: str, case: Case, rank: int) -> None:
    """A loss that leaves parameters out needs find_unused_parameters=True, and with it leaves just these out."""
    for part in case.parts:
        inputs = shared_out(case.inputs, rank) | shared_out(case.labels, rank)
        model = build(family, head)
        wrapped = DistributedDataParallel(model, find_unused_parameters=True)
        expected = type(model(**inputs))
        for _ in range(2):
            output = wrapped(**inputs)
            assert type(output) is expected, type(output)
            part.loss(output).backward()
        unused = {name for name, gradient in gradients(model).items() if gradient is None}
        assert unused and unused == {name for name in gradients(model) if name.startswith(part.unused)}, unused

        plain = DistributedDataParallel(build(family, head))
        part.loss(plain(**inputs)).backward()
        try:
            plain(**inputs)
        except RuntimeError as error:
            assert "find_unused_parameters=True" in str(error), error
        else:
            raise AssertionError("what is left out is expected to be an error at the second step, but is none")


def main(rank: int, file: str) -> None:
    warnings.simplefilter("error")
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    known = cases()
    for family, head in heads():
        trains_all(family, head, known[family, head], rank)
        trains_parts(family, head, known[family, head], rank)
        print(family, head, flush=True)
    torch.distributed.barrier()  # nobody leaves while the other still reads
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
