from __future__ import annotations

import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from registry.errors import CheckpointError, ConfigError, DownloadError, UnsafeCheckpoint
from registry_transfo_xl import (
    LMMultiFileIterator,
    LMOrderedIterator,
    LMShuffledIterator,
    TransfoXLCorpus,
    TransfoXLLMHeadModel,
)
from tests.oracles import old
from tests.registry_transfo_xl.small import config

reference = old.tokenization_transfo_xl
WORDS = ["the", "cat", "sat", "on", "a", "mat", ",", "."]


def assert_same_batches(ours: Any, theirs: Any) -> int:
    count = 0
    for (data, target, length), (expected, expected_target, expected_length) in zip(ours, theirs, strict=True):
        assert torch.equal(data, expected) and torch.equal(target, expected_target) and length == expected_length
        count += 1
    return count


def sentences(count: int, longest: int, seed: int = 0) -> list[torch.Tensor]:
    generator = random.Random(seed)
    return [torch.tensor([generator.randrange(50) for _ in range(generator.randint(1, longest))]) for _ in range(count)]


# -- iterators -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ext_len", [None, 3])
@pytest.mark.parametrize(("words", "batch", "length"), [(103, 4, 7), (20, 1, 5), (21, 2, 40), (16, 5, 1)])
def test_an_ordered_text_is_read_as_in_2019(words: int, batch: int, length: int, ext_len: int | None) -> None:
    text = torch.arange(words)
    ours = LMOrderedIterator(text, batch, length, ext_len=ext_len)
    theirs = reference.LMOrderedIterator(text, batch, length, ext_len=ext_len)
    assert assert_same_batches(ours, theirs) > 0
    assert_same_batches(ours.get_fixlen_iter(2), theirs.get_fixlen_iter(2))
    assert (ours.n_step, ours.n_batch) == (theirs.n_step, theirs.n_batch)


def test_random_lengths_are_those_of_2019() -> None:
    text = torch.arange(2000)
    lists = []
    for kind in (LMOrderedIterator, reference.LMOrderedIterator):
        np.random.seed(3)
        lists.append(list(kind(text, 2, 20).get_varlen_iter()))
    assert assert_same_batches(*lists) > 10


def test_targets_are_the_next_words() -> None:
    for data, target, length in LMOrderedIterator(torch.arange(100), 2, 7, ext_len=2):
        assert torch.equal(data[:, -length:] + 1, target)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("batch", "length"), [(3, 5), (1, 4), (2, 1)])
def test_shuffled_sentences_are_read_as_in_2019(batch: int, length: int, shuffle: bool) -> None:
    lists = []
    for kind in (LMShuffledIterator, reference.LMShuffledIterator):
        np.random.seed(5)
        # 1.2.0 wrote the next batch into the one that it had yielded where that needed no copy.
        batches = kind(sentences(60, 11), batch, length, shuffle=shuffle)
        lists.append([(data.clone(), target.clone(), count) for data, target, count in batches])
    assert assert_same_batches(*lists) > 3


@pytest.mark.parametrize("ext_len", [3, 5, 9])
def test_shuffled_batches_begin_with_the_end_of_the_one_before(ext_len: int) -> None:
    # 1.2.0 fails here on today's torch.
    plain = list(LMShuffledIterator(sentences(60, 11), 3, 5))
    extended = list(LMShuffledIterator(sentences(60, 11), 3, 5, ext_len=ext_len))
    history = torch.cat([data for data, _, _ in plain], 1)
    for number, ((_, target, _), (data, same_target, length)) in enumerate(zip(plain, extended, strict=True)):
        end = 5 * (number + 1)
        assert torch.equal(data, history[:, max(0, end - 5 - ext_len) : end])
        assert torch.equal(target, same_target) and length == 5


