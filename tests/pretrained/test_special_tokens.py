"""Special and added tokens, padding and windows, against transformers 5.23 on small vocabularies."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from tokenizers import AddedToken

from registry import ConfigError
from registry_bert import BertTokenizer
from registry_gpt import OpenAIGPTTokenizer
from registry_gpt2 import GPT2Tokenizer
from registry_transfo_xl import TransfoXLTokenizer
from tests.oracles import new, old

SIGNS = [chr(code) for code in range(33, 127)]
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *SIGNS,
    *("##" + letter for letter in "abcdefghijklmnopqrstuvwxyz"),
    "the",
    "cat",
]
TEXT = "the [MASK]  cat<new> <e 1>x"
FLAGS = [
    {},
    {"lstrip": True},
    {"rstrip": True, "lstrip": True},
    {"single_word": True},
    {"normalized": False},
    {"special": True},
]


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    path = tmp_path / "vocab.txt"
    path.write_text("".join(f"{word}\n" for word in dict.fromkeys(WORDS)))
    return path


@pytest.fixture
def gpt2(tmp_path: Path) -> Path:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + place) for place, byte in enumerate(others)}
    tokens = [*(letters[byte] for byte in range(256)), "th", "the", "<|endoftext|>"]
    (tmp_path / "merges.txt").write_text("#version: 0.2\nt h\nth e\n")
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    return path


@pytest.fixture
def gpt(tmp_path: Path) -> Path:
    tokens = ["<unk>", *SIGNS, *(sign + "</w>" for sign in SIGNS), "th", "the</w>"]
    folder = tmp_path / "gpt"
    folder.mkdir()
    (folder / "merges.txt").write_text("#version: 0.2\nt h\nth e</w>\n")
    path = folder / "vocab.json"
    path.write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    return path


def theirs_of(path: Path, **options: Any) -> Any:
    return new.BertTokenizer(str(path), **options)


def flags_of(tokenizer: Any) -> dict[int, str]:
    return {number: repr(token) for number, token in tokenizer.added_tokens_decoder.items()}


# -- tokens with flags ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("content", ["[MASK]", "<new>", "cat"])
@pytest.mark.parametrize(
    "way", ["constructor", "extra", "add_special_tokens", "add_extra", "add_tokens", "special", "attribute"]
)
def test_a_token_with_flags_is_kept_whole_and_saved(
    bert: Path, tmp_path: Path, way: str, content: str, flags: dict[str, bool]
) -> None:
    made = []
    for tokenizer in (lambda **options: BertTokenizer(bert, **options), lambda **options: theirs_of(bert, **options)):
        token = AddedToken(content, **flags)
        before = token.special
        if way == "constructor":
            made.append(tokenizer(mask_token=token))
        elif way == "extra":
            made.append(tokenizer(additional_special_tokens=["<e 1>", token]))
        else:
            one = tokenizer()
            if way == "add_special_tokens":
                one.add_special_tokens({"mask_token": token})
            elif way == "add_extra":
                one.add_special_tokens({"additional_special_tokens": [token, "<e 1>"]})
            elif way == "attribute":
                one.mask_token = token
                if isinstance(one, new.BertTokenizer):
                    one.add_tokens([token], special_tokens=True)  # setting alone does not add there
            else:
                one.add_tokens([token], special_tokens=way == "special")
            made.append(one)
        assert token.special is before or isinstance(made[-1], new.BertTokenizer)
    ours, theirs = made
    if way == "add_tokens" and content == "[MASK]":  # what has a name stays special; there only a reload makes it so again
        assert ours.added_tokens_decoder[4].special
        return
    for one in (ours, pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours), saved(ours, tmp_path / "a")):
        assert flags_of(one) == flags_of(theirs) and one.get_vocab() == theirs.get_vocab()
        assert one(TEXT, return_offsets_mapping=True) == theirs(TEXT, return_offsets_mapping=True)
        assert one.all_special_tokens == theirs.all_special_tokens and str(one.mask_token) == theirs.mask_token
        assert one.decode(one.encode(TEXT), skip_special_tokens=True) == theirs.decode(
            theirs.encode(TEXT), skip_special_tokens=True
        )
    there = new.BertTokenizer.from_pretrained(tmp_path / "a")
    assert there(TEXT)["input_ids"] == ours(TEXT)["input_ids"]
    theirs.save_pretrained(tmp_path / "b")
    assert BertTokenizer.from_pretrained(tmp_path / "b")(TEXT)["input_ids"] == theirs(TEXT)["input_ids"]


def saved(tokenizer: Any, folder: Path) -> Any:
    tokenizer.save_pretrained(folder)
    return type(tokenizer).from_pretrained(folder)


def test_flags_in_a_special_tokens_map_are_read(bert: Path) -> None:
    side = {"mask_token": {"content": "[MASK]", "lstrip": True, "rstrip": False, "single_word": False, "normalized": False}}
    (bert.parent / "special_tokens_map.json").write_text(json.dumps(side))
    (bert.parent / "config.json").write_text('{"model_type": "bert"}')
    tokenizer = BertTokenizer.from_pretrained(bert.parent)
    assert tokenizer("the [MASK]", return_offsets_mapping=True)["offset_mapping"][2] == (3, 10)
    tokenizer.save_pretrained(bert.parent / "again")
    assert json.loads((bert.parent / "again" / "special_tokens_map.json").read_text())["mask_token"] == side["mask_token"]
    again = BertTokenizer.from_pretrained(bert.parent / "again", mask_token=AddedToken("[MASK]", rstrip=True))
    assert again("a [MASK] a", return_offsets_mapping=True)["offset_mapping"][2] == (2, 9)  # the caller's flags win


def test_flags_have_their_effect_on_whole_words(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("<unk>\n<eos>\na\nb\n")
    tokenizer = TransfoXLTokenizer(vocab_file=tmp_path / "vocab.txt")
    tokenizer.add_tokens([AddedToken("x", single_word=True), AddedToken("<m>", lstrip=True)], special_tokens=True)
    encoded = tokenizer("a <m>b xa x", return_offsets_mapping=True)
    assert tokenizer.convert_ids_to_tokens(encoded["input_ids"]) == ["a", "<m>", "b", "<unk>", "x"]
    assert encoded["offset_mapping"][1] == (1, 5) and tokenizer.decode(encoded["input_ids"], skip_special_tokens=True) == "a b"
    again = saved(tokenizer, tmp_path / "again")
    assert again("a <m>b xa x") == tokenizer("a <m>b xa x") and flags_of(again) == flags_of(tokenizer)


@pytest.mark.parametrize(
    ("family", "options"),
    [
        (GPT2Tokenizer, {"pad_token": "<pad>"}),
        (GPT2Tokenizer, {"bos_token": "<s>", "additional_special_tokens": ["<e 1>", "the"]}),
        (GPT2Tokenizer, {"pad_token": AddedToken("<pad>", lstrip=True)}),
    ],
)
def test_tokens_given_at_load_are_added_where_the_vocabulary_lacks_them(
    gpt2: Path, tmp_path: Path, family: Any, options: dict[str, Any]
) -> None:
    text = "the <pad><e 1> <s>the"
    theirs = new.GPT2Tokenizer(vocab=str(gpt2), merges=str(gpt2.with_name("merges.txt")), **options)
    for ours in (family(gpt2, **options), family.from_pretrained(gpt2, **options)):
        assert ours.get_vocab() == theirs.get_vocab() and ours(text)["input_ids"] == theirs(text)["input_ids"]
        assert saved(ours, tmp_path / "saved").get_vocab() == theirs.get_vocab()


def test_a_default_that_the_vocabulary_lacks_is_added_only_when_asked_for(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\na\n")
    assert BertTokenizer.from_pretrained(tmp_path / "vocab.txt").pad_token_id is None
    assert BertTokenizer.from_pretrained(tmp_path / "vocab.txt", pad_token="[PAD]").pad_token_id == 4
    with pytest.raises(ConfigError, match=r"hold '\[X\]'"):
        BertTokenizer(tmp_path / "vocab.txt", unk_token="[X]")
    tokenizer = BertTokenizer(tmp_path / "vocab.txt", cls_token="<c $A:1>", sep_token="a")
    assert tokenizer.encode("a") == [4, 3, 3] == saved(tokenizer, tmp_path / "saved").encode("a")


def test_setting_an_id_sets_the_token(gpt2: Path, tmp_path: Path) -> None:
    tokenizer = GPT2Tokenizer(gpt2)
    tokenizer.pad_token_id = tokenizer.eos_token_id
    assert tokenizer.pad_token == "<|endoftext|>" and saved(tokenizer, tmp_path / "a").pad_token_id == 258
    tokenizer.additional_special_tokens_ids = [257]
    assert tokenizer.additional_special_tokens == ["the"] and 257 in tokenizer.all_special_ids
    with pytest.raises(ConfigError, match="pad_token_id .*id of a token, but is 9999"):
        tokenizer.pad_token_id = 9999
    with pytest.raises(ConfigError, match="pad_token .*text or an AddedToken, but is a int"):
        tokenizer.pad_token = 5
    tokenizer.pad_token = None
    assert tokenizer.pad_token is None and tokenizer.pad_token_id is None and "pad_token" not in tokenizer.special_tokens_map


def test_a_list_of_additional_tokens_replaces_the_one_before(bert: Path) -> None:
    ours, theirs = BertTokenizer(bert), theirs_of(bert)
    for options in ({}, {"replace_extra_special_tokens": False}):
        for tokens in (["<a>"], ["<b>", "<c>"]):
            for one in (ours, theirs):
                one.add_special_tokens({"additional_special_tokens": tokens}, **options)
    assert ours.additional_special_tokens == ["<b>", "<c>", "<a>"] and ours.get_vocab() == theirs.get_vocab()


def test_tokens_around_a_text_follow_those_that_are_set(bert: Path) -> None:
    tokenizer = BertTokenizer(bert)
    tokenizer.cls_token, tokenizer.sep_token, tokenizer.unk_token = "the", "<sep>", "cat"
    ids = tokenizer.encode("é!")
    assert (
        tokenizer.convert_ids_to_tokens(ids)
        == ["the", "e", "!", "<sep>"]
        == tokenizer.convert_ids_to_tokens(tokenizer.encode(["e", "!"]))
    )
    assert tokenizer.tokenize("日") == ["cat"]
    with pytest.raises(ConfigError, match="sep_token of BertTokenizer"):
        tokenizer.sep_token = None


@pytest.mark.parametrize("family", [BertTokenizer, GPT2Tokenizer])
def test_a_known_token_added_as_special_is_whole_and_skipped(family: Any, bert: Path, gpt2: Path) -> None:
    ours = family(bert if family is BertTokenizer else gpt2)
    size = len(ours)
    assert ours.add_tokens(["the"]) == 0 and ours.tokenize("then")[0] == "the"
    assert ours.add_tokens(["the"], special_tokens=True) == 0 and len(ours) == size
    assert (
        ours.tokenize("xthex") == ["x", "the", "x"]
        and ours.decode(ours.encode("xthex"), skip_special_tokens=True).replace(" ", "") == "xx"
    )


# -- the vocabulary ------------------------------------------------------------------------------------------------------


def test_the_vocabulary_is_shared_in_the_order_of_ids(bert: Path) -> None:
    tokenizer = BertTokenizer(bert)
    tokenizer.add_tokens(["<new>"])
    assert list(tokenizer.vocab) == list(dict.fromkeys(WORDS)) and list(tokenizer.get_vocab()) == [*tokenizer.vocab, "<new>"]
    assert list(tokenizer.ids_to_tokens.items()) == list(enumerate(tokenizer.vocab))
    assert tokenizer.vocab is tokenizer.vocab and json.loads(json.dumps(tokenizer.vocab)) == tokenizer.vocab
    for change in (
        lambda: tokenizer.vocab.update(x=1),
        lambda: tokenizer.vocab.pop("the"),
        lambda: tokenizer.get_vocab().clear(),
    ):
        with pytest.raises(TypeError, match="add_tokens"):
            change()
    assert type(copy.deepcopy(tokenizer.vocab)) is dict is type(pickle.loads(pickle.dumps(tokenizer.vocab)))
    tokenizer.add_tokens(["<newer>"])
    assert list(tokenizer.get_vocab())[-1] == "<newer>" and list(tokenizer.get_added_vocab())[-1] == "<newer>"


def test_a_vocabulary_that_is_built_again_is_seen(tmp_path: Path) -> None:
    tokenizer = TransfoXLTokenizer()
    for words in (["a", "b", "b"], ["c", "a", "c", "c"]):
        tokenizer.count_sents([words])
        tokenizer.build_vocab()
        assert list(tokenizer.vocab) == tokenizer.idx2sym == list(tokenizer.sym2idx)
    assert tokenizer.idx2sym == ["c", "a", "b"] or tokenizer.idx2sym == ["c", "b", "a"]


def test_an_added_token_never_takes_the_id_of_another(gpt2: Path, bert: Path) -> None:
    vocabulary = {token: number + 3 * (number > 50) for token, number in json.loads(gpt2.read_text()).items()}
    gpt2.write_text(json.dumps(vocabulary))
    tokenizer = GPT2Tokenizer(gpt2, pad_token="<pad>")
    assert tokenizer.pad_token_id == 262 == len(tokenizer) - 1 and tokenizer.decode([261]) == "<|endoftext|>"
    assert tokenizer.vocab_size == 262 and tokenizer.convert_tokens_to_ids("the") == 260
    engine = {"version": "1.0", "model": {"type": "WordPiece", "vocab": {"[UNK]": 0, "[CLS]": 2, "[SEP]": 7}}}
    bert.write_text(json.dumps(engine))
    assert BertTokenizer(bert, pad_token="<pad>").pad_token_id == 8
    gpt2.write_text(json.dumps({"a": 0, "b": 1 << 31}))
    with pytest.raises(ConfigError, match="a token for most of the ids"):
        GPT2Tokenizer(gpt2)


def test_a_byte_order_mark_is_no_part_of_a_vocabulary(bert: Path, gpt2: Path, tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    files = {path: path.read_bytes() for path in (bert, gpt2, gpt2.with_name("merges.txt"))}
    before = [BertTokenizer(bert).get_vocab(), GPT2Tokenizer(gpt2).get_vocab(), TransfoXLTokenizer(vocab_file=bert).get_vocab()]
    new.BertTokenizer(str(bert)).save_pretrained(tmp_path / "t")
    for path, content in files.items():
        path.write_bytes(mark + content)
    assert [
        BertTokenizer(bert).get_vocab(),
        GPT2Tokenizer(gpt2).get_vocab(),
        TransfoXLTokenizer(vocab_file=bert).get_vocab(),
    ] == before
    for path in (tmp_path / "t").iterdir():
        path.write_bytes(mark + path.read_bytes())
    assert BertTokenizer.from_pretrained(tmp_path / "t").encode("the cat") == BertTokenizer(bert).encode("the cat")


@pytest.mark.parametrize("count", [100_000, 10_000_000])
def test_blank_lines_are_no_vocabulary(tmp_path: Path, count: int) -> None:
    (tmp_path / "vocab.txt").write_bytes(b"[UNK]\n[CLS]\n[SEP]\n" + b"\n" * count)
    with pytest.raises(ConfigError, match="vocab.txt"):
        BertTokenizer(tmp_path / "vocab.txt")
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    (tmp_path / "merges.txt").write_bytes(b"\n" * count + b"a b\n")
    with pytest.raises(ConfigError, match="merges.txt"):
        GPT2Tokenizer(tmp_path / "vocab.json")
    assert TransfoXLTokenizer(vocab_file=tmp_path / "vocab.txt").vocab_size == 3


# -- padding, cutting, windows -------------------------------------------------------------------------------------------

LONG = ["the cat a b c", "d e f g h i j k l m", "", "n"]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("truncation", [True, "only_first", "only_second"])
@pytest.mark.parametrize("stride", [0, 1, 2])
@pytest.mark.parametrize("limit", [8, 9, 11, 40])
def test_windows_are_those_of_transformers(bert: Path, gpt: Path, side: str, truncation: Any, stride: int, limit: int) -> None:
    options: dict[str, Any] = {
        "truncation": truncation,
        "max_length": limit,
        "stride": stride,
        "return_overflowing_tokens": True,
    }
    options |= {"return_offsets_mapping": True, "return_special_tokens_mask": True, "return_token_type_ids": True}
    merges = str(gpt.with_name("merges.txt"))
    for ours, theirs in (
        (BertTokenizer(bert, truncation_side=side), theirs_of(bert, truncation_side=side)),
        (
            OpenAIGPTTokenizer(gpt, truncation_side=side, pad_token="!"),
            new.OpenAIGPTTokenizer(vocab=str(gpt), merges=merges, truncation_side=side, pad_token="!"),
        ),
    ):
        calls: list[tuple[Any, ...]] = [
            ("a b", LONG[1]),
            ([("a b c", LONG[1]), ("a", "b")],),
            ([["a", "b c"]], [LONG[1].split()]),
        ]
        if truncation is not True:
            calls = [
                call[:1] if truncation == "only_first" and len(call) == 2 and isinstance(call[0], str) else call
                for call in calls
            ]
        else:
            calls += [(LONG[1],), (LONG,), (LONG[0], LONG[1])]
        for call in calls:
            more = {"is_split_into_words": True} if isinstance(call[0], list) and isinstance(call[0][0], list) else {}
            for padding in (False, True, "max_length"):
                expected = outcome(theirs, call, {**options, **more, "padding": padding})
                got = outcome(ours, call, {**options, **more, "padding": padding})
                assert got == expected or expected is None, (call, padding)
    tensors = BertTokenizer(bert)(
        LONG[:2], max_length=8, truncation=True, padding=True, return_overflowing_tokens=True, return_tensors="pt"
    )
    assert tensors["overflow_to_sample_mapping"].tolist() == [0, 1, 1] and tensors.input_ids.shape == (3, 8)
    assert tensors.tokens(2) == ["[CLS]", "j", "k", "l", "m", "[SEP]"] and tensors.word_ids(2)[1] == 6


def outcome(tokenizer: Any, call: Any, options: dict[str, Any]) -> Any:
    try:
        return dict(tokenizer(*call, **options))
    except BaseException as error:  # the engine's panics are no Exceptions
        if isinstance(error, KeyboardInterrupt):
            raise
        return None


def test_windows_of_whole_words(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("".join(f"{word}\n" for word in ("<unk>", "<eos>", *"abcdefgh")))
    tokenizer = TransfoXLTokenizer(vocab_file=tmp_path / "vocab.txt")
    got = tokenizer("a b", "c d e f g", max_length=5, truncation="only_second", stride=1, return_overflowing_tokens=True)
    assert got == {"input_ids": [[2, 3, 4, 5, 6], [2, 3, 6, 7, 8]], "overflow_to_sample_mapping": [0, 0]}
    with pytest.raises(ValueError, match="stride is expected to be less than the 3 tokens"):
        tokenizer("a b", "c d e f g", max_length=5, truncation="only_second", stride=3, return_overflowing_tokens=True)
    with pytest.raises(ValueError, match="stride is expected to be 0 or more"):
        tokenizer("a b", stride=-1)


@pytest.mark.parametrize(
    "options", [{}, {"padding": True}, {"padding": "max_length"}, {"truncation": False}, {"truncation": True}]
)
@pytest.mark.parametrize("side", ["right", "left"])
def test_one_rule_says_what_max_length_does(bert: Path, side: str, options: dict[str, Any]) -> None:
    sides = {"truncation_side": side, "padding_side": side}
    ours, theirs = BertTokenizer(bert, **sides), theirs_of(bert, **sides)
    assert ours(LONG, max_length=6, **options) == theirs(LONG, max_length=6, **options)
    for text in LONG:
        expected = theirs(text, max_length=6, **options)
        assert ours(text, max_length=6, **options) == expected == ours.encode_plus(text, max_length=6, **options)
        tokens = ours.tokenize(text)
        for form in (text, tokens, ours.convert_tokens_to_ids(tokens)):
            assert ours.encode(form, max_length=6, **options) == expected["input_ids"], form
    assert ours.batch_encode_plus(LONG, max_length=6, **options) == theirs(LONG, max_length=6, **options)
    pair = ours.encode(LONG[0].split(), LONG[1].split(), max_length=8, **options)
    assert pair == theirs(LONG[0], LONG[1], max_length=8, **options)["input_ids"]


@pytest.mark.parametrize(
    "options",
    [
        {"padding": True, "truncation": True, "max_length": 10},
        {"padding": "max_length", "max_length": 10},
        {"padding": "longest", "truncation": "only_first"},
    ],
)
def test_a_multiple_never_passes_max_length(bert: Path, options: dict[str, Any]) -> None:
    tokenizer = BertTokenizer(bert, model_max_length=10)
    with pytest.raises(ValueError, match="multiple of pad_to_multiple_of=8, but is 10; give max_length=8"):
        tokenizer(LONG, pad_to_multiple_of=8, **options)
    assert len(tokenizer("a", padding=True, pad_to_multiple_of=8)["input_ids"]) == 8
    encoded = tokenizer(LONG, padding=True, truncation=True, max_length=8, pad_to_multiple_of=4)
    assert {len(row) for row in encoded["input_ids"]} == {8}


@pytest.mark.parametrize("side", ["right", "left", None])
@pytest.mark.parametrize("padding", [True, "max_length", False])
def test_pad_is_that_of_transformers(bert: Path, padding: Any, side: str | None) -> None:
    ours, theirs = BertTokenizer(bert, model_max_length=12), theirs_of(bert, model_max_length=12)
    rows = [dict(theirs(text, return_special_tokens_mask=True)) for text in LONG]
    for row, label in zip(rows, (1, 0, 2, 1), strict=True):
        row["labels"] = label
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    bare = {"input_ids": columns["input_ids"]}
    single = {name: value for name, value in rows[0].items() if name != "labels"}
    for given in (rows, columns, bare, single):
        for more in ({}, {"pad_to_multiple_of": 4}, {"max_length": 16}, {"return_attention_mask": False}):
            if more == {"return_attention_mask": False} and given is not bare:
                continue
            options = {"padding": padding, "padding_side": side, **more}
            assert dict(ours.pad(copy.deepcopy(given), **options)) == dict(theirs.pad(copy.deepcopy(given), **options)), options
    if padding:
        for kind, make in (("pt", torch.tensor), ("np", numpy.array)):
            tensors = [{name: make(value) for name, value in row.items()} for row in rows]
            got, expected = (one.pad(copy.deepcopy(tensors), padding=padding, padding_side=side) for one in (ours, theirs))
            assert got.keys() == expected.keys()
            for name in got:
                assert type(got[name]) is type(expected[name]) and got[name].dtype == expected[name].dtype, (kind, name)
                assert got[name].tolist() == expected[name].tolist()
    with pytest.raises(ValueError, match="hold input_ids, but holds x"):
        ours.pad({"x": [1]})
    assert ours.pad([{"input_ids": [1], "score": 0.5}], return_tensors="pt")["score"].tolist() == [0.5]


# -- texts ---------------------------------------------------------------------------------------------------------------

NOT_TEXTS = [(None, "None"), (float("nan"), "nan, a float"), (3, "3, a int"), (b"x", "a bytes"), ({"x": 1}, "a dict")]


@pytest.mark.parametrize(("value", "shown"), NOT_TEXTS)
def test_what_is_no_text_is_named_by_its_place(bert: Path, tmp_path: Path, value: Any, shown: str) -> None:
    for tokenizer in (BertTokenizer(bert), TransfoXLTokenizer(vocab_file=bert)):
        cases: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
            ((["a", "b", value],), {}, "^text 2 is expected"),
            (([("a", "b"), ("c", value)],), {}, "^second text 1 is expected"),
            ((["a", "b"], ["c", value]), {}, "^second text 1 is expected"),
            (([["a", "b"], ["c", value]],), {"is_split_into_words": True}, "^word 1 of text 1 is expected"),
            ((["a", value],), {"is_split_into_words": True}, "^word 1 of text is expected"),
            ((["a", value], ["b"]), {"is_split_into_words": True}, "^word 1 of text is expected"),
            (([["a"], value],), {"is_split_into_words": True}, "^text 1 is expected to be a list of words"),
            ((value,), {}, "^text is expected"),
        ]
        for call, options, where in cases:
            with pytest.raises(ValueError, match=f"{where}.*but is {shown}"):
                tokenizer(*call, **options)
        if not isinstance(value, int):
            with pytest.raises(ValueError, match=f"item 1 .*but is {shown}"):
                tokenizer.encode(["a", value])
        if value is not None:
            with pytest.raises(ValueError, match="but is"):
                tokenizer("a", value)
    with pytest.raises(ValueError, match=f"^text is expected to be text, but is {shown}"):
        BertTokenizer(bert).tokenize(value)
    with pytest.raises(ValueError, match="^text 1 is expected to be a pair of texts"):
        BertTokenizer(bert)([("a", "b"), "c"])


def test_half_of_a_surrogate_pair_is_named_by_its_place(bert: Path, gpt2: Path) -> None:
    for tokenizer in (BertTokenizer(bert), GPT2Tokenizer(gpt2), TransfoXLTokenizer(vocab_file=bert)):
        with pytest.raises(
            ValueError, match=r"^text 1 is expected to be valid Unicode, but character 1 is the lone .*'\\ud800'"
        ):
            tokenizer(["a", "b\ud800"])
        with pytest.raises(ValueError, match=r"^second text 0 .*Unicode"):
            tokenizer([("a", "b\udfff")])
        with pytest.raises(ConfigError, match="Unicode"):
            tokenizer.add_tokens(["\ud800"])


def test_an_empty_text_has_no_words(gpt2: Path, bert: Path) -> None:
    assert GPT2Tokenizer(gpt2)("").word_ids() == [] and BertTokenizer(bert)("", add_special_tokens=False).word_ids() == []
    assert BertTokenizer(bert)(["", "a"], padding=True).word_ids(0) == [None, None, None]


# -- back to text --------------------------------------------------------------------------------------------------------


def test_a_batch_decodes_to_a_text_for_each_row(gpt2: Path, tmp_path: Path) -> None:
    tokenizer = GPT2Tokenizer(gpt2)
    rows = tokenizer(["the a", "b"], return_attention_mask=False)["input_ids"]
    for batch in (rows, [torch.tensor(row) for row in rows], tuple(map(tuple, rows)), numpy.array([rows[0], rows[0]])):
        assert tokenizer.decode(batch)[0] == "the a" and len(tokenizer.decode(batch)) == 2
    assert tokenizer.decode(torch.tensor(rows[:1])) == ["the a"] == tokenizer.batch_decode(rows[:1])
    assert tokenizer.decode(rows[0]) == "the a" and tokenizer.decode(rows[1][0]) == "b" and tokenizer.decode([]) == ""
    (tmp_path / "words.txt").write_text("<unk>\n<eos>\na\n")
    assert TransfoXLTokenizer(vocab_file=tmp_path / "words.txt").decode([[2, 2], [2]]) == ["a a", "a"]


def test_special_tokens_are_skipped_by_their_own_flag(gpt2: Path) -> None:
    for errors in ("replace", "ignore", "strict"):
        for other in ("<x>", "né"):
            tokenizer = GPT2Tokenizer(gpt2, errors=errors)
            tokenizer.add_tokens(["<s>"], special_tokens=True)
            tokenizer.add_tokens([other])
            assert tokenizer.decode(tokenizer.encode(f"a<s>b{other}"), skip_special_tokens=True) == f"ab{other}"


def test_tokens_that_the_vocabulary_lacks_are_text(bert: Path, gpt: Path, gpt2: Path) -> None:
    assert BertTokenizer(bert).convert_tokens_to_string(["the", "zzz", "##q"]) == "the zzzq"
    assert OpenAIGPTTokenizer(gpt).convert_tokens_to_string(["the</w>", "zz", "z</w>"]) == "the zzz"
    theirs = new.GPT2Tokenizer(vocab=str(gpt2), merges=str(gpt2.with_name("merges.txt")))
    for tokens in (["the", "Ġzzz", "日本"], ["Ã", "©"], []):
        assert GPT2Tokenizer(gpt2).convert_tokens_to_string(tokens) == theirs.convert_tokens_to_string(tokens)


# -- families ------------------------------------------------------------------------------------------------------------


def test_types_of_a_pair(gpt: Path, gpt2: Path) -> None:
    for tokenizer in (OpenAIGPTTokenizer(gpt), GPT2Tokenizer(gpt2)):
        for offsets in (False, True):
            got = tokenizer("a b", "c", return_token_type_ids=True, return_offsets_mapping=offsets)
            assert got["token_type_ids"] == [0] * (len(got["input_ids"]) - 1) + [1]
            cut = tokenizer(
                "a b c d", "e f g", return_token_type_ids=True, return_offsets_mapping=offsets, max_length=4, truncation=True
            )
            assert cut["token_type_ids"] == [0, 0, 1, 1]


def test_a_prefix_space_for_one_call_is_that_of_the_constructor(gpt2: Path) -> None:
    tokenizer, always = GPT2Tokenizer(gpt2, pad_token="<pad>"), GPT2Tokenizer(gpt2, pad_token="<pad>", add_prefix_space=True)
    for text in ("the", " the", "\nthe", "the<|endoftext|>the<pad> the", "", "\t", "\u00a0the"):
        assert tokenizer.encode(text, add_prefix_space=True) == always.encode(text), text
        assert tokenizer.tokenize(text, add_prefix_space=True) == always.tokenize(text), text
    words = ["the", "a"]
    assert tokenizer.encode(words, is_split_into_words=True, add_prefix_space=True) == always.encode(
        words, is_split_into_words=True
    )
    assert tokenizer.encode("the") != always.encode("the")


def test_without_basic_splitting_white_space_is_that_of_1_2_0(bert: Path) -> None:
    ours, theirs = BertTokenizer(bert, do_basic_tokenize=False), old.BertTokenizer(str(bert), do_basic_tokenize=False)
    for code in (*range(1, 0x21), 0x7F, 0x85, 0xA0, 0xAD, 0x1680, 0x180E, *range(0x2000, 0x2030), 0x205F, 0x3000, 0xFEFF):
        text = f"the{chr(code)}cat a{chr(code)}{chr(code)}b"
        assert ours.tokenize(text) == theirs.tokenize(text), hex(code)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (torch.zeros(1, 2, 3, dtype=torch.int64), r"ids of row 0 are expected to be .* item 0 is \[0, 0, 0\]"),
        (numpy.zeros((1, 1, 2), dtype=numpy.int64), r"ids of row 0 .* item 0 is \[0, 0\]"),
        ([3.5], "ids are expected to be .* item 0 is 3.5"),
        (torch.tensor([1.0]), "item 0 is 1.0"),
        (3.5, "item 0 is 3.5"),
        (None, "item 0 is None"),
        ("text", "item 0 is 'text'"),
        ([1, "a"], "item 1 is 'a'"),
        (["a"], "item 0 is 'a'"),
        ([[3], None], "ids of row 1 .* item 0 is None"),
        ([[3], [1, 2.5]], "ids of row 1 .* item 1 is 2.5"),
        ([None, [3]], "ids are .* item 0 is None"),
        ([3, [4]], r"item 1 is \[4\]"),
        ([torch.tensor(1), torch.tensor(0.5)], "whole numbers"),
        ([-1], "0 or more"),
        ([2**40], r"below 2\*\*32"),
    ],
)
def test_what_is_no_id_is_named(bert: Path, ids: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BertTokenizer(bert).decode(ids)


def test_ids_of_any_library_are_decoded(bert: Path) -> None:
    tokenizer = BertTokenizer(bert)
    expected = tokenizer.decode([1, 2])
    for ids in ((1, 2), numpy.array([1, 2]), [numpy.int64(1), numpy.int32(2)], [torch.tensor(1), 2], iter([1, 2]), range(1, 3)):
        assert tokenizer.decode(ids) == expected
    for batch in ([[1, 2]], torch.tensor([[1, 2]]), [torch.tensor([1, 2])], [numpy.array([1, 2])], (range(1, 3),)):
        assert tokenizer.decode(batch) == [expected]
    assert tokenizer.decode(1) == tokenizer.decode(torch.tensor(1)) == tokenizer.decode(numpy.int64(1)) == tokenizer.decode([1])


@pytest.mark.parametrize("name", ["pad_to_multiple_of", "max_length", "stride"])
@pytest.mark.parametrize("value", [2.5, "8", True, [8]])
def test_a_length_that_is_no_whole_number_is_named(bert: Path, name: str, value: Any) -> None:
    tokenizer = BertTokenizer(bert)
    calls: list[Any] = [lambda: tokenizer("a", padding=True, truncation=True, **{name: value})]
    if name != "stride":
        calls += [
            lambda: tokenizer.pad({"input_ids": [[1]]}, **{name: value}),
            lambda: tokenizer.encode([1], padding=True, **{name: value}),
        ]
    for call in calls:
        with pytest.raises(ConfigError, match=f"{name} is expected to be a whole number, but is "):
            call()
