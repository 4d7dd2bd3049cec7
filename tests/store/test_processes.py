"""Many at once: every byte is sent once, and all end with the right ones."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import registry
from registry.catalog.entry import Host, Origin
from tests.servers import Handler, Request, Server, file_server, serving
from tests.store import workers
from tests.store.helpers import arrived, eventually, fetch, leftovers, pinned, sha256, visible

SPAWN = multiprocessing.get_context("spawn")
MANY = 8
NAME = "model.safetensors"


def random_bytes(size: int) -> bytes:
    return np.random.default_rng(7).bytes(size)


def run_many(target: Callable[..., None], *args: object, many: int = MANY) -> list[Any]:
    """Run processes that start their work at the same moment; return what each reports."""
    barrier = SPAWN.Barrier(many)
    pipes = [SPAWN.Pipe(duplex=False) for _ in range(many)]
    processes = [SPAWN.Process(target=target, args=(barrier, sender, *args)) for _, sender in pipes]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0] * many
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


class Shaped:
    """A server that sends at most so many bytes a second on each connection."""

    def __init__(self, body: bytes, rate: float) -> None:
        self._body, self._rate = body, rate

    def __call__(self, handler: Handler, request: Request) -> None:
        began, sent = time.monotonic(), 0

        def pace(count: int) -> None:
            nonlocal sent
            sent += count
            time.sleep(max(0.0, began + sent / self._rate - time.monotonic()))

        handler.reply_part(request, self._body, etag='"one"', pace=pace)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["1", ""], ids=["one stream", "parts"])
def test_sixteen_processes_fetch_200_mb_at_a_limited_rate_and_each_byte_is_sent_once(
    parallel: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_PARALLEL", parallel)
    body = random_bytes(200_000_000)
    with serving(Shaped(body, 100e6 if parallel else 20e6)) as server:
        results = run_many(workers.get_file, cache, server.url, NAME, many=16)
        assert server.sent(f"/{NAME}") == len(body)
        assert len(server.requests) == (1 if parallel else 13)
    assert {digest for digest, _ in results} == {sha256(body)}
    assert len({inode for _, inode in results}) == 1
    assert not [path for path in leftovers(cache) if "partial" in path]


@pytest.mark.parametrize(
    ("many", "size"), [(4, 20_000_000), pytest.param(16, 200_000_000, marks=pytest.mark.slow)], ids=["4 × 20 MB", "16 × 200 MB"]
)
def test_where_locks_hold_nobody_all_end_with_the_right_bytes(many: int, size: int, cache: Path) -> None:
    body = random_bytes(size)
    with serving(lambda handler, request: handler.reply_part(request, body, etag='"one"')) as server:
        results = run_many(workers.get_file_without_locks, cache, server.url, NAME, many=many)
        assert len(body) <= server.sent(f"/{NAME}") <= many * len(body)
    assert {digest for digest, _ in results} == {sha256(body)}
    assert not [path for path in leftovers(cache) if "partial" in path]


@pytest.mark.parametrize(
    "code", [errno.ENOSYS, errno.ENOLCK, errno.EACCES, errno.EROFS, errno.EOPNOTSUPP], ids=errno.errorcode.get
)
def test_where_locks_fail_all_end_with_the_right_bytes_and_each_warns_once(code: int, cache: Path) -> None:
    files = {"/a.safetensors": random_bytes(2_000_000), "/b.safetensors": random_bytes(3_000_000)}
    with file_server(files) as server:
        results = run_many(workers.get_files_where_locks_fail, cache, server.url, [path[1:] for path in files], code, many=3)
        assert all(1 <= [request.path for request in server.requests].count(path) <= 3 for path in files)
    assert results == [([sha256(body) for body in files.values()], 1)] * 3
    assert not [path for path in leftovers(cache) if "partial" in path]


def test_a_forked_process_fetches_after_its_parent_did(cache: Path) -> None:
    """Neither connections nor locks nor the count of connections of a parent's other threads may come along."""
    body = random_bytes(3_000_000)
    begun, go_on = threading.Event(), threading.Event()

    def answer(handler: Handler, request: Request) -> None:
        if request.path == "/held/model.safetensors":
            begun.set()
            go_on.wait(60)
        handler.reply_part(request, body, etag='"one"')

    with serving(answer) as server:
        hosts = {server.url.removeprefix("http://"): Host(name="x", origin=Origin("x", 1, 1), parallelism=1)}
        fetch(cache, f"{server.url}/a", NAME, hosts=hosts)
        held = threading.Thread(target=fetch, args=(cache, f"{server.url}/held", NAME), kwargs={"hosts": hosts})
        held.start()
        assert begun.wait(60)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                signal.alarm(60)
                status = 0 if fetch(cache, f"{server.url}/b", NAME, hosts=hosts).path.read_bytes() == body else 1
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        go_on.set()
        held.join(60)
        assert fetch(cache, f"{server.url}/held", NAME, hosts=hosts).path.read_bytes() == body


