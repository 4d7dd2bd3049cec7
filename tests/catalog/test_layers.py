"""Where catalogs are found, and when they are read again."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from pathlib import Path

import pytest

from registry.catalog.entry import ModelEntry
from registry.catalog.layers import project_source
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
        "print(*(r.resolve(name).source for name in sys.argv[1:]), r._cache_dir, sep='\\n')"
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
