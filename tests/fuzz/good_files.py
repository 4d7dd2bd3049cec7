"""Good files of every kind, as this library, transformers, 1.2.0, torch and numpy write them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import registry
from tests.oracles import new, old, quiet
from tests.registry_gpt.test_convert import write_release
from tests.servers import COMMIT, HubFiles, file_server, hub_server
from tests.tensorflow.reading import CHECKPOINTS

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", "##s", "##ly", "un", "wörd", "日", ".", ",", "!"]
_WORDS = ["<unk>", "<eos>", "hello", "the", "wörd", ","]

_GPT = {"n_embd": 4, "n_layer": 1, "n_head": 2, "n_positions": 16}
_SIZES: dict[str, dict[str, Any]] = {
    "bert": {
        "hidden_size": 4,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 4,
        "max_position_embeddings": 16,
    },
    "gpt": _GPT,
    "gpt2": _GPT,
    "transfo-xl": {
        "cutoffs": [4, 8],
        "d_model": 4,
        "d_embed": 4,
        "n_head": 2,
        "d_head": 2,
        "d_inner": 4,
        "div_val": 1,
        "n_layer": 1,
        "tgt_len": 4,
        "mem_len": 4,
        "ext_len": 0,
    },
}


class Seed(NamedTuple):
    """A good file, and the folder that has all that is needed with it."""

    folder: Path
    file: str


def models(root: Path) -> list[Path]:
    """Write tiny models of each family, as this library, transformers or 1.2.0 saves them; return their folders."""
    root.mkdir(parents=True)
    merges = "#version: 0.2\nh e\nl l\nhe ll\nhell o</w>\n"
    gpt = [*"helo", *(f"{letter}</w>" for letter in "helo"), "he", "ll", "hell", "hello</w>", "<unk>"]
    gpt2 = [*(chr(code) for code in range(33, 127)), "Ġ", "Ċ", "he", "ll", "hell", "hello", "<|endoftext|>"]
    words = {
        "bert.txt": WORDS,
        "transfo-xl.txt": ["<unk>", "<eos>", "<formula>", "hello", "the", "wörd", ",", '"'],
    }
    for name, listed in words.items():
        (root / name).write_text("".join(f"{word}\n" for word in listed), encoding="utf-8")
    for family, listed in (("gpt", gpt), ("gpt2", gpt2)):
        ids = {word: number for number, word in enumerate(listed)}
        (root / f"{family}.json").write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
        (root / f"{family}.txt").write_text(merges if family == "gpt" else merges.replace("</w>", ""))
    torch.manual_seed(1)
    folders = []
    for library, owner in ((registry, "ours"), (new, "theirs")):
        for family, sizes in _SIZES.items():
            folder = root / f"{family}-{owner}"
            stem = {"bert": "Bert", "gpt": "OpenAIGPT", "gpt2": "GPT2", "transfo-xl": "TransfoXL"}[family]
            if family == "transfo-xl" and library is new:  # which dropped it
                folder = root / f"{family}-old"
                folder.mkdir()
                (folder / "config.json").write_text(quiet(old.TransfoXLConfig, 12, **sizes).to_json_string())
                shutil.copy(root / f"{family}-ours" / "model.safetensors", folder)
                shutil.copy(root / "transfo-xl.txt", folder / "vocab.txt")
            else:
                tail = {"bert": "ForSequenceClassification"}.get(family, "LMHeadModel")
                vocabulary = {"vocab_size": {"bert": 20, "gpt": len(gpt), "gpt2": len(gpt2), "transfo-xl": 12}[family]}
                config = getattr(library, f"{stem}Config")(**vocabulary, **sizes)
                getattr(library, stem + tail)(config).save_pretrained(folder)
                names = (
                    list(getattr(library, f"{stem}Tokenizer").vocab_files_names) if library is registry else ["vocab", "merges"]
                )
                given = dict(zip(names, sorted(map(str, root.glob(f"{family}.*"))), strict=False))
                tokenizer = getattr(library, f"{stem}Tokenizer")(**given)
                tokenizer.add_tokens(["newword"])
                tokenizer.add_special_tokens({"additional_special_tokens": ["<extra>"]})
                tokenizer.save_pretrained(folder)
            (folder / "family").write_text(family)
            folders.append(folder)
    # What transformers 5 keeps in tokenizer_config.json was in files of its own before.
    for family, unknown in (("bert", "[UNK]"), ("gpt2", "<|endoftext|>")):
        folder = root / f"{family}-theirs"
        said = {"unk_token": {"content": unknown, "lstrip": False, "special": True}, "pad_token": "newword"}
        (folder / "special_tokens_map.json").write_text(json.dumps(said))
    return folders


def tokenizers_of_2019(root: Path, found: Sequence[Path]) -> list[Path]:
    """Write the files of tokenizers as 1.2.0 saved them: added tokens have a file of their own, and no flags."""
    folders = []
    for family in _SIZES:
        saved, folder = _named(found, f"{family}-ours"), root / f"{family}-2019"
        folder.mkdir(parents=True)
        for name in ("vocab.txt", "vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json", "family"):
            if (saved / name).is_file():
                shutil.copy(saved / name, folder)
        folders.append(folder)
    return folders


def old_configs(root: Path, found: Sequence[Path]) -> list[Seed]:
    """Return configurations under the names of 2019, which tell the family."""
    seeds = []
    for family, name in (("bert", "bert_config.json"), ("gpt", "openai_gpt_config.json")):
        folder = root / family
        folder.mkdir(parents=True)
        data = json.loads((_named(found, f"{family}-theirs") / "config.json").read_text())
        for key in ("model_type", "architectures", "transformers_version"):
            del data[key]
        (folder / name).write_text(json.dumps(data))
        (folder / "family").write_text(family)
        seeds.append(Seed(folder, name))
    return seeds


def _named(found: Sequence[Path], name: str) -> Path:
    return next(folder for folder in found if folder.name == name)


def vocabularies(root: Path) -> list[Seed]:
    """Return Transformer-XL's `vocab.bin` in each form of a pickle."""
    state = {
        "counter": Counter(dict.fromkeys(_WORDS, 3)),
        "special": ["<eos>"],
        "min_freq": 0,
        "max_size": None,
        "lower_case": False,
        "delimiter": None,
        "vocab_file": None,
        "never_split": ["<eos>"],
        "unk_idx": 0,
        "idx2sym": _WORDS,
        "sym2idx": {word: number for number, word in enumerate(_WORDS)},
    }
    seeds = [Seed(root / form, "vocab.bin") for form in ("zip", "legacy", "plain")]
    for folder, name in seeds:
        folder.mkdir(parents=True)
        (folder / "family").write_text("transfo-xl")
        _write_pickle(state, folder / name)
    return seeds


