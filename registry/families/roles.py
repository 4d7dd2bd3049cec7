"""The role of each file of a model, and which files of a role are used when a catalog entry lists some of them.

The roles are weights, configuration and tokenizer. When an entry lists a file of a role, only the listed files of that role
are used, plus the files that the role requires.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path

from registry.base.names import INDEX_SUFFIX, SHAPES_NAME
from registry.catalog.entry import FilePin

__all__ = [
    "CONFIG",
    "ENGINE_NAME",
    "SIDE_FILES",
    "TENSORFLOW_SUFFIX",
    "TOKENIZER",
    "WEIGHTS",
    "as_written",
    "looked_up",
    "named_roles",
    "role_of",
    "side_files",
    "unpinned_roles",
    "weights_that_count",
]

WEIGHTS, CONFIG, TOKENIZER = "weights", "config", "tokenizer"
#: Optional files beside a vocabulary.
SIDE_FILES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
#: A complete tokenizer in one file, which some families read instead of a vocabulary.
ENGINE_NAME = "tokenizer.json"
TENSORFLOW_SUFFIX = ".index"

_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}(\.\w+)")
_TENSORFLOW_SHARD = re.compile(r"(.+)\.data-\d{5}-of-\d{5}")
_PIECE = re.compile(r"params_\d+\.npy")


def role_of(name: str, files: Mapping[str, Sequence[str]], converters: Container[str] = ()) -> str:
    """Return the role of a file; empty for a file without a role, such as a README.

    Args:
        name: the file's name.
        files: role to file names, as `Family.files`.
        converters: the formats of other programs that the family reads, as `Family.converters`.
    """
    if name in SIDE_FILES or name == ENGINE_NAME:
        return TOKENIZER
    for role, names in files.items():
        if name in names:
            return role if role in (WEIGHTS, CONFIG) else TOKENIZER
    if "tensorflow" in converters and (name.endswith(TENSORFLOW_SUFFIX) or _TENSORFLOW_SHARD.fullmatch(name)):
        return WEIGHTS
    if "numpy" in converters and (name == SHAPES_NAME or _PIECE.fullmatch(name)):
        return WEIGHTS
    whole = (_index_of(name) or name).removesuffix(INDEX_SUFFIX)
    return WEIGHTS if whole in files.get(WEIGHTS, ()) else ""


def named_roles(
    listed: Iterable[str], files: Mapping[str, Sequence[str]], converters: Container[str] = ()
) -> dict[str, list[str]]:
    """Group listed files by role. Files without a role are under the empty string."""
    found: dict[str, list[str]] = {WEIGHTS: [], CONFIG: [], TOKENIZER: [], "": []}
    for name in listed:
        found[role_of(name, files, converters)].append(name)
    return found


def looked_up(
    listed: Iterable[str], files: Mapping[str, Sequence[str]], converters: Container[str] = ()
) -> dict[str, list[str]]:
    """Return the names to search for, by role: for roles without listed files, and for required files that are not listed."""
    named = named_roles(listed, files, converters)
    found: dict[str, list[str]] = {}
    for part, names in files.items():
        role = part if part in (WEIGHTS, CONFIG) else TOKENIZER
        if not named[role] or (role == TOKENIZER and not any(name in named[role] for name in names)):
            wanted = found.setdefault(role, [])
            wanted += [name for name in names if name not in wanted]
    if TOKENIZER in found and not named[TOKENIZER]:
        found[TOKENIZER] += SIDE_FILES
    return found


def unpinned_roles(
    pins: Mapping[str, FilePin], files: Mapping[str, Sequence[str]], converters: Container[str] = ()
) -> list[str]:
    """Return the roles that may use a file without a pinned sha256."""
    named = named_roles(pins, files, converters)
    found = dict.fromkeys(looked_up(pins, files, converters))
    for role, names in named.items():
        indexes = [name for name in names if name.endswith((INDEX_SUFFIX, TENSORFLOW_SUFFIX)) or name == SHAPES_NAME]
        shards = [_index_of(name) for name in names]
        if role and (any(pins[name].sha256 is None for name in names) or any(name not in shards for name in indexes)):
            found[role] = None
    return [role for role in (WEIGHTS, CONFIG, TOKENIZER) if role in found]


def side_files(listed: Iterable[str], files: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return the files beside a vocabulary to use: the listed ones if any tokenizer file is listed, else all."""
    named = named_roles(listed, files)[TOKENIZER]
    return tuple(name for name in SIDE_FILES if name in named) if named else SIDE_FILES


def weights_that_count(
    candidates: Iterable[str], listed: Iterable[str], files: Mapping[str, Sequence[str]], converters: Container[str] = ()
) -> list[str]:
    """Return the weights files to use: all candidates, or if weights are listed, those and the index of listed shards."""
    if not (named := named_roles(listed, files, converters)[WEIGHTS]):
        return list(candidates)
    counting = {*named, *(_index_of(name) for name in named)}
    return [name for name in candidates if name in counting]


def as_written(files: Mapping[str, Sequence[str]], sides: Mapping[str, Path]) -> Mapping[str, Sequence[str]]:
    """Put `tokenizer.json` first if transformers 5 wrote the settings, because it may leave an older, stale vocabulary there.

    Args:
        files: role to file names, as `Family.files`.
        sides: the existing files beside the vocabulary, by name.
    """
    from registry.base.json_file import read_json

    settings = sides.get(SIDE_FILES[0])
    if settings is None or "backend" not in read_json(settings):  # earlier versions do not write this key
        return files
    return {role: sorted(names, key=lambda name: name != ENGINE_NAME) for role, names in files.items()}


def _index_of(name: str) -> str:
    """Return the name of a shard's index; empty for a name that is not a shard's."""
    if found := _SHARD.fullmatch(name):
        return f"{found[1]}{found[2]}{INDEX_SUFFIX}"
    if found := _TENSORFLOW_SHARD.fullmatch(name):
        return f"{found[1]}{TENSORFLOW_SUFFIX}"
    return SHAPES_NAME if _PIECE.fullmatch(name) else ""
