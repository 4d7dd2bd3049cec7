"""`registry doctor`: one report of everything that can be wrong, with what to do, and an exit code."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import registry
from registry.base.settings import is_offline
from registry.cli import diagnosis
from registry.cli.diagnosis import _numbers, _satisfies
from registry.errors import ConfigError
from registry.model_registry import ModelRegistry
from tests.cli.conftest import Run
from tests.families.conftest import Install, family_files


def problems(section: diagnosis.Section) -> str:
    return "\n".join(f"{problem.what} -> {problem.fix}" for problem in section.problems)


def test_a_sound_installation_has_nothing_wrong(run: Run, cache: Path) -> None:
    result = run("doctor")
    assert result.code == 0, result.out
    assert result.out.rstrip().endswith("nothing is wrong")
    for part in ("environment", "cache", "catalogs", "plugins", "imports", "settings", str(cache), "registry_bert.plugin"):
        assert part in result.out


def test_the_report_for_programs_has_the_same_sections(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_OFLINE", "1")
    result = run("doctor", "--json")
    report = json.loads(result.out)
    assert list(report) == ["environment", "cache", "catalogs", "plugins", "imports", "settings", "problems"]
    assert report["problems"] == [
        {"section": "settings", "what": "REGISTRY_OFLINE is no setting", "fix": "did you mean REGISTRY_OFFLINE?"}
    ]
    assert result.code == 1


# -- catalogs ------------------------------------------------------------------------------------------------------------


def places(section: diagnosis.Section) -> list[tuple[str, str, bool]]:
    rows: list[dict[str, Any]] = section.facts["places"]
    return [(row["layer"], row["path"], row["found"]) for row in rows]


def test_every_place_of_a_catalog_is_told_whether_or_not_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_SYSTEM_MODELS", str(tmp_path / "system.yaml"))
    other = tmp_path / "other.yaml"
    other.write_text("registry: 1\nmodels:\n  a: {family: bert, source: ./a}\n  b: {alias: a}\n")
    monkeypatch.setenv("REGISTRY_MODELS", str(other))
    found = places(diagnosis.catalogs(ModelRegistry()))
    assert ("system", str(tmp_path / "system.yaml"), False) in found
    assert ("user", str(tmp_path / "home/.config/registry/models.yaml"), False) in found
    assert ("project", f"models.yaml from {tmp_path / 'work'} upward", False) in found
    assert ("environment", str(other), True) in found
    assert [layer for layer, _, _ in found] == sorted((layer for layer, _, _ in found), key=lambda name: registry_layer(name))


def registry_layer(name: str) -> int:
    from registry.catalog.layers import LayerKind

    return LayerKind[name.upper()]


@pytest.mark.filterwarnings("ignore::registry.RegistryWarning")
def test_what_is_wrong_with_a_catalog_is_told_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("models.yaml").write_text("registry: 1\nmodels:\n  a: {family: bert, sorce: ./a}\n  b: {alias: nowhere}\n")
    broken = tmp_path / "broken.yaml"
    broken.write_text("registry: 1\nmodels: [\n")
    monkeypatch.setenv("REGISTRY_MODELS", os.pathsep.join([str(broken), str(tmp_path / "missing.yaml")]))
    said = problems(diagnosis.catalogs(ModelRegistry()))
    for place in (
        f"{Path.cwd()}/models.yaml:3:",
        f"{Path.cwd()}/models.yaml:4:",
        f"{broken}:3:1:",
        f"{tmp_path}/missing.yaml:1:1:",
    ):
        assert place in said
    assert len(said.splitlines()) == 4


def test_a_hosts_token_that_is_not_set_is_a_remark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "hosts.yaml"
    other.write_text("registry: 1\nmodels: {}\nhosts:\n  models.acme.example: {token_env: ACME_TOKEN}\n")
    monkeypatch.setenv("REGISTRY_MODELS", str(other))
    section = diagnosis.catalogs(ModelRegistry())
    assert any("ACME_TOKEN, the token of models.acme.example, is not set" in remark for remark in section.remarks)
    assert section.problems == []
    assert section.facts["hosts"] == [
        {"host": "models.acme.example", "token_env": "ACME_TOKEN", "set": False, "place": f"{other}:4"}
    ]
    monkeypatch.setenv("ACME_TOKEN", "t0k3n")
    assert diagnosis.catalogs(ModelRegistry()).facts["hosts"][0]["set"] is True


# -- cache ---------------------------------------------------------------------------------------------------------------


def test_a_cache_is_looked_at_without_leaving_anything(cache: Path) -> None:
    section = diagnosis.cache(None)
    assert section.problems == [] and not cache.exists()
    assert section.facts[str(cache)]["writable"] and section.facts[str(cache)]["free bytes"] > 0
    cache.mkdir()
    assert diagnosis.cache(None).facts[str(cache)]["locks"] is True
    assert list(cache.iterdir()) == []


def test_a_cache_that_is_a_file_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "is expected to be a folder, but is not" in problems(diagnosis.cache(str(tmp_path / "file")))


def test_a_cache_that_cannot_be_written_is_wrong(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(diagnosis.tempfile, "TemporaryDirectory", refuse)
    assert "cannot be written (Permission denied) -> mend its permissions" in problems(diagnosis.cache(None))


def test_a_tier_that_is_not_there_is_a_remark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_CACHE", os.pathsep.join([str(tmp_path / "mine"), str(tmp_path / "shared")]))
    section = diagnosis.cache(None)
    assert section.remarks == [f"the read-only tier {tmp_path / 'shared'} is not there"] and not section.problems


# -- plugins and imports -------------------------------------------------------------------------------------------------


def test_a_broken_plugin_is_wrong_and_a_rival_is_a_remark(install: Install) -> None:
    install("broken-family", {"broken": "broken_family.plugin"}, {"broken_family/plugin.py": "1 / 0"}, version="2.5")
    install("better-bert", {"bert": "better_bert.plugin"}, family_files("better_bert", "bert"))
    section = diagnosis.plugins()
    assert "broken_family.plugin of broken-family 2.5" in problems(section) and "ZeroDivisionError" in problems(section)
    assert len(section.problems) == 1
    assert any("better-bert 1.0: family 'bert' is built in" in remark for remark in section.remarks)


def test_a_plugin_that_ends_the_process_is_found(install: Install) -> None:
    install("deadly", {"deadly": "deadly_family"}, {"deadly_family.py": "import os\nos._exit(9)\n"})
    assert "looking at the plugins ended with 9 and no report" in problems(diagnosis.plugins())
    said = problems(diagnosis.imports())
    assert said.startswith("deadly_family of deadly 1.0 ends the process that imports it (9)") and len(said.splitlines()) == 1


def test_a_plugin_that_imports_torch_is_a_remark(install: Install) -> None:
    install("heavy", {"heavy": "heavy_family"}, {"heavy_family.py": "import sys\nsys.modules['torch'] = sys\nprint('hi')\n"})
    section = diagnosis.imports()
    assert section.problems == []
    assert any("heavy_family of heavy 1.0 imports torch" in remark for remark in section.remarks)
    assert re.fullmatch(r"\d+ ms", section.facts["registry"]) and "registry_bert.plugin" in section.facts


# -- environment and settings --------------------------------------------------------------------------------------------


def test_the_environment_names_what_the_package_needs() -> None:
    section = diagnosis.environment()
    assert section.problems == []
    assert section.facts["python"].startswith(sys.version.split()[0])
    assert section.facts["pretrained-registry"] == registry.__version__
    assert {"torch", "pluggy", "PyYAML", "safetensors"} <= set(section.facts)


def test_what_is_missing_or_too_old_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"pretrained-registry": "0.1.0", "torch": "1.13.1", "pluggy": None}
    monkeypatch.setattr(diagnosis, "_version", versions.get)
    monkeypatch.setattr(
        diagnosis.metadata, "requires", lambda _: ["torch>=2.10", "pluggy >=1.5", 'obstore>=0.12; extra == "x"']
    )
    assert problems(diagnosis.environment()).splitlines() == [
        "torch 1.13.1 is installed, but >=2.10 is needed -> pip install -U 'torch>=2.10'",
        "pluggy is not installed -> pip install 'pluggy >=1.5'",
    ]


@pytest.mark.parametrize(
    ("version", "wanted", "fits"),
    [
        ("2.13.0+cpu", ">=2.10", True),
        ("2.9.1", ">=2.10", False),
        ("2.10", ">=2.10.0", True),
        ("0.23.3", ">=0.23.3,<1", True),
        ("1.0.0rc3", ">=0.23.3,<1", False),
        ("6.0.3", "", True),
        ("4.dev1", ">=4", True),
    ],
)
def test_versions_are_held_to_their_bounds(version: str, wanted: str, fits: bool) -> None:
    from packaging.specifiers import SpecifierSet

    assert _satisfies(version, wanted) == fits
    assert fits == SpecifierSet(wanted).contains(version, prereleases=True) or "dev" in version or "rc" in version
    assert _numbers("1.0") == _numbers("1")


def test_settings_in_force_are_shown_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "REGISTRY_OFFLINE": "1",
        "HF_TOKEN": "hf_secret1",
        "HTTPS_PROXY": "http://user:secret2@proxy.example:8080",
        "http_proxy": "user:secret3@proxy.example:8080",
        "HF_ENDPOINT": "https://hub.example/?key=secret4",
        "REGISTRY_HTTP_ADDR": "0.0.0.0:5000",
        "REGISTRY_ACME_TOKEN": "secret5",
    }.items():
        monkeypatch.setenv(name, value)
    section = diagnosis.settings()
    assert "secret" not in json.dumps(section.facts)
    assert section.facts["REGISTRY_OFFLINE"] == "1"
    assert section.facts["HTTPS_PROXY"] == "http://proxy.example:8080"
    assert section.facts["http_proxy"] == "proxy.example:8080"
    assert section.facts["HF_TOKEN"] == "(set, not shown)"
    assert section.problems == []


@pytest.mark.parametrize(
    ("name", "value", "accepts"),
    [
        *((name, "maybe", "1, true, yes or on, or 0, false, no or off") for name in diagnosis._ANSWERS),
        ("REGISTRY_LOCKED", "maybe", "or 0, false, no or off, or exact"),
        ("REGISTRY_LOCK_TIMEOUT", "soon", "a number of seconds"),
        ("REGISTRY_RANK_TIMEOUT", "soon", "a number of seconds above 0"),
        ("REGISTRY_RETRIES", "9" * 5000, "a number such as 0 or 5"),
        ("REGISTRY_RETRIES", "-1", "a number such as 0 or 5"),
        ("REGISTRY_PARALLEL", "65", "a number from 1 to 64"),
        ("REGISTRY_PARALLEL", "9" * 5000, "a number from 1 to 64"),
    ],
)
def test_a_setting_that_is_no_answer_or_number_is_wrong(
    name: str, value: str, accepts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert diagnosis.settings().problems == []
    monkeypatch.setenv(name, value)
    (problem,) = diagnosis.settings().problems
    assert problem.what.startswith(f"{name} is expected to be ") and accepts in problem.what and value in problem.what


@pytest.mark.parametrize("value", ["1", " true ", "YES", "on", "0", "False", "no", "OFF", ""])
def test_answers_are_taken_in_any_case(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*diagnosis._ANSWERS, "REGISTRY_LOCKED"):
        monkeypatch.setenv(name, value)
    assert diagnosis.settings().problems == []
    assert is_offline() is (value.strip().lower() in ("1", "true", "yes", "on"))


@pytest.mark.parametrize("name", ["REGISTRY_OFFLINE", "HF_HUB_OFFLINE", "REGISTRY_QUIET", "REGISTRY_MMAP"])
def test_a_model_is_not_loaded_under_a_setting_that_says_neither(
    name: str, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "maybe")
    with pytest.raises(
        ConfigError, match=f"{name} is expected to be 1, true, yes or on, or 0, false, no or off, but is 'maybe'"
    ):
        registry.load(tiny_bert)
