"""Many at once: every byte is sent once, and all end with the right ones."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import registry
from tests.servers import Handler, Request, Server, file_server, serving
from tests.store import workers
from tests.store.helpers import fetch, leftovers, pinned, sha256, visible

SPAWN = multiprocessing.get_context("spawn")
MANY = 8
NAME = "model.safetensors"


def random_bytes(size: int) -> bytes:
    return np.random.default_rng(7).bytes(size)


def run_many(target: Callable[..., None], *args: object) -> list[Any]:
    """Run eight processes that start their work at the same moment; return what each reports."""
    barrier = SPAWN.Barrier(MANY)
    pipes = [SPAWN.Pipe(duplex=False) for _ in range(MANY)]
    processes = [SPAWN.Process(target=target, args=(barrier, sender, *args)) for _, sender in pipes]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0] * MANY
    results = [receiver.recv() for receiver, _ in pipes]
    for ends in pipes:
        for end in ends:
            end.close()
    return results


def test_eight_processes_fetch_a_cold_file_of_50_mb_and_each_byte_is_sent_once(cache: Path) -> None:
    body = random_bytes(50_000_000)
    with file_server({f"/bert/{NAME}": body}) as server:
        results = run_many(workers.get_file, cache, f"{server.url}/bert", NAME)
        assert server.sent(f"/bert/{NAME}") == len(body)
        assert len(server.requests) == 1
    assert {digest for digest, _ in results} == {sha256(body)}
    assert len({inode for _, inode in results}) == 1
    assert not [path for path in leftovers(cache) if path.endswith((".partial", ".tmp"))]


@pytest.mark.slow
def test_eight_processes_fetch_a_model_by_the_front_door_and_each_byte_is_sent_once(cache: Path) -> None:
    files = {
        "/bert/config.json": b'{"model_type": "bert"}',
        "/bert/vocab.txt": b"[UNK]\n",
        f"/bert/{NAME}": random_bytes(50_000_000),
    }
    with file_server(files) as server:
        (folder,) = set(run_many(workers.fetch_model, f"{server.url}/bert"))
        assert {path: server.sent(path) for path in files} == {path: len(body) for path, body in files.items()}
    assert {path.name: sha256(path.read_bytes()) for path in folder.iterdir()} == {
        path.removeprefix("/bert/"): sha256(body) for path, body in files.items()
    }
    assert (folder / NAME).stat().st_nlink == 2


def run_threads(work: Callable[[], object]) -> list[object]:
    """Run eight threads that start their work at the same moment; return what each yields."""
    barrier = threading.Barrier(MANY)
    results: list[object] = []

    def run() -> None:
        barrier.wait(60)
        results.append(work())

    threads = [threading.Thread(target=run) for _ in range(MANY)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return results


@pytest.mark.parametrize("pins", [{}, pinned(NAME, random_bytes(3_000_000))], ids=["unpinned", "pinned"])
def test_eight_threads_fetch_a_cold_file_and_each_byte_is_sent_once(pins: dict[str, Any], cache: Path) -> None:
    body = random_bytes(3_000_000)
    with file_server({f"/{NAME}": body}) as server:
        results = run_threads(lambda: fetch(cache, server.url, NAME, pins))
        assert server.sent(f"/{NAME}") == len(body)
    assert results == [fetch(cache, server.url, NAME, pins, offline=True)] * MANY
    assert fetch(cache, server.url, NAME, pins, offline=True).path.read_bytes() == body


def test_eight_threads_use_the_front_door_at_once(cache: Path) -> None:
    files = {"/config.json": b'{"model_type": "bert"}', "/vocab.txt": b"[UNK]\n", f"/{NAME}": random_bytes(2_000_000)}
    with file_server(files) as server:
        folders = run_threads(lambda: registry.fetch(server.url))
        assert {path: server.sent(path) for path in files} == {path: len(body) for path, body in files.items()}
    assert folders == [folders[0]] * MANY
    assert {path.name for path in Path(str(folders[0])).iterdir()} == {"config.json", "vocab.txt", NAME}


def test_several_threads_that_fetch_from_a_failing_server_all_get_the_error(cache: Path) -> None:
    def work() -> type[BaseException] | None:
        try:
            fetch(cache, server.url, NAME)
        except registry.DownloadError as error:
            return type(error)
        return None

    with serving(lambda handler, request: handler.reply(request, 200, b"x" * 100, cut=50)) as server:
        assert run_threads(work) == [registry.DownloadError] * MANY
    assert visible(cache) == []


@contextmanager
def killed_while_fetching(cache: Path, server: Server, half_sent: threading.Event) -> Iterator[BaseProcess]:
    """Let another process fetch, and kill it when half of the file has been sent."""
    receiver, sender = SPAWN.Pipe(duplex=False)
    alone = SPAWN.Barrier(1)
    process = SPAWN.Process(target=workers.get_file, args=(alone, sender, cache, server.url, NAME))
    process.start()
    assert half_sent.wait(60)
    process.kill()
    process.join(60)
    yield process
    receiver.close()
    sender.close()


def test_a_fetch_that_is_killed_leaves_nothing_visible_and_the_next_one_succeeds(cache: Path) -> None:
    body = random_bytes(20_000_000)
    half_sent, killed = threading.Event(), threading.Event()

    def answer(handler: Handler, request: Request) -> None:
        if killed.is_set():
            handler.reply(request, 200, body)
            return
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: len(body) // 2])
        half_sent.set()
        killed.wait(60)
        handler.close_connection = True

    with serving(answer) as server:
        with killed_while_fetching(cache, server, half_sent) as process:
            killed.set()
            assert process.exitcode == -9
            assert visible(cache) == []
        for pins in ({}, pinned(NAME, body)):
            assert fetch(cache, server.url, NAME, pins).path.read_bytes() == body