def test_no_more_connections_are_open_to_a_host_than_its_entry_says(cache: Path) -> None:
    now, most = [0], [0]
    guard = threading.Lock()

    def answer(handler: Handler, request: Request) -> None:
        with guard:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02)
        with guard:
            now[0] -= 1
        handler.reply(request, 200, request.path.encode())

    with serving(answer) as server:
        hosts = {server.url.removeprefix("http://"): Host(name="x", origin=Origin("x", 1, 1), parallelism=2)}
        names = iter([f"{number}.txt" for number in range(MANY)])
        run_threads(lambda: fetch(cache, server.url, next(names), hosts=hosts))
    assert most[0] == 2


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


def test_the_files_of_a_model_come_at_once_after_its_configuration(cache: Path) -> None:
    together = threading.Barrier(3)
    shards = {f"model-0000{number}-of-00003.safetensors": f"shard {number}".encode() for number in (1, 2, 3)}
    index = {"metadata": {}, "weight_map": {name: name for name in shards}}
    files = {
        "/config.json": b'{"model_type": "bert"}',
        "/vocab.txt": b"[UNK]\n",
        "/model.safetensors.index.json": json.dumps(index).encode(),
        **{f"/{name}": body for name, body in shards.items()},
    }

    def answer(handler: Handler, request: Request) -> None:
        if "-of-" in request.path:
            together.wait(20)  # no shard is sent before all have been asked for
        body = files.get(request.path)
        handler.reply(request, 200 if body else 404, body or b"")

    with serving(answer) as server:
        folder = registry.fetch(server.url)
        assert server.requests[0].path == "/config.json"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {name[1:]: body for name, body in files.items()}


def test_the_first_file_that_fails_ends_the_others_and_what_arrived_of_them_is_kept(cache: Path) -> None:
    body = random_bytes(3_000_000)
    failed = threading.Event()
    files = {"/config.json": b'{"model_type": "bert"}'}

    def answer(handler: Handler, request: Request) -> None:
        if request.path == "/model.safetensors":
            sent = 0

            def pace(count: int) -> None:
                nonlocal sent
                sent += count
                if sent > len(body) // 2:
                    failed.wait(20)
                    time.sleep(0.3)

            handler.reply_part(request, body, etag='"one"', pace=pace)
        elif request.path == "/vocab.txt":
            eventually(lambda: arrived(cache) >= len(body) // 4)
            handler.reply(request, 403)
            failed.set()
        else:
            handler.reply(request, 200 if request.path in files else 404, files.get(request.path, b""))

    with serving(answer) as server:
        with pytest.raises(registry.DownloadError, match="answers 403"):
            registry.fetch(server.url)
        assert server.sent(f"/{NAME}") < len(body)
    (partial,) = cache.rglob("*.partial")
    assert partial.stat().st_size >= len(body) // 4