def test_files_are_read_one_after_the_other_as_in_2019(tmp_path: Path) -> None:
    vocabulary = tmp_path / "words.txt"
    vocabulary.write_text("<S>\n<UNK>\n" + "\n".join(WORDS))
    generator = random.Random(1)
    paths = []
    for number in range(3):
        lines = (" ".join(generator.choices(WORDS, k=generator.randint(1, 9))) for _ in range(12))
        paths.append(str(tmp_path / f"news.en-{number}"))
        Path(paths[-1]).write_text("\n".join(lines))
    for shuffle in (False, True):
        lists = []
        for module in (reference, None):
            if module is None:
                corpus, kind = TransfoXLCorpus(vocab_file=vocabulary), LMMultiFileIterator
            else:
                corpus, kind = module.TransfoXLCorpus(vocab_file=str(vocabulary)), module.LMMultiFileIterator
            np.random.seed(7)
            lists.append(list(kind(list(paths), corpus.vocab, 2, 4, shuffle=shuffle)))
        assert assert_same_batches(*reversed(lists)) > 5
    before = list(paths)
    list(LMMultiFileIterator(paths, corpus.vocab, 2, 4, shuffle=True))
    assert paths == before


# -- building ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    generator = random.Random(2)
    folder = tmp_path / "texts"
    folder.mkdir()
    for split, words in (("train", WORDS[:6]), ("valid", WORDS[:7]), ("test", WORDS)):
        lines = (" ".join([*generator.choices(words, k=generator.randint(1, 9)), words[-1]]) for _ in range(40))
        (folder / f"{split}.txt").write_text("".join(f" {line} \n" for line in lines))
    return folder


@pytest.mark.parametrize("dataset", ["ptb", "wt2", "enwik8", "text8"])
def test_a_corpus_is_built_as_in_2019(texts: Path, dataset: str) -> None:
    options = {"special": ["<eos>"], "lower_case": dataset == "ptb"}
    ours, theirs = TransfoXLCorpus(**options), reference.TransfoXLCorpus(**options)
    ours.build_corpus(texts, dataset)
    theirs.build_corpus(str(texts), dataset)
    assert ours.vocab.idx2sym == theirs.vocab.idx2sym
    for split in ("train", "valid", "test"):
        assert torch.equal(getattr(ours, split), getattr(theirs, split))
        assert assert_same_batches(ours.get_iterator(split, 3, 5), theirs.get_iterator(split, 3, 5)) > 3


def test_only_the_training_text_of_wikitext_103_is_counted(texts: Path) -> None:
    # It has <unk> in its text, for words that the others may have and it has not.
    train = texts / "train.txt"
    train.write_text(train.read_text() + " <unk> the <unk>\n\n")
    corpus = TransfoXLCorpus(special=["<eos>"])
    corpus.build_corpus(texts, "wt103")
    assert set(corpus.vocab.idx2sym) == {"<eos>", "<unk>", *WORDS[:6]}
    assert corpus.train[-5:].tolist() == corpus.vocab.convert_tokens_to_ids(["<unk>", "the", "<unk>", "<eos>", "<eos>"])
    assert (corpus.test == corpus.vocab.unk_idx).any()


def test_the_billion_words_are_read_from_their_files(texts: Path) -> None:
    folder = texts / "1-billion-word-language-modeling-benchmark-r13output" / "training-monolingual.tokenized.shuffled"
    folder.mkdir(parents=True)
    for number in range(2):
        (folder / f"news.en-0000{number}-of-00100").write_text((texts / "train.txt").read_text())
    vocabulary = texts / "1b_word_vocab.txt"
    vocabulary.write_text("<S>\n<UNK>\n" + "\n".join(WORDS))
    ours, theirs = TransfoXLCorpus(vocab_file=vocabulary), reference.TransfoXLCorpus(vocab_file=str(vocabulary))
    ours.build_corpus(texts, "lm1b")
    theirs.build_corpus(str(texts), "lm1b")
    assert [Path(path).name for path in ours.train] == ["news.en-00000-of-00100", "news.en-00001-of-00100"]
    theirs.train.sort()
    for split in ("valid", "test", "train"):
        lists = []
        for corpus in (ours, theirs):
            np.random.seed(11)
            lists.append(list(corpus.get_iterator(split, 2, 5)))
        assert assert_same_batches(*lists) > 3


