"""Models, configurations and tokenizers by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from registry.catalog.names import user_path
from registry.errors import (
    CheckpointError,
    ConfigError,
    DownloadError,
)

if TYPE_CHECKING:
    import torch
    from torch.distributed.device_mesh import DeviceMesh

    from registry.families.family import Family
    from registry.pretrained.config import PretrainedConfig
    from registry.pretrained.model import PreTrainedModel
    from registry.pretrained.ranks import Ranks
    from registry.pretrained.tokenizer import PreTrainedTokenizer
from registry.model_registry.names import PathLike, head_of_class
from registry.model_registry.places import Places, shared_by_ranks, survives_others

__all__ = ["Models"]


class Models(Places):
    """Load and convert."""

    @shared_by_ranks
    @survives_others
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
        mesh: DeviceMesh | None = None,
        parallel: str | None = None,
        broadcast: bool = False,
        _ranks: Ranks | None = None,
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
            mesh: the ranks that share the model, all of which call this alike: one dimension, or replicas and then shards.
                Each reads only its rows of the weights; the parameters are torch's DTensors.
            parallel: how they share it: `"fsdp"`, torch's `fully_shard`, which is what None means where there is a mesh.
            broadcast: let one rank of each node read for the others there, where storage is slow to read from everywhere.
            overrides: fields of the configuration.

        Raises:
            UnknownModel, CatalogError: for the name, before anything is fetched.
            UnknownFamily, UnknownHead, PluginError: for the family.
            DownloadError, IntegrityError, OfflineError, CacheError: for the files.
            CheckpointError, UnsafeCheckpoint, ConfigError: for what is in them.
            DistributedError: when another rank of the mesh failed, was killed, or did not come in time.
        """
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
                ranks=_ranks,
                broadcast=broadcast,
            )
        self._hooks.tell("registry_loaded", model=target.label, instance=model)
        return model

    @survives_others
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

    @survives_others
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

    @survives_others
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


def _head_of(config: PretrainedConfig, family: Family) -> str | None:
    """Return the head whose class the configuration says its weights are of."""
    heads = (head_of_class(name, family) for name in config.architectures or ())
    return next((head for head in heads if head), None)
