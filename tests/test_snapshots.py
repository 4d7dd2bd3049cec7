"""What the registry holds: no family, head, class or public name appears, changes or vanishes without a diff."""

from __future__ import annotations

import dataclasses
import json

import registry
import registry.errors
from registry.families.discovery import family_entry_points
from registry.families.host import PluginHost
from tests.snapshot import assert_snapshot


def test_the_builtin_families_and_their_heads_are_those_of_the_snapshot() -> None:
    host = PluginHost(lambda: [point for point in family_entry_points() if point.builtin], list)
    found = {name: dataclasses.asdict(host.get(name)) for name in host.names()}
    assert set(found) == {"bert", "gpt", "gpt2", "openai-gpt", "transfo-xl"}
    assert_snapshot("families.json", json.dumps(found, indent=2) + "\n")


def test_the_public_names_are_those_of_the_snapshot() -> None:
    assert_snapshot("public_names.txt", "".join(f"{name}\n" for name in registry.__all__))


def test_the_codes_of_the_errors_are_those_of_the_snapshot() -> None:
    codes = {name: value.code for name in registry.errors.__all__ if hasattr(value := getattr(registry.errors, name), "code")}
    assert len(set(codes.values())) == len(codes)
    assert_snapshot("error_codes.json", json.dumps(codes, indent=2) + "\n")
