"""Thirty-odd mistakes in a project's models.yaml: each is told with its place and what to do, and spares the rest."""

from __future__ import annotations

import random
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.catalog import yaml_nodes as document
from registry.catalog.catalog import Catalog
from registry.catalog.edit.entries import add_entry, remove_entry
from registry.catalog.layers import CatalogSource, LayerKind, read_bytes
from registry.errors import CatalogError, RegistryError, RegistryWarning, UnknownModel
from registry.lockfile.format import read_lock
from registry.model_registry import ModelRegistry
from tests.processes import ROOT

#: The file but for its mistake: what stands in line 7 and below is the mistake's.
SOUND = """\
# Our models.
registry: 1
models:
  good: {family: bert, source: ./good}
  also: {alias: good}
  bert-base-cased: {base: bert-base-cased, head: masked-lm, override: true}
"""
H = "0123456789abcdef" * 4

#: Mistake, its line and column, and words of the message: what is wrong and, last, what to do.
MISTAKES = {
    "a key misspelt": ("  m: {famly: bert}", 7, 7, ["'famly'", "did you mean 'family'?"]),
    "a key that is none": ("  m: {family: bert, colour: red}", 7, 21, ["'colour'", "known keys: alias, base"]),
    "a number for a family": ("  m: {family: 3, source: x}", 7, 15, ["the int 3", "put it in quotes"]),
    "no source": ("  m: {family: bert}", 7, 3, ["have a source", "add `source:` or `base:`"]),
    "no family": ("  m: {source: ./x}", 7, 3, ["have a family", "add `family:` or `base:`"]),
    "an empty entry": ("  m: {}", 7, 6, ["is empty", "add `source` or `base`"]),
    "text for an entry": ("  m: bert", 7, 6, ["a mapping", "write {key: value}"]),
    "a home of nobody": ("  m: {family: bert, source: ~nobody-here/x}", 7, 29, ["no known user", "write it in full"]),
    "one mirror for a list": ("  m: {base: good, mirrors: https://a/}", 7, 28, ["a list", "write [a, b]"]),
    "a list of settings": ("  m: {base: good, config: [a]}", 7, 27, ["a mapping", "write {key: value}"]),
    "a short hash": ("  m: {base: good, files: {f: {sha256: 12ab}}}", 7, 39, ["64 hex digits", "run sha256sum"]),
    "a size with a unit": ("  m: {base: good, files: {f: {size: 5MB}}}", 7, 37, ["number of bytes", "without a unit"]),
    "a pin misspelt": (f"  m: {{base: good, files: {{f: {{sha265: {H}}}}}}}", 7, 31, ["'sha265'", "did you mean 'sha256'?"]),
    "a file outside": ("  m: {base: good, files: {../f: {}}}", 7, 27, ["'../f'", "path part '..'", "rename it"]),
    "two files that are one": ("  m: {base: good, files: {f: , F: }}", 7, 32, ["only in case", "remove one"]),
    "a word for true": ("  good2: {base: good, override: yes}", 7, 33, ["true or false", "write `true`"]),
    "a name with a blank": ("  m m: {base: good}", 7, 3, ["a model name", "'m m'", "use at most 200 letters, digits"]),
    "an alias with more": ("  m: {alias: good, head: lm}", 7, 20, ["only another name", "use `base`"]),
    "an alias to nowhere": ("  m: {alias: goood}", 7, 7, ["'goood' is not", "did you mean 'good'?"]),
    "a base that is no name": ("  m: {base: zzzzz}", 7, 7, ["'zzzzz' is not", "`registry list` shows the names"]),
    "a base that is an alias": ("  m: {base: also}", 7, 7, ["to be a model", "'also' is an alias", "name the model itself"]),
    "a circle of aliases": ("  m: {alias: n}\n  n: {alias: m}", 8, 7, ["leads back to itself: m -> n -> m", "name another"]),
    "a circle of bases": ("  m: {base: n}\n  n: {base: m}", 7, 7, ["leads back to itself: m -> n -> m", "name another"]),
    "a circle of replacements": (
        "  m: {base: good, deprecated: {since: 2026-05, use: n}}\n  n: {alias: m, deprecated: {since: 2026-05}}",
        *(7, 48, ["leads back to itself: m -> n -> m", "name another"]),
    ),
    "a month that is none": ("  m: {alias: good, deprecated: {since: 2026-13}}", 7, 40, ["YYYY-MM", "write such as 2026-05"]),
    "no month": ("  m: {alias: good, deprecated: {note: x}}", 7, 32, ["since when", "add `since: YYYY-MM`"]),
    "off without a reason": ("  m: {disabled: true}", 7, 17, ["disabled of model 'm'", "the bool True", "put it in quotes"]),
    "off and on": ("  m: {disabled: why, source: x}", 7, 22, ["only why it is off", "remove one"]),
    "another's name": ("  gpt2: {family: gpt2, source: ./x}", 7, 3, ["already defined at", "write `override: true`"]),
    "a key twice": ("  m: {family: bert, family: gpt2, source: x}", 7, 21, ["twice, first in line 7", "remove one"]),
    "a name twice": ("  m: {base: good}\n  m: {base: good}", 8, 3, ["'m' stands twice, first in line 7", "remove one"]),
    "a tag": ("  m: {family: !!str bert, source: x}", 7, 15, ["YAML tags", "remove it"]),
    "an anchor": ("  m: &m {family: bert, source: x}", 7, 6, ["anchors", "use `base:`"]),
}
#: Mistakes in the file rather than in an entry. The mistaken text stands for what the pattern finds.
FILE_MISTAKES = {
    "a host": (r"\Z", "hosts:\n  h: {token_env: T}\n", 8, 3, ["host 'h'", "name this file in REGISTRY_MODELS"]),
    "a secret": (r"\Z", "hosts:\n  h: {token_env: s3cr-t}\n", 8, 18, ["environment variable", "never write the secret"]),
    "a section misspelt": (r"\Z", "modles: {}\n", 7, 1, ["'modles'", "did you mean 'models'?"]),
    "another version": ("registry: 1", "registry: 7", 2, 11, ["schema version 1", "upgrade"]),
    "version as text": ("registry: 1", "registry: '1'", 2, 11, ["schema version 1", "write `registry: 1`"]),
    "models as a list": (r"models:\n(.*\n)+", "models: [good]\n", 3, 9, ["a mapping", "write {key: value}"]),
    "a tab": (r"\Z", "\tm: {base: good}\n", 7, 1, ["to be YAML", "mend"]),
    "an open bracket": (r"\Z", "  m: {base: good\n", 8, 1, ["to be YAML", "mend"]),
    "a second document": (r"\Z", "---\nregistry: 1\n", 7, 1, ["one YAML document", "remove"]),
}