def test_what_there_is_not_is_named(texts: Path) -> None:
    corpus = TransfoXLCorpus()
    with pytest.raises(ConfigError, match="dataset is expected to be one of ptb, wt2, enwik8, text8, wt103, lm1b"):
        corpus.build_corpus(texts, "wikitext")
    with pytest.raises(ConfigError, match="split is expected to be one of none yet"):
        corpus.get_iterator("train", 2, 5)


def test_a_model_trains_on_batches_with_extended_context(texts: Path) -> None:
    torch.manual_seed(0)
    corpus = TransfoXLCorpus(special=["<eos>"])
    corpus.build_corpus(texts, "ptb")
    model = TransfoXLLMHeadModel(config(cutoffs=[4], ext_len=2).replace(n_token=len(corpus.vocab), dropout=0.0)).train()
    optimizer = torch.optim.Adam(model.parameters(), 0.03)
    losses = []
    for _ in range(2):
        mems = None
        for data, target, length in corpus.get_iterator("train", 4, 8, ext_len=2):
            output = model(data, targets=target, mems=mems)
            assert output.losses.shape == (4, length)
            optimizer.zero_grad()
            output.loss.backward()
            optimizer.step()
            losses.append(output.loss.item())
            mems = output.mems
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])


# -- reading -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(texts: Path, tmp_path: Path) -> tuple[TransfoXLCorpus, Path]:
    corpus = TransfoXLCorpus(special=["<eos>"])
    corpus.build_corpus(texts, "wt2")
    corpus.vocab.save_pretrained(tmp_path / "saved")
    return corpus, tmp_path / "saved"


@pytest.mark.parametrize("form", ["arrays", "old arrays", "tensors", "old tensors", "lists"])
def test_a_corpus_of_2019_is_read(saved: tuple[TransfoXLCorpus, Path], form: str) -> None:
    corpus, folder = saved
    convert: Any = {"arrays": torch.Tensor.numpy, "tensors": torch.clone, "lists": torch.Tensor.tolist}[form.split()[-1]]
    data = {"dataset": "wt2", **{split: convert(getattr(corpus, split)) for split in ("train", "valid", "test")}}
    torch.save(data, folder / "corpus.bin", _use_new_zipfile_serialization=not form.startswith("old"))
    read = TransfoXLCorpus.from_pretrained(folder)
    assert read.dataset == "wt2" and read.vocab.idx2sym == corpus.vocab.idx2sym
    for split in ("train", "valid", "test"):
        assert torch.equal(getattr(read, split), getattr(corpus, split))
    assert assert_same_batches(read.get_iterator("valid", 2, 5), corpus.get_iterator("valid", 2, 5)) > 3


def test_sentences_and_paths_are_read_as_they_are(saved: tuple[TransfoXLCorpus, Path]) -> None:
    _, folder = saved
    (folder / "b").write_text("the cat\n")
    rows = [sentence % 5 for sentence in sentences(3, 4)]
    torch.save({"dataset": "lm1b", "train": ["a", str(folder / "b")], "valid": rows, "test": None}, folder / "corpus.bin")
    read = TransfoXLCorpus.from_pretrained(folder)
    assert read.train == [str(folder / "a"), str(folder / "b")] and read.test is None
    assert all(torch.equal(one, other) for one, other in zip(read.valid, rows, strict=True))


