"""The packed form of catalogs: it says what the texts say, costs little, and does no harm when it is wrong or missing."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import stat
import threading
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import registry.catalog.packed
import registry.catalog.shelf
from registry.catalog.catalog import Catalog
from registry.catalog.layers import CatalogSource, LayerKind, file_source
from registry.catalog.packed import Packed
from registry.catalog.shelf import is_stale
from registry.errors import CatalogError, RegistryWarning, UnknownModel
from registry.store.cache import Cache
from registry.store.upkeep.prune import prune
from tests.processes import run_python

FAMILY, PACKAGE, PROJECT, USER = LayerKind.FAMILY, LayerKind.PACKAGE, LayerKind.PROJECT, LayerKind.USER
LONG_AGO = 10**18  # nanoseconds; so old that a change would have changed it


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of packed catalogs."""
    return tmp_path / "cache/catalogs"


def write(path: Path, models: str, rest: str = "", *, at: int | None = LONG_AGO) -> Path:
    """Write a catalog that was last changed long ago, or now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"registry: 1\nmodels:\n{models}\n{rest}", encoding="utf-8")
    if at is not None:
        os.utime(path, ns=(at, at))
    return path


def many(count: int, first: int = 0) -> str:
    return "\n".join(f"  m{number}: {{family: bert, source: 'hf://a/{number}@1'}}" for number in range(first, first + count))


def source(path: Path, kind: LayerKind = USER, **facts: Any) -> CatalogSource:
    return CatalogSource(kind, str(path), path.read_bytes, **facts)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the texts that are parsed from now on."""
    seen: list[str] = []

    def noting(original: Callable[..., Any]) -> Callable[..., Any]:
        def read(data: Any, *rest: Any) -> Any:
            seen.append(str(rest[0] if rest else data.path))
            return original(data, *rest)

        return read

    monkeypatch.setattr(registry.catalog.shelf, "read_bytes", noting(registry.catalog.shelf.read_bytes))
    for module in (registry.catalog.shelf, registry.catalog.shelf):
        monkeypatch.setattr(module, "read_source", noting(module.read_source))
    return seen


# -- it says what the texts say ------------------------------------------------------------------------------------------

HASH = "0123456789abcdef" * 4
#: What an entry may be, right and wrong; {0} and {1} are names.
ENTRIES = [
    "{{family: bert, source: 'hf://a/b@1'}}",
    "{{family: bert, source: ./here, override: true, mirrors: [https://m/, ./there], head: base, license: MIT}}",
    "{{family: bert, source: ~/here}}",
    "{{family: bert, source: ~no-such-user/here}}",
    "{{family: bert, source: s, config: {{a: 1, b: [1.5, .inf, -.inf, -0.0, null, true, 1e30], c: {{d: 'é\\n', e: []}}}}}}",
    "{{family: bert, source: s, tokenizer: {{x: 123456789012345678901234567890}}}}",
    f"{{{{family: bert, source: s, files: {{{{a: {{{{sha256: {HASH}, size: 3}}}}, b: , c: {{{{url: 'https://u/c'}}}}}}}}}}}}",
    "{{family: bert, source: s, deprecated: {{since: 2026-05, note: gone, use: {0}}}}}",
    "{{alias: {0}, deprecated: {{since: 2026-05-31}}}}",
    "{{alias: {0}}}",
    "{{base: {0}, head: lm, config: {{a: 2}}}}",
    "{{base: {0}, source: ./mine, files: {{A: , a: }}}}",
    "{{base: {1}, override: true}}",
    "{{disabled: 'said so: \"no\"\t'}}",
    "{{famly: bert}}",
    "{{family: [bert]}}",
    "{{family: &x bert}}",
    "{{family: bert, family: bert}}",
    "{{source: s}}",
    "{{files: {{../x: }}}}",
    "",
    "text",
]
NAMES = st.sampled_from(["a", "b", "c", "A", "a/b", "gpt2", "é x", "..", "'a\tb'", '"q\\"u"', "x" * 60])
LAYERS = st.lists(
    st.tuples(
        st.sampled_from([(FAMILY, True), (FAMILY, False), (PACKAGE, False), (USER, False), (PROJECT, False)]),
        st.dictionaries(NAMES, st.tuples(st.sampled_from(ENTRIES), NAMES, NAMES), max_size=6),
        st.sampled_from(
            ["", "hosts:\n  h.example: {token_env: T, mirrors: ['https://m/']}\n", "hosts: {h: {token: x}}\n", "x: 1\n"]
        ),
    ),
    max_size=5,
)


