"""Checks of a family in other processes and threads."""

from __future__ import annotations

import multiprocessing
import pickle
import shutil
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from registry.testing.bench import Bench, leaves, same

__all__ = ["ProcessChecks"]

_THREADS = 8


class ProcessChecks:
    """Nothing depends on what a process did before, or on what its other threads do."""

    def test_lock_file_holds_all_that_is_needed(self, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Lock a name and fetch it as locked: the files that the plugin names are enough for model and tokenizer."""
        head, has_tokenizer = bench.family().default_head, bench.family().tokenizer is not None
        bench.reloaded(head).save_pretrained(tmp_path / "source")
        if has_tokenizer:
            shutil.copytree(bench.saved_tokenizer(), tmp_path / "source", dirs_exist_ok=True)
        project = tmp_path / "project"
        (project / ".git").mkdir(parents=True)
        entry = f"{{family: {bench.suite.family}, head: {head}, source: ../source}}"
        (project / "models.yaml").write_text(f"registry: 1\nmodels:\n  held: {entry}\n")
        monkeypatch.chdir(project)
        bench.registry.lock(["held"])
        held = bench.registry.fetch("held", locked=True)
        assert same(bench.run(bench.registry.load(held), head), bench.output(head))
        if has_tokenizer:
            tokenizer = bench.registry.load_tokenizer(held, family=bench.suite.family)
            for text in bench.suite.texts:
                assert tokenizer.encode(text) == bench.tokenizer().encode(text)

    def test_config_and_tokenizer_pickle(self, bench: Bench) -> None:
        """Send a configuration and a tokenizer to another process, as data loaders do."""
        config = bench.config(bench.family().default_head)
        assert pickle.loads(pickle.dumps(config)) == config
        if bench.family().tokenizer is not None and bench.suite.vocabulary:
            tokenizer = bench.tokenizer()
            again = pickle.loads(pickle.dumps(tokenizer))
            for text in bench.suite.texts:
                assert again.encode(text) == tokenizer.encode(text)

    def test_spawned_process_loads_the_same(self, bench: Bench) -> None:
        """Load by path in a process that starts from nothing: families are found there by their entry points alone."""
        head = bench.family().default_head
        bench.reloaded(head)
        sent = pickle.dumps((bench.registry, str(bench.saved(head)), bench.inputs(head), torch.get_num_threads()))
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            received = pickle.loads(pool.submit(_load_and_run, sent).result(timeout=240))
        assert same(received, leaves(bench.output(head))), "a spawned process is expected to get the same output, but does not"

    def test_threads_load_at_once(self, bench: Bench) -> None:
        """Load in several threads at the same time: each gets a model of its own that gives the same output."""
        head = bench.family().default_head
        expected = bench.output(head)
        bench.reloaded(head)
        start = threading.Barrier(_THREADS)

        def load(_: int) -> Any:
            start.wait(timeout=60)
            model = bench.registry.load(bench.saved(head))
            return model, bench.run(model, head)

        with ThreadPoolExecutor(_THREADS) as pool:
            loaded = list(pool.map(load, range(_THREADS)))
        assert len({id(model) for model, _ in loaded}) == _THREADS, "each load is expected to make a model of its own"
        assert all(same(output, expected) for _, output in loaded), "threads are expected to get the same output, but do not"


def _load_and_run(sent: bytes) -> bytes:
    registry, folder, inputs, threads = pickle.loads(sent)
    torch.set_num_threads(threads)
    with torch.no_grad():
        return pickle.dumps(leaves(registry.load(folder)(**inputs)))
