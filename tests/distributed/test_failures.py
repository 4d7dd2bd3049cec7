"""A rank that fails, is killed or does not come ends the operation for all, and is named."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest

import registry
from tests.distributed import models
from tests.distributed.group import results, run, running
from tests.servers import Handler, Request, serving

_SHORT = {"REGISTRY_RANK_TIMEOUT": "8"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    models.build("gpt2").save_pretrained(tmp_path / "models/gpt2")
    models.build("gpt2").save_pretrained(tmp_path / "models/in-pieces", max_shard_size=5000)
    return tmp_path / "models" / "gpt2"


def _require_named(found: dict[str, Any], rank: int, what: str, within: float = 20) -> None:
    assert found["error"] == "DistributedError" and found["ranks"] == (rank,), found
    assert f"rank {rank} is expected to load" in found["text"] and what in found["text"]
    assert found["seconds"] < within


@pytest.mark.slow
def test_an_error_on_one_rank_is_told_to_the_others_and_the_next_operation_works(folder: Path, tmp_path: Path) -> None:
    found = run("failures", 3, tmp_path / "group", str(folder), env=_SHORT)
    broken, other, late, well = zip(*found, strict=True)
    assert broken[1]["error"] == "CheckpointError"
    for rank in (0, 2):
        _require_named(broken[rank], 1, "failed with CheckpointError: [R501] the disk is expected to be readable, but smokes")
    assert other[2]["error"] == "ConfigError" and "rank 2 is expected to be that of rank 0" in other[2]["text"]
    for rank in (0, 1):
        _require_named(other[rank], 2, "ConfigError")
    for rank in (0, 1, 2):  # the last finds that the others are gone
        _require_named(late[rank], 1, "did not come within 8 s")
    assert [each["error"] for each in well] == [None] * 3
    assert len({each["sum"] for each in well}) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("victim", "broadcast", "store"), [(1, "", "file"), (0, "broadcast", "file"), (0, "", "tcp")])
def test_a_rank_that_is_killed_while_loading_is_named_in_time(
    victim: int, broadcast: str, store: str, folder: Path, tmp_path: Path
) -> None:
    arguments = (str(folder), str(victim), broadcast)
    with running("killed_while_loading", 3, tmp_path / "group", *arguments, env={**_SHORT, "TEST_STORE": store}) as ranks:
        codes = [code for code, _ in ranks.wait(90)]
    assert [code for rank, code in enumerate(codes) if rank != victim] == [0, 0]
    for rank, found in enumerate(results(tmp_path / "group", 3)):
        if rank == victim:
            assert found is None
        elif store == "tcp":
            assert found["error"] == "DistributedError" and "rank 0" in found["text"] and found["seconds"] < 20
        else:
            _require_named(found, victim, "gave no sign of life")


def _served(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    catalog = tmp_path / "models.yaml"
    catalog.write_text(f"registry: 1\nmodels:\n  served: {{family: gpt2, source: {url}/}}\n")
    monkeypatch.setenv("REGISTRY_MODELS", str(catalog))


@pytest.mark.slow
def test_four_cold_ranks_send_for_each_byte_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"/{path.name}": path.read_bytes() for path in folder.iterdir()}

    def answer(handler: Handler, request: Request) -> None:
        body = files.get(request.path)
        if body is None:
            handler.reply(request, 404)
        else:
            handler.reply_part(request, body, etag=f'"{hashlib.md5(body).hexdigest()}"', pace=lambda _: time.sleep(0.05))

    with serving(answer) as server:
        _served(folder, tmp_path, monkeypatch, server.url)
        found = run("attempt", 4, tmp_path / "group", "served")
        assert [each["error"] for each in found] == [None] * 4
        assert server.sent("/model.safetensors") == len(files["/model.safetensors"])
        assert server.sent("/config.json") == len(files["/config.json"])


@pytest.mark.slow
def test_a_rank_that_is_killed_while_it_fetches_leaves_nothing_half_done(
    folder: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"/{path.name}": path.read_bytes() for path in folder.iterdir()}
    body = files["/model.safetensors"]
    reached, gone = tmp_path / "reached", tmp_path / "gone"

    def answer(handler: Handler, request: Request) -> None:
        if request.path not in files:
            handler.reply(request, 404)
        elif request.path == "/model.safetensors" and not reached.exists():
            handler.reply(request, 200, body, {"ETag": '"1"'}, cut=len(body) // 2, pace=hold)
        else:
            handler.reply_part(request, files[request.path], etag='"1"')

    def hold(_: int) -> None:
        reached.touch()
        while not gone.exists():
            time.sleep(0.05)

    with serving(answer) as server:
        _served(folder, tmp_path, monkeypatch, server.url)
        with running("attempt", 3, tmp_path / "group", "served", env=_SHORT) as ranks:
            while not reached.exists():
                time.sleep(0.05)
            victim = _wait_for_holder(cache, [process.pid for process in ranks.processes])
            ranks.processes[victim].kill()
            gone.touch()
            ranks.wait(90)
        for rank, found in enumerate(results(tmp_path / "group", 3)):
            if rank != victim:
                _require_named(found, victim, "gave no sign of life")
        state = registry.load("served").state_dict()
    assert state.keys() == registry.load(folder).state_dict().keys()
    assert all(value.equal(state[key]) for key, value in registry.load(folder).state_dict().items())
    assert json.loads((folder / "config.json").read_text())


def _wait_for_holder(cache: Path, pids: list[int]) -> int:
    """Return which of the processes holds a partial file open: it opens one some time after the server began to answer."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for rank, pid in enumerate(pids):
            if any(name.startswith(str(cache)) and ".partial" in name for name in _opened(pid)):
                return rank
        time.sleep(0.05)
    raise AssertionError("none of the ranks opened a partial file within a minute")


def _opened(pid: int) -> list[str]:
    names = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            names.append(str(path.readlink()))
    return names
