"""Train every head for two steps under DistributedDataParallel; run by test_model in a process of its own.

Its own, because torch's gloo group can lock up when it is taken down in a process that goes on.
"""

from __future__ import annotations

import os
import sys

import torch
from torch import nn

from tests.registry_bert.tiny import CLASSES, build, inputs, labels


def main() -> None:
    torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
    for name in CLASSES:
        if name == "BertModel":
            continue
        model = build(name).train()
        wrapped = nn.parallel.DistributedDataParallel(model)
        for _ in range(2):  # the second step fails when the first left a parameter unused
            output = wrapped(**inputs(name), **labels(name))
            assert type(output) is type(model(**inputs(name))), name
            output.loss.backward()
        assert all(parameter.grad is not None for parameter in model.parameters()), name
        print(name)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
