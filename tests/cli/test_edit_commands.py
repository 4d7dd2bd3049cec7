"""`registry add` and `registry remove`: what is asked for, what is written, what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import registry
from registry.catalog.entry import FilePin
from tests.cli.conftest import Run
from tests.processes import ROOT, environment, run_python
from tests.servers import COMMIT, HubFiles, Server, file_server, hub_server

START = "# Ours.\nregistry: 1\n\nmodels:\n  # The first.\n  first: {family: bert, source: ./first}   # kept\n"


@pytest.fixture
def project() -> Path:
    """A project's catalog with comments."""
    (path := Path.cwd() / "models.yaml").write_text(START)
    return path


@pytest.fixture
def hub(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[HubFiles, Server]]:
    """A hub with the small model in `acme/tiny`; only its weights are a large file there."""
    files = HubFiles({"acme/tiny": {file.name: file.read_bytes() for file in tiny_bert.iterdir()}}, large=5000)
    with hub_server(files) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield files, server


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# -- the hub -------------------------------------------------------------------------------------------------------------


def test_a_repository_is_pinned_to_its_commit_with_family_head_sizes_and_hashes(
    run: Run, project: Path, hub: tuple[HubFiles, Server], tiny_bert: Path
) -> None:
    weights = tiny_bert / "model.safetensors"
    done = run("add", "tiny", "hf://acme/tiny", "--description", "small: for tests")
    assert done.code == 0, done.err
    assert f"tiny is at {project}:7 (bert, pretraining)" in done.out and not done.err
    entry = registry.resolve("tiny")
    assert (entry.family, entry.head, entry.source) == ("bert", "pretraining", f"hf://acme/tiny@{COMMIT}")
    assert {name: (pin.sha256, pin.size) for name, pin in entry.files.items()} == {
        file.name: (sha256(file), file.stat().st_size) for file in tiny_bert.iterdir() if file.name != "tokenizer.json"
    }
    assert next(iter(entry.files)) == "model.safetensors"
    # The weights were asked about and not read.
    address = f"/cdn/{sha256(weights)}?signature=secret"
    assert hub[1].sent(address) == 0
    registry.fetch("tiny")
    assert hub[1].sent(address) == weights.stat().st_size
    assert project.read_text().startswith(START)
    assert run("remove", "tiny").code == 0
    assert project.read_text() == START


def test_what_was_added_loads_and_other_bytes_are_refused(run: Run, project: Path, hub: tuple[HubFiles, Server]) -> None:
    assert run("add", "tiny", "hf://acme/tiny").code == 0
    assert type(registry.load("tiny")).__name__ == "BertForPreTraining"
    hub[0].files["acme/tiny"]["vocab.txt"] += b"changed\n"
    done = run("fetch", "tiny", "--cache-dir", "elsewhere")
    assert done.code == 1 and "R402" in done.err and "vocab.txt" in done.err


def test_a_revision_becomes_its_commit(run: Run, project: Path, hub: tuple[HubFiles, Server]) -> None:
    other = "f" * 40
    hub[0].commits |= {"v1": other, "refs%2Fpr%2F5": other}
    assert run("add", "tiny", "hf://acme/tiny", "--revision", "v1").code == 0
    assert registry.resolve("tiny").source == f"hf://acme/tiny@{other}"
    assert run("add", "five", "hf://acme/tiny", "--revision", "refs/pr/5").code == 0
    assert registry.resolve("five").source == f"hf://acme/tiny@{other}"
    done = run("add", "lost", "hf://acme/tiny@nosuch")
    assert done.code == 1 and "revision 'nosuch' of acme/tiny is expected to exist" in done.err
    for arguments, words in (
        (("hf://acme/tiny@v1", "--revision", "v1"), "give one of them"),
        (("https://acme.example/", "--revision", "v1"), "expected with an hf:// source"),
    ):
        done = run("add", "lost", *arguments)
        assert (done.code, done.out) == (1, "") and words in done.err
    assert "lost" not in project.read_text()


