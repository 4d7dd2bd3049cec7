"""Where catalogs are found, and when they are read again."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.base.regular import read_regular
from registry.catalog import layers
from registry.catalog.entry import ModelEntry
from registry.catalog.layers import places, project_source
from registry.errors import CatalogError, RegistryWarning, UnknownModel
from registry.families.host import PluginHost
from registry.model_registry import ModelRegistry
from tests.processes import run_python


@pytest.fixture
def registry() -> ModelRegistry:
    """A registry without families, so that only the files of a test are there."""
    return ModelRegistry(plugins=PluginHost(list))


def write(path: Path, **sources: str) -> Path:
    """Write a catalog whose names mean these sources."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"  {name}: {{family: bert, source: {source}, override: true}}\n" for name, source in sources.items()]
    path.write_text("registry: 1\nmodels:\n" + "".join(lines), encoding="utf-8")
    return path


def test_the_layers_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "bert-base-uncased"
    assert ModelRegistry().resolve(name).source.startswith("hf://google-bert/bert-base-uncased@")
    project = write(Path("models.yaml"), **{name: "hf://project/x@1"})
    assert ModelRegistry().resolve(name).source == "hf://project/x@1"
    first, second = (write(tmp_path / f"{where}.yaml", **{name: f"hf://{where}/x@1"}) for where in ("first", "second"))
    monkeypatch.setenv("REGISTRY_MODELS", f"{first}{os.pathsep}{os.pathsep}{second}")
    assert ModelRegistry().resolve(name).source == "hf://first/x@1"
    low, high = (write(tmp_path / where / "models.yaml", **{name: f"hf://{where}/x@1"}) for where in ("low", "high"))
    entry = ModelRegistry(catalogs=[low, high.parent]).resolve(name)
    assert entry.source == "hf://high/x@1"
    found = [Path(origin.file) for origin in entry.shadows]
    assert found[:4] == [low, first, second, project.absolute()]
    assert found[4].parts[-2:] == ("registry_bert", "models.yaml") and len(found) == 5


def test_a_catalog_that_is_passed_must_exist(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="expected to exist") as caught:
        ModelRegistry(catalogs=[tmp_path / "none.yaml"])
    assert caught.value.file == str(tmp_path / "none.yaml")


