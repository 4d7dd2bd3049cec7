"""Nothing is read from or written to what is no regular file, and no write leaves a project through a link."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import registry
from registry import BertConfig, BertTokenizer, GPT2Tokenizer, RegistryError, RegistryWarning, TransfoXLTokenizer
from registry.base.regular import leads_out, open_regular
from registry.errors import CatalogError, CheckpointError, ConfigError
from tests.cli.conftest import Run, run
from tests.processes import run_python
from tests.registry_bert.tiny import build

__all__ = ["run"]  # a fixture

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes and links of POSIX")


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def unix_socket(path: Path) -> Path:
    short = Path("/tmp", f"{os.getpid()}.socket")  # the path of a socket has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(short))
    short.rename(path)
    return path


def link(to: str) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        path.symlink_to(to)
        return path

    return make


KINDS = {
    "a pipe": pipe,
    "a link to an endless device": link("/dev/zero"),
    "a link to a terminal or nothing": link("/dev/tty"),
    "a link to a view of the system": link("/proc/self/environ"),
    "a socket": unix_socket,
    "a folder": lambda path: (path.mkdir(), path)[1],
}


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def odd(request: pytest.FixtureRequest) -> Iterator[Callable[[Path], Path]]:
    yield request.param


@pytest.fixture
def model() -> Path:
    folder = Path("model")
    build("BertModel").save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]) + "\n")
    return folder


# -- reading -------------------------------------------------------------------------------------------------------------


def test_only_a_regular_file_is_opened(odd: Callable[[Path], Path]) -> None:
    with pytest.raises(OSError):  # a socket and a missing terminal have the system's own words
        open_regular(odd(Path("odd")))
    Path("even").write_bytes(b"abc")
    with open_regular(Path("even")) as file:
        assert file.read() == b"abc" and os.get_blocking(file.fileno()) is False


@pytest.mark.parametrize("layer", ["environment", "user", "argument"])
def test_a_catalog_that_is_no_file_is_reported_and_hides_nothing(
    odd: Callable[[Path], Path], layer: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "home/.config/registry/models.yaml" if layer == "user" else tmp_path / "odd.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    odd(path)
    if path.is_dir():
        (path / "models.yaml").mkdir()  # a folder stands for the catalog inside it
    if layer == "environment":
        monkeypatch.setenv("REGISTRY_MODELS", str(path))
    catalogs = [path] if layer == "argument" else []
    with pytest.warns(RegistryWarning, match="expected to be readable"):
        assert registry.ModelRegistry(catalogs=catalogs).resolve("bert-base-uncased").family == "bert"


@pytest.mark.parametrize("to", ["nothing", "models.yaml", "/nowhere/at/all"])
def test_a_projects_catalog_that_is_a_link_to_nothing_is_reported(to: str) -> None:
    Path("models.yaml").symlink_to(to)
    with pytest.warns(RegistryWarning, match=r"models\.yaml:1:1: the file is expected to be readable"):
        assert registry.ModelRegistry().resolve("gpt2").family == "gpt2"


def test_a_lock_file_that_is_no_file_is_an_error(odd: Callable[[Path], Path], model: Path) -> None:
    Path("models.yaml").write_text("registry: 1\nmodels: {m: {family: bert, source: ./model}}\n")
    odd(Path("models.lock"))
    with pytest.raises(CatalogError, match=r"models\.lock:1:1: the lock file is expected to be"):
        registry.load_config("m", locked=True)
    with pytest.raises(CatalogError, match=r"models\.lock"):
        registry.default_registry().lock()


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "pytorch_model.bin", "vocab.txt", "tokenizer_config.json"]
)
def test_a_file_of_a_model_that_is_no_file_is_an_error(odd: Callable[[Path], Path], model: Path, name: str) -> None:
    for file in model.iterdir():
        if file.name == name or (name == "pytorch_model.bin" and file.name == "model.safetensors"):
            file.unlink()
    odd(model / name)

    def use() -> None:
        registry.load(model)
        registry.load_tokenizer(model)

    if name == "tokenizer_config.json" and not (model / name).is_file():
        use()  # an optional file that is not there
    else:
        with pytest.raises(RegistryError):
            use()


@pytest.mark.parametrize(
    "read",
    [
        BertConfig.from_json_file,
        BertTokenizer,
        lambda path: GPT2Tokenizer(path, path),
        TransfoXLTokenizer,
        registry.load,
        lambda path: registry.load(path, family="bert"),
        lambda path: registry.load_tokenizer(path, family="bert"),
        lambda path: registry.load_config(path, family="bert"),
        lambda path: registry.default_registry().inspect(path, family="bert"),
        registry.fetch,
    ],
)
def test_a_path_that_is_no_file_is_a_named_error(odd: Callable[[Path], Path], read: Callable[[Any], Any]) -> None:
    with pytest.raises(RegistryError, match="odd"):
        read(odd(Path("odd")))


def test_a_file_that_only_looks_like_one_is_not_read() -> None:
    with pytest.raises(OSError, match="a view of the system"):
        open_regular("/proc/self/environ")
    for to in ("/proc/self/environ", "/proc/self/status"):
        Path("config.json").unlink(missing_ok=True)
        Path("config.json").symlink_to(to)
        with pytest.raises(ConfigError, match=r"config\.json.*a view of the system"):
            BertConfig.from_json_file("config.json")


# -- writing -------------------------------------------------------------------------------------------------------------

PROJECT = "registry: 1\nmodels: {m: {family: bert, source: ./model}}\n"


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    (folder := tmp_path / "victim").mkdir()
    (folder / "models.yaml").write_text("registry: 1\nmodels:\n  theirs: {family: bert, source: ./x}\n")
    return folder


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize("root", ["git", "catalog"])
@pytest.mark.parametrize("to", ["../victim/.profile", "../victim/models.yaml", "inner/link"])
def test_lock_does_not_follow_a_link_out_of_the_project(model: Path, victim: Path, run: Run, to: str, root: str) -> None:
    if root == "catalog":
        Path(".git").rmdir()
    Path("models.yaml").write_text(PROJECT)
    Path("inner").mkdir()
    Path("inner/link").symlink_to("../../victim/.profile")
    Path("models.lock").symlink_to(to)
    before = content(victim)
    done = run("lock")
    assert done.code == 1 and "models.lock" in done.err and "victim" in done.err
    assert content(victim) == before and Path("models.lock").is_symlink()


def test_lock_follows_a_link_that_stays_in_the_project(model: Path, run: Run) -> None:
    Path("models.yaml").write_text(PROJECT)
    Path("locks").mkdir()
    Path("models.lock").symlink_to("locks/all.lock")
    assert run("lock").code == 0
    assert Path("models.lock").is_symlink() and "model.safetensors" in Path("locks/all.lock").read_text()


@pytest.mark.parametrize("arguments", [("add", "n", "./model", "--family", "bert", "--no-fetch"), ("remove", "theirs")])
@pytest.mark.parametrize("place", [("--project",), ("--file", "models.yaml"), ("--file", "sub/models.yaml"), ("--file", "sub")])
def test_add_and_remove_do_not_follow_a_link_out_of_the_project(
    model: Path, victim: Path, run: Run, arguments: tuple[str, ...], place: tuple[str, ...]
) -> None:
    Path("models.yaml").symlink_to("../victim/models.yaml")
    Path("sub").symlink_to("../victim")
    (victim / ".git").mkdir()  # a checkout of its own is out of the project too
    before = (victim / "models.yaml").read_text()
    done = run(*arguments, *place)
    assert done.code == 1 and "out of its project" in done.err
    assert (victim / "models.yaml").read_text() == before


def test_a_dangling_catalog_is_not_made_elsewhere(model: Path, victim: Path, run: Run) -> None:
    Path("models.yaml").symlink_to("../victim/new.yaml")
    done = run("add", "n", "./model", "--family", "bert", "--no-fetch", "--project")
    assert done.code == 1 and not (victim / "new.yaml").exists()


def test_the_users_own_catalog_may_be_a_link(model: Path, victim: Path, run: Run, tmp_path: Path) -> None:
    own = tmp_path / "home/.config/registry/models.yaml"
    own.parent.mkdir(parents=True)
    own.symlink_to(victim / "models.yaml")
    (tmp_path / "home" / ".git").mkdir()  # a home that is a checkout
    assert run("add", "n", str(model.absolute()), "--family", "bert", "--no-fetch", "--user").code == 0
    assert own.is_symlink() and "n:" in (victim / "models.yaml").read_text()


@pytest.mark.parametrize(
    "save",
    [
        lambda path: build("BertModel").save_pretrained(path),
        lambda path: BertConfig().save_pretrained(path),
        lambda path: BertTokenizer("model/vocab.txt").save_pretrained(path),
        lambda path: BertTokenizer("model/vocab.txt").save_vocabulary(path),
        lambda path: BertTokenizer("model/vocab.txt").save_vocabulary(path / "words.txt"),
        lambda path: BertConfig().to_json_file(path / "c.json"),
        lambda path: registry.default_registry().convert("model", path, head="base"),
    ],
)
@pytest.mark.parametrize("out", ["out", "out/new", "a/../out"])
def test_saves_do_not_follow_a_link_out_of_the_project(
    model: Path, victim: Path, save: Callable[[Path], Any], out: str
) -> None:
    Path("a").mkdir()
    Path("out").symlink_to("../victim")
    (victim / "new").mkdir()
    before = set(victim.rglob("*"))
    with pytest.raises(CheckpointError, match="out of its project"):
        save(Path(out))
    assert set(victim.rglob("*")) == before


def test_saves_go_where_a_user_names_the_place_or_the_link_stays_inside(model: Path, victim: Path, tmp_path: Path) -> None:
    build("BertModel").save_pretrained(victim / "model")
    (tmp_path / "mine").symlink_to("victim")  # in no project
    build("BertModel").save_pretrained(tmp_path / "mine" / "other")
    Path("latest").symlink_to("model")
    build("BertModel").save_pretrained("latest")
    assert (victim / "other/config.json").is_file() and Path("latest").is_symlink()


@pytest.mark.parametrize("kind", ["a pipe", "a socket"])
def test_a_save_does_not_replace_what_is_no_file(model: Path, kind: str) -> None:
    (model / "config.json").unlink()
    KINDS[kind](model / "config.json")
    for save in (lambda: build("BertModel").save_pretrained(model), lambda: BertConfig().to_json_file(model / "config.json")):
        with pytest.raises(CheckpointError, match=r"config\.json.* is a (named pipe|socket)"):
            save()
    assert not stat.S_ISREG((model / "config.json").lstat().st_mode)


def test_a_device_is_not_written(model: Path, run: Run) -> None:
    Path("models.yaml").write_text(PROJECT)
    for name in ("--file", "/dev/null"), ("--file", "/dev/full"):
        done = run("lock", *name)
        assert done.code == 1 and "a device" in done.err
    done = run("add", "n", "./model", "--family", "bert", "--no-fetch", "--file", "/dev/null")
    assert done.code == 1 and "/dev/null" in done.err
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_where_a_path_leads(tmp_path: Path) -> None:
    (tmp_path / "project/.git").mkdir(parents=True)
    (tmp_path / "project/sub").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "project/inside").symlink_to("sub")
    (tmp_path / "project/outside").symlink_to("../out")
    (tmp_path / "project/loop").symlink_to("loop")
    (tmp_path / "link").symlink_to("project")
    for path, wanted in (
        ("project/sub/x", None),
        ("project/inside/x", None),
        ("project/new/x", None),
        ("link/sub/x", None),
        ("link/outside/x", tmp_path / "out/x"),
        ("project/outside", tmp_path / "out"),
        ("project/sub/../outside/x", tmp_path / "out/x"),
        ("out/x", None),
        ("project/../out/x", None),
    ):
        assert leads_out(tmp_path / path) == wanted, path
    leads_out(tmp_path / "project/loop")


def test_a_pipe_in_a_clone_does_not_hang_the_command() -> None:
    os.mkfifo("models.lock")
    Path("models.yaml").write_text(json.dumps({"registry": 1, "models": {"m": {"family": "bert", "source": "./model"}}}))
    done = run_python("-m", "registry", "fetch", "--locked", "m", check=False)
    assert done.returncode == 1 and "a named pipe" in done.stderr
