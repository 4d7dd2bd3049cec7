from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from registry.errors import ConfigError
from registry_transfo_xl.word_engine import WordEngine

VOCABULARY = {"<unk>": 0, "the": 1, "cat": 2, "İ".lower(): 3}


@given(st.text(), st.booleans(), st.sampled_from([None, ",", ""]))
def test_offsets_point_at_the_words(text: str, lower_case: bool, delimiter: str | None) -> None:
    engine = WordEngine(VOCABULARY, unknown="<unk>", lower_case=lower_case, delimiter=delimiter)
    engine.match([AddedToken("<unk>", special=True)])
    encoding = engine.encode(text)
    for token, (begin, end) in zip(encoding.tokens, encoding.offsets, strict=True):
        part = text[begin:end]
        assert token == part or (lower_case and token in (part.lower(), text.lower()[begin:end]))
    assert encoding.offsets == sorted(encoding.offsets)


@given(st.text())
def test_words_are_those_of_split(text: str) -> None:
    assert [word for word, _, _ in WordEngine(VOCABULARY).words(text)] == text.split()
    lowered = WordEngine(VOCABULARY, lower_case=True)
    assert [word for word, _, _ in lowered.words(text)] == text.lower().split()


WORDS = st.lists(st.sampled_from(["the", "cat", "<unk>"]), max_size=9).map(" ".join)


@given(WORDS, st.none() | WORDS, st.tuples(*[st.integers(0, 9), st.integers(0, 9)] * 2), st.sampled_from(["left", "right"]))
def test_windows_and_pairs_are_those_of_tokenizers(text: str, pair: str | None, sizes: tuple[int, ...], side: str) -> None:
    peer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    peer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    joined = []
    for engine in (WordEngine(VOCABULARY), peer):
        first, second = engine.encode(text), None if pair is None else engine.encode("", pair)
        first.truncate(sizes[0], min(sizes[1], max(0, sizes[0] - 1)), side)
        if second is not None:
            second.truncate(sizes[2], min(sizes[3], max(0, sizes[2] - 1)), side)
        joined.append(engine.post_process(first, second))
    for name in ("ids", "tokens", "offsets", "word_ids", "type_ids", "attention_mask", "special_tokens_mask"):
        own, theirs = ([getattr(each, name) for each in (one, *one.overflowing)] for one in joined)
        assert own == theirs, name


def test_a_word_that_the_vocabulary_lacks_keeps_its_text() -> None:
    engine = WordEngine(VOCABULARY, unknown="<unk>")
    engine.match([AddedToken("[M]")])
    encoding = engine.encode("dog[M]the")
    assert encoding.tokens == ["dog", "[M]", "the"] and encoding.ids == [0, 0, 1]
    assert engine.get_vocab() == VOCABULARY
    added = WordEngine({"the": 0}, unknown="<oov>")
    added.add_tokens([AddedToken("<oov>")])
    assert added.encode("the dog").ids == [0, 1]


@pytest.mark.parametrize("normalized", [True, False])
def test_what_is_matched_whole_is_not_lower_cased(normalized: bool) -> None:
    engine = WordEngine(VOCABULARY, unknown="<unk>", lower_case=True)
    engine.add_tokens([AddedToken("The", normalized=normalized)])
    encoding = engine.encode("The THE the")
    assert encoding.tokens == ["The", "the", "the"] and encoding.ids == [4, 1, 1]


def test_empty_words_stand_between_delimiters() -> None:
    encoding = WordEngine({**VOCABULARY, "": 4}, unknown="<unk>", delimiter=",").encode(" the,, cat, ")
    assert encoding.tokens == ["the", "", " cat", ""] and encoding.ids == [1, 4, 0, 4]
    assert encoding.offsets == [(1, 4), (5, 5), (6, 10), (11, 11)]


def test_lower_case_is_that_of_python() -> None:
    assert WordEngine({"οδος": 0}, lower_case=True).encode("ΟΔΟΣ οδος").ids == [0, 0]
    assert WordEngine({"i̇": 0, "a": 1}, lower_case=True, delimiter="").encode("İA").ids == [0, 1]


def test_added_tokens_are_matched_inside_words_the_longest_first() -> None:
    engine = WordEngine(VOCABULARY, unknown="<unk>")
    assert engine.add_tokens([AddedToken("ab"), AddedToken("abc"), AddedToken("the")]) == 2
    encoding = engine.encode(" xabcab the")
    assert encoding.tokens == ["x", "abc", "ab", "the"] and encoding.ids == [0, 5, 4, 1]
    assert engine.get_vocab_size() == 6 and engine.get_vocab_size(with_added_tokens=False) == 4
    assert engine.get_vocab(with_added_tokens=False) == VOCABULARY


def test_a_new_vocabulary_keeps_added_tokens_behind_it() -> None:
    engine = WordEngine(VOCABULARY)
    engine.add_tokens([AddedToken("new")])
    engine.set_vocabulary({"a": 0, "b": 1})
    assert engine.get_vocab() == {"a": 0, "b": 1, "new": 2}


def test_an_unknown_word_without_a_word_for_it_is_an_error() -> None:
    with pytest.raises(ConfigError, match="build or load a vocabulary"):
        WordEngine({}).encode("word")
    with pytest.raises(ConfigError, match="0 to 1 in order"):
        WordEngine({"a": 1, "b": 0})


def test_an_id_that_is_none_cannot_be_decoded() -> None:
    with pytest.raises(ValueError, match=r"0\.\.3"):
        WordEngine(VOCABULARY).decode([4])


def test_it_pickles() -> None:
    engine = WordEngine(VOCABULARY, unknown="<unk>", lower_case=True)
    engine.add_special_tokens([AddedToken("[X]", special=True)])
    again = pickle.loads(pickle.dumps(engine))
    assert again.encode("THE[X]dog").ids == engine.encode("THE[X]dog").ids == [1, 4, 0]
    assert again.decode([1, 4, 0], skip_special_tokens=True) == "the <unk>"
