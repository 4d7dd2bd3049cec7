"""The plugin host: one family is imported, and what is wrong with the others stays with them."""

from __future__ import annotations

import builtins
import sys
import threading
from pathlib import Path

import pytest

from registry.errors import PluginConflict, PluginError, RegistryWarning, UnknownFamily
from registry.families.family import Family
from registry.families.host import PluginHost
from tests.families.conftest import Install, family_files

HEADER = "from registry import Family, hookimpl\nREGISTRY_API = 1\n"


def error_of(family: str, kind: type[PluginError] = PluginError) -> PluginError:
    with pytest.raises(kind) as caught:
        PluginHost().get(family)
    return caught.value


# -- one family ----------------------------------------------------------------------------------------------------------


def test_the_entry_points_name_is_the_familys(acme: str) -> None:
    host = PluginHost()
    assert {"acme", "bert"} <= set(host.names())
    (point,) = host.entry_points()["acme"]
    assert (point.value, point.distribution, point.version) == ("acme_family.plugin", "acme-family", "1.0")
    assert host.get("acme").heads["lm"] == "acme_family.model:AcmeForLM"
    assert host.get("acme") is host.get("acme")


def test_only_the_family_that_is_asked_for_is_imported(acme: str, install: Install) -> None:
    install("zeta", {"zeta": "zeta_family.plugin"}, family_files("zeta_family", "zeta", "Zeta"))
    host = PluginHost()
    host.names()
    host.entry_points()
    host.catalog_sources()
    assert host.maybe_get("unheard-of") is None
    assert not {"acme_family", "zeta_family"} & set(sys.modules)
    host.get("acme")
    assert "acme_family.plugin" in sys.modules
    assert not {"acme_family.model", "zeta_family"} & set(sys.modules)


def test_one_plugin_may_answer_to_several_names(install: Install) -> None:
    install("acme", {"acme": "acme_family.plugin", "acme-2": "acme_family.plugin"}, family_files("acme_family", "acme"))
    host = PluginHost()
    assert host.get("acme") == host.get("acme-2")
    assert host.get("acme-2").name == "acme"


def test_an_unknown_family_says_which_is_close(acme: str) -> None:
    host = PluginHost()
    assert host.maybe_get("acne") is None
    with pytest.raises(UnknownFamily, match=r"'acne' is expected to be one of acme, .*bert.*; did you mean 'acme'\?") as caught:
        host.get("acne")
    assert (caught.value.family, caught.value.known) == ("acne", tuple(host.names()))
    with pytest.raises(UnknownFamily, match="install the package that provides it"):
        host.get("zzz")


def test_a_plugin_is_imported_once_whoever_asks(install: Install) -> None:
    slow = "import time\ntime.sleep(0.05)\nimport builtins\nbuiltins.acme_imports = getattr(builtins, 'acme_imports', 0) + 1\n"
    files = family_files("acme_family", "acme")
    install("acme", {"acme": "acme_family.plugin"}, {**files, "acme_family/plugin.py": slow + files["acme_family/plugin.py"]})
    host = PluginHost()
    found: list[Family] = []
    threads = [threading.Thread(target=lambda: found.append(host.get("acme"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert builtins.__dict__.pop("acme_imports") == 1
    assert len(found) == 8 and all(family is found[0] for family in found)


# -- failures ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("import no_such_module_of_acme\n", ModuleNotFoundError),
        ("1 / 0\n", ZeroDivisionError),
        ("raise SystemExit(3)\n", SystemExit),
        ("import sys\nsys.exit()\n", SystemExit),
        ("this is no Python\n", SyntaxError),
        ("from registry import NoSuchName\n", ImportError),
    ],
)
def test_a_plugin_that_fails_to_import_fails_alone(acme: str, install: Install, code: str, cause: type[BaseException]) -> None:
    install("broken-family", {"broken": "broken_family.plugin"}, {"broken_family/plugin.py": code}, version="2.5")
    host = PluginHost()
    assert {"acme", "bert", "broken"} <= set(host.names())
    with pytest.raises(PluginError) as caught:
        host.get("broken")
    error = caught.value
    assert isinstance(error.__cause__, cause)
    assert f"broken-family 2.5 is expected to import, but raised {cause.__name__}" in str(error)
    assert (error.family, error.distribution) == ("broken", "broken-family")
    assert host.get("acme").name == "acme" and host.get("bert").name == "bert"
    with pytest.raises(PluginError) as again:
        host.maybe_get("broken")
    assert again.value is error


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("", ["state REGISTRY_API = 1", "None"]),
        ("REGISTRY_API = '1'", ["state REGISTRY_API = 1", "'1'"]),
        ("REGISTRY_API = 99", ["version 1 of the plugin contract", "needs 99", "upgrade pretrained-registry"]),
        ("REGISTRY_API = 1", ["return a Family", "NoneType"]),
        (HEADER + "def registry_family(): return 1\n", ["return a Family", "NoneType"]),
        (HEADER + "@hookimpl\ndef registry_family(): return {'name': 'acme'}\n", ["return a Family", "dict"]),
        (HEADER + "@hookimpl\ndef registry_family(): return 'acme'\n", ["return a Family", "str"]),
        (HEADER + "@hookimpl\ndef registry_family(name): ...\n", ["registry_family", "PluginValidationError", "name"]),
        (HEADER + "@hookimpl\ndef registry_famly(): ...\n", ["PluginValidationError", "unknown hook", "registry_famly"]),
        (HEADER + "@hookimpl\ndef registry_family(): return 1 / 0\n", ["registry_family", "ZeroDivisionError"]),
        (HEADER + "@hookimpl\ndef registry_family(): raise SystemExit\n", ["registry_family", "SystemExit"]),
        (HEADER + "@hookimpl\ndef registry_family(): return Family(name='acme')\n", ["TypeError", "config"]),
        (
            HEADER
            + "@hookimpl\ndef registry_family():\n    return Family(name='x', config='a:B', heads={}, default_head='y')\n",
            ["default_head of family 'x'", "'y'"],
        ),
    ],
)
def test_a_plugin_that_breaks_the_contract_is_named(install: Install, code: str, words: list[str]) -> None:
    install("odd-family", {"odd": "odd_family.plugin"}, {"odd_family/plugin.py": code}, version="0.1")
    error = error_of("odd")
    assert "plugin 'odd_family.plugin' of odd-family 0.1 is expected to" in str(error)
    assert (error.code, error.family, error.distribution) == ("R301", "odd", "odd-family")
    for word in words:
        assert word in str(error)


