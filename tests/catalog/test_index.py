"""All layers as one catalog: precedence, inheritance, aliases, and what is wrong on the way."""

from __future__ import annotations

import textwrap

import pytest

from registry.catalog.catalog import Catalog
from registry.catalog.entry import Deprecation, FilePin, Host, ModelEntry, Origin
from registry.catalog.layers import CatalogSource, LayerKind
from registry.errors import CatalogError, RegistryWarning, UnknownModel


def layer(kind: LayerKind, models: str, *, file: str | None = None, rest: str = "", builtin: bool = False) -> CatalogSource:
    """Return a layer whose file holds these models, the first of them in line 3."""
    text = "registry: 1\nmodels:\n" + textwrap.indent(textwrap.dedent(models).strip("\n"), "  ") + "\n" + rest
    return CatalogSource(kind, file or f"/{kind.name.lower()}/models.yaml", text.encode, builtin=builtin)


def catalog(models: str) -> Catalog:
    return Catalog([layer(LayerKind.ARGUMENT, models)])


FAMILY, PROJECT, ENVIRONMENT, ARGUMENT = LayerKind.FAMILY, LayerKind.PROJECT, LayerKind.ENVIRONMENT, LayerKind.ARGUMENT


# -- layers --------------------------------------------------------------------------------------------------------------


def test_a_higher_layer_wins_and_shows_what_it_shadows() -> None:
    layers = [
        layer(FAMILY, "m: {family: bert, source: hf://a/family@1}"),
        layer(PROJECT, "m: {family: bert, source: hf://a/project@1, override: true}"),
        layer(ENVIRONMENT, "other: {alias: m}\nm: {family: bert, source: hf://a/environment@1}"),
        layer(ARGUMENT, "m: {family: bert, source: hf://a/argument@1}"),
    ]
    for top in (1, 2, 3, 4):
        entry = Catalog(layers[:top]).resolve("m")
        kind = layers[top - 1].kind.name.lower()
        assert entry.source == f"hf://a/{kind}@1"
        assert entry.origins["source"].file == f"/{kind}/models.yaml"
        assert [origin.file for origin in entry.shadows] == [layer.path for layer in reversed(layers[: top - 1])]
    assert entry.shadows[0] == Origin("/environment/models.yaml", 4, 3)


def test_a_redefinition_replaces_the_whole_entry() -> None:
    layers = [
        layer(FAMILY, "m: {family: bert, source: hf://a/b@1, head: masked-lm, license: MIT, files: {a: {size: 1}}}"),
        layer(ENVIRONMENT, "m: {family: bert, source: hf://a/c@1}"),
    ]
    entry = Catalog(layers).resolve("m")
    assert (entry.head, entry.license, entry.files) == (None, None, {})


def test_a_redefinition_that_is_broken_does_not_fall_back_to_what_it_replaces() -> None:
    layers = [layer(FAMILY, "m: {family: bert, source: hf://a/b@1}"), layer(ENVIRONMENT, "m: {famly: bert}")]
    with pytest.raises(CatalogError, match=r"/environment/models.yaml:3:7: .*'famly'"):
        Catalog(layers).resolve("m")
    mended = Catalog([*layers, layer(ARGUMENT, "m: {family: bert, source: hf://a/mended@1}")])
    assert mended.resolve("m").source == "hf://a/mended@1"
    assert not mended.broken


def test_a_project_must_say_override_to_redefine_a_name() -> None:
    layers = [
        layer(FAMILY, "m: {family: bert, source: hf://a/b@1}\nn: {family: bert, source: hf://a/n@1}"),
        layer(PROJECT, "mine: {family: bert, source: ./x}\nm: {family: bert, source: hf://evil/b@1}"),
    ]
    found = Catalog(layers)
    with pytest.raises(CatalogError, match="override: true") as caught:
        found.resolve("m")
    assert (caught.value.file, caught.value.line, caught.value.column) == ("/project/models.yaml", 4, 3)
    assert "/family/models.yaml:3" in str(caught.value)
    assert found.names() == ["mine", "n"]
    assert found.resolve("n").source == "hf://a/n@1"
    assert set(found.broken) == {"m"}


