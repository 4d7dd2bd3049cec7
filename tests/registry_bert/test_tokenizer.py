"""BERT's tokenizer against transformers 5.23, and what a user does with it."""

from __future__ import annotations

import copy
import json
import pickle
import random
import sysconfig
import unicodedata
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

import registry
from registry import ConfigError, RegistryWarning
from registry_bert import BertTokenizer
from tests.oracles import new
from tests.registry_bert.tiny import build


@pytest.fixture(scope="session")
def real(minilm_folder: Path) -> BertTokenizer:
    return BertTokenizer.from_pretrained(minilm_folder)


@pytest.fixture(scope="session")
def oracle(minilm_folder: Path) -> Any:
    """Return transformers' tokenizer on the same vocabulary, without the truncation that MiniLM's own file switches on."""
    return new.BertTokenizer(str(minilm_folder / "vocab.txt"))


HAND = [
    "",
    " ",
    "\t\n ",
    "Hello, world!",
    "don't can't I'm we've they're it's",
    "café naïve Ångström ÉCOLE ﬁ",
    "日本語のテキスト 中文，标点。 한국어",
    "ΟΔΟΣ ςσ İstanbul ẞ straße",
    "emoji 😀👩‍👩‍👧 flags 🇩🇪 keycap 1️⃣",
    "zero\u200bwidth soft\u00adhyphen nul\x00 bom\ufeff repl\ufffd",
    "math ∑∫√ ≤≥ ½ ² x_1^2 $5.00 50% #tag @user",
    "[CLS] hi [SEP] a[MASK]b [UNK][PAD] [cls] [mask]",
    "a" * 100,
    "a" * 101,
    "https://example.org/path?query=1&x=[y] user@example.org C:\\dir\\file.txt",
    "Ünïcödé\u0301 combining e\u0301 a\u0308",
    "العربية עברית हिन्दी ไทย ខ្មែរ",
    "\u2028line\u2029para\u00a0nbsp\u3000wide\u1680ogham",
    "snake_case CamelCase kebab-case a.b.c 1,000.5 3:30pm",
    "\U0002b820\U0002b91f\U0001fa77 rare planes",
]


def varied_texts() -> list[str]:
    """Return real text in several languages and random text in all of Unicode, some thousands of pieces."""
    texts = list(HAND)
    library = Path(sysconfig.get_paths()["stdlib"])
    for name in ("argparse.py", "typing.py", "this.py", "turtle.py", "random.py", "tarfile.py", "zipfile.py"):
        texts += [line for line in (library / name).read_text(encoding="utf-8").splitlines() if line.strip()][:350]
    numbers = random.Random(0)
    alphabets = [
        [chr(point) for point in range(low, high) if unicodedata.category(chr(point)) != "Cs"]
        for low, high in ((32, 127), (160, 1024), (1024, 12000), (0x4E00, 0x4F00), (0x1F300, 0x1F700), (0x2B800, 0x2B900))
    ]
    for _ in range(700):
        texts.append("".join(numbers.choice(numbers.choice(alphabets)) for _ in range(numbers.randint(1, 40))))
    return texts


def test_ids_are_those_of_transformers_on_thousands_of_texts(real: BertTokenizer, oracle: Any) -> None:
    texts = varied_texts()
    assert len(texts) >= 2000
    got, expected = real(texts), oracle(texts)
    assert got["input_ids"] == expected["input_ids"]
    assert got["token_type_ids"] == expected["token_type_ids"]
    for text in HAND:
        assert real(text)["input_ids"] == oracle(text)["input_ids"], text


def test_cased_ids_are_those_of_transformers(minilm_folder: Path) -> None:
    vocabulary = str(minilm_folder / "vocab.txt")
    ours = BertTokenizer(vocabulary, do_lower_case=False)
    theirs = new.BertTokenizer(vocabulary, do_lower_case=False)
    texts = varied_texts()
    assert ours(texts)["input_ids"] == theirs(texts)["input_ids"]


def test_pairs_are_those_of_transformers(real: BertTokenizer, oracle: Any) -> None:
    texts = varied_texts()[:600]
    pairs = list(zip(texts, reversed(texts), strict=True))
    for limit in (None, 64, 17, 4):
        options = {"truncation": limit is not None, "max_length": limit}
        got, expected = real(pairs, **options), oracle(pairs, **options)
        assert got["input_ids"] == expected["input_ids"], limit
        assert got["token_type_ids"] == expected["token_type_ids"], limit


