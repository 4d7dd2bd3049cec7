"""`registry list`, `info` and `fetch`; exit codes, JSON, help and colours."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import registry
from registry.cli import layout
from registry.cli.commands import cli
from tests.cli.conftest import Run
from tests.processes import environment, run_python
from tests.servers import Handler, Request, file_server, serving
from tests.snapshot import assert_snapshot

MAIN = "from registry.cli import main; main()"


@pytest.fixture
def demo(tiny_bert: Path) -> Path:
    """A project's catalog with a usable model, and return the model's folder."""
    digest = hashlib.sha256((tiny_bert / "vocab.txt").read_bytes()).hexdigest()
    Path("models.yaml").write_text(
        f"""\
registry: 1
models:
  tiny:
    family: bert
    source: {tiny_bert}
    head: masked-lm
    config: {{num_labels: 3}}
    files: {{vocab.txt: {{sha256: {digest}}}, model.safetensors: , config.json: }}
    description: random weights
    license: CC0-1.0
  bert-base-cased: {{base: tiny, override: true, head: base}}
  small: {{alias: tiny}}
  old: {{alias: tiny, deprecated: {{since: 2026-05, note: renamed}}}}
"""
    )
    return tiny_bert


# -- list ----------------------------------------------------------------------------------------------------------------


def test_list_shows_the_names_that_match(run: Run) -> None:
    done = run("list", "bert-base-*cased")
    assert done.code == 0 and not done.err
    names = [line.split()[0] for line in done.out.splitlines()]
    assert names == registry.list_models("bert-base-*cased")
    assert {"bert-base-cased", "bert-base-uncased", "bert-base-multilingual-cased"} <= set(names)
    assert done.out.splitlines()[0].split()[1] == "bert"


def test_list_without_a_pattern_shows_all_in_aligned_columns(run: Run) -> None:
    lines = run("list").out.splitlines()
    assert [line.split()[0] for line in lines] == registry.list_models()
    # But for one whose name takes more than half of the line.
    assert len({line.index(" bert ") for line in lines if " bert " in line and len(line.split()[0]) <= 40}) == 1


@pytest.mark.parametrize("columns", [None, 40, 80, 200])
def test_list_and_info_fit_the_terminal(columns: int | None, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "a folder" / ("deep/" * 40)
    source.mkdir(parents=True)
    (source / "config.json").write_text("{}")
    outside = tmp_path / ("far" * 30) / "models.yaml"
    outside.parent.mkdir()
    outside.write_text(
        f"registry: 1\nmodels:\n  acme: {{family: bert, source: {source}, description: {'many words ' * 30}, "
        f"license: {'x' * 300}}}\n"
        f"  {'long-' * 8}x: {{alias: acme}}\n  wide: {{family: bert, source: ./m, description: {'模型' * 80}}}\n"
    )
    monkeypatch.setenv("REGISTRY_MODELS", str(outside))
    if columns is not None:
        monkeypatch.setenv("COLUMNS", str(columns))
    for arguments in (["list", "bert-base-*"], ["list", "[aw]*"], ["info", "acme"], ["info", "wide"], ["info", "gpt2"]):
        lines = run(*arguments).out.splitlines()
        assert max(layout._columns(line) for line in lines) <= (columns or 80)
    shown = "".join(run("info", "acme").out.split())
    assert str(source).replace(" ", "") in shown and f"{outside}:3" in shown and "x" * 300 in shown
    (name, *_), *_ = (line.split() for line in run("list", "long*").out.splitlines())
    assert name == f"{'long-' * 8}x"
    if columns == 200:
        assert "12 layers, hidden size 768, 12 heads" in run("list", "bert-base-cased").out


def test_list_of_no_match_says_so_and_ends_with_1(run: Run) -> None:
    done = run("list", "zzz*")
    assert (done.code, done.out) == (1, "")
    assert done.err == "error: no name matches 'zzz*'; `registry list` shows all\n"
    done = run("list", "zzz*", "--json")
    assert (done.code, json.loads(done.out)) == (1, []) and done.err == ""
    assert run("list", "bert-base-uncasedd").err == (
        "error: no name matches 'bert-base-uncasedd'; did you mean 'bert-base-uncased'?\n"
    )


@pytest.mark.usefixtures("demo")
def test_list_json(run: Run) -> None:
    rows = json.loads(run("list", "[st][mi]*", "--json").out)
    facts = {"model": "tiny", "family": "bert", "head": "masked-lm", "description": "random weights"}
    assert rows == [{"name": "small", **facts}, {"name": "tiny", **facts}]


@pytest.mark.usefixtures("demo")
def test_list_leaves_out_what_cannot_be_used_and_says_why(run: Run) -> None:
    with Path("models.yaml").open("a") as file:
        file.write("  odd: {famly: bert}\n  lost: {alias: nowhere}\n")
    done = run("list", "[tol][ido]*")
    assert (done.code, [line.split()[0] for line in done.out.splitlines()]) == (0, ["tiny"])
    assert "warning: [R201]" in done.err
    assert "models.yaml:14:9: model 'odd' has the unknown key 'famly'" in done.err
    assert "models.yaml:15:10: alias of model 'lost'" in done.err


# -- info ----------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("demo")
def test_info_shows_each_field_with_its_place(run: Run, tiny_bert: Path) -> None:
    done = run("info", "tiny")
    assert done.code == 0 and not done.err
    # What does not fit beside the first column stands below it.
    rows = {
        row.split()[0]: "".join(line.strip() + " " * (line == row) for line in row.split("\n"))
        for row in re.split(r"\n(?! {5})", done.out)
        if row
    }
    place = "models.yaml"
    for field, value, line in (
        ("family", "bert", 4),
        ("source", str(tiny_bert), 5),
        ("head", "masked-lm", 6),
        ("config", "num_labels", 7),
        ("description", "random weights", 9),
        ("license", "CC0-1.0", 10),
    ):
        assert value in rows[field] and rows[field].strip().endswith(f"{place}:{line}")
    assert "question-answering" in rows["heads"]
    assert str(tiny_bert / "model.safetensors") in rows["model.safetensors"]
    digest = hashlib.sha256((tiny_bert / "vocab.txt").read_bytes()).hexdigest()
    assert f"sha256 {digest[:12]}…" in rows["vocab.txt"] and "catalog" in rows["vocab.txt"]
    assert "not pinned" in rows["config.json"]


@pytest.mark.usefixtures("demo")
def test_info_json(run: Run, tiny_bert: Path) -> None:
    facts = json.loads(run("info", "small", "--json").out)
    assert (facts["name"], facts["via"], facts["family"], facts["head"]) == ("tiny", ["small"], "bert", "masked-lm")
    assert (facts["source"], facts["config"], facts["license"]) == (str(tiny_bert), {"num_labels": 3}, "CC0-1.0")
    assert len(facts["heads"]) == 8
    assert facts["origins"]["config.num_labels"] == {"file": f"{Path.cwd()}/models.yaml", "line": 7, "column": 14}
    from safetensors import safe_open

    with safe_open(tiny_bert / "model.safetensors", "pt") as weights:
        total = sum(weights.get_tensor(name).numel() for name in weights.keys())  # noqa: SIM118  # it is no mapping
    assert facts["parameters"] == total
    assert facts["files"]["model.safetensors"]["path"] == str(tiny_bert / "model.safetensors")
    assert facts["files"]["vocab.txt"]["trust"] == "catalog"


@pytest.mark.usefixtures("demo")
def test_info_shows_what_a_name_shadows(run: Run) -> None:
    assert "registry_bert/models.yaml:" in run("info", "bert-base-cased").out.partition("\nshadows")[2]
    (shadow,) = json.loads(run("info", "bert-base-cased", "--json").out)["shadows"]
    assert Path(shadow["file"]).parts[-2:] == ("registry_bert", "models.yaml")


def test_info_of_a_model_that_is_not_here_needs_no_network(run: Run) -> None:
    facts = json.loads(run("info", "bert-base-uncased", "--json").out)
    assert facts["files"]["model.safetensors"] == {
        "role": "weights",
        "sha256": "68d45e234eb4a928074dfd868cead0219ab85354cc53d20e772753c6bb9169d3",
        "size": 440449768,
        "trust": "catalog",
        "path": None,
    }
    assert facts["parameters"] is None
    assert "not here" in run("info", "bert-base-uncased").out


@pytest.mark.parametrize(
    ("entry", "warning"),
    [
        ("{family: bert, source: package://no_such_package/model, license: MIT}", None),
        ("{family: berp, source: ./x, license: MIT}", "did you mean 'bert'?"),
    ],
)
def test_info_shows_the_entry_of_what_cannot_be_used(run: Run, entry: str, warning: str | None) -> None:
    Path("models.yaml").write_text(f"registry: 1\nmodels:\n  mine: {entry}\n")
    done = run("info", "mine")
    assert done.code == 0
    assert "MIT" in done.out and "models.yaml:3" in done.out
    assert done.err == "" if warning is None else done.err.startswith("warning: ") and warning in done.err
    facts = json.loads(run("info", "mine", "--json").out)
    assert (facts["license"], facts["files"]) == ("MIT", {})


@pytest.mark.usefixtures("demo")
def test_a_deprecated_name_warns_beside_the_output(run: Run) -> None:
    done = run("info", "old", "--json")
    assert done.code == 0
    assert json.loads(done.out)["name"] == "tiny"
    assert done.err == "warning: model 'old' is deprecated since 2026-05 (renamed); use 'tiny'\n"


# -- fetch ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(tiny_bert: Path) -> dict[str, bytes]:
    """The small model's files by their path on a server."""
    return {f"/tiny/{file.name}": file.read_bytes() for file in tiny_bert.iterdir()}


