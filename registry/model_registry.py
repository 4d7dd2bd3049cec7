"""The registry: joins catalog, store, checkpoint reader and families, in that order. Nothing else does."""

from __future__ import annotations

import contextlib
import functools
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from registry.catalog.entry import ModelEntry
from registry.catalog.index import Catalog
from registry.catalog.layers import CatalogSource, LayerKind, file_source, outer_sources, signature
from registry.catalog.names import user_path
from registry.catalog.packing import FOLDER as CATALOGS
from registry.errors import (
    CatalogError,
    CheckpointError,
    ConfigError,
    DownloadError,
    RegistryError,
    RegistryWarning,
    UnknownFamily,
    UnknownModel,
)
from registry.families.family import DEFAULT_FILES, Family
from registry.families.hooks import PluginHooks
from registry.families.host import PluginHost
from registry.families.locks import ForkSafeLock
from registry.families.moved import where_a_model_is
from registry.families.transports import TransportPlugins
from registry.locking import Locking
from registry.store.cache import Cache
from registry.store.events import Observer
from registry.store.paths import cache_folders
from registry.store.place import Place, Replaced, StoredFile, is_offline
from registry.store.progress import default_observers
from registry.store.source import is_url, redact
from registry.store.store import Store, Vanished
from registry.store.target import Target, entry_target, maybe_path_target, url_target

if TYPE_CHECKING:
    import torch

    from registry.catalog.lock_file import LockedModel
    from registry.checkpoint.inspection import Inspection
    from registry.lock_update import LockResult
    from registry.pretrained.assembly import Assembly
    from registry.pretrained.config import PretrainedConfig
    from registry.pretrained.model import PreTrainedModel
    from registry.pretrained.survey import Survey
    from registry.pretrained.tokenizer import PreTrainedTokenizer
    from registry.store.check import FileCheck
    from registry.store.contents import CacheContents
    from registry.store.upkeep import Pruned

__all__ = ["ModelRegistry", "default_registry", "fetch", "list_models", "load", "load_config", "load_tokenizer", "resolve"]

PathLike = str | os.PathLike[str]

#: How often something is tried that other processes can spoil.
_TRIES = 5

_Method = TypeVar("_Method", bound=Callable[..., Any])


def _survives_pruning(method: _Method) -> _Method:
    """Do an operation anew when another process prunes the cache below it, or saves into the folder that it reads."""

    @functools.wraps(method)
    def tried(*args: Any, **kwargs: Any) -> Any:
        for _ in range(_TRIES - 1):
            try:
                return method(*args, **kwargs)
            except (Vanished, Replaced):
                continue
        return method(*args, **kwargs)

    return cast(_Method, tried)


_RESERVED = ("mesh", "parallel", "broadcast")