@pytest.mark.parametrize("strategy", ["longest_first", "only_first", "only_second"])
@pytest.mark.parametrize("limit", [6, 7, 9, 12, 40])
def test_every_truncation_is_that_of_transformers(real: BertTokenizer, oracle: Any, strategy: str, limit: int) -> None:
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    for first in range(1, 9):
        for second in range(1, 9):
            pair = " ".join(words[:first]), " ".join(words[:second])
            options = {"truncation": strategy, "max_length": limit}
            room = limit - 3
            impossible = (strategy == "only_first" and second > room) or (strategy == "only_second" and first > room)
            if impossible and first + second > room:
                with pytest.raises(ValueError, match="expected to fit"):
                    real(*pair, **options)
            elif not (strategy != "longest_first" and first + second > room and 0 in (room - first, room - second)):
                assert real(*pair, **options)["input_ids"] == oracle(*pair, **options)["input_ids"], pair


@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_is_that_of_transformers(minilm_folder: Path, side: str) -> None:
    vocabulary = str(minilm_folder / "vocab.txt")
    ours = BertTokenizer(vocabulary, padding_side=side)
    theirs = new.BertTokenizer(vocabulary, padding_side=side)
    texts = HAND[3:9]
    for options in (
        {"padding": True},
        {"padding": "max_length", "max_length": 40, "truncation": True},
        {"padding": True, "pad_to_multiple_of": 8},
    ):
        got = ours(texts, return_tensors="pt", return_special_tokens_mask=True, **options)
        expected = theirs(texts, return_tensors="pt", return_special_tokens_mask=True, **options)
        assert got.keys() == expected.keys()
        for key in expected:
            assert got[key].dtype == torch.int64 and torch.equal(got[key], expected[key]), (key, options)


def test_offsets_point_into_the_text(real: BertTokenizer) -> None:
    text = "Héllo,  Wörld! 日本 don't"
    encoded = real(text, return_offsets_mapping=True)
    tokens = real.convert_ids_to_tokens(encoded["input_ids"])
    spelled = [text[begin:end] for begin, end in encoded["offset_mapping"]]
    assert tokens[1:-1] == ["hello", ",", "world", "!", "日", "本", "don", "'", "t"]
    assert spelled == ["", "Héllo", ",", "Wörld", "!", "日", "本", "don", "'", "t", ""]


def test_words_that_are_split_already(real: BertTokenizer, oracle: Any) -> None:
    words = [["Hello", "unbelievable", "world!"], ["a"]]
    got = real(words, is_split_into_words=True, padding=True)
    assert got["input_ids"] == oracle(words, is_split_into_words=True, padding=True)["input_ids"]
    assert got.word_ids(0) == [None, 0, 1, 2, 2, None]
    assert real(words[0], is_split_into_words=True)["input_ids"] == got["input_ids"][0]


@pytest.mark.parametrize("clean", [True, False])
def test_decoding(real: BertTokenizer, clean: bool) -> None:
    ids = real.encode("Hello, it's unbelievable. We do not know!")
    text = real.decode(torch.tensor(ids), skip_special_tokens=True, clean_up_tokenization_spaces=clean)
    assert text == ("hello, it's unbelievable. we don't know!" if clean else "hello , it ' s unbelievable . we do not know !")
    assert real.decode(ids).startswith("[CLS] hello")
    assert real.batch_decode([ids, ids], skip_special_tokens=True) == [real.decode(ids, skip_special_tokens=True)] * 2


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_a_batch_is_its_texts_one_by_one(minilm_folder: Path, texts: list[str]) -> None:
    tokenizer = _cached(minilm_folder)
    assert tokenizer(texts)["input_ids"] == [tokenizer(text)["input_ids"] for text in texts]
    for text in texts:
        assert tokenizer.encode(text) == tokenizer.build_inputs_with_special_tokens(
            tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))
        )


_made: dict[Path, BertTokenizer] = {}


def _cached(folder: Path) -> BertTokenizer:
    return _made.setdefault(folder, BertTokenizer(folder / "vocab.txt"))


def test_whitespace_is_nothing(real: BertTokenizer) -> None:
    for text in ("", " ", "\t\n\u3000"):
        assert real.tokenize(text) == [] and real.encode(text, add_special_tokens=False) == []


def test_lists_of_tokens_and_ids_are_encoded_too(real: BertTokenizer) -> None:
    tokens = real.tokenize("hello world again")
    ids = real.convert_tokens_to_ids(tokens)
    assert real.encode(tokens) == real.encode(ids) == real.encode("hello world again")
    assert real.encode(tokens, ids, max_length=7) == real.encode("hello world again", "hello world again", max_length=7)


