"""Checks of a family's tokenizer."""

from __future__ import annotations

from pathlib import Path

from registry.testing.bench import Bench

__all__ = ["TokenizerChecks"]


class TokenizerChecks:
    """Text to ids and back, and what saving keeps."""

    def test_tokenizer_is_built_from_its_vocabulary(self, bench: Bench) -> None:
        """Build the tokenizer from the files that the plugin names."""
        assert len(bench.tokenizer()) > 0
        assert bench.suite.texts, "texts of the suite are expected to be given beside its vocabulary, but are not"

    def test_tokenizer_gives_the_text_back(self, bench: Bench) -> None:
        """Decode what was encoded: each text of the suite comes back as it was."""
        tokenizer = bench.tokenizer()
        for text in bench.suite.texts:
            back = tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True, clean_up_tokenization_spaces=False)
            assert back == text, f"{text!r} is expected to come back from its ids, but {back!r} does"

    def test_saved_tokenizer_reloads(self, bench: Bench) -> None:
        """Save a tokenizer and load it by nothing but its family and folder: every id and special token is the same."""
        bench.saved_tokenizer()

    def test_vocabulary_is_saved_by_itself(self, bench: Bench, tmp_path: Path) -> None:
        """Write the vocabulary's files where asked, return their paths, and be built from them again."""
        tokenizer = bench.tokenizer()
        folder = tmp_path / "alone"
        folder.mkdir()
        paths = [Path(path) for path in tokenizer.save_vocabulary(folder)]
        assert paths and all(path.is_file() and path.parent == folder for path in paths), (
            f"save_vocabulary is expected to return the files that it wrote into the folder, but returned {paths}"
        )
        again = bench.registry.load_tokenizer(folder, family=bench.suite.family, **bench.suite.tokenizer)
        for text in bench.suite.texts:
            assert again.encode(text) == tokenizer.encode(text), f"ids of {text!r} are expected to be those of the vocabulary"
