"""A transport of another package: for a scheme of its own, held to the protocol, and hashed by the store."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

import pytest

import registry
from registry.errors import DownloadError, IntegrityError, OfflineError, PluginConflict, PluginError
from registry.families.transports import TransportPlugins
from registry.store.transports import BUILTIN_SCHEMES
from tests.families.conftest import Install

MEMORY = """
from contextlib import contextmanager
from registry.store.transports import Body, FileMissing, Resource

FILES = {
    "mem://acme/config.json": b'{"model_type": "bert"}',
    "mem://acme/vocab.txt": b"[UNK]",
    "mem://acme/model.safetensors": b"0123456789",
}
closed = []

class Memory:
    remote = True
    def join(self, source, name): return f"{source.rstrip('/')}/{name}"
    def at(self, source, commit): return source
    def parallelism(self, resource): return None
    def close(self): closed.append(self)

    def describe(self, url):
        if url not in FILES:
            raise FileMissing(f"{url} is expected to be held, but is not", url=url, status=404)
        return Resource(url, url, size=len(FILES[url]))

    @contextmanager
    def open(self, resource, span=None):
        data = FILES[resource.address]
        yield Body(iter([data[:4], data[4:]]), size=len(data))
"""
PIN = "a" * 64
CATALOG = """registry: 1
models:
  acme:
    family: bert
    source: mem://acme
    files: {{model.safetensors: {{sha256: {sha256}}}}}
