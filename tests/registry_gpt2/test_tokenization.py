from __future__ import annotations

import copy
import hashlib
import json
import pickle
import sysconfig
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import ConfigError
from registry_gpt2 import GPT2Tokenizer
from tests.oracles import new, old
from tests.real_data import gpt2_merges, gpt2_vocabulary

#: Every kind of blank, some letters, marks and symbols of other scripts, and what strip() takes that a regex may not.
CHARACTERS = [
    chr(code) for code in (*range(0x21), 0x7F, 0x80, 0x85, 0xA0, 0xAD, 0x1680, 0x180E, *range(0x2000, 0x2010), 0x2028, 0x2029)
]
CHARACTERS += [*"\u202f\u205f\u3000\ufeff\u0301éßÆİıΣςЯ中日한العहि😀🏽👩‍👩‍👧٣½²™"]
TEXTS = [
    "Hello, world!",
    "I'll say it's we've I'd they're 'tis DON'T",
    "  two  spaces   three\n\n\tand\ttabs  \r\n",
    "x = [1, 2.5e-3]  # a comment",
    "naïve café — “quotes” … ½ 10⁶ ™",
    "日本語のテキストと 한국어 텍스트 और हिन्दी",
    "👩‍👩‍👧‍👦 family 🏳️‍🌈",
    "a<|endoftext|>b <|endoftext|> c",
    *(
        f"{before}{character}{after}"
        for character in CHARACTERS
        for before, after in (("", "a"), ("a", ""), ("a", "b"), (" a", " b "))
    ),
]


VOCAB, MERGES = gpt2_vocabulary(), gpt2_merges()


@pytest.fixture(scope="module")
def tokenizer() -> GPT2Tokenizer:
    return GPT2Tokenizer(VOCAB, MERGES, model_max_length=1024)


@pytest.fixture(scope="module")
def legacy() -> GPT2Tokenizer:
    return GPT2Tokenizer(VOCAB, MERGES, legacy=True)


@pytest.fixture(scope="module")
def modern() -> Any:
    return new.GPT2Tokenizer(vocab=str(VOCAB), merges=str(MERGES))


@pytest.fixture(scope="module")
def ancient() -> Any:
    return old.GPT2Tokenizer(str(VOCAB), str(MERGES))


def test_vocabulary_of_the_tests_is_the_published_one() -> None:
    assert hashlib.sha256(VOCAB.read_bytes()).hexdigest() == "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"
    assert hashlib.sha256(MERGES.read_bytes()).hexdigest() == "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"


# -- ids -----------------------------------------------------------------------------------------------------------------


def test_known_texts_have_the_known_ids(tokenizer: GPT2Tokenizer) -> None:
    # The ids of OpenAI's own encoder.
    assert tokenizer.encode("Hello world") == [15496, 995]
    assert tokenizer.encode("<|endoftext|>") == [50256]
    assert tokenizer.encode("") == []
    assert tokenizer.tokenize(" lower\n") == ["Ġlower", "Ċ"]
    assert (tokenizer.vocab_size, len(tokenizer)) == (50257, 50257)


def test_ids_are_those_of_transformers(tokenizer: GPT2Tokenizer, modern: Any) -> None:
    assert tokenizer(TEXTS)["input_ids"] == modern(TEXTS)["input_ids"]
    pairs = list(zip(TEXTS, reversed(TEXTS), strict=True))[:50]
    assert tokenizer(pairs)["input_ids"] == modern([one for one, _ in pairs], [two for _, two in pairs])["input_ids"]


def test_prefix_space_is_that_of_transformers(modern: Any) -> None:
    ours = GPT2Tokenizer(VOCAB, MERGES, add_prefix_space=True)
    theirs = new.GPT2Tokenizer(vocab=str(VOCAB), merges=str(MERGES), add_prefix_space=True)
    assert ours(TEXTS)["input_ids"] == theirs(TEXTS)["input_ids"] != modern(TEXTS)["input_ids"]


def test_legacy_ids_are_those_of_1_2_0(legacy: GPT2Tokenizer, ancient: Any) -> None:
    for text in TEXTS:
        if text.strip():  # of blanks alone 1.2.0 made a special token
            assert legacy.encode(text) == ancient.encode(text), repr(text)
    assert legacy.encode("  \n") == legacy.encode("") == []


def test_legacy_strips_around_added_tokens_as_1_2_0(ancient: Any) -> None:
    ours, theirs = GPT2Tokenizer(VOCAB, MERGES, legacy=True), copy.deepcopy(ancient)
    for each in (ours, theirs):
        assert each.add_tokens(["[new]", "[other]"]) == 2
    text = "one [new]  two[other] three "
    assert ours.encode(text) == theirs.encode(text)


