"""A save that is killed at any point leaves the old set, the new set, or a folder that is refused: never a mixture."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import registry
from registry import CheckpointError
from registry.loading import assembly, weights_files
from registry.loading import fill as weights
from registry.store import store as at_once
from registry_bert import BertConfig, BertModel, BertTokenizer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")

#: Audit events (https://docs.python.org/3/library/audit_events.html) by which a folder changes.
EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.utime", "os.truncate"}
SHARDS = 1_000


def model(number: int) -> Any:
    """Return a model whose configuration and weights all tell its number; every one has the same shapes."""
    config = BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=8,
        layer_norm_eps=number / 1024,
    )
    made = BertModel(config)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.fill_(number)
    return made.eval()


def number_of(loaded: Any) -> int:
    """Return the number of a loaded model; a mixture has none."""
    numbers = {int(loaded.config.layer_norm_eps * 1024)}
    for value in loaded.state_dict().values():
        numbers.update(value.unique().tolist())
    assert len(numbers) == 1, f"a mixture of {numbers}"
    return int(numbers.pop())


def tokenizer(folder: Path, number: int) -> Any:
    """Return a tokenizer whose vocabulary and settings both tell its number."""
    vocabulary = folder / f"vocabulary-{number}.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", f"word{number}"]) + "\n")
    return BertTokenizer(str(vocabulary), model_max_length=number)


def number_of_tokenizer(loaded: Any) -> int:
    (word,) = (token for token in loaded.get_vocab() if token.startswith("word"))
    assert word == f"word{loaded.model_max_length}", "a mixture"
    return int(loaded.model_max_length)


def run_until(step: int, fault: Callable[[], None], save: Callable[[Path], Any], folder: Path) -> int:
    """Save in a process of its own, with a fault before its `step`-th operation in or beside a folder; return how it ended.

    That is the negative number of a signal, 0, or for an error of ours what `ENDS` says.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking where there are threads; none of them holds a lock
        child = os.fork()
    if child == 0:
        try:
            count = 0

            def count_one() -> None:
                nonlocal count
                count += 1
                if count == step:
                    fault()

            def hook(event: str, arguments: tuple[Any, ...]) -> None:
                if event in EVENTS and str(arguments[0]).startswith(str(folder.parent)):
                    count_one()

            def fsync(descriptor: int, sync: Callable[[int], None] = os.fsync) -> None:
                count_one()
                sync(descriptor)

            os.fsync = fsync
            sys.addaudithook(hook)
            save(folder)
            os._exit(0 if count < step else PASSED_OVER)
        except CheckpointError as error:
            os._exit(next(number for number, text in ENDS.items() if text in str(error)))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


ENDS = {10: "what was there is unchanged", 11: "a save into it was interrupted"}
PASSED_OVER = 12


def dies_before(step: int, save: Callable[[Path], Any], folder: Path) -> bool:
    """Save in a process that is killed before its `step`-th operation; return whether it was."""
    end = run_until(step, lambda: os.kill(os.getpid(), signal.SIGKILL), save, folder)
    assert end in (0, -signal.SIGKILL)
    return end != 0


def follow(advice: str) -> None:
    """Do what an error says, to the letter."""
    steps = advice[advice.index("finish it: ") :]
    move = re.search(r"move every file of '([^']+)' into the folder; remove '([^']+)'", steps)
    assert move, steps
    for path in re.findall(r"'([^']+)'", steps[: move.start()]):
        Path(path).unlink(missing_ok=True)
    for file in Path(move[1]).iterdir():
        file.replace(Path(move[1]).parent / file.name)
    Path(move[2]).rmdir()


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in (*folder.iterdir(), *folder.parent.iterdir()) if path.name.startswith(".")]


