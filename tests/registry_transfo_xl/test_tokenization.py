from __future__ import annotations

import json
import os
import pickle
import shutil
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import ConfigError, UnknownModel, UnsafeCheckpoint
from registry_transfo_xl import TransfoXLTokenizer
from tests.oracles import old as reference
from tests.oracles import quiet

WORDS = ["<unk>", "<eos>", "<formula>", "the", "cat", "sat", "on", ",", ".", "wörd", "日本", "don't", "The", '"', "{"]
LINES = [
    "the cat sat on the mat .",
    " The cat , \t sat\u00a0on\u3000the\u2028mat",
    "the<unk>cat <eos>, x<formula>y",
    "Hello, wörd 日本 don't DON'T",
    "<eos>",
    'a " { } b',
    "the\x1ccat\x85sat",
    "İstanbul ΑΣ ΑΣ.",
]


@pytest.fixture
def vocab(tmp_path: Path) -> Path:
    path = tmp_path / "vocab.txt"
    path.write_text("".join(f"{word}\n" for word in WORDS), encoding="utf-8")
    return path


def both(vocab: Path, **options: Any) -> tuple[TransfoXLTokenizer, Any]:
    return TransfoXLTokenizer(vocab_file=vocab, **options), reference.TransfoXLTokenizer(vocab_file=str(vocab), **options)


def assert_alike(ours: TransfoXLTokenizer, theirs: Any, lines: list[str] = LINES) -> None:
    for line in lines:
        assert ours.tokenize(line) == theirs.tokenize(line), line
        assert ours.encode(line) == theirs.encode(line), line
        assert ours.decode(ours.encode(line)) == theirs.decode(theirs.encode(line)), line


# -- against the reference -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"lower_case": True}, {"delimiter": " "}, {"delimiter": ",", "lower_case": True}])
def test_words_and_ids_are_those_of_2019(vocab: Path, options: dict[str, Any]) -> None:
    ours, theirs = both(vocab, **options)
    assert_alike(ours, theirs)
    assert ours.vocab_size == theirs.vocab_size == len(ours) == len(theirs)
    assert ours.idx2sym == theirs.idx2sym and ours.sym2idx == theirs.sym2idx
    assert ours.unk_idx == theirs.unk_idx
    assert ours.convert_tokens_to_ids(["the", "dog"]) == theirs.convert_tokens_to_ids(["the", "dog"])
    assert ours.convert_ids_to_tokens([3, 4]) == theirs.convert_ids_to_tokens([3, 4])
    assert ours.special_tokens_map == theirs.special_tokens_map


@settings(max_examples=200)
@given(st.text(st.sampled_from("the cat,.\t\n<unk>eosX日é\u2003"), min_size=1).filter(str.strip))
def test_any_text_is_split_as_in_2019(text: str) -> None:
    ours, theirs = TransfoXLTokenizer(), reference.TransfoXLTokenizer()
    assert ours.tokenize(text) == theirs.tokenize(text)


def test_ends_of_lines(vocab: Path) -> None:
    ours, theirs = both(vocab)
    assert ours.tokenize("the cat", add_eos=True) == theirs.tokenize("the cat", add_eos=True) == ["the", "cat", "<eos>"]
    assert ours.tokenize("the cat", add_double_eos=True) == theirs.tokenize("the cat", add_double_eos=True)
    assert ours.encode("the cat", add_eos=True) == theirs.encode("the cat", add_eos=True) == [3, 4, 1]
    # 1.2.0 put one after every piece between special tokens, and read an empty line as <formula>.
    assert ours.tokenize("the <unk> cat", add_eos=True) == ["the", "<unk>", "cat", "<eos>"]
    assert ours.tokenize(" \n") == [] and ours.tokenize("\n", add_eos=True) == ["<eos>"]


def test_added_tokens_are_those_of_2019(vocab: Path) -> None:
    ours, theirs = both(vocab)
    assert ours.add_tokens(["new", "mat"]) == theirs.add_tokens(["new", "mat"]) == 2
    assert ours.add_special_tokens({"pad_token": "<pad>"}) == theirs.add_special_tokens({"pad_token": "<pad>"}) == 1
    assert ours.pad_token_id == theirs.pad_token_id == 17
    for line in ("a newcomer on the mat", "<pad> new new"):
        assert ours.encode(line) == theirs.encode(line), line


