"""Checks of a family's configuration."""

from __future__ import annotations

import json

import pytest

from registry.errors import ConfigError
from registry.testing.bench import Bench

__all__ = ["ConfigChecks"]

_UNKNOWN = {"acme_of_another_program": {"kept": [1, 2]}}


class ConfigChecks:
    """What a configuration keeps, and what it refuses."""

    def test_config_takes_the_sizes(self, bench: Bench, head: str) -> None:
        """Build the configuration of every head, and the one of the defaults."""
        config = bench.config(head)
        type(config)()

    def test_config_survives_its_json_file(self, bench: Bench, head: str) -> None:
        """Write and read a configuration, every field with a value that is not its default where the suite gives one."""
        config = bench.config(head)
        read = type(config).from_dict(json.loads(config.to_json_string()))
        given = {**bench.suite.config, **bench.case(head).config}
        lost = {name: value for name, value in given.items() if getattr(read, name) != getattr(config, name)}
        assert not lost, f"fields are expected to survive saving and reading, but these do not: {lost}"
        assert read == config, "a configuration is expected to equal the one that was saved, but differs"
        assert read.to_dict() == config.to_dict()

    def test_config_keeps_what_other_programs_wrote(self, bench: Bench) -> None:
        """Keep keys of a file that no field declares, and save them again."""
        config = bench.config(bench.family().default_head)
        read = type(config).from_dict({**config.to_dict(), **_UNKNOWN})
        saved = json.loads(read.to_json_string())
        assert _UNKNOWN.items() <= saved.items(), (
            f"unknown keys of a config.json are expected to be kept and saved again, but {sorted(_UNKNOWN)} is gone; "
            "override from_dict and to_dict only through super()"
        )

    def test_config_refuses_arguments_that_are_no_fields(self, bench: Bench) -> None:
        """Raise for a misspelt override instead of loading a model that ignores it."""
        config = bench.config(bench.family().default_head)
        with pytest.raises(ConfigError):
            type(config)(no_such_field=1)
        with pytest.raises(ConfigError):
            config.replace(no_such_field=1)
