from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

PACKAGES = ("registry.pretrained", "registry_bert", "registry_gpt", "registry_gpt2", "registry_transfo_xl")


@pytest.mark.parametrize("name", PACKAGES)
def test_every_name_is_defined_in_the_module_it_is_loaded_from(name: str) -> None:
    package = import_module(name)
    for each in package.__all__:
        assert getattr(package, each).__module__.startswith(f"{name}.")
    with pytest.raises(AttributeError, match=rf"^module '{name}' has no attribute 'Bert'$"):
        _ = package.Bert
    with pytest.raises(ImportError, match="cannot import name 'Bert'"):
        exec(f"from {name} import Bert")


def test_a_package_imports_nothing_before_a_name_is_used() -> None:
    code = f"import sys, {', '.join(PACKAGES)}; print(*(name for name in sys.modules if name.startswith('registry')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert set(loaded) == {"registry", "registry.base", "registry.base.lazy", *PACKAGES}
