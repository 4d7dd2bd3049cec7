"""One operation on one name: its target, its store, and the family that reads its files."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from registry.errors import ConfigError, DownloadError, RegistryError, UnknownFamily
from registry.model_registry.remembered import Answer

if TYPE_CHECKING:
    from pathlib import Path

    from registry.checkpoint.open import Inspection
    from registry.families.family import Family
    from registry.loading.assembly import Assembly, LoadOptions
    from registry.lockfile.format import LockedModel
    from registry.model_registry.environment import Access, Environment, PathLike
    from registry.pretrained.config import PretrainedConfig
    from registry.pretrained.model import PreTrainedModel
    from registry.pretrained.tokenizer import PreTrainedTokenizer
    from registry.sharding.ranks import Ranks
    from registry.store.target import StoredFile, Target

__all__ = ["Request", "head_of_class", "retried", "shared_by_ranks"]

#: Attempts at an operation that other processes can interrupt.
_TRIES = 5

_Method = TypeVar("_Method", bound=Callable[..., Any])


def retried(method: _Method) -> _Method:
    """Retry an operation when another process prunes the cache or saves into the folder that is being read."""

    @functools.wraps(method)
    def tried(*args: Any, **kwargs: Any) -> Any:
        for _ in range(_TRIES - 1):
            try:
                return method(*args, **kwargs)
            except RegistryError as error:
                from registry.store.store import Vanished
                from registry.store.target import Replaced

                if not isinstance(error, Vanished | Replaced):
                    raise
        return method(*args, **kwargs)

    return cast(_Method, tried)


@contextlib.contextmanager
def shared_by_ranks(name: object, mesh: Any, parallel: str | None, device: Any, broadcast: bool) -> Iterator[Ranks | None]:
    """Yield the ranks that share a model, or None without a mesh. No process group is touched then."""
    if mesh is None and parallel is None and not broadcast:
        yield None
        return
    from registry.loading.sharded import checked_mesh

    checked = checked_mesh(mesh, parallel, device)
    from registry.sharding.ranks import Ranks

    with Ranks(checked, f"load {str(name)!r}") as ranks:
        yield ranks


class Request:
    """One operation: owns its target, store and family. Use it as a context manager."""

    def __init__(self, environment: Environment, target: Target, access: Access) -> None:
        self._environment = environment
        self._access = access
        #: The target of the name, before an archive is unpacked.
        self.target = target
        self.store = environment.store(access)

    def __enter__(self) -> Self:
        self.store.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.store.__exit__(kind, error, traceback)

    @cached_property
    def parts(self) -> Assembly:
        """The assembly of the target's files. An archive is downloaded and unpacked first."""
        return self._assembly(self.target)

    # -- the family ----------------------------------------------------------------------------------------------------

    def maybe_family(self, family: str | None) -> Family | None:
        """Return the family if it is known before any file is read, else None.

        Raises:
            ConfigError: when the entry names another family than `family`.
            UnknownFamily: when the family is not installed.
        """
        return self._known(self.target, family)

    def family(self, family: str | None) -> Family:
        """Return the family: the one of the entry, else of the caller, else of the configuration."""
        known = self._known(self.parts.target, family)
        return known if known is not None else self._environment.families.get(self.parts.config(None, None, {}).model_type)

    def _known(self, target: Target, family: str | None) -> Family | None:
        families, entry = self._environment.families, target.entry
        if entry is not None:
            if family not in (None, entry.family):
                raise ConfigError(
                    f"family of model {entry.name!r} is expected to be {entry.family!r}, as its entry says, "
                    f"but {family!r} was given"
                )
            try:
                return families.get(entry.family)
            except UnknownFamily as error:
                place = entry.origins["family"]
                raise UnknownFamily(f"{place}: {error.message}", family=error.family, known=error.known) from None
        if family is not None:
            return families.get(family)
        if target.folder is not None and not (target.folder / "config.json").is_file():
            # `bert_config.json`: the file name is the only hint at the family.
            for file in sorted(target.folder.glob("*_config.json")):
                if (described := families.of_config_file(file.name)) is not None:
                    return described
        return None

    def family_of_config(self, cls: type[PretrainedConfig]) -> Family | None:
        """Return the family of a configuration class, or None for a class that belongs to no family.

        Raises:
            ConfigError: when the target is an entry of another family.
        """
        return self._required(cls, self._environment.families.maybe_get(cls.model_type))

    def family_of_tokenizer(self, cls: type[PreTrainedTokenizer]) -> Family | None:
        """Return the family of a tokenizer class or of its first base class that has one; otherwise as `family_of_config`."""
        found = map(self._environment.families.find_family, (base.__name__ for base in cls.__mro__))
        return self._required(cls, next((family for family in found if family is not None), None))

    def _required(self, cls: type, described: Family | None) -> Family | None:
        entry = self.target.entry
        if entry is not None and self._environment.families.get(entry.family) != described:
            raise ConfigError(
                f"family of model {entry.name!r} is expected to be that of {cls.__name__}, but is {entry.family!r}; "
                "use registry.load, or a class of that family"
            )
        return described

    # -- what is built -------------------------------------------------------------------------------------------------

    def config(self, cls: type[PretrainedConfig] | None, family: str | None, overrides: Mapping[str, Any]) -> PretrainedConfig:
        """Return the configuration, as the given class or the family's class."""
        described = self.family_of_config(cls) if cls is not None else self._known(self.parts.target, family)
        return self.parts.config(described, None, overrides, cls, is_config=True)

    def model(
        self,
        cls: type[PreTrainedModel] | None,
        options: LoadOptions,
        *,
        family: str | None = None,
        head: str | None = None,
        config: PretrainedConfig | PathLike | None = None,
        overrides: Mapping[str, Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the model, of the given class or of the family's class for the head, and notify plugins.

        Args:
            cls: the class; None for the class of `head`, else of the entry's, the configuration's or the default head.
            options: how weights are loaded.
            family: the family, when neither entry nor configuration names it.
            head: the head to load when `cls` is None.
            config: a configuration, or a name, path or URL to load one from, instead of the model's own.
            overrides: fields of the configuration.
            args: further arguments of the class, after the configuration.
            kwargs: further keyword arguments of the class.
        """
        families = self._environment.families
        described = self.family_of_config(cls.config_class) if cls is not None else self.maybe_family(family)
        if head is not None and described is not None:
            described.head_path(head)  # an unknown one is refused before files are downloaded
        parts = self.parts
        if cls is None and described is None:
            described = self._known(parts.target, family)
        config_class = cls.config_class if cls is not None else None
        loaded = parts.config(described, self._given(config, described, config_class), overrides, config_class)
        if cls is None:
            described = described or families.get(loaded.model_type)
            entry = self.target.entry
            chosen = head or (entry.head if entry else head_in(loaded, described)) or described.default_head
            cls = cast("type[PreTrainedModel]", described.load_class(described.head_path(chosen)))
        model = parts.model(cls, args, kwargs or {}, described, loaded, options)
        self._environment.hooks.tell("registry_loaded", model=self.target.label, instance=model)
        return model

    def tokenizer(
        self, cls: type[PreTrainedTokenizer] | None, family: str | None, inputs: Sequence[Any], settings: Mapping[str, Any]
    ) -> Any:
        """Return the tokenizer, of the given class or the family's; `inputs` and `settings` are arguments of the class.

        Raises:
            ConfigError: when the family has no tokenizer.
        """
        if cls is not None:
            described = self.family_of_tokenizer(cls)
            return self.parts.tokenizer(cls, described.files if described else cls.vocabulary_files(), inputs, settings)
        described = self.family(family)
        if described.tokenizer is None:
            raise ConfigError(f"family {described.name!r} is expected to have a tokenizer, but has none")
        return self._tokenizer(described, described.tokenizer, inputs, settings)

    def maybe_tokenizer(self, described: Family, settings: Mapping[str, Any]) -> PreTrainedTokenizer | None:
        """Return the tokenizer, or None when the family has no tokenizer or the vocabulary is missing."""
        if described.tokenizer is None:
            return None
        try:
            return self._tokenizer(described, described.tokenizer, (), settings)
        except DownloadError as error:
            if error.status != 404:  # many folders contain only weights
                raise
            return None

    def _tokenizer(
        self, described: Family, path: str, inputs: Sequence[Any], settings: Mapping[str, Any]
    ) -> PreTrainedTokenizer:
        cls: type[PreTrainedTokenizer] = described.load_class(path)
        tokenizer: PreTrainedTokenizer = self.parts.tokenizer(cls, described.files, inputs, settings)
        return tokenizer

    # -- files ---------------------------------------------------------------------------------------------------------

    def fetch(self, family: str | None, jobs: int | None) -> Answer:
        """Return a folder with all files of the model. Missing files are downloaded."""
        files = self.parts.all_files(self.family(family), jobs)
        folder = self.store.folder(self.target.label, files, alone=bool(self.target.place.lock))
        return Answer(self.target.label, folder, tuple((file.name, folder / file.name) for file in files))

    def file(self, name: str) -> Path:
        """Return one file.

        Raises:
            DownloadError: when the source has no such file, or when the entry names other files for its role.
        """
        entry = self.target.entry
        described = self._environment.families.maybe_get(entry.family) if entry is not None else None
        if described is not None:
            self.parts.require_counting(name, described)
        return self.parts.need((name,), "file").path

    def inspect(self, family: str | None) -> Inspection:
        """List the tensors of the weights, without reading values."""
        return self.parts.inspect(self._known(self.parts.target, family))

    def cached_files(self) -> dict[str, StoredFile]:
        """Return the files that are on this machine, by name; for an archive that was not unpacked yet, the archive itself."""
        found: dict[str, StoredFile | None] = {}
        here: Target | None = self.target
        if self.target.archive is not None:
            from registry.checkpoint.archives.unpacked import maybe_unpacked

            found[self.target.archive] = self.store.is_cached(self.target.place, self.target.archive)
            here = maybe_unpacked(self.target, self.store)
        if here is not None:
            from registry.families.roles import side_files

            names = (self._known(here, None) or self.family(None)).files
            pins = here.place.pins
            counting = [[name for name in listed if name in pins] or listed for listed in names.values()]
            wanted = dict.fromkeys([*pins, *(name for listed in counting for name in listed), *side_files(here.listed, names)])
            found |= {name: self.store.is_cached(here.place, name) for name in wanted}
        return {name: file for name, file in found.items() if file is not None}

    def records(self) -> tuple[set[str], set[str]]:
        """Return the digests of the files that the model may have, and the URLs that may have records."""
        from registry.families.family import DEFAULT_FILES
        from registry.pretrained.tokenizer import TOKENIZER_FILES

        described = None
        with contextlib.suppress(RegistryError):  # files of an uninstalled family can be removed, too
            described = self.maybe_family(None)
        listed = (described.files if described else DEFAULT_FILES).values()
        place = self.target.place
        files = {*place.pins, *(file for names in listed for file in names), *TOKENIZER_FILES}
        files.update(filter(None, [self.target.archive]))
        digests = {self.store.known_sha256(place, file) for file in files}
        return {digest for digest in digests if digest}, self.store.addresses(place, files)

    def locked(self, path: Path, jobs: int | None) -> LockedModel:
        """Download the model; return what a lock file at `path` records of it."""
        from registry.lockfile.update import locked_facts

        target, store = self.target, self.store
        described = self.family(None)
        files = self.parts.all_files(described, jobs)
        if self.parts.target.place is not target.place:  # the lock file lists an archive, not its members
            files = [file for file in (store.get(target.place, target.archive or ""),) if file is not None]
        return locked_facts(target, files, store, path, self._environment.locking.plugin(described.name))

    # ------------------------------------------------------------------------------------------------------------------

    def _given(
        self, config: PretrainedConfig | PathLike | None, described: Family | None, cls: type[PretrainedConfig] | None
    ) -> PretrainedConfig | None:
        """Return the configuration that the caller gave, loaded first if it is a name, path or URL."""
        if config is None or not isinstance(config, str | os.PathLike):
            return config
        target = self._environment.locate(config, self._access.locked)
        return self._assembly(target).config(described, None, {}, cls, is_config=True)

    def _assembly(self, target: Target) -> Assembly:
        from registry.loading.assembly import Assembly  # not needed to resolve or to list names

        if target.archive is not None:
            from registry.checkpoint.archives.unpacked import unpacked

            target = unpacked(target, self.store)
        return Assembly(target, self.store, self._environment.families)


def head_of_class(name: str, family: Family) -> str | None:
    """Return the head whose class has this name, or None."""
    return next((head for head, path in family.heads.items() if path.partition(":")[2] == name), None)


def head_in(config: PretrainedConfig, family: Family) -> str | None:
    """Return the head of the class that the configuration names in `architectures`, or None."""
    heads = (head_of_class(name, family) for name in config.architectures or ())
    return next((head for head in heads if head), None)