"""


def installed(install: Install, text: str = MEMORY, value: str = "acme_memory:Memory", scheme: str = "mem") -> None:
    install("acme-memory", {scheme: value}, {"acme_memory.py": text}, group="registry.transports", version="1.4")


def refused(source: str = "mem://acme") -> DownloadError:
    with pytest.raises(DownloadError) as caught:
        registry.fetch(source)
    return caught.value


def test_a_scheme_of_its_own_brings_files_into_the_cache(install: Install, cache: Path) -> None:
    installed(install)
    folder = registry.fetch("mem://acme")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
        "config.json": b'{"model_type": "bert"}',
        "vocab.txt": b"[UNK]",
        "model.safetensors": b"0123456789",
    }
    blob = cache / "blobs/sha256" / (digest := hashlib.sha256(b"0123456789").hexdigest())[:2] / digest
    assert blob.read_bytes() == b"0123456789"
    assert len(sys.modules["acme_memory"].closed) == 1


def test_it_is_imported_when_a_source_of_its_scheme_is_used_and_not_for_what_is_here(install: Install) -> None:
    installed(install)
    registry.list_models()
    assert "acme_memory" not in sys.modules
    registry.fetch("MEM://acme".replace("MEM", "mem"))
    sys.modules["acme_memory"].FILES.clear()
    assert registry.fetch("mem://acme").joinpath("vocab.txt").read_bytes() == b"[UNK]"


def test_its_bytes_are_held_to_the_pin(install: Install, cache: Path) -> None:
    installed(install)
    Path("models.yaml").write_text(CATALOG.format(sha256=PIN))
    with pytest.raises(IntegrityError, match=f"sha256 of mem://acme/model.safetensors is expected to be {'a' * 64}"):
        registry.fetch("acme")
    Path("models.yaml").write_text(CATALOG.format(sha256=hashlib.sha256(b"0123456789").hexdigest()))
    assert registry.fetch("acme").is_dir()


def test_its_bytes_are_held_to_what_they_were_at_first(install: Install, cache: Path) -> None:
    installed(install)
    registry.fetch("mem://acme")
    for blob in cache.glob("blobs/sha256/*/*"):
        blob.unlink()
    sys.modules["acme_memory"].FILES["mem://acme/vocab.txt"] = b"other"
    with pytest.raises(IntegrityError, match="mem://acme/vocab.txt"):
        registry.fetch("mem://acme")


def test_a_file_that_it_says_lies_here_is_hashed_and_copied_all_the_same(install: Install, tmp_path: Path, cache: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_bytes(b"[UNK]")
    code = MEMORY.replace("size=len(FILES[url])", f"size=len(FILES[url]), path=__import__('pathlib').Path({str(mine)!r})")
    installed(install, code.replace("remote = True", "remote = False"))
    file = registry.default_registry().fetch_file("mem://acme", "vocab.txt")
    assert file.is_relative_to(cache) and file.read_bytes() == b"[UNK]"


def test_it_is_not_used_while_the_network_is_off(install: Install) -> None:
    installed(install)
    with pytest.raises(OfflineError):
        registry.fetch("mem://acme", offline=True)


@pytest.mark.parametrize("scheme", BUILTIN_SCHEMES)
def test_a_built_in_scheme_cannot_be_replaced(scheme: str, install: Install, tmp_path: Path) -> None:
    installed(install, "raise AssertionError('imported')", scheme=scheme)
    with pytest.raises(registry.RegistryError) as caught:
        registry.fetch(f"{scheme}://acme.invalid/model" + ("@main" if scheme == "hf" else ""), offline=True)
    assert "imported" not in str(caught.value) and "acme_memory" not in sys.modules


FOUND, DATA = "return Resource(url, url, size=len(FILES[url]))", "data = FILES[resource.address]"
PIECES = "iter([data[:4], data[4:]])"
BODY = f"yield Body({PIECES}, size=len(data))"
READS = "read mem://acme/config.json, but raised ZeroDivisionError"


def described(fields: str) -> str:
    return MEMORY.replace("size=len(FILES[url])", fields)


def sent(fields: str) -> str:
    return MEMORY.replace(BODY, f"yield Body({PIECES}, {fields})")


BROKEN = {
    "does not import": ("1 / 0", "'acme_memory:Memory' of acme-memory 1.4 is expected to import, but raised ZeroDivisionError"),
    "is not there": ("", "'acme_memory:Memory' is not callable"),
    "cannot be made": ("def Memory(): raise SystemExit(1)", "made by acme_memory:Memory(), but that raised SystemExit: 1"),
    "is something else": ("def Memory(): return {}", "but lacks join, at, describe, open, parallelism, close"),
    "lacks a method": (MEMORY.replace("def at(", "def ta("), "but lacks at"),
    "fails to describe": (
        MEMORY.replace(FOUND, "1 / 0"),
        "acme-memory 1.4 is expected to describe mem://acme/config.json, but",
    ),
    "describes as something else": (MEMORY.replace(FOUND, "return 7"), "gave int for Resource"),
    "describes with nonsense": (MEMORY.replace("size=len(FILES[url])", "sha256='abc'"), "gave 'abc' for a hash"),
    "joins to nonsense": (MEMORY.replace("return f\"{source.rstrip('/')}/{name}\"", "return None"), "gave NoneType for str"),
    "fails to open": (MEMORY.replace(DATA, "raise OSError('gone')"), "open mem://acme/config.json, but raised OSError: gone"),
    "opens something else": (MEMORY.replace(BODY, "yield data"), "gave bytes for Body"),
    "breaks while it is read": (MEMORY.replace(PIECES, "(1 / 0 for _ in 'a')"), READS),
    "sends text": (MEMORY.replace(PIECES, "iter(['text'])"), "sent str for bytes"),
    "opens without a context manager": (
        MEMORY.replace("    @contextmanager\n", ""),
        "open mem://acme/config.json, but gave generator for a context manager; decorate it with @contextmanager",
    ),
    "opens nothing": (MEMORY.replace("    @contextmanager\n", "").replace(BODY, "return None"), "gave NoneType for a"),
    "ends the process": (MEMORY.replace(FOUND, "raise SystemExit(3)"), "raised SystemExit: 3"),
    "ends the process as it opens": (MEMORY.replace(DATA, "raise SystemExit(3)"), "raised SystemExit: 3"),
    "describes a size as text": (described("size='12'"), "gave Resource(size='12'), where int belongs"),
    "describes a size of True": (described("size=True"), "gave Resource(size=True), where int belongs"),
    "describes a size below 0": (described("size=-1"), "gave Resource(size=-1), which is less than 0"),
    "describes a hash as bytes": (described("sha256=b'a' * 64"), "where str belongs"),
    "describes a commit as a number": (described("commit=5"), "gave Resource(commit=5), where str belongs"),
    "describes another sort of URL": (
        MEMORY.replace("Resource(url,", "Resource(5,"),
        "gave Resource(url=5), where str belongs",
    ),
    "describes no address": (MEMORY.replace("url, size", "None, size"), "gave Resource(address=None), where str belongs"),
    "sends a size as text": (sent("size='12'"), "open mem://acme/config.json, but gave Body(size='12'), where int belongs"),
    "sends a size below 0": (sent("size=-1"), "gave Body(size=-1), which is less than 0"),
    "sends from nowhere": (sent("start=None"), "gave Body(start=None), where int belongs"),
    "sends from below 0": (sent("start=-5"), "gave Body(start=-5), which is less than 0"),
    "sends to text": (sent("stop='9'"), "gave Body(stop='9'), where int belongs"),
    "sends a number for a version": (sent("validator=1"), "gave Body(validator=1), where str belongs"),
    "sends a word for ranges": (sent("ranges='no'"), "gave Body(ranges='no'), where bool belongs"),
    "sends no pieces": (MEMORY.replace(PIECES, "None"), "read mem://acme/config.json, but raised TypeError"),
    "sends no parts": (MEMORY.replace("return None", "return 0"), "said 0"),
}


@pytest.mark.parametrize(("code", "message"), BROKEN.values(), ids=list(BROKEN))
def test_what_is_wrong_with_it_is_an_error_of_the_download_that_names_it(code: str, message: str, install: Install) -> None:
    installed(install, code)
    error = refused()
    assert message in str(error) and error.url.startswith("mem://acme")
    assert registry.resolve("gpt2").family == "gpt2"


def test_an_interrupt_of_the_user_is_no_fault_of_it(install: Install) -> None:
    installed(install, MEMORY.replace(FOUND, "raise KeyboardInterrupt"))
    with pytest.raises(KeyboardInterrupt):
        registry.fetch("mem://acme")


def test_a_lost_connection_is_tried_again(install: Install) -> None:
    lost = f"{DATA}\n        if len(tries) < 2:\n            tries.append(1)\n            raise ConnectionResetError"
    installed(install, f"tries = []\n{MEMORY.replace(DATA, lost)}")
    assert registry.fetch("mem://acme").is_dir()
    assert len(sys.modules["acme_memory"].tries) == 2


def test_a_mirror_whose_transport_is_broken_takes_nothing_from_the_others(install: Install, tmp_path: Path) -> None:
    installed(install)
    install("broken", {"odd": "broken_odd:Odd"}, {"broken_odd.py": "1 / 0"}, group="registry.transports")
    entry = "acme: {family: bert, source: odd://acme, mirrors: [mem://acme]}"
    Path("models.yaml").write_text(f"registry: 1\nmodels:\n  {entry}\n")
    brought = registry.default_registry().fetch_file("acme", "vocab.txt")
    assert brought.read_bytes() == b"[UNK]"
    sys.modules["acme_memory"].FILES.clear()
    assert registry.default_registry().fetch_file("acme", "vocab.txt") == brought


def test_a_failure_to_close_is_no_failure_of_the_fetch(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    installed(install, MEMORY.replace("closed.append(self)", "raise RuntimeError('still busy')"))
    assert registry.fetch("mem://acme").is_dir()
    assert "transport 'mem' of acme-memory 1.4 did not close" in caplog.text


def test_two_packages_with_one_scheme_are_named_with_the_way_to_choose(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(install)
    install("other-memory", {"mem": "other:Memory"}, group="registry.transports", version="0.1")
    with pytest.raises(PluginConflict, match=re.escape("transport 'mem' is expected to come from one distribution")):
        TransportPlugins().maybe_make("mem")
    assert "REGISTRY_PLUGINS_DISABLED=other-memory:mem leaves that of acme-memory" in str(refused())
    monkeypatch.setenv("REGISTRY_PLUGINS_DISABLED", "other-memory:mem")
    assert registry.fetch("mem://acme").is_dir()


def test_a_scheme_that_nobody_has_is_told_which_there_are(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "expected to be file, package, http, https, hf, s3, gs, az, or that of an installed transport" in str(refused())
    assert TransportPlugins().maybe_make("mem") is None
    installed(install)
    monkeypatch.setenv("REGISTRY_PLUGINS_DISABLED", "mem")
    assert "but is 'mem'" in str(refused())


def test_a_plugin_error_is_the_cause(install: Install) -> None:
    installed(install, "1 / 0")
    cause = refused().__cause__
    assert isinstance(cause, PluginError) and (cause.family, cause.distribution) == ("mem", "acme-memory")
    assert isinstance(cause.__cause__, ZeroDivisionError)


def test_what_a_source_of_it_holds_can_be_added_to_a_catalog(install: Install) -> None:
    installed(install)
    found = registry.default_registry().survey("mem://acme")
    assert found.family.name == "bert"
    assert {name: pin.size for name, pin in found.files.items()}["model.safetensors"] == 10
