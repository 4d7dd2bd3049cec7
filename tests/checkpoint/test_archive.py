"""Archives from strangers: what is unpacked, what is refused, and that nothing is left of what was refused."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import random
import resource
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from registry import CacheError, CheckpointError
from registry.checkpoint.archives.extract import Limits, archive_format, extract_archive
from registry.checkpoint.archives.stage import Member, Refused, Stage
from tests.processes import run_python

FORMS = ("tar", "tar.gz", "zip")
BODY = random.Random(5).randbytes(3000)
FILES = {"model/config.json": b"{}", "model/weights.bin": BODY, "readme.txt": b"hello", "model/empty": b""}


def member(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tar_of(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT, end: bool = True) -> bytes:
    with tarfile.open(fileobj=(buffer := io.BytesIO()), mode="w", format=form) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
        size = archive.offset
    return buffer.getvalue() if end else buffer.getvalue()[:size]


@contextlib.contextmanager
def changing_zip(buffer: io.BytesIO, method: int = zipfile.ZIP_STORED) -> Iterator[zipfile.ZipFile]:
    """Yield a zip file whose list of members can be changed: it is written last."""
    with zipfile.ZipFile(buffer, "w", method) as archive:
        yield archive


def zip_of(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, **fields: object) -> bytes:
    """Return a zip file; `fields` are set on every member of its list, `file_size` also where each lies, after the content."""
    with changing_zip(buffer := io.BytesIO(), method) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo("x", (2020, 1, 2, 3, 4, 6))
            info.filename, info.compress_type = name, method
            archive.writestr(info, content)
        for info in archive.filelist:
            for field, value in fields.items():
                setattr(info, field, value)
    data = bytearray(buffer.getvalue())
    for info in archive.filelist:
        if "file_size" in fields:
            data[info.header_offset + 22 : info.header_offset + 26] = struct.pack("<L", info.file_size)
    return bytes(data)


def packed(form: str, files: dict[str, bytes]) -> bytes:
    if form == "zip":
        return zip_of(files)
    data = tar_of(*(member(name, content) for name, content in files.items()))
    return gzip.compress(data, mtime=0) if form == "tar.gz" else data


def everything(folder: Path) -> dict[str, bytes | None]:
    """Return each path below a folder with its content; None for a folder, the target's name for a link."""

    def content(path: Path) -> bytes | None:
        if path.is_symlink():
            return os.fsencode(path.readlink())
        return path.read_bytes() if path.is_file() else None

    return {str(path.relative_to(folder)): content(path) for path in folder.rglob("*")}


def extract(tmp_path: Path, data: bytes, **options: object) -> Path:
    """Unpack from one folder into another."""
    (tmp_path / "in").mkdir(exist_ok=True)
    (tmp_path / "out").mkdir(exist_ok=True)
    archive = tmp_path / "in" / "archive"
    archive.write_bytes(data)
    extract_archive(archive, tmp_path / "out" / "made", **options)  # type: ignore[arg-type]
    return tmp_path / "out" / "made"


def assert_refused(tmp_path: Path, data: bytes, reason: str, **options: object) -> None:
    """Assert that an archive is refused for this reason, and that nothing else on the disk is other than before."""
    for name in ("in", "out"):
        (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / "in" / "archive").write_bytes(data)
    before = everything(tmp_path)
    with pytest.raises(CheckpointError, match=reason) as caught:
        extract(tmp_path, data, **options)
    assert caught.value.path == str(tmp_path / "in" / "archive")
    assert "is expected to be" in str(caught.value) and "nothing was unpacked" in str(caught.value)
    assert everything(tmp_path) == before


# -- what is unpacked ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_files_come_out_as_they_went_in_and_read_only(tmp_path: Path, form: str) -> None:
    folder = extract(tmp_path, packed(form, FILES))
    assert everything(folder) == {**FILES, "model": None}
    assert [stat.S_IMODE(path.stat().st_mode) & 0o333 for path in folder.rglob("*") if path.is_file()] == [0] * len(FILES)
    assert [path.name for path in folder.parent.iterdir()] == ["made"]


