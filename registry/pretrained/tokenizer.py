"""The base of every tokenizer, around an engine: `tokenizers.Tokenizer`, or one that offers as much."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar

from tokenizers import AddedToken

from registry.base.json_file import read_json
from registry.base.logs import lazy_logger
from registry.base.names import user_path
from registry.checkpoint.save import staged_folder
from registry.errors import ConfigError, RegistryError
from registry.families.roles import SIDE_FILES
from registry.pretrained.config import warn_of_code
from registry.pretrained.engine import Engine
from registry.pretrained.text_coder import LIMIT_NAMES, NO_LIMIT, TextCoder, token_limit
from registry.pretrained.token_vocabulary import EXTRA_TOKENS, SPECIAL_TOKENS, is_unicode

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

logger = lazy_logger(__name__)


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
        model_max_length: float | None = None,
        padding_side: str = "right",
        truncation_side: str = "right",
        max_len: float | None = None,
        additional_special_tokens: Sequence[str | AddedToken] = (),
        added_tokens_decoder: Mapping[int, AddedToken] | None = None,
        **special_tokens: str | AddedToken | None,
    ) -> None:
        """Set up around an engine.

        Args:
            engine: with model, normalizer, pre-tokenizer, post-processor and decoder in place.
            settings: the family's own arguments, saved so that a reload has them.
            model_max_length: tokens that the model can take, a whole number; None, or 10**12 and more, when it has no limit.
            padding_side: `right` or `left`.
            truncation_side: the side from which tokens are cut.
            max_len: 2019's name for `model_max_length`.
            additional_special_tokens: more tokens that are matched whole and can be skipped in decoding.
            added_tokens_decoder: id to token of those that a saved tokenizer had added.
            special_tokens: `unk_token=`, `pad_token=` and the like, each as text or as an `AddedToken`, whose flags are kept;
                None for one that the family does not have. One that the vocabulary lacks is added, unless it is the class's
                own default.
        """
        for name, side in (("padding_side", padding_side), ("truncation_side", truncation_side)):
            if side not in ("left", "right"):
                raise ConfigError(f"{name} of {type(self).__name__} is expected to be 'left' or 'right', but is {side!r}")
        given = dict(zip(LIMIT_NAMES, (model_max_length, max_len), strict=True))
        super().__init__(engine, special_tokens, additional_special_tokens, added_tokens_decoder or {})
        self._settings = dict(settings)
        limits = [token_limit(value, f"{name} of {type(self).__name__}") for name, value in given.items()]
        self.model_max_length = limits[1] if model_max_length is None else limits[0]
        self.padding_side = padding_side
        self.truncation_side = truncation_side

    # -- loading and saving --------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], *init_inputs: Any, **kwargs: Any) -> Any:
        """Load the tokenizer of a name, folder, vocabulary file, URL or source.

        Args:
            pretrained_model_name_or_path: what to load.
            init_inputs: further positional arguments of the constructor, after the vocabulary files.
            kwargs: `cache_dir`, `force_download` (or `refresh`), `offline`; the rest are arguments of the constructor.
        """
        from registry.pretrained.from_pretrained import load_tokenizer

        return load_tokenizer(cls, pretrained_model_name_or_path, *init_inputs, **kwargs)

    @classmethod
    def from_files(cls, vocabulary: Mapping[str, Path], side_files: Mapping[str, Path], *inputs: Any, **kwargs: Any) -> Any:
        """Build from vocabulary files, by constructor argument, and the JSON files beside them, by name.

        Raises:
            ConfigError: when one of the files is damaged, or the files do not belong together.
        """
        config = side_files.get(TOKENIZER_CONFIG_NAME)
        saved = read_json(config) if config is not None else {}
        warn_of_code(saved, TOKENIZER_CONFIG_NAME)
        if (limit := kwargs.pop("max_len", None)) is not None:
            kwargs.setdefault("model_max_length", limit)
        added = _added_tokens(saved.pop("added_tokens_decoder", None), config) or _added_in_engine_file(vocabulary.values())
        settings = cls._saved_settings(saved, str(config))
        if special := side_files.get(SPECIAL_TOKENS_MAP_NAME):
            for name, token in read_json(special).items():
                if (name in SPECIAL_TOKENS or name == EXTRA_TOKENS) and not (added and name in settings):
                    settings[name] = _tokens(token, name, str(special))
        if added:  # their flags are those that count
            settings = {
                name: _texts(value) if name in (EXTRA_TOKENS, *SPECIAL_TOKENS) else value for name, value in settings.items()
            }
        elif ADDED_TOKENS_NAME in side_files:
            added = _added_in_2019(side_files[ADDED_TOKENS_NAME], settings)
        if added:
            settings["added_tokens_decoder"] = added
        files = {name: str(path) for name, path in vocabulary.items()}
        try:
            tokenizer = cls._build(files, inputs, {**settings, **kwargs})
        except (RegistryError, MemoryError) as error:
            beside = [str(path) for path in side_files.values()]
            if isinstance(error, ConfigError) and not any(path in error.message for path in (*files.values(), *beside)):
                raise ConfigError(f"{error.message}; the files are {', '.join((*files.values(), *beside))}") from error
            raise
        except BaseException as error:
            # Whatever else the engine finds wrong; where its own code fails, it raises what is no Exception.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            from registry.pretrained.entry_check import wrong_settings  # not needed where all is well

            for _, problem in wrong_settings(cls, kwargs):
                raise ConfigError(problem) from error
            raise ConfigError(
                f"a {cls.__name__} is expected to be built from {', '.join(map(repr, files.values()))} and what lies beside, "
                f"but that raised {type(error).__name__}: {error}"
            ) from error
        # The class's own default is added, too, where the caller asks for it.
        given = {name: value for name, value in kwargs.items() if value and (name in SPECIAL_TOKENS or name == EXTRA_TOKENS)}
        tokenizer.add_special_tokens({name: value for name, value in given.items() if tokenizer._lacks(name, value)})
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
    def _saved_settings(cls, saved: Mapping[str, Any], file: str) -> dict[str, Any]:
        """Return what of a tokenizer_config.json this class takes; other libraries write much that only they know."""
        from registry.pretrained.entry_check import wrong_settings

        settings: dict[str, Any] = {}
        for name, value in saved.items():
            if name in SPECIAL_TOKENS or name == EXTRA_TOKENS:
                if value is not None:
                    settings[name] = _tokens(value, name, file)
            elif name in ("padding_side", "truncation_side"):
                if value not in ("left", "right"):
                    raise _wrong(name, file, "'left' or 'right'", value)
                settings[name] = value
            elif name in cls.settings_names():
                settings[name] = value
                for _, problem in wrong_settings(cls, {name: value}):
                    raise ConfigError(f"{problem}; correct it in {file!r}")
        if isinstance(extra := saved.get("extra_special_tokens"), list):
            settings.setdefault(EXTRA_TOKENS, _tokens(extra, EXTRA_TOKENS, file))
        name = next((name for name in LIMIT_NAMES if name in saved), "model_max_length")
        settings["model_max_length"] = token_limit(saved.get(name), f"{name} of {file!r}")
        return settings

    @classmethod
    def settings_names(cls) -> tuple[str, ...]:
        """Return the constructor arguments of the family that are saved in tokenizer_config.json."""
        return ()

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
            SPECIAL_TOKENS_MAP_NAME: {
                name: [_saved_token(token, added) for token in value] if isinstance(value, list) else _saved_token(value, added)
                for name, value in self.special_tokens_map.items()
            },
            ADDED_TOKENS_NAME: {token.content: number for number, token in added.items() if number >= self._base_size},
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} tokens, {self._settings})"


def _saved_token(content: str, added: Mapping[int, AddedToken]) -> str | dict[str, Any]:
    """Return a token as special_tokens_map.json holds it: its text, or with its flags where they say something."""
    token = next((each for each in added.values() if each.content == content), None)
    if token is None or not (token.lstrip or token.rstrip or token.single_word or token.normalized):
        return content
    return {"content": content, **{flag: getattr(token, flag) for flag in _FLAGS if flag != "special"}}


def _wrong(what: str, file: str, kind: str, value: object) -> ConfigError:
    shown = f"{value!r:.80}" if isinstance(value, str | int | float) else f"a {type(value).__name__}"
    return ConfigError(f"{what} of {file!r} is expected to be {kind}, but is {shown}")


def _tokens(value: Any, name: str, file: str) -> Any:
    """Return a special token of a file, or a list of them: text, or with flags that were saved."""
    if name == EXTRA_TOKENS:
        if not isinstance(value, list):
            raise _wrong(name, file, "a list of tokens", value)
        return [_token(item, f"{name}[{index}]", file) for index, item in enumerate(value)]
    return _token(value, name, file)


def _token(value: Any, name: str, file: str) -> str | AddedToken:
    if isinstance(value, dict):
        return _added_token(value, name, file, special=True)
    if not isinstance(value, str):
        raise _wrong(name, file, "a token", value)
    return value


def _texts(value: Any) -> Any:
    return [str(token) for token in value] if isinstance(value, list) else str(value)


def is_engine_file(path: Path) -> bool:
    """Whether a file is a `tokenizer.json`, which holds all that a tokenizer needs."""
    if not os.path.isfile(path):  # noqa: PTH113  # Path.is_file raises for a name that is too long
        return False
    with path.open("rb") as file:
        begins = file.read(64)
    return begins.removeprefix(codecs.BOM_UTF8).startswith(b"{") and b'"version"' in begins


def _added_in_engine_file(paths: Iterable[Path]) -> dict[int, AddedToken]:
    """Return id to added token of a `tokenizer.json`, where a vocabulary is one: transformers 5 keeps them only there."""
    for path in paths:
        if is_engine_file(path):
            added: dict[int, AddedToken] = {}
            listed = read_json(path).get("added_tokens", [])
            if not isinstance(listed, list):
                raise _wrong("added_tokens", str(path), "a list", listed)
            for index, token in enumerate(listed):
                where = f"added_tokens[{index}]"
                number = token.get("id") if isinstance(token, dict) else None
                if type(number) is not int or number in added:
                    raise _wrong(f"{where}.id", str(path), "an id of its own", number)
                added[number] = _added_token(token, where, str(path))
            return added
    return {}


def _added_tokens(saved: Any, file: Path | None) -> dict[int, AddedToken]:
    """Return id to token of the field `added_tokens_decoder`."""
    name = "added_tokens_decoder"
    if saved is None:
        return {}
    if not isinstance(saved, dict):
        raise _wrong(name, str(file), "an object of ids to tokens", saved)
    for number in saved:
        if not (number.isascii() and number.isdigit() and len(number) < 10):
            raise _wrong(f"an id of {name}", str(file), "a number", number)
    return {int(number): _added_token(token, f"{name}.{number}", str(file)) for number, token in saved.items()}


def _added_in_2019(path: Path, settings: Mapping[str, Any]) -> dict[int, AddedToken]:
    """Return id to token of an added_tokens.json, which says no flags; those of a special token may stand elsewhere."""
    named = (token for name in (*SPECIAL_TOKENS, EXTRA_TOKENS) for token in _as_tuple(settings.get(name, ())))
    special = {str(token): token for token in named}
    added: dict[int, AddedToken] = {}
    for content, number in read_json(path).items():
        if type(number) is not int or number < 0 or number in added:
            raise _wrong(f"the id of {content!r:.80}", str(path), "a number of its own", number)
        if not content or not is_unicode(content):
            raise _wrong("a key", str(path), "the text of a token", content.encode("ascii", "backslashreplace").decode())
        token = special.get(content)
        if not isinstance(token, AddedToken):
            token = AddedToken(content, special=content in special, normalized=content not in special)
        added[number] = token
    return added


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _added_token(saved: Any, name: str, file: str, *, special: bool = False) -> AddedToken:
    """Return a token that was saved with its flags."""
    content = saved.get("content") if isinstance(saved, dict) else saved
    if not isinstance(content, str) or not isinstance(saved, dict):
        raise _wrong(f"content of {name}", file, "the text of a token", content)
    if not content or not is_unicode(content):
        raise _wrong(f"content of {name}", file, "the text of a token", content.encode("ascii", "backslashreplace").decode())
    flags = {flag: saved[flag] for flag in _FLAGS if flag in saved}
    for flag, value in flags.items():
        if not isinstance(value, bool):
            raise _wrong(f"{flag} of {name}", file, "true or false", value)
    return AddedToken(content, **({**flags, "special": True} if special else flags))
