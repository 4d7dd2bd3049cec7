"""DistributedDataParallel around every head: the gradients of one process, no unused parameters, outputs of their own class."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from registry_bert import BertModel
from tests.distributed.ddp_cases import build, cases, heads
from tests.processes import ROOT, environment


def test_two_processes_train_every_head_of_every_family_as_one_does(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.distributed.ddp_heads"]
    running = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "meeting")],
            cwd=ROOT,
            env={**environment(), "GLOO_SOCKET_IFNAME": "lo"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        ended = [process.communicate(timeout=200) for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], "\n".join(errors for _, errors in ended)
    assert set(cases()) == set(heads()), "every head has a case, and every case a head"
    for printed, _ in ended:
        assert printed.splitlines() == [f"{family} {head}" for family, head in heads()]
    assert len(cases()) == 16


def test_an_encoder_without_a_pooler_leaves_nothing_out_of_a_loss_over_its_tokens(tmp_path: Path) -> None:
    build("bert", "base").save_pretrained(tmp_path / "whole")
    model = BertModel.from_pretrained(tmp_path / "whole", add_pooling_layer=False)
    assert {name.split(".")[0] for name in model.load_report.unexpected} == {"pooler"}
    model(**cases()["bert", "base"].inputs).last_hidden_state.pow(2).mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
