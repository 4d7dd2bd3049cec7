"""`registry try`: each head does what it is for."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

import registry
import registry_gpt2
from tests.cli.conftest import Run
from tests.real_data import gpt2_merges, gpt2_vocabulary

HEADS = {
    "base": "BertModel",
    "pretraining": "BertForPreTraining",
    "masked-lm": "BertForMaskedLM",
    "next-sentence": "BertForNextSentencePrediction",
    "sequence-classification": "BertForSequenceClassification",
    "multiple-choice": "BertForMultipleChoice",
    "token-classification": "BertForTokenClassification",
    "question-answering": "BertForQuestionAnswering",
}


@pytest.mark.parametrize("head", HEADS)
def test_every_head_runs_on_its_example(head: str, run: Run, tiny_bert: Path) -> None:
    done = run("try", tiny_bert, "--head", head)
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) >= 2
    assert done.out.splitlines()[-1].startswith("loaded in ")
    data = json.loads(run("try", tiny_bert, "--head", head, "--json").out)
    assert (data["model"], data["class"]) == (str(tiny_bert), HEADS[head])
    assert set(data["seconds"]) == {"load", "run"}


def trial(run: Run, *arguments: str | Path) -> dict[str, object]:
    done = run("try", *arguments, "--json")
    assert done.code == 0, done.err
    data: dict[str, object] = json.loads(done.out)
    return data


def test_sentences_are_compared_by_the_cosine_of_their_means(run: Run, tiny_bert: Path) -> None:
    texts = ["A man is eating food.", "Someone eats.", "A man is eating food."]
    found = trial(run, tiny_bert, "--head", "base", *texts)
    assert found["texts"] == texts
    model, tokenizer = registry.load(tiny_bert, head="base"), registry.load_tokenizer(tiny_bert)
    means = []
    for text in texts:  # one at a time, so that padding cannot matter
        ids = torch.tensor([tokenizer.encode(text)])
        means.append(model(ids).last_hidden_state[0].mean(0))
    expected = [[torch.cosine_similarity(a, b, dim=0).item() for b in means] for a in means]
    torch.testing.assert_close(torch.tensor(found["similarity"]), torch.tensor(expected), atol=1e-5, rtol=0)
    assert expected[0][2] == pytest.approx(1, abs=1e-6)


def test_masks_are_filled_in_with_the_likeliest_words(run: Run, tiny_bert: Path) -> None:
    found = trial(run, tiny_bert, "--head", "masked-lm", "the [MASK] of france , the [MASK] .")["fill-in"]
    model, tokenizer = registry.load(tiny_bert, head="masked-lm"), registry.load_tokenizer(tiny_bert)
    ids = tokenizer.encode("the [MASK] of france , the [MASK] .")
    scores = model(torch.tensor([ids])).logits[0].softmax(-1)
    assert isinstance(found, list) and [item["place"] for item in found] == [2, 7]
    for item in found:
        assert ids[item["place"]] == tokenizer.mask_token_id
        best = scores[item["place"]].argsort(descending=True)[:5]
        assert [one["token"] for one in item["tokens"]] == tokenizer.convert_ids_to_tokens(best.tolist())
        assert [one["score"] for one in item["tokens"]] == pytest.approx(scores[item["place"]][best].tolist(), abs=1e-6)


def test_an_answer_is_a_piece_of_the_text(run: Run, tiny_bert: Path) -> None:
    text = "Cheetahs are large cats. They live in Africa, and hunt by day."
    found = trial(run, tiny_bert, "--head", "question-answering", "Where do cheetahs live?", text)
    assert found["question"] == "Where do cheetahs live?"
    assert found["answer"] and str(found["answer"]) in text
    assert 0 < float(str(found["score"])) <= 1


def test_a_long_text_for_an_answer_is_cut_to_what_the_model_reads(run: Run, tiny_bert: Path) -> None:
    found = trial(run, tiny_bert, "--head", "question-answering", "Where?", "They live in Africa. " * 200)
    assert found["answer"]


@pytest.mark.parametrize("head", ["base", "sequence-classification", "token-classification"])
def test_a_long_text_is_cut_to_what_the_model_reads(head: str, run: Run, tiny_bert: Path) -> None:
    trial(run, tiny_bert, "--head", head, "They live in Africa. " * 200)


def test_labels_are_those_of_the_configuration(run: Run, tiny_bert: Path) -> None:
    Path("models.yaml").write_text(
        "registry: 1\nmodels:\n  tiny:\n    family: bert\n    head: sequence-classification\n"
        f"    source: {tiny_bert}\n    config: {{num_labels: 3, id2label: {{0: bad, 1: fair, 2: good}}}}\n"
    )
    found = trial(run, "tiny", "A meal.", "The market fell.")["labels"]
    assert isinstance(found, list) and [item["text"] for item in found] == ["A meal.", "The market fell."]
    for item in found:
        assert list(item["labels"]) == ["bad", "fair", "good"]
        assert sum(item["labels"].values()) == pytest.approx(1, abs=1e-5)
    words = trial(run, "tiny", "--head", "token-classification", "A meal.")["tokens"]
    assert isinstance(words, list)
    assert [item["token"] for item in words[0]["tokens"]] == ["[CLS]", "a", "meal", ".", "[SEP]"]
    assert {item["label"] for item in words[0]["tokens"]} <= {"bad", "fair", "good"}


def test_two_texts_follow_each_other_with_a_probability(run: Run, tiny_bert: Path) -> None:
    texts = ["A man is eating.", "The market fell."]
    found = trial(run, tiny_bert, "--head", "next-sentence", *texts)
    model, tokenizer = registry.load(tiny_bert, head="next-sentence"), registry.load_tokenizer(tiny_bert)
    encoded = tokenizer(*texts, return_tensors="pt")
    # Class 0 of the head is "follows" (arXiv:1810.04805, IsNext).
    assert found["follows"] == pytest.approx(model(**encoded).logits.softmax(-1)[0, 0].item(), abs=1e-6)


def test_choices_share_one_probability(run: Run, tiny_bert: Path) -> None:
    found = trial(run, tiny_bert, "--head", "multiple-choice", "Someone eats", "a meal.", "the market.", "Paris.")
    choices = found["choices"]
    assert isinstance(choices, list) and [item["choice"] for item in choices] == ["a meal.", "the market.", "Paris."]
    assert math.fsum(item["score"] for item in choices) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("head", "texts", "words"),
    [
        ("masked-lm", ["no mask here"], ["[MASK]", "'no mask here'"]),
        ("question-answering", ["only a question?"], ["a question and a text", "1"]),
        ("question-answering", ["a", "b", "c"], ["a question and a text", "3"]),
        ("question-answering", ["a question?", " "], ["text", "' '"]),
        ("question-answering", ["where? " * 100, "in africa"], ["question", "too long"]),
        ("next-sentence", ["one"], ["two texts", "1"]),
        ("multiple-choice", ["a text", "one choice"], ["at least two choices", "2"]),
    ],
)
def test_what_a_head_cannot_use_is_said(head: str, texts: list[str], words: list[str], run: Run, tiny_bert: Path) -> None:
    done = run("try", tiny_bert, "--head", head, *texts)
    assert (done.code, done.out) == (1, "")
    error = done.err.splitlines()[-1]
    assert error.startswith("error: [R601] ")
    for word in words:
        assert word in error


def test_a_head_that_is_none_ends_with_1(run: Run, tiny_bert: Path) -> None:
    done = run("try", tiny_bert, "--head", "masked")
    assert (done.code, done.out) == (1, "")
    assert "error: [R103] head of family 'bert'" in done.err and "masked-lm" in done.err


def test_a_folder_is_tried_with_the_head_it_was_saved_with(run: Run, tiny_bert: Path) -> None:
    assert trial(run, tiny_bert)["class"] == "BertForPreTraining"


def test_a_names_head_comes_from_its_entry(run: Run, tiny_bert: Path) -> None:
    Path("models.yaml").write_text(f"registry: 1\nmodels:\n  m: {{family: bert, source: {tiny_bert}, head: next-sentence}}\n")
    assert trial(run, "m")["class"] == "BertForNextSentencePrediction"


def test_a_new_head_is_announced_by_name(run: Run, tiny_bert: Path, caplog: pytest.LogCaptureFixture) -> None:
    run("try", tiny_bert, "--head", "sequence-classification")
    assert "classifier.weight" in caplog.text


@pytest.fixture
def tiny_gpt2(tmp_path: Path) -> Path:
    """Save GPT-2 with its real vocabulary and small random weights."""
    torch.manual_seed(0)
    folder = tmp_path / "gpt2"
    config = registry_gpt2.GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=64)
    registry_gpt2.GPT2DoubleHeadsModel(config).eval().save_pretrained(folder)
    registry_gpt2.GPT2Tokenizer(gpt2_vocabulary(), gpt2_merges()).save_pretrained(folder)
    return folder


def test_text_is_continued_piece_by_piece_and_alike_each_time(run: Run, tiny_gpt2: Path) -> None:
    found = trial(run, tiny_gpt2, "--head", "lm", "Once upon", "The end")["generated"]
    assert isinstance(found, list) and [item["text"] for item in found] == ["Once upon", "The end"]
    streamed = run("try", tiny_gpt2, "--head", "lm", "Once upon", "The end")
    assert streamed.code == 0, streamed.err
    for item in found:
        assert f"{item['text']}{item['continuation']}\n" in streamed.out
    model, tokenizer = registry.load(tiny_gpt2, head="lm"), registry.load_tokenizer(tiny_gpt2)
    ids = tokenizer("Once upon", return_tensors="pt")["input_ids"]
    output = model.generate(ids, max_new_tokens=40, do_sample=True, top_k=50, top_p=0.95, seed=0)
    rest = tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert rest == found[0]["continuation"]


def test_a_text_that_fills_the_model_cannot_be_continued(run: Run, tiny_gpt2: Path) -> None:
    done = run("try", tiny_gpt2, "--head", "lm", "word " * 80)
    assert done.code == 1 and "less than 64, but has" in done.err


def test_a_continuation_is_chosen_without_regard_to_its_neighbours(run: Run, tiny_gpt2: Path) -> None:
    texts = ["He opened the door", "and went in.", "of the sea, which nobody had ever seen before."]
    found = trial(run, tiny_gpt2, "--head", "double-heads", *texts)["choices"]
    assert isinstance(found, list) and [item["choice"] for item in found] == texts[1:]
    model, tokenizer = registry.load(tiny_gpt2, head="double-heads"), registry.load_tokenizer(tiny_gpt2)
    alone = [model(torch.tensor([[tokenizer.encode(f"{texts[0]} {choice}")]])).mc_logits[0, 0] for choice in texts[1:]]
    expected = torch.stack(alone).softmax(-1).tolist()
    assert [item["score"] for item in found] == pytest.approx(expected, abs=1e-5)
    assert run("try", tiny_gpt2, "--head", "double-heads", "a", "b").code == 1