@pytest.mark.parametrize("pack", ["gztar", "tar", "zip"])
def test_what_other_programs_pack_is_unpacked(tmp_path: Path, pack: str) -> None:
    (tmp_path / "source" / "inner" / "empty folder").mkdir(parents=True)
    (tmp_path / "source" / "inner" / "a.txt").write_text("a")
    long = "é" * 60 + "/" + "l" * 180 + "/" + "n" * 150
    (tmp_path / "source" / long).parent.mkdir(parents=True)
    (tmp_path / "source" / long).write_text("long")
    data = Path(shutil.make_archive(str(tmp_path / "packed"), pack, tmp_path / "source")).read_bytes()
    assert everything(extract(tmp_path, data)) == everything(tmp_path / "source")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_way_to_write_a_long_name_is_read(tmp_path: Path, form: int) -> None:
    name = "a" * 90 + "/" + "b" * 90
    info, content = member(f"./{name}", b"x", mtime=1234567890)
    folder = extract(tmp_path, tar_of(member("./", type=tarfile.DIRTYPE), (info, content), form=form))
    assert (folder / name).read_bytes() == b"x"
    assert (folder / name).stat().st_mtime == 1234567890


def test_the_times_of_files_are_kept_so_that_the_newer_of_two_is_known(tmp_path: Path) -> None:
    folder = extract(tmp_path, zip_of({"a": b"x"}))
    assert (folder / "a").stat().st_mtime == 1577934246  # `date -u -d '2020-01-02 03:04:06' +%s`


def test_a_commit_that_git_writes_for_all_members_is_no_member(tmp_path: Path) -> None:
    with tarfile.open(fileobj=(buffer := io.BytesIO()), mode="w", pax_headers={"comment": "f" * 40}) as archive:
        archive.addfile(member("a", b"x")[0], io.BytesIO(b"x"))
    assert everything(extract(tmp_path, buffer.getvalue())) == {"a": b"x"}


def test_an_archive_inside_is_a_file_like_any_other(tmp_path: Path) -> None:
    inner = packed("zip", FILES)
    assert everything(extract(tmp_path, packed("tar.gz", {"inner.zip": inner}))) == {"inner.zip": inner}


def test_an_archive_is_known_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    for form in FORMS:
        path.write_bytes(packed(form, FILES))
        assert archive_format(path) == form
    torch.save({"a": torch.zeros(2)}, path)
    assert archive_format(path) is None
    path.write_bytes(path.read_bytes()[:200])  # a cut checkpoint is no archive either
    assert archive_format(path) is None
    torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    assert archive_format(path) is None
    for other in (b"", b"\0" * 2048, b"{}", gzip.compress(b"text"), b"\x1f\x8b", b"PK\x03\x04"):
        path.write_bytes(other)
        assert archive_format(path) in (None, "zip")
    assert archive_format(tmp_path / "none") is None


# -- names ---------------------------------------------------------------------------------------------------------------

NAMES = {
    "../out.txt": "'..'",
    "a/../../out.txt": "'..'",
    "./../out.txt": "'..'",
    "/tmp/registry-absolute": "empty path part",
    "//a": "empty path part",
    "a//b": "empty path part",
    "a/./b": "'.'",
    "CON": "reserved",
    "a/nul.txt": "reserved",
    "C:x": "':'",
    "C:\\x": r"':'",
    "..\\x": r"\\\\",
    "a\0b": r"\\x00",
    "a\nb": r"\\n",
    "name.": "ends with a dot",
    "name ": "ends with a dot or blank",
    "a" * 201: "more than 200 bytes",
    "/".join("abcdefgh" for _ in range(33)): "32 parts",
    "/".join(["b" * 190] * 6): "more than 1000 bytes",
    "": "is empty",
    ".": "'.'",
    "file/": "empty path part",
}


