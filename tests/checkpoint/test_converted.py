"""Pickles become safetensors in the cache, once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import registry
from registry import BertConfig, BertModel, CheckpointError, ModelRegistry, UnsafeCheckpoint
from registry.checkpoint import converted
from registry.checkpoint.converted import open_stored
from registry.checkpoint.torch import file as torch_file
from registry.store.cache import Cache
from registry.store.store import Store
from registry.store.target import StoredFile
from tests.servers import Server, file_server

CONFIG = BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=20)


def legacy_bytes(tmp_path: Path, tensors: dict[str, Any], *, legacy: bool = True) -> bytes:
    torch.save(tensors, tmp_path / "weights.bin", _use_new_zipfile_serialization=not legacy)
    return (tmp_path / "weights.bin").read_bytes()


@pytest.fixture
def model() -> BertModel:
    return BertModel(CONFIG)


@pytest.fixture(params=[True, False], ids=["legacy", "zip"])
def server(request: pytest.FixtureRequest, model: BertModel, tmp_path: Path) -> Iterator[Server]:
    body = legacy_bytes(tmp_path, model.state_dict(), legacy=request.param)
    with file_server({"/config.json": CONFIG.to_json_string().encode(), "/pytorch_model.bin": body}) as server:
        yield server


def blobs(cache: Path) -> set[Path]:
    return {path for path in (cache / "blobs").rglob("*") if path.is_file() and len(path.name) == 64}


def forbid_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a pickle was opened")

    monkeypatch.setattr(torch_file.TorchFile, "__init__", refuse)


def test_saved_and_converted_weights_begin_at_multiples_of_64(server: Server, model: BertModel, tmp_path: Path) -> None:
    ids = torch.arange(1, 9)[None]
    registry.load(server.url).save_pretrained(tmp_path / "saved")
    expected = model.eval()(ids).last_hidden_state
    for source in (server.url, tmp_path / "saved"):
        loaded = registry.load(str(source))
        for name, value in loaded.state_dict().items():
            assert value.nbytes % 64 or value.data_ptr() % 64 == 0, name
        assert torch.equal(loaded(ids).last_hidden_state, expected)


@pytest.mark.parametrize("said", ["{", "[" * 100_000, "[]", "1", '{"b": "c"}', '{"b": ["a"]}', '{"b": null}'])
def test_a_converted_file_that_was_changed_is_named(tmp_path: Path, said: str) -> None:
    both = torch.ones(2)
    torch.save({"a": both, "b": both}, tmp_path / "x.bin")
    with Store(Cache((tmp_path / "cache",)), offline=True) as store:
        file = StoredFile("x.bin", tmp_path / "x.bin")
        assert sorted(open_stored(file, store, "x").names()) == ["a", "b"]
        (path,) = blobs(tmp_path / "cache")
        save_file({"a": both}, tmp_path / "new", {"shared": said})
        (tmp_path / "new").replace(path)
        with pytest.raises(CheckpointError, match=f"cache file .*{path.name}.* damaged"):
            converted._open(path)


def test_a_dtype_that_safetensors_lacks_is_read_from_the_pickle(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, dtype=torch.complex128), "b": torch.ones(2)}
    torch.save(tensors, tmp_path / "x.bin")
    with Store(Cache((tmp_path / "cache",)), offline=True) as store:
        for _ in range(2):
            found = open_stored(StoredFile("x.bin", tmp_path / "x.bin"), store, "x")
            assert all(torch.equal(found.tensor(name), tensor) for name, tensor in tensors.items())
    assert not blobs(tmp_path / "cache")


def test_the_second_load_opens_no_pickle(
    server: Server, model: BertModel, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = registry.load(server.url)
    forbid_pickles(monkeypatch)
    second = registry.load(server.url)
    for loaded in (first, second):
        assert loaded.load_report is not None
        assert loaded.load_report.clean
        assert loaded.load_report.source.endswith("(pytorch_model.bin)")
        assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())
    assert len(blobs(cache)) == 3  # configuration, pickle, what became of it


def test_it_can_be_turned_off(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_CONVERT", "0")
    registry.load(server.url)
    assert len(blobs(cache)) == 2
    forbid_pickles(monkeypatch)
    with pytest.raises(AssertionError, match="a pickle was opened"):
        registry.load(server.url)


def test_a_damaged_result_is_made_anew(server: Server, model: BertModel, cache: Path) -> None:
    registry.load(server.url)
    made = next(path for path in blobs(cache) if path.read_bytes()[8:9] == b"{" and path.stat().st_size > 2000)
    made.chmod(0o644)
    body = bytearray(made.read_bytes())
    body[-3] ^= 1
    made.write_bytes(body)
    again = registry.load(server.url)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())
    assert made.read_bytes() != bytes(body)
    assert all(check.state == "ok" for check in ModelRegistry().verify())


def test_it_goes_with_its_model(server: Server, cache: Path) -> None:
    registry.load(server.url)
    ModelRegistry().evict(server.url)
    assert not blobs(cache)
    assert not [path for path in (cache / "refs").rglob("*.json") if "converted" in path.read_text()]


@pytest.mark.parametrize("legacy", [True, False])
def test_of_a_file_that_is_saved_again_and_again_the_last_form_is_kept(
    legacy: bool, model: BertModel, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    model.save_pretrained(folder, safe_serialization=False)
    (folder / "pytorch_model.bin").write_bytes(legacy_bytes(tmp_path, model.state_dict(), legacy=legacy))
    registry.load(folder)
    (made,) = blobs(cache)
    with monkeypatch.context() as patch:
        forbid_pickles(patch)
        registry.load(folder)
    other = BertModel(CONFIG)
    (folder / "pytorch_model.bin").write_bytes(legacy_bytes(tmp_path, other.state_dict(), legacy=legacy))
    loaded = registry.load(folder)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in loaded.state_dict().items())
    (last,) = blobs(cache)
    assert last != made
    assert not list((cache / "blobs").rglob(f"{made.name}*"))


def test_a_file_whose_own_sums_do_not_fit_is_not_converted(model: BertModel, cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    model.save_pretrained(folder, safe_serialization=False)
    body = bytearray((folder / "pytorch_model.bin").read_bytes())
    at = body.index(model.state_dict()["pooler.dense.weight"].numpy().tobytes())
    body[at + 5] ^= 1
    (folder / "pytorch_model.bin").write_bytes(body)
    with pytest.raises(CheckpointError, match="fetch it again"):
        registry.load(folder)
    assert not blobs(cache)


def test_names_that_share_a_tensor_stay(cache: Path, tmp_path: Path, model: BertModel) -> None:
    folder = tmp_path / "mine"
    model.save_pretrained(folder, safe_serialization=False)
    tensors = dict(model.state_dict())
    tensors["again.weight"] = tensors["pooler.dense.weight"]  # the same tensor
    tensors["part.weight"] = tensors["pooler.dense.weight"][3:5]  # some of it
    tensors["turned.weight"] = tensors["pooler.dense.weight"].t()
    (folder / "pytorch_model.bin").write_bytes(legacy_bytes(tmp_path, tensors))
    reports = [registry.load(folder).load_report for _ in range(2)]
    assert reports[0] == reports[1]
    assert reports[0] is not None
    assert set(reports[0].unexpected) == {"again.weight", "part.weight", "turned.weight"}
    (made,) = blobs(cache)
    assert made.stat().st_size < (folder / "pytorch_model.bin").stat().st_size + 3000


def test_a_cache_that_cannot_take_it_is_told_of(
    model: BertModel, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "mine"
    model.save_pretrained(folder, safe_serialization=False)
    (folder / "pytorch_model.bin").write_bytes(legacy_bytes(tmp_path, model.state_dict()))
    cache.mkdir(parents=True)
    (cache / "blobs").write_text("in the way")
    with caplog.at_level(logging.WARNING, "registry"):
        loaded = registry.load(folder)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())
    assert "is not kept as safetensors" in caplog.text


def test_what_is_refused_is_not_converted(cache: Path, tmp_path: Path, model: BertModel) -> None:
    folder = tmp_path / "mine"
    model.save_pretrained(folder, safe_serialization=False)
    body = legacy_bytes(tmp_path, {"odd": torch.nn.Linear(2, 2)})
    (folder / "pytorch_model.bin").write_bytes(body)
    for _ in range(2):
        with pytest.raises(UnsafeCheckpoint, match="Linear"):
            registry.load(folder)
    assert not blobs(cache)
