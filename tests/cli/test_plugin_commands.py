"""`registry plugins`: everything that is installed, with what is wrong with it."""

from __future__ import annotations

import json
import os
import sys
import warnings
from typing import Any

import pytest

from registry.families import discovery
from tests.cli.conftest import Run
from tests.families.conftest import Install, family_files

VERIFIER = (
    "from registry import hookimpl\n@hookimpl\ndef registry_verify(model): ...\n@hookimpl\ndef registry_loaded(model): ...\n"
)
TRANSPORT = """
class Memory:
    remote = True
    def join(self, source, name): ...
    def at(self, source, commit): ...
    def describe(self, url): ...
    def open(self, resource, span=None): ...
    def parallelism(self, resource): ...
    def close(self): ...
"""


def reports(run: Run, code: int = 0) -> dict[str, dict[str, Any]]:
    """Return the reports of `--json` by distribution, and hold the exit code to what it should be."""
    result = run("plugins", "--json")
    assert result.code == code, result.out
    return {report["distribution"]: report for report in json.loads(result.out)}


def test_what_comes_with_the_core_is_listed_and_works(run: Run) -> None:
    result = run("plugins")
    assert result.code == 0
    assert [line.split()[0] for line in result.out.splitlines()] == [
        "registry_bert.plugin",
        "registry_gpt.plugin",
        "registry_gpt2.plugin",
        "registry_transfo_xl.plugin",
    ]
    assert "families: gpt, openai-gpt; a catalog" in result.out
    assert "contract 1" in run("plugins", "-v").out


def test_a_sound_plugin_of_each_sort_says_what_it_provides(run: Run, install: Install, site: Any) -> None:
    files = {**family_files("acme_family", "acme"), "acme_family/models.yaml": "registry: 1\nmodels: {}\n"}
    install("acme-family", {"acme": "acme_family.plugin", "acme-2": "acme_family.plugin"}, files, version="1.5")
    install("acme-sign", {"x": "acme_sign:registry_verify"}, {"acme_sign.py": VERIFIER}, group="registry.plugins")
    install("acme-memory", {"mem": "acme_memory:Memory"}, {"acme_memory.py": TRANSPORT}, group="registry.transports")
    catalog = {"acme_names/__init__.py": "raise AssertionError\n", "acme_names/models.yaml": "registry: 1\nmodels: {}\n"}
    install("acme-names", {"names": "acme_names"}, catalog, group="registry.catalogs")
    found = reports(run)
    assert {name: report["state"] for name, report in found.items()} == dict.fromkeys(found, "ok")
    family, sign, memory, names = (found[f"acme-{name}"] for name in ("family", "sign", "memory", "names"))
    assert (family["name"], family["version"], family["api"]) == ("acme_family.plugin", "1.5", 1)
    assert (family["families"], family["catalogs"]) == (["acme", "acme-2"], [str(site / "acme_family/models.yaml")])
    assert (sign["hooks"], sign["families"]) == (["registry_verify", "registry_loaded"], [])
    assert (memory["transports"], memory["hooks"]) == (["mem"], [])
    assert (names["catalogs"], names["seconds"]) == ([str(site / "acme_names/models.yaml")], None)
    assert family["seconds"] > 0 and family["error"] is None


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("1 / 0", "raised ZeroDivisionError: division by zero"),
        ("raise SystemExit(7)", "raised SystemExit: 7"),
        ("REGISTRY_API = 99", "needs 99; upgrade pretrained-registry"),
        ("", "state REGISTRY_API = 1"),
    ],
)
def test_a_broken_plugin_is_shown_with_its_error_and_the_exit_code_is_1(
    code: str,
    said: str,
    run: Run,
    install: Install,
) -> None:
    install("broken-family", {"broken": "broken_family.plugin"}, {"broken_family/plugin.py": code}, version="2.5")
    result = run("plugins")
    assert result.code == 1 and said in result.out and "Traceback" not in result.out
    assert "registry_bert.plugin " in result.out
    report = reports(run, 1)["broken-family"]
    assert report["state"] == "broken" and said in report["error"]["message"] and report["error"]["code"] == "R301"


def test_verbose_shows_the_traceback(run: Run, install: Install) -> None:
    install("broken-family", {"broken": "broken_family"}, {"broken_family.py": "def f():\n    1 / 0\nf()\n"})
    out = run("plugins", "-v").out
    assert "Traceback (most recent call last):" in out and 'broken_family.py", line 2, in f' in out
    assert "line 2, in f" in reports(run, 1)["broken-family"]["traceback"]


def test_a_rival_of_what_is_built_in_is_off_and_no_fault(run: Run, install: Install) -> None:
    install("better-bert", {"bert": "better_bert.plugin"}, {"better_bert/plugin.py": "raise AssertionError\n"})
    install("own-files", {"file": "own_files:Files"}, {"own_files.py": "raise AssertionError\n"}, group="registry.transports")
    found = reports(run)
    bert, files = found["better-bert"], found["own-files"]
    assert bert["state"] == files["state"] == "off"
    assert bert["notes"] == [
        "family 'bert' is built in, so this one is off; REGISTRY_PLUGINS_DISABLED=pretrained-registry:bert uses this one"
    ]
    assert files["notes"] == ["scheme 'file' is built in, so this one is off"]


