"""The tokenizers of BERT, OpenAI GPT and GPT-2: random vocabularies and real ones, on texts of odd characters."""

from __future__ import annotations

import json
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from tokenizers import AddedToken

import registry
from tests.oracles import new, old, quiet
from tests.parity_fuzz.decided import decided
from tests.parity_fuzz.trial import Refused, Trial, attempt
from tests.real_data import gpt2_merges, gpt2_vocabulary, minilm

__all__ = ["run"]

_SPECIAL = {"bert": ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"), "gpt": ("<unk>",), "gpt2": ("<|endoftext|>",)}
_CLASSES = {"bert": "BertTokenizer", "gpt": "OpenAIGPTTokenizer", "gpt2": "GPT2Tokenizer"}
_LETTERS = "abcdehlo.,!'1é日ñß"
#: What texts are made of; the first says nothing.
_PLAIN = ("", "a", "b", " ", "hello", "lo", "  ", "c d", "ab", ".", ", ", "it's", "Hello", "don't", "1.5", "!?", "zzz", "_x")
_ODD = (
    *("\n", "\t", "\r\n", " \n ", "\x00", "\x1c", "a\x1cb", "\x1d", "\x1f", "\x85", "\x7f", "\xa0", "\xad", "\u200b", "\u200d"),
    *(
        "\ufeff",
        "\ufffd",
        "\u2028",
        "\u3000",
        "é",
        "e\u0301",
        "\u0301",
        "É",
        "İ",
        "ß",
        "ς",
        "Ω",
        "日本",
        "日",
        "한국",
        "ไทย",
        "ﬁ",
        "½",
    ),
    *("😀", "👩\u200d👩", "🏽", "\U0002b820", "ñandú", "“q”", "—", "¿", "$", "^", "`", "|", "~", "+", "क्ष", "العربية"),
)
_ADDED = ("<new>", "[x]", "new", "hel", "a", "né", "日本", "Ġx", "lo", "b c", "<br>", "ÿ")


def run(trial: Trial) -> None:
    """Draw a vocabulary, options, added tokens and texts, and compare what the three libraries make of them."""
    family = trial.pick("family", ("bert", "gpt2", "gpt"))
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        _Example(trial, family, Path(folder)).run()


# -- vocabularies ------------------------------------------------------------------------------------------------------


def _draw_vocabulary(trial: Trial, family: str, folder: Path) -> list[Path]:
    """Write the files of a random vocabulary; ids may have gaps."""
    gaps = trial.flag("gaps", 4)
    tokens = list(_SPECIAL[family])
    shift = trial.number("place of the special tokens", 0, 4)
    letters = [each for number, each in enumerate(_LETTERS) if number < 4 or not trial.flag(f"no letter {each}", 4)]
    merges: list[tuple[str, str]] = []
    if family == "bert":
        words = [word for word in ("hello", "##lo", "ab", "##b", "hel", "日本", "##'", "new") if trial.flag(f"word {word}")]
        tokens = [*letters[:shift], *tokens, *letters[shift:], *(f"##{each}" for each in letters), *words]
        if gaps:  # the first of two equal lines has no id left
            tokens.insert(trial.number("gap", 1, 6), "hello" if "hello" in words else letters[-1])
        path = folder / "vocab.txt"
        path.write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
        return [path]
    if family == "gpt":
        alphabet = [*letters, *(f"{each}</w>" for each in letters)]
    else:
        alphabet = list(_bytes().values())
        if trial.flag("some bytes have no token", 6):
            alphabet = [each for each in alphabet if each not in "zxÃ"]
    pieces = list(alphabet)
    mergeable = [each for each in pieces if each[0] in "abcdehloĠ"]
    for number in range(trial.number("merges", 0, 12)):
        first = trial.pick(f"merge {number}, first", [each for each in mergeable if not each.endswith("</w>")])
        second = trial.pick(f"merge {number}, second", mergeable)
        if first + second not in pieces:
            merges.append((first, second))
            pieces.append(first + second)
            mergeable.append(first + second)
    tokens = [*pieces[:shift], *tokens, *pieces[shift:]]
    ids = {token: number + (gaps and number > 5) + 2 * (gaps and number > 9) for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(ids), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{one} {two}\n" for one, two in merges), encoding="utf-8")
    return [folder / "vocab.json", folder / "merges.txt"]


@cache
def _bytes() -> dict[int, str]:
    return dict(old.tokenization_gpt2.bytes_to_unicode())


def _real(family: str) -> list[Path]:
    return [minilm() / "vocab.txt"] if family == "bert" else [gpt2_vocabulary(), gpt2_merges()]


def _build_new(family: str, files: list[Path], settings: dict[str, Any]) -> Any:
    names = ("vocab", "merges")[: len(files)]
    settings = {key: value for key, value in settings.items() if key not in ("do_basic_tokenize", "errors")}
    return getattr(new, _CLASSES[family])(**dict(zip(names, map(str, files), strict=True)), **settings)


@cache
def _shared(family: str, settings: str) -> tuple[Any, Any]:
    """Return both tokenizers of a real vocabulary, which are never changed."""
    given, files = json.loads(settings), _real(family)
    return getattr(registry, _CLASSES[family])(*map(str, files), **given), _build_new(family, files, given)


# -- one example -------------------------------------------------------------------------------------------------------


class _Example:
    """The tokenizers of one example, and what is compared."""

    def __init__(self, trial: Trial, family: str, folder: Path) -> None:
        self.trial, self.family, self.folder = trial, family, folder
        self.settings = self._draw_settings()
        self.room = 3 if family == "bert" else 1
        self.real = family != "gpt" and trial.flag("real vocabulary", 8)
        self.added: list[str] = []
        self.texts: list[str] = []
        if self.real:
            self.files = _real(family)
            self.ours, self.theirs = _shared(family, json.dumps(self.settings, sort_keys=True))
        else:
            self.files = _draw_vocabulary(trial, family, folder)
            self.ours = getattr(registry, _CLASSES[family])(*map(str, self.files), **self.settings)
            self.theirs = _build_new(family, self.files, self.settings)

    def run(self) -> None:
        trial = self.trial
        self.gaps = sorted(self.theirs.get_vocab().values()) != list(range(len(self.theirs.get_vocab())))
        if not self.real:
            self._add()
        count = trial.number("texts", 1, 3)
        self.texts = [self._draw_text(f"text {number}") for number in range(count)]
        self.pairs = [self._draw_text(f"second text {number}") for number in range(count)]
        self._vocabulary()
        self._calls()
        self._encode()
        self._back()
        if self.family == "gpt2":
            self._prefix_space()
        self._pad()
        if not self.real and trial.flag("saved", 4):
            self._save()
        self._against_old()

    def _draw_settings(self) -> dict[str, Any]:
        trial = self.trial
        settings: dict[str, Any] = {
            "padding_side": trial.pick("padding_side", ("right", "left")),
            "truncation_side": trial.pick("truncation_side", ("right", "left")),
        }
        if self.family == "bert":
            settings |= {
                "do_lower_case": not trial.flag("cased"),
                "tokenize_chinese_chars": not trial.flag("CJK together", 4),
                "strip_accents": trial.pick("strip_accents", (None, True, False)),
            }
        elif self.family == "gpt2":
            settings |= {
                "add_prefix_space": trial.flag("add_prefix_space", 3),
                "errors": trial.pick("errors", ("replace", "strict", "ignore")),
            }
        return settings

    def _draw_text(self, name: str) -> str:
        trial = self.trial
        more = {"plain": (), "odd": _ODD, "special": (*_SPECIAL[self.family], *self.added)}
        chosen = (*_PLAIN, *more[trial.pick(f"{name}, pieces are", ("plain", "odd", "special"))])
        return "".join(
            trial.pick(f"{name}, piece {number}", chosen) for number in range(trial.number(f"{name}, number of pieces", 0, 7))
        )

    # -- vocabulary ----------------------------------------------------------------------------------------------------

    def _add(self) -> None:
        trial, specials = self.trial, set(_SPECIAL[self.family])
        for number in range(trial.pick("additions", (0, 0, 1, 2, 3))):
            name = f"addition {number}"
            token, special = trial.pick(f"{name}, token", _ADDED), trial.flag(f"{name}, special")
            flags = {}
            if trial.flag(f"{name}, flags"):
                flags = {flag: trial.flag(f"{name}, {flag}") for flag in ("lstrip", "rstrip", "single_word")}
            if decided("ids in gaps", self.gaps):
                before = set(self.ours.get_vocab().values())
                if self.ours.add_tokens([token], special_tokens=special):
                    fresh = self.ours.convert_tokens_to_ids(token)
                    trial.require("an added token has an id of its own", fresh not in before, f"{token!r} has {fresh}")
                self.ours = getattr(registry, _CLASSES[self.family])(*map(str, self.files), **self.settings)
                return
            made = AddedToken(token, special=special, normalized=not special, **flags) if flags else token
            if decided("a known word as mere text", made == token and not special and token in self.theirs.get_vocab()):
                continue
            if decided("a special token made plain", not special and token in specials):
                continue
            specials |= {token} if special else set()
            before = len(self.ours)
            count = self.ours.add_tokens([made], special_tokens=special)
            self.theirs.add_tokens([made], special_tokens=special)
            trial.require("count of added tokens", count == len(self.ours) - before, f"{count} for {made!r}")
            self.added.append(token)
        if self.family != "bert" and trial.flag("a padding token"):
            for each in (self.ours, self.theirs):
                each.add_special_tokens({"pad_token": _SPECIAL[self.family][0]})

    def _vocabulary(self) -> None:
        trial = self.trial
        if not decided("names for gaps", self.gaps):
            trial.same("transformers: number of tokens", lambda: len(self.ours), lambda: len(self.theirs))
            if not self.real:
                trial.same("transformers: get_vocab", self.ours.get_vocab, self.theirs.get_vocab)
        known = [*_SPECIAL[self.family], *self.added, "a", "##b", "hello", "not a token", "Ġ"]
        trial.same(
            "transformers: convert_tokens_to_ids",
            lambda: self.ours.convert_tokens_to_ids(known),
            lambda: self.theirs.convert_tokens_to_ids(known),
        )

    # -- text to ids ---------------------------------------------------------------------------------------------------

    def _draw_options(self) -> dict[str, Any]:
        trial = self.trial
        truncation = trial.pick("truncation", ("absent", True, False, "only_first", "only_second", "longest_first"))
        options: dict[str, Any] = {
            "add_special_tokens": not trial.flag("no special tokens"),
            "padding": trial.pick("padding", (False, True, "max_length", "longest")),
            "max_length": trial.pick("max_length", (None, 12, 8, 5, 4, 3, 2, 1)),
            "return_special_tokens_mask": trial.flag("return_special_tokens_mask"),
            "return_offsets_mapping": trial.flag("return_offsets_mapping"),
            "return_token_type_ids": trial.pick("return_token_type_ids", (None, True)),
        }
        if truncation != "absent":
            options["truncation"] = truncation
        if trial.flag("windows", 4):
            options |= {"return_overflowing_tokens": True, "stride": trial.number("stride", 0, 3)}
        multiple = trial.pick("pad_to_multiple_of", (None, None, 2, 8))
        if not decided("multiple above the limit", options["max_length"] is not None):
            options["pad_to_multiple_of"] = multiple
        if self.theirs.pad_token is None:
            options["padding"] = False
        if options["max_length"] is not None and decided("no room", options["max_length"] < self.room):
            options["max_length"] = self.room
        if options["max_length"] is not None and options["max_length"] < self.room + 2:
            options.pop("return_overflowing_tokens", None)  # transformers' windows of a pair are then longer than max_length
        stride = options.get("stride", 0)
        if stride and options["max_length"] is not None and (options["max_length"] - self.room) // 2 <= stride:
            options["stride"] = 0  # more, and transformers panics
        if options["max_length"] is None:  # a model's limit, which these have not
            options["padding"] = options["padding"] and True
            options.pop("truncation", None)
        return options

    def _calls(self) -> None:
        trial = self.trial
        options = self._draw_options()
        form = trial.pick("form", ("text", "batch", "pair", "pairs", "words"))
        given: tuple[Any, ...] = {
            "text": (self.texts[0],),
            "batch": (self.texts,),
            "pair": (self.texts[0], self.pairs[0]),
            "pairs": (self.texts, self.pairs),
            "words": ([text.split(" ") for text in self.texts],),
        }[form]
        if form == "words":
            options["is_split_into_words"] = True
        if form == "pair" and decided("an empty second text", not self.pairs[0]):
            return
        expected = attempt(lambda: dict(quiet(self.theirs, *given, **options)))
        found = attempt(lambda: dict(self.ours(*given, **options)))
        one_side = str(options.get("truncation")).startswith("only")
        if not decided("one side is too short", one_side and isinstance(found, Refused)):
            self._same_columns(form, found, expected)
        plain = {key: value for key, value in options.items() if key in ("add_special_tokens", "max_length", "truncation")}
        if form in ("text", "batch"):
            texts = self.texts[:1] if form == "text" else self.texts
            trial.same(
                "transformers: word_ids",
                lambda: [self.ours(*given, **plain).word_ids(number) for number in range(len(texts))],
                lambda: [quiet(self.theirs, *given, **plain).word_ids(number) for number in range(len(texts))],
            )

    def _same_columns(self, form: str, found: Any, expected: Any) -> None:
        before = len(self.trial.differences)
        self.trial.same(
            f"transformers: input_ids of {form}",
            lambda: _value(found)["input_ids"],
            lambda: _value(expected)["input_ids"],
        )
        if isinstance(expected, Refused) or len(self.trial.differences) > before:
            return
        for key in expected.keys() - {"input_ids"}:
            self.trial.same(f"transformers: {key} of {form}", lambda key=key: found.get(key), lambda key=key: expected[key])

    def _encode(self) -> None:
        trial, text, pair = self.trial, self.texts[0], self.pairs[0]
        limit = {"max_length": trial.pick("limit of encode", (None, 6, 4, 3, 1))}
        if limit["max_length"] is None or decided("no room", limit["max_length"] < self.room):
            limit = {}
        elif trial.flag("truncation of encode"):
            limit["truncation"] = trial.pick("truncation of encode, how", ("longest_first", True, False))
        trial.same(
            "transformers: encode",
            lambda: self.ours.encode(text, **limit),
            lambda: quiet(self.theirs.encode, text, **limit),
        )
        trial.same("transformers: tokenize", lambda: self.ours.tokenize(text), lambda: self.theirs.tokenize(text))
        tokens = [*self.ours.tokenize(text), *self.ours.tokenize(pair)]
        if "[UNK]" in tokens or not set(tokens) <= set(self.theirs.get_vocab()):  # "a " is a token where one takes the space
            return
        for form in ("tokens", "ids"):

            def listed(text: str, form: str = form) -> list[Any]:
                return self.ours.tokenize(text) if form == "tokens" else self.ours.encode(text, add_special_tokens=False)

            seconds = (pair,) if pair and trial.flag(f"pair of {form}") else ()
            trial.same(
                f"transformers: encode of {form}",
                lambda listed=listed, seconds=seconds: self.ours.encode(listed(text), *map(listed, seconds), **limit),
                lambda seconds=seconds: quiet(self.theirs.encode, text, *seconds, **limit),
            )

    def _prefix_space(self) -> None:
        if self.real or self.settings["add_prefix_space"] or not self.trial.flag("add_prefix_space of a call", 3):
            return
        ours = registry.GPT2Tokenizer(*map(str, self.files), **{**self.settings, "add_prefix_space": True})
        for token in self.added:
            ours.add_tokens([token])
        if len(ours) != len(self.ours) or self.added:
            return
        text = self.texts[0]
        self.trial.same(
            "add_prefix_space of a call",
            lambda: self.ours.encode(text, add_prefix_space=True),
            lambda: ours.encode(text),
        )
        self.trial.same(
            "add_prefix_space of a call: tokenize",
            lambda: self.ours.tokenize(text, add_prefix_space=True),
            lambda: ours.tokenize(text),
        )

    def _pad(self) -> None:
        trial = self.trial
        if self.theirs.pad_token is None or not trial.flag("pad", 3):
            return
        rows = [self.theirs.encode(text) for text in self.texts]
        options: dict[str, Any] = {"padding": trial.pick("padding of pad", (True, "longest", "max_length"))}
        if options["padding"] == "max_length":
            options["max_length"] = trial.number("max_length of pad", 1, 12)
        else:
            options["pad_to_multiple_of"] = trial.pick("multiple of pad", (None, 2, 8))
        trial.same(
            "transformers: pad",
            lambda: dict(self.ours.pad({"input_ids": rows}, **options)),
            lambda: dict(quiet(self.theirs.pad, {"input_ids": rows}, **options)),
        )

    # -- ids to text ---------------------------------------------------------------------------------------------------

    def _back(self) -> None:
        trial = self.trial
        ids = attempt(lambda: self.theirs.encode(self.texts[0]))
        if isinstance(ids, Refused):
            return
        vocabulary = sorted(self.theirs.get_vocab().values())
        ids = ids + [
            vocabulary[trial.number(f"id {n}", 0, 400) % len(vocabulary)] for n in range(trial.number("more ids", 0, 4))
        ]
        ids += [
            self.theirs.convert_tokens_to_ids(token) for n, token in enumerate(self.added) if trial.flag(f"id of addition {n}")
        ]
        skip = trial.flag("skip_special_tokens")
        clean = decided("clean-up", self.family == "bert")
        options = {"skip_special_tokens": skip, "clean_up_tokenization_spaces": clean}
        letters = self.family == "gpt2" and any(not token.isascii() for token in self.added)
        expected = attempt(lambda: self.theirs.decode(ids, **options))
        odd = isinstance(expected, str) and "\ufffd" in expected and self.settings.get("errors") != "replace"
        if not decided("letters of added tokens", letters) and not odd:  # which transformers replaces in any case
            trial.same("transformers: decode", lambda: self.ours.decode(ids, **options), lambda: _value(expected))
        trial.same(
            "transformers: convert_ids_to_tokens",
            lambda: self.ours.convert_ids_to_tokens(ids, skip_special_tokens=skip),
            lambda: self.theirs.convert_ids_to_tokens(ids, skip_special_tokens=skip),
        )
        if skip and not odd and self.added and len(set(self.added)) == len(self.added):
            self._skipped(ids)
        foreign = ("lo", "##lo", "qq", "zz</w>", "Ġqq", "[UNK]", "a", "##b", "lo</w>")
        tokens = [trial.pick(f"token {number}", foreign) for number in range(trial.number("tokens", 0, 4))]
        if not (self.family == "gpt2" and any(letter not in _bytes().values() for token in tokens for letter in token)):
            trial.same(
                "transformers: convert_tokens_to_string",
                lambda: self.ours.convert_tokens_to_string(tokens),
                lambda: self.theirs.convert_tokens_to_string(tokens),
            )

    def _skipped(self, ids: list[int]) -> None:
        """What skipping leaves is what decoding the others gives, where tokens were added as special."""
        special = {number for number, token in self.theirs.added_tokens_decoder.items() if token.special}
        rest = [number for number in ids if number not in special]
        options: dict[str, Any] = {"clean_up_tokenization_spaces": False}
        self.trial.same(
            "decode without special tokens",
            lambda: self.ours.decode(ids, skip_special_tokens=True, **options),
            lambda: self.ours.decode(rest, **options),
        )

    # -- files and 1.2.0 -----------------------------------------------------------------------------------------------

    def _save(self) -> None:
        trial, texts = self.trial, self.texts
        if decided("names for gaps", self.gaps):
            return

        def opened_there() -> list[list[int]]:
            self.ours.save_pretrained(self.folder / "ours")
            return getattr(new, _CLASSES[self.family]).from_pretrained(self.folder / "ours")(texts)["input_ids"]

        def opened_here() -> list[list[int]]:
            return registry.load_tokenizer(self.folder / "theirs", family=self.family)(texts)["input_ids"]

        self.theirs.save_pretrained(self.folder / "theirs")
        expected = attempt(lambda: self.theirs(texts)["input_ids"])
        if not isinstance(expected, Refused):
            trial.same("saved here, opened by transformers", opened_there, lambda: expected)
            trial.same("saved by transformers, opened here", opened_here, lambda: expected)
            trial.same(
                "saved and opened here",
                lambda: registry.load_tokenizer(self.folder / "ours", family=self.family)(texts)["input_ids"],
                lambda: expected,
            )

    def _against_old(self) -> None:
        trial, text = self.trial, self.texts[0]
        if self.real or self.added or self.settings.get("strip_accents") is not None:
            return
        settings = {key: self.settings[key] for key in ("do_lower_case", "tokenize_chinese_chars") if key in self.settings}
        if self.family == "bert" and trial.flag("no basic tokenizer", 3):
            settings["do_basic_tokenize"] = False
        ours_settings = {"legacy": True} if self.family == "gpt2" else settings
        ours = getattr(registry, _CLASSES[self.family])(*map(str, self.files), **ours_settings)
        with mock.patch.dict(sys.modules, {"ftfy": None}):  # with it, 1.2.0 takes another way that fails on today's spaCy
            theirs = quiet(getattr(old, _CLASSES[self.family]), *map(str, self.files), **settings)
        lacks = self.family == "gpt2" and not set(_bytes().values()) <= set(self.theirs.get_vocab())
        rare = self.family != "gpt2" and "\U0002b820" in text
        if (
            decided("a text of blanks", not text.strip())
            or decided("bytes without a token", lacks)
            or decided("rare CJK", rare)
        ):
            return
        known, unknown = set(self.theirs.get_vocab()), _SPECIAL[self.family][0]
        trial.same(
            "1.2.0: tokenize",
            lambda: ours.tokenize(text),
            lambda: [token if token in known else unknown for token in theirs.tokenize(text)],
        )
        trial.same(
            "1.2.0: encode",
            lambda: ours.encode(text, add_special_tokens=self.family == "bert"),
            lambda: theirs.encode(text, add_special_tokens=self.family == "bert"),
        )


def _value(result: Any) -> Any:
    if isinstance(result, Refused):
        raise result.error
    return result