def test_fetch_prints_a_folder_with_the_files(run: Run, served: dict[str, bytes], tmp_path: Path) -> None:
    with file_server(served) as server:
        Path("models.yaml").write_text(f"registry: 1\nmodels:\n  far: {{family: bert, source: '{server.url}/tiny/'}}\n")
        done = run("fetch", "far")
        assert done.code == 0
        folder = Path(done.out.strip())
        for name in ("model.safetensors", "config.json", "vocab.txt"):
            assert (folder / name).read_bytes() == served[f"/tiny/{name}"]
        asked = len(server.requests)
        facts = json.loads(run("info", "far", "--json").out)
        assert facts["files"]["vocab.txt"]["sha256"] == hashlib.sha256(served["/tiny/vocab.txt"]).hexdigest()
        elsewhere = tmp_path / "elsewhere"
        assert len(server.requests) == asked
        assert Path(run("fetch", "far", "--cache-dir", elsewhere).out.strip()).is_relative_to(elsewhere)
    again = run("fetch", "far", "--offline", "--json")
    assert json.loads(again.out) == {"far": str(folder)}
    refused = run("fetch", "far", "--offline", "--cache-dir", tmp_path / "empty")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("error: [R403] ")


def test_fetch_of_a_name_that_nobody_knows_fetches_the_others_and_ends_with_1(run: Run, tiny_bert: Path) -> None:
    done = run("fetch", "nosuch", tiny_bert, "--json")
    assert (done.code, json.loads(done.out)) == (1, {str(tiny_bert): str(tiny_bert)})
    assert done.err.startswith("error: [R101] model 'nosuch'")
    done = run("fetch", tiny_bert, "nosuch")
    assert (done.code, done.out) == (1, f"{tiny_bert}\n")


