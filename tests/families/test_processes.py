"""The same families, names and failures in threads, in spawned processes, and for a registry that was pickled."""

from __future__ import annotations

import json
import pickle
import sys
import threading
from pathlib import Path

import pytest

from registry import ModelRegistry
from registry.families.family import Family
from registry.families.host import PluginHost
from tests.families.conftest import Install, family_files
from tests.processes import run_python

#: Prints, as JSON, all that a registry says of families and of some names.
SURVEY = """
import json, sys, warnings
from registry.errors import RegistryError

def survey(registry):
    said = {"families": registry.families.names(), "models": registry.list_models("*acme*")}
    for family in ("bert", "acme", "broken", "contested", "newer", "none"):
        try:
            said[family] = registry.families.get(family).config
        except RegistryError as error:
            said[family] = str(error)
    for name in ("acme-small", "own-acme", "project-acme"):
        try:
            said[name] = str(registry.resolve(name).origins["source"])
        except RegistryError as error:
            said[name] = str(error)
    return said
"""
CATALOG = "registry: 1\nmodels:\n  {name}: {{family: acme, source: ./weights}}\n"


@pytest.fixture
def installed(install: Install, site: Path, tmp_path: Path) -> Path:
    """Install plugins of all sorts, and write a project's and another catalog; return the latter."""
    files = family_files("acme_family", "acme") | {"acme_family/models.yaml": CATALOG.format(name="acme-small")}
    install("acme-family", {"acme": "acme_family.plugin"}, files)
    install("broken-family", {"broken": "broken_family.plugin"}, {"broken_family/plugin.py": "1 / 0\n"})
    install("new-family", {"newer": "new_family.plugin"}, {"new_family/plugin.py": "REGISTRY_API = 99\n"})
    install("one", {"contested": "one.plugin"}, family_files("one", "contested"))
    install("two", {"contested": "two.plugin", "bert": "two.plugin"}, family_files("two", "contested"))
    Path("models.yaml").write_text(CATALOG.format(name="project-acme"))
    own = tmp_path / "own.yaml"
    own.write_text(CATALOG.format(name="own-acme"))
    (site / "worker.py").write_text(SURVEY)
    return own


def expected(registry: ModelRegistry) -> dict[str, object]:
    worker: dict[str, object] = {}
    exec(SURVEY, worker)
    return json.loads(json.dumps(worker["survey"](registry)))  # type: ignore[operator]


SPAWNED = """
import multiprocessing, json, pickle, sys, warnings
from pathlib import Path

if __name__ == "__main__":
    from worker import survey
    warnings.simplefilter("ignore")
    registry = pickle.loads(Path(sys.argv[1]).read_bytes())
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        print(json.dumps([survey(registry), *pool.map(survey, [registry, registry])]))
"""


@pytest.mark.filterwarnings("ignore:family 'bert' is built in")
def test_a_pickled_registry_says_the_same_in_spawned_processes_with_another_working_folder(
    installed: Path, site: Path, tmp_path: Path
) -> None:
    registry = ModelRegistry(catalogs=[installed])
    want = expected(registry)
    assert want["acme"] == "acme_family.model:AcmeConfig" and want["acme-small"] == f"{site / 'acme_family/models.yaml'}:3"
    assert (
        "ZeroDivisionError" in str(want["broken"])
        and "needs 99" in str(want["newer"])
        and "one 1.0 and two" in str(want["contested"])
    )
    (tmp_path / "pickle").write_bytes(pickle.dumps(registry))
    (tmp_path / "main.py").write_text(SPAWNED)
    (elsewhere := tmp_path / "elsewhere").mkdir()
    done = run_python(str(tmp_path / "main.py"), str(tmp_path / "pickle"), path=[site], cwd=elsewhere)
    assert json.loads(done.stdout) == [want, want, want]


@pytest.mark.filterwarnings("ignore:family 'bert' is built in")
def test_many_threads_hear_the_same_from_one_registry(installed: Path) -> None:
    want = expected(ModelRegistry(catalogs=[installed]))
    registry, heard = ModelRegistry(catalogs=[installed]), []
    threads = [threading.Thread(target=lambda: heard.append(expected(registry))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == [want] * 8


def test_a_registered_family_goes_along_with_a_pickled_registry() -> None:
    registry = ModelRegistry()
    registry.register(family := Family(name="mine", config="m:MineConfig", heads={"base": "m:MineModel"}, default_head="base"))
    assert pickle.loads(pickle.dumps(registry)).families.get("mine") == family


def test_a_plugin_that_waits_for_another_thread_which_asks_for_a_family_is_no_deadlock(install: Install) -> None:
    code = """
    import threading
    from registry.model_registry import default_registry
    heard = []
    other = threading.Thread(target=lambda: heard.append(default_registry().families.get("zeta").name), daemon=True)
    other.start()
    other.join(30)
    assert heard == ["zeta"], heard
    """
    files = family_files("acme_family", "acme")
    plain = "\n".join(line[4:] for line in code.splitlines()) + "\n" + files["acme_family/plugin.py"]
    install("acme", {"acme": "acme_family.plugin"}, {**files, "acme_family/plugin.py": plain})
    install("zeta", {"zeta": "zeta_family.plugin"}, family_files("zeta_family", "zeta", "Zeta"))
    from registry.model_registry import default_registry

    assert default_registry().families.get("acme").name == "acme"


def test_with_200_plugins_one_name_imports_one_of_them(install: Install, site: Path) -> None:
    for number in range(200):
        package = f"many_{number}"
        files = family_files(package, f"many-{number}", f"Many{number}x")
        files[f"{package}/models.yaml"] = f"registry: 1\nmodels:\n  small-{number}: {{family: many-{number}, source: ./w}}\n"
        install(package, {f"many-{number}": f"{package}.plugin"}, files)
    registry = ModelRegistry()
    assert len(registry.list_models("small-*")) == 200
    assert registry.resolve("small-117").family == "many-117"
    assert len(registry.families.names()) >= 205
    assert not [name for name in sys.modules if name.startswith("many_")]
    assert registry.families.get("many-117").name == "many-117"
    assert {name.partition(".")[0] for name in sys.modules if name.startswith("many_")} == {"many_117"}
    assert PluginHost().find_class("Many42xModel").__module__ == "many_42.model"  # type: ignore[union-attr]
    assert {name.partition(".")[0] for name in sys.modules if name.startswith("many_")} == {"many_117", "many_42"}