def test_counting_and_building(tmp_path: Path) -> None:
    text = tmp_path / "train.txt"
    text.write_text("the cat sat\non The mat\n\nthe cat\n", encoding="utf-8")
    for options in (
        {},
        {"special": ["<eos>"]},
        {"min_freq": 2},
        {"max_size": 3},
        {"lower_case": True, "special": ["<eos>", "x"]},
    ):
        ours, theirs = TransfoXLTokenizer(**options), reference.TransfoXLTokenizer(**options)
        counted = ours.count_file(text)
        # 1.2.0 read an empty line as any of the special tokens.
        noise = [["<formula>"], ["<eos>"], ["<unk>"]]
        assert [line for line in counted if line] == [line for line in theirs.count_file(str(text)) if line not in noise]
        ours.count_sents([["extra", "the"]])
        theirs.count_sents([["extra", "the"]])
        for (word,) in noise:
            del theirs.counter[word]
        assert ours.counter == theirs.counter
        ours.build_vocab()
        theirs.build_vocab()
        assert ours.idx2sym == theirs.idx2sym
        assert ours.vocab_size == len(ours) == len(theirs.idx2sym)
    assert ours.eos_idx == 0


def test_files_become_ids(tmp_path: Path, vocab: Path) -> None:
    text = tmp_path / "valid.txt"
    text.write_text("the cat sat\non the mat\n", encoding="utf-8")
    ours, theirs = both(vocab)
    for options in ({}, {"add_eos": False}):
        assert torch.equal(
            ours.encode_file(text, ordered=True, **options), theirs.encode_file(str(text), ordered=True, **options)
        )
        for one, other in zip(ours.encode_file(text, **options), theirs.encode_file(str(text), **options), strict=True):
            assert torch.equal(one, other)
    sentences = [["the", "cat"], ["mat"]]
    assert torch.equal(ours.encode_sents(sentences, ordered=True), theirs.encode_sents(sentences, ordered=True))
    assert ours.encode_sents([], ordered=True).dtype == torch.int64


# -- vocabulary files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [True, False])
def test_a_pickled_vocabulary_of_2019(tmp_path: Path, vocab: Path, legacy: bool) -> None:
    theirs = reference.TransfoXLTokenizer(vocab_file=str(vocab), lower_case=True, delimiter=" ", special=["<eos>"], min_freq=3)
    theirs.counter.update(["the", "the"])
    file = tmp_path / "vocab.bin"
    torch.save(theirs.__dict__, file, _use_new_zipfile_serialization=not legacy)
    for ours in (TransfoXLTokenizer(pretrained_vocab_file=file), TransfoXLTokenizer(vocab_file=file)):
        assert_alike(ours, theirs)
        # 1.2.0 lost these on reload.
        assert (ours.lower_case, ours.delimiter, ours.special, ours.min_freq) == (True, " ", ["<eos>"], 3)
        assert ours.counter == {"the": 2}
    assert not TransfoXLTokenizer(pretrained_vocab_file=file, lower_case=False).lower_case


def test_the_published_layout_loads_from_a_folder(tmp_path: Path) -> None:
    # The attributes of the original authors' vocabulary, pickled by torch before 1.6.
    words = ["<eos>", "the", "<unk>", "of"]
    data = {
        "counter": Counter({"the": 3, "of": 2, "<unk>": 1}),
        "special": ["<eos>"],
        "min_freq": 0,
        "max_size": None,
        "lower_case": False,
        "delimiter": None,
        "vocab_file": None,
        "idx2sym": words,
        "sym2idx": OrderedDict((word, number) for number, word in enumerate(words)),
        "eos_idx": 0,
    }
    torch.save(data, tmp_path / "vocab.bin", _use_new_zipfile_serialization=False)
    tokenizer = TransfoXLTokenizer.from_pretrained(tmp_path)
    assert tokenizer.encode("the end of", add_eos=True) == [1, 2, 3, 0]
    # The hub has the same words as JSON, which goes before the pickle.
    (tmp_path / "vocab.json").write_text(json.dumps({word: number for number, word in reversed([*enumerate(words)])}))
    (tmp_path / "vocab.bin").write_bytes(b"never opened")
    assert TransfoXLTokenizer.from_pretrained(tmp_path).idx2sym == words


