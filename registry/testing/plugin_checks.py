"""Checks of what a plugin is before any of its models is used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings

import pytest

from registry.catalog.catalog import Catalog
from registry.families.discovery import package_folders
from registry.testing.bench import Bench

__all__ = ["PluginChecks"]

#: What a plugin module has no need of, and what makes importing it slow for everybody who lists names.
_HEAVY = ("torch", "numpy", "tokenizers", "safetensors", "transformers", "tensorflow", "jax", "requests", "yaml")

_IMPORT = """
import importlib, json, sys
module = importlib.import_module(sys.argv[1])
module.registry_family()
print(json.dumps(sorted(sys.modules)))
"""


class PluginChecks:
    """The plugin module, its entry point, its classes' paths, and its models.yaml."""

    def test_plugin_imports(self, bench: Bench) -> None:
        """Find the entry point and import its module."""
        bench.module()

    def test_plugin_states_the_version_of_the_contract(self, bench: Bench) -> None:
        """Hold `REGISTRY_API` to a version that this registry speaks."""
        bench.contract()

    def test_plugin_describes_its_family(self, bench: Bench) -> None:
        """Call the hook; what it returns is sound."""
        bench.family()

    def test_plugin_is_light(self, bench: Bench) -> None:
        """Import the plugin and call its hook in a fresh process: neither torch nor the family's own code comes along."""
        family, module = bench.family(), bench.module().__name__
        imported = _modules_after_import(module)
        own = {path.split(":")[0] for path in (*family.class_paths(), *family.converters.values())}
        unwanted = sorted(imported & {*_HEAVY, *own} | {name for name in imported if name.startswith("registry.pretrained")})
        assert not unwanted, (
            f"plugin module {module!r} is expected to import nothing heavy, but imports {', '.join(unwanted)}; name classes "
            "as 'module:Class' and import nothing but Family and hookimpl; look into the package's __init__.py, too"
        )

    def test_entry_points_are_the_names_that_folders_use(self, bench: Bench) -> None:
        """Find the family by its own name and by the `model_type` that its saved folders state."""
        bench.findable()

    def test_every_class_is_where_the_plugin_says(self, bench: Bench) -> None:
        """Import every class and converter; each builds on the base that the registry works with."""
        family = bench.family()
        bench.config_class()
        for head in family.heads:
            bench.model_class(head)
        if family.tokenizer is not None:
            bench.tokenizer_class()
        for path in family.converters.values():
            assert callable(family.load_class(path)), f"converter {path!r} is expected to be a function, but is none"

    def test_catalog_is_valid(self, bench: Bench) -> None:
        """Read the package's models.yaml: every entry is whole, and its family, head and settings exist."""
        package = bench.module().__name__.split(".")[0]
        folders = [str(folder) for folder in package_folders(package)]
        host = bench.registry.families
        sources = [source for source in host.catalog_sources() if source.path.startswith(tuple(folders))]
        if not sources:
            pytest.skip(f"package {package!r} has no models.yaml")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is warned of is an error here
            catalog = Catalog(sources)
        problems = [str(problem) for problem in (*catalog.problems, *catalog.broken.values())]
        for name in catalog.names():
            entry = catalog.resolve(name)
            family = host.maybe_get(entry.family or "")
            if family is None:
                problems.append(f"family of {name!r} is expected to be installed, but is {entry.family!r}")
                continue
            if entry.head is not None and entry.head not in family.heads:
                problems.append(f"head of {name!r} is expected to be one of {sorted(family.heads)}, but is {entry.head!r}")
            fields = family.load_class(family.config).field_names()
            problems += [f"config of {name!r} has {key!r}, which is no field" for key in entry.config if key not in fields]
        assert not problems, "models.yaml is expected to be valid, but:\n" + "\n".join(problems)


def _modules_after_import(module: str) -> set[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT, module], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"plugin module {module!r} is expected to import by itself, but:\n{done.stderr}"
    return set(json.loads(done.stdout.splitlines()[-1]))