@pytest.mark.parametrize("kind", [ENVIRONMENT, ARGUMENT])
def test_a_layer_that_the_user_names_needs_no_override(kind: LayerKind) -> None:
    layers = [layer(FAMILY, "m: {family: bert, source: hf://a/b@1}"), layer(kind, "m: {family: bert, source: hf://a/c@1}")]
    assert Catalog(layers).resolve("m").source == "hf://a/c@1"


HOSTS = "hosts:\n  models.acme.internal: {token_env: ACME_TOKEN}\n"


def test_hosts_are_taken_from_every_layer_but_the_project() -> None:
    for kind in (FAMILY, ENVIRONMENT, ARGUMENT):
        found = Catalog([layer(kind, "m: {family: bert, source: ./x}", rest=HOSTS)])
        assert found.hosts["models.acme.internal"].token_env == "ACME_TOKEN"
        assert not found.problems


@pytest.mark.parametrize(
    "said",
    [
        "token_env: HOME",
        "token_env: HOME, header: X-Token",
        "mirrors: [https://evil.example/]",
        "ca_file: ca.pem",
        "parallelism: 64",
    ],
)
def test_a_project_may_say_nothing_of_hosts(said: str) -> None:
    below = layer(FAMILY, "m: {family: bert, source: ./x}", rest=HOSTS)
    project = layer(PROJECT, "n: {family: bert, source: ./x}", rest=f"hosts:\n  models.acme.internal: {{{said}}}\n")
    with pytest.warns(RegistryWarning, match="REGISTRY_MODELS to trust it"):
        found = Catalog([below, project])
    assert found.hosts == Catalog([below]).hosts
    assert found.names() == ["m", "n"]
    (problem,) = found.problems
    assert (problem.file, problem.line, problem.column) == ("/project/models.yaml", 5, 3)


def test_a_host_of_a_higher_layer_replaces_that_of_a_lower_one_whole() -> None:
    layers = [
        layer(
            FAMILY, "m: {family: bert, source: ./x}", rest="hosts:\n  H.example: {token_env: T, header: X-T, parallelism: 2}\n"
        ),
        layer(ENVIRONMENT, "n: {alias: m}", rest="hosts:\n  h.example: {ca_file: ca.pem}\n  other: {parallelism: 1}\n"),
    ]
    found = Catalog(layers).hosts
    assert set(found) == {"h.example", "other"}
    assert found["h.example"] == Host(
        name="h.example", origin=Origin("/environment/models.yaml", 5, 3), ca_file="/environment/ca.pem"
    )


def test_the_names_of_builtin_families_are_not_an_outsiders() -> None:
    layers = [
        layer(FAMILY, "m: {family: bert, source: hf://a/b@1}", builtin=True),
        layer(FAMILY, "m: {family: x, source: hf://x/b@1, override: true}\nx: {family: x, source: ./x}", file="/x/models.yaml"),
    ]
    found = Catalog(layers)
    with pytest.warns(RegistryWarning, match=r"/x/models.yaml:3: model 'm' is built in \(/family/models.yaml:3\)"):
        assert found.resolve("m").source == "hf://a/b@1"
    assert found.names() == ["m", "x"]


def test_a_broken_name_of_an_outsider_does_not_hide_a_builtin_one() -> None:
    layers = [
        layer(FAMILY, "m: {family: bert, source: hf://a/b@1}", builtin=True),
        layer(FAMILY, "m: {famly: x}", file="/x/models.yaml"),
    ]
    with pytest.warns(RegistryWarning, match=r"/x/models.yaml:3: model 'm' is built in"):
        assert Catalog(layers).resolve("m").source == "hf://a/b@1"


def test_a_catalog_package_redefines_names_and_hosts() -> None:
    layers = [
        layer(FAMILY, "m: {family: bert, source: hf://a/b@1}", builtin=True),
        layer(LayerKind.PACKAGE, "m: {base: m, mirrors: [https://mirror/]}", rest=HOSTS),
    ]
    found = Catalog(layers)
    assert (found.resolve("m").source, found.resolve("m").mirrors) == ("hf://a/b@1", ("https://mirror/",))
    assert found.resolve("m").origins["source"].file == "/family/models.yaml"
    assert found.resolve("m").origins["mirrors"] == Origin("/package/models.yaml", 3, 16)
    assert set(found.hosts) == {"models.acme.internal"}


