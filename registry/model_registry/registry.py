"""ModelRegistry: the public methods. `environment` and `request` do the work."""

from __future__ import annotations

import functools
import os
from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from registry.base.names import user_path
from registry.errors import CatalogError, CheckpointError, ConfigError, RegistryError, UnknownModel, warn
from registry.model_registry.environment import Access, Environment, PathLike
from registry.model_registry.remembered import Remembered, circumstances, deciding, is_plain
from registry.model_registry.request import head_in, head_of_class, retried, shared_by_ranks

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch.distributed.device_mesh import DeviceMesh

    from registry.catalog.catalog import Catalog
    from registry.catalog.entry import ModelEntry
    from registry.catalog.layers import CatalogSource
    from registry.checkpoint.open import Inspection
    from registry.families.family import Family
    from registry.families.host import PluginHost
    from registry.loading.assembly import LoadOptions
    from registry.loading.survey import Survey
    from registry.lockfile.format import LockedModel
    from registry.lockfile.update import LockResult
    from registry.pretrained.config import PretrainedConfig
    from registry.pretrained.model import PreTrainedModel
    from registry.pretrained.tokenizer import PreTrainedTokenizer
    from registry.store.events import Observer
    from registry.store.target import StoredFile
    from registry.store.upkeep.inventory import CacheContents
    from registry.store.upkeep.prune import Pruned
    from registry.store.upkeep.verify import FileCheck

__all__ = ["ModelRegistry"]

#: `list_models` warns about this many unusable entries one by one, and counts the rest.
_MOST_WARNINGS = 20


