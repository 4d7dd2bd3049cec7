"""`registry validate`: what it finds, where, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import registry
from registry.errors import RegistryError
from tests.catalog.test_mistakes import FILE_MISTAKES, MISTAKES, SOUND
from tests.cli.conftest import Run
from tests.families.conftest import Install


def test_catalogs_without_mistakes_end_with_0(run: Run) -> None:
    done = run("validate")
    assert (done.code, done.out, done.err) == (0, "4 files: no mistakes\n", "")
    Path("models.yaml").write_text(SOUND)
    assert run("validate").out == "5 files: no mistakes\n"
    assert run("validate", "models.yaml").out == "1 file: no mistakes\n"
    assert json.loads(run("validate", "--json", ".").out) == {
        "files": [str(Path("models.yaml").absolute())],
        "mistakes": [],
        "remarks": [],
    }


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_shown_with_its_place_and_ends_with_1(mistake: str, run: Run) -> None:
    text, line, column, words = MISTAKES[mistake]
    path = Path("models.yaml").absolute()
    path.write_text(f"{SOUND}{text}\n")
    whole, alone = run("validate"), run("validate", "models.yaml", "--json")
    assert whole.code == alone.code == 1
    shown = [row for row in whole.out.splitlines() if row.startswith(f"{path}:{line}:{column}: error: ")]
    assert shown and all(word in shown[0] for word in words)
    found = json.loads(alone.out)["mistakes"]
    assert {"file": str(path), "line": line, "column": column} in [
        {key: value for key, value in row.items() if key != "message"} for row in found
    ]
    assert len(found) == len(whole.out.splitlines())


def test_all_mistakes_of_a_file_are_shown_at_once_in_order(run: Run) -> None:
    entries = [text.replace("  m:", f"  m{number}:") for number, (text, *_) in enumerate(MISTAKES.values()) if "\n" not in text]
    Path("models.yaml").write_text(SOUND + "\n".join(entries) + "\nhosts: {h: {token_env: T}}\nmore: 1\n")
    done = run("validate", "models.yaml")
    lines = [int(row.split(":")[1]) for row in done.out.splitlines()]
    assert done.code == 1 and lines == sorted(lines)
    assert set(lines) == {*range(7, 7 + len(entries) + 2)}
    assert done.err == f"{len(lines)} mistakes in 1 file\n"


@pytest.mark.parametrize("mistake", FILE_MISTAKES)
def test_a_mistake_outside_the_entries_is_shown_too(mistake: str, run: Run) -> None:
    import re

    pattern, text, line, column, words = FILE_MISTAKES[mistake]
    Path("models.yaml").write_text(re.sub(pattern, text, SOUND, count=1))
    done = run("validate", "models.yaml")
    assert done.code == 1
    assert f"models.yaml:{line}:{column}: error: " in done.out and all(word in done.out for word in words)


def test_a_file_that_is_no_layer_is_read_above_the_others(run: Run, tmp_path: Path) -> None:
    Path("models.yaml").write_text(SOUND)
    (named := tmp_path / "named.yaml").write_text(
        "registry: 1\nmodels:\n  mine: {base: good}\n  gpt2: {base: gpt2, head: lm}\n  bad: {alias: mien}\n"
        "hosts: {h: {token_env: T}}\n"
    )
    done = run("validate", named)
    assert done.code == 1
    (only,) = done.out.splitlines()
    assert only.startswith(f"{named}:5:9: error: alias of model 'bad'") and "did you mean 'mine'?" in only


def test_a_mistake_that_a_higher_layer_hides_is_shown(run: Run) -> None:
    (user := Path.home() / ".config/registry/models.yaml").parent.mkdir(parents=True)
    user.write_text("registry: 1\nmodels:\n  m: {famly: bert}\n")
    Path("models.yaml").write_text("registry: 1\nmodels:\n  m: {family: bert, source: ./x, override: true}\n")
    assert run("validate", "models.yaml").code == 0
    done = run("validate")
    assert done.code == 1 and f"{user}:3:7: error: " in done.out


def test_what_may_be_meant_is_a_warning(run: Run, tmp_path: Path) -> None:
    Path("models.yaml").write_text("registry: 1\nmodels:\n  m: {family: brt, source: ./x}\n  n: {base: m}\n")
    done = run("validate", "models.yaml")
    assert done.code == 0
    assert "models.yaml:3:7: warning: family of model 'm' is expected to be installed, but 'brt' is not; did you" in done.out
    Path("models.yaml").write_text("models:\n  m: {family: bert, source: ./x}\n")
    assert "models.yaml:1:1: warning: the file is expected to say `registry: 1`" in run("validate").out
    done = run("validate", "models.yaml")  # who names a file means it
    assert done.code == 1 and ":1:1: error: the file is expected to say `registry: 1`" in done.out


def test_a_replacement_that_no_catalog_has_is_a_mistake(run: Run) -> None:
    Path("models.yaml").write_text(f"{SOUND}  m: {{base: good, deprecated: {{since: 2026-05, use: goood}}}}\n")
    done = run("validate")
    assert done.code == 1 and ":7:48: error: use of deprecated of model 'm'" in done.out


def test_a_file_that_is_not_there_is_wrong_usage(run: Run) -> None:
    assert run("validate", "no.yaml").code == 2


#: Field, its value, and what is said of it at the place of the field.
REFUSED = {
    "an unknown head": ("head", "clasification", "head of family 'bert' is expected to be one of base, masked-lm, "),
    "text for a number": ("config.num_labels", "three", "num_labels of BertConfig is expected to be int, but is 'three'"),
    "a number below all": ("config.num_labels", "0", "num_labels of BertConfig is expected to be between 1 and 1,000,000"),
    "an unknown field": (
        "config.nun_labels",
        "3",
        "'nun_labels' is expected to be a field of BertConfig, but is not; did you mean",
    ),
    "an unknown activation": ("config.hidden_act", "geluu", "hidden_act of BertConfig is expected to be one of gelu, "),
    "an impossible probability": ("config.hidden_dropout_prob", "2", "is expected to be between 0 and 1, but is 2"),
    "a negative size": ("config.hidden_size", "-8", "hidden_size of BertConfig is expected to be "),
    "a word for an answer": (
        "tokenizer.do_lower_case",
        "'nein'",
        "do_lower_case of BertTokenizer is expected to be bool, but is",
    ),
    "a word for a list": (
        "tokenizer.never_split",
        "abc",
        "never_split of BertTokenizer is expected to be list or None, but is",
    ),
    "a list of other things": (
        "tokenizer.additional_special_tokens",
        "[a, 1]",
        "is expected to be list of str, but is ['a', 1]",
    ),
    "an unknown argument": ("tokenizer.do_lowercase", "true", "of BertTokenizer, but is not; did you mean 'do_lower_case'?"),
    "a file": ("tokenizer.vocab_file", "x", "'vocab_file' is expected to be an argument of BertTokenizer, but is not"),
    "a third side": ("tokenizer.padding_side", "up", "padding_side of BertTokenizer is expected to be 'left' or 'right'"),
    "no text for a token": (
        "tokenizer.unk_token",
        "5",
        "unk_token of BertTokenizer is expected to be str",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("inherited", [False, True])
def test_what_load_refuses_is_a_mistake_of_its_field(inherited: bool, what: str, run: Run, tiny_bert: Path) -> None:
    field, value, says = REFUSED[what]
    group, _, key = field.partition(".")
    text = f"registry: 1\nmodels:\n  m:\n    family: bert\n    source: {tiny_bert}\n"
    text += f"    {group}:\n      {key}: {value}\n" if key else f"    {group}: {value}\n"
    Path("models.yaml").write_text(text + ("  n: {base: m, description: inherits}\n  o: {alias: n}\n" if inherited else ""))
    done = run("validate", "models.yaml")
    line, column = (7, 7) if key else (6, 5)
    assert done.code == 1 and done.err == "1 mistake in 1 file\n"
    assert done.out.startswith(f"{Path('models.yaml').absolute()}:{line}:{column}: error: ") and says in done.out
    if what == "a list of other things":  # which `load_tokenizer` passes over
        return
    with pytest.raises(RegistryError) as caught:
        registry.load_tokenizer("m") if group == "tokenizer" else registry.load("m")
    if what not in (
        "a list of other things",
        "no text for a token",
        "a third side",
        "an unknown argument",
        "a word for a list",
    ):
        assert says in str(caught.value)


def test_what_only_the_models_file_can_decide_is_no_mistake(run: Run) -> None:
    Path("models.yaml").write_text(
        "registry: 1\nmodels:\n"
        "  a: {family: bert, source: ./m, head: sequence-classification, config: {num_labels: 3, hidden_size: 100,"
        " num_attention_heads: 10, id2label: {0: x, 1: y, 2: z}}, tokenizer: {do_lower_case: false, never_split: [a],"
        " pad_token: '[P]', max_len: 9, additional_special_tokens: ['<a>']}}\n"
        "  b: {family: gpt2, source: ./m, config: {n_embd: 10, layer_norm_epsilon: 1}, tokenizer: {errors: strict}}\n"
        "  c: {family: transfo-xl, source: ./m, config: {cutoffs: [1, 2]}, tokenizer: {lower_case: null, special: ['<a>']}}\n"
        "  d: {family: elsewhere, source: ./m, head: any, config: {some: thing}, tokenizer: {more: 1}}\n"
    )
    done = run("validate", "models.yaml")
    assert done.code == 0 and [row.split(": ")[1] for row in done.out.splitlines()[:-1]] == ["warning"]


def test_an_entry_of_a_plugin_that_fails_is_a_warning(run: Run, install: Install) -> None:
    install("acme", {"acme": "acme_family.plugin"}, {"acme_family/__init__.py": "", "acme_family/plugin.py": "1 / 0"})
    Path("models.yaml").write_text("registry: 1\nmodels:\n  m: {family: acme, source: ./m, head: base}\n")
    done = run("validate", "models.yaml")
    assert done.code == 0
    assert ":3:7: warning: model 'm' cannot be checked, because its family fails: plugin 'acme_family.plugin'" in done.out