def test_a_name_of_two_catalog_packages_is_an_error_that_shows_both() -> None:
    one, two = (
        layer(
            LayerKind.PACKAGE,
            f"m: {{family: bert, source: ./x}}\n{name}: {{family: bert, source: ./x}}",
            file=f"/{name}/models.yaml",
        )._replace(distribution=name, version="1.5")
        for name in ("acme", "zeta")
    )
    found = Catalog([one, two])
    with pytest.raises(CatalogError, match=r"/zeta/models.yaml:3:3: .* at /acme/models.yaml:3: acme 1.5 and zeta 1.5 both"):
        found.resolve("m")
    assert found.names() == ["acme", "zeta"]
    assert Catalog([one, two, layer(LayerKind.USER, "m: {family: bert, source: hf://a/mine@1}")]).resolve("m").via == ()


def test_a_name_of_two_outsiders_is_an_error_that_shows_both() -> None:
    layers = [
        layer(FAMILY, "m: {family: x, source: hf://x/b@1}\nx: {family: x, source: ./x}", file="/x/models.yaml"),
        layer(FAMILY, "m: {family: y, source: hf://y/b@1}\ny: {family: y, source: ./y}", file="/y/models.yaml"),
        layer(FAMILY, "m: {family: z, source: hf://z/b@1}\nz: {family: z, source: ./z}", file="/z/models.yaml"),
    ]
    found = Catalog(layers)
    with pytest.raises(CatalogError, match=r"/z/models.yaml:3:3: .* at /x/models.yaml:3"):
        found.resolve("m")
    assert found.names() == ["x", "y", "z"]


def test_a_broken_file_is_reported_and_the_others_work() -> None:
    broken = CatalogSource(PROJECT, "/p/models.yaml", "registry: 1\nmodels: &x\n  a: 1\n".encode)
    with pytest.warns(RegistryWarning, match=r"/p/models.yaml:2:9: anchors"):
        found = Catalog([layer(FAMILY, "m: {family: bert, source: ./x}"), broken, layer(ARGUMENT, "n: {alias: m}")])
    assert found.names() == ["m", "n"]
    with pytest.raises(UnknownModel, match=r"could not be used in full: .*/p/models.yaml:2:9"):
        found.resolve("a")


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"registry: 1\n\xff", "2:1"),
        (b"registry: 1\n# \xc3\xa9 \xe9\n", "2:6"),
        ("registry: 1".encode("utf-16"), "1:1"),
    ],
)
def test_a_file_that_is_no_utf8_is_a_problem_with_a_place(data: bytes, place: str) -> None:
    with pytest.warns(RegistryWarning, match=f"/b/models.yaml:{place}: .*UTF-8"):
        assert Catalog([CatalogSource(ARGUMENT, "/b/models.yaml", lambda: data)]).names() == []


def test_a_byte_order_mark_is_skipped() -> None:
    source = CatalogSource(
        ARGUMENT, "/b/models.yaml", lambda: b"\xef\xbb\xbfregistry: 1\nmodels: {m: {family: x, source: ./x}}"
    )
    assert Catalog([source]).names() == ["m"]


def test_a_file_of_another_program_is_left_alone() -> None:
    dbt = CatalogSource(PROJECT, "/p/models.yaml", lambda: b"version: 2\nsources: [{name: orders}]\n")
    assert Catalog([dbt]).names() == []


def test_a_file_that_may_miss_its_version_line_is_left_alone_with_a_warning() -> None:
    source = CatalogSource(PROJECT, "/p/models.yaml", lambda: b"models: {m: {family: bert, source: ./x}}")
    with pytest.warns(RegistryWarning, match="/p/models.yaml has `models:` but no line `registry: 1`"):
        assert Catalog([source]).names() == []


# -- base ----------------------------------------------------------------------------------------------------------------

BASE = """
top:
  family: bert
  source: hf://a/b@1
  mirrors: [https://m/b/]
  head: masked-lm
  config: {num_labels: 2, output_attentions: true}
  tokenizer: {do_lower_case: true}
  files: {a: {size: 1}, b: {size: 2}}
  description: the base
  license: MIT
  deprecated: {since: 2026-01}
"""


