"""The kinds of files that are damaged: good ones of each, how they are damaged, and what is then asked of the library."""

from __future__ import annotations

import contextlib
import json
import os
import socketserver
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

import registry
from registry.errors import RegistryError, UnknownModel
from registry_transfo_xl import TransfoXLCorpus
from tests.fuzz import good_files as good
from tests.fuzz import mutations as by
from tests.fuzz.good_files import Seed

TEXTS = ("hello worlds", "unwörldly, 日本 [MASK]!", "don't 'stop'\n\n now <unk>  x")

#: Keys that a good file of the kind need not have.
_CONFIG_KEYS = [
    "num_labels",
    "id2label",
    "label2id",
    "pruned_heads",
    "architectures",
    "torch_dtype",
    "dtype",
    "problem_type",
    "auto_map",
    "output_attentions",
    "output_hidden_states",
    "finetuning_task",
    "torchscript",
    "pad_token_id",
    "tie_word_embeddings",
    "hidden_act",
    "num_hidden_layers",
    "n_layer",
    "n_head",
    "vocab_size",
    "cutoffs",
    "div_val",
    "model_type",
    "_extra",
    "__class__",
    "n_positions",
    "d_model",
    "d_embed",
    "adaptive",
    "attn_type",
    "summary_type",
    "layer_norm_eps",
    "validate",
    "replace",
]
_TOKENIZER_KEYS = [
    "added_tokens_decoder",
    "extra_special_tokens",
    "additional_special_tokens",
    "model_max_length",
    "max_len",
    "padding_side",
    "truncation_side",
    "unk_token",
    "pad_token",
    "mask_token",
    "tokenizer_class",
    "backend",
    "auto_map",
    "do_lower_case",
    "strip_accents",
    "tokenize_chinese_chars",
    "never_split",
    "add_prefix_space",
    "errors",
    "delimiter",
    "lower_case",
    "special",
    "do_basic_tokenize",
    "pre_tokenizer",
    "vocab_file",
    "merges_file",
    "unk",
    "eos",
]
_CATALOG_KEYS = [
    "registry",
    "models",
    "hosts",
    "base",
    "alias",
    "source",
    "mirrors",
    "files",
    "config",
    "tokenizer",
    "head",
    "family",
    "disabled",
    "deprecated",
    "override",
    "description",
    "license",
    "revision",
    "token_env",
    "sha256",
    "size",
    "url",
    "kind",
    "tiny",
    "bert-base-uncased",
]
_LOCK_KEYS = [
    "registry_lock",
    "registry",
    "aliases",
    "models",
    "family",
    "source",
    "files",
    "revision",
    "plugin",
    "plugin_version",
    "sha256",
    "size",
    "url",
]


class Example:
    """A folder with a damaged file, while the library is asked to use it."""

    def __init__(self, folder: Path, file: Path, names: Sequence[str]) -> None:
        self.folder, self.file = folder, file
        #: One of these stands in every error.
        self.names = (*names, file.name)
        self.refused = 0

    def ask(self, call: Callable[..., Any], *args: Any, unnamed: bool = False, **kwargs: Any) -> Any:
        """Return the result of a call, or None where it ends in a good error."""
        try:
            return call(*args, **kwargs)
        except RegistryError as error:
            self.refused += 1
            self.judge(error, unnamed=unnamed)
            return None

    def judge(self, error: RegistryError, *, unnamed: bool = False) -> None:
        """Raise an AssertionError unless an error's text is as it should be."""
        text = str(error)
        if not unnamed and not any(name in text for name in self.names):
            raise AssertionError(f"the error names no file: it has none of {', '.join(self.names)}: {text[:500]}") from error
        if odd := {character for character in text if not (character.isprintable() or character == "\n")}:
            raise AssertionError(f"the error holds raw characters: {sorted(odd)!a} in {text[:500]!a}") from error
        if len(text) > 20_000:
            raise AssertionError(f"the error is long: {len(text):,} characters, {text[:200]!a}") from error


class Kind(NamedTuple):
    """One row of the table."""

    name: str
    seeds: Sequence[Seed]
    mutations: Sequence[by.Mutation]
    use: Callable[[Example], None]
    #: What an error may name besides the damaged file.
    names: Sequence[str] = ()


# -- what is asked ------------------------------------------------------------------------------------------------------------


