"""The command, run in this process as a shell would run it, and a small model for it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry.cli import main
from tests.families.conftest import install, site

__all__ = ["install", "site"]  # fixtures that are used here too


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


#: Runs `registry` with arguments.
Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the `registry` command and return its exit code and what it printed."""

    def run(*arguments: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["registry", *map(str, arguments)])
        capsys.readouterr()
        with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert isinstance(code, int) or code is None
        printed = capsys.readouterr()
        return Result(code or 0, printed.out, printed.err)

    return run


WORDS = """[PAD] [UNK] [CLS] [SEP] [MASK] . , ? a the is in of and by to on man eating food someone eats meal cheetah chases
its prey stock market fell today paris france capital where do cheetahs live are large cats they africa hunt day ##s ##ing"""


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small BERT of random weights, saved with its pretraining heads and its tokenizer."""
    import torch

    from registry_bert.config import BertConfig
    from registry_bert.modeling import BertForPreTraining
    from registry_bert.tokenization import BertTokenizer

    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    (words := folder.parent / "vocab.txt").write_text("\n".join(WORDS.split()) + "\n")
    config = BertConfig(
        vocab_size=len(WORDS.split()),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    BertForPreTraining(config).save_pretrained(folder)
    BertTokenizer(words).save_pretrained(folder)
    return folder