FORMS: dict[str, dict[str, Any]] = {
    "one file": {},
    "shards": {"max_shard_size": SHARDS},
    "fewer shards": {"max_shard_size": 2 * SHARDS},
    "bin": {"safe_serialization": False},
    "bin shards": {"safe_serialization": False, "max_shard_size": SHARDS},
}
CHANGES = [
    ("one file", "shards"),
    ("nothing", "one file"),
    *(
        pytest.param(*change, marks=pytest.mark.slow)
        for change in (
            ("one file", "one file"),
            ("shards", "one file"),
            ("fewer shards", "shards"),
            ("one file", "bin"),
            ("bin", "one file"),
            ("shards", "bin shards"),
            ("an empty folder", "one file"),
            ("nothing", "shards"),
            ("nothing", "bin"),
        )
    ),
]


@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_a_model_is_the_old_one_the_new_one_or_refused(before: str, after: str, tmp_path: Path) -> None:
    old, new = tmp_path / "old", model(2)
    if before in FORMS:
        model(1).save_pretrained(old, **FORMS[before])
        assert ("shards" in before) == bool(list(old.glob("*-of-*")))
    seen: list[str] = []
    step = 1
    while True:
        folder = tmp_path / f"at {step}" / "out"
        folder.parent.mkdir()
        if before in FORMS:
            shutil.copytree(old, folder)
        elif before != "nothing":
            folder.mkdir()
        killed = dies_before(step, partial(new.save_pretrained, **FORMS[after]), folder)
        try:
            outcome = str(number_of(registry.load(folder, family="bert")))
        except CheckpointError as error:
            outcome = "refused"
            copy = shutil.copytree(folder, folder.parent / "copy")
            follow(error.message.replace(str(folder), str(copy)))
            assert number_of(registry.load(copy)) == 2
            assert not [path.name for path in copy.iterdir() if path.name.startswith(".registry-save.ready")]
        except registry.DownloadError:  # no file at all in it
            assert before == "an empty folder" and not [path for path in folder.iterdir() if path.is_file()]
            outcome = "empty"
        except registry.UnknownModel:
            assert before == "nothing" and not folder.exists()
            outcome = "absent"
        if not seen or seen[-1] != outcome:
            seen.append(outcome)
        if not killed:
            break
        new.save_pretrained(folder, **FORMS[after])
        again = registry.load(folder, strict=True)
        assert number_of(again) == 2 and not leftovers(folder), "saving again works, and clears up"
        step += 1
    assert step > 8
    if before == "nothing":
        assert seen == ["absent", "2"]
    else:
        assert seen == ["1" if before in FORMS else "empty", "refused", "2"]
    assert not leftovers(folder)


def test_a_tokenizer_saved_into_a_models_folder_is_one_set_and_the_model_stays(tmp_path: Path) -> None:
    model(1).save_pretrained(tmp_path / "old")
    tokenizer(tmp_path, 1).save_pretrained(tmp_path / "old")
    (tmp_path / "old" / "tokenizer.json").write_text("of another library")
    new = tokenizer(tmp_path, 2)
    seen, step, killed = [], 1, True
    while killed:
        folder = tmp_path / f"at {step}" / "out"
        folder.parent.mkdir()
        shutil.copytree(tmp_path / "old", folder)
        killed = dies_before(step, new.save_pretrained, folder)
        try:
            outcome = number_of_tokenizer(registry.load_tokenizer(folder))
            assert number_of(registry.load(folder)) == 1
        except CheckpointError as error:
            outcome = 0
            follow(error.message)
            assert number_of_tokenizer(registry.load_tokenizer(folder)) == 2 and number_of(registry.load(folder)) == 1
        seen += [outcome] if outcome not in seen else []
        step += 1
    assert seen == [1, 0, 2]