def test_base_is_inherited_field_by_field_and_settings_key_by_key() -> None:
    entry = catalog(
        f"""{BASE}
low:
  base: top
  head: base
  config: {{num_labels: 5, hidden_act: relu}}
  files: {{b: {{size: 3}}, c: }}
"""
    ).resolve("low")
    file = "/argument/models.yaml"
    assert entry == ModelEntry(
        name="low",
        family="bert",
        source="hf://a/b@1",
        mirrors=("https://m/b/",),
        head="base",
        config={"num_labels": 5, "output_attentions": True, "hidden_act": "relu"},
        tokenizer={"do_lower_case": True},
        files={"a": FilePin(size=1), "b": FilePin(size=3), "c": FilePin()},
        description="the base",
        license="MIT",
        deprecated=None,
        origins={
            "family": Origin(file, 4, 5),
            "source": Origin(file, 5, 5),
            "mirrors": Origin(file, 6, 5),
            "head": Origin(file, 17, 5),
            "config": Origin(file, 18, 5),
            "config.num_labels": Origin(file, 18, 14),
            "config.output_attentions": Origin(file, 8, 29),
            "config.hidden_act": Origin(file, 18, 29),
            "tokenizer": Origin(file, 9, 5),
            "tokenizer.do_lower_case": Origin(file, 9, 17),
            "files": Origin(file, 19, 5),
            "files.a": Origin(file, 10, 13),
            "files.b": Origin(file, 19, 13),
            "files.c": Origin(file, 19, 27),
            "description": Origin(file, 11, 5),
            "license": Origin(file, 12, 5),
            "base": Origin(file, 16, 5),
        },
    )


def test_an_entry_with_its_own_source_drops_what_belongs_to_the_bases() -> None:
    entry = catalog(f"{BASE}\nlow: {{base: top, source: ./mine, files: {{c: {{size: 9}}}}}}").resolve("low")
    assert (entry.source, entry.mirrors, entry.files) == ("/argument/mine", (), {"c": FilePin(size=9)})
    assert entry.config == {"num_labels": 2, "output_attentions": True}
    assert entry.license == "MIT"
    assert not {"mirrors", "files.a", "files.b"} & set(entry.origins)


def test_an_entry_with_its_own_mirrors_keeps_source_and_pins() -> None:
    entry = catalog(f"{BASE}\nlow: {{base: top, mirrors: []}}").resolve("low")
    assert (entry.source, entry.mirrors, set(entry.files)) == ("hf://a/b@1", (), {"a", "b"})


@pytest.mark.parametrize(
    ("name", "shown", "twin"),
    [("Vocab.txt", "'Vocab.txt'", "vocab.txt"), ('"e\\u0301"', r"'e\u0301'", "\u00e9")],
)
def test_a_file_that_is_a_twin_of_an_inherited_one_is_an_error_that_shows_both(name: str, shown: str, twin: str) -> None:
    found = catalog(
        f"""
top: {{family: bert, source: ./top, files: {{{twin}: {{size: 1}}}}}}
middle: {{base: top}}
low: {{base: middle, files: {{a: , {name}: {{size: 2}}}}}}
lower: {{base: low, head: base}}
free: {{base: middle, source: ./free, files: {{{name}: }}}}
"""
    )
    with pytest.raises(CatalogError) as caught:
        found.resolve("lower")
    assert (caught.value.line, caught.value.column) == (5, 36)
    for word in ("files of model 'low'", shown, ascii(twin), "/argument/models.yaml:3"):
        assert word in caught.value.problem
    # What has a source of its own inherits no files, and so no twin.
    assert set(found.broken) == {"low", "lower"} and found.names() == ["free", "middle", "top"]


def test_bases_have_bases() -> None:
    found = catalog(f"{BASE}\nlow: {{base: middle, head: base}}\nmiddle: {{base: top, source: ./m, license: Apache-2.0}}")
    entry = found.resolve("low")
    assert (entry.family, entry.source, entry.head, entry.license) == ("bert", "/argument/m", "base", "Apache-2.0")
    assert entry.files == {}