def corpora(root: Path) -> list[Seed]:
    """Return `corpus.bin` with lists, arrays and tensors, in each form of a pickle."""
    ids = list(range(len(_WORDS))) * 5
    splits: dict[str, dict[str, Any]] = {
        "plain": {"dataset": "wt103", "train": np.array(ids), "valid": ids, "test": ids},
        "zip": {"dataset": "wt103", **dict.fromkeys(("train", "valid", "test"), torch.tensor(ids))},
        "legacy": {"dataset": "lm1b", "train": ["a"], "valid": [torch.tensor(ids)] * 3, "test": [torch.tensor(ids)]},
    }
    seeds = []
    for form, data in splits.items():
        folder = root / form
        folder.mkdir(parents=True)
        (folder / "family").write_text("transfo-xl")
        (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in _WORDS), encoding="utf-8")
        (folder / "config.json").write_text(registry.TransfoXLConfig(len(_WORDS), cutoffs=[]).to_json_string())
        _write_pickle(data, folder / "corpus.bin")
        seeds.append(Seed(folder, "corpus.bin"))
    return seeds


def _write_pickle(data: object, path: Path) -> None:
    """Write data in the form that the folder is named for."""
    if path.parent.name == "plain":
        path.write_bytes(pickle.dumps(data, 2))
    else:
        torch.save(data, path, _use_new_zipfile_serialization=path.parent.name == "zip")


