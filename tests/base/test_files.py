"""One file or one folder that appears whole or not at all, and leaves nothing behind."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from registry.base.files import OwnerState, atomic_folder, owner_state, write_atomically, write_private


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_folder_appears_whole(place: Path) -> None:
    folder = place / "model"
    with atomic_folder(folder) as stage:
        assert stage.parent == place and owner_state(stage.name) is OwnerState.ALIVE
        stage.mkdir()
        (stage / "a").write_text("1")
        assert not folder.exists()
    assert names(place) == ["model"] and (folder / "a").read_text() == "1"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_nothing(error: type[BaseException], place: Path) -> None:
    with pytest.raises(error), atomic_folder(place / "model") as stage:
        stage.mkdir()
        (stage / "a").write_text("1")
        raise error
    assert names(place) == []


def test_a_folder_that_exists_is_kept_unless_the_caller_merges(place: Path) -> None:
    folder = place / "model"
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(OSError, match="not empty"), atomic_folder(folder) as stage:
        stage.mkdir()
    with atomic_folder(folder, taken=lambda stage: (stage / "new").rename(folder / "new") and None) as stage:
        stage.mkdir()
        (stage / "new").touch()
    assert names(place) == ["model"] and names(folder) == ["new", "old"]


def test_a_rename_that_fails_for_another_reason_is_an_error(place: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_folder(place / "model", taken=lambda stage: pytest.fail("merged")):
        pass  # nothing was made


@pytest.mark.skipif(os.name != "posix", reason="modes")
def test_a_private_file_is_never_open_to_others(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []
    replace = Path.replace

    def looked_at(self: Path, target: Path) -> Path:
        modes.append(stat.S_IMODE(self.stat().st_mode))
        return replace(self, target)

    monkeypatch.setattr(Path, "chmod", lambda self, mode: modes.append(stat.S_IMODE(self.stat().st_mode)))
    monkeypatch.setattr(Path, "replace", looked_at)
    assert write_private(place / "new" / "file", b"secret")
    assert modes == [0o600, 0o600]
    assert not write_private(place / "new" / "file" / "below", b"")


def test_an_interrupted_write_leaves_what_was_there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place / "file"
    write_atomically(path, "old")

    def interrupted(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert names(place) == ["file"] and path.read_text() == "old"
