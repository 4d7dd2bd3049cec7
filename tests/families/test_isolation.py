"""What is wrong with one plugin is told to who asks for its family, and every other family loads."""

from __future__ import annotations

import builtins
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import registry
from registry.errors import CatalogError, PluginConflict, PluginError, RegistryWarning
from registry.families import conflicts as claims
from registry.families.host import PluginHost
from tests.families.conftest import PLUGIN, Install, family_files
from tests.families.models import save_one_of_each
from tests.processes import run_python


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_one_of_each(tmp_path_factory.mktemp("models"))


@pytest.fixture
def others_load(folders: dict[str, Path]) -> Iterator[None]:
    """Whatever a test installs, all built-in families load afterwards, without a word."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("default", message="family 'bert' is built in")
        assert {name: type(registry.load(folder)).__name__ for name, folder in folders.items()} == {
            name: name for name in folders
        }
        assert registry.resolve("bert-base-uncased").family == "bert"


pytestmark = pytest.mark.usefixtures("others_load")


def asked_for(family: str, kind: type[Exception] = PluginError) -> str:
    """Return the message for who asks for a family, which is the same for the second who does."""
    with pytest.raises(kind) as first:
        registry.default_registry().families.get(family)
    with pytest.raises(kind) as second:
        registry.default_registry().families.get(family)
    assert first.value is second.value
    return str(first.value)


def test_an_outsider_who_claims_bert_is_off_and_said_so(install: Install, folders: dict[str, Path]) -> None:
    install("better-bert", {"bert": "better_bert.plugin"}, family_files("better_bert", "bert", "Bert"), version="3.0")
    with pytest.warns(RegistryWarning) as warned:
        assert type(registry.load(folders["BertForMaskedLM"])).__module__ == "registry_bert.modeling"
    assert [str(warning.message) for warning in warned] == [
        "family 'bert' is built in, so that of better-bert 3.0 is off; "
        "set REGISTRY_PLUGINS_DISABLED=pretrained-registry:bert to use it instead"
    ]
    assert "better_bert" not in sys.modules


def test_two_outsiders_who_claim_one_family_are_named_with_the_way_to_choose(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("acme-one", {"acme": "acme_one.plugin"}, family_files("acme_one", "acme"), version="1.2")
    install("acme-two", {"acme": "acme_two.plugin"}, family_files("acme_two", "acme"), version="0.9")
    message = asked_for("acme", PluginConflict)
    assert message == (
        "[R302] family 'acme' is expected to come from one distribution, but acme-one 1.2 and acme-two 0.9 provide it; "
        "uninstall all but one, or switch all but one off: REGISTRY_PLUGINS_DISABLED=acme-two:acme leaves that of acme-one"
    )
    found = re.search(r"(REGISTRY_PLUGINS_DISABLED)=(\S+)", message)
    assert found
    monkeypatch.setenv(*found.groups())
    assert PluginHost().get("acme").config == "acme_one.model:AcmeConfig"


@dataclass(frozen=True)
class Broken:
    code: str
    message: str


SOUND = PLUGIN.format(family="acme", package="acme_family", prefix="Acme")
BROKEN = {
    "raises at import": Broken("1 / 0\n", "expected to import, but raised ZeroDivisionError: division by zero"),
    "needs what is not installed": Broken(
        "import acme_engine\n", "but raised ModuleNotFoundError: No module named 'acme_engine'"
    ),
    "ends the program": Broken("import sys\nsys.exit('bye')\n", "but raised SystemExit: bye"),
    "raises what is no Exception": Broken("class Stop(BaseException): ...\nraise Stop('now')\n", "but raised Stop: now"),
    "cancels": Broken("import asyncio\nraise asyncio.CancelledError\n", "but raised CancelledError: "),
    "recurses": Broken("def f(): f()\nf()\n", "but raised RecursionError"),
    "speaks a newer contract": Broken(
        SOUND.replace("API = 1", "API = 99"),
        "expected to speak version 1 of the plugin contract, but needs 99; upgrade pretrained-registry",
    ),
    "states no contract": Broken(SOUND.replace("REGISTRY_API = 1", ""), "expected to state REGISTRY_API = 1, but states None"),
    "states nonsense": Broken(SOUND.replace("API = 1", "API = True"), "expected to state REGISTRY_API = 1, but states True"),
    "states none that ever was": Broken(
        SOUND.replace("API = 1", "API = 0"), "expected to state REGISTRY_API = 1, but states 0"
    ),
    "has a hook of another form": Broken(
        SOUND.replace("registry_family()", "registry_family(name)"),
        "implement the hook registry_family, but raised PluginValid",
    ),
    "has a hook that raises": Broken(SOUND.replace("return Family", "1 / 0; return Family"), "but raised ZeroDivisionError"),
    "has a hook that stops the world": Broken(
        SOUND.replace("return Family", "raise BaseException('x'); return Family"), "but raised BaseException: x"
    ),
    "returns something else": Broken(
        SOUND.replace("return Family(", "return dict("), "return a Family from registry_family, but returned dict"
    ),
    "describes no family": Broken(SOUND.replace('default_head="base"', 'default_head="bass"'), "default_head of family 'acme'"),
    "raises what cannot be shown": Broken(
        "class E(Exception):\n    def __str__(self): raise RuntimeError\n    __repr__ = __str__\nraise E",
        "expected to import, but raised E: (E that cannot be shown: str() raises RuntimeError)",
    ),
    "raises what ends the program when it is shown": Broken(
        "class E(Exception):\n    def __str__(self): raise SystemExit\nraise E",
        "(E that cannot be shown: str() raises SystemExit)",
    ),
    "states what cannot be shown": Broken(
        "class A:\n    def __repr__(self): 1 / 0\nREGISTRY_API = A()", "but states (A that cannot be shown: repr() raises Zero"
    ),
    "is another object": Broken(
        "import sys\nclass M:\n    __path__ = ()\n    def __getattr__(self, name): raise OSError(name)\n"
        "sys.modules[__name__] = M()",
        "OSError: ",
    ),
    "is an object with any attribute": Broken(
        "import sys\nclass M:\n    def __getattr__(self, name): return self\nsys.modules[__name__] = M()", "M object at "
    ),
    "deletes itself": Broken("import sys\ndel sys.modules[__name__]", "but raised KeyError: 'acme_family.plugin'"),
    "is no module any more": Broken("import sys\nsys.modules[__name__] = None", "expected to state REGISTRY_API = 1"),
    "returns what is no family, whatever it says": Broken(
        "from registry import Family, hookimpl\nREGISTRY_API = 1\nclass F:\n    @property\n    def __class__(self): 1 / 0\n"
        "@hookimpl\ndef registry_family(): return F()",
        "return a Family from registry_family, but returned F",
    ),
    "asks for itself": Broken(
        "import registry\nregistry.default_registry().families.get('acme')\n", "is asked for while it is; import what needs it"
    ),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=list(BROKEN))
def test_a_plugin_that_is_broken_says_so_to_who_asks_for_it(broken: Broken, install: Install) -> None:
    files = {**family_files("acme_family", "acme"), "acme_family/plugin.py": broken.code}
    install("acme-family", {"acme": "acme_family.plugin"}, files, version="2.5")
    message = asked_for("acme")
    assert broken.message in message
    assert "acme-family 2.5" in message
    assert "acme" in registry.default_registry().families.names()


def test_a_class_whose_module_ends_the_program_is_a_plugin_error(install: Install) -> None:
    files = {**family_files("acme_family", "acme"), "acme_family/model.py": "raise SystemExit(3)\n"}
    install("acme-family", {"acme": "acme_family.plugin"}, files)
    family = registry.default_registry().families.get("acme")
    with pytest.raises(PluginError, match="but raised SystemExit: 3"):
        family.load_class(family.config)


def test_a_plugin_that_takes_its_time_is_named_while_it_is_waited_for(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = family_files("acme_family", "acme")
    slow = (
        "import time, warnings\nend = time.monotonic() + 30\nwhile not acme_told and time.monotonic() < end: time.sleep(0.01)\n"
    )
    files["acme_family/plugin.py"] = f"from builtins import acme_told\n{slow}" + files["acme_family/plugin.py"]
    install("acme", {"acme": "acme_family.plugin"}, files, version="2.5")
    told: list[str] = []
    monkeypatch.setattr(builtins, "acme_told", told, raising=False)
    monkeypatch.setattr(claims, "PATIENCE", 0.05)

    def show(message: Warning | str, category: type[Warning], filename: str, *_: object, **__: object) -> None:
        told.append(f"{filename}: {category.__name__}: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("always", RegistryWarning)
        monkeypatch.setattr(warnings, "showwarning", show)
        assert PluginHost().get("acme").name == "acme"
    assert told == [
        f"{__file__}: RegistryWarning: plugin 'acme_family.plugin' of acme 2.5 is still running its code after 0.05 seconds; "
        "this waits for it, and Ctrl-C ends it"
    ]


@pytest.mark.parametrize("stream", ["sys.stderr.close()", "sys.stderr = object()", "sys.stderr = None"])
def test_a_warning_passes_when_standard_error_is_closed_or_replaced(stream: str) -> None:
    done = run_python("-c", f"import sys; {stream}\nfrom registry.errors import warn; warn('x'); print('fine')", check=False)
    assert done.stdout == "fine\n"


@pytest.mark.parametrize(
    "closing", ["sys.stdout.close()", "os.close(1)", "sys.stdout.detach()", "sys.stderr.close(); os.close(2)"]
)
def test_standard_streams_that_a_plugin_closes_are_open_afterwards(closing: str, install: Install) -> None:
    files = family_files("acme_family", "acme")
    files["acme_family/plugin.py"] = f"import os, sys\n{closing}\n" + files["acme_family/plugin.py"]
    install("acme", {"acme": "acme_family.plugin"}, files)
    code = (
        "import registry, sys; registry.default_registry().families.get('acme')\n"
        "print('out', flush=True); print('err', file=sys.stderr)"
    )
    done = run_python("-c", code, path=sys.path[:1])
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


@pytest.mark.parametrize("closing", ["os.close(1)", "sys.__stdout__.close()", "sys.stdout.close()"])
def test_the_report_of_plugins_is_printed_after_one_closes_standard_output(closing: str, install: Install) -> None:
    files = family_files("acme_family", "acme")
    files["acme_family/plugin.py"] = f"import os, sys\n{closing}\n" + files["acme_family/plugin.py"]
    install("acme", {"acme": "acme_family.plugin"}, files)
    done = run_python("-m", "registry", "plugins", path=sys.path[:1])
    assert "acme_family.plugin" in done.stdout and "registry_bert.plugin" in done.stdout


def test_the_users_own_interruption_is_no_failure_of_the_plugin(install: Install) -> None:
    code = "import builtins\nif not hasattr(builtins, 'acme_once'):\n    builtins.acme_once = 1\n    raise KeyboardInterrupt\n"
    files = family_files("acme_family", "acme")
    install("acme", {"acme": "acme_family.plugin"}, {**files, "acme_family/plugin.py": code + files["acme_family/plugin.py"]})
    host = PluginHost()
    with pytest.raises(KeyboardInterrupt):
        host.get("acme")
    assert host.get("acme").name == "acme"


def test_a_plugin_whose_catalog_is_broken_keeps_its_family_and_the_names_of_others(install: Install, site: Path) -> None:
    files = {
        **family_files("acme_family", "acme"),
        "acme_family/models.yaml": "registry: 1\nmodels:\n  a: {famly: acme}\n  b: [\n",
    }
    install("acme-family", {"acme": "acme_family.plugin"}, files)
    with pytest.warns(RegistryWarning, match=re.escape(str(site / "acme_family/models.yaml")) + r":\d+:\d+: "):
        assert registry.resolve("gpt2").family == "gpt2"
    assert registry.default_registry().families.get("acme").name == "acme"
    (site / "acme_family/models.yaml").write_text("registry: 1\nmodels:\n  a: {famly: acme, source: ./x}\n")
    with pytest.raises(CatalogError, match=r"models\.yaml:3:7: .*'famly'"):
        registry.resolve("a")


def test_a_failure_keeps_the_cause_and_not_everyone_who_asked(install: Install) -> None:
    install("acme", {"acme": "acme_family.plugin"}, {"acme_family/plugin.py": "1 / 0\n"})
    host, depths = PluginHost(), []
    for _ in range(3):
        with pytest.raises(PluginError) as caught:
            host.get("acme")
        assert isinstance(caught.value.__cause__, ZeroDivisionError) and caught.value.__cause__.__traceback__
        trace, depth = caught.value.__traceback__, 0
        while trace:
            trace, depth = trace.tb_next, depth + 1
        depths.append(depth)
    assert depths[1] == depths[2]
