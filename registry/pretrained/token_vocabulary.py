"""The tokens of a tokenizer: its vocabulary, what was added to it, and those that have a meaning of their own."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from registry.base.regular import open_regular
from registry.errors import ConfigError
from registry.pretrained.config import shown
from registry.pretrained.engine import Engine

__all__ = [
    "EXTRA_TOKENS",
    "SPECIAL_TOKENS",
    "TokenVocabulary",
    "as_list",
    "check_vocabulary",
    "is_unicode",
    "read_lines",
    "without_unused",
]

#: Special tokens that have a name, in the order in which they are listed.
SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
#: The name under which those without one are listed; transformers 5 has another.
EXTRA_TOKENS = "additional_special_tokens"
_EXTRA_NAMES = (EXTRA_TOKENS, "extra_special_tokens")
#: The most tokens of a vocabulary file. The largest published ones have fewer than a million.
_MAX_TOKENS = 2_000_000
_MAX_BYTES = 64 << 20
_UNUSED = "unused-line-"

Token = str | AddedToken


class SharedDict(dict[Any, Any]):
    """A dictionary that every caller gets, and that therefore cannot be changed; `dict(shared)` is a copy that can."""

    def _refuse(self, *_args: Any, **_kwargs: Any) -> Any:
        raise TypeError("the vocabulary of a tokenizer cannot be changed through its dictionary; call add_tokens, or copy it")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class TokenVocabulary:
    """Tokens and their ids, around an engine; the half of a tokenizer that needs no text."""

    def __init__(
        self,
        engine: Engine,
        special_tokens: Mapping[str, Token | None],
        extra: Sequence[Token],
        added: Mapping[int, AddedToken],
    ) -> None:
        """Take over an engine.

        Args:
            engine: with its vocabulary in place.
            special_tokens: name to token; None for one that the family does not have.
            extra: special tokens without a name.
            added: id to token of those that were added earlier, by this library or another.
        """
        if unknown := set(special_tokens) - set(SPECIAL_TOKENS):
            raise ConfigError(f"{sorted(unknown)[0]!r} is expected to be an argument of {type(self).__name__}, but is not")
        self._engine = engine
        self._base_size = engine.get_vocab_size(with_added_tokens=False)
        self._cached: dict[str, Any] = {}
        for number in sorted(added):
            self._restore(number, added[number])
        given = {name: self._checked(name, token) for name, token in special_tokens.items() if token is not None}
        extra = self._checked_list(EXTRA_TOKENS, extra)
        self._special = {name: str(token) for name, token in given.items()}
        self._extra = [str(token) for token in extra]
        named = [(name, given[name]) for name in SPECIAL_TOKENS if name in given]
        restored = {token.content for token in added.values()}
        for name, token in (*named, *((EXTRA_TOKENS, token) for token in extra)):
            by_name = str(token) in self._special.values()
            if isinstance(token, AddedToken) or (self._is_absent(token) and not self._is_default(name, token)):
                self._add(token, special=by_name or isinstance(token, str))  # else as its flag says
            elif by_name or token not in restored:
                self._mark_special([token])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cached": {}}

    @property
    def vocab_size(self) -> int:
        """The size of the vocabulary without added tokens."""
        return self._base_size

    def __len__(self) -> int:
        return self._engine.get_vocab_size(with_added_tokens=True)

    def get_vocab(self) -> dict[str, int]:
        """Return token to id, added tokens included, in the order of ids. The dictionary is shared and cannot be changed."""
        return self._in_order("all")

    @property
    def vocab(self) -> dict[str, int]:
        """Token to id, without added tokens, in the order of ids. The dictionary is shared and cannot be changed."""
        return self._in_order("base")

    @property
    def ids_to_tokens(self) -> dict[int, str]:
        """Id to token, without added tokens, in the order of ids. The dictionary is shared and cannot be changed."""
        return self._in_order("tokens")

    def _in_order(self, what: str) -> SharedDict:
        # A copy of the engine's dictionary for each look-up would take milliseconds; its order differs from call to call.
        if what not in self._cached:
            if what == "tokens":
                made = SharedDict({number: token for token, number in self.vocab.items()})
            else:
                vocabulary = self._engine.get_vocab(with_added_tokens=what == "all")
                made = SharedDict(sorted(vocabulary.items(), key=lambda item: item[1]))
            self._cached[what] = made
        shared: SharedDict = self._cached[what]
        return shared

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """Id to token, with its flags, of those that are matched whole, in the order of ids."""
        return dict(sorted(self._engine.get_added_tokens_decoder().items()))

    def get_added_vocab(self) -> dict[str, int]:
        """Return token to id of those that are matched whole, in the order of ids."""
        return {token.content: number for number, token in self.added_tokens_decoder.items()}

    def add_tokens(self, new_tokens: Token | Sequence[Token], special_tokens: bool = False) -> int:
        """Add tokens that the vocabulary does not have; return how many. Then resize the model's embeddings.

        Args:
            new_tokens: tokens, each as text or as an `AddedToken`, whose flags are kept.
            special_tokens: whether decoding can skip them.

        A token that the vocabulary has keeps its id. With `special_tokens`, or as an `AddedToken`, it is from now on matched
        whole and has these flags; as mere text it stays as it is.
        """
        before = len(self)
        listed = [new_tokens] if isinstance(new_tokens, str | AddedToken) else new_tokens
        for token in self._checked_list("new_tokens", listed):
            if special_tokens or isinstance(token, AddedToken) or self._is_absent(token):
                self._add(token, special=special_tokens or str(token) in self.all_special_tokens)
        self._refresh()
        return len(self) - before

    def add_special_tokens(
        self, special_tokens: Mapping[str, Token | Sequence[Token]], replace_extra_special_tokens: bool = True
    ) -> int:
        """Set special tokens by name, adding those that the vocabulary does not have; return how many were added.

        Args:
            special_tokens: name to token, as text or as an `AddedToken`; `additional_special_tokens` to a list of tokens.
            replace_extra_special_tokens: whether such a list replaces the one before, or extends it.

        Raises:
            ConfigError: for a name that is none, such as `padding_token`.
        """
        before = len(self)
        for name, value in special_tokens.items():
            tokens: Sequence[Token]
            if name in _EXTRA_NAMES:
                tokens = self._checked_list(name, [value] if isinstance(value, str | AddedToken) else value)
                kept = [] if replace_extra_special_tokens and tokens else self._extra
                self._extra = list(dict.fromkeys([*kept, *map(str, tokens)]))
            elif name in SPECIAL_TOKENS:
                tokens = [self._checked(name, value)]
                self._special[name] = str(tokens[0])
            else:
                names = ", ".join((*SPECIAL_TOKENS, EXTRA_TOKENS))
                raise ConfigError(f"a special token is expected to be one of {names}, but is {name!r}")
            for token in tokens:
                self._add(token, special=True)
        self._refresh()
        return len(self) - before

    def _add(self, token: Token, special: bool) -> None:
        """Have a token matched whole, with its flags; one that the vocabulary lacks gets the next id."""
        if isinstance(token, str):
            token = AddedToken(token, normalized=not special, special=special)
        self._require_text(token)
        before = token.special
        (self._engine.add_special_tokens if special or before else self._engine.add_tokens)([token])
        token.special = before  # the engine changes the caller's object
        self._cached.clear()

    def _mark_special(self, tokens: Iterable[str]) -> None:
        """Have tokens of the vocabulary matched whole; one that it does not have stays unknown until it is added."""
        added = self._engine.get_added_tokens_decoder()
        for token in tokens:
            if (number := self._engine.token_to_id(token)) is not None:
                known = added.get(number)
                if known is None or known.content != token:
                    known = AddedToken(token, normalized=False, special=True)
                self._engine.add_special_tokens([known])

    def _restore(self, number: int, token: AddedToken) -> None:
        """Add a token that has an id already."""
        self._require_text(token)
        (self._engine.add_special_tokens if token.special else self._engine.add_tokens)([token])
        if (actual := self._engine.token_to_id(token.content)) != number:
            raise ConfigError(
                f"added token {token.content!r} is expected to have id {number}, as its file says, but gets {actual}; "
                "the file does not belong to this vocabulary"
            )

    def _require_text(self, token: AddedToken) -> None:
        """Refuse a token of which normalization leaves nothing: the engine finds it everywhere, and fails at some texts."""
        normalizer = getattr(self._engine, "normalizer", None)
        if token.normalized and normalizer is not None and not normalizer.normalize_str(token.content):
            raise ConfigError(
                f"added token {token.content!r} is expected to have text after normalization, but has none; add "
                "AddedToken(…, normalized=False)"
            )

    def _refresh(self) -> None:
        """Bring what a family derives from its special tokens up to date, after some were set or added."""

    def _is_absent(self, token: Token) -> bool:
        """Whether the vocabulary lacks a token; not where there is no vocabulary yet, which may be built with it."""
        return self._base_size > 0 and self._engine.token_to_id(str(token)) is None

    def _lacks(self, name: str, value: Any) -> bool:
        """Whether the vocabulary lacks a special token that this tokenizer has, or one of a list of them."""
        if name == EXTRA_TOKENS:
            return any(self._is_absent(token) for token in value)
        return self._special.get(name) == str(value) and self._is_absent(value)

    def _is_default(self, name: str, token: Token) -> bool:
        """Whether the class has this token by default: a vocabulary may lack it, and gets no new id then."""
        for base in type(self).__mro__:
            if (parameter := signature(vars(base).get("__init__", object)).parameters.get(name)) is not None:
                default = parameter.default
                return token in default if name == EXTRA_TOKENS and isinstance(default, list | tuple) else token == default
        return False

    def _checked(self, name: str, token: Any) -> Any:
        """Return a token.

        Raises:
            ConfigError: when it is not text.
        """
        if not isinstance(token, str | AddedToken):
            raise ConfigError(
                f"{name} of {type(self).__name__} is expected to be text or an AddedToken, but is a {type(token).__name__}"
            )
        if not is_unicode(str(token)):
            raise ConfigError(f"{name} of {type(self).__name__} is expected to be valid Unicode, but holds a lone surrogate")
        return token

    def _checked_list(self, name: str, tokens: Any) -> list[Any]:
        if not isinstance(tokens, Iterable) or isinstance(tokens, str | bytes | Mapping):
            raise ConfigError(
                f"{name} of {type(self).__name__} is expected to be a list of tokens, but is a {type(tokens).__name__}"
            )
        return [self._checked(f"{name}[{index}]", token) for index, token in enumerate(tokens) if token != ""]

    @property
    def special_tokens_map(self) -> dict[str, Any]:
        """The special tokens that are set, by name."""
        named = {name: self._special[name] for name in SPECIAL_TOKENS if name in self._special}
        return {**named, **({EXTRA_TOKENS: list(self._extra)} if self._extra else {})}

    @property
    def all_special_tokens(self) -> list[str]:
        """Every special token once, in the order of their names."""
        named = (self._special[name] for name in SPECIAL_TOKENS if name in self._special)
        return list(dict.fromkeys((*named, *self._extra)))

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of the special tokens that the vocabulary has."""
        ids = (self._engine.token_to_id(token) for token in self.all_special_tokens)
        return [number for number in ids if number is not None]

    def __getattr__(self, name: str) -> Any:
        # `pad_token`, `pad_token_id` and the like for every special token; None for one that is not set.
        token = _without_id(name)
        if token in _EXTRA_NAMES:
            extra = list(self.__dict__.get("_extra", ()))
            return extra if name == token else [self._engine.token_to_id(each) for each in extra]
        if token not in SPECIAL_TOKENS:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        value = self.__dict__.get("_special", {}).get(token)
        return value if name == token or value is None else self._engine.token_to_id(value)

    def __setattr__(self, name: str, value: Any) -> None:
        token = _without_id(name)
        if token not in SPECIAL_TOKENS and token not in _EXTRA_NAMES:
            object.__setattr__(self, name, value)
            return
        if name != token and value is not None:  # ids
            value = self._token_of(name, value) if token in SPECIAL_TOKENS else [self._token_of(name, each) for each in value]
        if token in _EXTRA_NAMES:
            tokens = self._checked_list(name, () if value is None else value)
            self._extra = list(dict.fromkeys(map(str, tokens)))
        elif value is None:
            self._special.pop(token, None)
            tokens = []
        else:
            tokens = [self._checked(name, value)]
            self._special[token] = str(value)
        for each in tokens:
            if isinstance(each, AddedToken) or self._is_absent(each):
                self._add(each, special=True)
            else:  # a token that was given with flags keeps them
                self._mark_special([each])
        self._refresh()

    def _token_of(self, name: str, number: Any) -> str:
        token = self._engine.id_to_token(number) if type(number) is int and number >= 0 else None
        if token is None:
            raise ConfigError(f"{name} of {type(self).__name__} is expected to be the id of a token, but is {number!r}")
        return token

    def convert_tokens_to_ids(self, tokens: str | Sequence[str]) -> Any:
        """Return the id of a token, or the ids of a list; what is not in the vocabulary has the unknown token's id."""
        if isinstance(tokens, str):
            number = self._engine.token_to_id(tokens)
            return self.unk_token_id if number is None else number
        return [self.convert_tokens_to_ids(token) for token in tokens]

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """Return the token of an id, or the tokens of a list or tensor of ids; None for an id that is none."""
        if isinstance(ids, int):
            return self._engine.id_to_token(ids)
        skipped = set(self.all_special_ids) if skip_special_tokens else set()
        return [self._engine.id_to_token(number) for number in as_list(ids) if number not in skipped]


