"""What one models.yaml may say, and where each mistake in it is."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from registry.catalog.entry import CatalogFile, Deprecation, FilePin, Host, Origin
from registry.catalog.schema import FIELDS, HOST_FIELDS, read_catalog

PATH = "/where/it/is/models.yaml"
HASH = "0123456789abcdef" * 4


def read(text: str) -> CatalogFile:
    return read_catalog(text, PATH)


EVERY_KEY = f"""\
registry: 1
models:
  acme-support:
    family: bert
    source: s3://acme-models/support-bert/
    mirrors: [https://models.acme.internal/support-bert/, ./copy]
    head: sequence-classification
    config: {{num_labels: 3, id2label: {{0: no, 1: on}}}}
    tokenizer:
      do_lower_case: true
    files:
      model.safetensors: {{sha256: {HASH.upper()}, size: 440449768}}
      sub/config.json: {{url: https://models.acme.internal/config.json}}
      vocab.txt:
    description: routes support mail
    license: proprietary
    override: true
    deprecated: {{since: 2026-05, note: too old}}
  gpt2-legal: {{base: gpt2-medium, source: ./checkpoints/legal}}
  support: {{alias: acme-support, description: short, override: false, deprecated: {{since: 2026-05-31}}}}
  leaky: {{disabled: its training data was withdrawn, description: short, override: true}}
  older: {{base: gpt2-medium, deprecated: {{since: 2026-05, use: acme-support}}}}
hosts:
  Models.Acme.internal: {{token_env: ACME_TOKEN}}
  localhost:8080: {{token_env: _t}}
  "[::1]:9000": {{token_env: T}}
  models.example:8443:
    token_env: EXAMPLE_TOKEN
    header: X-Private-Token
    mirrors: [https://mirror.example/hub/, "http://127.0.0.9:8080"]
    ca_file: certs/example.pem
    parallelism: 16
  mirrored.example: {{mirrors: [https://mirror.example]}}
"""


def test_every_key_is_read() -> None:
    file = read(EVERY_KEY)
    assert file.ours and not file.problems and not file.broken
    entry = file.entries["acme-support"]
    assert entry.fields == {
        "family": "bert",
        "source": "s3://acme-models/support-bert/",
        "mirrors": ("https://models.acme.internal/support-bert/", "/where/it/is/copy"),
        "head": "sequence-classification",
        "config": {"num_labels": 3, "id2label": {"0": "no", "1": "on"}},
        "tokenizer": {"do_lower_case": True},
        "files": {
            "model.safetensors": FilePin(sha256=HASH, size=440449768),
            "sub/config.json": FilePin(url="https://models.acme.internal/config.json"),
            "vocab.txt": FilePin(),
        },
        "description": "routes support mail",
        "license": "proprietary",
        "deprecated": Deprecation("2026-05", "too old"),
    }
    assert entry.override
    assert file.entries["gpt2-legal"].fields == {"base": "gpt2-medium", "source": "/where/it/is/checkpoints/legal"}
    alias = file.entries["support"]
    assert alias.fields == {"alias": "acme-support", "description": "short", "deprecated": Deprecation("2026-05-31")}
    assert not alias.override
    assert file.entries["leaky"].fields == {"disabled": "its training data was withdrawn", "description": "short"}
    assert file.entries["older"].fields["deprecated"] == Deprecation("2026-05", use="acme-support")
    assert set(FIELDS) == set().union(*(entry.fields for entry in file.entries.values())) | {"override"}


def test_every_field_knows_where_it_was_said() -> None:
    entry = read(EVERY_KEY).entries["acme-support"]
    assert entry.origin == Origin(PATH, 3, 3)
    assert entry.origins["family"] == Origin(PATH, 4, 5)
    assert entry.origins["config"] == Origin(PATH, 8, 5)
    assert entry.origins["config.num_labels"] == Origin(PATH, 8, 14)
    assert entry.origins["config.id2label"] == Origin(PATH, 8, 29)
    assert entry.origins["tokenizer.do_lower_case"] == Origin(PATH, 10, 7)
    assert entry.origins["files.sub/config.json"] == Origin(PATH, 13, 7)
    assert str(entry.origins["override"]) == f"{PATH}:17"


def test_hosts_are_read_without_regard_to_case() -> None:
    assert read(EVERY_KEY).hosts == {
        "models.acme.internal": Host(name="models.acme.internal", token_env="ACME_TOKEN", origin=Origin(PATH, 24, 3)),
        "localhost:8080": Host(name="localhost:8080", token_env="_t", origin=Origin(PATH, 25, 3)),
        "[::1]:9000": Host(name="[::1]:9000", token_env="T", origin=Origin(PATH, 26, 3)),
        "models.example:8443": Host(
            name="models.example:8443",
            origin=Origin(PATH, 27, 3),
            token_env="EXAMPLE_TOKEN",
            header="X-Private-Token",
            mirrors=("https://mirror.example/hub/", "http://127.0.0.9:8080"),
            ca_file="/where/it/is/certs/example.pem",
            parallelism=16,
        ),
        "mirrored.example": Host(
            name="mirrored.example",
            origin=Origin(PATH, 33, 3),
            token_env=None,
            header="Authorization",
            mirrors=("https://mirror.example",),
            ca_file=None,
            parallelism=None,
        ),
    }
    assert set(HOST_FIELDS) == {field.name for field in fields(Host)} - {"name", "origin"}


@pytest.mark.parametrize("text", ["registry: 1\n", "registry: 1\nmodels:\nhosts:\n", "{registry: 1, models: {}, hosts: {}}"])
def test_a_catalog_may_hold_nothing(text: str) -> None:
    assert read(text) == CatalogFile(PATH)


@pytest.mark.parametrize(
    ("source", "meant"),
    [
        ("./a", "/where/it/is/a"),
        ("../a", "/where/it/is/../a"),
        ("a/b", "/where/it/is/a/b"),
        ("/a", "/a"),
        ("'~'", "/at/home"),
        ("~/a", "/at/home/a"),
        ("hf://org/repo@main", "hf://org/repo@main"),
        ("HTTPS://host/a", "HTTPS://host/a"),
        ("package://module/a", "package://module/a"),
        ("file:///a", "file:///a"),
    ],
)
def test_a_path_is_relative_to_the_file_that_says_it(source: str, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/at/home")
    assert read(f"registry: 1\nmodels:\n  m: {{family: bert, source: {source}}}").entries["m"].fields["source"] == meant
    if "://" not in source:
        assert read(f"registry: 1\nhosts:\n  h: {{ca_file: {source}}}").hosts["h"].ca_file == meant


@pytest.mark.parametrize(
    ("entry", "column", "words"),
    [
        # Column counts from the `{`, which stands in column 8 of line 4.
        ("{famly: bert}", 1, ["model 'bad'", "unknown key 'famly'", "did you mean 'family'?"]),
        ("{tokeniser: {}}", 1, ["unknown key 'tokeniser'", "did you mean 'tokenizer'?"]),
        ("{family: bert, xyz: 1}", 15, ["unknown key 'xyz'", "known keys: alias, base, config"]),
        ("{}", 0, ["model 'bad'", "empty", "`source` or `base`"]),
        ("", -1, ["model 'bad'", "mapping", "empty"]),
        ("bert", 0, ["model 'bad'", "mapping", "the str 'bert'"]),
        ("[family, bert]", 0, ["model 'bad'", "mapping", "a list"]),
        ("{family: 3}", 9, ["family of model 'bad'", "text", "the int 3", "quotes"]),
        ("{family: [bert]}", 9, ["family of model 'bad'", "text", "a list"]),
        ("{family: ''}", 9, ["family of model 'bad'", "text"]),
        ("{license: }", 10, ["license of model 'bad'", "text", "empty"]),
        ("{head: true}", 7, ["head of model 'bad'", "text", "the bool True"]),
        ("{description: 1.5}", 14, ["description of model 'bad'", "text", "the float 1.5"]),
        ("{source: {hf: x}}", 9, ["source of model 'bad'", "text", "a mapping"]),
        ("{source: ~no-such-user/a}", 9, ["source of model 'bad'", "'~no-such-user/a'", "no known user"]),
        ("{mirrors: https://a/}", 10, ["mirrors of model 'bad'", "list", "[a, b]"]),
        ("{mirrors: [https://a/, 5]}", 23, ["an item of mirrors of model 'bad'", "text", "the int 5"]),
        ("{config: [num_labels]}", 9, ["config of model 'bad'", "mapping", "a list"]),
        ("{tokenizer: cased}", 12, ["tokenizer of model 'bad'", "mapping", "the str 'cased'"]),
        ("{override: yes}", 11, ["override of model 'bad'", "true or false", "the str 'yes'"]),
        ("{override: 1}", 11, ["override of model 'bad'", "true or false", "the int 1"]),
        ("{files: [a]}", 8, ["files of model 'bad'", "mapping", "a list"]),
        ("{files: {a: pinned}}", 12, ["file 'a'", "mapping", "the str 'pinned'"]),
        ("{files: {a: {md5: x}}}", 13, ["file 'a'", "unknown key 'md5'", "sha256, size, url"]),
        ("{files: {a: {sha265: x}}}", 13, ["file 'a'", "unknown key 'sha265'", "did you mean 'sha256'?"]),
        ("{files: {a: {sha256: 12ab}}}", 21, ["sha256 of file 'a'", "64 hex digits", "'12ab'", "sha256sum"]),
        (f"{{files: {{a: {{sha256: {HASH}0}}}}}}", 21, ["sha256 of file 'a'", "64 hex digits"]),
        (f"{{files: {{a: {{sha256: {'g' * 64}}}}}}}", 21, ["sha256 of file 'a'", "64 hex digits"]),
        (f"{{files: {{a: {{sha256: {'1' * 64}}}}}}}", 21, ["sha256 of file 'a'", "64 hex digits", "the int"]),
        ("{files: {a: {sha256: }}}", 21, ["sha256 of file 'a'", "empty"]),
        ("{files: {a: {size: -1}}}", 19, ["size of file 'a'", "number of bytes", "the int -1"]),
        ("{files: {a: {size: 1.5}}}", 19, ["size of file 'a'", "number of bytes", "the float 1.5"]),
        ("{files: {a: {size: true}}}", 19, ["size of file 'a'", "number of bytes", "the bool True"]),
        ("{files: {a: {size: 5MB}}}", 19, ["size of file 'a'", "number of bytes", "'5MB'"]),
        ("{files: {a: {url: 5}}}", 18, ["url of file 'a'", "text"]),
        ("{files: {../x: {}}}", 9, ["file name of files of model 'bad'", "'../x'", "path part '..'"]),
        ("{files: {/etc/x: {}}}", 9, ["file name", "'/etc/x'", "empty path part"]),
        ("{files: {C:x: {}}}", 9, ["file name", "'C:x'", "character ':'"]),
        (r"{files: {a\b: {}}}", 9, ["file name", "character"]),
        (r'{files: {"a\0b": {}}}', 9, ["file name", r"'\x00'"]),
        (r"{files: {a\..\b: {}}}", 9, ["file name", "character"]),
        ("{files: {? " + "/".join(["x" * 199] * 6) + "}}", 11, ["file name", "1000 bytes in all"]),
        ("{files: {config.json: , Config.json: }}", 24, ["files of model 'bad'", "'Config.json'", "'config.json'", "case"]),
        (r'{files: {"é": {size: 1}, b: , "e\u0301": }}', 30, ["files of model 'bad'", r"'e\u0301'", r"'\xe9'", "Unicode form"]),
        ("{files: {Sub/a: , b: , c: , sub/A: }}", 28, ["'sub/A'", "'Sub/a'"]),
        ("{files: {CON: {}}}", 9, ["file name", "'CON'", "reserved"]),
        ("{files: {? " + "x" * 2000 + "}}", 11, ["file name", "200 bytes"]),
        ("{files: {'': {}}}", 9, ["file name", "is empty"]),
        ("{alias: good, source: ./x}", 14, ["model 'bad'", "only another name", "'source'", "`base`"]),
        ("{head: base, alias: good}", 1, ["model 'bad'", "only another name", "'head'"]),
        ("{alias: good, base: good}", 14, ["model 'bad'", "only another name", "'base'"]),
        ("{alias: [good]}", 8, ["alias of model 'bad'", "text", "a list"]),
        ("{alias: a b}", 8, ["alias of model 'bad'", "model name", "'a b'"]),
        ("{base: ../good}", 7, ["base of model 'bad'", "model name", "'../good'"]),
        ("{alias: good, deprecated: true}", 26, ["deprecated of model 'bad'", "mapping", "the bool True"]),
        ("{alias: good, deprecated: {note: x}}", 26, ["deprecated of model 'bad'", "since: YYYY-MM"]),
        ("{alias: good, deprecated: {since: 2026}}", 34, ["since of deprecated of model 'bad'", "YYYY-MM", "the int 2026"]),
        ("{alias: good, deprecated: {since: 2026-13}}", 34, ["since of", "YYYY-MM", "'2026-13'"]),
        ("{alias: good, deprecated: {since: May}}", 34, ["since of", "YYYY-MM", "'May'"]),
        ("{alias: good, deprecated: {since: 2026-05, note: 5}}", 49, ["note of deprecated of model 'bad'", "text"]),
        ("{alias: good, deprecated: {when: 2026-05}}", 27, ["unknown key 'when'", "note, since, use"]),
        ("{base: good, deprecated: {since: 2026-05, use: [good]}}", 47, ["use of deprecated of model 'bad'", "text", "a list"]),
        (
            "{base: good, deprecated: {since: 2026-05, use: a b}}",
            47,
            ["use of deprecated of model 'bad'", "model name", "'a b'"],
        ),
        ("{alias: good, deprecated: {since: 2026-05, use: good}}", 43, ["model 'bad'", "`alias`", "remove `use`"]),
        ("{disabled: }", 11, ["disabled of model 'bad'", "text", "empty"]),
        ("{disabled: true}", 11, ["disabled of model 'bad'", "text", "the bool True"]),
        ("{disabled: why, base: good}", 16, ["model 'bad'", "only why it is off", "'base'", "remove one"]),
        ("{alias: good, disabled: why}", 1, ["model 'bad'", "only why it is off", "'alias'"]),
    ],
)
def test_a_mistake_in_an_entry_has_its_place_and_spares_the_others(entry: str, column: int, words: list[str]) -> None:
    file = read(f"registry: 1\nmodels:\n  good: {{family: bert, source: ./a}}\n  bad: {entry}\n  fine: {{base: good}}\n")
    assert list(file.entries) == ["good", "fine"] and not file.problems
    error = file.broken["bad"]
    assert (error.file, error.line, error.column) == (PATH, 4, 8 + column)
    for word in words:
        assert word in error.problem


@pytest.mark.parametrize("name", ["a b", "-a", "../a", "hf://a", "''", "ü", ".a", "a/"])
def test_a_name_that_is_none_spares_the_others(name: str) -> None:
    file = read(f"registry: 1\nmodels:\n  good: {{family: bert, source: ./a}}\n  {name}: {{family: bert}}\n")
    assert list(file.entries) == ["good"]
    (error,) = file.broken.values()
    assert (error.line, error.column) == (4, 3)
    assert "a key of models is expected to be" in error.problem


@pytest.mark.parametrize(
    ("host", "column", "words"),
    [
        ("h: {}", 6, ["host 'h'", "token_env: NAME"]),
        ("h: {tokn_env: T}", 7, ["host 'h'", "unknown key 'tokn_env'", "did you mean 'token_env'?"]),
        ("h: {token: s3cr-t}", 7, ["host 'h'", "unknown key 'token'"]),
        ("h: {token_env: s3cr-t}", 18, ["token_env of host 'h'", "environment variable", "never write the secret"]),
        ("h: {token_env: 's3cr t'}", 18, ["token_env of host 'h'", "never write the secret"]),
        ("h: {token_env: 735551234567}", 18, ["token_env of host 'h'", "never write the secret"]),
        ("h: {token_env: }", 18, ["token_env of host 'h'", "environment variable"]),
        ("h: {ca_fil: x}", 7, ["host 'h'", "unknown key 'ca_fil'", "did you mean 'ca_file'?"]),
        ("h: {url: x}", 7, ["host 'h'", "unknown key 'url'", "ca_file, header, mirrors, parallelism, token_env"]),
        ("h: {}", 6, ["at least one of ca_file, header, mirrors, parallelism, token_env", "empty"]),
        ("h: {header: X-T}", 7, ["host 'h'", "`header`", "token_env: NAME"]),
        ("h: {token_env: T, header: Host}", 29, ["header of host 'h'", "'Host'", "connection", "X-Private-Token"]),
        ("h: {token_env: T, header: 'X-T: s3cr'}", 29, ["header of host 'h'", "HTTP header", "never write the secret"]),
        ("h: {token_env: T, header: 7355}", 29, ["header of host 'h'", "HTTP header"]),
        ("h: {token_env: T, header: }", 29, ["header of host 'h'", "HTTP header"]),
        ("h: {mirrors: https://a}", 16, ["mirrors of host 'h'", "list of URLs", "[https://"]),
        (
            "h: {mirrors: [https://a, http://b]}",
            28,
            ["an item of mirrors of host 'h'", "https URL", "http, which only this machine"],
        ),
        ("h: {mirrors: [https://s3cr@a]}", 17, ["an item of mirrors of host 'h'", "https URL", "never write a user"]),
        ("h: {mirrors: [./copy]}", 17, ["an item of mirrors of host 'h'", "https URL"]),
        ("h: {mirrors: [7355]}", 17, ["an item of mirrors of host 'h'", "https URL"]),
        ("h: {mirrors: [[https://a]]}", 17, ["an item of mirrors of host 'h'", "https URL"]),
        ("h: {ca_file: https://a/ca.pem}", 16, ["ca_file of host 'h'", "path of a PEM file", "relative to this file"]),
        ("h: {ca_file: file:///ca.pem}", 16, ["ca_file of host 'h'", "path of a PEM file"]),
        (r'h: {ca_file: "-----BEGIN PRIVATE KEY\ns3cr"}', 16, ["ca_file of host 'h'", "path of a PEM file"]),
        (r'h: {ca_file: "a\0b"}', 16, ["ca_file of host 'h'", "path of a PEM file"]),
        ("h: {ca_file: }", 16, ["ca_file of host 'h'", "path of a PEM file"]),
        ("h: {ca_file: [a]}", 16, ["ca_file of host 'h'", "path of a PEM file"]),
        ("h: {ca_file: ~no-such-user/ca.pem}", 16, ["ca_file of host 'h'", "no known user"]),
        ("h: {parallelism: 0}", 20, ["parallelism of host 'h'", "from 1 to 64", "the int 0"]),
        ("h: {parallelism: 65}", 20, ["parallelism of host 'h'", "from 1 to 64", "the int 65"]),
        ("h: {parallelism: -1}", 20, ["parallelism of host 'h'", "the int -1"]),
        ("h: {parallelism: true}", 20, ["parallelism of host 'h'", "the bool True"]),
        ("h: {parallelism: 2.0}", 20, ["parallelism of host 'h'", "the float 2.0"]),
        ("h: {parallelism: '4'}", 20, ["parallelism of host 'h'", "text"]),
        ("h: {parallelism: }", 20, ["parallelism of host 'h'", "empty"]),
        ("'https://u:s3cr@h/': {token_env: T}", 3, ["key of hosts", "host or host:port", "may be a secret"]),
        ("'h?token=s3cr': {token_env: T}", 3, ["key of hosts", "may be a secret"]),
        ("h: s3cr-t", 6, ["host 'h'", "mapping"]),
        ("https://h/: {token_env: T}", 3, ["key of hosts", "host or host:port", "'https://h/'"]),
        ("h:x: {token_env: T}", 3, ["key of hosts", "'h:x'"]),
        ("'': {token_env: T}", 3, ["key of hosts"]),
    ],
)
def test_a_mistake_in_a_host_has_its_place_and_shows_no_secret(host: str, column: int, words: list[str]) -> None:
    file = read(f"registry: 1\nmodels:\n  good: {{family: bert, source: ./a}}\nhosts:\n  {host}\n  ok: {{token_env: T}}\n")
    assert list(file.entries) == ["good"] and list(file.hosts) == ["ok"]
    (error,) = file.problems
    assert (error.file, error.line, error.column) == (PATH, 5, column)
    for word in words:
        assert word in error.problem
    assert "s3cr" not in str(error) and "7355" not in str(error)


SHAPES = [
    "{}",
    "Bearer {}",
    "X-Token: {}",
    "https://user:{}@h/",
    "https://{}@h",
    "https://h/?token={}",
    "https://h/#{}",
    "http://h/{}",
    "https://h/ {}",
    "\u0000{}",
    "-----BEGIN PRIVATE KEY-----\n{}",
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("where", [*HOST_FIELDS, "an item of mirrors", "the host itself"])
def test_a_secret_in_the_wrong_place_of_a_host_is_not_shown(where: str, shape: str) -> None:
    value = json.dumps(shape.format("s3cr"))
    if where == "the host itself":
        host = f"h: {value}"
    elif where == "an item of mirrors":
        host = f"h: {{mirrors: [https://a, {value}]}}"
    else:
        host = f"h: {{token_env: T, {where}: {value}}}" if where != "token_env" else f"h: {{token_env: {value}}}"
    for problem in read(f"registry: 1\nhosts:\n  {host}\n").problems:
        assert "s3cr" not in str(problem)


def test_a_host_that_stands_twice_in_another_case_is_a_mistake() -> None:
    file = read("registry: 1\nhosts:\n  A.example: {token_env: T}\n  a.EXAMPLE: {token_env: U}\n")
    assert file.hosts["a.example"].token_env == "T"
    (error,) = file.problems
    assert (error.line, error.column) == (4, 3)
    assert "host 'a.example' stands twice, first in line 3" in error.problem


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("2", ["schema version 1", "the int 2", "upgrade"]),
        ("99", ["schema version 1", "the int 99", "upgrade"]),
        ("0", ["schema version 1", "the int 0", "write `registry: 1`"]),
        ("'1'", ["schema version 1", "the str '1'", "write `registry: 1`"]),
        ("1.0", ["schema version 1", "the float 1.0"]),
        ("true", ["schema version 1", "the bool True"]),
        ("", ["schema version 1", "empty"]),
        ("{}", ["schema version 1", "a mapping"]),
    ],
)
def test_another_schema_version_is_not_guessed_at(version: str, words: list[str]) -> None:
    file = read(f"models:\n  m: {{family: bert, source: ./a}}\nregistry: {version}\n")
    assert not file.entries
    (error,) = file.problems
    assert error.line == 3
    for word in words:
        assert word in error.problem


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("registry: 1\nmodells: {}\nmodels: {m: {family: bert}}", 2, 1, ["unknown key 'modells'", "did you mean 'models'?"]),
        ("registry: 1\nx-mine: {}\nmodels: {m: {family: bert}}", 2, 1, ["unknown key 'x-mine'", "hosts, models, registry"]),
        ("registry: 1\nhosts: [a]\nmodels: {m: {family: bert}}", 2, 8, ["hosts", "mapping", "a list"]),
        ("registry: 1\nmodels: [a]\n", 2, 9, ["models", "mapping", "a list"]),
        ("registry: 1\nmodels: bert\n", 2, 9, ["models", "mapping", "the str 'bert'"]),
    ],
)
def test_a_mistake_outside_the_entries_spares_the_entries(text: str, line: int, column: int, words: list[str]) -> None:
    file = read(text)
    (error,) = file.problems
    assert (error.line, error.column) == (line, column)
    for word in words:
        assert word in error.problem
    assert list(file.entries) == (["m"] if "m:" in text else [])


def test_a_file_that_is_no_yaml_is_a_problem_and_no_exception() -> None:
    (error,) = read("registry: 1\nmodels: {a: {family: bert}]").problems
    assert (error.line, error.column) == (2, 27)


@pytest.mark.parametrize(
    ("text", "suspicious"),
    [
        ("", False),
        ("# comment\n", False),
        ("- a\n- list\n", False),
        ("just text\n", False),
        ("version: 2\nsources: []\n", False),
        ("version: 2\nmodels:\n  - name: orders\n", True),
        ("models: {a: {family: bert}}\n", True),
    ],
)
def test_a_file_without_the_version_line_is_not_ours(text: str, suspicious: bool) -> None:
    file = read(text)
    assert (file.ours, file.suspicious) == (False, suspicious)
    assert not file.entries and not file.problems and not file.broken


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ("{family: bert, family: bert}", "'family' stands twice"),
        ("{family: !!str bert, source: x}", "YAML tags"),
        ("{family: &a bert, source: x}", "anchors and aliases"),
        ("{family: bert, source: x, config: {a: 1, a: 2}}", "'a' stands twice"),
        ("{family: bert, [x]: 1}", "a key is expected to be a word"),
    ],
)
def test_faults_of_yaml_stay_in_their_entry(entry: str, what: str) -> None:
    text = f"registry: 1\nmodels:\n  good: {{family: bert, source: ./x}}\n  odd: {entry}\n  fine: {{base: good}}\n"
    catalog = read_catalog(text, "models.yaml")
    assert set(catalog.entries) == {"good", "fine"} and not catalog.problems
    assert what in str(catalog.broken["odd"]) and catalog.broken["odd"].line == 4


def test_a_name_that_stands_twice_is_no_name() -> None:
    text = "registry: 1\nmodels:\n  twice: {family: bert, source: ./x}\n  good: {base: twice}\n  twice: {base: good}\n"
    catalog = read_catalog(text, "models.yaml")
    assert set(catalog.entries) == {"good"} and "first in line 3" in str(catalog.broken["twice"])


@pytest.mark.parametrize(
    ("where", "entry"),
    [
        ("source", 'source: "https://evil.example\\\\@good.example/m"'),
        ("an item of mirrors", 'source: ./m, mirrors: ["https://good.example\\t/m"]'),
        ("url of file 'config.json'", 'source: ./m, files: {config.json: {url: "http://evil.example\\\\@127.0.0.1/c"}}'),
        ("source", 'source: "s3://buck\\\\et/m"'),
    ],
)
def test_an_address_that_two_programs_read_differently_is_refused(where: str, entry: str) -> None:
    catalog = read(f"registry: 1\nmodels:\n  m: {{{entry}}}\n")
    problem = catalog.broken["m"].problem
    assert problem.startswith(where) and "has a backslash, blank or control character before its path" in problem
    assert "evil" not in problem