class _Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_hostile_vocabulary_runs_nothing(tmp_path: Path, legacy: bool) -> None:
    marker, folder = tmp_path / "marker", tmp_path / "model"
    folder.mkdir()
    data = {"idx2sym": ["<unk>"], "counter": _Hostile(marker)}
    torch.save(data, folder / "vocab.bin", _use_new_zipfile_serialization=not legacy)
    for load in (TransfoXLTokenizer.from_pretrained, lambda path: TransfoXLTokenizer(pretrained_vocab_file=path / "vocab.bin")):
        with pytest.raises(UnsafeCheckpoint, match="system; nothing was run"):
            load(folder)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.bin", pickle.dumps(["a"], 2), "a list of different words"),
        ("vocab.bin", pickle.dumps({"idx2sym": ["a", "a"]}, 2), "a list of different words"),
        ("vocab.bin", pickle.dumps({"idx2sym": ["a"], "lower_case": "yes"}, 2), "lower_case of vocabulary"),
        ("vocab.json", b'{"a": 0, "b": 2}', "each once"),
        ("vocab.json", b'{"a": "0"}', "map tokens to ids"),
        ("vocab.txt", b"\xff\xfe\x00", "UTF-8 text"),
    ],
)
def test_what_is_no_vocabulary_is_an_error(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        TransfoXLTokenizer.from_pretrained(tmp_path)


def test_a_vocabulary_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="readable"):
        TransfoXLTokenizer(vocab_file=tmp_path / "none.txt")
    with pytest.raises(UnknownModel):
        TransfoXLTokenizer.from_pretrained("no-such-name")
    with pytest.raises(ConfigError, match="given as vocab_file="):
        TransfoXLTokenizer("vocab.txt")


def test_lines_of_a_vocabulary(tmp_path: Path) -> None:
    file = tmp_path / "1b_word_vocab.txt"
    file.write_bytes(b"<S> 3\r\nthe\t9\n\n<UNK> 1\nthe 2\n{x}\n")
    tokenizer = TransfoXLTokenizer(vocab_file=file)
    assert tokenizer.idx2sym == ["<S>", "the", "<UNK>", "{x}"]
    assert tokenizer.unk_token == "<UNK>" and tokenizer.unk_token_id == tokenizer.unk_idx == 2
    assert tokenizer.encode("the end", add_double_eos=True) == [0, 1, 2, 0]


# -- saving ------------------------------------------------------------------------------------------------------------------


def changed(tokenizer: TransfoXLTokenizer) -> TransfoXLTokenizer:
    tokenizer.add_tokens(["new", "two words"])
    tokenizer.add_special_tokens({"pad_token": "<pad>", "additional_special_tokens": ["<x>"]})
    return tokenizer


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lower_case": True, "delimiter": ",", "special": ["<eos>"], "min_freq": 2, "max_size": 9, "model_max_length": 40},
        {"never_split": ["cat"], "unk_token": "the", "eos_token": "."},
    ],
)
def test_everything_comes_back(tmp_path: Path, vocab: Path, options: dict[str, Any]) -> None:
    tokenizer = changed(TransfoXLTokenizer(vocab_file=vocab, **options))
    paths = tokenizer.save_pretrained(tmp_path / "saved")
    assert [Path(path).name for path in paths] == ["vocab.txt", "special_tokens_map.json", "added_tokens.json"]
    again = TransfoXLTokenizer.from_pretrained(tmp_path / "saved")
    for line in [*LINES, "xnewx<pad>two words<x>scatter"]:
        assert again.encode(line) == tokenizer.encode(line)
        assert again.tokenize(line) == tokenizer.tokenize(line)
    for name in ("lower_case", "delimiter", "special", "min_freq", "max_size", "never_split", "model_max_length"):
        assert getattr(again, name) == getattr(tokenizer, name), name
    assert again.special_tokens_map == tokenizer.special_tokens_map
    assert again.get_vocab() == tokenizer.get_vocab() and len(again) == len(tokenizer)