@pytest.mark.parametrize(
    "train", ["/etc/passwd", "../words", "link", "folder", "fifo", "folder/../../words", "\0", "/dev/null", 5]
)
def test_a_corpus_chooses_no_files_outside_its_folder(saved: tuple[TransfoXLCorpus, Path], train: Any) -> None:
    _, folder = saved
    (folder.parent / "words").write_text("the cat\n")
    (folder / "link").symlink_to(folder.parent / "words")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo")
    torch.save({"dataset": "lm1b", "train": [train], "valid": None, "test": None}, folder / "corpus.bin")
    with pytest.raises(CheckpointError, match=r"path 0 of split 'train' of corpus .*corpus.bin"):
        TransfoXLCorpus.from_pretrained(folder)


def test_a_path_is_checked_when_it_is_read(saved: tuple[TransfoXLCorpus, Path]) -> None:
    _, folder = saved
    (folder.parent / "words").write_text("the cat\n")
    torch.save({"dataset": "lm1b", "train": ["later"], "valid": None, "test": None}, folder / "corpus.bin")
    read = TransfoXLCorpus.from_pretrained(folder)
    with pytest.raises(CheckpointError, match="path 0 of split 'train'"):
        read.get_iterator("train", 2, 5)
    (folder / "later").symlink_to(folder.parent / "words")
    with pytest.raises(CheckpointError, match="path 0 of split 'train'"):
        read.get_iterator("train", 2, 5)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ({"train": [0, 999]}, r"ids in split 'train' .* in 0\.\.\d+, .*but are in 0\.\.999"),
        ({"valid": torch.tensor([-1, 1])}, r"but are in -1\.\.1"),
        ({"valid": np.array([1 << 63], dtype=np.uint64)}, r"in 9223372036854775808"),
        ({"valid": [1 << 70]}, "ids in split 'valid'"),
        ({"train": torch.zeros(2, 3, dtype=torch.int64)}, "has 2 dimensions"),
        ({"train": torch.tensor(3)}, "has 0 dimensions"),
        ({"train": torch.zeros(3)}, "row of ids, but is a Tensor"),
        ({"train": torch.zeros(3, dtype=torch.bool)}, "row of ids, but is a Tensor"),
        ({"train": np.zeros(3)}, "row of ids, but is a PlainArray"),
        ({"train": "text"}, "row of ids, but is a str"),
        ({"train": [0, "a"]}, "row of ids, but is a list"),
        ({"train": [[0], [1]]}, "row of ids, but is a list"),
        ({"train": [0], "dataset": 5}, "dataset .* a name, but is a int"),
        ({"train": [], "valid": [torch.tensor([0]), 5], "dataset": "lm1b"}, "sentence 1 of split 'valid'"),
        ({"train": torch.tensor([0]), "dataset": "lm1b"}, "split 'train' .* a list"),
    ],
)
def test_a_damaged_split_is_named(saved: tuple[TransfoXLCorpus, Path], data: dict[str, Any], what: str) -> None:
    _, folder = saved
    torch.save({"dataset": "wt2", **data}, folder / "corpus.bin")
    with pytest.raises(CheckpointError, match=what):
        TransfoXLCorpus.from_pretrained(folder)


class _Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_hostile_corpus_runs_nothing(saved: tuple[TransfoXLCorpus, Path], tmp_path: Path, legacy: bool) -> None:
    _, folder = saved
    data = {"train": torch.arange(3), "valid": np.arange(3), "test": _Hostile(tmp_path / "marker")}
    torch.save(data, folder / "corpus.bin", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UnsafeCheckpoint, match="nothing was run"):
        TransfoXLCorpus.from_pretrained(folder)
    assert not (tmp_path / "marker").exists()


def test_what_is_no_corpus_is_an_error(saved: tuple[TransfoXLCorpus, Path]) -> None:
    _, folder = saved
    with pytest.raises(DownloadError, match=r"corpus\.bin"):
        TransfoXLCorpus.from_pretrained(folder)
    for content in (pickle.dumps([1, 2], 2), pickle.dumps({"train": {}}, 2), b"text"):
        (folder / "corpus.bin").write_bytes(content)
        with pytest.raises(CheckpointError):
            TransfoXLCorpus.from_pretrained(folder)