@pytest.mark.parametrize("path", ["/no/such/file.yaml", "~no-such-user/models.yaml", "/dev/null/models.yaml"])
def test_a_catalog_of_the_environment_that_is_not_there_is_reported(
    path: str, registry: ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = write(tmp_path / "there.yaml", m="hf://a/b@1")
    monkeypatch.setenv("REGISTRY_MODELS", f"{path}{os.pathsep}{there}")
    with pytest.warns(RegistryWarning, match="expected to be readable"):
        assert registry.list_models() == ["m"]
    with pytest.raises(UnknownModel, match="expected to be readable"):
        registry.resolve("n")


def test_a_path_of_the_environment_may_begin_with_home(registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    write(Path.home() / "models.yaml", m="hf://a/b@1")
    monkeypatch.setenv("REGISTRY_MODELS", "~/models.yaml")
    assert registry.resolve("m").source == "hf://a/b@1"


# -- the project's file --------------------------------------------------------------------------------------------------


def test_the_project_is_the_nearest_file_upward(tmp_path: Path) -> None:
    outer = write(tmp_path / "models.yaml", m="hf://outer/b@1")
    inner = write(tmp_path / "a/models.yaml", m="hf://inner/b@1")
    (tmp_path / "a/b/c").mkdir(parents=True)
    for start, found in ((tmp_path, outer), (tmp_path / "a", inner), (tmp_path / "a/b/c", inner)):
        source = project_source(start)
        assert source is not None and Path(source.path) == found


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_the_search_ends_at_the_root_of_the_repository(kind: str, tmp_path: Path) -> None:
    write(tmp_path / "models.yaml", m="hf://outer/b@1")
    root = tmp_path / "repository"
    (root / "a/b").mkdir(parents=True)
    if kind == "folder":
        (root / ".git").mkdir()
    else:  # a worktree or submodule
        (root / ".git").write_text("gitdir: elsewhere")
    assert project_source(root / "a/b") is None
    own = write(root / "models.yaml", m="hf://own/b@1")
    source = project_source(root / "a/b")
    assert source is not None and Path(source.path) == own


def test_another_users_file_is_not_used(registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = write(Path("models.yaml"), m="hf://a/b@1").absolute()
    monkeypatch.setattr(os, "geteuid", lambda: mine.stat().st_uid + 1)
    with pytest.warns(RegistryWarning, match="belongs to another user .* REGISTRY_MODELS"):
        assert registry.list_models() == []
    monkeypatch.setenv("REGISTRY_MODELS", str(mine))
    with pytest.warns(RegistryWarning, match="belongs to another user"):
        assert registry.list_models() == ["m"]


def test_the_search_does_not_go_on_above_another_users_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "models.yaml", m="hf://a/b@1")
    write(tmp_path / "a/models.yaml", m="hf://a/b@1")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.warns(RegistryWarning, match=f"^{tmp_path}/a/models.yaml belongs"):
        assert project_source(tmp_path / "a") is None


def test_what_is_no_file_is_no_project_catalog(tmp_path: Path) -> None:
    outer = write(tmp_path / "models.yaml", m="hf://outer/b@1")
    (tmp_path / "a/models.yaml").mkdir(parents=True)
    os.mkfifo(tmp_path / "a/pipe")
    (tmp_path / "a/b").mkdir()
    (tmp_path / "a/b/models.yaml").symlink_to(tmp_path / "a/pipe")
    source = project_source(tmp_path / "a/b")
    assert source is not None and Path(source.path) == outer


def test_a_working_folder_that_was_removed_has_no_project(
    tmp_path: Path, registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(gone := tmp_path / "work")
    (gone / ".git").rmdir()
    gone.rmdir()
    assert registry.list_models() == []


def test_a_projects_broken_file_is_reported_and_the_rest_works(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("models.yaml").write_text("registry: 1\nmodels:\n  mine: {famly: bert}\n  good: {alias: bert-base-cased}\n")
    registry = ModelRegistry()
    with pytest.warns(RegistryWarning, match=r"models.yaml:3:10: .*'famly'"):
        assert {"good", "bert-base-cased"} < set(registry.list_models())
    with pytest.raises(CatalogError, match=r"models.yaml:3:10: .*'famly'; did you mean 'family'\?"):
        registry.resolve("mine")


# -- reading again, other processes --------------------------------------------------------------------------------------


def test_a_changed_file_is_read_again(registry: ModelRegistry) -> None:
    assert registry.list_models() == []
    file = write(Path("models.yaml"), m="hf://a/b@1")
    assert registry.resolve("m").source == "hf://a/b@1"
    before = registry.catalog
    assert registry.catalog is before
    write(file, m="hf://a/longer@1", n="hf://a/b@1")
    assert registry.resolve("m").source == "hf://a/longer@1"
    assert registry.list_models() == ["m", "n"]
    status = file.stat()
    file.write_text(file.read_text().replace("longer", "LONGER"))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert registry.resolve("m").source == "hf://a/LONGER@1"
    file.unlink()
    assert registry.list_models() == []


def test_a_registry_pickles_with_its_catalogs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(Path("models.yaml"), project="./relative")
    write(tmp_path / "environment.yaml", environment="hf://e/b@1")
    write(Path("argument.yaml"), argument="hf://a/b@1")
    monkeypatch.setenv("REGISTRY_MODELS", str(tmp_path / "environment.yaml"))
    registry = ModelRegistry(catalogs=["argument.yaml"], cache_dir="own-cache")
    (tmp_path / "pickled").write_bytes(pickle.dumps(registry))
    monkeypatch.delenv("REGISTRY_MODELS")
    code = (
        "import pickle, sys; r = pickle.loads(open('../pickled', 'rb').read()); "
        "print(*(r.resolve(name).source for name in sys.argv[1:]), r._environment._cache_dir, sep='\\n')"
    )
    (elsewhere := tmp_path / "elsewhere").mkdir()
    write(elsewhere / "models.yaml", project="hf://wrong/b@1", argument="hf://wrong/b@1")
    done = run_python("-c", code, "project", "environment", "argument", cwd=elsewhere)
    work = tmp_path / "work"
    assert done.stdout.splitlines() == [f"{work}/relative", "hf://e/b@1", "hf://a/b@1", f"{work}/own-cache"]


def resolve_elsewhere(registry: ModelRegistry, folder: str, name: str) -> ModelEntry:
    os.chdir(folder)
    return registry.resolve(name)


def test_a_spawned_worker_resolves_alike(tmp_path: Path) -> None:
    write(Path("models.yaml"), m="./relative")
    registry = ModelRegistry()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        entry = pool.apply(resolve_elsewhere, (registry, str(tmp_path), "m"))
    assert entry == registry.resolve("m")
    assert entry.source == f"{tmp_path}/work/relative"


def test_a_pickled_registry_pickles_again(registry: ModelRegistry) -> None:
    write(Path("models.yaml"), m="./relative")
    again = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(registry))))
    assert again.resolve("m") == registry.resolve("m")


# -- the system's and the user's files -----------------------------------------------------------------------------------


def test_every_layer_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: ModelRegistry) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.setenv("XDG_CONFIG_DIRS", f"{first}{os.pathsep}{second}{os.pathsep}relative")
    monkeypatch.setenv("REGISTRY_MODELS", str(tmp_path / "environment.yaml"))
    files = [
        Path(os.environ["REGISTRY_SYSTEM_MODELS"]),
        second / "registry/models.yaml",
        first / "registry/models.yaml",
        Path.home() / ".config/registry/models.yaml",
        Path("models.yaml"),
        tmp_path / "environment.yaml",
    ]
    write(Path("relative/registry/models.yaml"), m="hf://relative/x@1")  # no folder that the specification allows
    write(tmp_path / "environment.yaml")
    for number, file in enumerate(files):
        write(file, m=f"hf://{number}/x@1")
        entry = registry.resolve("m")
        assert entry.source == f"hf://{number}/x@1"
        assert [Path(origin.file) for origin in entry.shadows] == [below.absolute() for below in reversed(files[:number])]


