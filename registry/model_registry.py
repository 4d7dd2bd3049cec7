"""The registry: joins catalog, store, checkpoint reader and families, in that order. Nothing else does."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.catalog.entry import ModelEntry
from registry.catalog.index import Catalog
from registry.catalog.layers import (
    CatalogSource,
    LayerKind,
    environment_sources,
    file_source,
    project_source,
    signature,
)
from registry.catalog.names import user_path
from registry.errors import CatalogError, CheckpointError, ConfigError, DownloadError, RegistryWarning
from registry.families.family import DEFAULT_FILES, Family
from registry.families.host import PluginHost
from registry.store.cache import Cache
from registry.store.paths import cache_folders
from registry.store.source import is_url, redact
from registry.store.store import Place, Store, StoredFile, is_offline
from registry.store.target import Target, entry_target, newest_first, path_target, url_target

if TYPE_CHECKING:
    import torch

    from registry.pretrained.config import PretrainedConfig
    from registry.pretrained.model import PreTrainedModel
    from registry.pretrained.tokenizer import PreTrainedTokenizer

__all__ = ["ModelRegistry", "default_registry", "fetch", "list_models", "load", "load_config", "load_tokenizer", "resolve"]

PathLike = str | os.PathLike[str]

_RESERVED = ("locked", "mesh", "parallel", "broadcast")


class ModelRegistry:
    """Names to models. The module functions of `registry` use one default object of this class.

    It is safe to use from several threads, and pickles: an unpickled one knows the same catalogs wherever it runs.
    """

    def __init__(
        self,
        catalogs: Sequence[PathLike] = (),
        cache_dir: PathLike | None = None,
        plugins: PluginHost | None = None,
    ) -> None:
        """Set up; catalogs and plugins are read when they are first needed.

        Args:
            catalogs: models.yaml files (or folders with one) above every other layer, the last one highest.
            cache_dir: the cache folder; by default the environment decides at each use.
            plugins: where families come from; by default the installed packages.
        """
        self._catalogs = tuple(user_path(path).absolute() for path in catalogs)
        for path in self._catalogs:
            if not path.exists():
                raise CatalogError("the catalog is expected to exist, but does not", file=str(path))
        self._cache_dir = None if cache_dir is None else user_path(cache_dir).absolute()
        #: The families of this environment.
        self.families = PluginHost() if plugins is None else plugins
        self._frozen: tuple[tuple[LayerKind, str], ...] | None = None
        self._lock = threading.RLock()
        self._catalog: tuple[object, Catalog] | None = None

    def __getstate__(self) -> dict[str, Any]:
        outer = [(source.kind, source.path) for source in self._outer_sources()]
        return {"catalogs": self._catalogs, "cache_dir": self._cache_dir, "frozen": tuple(outer)}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__init__(state["catalogs"], state["cache_dir"])  # type: ignore[misc]  # families are found anew in every process
        self._frozen = state["frozen"]

    # -- names ---------------------------------------------------------------------------------------------------------

    @property
    def catalog(self) -> Catalog:
        """The merged catalog; read again when one of its files has changed."""
        with self._lock:
            sources = [*self.families.catalog_sources(), *self._outer_sources()]
            now = signature(sources)
            if self._catalog is None or self._catalog[0] != now:
                self._catalog = now, Catalog(sources)
            return self._catalog[1]

    def resolve(self, name: str) -> ModelEntry:
        """Return what a name means: no network, no torch, no plugin's code.

        Raises:
            UnknownModel: when no catalog has the name; the error names close ones.
            CatalogError: when its entry is broken.
        """
        return self.catalog.resolve(name)

    def maybe_resolve(self, name: str) -> ModelEntry | None:
        """Return what a name means, or None when no catalog has it."""
        return self.catalog.maybe_resolve(name)

    def list_models(self, pattern: str = "*") -> list[str]:
        """Return the names that match a shell pattern, in natural order; unusable ones are warned of and left out."""
        catalog = self.catalog
        for error in catalog.broken.values():
            warnings.warn(str(error), RegistryWarning, stacklevel=2)
        return catalog.names(pattern)

    def register(self, family: Family) -> None:
        """Add a family for this process only: for tests and notebooks. Packages use an entry point."""
        self.families.register(family)

    def find_class(self, name: str) -> Any | None:
        """Return the class of this name from whichever family has it, or None."""
        return self.families.find_class(name)

    def head_of(self, model: PreTrainedModel) -> str | None:
        """Return the name of the head that a model's class is in its family, or None when it is none."""
        family = self.families.get(model.config.model_type)
        return _head_of_class(type(model).__name__, family)

    def _outer_sources(self) -> list[CatalogSource]:
        """Locate the layers above the families', lowest first."""
        if self._frozen is not None:
            return [file_source(kind, path) for kind, path in self._frozen]
        project = project_source()
        return [
            *([project] if project else []),
            *environment_sources(),
            *(file_source(LayerKind.ARGUMENT, path) for path in self._catalogs),
        ]

    # -- files ---------------------------------------------------------------------------------------------------------

    def fetch(
        self,
        name_or_path: PathLike,
        *,
        family: str | None = None,
        cache_dir: PathLike | None = None,
        offline: bool | None = None,
        refresh: bool = False,
    ) -> Path:
        """Return a folder that holds a model's files under their conventional names, verified.

        Args:
            name_or_path: a name, folder, file, URL or source.
            family: the family, where neither entry nor configuration tells.
            cache_dir: the cache folder for this call.
            offline: whether to use only what is here; by default the environment decides.
            refresh: ask anew for what was found before.
        """
        target = self._locate(name_or_path)
        with self._store(cache_dir, offline, refresh) as store:
            names = self._family_files(target, store, family)
            files = self._weights_files(target, store, names["weights"])
            files.append(self._need(target, store, names["config"], "configuration"))
            for role, candidates in names.items():
                if role not in ("weights", "config") and (found := store.first(target.place, candidates)):
                    files.append(found)
            files += self._side_files(target, store).values()
            return store.folder(target.label, files)

    def fetch_file(
        self,
        name_or_path: PathLike,
        file: str,
        *,
        cache_dir: PathLike | None = None,
        offline: bool | None = None,
    ) -> Path:
        """Return one verified file that stands beside a model's own, such as a corpus.

        Args:
            name_or_path: a name, folder, URL or source.
            file: the file's name there.
            cache_dir: the cache folder for this call.
            offline: whether to use only what is here; by default the environment decides.

        Raises:
            DownloadError: when there is no such file; otherwise as `load`.
        """
        target = self._locate(name_or_path)
        with self._store(cache_dir, offline, False) as store:
            return self._need(target, store, (file,), "file").path

    def cached_files(self, name_or_path: PathLike, *, cache_dir: PathLike | None = None) -> dict[str, StoredFile]:
        """Return those files of a model that are on this machine, by name; never touches the network."""
        target = self._locate(name_or_path)
        with self._store(cache_dir, True, False) as store:
            names = self._family_files(target, store, None)
            wanted = dict.fromkeys((*target.place.pins, *(name for listed in names.values() for name in listed)))
            found = ((name, store.is_cached(target.place, name)) for name in wanted)
            return {name: file for name, file in found if file is not None}

    # -- models --------------------------------------------------------------------------------------------------------

    def load(
        self,
        name_or_path: PathLike,
        *,
        head: str | None = None,
        family: str | None = None,
        dtype: torch.dtype | str | None = None,
        device: torch.device | str | None = None,
        cache_dir: PathLike | None = None,
        offline: bool | None = None,
        strict: bool | None = None,
        config: PretrainedConfig | PathLike | None = None,
        state_dict: Mapping[str, torch.Tensor] | None = None,
        ignore_mismatched_sizes: bool = False,
        **overrides: Any,
    ) -> PreTrainedModel:
        """Load a model in evaluation mode; `model.load_report` says what happened to each tensor.

        Args:
            name_or_path: a name, folder, weights file, URL, or a source such as `hf://org/repo@revision`.
            head: what the model is to do; by default what the entry says, for a path what its configuration names, else
                the family's default.
            family: the family, where neither entry nor configuration tells.
            dtype: of floating point weights, as `torch.float16` or `"float16"`; None or `"auto"` keeps the file's.
                `torch_dtype` is another name for it.
            device: where to; by default the CPU, with weights mapped from the file.
            cache_dir: the cache folder for this call.
            offline: whether to use only what is here; by default the environment decides.
            strict: None: weights that the base model lacks, and shapes that differ, raise; a new head does not. True:
                nothing may be missing or unexpected. False: everything is only reported.
            config: a configuration, or what one is loaded from, instead of the model's own.
            state_dict: weights to use instead of the model's file, which is then not fetched.
            ignore_mismatched_sizes: newly initialise weights whose shapes differ.
            overrides: fields of the configuration.

        Raises:
            UnknownModel, CatalogError: for the name, before anything is fetched.
            UnknownFamily, UnknownHead, PluginError: for the family.
            DownloadError, IntegrityError, OfflineError, CacheError: for the files.
            CheckpointError, UnsafeCheckpoint, ConfigError: for what is in them.
        """
        _refuse_reserved(overrides)
        dtype = overrides.pop("torch_dtype", None) if dtype is None else dtype
        target = self._locate(name_or_path)
        described = self._family_of(target, family)
        if head is not None and described is not None:
            described.head_path(head)
        with self._store(cache_dir, offline, False) as store:
            loaded = self._config(target, store, described, config, overrides)
            described = described or self.families.get(_family_name(loaded))
            chosen = head or (target.entry.head if target.entry else _head_of(loaded, described)) or described.default_head
            cls = described.load_class(described.head_path(chosen))
            model: PreTrainedModel = self._build(
                cls,
                (),
                {},
                target,
                store,
                described.files["weights"],
                loaded,
                state_dict=state_dict,
                strict=strict,
                dtype=dtype,
                device=device,
                ignore_mismatched_sizes=ignore_mismatched_sizes,
            )
            return model

    def load_config(
        self,
        name_or_path: PathLike,
        *,
        family: str | None = None,
        cache_dir: PathLike | None = None,
        offline: bool | None = None,
        **overrides: Any,
    ) -> PretrainedConfig:
        """Load a model's configuration; arguments as in `load`."""
        target = self._locate(name_or_path)
        with self._store(cache_dir, offline, False) as store:
            return self._config(target, store, self._family_of(target, family), None, overrides, is_config=True)

    def load_tokenizer(
        self,
        name_or_path: PathLike,
        *,
        family: str | None = None,
        cache_dir: PathLike | None = None,
        offline: bool | None = None,
        **settings: Any,
    ) -> PreTrainedTokenizer:
        """Load a model's tokenizer; `settings` are arguments of its class, the other arguments as in `load`.

        Raises:
            ConfigError: when the family has no tokenizer, or the vocabulary is broken; otherwise as `load`.
        """
        target = self._locate(name_or_path)
        with self._store(cache_dir, offline, False) as store:
            described = self._family_of(target, family)
            if described is None:
                described = self.families.get(_family_name(self._config(target, store, None, None, {})))
            if described.tokenizer is None:
                raise ConfigError(f"family {described.name!r} is expected to have a tokenizer, but has none")
            cls = described.load_class(described.tokenizer)
            tokenizer: PreTrainedTokenizer = self._tokenizer(cls, described.files, target, store, (), settings)
            return tokenizer

    # -- classes: the road of `from_pretrained` --------------------------------------------------------------------------

    def config_of(
        self,
        cls: type[PretrainedConfig],
        name_or_path: PathLike,
        *,
        cache_dir: PathLike | None = None,
        force_download: bool = False,
        proxies: Mapping[str, str] | None = None,
        offline: bool | None = None,
        return_unused_kwargs: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Load a configuration of a given class, as its `from_pretrained` says."""
        target = self._locate(name_or_path)
        described = self._family_of_class(cls, target)
        known = cls.field_names()
        overrides = {name: value for name, value in kwargs.items() if name in known}
        unused = {name: value for name, value in kwargs.items() if name not in known}
        if unused and not return_unused_kwargs:
            cls.check_names(unused)
        with self._store(cache_dir, offline, force_download, proxies) as store:
            loaded = self._config(target, store, described, None, overrides, cls, is_config=True)
        return (loaded, unused) if return_unused_kwargs else loaded

    def model_of(
        self,
        cls: type[PreTrainedModel],
        name_or_path: PathLike | None,
        *model_args: Any,
        config: PretrainedConfig | PathLike | None = None,
        state_dict: Mapping[str, torch.Tensor] | None = None,
        cache_dir: PathLike | None = None,
        from_tf: bool = False,
        force_download: bool = False,
        proxies: Mapping[str, str] | None = None,
        output_loading_info: bool = False,
        strict: bool | None = None,
        dtype: torch.dtype | str | None = None,
        device: torch.device | str | None = None,
        ignore_mismatched_sizes: bool = False,
        offline: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load a model of a given class, as its `from_pretrained` says."""
        if name_or_path is None:
            if state_dict is None or config is None:
                raise ConfigError("without a name, both config and state_dict are expected")
            target = Target("state_dict", Place(()))
        else:
            target = self._locate(name_or_path)
        described = self._family_of_class(cls.config_class, target)
        if from_tf:
            raise CheckpointError(
                f"family {described.name if described else cls.config_class.model_type!r} is expected to have a converter for "
                "TensorFlow checkpoints, but has none; convert the checkpoint first"
            )
        weights = (described.files if described else DEFAULT_FILES)["weights"]
        dtype = kwargs.pop("torch_dtype", None) if dtype is None else dtype
        known = cls.config_class.field_names()
        overrides = {name: value for name, value in kwargs.items() if name in known}
        rest = {name: value for name, value in kwargs.items() if name not in known}
        with self._store(cache_dir, offline, force_download, proxies) as store:
            loaded = self._config(target, store, described, config, overrides, cls.config_class)
            model = self._build(
                cls,
                model_args,
                rest,
                target,
                store,
                weights,
                loaded,
                state_dict=state_dict,
                strict=strict,
                dtype=dtype,
                device=device,
                ignore_mismatched_sizes=ignore_mismatched_sizes,
            )
        return (model, model.load_report) if output_loading_info else model

    def tokenizer_of(
        self,
        cls: type[PreTrainedTokenizer],
        name_or_path: PathLike,
        *init_inputs: Any,
        cache_dir: PathLike | None = None,
        force_download: bool = False,
        proxies: Mapping[str, str] | None = None,
        offline: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load a tokenizer of a given class, as its `from_pretrained` says."""
        target = self._locate(name_or_path)
        ancestors = (self.families.find_family(base.__name__) for base in cls.__mro__)
        described = next((family for family in ancestors if family is not None), None)
        self._require_family(target, described, cls)
        files: Mapping[str, Sequence[str]] = described.files if described else cls.vocabulary_files()
        with self._store(cache_dir, offline, force_download, proxies) as store:
            return self._tokenizer(cls, files, target, store, init_inputs, kwargs)

    # ------------------------------------------------------------------------------------------------------------------

    def _store(
        self, cache_dir: PathLike | None, offline: bool | None, refresh: bool, proxies: Mapping[str, str] | None = None
    ) -> Store:
        cache = Cache(cache_folders(self._cache_dir if cache_dir is None else cache_dir))
        return Store(cache, offline=is_offline(offline), hosts=self.catalog.hosts, refresh=refresh, proxies=proxies)

    def _locate(self, name_or_path: PathLike) -> Target:
        """Tell a name from a path from a URL. A word is a name first; `./word` is always a path."""
        if not isinstance(name_or_path, str | os.PathLike) or not (text := str(os.fspath(name_or_path))):
            raise ConfigError(f"a model is expected to be a name, path or URL, but is {name_or_path!r}")
        target = self._meant(text, is_path=not isinstance(name_or_path, str))
        if target.folder is not None:
            from registry.checkpoint.writer import refuse_unfinished

            refuse_unfinished(target.folder)
        return target

    def _meant(self, text: str, *, is_path: bool) -> Target:
        if is_url(text):
            return url_target(text)
        is_word = not is_path and not text.startswith((".", "/", "~", os.sep))
        entry = self.maybe_resolve(text) if is_word else None
        path = user_path(text)
        try:
            exists = path.exists()
        except (OSError, ValueError):  # too long, or with a character that no path has
            exists = False
        if entry is not None:
            if exists:
                warnings.warn(
                    f"{text!r} is both a model's name and a path; the name is used, write './{text}' for the path",
                    RegistryWarning,
                    stacklevel=5,
                )
            return entry_target(entry)
        if exists:
            return path_target(path, text)
        raise self.catalog.unknown(text)

    def _family_of(self, target: Target, family: str | None) -> Family | None:
        """Return the family where it is known before any file is read."""
        if target.entry is not None:
            if family not in (None, target.entry.family):
                raise ConfigError(
                    f"family of model {target.entry.name!r} is expected to be {target.entry.family!r}, as its entry says, "
                    f"but {family!r} was given"
                )
            return self.families.get(target.entry.family)
        if family is not None:
            return self.families.get(family)
        if target.folder is not None and not (target.folder / "config.json").is_file():
            # `bert_config.json`: the name of the file tells the family where nothing else does.
            for file in sorted(target.folder.glob("*_config.json")):
                described = self.families.maybe_get(file.name.removesuffix("_config.json").replace("_", "-"))
                if described is not None:
                    return described
        return None

    def _family_of_class(self, cls: type[PretrainedConfig], target: Target) -> Family | None:
        """Return the family of a class, None for a class that belongs to none, and refuse a name of another family."""
        described = self.families.maybe_get(cls.model_type)
        self._require_family(target, described, cls)
        return described

    def _require_family(self, target: Target, described: Family | None, cls: type) -> None:
        """Refuse a name whose entry is of another family than the class that is to load it."""
        if target.entry is not None and self.families.get(target.entry.family) != described:
            raise ConfigError(
                f"family of model {target.entry.name!r} is expected to be that of {cls.__name__}, but is "
                f"{target.entry.family!r}; use registry.load, or a class of that family"
            )

    def _family_files(self, target: Target, store: Store, family: str | None) -> Mapping[str, tuple[str, ...]]:
        described = self._family_of(target, family)
        if described is None:
            described = self.families.get(_family_name(self._config(target, store, None, None, {})))
        return described.files

    def _need(self, target: Target, store: Store, candidates: Sequence[str], what: str) -> StoredFile:
        if (found := store.first(target.place, candidates)) is not None:
            return found
        where = " or ".join(redact(source) for source in target.place.sources)
        raise DownloadError(
            f"{what} of {target.label!r} is expected to be {' or '.join(candidates)} at {where}, but there is none",
            url=where,
            status=404,
        )

    def _side_files(self, target: Target, store: Store) -> dict[str, StoredFile]:
        from registry.pretrained.tokenizer import TOKENIZER_FILES

        found = ((name, store.get(target.place, name)) for name in TOKENIZER_FILES)
        return {name: file for name, file in found if file is not None}

    def _config(
        self,
        target: Target,
        store: Store,
        described: Family | None,
        given: PretrainedConfig | PathLike | None,
        overrides: Mapping[str, Any],
        cls: type[PretrainedConfig] | None = None,
        *,
        is_config: bool = False,
    ) -> PretrainedConfig:
        """Return the configuration: given, or read from the model's files, with the entry's and the caller's overrides.

        With `is_config` a single file that the target names is the configuration, whatever its name.
        """
        from registry.pretrained.config import PretrainedConfig

        if isinstance(given, PretrainedConfig):
            return given.replace(**overrides) if overrides else given
        if given is not None:
            target, is_config = self._locate(given), True
        candidates = described.files["config"] if described else ("config.json",)
        if target.file is not None and (is_config or _names_config(target.file)):
            candidates = (target.file,)
        file = self._need(target, store, candidates, "configuration")
        if cls is None:
            described = described or self.families.get(_model_type(file, target))
            cls = described.load_class(described.config)
        assert cls is not None
        loaded = cls.from_json_file(file.path)
        changes = {**target.config, **overrides}
        return loaded.replace(**changes) if changes else loaded

    def _weights_files(self, target: Target, store: Store, names: Sequence[str]) -> list[StoredFile]:
        """Return the weights file, or an index and its shards."""
        from registry.checkpoint.reader import INDEX_SUFFIX, shard_names

        candidates: Sequence[str] = [form for name in names for form in (name, name + INDEX_SUFFIX)]
        if target.file is not None and not _names_config(target.file):
            candidates = (target.file,)
        elif target.folder is not None:
            candidates = newest_first(target.folder, candidates)
        first = self._need(target, store, candidates, "weights")
        if not first.name.endswith(INDEX_SUFFIX):
            return [first]
        shards = sorted(set(shard_names(first.path).values()))
        return [first, *(self._need(target, store, (name,), "shard") for name in shards)]

    def _build(
        self,
        cls: type[PreTrainedModel],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        target: Target,
        store: Store,
        weights: Sequence[str],
        config: PretrainedConfig,
        *,
        state_dict: Mapping[str, torch.Tensor] | None,
        strict: bool | None,
        dtype: torch.dtype | str | None,
        device: torch.device | str | None,
        ignore_mismatched_sizes: bool,
    ) -> Any:
        import torch

        from registry.checkpoint.reader import StateDict, open_checkpoint
        from registry.pretrained.weights import fill

        if state_dict is not None:
            checkpoint, source = StateDict(state_dict), "state_dict"
        else:
            files = {file.name: file.path for file in self._weights_files(target, store, weights)}
            first = next(iter(files.values()))
            checkpoint = open_checkpoint(first, files.__getitem__ if len(files) > 1 else None)  # type: ignore[assignment]
            source = f"{target.label} ({next(iter(files))})"
        with torch.device("meta"):
            model = cls(config, *args, **kwargs)
        fill(
            model,
            checkpoint,
            source=source,
            strict=strict,
            dtype=_torch_dtype(dtype),
            ignore_mismatched_sizes=ignore_mismatched_sizes,
        )
        return model.to(device).eval() if device is not None else model.eval()

    def _tokenizer(
        self,
        cls: Any,
        files: Mapping[str, Sequence[str]],
        target: Target,
        store: Store,
        inputs: Sequence[Any],
        settings: Mapping[str, Any],
    ) -> Any:
        vocabulary: dict[str, Path] = {}
        for role in (role for role in files if role not in ("weights", "config")):
            if target.file is None:
                vocabulary[f"{role}_file"] = self._need(target, store, files[role], "vocabulary").path
            elif not vocabulary:  # a file given by itself is the vocabulary, whatever its name
                vocabulary[f"{role}_file"] = self._need(target, store, (target.file,), "vocabulary").path
            elif found := store.first(target.place, files[role]):
                vocabulary[f"{role}_file"] = found.path  # else the class knows what belongs to that file, or says so
        side_files = {name: file.path for name, file in self._side_files(target, store).items()}
        return cls.from_files(vocabulary, side_files, *inputs, **{**target.tokenizer, **settings})


def _family_name(config: PretrainedConfig) -> str:
    return config.model_type


def _model_type(file: StoredFile, target: Target) -> str:
    from registry.checkpoint.json_file import read_json

    name = read_json(file.path).get("model_type")
    if not isinstance(name, str):
        raise ConfigError(f"configuration of {target.label!r} is expected to name its model_type, but does not; give family=")
    return name


def _head_of(config: PretrainedConfig, family: Family) -> str | None:
    """Return the head whose class the configuration says its weights are of."""
    heads = (_head_of_class(name, family) for name in config.architectures or ())
    return next((head for head in heads if head), None)


def _head_of_class(name: str, family: Family) -> str | None:
    return next((head for head, path in family.heads.items() if path.partition(":")[2] == name), None)


def _torch_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    import torch

    if dtype is None or dtype == "auto":
        return None
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ConfigError(f"dtype is expected to be a floating point type of torch such as 'float16', but is {dtype!r}")
    return found


def _names_config(name: str) -> bool:
    """Whether the name of a file is that of a configuration, and not of weights or their index."""
    return name.endswith(".json") and not name.endswith(".index.json")


def _refuse_reserved(overrides: dict[str, Any]) -> None:
    for name in _RESERVED:
        if overrides.pop(name, None):
            raise ConfigError(f"argument {name!r} is reserved and has no meaning in this version; leave it out")


# -- the default registry ------------------------------------------------------------------------------------------------

_default_lock = threading.Lock()
_default: ModelRegistry | None = None


def default_registry() -> ModelRegistry:
    """Return the registry that the module functions use; it is made at the first call."""
    global _default
    with _default_lock:
        if _default is None:
            _default = ModelRegistry()
        return _default


def load(name_or_path: PathLike, **options: Any) -> PreTrainedModel:
    """Load a model; see `ModelRegistry.load`."""
    return default_registry().load(name_or_path, **options)


def load_config(name_or_path: PathLike, **options: Any) -> PretrainedConfig:
    """Load a configuration; see `ModelRegistry.load_config`."""
    return default_registry().load_config(name_or_path, **options)


def load_tokenizer(name_or_path: PathLike, **options: Any) -> PreTrainedTokenizer:
    """Load a tokenizer; see `ModelRegistry.load_tokenizer`."""
    return default_registry().load_tokenizer(name_or_path, **options)


def fetch(name_or_path: PathLike, **options: Any) -> Path:
    """Return a folder with a model's verified files; see `ModelRegistry.fetch`."""
    return default_registry().fetch(name_or_path, **options)


def resolve(name: str) -> ModelEntry:
    """Return what a name means; see `ModelRegistry.resolve`."""
    return default_registry().resolve(name)


def list_models(pattern: str = "*") -> list[str]:
    """Return the names that match a shell pattern; see `ModelRegistry.list_models`."""
    return default_registry().list_models(pattern)