class ModelRegistry:
    """Find models by name and load them. The module functions of `registry` use one default object of this class.

    It is safe to use from several threads. It can be pickled and uses the same catalogs after unpickling elsewhere.
    """

    def __init__(
        self,
        catalogs: Sequence[PathLike] = (),
        cache_dir: PathLike | None = None,
        plugins: PluginHost | None = None,
        observers: Sequence[Observer] = (),
        lock_file: PathLike | None = None,
    ) -> None:
        """Create a registry. Catalogs and plugins are read at first use.

        Args:
            catalogs: models.yaml files (or folders with one) above every other layer, the last one highest.
            cache_dir: the cache folder; by default the environment decides at each use.
            plugins: where families come from; by default the installed packages, which an unpickled registry always uses.
            observers: objects that are notified of each file's progress (`registry.Observer`). They are not pickled.
            lock_file: the lock file that `locked=` uses; by default the environment decides at each use
                (`REGISTRY_LOCK_FILE`, else `models.lock` beside the project's `models.yaml`).
        """
        self._environment = Environment(catalogs, cache_dir, plugins, observers, lock_file)
        self._remembered = Remembered()

    def __getstate__(self) -> Environment:
        return self._environment

    def __setstate__(self, environment: Environment) -> None:
        self._environment = environment
        self._remembered = Remembered()

    # -- names ---------------------------------------------------------------------------------------------------------

    @property
    def catalog(self) -> Catalog:
        """The merged catalog. It is read again after one of its files changed."""
        return self._environment.catalog

    @property
    def families(self) -> PluginHost:
        """The families of this environment."""
        return self._environment.families

    def resolve(self, name: str) -> ModelEntry:
        """Return the catalog entry of a name, without using the network, torch or plugin code.

        Raises:
            UnknownModel: when no catalog has the name; the error names close ones.
            CatalogError: when its entry is broken.
        """
        return self._environment.resolve(name)

    def maybe_resolve(self, name: str) -> ModelEntry | None:
        """Return the catalog entry of a name, or None when no catalog has it."""
        return self.catalog.maybe_resolve(name)

    def list_models(self, pattern: str = "*") -> list[str]:
        """Return the names that match a shell pattern, in natural order. Unusable entries are skipped with a warning."""
        catalog = self.catalog
        broken = list(catalog.broken.values())
        for error in broken[:_MOST_WARNINGS]:
            warn(str(error))
        if (more := len(broken) - _MOST_WARNINGS) > 0:
            warn(f"{more} further {'entry' if more == 1 else 'entries'} cannot be used; `registry validate` shows all")
        return catalog.names(pattern)

    def register(self, family: Family) -> None:
        """Add a family in this process only, for tests and notebooks. Packages use an entry point."""
        self.families.register(family)

    def find_class(self, name: str) -> Any | None:
        """Return the class of this name from the family that has it, or None."""
        return self.families.find_class(name)

    def head_of(self, model: PreTrainedModel) -> str | None:
        """Return the head that a model's class implements in its family, or None when it implements no head."""
        return head_of_class(model.own_class.__name__, self.families.get(model.config.model_type))

    def catalog_sources(self) -> list[CatalogSource]:
        """Return the existing catalog files, lowest layer first, without reading them."""
        return self._environment.catalog_sources()

    # -- models --------------------------------------------------------------------------------------------------------

    def load(
        self,
        /,
        name_or_path: PathLike,
        *,
        head: str | None = None,
        family: str | None = None,
        dtype: torch.dtype | str | None = None,
        device: torch.device | str | None = None,
        cache_dir: PathLike | None = None,
        offline: bool | None = None,
        locked: bool | str | None = None,
        refresh: bool = False,
        strict: bool | None = None,
        config: PretrainedConfig | PathLike | None = None,
        state_dict: Mapping[str, torch.Tensor] | None = None,
        ignore_mismatched_sizes: bool = False,
        mesh: DeviceMesh | None = None,
        parallel: str | None = None,
        broadcast: bool = False,
        **overrides: Any,
    ) -> PreTrainedModel:
        """Load a model and set it to evaluation mode. `model.load_report` says what happened to each tensor.

        Args:
            name_or_path: a name, folder, weights file, URL, or a source such as `hf://org/repo@revision`.
            head: the head to load, such as `"lm"`; by default the entry's, for a path the one that its configuration
                names, else the family's default.
            family: the family, when neither entry nor configuration names it.
            dtype: dtype of floating point weights, as `torch.float16` or `"float16"`; None or `"auto"` keeps the file's.
                `torch_dtype` is another name for it.
            device: the device to load to; by default the CPU, with weights mapped from the file.
            cache_dir: the cache folder for this call.
            offline: whether to use only local files; by default the environment decides.
            locked: whether to use only the bytes that `models.lock` lists, whatever the source has now; `"exact"` also
                refuses other versions of plugin and library. By default the environment (`REGISTRY_LOCKED`) decides.
            refresh: ask the source again instead of using recorded answers.
            strict: None: missing weights of the base model and differing shapes raise, a new head does not. True: any
                missing or unexpected weight raises. False: differences are only reported.
            config: a configuration, or a name, path or URL to load one from, instead of the model's own.
            state_dict: weights to use instead of the model's file, which is not fetched then.
            ignore_mismatched_sizes: newly initialise weights whose shapes differ.
            mesh: the ranks that share the model: one dimension, or replicas and then shards. All ranks must make the same
                call. Each reads only its rows of the weights; the parameters are torch's DTensors.
            parallel: how they share it: `"fsdp"` for torch's `fully_shard`, the default when there is a mesh.
            broadcast: let one rank of each node read for the other ranks of the node, for slow shared storage.
            overrides: fields of the configuration.

        Raises:
            UnknownModel, CatalogError: for the name, before anything is fetched.
            UnknownFamily, UnknownHead, PluginError: for the family.
            DownloadError, IntegrityError, OfflineError, CacheError: for the files.
            CheckpointError, UnsafeCheckpoint, ConfigError: for what is in them.
            DistributedError: when another rank of the mesh failed, was killed, or did not come in time.
        """
        access = Access(cache_dir, offline, locked, refresh)
        dtype = overrides.pop("torch_dtype", None) if dtype is None else dtype
        options = _options(dtype, device, strict, state_dict, ignore_mismatched_sizes, broadcast)
        with shared_by_ranks(name_or_path, mesh, parallel, device, broadcast) as ranks:
            model: PreTrainedModel = self._load(
                None,
                name_or_path,
                access,
                options._replace(ranks=ranks),
                head=head,
                family=family,
                config=config,
                overrides=overrides,
            )
            return model

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
        refresh: bool = False,
        proxies: Mapping[str, str] | None = None,
        output_loading_info: bool = False,
        strict: bool | None = None,
        dtype: torch.dtype | str | None = None,
        device: torch.device | str | None = None,
        ignore_mismatched_sizes: bool = False,
        offline: bool | None = None,
        locked: bool | str | None = None,
        mesh: DeviceMesh | None = None,
        parallel: str | None = None,
        broadcast: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Load a model of a given class; see its `from_pretrained`."""
        access = Access(cache_dir, offline, locked, force_download or refresh, proxies)
        dtype = kwargs.pop("torch_dtype", None) if dtype is None else dtype
        options = _options(dtype, device, strict, state_dict, ignore_mismatched_sizes, broadcast)._replace(from_tf=from_tf)
        overrides, rest = _parted(kwargs, cls.config_class.field_names())
        with shared_by_ranks(name_or_path or "weights", mesh, parallel, device, broadcast) as ranks:
            options = options._replace(ranks=ranks)
            if name_or_path is None:
                model = self._build(cls, config, access, options, overrides, model_args, rest)
            else:
                model = self._load(
                    cls, name_or_path, access, options, config=config, overrides=overrides, args=model_args, kwargs=rest
                )
        return (model, model.load_report) if output_loading_info else model

    @retried
    def _load(
        self,
        cls: type[PreTrainedModel] | None,
        name_or_path: PathLike,
        access: Access,
        options: LoadOptions,
        **how: Any,
    ) -> Any:
        with self._environment.open(name_or_path, access) as request:
            return request.model(cls, options, **how)

    def _build(
        self,
        cls: type[PreTrainedModel],
        config: PretrainedConfig | PathLike | None,
        access: Access,
        options: LoadOptions,
        overrides: Mapping[str, Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> PreTrainedModel:
        """Build a model from a configuration and given tensors, without files."""
        from registry.checkpoint.tensors import StateDict
        from registry.loading.assembly import build

        if options.state_dict is None or config is None:
            raise ConfigError("without a name, both config and state_dict are expected")
        if isinstance(config, str | os.PathLike):
            with self._environment.open(config, access) as request:
                config = request.config(cls.config_class, None, {})
        if overrides:
            config = config.replace(**overrides)
        model: PreTrainedModel = build(cls, args, kwargs, config, StateDict(options.state_dict), "state_dict", options)
        self._environment.hooks.tell("registry_loaded", model="state_dict", instance=model)
        return model

    @retried
    def convert(
        self,
        name_or_path: PathLike,
        save_directory: PathLike,
        *,
        head: str | None = None,
        family: str | None = None,
        dtype: torch.dtype | str | None = None,
        max_shard_size: int | str | None = None,
        tokenizer_settings: Mapping[str, Any] | None = None,
        cache_dir: PathLike | None = None,
        offline: bool | None = None,
        locked: bool | str | None = None,
        **overrides: Any,
    ) -> PreTrainedModel:
        """Write a model from any supported format as a folder that this library and transformers can load; return the model.

        The tokenizer is also written when its vocabulary is available.

        Args:
            name_or_path: what to convert, as in `load`.
            save_directory: the folder to write.
            head: by default the one that the configuration names, else the one that leaves the fewest weights unused.
            family: the family, when neither entry nor configuration names it.
            dtype: dtype of floating point weights; None keeps the source's.
            max_shard_size: in bytes or as `"5GB"`; larger models are written in shards.
            tokenizer_settings: arguments of the tokenizer's class, such as `do_lower_case`.
            cache_dir: the cache folder for this call.
            offline: whether to use only local files.
            locked: as in `load`.
            overrides: fields of the configuration.

        Raises:
            what `load` raises, and CheckpointError when weights would be lost; nothing is written then.
        """
        from registry.checkpoint.save import staged_folder

        folder = user_path(save_directory)
        with self._environment.open(name_or_path, Access(cache_dir, offline, locked)) as request:
            parts, described, target = request.parts, request.family(family), request.target
            config = parts.config(described, None, overrides)
            chosen = head or head_in(config, described) or parts.best_head(described, config)
            options = _options(dtype, None, None, None, False, False)
            model: PreTrainedModel = parts.model(
                described.load_class(described.head_path(chosen)), (), {}, described, config, options
            )
            tokenizer = request.maybe_tokenizer(described, tokenizer_settings or {})
        assert model.load_report is not None
        if (left := model.load_report.unexpected) and target.folder is not None and folder.resolve() == target.folder.resolve():
            raise CheckpointError(
                f"all weights of {target.label!r} are expected to go into {chosen!r}, because they would be replaced, but "
                f"{', '.join(left[:6])} would be left out; write into another folder, or give head=",
                path=str(folder),
            )
        with staged_folder(folder, replaces_weights=True, replaces_tokenizer=tokenizer is not None) as stage:
            model.save_pretrained(stage, max_shard_size=max_shard_size)
            if tokenizer is not None:
                tokenizer.save_pretrained(stage)
        return model

    @retried
    def load_config(
        self,
        /,
        name_or_path: PathLike,
        *,
        family: str | None = None,
        cache_dir: PathLike | None = None,
        offline: bool | None = None,
        locked: bool | str | None = None,
        refresh: bool = False,
        **overrides: Any,
    ) -> PretrainedConfig:
        """Load a model's configuration. Arguments are as in `load`."""
        with self._environment.open(name_or_path, Access(cache_dir, offline, locked, refresh)) as request:
            return request.config(None, family, overrides)

    @retried
    def config_of(
        self,
        cls: type[PretrainedConfig],
        name_or_path: PathLike,
        *,
        cache_dir: PathLike | None = None,
        force_download: bool = False,
        refresh: bool = False,
        proxies: Mapping[str, str] | None = None,
        offline: bool | None = None,
        locked: bool | str | None = None,
        return_unused_kwargs: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Load a configuration of a given class; see its `from_pretrained`."""
        overrides, unused = _parted(kwargs, cls.field_names())
        if unused and not return_unused_kwargs:
            cls.check_names(unused)
        with self._environment.open(
            name_or_path, Access(cache_dir, offline, locked, force_download or refresh, proxies)
        ) as request:
            config = request.config(cls, None, overrides)
        return (config, unused) if return_unused_kwargs else config

    @retried
    def load_tokenizer(
        self,
        /,
        name_or_path: PathLike,
        *,
        family: str | None = None,
        cache_dir: PathLike | None = None,
        offline: bool | None = None,
        locked: bool | str | None = None,
        refresh: bool = False,
        **settings: Any,
    ) -> PreTrainedTokenizer:
        """Load a model's tokenizer. `settings` are arguments of its class; the other arguments are as in `load`.

        Raises:
            ConfigError: when the family has no tokenizer, or the vocabulary is broken; otherwise as `load`.
        """
        with self._environment.open(name_or_path, Access(cache_dir, offline, locked, refresh)) as request:
            tokenizer: PreTrainedTokenizer = request.tokenizer(None, family, (), settings)
            return tokenizer

    @retried
    def tokenizer_of(
        self,
        cls: type[PreTrainedTokenizer],
        name_or_path: PathLike,
        *init_inputs: Any,
        cache_dir: PathLike | None = None,
        force_download: bool = False,
        refresh: bool = False,
        proxies: Mapping[str, str] | None = None,
        offline: bool | None = None,
        locked: bool | str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load a tokenizer of a given class; see its `from_pretrained`."""
        with self._environment.open(
            name_or_path, Access(cache_dir, offline, locked, force_download or refresh, proxies)
        ) as request:
            return request.tokenizer(cls, None, init_inputs, kwargs)

    # -- files ---------------------------------------------------------------------------------------------------------

    @retried
    def fetch(
        self,
        name_or_path: PathLike,
        *,
        family: str | None = None,
        cache_dir: PathLike | None = None,
        offline: bool | None = None,
        refresh: bool = False,
        jobs: int | None = None,
        locked: bool | str | None = None,
    ) -> Path:
        """Fetch and verify a model's files; return a folder that holds them under their usual names.

        Every rank of a job may call this: one process of each machine downloads, the others wait and use the same files.

        Args:
            name_or_path: a name, folder, file, URL or source.
            family: the family, when neither entry nor configuration names it.
            cache_dir: the cache folder for this call.
            offline: whether to use only local files; by default the environment decides.
            refresh: ask the source again instead of using recorded answers.
            jobs: how many files to fetch concurrently; by default 4.
            locked: as in `load`.
        """
        asked = before = None
        if isinstance(name_or_path, str) and not refresh and (around := circumstances()) is not None:
            asked = (name_or_path, family, cache_dir and os.fspath(cache_dir), locked, around)
        answer = self._remembered.maybe_get(asked) if asked is not None else None
        if answer is None:
            if isinstance(name_or_path, str) and asked is not None:
                before = self._environment.catalog_stamps(name_or_path)
            with self._environment.open(name_or_path, Access(cache_dir, offline, locked, refresh)) as request:
                answer = request.fetch(family, jobs)
            store = request.store
            if asked is not None and before is not None and store.repeatable and is_plain(request.target):
                self._remembered.keep(asked, (*before, *deciding(store.cache, answer.folder)), answer)
        self._environment.hooks.tell("registry_fetched", model=answer.label, files=dict(answer.files))
        return answer.folder

    @retried
    def fetch_file(
        self,
        name_or_path: PathLike,
        file: str,
        *,
        cache_dir: PathLike | None = None,
        offline: bool | None = None,
        refresh: bool = False,
        locked: bool | str | None = None,
    ) -> Path:
        """Fetch and verify one further file from a model's source, such as a corpus.

        Args:
            name_or_path: a name, folder, URL or source.
            file: the file's name there.
            cache_dir: the cache folder for this call.
            offline: whether to use only local files; by default the environment decides.
            refresh: ask the source again instead of using recorded answers.
            locked: as in `load`.

        Raises:
            DownloadError: when the source has no such file; otherwise as `load`.
        """
        with self._environment.open(name_or_path, Access(cache_dir, offline, locked, refresh)) as request:
            return request.file(file)

    @retried
    def inspect(
        self,
        name_or_path: PathLike,
        *,
        family: str | None = None,
        cache_dir: PathLike | None = None,
        offline: bool | None = None,
    ) -> Inspection:
        """List a model's tensors by their names in the file, without reading values. Arguments are as in `fetch`.

        Raises:
            CheckpointError: when the file is damaged. A file that `load` would refuse as unsafe is described.
        """
        with self._environment.open(name_or_path, Access(cache_dir, offline)) as request:
            return request.inspect(family)

    @retried
    def survey(
        self,
        source: str,
        *,
        family: str | None = None,
        pin: bool = False,
        cache_dir: PathLike | None = None,
        offline: bool | None = None,
    ) -> Survey:
        """Describe a folder or archive that has no catalog entry yet: family, head, files with their sizes and hashes.

        Large files are fetched only when `pin` is set and the source does not provide their hash. Other arguments are as in
        `fetch`. Raises what `registry.loading.survey.survey` does.
        """
        from registry.checkpoint.archives.unpacked import find_archive
        from registry.loading.survey import survey
        from registry.store.target import source_target

        environment = self._environment
        with environment.probe(offline) as probe, environment.store(Access(cache_dir, offline, refresh=True)) as store:
            return survey(find_archive(source_target(source)), store, probe, self.families, family, pin=pin)

    def cached_files(self, name_or_path: PathLike, *, cache_dir: PathLike | None = None) -> dict[str, StoredFile]:
        """Return the files of a model that are on this machine, by name, without using the network.

        For an archive that was not unpacked yet, return the archive itself.
        """
        with self._environment.open(name_or_path, Access(cache_dir, offline=True, locked=False)) as request:
            return request.cached_files()

    # -- the lock file -------------------------------------------------------------------------------------------------

    def lock(
        self,
        names: Sequence[str] = (),
        *,
        file: PathLike | None = None,
        check: bool = False,
        cache_dir: PathLike | None = None,
        offline: bool | None = None,
        jobs: int | None = None,
    ) -> LockResult:
        """Fetch the current files of models from their sources, and record them in `models.lock`.

        Args:
            names: the models to lock; other locked models do not change. By default, all models of the project's catalogs
                and all that are already locked; models that no catalog has any more are removed from the file.
            file: the lock file; by default this registry's.
            check: write nothing; the result lists the differences.
            cache_dir: the cache folder for this call.
            offline: whether to use only local files; by default the environment decides.
            jobs: how many files to fetch concurrently; by default 4.

        Raises:
            CatalogError: when the lock file is damaged or cannot be written; otherwise as `fetch`. Nothing is written then.
        """
        from hashlib import sha256

        from registry.lockfile.update import update_lock

        environment = self._environment
        path = user_path(file).absolute() if file else environment.locking.path()
        guard = environment.cache(cache_dir).root / "locks" / f"{sha256(str(path).encode()).hexdigest()}.lock"
        resolve = self.resolve if names else self._resolve_enabled
        facts = functools.partial(self._locked, cache_dir=cache_dir, offline=offline, jobs=jobs)
        return update_lock(names, path, environment.outer_sources(), resolve, facts, guard, check=check)

    def _resolve_enabled(self, name: str) -> ModelEntry | None:
        """Return the entry of a name, or None when no catalog has it or it is disabled."""
        try:
            return self.maybe_resolve(name)
        except CatalogError:
            if name in self.catalog.broken:
                raise
            return None

    @retried
    def _locked(
        self, name: str, path: Path, *, cache_dir: PathLike | None, offline: bool | None, jobs: int | None
    ) -> LockedModel:
        from registry.base.settings import is_offline

        access = Access(cache_dir, offline, locked=False, refresh=not is_offline(offline))
        with self._environment.open(name, access) as request:
            return request.locked(path, jobs)

    # -- the cache -----------------------------------------------------------------------------------------------------

    def cached_models(self, cache_dir: PathLike | None = None) -> list[CacheContents]:
        """Return the contents of each cache folder: first the writable one, then the read-only tiers."""
        from registry.store.cache import Cache
        from registry.store.upkeep.inventory import contents

        return [contents(Cache((root,))) for root in self._environment.cache(cache_dir).folders]

    def verify(self, names: Sequence[str] = (), *, repair: bool = False, cache_dir: PathLike | None = None) -> list[FileCheck]:
        """Verify the sha256 of cached files, including those of read-only tiers; return the result for each.

        Args:
            names: the models to verify; by default everything in the cache.
            repair: quarantine damaged files of the writable folder, and fetch them again for models that have a name; the
                environment decides whether the network may be used. A file that cannot be fetched causes a warning.
            cache_dir: the cache folder for this call.

        Raises:
            UnknownModel: when neither catalogs nor cache have a name.
            CacheError: when a damaged file cannot be quarantined.
        """
        from dataclasses import replace

        from registry.store.cache import Cache
        from registry.store.upkeep.verify import verify

        folders = self._environment.cache(cache_dir).folders
        held = [digests for name in names for digests in self._held(name, cache_dir, folders)[1]]
        own, *tiers = (
            list(verify(Cache((root,)), held if names else None, repair=repair, in_tier=number > 0))
            for number, root in enumerate(folders)
        )
        wrong = {(check.model, None if check.in_folder else check.name) for check in own if check.state != "ok" and repair}
        right = {what for what in wrong if self._fetched_again(*what, cache_dir)}
        own = [
            replace(check, state="repaired")
            if check.state != "ok" and (check.model, None if check.in_folder else check.name) in right
            else check
            for check in own
        ]
        return [*own, *(check for checks in tiers for check in checks)]

    def evict(self, name: str, *, cache_dir: PathLike | None = None) -> Pruned:
        """Remove a model from the cache: its files and the records of its URLs. Files that other models share stay.

        Args:
            name: the model's name, or its label in the cache when no catalog has it any more.
            cache_dir: the cache folder for this call.

        Raises:
            UnknownModel: when neither catalogs nor cache have the name.
        """
        from registry.store.upkeep.prune import remove

        label, digests, urls = self._held(name, cache_dir)
        return remove(self._environment.cache(cache_dir), [label], digests, urls)

    def prune(
        self,
        *,
        max_size: int | None = None,
        older_than: float | None = None,
        dry_run: bool = False,
        cache_dir: PathLike | None = None,
    ) -> Pruned:
        """Remove useless files from the cache; `registry.store.upkeep.prune.prune` says which those are.

        Args:
            max_size: bytes that may stay; the least recently used files are removed first.
            older_than: seconds; files that were not used for longer are removed.
            dry_run: only report; nothing is written.
            cache_dir: the cache folder for this call.

        Raises:
            CacheError: when the cache cannot be written.
        """
        from registry.store.upkeep.prune import prune

        return prune(self._environment.cache(cache_dir), max_size, older_than, dry_run=dry_run)

    def _held(self, name: str, cache_dir: PathLike | None, folders: Sequence[Path] = ()) -> tuple[str, set[str], set[str]]:
        """Return a model's label in the cache, digests of files it may hold of it, and URLs. Only records are read.

        `folders` are the cache folders whose records are read, by default the writable one.
        """
        from registry.store.cache import Cache
        from registry.store.upkeep.inventory import take_inventory

        labels: dict[str, set[str]] = {}
        for folder in folders or self._environment.cache(cache_dir).folders[:1]:
            for label, digests in take_inventory(Cache((folder,))).labels().items():
                labels.setdefault(label, set()).update(digests)
        try:
            request = self._environment.open(name, Access(cache_dir, offline=True, locked=False))
        except UnknownModel:
            if name in labels:
                return name, labels[name], set()
            raise
        with request:
            digests, urls = request.records()
        label = request.target.label
        return label, labels.get(label, set()) | digests, urls

    def _fetched_again(self, model: str, file: str | None, cache_dir: PathLike | None) -> bool:
        """Fetch a file of a model (None: its folder); return whether it is available now."""
        try:
            if file is None:
                return self.fetch(model, cache_dir=cache_dir).is_dir()
            with self._environment.open(model, Access(cache_dir, locked=False)) as request:
                if request.store.get(request.target.place, file) is not None:
                    return True
            why = "no source has it"
        except RegistryError as error:
            why = str(error)
        what = f"{file or 'the folder'} of {model!r}" if model else "a file of no known model"
        warn(f"{what} is damaged and was quarantined, but could not be fetched again: {why}")
        return False


def _options(
    dtype: torch.dtype | str | None,
    device: torch.device | str | None,
    strict: bool | None,
    state_dict: Mapping[str, torch.Tensor] | None,
    ignore_mismatched_sizes: bool,
    broadcast: bool,
) -> LoadOptions:
    from registry.loading.assembly import LoadOptions

    return LoadOptions(dtype, device, strict, state_dict, ignore_mismatched_sizes, broadcast)


def _parted(arguments: Mapping[str, Any], fields: Container[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split arguments into fields of a configuration and the rest."""
    known = {name: value for name, value in arguments.items() if name in fields}
    return known, {name: value for name, value in arguments.items() if name not in known}
