"""A text file that several change at once, that is a link, or that cannot be changed."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from registry.catalog.edit.rewrite import rewrite
from registry.errors import CatalogError


def test_of_many_changes_at_once_none_is_lost(tmp_path: Path) -> None:
    path, locks = tmp_path / "list.txt", tmp_path / "locks"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: rewrite(path, lambda text: f"{text}{number}\n", locks), range(40)))
    assert sorted(map(int, path.read_text().split())) == list(range(40))


def test_a_change_that_an_editor_overtakes_is_done_anew(tmp_path: Path) -> None:
    (path := tmp_path / "list.txt").write_text("one\n")
    seen = []

    def change(text: str) -> str:
        if not seen:
            path.write_text("one\ntwo\n")
        seen.append(text)
        return text + "three\n"

    assert rewrite(path, change, tmp_path / "locks") == "one\ntwo\nthree\n"
    assert (seen, path.read_text()) == (["one\n", "one\ntwo\n"], "one\ntwo\nthree\n")


def test_who_is_overtaken_always_gives_up(tmp_path: Path) -> None:
    (path := tmp_path / "list.txt").write_text("")

    def change(text: str) -> str:
        path.write_text(text + "theirs\n")
        return text + "ours\n"

    with pytest.raises(CatalogError, match="another program keeps changing it"):
        rewrite(path, change, tmp_path / "locks")
    assert "ours" not in path.read_text()


def test_bytes_are_handed_on_as_they_are(tmp_path: Path) -> None:
    (path := tmp_path / "list.txt").write_bytes("\ufeffä\r\nb\rc\n".encode())
    assert rewrite(path, lambda text: text + "d\r\n", tmp_path / "locks") == "\ufeffä\r\nb\rc\nd\r\n"
    assert path.read_bytes() == "\ufeffä\r\nb\rc\nd\r\n".encode()


def test_no_change_writes_nothing(tmp_path: Path) -> None:
    (path := tmp_path / "list.txt").write_text("a\n")
    before = path.stat()
    rewrite(path, lambda text: text, tmp_path / "locks")
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_link_and_the_permissions_stay_and_folders_are_made(tmp_path: Path) -> None:
    (real := tmp_path / "real.txt").write_text("")
    real.chmod(0o604)
    (link := tmp_path / "link.txt").symlink_to(real)
    rewrite(link, lambda text: text + "x", tmp_path / "locks")
    assert link.is_symlink() and real.read_text() == "x" and stat.S_IMODE(real.stat().st_mode) == 0o604
    rewrite(tmp_path / "a" / "b" / "new.txt", lambda text: text + "x", tmp_path / "locks")
    assert (tmp_path / "a" / "b" / "new.txt").read_text() == "x"


def test_what_cannot_be_read_or_written_is_told_with_its_place(tmp_path: Path) -> None:
    (path := tmp_path / "list.txt").write_bytes(b"a\nb\xff\n")
    with pytest.raises(CatalogError, match=r"list\.txt:2:2: .*UTF-8"):
        rewrite(path, lambda text: text, tmp_path / "locks")
    with pytest.raises(CatalogError, match="expected to be readable"):
        rewrite(tmp_path, lambda text: text, tmp_path / "locks")
    (tmp_path / "file").write_text("")
    with pytest.raises(CatalogError, match="expected to be (readable|writable)"):
        rewrite(tmp_path / "file" / "list.txt", lambda text: "x", tmp_path / "locks")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    (folder := tmp_path / "folder").mkdir(mode=0o500)
    with pytest.raises(CatalogError, match="expected to be writable"):
        rewrite(folder / "list.txt", lambda text: "x", tmp_path / "locks")
