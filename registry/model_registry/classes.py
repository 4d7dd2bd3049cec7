"""The road of `from_pretrained`: a given class, from a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from registry.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch.distributed.device_mesh import DeviceMesh

    from registry.pretrained.config import PretrainedConfig
    from registry.pretrained.model import PreTrainedModel
    from registry.pretrained.ranks import Ranks
    from registry.pretrained.tokenizer import PreTrainedTokenizer
from registry.model_registry.names import PathLike
from registry.model_registry.places import Places, shared_by_ranks, survives_others

__all__ = ["Classes"]


class Classes(Places):
    """Load into classes that the caller chose."""

    @survives_others
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

    @shared_by_ranks
    @survives_others
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
        mesh: DeviceMesh | None = None,
        parallel: str | None = None,
        broadcast: bool = False,
        _ranks: Ranks | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load a model of a given class, as its `from_pretrained` says."""
        if name_or_path is None:
            if state_dict is None or config is None:
                raise ConfigError("without a name, both config and state_dict are expected")
            from registry.store.place import Place
            from registry.store.target import Target

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
                ranks=_ranks,
                broadcast=broadcast,
            )
        self._hooks.tell("registry_loaded", model=target.label, instance=model)
        return (model, model.load_report) if output_loading_info else model

    @survives_others
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