def python_lines(count: int) -> list[str]:
    """Real lines, from the sources of Python's own library; the tests of its codecs hold many scripts."""
    found: dict[str, None] = {}
    for file in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if "site-packages" not in file.parts:
            found |= dict.fromkeys(file.read_text(encoding="utf-8", errors="ignore").split("\n"))
        if len(found) > count:
            break
    return list(found)[:count]


@pytest.mark.slow
def test_ids_of_real_lines_are_those_of_transformers_and_text_comes_back(tokenizer: GPT2Tokenizer, modern: Any) -> None:
    lines = python_lines(25_000)
    assert len(lines) == 25_000
    ids = tokenizer(lines)["input_ids"]
    assert ids == modern(lines)["input_ids"]
    assert [tokenizer.decode(row, clean_up_tokenization_spaces=False) for row in ids] == lines


@pytest.mark.slow
def test_legacy_ids_of_real_lines_are_those_of_1_2_0(legacy: GPT2Tokenizer, ancient: Any) -> None:
    lines = [line for line in python_lines(20_500) if line.strip()]
    assert len(lines) >= 20_000
    assert legacy(lines)["input_ids"] == [ancient.encode(line) for line in lines]


# -- back to text --------------------------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"])) | st.text("ab '\n\t.!s<|endoftext|>é中😀")


@given(texts)
@settings(max_examples=300, deadline=None)
def test_decoding_gives_the_text_back(text: str) -> None:
    tokenizer = shared()
    encoded = tokenizer(text, return_offsets_mapping=True)
    assert tokenizer.decode(encoded["input_ids"], clean_up_tokenization_spaces=False) == text
    if text and "<|endoftext|>" not in text:
        offsets = encoded["offset_mapping"]
        assert offsets[0][0] == 0 and offsets[-1][1] == len(text)
        for (_, end), (begin, _) in pairwise(offsets):
            assert begin in (end, end - 1)  # a character of several bytes may be shared by two tokens


_shared: list[GPT2Tokenizer] = []


def shared() -> GPT2Tokenizer:
    if not _shared:
        _shared.append(GPT2Tokenizer(VOCAB, MERGES))
    return _shared[0]


@given(st.lists(st.integers(0, 50255), max_size=20))
@settings(max_examples=200, deadline=None)
def test_any_ids_decode_as_in_transformers(ids: list[int]) -> None:
    theirs = shared_modern()
    assert shared().decode(ids, clean_up_tokenization_spaces=False) == theirs.decode(ids, clean_up_tokenization_spaces=False)


def shared_modern() -> Any:
    if not _modern:
        _modern.append(new.GPT2Tokenizer(vocab=str(VOCAB), merges=str(MERGES)))
    return _modern[0]


_modern: list[Any] = []


def test_offsets_are_those_of_transformers(tokenizer: GPT2Tokenizer, modern: Any) -> None:
    ours = tokenizer(TEXTS, return_offsets_mapping=True)["offset_mapping"]
    assert ours == modern(TEXTS, return_offsets_mapping=True)["offset_mapping"]


def test_broken_bytes_are_treated_as_asked() -> None:
    half = shared().encode("😀")[:1]
    assert shared().decode(half) == "\ufffd"
    assert GPT2Tokenizer(VOCAB, MERGES, errors="ignore").decode(half) == ""
    strict = GPT2Tokenizer(VOCAB, MERGES, "strict")
    with pytest.raises(UnicodeDecodeError):
        strict.decode(half)
    strict.add_tokens(["[né]"])
    assert strict.decode(strict.encode("a é[né]😀 ."), clean_up_tokenization_spaces=False) == "a é[né]😀 ."
    assert strict.decode(strict.encode("so it ends .")) == "so it ends."
    with pytest.raises(ConfigError, match="replace, strict, ignore"):
        GPT2Tokenizer(VOCAB, MERGES, errors="backslashreplace")


# -- calls ---------------------------------------------------------------------------------------------------------------


def test_call_gives_a_model_what_it_takes(tokenizer: GPT2Tokenizer) -> None:
    assert set(tokenizer("hello")) == {"input_ids", "attention_mask"}
    assert tokenizer("hello", return_token_type_ids=True)["token_type_ids"] == [0]
    assert tokenizer("a b c d", max_length=2, truncation=True)["input_ids"] == tokenizer.encode("a b")


def test_batch_is_padded_once_there_is_a_token_for_it() -> None:
    tokenizer = GPT2Tokenizer(VOCAB, MERGES, padding_side="left")
    with pytest.raises(ValueError, match="pad_token"):
        tokenizer(["a", "b c"], padding=True)
    tokenizer.pad_token = tokenizer.eos_token
    batch = tokenizer(["a", "b c"], padding=True, return_tensors="pt")
    assert batch["input_ids"].tolist() == [[50256, 64], [65, 269]] and batch["attention_mask"].tolist() == [[0, 1], [1, 1]]


# -- files ---------------------------------------------------------------------------------------------------------------


