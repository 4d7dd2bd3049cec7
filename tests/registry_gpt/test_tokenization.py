from __future__ import annotations

import json
import pickle
import sys
import sysconfig
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

import registry_gpt.tokenization
from registry.errors import ConfigError
from registry_gpt import OpenAIGPTTokenizer
from tests.oracles import new, old

TEXTS = [
    "Hello, World! It's HERE.",
    "  leading and trailing   blanks \t\n",
    "one\ntwo\r\nthree\x00\ufffd\u200bfour",
    "naïve CAFÉ — “quotes” … ½",
    "self.attr_name[1:2] += 'x'  # comment",
    "日本語 text 漢字 and かな",
    "a <unk> b<unk>c",
    ".",
    "_ , 2",
    "😀 emoji 🏽",
]


def python_lines(count: int) -> list[str]:
    """Return real lines, from the sources of Python's own library."""
    found: dict[str, None] = {}
    for file in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if "site-packages" not in file.parts:
            found |= dict.fromkeys(file.read_text(encoding="utf-8", errors="ignore").split("\n"))
        if len(found) > count:
            break
    return list(found)[:count]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a vocabulary: the published one is in no package."""
    folder = tmp_path_factory.mktemp("gpt")
    engine = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    engine.normalizer, engine.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, special_tokens=["<unk>", "\n</w>"], end_of_word_suffix="</w>", show_progress=False
    )
    engine.train_from_iterator(python_lines(8000), trainer)
    model = json.loads(engine.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{' '.join(pair)}\n" for pair in model["merges"]))
    return folder


@pytest.fixture(scope="session")
def tokenizer(folder: Path) -> OpenAIGPTTokenizer:
    return OpenAIGPTTokenizer(folder / "vocab.json", folder / "merges.txt")


@pytest.fixture(scope="session")
def modern(folder: Path) -> Any:
    return new.OpenAIGPTTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))


@pytest.fixture(scope="session")
def ancient(folder: Path) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "ftfy", None)  # with it, 1.2.0 takes the other road, and fails on today's spaCy
        return old.OpenAIGPTTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))


def test_golden_ids_of_a_vocabulary_written_by_hand(tmp_path: Path) -> None:
    tokens = ["<unk>", "l", "o", "w", "e", "r", "w</w>", "r</w>", ".</w>", "lo", "low</w>", "low", "er</w>", "a</w>"]
    (tmp_path / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (tmp_path / "merges.txt").write_text("l o\nlo w</w>\nlo w\ne r</w>\n")
    tokenizer = OpenAIGPTTokenizer(tmp_path / "vocab.json", tmp_path / "merges.txt")
    assert tokenizer.tokenize("LOWER low. Á z") == ["low", "er</w>", "low</w>", ".</w>", "a</w>", "<unk>"]
    assert tokenizer.decode([11, 12, 10, 8], clean_up_tokenization_spaces=False) == "lower low ."
    assert tokenizer.decode([11, 12, 10, 8]) == "lower low."


def test_ids_are_those_of_transformers(tokenizer: OpenAIGPTTokenizer, modern: Any) -> None:
    assert tokenizer(TEXTS)["input_ids"] == modern(TEXTS)["input_ids"]
    assert tokenizer(TEXTS, list(reversed(TEXTS)))["input_ids"] == modern(TEXTS, list(reversed(TEXTS)))["input_ids"]
    ours = tokenizer(TEXTS, return_offsets_mapping=True)["offset_mapping"]
    assert ours == modern(TEXTS, return_offsets_mapping=True)["offset_mapping"]


def test_ids_are_those_of_1_2_0_without_its_extras(tokenizer: OpenAIGPTTokenizer, ancient: Any) -> None:
    for text in TEXTS:
        assert tokenizer.encode(text) == ancient.encode(text), text


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
@settings(max_examples=200, deadline=None)
def test_ids_and_texts_of_any_string_are_those_of_transformers(tokenizer: OpenAIGPTTokenizer, modern: Any, text: str) -> None:
    ids = tokenizer.encode(text)
    assert ids == modern.encode(text)
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == modern.decode(ids, clean_up_tokenization_spaces=False)


@pytest.mark.slow
def test_ids_of_real_lines_are_those_of_both_references(tokenizer: OpenAIGPTTokenizer, modern: Any, ancient: Any) -> None:
    lines = [line for line in python_lines(26_000) if line.strip()]
    assert len(lines) >= 20_000
    ids = tokenizer(lines)["input_ids"]
    assert ids == modern(lines)["input_ids"]
    plain = [number for number, line in enumerate(lines) if line.isascii()]
    assert len(plain) >= 20_000
    assert [ids[number] for number in plain] == [ancient.encode(lines[number]) for number in plain]


def test_call_gives_a_model_what_it_takes(tokenizer: OpenAIGPTTokenizer) -> None:
    assert set(tokenizer("hello")) == {"input_ids", "attention_mask"}


# -- spaCy ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a plain splitter in place of spaCy and ftfy, which keeps the blank after a line end as spaCy does."""

    class English:
        @staticmethod
        def tokenizer(text: str) -> list[SimpleNamespace]:
            words = [word for part in text.split(" \n ") for word in (*part.split(" "), "\n ")][:-1]
            return [SimpleNamespace(text=word) for word in words if word]

    ftfy, spacy, lang, english = (ModuleType(name) for name in ("ftfy", "spacy", "spacy.lang", "spacy.lang.en"))
    ftfy.fix_text = lambda text: text.replace("“", '"').replace("”", '"')  # type: ignore[attr-defined]
    english.English = English  # type: ignore[attr-defined]
    for module in (ftfy, spacy, lang, english):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    registry_gpt.tokenization._word_splitter.cache_clear()
    yield
    registry_gpt.tokenization._word_splitter.cache_clear()