def test_added_and_special_tokens_survive_saving(vocabulary: Path, tmp_path: Path) -> None:
    tokenizer = BertTokenizer(vocabulary, do_lower_case=False, model_max_length=77, padding_side="left", max_len=77)
    assert tokenizer.add_tokens(["Covid", "Covid", "hello", "GPU"]) == 2
    assert tokenizer.add_tokens([AddedToken("<br>", lstrip=True, rstrip=True, normalized=False)]) == 1
    assert tokenizer.add_special_tokens({"additional_special_tokens": ["<user>"], "eos_token": "<eos>"}) == 2
    texts = ["hello Covid GPU", "x<user>y<eos>", "a <br> b", "covid", "日 [MASK]"]
    expected = [tokenizer.tokenize(text) for text in texts]
    assert expected[0] == ["hello", "Covid", "GPU"] and len(tokenizer) == tokenizer.vocab_size + 5
    paths = tokenizer.save_pretrained(tmp_path / "t")
    assert [Path(path).name for path in paths] == ["vocab.txt", "special_tokens_map.json", "added_tokens.json"]
    for again in (
        BertTokenizer.from_pretrained(tmp_path / "t"),
        pickle.loads(pickle.dumps(tokenizer)),
        copy.deepcopy(tokenizer),
    ):
        assert [again.tokenize(text) for text in texts] == expected
        assert [again.encode(text) for text in texts] == [tokenizer.encode(text) for text in texts]
        assert again.get_vocab() == tokenizer.get_vocab()
        assert again.special_tokens_map == tokenizer.special_tokens_map
        assert (again.model_max_length, again.max_len, again.padding_side) == (77, 77, "left")
        assert again.eos_token == "<eos>" and again.all_special_ids == tokenizer.all_special_ids
        ids = tokenizer.encode("hello<eos>")
        assert again.decode(ids, skip_special_tokens=True) == "hello"