def raw_tar(name: bytes, kind: bytes = b"0", size: bytes = b"0") -> bytes:
    """Return a tar archive of one member whose name comes in a pax header, so that it can be anything."""
    record = b" path=" + name + b"\n"
    length = len(record) + 1
    while len(str(length)) + len(record) != length:
        length += 1
    record = str(length).encode() + record
    return header(b"pax", b"x", b"%o" % len(record)) + padded(record) + header(b"m", kind, size) + bytes(1024)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def header(name: bytes, kind: bytes = b"0", size: bytes = b"0", magic: bytes = b"ustar\x0000") -> bytes:
    """Return a header with a right sum, whatever else is in it."""
    length = (size.rjust(11, b"0") + b"\0")[:12]
    block = name.ljust(100, b"\0") + b"0000644\0" * 3 + length + b"00000000000\0" + b" " * 8 + kind
    block = (block + bytes(100) + magic).ljust(512, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_leaves_the_folder_or_fits_no_system_is_refused(tmp_path: Path, name: str) -> None:
    assert_refused(tmp_path, raw_tar(name.encode()), NAMES[name])
    assert_refused(tmp_path, gzip.compress(raw_tar(name.encode())), NAMES[name])
    if name not in ("", "file/"):  # a zip member that ends so is a folder, and an empty one has no header
        assert_refused(tmp_path, zip_of({name: b"x", "b": b""}), NAMES[name])
    assert not Path("/tmp/registry-absolute").exists()


def test_a_folder_with_a_name_that_leaves_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path, tar_of(member("../up/", type=tarfile.DIRTYPE)), "'..'")
    assert_refused(tmp_path, zip_of({"../up/": b""}), "'..'")


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path, header(b"\xff\xfe") + bytes(1024), "the character")