def test_the_version_of_the_contract_is_read_before_the_hook_is_called(install: Install) -> None:
    code = "from registry import hookimpl\nREGISTRY_API = 2\n@hookimpl\ndef registry_family(): raise AssertionError('called')\n"
    install("new", {"new": "new_family.plugin"}, {"new_family/plugin.py": code})
    assert "called" not in str(error_of("new"))


@pytest.mark.parametrize("value", [".plugin", "", "no module", "acme_family.plugin:", "no_such_module"])
def test_an_entry_point_that_leads_nowhere_fails_alone(acme: str, install: Install, value: str) -> None:
    install("odd", {"odd": value}, {"other.txt": ""})
    host = PluginHost()
    assert host.get("acme").name == "acme"
    assert all(source.builtin for source in host.catalog_sources())
    if value != "acme_family.plugin:":
        assert "of odd 1.0" in str(error_of("odd"))


def test_what_a_failed_uninstall_leaves_behind_disturbs_nobody(acme: str, install: Install) -> None:
    (install("left-behind", {"left": "left_behind.plugin"}) / "METADATA").unlink()
    assert PluginHost().get("acme").name == "acme"
    assert "left_behind" in str(error_of("left"))


# -- several plugins for one family --------------------------------------------------------------------------------------


@pytest.fixture
def rivals(install: Install) -> None:
    """Two outsiders who both provide `acme`, the second of whom has a family of its own too."""
    install("acme-one", {"acme": "acme_one.plugin"}, family_files("acme_one", "acme"))
    points = {"acme": "acme_two.plugin", "second": "acme_two.plugin"}
    install("Acme.Two", points, family_files("acme_two", "acme"), version="2.0")


@pytest.mark.usefixtures("rivals")
def test_two_outsiders_are_a_conflict_that_names_both() -> None:
    error = error_of("acme", PluginConflict)
    assert "acme-one 1.0 and acme-two 2.0" in str(error)
    assert "REGISTRY_PLUGINS_DISABLED=acme-two" in str(error)
    assert not {"acme_one", "acme_two"} & set(sys.modules)
    assert PluginHost().get("second").name == "acme"
    assert PluginHost().get("bert").name == "bert"


