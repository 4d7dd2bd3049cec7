"""`registry cache` and `registry verify`."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import registry
import registry.store.upkeep.inventory
from registry.cli.cache_commands import duration, size
from registry.cli.layout import size_text
from registry.store.cache import Cache
from tests.cli.conftest import Run
from tests.servers import HubFiles, Server, file_server, hub_server
from tests.store import workers
from tests.store.helpers import leftovers, listing, sha256
from tests.store.test_upkeep import aged, overwrite

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def server(tiny_bert: Path) -> Iterator[Server]:
    """A server of the small model, which the catalog knows as `far` and, under other addresses, as `near`."""
    files = {f"/{name}/{file.name}": file.read_bytes() for file in tiny_bert.iterdir() for name in ("far", "near")}
    files["/near/config.json"] += b" "
    with file_server(files) as running:
        entries = "".join(f"  {name}: {{family: bert, source: '{running.url}/{name}/'}}\n" for name in ("far", "near"))
        Path("models.yaml").write_text(f"registry: 1\nmodels:\n{entries}  also: {{alias: far}}\n")
        yield running


def blob(cache: Path, folder: Path, name: str) -> Path:
    return Cache((cache,)).blob(sha256((folder / name).read_bytes()))


# -- verify --------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("server")
def test_verify_of_an_intact_cache_ends_with_0_and_counts_the_files(run: Run, tiny_bert: Path) -> None:
    assert (run("verify").code, run("verify").out) == (0, "0 of 0 files intact, 0 repaired, 0 damaged\n")
    run("fetch", "far")
    count = 2 * len(list(tiny_bert.iterdir()))  # each is a blob and stands in the folder
    assert run("verify", "also").out == f"{count} of {count} files intact, 0 repaired, 0 damaged\n"
    rows = json.loads(run("verify", "far", "--json").out)
    assert {row["state"] for row in rows} == {"ok"} and {row["model"] for row in rows} == {"far"}
    assert all(sha256(Path(row["path"]).read_bytes()) == row["sha256"] for row in rows)


def test_damage_is_shown_ends_with_1_and_is_repaired_by_name(run: Run, server: Server, cache: Path, tiny_bert: Path) -> None:
    folder = Path(run("fetch", "far").out.strip())
    weights = blob(cache, tiny_bert, "model.safetensors")
    overwrite(weights, 3000, b"\xff\x00\xff")
    (folder / "vocab.txt").unlink()
    done = run("verify")
    assert done.code == 1
    assert [line.split() for line in done.out.splitlines()[:-1]] == [
        ["damaged", "far", "model.safetensors", str(weights)],
        ["missing", "far", "vocab.txt", str(folder / "vocab.txt")],
    ]
    assert done.out.endswith(" 0 repaired, 2 damaged\n")
    before = len(server.requests)
    repaired = run("verify", "--repair")
    assert repaired.code == 0
    assert {line.split()[0] for line in repaired.out.splitlines()[:-1]} == {"repaired"}
    assert [request.path for request in server.requests[before:]] == ["/far/model.safetensors"]
    assert run("verify").code == 0
    assert weights.read_bytes() == (tiny_bert / "model.safetensors").read_bytes()
    assert Path(run("fetch", "far", "--offline").out.strip()) == folder


def test_what_only_load_brought_is_verified_and_repaired_by_name(
    run: Run, server: Server, cache: Path, tiny_bert: Path
) -> None:
    registry.load("far")
    assert not (cache / "folders").exists()
    overwrite(blob(cache, tiny_bert, "config.json"), 0, b"[")
    assert run("verify", "near").code == 0
    assert run("verify", "far").code == 1
    assert run("verify", "far", "--repair").code == 0
    registry.load("far", offline=True)
    assert not (cache / "folders").exists()


def test_a_name_finds_what_was_brought_by_its_url(run: Run, server: Server, cache: Path, tiny_bert: Path) -> None:
    registry.load(f"{server.url}/far/", family="bert")
    assert run("verify", "near").out.startswith("0 of 0")
    overwrite(blob(cache, tiny_bert, "config.json"), 0, b"?")
    assert run("verify", "far").code == 1
    run("cache", "rm", "far")
    assert [name for name in leftovers(cache) if name.startswith("blobs/")] == []


def test_damage_that_cannot_be_fetched_anew_is_put_away_and_said(
    run: Run, server: Server, cache: Path, tiny_bert: Path
) -> None:
    run("fetch", "far")
    overwrite(blob(cache, tiny_bert, "vocab.txt"), 0, b"?")
    server.answer = lambda handler, request: handler.reply(request, 404)
    done = run("verify", "--repair")
    assert done.code == 1
    assert (
        "damaged" in done.out
        and "warning: vocab.txt of 'far' is damaged and was quarantined, but could not be fetched again: no source has it"
        in done.err
    )
    assert (cache / "quarantine").is_dir()
    assert run("fetch", "far", "--offline").code == 1


def test_verify_and_rm_of_a_name_that_nobody_knows_say_what_is_close(run: Run) -> None:
    for command in (["verify"], ["cache", "rm"]):
        done = run(*command, "bert-base-uncasd")
        assert (done.code, done.out) == (1, "") and "did you mean 'bert-base-uncased'" in done.err


def test_damage_of_no_known_model_is_put_away(run: Run, server: Server, cache: Path, tiny_bert: Path) -> None:
    run("fetch", "far")
    run("cache", "rm", "far")
    registry.load_config("far")
    config = blob(cache, tiny_bert, "config.json")
    overwrite(config, 0, b"?")
    config.with_name(f"{config.name}.json").write_bytes(b"")
    assert "(unknown)" in run("verify").out
    done = run("verify", "--repair")
    assert done.code == 1 and "warning: a file of no known model is damaged and was quarantined" in done.err
    assert run("verify").code == 0
    registry.load_config("far")


def test_damage_in_a_tier_is_shown_and_left_to_its_owner(
    run: Run, server: Server, cache: Path, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("fetch", "far")
    own = tmp_path / "own"
    monkeypatch.setenv("REGISTRY_CACHE", os.pathsep.join([str(own), str(cache)]))
    for names in ((), ("far",)):
        done = run("verify", *names)
        assert done.code == 0 and not done.out.startswith("0 of 0") and done.err == ""
    overwrite(weights := blob(cache, tiny_bert, "model.safetensors"), 3000, b"\xff\x00\xff")
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    for names in ((), ("far",)):
        done = run("verify", *names, "--repair")
        assert done.code == 1 and ["damaged", "far", "model.safetensors", str(weights)] in [
            line.split() for line in done.out.splitlines()
        ]
        assert done.err == "read-only tiers are not repaired from here; their owner can do it, with --cache-dir\n"
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before
    rows = json.loads(run("verify", "--json").out)
    assert {row["tier"] for row in rows} == {True}
    assert run("verify", "--repair", "--cache-dir", cache).code == 0
    assert run("verify").code == 0


# -- cache ---------------------------------------------------------------------------------------------------------------


def test_dir_is_where_the_cache_is_written(run: Run, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("cache", "dir").out == f"{cache}\n"
    assert run("cache", "dir", "--cache-dir", tmp_path / "x").out == f"{tmp_path / 'x'}\n"
    monkeypatch.setenv("REGISTRY_CACHE", os.pathsep.join(["/a", "/b"]))
    assert json.loads(run("cache", "dir", "--json").out) == {"dir": "/a", "tiers": ["/b"]}
    assert not cache.exists()


@pytest.mark.usefixtures("server")
def test_list_shows_models_with_their_size_and_marks_tiers(
    run: Run, cache: Path, tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("fetch", "far")
    registry.load_config("near")
    monkeypatch.setenv("REGISTRY_CACHE", os.pathsep.join([str(tmp_path / "own"), str(cache)]))
    registry.load("far")
    done = run("cache", "list")
    assert done.code == 0
    total = 2 * sum(file.stat().st_size for file in tiny_bert.iterdir())  # small files are copies in the folder
    lines = done.out.splitlines()
    assert lines[0] == f"{tmp_path / 'own'}: 0 bytes"
    config = (tiny_bert / "config.json").stat().st_size + 1
    assert lines[1] == f"{cache} (a read-only tier): {size_text(total + config)}"
    assert [line.split()[:3] for line in lines[2:]] == [
        ["far", str(len(list(tiny_bert.iterdir()))), "files"],
        ["near", "1", "file"],
    ]
    assert f"  {size_text(total)}  " in lines[2] and "  used 20" in lines[2]
    own, tier = json.loads(run("cache", "list", "--json").out)
    assert (own["tier"], own["models"], tier["tier"], tier["size"]) == (False, [], True, total + config)
    assert {file["name"]: file["sha256"] for file in tier["models"][0]["files"]} == {
        file.name: sha256(file.read_bytes()) for file in tiny_bert.iterdir()
    }


@pytest.mark.usefixtures("server")
def test_list_shows_what_is_unfinished_and_in_quarantine(run: Run, cache: Path) -> None:
    (folder := cache / "blobs" / "sha256" / "aa").mkdir(parents=True)
    (folder / f"{'a' * 64}.partial").write_bytes(b"x" * 1500)
    (cache / "quarantine").mkdir()
    (cache / "quarantine" / ("b" * 64)).write_bytes(b"x")
    words = [line.split() for line in run("cache", "list").out.splitlines()]
    assert words[1][:6] == ["partial", "download", "owner", "unknown", "1.5", "kB"]
    assert words[2][:4] == ["in", "quarantine", "1", "bytes"]
    (facts,) = json.loads(run("cache", "list", "--json").out)
    assert facts["partials"] == [{"path": str(folder / f"{'a' * 64}.partial"), "size": 1500, "owner": "unknown"}]


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("seconds", [-1e13, -1, 1e10, 2**38, 1e17], ids=str)
def test_list_shows_times_of_any_clock(seconds: float, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("fetch", "far")
    monkeypatch.setattr(registry.store.upkeep.inventory.Seen, "used", int(seconds * 10**9))
    monkeypatch.setattr(registry.store.upkeep.inventory.Blob, "used", int(seconds * 10**9))
    done = run("cache", "list")
    assert done.code == 0 and "far " in done.out and "used " in done.out
    assert run("cache", "list", "--json").code == 0


@pytest.mark.usefixtures("server")
def test_rm_removes_a_model_by_any_of_its_names_and_keeps_what_others_share(run: Run, cache: Path, tiny_bert: Path) -> None:
    registry.load("far")
    registry.load_tokenizer("far")
    run("fetch", "near")
    done = run("cache", "rm", "also")
    assert done.code == 0 and done.out.split()[0] == "also"
    (facts,) = json.loads(run("cache", "list", "--json").out)
    assert [model["model"] for model in facts["models"] if len(model["files"]) > 1] == ["near"]
    assert run("fetch", "near", "--offline").code == 0
    assert run("verify").code == 0
    assert not blob(cache, tiny_bert, "config.json").exists()
    removed = json.loads(run("cache", "rm", "near", "--json").out)["near"]
    assert {item["kind"] for item in removed["removed"]} == {"blob", "folder", "record"}
    assert not list((cache / "folders").iterdir())


def test_rm_forgets_which_files_were_not_there_and_what_a_revision_was(
    run: Run, cache: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that is fetched after it was removed is what it is today."""
    later = {"tokenizer_config.json", "special_tokens_map.json"}
    files = {file.name: file.read_bytes() for file in tiny_bert.iterdir()}
    hub = HubFiles({"acme/bert": {name: body for name, body in files.items() if name not in later}})
    with hub_server(hub) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        Path("models.yaml").write_text("registry: 1\nmodels: {m: {family: bert, source: 'hf://acme/bert'}}\n")
        assert not later & {path.name for path in registry.fetch("m").iterdir()}
        hub.files["acme/bert"] = files
        hub.commits = {"main": "b" * 40}
        assert not later & {path.name for path in registry.fetch("m").iterdir()}
        assert run("cache", "rm", "m").code == 0
        assert leftovers(cache) == []
        assert later <= {path.name for path in registry.fetch("m").iterdir()}


