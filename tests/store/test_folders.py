"""Folders with conventional names."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

import registry.store.cache
from registry.store.cache import About, Cache
from registry.store.folders import conventional_folder
from tests.store import workers
from tests.store.helpers import BODY, OTHER, listing, publish, sha256

SPAWN = multiprocessing.get_context("spawn")
LARGE = bytes(2 << 20)


@pytest.fixture
def files(cache: Path) -> dict[str, tuple[Path, str]]:
    """A small and a large file of one model, and one in a subfolder."""
    contents = {"config.json": b"{}", "model.safetensors": LARGE, "onnx/model.onnx": BODY}
    return {name: (publish(Cache((cache,)), body), sha256(body)) for name, body in contents.items()}


def test_a_folder_has_the_conventional_names(cache: Path, files: dict[str, tuple[Path, str]]) -> None:
    folder = conventional_folder(Cache((cache,)), "acme/support bert", files)
    assert folder.parent == cache / "folders"
    assert folder.name.startswith("acme-support-bert-")
    held = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert held == {"config.json": b"{}", "model.safetensors": LARGE, "onnx/model.onnx": BODY}
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, f"{folder.name}.json"}


def test_small_files_are_copies_and_large_ones_links(cache: Path, files: dict[str, tuple[Path, str]]) -> None:
    folder = conventional_folder(Cache((cache,)), "model", files)
    assert (folder / "model.safetensors").samefile(files["model.safetensors"][0])
    assert not (folder / "config.json").samefile(files["config.json"][0])
    assert not [path for path in folder.rglob("*") if path.is_symlink()]


def test_what_gets_a_name_is_on_the_disk_before(
    cache: Path, files: dict[str, tuple[Path, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut may take what was not synced, and leave its size and time, by which it would be taken for right."""
    synced: set[tuple[int, int]] = set()
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        synced.add((os.fstat(descriptor).st_dev, os.fstat(descriptor).st_ino))

    monkeypatch.setattr(os, "fsync", noted)
    folder = conventional_folder(Cache((cache,)), "model", files)
    (theirs := tmp_path / "theirs").write_bytes(OTHER)
    adopted = Cache((cache,)).adopt(theirs, sha256(OTHER), About(), theirs.stat())
    assert adopted.samefile(theirs)
    named = (
        folder / "config.json",
        folder / "onnx/model.onnx",
        folder / "onnx",
        folder,
        folder.parent,
        adopted,
        adopted.parent,
    )
    assert [path for path in named if (path.stat().st_dev, path.stat().st_ino) not in synced] == []


def test_without_hard_links_large_files_are_copies(
    cache: Path, files: dict[str, tuple[Path, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    folder = conventional_folder(Cache((cache,)), "model", files)
    assert (folder / "model.safetensors").read_bytes() == LARGE
    before = listing(cache)
    assert conventional_folder(Cache((cache,)), "model", files) == folder
    assert listing(cache) == before


def test_a_second_call_writes_nothing(cache: Path, files: dict[str, tuple[Path, str]]) -> None:
    folder = conventional_folder(Cache((cache,)), "model", files)
    before = listing(cache)
    assert conventional_folder(Cache((cache,)), "model", dict(reversed(files.items()))) == folder
    assert listing(cache) == before


def test_other_contents_are_another_folder(cache: Path, files: dict[str, tuple[Path, str]]) -> None:
    other = {**files, "config.json": files["onnx/model.onnx"]}
    assert conventional_folder(Cache((cache,)), "model", files) != conventional_folder(Cache((cache,)), "model", other)


def replace(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"edited")


def remove(path: Path) -> None:
    path.unlink()
    path.parent.rmdir()


REPAIRS: dict[str, Callable[[Path], object]] = {
    "a small file was edited": lambda folder: (folder / "config.json").write_text("edited"),
    "a small file was removed": lambda folder: (folder / "config.json").unlink(),
    "a large file was replaced": lambda folder: replace(folder / "model.safetensors"),
    "a subfolder was lost": lambda folder: remove(folder / "onnx/model.onnx"),
}


@pytest.mark.parametrize("damage", REPAIRS.values(), ids=list(REPAIRS))
def test_a_changed_folder_is_repaired(
    damage: Callable[[Path], object], cache: Path, files: dict[str, tuple[Path, str]]
) -> None:
    folder = conventional_folder(Cache((cache,)), "model", files)
    (folder / "notes.txt").write_text("of the user")
    damage(folder)
    assert conventional_folder(Cache((cache,)), "model", files) == folder
    assert {name: sha256((folder / name).read_bytes()) for name in files} == {name: pin for name, (_, pin) in files.items()}
    assert (folder / "notes.txt").read_text() == "of the user"
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, f"{folder.name}.json"}


def test_a_folder_of_a_tier_is_used_as_long_as_it_is_right(
    cache: Path, files: dict[str, tuple[Path, str]], tmp_path: Path
) -> None:
    """On another disk nothing can be linked, so that a second one would be a copy; and the first cache may be read-only."""
    theirs = conventional_folder(Cache((cache,)), "model", files)
    theirs.with_name(f"{theirs.name}.json").unlink()
    before = listing(cache)
    both = Cache((tmp_path / "mine", cache))
    assert conventional_folder(both, "model", files) == theirs
    assert listing(cache) == before and not both.root.exists()
    (theirs / "config.json").write_text("edited")
    mine = conventional_folder(both, "model", files)
    assert mine.parent == both.root / "folders" and (mine / "config.json").read_text() == "{}"


def test_a_folder_whose_builder_was_killed_before_the_manifest_gets_one_at_its_next_use(
    cache: Path, files: dict[str, tuple[Path, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one it would neither be verified nor removed with its model."""
    folder = conventional_folder(Cache((cache,)), "model", files)
    manifest = folder.with_name(f"{folder.name}.json")
    written = manifest.read_text()
    manifest.unlink()
    assert conventional_folder(Cache((cache,)), "model", files) == folder
    assert manifest.read_text() == written
    manifest.unlink()

    def refuse(*args: object) -> NoReturn:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(registry.store.cache, "write_atomically", refuse)
    assert conventional_folder(Cache((cache,)), "model", files) == folder


def test_many_processes_build_one_folder(cache: Path, files: dict[str, tuple[Path, str]]) -> None:
    barrier = SPAWN.Barrier(4)
    receiver, sender = SPAWN.Pipe(duplex=False)
    processes = [SPAWN.Process(target=workers.build_folder, args=(barrier, sender, cache, files)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    folders = {receiver.recv() for _ in processes}
    (folder,) = folders
    assert {name: sha256((folder / name).read_bytes()) for name in files} == {name: pin for name, (_, pin) in files.items()}
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, f"{folder.name}.json"}


def test_many_threads_build_one_folder_and_each_sees_all_of_it(cache: Path, files: dict[str, tuple[Path, str]]) -> None:
    barrier = threading.Barrier(8)
    seen: list[set[str]] = []

    def build() -> None:
        barrier.wait(30)
        folder = conventional_folder(Cache((cache,)), "model", files)
        seen.append({name for name in files if (folder / name).is_file()})

    threads = [threading.Thread(target=build) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert seen == [set(files)] * 8
