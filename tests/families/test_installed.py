"""What is installed is read from metadata as `importlib.metadata` reads it, in a fraction of the time."""

from __future__ import annotations

import os
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from registry.families.discovery import folders_of_packages, installed_entry_points, package_folders
from registry.families.entry_points import DISTRIBUTION, EntryPoint, canonical, read_installed
from tests.families.conftest import Install, family_files
from tests.processes import run_python

GROUPS = ("registry.families", "registry.catalogs", "registry.transports", "registry.plugins")


def by_the_library() -> set[EntryPoint]:
    """Return what `importlib.metadata` says of our groups."""
    found = set()
    for group in GROUPS:
        for point in metadata.entry_points(group=group):
            assert point.dist is not None
            found.add(EntryPoint(point.name, point.value, canonical(point.dist.name), point.dist.version))
    return found


def ours() -> set[EntryPoint]:
    return {point for group, points in read_installed(sys.path).items() if group in GROUPS for point in points}


def test_this_environment_is_read_as_the_standard_library_reads_it(acme: str, install: Install) -> None:
    install("Acme.Tools", {"mem": "acme_tools:Memory"}, group="registry.transports", version="1.0+local")
    install("acme-sign", {"sign": "acme_sign:registry_verify"}, group="registry.plugins", version="2.0rc1")
    assert ours() == by_the_library()
    assert {"bert", "acme", "mem", "sign"} <= {point.name for point in ours()}


@pytest.mark.parametrize(
    "text",
    [
        "[registry.families]\nacme = acme_family.plugin\n",
        "# c\n\n[console_scripts]\nacme = acme:main\n[registry.families]\n  acme=acme_family.plugin  \n[other]\nacme = no\n",
        "[ registry.families ]\n; no = pair\nacme   =   acme_family.plugin\r\n",
    ],
)
def test_the_file_of_entry_points_may_be_written_in_any_way(text: str, install: Install) -> None:
    (install("acme", {}) / "entry_points.txt").write_text(text)
    assert [point.value for point in installed_entry_points("registry.families") if point.name == "acme"] == [
        "acme_family.plugin"
    ]


@pytest.mark.parametrize(
    "text", ["", "[registry.families\nacme = x\n", "acme = x\n", "[registry.families]\nacme\n", "\0\xff[registry."]
)
def test_a_damaged_file_of_entry_points_gives_none(text: str, install: Install) -> None:
    (install("acme", {}) / "entry_points.txt").write_bytes(text.encode("latin-1"))
    assert "acme" not in {point.name for point in installed_entry_points("registry.families")}
    assert "bert" in {point.name for point in installed_entry_points("registry.families")}


def test_extras_of_an_entry_point_are_no_part_of_its_value(install: Install) -> None:
    install("acme", {"acme": "acme_family.plugin [fast]"})
    (point,) = (point for point in installed_entry_points("registry.families") if point.name == "acme")
    assert (point.module, point.attribute, point.package) == ("acme_family.plugin", "", "acme_family")


def test_of_two_records_in_one_folder_the_newer_counts(install: Install) -> None:
    old, new = install("acme", {"acme": "old.plugin"}, version="2.0"), install("acme", {"acme": "new.plugin"}, version="1.0")
    for path, seconds in ((old, 1000), (new, 2000)):
        os.utime(path, (seconds, seconds))
    (point,) = read_installed([str(old.parent)])["registry.families"]
    assert (point.value, point.version) == ("new.plugin", "1.0")


