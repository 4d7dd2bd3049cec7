"""Models in archives, from end to end: by path, by URL, by entry; once over the network, then without."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import socket
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

import registry
import registry.checkpoint.archives.unpacked
from registry import BertForSequenceClassification, BertTokenizer, CheckpointError, IntegrityError, ModelRegistry, OfflineError
from registry_bert import BertForMaskedLM
from tests.processes import run_python
from tests.registry_bert.tiny import SIZES, build, inputs
from tests.servers import HubFiles, file_server, hub_server

CLASS = "BertForSequenceClassification"
FORMS = {"tar.gz": "gztar", "tgz": "gztar", "tar": "tar", "zip": "zip"}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world"]


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """Return a folder as `save_pretrained` makes it, with a vocabulary."""
    folder = tmp_path / "saved" / "tiny-bert"
    build(CLASS).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return folder


def pack(folder: Path, form: str, *, below: bool = False) -> Path:
    """Pack a folder's files, at the archive's root or one folder down."""
    root, base = (folder.parent, folder.name) if below else (folder, None)
    made = Path(shutil.make_archive(str(folder.parent.parent / f"made-{below}"), FORMS[form], root, base))
    return made.rename(folder.parent.parent / f"model-{below}.{form}")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assert_is_the_model(name: str | Path, **options: Any) -> None:
    """Assert that configuration, weights and vocabulary are those of the folder, however they are asked for."""
    model = registry.load(name, **options)
    assert type(model).__name__ == CLASS and model.load_report.clean
    with torch.no_grad():
        assert torch.equal(model(**inputs(CLASS)).logits, build(CLASS)(**inputs(CLASS)).logits)
    assert registry.load_config(name, **options).num_labels == 3
    assert registry.load_tokenizer(name, **options).encode("hello world") == [2, 5, 6, 3]
    assert (registry.fetch(name, **options) / "vocab.txt").read_text().split() == WORDS
    assert BertForSequenceClassification.from_pretrained(name, **options).config.num_labels == 3
    assert BertTokenizer.from_pretrained(name, **options).encode("hello") == [2, 5, 3]


@pytest.fixture
def unplug(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function after which any socket fails the test."""

    def touched(*_: object, **__: object) -> NoReturn:
        pytest.fail("a socket was opened")

    def take_away() -> None:
        for name in ("socket", "create_connection", "getaddrinfo"):
            monkeypatch.setattr(socket, name, touched)

    return take_away


