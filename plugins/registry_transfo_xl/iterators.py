"""Batches of a language modelling corpus, as Transformer-XL's training reads them.

Each batch is `(data, target, length)`: int64 (batch, length), where `target` is the next word of each of the last words of
`data`. With `ext_len`, `data` begins with as many words of the batch before.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from registry_transfo_xl.tokenization import TransfoXLTokenizer

__all__ = ["LMMultiFileIterator", "LMOrderedIterator", "LMShuffledIterator"]

Batch = tuple[Tensor, Tensor, int]


class LMOrderedIterator:
    """One long text in `bsz` parallel parts, each read from its begin to its end, so that memory carries over."""

    def __init__(
        self, data: Tensor, bsz: int, bptt: int, device: torch.device | str = "cpu", ext_len: int | None = None
    ) -> None:
        """Cut a text.

        Args:
            data: its ids, int64 (words,); what does not fill up a row of parts is left out.
            bsz: the number of parts, which is the batch size.
            bptt: the length of a segment, in words.
            device: where batches are.
            ext_len: words of the segment before with which each begins; 0 by default.
        """
        self.bsz, self.bptt, self.ext_len, self.device = bsz, bptt, ext_len or 0, device
        self.n_step = len(data) // bsz
        #: (bsz, n_step)
        self.data = data[: self.n_step * bsz].view(bsz, -1).to(device)
        self.n_batch = -(-self.n_step // bptt)

    def get_batch(self, i: int, bptt: int | None = None) -> Batch:
        """Return the segment that begins at word `i`."""
        length = min(self.bptt if bptt is None else bptt, self.n_step - 1 - i)
        data = self.data[:, max(0, i - self.ext_len) : i + length]
        return data.contiguous(), self.data[:, i + 1 : i + 1 + length].contiguous(), length

    def get_fixlen_iter(self, start: int = 0) -> Iterator[Batch]:
        """Yield segments of `bptt` words; the last one may be shorter."""
        for i in range(start, self.n_step - 1, self.bptt):
            yield self.get_batch(i)

    def get_varlen_iter(self, start: int = 0, std: int = 5, min_len: int = 5, max_deviation: int = 3) -> Iterator[Batch]:
        """Yield segments of random lengths around `bptt`, by numpy's global random state.

        Args:
            start: the word to begin with.
            std: standard deviation of the length; one segment in twenty is around half of `bptt`.
            min_len: the shortest.
            max_deviation: how many deviations longer than `bptt` a segment may be.
        """
        longest = self.bptt + max_deviation * std
        i = start
        while i < self.n_step - 1:
            mean = self.bptt if np.random.random() < 0.95 else self.bptt / 2
            data, target, length = self.get_batch(i, min(longest, max(min_len, int(np.random.normal(mean, std)))))
            i += length
            yield data, target, length
            if i >= self.n_step - 2:
                break

    def __iter__(self) -> Iterator[Batch]:
        return self.get_fixlen_iter()


class LMShuffledIterator:
    """Sentences in any order: each row of a batch goes on with a new sentence where one ends."""

    def __init__(
        self,
        data: Sequence[Tensor],
        bsz: int,
        bptt: int,
        device: torch.device | str = "cpu",
        ext_len: int | None = None,
        shuffle: bool = False,
    ) -> None:
        """Set up.

        Args:
            data: sentences, each int64 (words,).
            bsz: the batch size.
            bptt: the length of a segment, in words.
            device: where batches are.
            ext_len: words of the segment before with which each begins; 0 by default.
            shuffle: whether the sentences come in a new order each time, by numpy's global random state.
        """
        self.data = data
        self.bsz, self.bptt, self.ext_len, self.device, self.shuffle = bsz, bptt, ext_len or 0, device, shuffle

    def get_sent_stream(self) -> Iterator[Tensor]:
        """Yield the sentences."""
        order = np.random.permutation(len(self.data)) if self.shuffle else np.arange(len(self.data))
        return (self.data[int(number)] for number in order)

    def stream_iterator(self, sent_stream: Iterable[Tensor]) -> Iterator[Batch]:
        """Yield batches of sentences until they do not fill up another one."""
        stream = iter(sent_stream)
        rests = [torch.empty(0, dtype=torch.int64)] * self.bsz
        kept = torch.empty(self.bsz, 0, dtype=torch.int64)
        while True:
            rows = []
            for number in range(self.bsz):
                data, target, left = [], [], self.bptt
                while left:
                    while len(rests[number]) <= 1:
                        following = next(stream, None)
                        if following is None:
                            return
                        rests[number] = following
                    rest = rests[number]
                    count = min(len(rest) - 1, left)
                    data.append(rest[:count])
                    target.append(rest[1 : count + 1])
                    rests[number] = rest[count:]
                    left -= count
                rows.append((torch.cat(data), torch.cat(target)))
            joined = torch.cat([kept, torch.stack([data for data, _ in rows])], 1)
            yield joined.to(self.device), torch.stack([target for _, target in rows]).to(self.device), self.bptt
            kept = joined[:, max(0, joined.shape[1] - self.ext_len) :]

    def __iter__(self) -> Iterator[Batch]:
        return self.stream_iterator(self.get_sent_stream())


class LMMultiFileIterator(LMShuffledIterator):
    """Sentences of several files, one file after the other, each line between two `<S>`."""

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        vocab: TransfoXLTokenizer,
        bsz: int,
        bptt: int,
        device: torch.device | str = "cpu",
        ext_len: int | None = None,
        shuffle: bool = False,
    ) -> None:
        """Set up as `LMShuffledIterator`, from files instead of sentences; `shuffle` is of files and of lines in each."""
        super().__init__((), bsz, bptt, device, ext_len, shuffle)
        self.paths, self.vocab = list(paths), vocab

    def __iter__(self) -> Iterator[Batch]:
        if self.shuffle:
            np.random.shuffle(self.paths)  # type: ignore[arg-type]  # numpy shuffles any list
        for path in self.paths:
            sentences = self.vocab.encode_file(path, add_double_eos=True)
            if self.shuffle:
                np.random.shuffle(sentences)
            yield from self.stream_iterator(sentences)