_CATALOG = """\
registry: 1
models:
  tiny:
    family: bert
    source: ./tiny-bert
    head: sequence-classification
    config: {num_labels: 2, output_attentions: true}
    tokenizer: {do_lower_case: true}
    files:
      config.json: {sha256: "%s", size: %d}
      model.safetensors:
      vocab.txt:
    description: "for tests"
    license: mit
  heir: {base: tiny, config: {num_labels: 3}}
  named: {alias: tiny}
  old-name: {alias: tiny, deprecated: {since: 2026-05, note: renamed}}
"""
_MORE = """\
  far:
    family: gpt2
    source: hf://acme/tiny@main
    mirrors: [https://models.acme.internal/tiny/]
"""
_HOSTS = """\
hosts:
  models.acme.internal: {token_env: ACME_TOKEN, ca_file: ca.pem, parallelism: 2}
  other.example:443:
    header: X-Token
    token_env: T
    mirrors: [https://m.example/]
"""
_SHORT = "registry: 1\nmodels:\n  tiny: {family: bert, source: ./tiny-bert}\n  named: {alias: tiny}\n"


def _project_folder(root: Path, found: Sequence[Path]) -> str:
    """Write a project with a model in its folder, and return the text of a catalog for it."""
    shutil.copytree(_named(found, "bert-ours"), root / "work" / "tiny-bert")
    (root / "work" / ".git").mkdir()
    (root / "config" / "registry").mkdir(parents=True)
    data = (root / "work" / "tiny-bert" / "config.json").read_bytes()
    return _CATALOG % (hashlib.sha256(data).hexdigest(), len(data))


def catalogs(root: Path, found: Sequence[Path], layer: str) -> list[Seed]:
    """Return catalogs of the project's or the user's layer: a long one and a short one."""
    file = {"project": "work/models.yaml", "user": "config/registry/models.yaml"}[layer]
    seeds = [Seed(root / "long", file), Seed(root / "short", file)]
    for folder, _ in seeds:
        text = _project_folder(folder, found) + _MORE
        text = text if folder.name == "long" else _SHORT
        if layer == "user":
            text = text.replace("./tiny-bert", "../../work/tiny-bert") + _HOSTS
        (folder / file).write_text(text)
    return seeds


def locks(root: Path, found: Sequence[Path]) -> list[Seed]:
    """Return a project's lock file."""
    text = _project_folder(root, found)
    (root / "work" / "models.yaml").write_text(text)
    with project(root) as models:
        models.lock(cache_dir=root / "cache", offline=True)
    shutil.rmtree(root / "cache")
    return [Seed(root, "work/models.lock")]


@contextlib.contextmanager
def project(folder: Path) -> Iterator[registry.ModelRegistry]:
    """Work in the project of a folder, with the user's catalog there."""
    before = Path.cwd()
    os.chdir(folder / "work")
    os.environ["XDG_CONFIG_HOME"] = str(folder / "config")
    try:
        yield registry.ModelRegistry()
    finally:
        os.chdir(before)


def sharded(root: Path, found: Sequence[Path], *, safe: bool) -> list[Seed]:
    """Return the indexes of models in shards."""
    seeds = []
    for family in ("bert", "gpt2"):
        folder = root / family
        model = registry.load(_named(found, f"{family}-ours"))
        model.save_pretrained(folder, max_shard_size=1_000, safe_serialization=safe)
        (folder / "family").write_text(family)
        seeds.append(Seed(folder, f"{'model.safetensors' if safe else 'pytorch_model.bin'}.index.json"))
    return seeds


def torch_files(root: Path, found: Sequence[Path], *, legacy: bool) -> list[Seed]:
    """Return weights as torch saves them, with the configurations."""
    seeds = []
    for saved in found:
        folder = root / saved.name
        folder.mkdir(parents=True)
        for name in ("config.json", "family"):
            shutil.copy(saved / name, folder)
        state = registry.load(saved, family=(saved / "family").read_text()).state_dict()
        torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
        seeds.append(Seed(folder, "pytorch_model.bin"))
    return seeds


