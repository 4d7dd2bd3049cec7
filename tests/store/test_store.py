"""From a place and file names to verified local files."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import registry
import registry.store.lookup
from registry.base.settings import is_offline
from registry.catalog.entry import FilePin
from registry.errors import CacheError, ConfigError, DownloadError, IntegrityError, OfflineError
from registry.store.cache import Cache, Ref, file_sha256
from registry.store.store import Store
from registry.store.target import Place
from tests.servers import Handler, Request, file_server, serving
from tests.store.helpers import BODY, OTHER, evict, fetch, get, listing, pinned, sha256, visible

NAME = "model.safetensors"
DIGEST = sha256(BODY)


# -- a warm cache ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pins", [{}, pinned(NAME, BODY), pinned(NAME, BODY, len(BODY))], ids=["unpinned", "hash", "hash and size"]
)
def test_a_hit_opens_no_socket_takes_no_lock_and_writes_nothing(
    pins: dict[str, FilePin], cache: Path, unplug: Callable[[], None], unlock: Callable[[], None]
) -> None:
    with file_server({f"/{NAME}": BODY}) as server:
        first = fetch(cache, server.url, NAME, pins)
        assert get(cache, server.url, "absent.json") is None
    before = listing(cache)
    unplug()
    unlock()
    for offline in (False, True):
        assert fetch(cache, server.url, NAME, pins, offline=offline) == first
        assert get(cache, server.url, "absent.json", offline=offline) is None
    assert listing(cache) == before


def test_a_thread_that_looks_at_what_is_here_does_not_take_the_network_from_another(cache: Path) -> None:
    looking, fetched = threading.Event(), threading.Event()

    def look(store: Store) -> None:
        with store.local_only():
            looking.set()
            fetched.wait(30)

    with file_server({f"/{NAME}": BODY}) as server, Store(Cache((cache,)), offline=False) as store:
        thread = threading.Thread(target=look, args=(store,))
        thread.start()
        try:
            assert looking.wait(30)
            assert store.get(Place((server.url,)), NAME) is not None
        finally:
            fetched.set()
            thread.join()
        with store.local_only(), pytest.raises(OfflineError):
            store.get(Place((server.url,)), "other.json")


def test_a_warm_model_opens_no_socket_takes_no_lock_and_writes_nothing(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unplug: Callable[[], None], unlock: Callable[[], None]
) -> None:
    files = {"/bert/config.json": b'{"model_type": "bert"}', f"/bert/{NAME}": bytes(2 << 20), "/bert/vocab.txt": b"[UNK]\n"}
    with file_server(files) as server:
        catalog = tmp_path / "models.yaml"
        catalog.write_text(f"registry: 1\nmodels:\n  acme: {{family: bert, source: {server.url}/bert}}\n")
        monkeypatch.setenv("REGISTRY_MODELS", str(catalog))
        folder = registry.fetch("acme")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {path[6:]: body for path, body in files.items()}
    before = listing(cache)
    unplug()
    unlock()
    assert registry.fetch("acme") == registry.fetch("acme", offline=True) == folder
    assert listing(cache) == before


def test_one_hash_is_one_file_wherever_it_comes_from(cache: Path) -> None:
    with file_server({"/a/x.bin": BODY, "/b/y.bin": BODY}) as server:
        a = fetch(cache, f"{server.url}/a", "x.bin")
        b = fetch(cache, f"{server.url}/b", "y.bin", pinned("y.bin", BODY))
    assert a.path == b.path
    assert server.sent("/b/y.bin") == 0


def test_a_damaged_blob_is_fetched_again(cache: Path) -> None:
    with file_server({f"/{NAME}": BODY}) as server:
        first = fetch(cache, server.url, NAME)
        first.path.chmod(0o644)
        first.path.write_bytes(OTHER)
        os.utime(first.path, (1, 1))
        assert fetch(cache, server.url, NAME).path.read_bytes() == BODY


def test_a_blob_without_a_stamp_is_hashed_before_it_is_used(cache: Path) -> None:
    with file_server({f"/{NAME}": BODY}) as server:
        first = fetch(cache, server.url, NAME)
        before = first.path.stat()
        first.path.chmod(0o644)
        first.path.write_bytes(OTHER)
        os.utime(first.path, ns=(before.st_atime_ns, before.st_mtime_ns))
        first.path.with_name(f"{DIGEST}.json").unlink()
        assert fetch(cache, server.url, NAME).path.read_bytes() == BODY


def test_a_shared_tier_serves_what_it_has(cache: Path, tmp_path: Path, unplug: Callable[[], None]) -> None:
    shared = tmp_path / "shared"
    with file_server({f"/{NAME}": BODY}) as server:
        fetch(shared, server.url, NAME)
    before = listing(shared)
    unplug()
    with Store(Cache((cache, shared)), offline=True) as store:
        file = store.get(Place((server.url,)), NAME)
    assert file is not None and file.path.is_relative_to(shared)
    assert listing(shared) == before
    assert not cache.exists()


# -- offline -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pins", [{}, pinned(NAME, BODY)], ids=["unpinned", "pinned"])
@pytest.mark.parametrize("source", ["https://models.acme.internal/bert", "hf://acme/bert", "hf://acme/bert@v1"])
def test_offline_and_cold_is_an_offline_error_without_a_socket(
    source: str, pins: dict[str, FilePin], cache: Path, unplug: Callable[[], None], unlock: Callable[[], None]
) -> None:
    unplug()
    unlock()
    with pytest.raises(OfflineError, match=rf"{NAME}.*REGISTRY_OFFLINE"):
        get(cache, source, NAME, pins, offline=True)
    assert not cache.exists()


@pytest.mark.parametrize("variable", ["REGISTRY_OFFLINE", "HF_HUB_OFFLINE"])
@pytest.mark.parametrize(
    ("value", "off"), [("1", True), ("true", True), ("YES", True), ("on", True), ("0", False), ("", False), ("false", False)]
)
def test_the_environment_switches_the_network_off(
    variable: str, value: str, off: bool, monkeypatch: pytest.MonkeyPatch, unplug: Callable[[], None]
) -> None:
    assert not is_offline()
    monkeypatch.setenv(variable, value)
    assert is_offline() is off
    assert not is_offline(False)
    assert is_offline(True)
    if off:
        unplug()
        with pytest.raises(OfflineError):
            registry.fetch("hf://acme/bert")


@pytest.mark.parametrize("variable", ["REGISTRY_OFFLINE", "HF_HUB_OFFLINE"])
def test_what_is_here_is_used_where_the_environment_switches_the_network_off(
    variable: str, monkeypatch: pytest.MonkeyPatch, unplug: Callable[[], None]
) -> None:
    files = {"/config.json": b'{"model_type": "bert"}', "/vocab.txt": b"[UNK]\n", f"/{NAME}": BODY}
    with file_server(files) as server:
        folder = registry.fetch(server.url)
    monkeypatch.setenv(variable, "1")
    unplug()
    assert registry.fetch(server.url) == folder
    assert {f"/{path.name}": path.read_bytes() for path in folder.iterdir()} == files
    with pytest.raises(OfflineError):
        registry.fetch(f"{server.url}/other")


# -- pins and trust ----------------------------------------------------------------------------------------------------


def test_what_was_trusted_on_first_use_is_held_to(cache: Path) -> None:
    files = {f"/{NAME}": BODY}
    with file_server(files) as server:
        fetch(cache, server.url, NAME)
        files[f"/{NAME}"] = OTHER
        evict(cache)
        with pytest.raises(IntegrityError) as caught:
            get(cache, server.url, NAME)
        assert (caught.value.expected, caught.value.actual) == (DIGEST, sha256(OTHER))
        assert [name for name in visible(cache) if not name.startswith("refs/")] == []
        files[f"/{NAME}"] = BODY
        assert fetch(cache, server.url, NAME).trust == "first-use"


def test_a_refresh_accepts_what_is_there_today(cache: Path, unplug: Callable[[], None]) -> None:
    files = {f"/{NAME}": BODY}
    with file_server(files) as server:
        fetch(cache, server.url, NAME)
        files[f"/{NAME}"] = OTHER
        assert fetch(cache, server.url, NAME).path.read_bytes() == BODY
        assert fetch(cache, server.url, NAME, refresh=True).path.read_bytes() == OTHER
        evict(cache)
        assert fetch(cache, server.url, NAME).path.read_bytes() == OTHER
    unplug()
    assert fetch(cache, server.url, NAME).sha256 == sha256(OTHER)


def test_a_refresh_never_overrules_a_pin(cache: Path) -> None:
    files = {f"/{NAME}": BODY}
    with file_server(files) as server:
        fetch(cache, server.url, NAME, pinned(NAME, BODY))
        files[f"/{NAME}"] = OTHER
        assert fetch(cache, server.url, NAME, pinned(NAME, BODY), refresh=True).path.read_bytes() == BODY
        evict(cache)
        with pytest.raises(IntegrityError):
            get(cache, server.url, NAME, pinned(NAME, BODY), refresh=True)


def test_a_new_pin_overrules_what_was_trusted(cache: Path) -> None:
    files = {f"/{NAME}": BODY}
    with file_server(files) as server:
        fetch(cache, server.url, NAME)
        with pytest.raises(IntegrityError):
            get(cache, server.url, NAME, pinned(NAME, OTHER))
        files[f"/{NAME}"] = OTHER
        assert fetch(cache, server.url, NAME, pinned(NAME, OTHER)).path.read_bytes() == OTHER


def test_a_new_size_overrules_what_was_trusted(cache: Path) -> None:
    with file_server({f"/{NAME}": BODY}) as server:
        fetch(cache, server.url, NAME)
        with pytest.raises(IntegrityError, match="size"):
            get(cache, server.url, NAME, {NAME: FilePin(size=1)})


@pytest.mark.parametrize("fetched_before", [False, True])
def test_pins_can_be_required(fetched_before: bool, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with file_server({f"/{NAME}": BODY}) as server:
        if fetched_before:
            fetch(cache, server.url, NAME)
        count = len(server.requests)
        monkeypatch.setenv("REGISTRY_REQUIRE_PINS", "1")
        with pytest.raises(IntegrityError, match=r"REGISTRY_REQUIRE_PINS is set.*add it to models\.yaml"):
            get(cache, server.url, NAME)
        assert server.sent(f"/{NAME}") == len(BODY) * fetched_before
        assert len(server.requests) == count
        assert fetch(cache, server.url, NAME, pinned(NAME, BODY)).trust == "catalog"


def test_a_pin_in_upper_case_is_not_what_the_catalog_yields(cache: Path) -> None:
    with file_server({f"/{NAME}": BODY}) as server, pytest.raises(IntegrityError):
        get(cache, server.url, NAME, {NAME: FilePin(sha256=DIGEST.upper())})


# -- mirrors -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def dead(closed_port: int) -> str:
    """The address of a server that has gone."""
    return f"http://127.0.0.1:{closed_port}"


def test_mirrors_are_asked_in_order(cache: Path) -> None:
    with file_server({}) as first, file_server({f"/{NAME}": BODY}) as second, file_server({f"/{NAME}": OTHER}) as third:
        file = fetch(cache, (first.url, second.url, third.url), NAME)
    assert file.path.read_bytes() == BODY
    assert [len(server.requests) for server in (first, second, third)] == [1, 1, 0]


def test_a_mirror_with_wrong_bytes_is_passed_over(cache: Path, dead: str) -> None:
    with file_server({f"/{NAME}": OTHER}) as wrong, file_server({f"/{NAME}": BODY}) as right:
        file = fetch(cache, (dead, wrong.url, right.url), NAME, pinned(NAME, BODY))
    assert file.path.read_bytes() == BODY


def test_when_no_mirror_can_serve_the_first_failure_is_told(cache: Path, dead: str) -> None:
    with file_server({}) as empty, file_server({f"/{NAME}": OTHER}) as wrong:
        with pytest.raises(DownloadError, match=dead):
            get(cache, (empty.url, dead, wrong.url), NAME, pinned(NAME, BODY))
        assert get(cache / "other", (empty.url, empty.url), NAME) is None


def test_a_hit_on_a_mirror_does_not_ask_the_source_that_was_down(cache: Path, dead: str, unplug: Callable[[], None]) -> None:
    with file_server({f"/{NAME}": BODY}) as mirror:
        fetch(cache, (dead, mirror.url), NAME)
    unplug()
    assert fetch(cache, (dead, mirror.url), NAME).path.read_bytes() == BODY
    assert fetch(cache, (dead, mirror.url), NAME, offline=True).path.read_bytes() == BODY


@pytest.mark.parametrize(
    "source", ["s3://acme-models/support-bert/", "hf://not a repository", "package://no_such_package_here/model"]
)
def test_a_source_that_cannot_be_used_leaves_the_mirrors(source: str, cache: Path) -> None:
    with file_server({f"/{NAME}": BODY}) as mirror:
        assert fetch(cache, (source, mirror.url), NAME).path.read_bytes() == BODY


def test_a_folder_that_is_gone_leaves_the_mirrors(cache: Path, tmp_path: Path) -> None:
    with file_server({f"/{NAME}": BODY}) as mirror:
        assert fetch(cache, (str(tmp_path / "gone"), mirror.url), NAME).path.read_bytes() == BODY


@pytest.mark.parametrize("scheme", ["ftp", "git+ssh"])
def test_an_unknown_scheme_is_named(scheme: str, cache: Path) -> None:
    with pytest.raises(DownloadError, match=rf"gs, az, or that of an installed transport, but is '{scheme.replace('+', '.')}'"):
        get(cache, f"{scheme}://acme/bert", NAME)


# -- files on this machine ---------------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "my model"
    folder.mkdir()
    (folder / NAME).write_bytes(BODY)
    return folder


def test_a_local_file_is_used_in_place(model: Path, cache: Path, unplug: Callable[[], None]) -> None:
    unplug()
    file = fetch(cache, str(model), NAME, offline=True)
    assert (file.path, file.sha256, file.trust) == (model / NAME, "", "")
    assert get(cache, str(model), "vocab.txt") is None
    assert not cache.exists()


@pytest.mark.parametrize("form", ["file://{}", "file://{}/", "file://localhost{}"])
def test_a_file_url_is_a_folder(form: str, model: Path, cache: Path) -> None:
    assert fetch(cache, form.format(str(model).replace(" ", "%20")), NAME).path == model / NAME


def test_a_file_url_may_name_one_file(model: Path, cache: Path) -> None:
    pins = {"config.json": FilePin(sha256=DIGEST, url=(model / NAME).as_uri())}
    assert fetch(cache, "https://unused.example", "config.json", pins).path == model / NAME


def test_the_folder_of_local_files_is_their_own(model: Path, cache: Path) -> None:
    (model / "onnx").mkdir()
    (model / "onnx/model.onnx").write_bytes(b"graph")
    with Store(Cache((cache,)), offline=True) as store:
        files = [store.get(Place((str(model),)), name) for name in (NAME, "onnx/model.onnx")]
        assert store.folder("model", [file for file in files if file]) == model
    assert not cache.exists()


def test_a_local_file_under_another_name_is_gathered_in_the_cache(model: Path, cache: Path) -> None:
    pins = {"config.json": FilePin(url=str(model / NAME))}
    with Store(Cache((cache,)), offline=True) as store:
        files = [store.get(Place((str(model),), pins), name) for name in (NAME, "config.json")]
        folder = store.folder("model", [file for file in files if file])
    assert folder.is_relative_to(cache)
    assert (folder / NAME).read_bytes() == (folder / "config.json").read_bytes() == BODY


@pytest.mark.parametrize("pin", [FilePin(sha256="0" * 64), FilePin(sha256=DIGEST, size=1), FilePin(size=1)])
def test_a_local_file_that_differs_from_its_pin_is_an_error(pin: FilePin, model: Path, cache: Path) -> None:
    with pytest.raises(IntegrityError, match=NAME):
        get(cache, str(model), NAME, {NAME: pin})
    assert (model / NAME).read_bytes() == BODY


def test_a_pinned_local_file_is_hashed_once_until_it_changes(model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []

    def counted(path: Path) -> str:
        hashed.append(path)
        return file_sha256(path)

    monkeypatch.setattr(registry.store.lookup, "file_sha256", counted)
    pins = pinned(NAME, BODY)
    assert fetch(cache, str(model), NAME, pins).trust == "catalog"
    assert fetch(cache, str(model), NAME, pins).path == model / NAME
    assert len(hashed) == 1
    os.utime(model / NAME, (1, 1))
    fetch(cache, str(model), NAME, pins)
    fetch(cache, str(model), NAME, pins)
    assert len(hashed) == 2
    (model / NAME).write_bytes(OTHER)
    for _ in range(2):
        with pytest.raises(IntegrityError):
            get(cache, str(model), NAME, pins)
    assert len(hashed) == 3


def test_a_pinned_local_file_needs_no_writable_cache(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert fetch(tmp_path / "file", str(model), NAME, pinned(NAME, BODY)).path == model / NAME


@pytest.mark.parametrize("damage", [b"", b"\0" * 40, b'{"version": 1, "url": 5}'])
def test_a_broken_record_of_a_local_file_is_as_if_absent(damage: bytes, model: Path, cache: Path) -> None:
    fetch(cache, str(model), NAME, pinned(NAME, BODY))
    (record,) = (cache / "refs").rglob("*.json")
    record.write_bytes(damage)
    assert fetch(cache, str(model), NAME, pinned(NAME, BODY)).path == model / NAME


# -- installed packages ------------------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An installed package with model files, whose code must not run."""
    folder = tmp_path / "site" / "acme_models"
    (folder / "support" / "v2").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "support" / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "support" / "v2" / NAME).write_bytes(BODY)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return "acme_models"