@pytest.mark.parametrize("form", ["shards", *(pytest.param(form, marks=pytest.mark.slow) for form in ("one file", "bin"))])
def test_a_save_that_is_killed_while_it_clears_up_after_a_killed_one(form: str, tmp_path: Path) -> None:
    """Model 2 over model 1 is killed half-way, then a tokenizer's save at every point: model 2 is there in the end."""
    model(1).save_pretrained(tmp_path / "old")
    new, words = model(2), tokenizer(tmp_path, 2)
    step = 1
    while True:  # to the middle: the first point at which the folder is a mixture
        half = tmp_path / f"half {step}" / "out"
        half.parent.mkdir()
        shutil.copytree(tmp_path / "old", half)
        assert dies_before(step, partial(new.save_pretrained, **FORMS[form]), half)
        if len(list(half.glob(".registry-save.ready/*"))) == 1:
            break
        step += 1
    step, killed, outcomes = 1, True, set()
    while killed:
        folder = tmp_path / f"at {step}" / "out"
        folder.parent.mkdir()
        shutil.copytree(half, folder)
        killed = dies_before(step, words.save_pretrained, folder)
        try:
            assert number_of(registry.load(folder)) == 2
            outcomes.add("new")
        except CheckpointError as error:
            outcomes.add("refused")
            if step % 2:
                follow(error.message)
            else:
                words.save_pretrained(folder)
            assert number_of(registry.load(folder, strict=True)) == 2
        step += 1
    assert outcomes == {"new", "refused"}
    assert number_of_tokenizer(registry.load_tokenizer(folder)) == 2


@pytest.mark.parametrize("form", ["shards", pytest.param("bin", marks=pytest.mark.slow)])
@pytest.mark.parametrize("before", ["nothing", pytest.param("one file", marks=pytest.mark.slow)])
def test_an_operation_that_fails_is_an_error_that_says_what_is_there(before: str, form: str, tmp_path: Path) -> None:
    def fault() -> None:
        raise OSError(errno.EIO, "Input/output error")

    ends, step, end = set(), 1, -1
    while end != 0:
        folder = tmp_path / f"at {step}" / "out"
        if before in FORMS:
            model(1).save_pretrained(folder, **FORMS[before])
        folder.parent.mkdir(exist_ok=True)
        end = run_until(step, fault, partial(model(2).save_pretrained, **FORMS[form]), folder)
        ends.add(end)
        if end in (0, PASSED_OVER):
            assert number_of(registry.load(folder, strict=True)) == 2
        elif ENDS[end] == "what was there is unchanged":
            assert number_of(registry.load(folder)) == 1 if before in FORMS else not folder.exists()
            assert not folder.exists() or not leftovers(folder)
        else:
            with pytest.raises(CheckpointError, match="interrupted") as error:
                registry.load(folder)
            follow(error.value.message)
            assert number_of(registry.load(folder, strict=True)) == 2
        step += 1
    assert ends >= ({0, 10, 11} if before in FORMS else {0, 10})


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_long_line_of_saves_that_are_killed_anywhere(seed: int, tmp_path: Path) -> None:
    """Each save is of a model with a higher number: the folder holds one, never an older one than before, or is refused."""
    chance = random.Random(seed)
    folder = tmp_path / "around" / "out"
    folder.parent.mkdir()
    held, seen = 0, set()
    for number in range(1, 60):
        form = FORMS[chance.choice(list(FORMS))]
        dies_before(chance.randint(1, 45), partial(model(number).save_pretrained, **form), folder)
        try:
            now = number_of(registry.load(folder, strict=True))
            assert held <= now <= number
            held = now
            seen.add("new" if now == number else "old")
        except CheckpointError as error:
            assert "interrupted" in str(error)
            seen.add("refused")
            if chance.random() < 0.3:
                follow(error.message)
                held = number_of(registry.load(folder, strict=True))
        except registry.UnknownModel:
            assert held == 0
    assert seen == {"new", "old", "refused"}


@pytest.fixture
def unfinished(tmp_path: Path) -> Path:
    """A folder in which weights are new and the configuration is old, or the other way round."""
    folder = tmp_path / "unfinished"
    model(1).save_pretrained(folder)
    tokenizer(tmp_path, 1).save_pretrained(folder)
    ready = folder / ".registry-save.ready"
    ready.mkdir()
    model(2).save_pretrained(tmp_path / "new")
    (tmp_path / "new" / "model.safetensors").replace(ready / "model.safetensors")
    (tmp_path / "new" / "config.json").replace(folder / "config.json")
    return folder