def test_a_saved_tokenizer_opens_in_transformers_and_back(vocabulary: Path, tmp_path: Path) -> None:
    tokenizer = BertTokenizer(vocabulary, do_lower_case=False)
    tokenizer.add_tokens(["Covid"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<user>"]})
    tokenizer.save_pretrained(tmp_path / "a")
    theirs = new.BertTokenizer.from_pretrained(tmp_path / "a")
    texts = ["hello Covid", "the <user> man", "Hello HELLO hello", "日本 café"]
    assert [theirs(text)["input_ids"] for text in texts] == [tokenizer(text)["input_ids"] for text in texts]
    theirs.save_pretrained(tmp_path / "b")
    again = BertTokenizer.from_pretrained(tmp_path / "b")
    assert [again(text)["input_ids"] for text in texts] == [tokenizer(text)["input_ids"] for text in texts]
    assert "<user>" in again.all_special_tokens


def test_a_directly_built_tokenizer_remembers_its_settings(vocabulary: Path, tmp_path: Path) -> None:
    tokenizer = BertTokenizer(vocabulary, do_lower_case=False, tokenize_chinese_chars=False, strip_accents=False)
    tokenizer.save_pretrained(tmp_path / "t")
    again = BertTokenizer.from_pretrained(tmp_path / "t")
    for text in ("Hello", "日本", "Café"):
        assert again.tokenize(text) == tokenizer.tokenize(text)
    assert BertTokenizer.from_pretrained(tmp_path / "t", do_lower_case=True).tokenize("HELLO") == ["hello"]


def test_basic_splitting_can_be_off_and_words_protected(vocabulary: Path) -> None:
    plain = BertTokenizer(vocabulary, do_basic_tokenize=False)
    assert plain.tokenize("hello world, Hello") == ["hello", "[UNK]", "[UNK]"]
    assert BertTokenizer(vocabulary, never_split=["don"]).tokenize("don't") == ["don", "'", "t"]
    with pytest.raises(ConfigError, match="never_split.*'zzz'"):
        BertTokenizer(vocabulary, never_split=["zzz"])


def test_a_vocabulary_survives_saving_byte_for_byte(minilm_folder: Path, tmp_path: Path) -> None:
    BertTokenizer(minilm_folder / "vocab.txt").save_vocabulary(tmp_path)
    assert (tmp_path / "vocab.txt").read_bytes() == (minilm_folder / "vocab.txt").read_bytes()


def test_special_tokens_that_the_vocabulary_lacks_are_none(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_text("[UNK]\n[CLS]\n[SEP]\na\nb\n")
    tokenizer = BertTokenizer(path)
    assert tokenizer.pad_token == "[PAD]" and tokenizer.pad_token_id is None and tokenizer.bos_token is None
    assert tokenizer(["a", "b"], padding=False)["input_ids"] == [[1, 3, 2], [1, 4, 2]]
    with pytest.raises(ValueError, match="pad_token"):
        tokenizer(["a", "a b"], padding=True)
    assert tokenizer.add_special_tokens({"pad_token": "[PAD]"}) == 1 and tokenizer.pad_token_id == 5


@pytest.mark.parametrize(
    ("content", "what"),
    [("hello\n", r"'\[UNK\]'"), ('{"model": {"type": "BPE"}}', "WordPiece"), (b"\xff\xfe\x00", "UTF-8")],
)
def test_what_is_no_vocabulary_is_refused(tmp_path: Path, content: str | bytes, what: str) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=what):
        BertTokenizer(path)
    with pytest.raises(ConfigError, match="readable"):
        BertTokenizer(tmp_path / "absent.txt")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"padding": "longer"}, "padding is expected"),
        ({"truncation": "first", "max_length": 4}, "truncation is expected"),
        ({"truncation": "nonsense"}, "truncation is expected"),
        ({"padding": True, "pad_to_multiple_of": 0}, "pad_to_multiple_of"),
        ({"return_tensors": "tf"}, "return_tensors is expected"),
        ({"return_tensors": "pt"}, "padding=True"),
        ({"max_length": 1, "truncation": True}, "raise max_length"),
    ],
)
def test_wrong_options_are_named(real: BertTokenizer, options: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        real(["one two three", "one two three four five"], **options)


def test_ids_that_are_none_are_named(real: BertTokenizer) -> None:
    with pytest.raises(ValueError, match="hold -100"):
        real.decode([101, -100])


def test_arrays_and_moving(real: BertTokenizer) -> None:
    arrays = real(["a b", "a"], padding=True, return_tensors="np")
    assert isinstance(arrays["input_ids"], numpy.ndarray) and arrays["input_ids"].dtype == numpy.int64
    moved = real(["a b"], return_tensors="pt").to("meta")
    assert moved.input_ids.is_meta and moved["attention_mask"].is_meta and moved.tokens(0)[1] == "a"


def test_records_are_made_when_they_are_asked_for(real: BertTokenizer) -> None:
    text, second = "Hello unbelievable", "a b"
    batch = real([(text, second), ("a", "b")], padding=True, return_tensors="pt")
    first = batch.to("meta").encodings[0]
    assert first.ids == batch.input_ids[0].tolist() and first.sequence_ids == [None, 0, 0, None, 1, 1, None]
    assert first.offsets == real(text, second, return_offsets_mapping=True).offset_mapping
    assert batch.encodings is batch.encodings and pickle.loads(pickle.dumps(batch)).tokens(1) == batch.tokens(1)


def test_records_of_a_batch_that_was_pickled_or_of_another_vocabulary(minilm_folder: Path) -> None:
    tokenizer = BertTokenizer.from_pretrained(minilm_folder)
    batch, later = tokenizer("hello qqqq"), tokenizer("hello qqqq")
    passed_on = pickle.loads(pickle.dumps(batch))
    assert passed_on == batch
    with pytest.raises(ValueError, match="before a batch is pickled"):
        passed_on.word_ids()
    tokenizer.add_tokens(["qqqq"])
    with pytest.raises(ValueError, match="before the tokenizer is changed"):
        later.tokens()


def test_a_tokenizer_loads_by_name_by_folder_and_by_file(minilm_folder: Path, vocabulary: Path, tmp_path: Path) -> None:
    assert registry.load_tokenizer(minilm_folder).encode("hello") == [101, 7592, 102]
    assert BertTokenizer.from_pretrained(str(vocabulary)).tokenize("hello") == ["hello"]
    build("BertModel").save_pretrained(tmp_path / "m")
    BertTokenizer(vocabulary).save_pretrained(tmp_path / "m")
    assert registry.load_tokenizer(tmp_path / "m", do_lower_case=False).tokenize("Hello") == ["[UNK]"]


def test_the_length_of_2019_goes_before_the_saved_one(vocabulary: Path, tmp_path: Path) -> None:
    BertTokenizer(vocabulary, model_max_length=77).save_pretrained(tmp_path / "t")
    assert BertTokenizer.from_pretrained(tmp_path / "t").max_len == 77
    assert BertTokenizer.from_pretrained(tmp_path / "t", max_len=5).model_max_length == 5


def test_positional_settings_go_before_saved_ones(vocabulary: Path, tmp_path: Path) -> None:
    BertTokenizer(vocabulary, do_lower_case=True).save_pretrained(tmp_path / "t")
    assert BertTokenizer.from_pretrained(tmp_path / "t", False).tokenize("HELLO") == ["[UNK]"]


def test_a_line_that_stands_twice_leaves_no_id_to_two_tokens(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_text("[UNK]\n[CLS]\n[SEP]\nhello\nx\nhello\nnew\n")
    tokenizer = BertTokenizer(path)
    assert tokenizer.encode("hello new", add_special_tokens=False) == [5, 6] and len(tokenizer) == tokenizer.vocab_size == 7
    assert tokenizer.add_tokens(["zzz"]) == 1 and tokenizer.convert_tokens_to_ids("zzz") == 7
    tokenizer.save_pretrained(tmp_path / "t")
    assert BertTokenizer.from_pretrained(tmp_path / "t").get_vocab() == tokenizer.get_vocab()


def test_one_text_is_no_pair_for_a_batch(real: BertTokenizer) -> None:
    with pytest.raises(ValueError, match="text_pair is expected to be a list"):
        real(["hello", "world"], "ab")


def test_words_of_a_padded_batch_stay_beside_their_ids(minilm_folder: Path) -> None:
    for side in ("left", "right"):
        tokenizer = BertTokenizer(minilm_folder / "vocab.txt", padding_side=side)
        batch = tokenizer(["a b", "a b c d"], padding=True)
        words = [None, 0, 1, None]
        assert batch.word_ids(0) == ([None, None, *words] if side == "left" else [*words, None, None])
        assert len(batch.word_ids(0)) == len(batch["input_ids"][0])
    assert tokenizer("a b").word_ids() == [None, 0, 1, None]


def test_code_in_a_tokenizers_configuration_is_ignored_with_a_warning(vocabulary: Path, tmp_path: Path) -> None:
    BertTokenizer(vocabulary).save_pretrained(tmp_path / "t")
    path = tmp_path / "t" / "tokenizer_config.json"
    path.write_text(path.read_text().replace('"BertTokenizer"', '"evil.module.Tokenizer"'))
    with pytest.warns(RegistryWarning, match="tokenizer_class.*never run"):
        BertTokenizer.from_pretrained(tmp_path / "t")


def test_names_of_2019_for_the_same_things(real: BertTokenizer) -> None:
    ids = real.convert_tokens_to_ids(["hello", "world"])
    assert real.add_special_tokens_single_sentence(ids) == [101, *ids, 102]
    assert real.add_special_tokens_sentences_pair(ids, ids) == [101, *ids, 102, *ids, 102]
    assert real.vocab["hello"] == ids[0] and real.ids_to_tokens[ids[1]] == "world"
    assert real.convert_tokens_to_string(real.tokenize("unbelievable")) == "unbelievable"
    assert real.encode_plus("one two three four", max_length=4)["input_ids"] == real.encode("one two", max_length=4)
    assert real.batch_encode_plus(["a", "b"])["input_ids"] == real(["a", "b"])["input_ids"]


def test_a_weights_file_has_its_vocabulary_beside_it(vocabulary: Path, tmp_path: Path) -> None:
    build("BertModel").save_pretrained(tmp_path / "m")
    BertTokenizer(vocabulary).save_pretrained(tmp_path / "m")
    assert registry.load_tokenizer(tmp_path / "m" / "model.safetensors").tokenize("hello") == ["hello"]


@pytest.mark.parametrize("content", ["\ufeff", "\u0301", "\0"])
def test_a_token_of_which_normalization_leaves_nothing_is_refused(content: str, vocabulary: Path) -> None:
    tokenizer = BertTokenizer(vocabulary)
    with pytest.raises(ConfigError, match="expected to have text after normalization"):
        tokenizer.add_tokens([content])
    before = tokenizer.encode("hello world")
    assert tokenizer.add_tokens([AddedToken(content, normalized=False)]) == 1
    assert tokenizer.encode("hello world") == before


@pytest.mark.parametrize("key", ["\ufeff", "\ud800", ""])
def test_an_impossible_added_token_of_2019_names_its_file(key: str, vocabulary: Path, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "vocab.txt").write_bytes(vocabulary.read_bytes())
    size = len(vocabulary.read_text("utf-8").splitlines())
    (folder / "added_tokens.json").write_text(json.dumps({key: size}))
    with pytest.raises(ConfigError, match=r"added_tokens\.json"):
        BertTokenizer.from_pretrained(folder)