@pytest.fixture
def unpacks(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Count the times that an archive is unpacked."""
    real, seen = registry.checkpoint.archives.unpacked.extract_archive, []

    def counted(path: Path, folder: Path, **options: Any) -> None:
        seen.append(folder)
        real(path, folder, **options)

    monkeypatch.setattr(registry.checkpoint.archives.unpacked, "extract_archive", counted)
    return seen


@pytest.mark.parametrize("below", [False, True], ids=["at the root", "one folder down"])
@pytest.mark.parametrize("form", FORMS)
def test_an_archive_is_loaded_by_its_path(model_folder: Path, cache: Path, unpacks: list[Path], form: str, below: bool) -> None:
    archive = pack(model_folder, form, below=below)
    assert_is_the_model(archive)
    assert unpacks == [cache / "unpacked" / sha256(archive)]
    folder = unpacks[0] / "tiny-bert" if below else unpacks[0]
    assert registry.fetch(str(archive)) == folder
    assert {path.name for path in (cache / "unpacked").iterdir()} == {sha256(archive), f"{sha256(archive)}.json"}
    assert archive.exists()


@pytest.mark.parametrize("below", [False, True], ids=["at the root", "one folder down"])
@pytest.mark.parametrize("form", FORMS)
def test_an_archive_is_loaded_by_its_url_and_then_without_a_network(
    model_folder: Path, unplug: Callable[[], None], unpacks: list[Path], form: str, below: bool
) -> None:
    archive = pack(model_folder, form, below=below)
    with file_server({f"/models/bert.{form}": archive.read_bytes()}) as server:
        url = f"{server.url}/models/bert.{form}"
        assert_is_the_model(url)
        assert [request.path for request in server.requests if request.method == "GET"] == [f"/models/bert.{form}"]
    unplug()
    assert_is_the_model(url)
    assert_is_the_model(url, offline=True)
    assert len(unpacks) == 1


@pytest.mark.parametrize("below", [False, True], ids=["at the root", "one folder down"])
@pytest.mark.parametrize("form", FORMS)
def test_an_archive_is_loaded_by_the_name_of_an_entry_that_pins_it(
    model_folder: Path, unplug: Callable[[], None], form: str, below: bool
) -> None:
    archive = pack(model_folder, form, below=below)
    with file_server({f"/models/bert.{form}": archive.read_bytes()}) as server:
        catalog(f"{server.url}/models/bert.{form}", archive, f"bert.{form}")
        assert_is_the_model("packed")
    unplug()
    assert_is_the_model("packed")


def catalog(source: str, archive: Path, name: str, *, pin: str | None = None, more: str = "") -> None:
    """Write the entry `packed` into the project's catalog."""
    Path("models.yaml").write_text(
        "registry: 1\nmodels:\n  packed:\n    family: bert\n    head: sequence-classification\n"
        f"    source: '{source}'\n    files: {{{name}: {{sha256: {pin or sha256(archive)}}}}}\n{more}"
    )


def test_a_wrong_pin_is_refused_before_anything_is_unpacked(model_folder: Path, cache: Path, unpacks: list[Path]) -> None:
    archive = pack(model_folder, "tar.gz")
    with file_server({"/bert.tar.gz": archive.read_bytes()}) as server:
        for source in (f"{server.url}/bert.tar.gz", str(archive), f"file://{archive}"):
            catalog(source, archive, source.rpartition("/")[2], pin="f" * 64)
            for use in (registry.load, registry.load_config, registry.load_tokenizer, registry.fetch):
                with pytest.raises(IntegrityError) as caught:
                    use("packed")
                assert (caught.value.expected, caught.value.actual) == ("f" * 64, sha256(archive))
    assert not unpacks and not (cache / "unpacked").exists()


def test_an_entry_may_name_an_archive_beside_its_catalog(model_folder: Path) -> None:
    archive = pack(model_folder, "zip", below=True)
    shutil.copy(archive, "bert.zip")
    catalog("./bert.zip", archive, "bert.zip")
    assert_is_the_model("packed")
    catalog(f"file://{Path('bert.zip').absolute()}", archive, "bert.zip")
    assert_is_the_model("packed")


def test_a_mirror_of_an_archive_serves_it(model_folder: Path) -> None:
    archive = pack(model_folder, "tgz")
    with file_server({"/second/bert.tgz": archive.read_bytes()}) as server:
        for mirror in ("second/bert.tgz", "second/"):
            mirrors = f"    mirrors: ['{server.url}/{mirror}']\n"
            catalog(f"{server.url}/first/bert.tgz", archive, "bert.tgz", more=mirrors)
            assert registry.load("packed").load_report.clean
        catalog(f"{server.url}/first/bert.tgz", archive, "bert.tgz", more=f"    mirrors: ['{server.url}/other.tgz']\n")
        with pytest.raises(registry.CatalogError, match=r"models.yaml:8:.*expected to be named 'bert.tgz'"):
            registry.load("packed")
        catalog(f"{server.url}/first/bert.tgz?key=secret", archive, "bert.tgz", pin="e" * 64)
        with pytest.raises(registry.DownloadError, match=r"expected to be bert.tgz at .*/first, but there is none"):
            registry.load("packed")


def test_an_archive_in_a_repository_of_the_hub_is_loaded(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(model_folder, "tar.gz", below=True)
    with hub_server(HubFiles({"org/repo": {"old/bert.tar.gz": archive.read_bytes()}})) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        assert_is_the_model("hf://org/repo/old/bert.tar.gz")
    assert_is_the_model("hf://org/repo/old/bert.tar.gz", offline=True)


def test_what_is_unpacked_needs_the_archive_no_more(model_folder: Path, cache: Path, unplug: Callable[[], None]) -> None:
    archive = pack(model_folder, "tar.gz")
    with file_server({"/bert.tar.gz": archive.read_bytes()}) as server:
        url = f"{server.url}/bert.tar.gz"
        with pytest.raises(OfflineError):
            registry.load(url, offline=True)
        registry.load(url)
    shutil.rmtree(cache / "blobs")
    unplug()
    assert_is_the_model(url)


def test_what_a_shared_cache_has_unpacked_is_used_from_there(
    model_folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack(model_folder, "zip")
    folder = registry.fetch(archive)
    monkeypatch.setenv("REGISTRY_CACHE", f"{tmp_path / 'mine'}:{cache}")
    assert registry.fetch(archive) == folder
    assert not (tmp_path / "mine" / "unpacked").exists()


def test_a_local_archive_is_hashed_once_until_it_changes(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch, unpacks: list[Path]
) -> None:
    real, hashed = registry.store.lookup.file_sha256, []
    monkeypatch.setattr(registry.store.lookup, "file_sha256", lambda path: hashed.append(path) or real(path))
    archive = pack(model_folder, "tar")
    for _ in range(3):
        registry.load(archive)
    assert hashed == [archive] and len(unpacks) == 1
    build(CLASS, num_labels=5).save_pretrained(model_folder)
    pack(model_folder, "tar")
    assert registry.load(archive).config.num_labels == 5
    assert hashed == [archive] * 2 and len(unpacks) == 2


def test_an_archive_that_changes_under_our_hands_is_not_kept_under_the_old_hash(
    model_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack(model_folder, "zip")
    real = registry.checkpoint.archives.unpacked.extract_archive

    def changed_first(path: Path, folder: Path, **options: Any) -> None:
        build(CLASS, num_labels=5).save_pretrained(model_folder)
        pack(model_folder, "zip")
        real(path, folder, **options)

    monkeypatch.setattr(registry.checkpoint.archives.unpacked, "extract_archive", changed_first)
    with pytest.raises(CheckpointError, match="has changed"):
        registry.load(archive)
    assert list((cache / "unpacked").iterdir()) == []


def test_the_name_of_the_configuration_tells_the_family(model_folder: Path, tmp_path: Path) -> None:
    config = json.loads((model_folder / "config.json").read_text())
    (model_folder / "config.json").unlink()
    (model_folder / "bert_config.json").write_text(json.dumps({key: config[key] for key in SIZES if key in config}))
    # What stands beside the archive has no say.
    (tmp_path / "gpt2_config.json").write_text("{}")
    for below in (False, True):
        archive = pack(model_folder, "tar.gz", below=below)
        assert registry.load(archive).config.hidden_size == SIZES["hidden_size"]
        assert registry.load_tokenizer(archive).encode("hello") == [2, 5, 3]
        assert BertForMaskedLM.from_pretrained(archive).config.vocab_size == SIZES["vocab_size"]
        assert registry.load(archive, family="bert", head="base").config.model_type == "bert"


def test_a_vocabulary_alone_is_found_one_folder_down(model_folder: Path) -> None:
    for file in model_folder.iterdir():
        if file.name != "vocab.txt":
            file.unlink()
    assert BertTokenizer.from_pretrained(pack(model_folder, "zip", below=True)).encode("hello") == [2, 5, 3]


def test_what_macos_adds_to_an_archive_is_not_the_model(model_folder: Path) -> None:
    hidden = model_folder.parent / "__MACOSX"
    hidden.mkdir()
    (hidden / "config.json").write_text("resource fork")
    (hidden / "._vocab.txt").write_text("resource fork")
    archive = Path(shutil.make_archive(str(model_folder.parent.parent / "mac"), "zip", model_folder.parent))
    assert_is_the_model(archive)


def test_an_archive_of_several_models_says_so(model_folder: Path) -> None:
    shutil.copytree(model_folder, model_folder.parent / "other")
    archive = Path(shutil.make_archive(str(model_folder.parent.parent / "two"), "zip", model_folder.parent))
    with pytest.raises(CheckpointError, match="expected to hold one model, but holds other and tiny-bert"):
        registry.load(archive)


def test_an_archive_is_known_by_its_content_and_not_by_its_name(model_folder: Path) -> None:
    archive = pack(model_folder, "tgz")
    assert_is_the_model(archive.rename(archive.with_name("model.bin")))
    build(CLASS).save_pretrained(model_folder, safe_serialization=False)
    for name in ("model.pth.tar", "model.zip"):  # torch's own files, as they were often called
        weights = shutil.copy(model_folder / "pytorch_model.bin", model_folder / name)
        assert registry.load(weights).load_report.clean
    with file_server({f"/m/{file.name}": file.read_bytes() for file in model_folder.iterdir()}) as server:
        assert registry.load(f"{server.url}/m/model.pth.tar").load_report.clean


@pytest.mark.parametrize("content", [b"text", gzip.compress(b"text", mtime=0), b""])
def test_what_is_called_an_archive_and_is_none_says_so(model_folder: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.tar.gz").write_bytes(content)
    with file_server({"/model.tar.gz": content}) as server:
        for name in (str(tmp_path / "model.tar.gz"), f"{server.url}/model.tar.gz"):
            for use in (registry.load, registry.load_tokenizer):
                with pytest.raises(CheckpointError, match="expected to be tar, gzipped tar or zip"):
                    use(name, family="bert")


def test_a_hostile_archive_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    with tarfile.open(fileobj=(buffer := io.BytesIO()), mode="w:gz") as archive:
        for name in ("config.json", "../escaped"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    with file_server({"/model.tar.gz": buffer.getvalue()}) as server, pytest.raises(CheckpointError, match=r"'\.\./escaped'"):
        registry.load(f"{server.url}/model.tar.gz", family="bert")
    assert list((cache / "unpacked").iterdir()) == []
    assert not list(tmp_path.rglob("escaped"))


def test_an_archive_of_an_unfinished_save_is_refused(model_folder: Path) -> None:
    (model_folder / ".registry-save.ready").mkdir()
    with pytest.raises(CheckpointError, match="interrupted"):
        registry.load(pack(model_folder, "tar.gz"))


def test_what_is_here_of_an_archive_is_shown_without_unpacking_it(model_folder: Path, unpacks: list[Path]) -> None:
    archive = pack(model_folder, "tar.gz")
    with file_server({"/bert.tar.gz": archive.read_bytes()}) as server:
        catalog(f"{server.url}/bert.tar.gz", archive, "bert.tar.gz")
        models = ModelRegistry()
        assert models.cached_files("packed") == {}
        assert models.fetch_file("packed", "config.json").name == "config.json"
    assert {"bert.tar.gz", "config.json", "model.safetensors", "vocab.txt"} <= set(models.cached_files("packed"))
    shutil.rmtree(unpacks.pop())
    assert set(models.cached_files("packed")) == {"bert.tar.gz"}
    assert unpacks == []


def test_a_file_inside_an_archive_can_be_pinned_too(model_folder: Path) -> None:
    archive = pack(model_folder, "tar.gz")
    shutil.copy(archive, "bert.tar.gz")
    pins = f"      config.json: {{sha256: {'f' * 64}}}\n"
    Path("models.yaml").write_text(
        f"registry: 1\nmodels:\n  packed:\n    family: bert\n    source: ./bert.tar.gz\n    files:\n{pins}"
    )
    with pytest.raises(IntegrityError, match=r"config.json is expected to be f"):
        registry.load("packed")


def test_processes_that_unpack_at_once_all_get_the_model(model_folder: Path, cache: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    archive = pack(model_folder, "tar.gz")
    code = f"import registry; print(registry.fetch({str(archive)!r}))"
    with ThreadPoolExecutor(3) as pool:
        printed = {done.stdout.strip() for done in pool.map(lambda _: run_python("-c", code), range(3))}
    assert printed == {str(cache / "unpacked" / sha256(archive))}
    assert {path.name for path in (cache / "unpacked").iterdir()} == {sha256(archive), f"{sha256(archive)}.json"}


def damaged(path: Path, *, in_secret: bool) -> None:
    """Flip a bit of a file; in secret, its size and time stay what they were."""
    before = path.stat()
    path.chmod(0o644)
    with path.open("rb+") as file:
        file.seek(before.st_size // 2)
        byte = file.read(1)
        file.seek(before.st_size // 2)
        file.write(bytes([byte[0] ^ 1]))
    if in_secret:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_what_is_unpacked_and_damaged_is_unpacked_anew(model_folder: Path, cache: Path, unpacks: list[Path]) -> None:
    archive = pack(model_folder, "tar.gz")
    assert_is_the_model(archive)
    damaged(cache / "unpacked" / sha256(archive) / "model.safetensors", in_secret=False)
    assert_is_the_model(archive)
    assert len(unpacks) == 2


def test_verify_finds_what_is_unpacked_and_damaged_in_secret(model_folder: Path, cache: Path) -> None:
    archive = pack(model_folder, "tar.gz")
    registry.load_config(archive)
    damaged(cache / "unpacked" / sha256(archive) / "model.safetensors", in_secret=True)
    ours = registry.ModelRegistry()
    assert {check.name for check in ours.verify() if check.state == "damaged"} == {"model.safetensors"}
    with contextlib.suppress(registry.RegistryError), warnings.catch_warnings():
        warnings.simplefilter("ignore", registry.RegistryWarning)
        ours.verify(repair=True)
    assert_is_the_model(archive)
    assert {check.state for check in ours.verify()} == {"ok"}


@pytest.mark.parametrize(
    "damage", [b"", b"{}", b'{"version": 1, "stamps": 5}', b'{"version": 2, "stamps": {}}', b"\xff\x00\x9c{"]
)
def test_without_a_record_of_what_is_unpacked_it_is_unpacked_anew(
    damage: bytes, model_folder: Path, cache: Path, unpacks: list[Path]
) -> None:
    archive = pack(model_folder, "zip")
    registry.load_config(archive)
    (cache / "unpacked" / f"{sha256(archive)}.json").write_bytes(damage)
    assert_is_the_model(archive)
    assert len(unpacks) == 2