def test_an_entry_based_on_its_own_name_extends_the_layer_below() -> None:
    layers = [
        layer(FAMILY, "m: {family: bert, source: hf://a/b@1, config: {num_labels: 2, x: 1}}"),
        layer(PROJECT, "m: {base: m, override: true, config: {num_labels: 3}}"),
        layer(ENVIRONMENT, "m: {base: m, head: masked-lm}"),
    ]
    entry = Catalog(layers).resolve("m")
    assert (entry.source, entry.head, entry.config) == ("hf://a/b@1", "masked-lm", {"num_labels": 3, "x": 1})
    assert entry.origins["config.num_labels"].file == "/project/models.yaml"
    assert entry.origins["config.x"].file == "/family/models.yaml"
    assert "override" not in entry.origins
    assert [origin.file for origin in entry.shadows] == ["/project/models.yaml", "/family/models.yaml"]


def test_a_base_in_a_lower_layer_means_its_highest_definition() -> None:
    layers = [
        layer(FAMILY, "m: {family: bert, source: hf://a/old@1}\nlow: {base: m, head: base}"),
        layer(ENVIRONMENT, "m: {family: bert, source: hf://a/new@1}"),
    ]
    assert Catalog(layers).resolve("low").source == "hf://a/new@1"


# -- alias ---------------------------------------------------------------------------------------------------------------


def test_an_alias_leads_on_and_says_which_way() -> None:
    found = catalog("first: {alias: second}\nsecond: {alias: m}\nm: {family: bert, source: ./x}")
    entry = found.resolve("first")
    assert (entry.name, entry.via, entry.source) == ("m", ("first", "second"), "/argument/x")
    assert entry.origins["alias"] == Origin("/argument/models.yaml", 3, 11)
    assert found.resolve("m").via == ()


def test_a_disabled_name_says_who_switched_it_off_and_why() -> None:
    layers = [
        layer(
            FAMILY,
            "m: {family: bert, source: hf://a/b@1}\nn: {alias: m}\nlow: {base: m}\nother: {family: bert, source: ./x}",
        ),
        layer(LayerKind.SYSTEM, "m: {disabled: its licence forbids our use}"),
    ]
    found = Catalog(layers)
    for name in ("m", "n", "low"):
        with pytest.raises(CatalogError, match="model 'm' is disabled: its licence forbids our use; to use it") as caught:
            found.resolve(name)
        assert (caught.value.file, caught.value.line, caught.value.column) == ("/system/models.yaml", 3, 7)
    assert found.names() == ["other"]
    assert not found.broken  # it is meant, and no mistake
    mended = Catalog([*layers, layer(LayerKind.USER, "m: {family: bert, source: hf://a/mine@1}")])
    assert mended.resolve("n").source == "hf://a/mine@1"
    with pytest.raises(CatalogError, match="override: true"):
        Catalog([layers[0], layer(PROJECT, "m: {disabled: no reason}")]).resolve("m")
    with pytest.raises(CatalogError, match="disabled: we do not use it"):
        Catalog([layers[0], layer(PROJECT, "m: {disabled: we do not use it, override: true}")]).resolve("m")


def test_a_project_must_say_override_also_where_what_is_below_is_broken() -> None:
    layers = [layer(LayerKind.USER, "m: {famly: bert}"), layer(PROJECT, "m: {family: bert, source: hf://evil/b@1}")]
    with pytest.raises(CatalogError, match=r"already defined at /user/models.yaml:3; write `override: true`"):
        Catalog(layers).resolve("m")


def test_a_deprecated_name_warns_and_works() -> None:
    found = catalog(
        """
        old: {alias: m, deprecated: {since: 2026-05, note: renamed}}
        m: {family: bert, source: ./x}
        n: {family: bert, source: ./x, deprecated: {since: 2026-06-01}}
        """
    )
    with pytest.warns(RegistryWarning, match=r"^model 'old' is deprecated since 2026-05 \(renamed\); use 'm'$"):
        assert found.resolve("old").deprecated is None
    with pytest.warns(RegistryWarning, match=r"^model 'n' is deprecated since 2026-06-01$"):
        assert found.resolve("n").deprecated == Deprecation("2026-06-01")
    assert found.names() == ["m"]


def test_a_deprecated_name_warns_once_and_names_what_to_use() -> None:
    models = """
    m: {family: bert, source: ./x}
    old: {base: m, deprecated: {since: 2026-05, use: m}}
    older: {base: m, deprecated: {since: 2026-04-30, note: too small, use: gone}}
    """
    with pytest.warns(RegistryWarning, match=r"^model 'old' is deprecated since 2026-05; use 'm'$"):
        assert catalog(models).resolve("old").deprecated == Deprecation("2026-05", use="m")
    with pytest.warns(RegistryWarning, match=r"since 2026-04-30 \(too small\); use 'gone', which no catalog here has$"):
        catalog(models).resolve("older")
    for name in ("old", "older"):  # warnings are errors here
        assert catalog(models).resolve(name).source == "/argument/x"