CLASHES = {
    "twice": (("a", "a"), "is there twice"),
    "case": (("a/Model.bin", "a/model.BIN"), "where case does not count"),
    "case of a folder": (("A/one", "a/two"), "where case does not count"),
    "sharp s": (("straße", "STRASSE"), "where case does not count"),
    "Unicode form": (("caf\u00e9", "cafe\u0301"), "where case does not count"),
    "file and folder": (("a", "a/b"), "is there twice"),
    "folder and file": (("a/b", "a"), "is there twice"),
    "by a dot": (("a", "./a"), "is there twice"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("clash", CLASHES)
def test_two_names_that_are_one_somewhere_are_refused(tmp_path: Path, clash: str, form: str) -> None:
    names, reason = CLASHES[clash]
    if form == "zip":
        with changing_zip(buffer := io.BytesIO()) as archive:
            for name in names:
                archive.writestr(name, b"x")
        assert_refused(tmp_path, buffer.getvalue(), reason)
        return
    data = tar_of(*(member(name, b"x") for name in names))
    assert_refused(tmp_path, gzip.compress(data) if form == "tar.gz" else data, reason)


# -- kinds of members ----------------------------------------------------------------------------------------------------

KINDS: dict[str, tuple[dict[str, object], str]] = {
    "symbolic link": ({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "a symbolic link"),
    "symbolic link inside": ({"type": tarfile.SYMTYPE, "linkname": "first"}, "a symbolic link"),
    "hard link": ({"type": tarfile.LNKTYPE, "linkname": "first"}, "a hard link"),
    "fifo": ({"type": tarfile.FIFOTYPE}, "a fifo"),
    "character device": ({"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}, "a character device"),
    "block device": ({"type": tarfile.BLKTYPE, "devmajor": 8}, "a block device"),
    "contiguous file": ({"type": tarfile.CONTTYPE}, "of type '7'"),
    "sparse file": ({"type": tarfile.GNUTYPE_SPARSE}, "a sparse file"),
    "unknown": ({"type": b"Q"}, "of type 'Q'"),
    "sparse file of pax": ({"pax_headers": {"GNU.sparse.major": "1", "GNU.sparse.realsize": "9"}}, "a sparse file"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_that_is_neither_file_nor_folder_is_refused(tmp_path: Path, kind: str) -> None:
    fields, reason = KINDS[kind]
    data = tar_of(member("first", b"x"), member("second", **fields))
    assert_refused(tmp_path, data, f"'second' .* expected to be a file or folder, but is {reason}")
    assert_refused(tmp_path, gzip.compress(data), reason)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK, stat.S_IFDIR])
def test_a_zip_member_that_is_neither_file_nor_folder_is_refused(tmp_path: Path, kind: int) -> None:
    assert_refused(
        tmp_path, zip_of({"a": b"/etc/passwd"}, external_attr=(kind | 0o777) << 16), "expected to be a file or folder"
    )


def test_a_link_whose_target_has_a_long_name_is_refused(tmp_path: Path) -> None:
    link = member("a", type=tarfile.SYMTYPE, linkname="../" * 60)
    assert_refused(tmp_path, tar_of(link, form=tarfile.GNU_FORMAT), "a link with a long name")


def test_a_chain_of_links_below_long_folders_leads_nowhere(tmp_path: Path) -> None:
    """As in CVE-2025-4517: each folder is longer than what `realpath` follows, and a link shortens it."""
    members, path = [], ""
    for step in "abcdefghijklmnop":
        folder = f"{path}{'d' * 190}"
        members += [
            member(folder, type=tarfile.DIRTYPE),
            member(path + step, type=tarfile.SYMTYPE, linkname="d" * 190),
        ]
        path = f"{path}{step}/"
    members.append(member("escape", type=tarfile.SYMTYPE, linkname=f"{path}{'../' * 20}in"))
    members.append(member("hard", type=tarfile.LNKTYPE, linkname="escape/archive"))
    members.append(member("escape/planted", b"x"))
    assert_refused(tmp_path, tar_of(*members), "a symbolic link")


def test_a_folder_with_content_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path, header(b"a", b"5", b"1") + padded(b"x") + bytes(1024), "without content")
    assert_refused(tmp_path, zip_of({"a/": b"x"}), "without content")


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path, zip_of({"a": b"x"}, flag_bits=0x1), "readable by everybody, but is encrypted")
    assert_refused(tmp_path, zip_of({"a": b"x"}, flag_bits=0x2041), "is encrypted")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_method_that_unpacks_without_a_limit_is_refused(tmp_path: Path, method: int) -> None:
    assert_refused(tmp_path, zip_of({"a": bytes(100_000)}, method), f"stored or deflated, but is packed by method {method}")


# -- bombs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_more_bytes_than_the_limit_are_refused_before_they_are_read(tmp_path: Path, form: str) -> None:
    assert_refused(tmp_path, packed(form, {"a": BODY, "b": BODY}), "at most 5,000 bytes", limits=Limits(total=5000))


def test_a_declared_size_is_believed_before_anything_is_read(tmp_path: Path) -> None:
    whole = header(b"a", size=b"%o" % (1 << 32))  # with nothing behind it
    assert_refused(tmp_path, whole, "at most 200 times its")
    assert_refused(tmp_path, gzip.compress(whole), "at most 200 times its")
    assert_refused(tmp_path, zip_of({"a": b"x"}, file_size=1 << 31), "at most 200 times its")
    large = header(b"a", size=b"\x80" + (1 << 40).to_bytes(11, "big"))
    assert_refused(tmp_path, large, "at most 274,877,906,944 bytes")
    assert_refused(tmp_path, tar_of(member("a", pax_headers={"size": str(1 << 40)})), "at most 274,877,906,944 bytes")


@pytest.mark.parametrize("form", ["tar.gz", "zip"])
def test_content_out_of_proportion_is_refused(tmp_path: Path, form: str) -> None:
    bomb = packed(form, {"zeros": bytes(10 << 20)})
    assert len(bomb) < 30_000
    assert_refused(tmp_path, bomb, "at most 200 times its", limits=Limits(free=1 << 20))
    assert extract(tmp_path, bomb).is_dir()  # which is little enough not to matter


@pytest.mark.parametrize("form", ["tar.gz", "tar.gz that says nothing", "zip"])
def test_a_small_archive_of_hundreds_of_megabytes_is_refused(tmp_path: Path, form: str) -> None:
    """With the limits that are set."""
    if form == "zip":
        bomb = zip_of(dict.fromkeys("abc", bytes(100 << 20)))
    else:
        first = header(b"zeros", size=b"%o" % (300 << 20)) if form == "tar.gz" else header(b"a") + bytes(1024)
        bomb = gzip.compress(first) + gzip.compress(bytes(1 << 20)) * 301
    assert len(bomb) < 350_000
    assert_refused(tmp_path, bomb, "at most 200 times its")


def test_zeros_after_the_end_count_too(tmp_path: Path) -> None:
    bomb = gzip.compress(tar_of(member("a", b"x")) + bytes(10 << 20))
    assert_refused(tmp_path, bomb, "at most 200 times its", limits=Limits(free=1 << 20))


def test_a_member_that_is_longer_than_it_says_is_refused(tmp_path: Path) -> None:
    bomb = zip_of({"a": bytes(1 << 20)}, file_size=10)
    assert_refused(tmp_path, bomb, "damaged")


@pytest.mark.parametrize(("pieces", "reason"), [((b"12", b"345"), "is longer"), ((b"12",), "has only 2"), ((), "has only 0")])
def test_what_comes_out_is_held_to_what_was_declared(tmp_path: Path, pieces: tuple[bytes, ...], reason: str) -> None:
    liar = Member("a", 4, read=lambda: iter(pieces))
    stage = Stage(tmp_path, Limits(), 100)
    stage.admit(liar)
    with pytest.raises(Refused) as caught:
        stage.write(liar)
    assert caught.value.actual == reason


def test_a_zip_member_that_is_shorter_than_it_says_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path, zip_of({"a": b"1234"}, file_size=100), "has only 4|damaged")


def overlapping_zip() -> bytes:
    """Return a zip file in which one member's stored content is the whole of another, header included."""
    with changing_zip(inner := io.BytesIO()) as archive:
        archive.writestr("b", BODY)
        (info,) = archive.filelist
        end = archive.fp.tell()  # type: ignore[union-attr]
    with changing_zip(outer := io.BytesIO()) as archive:
        archive.writestr("a", inner.getvalue()[:end])
        info.header_offset = 30 + len("a")
        archive.filelist.append(info)
    return outer.getvalue()


def test_members_that_share_bytes_are_refused(tmp_path: Path) -> None:
    data = overlapping_zip()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == ["a", "b"]
    assert_refused(tmp_path, data, "shares bytes")


def test_many_members_are_refused(tmp_path: Path) -> None:
    names = {f"{number}": b"" for number in range(60)}
    for form in FORMS:
        assert_refused(tmp_path, packed(form, names), "at most 50 files and folders", limits=Limits(members=50))
    assert_refused(tmp_path, tar_of(member("a/b/c/d")), "at most 3 files", limits=Limits(members=3))  # folders count


def test_a_million_members_are_refused_at_the_limit(tmp_path: Path) -> None:
    blocks = [header(b"%d" % number) for number in range(10_001)]
    many = gzip.compress(b"".join(blocks), 1)
    assert_refused(tmp_path, many + gzip.compress(blocks[-1] * 10_000) * 99, "at most 10,000 files and folders")
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *[20] * 2, *[0] * 7, 1, *[0] * 6) + b"a"
    directory = entry * 1_000_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFE, 0xFFFE, len(directory), 4, 0)
    assert_refused(tmp_path, b"PK\x03\x04" + directory + end, "list of members .* at most")