def test_2019s_library_reads_what_was_saved(tmp_path: Path, vocab: Path) -> None:
    ours = TransfoXLTokenizer(vocab_file=vocab, lower_case=True)
    ours.save_pretrained(tmp_path / "saved")
    assert_alike(ours, quiet(reference.TransfoXLTokenizer.from_pretrained, str(tmp_path / "saved")))


def test_a_folder_of_2019_reads_the_same(tmp_path: Path, vocab: Path) -> None:
    theirs = reference.TransfoXLTokenizer(vocab_file=str(vocab), lower_case=True)
    theirs.add_tokens(["new"])
    theirs.save_pretrained(str(tmp_path))
    shutil.move(vocab, tmp_path / "elsewhere")
    ours = TransfoXLTokenizer.from_pretrained(tmp_path)
    assert_alike(ours, theirs)
    # 1.2.0 decoded it without the space behind an added token.
    assert ours.encode("a new cat") == theirs.encode("a new cat") and ours.decode([0, 15, 4]) == "<unk> new cat"


def test_words_with_white_space_are_saved_as_json(tmp_path: Path) -> None:
    tokenizer = TransfoXLTokenizer(delimiter="")
    tokenizer.count_sents([list("a b\n")])
    tokenizer.build_vocab()
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "vocab.txt").write_text("an older one\n")
    tokenizer.save_pretrained(folder)
    again = TransfoXLTokenizer.from_pretrained(folder)
    assert [file.name for file in folder.glob("vocab.*")] == ["vocab.json"]
    assert again.idx2sym == tokenizer.idx2sym and again.decode(again.encode("a b a")) == "a b a"
    with pytest.raises(ConfigError, match=r"ends in \.json"):
        tokenizer.save_vocabulary(tmp_path / "words.txt")
    assert tokenizer.save_vocabulary(tmp_path / "words.json") == (str(tmp_path / "words.json"),)
    assert TransfoXLTokenizer(vocab_file=tmp_path / "words.json").idx2sym == tokenizer.idx2sym


def test_a_vocabulary_can_be_saved_to_a_file_of_any_name(tmp_path: Path, vocab: Path) -> None:
    tokenizer = changed(TransfoXLTokenizer(vocab_file=vocab))
    assert tokenizer.save_vocabulary(tmp_path / "words") == (str(tmp_path / "words"),)
    assert (tmp_path / "words").read_bytes() == vocab.read_bytes()


# -- calling -----------------------------------------------------------------------------------------------------------------


def test_a_call_returns_what_the_model_takes(vocab: Path) -> None:
    tokenizer = TransfoXLTokenizer(vocab_file=vocab)
    encoded = tokenizer(["the cat", "the dog"], padding=True, return_tensors="pt", return_offsets_mapping=False)
    assert dict(encoded).keys() == {"input_ids"}
    assert encoded.input_ids.tolist() == [[3, 4], [3, 0]]
    with pytest.raises(ValueError, match="pad_token"):
        tokenizer(["the cat", "the"], padding=True)
    tokenizer.pad_token = "<eos>"
    assert tokenizer(["the cat", "the"], padding=True).input_ids == [[3, 4], [3, 1]]
    masked = tokenizer(["the cat", "the"], padding=True, return_attention_mask=True, return_token_type_ids=True)
    assert masked.attention_mask == [[1, 1], [1, 0]] and masked.token_type_ids == [[0, 0], [0, 0]]