@pytest.mark.parametrize(
    ("models", "column", "chain"),
    [
        ("a: {base: m, deprecated: {since: 2026-05, use: a}}", 45, "a -> a"),
        (
            "a: {base: m, deprecated: {since: 2026-05, use: b}}\nb: {base: m, deprecated: {since: 2026-05, use: a}}",
            45,
            "a -> b -> a",
        ),
        ("a: {alias: b, deprecated: {since: 2026-05}}\nb: {base: m, deprecated: {since: 2026-05, use: a}}", 7, "a -> b -> a"),
    ],
)
def test_replacements_in_a_circle_are_shown(models: str, column: int, chain: str) -> None:
    found = catalog(f"{models}\nm: {{family: bert, source: ./x}}")
    with pytest.raises(CatalogError, match=f"the replacement of model 'a' leads back to itself: {chain}") as caught:
        found.resolve("a")
    assert (caught.value.line, caught.value.column) == (3, column)
    assert found.names() == ["m"] and "a" in found.broken


def test_a_replacement_that_is_deprecated_too_is_no_circle() -> None:
    found = catalog(
        """
        a: {base: m, deprecated: {since: 2026-05, use: b}}
        b: {base: m, deprecated: {since: 2026-06, use: m}}
        m: {family: bert, source: ./x}
        """
    )
    with pytest.warns(RegistryWarning, match="use 'b'"):
        assert found.resolve("a").name == "a"


@pytest.mark.parametrize(
    ("models", "line", "column", "chain"),
    [
        ("a: {alias: a}", 3, 7, "a -> a"),
        ("a: {alias: b}\nb: {alias: c}\nc: {alias: a}", 5, 7, "a -> b -> c -> a"),
        ("a: {alias: b}\nb: {alias: b}", 4, 7, "b -> b"),
        ("a: {base: a}", 3, 7, "a -> a"),
        ("a: {base: b}\nb: {base: c}\nc: {base: a}", 3, 7, "a -> b -> c -> a"),
        ("a: {base: b}\nb: {base: c}\nc: {base: b}", 4, 7, "b -> c -> b"),
        ("a: {alias: b}\nb: {base: c}\nc: {base: b}", 4, 7, "b -> c -> b"),
    ],
)
def test_a_cycle_is_shown(models: str, line: int, column: int, chain: str) -> None:
    found = catalog(f"{models}\ngood: {{family: bert, source: ./x}}")
    with pytest.raises(CatalogError, match="leads back to itself") as caught:
        found.resolve("a")
    assert caught.value.problem.endswith(f": {chain}; name another")
    assert (caught.value.line, caught.value.column) == (line, column)
    assert found.names() == ["good"]


def test_a_cycle_through_base_and_alias_is_an_error_too() -> None:
    with pytest.raises(CatalogError, match="base of model 'a' is expected to be a model, but 'b' is an alias") as caught:
        catalog("a: {base: b}\nb: {alias: a}").resolve("a")
    assert (caught.value.line, caught.value.column) == (3, 7)


@pytest.mark.parametrize("field", ["alias", "base"])
def test_what_leads_to_nowhere_says_which_name_is_close(field: str) -> None:
    found = catalog(f"acme-support: {{family: bert, source: ./x}}\na: {{{field}: acme-suport}}\nb: {{{field}: zzz}}")
    with pytest.raises(CatalogError, match=r"did you mean 'acme-support'\?") as caught:
        found.resolve("a")
    assert f"{field} of model 'a'" in caught.value.problem and "'acme-suport'" in caught.value.problem
    assert (caught.value.line, caught.value.column) == (4, 7)
    with pytest.raises(CatalogError, match="`registry list` shows the names"):
        found.resolve("b")
    assert found.names() == ["acme-support"]
    assert set(found.broken) == {"a", "b"}