@pytest.mark.usefixtures("server")
def test_rm_of_a_name_that_nobody_knows_removes_the_others_and_ends_with_1(run: Run) -> None:
    run("fetch", "far", "near")
    done = run("cache", "rm", "far", "nearr", "near", "--json")
    assert done.code == 1 and "did you mean 'near'" in done.err
    assert [facts["freed"] > 0 for facts in json.loads(done.out).values()] == [True, True]


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("command", [["rm", "far"], ["prune", "--max-size", "0"]], ids=lambda command: command[0])
def test_what_cannot_be_removed_ends_with_1(
    command: list[str], run: Run, cache: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("fetch", "far")
    stuck = blob(cache, tiny_bert, "vocab.txt")
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == stuck:
            raise PermissionError(errno.EACCES, "Permission denied")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    done = run("cache", *command, "--json")
    facts = json.loads(done.out)
    assert done.code == 1
    assert (facts.get("far") or facts)["failed"] == [str(stuck)]
    assert run("cache", *command).code == 1
    monkeypatch.setattr(Path, "unlink", unlink)
    assert run("cache", *command).code == 0


@pytest.mark.usefixtures("server")
def test_rm_takes_a_model_that_no_catalog_has_any_more(run: Run, cache: Path) -> None:
    run("fetch", "far")
    Path("models.yaml").unlink()
    assert run("cache", "rm", "far").code == 0
    assert [name for name in leftovers(cache) if not name.startswith("refs/")] == []
    assert run("cache", "rm", "far").code == 1


@pytest.mark.usefixtures("server")
def test_prune_takes_sizes_and_durations_and_shows_what_goes(run: Run, cache: Path) -> None:
    for name in ("far", "near"):
        run("fetch", name)
    for path in (cache / "folders").iterdir():
        aged(path, 40)
    for path in (cache / "blobs").rglob("*"):
        aged(path, 40)
    before = listing(cache)
    told = run("cache", "prune", "--older-than", "30d", "--max-size", "1GB", "--dry-run")
    assert told.code == 0 and listing(cache) == before
    assert " would be freed, 0 bytes left" in told.out
    assert run("cache", "prune", "--older-than", "41d").out.splitlines()[-1].startswith("0 bytes freed, ")
    done = json.loads(run("cache", "prune", "--older-than", "30d", "--json").out)
    assert {item["kind"] for item in done["removed"]} == {"blob", "folder"}
    assert (done["dry_run"], done["left"]) == (False, 0) and done["freed"] > 0
    assert run("fetch", "far", "near").code == 0


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("123B", 123),
        ("123 b", 123),
        ("500MB", 500_000_000),
        ("20GB", 20_000_000_000),
        ("20 gb", 20_000_000_000),
        ("1.5GiB", 3 << 29),
        ("1MiB", 1_048_576),
        ("2k", 2000),
        ("0.1TB", 100_000_000_000),
        ("1.1kB", 1100),
    ],
)
def test_a_size_is_bytes(text: str, count: int) -> None:
    assert size(text) == count


