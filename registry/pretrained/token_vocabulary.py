"""The tokens of a tokenizer: its vocabulary, what was added to it, and those that have a meaning of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokenizers import AddedToken

from registry.errors import ConfigError
from registry.pretrained.engine import Engine

__all__ = ["EXTRA_TOKENS", "SPECIAL_TOKENS", "TokenVocabulary", "as_list"]

#: Special tokens that have a name, in the order in which they are listed.
SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
#: The name under which those without one are listed.
EXTRA_TOKENS = "additional_special_tokens"


class TokenVocabulary:
    """Tokens and their ids, around an engine; the half of a tokenizer that needs no text."""

    def __init__(self, engine: Engine, special_tokens: Mapping[str, str | None], extra: Sequence[str]) -> None:
        """Take over an engine.

        Args:
            engine: with its vocabulary in place.
            special_tokens: name to token; None for one that the family does not have.
            extra: special tokens without a name.
        """
        if unknown := set(special_tokens) - set(SPECIAL_TOKENS):
            raise ConfigError(f"{sorted(unknown)[0]!r} is expected to be an argument of {type(self).__name__}, but is not")
        self._engine = engine
        self._base_size = engine.get_vocab_size(with_added_tokens=False)
        self._special = {name: token for name, token in special_tokens.items() if token is not None}
        self._extra = list(extra)
        self._mark_special([*self._special.values(), *self._extra])

    @property
    def vocab_size(self) -> int:
        """The size of the vocabulary without added tokens."""
        return self._base_size

    def __len__(self) -> int:
        return self._engine.get_vocab_size(with_added_tokens=True)

    def get_vocab(self) -> dict[str, int]:
        """Return token to id, added tokens included."""
        return self._engine.get_vocab(with_added_tokens=True)

    def add_tokens(self, new_tokens: str | Sequence[str | AddedToken], special_tokens: bool = False) -> int:
        """Add tokens that the vocabulary does not have; return how many. Then resize the model's embeddings."""
        before = len(self)
        known = self.get_vocab()
        for token in [new_tokens] if isinstance(new_tokens, str | AddedToken) else new_tokens:
            if isinstance(token, str):
                token = AddedToken(token, normalized=not special_tokens, special=special_tokens)
            if token.content and token.content not in known:
                (self._engine.add_special_tokens if token.special else self._engine.add_tokens)([token])
        return len(self) - before

    def add_special_tokens(self, special_tokens: Mapping[str, str | Sequence[str]]) -> int:
        """Set special tokens by name, adding those that the vocabulary does not have; return how many were added.

        Raises:
            ConfigError: for a name that is none, such as `padding_token`.
        """
        before = len(self)
        for name, value in special_tokens.items():
            if name in (EXTRA_TOKENS, "extra_special_tokens"):
                tokens = [value] if isinstance(value, str) else list(value)
                self._extra += [token for token in tokens if token not in self._extra]
            elif name in SPECIAL_TOKENS and isinstance(value, str):
                self._special[name] = value
                tokens = [value]
            else:
                names = ", ".join((*SPECIAL_TOKENS, EXTRA_TOKENS))
                raise ConfigError(f"a special token is expected to be one of {names} with text as value, but is {name!r}")
            self.add_tokens(tokens, special_tokens=True)
            self._mark_special(tokens)
        return len(self) - before

    def _mark_special(self, tokens: Iterable[str]) -> None:
        """Have tokens of the vocabulary matched whole; one that it does not have stays unknown until it is added."""
        known = self.get_vocab()
        marked = [AddedToken(token, normalized=False, special=True) for token in tokens if token in known]
        self._engine.add_special_tokens(marked)

    @property
    def vocab(self) -> dict[str, int]:
        """Token to id, without added tokens."""
        return self._engine.get_vocab(with_added_tokens=False)

    @property
    def ids_to_tokens(self) -> dict[int, str]:
        """Id to token, without added tokens."""
        return {number: token for token, number in self.vocab.items()}

    @property
    def special_tokens_map(self) -> dict[str, Any]:
        """The special tokens that are set, by name."""
        named = {name: self._special[name] for name in SPECIAL_TOKENS if name in self._special}
        return {**named, **({EXTRA_TOKENS: list(self._extra)} if self._extra else {})}

    @property
    def additional_special_tokens(self) -> list[str]:
        """Special tokens without a name of their own."""
        return list(self._extra)

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
        token = name.removesuffix("_id")
        if token not in SPECIAL_TOKENS:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        value = self.__dict__.get("_special", {}).get(token)
        return value if name == token or value is None else self._engine.token_to_id(value)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in SPECIAL_TOKENS:
            self.add_special_tokens({name: value})
        else:
            object.__setattr__(self, name, value)

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


def as_list(ids: Any) -> list[int]:
    """Return ids, given as one number, a list, an array or a one-dimensional tensor, as a list."""
    values = ids.tolist() if hasattr(ids, "tolist") else ids
    numbers = [values] if isinstance(values, int) else list(values)
    if (least := min(numbers, default=0)) < 0:
        raise ValueError(f"ids are expected to be 0 or more, but hold {least}; leave out what is ignored")
    return numbers
