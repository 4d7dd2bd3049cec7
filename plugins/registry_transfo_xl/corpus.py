"""The corpora that Transformer-XL was trained on, as ids: read from a `corpus.bin`, or built from text files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

import numpy
import torch
from torch import Tensor

from registry.checkpoint.torch.layout import explained, read_layout, scan_torch_file
from registry.checkpoint.torch.plain_pickle import PlainArray, read_plain_pickle
from registry.errors import CheckpointError, ConfigError
from registry_transfo_xl.iterators import LMMultiFileIterator, LMOrderedIterator, LMShuffledIterator
from registry_transfo_xl.tokenization import TransfoXLTokenizer

__all__ = ["CORPUS_NAME", "TransfoXLCorpus"]

CORPUS_NAME = "corpus.bin"

_SPLITS = ("train", "valid", "test")
_COUNTED = {
    "ptb": _SPLITS,
    "wt2": _SPLITS,
    "enwik8": _SPLITS,
    "text8": _SPLITS,
    "wt103": ("train",),
    "lm1b": (),  # its vocabulary is a file
}
#: Those whose lines have no end of their own.
_CHARACTERS = ("enwik8", "text8")
_LM1B = "1-billion-word-language-modeling-benchmark-r13output/training-monolingual.tokenized.shuffled"
#: The published corpus of WikiText-103 has 860 MB.
_MAX_BYTES = 16 << 30
_MAX_OPERATIONS = 20_000_000
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


class TransfoXLCorpus:
    """Three splits of a data set: ids int64 (words,) or, for `lm1b`, sentences and the paths of training files."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Set up an empty corpus with a `TransfoXLTokenizer` of these arguments, as `vocab`."""
        self.vocab = TransfoXLTokenizer(*args, **kwargs)
        self.dataset: str | None = None
        self.train: Any = None
        self.valid: Any = None
        self.test: Any = None
        self._path: Path | None = None

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        cache_dir: str | os.PathLike[str] | None = None,
        *inputs: Any,
        **kwargs: Any,
    ) -> Self:
        """Load a corpus that was turned into ids, and its tokenizer.

        Args:
            name_or_path: a name, folder, URL or source that has a `corpus.bin` and a vocabulary.
            cache_dir: the cache folder for this call.
            inputs: further arguments of the tokenizer.
            kwargs: as `inputs`.

        Paths of training files, which `lm1b` has, are those of regular files below the folder of `corpus.bin`.

        Raises:
            UnsafeCheckpoint: when the file holds more than containers, tensors and arrays of numbers; nothing was run.
            CheckpointError: when it is damaged, holds no corpus or ids outside the vocabulary, or names other files.
        """
        from registry import default_registry

        vocabulary = TransfoXLTokenizer.from_pretrained(name_or_path, *inputs, cache_dir=cache_dir, **kwargs)
        path = default_registry().fetch_file(name_or_path, CORPUS_NAME, cache_dir=cache_dir)
        corpus = cls()
        corpus.vocab = vocabulary
        data = _read(path)
        dataset = data.get("dataset")
        if dataset is not None and not isinstance(dataset, str):
            raise _damaged("dataset", path, "a name", dataset)
        corpus.dataset, corpus._path = dataset, path
        size = len(vocabulary)
        for split in _SPLITS:
            value = data.get(split)
            if value is None:
                continue
            if dataset != "lm1b":
                setattr(corpus, split, _ids(value, f"split {split!r}", path, size))
            elif not isinstance(value, list):
                raise _damaged(f"split {split!r}", path, "a list", value)
            elif split == "train":
                corpus.train = _paths(value, path)
            else:
                named = ((f"sentence {number} of split {split!r}", item) for number, item in enumerate(value))
                setattr(corpus, split, [_ids(item, what, path, size) for what, item in named])
        return corpus

    def build_corpus(self, path: str | os.PathLike[str], dataset: str) -> None:
        """Count words, build the vocabulary, and turn a folder of text into ids.

        Args:
            path: the folder with `train.txt`, `valid.txt` and `test.txt`; for `lm1b` with `valid.txt`, `test.txt` and the
                training files in the folders of its distribution.
            dataset: `ptb`, `wt2`, `wt103`, `enwik8`, `text8` or `lm1b`.

        Raises:
            ConfigError: for another data set.
        """
        if dataset not in _COUNTED:
            raise ConfigError(f"dataset is expected to be one of {', '.join(_COUNTED)}, but is {dataset!r}")
        self.dataset = dataset
        folder = Path(path)
        for split in _COUNTED[dataset]:
            self.vocab.count_file(folder / f"{split}.txt")
        self.vocab.build_vocab()
        lm1b = dataset == "lm1b"
        for split in _SPLITS:
            if lm1b and split == "train":
                self.train = sorted(str(file) for file in (folder / _LM1B).glob("news.en-*"))
                continue
            end = {"add_double_eos": True} if lm1b else {"add_eos": dataset not in _CHARACTERS}
            setattr(self, split, self.vocab.encode_file(folder / f"{split}.txt", ordered=not lm1b, **end))

    def get_iterator(self, split: str, *args: Any, **kwargs: Any) -> LMOrderedIterator | LMShuffledIterator:
        """Return an iterator over the batches of a split; arguments are those of the iterators, after the data.

        Raises:
            ConfigError: for a split that there is not.
        """
        if split not in _SPLITS or getattr(self, split) is None:
            there = [name for name in _SPLITS if getattr(self, name) is not None]
            raise ConfigError(f"split is expected to be one of {', '.join(there) or 'none yet'}, but is {split!r}")
        if self.dataset != "lm1b":
            return LMOrderedIterator(getattr(self, split), *args, **kwargs)
        if split == "train":
            if self._path is not None:  # another process may have put something else there
                self.train = _paths(self.train, self._path, exist=True)
            return LMMultiFileIterator(self.train, self.vocab, *args, **{**kwargs, "shuffle": True})
        return LMShuffledIterator(getattr(self, split), *args, **kwargs)


