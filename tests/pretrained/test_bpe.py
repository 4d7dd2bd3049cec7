from __future__ import annotations

import json
from pathlib import Path

import pytest

from registry.errors import ConfigError
from registry_gpt import OpenAIGPTTokenizer
from registry_gpt2 import GPT2Tokenizer

TOKENS = ["l", "o", "w", "e", "r", "#", "lo", "low", "er", "##", "<unk>"]
MERGES = ["l o", "lo w", "e r", "# #"]


def files(folder: Path, merges: str, vocabulary: str = "vocab.json") -> tuple[Path, Path]:
    folder.mkdir(exist_ok=True)
    (folder / vocabulary).write_text(json.dumps({token: number for number, token in enumerate(TOKENS)}))
    (folder / "merges.txt").write_bytes(merges.encode())
    return folder / vocabulary, folder / "merges.txt"


@pytest.mark.parametrize(
    "text",
    [
        "#version: 0.2\n" + "\n".join(MERGES) + "\n",
        "#version: 0.2\n" + "\n".join(MERGES),
        "\n".join(MERGES) + "\n",
        "\n".join(MERGES),
        "#version: 0.2\r\n" + "\r\n".join(MERGES) + "\r\n",
        "\n".join([MERGES[3], *MERGES[:3]]),  # a first merge that begins like a header is none
    ],
    ids=["usual", "no final newline", "no header", "neither", "windows", "hashes first"],
)
def test_no_merge_is_lost(text: str, tmp_path: Path) -> None:
    tokenizer = GPT2Tokenizer(*files(tmp_path, text))
    assert tokenizer.tokenize("lower##") == ["low", "er", "##"]


def test_vocabulary_saved_to_a_file_is_found_again_from_that_file(tmp_path: Path) -> None:
    tokenizer = GPT2Tokenizer(*files(tmp_path / "source", "\n".join(MERGES)))
    saved = tokenizer.save_vocabulary(tmp_path / "my_vocabulary")
    assert saved == (str(tmp_path / "my_vocabulary"), str(tmp_path / "my_vocabulary.merges.txt"))
    assert GPT2Tokenizer(tmp_path / "my_vocabulary").tokenize("lower") == ["low", "er"]
    saved = tokenizer.save_vocabulary(tmp_path / "vocab.json")
    assert saved == (str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    assert GPT2Tokenizer(tmp_path / "vocab.json").tokenize("lower") == ["low", "er"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "merges.txt",
        "my_vocabulary",
        "my_vocabulary.merges.txt",
        "vocab.json",
    ]


def test_merges_of_the_same_folder_serve_a_vocabulary_of_any_name(tmp_path: Path) -> None:
    vocabulary, _ = files(tmp_path, "\n".join(MERGES), "encoder.json")
    assert GPT2Tokenizer(vocabulary).tokenize("lower") == ["low", "er"]


def test_missing_file_is_named(tmp_path: Path) -> None:
    vocabulary, merges = files(tmp_path, "", "encoder.json")
    merges.unlink()
    with pytest.raises(ConfigError, match=r"encoder\.json\.merges\.txt or .*merges\.txt, but there is no such file"):
        OpenAIGPTTokenizer(vocabulary)
    with pytest.raises(ConfigError, match=r"absent\.json' is expected to be a file"):
        OpenAIGPTTokenizer(tmp_path / "absent.json", vocabulary)
    with pytest.raises(ConfigError, match=r"merges .*absent.* readable"):
        OpenAIGPTTokenizer(vocabulary, tmp_path / "absent.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("l o\nl o w\n", "line 2 of merges .* two tokens, but is 'l o w'"),
        ("l o\n\nlo w\n", "line 2 of merges .* two tokens, but is ''"),
        ("l x\n", "belong to vocabulary .* do not: .*x"),
        ("w e\n", "belong to vocabulary"),
    ],
)
def test_merges_that_are_none_are_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        GPT2Tokenizer(*files(tmp_path, text))


def test_vocabulary_that_is_none_is_named(tmp_path: Path) -> None:
    _, merges = files(tmp_path, "l o")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ConfigError, match="map tokens to ids"):
        GPT2Tokenizer(tmp_path / "config.json", merges)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "WordPiece", "vocab": {}}}')
    with pytest.raises(ConfigError, match="hold a BPE vocabulary"):
        GPT2Tokenizer(tmp_path / "tokenizer.json", tmp_path / "tokenizer.json")
    with pytest.raises(ConfigError, match="UTF-8"):
        (tmp_path / "merges.bin").write_bytes(b"\xff\xfe")
        GPT2Tokenizer(tmp_path / "vocab.json", tmp_path / "merges.bin")


def test_gaps_and_order_of_ids_survive_saving(tmp_path: Path) -> None:
    vocabulary = {"w": 7, "lo": 3, "o": 0, "l": 5, "low": 20}
    (tmp_path / "v.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("l o\nlo w\n")
    tokenizer = GPT2Tokenizer(tmp_path / "v.json")
    tokenizer.save_vocabulary(tmp_path / "again.json")
    saved = json.loads((tmp_path / "again.json").read_text())
    assert saved == vocabulary and list(saved.values()) == sorted(vocabulary.values())
    assert (tmp_path / "again.json.merges.txt").read_text() == "#version: 0.2\nl o\nlo w\n"


def test_a_long_merge_is_not_shown_whole(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected to belong to vocabulary") as caught:
        GPT2Tokenizer(*files(tmp_path, f"l {'o' * 50_000}\n"))
    assert len(str(caught.value)) < 1_000