# -- headers that mislead ------------------------------------------------------------------------------------------------


def extension(kind: bytes, data: bytes) -> bytes:
    return header(b"x", kind, b"%o" % len(data)) + padded(data)


MISLEADING = {
    "two long names": (extension(b"L", b"a\0") * 2 + header(b"m"), "header extension"),
    "a chain of long names": (extension(b"L", b"a\0") * 5000 + header(b"m"), "header extension"),
    "two pax headers": (extension(b"x", b"7 a=bc\n") * 2 + header(b"m"), "header extension"),
    "a long name without end": (header(b"x", b"L", b"%o" % (8 << 30)), "header extension"),
    "pax records without end": (header(b"x", b"x", b"%o" % (8 << 30)), "header extension"),
    "an extension of nothing": (extension(b"L", b"a\0"), "header extension"),
    "a record that is too long": (extension(b"x", b"99 a=b\n") + header(b"m"), "is damaged"),
    "a record of length 0": (extension(b"x", b"0 a=b\n") + header(b"m"), "is damaged"),
    "a record without a value": (extension(b"x", b"4 a\n") + header(b"m"), "is damaged"),
    "digits without end": (extension(b"x", b"1" * 100_000) + header(b"m"), "is damaged"),
    "a record twice": (extension(b"x", b"9 path=a\n9 path=b\n") + header(b"m"), "is damaged"),
    "a size that is no number": (extension(b"x", b"11 size=-1\n") + header(b"m"), "expected to be a number"),
    "a name for all": (extension(b"g", b"9 path=a\n") + header(b"m"), "global header"),
    "a negative size": (header(b"a", size=b"\xff" * 11), "expected to be a number"),
    "a wrong sum": (header(b"a") + header(b"b").replace(b"0000644", b"0000777"), "is damaged"),
}


@pytest.mark.parametrize("what", MISLEADING)
def test_a_header_that_misleads_is_refused(tmp_path: Path, what: str) -> None:
    data, reason = MISLEADING[what]
    assert_refused(tmp_path, data + bytes(1024), reason)


def test_an_archive_behind_the_end_of_another_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path, tar_of(member("a", b"x")) + tar_of(member("b", b"x")), "followed by other bytes")
    assert_refused(tmp_path, gzip.compress(tar_of(member("a", b"x"))) + b"rest", "readable to its end")


