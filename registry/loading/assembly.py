"""Build configuration, model and tokenizer from the files of one place."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from registry.base.urls import redact
from registry.checkpoint.name_table import Renamed
from registry.checkpoint.numpy_pieces import SHAPES_NAME
from registry.checkpoint.save import refuse_unfinished
from registry.checkpoint.tensors import StateDict
from registry.errors import CheckpointError, ConfigError, DownloadError, RegistryError, UnknownFamily
from registry.families.family import DEFAULT_FILES, Family
from registry.families.host import PluginHost
from registry.families.roles import CONFIG, TOKENIZER, WEIGHTS, as_written, named_roles, role_of, side_files
from registry.loading.weights_files import (
    ASKED_FOR,
    Wanted,
    find_weights,
    inspect_weights,
    names_config,
    names_weights,
    open_weights,
    require_foreign,
    require_whole,
    unread_file,
    unread_weights,
)
from registry.store.store import Store
from registry.store.target import Replaced, StoredFile, Target

if TYPE_CHECKING:
    import torch

    from registry.checkpoint.open import Inspection
    from registry.checkpoint.tensors import Checkpoint
    from registry.loading.sharded import ModelShards
    from registry.pretrained.config import PretrainedConfig
    from registry.pretrained.model import PreTrainedModel
    from registry.sharding.ranks import Ranks

__all__ = ["Assembly", "LoadOptions", "build"]


class LoadOptions(NamedTuple):
    """How a model's weights are loaded; see `ModelRegistry.load`."""

    dtype: torch.dtype | str | None = None
    device: torch.device | str | None = None
    strict: bool | None = None
    state_dict: Mapping[str, torch.Tensor] | None = None
    ignore_mismatched_sizes: bool = False
    broadcast: bool = False
    #: The weights must be of TensorFlow or another program.
    from_tf: bool = False
    #: The ranks that share the model.
    ranks: Ranks | None = None

    def check(self) -> None:
        """Raise ConfigError when there is no such dtype or device."""
        _torch_dtype(self.dtype), _torch_device(self.device)


def build(
    cls: type[PreTrainedModel],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    config: PretrainedConfig,
    checkpoint: Checkpoint,
    source: str,
    options: LoadOptions,
    identity: str = "",
) -> Any:
    """Build a model on the meta device and fill it, in evaluation mode.

    Args:
        cls: of the model.
        args: more arguments of the class, after the configuration.
        kwargs: more keyword arguments of the class.
        config: of the model.
        checkpoint: the weights.
        source: what people call them.
        options: how they are loaded.
        identity: names and hashes of their files, by which ranks see that they load the same.
    """
    import torch

    from registry.loading.fill import fill

    own_dtype, skipped = None, tuple[str, ...]()
    if isinstance(checkpoint, Renamed):  # another program's, which becomes float32 whatever it was kept in
        own_dtype, skipped = torch.float32, checkpoint.skipped
    with torch.device("meta"):
        model = cls(config, *args, **kwargs)
    fill(
        model,
        checkpoint,
        source=source,
        strict=options.strict,
        dtype=_torch_dtype(options.dtype) or own_dtype,
        ignore_mismatched_sizes=options.ignore_mismatched_sizes,
        skipped=skipped,
        shards=None if options.ranks is None else _shards(options.ranks, checkpoint, identity, options.broadcast),
    )
    device = _torch_device(options.device)
    return model.to(device).eval() if device is not None else model.eval()


