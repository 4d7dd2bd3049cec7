"""Every class computes what transformers' class of the same name does, and folders go both ways."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import registry_roberta as ours
import torch
import transformers

import registry

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 16,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "initializer_range": 0.2,
}
CLASSES = [
    "RobertaModel",
    "RobertaForMaskedLM",
    "RobertaForSequenceClassification",
    "RobertaForTokenClassification",
    "RobertaForQuestionAnswering",
]
OUTPUTS = ("last_hidden_state", "pooler_output", "logits", "start_logits", "end_logits")
every_class = pytest.mark.parametrize("name", CLASSES)


def build(library: Any, name: str, **changes: Any) -> Any:
    labels = 2 if name.endswith("QuestionAnswering") else 3
    torch.manual_seed(3)
    model = getattr(library, name)(library.RobertaConfig(**SIZES, num_labels=labels, **changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def batch() -> dict[str, torch.Tensor]:
    """Two texts, the second padded with token 1 in the middle of a batch."""
    ids = torch.randint(4, 60, (2, 9), generator=torch.Generator().manual_seed(1))
    ids[1, 5:] = 1
    return {"input_ids": ids, "attention_mask": (ids != 1).long()}


def assert_same(one: Any, other: Any, keep: torch.Tensor | None = None) -> None:
    compared = 0
    for name in OUTPUTS:
        mine, theirs = getattr(one, name, None), getattr(other, name, None)
        assert (mine is None) == (theirs is None), name
        if mine is not None:
            torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=0)
            compared += 1
    assert compared


@every_class
@pytest.mark.parametrize("tied", [True, False])
def test_a_folder_of_transformers_loads_with_every_weight(name: str, tied: bool, tmp_path: Path) -> None:
    theirs = build(transformers, name, tie_word_embeddings=tied)
    theirs.save_pretrained(tmp_path)
    loaded = registry.load(tmp_path, strict=True)
    assert type(loaded) is getattr(ours, name)
    assert loaded.load_report is not None and loaded.load_report.clean
    with torch.no_grad():
        assert_same(loaded(**batch()), theirs(**batch()))


@every_class
@pytest.mark.parametrize("tied", [True, False])
def test_a_folder_of_ours_loads_in_transformers_with_every_weight(name: str, tied: bool, tmp_path: Path) -> None:
    model = build(ours, name, tie_word_embeddings=tied)
    model.save_pretrained(tmp_path)
    theirs, info = getattr(transformers, name).from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    with torch.no_grad():
        assert_same(model(**batch()), theirs.eval()(**batch()))


def test_embeddings_in_place_of_ids_have_positions_without_padding(tmp_path: Path) -> None:
    theirs = build(transformers, "RobertaModel")
    theirs.save_pretrained(tmp_path)
    model = registry.load(tmp_path)
    embedded = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert_same(model(inputs_embeds=embedded), theirs(inputs_embeds=embedded))


def test_the_longest_sequence_leaves_out_the_rows_before_the_first_position() -> None:
    model = build(ours, "RobertaModel")
    ids = torch.full((1, 14), 5)
    assert model(ids).last_hidden_state.shape == (1, 14, 32)
    with pytest.raises(ValueError, match="at most 14 tokens, but has 15"):
        model(torch.full((1, 15), 5))


def test_losses_are_those_of_transformers(tmp_path: Path) -> None:
    for name, labels in (
        ("RobertaForMaskedLM", {"labels": batch()["input_ids"]}),
        ("RobertaForSequenceClassification", {"labels": torch.tensor([2, 0])}),
        ("RobertaForQuestionAnswering", {"start_positions": torch.tensor([1, 2]), "end_positions": torch.tensor([4, 3])}),
    ):
        theirs = build(transformers, name)
        theirs.save_pretrained(tmp_path / name)
        model = registry.load(tmp_path / name)
        torch.testing.assert_close(model(**batch(), **labels).loss, theirs(**batch(), **labels).loss, atol=2e-5, rtol=0)


# -- the tokenizer ---------------------------------------------------------------------------------------------------------


TEXTS = [
    "Hello, world! It's  here.\n\tAnd\r\nthere ",
    " a leading space",
    "naïve café — “quotes” 日本語 😀 \x00",
    "a <mask> b<mask>c <s>no</s><pad>",
    "",
    "def f(x): return x**2  # square",
]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vocabulary trained on the sources of Python's own library, with RoBERTa's tokens at RoBERTa's places."""
    import sysconfig

    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    folder = tmp_path_factory.mktemp("roberta")
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:40]
    engine = Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=1200,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    engine.train_from_iterator((file.read_text(encoding="utf-8", errors="ignore") for file in files), trainer)
    model = json.loads(engine.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{' '.join(pair)}\n" for pair in model["merges"]))
    return folder


def theirs_of(folder: Path, **options: Any) -> Any:
    from tokenizers import AddedToken

    vocab = json.loads((folder / "vocab.json").read_text())
    merges = [tuple(line.split(" ")) for line in (folder / "merges.txt").read_text().splitlines()[1:]]
    mask = AddedToken("<mask>", lstrip=True, normalized=False, special=True)
    return transformers.RobertaTokenizer(vocab=vocab, merges=merges, mask_token=mask, **options)


@pytest.mark.parametrize("add_prefix_space", [False, True])
def test_ids_are_those_of_transformers(vocabulary: Path, add_prefix_space: bool) -> None:
    mine = registry.load_tokenizer(vocabulary, family="roberta", add_prefix_space=add_prefix_space)
    theirs = theirs_of(vocabulary, add_prefix_space=add_prefix_space)
    for text in TEXTS:
        assert mine.encode(text) == theirs.encode(text), text
        assert mine.encode(text, "a pair") == theirs.encode(text, "a pair"), text
        assert mine.decode(mine.encode(text)) == theirs.decode(theirs.encode(text), clean_up_tokenization_spaces=True), text
    lines = Path(json.__file__).read_text().splitlines()
    assert mine(lines)["input_ids"] == theirs(lines)["input_ids"]
    one, two = mine.encode("a b", add_special_tokens=False), mine.encode("c", add_special_tokens=False)
    assert mine.build_inputs_with_special_tokens(one, two) == theirs.encode("a b", "c")


def test_the_tokenizer_that_transformers_saved_is_read(vocabulary: Path, tmp_path: Path) -> None:
    theirs = theirs_of(vocabulary, model_max_length=14)
    theirs.save_pretrained(tmp_path)
    build(transformers, "RobertaModel").save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mine = registry.load_tokenizer(tmp_path)
    assert type(mine) is ours.RobertaTokenizer and mine.model_max_length == 14
    for text in TEXTS:
        assert mine.encode(text) == theirs.encode(text), text


def test_gpt2s_vocabulary_is_refused_with_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(registry.ConfigError, match="expected to hold '<s>'"):
        ours.RobertaTokenizer(tmp_path / "vocab.json")