@pytest.mark.parametrize(
    "source", ["package://acme_models/support/v2", "package://acme_models.support/v2/", "package://acme_models.support.v2"]
)
def test_a_package_is_found_without_being_imported(source: str, package: str, cache: Path) -> None:
    file = fetch(cache, source, NAME, pinned(NAME, BODY), offline=True)
    assert file.path.parts[-4:] == ("acme_models", "support", "v2", NAME)
    assert file.path.read_bytes() == BODY
    assert package not in sys.modules
    assert get(cache, source, "vocab.txt") is None


@pytest.mark.parametrize("module", ["no_such_package_here", "acme_models.billing", "sys"])
def test_a_package_that_is_not_installed_is_named_with_the_way_out(module: str, package: str, cache: Path) -> None:
    with pytest.raises(DownloadError, match=rf"package '{module}' .* is expected to be installed.*pip install"):
        get(cache, f"package://{module}/model", NAME)


# -- the disk ----------------------------------------------------------------------------------------------------------


def test_a_cache_that_cannot_be_written_is_a_cache_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with file_server({f"/{NAME}": BODY}) as server:
        for pins in ({}, pinned(NAME, BODY)):
            with pytest.raises(CacheError, match="REGISTRY_CACHE"):
                get(tmp_path / "file", server.url, NAME, pins)
        assert server.sent(f"/{NAME}") == 0


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from registry.errors import CacheError
from tests.store.helpers import get
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a write beyond the limit fails as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
    get(Path(sys.argv[1]), sys.argv[2], "model.safetensors")