class Assembly:
    """Builds configuration, model and tokenizer from the files of one target, while its store is open."""

    def __init__(self, target: Target, store: Store, families: PluginHost) -> None:
        #: The target, unpacked where it was an archive.
        self.target = target
        self._store = store
        self._families = families
        self._listed = target.listed
        self._stamps: dict[Path, tuple[int, int, int] | None] = {}
        self._found: list[StoredFile] = []
        #: What is known of the files of the weights.
        self._identity = ""

    def need(self, candidates: Sequence[str], what: str) -> StoredFile:
        """Return the first of these files that the place has.

        Raises:
            CheckpointError: when it has weights that are not read here in their place.
            DownloadError: when it has none of them.
        """
        candidates = self._counting(candidates)
        if (found := self._store.first(self.target.place, candidates)) is not None:
            return self._noted(found)
        where = " or ".join(redact(source) for source in self.target.place.sources)
        if lock := self.target.place.lock:
            raise DownloadError(
                f"{what} of {self.target.label!r} is expected to be {' or '.join(candidates)} of {lock}, but none of it is "
                f"locked; files that are not locked are not used. `registry lock {self.target.label}` locks what is there now",
                url=where,
                status=404,
            )
        if (said := self._unread(what)) is not None:
            raise CheckpointError(
                f"{what} of {self.target.label!r} is expected to be {' or '.join(candidates)} at {where}, but there is {said}",
                path=where,
            )
        raise DownloadError(
            f"{what} of {self.target.label!r} is expected to be {' or '.join(candidates)} at {where}, but there is none",
            url=where,
            status=404,
        )

    def _unread(self, what: str) -> str | None:
        """Describe unsupported weights that the place has instead of supported ones; None if it has none that we know."""
        if what not in ("weights", "configuration"):
            return None
        if (said := unread_weights(self.target, what)) is not None:
            return said
        if what == "configuration" or self.target.folder is not None:
            return None
        there = (name for name in ASKED_FOR if self._store.is_there(self.target.place, name))
        return next(map(unread_file, there), None)

    def _counting(self, candidates: Sequence[str]) -> Sequence[str]:
        """Return the candidates that the entry lists, or all candidates if it lists none of them."""
        return [name for name in candidates if name in self._listed] or candidates

    def require_counting(self, name: str, described: Family) -> None:
        """Refuse a file if the catalog's entry lists only other files for its role.

        Raises:
            DownloadError: when it is one.
        """
        role = role_of(name, described.files, described.converters)
        named = named_roles(self._listed, described.files, described.converters)[role] if role else []
        if not named or name in named:
            return
        parts = [names for part, names in described.files.items() if part not in (WEIGHTS, CONFIG) and name in names]
        needed = any(not {*names} & {*named} for names in parts)
        in_parts = role == WEIGHTS and not {name, *named} & {*described.files[WEIGHTS]}
        if needed or (in_parts and name in self._shards(described)):
            return
        assert self.target.entry is not None
        raise DownloadError(
            f"file {name!r} of {self.target.label!r} is expected to be named in its entry, which names other files of the "
            f"{role} ({', '.join(named)}; {self.target.entry.origins[f'files.{named[0]}']}), so that only those are used; add "
            f"it to `files:`",
            url=redact(self.target.place.sources[0]),
            status=404,
        )

    def _shards(self, described: Family) -> list[str]:
        """Return the names of the files that hold the weights."""
        wanted = Wanted.of(described, described.files[WEIGHTS])
        return [file.name for file in find_weights(self._store, self.target, wanted, self.need, files=described.files)]

    def all_files(self, described: Family, jobs: int | None = None) -> list[StoredFile]:
        """Return every file of a model, fetched concurrently: those of its roles and other files that the entry lists."""
        from registry.store.store import at_once

        place, first, names = self.target.place, self._store.first, described.files
        # Fetched first and alone, because its response determines the commit of a moving revision.
        config = self._config_file(names[CONFIG], described)
        wanted = Wanted.of(described, names[WEIGHTS])
        weights = partial(find_weights, self._store, self.target, wanted, self.need, jobs, files=names)
        named = named_roles(self._listed, names, described.converters)
        others: list[Callable[[], StoredFile | None]] = [
            partial(first, place, self._counting(names[role])) for role in names if role not in (WEIGHTS, CONFIG)
        ]
        sides = side_files(self._listed, names)
        others += [partial(self._side_file, name) for name in sides]
        others += [partial(first, place, (name,)) for name in named[TOKENIZER] if name not in sides]
        others += [partial(self.need, (name,), "file") for name in named[""]]
        held, *found = at_once(self._store, [weights, *others], jobs)
        here = {file.name: file for file in (*held, config, *found) if file is not None}
        roles: Mapping[str, Sequence[str]] = names
        with contextlib.suppress(CheckpointError, ConfigError):  # unreadable settings are reported when they are used
            roles = as_written(names, {name: here[name].path for name in sides if name in here})
        for role, candidates in roles.items():
            if list(candidates) != list(names[role]) and (file := first(place, self._counting(candidates))) is not None:
                here[file.name] = file  # the one that the tokenizer will ask for
        if place.lock:
            self._store.note_unlocked(place, [*sides, *(names[CONFIG] if config is None else ())])
        return list(here.values())

    def inspect(self, described: Family | None) -> Inspection:
        """Describe the weights, of whatever form; without a family the usual names are looked for."""
        names = (described.files if described is not None else DEFAULT_FILES)["weights"]
        wanted = Wanted(names, described.converters if described is not None else dict.fromkeys(("tensorflow", "numpy"), ""))
        files = described.files if described is not None else DEFAULT_FILES
        return inspect_weights(find_weights(self._store, self.target, wanted, self.need, files=files))

    def side_files(self, files: Mapping[str, Sequence[str]]) -> dict[str, StoredFile]:
        """Return the files beside a vocabulary that count, by name; `files` are the family's, by role."""
        found = ((name, self._side_file(name)) for name in side_files(self._listed, files))
        return {name: file for name, file in found if file is not None}

    def _side_file(self, name: str) -> StoredFile | None:
        """Return a file that may lie beside a vocabulary; one that the entry names must be there."""
        if name in self._listed:
            return self.need((name,), "file")
        found = self._store.get(self.target.place, name)
        return self._noted(found) if found is not None else None

    def _noted(self, file: StoredFile) -> StoredFile:
        """Note what a file is before it is read."""
        self._found.append(file)
        if self.target.folder is not None:
            self._stamps.setdefault(file.path, _stamp(file.path))
        return file

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Add a file's name to an error that shows only its path in the cache, which contains only the hash."""
        try:
            yield
        except RegistryError as error:
            names = dict.fromkeys(file.name for file in self._found if str(file.path) in error.message)
            if names and not any(name in error.message for name in names):
                error.message = f"{', '.join(names)} of {self.target.label!r}: {error.message}"
                error.args = (error.message,)
            raise

    @contextlib.contextmanager
    def _of_one_set(self) -> Iterator[None]:
        """Check at the end of the block that all files read from a folder belong to one save.

        Raises:
            Replaced: when another process saved into the folder meanwhile.
            CheckpointError: when its save was interrupted.
        """
        try:
            yield
        except Exception:  # perhaps because half of what was looked for is gone
            self._hold_set()
            raise
        self._hold_set()

    def _hold_set(self) -> None:
        if self.target.folder is None:
            return
        refuse_unfinished(self.target.folder)
        if any(_stamp(path) != stamp for path, stamp in self._stamps.items()):
            raise Replaced(
                f"folder {str(self.target.folder)!r} is expected to stay as it is while it is read, but another process saves "
                "into it again and again; load it when that has ended",
                path=str(self.target.folder),
            )

    def config(
        self,
        described: Family | None,
        given: PretrainedConfig | None,
        overrides: Mapping[str, Any],
        cls: type[PretrainedConfig] | None = None,
        *,
        is_config: bool = False,
    ) -> PretrainedConfig:
        """Return the configuration: given, or read from the model's files, with the entry's and the caller's overrides.

        With `is_config` a single file that the target names is the configuration, whatever its name.
        """
        if given is not None:
            return given.replace(**overrides) if overrides else given
        candidates = self._config_names(described)
        if self.target.file is not None and (is_config or names_config(self.target.file)):
            candidates = (self.target.file,)
        try:
            file = self._config_file(candidates, described)
        except DownloadError as error:
            if error.status != 404 or described is not None or cls is not None:
                raise
            message = f"{error.message}; if its family is known otherwise, give family="
            raise DownloadError(message, url=error.url, status=404) from None
        with self._named():
            if cls is None:
                described = described or self._family_of(file)
                cls = described.load_class(described.config)
            loaded = cls() if file is None else cls.from_json_file(file.path)
        changes = {**self.target.config, **overrides}
        return loaded.replace(**changes) if changes else loaded

    def _family_of(self, file: StoredFile | None) -> Family:
        """Return the family that a configuration names."""
        from registry.base.json_file import read_json

        name = read_json(file.path).get("model_type") if file is not None else None
        where = f"{file.name if file is not None else 'configuration'} of {self.target.label!r}"
        if not isinstance(name, str):
            raise ConfigError(f"{where} is expected to name its model_type, but does not; give family=")
        try:
            return self._families.get(name)
        except UnknownFamily as error:
            raise UnknownFamily(f"model_type in {where}: {error.message}", family=error.family, known=error.known) from None

    def _config_names(self, described: Family | None) -> tuple[str, ...]:
        """Return the names that a configuration can have; one that begins with the family's name is its configuration."""
        if described is None:
            return ("config.json",)
        names = described.files["config"]
        if self.target.folder is None:
            return names
        own = (path.name for path in sorted(self.target.folder.glob("*_config.json")))
        return (*names, *(name for name in own if self._families.of_config_file(name) == described))

    def best_head(self, described: Family, config: PretrainedConfig) -> str:
        """Return the head that fits the names of the weights best."""
        from registry.loading.best_head import best_head

        return best_head(described, config, list(self._weights(described, config)[0].names()))

    def _weights(self, described: Family | None, config: PretrainedConfig, *, from_tf: bool = False) -> tuple[Checkpoint, str]:
        """Return the weights by the family's names, and the name of their first file."""
        names = (described.files if described is not None else DEFAULT_FILES)["weights"]
        roles = described.files if described is not None else DEFAULT_FILES
        files = find_weights(self._store, self.target, Wanted.of(described, names, from_tf=from_tf), self.need, files=roles)
        if from_tf:
            require_foreign(files[0])
        self._identity = " ".join(f"{file.name} {file.sha256 or file.path.stat().st_size}" for file in files)
        return open_weights(files, described, config, self._store, self.target.label), files[0].name

    def _config_file(self, candidates: Sequence[str], described: Family | None) -> StoredFile | None:
        """Return the configuration; None for a numpy release, which has none: it is of the sizes that are the defaults."""
        if described is not None and "numpy" in described.converters:
            place, named = self.target.place, named_roles(self._listed, described.files, described.converters)
            has_shapes = not named[CONFIG] and (not named[WEIGHTS] or SHAPES_NAME in named[WEIGHTS])
            if has_shapes and self._store.first(place, candidates) is None and self._store.get(place, SHAPES_NAME) is not None:
                return None
        return self.need(candidates, "configuration")

    def model(
        self,
        cls: type[PreTrainedModel],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        described: Family | None,
        config: PretrainedConfig,
        options: LoadOptions,
    ) -> Any:
        """Build a model and fill it from the files or the caller's tensors; with ranks, each fills its part."""
        options.check()  # before weights are downloaded for nothing
        with self._named(), self._of_one_set():  # to the last tensor: some forms are read when they are needed
            if options.state_dict is not None:
                return build(cls, args, kwargs, config, StateDict(options.state_dict), "state_dict", options)
            if options.strict is not False:
                require_whole(self.target)
            checkpoint, name = self._weights(described, config, from_tf=options.from_tf)
            source = f"{self.target.label} ({name})"
            return build(cls, args, kwargs, config, checkpoint, source, options, self._identity)

    def tokenizer(
        self,
        cls: Any,
        files: Mapping[str, Sequence[str]],
        inputs: Sequence[Any],
        settings: Mapping[str, Any],
    ) -> Any:
        """Build a tokenizer from its vocabulary and the files beside it."""
        with self._named(), self._of_one_set():
            sides = {name: file.path for name, file in self.side_files(files).items()}
            vocabulary = self._vocabulary(files, sides)
            return cls.from_files(vocabulary, sides, *inputs, **{**self.target.tokenizer, **settings})

    def _vocabulary(self, files: Mapping[str, Sequence[str]], sides: Mapping[str, Path]) -> dict[str, Path]:
        """Return constructor argument to file, of those that make a vocabulary."""
        vocabulary: dict[str, Path] = {}
        alone = self.target.file
        if alone is not None and (names_weights(alone) or alone in (*files.get("weights", ()), *files.get("config", ()))):
            alone = None  # weights: the vocabulary lies beside them
        if alone is None:
            files = as_written(files, sides)
        for role in (role for role in files if role not in ("weights", "config")):
            if alone is None:
                vocabulary[f"{role}_file"] = self.need(files[role], "vocabulary").path
            elif not vocabulary:  # a file given by itself is the vocabulary, whatever its name
                vocabulary[f"{role}_file"] = self.need((alone,), "vocabulary").path
            elif found := self._store.first(self.target.place, self._counting(files[role])):
                vocabulary[f"{role}_file"] = self._noted(found).path
            # Without one the class knows what belongs to that file, or says so.
        return vocabulary


def _shards(ranks: Ranks, checkpoint: Checkpoint, identity: str, broadcast: bool) -> ModelShards:
    from registry.loading.sharded import ModelShards

    return ModelShards(ranks, checkpoint, identity=identity, broadcast=broadcast)


def _torch_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    import torch

    if dtype is None or dtype == "auto":
        return None
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ConfigError(f"dtype is expected to be a floating point type of torch such as 'float16', but is {dtype!r}")
    return found


def _torch_device(device: torch.device | str | None) -> torch.device | None:
    import torch

    try:
        return None if device is None else torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"device is expected to be one that torch has here, but is {device!r} ({reason})") from error


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Return a value that changes when a file is replaced; None when it is missing."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
