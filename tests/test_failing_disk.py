"""A cache on a disk that fails is as if the cached form were absent; a path that no system takes is an error of its own."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import registry
from registry.base.file_lock import file_lock
from registry.catalog import packed
from registry.catalog import providers as remembered
from registry.errors import CatalogError, RegistryError, RegistryWarning
from registry.store import cache as records
from registry.store.cache import Cache
from tests.servers import file_server
from tests.store.helpers import BODY, fetch, sha256

FAILURES = [errno.EIO, errno.ESTALE, errno.ENOTCONN]


class Failing(io.BufferedReader):
    """A file that can be opened, and fails later."""

    def __init__(self, path: object, when: str, number: int) -> None:
        super().__init__(io.FileIO(str(path)))
        self._when, self._number = when, number

    def _fail(self, when: str) -> None:
        if self._when == when:
            raise OSError(self._number, os.strerror(self._number))

    def read(self, *size: int | None) -> bytes:
        self._fail("read")
        return super().read(*size)

    def readline(self, *size: int | None) -> bytes:
        self._fail("read")
        return super().readline(*size)

    def readlines(self, *size: int) -> list[bytes]:  # type: ignore[override]
        self._fail("read")
        return super().readlines(*size)

    def close(self) -> None:
        was_open = not self.closed
        super().close()
        if was_open:
            self._fail("close")


@pytest.fixture(params=[(when, number) for when in ("open", "read", "close") for number in FAILURES])
def failing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that makes the files fail which a module opens below a folder."""
    when, number = request.param

    def fail(module: Any, folder: Path) -> None:
        def opened(path: Any, *args: Any, **how: Any) -> Any:
            if not Path(path).is_relative_to(folder):
                return open(path, *args, **how)  # noqa: PTH123  # as the module calls it
            if when == "open":
                raise OSError(number, os.strerror(number))
            return Failing(path, when, number)

        monkeypatch.setattr(module, "open", opened, raising=False)

    return fail


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    path = tmp_path / "m.yaml"
    path.write_text(json.dumps({"registry": 1, "models": {"mine": {"family": "bert", "source": "./mine"}}}))
    return path


def test_a_packed_catalog_that_cannot_be_read_is_read_from_its_text(
    failing: Callable[..., None], catalog: Path, cache: Path
) -> None:
    assert registry.ModelRegistry(catalogs=[catalog]).resolve("mine").family == "bert"
    assert list((cache / "catalogs").iterdir())
    for module in (packed, remembered):
        failing(module, cache)
    one = registry.ModelRegistry(catalogs=[catalog])
    assert one.resolve("mine").family == "bert" and one.resolve("gpt2").family == "gpt2"
    assert one.list_models("mine") == ["mine"]


@pytest.mark.parametrize("when", ["open", "fstat", "read", "close"])
@pytest.mark.parametrize("number", FAILURES)
def test_a_record_that_cannot_be_read_is_as_if_absent(
    number: int, when: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with file_server({"/vocab.txt": BODY}) as server:
        fetch(cache, server.url, "vocab.txt")
        monkeypatch.setattr(records, "os", SimpleNamespace(**{**vars(os), when: fails}))
        assert fetch(cache, server.url, "vocab.txt").path.read_bytes() == BODY
        assert len(server.requests) == 2
    assert Cache((cache,)).lookup(sha256(BODY)) is not None


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_lock_on_a_disk_that_fails_is_gone_without(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import filelock

    def fails(*args: object, **how: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(filelock.FileLock, "acquire", fails)
    with file_lock(tmp_path / "locks" / "a.lock") as needed:
        assert needed
    assert "cannot be locked" in caplog.text


# -- paths that are too long ---------------------------------------------------------------------------------------------

LONG = {"a long name": "x" * 5000, "a long path": "/".join(["y" * 200] * 40)}


@pytest.fixture(params=LONG)
def long(request: pytest.FixtureRequest) -> Iterator[str]:
    yield LONG[request.param]


@pytest.mark.parametrize("begin", ["./", "/", "file:///", "package://json/"])
@pytest.mark.parametrize("what", ["load", "fetch", "load_config", "load_tokenizer"])
def test_a_path_that_is_too_long_is_an_error_of_ours(what: str, begin: str, long: str) -> None:
    with pytest.raises(RegistryError):
        getattr(registry, what)(begin + long)


@pytest.mark.parametrize("begin", ["./", "/", "file:///", "package://json/"])
@pytest.mark.parametrize("end", ["", "/model.tar.gz", ".tar.gz"])
def test_an_entry_with_a_path_that_is_too_long_disturbs_no_other(begin: str, end: str, long: str, tmp_path: Path) -> None:
    models = {"m": {"family": "bert", "source": begin + long + end}, "ok": {"family": "bert", "source": "./ok"}}
    (tmp_path / "m.yaml").write_text(json.dumps({"registry": 1, "models": models}))
    one = registry.ModelRegistry(catalogs=[tmp_path / "m.yaml"])
    assert one.resolve("ok").family == "bert" and {"m", "ok"} <= set(one.list_models())
    for call in (one.load, one.fetch, one.load_tokenizer):
        with pytest.raises(RegistryError, match="too long|at most|expected"):
            call("m")


def test_every_argument_that_is_too_long_is_an_error_of_ours(long: str, tmp_path: Path) -> None:
    one = registry.ModelRegistry()
    calls: dict[str, Callable[[], object]] = {
        "catalogs": lambda: registry.ModelRegistry(catalogs=[long]),
        "lock_file": lambda: registry.ModelRegistry(lock_file=long).load("gpt2", locked=True, offline=True),
        "cache_dir": lambda: one.load_config("gpt2", cache_dir=long, offline=True),
        "config": lambda: one.load("gpt2", config=long, offline=True),
        "file": lambda: one.fetch_file(tmp_path, long),
        "file of the hub": lambda: one.fetch_file("hf://acme/a", long, offline=True),
        "survey": lambda: one.survey(f"/{long}"),
    }
    for name, call in calls.items():
        with pytest.raises(RegistryError):
            call()
            pytest.fail(name)


def test_a_variable_that_is_too_long_is_told(long: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_MODELS", f"/{long}")
    with pytest.warns(RegistryWarning, match="expected to be readable"):
        assert registry.ModelRegistry().list_models("gpt2") == ["gpt2"]
    with pytest.raises(CatalogError):
        registry.ModelRegistry(catalogs=[f"/{long}"])