except CacheError as error:
    print(error)
"""


@pytest.mark.parametrize("size", [50_000, 9 << 20], ids=["small", "large"])
def test_a_disk_that_fills_up_is_a_cache_error_and_leaves_nothing(size: int, cache: Path) -> None:
    with file_server({f"/{NAME}": bytes(size)}) as server:
        root = Path(__file__).parents[2]
        ran = subprocess.run(
            [sys.executable, "-c", FULL_DISK, str(cache), server.url, str(size // 2)],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert ran.returncode == 0, ran.stderr
    assert "expected to take the download" in ran.stdout
    assert os.strerror(errno.EFBIG) in ran.stdout
    assert visible(cache) == []


def test_an_interrupted_fetch_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Cache, "publish", interrupt)
    with file_server({f"/{NAME}": BODY}) as server, pytest.raises(KeyboardInterrupt):
        get(cache, server.url, NAME)
    assert visible(cache) == []


def test_absent_files_are_not_remembered_by_an_operation_that_failed(cache: Path) -> None:
    def answer(handler: Handler, request: Request) -> None:
        handler.reply(request, 404 if request.path == "/added_tokens.json" else 500)

    with serving(answer) as server:
        place = Place((server.url,))
        with pytest.raises(DownloadError), Store(Cache((cache,)), offline=False) as store:
            assert store.get(place, "added_tokens.json") is None
            store.get(place, NAME)
    assert visible(cache) == []


def test_what_is_cached_is_told_without_the_network(cache: Path, unplug: Callable[[], None]) -> None:
    with file_server({f"/{NAME}": BODY}) as server:
        fetch(cache, server.url, NAME)
    unplug()
    with Store(Cache((cache,)), offline=True) as store:
        place = Place((server.url,))
        assert store.is_cached(place, NAME) is not None
        assert store.is_cached(place, "config.json") is None
        assert store.is_cached(Place(("s3://acme/bert", "package://no_such_package_here", server.url)), NAME) is not None


def test_a_listed_file_is_the_only_candidate(cache: Path) -> None:
    with file_server({"/model.safetensors": BODY, "/pytorch_model.bin": OTHER}) as server:
        place = Place((server.url,), pinned("pytorch_model.bin", OTHER))
        with Store(Cache((cache,)), offline=False) as store:
            found = store.first(place, ("model.safetensors", "pytorch_model.bin"))
        assert found is not None and found.name == "pytorch_model.bin"
        assert server.sent("/model.safetensors") == 0


def test_a_broken_record_of_a_url_is_as_if_absent(cache: Path) -> None:
    with file_server({f"/{NAME}": BODY}) as server:
        url = f"{server.url}/{NAME}"
        Cache((cache,)).write_ref(Ref(url, sha256="../../etc/passwd"))
        assert fetch(cache, server.url, NAME).path.read_bytes() == BODY


@pytest.mark.parametrize("name", ["../x", "/etc/x", "C:x", "a\\..\\b", "a\0b", "CON", "x" * 300, "a/../../b", ""])
def test_a_name_that_must_not_become_a_path_is_refused_before_anybody_is_asked(
    name: str, cache: Path, unplug: Callable[[], None]
) -> None:
    unplug()
    with pytest.raises(ConfigError, match="a file name is expected to be a plain relative path"):
        get(cache, "https://models.example/bert", name)
    assert not cache.exists()


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../secret"])
def test_a_name_does_not_lead_out_of_a_folder_on_this_machine(name: str, model: Path, cache: Path) -> None:
    (model.parent / "secret").write_text("precious")
    with pytest.raises(ConfigError, match="leads out of its folder"):
        get(cache, str(model), name)


def test_files_on_this_machine_are_called_what_they_are_called(model: Path, cache: Path) -> None:
    (model / "epoch=3: best?.safetensors").write_bytes(BODY)
    assert fetch(cache, str(model), "epoch=3: best?.safetensors").path.read_bytes() == BODY


def test_mirrors_are_held_to_what_the_source_was_found_to_be(cache: Path) -> None:
    files = {f"/{NAME}": BODY}
    with file_server({f"/{NAME}": OTHER}) as evil:
        with file_server(files) as first:
            url = first.url
            fetch(cache, url, NAME)
        evict(cache)
        with pytest.raises(DownloadError, match=url):
            get(cache, (url, evil.url), NAME)
        assert visible(cache) == [name for name in visible(cache) if name.startswith("refs/")]