@pytest.mark.parametrize(
    ("text", "count"), [("90s", 90), ("45m", 2700), ("12h", 43_200), ("30d", 2_592_000), ("2w", 1_209_600)]
)
def test_a_duration_is_seconds(text: str, count: int) -> None:
    assert duration(text) == count


@pytest.mark.parametrize("option", ["--max-size", "--older-than"])
@pytest.mark.parametrize(
    "text", ["", "much", "10", "1.5", "-1", "1e3", "1PB", "GB", "20GBs", "1,5GB", "٣", "nan", "inf", "30 days", "1MB1"]
)
def test_another_size_or_duration_is_wrong_usage_that_says_what_is_expected(option: str, text: str, run: Run) -> None:
    done = run("cache", "prune", f"{option}={text}")
    assert done.code == 2
    assert f"'{option}'" in done.err and "20GB" in done.err + "20GB" * (option == "--older-than")
    assert ("such as 500MB, 20GB or 1.5GiB" if option == "--max-size" else "such as 2w, 30d, 12h, 45m or 90s") in done.err


def test_a_duration_needs_its_unit() -> None:
    with pytest.raises(click.BadParameter, match="30d"):
        duration("30")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (440_449_768, "440.4 MB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (1_520_000_000, "1.5 GB"),
        (10**16, "10000.0 TB"),
    ],
)
def test_a_size_is_shown_in_powers_of_1000(count: int, text: str) -> None:
    assert size_text(count) == text


