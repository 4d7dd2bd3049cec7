"""`files:` works by role: weights, configuration, tokenizer. Of a role with a named file only named files are used."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tarfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import registry
from registry import BertForSequenceClassification, BertTokenizer, CheckpointError, DownloadError, RegistryWarning
from registry.catalog.entry import CatalogFile
from registry.catalog.schema import read_catalog
from registry.families.roles import CONFIG, SIDE_FILES, TOKENIZER, WEIGHTS, named_roles, role_of, unpinned_roles
from registry.store.target import entry_target
from tests.cli.conftest import Run, run
from tests.families.models import save_one_of_each
from tests.processes import ROOT
from tests.registry_bert.tiny import build
from tests.servers import HubFiles, Server, file_server, hub_server

__all__ = ["run"]  # a fixture

CLASS = "BertForSequenceClassification"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", "H", "z"]
#: Would lower the limit, keep capitals, and pad with a letter.
OBEYED = {
    "tokenizer_config.json": b'{"do_lower_case": false, "model_max_length": 7}',
    "special_tokens_map.json": b'{"pad_token": "z"}',
    "added_tokens.json": b'{"hello world": 9}',
}


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "tiny-bert"
    build(CLASS).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return folder


@pytest.fixture
def files(saved: Path) -> dict[str, bytes]:
    """What the server has at /acme/; a test changes it."""
    return {f"/acme/{path.name}": path.read_bytes() for path in saved.iterdir()}


@pytest.fixture
def server(files: dict[str, bytes]) -> Iterator[Server]:
    with file_server(files) as server:
        yield server


@pytest.fixture
def others(files: dict[str, bytes]) -> None:
    files |= {f"/acme/{name}": body for name, body in OBEYED.items()}


def write(**models: Any) -> None:
    Path("models.yaml").write_text(json.dumps({"registry": 1, "models": models}))


def entry(server: Server, *names: str, **more: Any) -> dict[str, Any]:
    return {
        "family": "bert",
        "source": f"{server.url}/acme/",
        "head": "sequence-classification",
        "files": dict.fromkeys(names),
        **more,
    }


def asked(server: Server) -> set[str]:
    return {request.path.rpartition("/")[2] for request in server.requests}


def is_plain(tokenizer: Any) -> bool:
    """Whether a tokenizer follows none of the files that are not named."""
    return (
        tokenizer.model_max_length != 7
        and tokenizer.tokenize("HELLO world") == ["hello", "world"]
        and tokenizer.pad_token == "[PAD]"
        and len(tokenizer) == len(WORDS)
    )


# -- the tokenizer -------------------------------------------------------------------------------------------------------


def uses(name: str, **options: Any) -> list[Any]:
    """Return the tokenizers that every way to one gives."""
    folder = registry.fetch(name, **options)
    return [
        registry.load_tokenizer(name, **options),
        BertTokenizer.from_pretrained(name, **options),
        registry.load_tokenizer(str(folder)),
    ]


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize(
    "names", [("vocab.txt",), ("vocab.txt", "config.json"), ("vocab.txt", "config.json", "model.safetensors")]
)
def test_side_files_that_are_not_named_are_neither_asked_for_nor_obeyed(
    server: Server, names: tuple[str, ...], tmp_path: Path
) -> None:
    write(acme=entry(server, *names))
    assert all(is_plain(tokenizer) for tokenizer in uses("acme"))
    assert not asked(server) & {*OBEYED, "tokenizer.json"}
    assert all(is_plain(tokenizer) for tokenizer in uses("acme", offline=True))
    registry.default_registry().lock()
    for options in ({"offline": True}, {"offline": False, "cache_dir": tmp_path / "other"}):
        assert all(is_plain(tokenizer) for tokenizer in uses("acme", locked=True, **options))
    assert not asked(server) & set(OBEYED)


@pytest.mark.usefixtures("others")
def test_without_a_named_file_of_the_tokenizer_it_is_looked_up_as_usual(server: Server) -> None:
    write(acme=entry(server, "model.safetensors", "config.json"))
    assert registry.load_tokenizer("acme").model_max_length == 7
    assert set(OBEYED) <= {path.name for path in registry.fetch("acme").iterdir()}


@pytest.mark.usefixtures("others")
def test_a_named_side_file_is_used_and_the_vocabulary_is_looked_up(server: Server) -> None:
    write(acme=entry(server, "tokenizer_config.json"))
    tokenizer = registry.load_tokenizer("acme")
    assert tokenizer.model_max_length == 7 and tokenizer.pad_token == "[PAD]" and len(tokenizer) == len(WORDS)
    assert not asked(server) & {"special_tokens_map.json", "added_tokens.json"}


def test_a_named_file_that_is_not_there_is_an_error_and_not_another_tokenizer(server: Server) -> None:
    write(acme=entry(server, "vocab.txt", "tokenizer_config.json"))
    for use in (registry.load_tokenizer, registry.fetch):
        with pytest.raises(DownloadError, match=r"tokenizer_config\.json at .*but there is none"):
            use("acme")


@pytest.mark.usefixtures("others")
def test_what_an_older_lock_lists_besides_is_not_obeyed(server: Server, files: dict[str, bytes]) -> None:
    write(acme=entry(server))  # no file is named, so that all of them are locked
    registry.default_registry().lock()
    assert "tokenizer_config.json" in Path("models.lock").read_text()
    write(acme=entry(server, "vocab.txt"))
    assert is_plain(registry.load_tokenizer("acme", locked=True))
    assert not set(OBEYED) & {path.name for path in registry.fetch("acme", locked=True).iterdir()}


@pytest.mark.usefixtures("others")
def test_names_that_inherit_the_files_inherit_the_rule(server: Server) -> None:
    write(
        acme=entry(server, "vocab.txt"),
        child={"base": "acme", "head": "base"},
        sided={"base": "acme", "files": {"tokenizer_config.json": None}},
        other={"alias": "child"},
        moved={"base": "acme", "source": f"{server.url}/acme/./"},
    )
    assert is_plain(registry.load_tokenizer("child")) and is_plain(registry.load_tokenizer("other"))
    assert not asked(server) & set(OBEYED)
    sided = registry.load_tokenizer("sided")
    assert sided.model_max_length == 7 and sided.pad_token == "[PAD]"
    assert registry.load_tokenizer("moved").pad_token == "z"  # a source of its own: the base's files are not its files


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize("inside", [(), ("vocab.txt",)])
def test_files_in_an_archive_follow_the_rule(server: Server, files: dict[str, bytes], inside: tuple[str, ...]) -> None:
    for name, body in files.items():
        Path(Path(name).name).write_bytes(body)
    with tarfile.open("packed.tar.gz", "w:gz") as archive:
        for name in files:
            archive.add(Path(name).name, f"model/{Path(name).name}")
    files["/acme/packed.tar.gz"] = Path("packed.tar.gz").read_bytes()
    write(acme=entry(server, "packed.tar.gz", *inside, source=f"{server.url}/acme/packed.tar.gz"))
    assert is_plain(registry.load_tokenizer("acme")) == bool(inside)
    assert registry.load("acme").load_report.clean
    assert (registry.fetch("acme") / "vocab.txt").is_file()


@pytest.mark.usefixtures("others")
def test_a_single_file_is_refused_when_the_rule_leaves_it_out(server: Server) -> None:
    write(acme=entry(server, "vocab.txt", "pytorch_model.bin"))
    single = registry.default_registry().fetch_file
    assert single("acme", "vocab.txt").read_text().split() == WORDS
    assert single("acme", "config.json").is_file()
    for name in ("tokenizer_config.json", "tokenizer.json", "model.safetensors"):
        with pytest.raises(DownloadError, match=rf"'{name}' of 'acme' is expected to be named in its entry.*models\.yaml:1"):
            single("acme", name)
    with pytest.raises(DownloadError, match="there is none"):  # of no role: looked for where it is asked for
        single("acme", "corpus.bin")
    assert asked(server) <= {"vocab.txt", "config.json", "corpus.bin"}


@pytest.mark.parametrize("named", ["vocab.json", "merges.txt"])
def test_the_other_half_of_a_vocabulary_is_looked_up(tmp_path: Path, named: str) -> None:
    folder = save_one_of_each(tmp_path)["GPT2LMHeadModel"]
    (folder / "vocab.json").write_text(json.dumps({"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}))
    (folder / "merges.txt").write_text("#version: 0.2\na b\n")
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 7}')
    bodies = {f"/g/{path.name}": path.read_bytes() for path in folder.iterdir()}
    with file_server(bodies) as server:
        write(g={"family": "gpt2", "source": f"{server.url}/g/", "files": {named: None}})
        tokenizer = registry.load_tokenizer("g")
        assert tokenizer.encode("ab") == [2] and tokenizer.model_max_length != 7
        assert {"vocab.json", "merges.txt"} <= {path.name for path in registry.fetch("g").iterdir()}
        assert not asked(server) & set(SIDE_FILES)
        single = registry.default_registry().fetch_file
        assert single("g", "merges.txt").is_file() and single("g", "vocab.json").is_file()
    assert registry.load_tokenizer("g", offline=True).encode("ab") == [2]


# -- the weights ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def both(saved: Path, files: dict[str, bytes]) -> Path:
    """A folder whose two weights files differ; the server has them too."""
    folder = Path(shutil.copytree(saved, "model"))
    state = {name: tensor + 1 for name, tensor in registry.load(saved).state_dict().items()}
    torch.save(state, folder / "pytorch_model.bin")
    files["/acme/pytorch_model.bin"] = (folder / "pytorch_model.bin").read_bytes()
    return folder


@pytest.mark.parametrize("where", ["server", "folder"])
@pytest.mark.parametrize("named", ["model.safetensors", "pytorch_model.bin"])
def test_only_the_named_weights_are_loaded(both: Path, server: Server, saved: Path, named: str, where: str) -> None:
    source = str(both) if where == "folder" else f"{server.url}/acme/"
    write(acme=entry(server, named, source=source))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RegistryWarning)  # of two weights files in a folder
        model = registry.load("acme")
    difference = model.classifier.bias - registry.load(saved).classifier.bias
    assert bool((difference == (1 if named == "pytorch_model.bin" else 0)).all())
    assert not asked(server) & ({"model.safetensors", "pytorch_model.bin"} - {named})
    with pytest.raises(CheckpointError, match=rf"names only {named} \(.*models\.yaml:1\)"):
        BertForSequenceClassification.from_pretrained("acme", from_tf=True)


@pytest.mark.parametrize("listed", ["index", "shards", "one shard", "both"])
def test_the_weights_of_an_index_are_its_shards(
    server: Server, files: dict[str, bytes], saved: Path, tmp_path: Path, listed: str
) -> None:
    build(CLASS).save_pretrained(tmp_path / "shards", max_shard_size=20_000)
    files |= {f"/acme/{path.name}": path.read_bytes() for path in (tmp_path / "shards").iterdir()}
    index = "model.safetensors.index.json"
    shards = sorted(set(json.loads(files[f"/acme/{index}"])["weight_map"].values()))
    names = {"index": [index], "shards": shards, "one shard": shards[:1], "both": [index, *shards]}[listed]
    write(acme=entry(server, *names))
    assert registry.load("acme").load_report.clean
    got = {path.name for path in registry.fetch("acme").iterdir()}
    assert {index, *shards} <= got and "model.safetensors" not in got | asked(server)
    single = registry.default_registry().fetch_file
    assert single("acme", shards[-1]).is_file() and single("acme", index).is_file()
    with pytest.raises(DownloadError, match="expected to be named in its entry"):
        single("acme", "model.safetensors")
    registry.default_registry().lock()
    assert registry.load("acme", locked=True, cache_dir=tmp_path / "other").load_report.clean


@pytest.mark.parametrize("named", ["bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"])
@pytest.mark.parametrize("where", ["server", "folder"])
def test_a_named_tensorflow_checkpoint_is_used_before_other_weights(tmp_path: Path, named: str, where: str) -> None:
    folder = Path(shutil.copytree(ROOT / "tests" / "tensorflow" / "checkpoints" / "bert", "release"))
    (folder / "model.safetensors").write_bytes(b"not looked at")
    shutil.copy(folder / "bert_model.ckpt.index", folder / "later.ckpt.index")
    bodies = {f"/r/{path.name}": path.read_bytes() for path in folder.iterdir()}
    with file_server(bodies) as server:
        source = str(folder) if where == "folder" else f"{server.url}/r/"
        write(r={"family": "bert", "source": source, "head": "pretraining", "files": {named: None}})
        assert not registry.load("r").load_report.missing
        got = {path.name for path in registry.fetch("r").iterdir()}
        assert where == "folder" or {"bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"} <= got
        assert not asked(server) & {"model.safetensors", "later.ckpt.index", "pytorch_model.bin"}


# -- files without a role ------------------------------------------------------------------------------------------------


def test_a_named_file_without_a_role_is_fetched_and_locked(server: Server, files: dict[str, bytes], tmp_path: Path) -> None:
    files |= {"/acme/README.md": b"# A model\n", "/acme/onnx/model.onnx": b"onnx"}
    write(acme=entry(server, "README.md", "onnx/model.onnx"))
    folder = registry.fetch("acme")
    assert (folder / "README.md").read_bytes() == b"# A model\n" and (folder / "onnx/model.onnx").read_bytes() == b"onnx"
    assert {"model.safetensors", "config.json", "vocab.txt"} <= {path.name for path in folder.iterdir()}
    server.requests.clear()
    registry.load("acme")
    registry.load_tokenizer("acme")
    assert not server.requests
    registry.default_registry().lock()
    assert (registry.fetch("acme", locked=True, cache_dir=tmp_path / "other") / "onnx/model.onnx").is_file()


def test_a_named_file_without_a_role_that_is_not_there_is_an_error(server: Server) -> None:
    write(acme=entry(server, "README.md"))
    with pytest.raises(DownloadError, match=r"README\.md at .*but there is none"):
        registry.fetch("acme")
    assert registry.load("acme").load_report.clean


# -- offline, with and without the lock ----------------------------------------------------------------------------------


def use_all(name: str, **options: Any) -> None:
    registry.load(name, **options)
    registry.load_tokenizer(name, **options)
    registry.load_config(name, **options)
    registry.fetch(name, **options)


@pytest.mark.parametrize("names", [(), ("vocab.txt",), ("config.json", "model.safetensors", "vocab.txt")])
@pytest.mark.parametrize("kind", ["server", "hub"])
def test_what_was_fetched_by_the_lock_works_offline_without_it(
    server: Server, files: dict[str, bytes], tmp_path: Path, names: tuple[str, ...], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = HubFiles({"acme/tiny": {Path(name).name: body for name, body in files.items()}})
    with hub_server(hub) as hosted:
        monkeypatch.setenv("HF_ENDPOINT", hosted.url)
        source = "hf://acme/tiny@main" if kind == "hub" else f"{server.url}/acme/"
        write(acme=entry(server, *names, source=source))
        registry.default_registry().lock(cache_dir=tmp_path / "here")
        other = tmp_path / "elsewhere"
        registry.fetch("acme", locked=True, cache_dir=other)
        use_all("acme", locked=True, offline=True, cache_dir=other)
        use_all("acme", locked=False, offline=True, cache_dir=other)
        Path("models.lock").unlink()
        use_all("acme", offline=True, cache_dir=other)


def test_what_only_a_lock_says_is_absent_is_asked_for_with_a_network(
    server: Server, files: dict[str, bytes], tmp_path: Path
) -> None:
    write(acme=entry(server))
    registry.default_registry().lock(cache_dir=tmp_path / "here")
    other = tmp_path / "elsewhere"
    registry.fetch("acme", locked=True, cache_dir=other)
    files["/acme/tokenizer_config.json"] = OBEYED["tokenizer_config.json"]
    assert registry.load_tokenizer("acme", cache_dir=other, offline=True).model_max_length != 7
    assert registry.load_tokenizer("acme", cache_dir=other).model_max_length == 7
    assert registry.load_tokenizer("acme", cache_dir=other, offline=True).model_max_length == 7


# -- what the commands say -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("others")
def test_info_lists_what_will_be_used(server: Server, run: Run) -> None:  # a fixture
    write(acme=entry(server))
    registry.fetch("acme")  # the cache now has files that the next entry does not name
    write(acme=entry(server, "vocab.txt", "model.safetensors", "README.md"))
    facts = json.loads(run("info", "acme", "--json").out)
    assert set(facts["files"]) == {"vocab.txt", "model.safetensors", "README.md", "config.json"}
    assert {name: said["role"] for name, said in facts["files"].items()} == {
        "vocab.txt": "tokenizer",
        "model.safetensors": "weights",
        "README.md": None,
        "config.json": "config",
    }
    assert facts["looked_up"] == {"config": ["config.json", "bert_config.json"]}
    text = run("info", "acme").out
    assert "config is looked up: config.json, bert_config.json" in text and "tokenizer_config.json" not in text


def test_validate_says_which_roles_are_not_pinned(run: Run) -> None:  # a fixture
    pin = {"sha256": "0" * 64}
    whole = {"model.safetensors": pin, "config.json": pin, "vocab.txt": pin}
    source = {"family": "bert", "source": "https://models.acme.example/a/"}
    index = "model.safetensors.index.json"
    shards = dict.fromkeys((index, "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"), pin)
    write(
        whole={**source, "files": whole},
        none=source,
        sized={**source, "files": {**whole, "vocab.txt": {"size": 3}}},
        halved={**source, "family": "gpt2", "files": {"model.safetensors": pin, "config.json": pin, "vocab.json": pin}},
        bare={**source, "files": {index: pin, "config.json": pin, "vocab.txt": pin}},
        sharded={**source, "files": {**shards, "config.json": pin, "vocab.txt": pin}},
        packed={**source, "source": "https://models.acme.example/a.tar.gz", "files": {"a.tar.gz": pin}},
        loose={**source, "source": "https://models.acme.example/a.tar.gz"},
        local={**source, "source": "./model"},
        another={"alias": "none"},
    )
    done = run("validate", "--json")
    said = {re.search(r"model '(\w+)'", row["message"])[1]: row["message"] for row in json.loads(done.out)["remarks"]}
    assert done.code == 0
    assert {name: message.partition(" of ")[0] for name, message in said.items()} == {
        "none": "weights, config and tokenizer",
        "sized": "tokenizer",
        "halved": "tokenizer",
        "bare": "weights",
        "loose": "archive",
    }


def test_add_names_the_file_that_the_tokenizer_is_read_from(
    saved: Path, files: dict[str, bytes], server: Server, run: Run
) -> None:
    from transformers import BertTokenizerFast

    words = Path("words/vocab.txt")
    words.parent.mkdir()
    words.write_text("\n".join([*WORDS[:5], "world", "hello"]) + "\n")
    BertTokenizerFast.from_pretrained(words.parent).save_pretrained("new")
    files |= {f"/acme/{path.name}": path.read_bytes() for path in Path("new").iterdir()}
    want = registry.load_tokenizer(f"{server.url}/acme/").encode("hello world")
    write()
    assert run("add", "acme", f"{server.url}/acme/", "--project").code == 0
    assert registry.load_tokenizer("acme").encode("hello world") == want == [2, 6, 5, 3]


# -- entries that ship, stand in a text, or are made ----------------------------------------------------------------------


def catalogs() -> Iterator[tuple[str, CatalogFile]]:
    for path in [ROOT / "models.yaml", *ROOT.glob("plugins/*/models.yaml"), *ROOT.glob("examples/**/models.yaml")]:
        yield str(path.relative_to(ROOT)), read_catalog(path.read_text(encoding="utf-8"), str(path))
    for page in [
        ROOT / "README.md",
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("plugins/*/README.md"),
        *ROOT.glob("examples/**/README.md"),
    ]:
        for number, text in enumerate(
            re.findall(r"^```ya?ml\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        ):
            if "\nmodels:" in text and not text.startswith("registry_lock"):
                yield f"{page.relative_to(ROOT)}, block {number}", read_catalog(text, str(page))


def fields_of(file: CatalogFile, name: str) -> dict[str, Any]:
    fields = dict(file.entries[name].fields)
    if (base := fields.pop("base", None)) in file.entries:
        below = fields_of(file, base)
        inherited = {key: value for key, value in below.items() if key != "files" or "source" not in fields}
        fields = {**inherited, **fields}
    return fields


@pytest.mark.parametrize(("where", "file"), [pytest.param(*one, id=one[0]) for one in catalogs()])
def test_an_entry_names_all_that_its_roles_need(where: str, file: CatalogFile) -> None:
    assert not file.broken and not file.problems
    families = registry.default_registry().families
    for name in file.entries:
        fields = fields_of(file, name)
        family = families.maybe_get(fields.get("family", ""))
        if family is None or not fields.get("files"):
            continue
        roles = named_roles(fields["files"], family.files, family.converters)
        archives = [other for other in roles[""] if fields["source"].endswith(other)]
        assert roles[""] == archives, (where, name)  # a misspelt name would have no role
        if not roles[TOKENIZER]:
            continue
        vocabulary = [names for role, names in family.files.items() if role not in (WEIGHTS, CONFIG)]
        assert all(set(names) & set(roles[TOKENIZER]) for names in vocabulary), (where, name)
        if SIDE_FILES[0] in roles[TOKENIZER]:
            continue
        # What its tokenizer_config.json would say, which is not used, stands in the entry.
        wanted = {"bert": "do_lower_case", "transfo-xl": "lower_case"}.get(family.name)
        said: Mapping[str, Any] = fields.get("tokenizer", {})
        assert wanted is None or wanted in said, (where, name)
        if where.startswith("plugins/") and family.name != "transfo-xl":
            assert "model_max_length" in said, (where, name)


def test_entries_that_are_made_pin_every_role(server: Server, run: Run, tmp_path: Path) -> None:  # a fixture
    write()
    assert run("add", "acme", f"{server.url}/acme/", "--project", "--pin").code == 0
    (made,) = yaml.safe_load(Path("models.yaml").read_text())["models"].values()
    target = entry_target(registry.resolve("acme"))
    family = registry.default_registry().families.get("bert")
    assert unpinned_roles(target.listed, family.files, family.converters) == []
    assert {role_of(name, family.files) for name in made["files"]} == {WEIGHTS, CONFIG, TOKENIZER}
    assert run("lock").code == 0
    (locked,) = yaml.safe_load(Path("models.lock").read_text())["models"].values()
    assert set(locked["files"]) == set(made["files"])
    assert (
        hashlib.sha256((registry.fetch("acme") / "vocab.txt").read_bytes()).hexdigest()
        == locked["files"]["vocab.txt"]["sha256"]
    )


def test_the_template_of_a_family_shows_an_entry_that_pins_its_weights() -> None:
    text = (ROOT / "registry/cli/family_template/models.yaml.template").read_text(encoding="utf-8")
    shown = "".join(
        line.removeprefix("#").replace("$family", "acme") + "\n" for line in text.splitlines() if line.startswith("#   ")
    )
    (made,) = yaml.safe_load(shown).values()
    template = (ROOT / "registry/cli/family_template/plugin.py.template").read_text(encoding="utf-8")
    assert all(f'"{name}"' in template or name == "model.safetensors" for name in made["files"])