def test_truncation_pairs_and_offsets(vocab: Path) -> None:
    tokenizer = TransfoXLTokenizer(vocab_file=vocab, model_max_length=4)
    text, second = " the cat sat on", "the  cat"
    assert tokenizer(text, truncation=True, max_length=3).input_ids == [3, 4, 5]
    tokenizer.truncation_side = "left"
    assert tokenizer(text, truncation=True, max_length=3).input_ids == [4, 5, 6]
    pair = tokenizer(text, second, truncation=True, return_token_type_ids=True, return_offsets_mapping=True)
    assert pair.input_ids == [5, 6, 3, 4] and pair.token_type_ids == [0, 0, 1, 1]
    assert [text[begin:end] for begin, end in pair.offset_mapping[:2]] == ["sat", "on"]
    assert [second[begin:end] for begin, end in pair.offset_mapping[2:]] == ["the", "cat"]
    assert pair.encodings[0].sequence_ids == [0, 0, 1, 1]
    words = tokenizer(["the", "cat sat"], is_split_into_words=True)
    assert words.input_ids == [3, 4, 5] and words.word_ids() == [0, 1, 1] and words.tokens() == ["the", "cat", "sat"]


def test_special_tokens_can_be_skipped(vocab: Path) -> None:
    tokenizer = TransfoXLTokenizer(vocab_file=vocab)
    ids = tokenizer.encode("the dog , sat", add_eos=True)
    assert tokenizer.decode(ids) == "the <unk>, sat <eos>"
    assert tokenizer.decode(torch.tensor(ids), skip_special_tokens=True) == "the, sat"
    assert tokenizer.batch_decode([ids[:1], ids[2:4]]) == ["the", ", sat"]
    assert tokenizer.all_special_ids == [1, 0, 2]
    assert tokenizer.convert_tokens_to_string(["a", "b"]) == "a b"


def test_it_pickles(vocab: Path) -> None:
    tokenizer = changed(TransfoXLTokenizer(vocab_file=vocab, lower_case=True))
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.encode("The NEW new<pad>") == tokenizer.encode("The NEW new<pad>")


def test_without_a_vocabulary_words_have_no_ids() -> None:
    tokenizer = TransfoXLTokenizer()
    assert tokenizer.tokenize("a b") == ["a", "b"]
    for call in (tokenizer.encode, tokenizer.convert_tokens_to_ids):
        with pytest.raises(ConfigError, match="build or load a vocabulary"):
            call("a")


def test_an_unknown_token_that_the_vocabulary_lacks_is_added_and_kept(vocab: Path, tmp_path: Path) -> None:
    given = TransfoXLTokenizer.from_pretrained(vocab, unk_token="<x>")
    built = TransfoXLTokenizer(vocab_file=vocab, unk_token="<x>")
    later = TransfoXLTokenizer(vocab_file=vocab)
    later.unk_token = "<x>"
    counted = TransfoXLTokenizer(special=WORDS, unk_token="<x>")
    counted.build_vocab()
    for number, tokenizer in enumerate((given, built, later, counted)):
        tokenizer.save_pretrained(tmp_path / str(number))
        for each in (tokenizer, TransfoXLTokenizer.from_pretrained(tmp_path / str(number))):
            assert (each.unk_token, each.unk_token_id, each.unk_idx, len(each)) == ("<x>", 15, 15, 16)
            assert each.encode("the dog") == [3, 15]


def test_the_default_unknown_token_is_that_of_the_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("<UNK>\n<eos>\nthe\n")
    for options in ({}, {"unk_token": "<UNK>"}):
        tokenizer = TransfoXLTokenizer.from_pretrained(tmp_path / "vocab.txt", **options)
        assert (tokenizer.unk_token, tokenizer.unk_idx, len(tokenizer)) == ("<UNK>", 0, 3)


@pytest.mark.parametrize("text", ["a\ud800", "\udfff", None, 5])
def test_what_is_no_text_is_refused(vocab: Path, text: Any) -> None:
    tokenizer = TransfoXLTokenizer(vocab_file=vocab)
    for call in (tokenizer.tokenize, tokenizer.encode):
        with pytest.raises(ValueError, match="lone surrogate|is expected to be text"):
            call(text)
    with pytest.raises(ValueError, match="lone surrogate|is expected to be text"):
        TransfoXLTokenizer().tokenize(text, add_eos=True)