def test_models_load_right_while_another_process_prunes_to_a_size_without_pause(cache: Path, tiny_bert: Path) -> None:
    body = (tiny_bert / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(body[:8], "little")
    files = {}
    for number in range(4):
        changed = bytearray(body)
        changed[start : start + 4] = bytes([0, 0, number, 64])  # the first value of the first tensor
        for file in tiny_bert.iterdir():
            files[f"/{number}/{file.name}"] = bytes(changed) if file.name == "model.safetensors" else file.read_bytes()
        files[f"/{number}/config.json"] += b" " * number
    receiver, sender = SPAWN.Pipe()
    pruner = SPAWN.Process(target=workers.prune_all_the_time, args=(cache, sender), kwargs={"max_size": 5 * len(body) // 2})
    pruner.start()
    receiver.recv()
    loaded: list[tuple[int, object]] = []
    with file_server(files) as server:
        for turn in range(24):
            number = (turn * 5 + turn // 4) % 4
            loaded.append((number, registry.load(f"{server.url}/{number}/", family="bert", head="pretraining")))
        downloads = server.sent("/0/model.safetensors") // len(body)
    receiver.send("stop")
    _, removed = receiver.recv()
    pruner.join(60)
    assert pruner.exitcode == 0 and removed > 0
    assert downloads > 1  # else nothing was taken away from under a reader
    whole = load_file(tiny_bert / "model.safetensors")
    header = json.loads(body[8:start])
    first = min((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"])
    for number, model in loaded:  # all are still mapped from files that have no name any more
        state = model.state_dict()  # type: ignore[attr-defined]
        for name, tensor in whole.items():
            if name != first:
                assert torch.equal(state[name], tensor)
        value = np.frombuffer(bytes([0, 0, number, 64]), np.float32)[0]
        assert state[first].flatten()[0].item() == value