def _without_id(name: str) -> str:
    return name.removesuffix("_ids").removesuffix("_id")


def is_unicode(text: str) -> bool:
    """Whether a text can be encoded, which one with half of a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_vocabulary(vocabulary: Any, where: str) -> dict[str, int]:
    """Return token to id as a file says it, with a token for every id up to the highest.

    The engine gives an added token the number of tokens as its id. Where ids are left out, that one belongs to another token;
    so each gets a token of its own, which no text has.

    Args:
        vocabulary: what the file holds.
        where: the file and, in a larger one, the field; for errors.

    Raises:
        ConfigError: when it is not an object of tokens to different ids, or leaves out most ids.
    """
    ids: set[int] = set()
    if isinstance(vocabulary, dict) and {*map(type, vocabulary.values())} <= {int}:
        ids = set(vocabulary.values())
    if (
        not isinstance(vocabulary, dict)
        or (vocabulary and not ids)
        or not 0 <= min(ids, default=0) <= max(ids, default=0) < 1 << 32
    ):
        raise ConfigError(f"{where} is expected to map tokens to ids, but does not")
    if len(ids) < len(vocabulary):
        ((double, _),) = Counter(vocabulary.values()).most_common(1)
        raise ConfigError(f"{where} is expected to give each token an id of its own, but gives {double} twice")
    if not is_unicode("".join(vocabulary)):
        raise ConfigError(f"{where} is expected to hold valid Unicode, but holds a lone surrogate")
    size = max(ids, default=-1) + 1
    if size - len(ids) > len(ids) + 1000:
        raise ConfigError(f"{where} is expected to hold a token for most of the ids up to {size - 1}, but holds {len(ids)}")
    for number in range(size) if size > len(ids) else ():
        if number not in ids:
            name = f"[{_UNUSED}{number}]"
            while name in vocabulary:
                name = f"[{name}]"
            vocabulary[name] = number
    return vocabulary


def without_unused(vocabulary: Mapping[str, int]) -> dict[str, int]:
    """Return a vocabulary without the tokens that `check_vocabulary` put where ids were left out."""
    return {token: number for token, number in vocabulary.items() if token.strip("[]") != f"{_UNUSED}{number}"}


def read_lines(path: Path, what: str) -> list[str]:
    """Return the lines of a file of tokens, without a byte order mark before them.

    Args:
        path: the file.
        what: what it is, for errors.

    Raises:
        ConfigError: when it cannot be read, is no UTF-8 text, or is larger than any such file.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            content = file.read(_MAX_BYTES) if size <= _MAX_BYTES else b""
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{what} {str(path)!r} is expected to be readable, but is not ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{what} {str(path)!r} is expected to be UTF-8 text, but is not; is it a weights file?") from error
    if size > _MAX_BYTES or text.count("\n") > _MAX_TOKENS:
        raise ConfigError(
            f"{what} {str(path)!r} is expected to have at most {_MAX_TOKENS:,} lines and {_MAX_BYTES:,} bytes, but has more"
        )
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def as_list(ids: Any, what: str = "ids") -> list[int]:
    """Return ids, given as one number, a list, an array or a one-dimensional tensor, as a list.

    Args:
        ids: what was given.
        what: what it is, for errors.

    Raises:
        ConfigError: when it holds what is no id of any vocabulary.
    """
    values = ids.tolist() if hasattr(ids, "tolist") else ids
    if not isinstance(values, Iterable) or isinstance(values, str | bytes | Mapping):
        values = [values]
    numbers = list(values)
    if {*map(type, numbers)} - {int}:
        for position, number in enumerate(numbers):
            if not hasattr(number, "__index__"):
                raise ConfigError(
                    f"{what} are expected to be a number, a list of numbers (seq,), or a batch of lists (batch, seq), but item "
                    f"{position} is {shown(number)}"
                )
        try:
            numbers = [number.__index__() for number in numbers]
        except TypeError as error:  # a tensor of more than one number, or of floats
            raise ConfigError(f"{what} are expected to be whole numbers, but hold a tensor of something else") from error
    if (least := min(numbers, default=0)) < 0:
        raise ConfigError(f"{what} are expected to be 0 or more, but hold {least}; leave out what is ignored")
    if (most := max(numbers, default=0)) >= 1 << 32:
        raise ConfigError(f"{what} are expected to be below 2**32, but hold {most}")
    return numbers