@pytest.mark.parametrize(
    "read",
    [
        registry.load,
        registry.load_config,
        registry.load_tokenizer,
        registry.fetch,
        lambda folder: registry.load(folder / "model.safetensors"),
        lambda folder: registry.load(f"file://{folder}"),
        lambda folder: registry.load(folder, state_dict=model(3).state_dict()),
        lambda folder: BertModel.from_pretrained(folder),
        lambda folder: BertModel.from_pretrained(str(folder / "model.safetensors"), config=BertConfig()),
        lambda folder: BertModel.from_pretrained(None, config=str(folder), state_dict=model(3).state_dict()),
        lambda folder: BertConfig.from_pretrained(folder),
        lambda folder: BertConfig.from_pretrained(folder / "config.json"),
        lambda folder: BertTokenizer.from_pretrained(folder),
        lambda folder: BertTokenizer.from_pretrained(str(folder / "vocab.txt")),
    ],
)
def test_every_road_refuses_an_unfinished_folder(read: Callable[[Path], Any], unfinished: Path) -> None:
    with pytest.raises(CheckpointError, match="one saved set, but a save into it was interrupted; save again, or finish it"):
        read(unfinished)


def test_a_name_of_the_catalog_for_an_unfinished_folder_is_refused(unfinished: Path) -> None:
    catalog = unfinished.parent / "models.yaml"
    catalog.write_text(f"registry: 1\nmodels:\n  half: {{family: bert, source: '{unfinished}'}}\n")
    with pytest.raises(CheckpointError, match="interrupted"):
        registry.ModelRegistry([catalog]).load("half")


def test_a_list_of_files_to_remove_names_only_weights(tmp_path: Path) -> None:
    """A folder from elsewhere can bring its own unfinished save."""
    mine = tmp_path / "model.safetensors"
    mine.write_text("mine")
    folder = tmp_path / "clone"
    ready = folder / ".registry-save.ready"
    ready.mkdir(parents=True)
    for name in ("notes.txt", "pytorch_model.bin"):
        (folder / name).write_text("old")
    (ready / ".removes").write_text("../model.safetensors\nnotes.txt\npytorch_model.bin\n/etc/passwd\n")
    with pytest.raises(CheckpointError) as refused:
        registry.load(folder)
    assert "notes.txt" not in str(refused.value) and "passwd" not in str(refused.value)
    model(1).save_pretrained(folder)
    assert mine.read_text() == "mine" and (folder / "notes.txt").read_text() == "old"
    assert not (folder / "pytorch_model.bin").exists() and number_of(registry.load(folder)) == 1


