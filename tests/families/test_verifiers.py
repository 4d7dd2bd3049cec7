"""A verifier can refuse any file before it is used, and whatever goes wrong with it refuses."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import shutil
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import registry
from registry.errors import IntegrityError, PluginError, RegistryWarning
from registry.store.cache import Cache, stamp_path
from tests.families.conftest import Install
from tests.families.models import save_one_of_each
from tests.servers import file_server

WEIGHTS = b"weights"
FILES = {"/config.json": b'{"model_type": "bert"}', "/vocab.txt": b"[UNK]\n", "/model.safetensors": WEIGHTS}
SIGN = """
import hashlib
from pathlib import Path
from registry import hookimpl

asked = []
refused = {}

@hookimpl
def registry_verify(model, file, path, sha256, url):
    assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == sha256
    asked.append((model, file, url))
    return refused.get(file)
"""
#: Installs the verifier, with its text and version.
Sign = Callable[..., None]


@pytest.fixture
def sign(install: Install) -> Sign:
    def sign(
        text: str = SIGN, *, value: str = "acme_sign:registry_verify", version: str = "1.0", name: str = "acme-sign"
    ) -> None:
        install(name, {"sign": value}, {f"{value.partition(':')[0]}.py": text}, group="registry.plugins", version=version)

    return sign


def asked() -> list[tuple[str, str, str]]:
    """Return what was asked since the last time."""
    module = sys.modules["acme_sign"]
    found = sorted(module.asked)
    module.asked.clear()
    return found


def start_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what this process knows, as a new one would."""
    monkeypatch.setattr(registry.model_registry, "_default", None)
    sys.modules.pop("acme_sign", None)


def published(cache: Path) -> set[bytes]:
    """Return the content of all blobs that have their name."""
    return {path.read_bytes() for path in cache.glob("blobs/sha256/*/*") if len(path.name) == 64}


def write_catalog(*entries: str) -> None:
    Path("models.yaml").write_text("registry: 1\nmodels:\n" + "".join(f"  {entry}\n" for entry in entries))


def test_each_file_is_asked_about_once_before_it_is_used(sign: Sign, monkeypatch: pytest.MonkeyPatch) -> None:
    sign()
    with file_server(FILES) as server:
        want = [(server.url, name, f"{server.url}/{name}") for name in ("config.json", "model.safetensors", "vocab.txt")]
        registry.fetch(server.url)
        assert asked() == want
        registry.fetch(server.url)
        registry.load_config(server.url)
        assert asked() == []
        start_anew(monkeypatch)
        registry.load_config(server.url)
        assert "acme_sign" not in sys.modules


def test_another_version_of_it_is_asked_anew_about_what_is_here(
    sign: Sign, install: Install, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign()
    with file_server(FILES) as server:
        registry.fetch(server.url)
        (site / "acme_sign-1.0.dist-info").rename(site / "acme_sign-1.1.dist-info")
        start_anew(monkeypatch)
        before = len(server.requests)
        registry.fetch(server.url)
        assert len(asked()) == 3
        assert len(server.requests) == before


def test_a_verifier_that_is_new_is_asked_about_what_is_here_already(sign: Sign, monkeypatch: pytest.MonkeyPatch) -> None:
    with file_server(FILES) as server:
        registry.fetch(server.url)
        sign(SIGN.replace("refused = {}", "refused = {'vocab.txt': 'it is not signed'}"))
        start_anew(monkeypatch)
        with pytest.raises(IntegrityError, match=r"verifier 'acme_sign:registry_verify' of acme-sign 1\.0, .*it is not signed"):
            registry.fetch(server.url)
        registry.load_config(server.url)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("return 'the key is revoked'", "the key is revoked"),
        ("return False", "it answered False, and only None accepts"),
        ("return True", "it answered True, and only None accepts"),
        ("return ''", "it answered '', and only None accepts"),
        ("raise ValueError('no signature')", "it raised ValueError: no signature"),
        ("raise SystemExit(3)", "it raised SystemExit: 3"),
        ("raise BaseException('x')", "it raised BaseException: x"),
        ("return url.no_such_attribute", "it raised AttributeError"),
    ],
)
def test_whatever_is_no_acceptance_refuses(answer: str, said: str, sign: Sign, cache: Path) -> None:
    sign(f"from registry import hookimpl\n@hookimpl\ndef registry_verify(model, file, path, sha256, url): {answer}\n")
    with file_server(FILES) as server:
        with pytest.raises(IntegrityError) as caught:
            registry.fetch(server.url)
        assert f"verifier 'acme_sign:registry_verify' of acme-sign 1.0, but is refused: {said}" in str(caught.value)
        assert caught.value.url == f"{server.url}/config.json"
        assert pickle.loads(pickle.dumps(caught.value)).actual == caught.value.actual
    assert published(cache) == set()


