"""What the text of an error, or of a warning, shows of a stranger's words."""

from __future__ import annotations

import json
import logging
import pickle
import re
from pathlib import Path

import pytest

import registry
from registry.base.logs import lazy_logger
from registry.catalog.yaml_nodes import parse
from registry.errors import CatalogError, CheckpointError, ConfigError, RegistryError, RegistryWarning, warn
from tests.processes import ROOT

#: A character that shows nothing or moves others, and how it is shown.
ODD = {
    "\x1b": r"\x1b",
    "\r": r"\r",
    "\0": r"\x00",
    "\x9b": r"\x9b",
    "\xad": r"\xad",
    "\u200b": r"\u200b",
    "\u2028": r"\u2028",
    "\u202e": r"\u202e",
    "\u2066": r"\u2066",
    "\ufeff": r"\ufeff",
    "\u200d": r"\u200d",
    "\u2060": r"\u2060",
    "\u2029": r"\u2029",
    "\x85": r"\x85",
    "\u3164": r"\u3164",
    "\u034f": r"\u034f",
    "\u2800": r"\u2800",
    "\udc00": r"\udc00",
    "\U000e0041": r"\U000e0041",
}


@pytest.mark.parametrize(("character", "shown"), ODD.items())
def test_what_shows_nothing_or_moves_other_text_is_escaped(character: str, shown: str) -> None:
    errors: list[RegistryError] = [
        ConfigError(f"a{character}b"),
        CheckpointError(f"a{character}b", path=f"/m/{character}"),
        CatalogError(f"a{character}b", file=f"/m/{character}.yaml"),
    ]
    for error in errors:
        assert f"a{shown}b" in str(error) and character not in str(error)
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
        assert f"a{character}b" in error.message  # for programs
    with pytest.warns(RegistryWarning) as caught:
        warn(f"a{character}b")
    assert str(caught[0].message) == f"a{shown}b"


def test_letters_of_every_language_and_ends_of_lines_stay() -> None:
    text = "Größe 模型\u3000модель\xa0مدل \U0001f600 \u2764\ufe0f e\u0301\nsecond line \\u202e"
    assert str(ConfigError(text)) == f"[R601] {text}"


def test_the_key_of_a_catalog_is_shown_escaped() -> None:
    with pytest.raises(CatalogError) as caught:
        parse("a\u202eb: 1\na\u202eb: 2\n", "models.yaml")
    assert r"a\u202eb" in str(caught.value) and "\u202e" not in str(caught.value)


@pytest.mark.parametrize(("character", "shown"), ODD.items())
def test_a_log_line_is_escaped_too(character: str, shown: str, caplog: pytest.LogCaptureFixture) -> None:
    logger = lazy_logger("registry.store.store")
    with caplog.at_level(logging.INFO, logger="registry"):
        logger.info("%s is %d", f"a{character}b", 3)
        logger.warning("%s", ConfigError(f"c{character}d"))
        logger.info("plain %s", "text")
    assert caplog.messages == [f"a{shown}b is 3", f"[R601] c{shown}d", "plain text"]
    assert caplog.records[-1].args == ("text",)


def test_every_logger_of_ours_escapes() -> None:
    for file in [*(ROOT / "registry").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]:
        assert not re.search(r"getLogger\(__name__\)", file.read_text(encoding="utf-8")), file


def test_a_hostile_file_name_is_escaped_in_the_log_and_the_error(caplog: pytest.LogCaptureFixture) -> None:
    source = "https://127.0.0.1:1/a/"
    name = "a\u202eb\u2028c.txt"
    Path("models.yaml").write_text(
        json.dumps(
            {"registry": 1, "models": {"m": {"family": "bert", "source": source, "mirrors": [source], "files": {name: None}}}}
        )
    )
    with caplog.at_level(logging.INFO, logger="registry"), pytest.raises(RegistryError) as caught:
        registry.default_registry().fetch_file("m", name)
    text = str(caught.value) + "".join(caplog.messages)
    assert r"a\u202eb\u2028c.txt" in str(caught.value) or "%E2%80%AE" in text
    assert "\u202e" not in text and "\u2028" not in text