def test_road_of_the_paper_keeps_words_and_lines(folder: Path, stand_ins: None) -> None:
    tokenizer = OpenAIGPTTokenizer(folder / "vocab.json", pre_tokenizer="spacy")
    basic = OpenAIGPTTokenizer(folder / "vocab.json")
    assert tokenizer.tokenize("return \n\n  NONE") == [*basic.tokenize("return"), "\n</w>", *basic.tokenize("none")]
    assert tokenizer.encode("a—b!!(c") == basic.encode("a-b") + tokenizer.encode("!!") + basic.encode("(c")
    assert tokenizer.encode("don't") != basic.encode("don't")  # one word there, three here
    assert tokenizer.encode("“a”") == basic.encode('"a"')
    assert tokenizer.encode("self <unk>x") == basic.encode("self <unk> x")
    assert tokenizer(["self", "x y"], ["a", "b c"], truncation=True, max_length=3)["input_ids"] == [
        basic.encode("self a"),
        tokenizer.encode("x", "b c"),
    ]
    assert tokenizer.encode("self", ["x</w>"]) == basic.encode("self x")
    with pytest.raises(ValueError, match="offsets"):
        tokenizer("a", return_offsets_mapping=True)


def test_road_of_the_paper_is_kept_by_a_folder(folder: Path, stand_ins: None, tmp_path: Path) -> None:
    tokenizer = OpenAIGPTTokenizer(folder / "vocab.json", pre_tokenizer="spacy")
    tokenizer.save_pretrained(tmp_path)
    again = OpenAIGPTTokenizer.from_pretrained(tmp_path)
    assert again.encode("don't\nstop") == tokenizer.encode("don't\nstop")


def test_missing_package_names_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ftfy", None)
    registry_gpt.tokenization._word_splitter.cache_clear()
    with pytest.raises(ConfigError, match=r"pip install pretrained-registry\[spacy\]"):
        OpenAIGPTTokenizer(folder / "vocab.json", pre_tokenizer="spacy")
    with pytest.raises(ConfigError, match="basic, spacy"):
        OpenAIGPTTokenizer(folder / "vocab.json", pre_tokenizer="nltk")


def test_road_of_the_paper_gives_known_words_with_the_real_packages() -> None:
    split = registry_gpt.tokenization._word_splitter()
    # What 1.2.0 gave with spaCy 3.8 and ftfy 6.3, once its call of spaCy is repaired.
    assert split("Don't stop...\n\n“Mr. Smith's” café—ok") == [
        *("do", "n't", "stop", "...", "\n", '"', "mr.", "smith", "'s", '"', "café", "-", "ok")
    ]


# -- files ---------------------------------------------------------------------------------------------------------------


def same(one: Any, other: Any) -> None:
    text = "Hello [x] <s> wörld  \n"
    assert one.encode(text) == other.encode(text)
    ids = one.encode(text)
    assert one.decode(ids, skip_special_tokens=True) == other.decode(ids, skip_special_tokens=True)


def test_folder_keeps_everything_and_transformers_opens_it(folder: Path, tmp_path: Path) -> None:
    tokenizer = OpenAIGPTTokenizer(folder / "vocab.json", folder / "merges.txt", model_max_length=512)
    tokenizer.add_tokens(["[x]"])
    tokenizer.add_special_tokens({"pad_token": "<pad>", "bos_token": "<s>"})
    tokenizer.save_pretrained(tmp_path / "ours")
    again = OpenAIGPTTokenizer.from_pretrained(tmp_path / "ours")
    same(again, tokenizer)
    same(pickle.loads(pickle.dumps(again)), tokenizer)
    theirs = new.OpenAIGPTTokenizer.from_pretrained(tmp_path / "ours")
    same(theirs, tokenizer)
    theirs.save_pretrained(tmp_path / "theirs")
    engine = tmp_path / "theirs" / "tokenizer.json"
    back = OpenAIGPTTokenizer.from_files(
        {"vocab_file": engine, "merges_file": engine}, {"tokenizer_config.json": engine.with_name("tokenizer_config.json")}
    )
    same(back, tokenizer)
    assert (back.pad_token, back.model_max_length) == ("<pad>", 512)


def test_1_2_0_opens_our_folder(tokenizer: OpenAIGPTTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ftfy", None)
    tokenizer.save_vocabulary(tmp_path)
    theirs = old.OpenAIGPTTokenizer.from_pretrained(str(tmp_path))
    assert theirs.encode("Once upon a time.") == tokenizer.encode("Once upon a time.")