def use_config(example: Example) -> None:
    for family in (None, _family(example)):
        config = example.ask(registry.load_config, example.folder, family=family)
        if config is not None:
            again = type(config).from_dict(json.loads(config.to_json_string()))
            assert again.to_json_string() == config.to_json_string(), "a configuration is another one after a round trip"
            repr(config)
            config.replace(output_attentions=True)
    cls = registry.default_registry().families.get(_family(example))
    loaded = cls.load_class(cls.config)
    example.ask(loaded.from_json_file, example.file)
    example.ask(loaded, str(example.file))
    example.ask(loaded.from_pretrained, str(example.folder))


def use_config_to_load(example: Example) -> None:
    model = example.ask(registry.load, example.folder, family=_family(example))
    if model is not None:
        _forward(example, model)


def _family(example: Example) -> str:
    return (example.folder / "family").read_text()


def _forward(example: Example, model: Any) -> None:
    ids = torch.tensor([[0, 1]])
    with torch.no_grad():
        if type(model).__name__.endswith(("MultipleChoice", "DoubleHeadsModel")):
            ids = ids[None]
        example.ask(model, ids, unnamed=True)
    assert all(not parameter.is_meta for parameter in model.parameters()), "a parameter has no values"


def use_weights(example: Example) -> None:
    model = example.ask(registry.load, example.folder, family=_family(example))
    if model is not None:
        _forward(example, model)
    example.ask(registry.default_registry().inspect, example.folder, family=_family(example))


def use_weights_alone(example: Example) -> None:
    from registry.checkpoint.open import open_checkpoint

    def read() -> None:
        checkpoint = open_checkpoint(example.file)
        for name in list(checkpoint.names())[:50]:
            checkpoint.info(name)
            checkpoint.tensor(name).clone()

    use_weights(example)
    example.ask(read)


def use_tokenizer(example: Example) -> None:
    family = _family(example)
    tokenizer = example.ask(registry.load_tokenizer, example.folder, family=family)
    if tokenizer is None:
        return
    repr(tokenizer)
    vocabulary = tokenizer.get_vocab()
    assert len(vocabulary) <= len(tokenizer) + 1, "the vocabulary has more words than it says"
    encoded = [example.ask(tokenizer.encode, text, unnamed=True) for text in TEXTS]
    for ids in encoded:
        if ids is not None:
            assert all(type(number) is int and number >= 0 for number in ids), f"ids are {ids!r:.200}"
            example.ask(tokenizer.decode, ids, unnamed=True)
            example.ask(tokenizer.decode, ids, skip_special_tokens=True, unnamed=True)
            example.ask(tokenizer.convert_ids_to_tokens, ids, unnamed=True)
    padding = tokenizer.pad_token_id is not None
    example.ask(tokenizer, list(TEXTS), padding=padding, truncation=True, max_length=6, unnamed=True)
    out = example.folder / "saved"
    if example.ask(tokenizer.save_pretrained, out, unnamed=True) is not None:
        again = registry.load_tokenizer(out, family=family)
        assert [again.encode(text) for text, ids in zip(TEXTS, encoded, strict=True) if ids is not None] == [
            ids for ids in encoded if ids is not None
        ], "a saved tokenizer gives other ids"


def use_vocabulary(example: Example) -> None:
    use_tokenizer(example)
    described = registry.default_registry().families.get(_family(example))
    assert described.tokenizer is not None
    example.ask(described.load_class(described.tokenizer).from_pretrained, str(example.file))


def use_corpus(example: Example) -> None:
    corpus = example.ask(TransfoXLCorpus.from_pretrained, str(example.folder))
    if corpus is None:
        return
    for split in ("train", "valid", "test"):
        batches = example.ask(corpus.get_iterator, split, 1, 4, unnamed=True)
        if batches is not None:
            example.ask(lambda batches=batches: [batch for batch, _ in zip(batches, range(3), strict=False)])


def use_catalog(example: Example) -> None:
    with good.project(example.folder) as models:
        listed = example.ask(models.list_models) or []
        example.ask(lambda: models.catalog.hosts)
        for name in ["tiny", "named", *(name for name in listed if name not in _shipped())][:8]:
            entry = _or_unknown(example, models.resolve, name)
            if entry is not None:
                repr(entry)
                example.ask(models.load_config, name, offline=True, unnamed=True)
                example.ask(models.load_tokenizer, name, offline=True, unnamed=True)
        _command(example, "info", "tiny", "--json")
        _command(example, "validate", str(example.file))


_names: set[str] = set()