# -- damage --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_cut_archive_is_refused_wherever_it_is_cut(tmp_path: Path, form: str) -> None:
    whole = packed(form, FILES)
    end = len(tar_of(*(member(name, content) for name, content in FILES.items()), end=False)) if form == "tar" else len(whole)
    for cut in {*range(0, end, 97), end - 1, end}:
        if cut < len(whole):
            assert_refused(tmp_path, whole[:cut], "archive")


@pytest.mark.parametrize("form", ["tar.gz", "zip"])
def test_a_changed_byte_is_noticed_by_the_sum(tmp_path: Path, form: str) -> None:
    data = bytearray(packed(form, {"a": BODY}))
    data[1500] ^= 1
    assert_refused(tmp_path, bytes(data), "damaged|readable to its end")


def test_an_archive_without_files_is_refused(tmp_path: Path) -> None:
    for data in (tar_of(member("a", type=tarfile.DIRTYPE)), zip_of({"a/": b""}), zip_of({})):
        assert_refused(tmp_path, data, "has no file")
    for data in (b"", b"text", gzip.compress(b"text"), bytes(10240)):
        assert_refused(tmp_path, data, "format of archive .* is none of them")


def base_archives() -> dict[str, bytes]:
    gnu = tar_of(member("l" * 120, b"x" * 700), member("d/", type=tarfile.DIRTYPE), form=tarfile.GNU_FORMAT)
    pax = tar_of(member("é" * 90, b"y"), member("c", b"z", pax_headers={"comment": "c"}))
    return {**{form: packed(form, FILES) for form in FORMS}, "gnu": gnu, "pax": pax}


Change = tuple[str, int, bytes]
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["set", "insert", "cut", "drop", "copy"]), st.integers(0, 1 << 14), st.binary(min_size=1, max_size=12)
    ),
    min_size=1,
    max_size=6,
)


def changed(data: bytes, changes: list[Change]) -> bytes:
    for what, where, new in changes:
        at = where % (len(data) + 1)
        if what == "set":
            data = data[:at] + new + data[at + len(new) :]
        elif what == "insert":
            data = data[:at] + new + data[at:]
        elif what == "cut":
            data = data[:at]
        elif what == "drop":
            data = data[:at] + data[at + 512 :]
        else:
            data = data[:at] + data[at : at + 512] * 2 + data[at + 512 :]
    return data


def mended(data: bytes) -> bytes:
    """Return a tar archive with right sums in its headers, so that a change in one is not noticed by that."""
    blocks = [data[at : at + 512] for at in range(0, len(data), 512)]
    whole = (block[:148] + b"%06o\0 " % (sum(block[:148]) + 256 + sum(block[156:])) + block[156:] for block in blocks)
    return b"".join(new if b"ustar" in block and len(block) == 512 else block for block, new in zip(blocks, whole, strict=True))


@pytest.mark.parametrize("base", ["tar", "tar.gz", "zip", "gnu", "pax"])
@given(changes=CHANGES, mend=st.booleans(), compress=st.booleans())
@settings(max_examples=150, deadline=5000)
def test_a_changed_archive_is_unpacked_or_refused_and_writes_nowhere_else(
    base: str, changes: list[Change], mend: bool, compress: bool
) -> None:
    data = changed(base_archives()[base], changes)
    if base in ("tar", "gnu", "pax"):
        data = mended(data) if mend else data
        data = gzip.compress(data, 1) if compress else data
    with tempfile.TemporaryDirectory() as name:
        world = Path(name)
        archive = world / "archive"
        archive.write_bytes(data)
        with contextlib.suppress(CheckpointError):
            extract_archive(archive, world / "made", limits=Limits(total=1 << 20, free=1 << 16))
        assert {path.name for path in world.iterdir()} <= {"archive", "made"}
        assert archive.read_bytes() == data
        assert not any(path.is_symlink() for path in world.rglob("*"))


# -- the folder ----------------------------------------------------------------------------------------------------------