@pytest.mark.usefixtures("rivals")
@pytest.mark.parametrize(
    ("disabled", "left"),
    [("acme-two", "acme_one"), ("acme_one", "acme_two"), ("Acme.Two:acme", "acme_one"), (" ACME-ONE ,", "acme_two")],
)
def test_disabling_one_ends_the_conflict(disabled: str, left: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_PLUGINS_DISABLED", disabled)
    assert PluginHost().get("acme").config == f"{left}.model:AcmeConfig"


@pytest.fixture
def usurper(install: Install) -> None:
    """An outsider who provides `bert`."""
    install("better-bert", {"bert": "better_bert.plugin"}, family_files("better_bert", "bert", "Bert"), version="3.0")


@pytest.mark.usefixtures("usurper")
def test_a_builtin_family_keeps_its_name() -> None:
    host = PluginHost()
    with pytest.warns(
        RegistryWarning, match=r"'bert' is built in, so that of better-bert 3.0 is off; .*=pretrained-registry:bert"
    ):
        family = host.get("bert")
    assert family.config == "registry_bert.config:BertConfig"
    assert "better_bert" not in sys.modules


@pytest.mark.usefixtures("usurper")
def test_a_rival_takes_the_place_of_a_builtin_family_that_is_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_PLUGINS_DISABLED", "pretrained-registry:bert")
    assert PluginHost().get("bert").config == "better_bert.model:BertConfig"


def test_stale_metadata_of_one_distribution_is_no_conflict(acme: str, install: Install, site: Path, tmp_path: Path) -> None:
    for folder in (site, tmp_path / "later"):
        install("Acme_Family", {"acme": "acme_family.plugin"}, version="0.9", folder=folder)
    sys.path.append(str(tmp_path / "later"))  # taken away with the rest of the path by the fixture `site`
    host = PluginHost()
    assert [point.distribution for point in host.entry_points()["acme"]] == ["acme-family"]
    assert host.get("acme").name == "acme"


@pytest.mark.parametrize(
    ("disabled", "left"),
    [
        ("", ["acme", "acme-lm", "bert"]),
        ("acme", ["acme-lm", "bert"]),
        ("acme_lm", ["acme", "bert"]),
        ("bert", ["acme", "acme-lm"]),
        ("acme-family", ["bert"]),
        ("Acme.Family", ["bert"]),
        ("acme-family:acme", ["acme-lm", "bert"]),
        ("other:acme", ["acme", "acme-lm", "bert"]),
        ("acme-family, bert", []),
        (" ,, acme ,", ["acme-lm", "bert"]),
        ("pretrained-registry", ["acme", "acme-lm"]),
    ],
)
def test_families_and_distributions_can_be_switched_off(
    disabled: str, left: list[str], install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = {"acme": "acme_family.plugin", "acme-lm": "acme_family.plugin"}
    install("acme-family", points, family_files("acme_family", "acme"))
    monkeypatch.setenv("REGISTRY_PLUGINS_DISABLED", disabled)
    host = PluginHost()
    for name in ("acme", "acme-lm", "bert"):
        assert (name in host.names()) == (name in left)
        assert (host.maybe_get(name) is not None) == (name in left)


# -- registration in the process -----------------------------------------------------------------------------------------


def test_a_family_can_be_registered_for_this_process() -> None:
    family = Family(name="mine", config="m:MineConfig", heads={"base": "m:MineModel"}, default_head="base")
    host = PluginHost()
    host.register(family)
    assert {"bert", "mine"} <= set(host.names())
    assert host.get("mine") is family
    assert PluginHost().maybe_get("mine") is None
    with pytest.raises(PluginConflict, match="family 'mine' is expected to be new") as caught:
        host.register(family)
    assert caught.value.family == "mine"


def test_an_installed_family_cannot_be_registered_over(acme: str) -> None:
    host = PluginHost()
    with pytest.raises(PluginConflict, match="family 'acme'"):
        host.register(Family(name="acme", config="m:C", heads={"base": "m:B"}, default_head="base"))
    assert "acme_family" not in sys.modules


# -- classes by name -----------------------------------------------------------------------------------------------------


def test_a_class_is_found_by_importing_the_family_its_name_begins_with(install: Install) -> None:
    points = {"acme": "acme_family.plugin", "acme-xl": "xl_family.plugin", "aaa": "aaa_family.plugin"}
    files = {
        **family_files("acme_family", "acme"),
        **family_files("xl_family", "acme-xl", "AcmeXL"),
        **family_files("aaa_family", "aaa", "Aaa"),
    }
    install("acme", points, files)
    found = PluginHost().find_class("AcmeXLModel")
    assert found is not None and (found.__module__, found.__name__) == ("xl_family.model", "AcmeXLModel")
    assert not {"acme_family", "aaa_family"} & set(sys.modules)
    found = PluginHost().find_class("AcmeConfig")
    assert found is not None and found.__module__ == "acme_family.model"
    assert "aaa_family" not in sys.modules


def test_a_class_that_no_family_has_is_none(acme: str) -> None:
    assert PluginHost().find_class("AcmeForNothing") is None
    assert PluginHost().find_class("Model") is None


def test_a_broken_plugin_does_not_hide_the_classes_of_others(acme: str, install: Install) -> None:
    install("broken", {"acmemodel": "broken_family.plugin"}, {"broken_family/plugin.py": "1 / 0\n"})
    assert PluginHost().find_class("AcmeModel") is not None


def test_a_class_whose_module_is_broken_is_the_plugins_error(install: Install) -> None:
    files = {**family_files("acme_family", "acme"), "acme_family/model.py": "1 / 0\n"}
    install("acme", {"acme": "acme_family.plugin"}, files)
    with pytest.raises(PluginError, match="ZeroDivisionError"):
        PluginHost().find_class("AcmeModel")
