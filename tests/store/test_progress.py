"""What people see while files are brought."""

from __future__ import annotations

import errno
import gc
import io
import logging
import os
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest

import registry
from registry.errors import DownloadError
from registry.store import progress
from registry.store.events import FileEvent
from registry.store.progress import ProgressBars, ProgressLines, default_observers, show_size
from tests.cli.conftest import Run, run  # noqa: F401  # a fixture
from tests.processes import environment
from tests.servers import Handler, Request, file_server, serving

FILES = {"/config.json": b'{"model_type": "bert"}', "/vocab.txt": b"[UNK]\n", "/model.safetensors": bytes(300_000)}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def event(done: int = 0, size: int | None = 100, name: str = "model.safetensors") -> FileEvent:
    return FileEvent(model="acme", name=name, size=size, done=done)


def test_a_terminal_gets_a_bar_for_each_file(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with file_server(FILES) as server:
        registry.fetch(server.url)
    for name in ("config.json", "vocab.txt", "model.safetensors"):
        assert f"{server.url}: {name}" in terminal.getvalue()


def test_a_file_that_is_not_there_gets_no_bar(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with file_server(FILES) as server:
        registry.fetch(server.url)
        missing = {request.path.removeprefix("/") for request in server.requests} - {name.removeprefix("/") for name in FILES}
    assert missing
    assert not [name for name in missing if name in terminal.getvalue()]


def test_a_fetch_that_fails_takes_its_bars_away_before_the_error_is_shown(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("REGISTRY_RETRIES", "0")
    whole = FILES["/model.safetensors"]

    def answer(handler: Handler, request: Request) -> None:
        handler.reply(request, 200, whole, cut=len(whole) // 2)

    with serving(answer) as server, pytest.raises(DownloadError) as caught:
        registry.ModelRegistry().fetch_file(server.url, "model.safetensors")
    shown = terminal.getvalue()
    assert "model.safetensors" in shown
    *_, last, rest = shown.split("\r")
    assert (last.strip(), rest) == ("", "")
    del caught
    gc.collect()
    assert terminal.getvalue() == shown


def test_a_file_that_is_asked_for_again_keeps_its_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    bars = ProgressBars()
    for done in (0, 60, 100):
        bars.started(event())
        bars.progressed(event(done))
    bars.verified(event(100))
    assert "\n" not in terminal.getvalue()  # a second bar would have a second line


@pytest.mark.parametrize("columns", [1, 20, 80, 300])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_what_follows_bars_begins_in_the_first_column(
    order: tuple[int, ...], columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr("tqdm.std._screen_shape_wrapper", lambda: lambda _: (columns, 24))
    bars = ProgressBars()
    for number in range(3):
        bars.started(event(name=f"model-{number}.safetensors"))
    for number in order:
        bars.verified(event(name=f"model-{number}.safetensors"))
    assert terminal.getvalue().endswith("\r")
    bars.close()
    bars.progressed(event(50))  # of a thread that has not noticed
    assert terminal.getvalue().endswith("\r")


def test_bars_need_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    before = threading.active_count()
    bars = ProgressBars()
    for number in range(5):
        bars.started(event(name=f"model-{number}.safetensors"))
    assert threading.active_count() == before
    bars.close()


def test_nothing_is_printed_where_there_is_no_terminal(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with file_server(FILES) as server:
        registry.fetch(server.url)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("number", [-1, None], ids=["-1", "none"])
def test_a_notebook_gets_a_bar_though_its_error_output_is_no_file(
    number: int | None, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    class Output(io.StringIO):
        def fileno(self) -> int:
            if number is None:
                raise io.UnsupportedOperation("fileno")
            return number

    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setattr(sys, "stderr", shown := Output())
    with file_server(FILES) as server:
        folder = registry.fetch(server.url)
    assert {f"/{path.name}": path.read_bytes() for path in folder.iterdir()} == FILES
    assert f"{server.url}: model.safetensors" in shown.getvalue()


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK"])
def test_of_many_ranks_only_the_first_shows_progress(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    shown = []
    for rank in range(8):
        monkeypatch.setenv(variable, str(rank))
        shown.append(len(default_observers()))
    assert shown == [1, 0, 0, 0, 0, 0, 0, 0]


def test_progress_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert isinstance(default_observers()[0], ProgressBars)
    monkeypatch.setenv("REGISTRY_QUIET", "1")
    assert default_observers() == ()


def test_lines_come_now_and_then_only(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = ProgressLines()
    with caplog.at_level(logging.INFO, logger="registry.progress"):
        lines.started(event())
        for done in range(100):
            now[0] += 0.3
            lines.progressed(event(done))
        lines.published(event(100))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 4
    assert said[0] == "acme: fetching model.safetensors (100 B)"
    assert said[1] == "acme: model.safetensors, 33 B of 100 B (33 %)"
    assert said[-1].startswith("acme: model.safetensors is here, 100 B in 30")


def test_a_size_that_nobody_knows_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="registry.progress"):
        ProgressLines().started(event(size=None))
        ProgressLines().started(event(done=5))
    assert [record.getMessage() for record in caplog.records] == [
        "acme: fetching model.safetensors",
        "acme: fetching model.safetensors (100 B), 5 B of it here",
    ]


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (440_449_768, "440.4 MB"), (70 * 10**9, "70.0 GB"), (2 * 10**12, "2.0 TB")],
)
def test_sizes_are_shown_as_people_write_them(count: int, shown: str) -> None:
    assert show_size(count) == shown


CLOSED = "import os, sys, registry; os.close(2); sys.stderr = {stderr}; print(registry.fetch(sys.argv[1]))"


TERMINAL = """type('T', (), {'isatty': lambda s: True, 'flush': lambda s: None,
                     'write': lambda s, text: os.write(2, text.encode())})()"""


@pytest.mark.parametrize("stderr", ["None", "sys.stderr", TERMINAL], ids=["none", "closed", "a terminal that is gone"])
def test_a_closed_error_output_stops_nothing(stderr: str) -> None:
    with file_server(FILES) as server:
        done = subprocess.run(
            [sys.executable, "-c", CLOSED.format(stderr=stderr), server.url],
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 0
    assert (Path(done.stdout.strip()) / "config.json").read_bytes() == FILES["/config.json"]


@pytest.mark.parametrize("code", [errno.EIO, errno.EBADF, errno.EPIPE, errno.ENOSPC], ids=errno.errorcode.get)
def test_a_bar_whose_terminal_goes_away_stops_nothing(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(Terminal):
        def write(self, text: str) -> int:
            raise OSError(code, os.strerror(code))

    bars = ProgressBars()
    monkeypatch.setattr(sys, "stderr", Gone())
    bars.started(event())
    bars.progressed(event(50))
    bars.verified(event(100))
    bars.published(event(100))
    monkeypatch.setattr(sys, "stderr", Terminal())
    bars.started(event())
    monkeypatch.setattr(Terminal, "write", Gone.write)
    bars.progressed(event(99))
    bars.verified(event(100))


def test_the_command_prints_lines_where_there_is_no_terminal(run: Run) -> None:  # noqa: F811
    with file_server(FILES) as server:
        done = run("fetch", server.url)
        assert done.code == 0 and Path(done.out.strip()).is_dir()
        assert f"{server.url}: fetching model.safetensors" in done.err
        assert f"{server.url}: model.safetensors is here, 300.0 kB" in done.err
        assert run("fetch", server.url).err == ""


def test_the_command_is_quiet_when_it_is_to_be(run: Run, cache: Path) -> None:  # noqa: F811
    with file_server(FILES) as server:
        done = run("fetch", "--quiet", server.url, "--jobs", "2")
    assert (done.code, done.err) == (0, "")
    assert logging.getLogger("registry.progress").handlers == []
    assert "REGISTRY_QUIET" not in os.environ
