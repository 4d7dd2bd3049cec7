"""Run a job on several ranks: each a process of its own, on gloo, that ends within its time or is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from tests.processes import ROOT, environment


@dataclass
class Ranks:
    """Processes that run one job together."""

    processes: list[subprocess.Popen[str]]

    def wait(self, timeout: float) -> list[tuple[int, str]]:
        """Return code and error output of each rank; who is not done in time is killed and fails the test."""
        end = time.monotonic() + timeout
        done = []
        for rank, process in enumerate(self.processes):
            try:
                _, errors = process.communicate(timeout=max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise AssertionError(f"rank {rank} is not done after {timeout:g} s") from None
            done.append((process.returncode, errors))
        return done


@contextmanager
def running(job: str, world: int, folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Iterator[Ranks]:
    """Start a function of `tests.distributed.jobs` on `world` ranks; it writes into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "store").unlink(missing_ok=True)
    variables = {**environment(), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", **(env or {})}
    command = [sys.executable, "-m", "tests.distributed.group", job, str(world), str(folder)]
    ranks = Ranks([])
    try:
        for rank in range(world):
            ranks.processes.append(
                subprocess.Popen([*command, str(rank), *arguments], cwd=ROOT, env=variables, stderr=subprocess.PIPE, text=True)
            )
        yield ranks
    finally:
        for process in ranks.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()


def run(
    job: str, world: int, folder: Path, *arguments: str, timeout: float = 120, env: Mapping[str, str] | None = None
) -> list[Any]:
    """Run a job to its end, and return what each rank returned."""
    with running(job, world, folder, *arguments, env=env) as ranks:
        for rank, (code, errors) in enumerate(ranks.wait(timeout)):
            assert code == 0, f"rank {rank}: {errors}"
    return results(folder, world)


def results(folder: Path, world: int) -> list[Any]:
    """Return what each rank returned; None for one that did not come to an end."""
    paths = [folder / f"result-{rank}.pt" for rank in range(world)]
    return [torch.load(path, weights_only=False) if path.exists() else None for path in paths]


def main() -> None:
    job, world, folder, rank, *arguments = sys.argv[1:]
    import torch.distributed as dist

    from tests.distributed import jobs

    store: dist.Store
    if os.environ.get("TEST_STORE") == "tcp":
        store = _tcp_store(Path(folder) / "port", int(world), is_master=rank == "0")
    else:  # in a file it belongs to no rank: one that is killed takes it away from nobody
        store = dist.FileStore(f"{folder}/store", int(world))
    dist.init_process_group("gloo", store=store, rank=int(rank), world_size=int(world), timeout=timedelta(seconds=60))
    function: Callable[..., Any] = getattr(jobs, job)
    result = function(*arguments)
    path = Path(folder) / f"result-{rank}.pt"
    torch.save(result, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)
    sys.stdout.flush()
    os._exit(0)  # gloo can lock up when its threads are taken down


def _tcp_store(port: Path, world: int, *, is_master: bool) -> torch.distributed.Store:
    """Return a store that lives in the first rank, at a port that the system chose."""
    if is_master:
        store = torch.distributed.TCPStore("127.0.0.1", 0, world, is_master=True, wait_for_workers=False)
        port.with_suffix(".part").write_text(str(store.port))
        port.with_suffix(".part").replace(port)
        return store
    while not port.exists():
        time.sleep(0.05)
    return torch.distributed.TCPStore("127.0.0.1", int(port.read_text()), world, is_master=False)


if __name__ == "__main__":
    main()
