"""The corpora that Transformer-XL was trained on, as ids: read from a `corpus.bin`, or built from text files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from registry.checkpoint.plain_pickle import PlainArray, read_plain_pickle
from registry.checkpoint.torch_layout import read_layout, scan_torch_file
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


class TransfoXLCorpus:
    """Three splits of a data set: ids int64 (words,) or, for `lm1b`, sentences and the paths of training files."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Set up an empty corpus with a `TransfoXLTokenizer` of these arguments, as `vocab`."""
        self.vocab = TransfoXLTokenizer(*args, **kwargs)
        self.dataset: str | None = None
        self.train: Any = None
        self.valid: Any = None
        self.test: Any = None

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

        Raises:
            UnsafeCheckpoint: when the file holds more than containers, tensors and arrays of numbers; nothing was run.
            CheckpointError: when it is damaged, or holds no corpus.
        """
        from registry import default_registry

        vocabulary = TransfoXLTokenizer.from_pretrained(name_or_path, *inputs, cache_dir=cache_dir, **kwargs)
        path = default_registry().fetch_file(name_or_path, CORPUS_NAME, cache_dir=cache_dir)
        corpus = cls()
        corpus.vocab = vocabulary
        data = _read(path)
        corpus.dataset = data.get("dataset")
        for split in _SPLITS:
            setattr(corpus, split, _ids(data.get(split), path))
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
            return LMMultiFileIterator(self.train, self.vocab, *args, **{**kwargs, "shuffle": True})
        return LMShuffledIterator(getattr(self, split), *args, **kwargs)


def _read(path: Path) -> dict[str, Any]:
    """Read a corpus: with tensors by torch's own restricted reader, with numpy arrays as data."""
    report = scan_torch_file(path, max_bytes=_MAX_BYTES, max_operations=_MAX_OPERATIONS)
    if not report.refused and any(name.startswith("torch.") for name in report.globals):
        read_layout(path, max_bytes=_MAX_BYTES, max_operations=_MAX_OPERATIONS)  # refuses what torch must not be asked to do
        data = torch.load(path, map_location="cpu", weights_only=True)
    else:
        data = read_plain_pickle(path, arrays=True, max_bytes=_MAX_BYTES)
    if not isinstance(data, dict) or not set(_SPLITS) & set(data):
        raise CheckpointError(
            f"corpus {str(path)!r} is expected to be a dictionary of {', '.join(_SPLITS)}, but is not", path=str(path)
        )
    return data


def _ids(value: Any, path: Path, *, nested: bool = True) -> Any:
    """Return ids as an int64 tensor; of a list each, paths as they are."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, PlainArray) and value.values is not None and value.values.dtype.kind in "iu":
        return torch.from_numpy(value.values.astype("int64"))
    if isinstance(value, Tensor) and not value.is_floating_point():
        return value.to(torch.int64)
    if isinstance(value, list) and all(isinstance(item, int) for item in value):
        return torch.tensor(value, dtype=torch.int64)
    if isinstance(value, list) and nested:
        return [_ids(item, path, nested=False) for item in value]
    raise CheckpointError(
        f"a split of corpus {str(path)!r} is expected to be ids, but is a {type(value).__name__}", path=str(path)
    )
