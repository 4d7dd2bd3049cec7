from __future__ import annotations

import pytest
import torch

from registry.pretrained.streaming import TextStreamer
from registry_gpt2 import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer
from tests.real_data import gpt2_merges, gpt2_vocabulary


@pytest.fixture(scope="module")
def tokenizer() -> GPT2Tokenizer:
    return GPT2Tokenizer(gpt2_vocabulary(), gpt2_merges())


def pieces(tokenizer: GPT2Tokenizer, ids: list[int]) -> list[str]:
    written: list[str] = []
    streamer = TextStreamer(tokenizer, written.append)
    for number in ids:
        streamer.put(torch.tensor([number]))
    streamer.end()
    return written


def test_words_come_one_by_one_and_the_end_of_a_text_is_not_shown(tokenizer: GPT2Tokenizer) -> None:
    assert pieces(tokenizer, tokenizer.encode("Once upon a time .<|endoftext|>")) == ["Once", " upon", " a", " time", " ."]


def test_character_of_several_tokens_comes_whole(tokenizer: GPT2Tokenizer) -> None:
    ids = tokenizer.encode("a😀b")
    assert len(ids) > 3
    assert pieces(tokenizer, ids) == ["a", "😀", "b"]


def test_broken_character_comes_at_the_end(tokenizer: GPT2Tokenizer) -> None:
    assert pieces(tokenizer, tokenizer.encode("a😀")[:-1]) == ["a", "\ufffd"]


def test_generated_text_is_what_decoding_the_result_gives(tokenizer: GPT2Tokenizer, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, n_positions=64, initializer_range=0.5)).eval()
    prompt = tokenizer("Once", return_tensors="pt")["input_ids"]
    output = model.generate(
        prompt, max_new_tokens=40, do_sample=True, seed=1, eos_token_id=[], streamer=TextStreamer(tokenizer)
    )
    expected = tokenizer.decode(output[0, prompt.shape[1] :], clean_up_tokenization_spaces=False)
    assert capsys.readouterr().out == expected


def test_several_rows_are_refused(tokenizer: GPT2Tokenizer) -> None:
    with pytest.raises(ValueError, match="of one row to be shown, but are of 2"):
        TextStreamer(tokenizer).put(torch.tensor([1, 2]))


def test_words_of_a_vocabulary_without_spaces_are_set_apart_from_the_prompt() -> None:
    from registry_transfo_xl import TransfoXLTokenizer

    words = TransfoXLTokenizer()
    words.count_sents([["once", "upon", "a", "time"]])
    words.build_vocab()
    written: list[str] = []
    streamer = TextStreamer(words, written.append, prompt=words.convert_tokens_to_ids(["once", "upon"]))
    for number in words.convert_tokens_to_ids(["a", "time"]):
        streamer.put(torch.tensor([number]))
    streamer.end()
    assert written == [" a", " time"]