@pytest.mark.usefixtures("demo")
def test_fetch_of_a_local_folder_is_that_folder(run: Run, tiny_bert: Path) -> None:
    done = run("fetch", "tiny", tiny_bert, "--json")
    assert json.loads(done.out) == {"tiny": str(tiny_bert), str(tiny_bert): str(tiny_bert)}
    assert run("fetch", "tiny", "small").out.splitlines() == [str(tiny_bert)] * 2


def test_fetch_refuses_other_bytes_than_are_pinned(run: Run, tiny_bert: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_bert, changed := tmp_path / "changed")
    Path("models.yaml").write_text(
        f"registry: 1\nmodels:\n  m: {{family: bert, source: {changed}, files: {{vocab.txt: {{sha256: {'f' * 64}}}}}}}\n"
    )
    done = run("fetch", "m")
    assert (done.code, done.out) == (1, "")
    assert "error: [R402] " in done.err and "f" * 64 in done.err


# -- exit codes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["info", "fetch", "try"])
def test_an_unknown_name_ends_with_1_and_says_which_is_close(run: Run, command: str) -> None:
    done = run(command, "bert-base-uncasd")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: [R101] model 'bert-base-uncasd'")
    assert "did you mean 'bert-base-uncased'" in done.err
    assert len(done.err.splitlines()) == 1