def test_there_are_thirty() -> None:
    assert len(MISTAKES) + len(FILE_MISTAKES) >= 30


def test_the_file_without_a_mistake_is_sound() -> None:
    Path("models.yaml").write_text(SOUND)
    registry = ModelRegistry()
    assert registry.resolve("bert-base-cased").head == "masked-lm" and registry.resolve("also").name == "good"
    assert not registry.catalog.broken and not registry.catalog.problems


@pytest.mark.parametrize("packed", [False, True], ids=["parsed", "packed"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_an_entry_tells_its_place_and_what_to_do(mistake: str, packed: bool) -> None:
    text, line, column, words = MISTAKES[mistake]
    path = Path("models.yaml").absolute()
    path.write_text(f"{SOUND}{text}\n")
    registry = ModelRegistry()
    if packed:
        registry.resolve("good")
        registry = ModelRegistry()
    name = re.match(r"  ([^:]*):", text)[1]  # type: ignore[index]
    with pytest.raises(CatalogError) as caught:
        registry.resolve(name)
    check(caught.value, path, line, column, words)
    assert {error.line for error in registry.catalog.broken.values()} <= {7, 8}
    assert {"good", "also", "bert-base-cased", "bert-base-uncased"} <= set(registry.catalog.names())
    assert registry.resolve("good").source == str(path.parent / "good")


@pytest.mark.parametrize("packed", [False, True], ids=["parsed", "packed"])
@pytest.mark.parametrize("mistake", FILE_MISTAKES)
def test_a_mistake_outside_the_entries_is_told_to_who_asks_for_a_name_of_the_file(mistake: str, packed: bool) -> None:
    pattern, text, line, column, words = FILE_MISTAKES[mistake]
    path = Path("models.yaml").absolute()
    path.write_text(re.sub(pattern, text, SOUND, count=1))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        registry = ModelRegistry()
        if packed:
            _ = registry.catalog
            registry = ModelRegistry()
        (problem,) = registry.catalog.problems
    check(problem, path, line, column, words)
    assert str(problem) in {str(one.message) for one in told}
    with pytest.raises(UnknownModel, match=re.escape(str(problem))):
        registry.resolve("nothing")
    assert registry.resolve("bert-base-uncased").family == "bert"


def check(error: RegistryError, path: Path, line: int, column: int, words: list[str]) -> None:
    assert isinstance(error, CatalogError)
    assert (error.file, error.line, error.column) == (str(path), line, column), error
    assert str(error).startswith(f"[R201] {path}:{line}:{column}: ")
    for word in words:
        assert word in error.problem


# -- any bytes -----------------------------------------------------------------------------------------------------------

#: What YAML gives a meaning, and what no file should hold.
BITS = [
    *(b"\0", b"\xff", b"\xef\xbb\xbf", b"&a ", b"*a", b"!!binary ", b"!!python/object:os.system ", b"<<: ", b"? ", b"- ", b"["),
    *(
        b"{",
        b"}",
        b"]",
        b"|",
        b">",
        b'"',
        b"'",
        b"%YAML 1.1\n",
        b"---\n",
        b"...\n",
        b"9" * 200,
        b"9" * 5000,
        b"0x" + b"f" * 5000,
    ),
    *(b"1e999", b"1e" + b"9" * 90, b".nan", b".inf", b"2026-01-01 00:00:00", b"~", b"true", b"1_000", b"\xed\xa0\x80", b"0o9"),
    *(
        b"\xe2\x80\xae",
        b"\xe2\x80\xa8",
        b"\xc2\x85",
        b"\t",
        b"\r",
        b"#",
        b": ",
        b"\n  ",
        b"a" * 3000,
        b"[" * 100,
        b"{a: " * 100,
    ),
    *(b"!<tag:x> ", b"@", b"`", b'"\\ud800"', b'"\\UFFFFFFFF"', b'"\\u0000"', b"? [a]\n: b\n", b"- " * 60, b"? " * 60, b"+1"),
]


def mutated(chance: random.Random, data: bytes) -> bytes:
    for _ in range(chance.randint(1, 4)):
        at, other = chance.randint(0, len(data)), chance.randint(0, len(data))
        lines = data.split(b"\n")
        line = chance.randrange(len(lines))
        match chance.randint(0, 5):
            case 0:
                data = data[:at] + chance.choice(BITS) + data[at:]
            case 1:
                data = data[:at] + data[at + chance.randint(1, 20) :]
            case 2:
                data = data[:at] + bytes([chance.randint(0, 255)]) + data[at + 1 :]
            case 3:
                data = data[:at] + data[other : other + 60] + data[at:]
            case 4:
                key, colon, _ = lines[line].partition(b": ")
                data = b"\n".join([*lines[:line], key + colon + chance.choice(BITS), *lines[line + 1 :]])
            case _:
                data = b"\n".join([*lines[:line], chance.choice(lines), *lines[line:]])
    return data


REAL = [path.read_bytes() for path in (ROOT / "models.yaml", *ROOT.glob("plugins/*/models.yaml"))]
REAL += re.findall(rb"^```yaml\n(registry: .*?)^```$", (ROOT / "docs/models-yaml.md").read_bytes(), re.MULTILINE | re.DOTALL)
LOCKS = re.findall(rb"^```yaml\n(registry_lock.*?)^```$", (ROOT / "docs/lock-file.md").read_bytes(), re.MULTILINE | re.DOTALL)


def only_catalog_errors(work: Callable[[], object]) -> None:
    try:
        work()
    except CatalogError as error:
        assert re.match(r"\[R201\] .*:\d+:\d+: ", str(error)) and len(str(error)) < 8000


@pytest.mark.parametrize("seed", range(200))
def test_no_bytes_end_in_another_error_than_ours(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    data = mutated(chance, chance.choice(REAL))
    file = read_bytes(data, "/x/models.yaml")
    found = [*file.problems, *file.broken.values()]
    assert all(re.match(r"\[R201\] /x/models\.yaml:\d+:\d+: ", str(error)) and len(str(error)) < 8000 for error in found)
    good = CatalogSource(LayerKind.USER, "/y/models.yaml", lambda: b"registry: 1\nmodels: {good: {family: bert, source: ./x}}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RegistryWarning)
        catalog = Catalog([good, CatalogSource(LayerKind.ARGUMENT, "/x/models.yaml", lambda: data)])
        assert "good" in catalog.names()
        for name in catalog.names():
            catalog.peek(name)
    text = data.decode("utf-8", "replace")
    only_catalog_errors(lambda: add_entry(text, "new", {"family": "bert", "source": "./x"}, "/x/models.yaml"))
    for name in [*file.entries][:2]:
        only_catalog_errors(lambda name=name: remove_entry(text, name, "/x/models.yaml"))
    (lock := tmp_path / "models.lock").write_bytes(mutated(chance, chance.choice(LOCKS)))
    only_catalog_errors(lambda: read_lock(lock))


_ENTRY = "registry: 1\nmodels:\n  m:\n    family: bert\n    source: x\n    config: "


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{a: " + "9" * 8_000_000 + "}", "at most 100 digits"),
        ("{a: 1e" + "9" * 80 + "}", "beyond every number"),
        ("[" * 1_000_000, "nest at most 40 deep"),
        ("\n" + "".join(f"{' ' * depth}a:\n" for depth in range(6, 1000)), "nest at most 40 deep"),
    ],
)
def test_a_value_beyond_measure_is_a_short_message_with_its_place(value: str, words: str) -> None:
    file = read_bytes((_ENTRY + value).encode(), "/x/models.yaml")
    (error,) = file.problems or file.broken.values()
    assert words in str(error) and len(str(error)) < 400


def test_a_file_of_too_many_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "_MAX_VALUES", 100)
    (error,) = read_bytes((_ENTRY + "[" + "1, " * 200 + "]").encode(), "/x/models.yaml").problems
    assert "at most 100 keys and values" in str(error) and error.line == 6


def test_a_text_beyond_measure_is_refused() -> None:
    file = read_bytes(f"registry: 1\nmodels: {{m: {{family: {'x' * 1_000_000}, source: x}}}}".encode(), "/x/models.yaml")
    assert "at most 10,000 characters" in str(file.broken["m"])


@pytest.mark.parametrize(("count", "warned"), [(20, 20), (21, 21), (1000, 21)])
def test_a_list_does_not_drown_in_warnings(count: int, warned: int) -> None:
    circle = "".join(f"  x{n}: {{base: x{(n + 1) % count}}}\n" for n in range(count))
    Path("models.yaml").write_text(f"registry: 1\nmodels:\n{circle}  good: {{family: bert, source: ./x}}\n")
    with pytest.warns(RegistryWarning) as caught:
        assert "good" in ModelRegistry().list_models()
    assert len(caught) == warned
    more = {20: "", 21: "1 further entry cannot", 1000: "980 further entries cannot"}[count]
    assert more in str(caught[-1].message)
