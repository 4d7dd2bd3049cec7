"""Sets of files that appear together or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from registry import CheckpointError
from registry.checkpoint.writer import parse_size, refuse_unfinished, staged_folder


@pytest.mark.parametrize(
    ("size", "number"), [(7, 7), ("5GB", 5 * 10**9), ("512 MiB", 512 << 20), ("1.5kb", 1500), ("10", 10), ("2tb", 2 * 10**12)]
)
def test_sizes(size: int | str, number: int) -> None:
    assert parse_size(size) == number


@pytest.mark.parametrize("size", ["", "GB", "5 apples", "-1", "1..5GB"])
def test_what_is_no_size(size: str) -> None:
    with pytest.raises(ValueError, match="a size is expected"):
        parse_size(size)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_folder_appears_whole(tmp_path: Path) -> None:
    out = tmp_path / "some" / "out"
    with staged_folder(out) as stage:
        (stage / "a").write_text("1")
        assert not out.exists()
    assert names(out) == ["a"] and names(out.parent) == ["out"]


def test_a_failure_leaves_nothing_new_and_everything_old(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(RuntimeError), staged_folder(out) as stage:
        (stage / "a").write_text("1")
        raise RuntimeError
    assert not out.exists()
    out.mkdir()
    (out / "a").write_text("old")
    with pytest.raises(RuntimeError), staged_folder(out) as stage:
        (stage / "a").write_text("new")
        raise RuntimeError
    assert names(out) == ["a"] and (out / "a").read_text() == "old"


def test_files_of_others_stay_and_a_mapped_file_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "a").write_text("old")
    (tmp_path / "model-00001-of-00002.safetensors").write_text("an earlier save")
    with (tmp_path / "a").open() as reader:
        with staged_folder(tmp_path, replaces_weights=True) as stage:
            (stage / "a").write_text("new")
        assert reader.read() == "old" and (tmp_path / "a").read_text() == "new"
    assert {"a", "notes.txt"} <= set(names(tmp_path)) and "model-00001-of-00002.safetensors" not in names(tmp_path)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(CheckpointError, match="folder to save into"), staged_folder(tmp_path / "out") as stage:
        (stage / "a").write_text("1")
    assert (tmp_path / "out").read_text() == "a file"


KILLED = """
import os, sys
from pathlib import Path
from registry.checkpoint import writer

moved = 0
replace = Path.replace
def dying(self, target):
    global moved
    moved += 1
    if moved > 1:
        os.kill(os.getpid(), 9)
    return replace(self, target)
Path.replace = dying
with writer.staged_folder(Path(sys.argv[1])) as stage:
    for name in ("a", "b", "c"):
        (stage / name).write_text("new")
"""


def test_a_save_killed_half_way_is_refused_and_can_be_finished_either_way(tmp_path: Path) -> None:
    for way in ("by hand", "again"):
        folder = tmp_path / way
        folder.mkdir()
        for name in ("a", "b", "c"):
            (folder / name).write_text("old")
        subprocess.run([sys.executable, "-c", KILLED, str(folder)], check=False)
        assert [(folder / name).read_text() for name in ("a", "b", "c")] == ["new", "old", "old"]
        with pytest.raises(CheckpointError, match="interrupted; finish it by moving every file"):
            refuse_unfinished(folder)
        if way == "by hand":
            ready = folder / ".registry-save.ready"
            for file in ready.iterdir():
                file.replace(folder / file.name)
            ready.rmdir()
        else:
            with staged_folder(folder) as stage:
                (stage / "a").write_text("new")
        refuse_unfinished(folder)
        assert [(folder / name).read_text() for name in ("a", "b", "c")] == ["new", "new", "new"]
