"""Sets of files that appear together or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry import CheckpointError
from registry.checkpoint.save import parse_size, staged_folder, write_weights


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


def test_weights_can_be_read_by_whom_the_umask_allows(tmp_path: Path) -> None:
    import torch

    (tmp_path / "plain").touch()
    for safe in (True, False):
        (name,) = write_weights(tmp_path, {"a": torch.zeros(1)}, safe=safe)
        assert (tmp_path / name).stat().st_mode == (tmp_path / "plain").stat().st_mode


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
    with (
        pytest.raises(CheckpointError, match="cannot .it is a file"),
        staged_folder(tmp_path / "out") as stage,
    ):
        (stage / "a").write_text("1")
    assert (tmp_path / "out").read_text() == "a file"
