"""What the text of an error, or of a warning, shows of a stranger's words."""

from __future__ import annotations

import pickle

import pytest

from registry.catalog.document import parse
from registry.errors import CatalogError, CheckpointError, ConfigError, RegistryError, RegistryWarning, warn

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
    text = "Größe 模型 модель مدل \U0001f600\nsecond line \\u202e"
    assert str(ConfigError(text)) == f"[R601] {text}"


def test_the_key_of_a_catalog_is_shown_escaped() -> None:
    with pytest.raises(CatalogError) as caught:
        parse("a\u202eb: 1\na\u202eb: 2\n", "models.yaml")
    assert r"a\u202eb" in str(caught.value) and "\u202e" not in str(caught.value)