def _read(path: Path) -> dict[str, Any]:
    """Read a corpus: with tensors by torch's own restricted reader, with numpy arrays as data."""
    report = scan_torch_file(path, max_bytes=_MAX_BYTES, max_operations=_MAX_OPERATIONS)
    if not report.refused and any(name.startswith("torch.") for name in report.globals):
        read_layout(path, max_bytes=_MAX_BYTES, max_operations=_MAX_OPERATIONS)  # refuses what torch must not be asked to do
        with explained(path):
            data = torch.load(path, map_location="cpu", weights_only=True)
    else:
        data = read_plain_pickle(path, arrays=True, max_bytes=_MAX_BYTES)
    if not isinstance(data, dict) or not set(_SPLITS) & set(data):
        raise CheckpointError(
            f"corpus {str(path)!r} is expected to be a dictionary of {', '.join(_SPLITS)}, but is not", path=str(path)
        )
    return data


def _damaged(what: str, path: Path, kind: str, value: object) -> CheckpointError:
    return CheckpointError(
        f"{what} of corpus {str(path)!r} is expected to be {kind}, but is a {type(value).__name__}", path=str(path)
    )


def _ids(value: Any, what: str, path: Path, size: int) -> Tensor:
    """Return ids as an int64 tensor (words,)."""
    if isinstance(value, PlainArray) and value.values is not None and value.values.dtype.kind in "iu":
        value = value.values
        lowest, highest = (int(value.min()), int(value.max())) if value.size else (0, 0)
        shape: tuple[int, ...] = value.shape
    elif isinstance(value, Tensor) and value.dtype in _INTEGERS and value.layout == torch.strided:
        lowest, highest = (int(value.min()), int(value.max())) if value.numel() else (0, 0)
        shape = value.shape
    elif isinstance(value, list) and all(type(item) is int for item in value):
        lowest, highest, shape = min(value, default=0), max(value, default=0), (len(value),)
    else:
        raise _damaged(what, path, "a row of ids", value)
    if len(shape) != 1:
        raise CheckpointError(
            f"{what} of corpus {str(path)!r} is expected to be a row of ids, but has {len(shape)} dimensions", path=str(path)
        )
    if shape[0] and not 0 <= lowest <= highest < size:
        raise CheckpointError(
            f"ids in {what} of corpus {str(path)!r} are expected to be in 0..{size - 1}, those of its vocabulary, but "
            f"are in {lowest}..{highest}",
            path=str(path),
        )
    if isinstance(value, Tensor):
        return value.to(torch.int64)
    return torch.from_numpy(numpy.array(value, dtype="int64"))


def _paths(listed: list[Any], path: Path, *, exist: bool = False) -> list[str]:
    """Return the paths of a corpus, relative ones being relative to its folder; none leads out of that.

    What does not exist is left for later, unless all have to.
    """
    folder = path.parent.resolve()
    found = []
    for number, item in enumerate(listed):
        what = f"path {number} of split 'train'"
        if not isinstance(item, str):
            raise _damaged(what, path, "text", item)
        place = _regular_below(folder, item, exist)
        if place is None:
            raise CheckpointError(
                f"{what} of corpus {str(path)!r} is expected to be a regular file below its folder, but is {item[:200]!a}",
                path=str(path),
            )
        found.append(str(place))
    return found


def _regular_below(folder: Path, item: str, exists: bool) -> Path | None:
    """Return where a path leads, if that is below the folder and a regular file, or, unless it has to exist, nothing."""
    try:
        place = (folder / item).resolve()
        return place if place.is_relative_to(folder) and (place.is_file() or not (exists or place.exists())) else None
    except (OSError, ValueError, RuntimeError):  # too long, with a NUL or half a surrogate pair, links in a circle
        return None
