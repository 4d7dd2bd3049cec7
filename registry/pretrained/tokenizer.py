"""The base of every tokenizer, around an engine: `tokenizers.Tokenizer`, or one that offers as much."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar

from tokenizers import AddedToken

from registry.catalog.names import user_path
from registry.checkpoint.json_file import read_json
from registry.checkpoint.writer import staged_folder
from registry.errors import ConfigError
from registry.families.roles import SIDE_FILES
from registry.pretrained.config import warn_of_code
from registry.pretrained.engine import Engine
from registry.pretrained.text_coder import NO_LIMIT, TextCoder
from registry.pretrained.token_vocabulary import EXTRA_TOKENS, SPECIAL_TOKENS

__all__ = [
    "ADDED_TOKENS_NAME",
    "SPECIAL_TOKENS_MAP_NAME",
    "TOKENIZER_CONFIG_NAME",
    "TOKENIZER_FILES",
    "PreTrainedTokenizer",
    "is_engine_file",
]

#: What may lie beside a vocabulary; each is optional.
TOKENIZER_FILES = SIDE_FILES
TOKENIZER_CONFIG_NAME, SPECIAL_TOKENS_MAP_NAME, ADDED_TOKENS_NAME = SIDE_FILES

_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")

logger = logging.getLogger(__name__)


class PreTrainedTokenizer(TextCoder):
    """Text to ids and back. A family's class builds the engine from its vocabulary files and passes its settings on.

    An instance is safe to use from several threads as long as no tokens are added meanwhile, and pickles.
    """

    #: Constructor argument to the conventional name of the vocabulary file.
    vocab_files_names: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        engine: Engine,
        *,
        settings: Mapping[str, Any],
        model_max_length: int | None = None,
        padding_side: str = "right",
        truncation_side: str = "right",
        max_len: int | None = None,
        additional_special_tokens: Sequence[str] = (),
        **special_tokens: str | None,
    ) -> None:
        """Set up around an engine.

        Args:
            engine: with model, normalizer, pre-tokenizer, post-processor and decoder in place.
            settings: the family's own arguments, saved so that a reload has them.
            model_max_length: tokens that the model can take; None when it has no limit.
            padding_side: `right` or `left`.
            truncation_side: the side from which tokens are cut.
            max_len: 2019's name for `model_max_length`.
            additional_special_tokens: more tokens that are matched whole and can be skipped in decoding.
            special_tokens: `unk_token=`, `pad_token=` and the like; None for one that the family does not have.
        """
        for name, side in (("padding_side", padding_side), ("truncation_side", truncation_side)):
            if side not in ("left", "right"):
                raise ConfigError(f"{name} of {type(self).__name__} is expected to be 'left' or 'right', but is {side!r}")
        super().__init__(engine, special_tokens, additional_special_tokens)
        self._settings = dict(settings)
        self.model_max_length = max_len if model_max_length is None else model_max_length
        self.padding_side = padding_side
        self.truncation_side = truncation_side

    # -- loading and saving --------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], *init_inputs: Any, **kwargs: Any) -> Any:
        """Load the tokenizer of a name, folder, vocabulary file, URL or source.

        Args:
            pretrained_model_name_or_path: what to load.
            init_inputs: further positional arguments of the constructor, after the vocabulary files.
            kwargs: `cache_dir`, `force_download`, `offline`; the rest are arguments of the constructor.
        """
        from registry.pretrained.loading import load_tokenizer

        return load_tokenizer(cls, pretrained_model_name_or_path, *init_inputs, **kwargs)

    @classmethod
    def from_files(cls, vocabulary: Mapping[str, Path], side_files: Mapping[str, Path], *inputs: Any, **kwargs: Any) -> Any:
        """Build from vocabulary files, by constructor argument, and the JSON files beside them, by name."""
        saved = read_json(side_files[TOKENIZER_CONFIG_NAME]) if TOKENIZER_CONFIG_NAME in side_files else {}
        warn_of_code(saved, TOKENIZER_CONFIG_NAME)
        if (limit := kwargs.pop("max_len", None)) is not None:
            kwargs.setdefault("model_max_length", limit)
        decoder = saved.pop("added_tokens_decoder", None) or _added_in_engine_file(vocabulary.values())
        settings = cls._saved_settings(saved)
        if SPECIAL_TOKENS_MAP_NAME in side_files:
            for name, token in read_json(side_files[SPECIAL_TOKENS_MAP_NAME]).items():
                if name in SPECIAL_TOKENS or name == EXTRA_TOKENS:
                    settings.setdefault(name, _content(token))
        tokenizer = cls._build({name: str(path) for name, path in vocabulary.items()}, inputs, {**settings, **kwargs})
        if decoder:
            tokens = {int(number): _added_token(token) for number, token in decoder.items()}
        elif ADDED_TOKENS_NAME in side_files:
            special = set(tokenizer.all_special_tokens)
            tokens = {
                number: AddedToken(token, special=token in special, normalized=token not in special)
                for token, number in read_json(side_files[ADDED_TOKENS_NAME]).items()
            }
        else:
            tokens = {}
        tokenizer._restore(tokens)
        return tokenizer

    @classmethod
    def _build(cls, vocabulary: Mapping[str, str], inputs: Sequence[Any], settings: Mapping[str, Any]) -> Any:
        """Call the constructor, which begins with the vocabulary files."""
        build: Any = cls
        arguments = list(signature(cls).parameters)[len(vocabulary) :][: len(inputs)]
        named = {name: value for name, value in settings.items() if name not in arguments}  # the caller's go before saved ones
        return build(*vocabulary.values(), *inputs, **named)

    @classmethod
    def vocabulary_files(cls) -> dict[str, tuple[str, ...]]:
        """Return role to the file names that can fill it, best first; what a family's `files` say goes before this."""
        return {argument.removesuffix("_file"): (name,) for argument, name in cls.vocab_files_names.items()}

    @classmethod
    def _saved_settings(cls, saved: Mapping[str, Any]) -> dict[str, Any]:
        """Return what of a tokenizer_config.json this class takes; other libraries write much that only they know."""
        known = {*SPECIAL_TOKENS, EXTRA_TOKENS, "model_max_length", "padding_side", "truncation_side", *cls.settings_names()}
        settings = {name: _content(value) for name, value in saved.items() if name in known}
        if "extra_special_tokens" in saved and isinstance(saved["extra_special_tokens"], list):
            settings.setdefault(EXTRA_TOKENS, _content(saved["extra_special_tokens"]))
        limit = settings.get("model_max_length", saved.get("max_len"))
        for name in (EXTRA_TOKENS, *SPECIAL_TOKENS):
            if settings.get(name, "") is None:
                del settings[name]
        settings["model_max_length"] = int(limit) if isinstance(limit, int | float) and limit < NO_LIMIT else None
        return settings

    @classmethod
    def settings_names(cls) -> tuple[str, ...]:
        """Return the constructor arguments of the family that are saved in tokenizer_config.json."""
        return ()

    def _restore(self, tokens: Mapping[int, AddedToken]) -> None:
        for number in sorted(tokens):
            token = tokens[number]
            (self._engine.add_special_tokens if token.special else self._engine.add_tokens)([token])
            if (actual := self._engine.token_to_id(token.content)) != number:
                raise ConfigError(
                    f"added token {token.content!r} is expected to have id {number}, as its file says, but gets {actual}; "
                    "the file does not belong to this vocabulary"
                )

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> tuple[str, ...]:
        """Write everything that a reload needs into a folder, which is made when it does not exist; return the paths.

        A `tokenizer.json` that another library wrote there is removed: it would go on to read the old tokenizer from that.

        Raises:
            CheckpointError: when the folder cannot take the files; what was there stays.
        """
        folder = user_path(save_directory)
        with staged_folder(folder, replaces_tokenizer=True) as stage:
            names = [Path(path).name for path in self.save_vocabulary(stage)]
            for name, data in self._side_files().items():
                (stage / name).write_text(json.dumps(data, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        names += [SPECIAL_TOKENS_MAP_NAME, ADDED_TOKENS_NAME]
        return tuple(str(folder / name) for name in names)

    def save_vocabulary(self, vocab_path: str | os.PathLike[str]) -> tuple[str, ...]:
        """Write the vocabulary alone, into a folder or to a file; return the paths. Each family has its own form."""
        raise TypeError(f"{type(self).__name__} is expected to override save_vocabulary")

    def _side_files(self) -> dict[str, Any]:
        added = self._engine.get_added_tokens_decoder()
        return {
            TOKENIZER_CONFIG_NAME: {
                "tokenizer_class": type(self).__name__,
                **self._settings,
                **self.special_tokens_map,
                "model_max_length": self.model_max_length if self.model_max_length is not None else NO_LIMIT,
                "padding_side": self.padding_side,
                "truncation_side": self.truncation_side,
                "added_tokens_decoder": {
                    str(number): {"content": token.content, **{flag: getattr(token, flag) for flag in _FLAGS}}
                    for number, token in sorted(added.items())
                },
            },
            SPECIAL_TOKENS_MAP_NAME: self.special_tokens_map,
            ADDED_TOKENS_NAME: {token.content: number for number, token in added.items() if number >= self._base_size},
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} tokens, {self._settings})"


def _content(value: Any) -> Any:
    """Return the text of a token that may have been saved with its flags."""
    if isinstance(value, dict) and "content" in value:
        return value["content"]
    return [_content(item) for item in value] if isinstance(value, list) else value


def is_engine_file(path: Path) -> bool:
    """Whether a file is a `tokenizer.json`, which holds all that a tokenizer needs."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        begins = file.read(64)
    return begins.startswith(b"{") and b'"version"' in begins


def _added_in_engine_file(paths: Iterable[Path]) -> dict[int, Any]:
    """Return id to added token of a `tokenizer.json`, where a vocabulary is one: transformers 5 keeps them only there."""
    for path in paths:
        if is_engine_file(path):
            return {token["id"]: token for token in read_json(path).get("added_tokens", ())}
    return {}


def _added_token(saved: Mapping[str, Any]) -> AddedToken:
    return AddedToken(saved["content"], **{flag: bool(saved[flag]) for flag in _FLAGS if flag in saved})