def test_two_outsiders_are_a_conflict_and_the_exit_code_is_1(
    run: Run,
    install: Install,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install("acme-one", {"acme": "acme_one.plugin"}, family_files("acme_one", "acme"))
    install("acme-two", {"acme": "acme_two.plugin"}, family_files("acme_two", "acme"), version="2.0")
    found = reports(run, 1)
    assert found["acme-one"]["state"] == found["acme-two"]["state"] == "conflict"
    assert "acme-two 2.0 too, so neither is used" in found["acme-one"]["notes"][0]
    monkeypatch.setenv("REGISTRY_PLUGINS_DISABLED", "acme-one:acme")
    found = reports(run)
    assert (found["acme-one"]["state"], found["acme-two"]["state"]) == ("disabled", "ok")


def test_a_heavy_plugin_that_prints_is_reported_and_not_refused(
    run: Run, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = family_files("acme_family", "acme")
    noisy = "import transformers_stand_in\nprint('hello from acme')\n"
    files["acme_family/plugin.py"] = noisy + files["acme_family/plugin.py"]
    files["transformers_stand_in.py"] = (
        "import sys, types\nsys.modules.setdefault('tensorflow', types.ModuleType('tensorflow'))\n"
    )
    install("acme-family", {"acme": "acme_family.plugin"}, files)
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    report = reports(run)["acme-family"]
    sys.modules.pop("tensorflow")
    assert report["state"] == "ok"
    assert any(note.startswith("it imports tensorflow") for note in report["notes"])
    assert "it prints when it is imported: 'hello from acme'" in report["notes"]


def test_a_catalog_package_without_its_catalog_is_broken(run: Run, install: Install) -> None:
    install("acme-names", {"names": "acme_names"}, {"acme_names/__init__.py": ""}, group="registry.catalogs")
    assert "is expected to hold models.yaml, but does not" in reports(run, 1)["acme-names"]["error"]["message"]


@pytest.mark.parametrize(
    "code",
    [
        "class E(Exception):\n    def __str__(self): raise RuntimeError\n    __repr__ = __str__\nraise E",
        "import sys; sys.stdout.close()",
        "import sys; sys.stdout = None; sys.stderr = None",
        "import sys; sys.stderr = sys.stdout = object()",
        "import os; os.chdir('/'); os.environ['REGISTRY_PLUGINS_DISABLED'] = 'zeta'; os.environ.pop('HOME')",
        "import sys; sys.path.clear()",
        "import warnings; warnings.simplefilter('error'); warnings.showwarning = None",
        "import sys\nclass M:\n    def __getattr__(self, name): raise RuntimeError\nsys.modules[__name__] = M()",
        "import sys; del sys.modules[__name__]",
        "raise SystemExit(0)",
    ],
)
def test_a_plugin_disturbs_no_row_but_its_own(code: str, run: Run, install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    streams, variables, filters = (sys.stdout, sys.stderr), dict(os.environ), [*warnings.filters]
    install("acme", {"acme": "acme_family.plugin"}, {"acme_family/__init__.py": "", "acme_family/plugin.py": code})
    install("zeta", {"zeta": "zeta_family.plugin"}, family_files("zeta_family", "zeta"))
    found = reports(run, 1)
    assert found["acme"]["state"] == "broken"
    assert found["zeta"]["state"] == found["pretrained-registry"]["state"] == "ok" and not found["zeta"]["notes"]
    assert (sys.stdout, sys.stderr) == streams and dict(os.environ) == variables and warnings.filters == filters
    assert run("plugins", "-v").code == 1


def test_two_entry_points_may_name_one_catalog_package(run: Run, install: Install) -> None:
    files = {"acme_names/__init__.py": "", "acme_names/models.yaml": "registry: 1\nmodels: {}\n"}
    install("acme-names", {"one": "acme_names", "two": "acme_names"}, files, group="registry.catalogs")
    assert reports(run)["acme-names"]["state"] == "ok"


def test_every_claim_is_looked_up_once(run: Run, install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    files = family_files("acme_family", "acme")
    for number in range(20):
        install(
            f"acme-{number}",
            {f"mem{number}": f"acme_{number}:Memory"},
            {f"acme_{number}.py": TRANSPORT},
            group="registry.transports",
        )
    install("acme", {f"acme{number}": "acme_family.plugin" for number in range(20)}, files)
    asked: list[str] = []
    ask = discovery.installed_entry_points
    monkeypatch.setattr(discovery, "installed_entry_points", lambda group: asked.append(group) or ask(group))
    run("plugins")
    assert len(asked) < 20