def test_a_broken_catalog_ends_with_1_and_its_place(run: Run) -> None:
    Path("models.yaml").write_text("registry: 1\nmodels:\n  mine: {famly: bert}\n")
    done = run("info", "mine")
    assert done.code == 1
    assert done.err.startswith(f"error: [R201] {Path.cwd()}/models.yaml:3:10: ")
    assert "'famly'" in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["list", "--no-such-option"],
        ["list", "a", "b"],
        ["info"],
        ["info", "a", "b"],
        ["fetch"],
        ["try"],
        ["try", "name", "--head"],
        ["--no-such-option"],
        ["verify", "--no-such-option"],
        ["cache", "no-such-command"],
        ["cache", "rm"],
    ],
)
def test_wrong_usage_ends_with_2(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "Error: " in done.err and "registry" not in done.out


def test_the_version_is_the_distributions(run: Run) -> None:
    assert (run("--version").code, run("--version").out) == (0, f"registry, version {registry.__version__}\n")


def test_the_installed_command_is_this_one() -> None:
    command = shutil.which("registry", path=str(Path(sys.executable).parent))
    assert command is not None, "run `make test`, which installs the package"
    done = subprocess.run([command, "info", "no-such-model"], env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: [R101] ")


def modules_of(*arguments: str) -> set[str]:
    """Return what is imported when a command has run."""
    code = f"import sys, atexit; sys.argv[1:] = {list(arguments)!r};"
    code += "atexit.register(lambda: sys.stderr.write(' '.join(sys.modules)));" + MAIN
    return set(run_python("-c", code).stderr.split())


def test_listing_imports_what_it_needs() -> None:
    modules = modules_of("list", "--json")
    assert "registry.cli.commands" in modules
    assert not {"torch", "numpy", "requests", "pluggy", "tokenizers", "logging", "importlib.metadata"} & modules
    assert not {name for name in modules if name.startswith(("registry.store.transports", "registry.checkpoint"))}


def test_showing_what_a_name_means_imports_what_it_needs() -> None:
    modules_of("list")  # which reads the catalogs, and keeps what they say
    modules = modules_of("info", "gpt2")
    assert {"registry.store.store", "registry_gpt2.plugin"} <= modules
    assert not {"torch", "numpy", "requests", "tokenizers", "safetensors", "filelock", "importlib.metadata"} & modules
    assert not {"logging", "shutil", "concurrent.futures", "ssl", "socket", "tarfile", "zipfile", "pickle"} & modules
    ours = {name for name in modules if name.startswith("registry.")}
    assert not {name for name in ours if name.startswith(("registry.pretrained", "registry.checkpoint"))}
    assert {name for name in ours if name.startswith("registry.cli.")} == {"registry.cli.commands", "registry.cli.layout"}
    assert not {"registry.lockfile.format", "registry.store.adopt.adoption", "registry.store.fetch"} & ours
    assert not {"registry.store.download", "registry.store.folders", "registry.base.file_lock"} & ours


def test_a_reader_that_stops_early_causes_no_traceback() -> None:
    lines = [f"  model-{number}: {{family: bert, source: ./x, description: {'long ' * 20}}}\n" for number in range(1000)]
    Path("models.yaml").write_text("registry: 1\nmodels:\n" + "".join(lines))
    command = f"\"{sys.executable}\" -c '{MAIN}' list | head -1"
    done = subprocess.run(command, shell=True, env=environment(), capture_output=True, text=True, check=False)
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


# -- help and colours ----------------------------------------------------------------------------------------------------


def test_the_help_is_that_of_the_snapshot() -> None:
    assert isinstance(cli, click.Group)
    pages = []
    context = click.Context(cli)
    commands = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    groups = [[name, inner] for name, group in commands.items() if isinstance(group, click.Group) for inner in group.commands]
    for command in ([], *sorted([*([name] for name in commands), *groups])):
        arguments = [*command, "--help"]
        done = CliRunner().invoke(cli, arguments, prog_name="registry", terminal_width=80)
        assert done.exit_code == 0
        assert "Examples:" in done.output and max(map(len, done.output.splitlines())) <= 80
        pages.append(f"$ registry {' '.join(arguments)}\n{done.output}")
    assert_snapshot("cli_help.txt", "\n".join(pages))


@pytest.mark.parametrize("command", [[], ["list"], ["info"], ["fetch"], ["try"], ["verify"], ["cache"], ["cache", "list"]])
def test_help_comes_without_arguments_of_its_own(run: Run, command: list[str]) -> None:
    short, long = run(*command, "-h"), run(*command, "--help")
    assert short.code == 0 and short.out == long.out and short.out.startswith("Usage: registry")


@pytest.mark.parametrize(("no_color", "coloured"), [(None, True), ("", True), ("1", False), ("0", False)])
def test_colours_are_for_terminals_that_want_them(
    no_color: str | None, coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # https://no-color.org: set and not empty means no colours, whatever its value.
    if no_color is None:
        monkeypatch.delenv("NO_COLOR", raising=False)
    else:
        monkeypatch.setenv("NO_COLOR", no_color)
    on_terminal = CliRunner().invoke(cli, ["list"], color=True).output
    assert ("\x1b[" in on_terminal) is coloured
    assert "\x1b[" not in CliRunner().invoke(cli, ["list"]).output


def test_json_is_never_coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert json.loads(CliRunner().invoke(cli, ["list", "--json"], color=True).output)


def test_info_of_a_path_says_what_takes_paths(run: Run, tiny_bert: Path) -> None:
    done = run("info", tiny_bert)
    assert done.code == 2 and "info is about names" in done.err
    assert "hf://" not in run("info", "./absent").err


def test_a_family_that_is_none_is_shown_with_its_place(run: Run) -> None:
    Path("models.yaml").write_text("registry: 1\nmodels:\n  mine: {family: brt, source: ./x}\n")
    done = run("fetch", "mine")
    assert done.code == 1 and "models.yaml:3: family 'brt'" in done.err


@pytest.mark.parametrize("field", ["description", "license", "source"])
def test_what_a_stranger_writes_moves_no_cursor(field: str, run: Run) -> None:
    fields = {"family": "bert", "source": "./x", field: '"./a\\e[31m\\e]0;pwned\\a"'}
    entry = "\n".join(f"    {key}: {value}" for key, value in fields.items())
    Path("models.yaml").write_text(f"registry: 1\nmodels:\n  theirs:\n{entry}\n")
    for command in (["list"], ["info", "theirs"], ["validate"]):
        done = run(*command)
        assert "\x1b" not in done.out + done.err and "\x07" not in done.out + done.err
    assert "expected to hold no control characters" in run("info", "theirs").err


def test_controls_in_a_table_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert layout.table([("a\x1b[2J\u202eb", "c\nd")])[0].endswith("a\\x1b[2J\\u202eb  c\\nd")


# -- the process ---------------------------------------------------------------------------------------------------------


def test_the_package_is_the_command(run: Run) -> None:
    done = run_python("-m", "registry", "list", "bert-base-*")
    assert done.stdout == run("list", "bert-base-*").out
    assert run_python("-m", "registry", "fetch", "--help").stdout.startswith("Usage: python -m registry fetch [OPTIONS]")
    done = run_python("-m", "registry", "info", "no-such-model", check=False)
    assert (done.returncode, done.stdout) == (1, "") and "R101" in done.stderr


KEPT = "interrupted; what has arrived is kept, and the same command goes on from there"


@pytest.mark.parametrize("presses", [1, 2])
@pytest.mark.parametrize("silent", ["model.safetensors", "config.json"])
def test_an_interrupted_fetch_ends_at_once_with_130_and_goes_on_later(
    silent: str, presses: int, cache: Path, tmp_path: Path
) -> None:
    files = {"config.json": b'{"model_type": "bert"}', "vocab.txt": b"a\n" * 100_000, "model.safetensors": bytes(300_000)}
    waits, goes_on = threading.Event(), threading.Event()

    def answer(handler: Handler, request: Request) -> None:
        name = request.path.removeprefix("/")

        def pace(_: int) -> None:
            if name == silent and request.sent:
                waits.set()
                goes_on.wait(60)

        if name == silent == "config.json" and not goes_on.is_set():
            waits.set()
            goes_on.wait(60)
        handler.reply(request, 200 if name in files else 404, files.get(name, b""), pace=pace)

    with serving(answer) as server:
        command = [sys.executable, "-m", "registry", "fetch", server.url]
        process = subprocess.Popen(
            command,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(
                signal.SIGINT, signal.SIG_DFL
            ),  # a shell ignores it for what runs in the background
        )
        assert waits.wait(60)
        for _ in range(presses):
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)  # the server itself would be given up later
        assert (process.returncode, out) == (130, "") and err.splitlines()[-1] == KEPT
        assert "Traceback" not in err and err.count("interrupted") == 1
        goes_on.set()
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=True)
    assert {path.name: path.read_bytes() for path in Path(done.stdout.strip()).iterdir()} == files


def test_an_interruption_before_anything_is_fetched_promises_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "registry.store.download", raising=False)
    monkeypatch.setattr(registry.ModelRegistry, "list_models", interrupted)
    done = run("list")
    assert done.code == 130 and done.err.splitlines()[-1] == "interrupted"


def test_a_signal_that_is_ignored_stays_ignored(cache: Path) -> None:
    code = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); from registry.cli import main\n"
        "import registry; registry.ModelRegistry.list_models = lambda *_: os.kill(os.getpid(), signal.SIGINT) or ['gpt2']\n"
        "sys.argv = ['registry', 'list']; main()"
    )
    assert run_python("-c", code).stdout.startswith("gpt2")