@pytest.mark.parametrize("field", ["alias", "base"])
def test_what_leads_to_a_broken_entry_raises_that_entrys_error(field: str) -> None:
    found = catalog(f"broken: {{famly: bert}}\na: {{{field}: broken}}")
    with pytest.raises(CatalogError, match="'famly'"):
        found.resolve("a")
    assert set(found.broken) == {"a", "broken"}


@pytest.mark.parametrize(
    ("models", "missing"),
    [("m: {family: bert}", "source"), ("m: {source: ./x}", "family"), ("m: {base: n}\nn: {head: base, source: ./x}", "family")],
)
def test_an_entry_needs_source_and_family(models: str, missing: str) -> None:
    found = catalog(models)
    with pytest.raises(
        CatalogError, match=f"model 'm' is expected to have a {missing}, but has none; add `{missing}:`"
    ) as caught:
        found.resolve("m")
    assert (caught.value.line, caught.value.column) == (3, 3)


# -- names ---------------------------------------------------------------------------------------------------------------


def entries(*names: str) -> str:
    return "\n".join(f"{name}: {{family: bert, source: ./x}}" for name in names)


def test_names_are_in_natural_order() -> None:
    names = ["a", "bert-2", "bert-9", "bert-10", "bert-010x", "bert-100", "bert-base", "v1.9", "v1.10"]
    assert catalog(entries(*reversed(names))).names() == names


def test_a_name_with_many_digits_is_a_name() -> None:
    longest = "v" + "9" * 199
    assert catalog(f"? {longest}\n: {{family: bert, source: ./x}}\n{entries('v10', 'v9')}").names() == ["v9", "v10", longest]


def test_names_that_differ_in_zeros_only_have_an_order() -> None:
    assert catalog(entries("a1", "a01")).names() == catalog(entries("a01", "a1")).names()


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", ["Acme/x", "gpt", "gpt2", "gpt2-medium"]),
        ("gpt2*", ["gpt2", "gpt2-medium"]),
        ("gpt?", ["gpt2"]),
        ("[ag]*t", ["gpt"]),
        ("gpt", ["gpt"]),
        ("GPT*", []),
        ("acme/*", []),
        ("Acme/*", ["Acme/x"]),
        ("[", []),
    ],
)
def test_names_match_a_shell_pattern(pattern: str, found: list[str]) -> None:
    assert catalog(entries("gpt2-medium", "gpt2", "gpt", "Acme/x")).names(pattern) == found


def test_an_unknown_name_says_which_are_close() -> None:
    found = catalog(entries("bert-base-uncased", "bert-base-cased", "gpt2"))
    with pytest.raises(UnknownModel) as caught:
        found.resolve("bert-base-uncasd")
    assert caught.value.name == "bert-base-uncasd"
    assert caught.value.suggestions[0] == "bert-base-uncased"
    assert "did you mean 'bert-base-uncased'" in str(caught.value)
    with pytest.raises(UnknownModel, match="did you mean 'gpt2'"):
        found.resolve("GPT2")


def test_an_unknown_name_that_is_close_to_none_says_what_to_do() -> None:
    found = catalog(entries("gpt2"))
    with pytest.raises(UnknownModel, match="`registry list`") as caught:
        found.resolve("zzzzzz")
    assert caught.value.suggestions == ()
    with pytest.raises(UnknownModel, match="hf://acme/something-else@<revision>"):
        found.resolve("acme/something-else")


def test_maybe_resolve_returns_none_for_an_unknown_name_only() -> None:
    found = catalog("broken: {famly: x}\n" + entries("m"))
    assert found.maybe_resolve("nothing") is None
    assert found.maybe_resolve("m") == found.resolve("m")
    with pytest.raises(CatalogError):
        found.maybe_resolve("broken")


def test_changing_an_entrys_values_does_not_change_the_catalog() -> None:
    found = catalog("m: {family: bert, source: ./x, config: {id2label: {0: a}}, files: {a: }}")
    first = found.resolve("m")
    first.config["id2label"]["0"] = "changed"
    first.config["new"] = 1  # type: ignore[index]
    first.files.clear()  # type: ignore[attr-defined]
    assert found.resolve("m").config == {"id2label": {"0": "a"}}
    assert found.resolve("m").files == {"a": FilePin()}


# -- long chains ---------------------------------------------------------------------------------------------------------

_LONG = 3000  # three times as deep as Python's own stack