def tensorflow(root: Path) -> list[Seed]:
    """Return the index of Google's form of BERT."""
    shutil.copytree(CHECKPOINTS / "bert", root)
    (root / "family").write_text("bert")
    return [Seed(root, next(root.glob("*.index")).name)]


def numpy_release(root: Path, file: str) -> list[Seed]:
    """Return a file of OpenAI's release of GPT."""
    write_release(root, pieces=2)
    (root / "family").write_text("gpt")
    return [Seed(root, file)]


def archives(root: Path, found: Sequence[Path], form: str) -> list[Seed]:
    """Return archives with the files of a model at their root, or one folder down."""
    seeds = []
    for name in ("bert-ours", "gpt2-theirs"):
        inside = root / "inside" / name
        shutil.copytree(_named(found, name), inside / "m", ignore=shutil.ignore_patterns("family", "tokenizer.json"))
        (root / name).mkdir()
        made = shutil.make_archive(str(root / name / "packed"), form, inside / "m" if name == "bert-ours" else inside)
        seeds.append(Seed(root / name, Path(made).name))
    return seeds


def records(root: Path, found: Sequence[Path]) -> list[Seed]:
    """Fill a cache from a server, from a hub and with an archive; return every record in it."""
    files = {path.name: path.read_bytes() for path in _named(found, "bert-ours").iterdir() if path.name != "family"}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            (info := tarfile.TarInfo(name)).size = len(data)
            archive.addfile(info, io.BytesIO(data))
    (root / "work" / ".git").mkdir(parents=True)
    (root / "config").mkdir()
    served = {f"/m/{name}": data for name, data in files.items()} | {"/m.tar": buffer.getvalue()}
    cache = root / "cache"
    with file_server(served) as server, hub_server(HubFiles({"acme/tiny": files}, large=300)) as hub:
        entries = {"remote": f"{server.url}/m/", "packed": f"{server.url}/m.tar", "hub": "hf://acme/tiny"}
        lines = [f"  {name}: {{family: bert, source: '{source}'}}\n" for name, source in entries.items()]
        (root / "work" / "models.yaml").write_text(f"registry: 1\nmodels:\n{''.join(lines)}")
        os.environ["HF_ENDPOINT"] = hub.url
        with project(root) as models:
            for name in entries:
                for call in (models.load, models.load_tokenizer, models.fetch):
                    call(name, cache_dir=cache)
    written = [path.relative_to(root) for path in sorted(cache.rglob("*")) if path.is_file() and path.stat().st_size]
    inside = ("folders", "unpacked")  # below their folders lie the models' own files
    return [
        Seed(root, str(path))
        for path in written
        if path.parts[1] == "catalogs" or (path.suffix == ".json" and (path.parts[1] not in inside or len(path.parts) == 3))
    ]


def answers(root: Path, found: Sequence[Path]) -> list[Seed]:
    """Write the whole answers of a hub: small files as they are, a large one behind a redirect."""
    root.mkdir()
    end = {"Connection": "close"}
    for name in ("config.json", "tokenizer_config.json"):
        body = (_named(found, "bert-ours") / name).read_bytes()
        etag = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
        _write_answer(root / name, "200 OK", {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, **end}, body)
    body = (_named(found, "bert-ours") / "vocab.txt").read_bytes()
    digest = hashlib.sha256(body).hexdigest()
    linked = {"X-Linked-Size": len(body), "X-Linked-ETag": f'"{digest}"', "X-Repo-Commit": COMMIT}
    _write_answer(root / "vocab.txt", "302 Found", {**linked, "Location": f"/cdn/{digest}?signature=x", **end})
    _write_answer(root / digest, "200 OK", {"ETag": '"x"', **end}, body)
    return [Seed(root, path.name) for path in sorted(root.iterdir())]


def _write_answer(path: Path, status: str, fields: Mapping[str, object], body: bytes = b"") -> None:
    head = "".join(f"{name}: {value}\r\n" for name, value in {"Content-Length": len(body), **fields}.items())
    path.with_name(f"{path.name}.http").write_bytes(f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body)