def _shipped() -> set[str]:
    if not _names:
        _names.update(registry.ModelRegistry().list_models("*base*"), registry.ModelRegistry().list_models("*gpt*"))
        _names.update(registry.ModelRegistry().list_models("bert*"), registry.ModelRegistry().list_models("transfo*"))
    return _names


def _or_unknown(example: Example, call: Callable[..., Any], name: str) -> Any:
    """Ask for a name; that no catalog has it is what a damaged catalog may mean."""
    try:
        return call(name)
    except UnknownModel as error:
        example.judge(error, unnamed=True)
    except RegistryError as error:
        example.refused += 1
        example.judge(error)
    return None


def _command(example: Example, *arguments: str) -> None:
    from click.testing import CliRunner

    from registry.cli.commands import cli

    error = CliRunner().invoke(cli, arguments).exception
    if isinstance(error, RegistryError):
        example.judge(error, unnamed=True)
    elif error is not None and not isinstance(error, SystemExit):
        raise error


def use_lock(example: Example) -> None:
    with good.project(example.folder) as models:
        for call in (models.load_config, models.load_tokenizer, models.fetch):
            example.ask(call, "tiny", locked=True, offline=True)
        example.ask(models.load_config, "named", locked="exact", offline=True)
        example.ask(models.lock, check=True, offline=True)
        example.ask(models.lock, ["tiny"], offline=True)


def use_archive(example: Example) -> None:
    outside = sorted(example.folder.parent.iterdir())
    for call in (registry.load, registry.load_tokenizer, registry.fetch):
        example.ask(call, str(example.file), cache_dir=example.folder / "cache")
    assert sorted(example.folder.parent.iterdir()) == outside, "unpacking wrote outside of the cache"


def use_cache(example: Example) -> None:
    cache = example.folder / "cache"
    with good.project(example.folder) as models:
        for name in ("remote", "packed"):
            for call in (models.load_tokenizer, models.load, models.fetch):
                example.ask(call, name, cache_dir=cache, offline=True, unnamed=True)
        example.ask(models.cached_models, cache_dir=cache, unnamed=True)
        example.ask(models.verify, repair=True, cache_dir=cache, unnamed=True)
        example.ask(models.prune, cache_dir=cache, unnamed=True)
        for name in ("remote", "packed"):
            example.ask(models.evict, name, cache_dir=cache, unnamed=True)


class _Hub(socketserver.ThreadingTCPServer):
    """Sends whole answers as they lie in a folder, and the damaged one for the file that it is of."""

    allow_reuse_address = True
    daemon_threads = True
    folder: Path


class _HubRequest(socketserver.StreamRequestHandler):
    server: _Hub

    def handle(self) -> None:
        path = self.rfile.readline().split(b" ")[1].decode("latin-1").partition("?")[0]
        while self.rfile.readline().strip():
            pass
        answer = self.server.folder / f"{path.rpartition('/')[2]}.http"
        with contextlib.suppress(OSError, ValueError):
            self.wfile.write(answer.read_bytes() if answer.is_file() else _ABSENT)


_ABSENT = b"HTTP/1.1 404 Not Found\r\nX-Error-Code: EntryNotFound\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_hub: list[_Hub] = []


def use_hub(example: Example) -> None:
    if not _hub:  # one for each process
        _hub.append(_Hub(("127.0.0.1", 0), _HubRequest))
        threading.Thread(target=_hub[0].serve_forever, daemon=True).start()
    _hub[0].folder = example.folder
    os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{_hub[0].server_address[1]}"
    example.names = (*example.names, example.file.stem, "acme/tiny", "/cdn/")  # an address that an answer leads to counts
    for call in (registry.load_config, registry.load_tokenizer):
        example.ask(call, "hf://acme/tiny", cache_dir=example.folder / "cache")
    example.ask(registry.load_config, "hf://acme/tiny", cache_dir=example.folder / "cache", offline=True)


# -- the table ----------------------------------------------------------------------------------------------------------------

_SIDE_FILES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_VOCABULARIES = ("vocab.txt", "vocab.json", "merges.txt", "tokenizer.json")
#: What an archive holds is named where that is damaged.
_MEMBERS = ("config.json", "model.safetensors", *_SIDE_FILES, *_VOCABULARIES)