def test_a_link_in_the_place_of_an_unfinished_save_moves_nobodys_files(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir()
    (private / "key").write_text("secret")
    folder = tmp_path / "clone"
    model(1).save_pretrained(folder)
    (folder / ".registry-save.ready").symlink_to(private)
    with pytest.raises(CheckpointError, match="what was there is unchanged"):
        model(2).save_pretrained(folder)
    assert (private / "key").exists() and number_of(registry.load(folder)) == 1


def test_a_live_stage_of_another_save_is_left_alone(tmp_path: Path) -> None:
    from registry.checkpoint.save import staged_folder

    with staged_folder(tmp_path / "out") as first:
        (first / "a").write_text("first")
        with staged_folder(tmp_path / "out") as second:
            (second / "a").write_text("second")
        assert (first / "a").read_text() == "first"
    assert (tmp_path / "out" / "a").read_text() == "first", "the last one to end"


@pytest.fixture
def interrupting(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let something happen just before one of the steps of a load, a number of times."""

    def interrupt(owner: Any, name: str, action: Callable[[], Any], times: int = 1) -> None:
        step, left = getattr(owner, name), [None] * times

        def interrupted(*args: Any, **kwargs: Any) -> Any:
            if left:
                left.pop()
                action()
            return step(*args, **kwargs)

        monkeypatch.setattr(owner, name, interrupted)

    return interrupt


@pytest.mark.parametrize(
    ("module", "step"),
    [
        (assembly, "find_weights"),
        (weights_files, "newest_first"),
        (weights_files, "shard_names"),
        (at_once, "at_once"),
        (assembly, "open_weights"),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_a_save_between_two_steps_of_a_load_gives_the_new_set(
    form: str, module: Any, step: str, interrupting: Any, tmp_path: Path
) -> None:
    model(1).save_pretrained(tmp_path / "m", max_shard_size=SHARDS)
    save = partial(model(2).save_pretrained, tmp_path / "m", **FORMS[form])
    interrupting(module, step, save)
    assert number_of(registry.load(tmp_path / "m")) == 2


@pytest.mark.parametrize("before", ["one file", "bin", "bin shards"])
@pytest.mark.parametrize("after", ["one file", "bin"])
def test_a_save_between_opening_and_reading_is_noticed(before: str, after: str, interrupting: Any, tmp_path: Path) -> None:
    """A pickle is opened when its first tensor is read."""
    model(1).save_pretrained(tmp_path / "m", **FORMS[before])
    interrupting(weights, "fill", partial(model(2).save_pretrained, tmp_path / "m", **FORMS[after]))
    assert number_of(registry.load(tmp_path / "m")) == 2


def test_a_save_into_the_folder_of_a_name_is_noticed_too(interrupting: Any, tmp_path: Path) -> None:
    model(1).save_pretrained(tmp_path / "m")
    (tmp_path / "models.yaml").write_text("registry: 1\nmodels:\n  mine: {family: bert, source: ./m}\n")
    interrupting(assembly, "open_weights", lambda: model(2).save_pretrained(tmp_path / "m"))
    assert number_of(registry.ModelRegistry([tmp_path / "models.yaml"]).load("mine")) == 2


def test_saves_between_the_steps_of_every_try_are_an_error(interrupting: Any, tmp_path: Path) -> None:
    models = [model(1), model(2)]
    models[0].save_pretrained(tmp_path / "m")

    def save() -> None:
        models.reverse()
        models[0].save_pretrained(tmp_path / "m")

    interrupting(assembly, "open_weights", save, times=100)
    with pytest.raises(CheckpointError, match="R501.*another process saves into it again and again"):
        registry.load(tmp_path / "m")


def test_a_vocabulary_and_what_lies_beside_it_are_of_one_save(interrupting: Any, tmp_path: Path) -> None:
    tokenizer(tmp_path, 1).save_pretrained(tmp_path / "m")
    interrupting(assembly.Assembly, "side_files", lambda: tokenizer(tmp_path, 2).save_pretrained(tmp_path / "m"))
    assert number_of_tokenizer(registry.load_tokenizer(tmp_path / "m", family="bert")) == 2


def test_an_unrelated_file_that_changes_is_no_reason_to_load_again(interrupting: Any, tmp_path: Path) -> None:
    model(1).save_pretrained(tmp_path / "m")
    calls: list[int] = []

    def log() -> None:
        calls.append(1)
        (tmp_path / "m" / "train.log").write_text("epoch " * len(calls))

    interrupting(assembly, "open_weights", log, times=100)
    assert number_of(registry.load(tmp_path / "m")) == 1 and len(calls) == 1


def test_an_interrupt_by_the_user_is_not_taken_for_another_process(interrupting: Any, tmp_path: Path) -> None:
    model(1).save_pretrained(tmp_path / "m")

    def stop() -> None:
        model(2).save_pretrained(tmp_path / "m")
        raise KeyboardInterrupt

    interrupting(assembly, "open_weights", stop)
    with pytest.raises(KeyboardInterrupt):
        registry.load(tmp_path / "m")


@pytest.mark.slow
@pytest.mark.parametrize(("one", "other"), [("one file", "one file"), ("one file", "shards"), ("shards", "bin")])
def test_loading_while_another_process_saves_is_never_a_mixture(one: str, other: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    models = [(model(1), FORMS[one]), (model(2), FORMS[other])]
    models[0][0].save_pretrained(folder, **models[0][1])
    child = os.fork()
    if child == 0:
        while True:
            for saved, form in models:
                saved.save_pretrained(folder, **form)
                time.sleep(random.random() / 20)
    seen: list[int] = []
    try:
        until = time.monotonic() + 5
        while time.monotonic() < until:
            try:
                seen.append(number_of(registry.load(folder)))
            except CheckpointError as error:  # it was disturbed at every try: no mixture either
                assert "another process saves into it again and again" in str(error)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert set(seen) == {1, 2} and len(seen) > 20