def test_shards_are_listed_without_being_fetched(run: Run, project: Path, hub: tuple[HubFiles, Server], tmp_path: Path) -> None:
    import torch

    from registry_bert.config import BertConfig
    from registry_bert.modeling import BertModel

    torch.manual_seed(0)
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    BertModel(config).save_pretrained(tmp_path / "sharded", max_shard_size=15_000)
    shards = sorted((tmp_path / "sharded").glob("model-*.safetensors"))
    assert len(shards) > 1
    hub[0].files["acme/sharded"] = {file.name: file.read_bytes() for file in (tmp_path / "sharded").iterdir()}
    assert run("add", "sharded", "hf://acme/sharded").code == 0
    files = registry.resolve("sharded").files
    index = "model.safetensors.index.json"
    assert set(files) == {"config.json", index, *(shard.name for shard in shards)}
    assert all(files[shard.name].sha256 == sha256(shard) for shard in shards)
    large = [shard for shard in shards if shard.stat().st_size > 5000]
    assert large and all(hub[1].sent(f"/cdn/{sha256(shard)}?signature=secret") == 0 for shard in large)


# -- other servers and folders -------------------------------------------------------------------------------------------


@pytest.fixture
def served(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A plain server of the small model; anything over 5000 bytes is large."""
    monkeypatch.setattr("registry.loading.survey._SMALL", 5000)
    with file_server({f"/tiny/{file.name}": file.read_bytes() for file in tiny_bert.iterdir()}) as server:
        yield server


def test_a_plain_server_tells_sizes_and_what_is_not_pinned_is_said(
    run: Run, project: Path, served: Server, tiny_bert: Path
) -> None:
    weights = tiny_bert / "model.safetensors"
    done = run("add", "tiny", f"{served.url}/tiny/", "--mirror", "https://mirror.acme.example/tiny/")
    assert done.code == 0
    assert done.err.startswith("not pinned: model.safetensors; the server does not tell their hash")
    files = registry.resolve("tiny").files
    assert (files["model.safetensors"].sha256, files["model.safetensors"].size) == (None, weights.stat().st_size)
    assert files["vocab.txt"].sha256 == sha256(tiny_bert / "vocab.txt")
    assert registry.resolve("tiny").mirrors == ("https://mirror.acme.example/tiny/",)


def test_pin_fetches_what_has_no_hash_and_pins_it(run: Run, project: Path, served: Server, tiny_bert: Path) -> None:
    done = run("add", "tiny", f"{served.url}/tiny/", "--pin", "--json")
    facts = json.loads(done.out)
    assert facts["unpinned"] == [] and facts["in_use"] and (facts["file"], facts["line"]) == (str(project), 7)
    assert facts["entry"]["files"]["model.safetensors"]["sha256"] == sha256(tiny_bert / "model.safetensors")
    assert run("fetch", "tiny", "--offline").code == 0


def test_a_folder_is_written_relative_to_the_file_and_not_pinned(run: Run, tiny_bert: Path, tmp_path: Path) -> None:
    (tmp_path / "work" / "sub").mkdir()
    (tmp_path / "work" / "models.yaml").write_text(START)
    os.chdir(tmp_path / "work" / "sub")
    (Path.cwd() / "tiny").symlink_to(tiny_bert)
    done = run("add", "small", "tiny")
    assert done.code == 0 and "may change, so they are not pinned" in done.err
    assert "  small: {family: bert, source: ./sub/tiny, head: pretraining}\n" in (tmp_path / "work" / "models.yaml").read_text()
    assert registry.resolve("small").files == {}
    assert type(registry.load("small")).__name__ == "BertForPreTraining"
    assert run("add", "pinned", tiny_bert, "--pin").code == 0
    assert registry.resolve("pinned").files["vocab.txt"].sha256 == sha256(tiny_bert / "vocab.txt")
    assert registry.resolve("pinned").source == str(tiny_bert)


def test_without_fetching_only_what_is_given_is_written(run: Run, project: Path) -> None:
    done = run(
        "add", "mine", "https://acme.example/m/", "--no-fetch", "--family", "gpt2", "--head", "double-heads", "--license=MIT"
    )
    assert done.code == 0
    assert project.read_text() == START + (
        "  mine: {family: gpt2, source: https://acme.example/m/, head: double-heads, license: MIT}\n"
    )
    assert run("add", "other", "https://acme.example/m/", "--no-fetch").code == 2


def test_settings_are_read_as_in_a_catalog(run: Run, project: Path) -> None:
    given = ("--config", "num_labels=3", "--config", "id2label={0: no, 1: 'on'}", "--tokenizer", "do_lower_case=false")
    assert run("add", "mine", "./m", "--no-fetch", "--family", "bert", *given).code == 0
    entry = registry.resolve("mine")
    assert entry.config == {"num_labels": 3, "id2label": {"0": "no", "1": "on"}}
    assert entry.tokenizer == {"do_lower_case": False}


@pytest.mark.parametrize("given", ["num_labels", "=3", "id2label={0: no", "a=# b", "a=&x 1"])
def test_a_setting_that_is_none_is_wrong_usage(run: Run, project: Path, given: str) -> None:
    done = run("add", "mine", "./m", "--no-fetch", "--family", "bert", "--tokenizer", given)
    assert (done.code, done.out) == (2, "") and "--tokenizer" in done.err
    twice = ("--tokenizer", "a=1", "--tokenizer", "a=2")
    assert "given twice" in run("add", "mine", "./m", "--no-fetch", "--family", "bert", *twice).err
    assert project.read_text() == START


def test_a_folder_of_a_package_is_pinned(run: Run, project: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tiny_bert.parent)
    (tiny_bert.parent / "acme_tiny").mkdir()
    (tiny_bert.parent / "acme_tiny" / "model").symlink_to(tiny_bert)
    done = run("add", "tiny", "package://acme_tiny/model")
    assert done.code == 0 and not done.err
    assert registry.resolve("tiny").files["vocab.txt"].sha256 == sha256(tiny_bert / "vocab.txt")


@pytest.mark.parametrize("large", [False, True])
def test_an_archive_is_looked_into_where_it_is_small_or_pinned(
    run: Run, project: Path, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    import tarfile

    monkeypatch.setattr("registry.loading.survey._SMALL", 5000 if large else 10**7)

    with tarfile.open(tmp_path / "tiny.tar.gz", "w:gz") as archive:
        archive.add(tiny_bert, "tiny")
    data = (tmp_path / "tiny.tar.gz").read_bytes()
    with file_server({"/tiny.tar.gz": data}) as server:
        address = f"{server.url}/tiny.tar.gz"
        if large:
            done = run("add", "tiny", address)
            assert done.code == 1 and "give --family, or --pin to fetch it" in done.err
            assert run("add", "given", address, "--family", "bert").code == 0
            assert registry.resolve("given").files["tiny.tar.gz"] == FilePin(size=len(data))
        done = run("add", "tiny", address, *(["--pin"] if large else []))
        assert done.code == 0, done.err
        entry = registry.resolve("tiny")
        assert (entry.family, entry.head) == ("bert", "pretraining")
        assert {name: pin.sha256 for name, pin in entry.files.items()} == {"tiny.tar.gz": hashlib.sha256(data).hexdigest()}
        assert type(registry.load("tiny", offline=True)).__name__ == "BertForPreTraining"


# -- what is refused: one message, nothing written -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("first", "./m"), "model 'first' is expected to be new, but is there already"),
        (("mine", "./m", "--family", "brt"), "did you mean 'bert'?"),
        (("mine", "./m", "--head", "sequnce"), "head of family 'bert' is expected to be one of"),
        (("mine", "./m", "--config", "num_lables=3"), "did you mean 'num_labels'?"),
        (("no name", "./m"), "is expected to be a model name"),
        (("mine", "https://user:hunter2@acme.example/m/"), "which may be a secret"),
        (("mine", "https://acme.example/m/?sig=hunter2"), "which may be a secret"),
        (("mine", "hf://user:hunter2@acme/m"), "which may be a secret"),
        (("mine", "https://evil.example\\@acme.example/m"), "has a backslash, blank or control character"),
        (("mine", "./m", "--mirror", "https://hunter2@acme.example/m/"), "which may be a secret"),
        (("bert-base-uncased", "./m"), "write `override: true` to redefine it"),
    ],
)
def test_what_cannot_be_right_is_refused_with_one_line(run: Run, project: Path, arguments: tuple[str, ...], words: str) -> None:
    family = () if "--family" in arguments else ("--family", "bert")
    done = run("add", *arguments, "--no-fetch", *family)
    assert (done.code, done.out) == (1, "")
    assert len(done.err.splitlines()) == 1 and done.err.startswith("error: [R") and words in done.err
    assert "hunter2" not in done.err
    assert project.read_text() == START


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("config.json", "configuration of"),
        ("model.safetensors", "weights of"),
    ],
)
def test_a_source_without_what_a_model_needs_is_refused(
    run: Run, project: Path, hub: tuple[HubFiles, Server], missing: str, words: str
) -> None:
    del hub[0].files["acme/tiny"][missing]
    done = run("add", "tiny", "hf://acme/tiny")
    assert (done.code, done.out) == (1, "") and words in done.err and missing in done.err
    assert project.read_text() == START


def test_a_source_that_is_not_there_is_refused(run: Run, project: Path, tiny_bert: Path) -> None:
    for source, words in (("./nowhere", "is not there"), (tiny_bert / "vocab.txt", "give the folder that it is in")):
        done = run("add", "mine", source)
        assert (done.code, done.out) == (1, "") and words in done.err
    assert project.read_text() == START


def test_offline_nobody_is_asked(run: Run, project: Path, hub: tuple[HubFiles, Server]) -> None:
    done = run("add", "tiny", "hf://acme/tiny", "--offline")
    assert done.code == 1 and "[R403]" in done.err and hub[1].requests == []
    assert project.read_text() == START


def test_what_is_wrong_elsewhere_in_the_file_does_not_matter(run: Run, project: Path) -> None:
    project.write_text(START + "  odd: {famly: bert}\nhost: {}\n")
    with pytest.warns(registry.RegistryWarning, match="unknown key 'host'"):
        assert run("add", "mine", "./m", "--no-fetch", "--family", "bert").code == 0
        assert registry.resolve("mine").family == "bert"
    assert project.read_text().startswith(START)


def test_a_name_of_a_lower_layer_needs_an_override_in_a_project(run: Run, project: Path) -> None:
    given = ("bert-base-uncased", "./m", "--no-fetch", "--family", "bert")
    assert run("add", *given, "--override").code == 0
    assert registry.resolve("bert-base-uncased").origins["source"].file == str(project)
    done = run("remove", "bert-base-uncased")
    assert done.code == 0 and "the name now means what" in done.err and "registry_bert/models.yaml" in done.err
    assert run("add", *given, "--user").code == 0  # the user's own file needs none


def test_replace_writes_the_entry_anew(run: Run, project: Path) -> None:
    done = run("add", "first", "./other", "--no-fetch", "--family", "gpt2", "--replace")
    assert done.code == 0
    assert project.read_text() == START.replace(
        "first: {family: bert, source: ./first}   # kept", "first: {family: gpt2, source: ./other}"
    )


# -- which file ----------------------------------------------------------------------------------------------------------

GIVEN = ("mine", "./m", "--no-fetch", "--family", "bert")


def test_without_a_projects_file_the_users_is_written(run: Run, tmp_path: Path) -> None:
    done = run("add", *GIVEN)
    own = tmp_path / "home" / ".config" / "registry" / "models.yaml"
    assert f"mine is at {own}:3" in done.out
    assert registry.resolve("mine").source == str(tmp_path / "work" / "m")


def test_another_programs_file_is_left_alone(run: Run, tmp_path: Path) -> None:
    Path("models.yaml").write_text("models:\n- name: orders\n")
    assert "home/.config/registry/models.yaml:3" in run("add", *GIVEN).out
    done = run("add", "more", *GIVEN[1:], "--project")
    assert done.code == 1 and "belongs to another program" in done.err
    assert Path("models.yaml").read_text() == "models:\n- name: orders\n"


def test_project_makes_a_file_in_the_working_folder(run: Run) -> None:
    assert f"mine is at {Path.cwd()}/models.yaml:3" in run("add", *GIVEN, "--project").out
    assert Path("models.yaml").read_text() == "registry: 1\nmodels:\n  mine:\n    family: bert\n    source: ./m\n"


def test_a_file_of_no_layer_is_written_and_that_is_said(run: Run, tmp_path: Path) -> None:
    done = run("add", *GIVEN, "--file", tmp_path / "team.yaml")
    assert done.code == 0 and "name it in REGISTRY_MODELS" in done.err
    assert run("remove", "mine", "--file", tmp_path / "team.yaml").code == 0
    assert run("add", *GIVEN, "--file", tmp_path / "team.yaml", "--user").code == 2


def test_a_name_that_a_higher_layer_hides_is_told(
    run: Run, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "high.yaml").write_text("registry: 1\nmodels:\n  mine: {family: bert, source: ./x}\n")
    monkeypatch.setenv("REGISTRY_MODELS", str(tmp_path / "high.yaml"))
    done = run("add", *GIVEN)
    assert done.code == 0 and f"{tmp_path}/high.yaml:3, a higher layer" in done.err


def test_the_file_keeps_its_permissions_and_a_link_stays_one(run: Run) -> None:
    (real := Path("catalogs.yaml").absolute()).write_text(START)
    real.chmod(0o640)
    Path("models.yaml").symlink_to(real)
    assert run("add", *GIVEN).code == 0
    assert Path("models.yaml").is_symlink() and "mine:" in real.read_text()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert run("remove", "mine").code == 0 and real.read_text() == START
    assert [path.name for path in real.parent.iterdir() if path.name.endswith(".tmp")] == []


@pytest.mark.slow
def test_processes_that_add_at_the_same_time_all_succeed(project: Path) -> None:
    code = (
        "import sys; from registry.cli import main\n"
        "for number in range(5):\n"
        "    sys.argv = ['registry', 'add', f'm{sys.argv[-1]}', './m', '--no-fetch', '--family=bert']\n"
        "    name = sys.argv[2]\n"
        "    sys.argv[2] = f'{name}-{number}'\n"
        "    try:\n"
        "        main()\n"
        "    except SystemExit as ended:\n"
        "        assert not ended.code\n"
        "    sys.argv.append(name[1:])\n"
    )
    racing = [subprocess.Popen([sys.executable, "-c", code, f"w{n}"], env=environment()) for n in range(3)]
    assert [process.wait(60) for process in racing] == [0, 0, 0]
    assert set(registry.list_models("mw*")) == {f"mw{n}-{number}" for n in range(3) for number in range(5)}
    assert project.read_text().startswith(START)


def test_editing_without_fetching_needs_no_torch(project: Path) -> None:
    code = (
        "import sys; from registry.cli import main\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code\n"
        "print(*sys.modules)"
    )
    for arguments in (("add", *GIVEN, "--config", "num_labels=3"), ("remove", "mine")):
        modules = run_python("-c", code, *arguments).stdout.split()
        assert "registry.catalog.edit.entries" in modules
        assert not {"torch", "numpy", "requests", "tokenizers"} & set(modules)
    assert project.read_text() == START


# -- removing ------------------------------------------------------------------------------------------------------------


def test_a_name_that_others_need_stays_unless_forced(run: Run, project: Path) -> None:
    more = "  second: {base: first, head: masked-lm}\n  third: {alias: first}\n"
    project.write_text(START + more)
    done = run("remove", "first")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"error: [R201] {project}:6:3: model 'first' is expected to be used by no other entry")
    assert f"'second' ({project}:7)" in done.err and f"'third' ({project}:8)" in done.err
    assert project.read_text() == START + more
    assert run("remove", "first", "--force").code == 0
    assert project.read_text() == "# Ours.\nregistry: 1\n\nmodels:\n" + more


def test_remove_says_where_the_name_was(run: Run, project: Path) -> None:
    assert (
        run("remove", "first", "--json").out
        == json.dumps({"name": "first", "file": str(project), "line": 6, "left": None}, indent=2) + "\n"
    )


def test_what_a_package_brings_cannot_be_removed(run: Run) -> None:
    done = run("remove", "bert-base-uncased")
    assert done.code == 1 and "comes with pretrained-registry" in done.err
    assert run("remove", "nosuch").err.startswith("error: [R101] ")


# -- the page ------------------------------------------------------------------------------------------------------------


def test_the_commands_of_the_page_do_what_it_says(run: Run) -> None:
    page = (ROOT / "docs" / "models-yaml.md").read_text(encoding="utf-8")
    block = page.partition("## Editing by command")[2].partition("```sh\n")[2].partition("```")[0]
    Path("checkpoints/last").mkdir(parents=True)
    words = [shlex.split(line)[1:] for line in block.splitlines() if line.startswith("registry ")]
    assert [command for command, *_ in words] == ["add", "add", "remove", "info"]
    assert [run(*arguments).code for arguments in words] == [0, 0, 0, 0]
    assert Path("models.yaml").read_text() == (
        "registry: 1\nmodels:\n  acme-support:\n    family: bert\n    source: ./checkpoints/last\n"
        "    head: sequence-classification\n    config: {num_labels: 3}\n"
    )


@pytest.mark.parametrize("text", ["", "\n", "# our models\n"])
def test_an_empty_project_file_is_the_one_that_is_written(run: Run, project: Path, tiny_bert: Path, text: str) -> None:
    project.write_text(text)
    done = run("add", "mine", str(tiny_bert))
    assert done.code == 0, done.err
    assert project.read_text().startswith(f"{text.strip()}") and "  mine:\n    family: bert\n" in project.read_text()


@pytest.mark.parametrize("arguments", [(), ("--file", "models.yaml"), ("--project",)])
def test_a_file_that_links_to_itself_is_reported(run: Run, project: Path, tiny_bert: Path, arguments: tuple[str, ...]) -> None:
    project.unlink()
    project.symlink_to("models.yaml")
    done = run("add", "mine", str(tiny_bert), *arguments)
    assert done.code == 1 and "is a link that leads back to itself" in done.err