@pytest.mark.parametrize("up", [True, False], ids=["each based on the next", "each based on the one before"])
@pytest.mark.parametrize("field", ["base", "alias"])
def test_a_chain_may_be_of_any_length(field: str, up: bool) -> None:
    steps = [(f"x{n}", f"x{n + 1}") if up else (f"x{_LONG - n}", f"x{_LONG - n - 1}") for n in range(_LONG)]
    end = steps[-1][1]
    lines = [f"{name}: {{{field}: {below}}}" for name, below in steps]
    found = catalog("\n".join([*lines, f"{end}: {{family: bert, source: ./x, files: {{a: }}, config: {{num_labels: 3}}}}"]))
    assert len(found.names()) == _LONG + 1 and not found.broken
    entry = found.resolve(steps[0][0])
    assert (entry.family, list(entry.files), entry.config) == ("bert", ["a"], {"num_labels": 3})
    assert len(entry.via) == (_LONG if field == "alias" else 0)
    assert found.resolve(steps[0][0]) == entry


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "x{0}: {{base: x{1}}}",
            "base of model 'x0' leads back to itself: x0 -> x1 -> x2 -> x3 -> x4 -> … (3000 models) -> x0",
        ),
        ("x{0}: {{alias: x{1}}}", "leads back to itself: x0 -> x1 -> x2 -> x3 -> x4 -> … (3000 models) -> x0"),
        (
            "x{0}: {{base: good, deprecated: {{since: 2026-05, use: x{1}}}}}",
            "the replacement of model 'x0' leads back to itself: x0 -> x1 -> x2 -> x3 -> x4 -> x5 -> …",
        ),
    ],
)
def test_a_long_circle_takes_away_only_its_own_names(line: str, words: str) -> None:
    lines = [line.format(n, (n + 1) % _LONG) for n in range(_LONG)]
    based = ["on: {base: x7}", "other: {alias: on}", "good: {family: bert, source: ./x}", "fine: {base: good}"]
    found = catalog("\n".join([*lines, *based]))
    with pytest.raises(CatalogError) as caught:
        found.resolve("x0")
    assert words in caught.value.problem
    replaced = "deprecated" in line  # what is based on a deprecated model is not deprecated itself
    assert found.names() == (["fine", "good", "on", "other"] if replaced else ["fine", "good"])
    assert len(found.broken) == _LONG + (0 if replaced else 2)
    assert max(len(str(error)) for error in found.broken.values()) < 300


def test_a_long_chain_to_nowhere_names_the_end() -> None:
    found = catalog("\n".join(f"x{n}: {{base: x{n + 1}}}" for n in range(_LONG)))
    with pytest.raises(
        CatalogError, match=f"base of model 'x{_LONG - 1}' is expected to be a known model, but 'x{_LONG}' is not"
    ):
        found.resolve("x0")
    assert len(found.broken) == _LONG


def test_an_unknown_base_is_the_mistake_of_each_that_names_it() -> None:
    found = catalog("a: {base: nothing}\nb: {base: nothing}\nc: {alias: nothing}\nd: {alias: nothing}")
    assert [(name, error.line) for name, error in found.broken.items()] == [("a", 3), ("b", 4), ("c", 5), ("d", 6)]


def test_what_is_inherited_is_bounded() -> None:
    many = ", ".join(f"f{n}: " for n in range(6000))
    more = ", ".join(f"g{n}: " for n in range(6000))
    found = catalog(f"a: {{family: bert, source: ./x, files: {{{many}}}}}\nb: {{base: a, files: {{{more}}}}}\nc: {{base: b}}")
    assert found.names() == ["a"]
    assert "files of model 'b' is expected to have at most 10,000 keys" in str(found.broken["c"])


@pytest.mark.parametrize("field", ["base", "alias", "key"])
def test_a_name_has_at_most_200_characters(field: str) -> None:
    for length in (200, 201, 9_000):
        name = "x" * length
        lines = {"key": f"? {name}\n: {{family: bert, source: ./x}}"}.get(field, f"a: {{{field}: {name}}}")
        found = catalog(f"{lines}\ngood: {{family: bert, source: ./x}}")
        assert (len(found.names()) == 2) == (field == "key" and length == 200)
        for error in found.broken.values():
            assert ("at most 200 letters" in str(error)) == (length > 200) and len(str(error)) < 500