def build_kinds(root: Path) -> list[Kind]:
    """Write good files of every kind below a folder, and return the kinds."""
    found = good.models(root / "models")
    tokenizers = [*found, *good.tokenizers_of_2019(root / "2019", found)]

    def having(file: str, family: str = "", folders: Sequence[Path] = found) -> list[Seed]:
        return [Seed(folder, file) for folder in folders if (folder / file).is_file() and folder.name.startswith(family)]

    def text(*more: by.Mutation) -> list[by.Mutation]:
        return [*by.TEXT, *more * 12]

    def binary(*more: by.Mutation) -> list[by.Mutation]:
        return [*by.BYTES, *more * 12]

    config, side = text(by.json_values(*_CONFIG_KEYS)), text(by.json_values(*_TOKENIZER_KEYS))
    index, catalog = text(by.json_values("metadata", "weight_map")), text(by.yaml_values(*_CATALOG_KEYS), by.yaml_words)
    pickles = binary(by.operations)
    torch_zip = binary(by.zip_members(pickles))
    kinds = [
        *(
            Kind(f"config.json {family}", having("config.json", f"{family}-"), config, use_config)
            for family in ("bert", "gpt", "gpt2", "transfo-xl")
        ),
        Kind("config.json, to load", having("config.json"), config, use_config_to_load, ("model.safetensors",)),
        Kind("old config", good.old_configs(root / "old", found), config, use_config),
        *(Kind(name, having(name, folders=tokenizers), side, use_tokenizer, _VOCABULARIES) for name in _SIDE_FILES),
        Kind("tokenizer.json", having("tokenizer.json", folders=tokenizers), side, use_tokenizer, _SIDE_FILES),
        Kind("vocab.txt", having("vocab.txt", folders=tokenizers), by.TEXT, use_vocabulary, _SIDE_FILES),
        Kind(
            "vocab.json",
            having("vocab.json", folders=tokenizers),
            text(by.json_values()),
            use_vocabulary,
            (*_SIDE_FILES, "merges.txt"),
        ),
        Kind("merges.txt", having("merges.txt", folders=tokenizers), by.TEXT, use_tokenizer, ("vocab.json",)),
        Kind("vocab.bin", good.vocabularies(root / "vocab"), binary(by.operations, torch_zip[-1]), use_vocabulary),
        Kind("corpus.bin", good.corpora(root / "corpus"), binary(by.operations, torch_zip[-1]), use_corpus),
        *(
            Kind(f"models.yaml {layer}", good.catalogs(root / f"catalogs-{layer}", found, layer), catalog, use_catalog)
            for layer in ("project", "user")
        ),
        Kind(
            "models.lock",
            good.locks(root / "lock", found),
            text(by.yaml_values(*_LOCK_KEYS), by.yaml_words),
            use_lock,
            ("tiny-bert",),
        ),
        Kind("safetensors", having("model.safetensors"), binary(by.safetensors_header), use_weights_alone),
        Kind("safetensors index", good.sharded(root / "shards", found, safe=True), index, use_weights, ("model-0",)),
        Kind("bin index", good.sharded(root / "bin", found, safe=False), index, use_weights, ("pytorch_model-0",)),
        Kind("torch zip", good.torch_files(root / "zip", found, legacy=False), torch_zip, use_weights_alone),
        Kind("torch legacy", good.torch_files(root / "legacy", found, legacy=True), pickles, use_weights_alone),
        Kind("tensorflow index", good.tensorflow(root / "tf"), binary(by.tensorflow_index), use_weights_alone, ("model.ckpt",)),
        Kind(
            "numpy shapes",
            good.numpy_release(root / "n0", "params_shapes.json"),
            text(by.json_values()),
            use_weights,
            ("params_",),
        ),
        Kind(
            "numpy piece", good.numpy_release(root / "n1", "params_0.npy"), binary(by.array_header), use_weights, ("params_",)
        ),
        Kind("archive zip", good.archives(root / "zips", found, "zip"), binary(by.zip_members()), use_archive, _MEMBERS),
        Kind("archive tar", good.archives(root / "tars", found, "tar"), binary(by.tar_members), use_archive, _MEMBERS),
        Kind(
            "archive tar.gz",
            good.archives(root / "tgzs", found, "gztar"),
            binary(by.compressed(binary(by.tar_members))),
            use_archive,
            _MEMBERS,
        ),
        Kind(
            "cache record", good.records(root / "records", found), text(by.json_values("sha256", "trust", "commit")), use_cache
        ),
        Kind("hub answer", good.answers(root / "hub", found), text(by.lines), use_hub),
    ]
    assert all(kind.seeds for kind in kinds), [kind.name for kind in kinds if not kind.seeds]
    return kinds