class ModelRegistry:
    """Names to models. The module functions of `registry` use one default object of this class.

    It is safe to use from several threads, and pickles: an unpickled one knows the same catalogs wherever it runs.
    """

    def __init__(
        self,
        catalogs: Sequence[PathLike] = (),
        cache_dir: PathLike | None = None,
        plugins: PluginHost | None = None,
        observers: Sequence[Observer] = (),
        lock_file: PathLike | None = None,
    ) -> None:
        """Set up; catalogs and plugins are read when they are first needed.

        Args:
            catalogs: models.yaml files (or folders with one) above every other layer, the last one highest.
            cache_dir: the cache folder; by default the environment decides at each use.
            plugins: where families come from; by default the installed packages.
            observers: who is told what happens to each file (`registry.Observer`). They do not pickle with the registry.
            lock_file: what `locked=` holds names to; by default the environment decides at each use (`REGISTRY_LOCK_FILE`,
                else `models.lock` beside the project's `models.yaml`).
        """
        self._catalogs = tuple(user_path(path).absolute() for path in catalogs)
        for path in self._catalogs:
            if not path.exists():
                raise CatalogError("the catalog is expected to exist, but does not", file=str(path))
        self._cache_dir = user_path(cache_dir).absolute() if cache_dir else None
        #: The families of this environment.
        self.families = PluginHost() if plugins is None else plugins
        self._observers = tuple(observers)
        self._hooks = PluginHooks()
        self._transports = TransportPlugins()
        self._frozen: tuple[tuple[LayerKind, str], ...] | None = None
        self._lock = ForkSafeLock()
        self._locking = Locking(self.families, user_path(lock_file).absolute() if lock_file else None)
        self._catalog: tuple[object, Catalog] | None = None

    def __getstate__(self) -> dict[str, Any]:
        outer = [(source.kind, source.path) for source in self._outer_sources()]
        state = {"catalogs": self._catalogs, "cache_dir": self._cache_dir, "frozen": tuple(outer)}
        return {**state, "lock": self._locking.maybe_path(), "registered": self.families.registered()}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__init__(state["catalogs"], state["cache_dir"])  # type: ignore[misc]  # families are found anew in every process
        self._frozen = state["frozen"]
        self._locking.freeze(state["lock"])
        for family in state["registered"]:
            self.families.register(family)

    # -- names ---------------------------------------------------------------------------------------------------------

    @property
    def catalog(self) -> Catalog:
        """The merged catalog; read again when one of its files has changed."""
        with self._lock:
            now = signature(sources := self.catalog_sources())
            if self._catalog is None or self._catalog[0] != now:
                self._catalog = now, Catalog(sources, self._cache(None).root / CATALOGS)
            return self._catalog[1]

    def resolve(self, name: str) -> ModelEntry:
        """Return what a name means: no network, no torch, no plugin's code.

        Raises:
            UnknownModel: when no catalog has the name; the error names close ones.
            CatalogError: when its entry is broken.
        """
        if (entry := self.catalog.maybe_resolve(name)) is None:
            raise self._unknown(name)
        return entry

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

    def catalog_sources(self) -> list[CatalogSource]:
        """Return the catalog files that there are, lowest layer first; they are only located, not read."""
        return [*self.families.catalog_sources(), *self._outer_sources()]

    def _outer_sources(self) -> list[CatalogSource]:
        """Locate the layers above the families', lowest first."""
        if self._frozen is not None:
            return [file_source(kind, path) for kind, path in self._frozen]
        return outer_sources(self._catalogs)

    # -- files ---------------------------------------------------------------------------------------------------------

    @_survives_pruning
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
        """Return a folder that holds a model's files under their conventional names, verified.

        Safe to call from every rank of a job: one process of a machine downloads, the others wait and use the same files.

        Args:
            name_or_path: a name, folder, file, URL or source.
            family: the family, where neither entry nor configuration tells.
            cache_dir: the cache folder for this call.
            offline: whether to use only what is here; by default the environment decides.
            refresh: ask anew for what was found before.
            jobs: how many files to bring at once; by default 4.
            locked: as in `load`.
        """
        target = self._locate(name_or_path, locked)
        with self._store(cache_dir, offline, refresh) as store:
            parts = self._parts(target, store)
            files = parts.all_files(self._family_of_parts(parts, family), jobs)
            folder = store.folder(target.label, files, alone=bool(target.place.lock))
        self._hooks.tell("registry_fetched", model=target.label, files={file.name: folder / file.name for file in files})
        return folder

    @_survives_pruning
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
        target = self._locate(name_or_path, None)
        with self._store(cache_dir, offline, False) as store:
            return self._parts(target, store).need((file,), "file").path

    @_survives_pruning
    def inspect(
        self,
        name_or_path: PathLike,
        *,
        family: str | None = None,
        cache_dir: PathLike | None = None,
        offline: bool | None = None,
    ) -> Inspection:
        """Return what a model's weights are, by their own names; values are not read. Arguments as in `fetch`.

        Raises:
            CheckpointError: when they are damaged; what would be refused as unsafe is described.
        """
        target = self._locate(name_or_path, None)
        with self._store(cache_dir, offline, False) as store:
            parts = self._parts(target, store)
            return parts.inspect(self._family_of(parts.target, family))

    @_survives_pruning
    def survey(
        self,
        source: str,
        *,
        family: str | None = None,
        pin: bool = False,
        cache_dir: PathLike | None = None,
        offline: bool | None = None,
    ) -> Survey:
        """Return what a folder or archive that has no name yet holds: family, head, files with their sizes and hashes.

        Large files are not fetched, unless `pin` is set and their place does not tell their hash. Other arguments as in
        `fetch`; raises what `registry.pretrained.survey.survey` does.
        """
        from registry.checkpoint.unpacked import find_archive
        from registry.pretrained.survey import survey
        from registry.store.inquiry import Inquiry

        target = find_archive(entry_target(ModelEntry(name=redact(source), family=family or "", source=source)))
        inquiry = Inquiry(lambda: self.catalog.hosts, offline=is_offline(offline), transports=self._transports.maybe_make)
        with inquiry, self._store(cache_dir, offline, refresh=True) as store:
            return survey(replace(target, entry=None), store, inquiry, self.families, family, pin=pin)

    def cached_files(self, name_or_path: PathLike, *, cache_dir: PathLike | None = None) -> dict[str, StoredFile]:
        """Return those files of a model that are on this machine, by name; never touches the network.

        Of an archive that was not unpacked yet it is the archive.
        """
        from registry.checkpoint.unpacked import maybe_unpacked

        target = self._locate(name_or_path)
        with self._store(cache_dir, True, False) as store:
            found = {}
            if target.archive is not None:
                found[target.archive] = store.is_cached(target.place, target.archive)
            if (here := maybe_unpacked(target, store)) is not None:
                names = self._family_of_parts(self._parts(here, store), None).files
                wanted = dict.fromkeys((*here.place.pins, *(name for listed in names.values() for name in listed)))
                found |= {name: store.is_cached(here.place, name) for name in wanted}
            return {name: file for name, file in found.items() if file is not None}

    # -- the cache -----------------------------------------------------------------------------------------------------

    def cached_models(self, cache_dir: PathLike | None = None) -> list[CacheContents]:
        """Return what each folder of the cache holds: first the one that is written, then the read-only tiers."""
        from registry.store.contents import contents

        return [contents(Cache((root,))) for root in self._cache(cache_dir).folders]

    def verify(self, names: Sequence[str] = (), *, repair: bool = False, cache_dir: PathLike | None = None) -> list[FileCheck]:
        """Hash files of the cache anew, and return what each was found to be.

        Args:
            names: of the models to look at; by default everything in the cache.
            repair: put away what is damaged, and fetch those models anew that have a name; the environment decides
                whether the network may be used. What cannot be fetched is warned of.
            cache_dir: the cache folder for this call.

        Raises:
            UnknownModel: when neither catalogs nor cache have a name.
            CacheError: when damage cannot be put away.
        """
        from registry.store.check import verify

        held = [digests for name in names for digests in self._held(name, cache_dir)[1]]
        checks = list(verify(self._cache(cache_dir), held if names else None, repair=repair))
        wrong = {(check.model, None if check.in_folder else check.name) for check in checks if check.state != "ok" and repair}
        right = {what for what in wrong if self._fetched_anew(*what, cache_dir)}
        return [
            replace(check, state="repaired")
            if check.state != "ok" and (check.model, None if check.in_folder else check.name) in right
            else check
            for check in checks
        ]

    def evict(self, name: str, *, cache_dir: PathLike | None = None) -> Pruned:
        """Remove a model from the cache: its files, and what its URLs were trusted for. What other models share stays.

        Args:
            name: of the model, or what the cache calls it when no catalog has it any more.
            cache_dir: the cache folder for this call.

        Raises:
            UnknownModel: when neither catalogs nor cache have the name.
        """
        from registry.store.upkeep import remove

        label, digests, urls = self._held(name, cache_dir)
        return remove(self._cache(cache_dir), [label], digests, urls)

    def prune(
        self,
        *,
        max_size: int | None = None,
        older_than: float | None = None,
        dry_run: bool = False,
        cache_dir: PathLike | None = None,
    ) -> Pruned:
        """Remove what is of no use from the cache; see `registry.store.upkeep.prune` for what that is.

        Args:
            max_size: bytes that may stay; the least recently used goes first.
            older_than: seconds; what was not used for longer goes.
            dry_run: only report; nothing is written.
            cache_dir: the cache folder for this call.

        Raises:
            CacheError: when the cache cannot be written.
        """
        from registry.store.upkeep import prune

        return prune(self._cache(cache_dir), max_size, older_than, dry_run=dry_run)

    def _held(self, name: str, cache_dir: PathLike | None) -> tuple[str, set[str], set[str]]:
        """Return what the cache calls a model, digests of what it may hold of it, and URLs; only records are read."""
        from registry.pretrained.tokenizer import TOKENIZER_FILES
        from registry.store.inventory import take_inventory

        labels = take_inventory(self._cache(cache_dir)).labels()
        try:
            target = self._locate(name)
        except UnknownModel:
            if name in labels:
                return name, labels[name], set()
            raise
        described = None
        with contextlib.suppress(RegistryError):  # the files of a family that is not there any more can be removed, too
            described = self._family_of(target, None)
        listed = (described.files if described else DEFAULT_FILES).values()
        files = {*target.place.pins, *(file for names in listed for file in names), *TOKENIZER_FILES}
        files.update(filter(None, [target.archive]))
        with self._store(cache_dir, True, False) as store:
            known = {store.known_sha256(target.place, file) for file in files}
            urls = store.addresses(target.place, files)
        return target.label, labels.get(target.label, set()) | {digest for digest in known if digest}, urls

    def _fetched_anew(self, model: str, file: str | None, cache_dir: PathLike | None) -> bool:
        """Fetch a file of a model, or None for its folder; return whether it is here now."""
        try:
            if file is None:
                return self.fetch(model, cache_dir=cache_dir).is_dir()
            target = self._locate(model)
            with self._store(cache_dir, None, False) as store:
                if store.get(target.place, file) is not None:
                    return True
            why = "no source has it"
        except RegistryError as error:
            why = str(error)
        what = f"{file or 'the folder'} of {model!r}" if model else "a file of no known model"
        warnings.warn(f"{what} was put away and cannot be fetched anew: {why}", RegistryWarning, stacklevel=3)
        return False

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
        """Fetch models as they are at their sources now, and write `models.lock`, which says what they are.

        Args:
            names: of the models; the others stay as they are locked. By default all that the project's catalogs name, and
                all that is locked already; what no catalog has any more is taken out.
            file: the lock file; by default this registry's.
            check: write nothing; the result says what is not as locked.
            cache_dir: the cache folder for this call.
            offline: whether to use only what is here; by default the environment decides.
            jobs: how many files to bring at once; by default 4.

        Raises:
            CatalogError: when the lock file is damaged or cannot be written; otherwise as `fetch`. Nothing is written then.
        """
        from registry.lock_update import update_lock

        path = user_path(file).absolute() if file else self._locking.path()
        guard = self._cache(cache_dir).root / "locks" / f"{sha256(str(path).encode()).hexdigest()}.lock"
        resolve = self.resolve if names else self._resolve_enabled
        facts = functools.partial(self._locked_facts, cache_dir=cache_dir, offline=offline, jobs=jobs)
        return update_lock(names, path, self._outer_sources(), resolve, facts, guard, check=check)

    def _resolve_enabled(self, name: str) -> ModelEntry | None:
        """Return what a name means, or None for one that no catalog has, or that is disabled."""
        try:
            return self.maybe_resolve(name)
        except CatalogError:
            if name in self.catalog.broken:
                raise
            return None

    @_survives_pruning
    def _locked_facts(
        self, name: str, path: Path, *, cache_dir: PathLike | None, offline: bool | None, jobs: int | None
    ) -> LockedModel:
        """Fetch a model and return what a lock file at `path` says of it."""
        from registry.lock_update import locked_facts

        target = self._locate(name)
        with self._store(cache_dir, offline, not is_offline(offline)) as store:
            parts = self._parts(target, store)
            described = self._family_of_parts(parts, None)
            files = parts.all_files(described, jobs)
            if parts.target.place is not target.place:  # of an archive the archive itself is locked
                files = [file for file in (store.get(target.place, target.archive or ""),) if file is not None]
            return locked_facts(target, files, store, path, self._locking.plugin(described.name))

    # -- models --------------------------------------------------------------------------------------------------------

    @_survives_pruning
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
        locked: bool | str | None = None,
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
            locked: whether only the bytes that `models.lock` says are used, whatever the source has now; `"exact"` refuses
                other versions of plugin and library too. By default the environment (`REGISTRY_LOCKED`) decides.
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
        target = self._locate(name_or_path, locked)
        described = self._family_of(target, family)
        if head is not None and described is not None:
            described.head_path(head)
        with self._store(cache_dir, offline, False) as store:
            parts = self._parts(target, store)
            described = described or self._family_of(parts.target, family)
            loaded = parts.config(described, self._given(config, described, store, locked=locked), overrides)
            described = described or self.families.get(loaded.model_type)
            chosen = head or (target.entry.head if target.entry else _head_of(loaded, described)) or described.default_head
            cls = described.load_class(described.head_path(chosen))
            model: PreTrainedModel = parts.model(
                cls,
                (),
                {},
                described,
                loaded,
                state_dict=state_dict,
                from_tf=False,
                strict=strict,
                dtype=dtype,
                device=device,
                ignore_mismatched_sizes=ignore_mismatched_sizes,
            )
        self._hooks.tell("registry_loaded", model=target.label, instance=model)
        return model

    @_survives_pruning
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
        """Write a model, from whatever form, as a folder that this program and transformers open; return the model.

        The tokenizer is written, too, where the vocabulary is there.

        Args:
            name_or_path: what to convert, as in `load`.
            save_directory: the folder to write.
            head: by default what the configuration names, else the one that leaves the fewest weights over.
            family: the family, where neither entry nor configuration tells.
            dtype: of floating point weights; None keeps the source's.
            max_shard_size: in bytes or as `"5GB"`; larger models are written in shards.
            tokenizer_settings: arguments of the tokenizer's class, such as `do_lower_case`.
            cache_dir: the cache folder for this call.
            offline: whether to use only what is here.
            locked: as in `load`.
            overrides: fields of the configuration.

        Raises:
            what `load` raises, and CheckpointError where weights would be lost: nothing is written then.
        """
        from registry.checkpoint.writer import staged_folder

        _refuse_reserved(overrides)
        target, folder = self._locate(name_or_path, locked), user_path(save_directory)
        with self._store(cache_dir, offline, False) as store:
            parts = self._parts(target, store)
            described = self._family_of_parts(parts, family)
            loaded = parts.config(described, None, overrides)
            chosen = head or _head_of(loaded, described) or parts.best_head(described, loaded)
            cls = described.load_class(described.head_path(chosen))
            model: PreTrainedModel = parts.model(cls, (), {}, described, loaded, dtype=dtype)
            tokenizer: PreTrainedTokenizer | None = None
            if described.tokenizer is not None:
                try:
                    tokenizer_class = described.load_class(described.tokenizer)
                    tokenizer = parts.tokenizer(tokenizer_class, described.files, (), tokenizer_settings or {})
                except DownloadError as error:
                    if error.status != 404:  # weights alone are often all that is kept
                        raise
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

    @_survives_pruning
    def load_config(
        self,
        name_or_path: PathLike,
        *,
        family: str | None = None,
        cache_dir: PathLike | None = None,
        offline: bool | None = None,
        locked: bool | str | None = None,
        **overrides: Any,
    ) -> PretrainedConfig:
        """Load a model's configuration; arguments as in `load`."""
        target = self._locate(name_or_path, locked)
        with self._store(cache_dir, offline, False) as store:
            parts = self._parts(target, store)
            return parts.config(self._family_of(parts.target, family), None, overrides, is_config=True)

    @_survives_pruning
    def load_tokenizer(
        self,
        name_or_path: PathLike,
        *,
        family: str | None = None,
        cache_dir: PathLike | None = None,
        offline: bool | None = None,
        locked: bool | str | None = None,
        **settings: Any,
    ) -> PreTrainedTokenizer:
        """Load a model's tokenizer; `settings` are arguments of its class, the other arguments as in `load`.

        Raises:
            ConfigError: when the family has no tokenizer, or the vocabulary is broken; otherwise as `load`.
        """
        target = self._locate(name_or_path, locked)
        with self._store(cache_dir, offline, False) as store:
            parts = self._parts(target, store)
            described = self._family_of(parts.target, family)
            if described is None:
                described = self.families.get(parts.config(None, None, {}).model_type)
            if described.tokenizer is None:
                raise ConfigError(f"family {described.name!r} is expected to have a tokenizer, but has none")
            cls = described.load_class(described.tokenizer)
            tokenizer: PreTrainedTokenizer = parts.tokenizer(cls, described.files, (), settings)
            return tokenizer

    # -- classes: the road of `from_pretrained` --------------------------------------------------------------------------

    @_survives_pruning
    def config_of(
        self,
        cls: type[PretrainedConfig],
        name_or_path: PathLike,
        *,
        cache_dir: PathLike | None = None,
        force_download: bool = False,
        proxies: Mapping[str, str] | None = None,
        offline: bool | None = None,
        locked: bool | str | None = None,
        return_unused_kwargs: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Load a configuration of a given class, as its `from_pretrained` says."""
        target = self._locate(name_or_path, locked)
        described = self._family_of_class(cls, target)
        known = cls.field_names()
        overrides = {name: value for name, value in kwargs.items() if name in known}
        unused = {name: value for name, value in kwargs.items() if name not in known}
        if unused and not return_unused_kwargs:
            cls.check_names(unused)
        with self._store(cache_dir, offline, force_download, proxies) as store:
            loaded = self._parts(target, store).config(described, None, overrides, cls, is_config=True)
        return (loaded, unused) if return_unused_kwargs else loaded

    @_survives_pruning
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
        locked: bool | str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load a model of a given class, as its `from_pretrained` says."""
        if name_or_path is None:
            if state_dict is None or config is None:
                raise ConfigError("without a name, both config and state_dict are expected")
            target = Target("state_dict", Place(()))
        else:
            target = self._locate(name_or_path, locked)
        described = self._family_of_class(cls.config_class, target)
        dtype = kwargs.pop("torch_dtype", None) if dtype is None else dtype
        known = cls.config_class.field_names()
        overrides = {name: value for name, value in kwargs.items() if name in known}
        rest = {name: value for name, value in kwargs.items() if name not in known}
        with self._store(cache_dir, offline, force_download, proxies) as store:
            parts = self._parts(target, store)
            given = self._given(config, described, store, cls.config_class, locked=locked)
            loaded = parts.config(described, given, overrides, cls.config_class)
            model = parts.model(
                cls,
                model_args,
                rest,
                described,
                loaded,
                state_dict=state_dict,
                from_tf=from_tf,
                strict=strict,
                dtype=dtype,
                device=device,
                ignore_mismatched_sizes=ignore_mismatched_sizes,
            )
        self._hooks.tell("registry_loaded", model=target.label, instance=model)
        return (model, model.load_report) if output_loading_info else model

    @_survives_pruning
    def tokenizer_of(
        self,
        cls: type[PreTrainedTokenizer],
        name_or_path: PathLike,
        *init_inputs: Any,
        cache_dir: PathLike | None = None,
        force_download: bool = False,
        proxies: Mapping[str, str] | None = None,
        offline: bool | None = None,
        locked: bool | str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load a tokenizer of a given class, as its `from_pretrained` says."""
        target = self._locate(name_or_path, locked)
        ancestors = (self.families.find_family(base.__name__) for base in cls.__mro__)
        described = next((family for family in ancestors if family is not None), None)
        self._require_family(target, described, cls)
        files: Mapping[str, Sequence[str]] = described.files if described else cls.vocabulary_files()
        with self._store(cache_dir, offline, force_download, proxies) as store:
            return self._parts(target, store).tokenizer(cls, files, init_inputs, kwargs)

    # ------------------------------------------------------------------------------------------------------------------

    def _cache(self, cache_dir: PathLike | None) -> Cache:
        return Cache(cache_folders(cache_dir or self._cache_dir))

    def _store(
        self, cache_dir: PathLike | None, offline: bool | None, refresh: bool, proxies: Mapping[str, str] | None = None
    ) -> Store:
        return Store(
            self._cache(cache_dir),
            offline=is_offline(offline),
            hosts=lambda: self.catalog.hosts,
            refresh=refresh,
            proxies=proxies,
            observers=(*default_observers(), *self._observers),
            transports=self._transports.maybe_make,
            verifiers=self._hooks.verifiers(),
        )

    def _parts(self, target: Target, store: Store) -> Assembly:
        """Return what can be put together from a target; an archive is fetched and unpacked first."""
        from registry.checkpoint.unpacked import unpacked  # not needed to resolve or to list names
        from registry.pretrained.assembly import Assembly

        return Assembly(unpacked(target, store), store, self.families)

    def _locate(self, name_or_path: PathLike, locked: bool | str | None = False) -> Target:
        """Tell a name from a path from a URL. A word is a name first; `./word` is always a path.

        With `locked` as in `load`, whose None asks the environment, the target is held to the lock file.
        """
        if not isinstance(name_or_path, str | os.PathLike) or not (text := str(os.fspath(name_or_path))):
            raise ConfigError(f"a model is expected to be a name, path or URL, but is {name_or_path!r}")
        target = self._meant(text, is_path=not isinstance(name_or_path, str))
        if target.file is not None:
            from registry.checkpoint.unpacked import find_archive

            target = find_archive(target)
        if target.folder is not None:
            from registry.checkpoint.writer import refuse_unfinished

            refuse_unfinished(target.folder)
        return self._locking.hold(target, locked)

    def _meant(self, text: str, *, is_path: bool) -> Target:
        if is_url(text):
            return url_target(text)
        is_word = not is_path and not text.startswith((".", "/", "~", os.sep))
        entry = self.maybe_resolve(text) if is_word else None
        there = maybe_path_target(user_path(text), text)
        if entry is not None:
            if there is not None:
                warnings.warn(
                    f"{text!r} is both a model's name and a path; the name is used, write './{text}' for the path",
                    RegistryWarning,
                    stacklevel=5,
                )
            return entry_target(entry)
        if there is not None:
            return there
        raise self._unknown(text)

    def _unknown(self, name: str) -> UnknownModel:
        return where_a_model_is(self.catalog.unknown(name), self.families.names())

    def _given(
        self,
        config: PretrainedConfig | PathLike | None,
        described: Family | None,
        store: Store,
        cls: type[PretrainedConfig] | None = None,
        *,
        locked: bool | str | None = None,
    ) -> PretrainedConfig | None:
        """Return the configuration that a caller gives, read from where it lies when it is not an object."""
        if config is None or not isinstance(config, str | os.PathLike):
            return config
        return self._parts(self._locate(config, locked), store).config(described, None, {}, cls, is_config=True)

    def _family_of(self, target: Target, family: str | None) -> Family | None:
        """Return the family where it is known before any file is read."""
        if target.entry is not None:
            if family not in (None, target.entry.family):
                raise ConfigError(
                    f"family of model {target.entry.name!r} is expected to be {target.entry.family!r}, as its entry says, "
                    f"but {family!r} was given"
                )
            try:
                return self.families.get(target.entry.family)
            except UnknownFamily as error:
                place = target.entry.origins["family"]
                raise UnknownFamily(f"{place}: {error.message}", family=error.family, known=error.known) from None
        if family is not None:
            return self.families.get(family)
        if target.folder is not None and not (target.folder / "config.json").is_file():
            # `bert_config.json`: the name of the file tells the family where nothing else does.
            for file in sorted(target.folder.glob("*_config.json")):
                described = self.families.of_config_file(file.name)
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

    def _family_of_parts(self, parts: Assembly, family: str | None) -> Family:
        """Return the family, as the configuration says where nothing else does."""
        described = self._family_of(parts.target, family)
        return described if described is not None else self.families.get(parts.config(None, None, {}).model_type)


def _head_of(config: PretrainedConfig, family: Family) -> str | None:
    """Return the head whose class the configuration says its weights are of."""
    heads = (_head_of_class(name, family) for name in config.architectures or ())
    return next((head for head in heads if head), None)


def _head_of_class(name: str, family: Family) -> str | None:
    return next((head for head, path in family.heads.items() if path.partition(":")[2] == name), None)


def _refuse_reserved(overrides: dict[str, Any]) -> None:
    for name in _RESERVED:
        if overrides.pop(name, None):
            raise ConfigError(f"argument {name!r} is reserved and has no meaning in this version; leave it out")


# -- the default registry ------------------------------------------------------------------------------------------------

_default_lock = ForkSafeLock()
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