def test_of_two_installations_the_first_on_the_path_counts_even_without_a_plugin(install: Install, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    install("acme", {"tool": "acme:main"}, folder=first, group="console_scripts", version="2.0")
    install("acme", {"acme": "acme.plugin"}, folder=second)
    assert read_installed([str(second)])["registry.families"]
    assert read_installed([str(first), str(second)]) == {}


def test_what_pip_is_about_to_remove_is_not_installed(install: Install) -> None:
    record = install("acme", {"acme": "acme.plugin"})
    record.rename(record.with_name("~cme-1.0.dist-info"))
    assert "acme" not in {point.name for point in installed_entry_points("registry.families")}


def test_an_upgrade_in_place_is_seen_by_the_same_process(install: Install) -> None:
    old = install("acme", {"acme": "acme.plugin"})
    assert {point.version for point in installed_entry_points("registry.families") if point.name == "acme"} == {"1.0"}
    for file in old.iterdir():
        file.unlink()
    old.rmdir()
    install("acme", {"acme": "acme.plugin"}, version="1.1")
    assert {point.version for point in installed_entry_points("registry.families") if point.name == "acme"} == {"1.1"}


def test_a_development_install_is_found_by_its_egg_info(tmp_path: Path) -> None:
    info = tmp_path / "Acme_Family.egg-info"
    info.mkdir()
    (info / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: acme-family\nVersion: 3.1.dev0\n")
    (info / "entry_points.txt").write_text("[registry.families]\nacme = acme.plugin\n")
    assert read_installed([str(tmp_path)])["registry.families"] == [
        EntryPoint("acme", "acme.plugin", "acme-family", "3.1.dev0")
    ]


def test_a_path_file_leads_to_a_development_install(install: Install, tmp_path: Path) -> None:
    install("acme-family", {"acme": "acme_family.plugin"}, family_files("acme_family", "acme"), folder=tmp_path / "source")
    site = tmp_path / "packages"
    site.mkdir()
    (site / "acme.pth").write_text(f"{tmp_path / 'source'}\n")
    code = (
        f"import site; site.addsitedir({str(site)!r})\n"
        "from registry.families.host import PluginHost; print(PluginHost().get('acme').config)"
    )
    assert run_python("-c", code).stdout.split() == ["acme_family.model:AcmeConfig"]


def test_a_plugin_inside_an_archive_is_found_and_works(install: Install, tmp_path: Path) -> None:
    source = tmp_path / "source"
    install("acme-family", {"acme": "acme_family.plugin"}, family_files("acme_family", "acme"), folder=source)
    with zipfile.ZipFile(tmp_path / "acme.zip", "w") as archive:
        for file in source.rglob("*"):
            archive.write(file, file.relative_to(source))
    code = (
        "from registry.families.host import PluginHost as P; print(P().entry_points()['acme'][0].version, P().get('acme').name)"
    )
    assert run_python("-c", code, path=[tmp_path / "acme.zip"]).stdout.split() == ["1.0", "acme"]


def test_an_importer_of_its_own_is_asked_and_one_that_is_broken_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    class Remote(metadata.Distribution):
        def read_text(self, filename: str) -> str | None:
            texts = {
                "METADATA": "Metadata-Version: 2.1\nName: acme-remote\nVersion: 4.0\n",
                "entry_points.txt": "[registry.families]\nremote = remote.plugin\n",
            }
            return texts.get(filename)

        def locate_file(self, path: object) -> Path:  # type: ignore[override]
            return Path(str(path))

    class Importer:
        def find_spec(self, *_: object) -> None: ...
        def find_distributions(self, context: object) -> list[metadata.Distribution]:
            return [Remote()]

    class Broken(Importer):
        def find_distributions(self, context: object) -> list[metadata.Distribution]:
            raise RuntimeError("broken")

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Broken(), Importer()])
    points = {point.name: point for point in read_installed(sys.path)["registry.families"]}
    assert points["remote"] == EntryPoint("remote", "remote.plugin", "acme-remote", "4.0")
    assert points["bert"].distribution == DISTRIBUTION


def test_no_metadata_is_parsed_where_all_is_in_folders() -> None:
    code = (
        "from registry.families.discovery import family_entry_points as f; import sys; print(len(f()), 'email' in sys.modules)"
    )
    count, parsed = run_python("-S", "-c", code, path=[path for path in sys.path if Path(path).is_dir()]).stdout.split()
    assert int(count) >= 5 and parsed == "False"


# -- the folders of many packages ----------------------------------------------------------------------------------------


def test_the_folders_of_many_packages_are_those_that_an_import_would_use(install: Install, site: Path, tmp_path: Path) -> None:
    later = tmp_path / "later"
    for folder, file in (
        (site, "plain/__init__.py"),
        (later, "plain/__init__.py"),
        (site, "shadowed.py"),
        (later, "shadowed/__init__.py"),
        (site, "space/part.py"),
        (later, "space/other.py"),
        (site, "regular_later/part.py"),
        (later, "regular_later/__init__.py"),
        (later, "only_later/__init__.py"),
    ):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("")
    sys.path.append(str(later))  # taken away with the rest of the path by the fixture `site`
    names = [
        "plain",
        "shadowed",
        "space",
        "regular_later",
        "only_later",
        "registry",
        "sys",
        "json",
        "no_such_package",
        "",
        "a.b",
    ]
    found = folders_of_packages(names)
    assert found == {name: list(package_folders(name)) for name in names}
    assert found["plain"] == [site / "plain"] and found["shadowed"] == [] and len(found["space"]) == 2
    assert found["regular_later"] == [later / "regular_later"]