UNUSABLE = {
    "does not import": ("1 / 0", "expected to import, but raised ZeroDivisionError"),
    "ends the program": ("raise SystemExit", "expected to import, but raised SystemExit"),
    "needs what is not there": ("import acme_keys", "No module named 'acme_keys'"),
    "has no hook": ("", "expected to implement the hook registry_verify, as its entry point says"),
    "has no hook but a function": ("def registry_verify(path): ...", "expected to implement the hook registry_verify"),
    "has a hook of another form": (SIGN.replace("model, file,", "modell, file,"), "PluginValidationError"),
    "is of a newer contract": (f"REGISTRY_API = 99\n{SIGN}", "version 1 of the plugin contract, but states 99"),
}


@pytest.mark.parametrize(("text", "said"), UNUSABLE.values(), ids=list(UNUSABLE))
def test_a_verifier_that_cannot_be_asked_refuses_every_file(
    text: str, said: str, sign: Sign, cache: Path, tmp_path: Path
) -> None:
    sign(text)
    with file_server(FILES) as server, pytest.raises(IntegrityError) as caught:
        registry.fetch(server.url)
    assert "acme-sign 1.0" in str(caught.value) and said in str(caught.value)
    assert published(cache) == set()
    (tmp_path / "here").mkdir()
    (tmp_path / "here/config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(IntegrityError):
        registry.load_config(tmp_path / "here")
    assert registry.resolve("gpt2").family == "gpt2"


def test_switching_a_broken_verifier_off_is_the_way_out(sign: Sign, monkeypatch: pytest.MonkeyPatch) -> None:
    sign("1 / 0")
    monkeypatch.setenv("REGISTRY_PLUGINS_DISABLED", "acme-sign")
    with file_server(FILES) as server:
        assert registry.fetch(server.url).is_dir()


def test_a_verifier_that_its_entry_point_does_not_name_is_not_passed_over(install: Install, tmp_path: Path) -> None:
    install("acme-sign", {"sign": "acme_sign"}, {"acme_sign.py": SIGN}, group="registry.plugins")
    folder = save_one_of_each(tmp_path)["GPT2LMHeadModel"]
    for _ in range(2):
        with pytest.raises(PluginError, match="expected to be named 'acme_sign:registry_verify' by its entry point"):
            registry.load(folder)


def test_one_module_may_listen_and_verify(install: Install) -> None:
    text = SIGN + "\nfetched = []\n@hookimpl\ndef registry_fetched(model, files): fetched.append(model)\n"
    points = {"audit": "acme_sign", "sign": "acme_sign:registry_verify"}
    install("acme-sign", points, {"acme_sign.py": text}, group="registry.plugins")
    with file_server(FILES) as server:
        registry.fetch(server.url)
        assert sys.modules["acme_sign"].fetched == [server.url]
    assert len(asked()) == 3


def test_a_refused_download_is_kept_aside_and_used_once_it_is_accepted(
    sign: Sign, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign(SIGN.replace("refused = {}", "refused = {'model.safetensors': 'the key server is down'}"))
    pin = f"files: {{model.safetensors: {{sha256: {hashlib.sha256(WEIGHTS).hexdigest()}}}}}"
    with file_server(FILES) as server:
        write_catalog(f"acme: {{family: bert, source: '{server.url}', {pin}}}")
        with pytest.raises(IntegrityError, match="the key server is down"):
            registry.default_registry().fetch_file("acme", "model.safetensors")
        assert WEIGHTS not in published(cache)
        sys.modules["acme_sign"].refused.clear()
        brought = [request.method for request in server.requests].count("GET")
        path = registry.default_registry().fetch_file("acme", "model.safetensors")
        assert path.read_bytes() == WEIGHTS
        assert [request.method for request in server.requests].count("GET") == brought


def test_no_mirror_is_asked_for_what_was_refused(sign: Sign) -> None:
    sign(SIGN.replace("refused = {}", "refused = {'vocab.txt': 'no'}"))
    with file_server(FILES) as server, file_server(FILES) as mirror:
        write_catalog(f"acme: {{family: bert, source: '{server.url}', mirrors: ['{mirror.url}']}}")
        with pytest.raises(IntegrityError):
            registry.default_registry().fetch_file("acme", "vocab.txt")
        assert asked() == [("acme", "vocab.txt", f"{server.url}/vocab.txt")]


def test_a_file_that_is_used_where_it_lies_is_asked_about_at_each_use(sign: Sign, tmp_path: Path) -> None:
    folder = save_one_of_each(tmp_path)["GPT2LMHeadModel"]
    sign()
    for _ in range(2):
        registry.load(folder)
        names = [(model, file, url) for model, file, url in asked() if file in ("config.json", "model.safetensors")]
        assert names == [(str(folder), name, (folder / name).as_uri()) for name in ("config.json", "model.safetensors")]
    sys.modules["acme_sign"].refused["model.safetensors"] = "no"
    with pytest.raises(IntegrityError, match=r"file 'model.safetensors' of '.*GPT2LMHeadModel' .* is refused: no"):
        registry.load(folder)


def test_the_same_bytes_as_another_models_file_are_asked_about_anew(sign: Sign) -> None:
    sign()
    with file_server(FILES) as server:
        write_catalog(*(f"{name}: {{family: bert, source: '{server.url}'}}" for name in ("one", "two")))
        for name in ("one", "two", "one", "two"):
            registry.default_registry().fetch_file(name, "vocab.txt")
    assert [(model, file) for model, file, _ in asked()] == [("one", "vocab.txt"), ("two", "vocab.txt")]


def test_an_archive_and_what_it_holds_are_asked_about_also_when_it_is_unpacked_already(
    sign: Sign, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in FILES.items():
            archive.writestr(name.removeprefix("/"), content)
    with file_server({"/acme.zip": buffer.getvalue()}) as server:
        registry.load_config(f"{server.url}/acme.zip")
        sign()
        start_anew(monkeypatch)
        registry.load_config(f"{server.url}/acme.zip")
        assert [file for _, file, _ in asked()] == ["config.json"]
        sys.modules["acme_sign"].refused["config.json"] = "no"
        with pytest.raises(IntegrityError, match="is refused: no"):
            registry.load_config(f"{server.url}/acme.zip")
        shutil.rmtree(cache)
        sys.modules["acme_sign"].refused["acme.zip"] = "not this one"
        with pytest.raises(IntegrityError, match="is refused: not this one"):
            registry.load_config(f"{server.url}/acme.zip")
        assert not (cache / "unpacked").exists()


def test_a_blob_that_was_changed_is_asked_about_anew_or_not_used(
    sign: Sign, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign()
    with file_server(FILES) as server:
        registry.fetch(server.url)
        asked()
        blob = Cache((cache,)).blob(hashlib.sha256(b"[UNK]\n").hexdigest())
        blob.chmod(0o644)
        blob.write_bytes(b"[EVIL]")
        start_anew(monkeypatch)
        assert registry.default_registry().fetch_file(server.url, "vocab.txt").read_bytes() == b"[UNK]\n"
        assert [file for _, file, _ in asked()] == ["vocab.txt"]


def test_what_cannot_be_noted_is_asked_about_at_each_use(
    sign: Sign, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with file_server(FILES) as server:
        registry.fetch(server.url)
        monkeypatch.setenv("REGISTRY_CACHE", os.pathsep.join([str(tmp_path / "mine"), str(cache)]))  # now a read-only tier
        sign()
        start_anew(monkeypatch)
        for _ in range(2):
            registry.default_registry().fetch_file(server.url, "vocab.txt")
            assert len(asked()) == 1
        blob = Cache((cache,)).blob(hashlib.sha256(b"[UNK]\n").hexdigest())
        assert b"accepted" not in stamp_path(blob).read_bytes()


def test_what_another_librarys_cache_holds_is_asked_about_before_it_is_taken_over(
    sign: Sign, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "https://models.acme.invalid/vocab.txt"
    old = tmp_path / "old"
    old.mkdir()
    name = hashlib.sha256(url.encode()).hexdigest()
    (old / name).write_bytes(b"[UNK]\n")
    (old / f"{name}.json").write_text(f'{{"url": "{url}", "etag": null}}')
    monkeypatch.setenv("PYTORCH_TRANSFORMERS_CACHE", str(old))
    pin = hashlib.sha256(b"[UNK]\n").hexdigest()
    write_catalog(f"acme: {{family: bert, source: '{url[:-10]}', files: {{vocab.txt: {{sha256: {pin}}}}}}}")
    sign(SIGN.replace("refused = {}", "refused = {'vocab.txt': 'no'}"))
    with pytest.raises(IntegrityError, match="is refused: no"):
        registry.default_registry().fetch_file("acme", "vocab.txt", offline=True)
    assert published(cache) == set()
    sys.modules["acme_sign"].refused.clear()
    assert registry.default_registry().fetch_file("acme", "vocab.txt", offline=True).read_bytes() == b"[UNK]\n"


def test_two_verifiers_must_both_accept_and_only_a_new_one_is_asked_later(sign: Sign, monkeypatch: pytest.MonkeyPatch) -> None:
    sign()
    with file_server(FILES) as server:
        registry.fetch(server.url)
        assert len(asked()) == 3
        text = "from registry import hookimpl\n@hookimpl\ndef registry_verify(file): return 'never'\n"
        sign(text, value="zeta_sign:registry_verify", name="zeta-sign", version="7")
        start_anew(monkeypatch)
        with pytest.raises(IntegrityError, match="zeta-sign 7, but is refused: never"):
            registry.fetch(server.url)
        assert "acme_sign" not in sys.modules or asked() == []


def test_without_a_verifier_no_file_is_asked_about(install: Install, cache: Path) -> None:
    install("acme-audit", {"audit": "acme_audit"}, {"acme_audit.py": "raise AssertionError"}, group="registry.plugins")
    with file_server(FILES) as server:
        registry.load_config(server.url)
    assert "acme_audit" not in sys.modules
    assert not any(b"accepted" in path.read_bytes() for path in cache.glob("blobs/sha256/*/*.json"))


def test_many_threads_that_use_one_file_are_all_refused(sign: Sign) -> None:
    sign(SIGN.replace("refused = {}", "refused = {'vocab.txt': 'no'}"))
    failures: list[BaseException] = []

    def use(url: str) -> None:
        try:
            registry.default_registry().fetch_file(url, "vocab.txt")
        except IntegrityError as error:
            failures.append(error)

    with file_server(FILES) as server:
        threads = [threading.Thread(target=use, args=(server.url,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(failures) == 6


def test_a_listener_that_ends_the_program_breaks_no_load(install: Install) -> None:
    text = "import sys\nfrom registry import hookimpl\n@hookimpl\ndef registry_fetched(model): sys.exit(3)\n"
    install("acme-audit", {"audit": "acme_audit"}, {"acme_audit.py": text}, group="registry.plugins")
    with file_server(FILES) as server, pytest.warns(RegistryWarning, match="ran registry_fetched into SystemExit: 3"):
        assert registry.fetch(server.url).is_dir()