def everything(sources: Iterable[CatalogSource], folder: Path | None, *, listed_first: bool) -> object:
    """Return all that a catalog says, as values that can be compared."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        registry.catalog.catalog._told.clear()
        catalog = Catalog(sources, folder)
        listed = (catalog.names(), [(name, *shown(error)) for name, error in catalog.broken.items()]) if listed_first else ()
        found = {}
        for name in ("a", "b", "c", "A", "a/b", "gpt2", "é x", "..", "a\tb", 'q"u', "x" * 60, "nothing"):
            try:
                found[name] = repr(catalog.resolve(name))
            except (CatalogError, UnknownModel) as error:
                found[name] = shown(error)
        problems = [shown(problem) for problem in catalog.problems]
    return listed, found, problems, repr(catalog.hosts), sorted(str(one.message) for one in told)


def shown(error: Exception) -> tuple[object, ...]:
    return type(error).__name__, str(error), sorted(vars(error).items(), key=lambda item: item[0])


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LAYERS)
def test_the_packed_form_says_exactly_what_the_texts_say(tmp_path: Path, layers: Any) -> None:
    root = tmp_path / "property"
    shutil.rmtree(root, ignore_errors=True)
    sources = []
    for number, ((kind, builtin), models, rest) in enumerate(sorted(layers, key=lambda layer: layer[0][0])):
        lines = "\n".join(f"  {name}: {entry.format(first, second)}" for name, (entry, first, second) in models.items())
        path = write(root / f"{number}/models.yaml", lines, rest)
        sources.append(source(path, kind, builtin=builtin, distribution="" if builtin else f"d{number}", version="1"))
    for listed_first in (False, True):
        text = everything(sources, None, listed_first=listed_first)
        for _ in range(2):  # packed now, and packed before
            assert everything(sources, root / "packed", listed_first=listed_first) == text
    assert not sources or files(root / "packed")


def test_a_field_of_every_kind_comes_back_as_it_was(tmp_path: Path, folder: Path) -> None:
    path = write(tmp_path / "models.yaml", "\n".join(f"  n{i}: {entry.format('n0', 'n1')}" for i, entry in enumerate(ENTRIES)))
    texts = Catalog([source(path)])
    Catalog([source(path)], folder)
    packed = Catalog([source(path)], folder)
    for number in range(len(ENTRIES)):
        assert repr(packed._entries(f"n{number}")) == repr(texts._entries(f"n{number}"))
    assert isinstance(packed.resolve("n1").mirrors, tuple) and packed.resolve("n6").files["a"].size == 3


# -- it costs little -----------------------------------------------------------------------------------------------------


def test_a_warm_catalog_is_looked_up_without_parsing_and_without_reading_other_names(
    tmp_path: Path, folder: Path, parsed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "models.yaml", many(3000))
    Catalog([source(path)], folder)
    assert parsed == [str(path)]
    looked_at: list[bytes] = []
    original = registry.catalog.packed._checked
    monkeypatch.setattr(registry.catalog.packed, "_checked", lambda line: looked_at.append(line) or original(line))
    for number in (0, 1, 17, 2998, 2999):
        looked_at.clear()
        assert Catalog([source(path)], folder).resolve(f"m{number}").source == f"hf://a/{number}@1"
        # log2 of the file's bytes, the header, the entry and the one after it
        assert len(looked_at) < 25
    assert Catalog([source(path)], folder).maybe_resolve("m3000") is None
    assert len(parsed) == 1


def test_a_warm_process_imports_no_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = write(tmp_path / "models.yaml", many(3))
    monkeypatch.setenv("REGISTRY_MODELS", str(catalog))
    code = "import registry, sys; print(registry.resolve('m2').source, 'yaml' in sys.modules)"
    assert [run_python("-c", code).stdout.split() for _ in range(2)] == [["hf://a/2@1", "True"], ["hf://a/2@1", "False"]]


def test_two_hundred_packages_are_one_look_up(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [
        source(write(tmp_path / f"site/p{i}/models.yaml", many(2, 2 * i)), FAMILY if i < 150 else PACKAGE, distribution=f"d{i}")
        for i in range(200)
    ]
    Catalog(sources, folder)
    opened: list[Path] = []
    original = Packed.__init__
    monkeypatch.setattr(Packed, "__init__", lambda self, path: opened.append(path) or original(self, path))
    catalog = Catalog(sources, folder)
    assert len(opened) == 1
    assert [catalog.resolve(f"m{i}").source for i in (0, 399)] == ["hf://a/0@1", "hf://a/399@1"]
    assert len(opened) == 1


def test_only_the_package_that_changed_is_parsed_again(tmp_path: Path, folder: Path, parsed: list[str]) -> None:
    sources = [source(write(tmp_path / f"p{i}/models.yaml", many(1, i)), FAMILY, distribution=f"d{i}") for i in range(5)]
    Catalog(sources, folder)
    assert sorted(parsed) == sorted(one.path for one in sources)
    parsed.clear()
    write(tmp_path / "p3/models.yaml", many(2, 10))
    found = Catalog(sources, folder)
    assert parsed == [sources[3].path]
    assert found.names() == ["m0", "m1", "m2", "m4", "m10", "m11"]
    assert Catalog(sources[:4], folder).names() == ["m0", "m1", "m2", "m10", "m11"]
    assert len(parsed) == 1


# -- it follows the texts ------------------------------------------------------------------------------------------------


def test_a_changed_text_is_packed_anew(tmp_path: Path, folder: Path, parsed: list[str]) -> None:
    path = write(tmp_path / "models.yaml", many(1))
    assert Catalog([source(path)], folder).names() == ["m0"]
    path.write_text(path.read_text().replace("m0", "n0"))
    os.utime(path, ns=(LONG_AGO + 1, LONG_AGO + 1))
    assert Catalog([source(path)], folder).names() == ["n0"]
    assert len(parsed) == 2 and len(files(folder)) == 1


def test_a_text_that_was_only_touched_is_not_parsed_again(tmp_path: Path, folder: Path, parsed: list[str]) -> None:
    path = write(tmp_path / "models.yaml", many(1))
    Catalog([source(path)], folder)
    os.utime(path, ns=(LONG_AGO + 1, LONG_AGO + 1))
    for _ in range(2):
        assert Catalog([source(path)], folder).names() == ["m0"]
    assert len(parsed) == 1
    (packed,) = (Packed(folder / name) for name in files(folder))
    assert packed.facts[0]["mtime_ns"] == LONG_AGO + 1


@pytest.mark.parametrize("count", [1, 2])
def test_a_change_without_a_change_of_size_and_time_is_seen_where_it_was_just_written(
    count: int, tmp_path: Path, folder: Path
) -> None:
    paths = [write(tmp_path / f"{i}/models.yaml", many(1, i), at=None) for i in range(count)]
    sources = [source(path, FAMILY, distribution="d") for path in paths]
    for name in ("m0", "n0", "o0"):
        before = paths[0].stat()
        paths[0].write_text("registry: 1\nmodels:\n  " + name + ": {family: bert, source: 'hf://a/0@1'}\n\n")
        os.utime(paths[0], ns=(before.st_atime_ns, before.st_mtime_ns))
        assert Catalog(sources, folder).maybe_resolve(name) is not None


@pytest.mark.parametrize("count", [1, 2])
def test_a_change_whose_time_was_set_back_is_seen(count: int, tmp_path: Path, folder: Path) -> None:
    paths = [write(tmp_path / f"{i}/models.yaml", many(1, i)) for i in range(count)]
    sources = [source(path, FAMILY, distribution="d") for path in paths]
    assert Catalog(sources, folder).maybe_resolve("m0") is not None
    paths[0].write_text(paths[0].read_text().replace("m0", "n0"))
    os.utime(paths[0], ns=(LONG_AGO, LONG_AGO))
    assert Catalog(sources, folder).maybe_resolve("n0") is not None
    assert Catalog(sources, folder).maybe_resolve("m0") is None


def test_another_home_is_another_meaning(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [source(write(tmp_path / f"{i}/models.yaml", f"  m{i}: {{family: bert, source: ~/x}}"), FAMILY) for i in (0, 1)]
    for home in ("/one", "/two", "/one"):
        monkeypatch.setenv("HOME", home)
        assert Catalog(sources, folder).resolve("m1").source == f"{home}/x"
        assert Catalog(sources[:1], folder).resolve("m0").source == f"{home}/x"


def test_another_parser_may_say_something_else(
    tmp_path: Path, folder: Path, parsed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "models.yaml", many(1))
    Catalog([source(path)], folder)
    monkeypatch.setattr(registry.catalog.shelf, "_maker", lambda: [["schema.py", 1, 1]])
    Catalog([source(path)], folder)
    Catalog([source(path)], folder)
    assert len(parsed) == 2


def test_a_text_that_cannot_be_read_spares_the_others_and_is_asked_for_again(tmp_path: Path, folder: Path) -> None:
    paths = [write(tmp_path / f"{i}/models.yaml", many(1, i)) for i in range(3)]

    def refuse() -> bytes:
        raise PermissionError(13, "Permission denied")

    good = [source(path, FAMILY, distribution=f"d{i}") for i, path in enumerate(paths)]
    sources = [good[0], CatalogSource(FAMILY, str(paths[1]), refuse, distribution="d1"), good[2]]
    for _ in range(2):
        with pytest.warns(RegistryWarning, match=f"{paths[1]}:1:1: .*Permission denied"):
            found = Catalog(sources, folder)
        assert found.names() == ["m0", "m2"] and found.resolve("m2").source == "hf://a/2@1"
    assert Catalog(good, folder).names() == ["m0", "m1", "m2"]


# -- it does no harm -----------------------------------------------------------------------------------------------------


def damage_of(data: bytes, kind: str, at: float) -> bytes:
    position = int(at * (len(data) - 1))
    if kind == "flip":
        return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
    if kind == "newline":
        return data[:position] + b"\n" + data[position + 1 :]
    if kind == "zeroes":
        return data[:position] + bytes(len(data) - position)
    if kind == "cut":
        return data[:position]
    return data + b"more\n"


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["flip", "newline", "zeroes", "cut", "longer"]), st.floats(0, 1), st.integers(0, 39))
def test_damage_is_noticed_before_it_is_believed(tmp_path: Path, kind: str, at: float, number: int) -> None:
    folder = tmp_path / "packed"
    path = tmp_path / "models.yaml"
    if not path.exists():
        write(path, many(40))
    Catalog([source(path)], folder)
    (packed,) = folder.iterdir()
    packed.write_bytes(damage_of(packed.read_bytes(), kind, at))
    found = Catalog([source(path)], folder)
    assert found.resolve(f"m{number}").source == f"hf://a/{number}@1"
    assert found.maybe_resolve(f"m{number}x") is None
    assert set(found.names()) == {f"m{i}" for i in range(40)}


@pytest.mark.parametrize("victim", ["all", "together", "one"])
def test_what_was_damaged_is_made_anew(victim: str, tmp_path: Path, folder: Path) -> None:
    sources = [source(write(tmp_path / f"{i}/models.yaml", many(3, 3 * i)), FAMILY, distribution=f"d{i}") for i in (0, 1)]
    Catalog(sources, folder)
    packed = [path for path in folder.iterdir() if path.suffix == ".catalog"]
    whole = {path: path.read_bytes() for path in packed}
    for path, data in whole.items():
        together = len(Packed(path).facts) == 2
        if victim == "all" or together == (victim == "together"):
            path.write_bytes(data.replace(b"hf://a/4@1", b"hf://a/5@1"))
    assert Catalog(sources, folder).resolve("m4").source == "hf://a/4@1"
    assert Catalog(sources[1:], folder).resolve("m4").source == "hf://a/4@1"
    assert {path: path.read_bytes() for path in packed} == whole


def test_what_goes_while_it_is_used_is_made_anew(tmp_path: Path, folder: Path) -> None:
    path = write(tmp_path / "models.yaml", many(9))
    catalog = Catalog([source(path)], folder)
    shutil.rmtree(folder)
    assert catalog.resolve("m1").source == "hf://a/1@1"
    assert len(files(folder)) == 1
    write(path, many(9, 100))
    Catalog([source(path)], folder)  # another process packs it anew: this one sees the new text
    assert catalog.maybe_resolve("m108") is not None


@pytest.mark.parametrize("kind", ["a file", "below a file"])
def test_without_a_cache_that_can_be_written_the_texts_are_read(kind: str, tmp_path: Path) -> None:
    (blocked := tmp_path / "blocked").write_text("")
    folder = blocked if kind == "a file" else blocked / "catalogs"
    sources = [source(write(tmp_path / f"{i}/models.yaml", many(1, i)), FAMILY, distribution="d") for i in (0, 1)]
    assert Catalog(sources, folder).names() == ["m0", "m1"]
    assert Catalog(sources[:1], folder).names() == ["m0"]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "models.yaml", many(1))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        assert Catalog([source(path)], folder).names() == ["m0"]
    assert files(folder) == []


def test_only_its_user_may_have_written_it(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "models.yaml", many(1))
    Catalog([source(path)], folder)
    (packed,) = folder.iterdir()
    assert stat.S_IMODE(packed.stat().st_mode) == 0o600
    forged = packed.read_bytes()
    packed.write_bytes(b"")
    packed.chmod(0o666)
    assert Catalog([source(path)], folder).names() == ["m0"]
    assert packed.read_bytes() == forged and stat.S_IMODE(packed.stat().st_mode) == 0o600
    with monkeypatch.context() as patched:
        patched.setattr(os, "geteuid", lambda: packed.stat().st_uid + 1)
        assert Catalog([source(path)], folder).names() == ["m0"]
        # Another user has a file of another name, which is not his own for the file system here.
        assert len(files(folder)) == 2
        assert not is_stale(packed)


def pack_often(paths: list[str], folder: str, names: list[str]) -> list[str]:
    sources = [source(Path(path), FAMILY, distribution="d") for path in paths]
    return [Catalog(sources, Path(folder)).resolve(name).source for name in names for _ in range(3)]


def test_processes_and_threads_that_pack_at_once_do_no_harm(tmp_path: Path, folder: Path) -> None:
    paths = [str(write(tmp_path / f"{i}/models.yaml", many(40, 40 * i), at=None)) for i in range(3)]
    names = ["m1", "m50", "m119"]
    wanted = [f"hf://a/{name[1:]}@1" for name in names for _ in range(3)]
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.starmap(pack_often, [(paths, str(folder), names)] * 6) == [wanted] * 6
    shutil.rmtree(folder)
    found: list[list[str]] = []
    threads = [threading.Thread(target=lambda: found.append(pack_often(paths, str(folder), names))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [wanted] * 4
    assert not [name for name in files(folder) if name.endswith(".tmp")]


# -- upkeep --------------------------------------------------------------------------------------------------------------


def test_prune_removes_packed_files_of_which_the_text_is_gone_or_another(tmp_path: Path, folder: Path) -> None:
    kept, gone, changed = (write(tmp_path / f"{name}.yaml", many(1)) for name in ("kept", "gone", "changed"))
    for path in (kept, gone, changed):
        Catalog([source(path)], folder)
    of = {Packed(folder / name).facts[0]["path"]: name for name in files(folder)}
    gone.unlink()
    write(changed, many(2))
    newer, older, damaged = (
        folder / f"999-{'a' * 40}.catalog",
        folder / f"0-{'a' * 40}.catalog",
        folder / f"1-{'b' * 40}.catalog",
    )
    for path in (newer, older, damaged):
        path.write_bytes(b"?")
        path.chmod(0o600)
    left = folder / f".1-{'c' * 40}.catalog.x.tmp"
    left.write_bytes(b"half")
    done = prune(Cache((folder.parent,)))
    assert files(folder) == sorted([left.name, newer.name, of[str(kept)]])
    assert done.freed == 0 and {removed.kind for removed in done.removed} == {"record"}
    os.utime(left, ns=(LONG_AGO, LONG_AGO))
    prune(Cache((folder.parent,)))
    assert left.name not in files(folder)
    assert Catalog([source(kept)], folder).names() == ["m0"]


def test_a_catalog_is_no_model_of_the_cache(tmp_path: Path, folder: Path) -> None:
    from registry.store.upkeep.inventory import contents

    Catalog([source(write(tmp_path / "models.yaml", many(3)))], folder)
    held = contents(Cache((folder.parent,)))
    assert not held.models
    with (folder / files(folder)[0]).open("rb") as file:
        assert json.loads(file.readline()[9:])["format"] == registry.catalog.packed.FORMAT


# -- names of packages that are gone -------------------------------------------------------------------------------------


def test_a_name_of_a_package_that_is_gone_says_what_to_install(tmp_path: Path, folder: Path) -> None:
    sources = [
        source(
            write(tmp_path / f"{name}/models.yaml", f"  {name}-small: {{family: bert, source: ./x}}"),
            kind,
            distribution=name,
            version="1.2",
        )
        for name, kind in (("registry-acme", FAMILY), ("acme-models", PACKAGE), ("registry-zeta", FAMILY))
    ]
    sources.sort(key=lambda one: one.kind)
    Catalog(sources, folder)
    left = [one for one in sources if one.distribution == "registry-zeta"]
    found = Catalog(left, folder)
    assert found.resolve("registry-zeta-small").family == "bert"
    for name in ("registry-acme", "acme-models"):
        with pytest.raises(UnknownModel, match=f"provided by {name} 1.2, which is not installed; pip install {name}") as caught:
            found.resolve(f"{name}-small")
        assert caught.value.distribution == name and not caught.value.suggestions
    with pytest.raises(UnknownModel, match="did you mean 'registry-zeta-small'") as caught:
        found.resolve("registry-zeta-smal")
    assert caught.value.distribution is None
    # Installed again, in a version that has the name no more, it is forgotten.
    acme = next(one for one in sources if one.distribution == "registry-acme")
    write(Path(acme.path), "  acme-large: {family: bert, source: ./x}")
    with pytest.raises(UnknownModel) as caught:
        Catalog([acme, *left], folder).resolve("registry-acme-small")
    assert caught.value.distribution is None


@pytest.mark.parametrize(
    "text", ["", "[]", '{"format": 1, "distributions": {"d": 1}}', '{"format": 2, "distributions": {}}', "[" * 9999]
)
def test_memory_that_is_damaged_is_forgotten(text: str, tmp_path: Path, folder: Path) -> None:
    sources = [
        source(write(tmp_path / f"{i}/models.yaml", many(1, i)), FAMILY, distribution=f"d{i}", version="1") for i in (0, 1, 2)
    ]
    Catalog(sources, folder)
    (memory,) = folder.glob("*.names.json")
    memory.write_text(text)
    with pytest.raises(UnknownModel, match="registry list"):
        Catalog(sources[:2], folder).resolve("zzz")
    with pytest.raises(UnknownModel, match="was provided by d1 1"):
        Catalog([sources[0], sources[2]], folder).resolve("m1")


def test_memory_is_kept_as_long_as_its_environment(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    (environment := tmp_path / "venv").mkdir()
    monkeypatch.setattr(sys, "prefix", str(environment))
    Catalog([source(write(tmp_path / f"{i}/models.yaml", many(1, i)), FAMILY, distribution=f"d{i}") for i in (0, 1)], folder)
    for there in (True, False):
        if not there:
            environment.rmdir()
        prune(Cache((folder.parent,)))
        assert len(list(folder.glob("*.names.json"))) == there


def test_a_folder_stands_for_the_catalog_inside_it(tmp_path: Path, folder: Path) -> None:
    write(tmp_path / "models.yaml", many(1))
    assert Catalog([file_source(USER, tmp_path)], folder).names() == ["m0"]