def test_a_file_is_never_written_over_or_through_a_link(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "stage"
    outside.write_text("untouched")
    folder.mkdir()
    (folder / "a").symlink_to(outside)
    stage = Stage(folder, Limits(), 100)
    with pytest.raises(CacheError):
        stage.write(Member("a", 1, read=lambda: iter([b"x"])))
    assert outside.read_text() == "untouched"


@contextlib.contextmanager
def small_disk(size: int) -> Iterator[None]:
    """Let no file become larger, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("form", FORMS)
def test_a_disk_that_fills_up_is_an_error_of_the_cache_and_leaves_nothing(tmp_path: Path, form: str) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    archive.write_bytes(packed(form, {"first": b"x", "second": random.Random(1).randbytes(300_000)}))
    out.mkdir()
    with small_disk(100_000), pytest.raises(CacheError, match="free space"):
        extract_archive(archive, out / "made")
    assert list(out.iterdir()) == []
    with pytest.raises(CacheError):
        extract_archive(archive, tmp_path / "none" / "made")


def test_the_folder_of_another_process_that_was_faster_stays(tmp_path: Path) -> None:
    def meanwhile(stage: Path) -> bool:
        (tmp_path / "out" / "made").mkdir()
        (tmp_path / "out" / "made" / "theirs").touch()
        return True

    folder = extract(tmp_path, packed("tar", FILES), confirm=meanwhile)
    assert everything(folder.parent) == {"made": None, "made/theirs": b""}


def test_an_archive_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path, packed("zip", FILES), "has changed", confirm=lambda stage: False)


def test_nothing_is_left_when_a_user_interrupts(tmp_path: Path) -> None:
    def interrupt(stage: Path) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(tmp_path, packed("tar.gz", FILES), confirm=interrupt)
    assert list((tmp_path / "out").iterdir()) == []


def test_memory_does_not_grow_with_a_member(tmp_path: Path) -> None:
    import tracemalloc

    makers: list[Callable[[], bytes]] = [
        lambda: gzip.compress(tar_of(member("a", bytes(64 << 20))), 1),
        lambda: zip_of({"a": bytes(64 << 20)}),
    ]
    for make in makers:
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        data = make()
        tracemalloc.start()
        extract(tmp_path, data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 16 << 20


_CONFINED = """
import resource, sys
from pathlib import Path
from registry.checkpoint.archives.extract import extract_archive
from registry.errors import CheckpointError

folder = Path(sys.argv[1])
extract_archive(folder / "good", folder / "good.out")
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + (64 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
resource.setrlimit(resource.RLIMIT_FSIZE, (257 << 20, 257 << 20))
for path in sorted(folder.glob("*.bomb")):
    try:
        extract_archive(path, path.with_suffix(".out"))
    except CheckpointError as error:
        print(path.name)
"""


@pytest.mark.slow
def test_bombs_take_neither_memory_nor_disk_before_they_are_refused(tmp_path: Path) -> None:
    many = b"".join(header(b"%d" % number) for number in range(10_001))
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *[20] * 2, *[0] * 7, 1, *[0] * 6) + b"a"
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFE, 0xFFFE, len(entry) * 1_000_000, 4, 0)
    bombs = {
        "zeros in zip": zip_of(dict.fromkeys("abc", bytes(100 << 20))),
        "zeros in tar": gzip.compress(header(b"zeros", size=b"%o" % (300 << 20))) + gzip.compress(bytes(1 << 20)) * 301,
        "zeros after the end": gzip.compress(header(b"a") + bytes(1024)) + gzip.compress(bytes(1 << 20)) * 301,
        "many in tar": gzip.compress(many, 1),
        "many in zip": b"PK\x03\x04" + entry * 1_000_000 + end,
        "declared": header(b"a", size=b"\x80" + (1 << 60).to_bytes(11, "big")),
        "long name": extension(b"L", b"x" * (80 << 20)),
        "long name, not there": header(b"x", b"L", b"%o" % (7 << 30)),
        "long attributes": extension(b"x", b"80000000 path=" + b"x" * (80 << 20)),
        "climbing": packed("tar", {"../x": b"x"}),
    }
    (tmp_path / "good").write_bytes(packed("tar.gz", FILES))
    for name, data in bombs.items():
        (tmp_path / f"{name}.bomb").write_bytes(data)
    before = set(tmp_path.rglob("*"))
    done = run_python("-c", _CONFINED, str(tmp_path))
    assert done.stdout.splitlines() == sorted(f"{name}.bomb" for name in bombs)
    left = {path.relative_to(tmp_path).parts[0] for path in set(tmp_path.rglob("*")) - before}
    assert left == {"good.out"}