def test_the_places_of_system_and_user_are_those_of_the_specification(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REGISTRY_SYSTEM_MODELS", "XDG_CONFIG_DIRS", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name)
    assert [(kind.name, str(path)) for kind, path in places()] == [
        ("SYSTEM", "/etc/registry/models.yaml"),
        ("SYSTEM", "/etc/xdg/registry/models.yaml"),
        ("USER", f"{Path.home()}/.config/registry/models.yaml"),
    ]
    monkeypatch.setenv("REGISTRY_SYSTEM_MODELS", "")
    monkeypatch.setenv("XDG_CONFIG_DIRS", "/b:/a")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/mine")
    assert [str(path) for _, path in places()] == [
        "/a/registry/models.yaml",
        "/b/registry/models.yaml",
        "/mine/registry/models.yaml",
    ]
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert str(places()[-1][1]) == f"{Path.home()}/.config/registry/models.yaml"


def test_a_file_that_its_user_trusts_by_name_is_no_projects(registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path.home() / ".config/registry"
    write(folder / "models.yaml", m="hf://a/b@1").write_text(
        "registry: 1\nmodels: {m: {family: bert, source: 'hf://a/b@1'}}\nhosts: {h: {token_env: T}}\n"
    )
    monkeypatch.chdir(folder)
    assert registry.resolve("m").shadows == () and not registry.catalog.problems
    assert registry.catalog.hosts["h"].token_env == "T"


def test_system_and_user_may_redefine_and_name_hosts(registry: ModelRegistry) -> None:
    text = "registry: 1\nmodels: {{m: {{family: bert, source: 'hf://{0}/b@1'}}}}\nhosts: {{{0}.example: {{token_env: T}}}}\n"
    for name, path in (
        ("system", os.environ["REGISTRY_SYSTEM_MODELS"]),
        ("user", Path.home() / ".config/registry/models.yaml"),
    ):
        Path(path).parent.mkdir(parents=True)
        Path(path).write_text(text.format(name))
    assert registry.resolve("m").source == "hf://user/b@1"
    assert set(registry.catalog.hosts) == {"system.example", "user.example"}


# -- what is wrong with one file leaves the others alone -----------------------------------------------------------------


def refuse(*_: object) -> bytes:
    raise PermissionError(13, "Permission denied")


#: What is wrong, to what makes it so, and the place and words of the report.
WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "a folder": (lambda path: path.mkdir(), r":1:1: the file is expected to be readable, but is not \(Is a directory\)"),
    "no UTF-8": (lambda path: path.write_bytes(b"registry: 1\nmodels:\n  \xff: x"), ":3:3: .* UTF-8"),
    "cut short": (lambda path: path.write_text("registry: 1\nmodels: {m: {family: 'be"), ":2:25: .* expected to be YAML"),
    "a list": (lambda path: path.write_text("registry: 1\nmodels: [m]\n"), ":2:9: models is expected to be a mapping"),
    "of tomorrow": (lambda path: path.write_text("registry: 2\nmodels: {}\n"), ":1:11: .* schema version 1.*upgrade"),
    "two files": (lambda path: path.write_text("registry: 1\n---\nregistry: 1\n"), ":2:1: .* one YAML document"),
    "an odd character": (lambda path: path.write_text("registry: 1\n# \x07\n"), r":2:3: .*'\\x07'"),
}


@pytest.mark.parametrize("place", ["system", "user", "environment"])
@pytest.mark.parametrize("what", WRONG)
def test_a_file_that_cannot_be_used_is_reported_and_the_others_work(
    what: str, place: str, registry: ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(Path("models.yaml"), mine="hf://a/b@1")
    bad = {
        "system": Path(os.environ["REGISTRY_SYSTEM_MODELS"]),
        "user": Path.home() / ".config/registry/models.yaml",
        "environment": tmp_path / "named.yaml",
    }[place]
    if place == "environment":
        if what == "a folder":
            pytest.skip("a folder that is named stands for the file inside it")
        monkeypatch.setenv("REGISTRY_MODELS", str(bad))
    bad.parent.mkdir(parents=True, exist_ok=True)
    make, words = WRONG[what]
    make(bad)
    for _ in range(2):  # parsed, and packed before
        with pytest.warns(RegistryWarning, match=f"{bad}{words}"):
            registry._environment._catalog = None
            assert registry.list_models() == ["mine"]
        assert registry.resolve("mine").source == "hf://a/b@1"
        with pytest.raises(UnknownModel, match=f"{bad}{words}"):
            registry.resolve("m")


def test_a_file_without_permission_is_reported(registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    write(Path("models.yaml"), mine="hf://a/b@1")
    user = write(Path.home() / ".config/registry/models.yaml", m="hf://a/b@1")
    monkeypatch.setattr(layers, "read_regular", lambda path, limit: refuse() if path == user else read_regular(path, limit))
    with pytest.warns(RegistryWarning, match=f"{user}:1:1: .* readable, but is not .Permission denied."):
        assert registry.list_models() == ["mine"]


def test_a_folder_without_permission_is_reported_too(registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    user = write(Path.home() / ".config/registry/models.yaml", m="hf://a/b@1")
    stat = Path.stat

    def forbidden(path: Path, **options: bool) -> os.stat_result:
        if path == user:
            raise PermissionError(13, "Permission denied")
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", forbidden)
    monkeypatch.setattr(layers, "read_regular", lambda path, limit: refuse() if path == user else read_regular(path, limit))
    with pytest.warns(RegistryWarning, match=f"{user}:1:1: .* readable, but is not .Permission denied."):
        assert registry.list_models() == []


def test_a_file_that_goes_between_listing_and_reading_is_reported(
    registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(Path("models.yaml"), mine="hf://a/b@1")
    user = write(Path.home() / ".config/registry/models.yaml", m="hf://a/b@1")

    def going(path: Path, limit: int) -> bytes:
        if path == user:
            path.unlink(missing_ok=True)
        return read_regular(path, limit)

    monkeypatch.setattr(layers, "read_regular", going)
    with pytest.warns(RegistryWarning, match=f"{user}:1:1: .* readable, but is not .No such file"):
        assert registry.list_models() == ["mine"]
    assert registry.list_models() == ["mine"]  # now it is not there, which is no mistake
    assert not registry.catalog.problems