def same(one: Any, other: Any) -> None:
    text = "hello [x] <s> wörld  \n"
    assert one.encode(text) == other.encode(text)
    ids = one.encode(text)
    assert one.decode(ids, skip_special_tokens=True) == other.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("legacy", [False, True])
def test_folder_keeps_everything(legacy: bool, tmp_path: Path) -> None:
    tokenizer = GPT2Tokenizer(VOCAB, MERGES, legacy=legacy, model_max_length=77, padding_side="left")
    tokenizer.add_tokens(["[x]"])
    tokenizer.add_special_tokens({"pad_token": "<pad>", "bos_token": "<s>"})
    tokenizer.save_pretrained(tmp_path)
    again = GPT2Tokenizer.from_pretrained(tmp_path)
    same(again, tokenizer)
    assert (again.model_max_length, again.padding_side, again.pad_token_id) == (77, "left", tokenizer.pad_token_id)
    same(pickle.loads(pickle.dumps(again)), tokenizer)
    assert json.loads((tmp_path / "vocab.json").read_text()) == json.loads(VOCAB.read_text())
    assert (tmp_path / "merges.txt").read_text().strip() == MERGES.read_text().strip()


def test_transformers_opens_our_folder_and_we_open_theirs(tmp_path: Path) -> None:
    tokenizer = GPT2Tokenizer(VOCAB, MERGES)
    tokenizer.add_tokens(["[x]"])
    tokenizer.add_special_tokens({"pad_token": "<pad>", "bos_token": "<s>"})
    tokenizer.save_pretrained(tmp_path / "ours")
    theirs = new.GPT2Tokenizer.from_pretrained(tmp_path / "ours")
    same(theirs, tokenizer)
    theirs.save_pretrained(tmp_path / "theirs")
    engine = tmp_path / "theirs" / "tokenizer.json"
    back = GPT2Tokenizer.from_files(
        {"vocab_file": engine, "merges_file": engine}, {"tokenizer_config.json": engine.with_name("tokenizer_config.json")}
    )
    same(back, tokenizer)
    assert back.pad_token == "<pad>" and back.bos_token == "<s>"


def test_1_2_0_opens_our_folder_and_we_open_its(ancient: Any, legacy: GPT2Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    legacy.save_vocabulary(tmp_path / "ours")
    text = "Once upon a time  "
    assert old.GPT2Tokenizer.from_pretrained(str(tmp_path / "ours")).encode(text) == legacy.encode(text)
    (tmp_path / "theirs").mkdir()
    ancient.save_pretrained(str(tmp_path / "theirs"))
    assert GPT2Tokenizer.from_pretrained(tmp_path / "theirs", legacy=True).encode(text) == legacy.encode(text)


@pytest.mark.parametrize("added", ["naïve", "‹é>", "ÿþ", "Ċx", "<br>", "日本"])
@pytest.mark.parametrize("special", [True, False])
def test_added_tokens_of_any_letters_come_back_as_they_were(added: str, special: bool) -> None:
    tokenizer = GPT2Tokenizer(VOCAB, MERGES)
    assert tokenizer.add_tokens([added], special_tokens=special) == 1
    text = f"a {added} b 日本 é{added}"
    assert tokenizer.decode(tokenizer.encode(text), clean_up_tokenization_spaces=False) == text


def test_a_file_of_any_name_brings_its_merges(tmp_path: Path, tokenizer: GPT2Tokenizer) -> None:
    tokenizer.save_vocabulary(tmp_path / "voc.json")
    assert GPT2Tokenizer.from_pretrained(tmp_path / "voc.json").encode("Hello there") == tokenizer.encode("Hello there")
    (tmp_path / "voc.json.merges.txt").unlink()
    with pytest.raises(ConfigError, match=r"voc\.json\.merges\.txt or .*merges\.txt"):
        GPT2Tokenizer.from_pretrained(tmp_path / "voc.json")


def test_an_engine_file_alone_is_enough(tmp_path: Path, tokenizer: GPT2Tokenizer, modern: Any) -> None:
    modern.save_pretrained(tmp_path)
    assert GPT2Tokenizer(tmp_path / "tokenizer.json").encode("Hello there") == tokenizer.encode("Hello there")


def test_merges_may_end_with_blank_lines_and_begin_with_a_mark(tmp_path: Path, tokenizer: GPT2Tokenizer) -> None:
    (tmp_path / "m.txt").write_bytes(b"\xef\xbb\xbf" + MERGES.read_bytes() + b"\n\r\n")
    assert GPT2Tokenizer(VOCAB, tmp_path / "m.txt").encode("Hello there") == tokenizer.encode("Hello there")


def test_a_space_before_one_text(tokenizer: GPT2Tokenizer) -> None:
    assert tokenizer.encode("hi", add_prefix_space=True) == tokenizer.encode(" hi") == [23105]
    assert tokenizer.tokenize("hi", add_prefix_space=True) == ["Ġhi"]
