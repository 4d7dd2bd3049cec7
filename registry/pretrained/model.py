"""The base of every model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from registry.base.names import user_path
from registry.checkpoint.report import LoadReport
from registry.checkpoint.save import parse_size, staged_folder, write_weights
from registry.errors import ConfigError
from registry.pretrained.config import CONFIG_NAME, PretrainedConfig, shown
from registry.pretrained.initialization import (
    composite_members,
    initialize,
    initialize_module,
    require_values,
    split_name,
)
from registry.pretrained.layers import outlining

__all__ = ["SAFE_WEIGHTS_NAME", "WEIGHTS_NAME", "PreTrainedModel"]

WEIGHTS_NAME = "pytorch_model.bin"
SAFE_WEIGHTS_NAME = "model.safetensors"


class _ModelMeta(type):
    """Builds every model on the meta device, so that a constructor decides shapes and never spends time on values."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        device = torch.get_default_device()
        if device.type == "meta":  # loading, or the inner model of one that is being built
            with outlining():
                return _built(super().__call__(*args, **kwargs))
        with torch.device("meta"), outlining():
            model = _built(super().__call__(*args, **kwargs))
        tied = model.tied_weights()
        initialize(model, (name for name, _ in model.named_parameters() if name not in tied), device=device)
        model.tie_weights()
        model.reset_buffers()
        require_values(model)
        return model


def _built(model: Any) -> Any:
    """Check what only shows once a constructor is through; note which inner model shares its vocabulary with a head.

    Raises:
        ConfigError: when the configuration names pruned heads and the family prunes none.
    """
    inner = getattr(model, model.base_model_prefix, model)
    if not isinstance(inner, PreTrainedModel):
        return model
    if model.config.pruned_heads and type(inner).prune_layer is PreTrainedModel.prune_layer:
        model.config.require(False, "pruned_heads", "empty, because this family has no pruning")
    if inner is not model and len(model.vocabulary_weights()) > 1:
        inner.resized_by = type(model).__name__
    return model


class PreTrainedModel(nn.Module, metaclass=_ModelMeta):
    """A model with a configuration that loads, saves, resizes and prunes itself.

    A family's class sets `config_class` and `base_model_prefix`, calls `super().__init__(config)` first, and may override
    `init_weights`, `reset_buffers`, `tied_weights` and `vocabulary_weights`. Its constructor runs on the meta device.
    """

    config_class: ClassVar[type[PretrainedConfig]] = PretrainedConfig
    #: The attribute under which a class with a head holds the base model.
    base_model_prefix: ClassVar[str] = ""
    #: Beginnings of names in the base model that a file may lack; they are then newly initialised and reported.
    optional_weights: ClassVar[tuple[str, ...]] = ()
    #: Endings of names that files may hold although the model computes them.
    derivable_weights: ClassVar[tuple[str, ...]] = ()
    #: Names in other libraries' files to the names of the same tensors here.
    renamed_weights: ClassVar[Mapping[str, str]] = {}

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        if not isinstance(config, self.config_class):
            raise TypeError(
                f"config of {type(self).__name__} is expected to be a {self.config_class.__name__}, but is a "
                f"{type(config).__name__}; to load by name use {type(self).__name__}.from_pretrained"
            )
        config.check()  # fields may have been changed since it was made
        self.config = config
        #: The class that this model is, where torch's `fully_shard` puts one of its own before it.
        self.own_class = type(self)
        #: What happened to each tensor when this model was loaded; None for one that was not.
        self.load_report: LoadReport | None = None
        self.gradient_checkpointing = False
        #: The class with a head whose weights have as many rows as this inner model's vocabulary; None for any other.
        self.resized_by: str | None = None

    # -- what a family says ------------------------------------------------------------------------------------------

    def init_weights(self, module: nn.Module) -> None:
        """Give one module's parameters their first values: normal weights, zero biases, layer norms 1 and 0."""
        std = getattr(self.config, "initializer_range", 0.02)
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.normal_(0.0, std)
        elif isinstance(module, nn.LayerNorm) and module.weight is not None:
            module.weight.fill_(1.0)
        if isinstance(module, nn.Linear | nn.LayerNorm) and module.bias is not None:
            module.bias.zero_()

    def reset_buffers(self) -> None:
        """Fill buffers that no checkpoint holds."""

    def tied_weights(self) -> dict[str, str]:
        """Return the name of each weight that is shared to the name of the one that it shares."""
        return {}

    def stored_copies(self) -> dict[str, str]:
        """Return the names under which a file of a model with a head may hold this base model's weights, and these."""
        return {}

    def second_names(self) -> dict[str, str]:
        """Return names under which files hold a weight once more, because others have two there, to its name here.

        Others compute with the one of these names: its value is the one that is loaded.
        """
        return {}

    def vocabulary_weights(self) -> tuple[str, ...]:
        """Return the names of the weights whose first dimension is the vocabulary, the input embedding first."""
        return ()

    def rows_before(self) -> int:
        """Return how many tokens of the vocabulary come before the first row of `vocabulary_weights`."""
        return 0

    def blocks(self) -> list[nn.Module]:
        """Return the modules that are sharded each by itself, because its weights are needed only while it computes.

        By default these are the members of its module lists that are made of several modules. One that computes outside
        `forward`, too, names these methods in `forward_methods`.
        """
        return list(composite_members(self))

    def prune_layer(self, layer: int, heads: list[int]) -> None:
        """Cut heads, by their original numbers, out of one layer of this base model."""
        raise ConfigError(f"heads of {type(self).__name__} are expected to be prunable, but this family has no pruning")

    # -- what it can tell --------------------------------------------------------------------------------------------

    @property
    def base_model(self) -> PreTrainedModel:
        """The model without its head; itself when it has none."""
        inner = getattr(self, self.base_model_prefix, self)
        assert isinstance(inner, PreTrainedModel)
        return inner

    @property
    def device(self) -> torch.device:
        """The device of the first parameter."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the first floating point parameter."""
        return next(parameter.dtype for parameter in self.parameters() if parameter.is_floating_point())

    def num_parameters(self, *, only_trainable: bool = False) -> int:
        """Return the number of scalars, shared ones once."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad or not only_trainable)

    def is_required(self, name: str) -> bool:
        """Whether a weight belongs to the base model, which a checkpoint must hold."""
        inner = name
        if self.base_model is not self:
            prefix = f"{self.base_model_prefix}."
            if not name.startswith(prefix):
                return False
            inner = name.removeprefix(prefix)
        return not inner.startswith(self.optional_weights) if self.optional_weights else True

    # -- embeddings --------------------------------------------------------------------------------------------------

    def get_input_embeddings(self) -> nn.Module:
        """Return the module that embeds token ids."""
        return self.get_submodule(split_name(self.vocabulary_weights()[0])[0])

    def tie_weights(self) -> None:
        """Make every tied name the same parameter as its main name."""
        for name, main in self.tied_weights().items():
            path, attribute = split_name(name)
            self.get_submodule(path)._parameters[attribute] = self.get_parameter(main)

    def resize_token_embeddings(self, new_num_tokens: int | None = None) -> nn.Module:
        """Change the size of the vocabulary, in the embedding and in every head; return the input embedding.

        Rows that stay keep their values; new ones are initialised as in a new model. None changes nothing.

        Raises:
            ConfigError: when the configuration would not be one any more, because its padding token is gone, say; or for
                the inner model of one whose head has a row for each token, too.
        """
        if new_num_tokens is None:
            return self.get_input_embeddings()
        if type(new_num_tokens) is not int or new_num_tokens < 1:
            raise ConfigError(f"the number of tokens is expected to be at least 1, but is {shown(new_num_tokens)}")
        names, rows = self.vocabulary_weights(), new_num_tokens - self.rows_before()
        if rows == self.get_parameter(names[0]).shape[0]:
            return self.get_input_embeddings()
        self._require_whole("resized")
        if self.resized_by is not None:
            raise ConfigError(
                f"the vocabulary of a {self.resized_by} is expected to be resized as a whole, because its head has a row for "
                f"each token, too, but its {type(self).__name__} alone was asked; use resize_token_embeddings of the whole"
            )
        if "vocab_size" in self.config.field_names():
            self.config.replace(vocab_size=new_num_tokens)  # raises for what could not be loaded again
        tied = self.tied_weights()
        for name in names:
            path, attribute = split_name(name)
            module = self.get_submodule(path)
            if name not in tied:
                self._resize(module, attribute, rows)
            if isinstance(module, nn.Embedding):
                module.num_embeddings = rows
                if module.padding_idx is not None and module.padding_idx >= rows:  # the configuration has another by now
                    module.padding_idx = None
            elif isinstance(module, nn.Linear):
                module.out_features = rows
        self.tie_weights()
        self.config.vocab_size = new_num_tokens
        return self.get_input_embeddings()

    def _resize(self, module: nn.Module, attribute: str, rows: int) -> None:
        old = module._parameters[attribute]
        assert old is not None
        shape = (rows, *old.shape[1:])
        module._parameters[attribute] = nn.Parameter(
            torch.empty(shape, dtype=old.dtype, device="meta"), requires_grad=old.requires_grad
        )
        initialize_module(self, module, [attribute], device=old.device)
        new = module._parameters[attribute]
        assert new is not None
        with torch.no_grad():
            count = min(rows, old.shape[0])
            new[:count] = old[:count]

    # -- heads -------------------------------------------------------------------------------------------------------

    def prune_heads(self, heads_to_prune: Mapping[int, Iterable[int]]) -> None:
        """Cut attention heads out of layers, by their original numbers; the configuration remembers it.

        Args:
            heads_to_prune: layer to heads; a negative layer counts from the end. Heads that are gone already are passed over.

        Raises:
            ConfigError: for a layer or head that does not exist, or a layer that would have no head left; nothing is cut.
        """
        self._require_whole("pruned")
        count = getattr(self.config, "num_attention_heads", None)
        gone = self.config.known_heads(self.config.pruned_heads, "pruned_heads of the configuration")
        asked = self.config.known_heads(heads_to_prune, "heads_to_prune")
        asked = {layer: sorted(set(heads) - set(gone.get(layer, ()))) for layer, heads in asked.items()}
        for layer, heads in asked.items():
            if heads and len(gone.get(layer, ())) + len(heads) == count:
                raise ConfigError(
                    f"heads_to_prune is expected to keep at least one head in layer {layer}, but names all that it has"
                )
        for layer, heads in asked.items():
            if heads:
                self.base_model.prune_layer(layer, heads)
                gone[layer] = sorted({*gone.get(layer, ()), *heads})
                self.config.pruned_heads = dict(gone)

    def _require_whole(self, done: str) -> None:
        if any(map(_is_distributed, self.parameters())):
            raise ConfigError(
                f"a model is expected to be {done} before it is sharded, but is sharded; load it without mesh=, save it, and "
                "load that"
            )

    # -- training ----------------------------------------------------------------------------------------------------

    def gradient_checkpointing_enable(self) -> None:
        """Recompute layers in the backward pass instead of keeping their activations."""
        self.base_model.gradient_checkpointing = True

    def gradient_checkpointing_disable(self) -> None:
        """Keep activations for the backward pass."""
        self.base_model.gradient_checkpointing = False

    def checkpointed(self, layer: Callable[..., Any], *args: Any) -> Any:
        """Run a layer, under gradient checkpointing when that is on."""
        if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
            from torch.utils.checkpoint import checkpoint

            return checkpoint(layer, *args, use_reentrant=False)
        return layer(*args)

    # -- files -------------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, *model_args: Any, **kwargs: Any
    ) -> Any:
        """Load a model in evaluation mode.

        Args:
            pretrained_model_name_or_path: a name, folder, weights file, URL or source; None with `config` and `state_dict`.
            model_args: further positional arguments of the constructor.
            kwargs: `config` (an object or what its own `from_pretrained` takes), `state_dict` (used instead of a file and
                not modified), `cache_dir`, `from_tf`, `force_download` (or `refresh`), `proxies`, `output_loading_info`
                (returns `(model, report)`), `strict`, `dtype`, `device`, `ignore_mismatched_sizes`, `offline`; a field of the
                configuration overrides it; the rest goes to the constructor.

        Raises:
            UnknownModel: for a name that no catalog has.
            CheckpointError: when the weights do not fit.
        """
        from registry.pretrained.from_pretrained import load_model

        return load_model(cls, pretrained_model_name_or_path, *model_args, **kwargs)

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *,
        safe_serialization: bool = True,
        max_shard_size: int | str | None = None,
        model_card: bool = False,
    ) -> None:
        """Write configuration and weights into a folder, which is made when it does not exist.

        A new folder appears whole; in an existing one each file is replaced in one step, never written over. The weights
        are written from where they are: no second copy of them is made in memory.

        Of a sharded model all ranks call it. The tensors are gathered one at a time, the ranks share out the files to write,
        and the folder is what one process would have written in shards; when it returns, it is there.

        Args:
            save_directory: where to.
            safe_serialization: `model.safetensors` when true, `pytorch_model.bin` when false.
            max_shard_size: in bytes or as `"5GB"`; larger models are written in shards with an index. None for one file.
            model_card: whether to write a `README.md` that says what the model is, too.

        Raises:
            CheckpointError: when the folder cannot take the files, or weights have no values; what was there stays.
            DistributedError: when another rank failed, was killed, or did not come; what was there stays.
        """
        folder = user_path(save_directory)
        limit = None if max_shard_size is None else parse_size(max_shard_size)
        config = self.config.replace()
        config.architectures = [self.own_class.__name__]
        config.torch_dtype = str(self.dtype).removeprefix("torch.")
        tensors: dict[str, Tensor] = self.state_dict()
        if safe_serialization or limit is not None:  # 2019's library expects tied names, and reads one `.bin`
            tied = self.tied_weights()
            tensors = {name: tensor for name, tensor in tensors.items() if name not in tied}
        tensors |= {name: tensors[main] for name, main in self.second_names().items()}

        def write_rest(stage: Path) -> None:
            (stage / CONFIG_NAME).write_text(config.to_json_string(), encoding="utf-8")
            if model_card:
                from registry.pretrained.card import write_card

                write_card(self, stage, folder)

        if any(map(_is_distributed, tensors.values())):
            from registry.sharding.save import save_sharded

            save_sharded(tensors, folder, write_rest, safe=safe_serialization, limit=limit)
            return
        with staged_folder(folder, replaces_weights=True) as stage:
            write_rest(stage)
            write_weights(stage, tensors, safe=safe_serialization, max_shard_size=limit)


def _is_distributed(tensor: Tensor) -> bool:
    """Whether this is torch's DTensor, which is not imported to find out."""
    return hasattr(tensor, "full_tensor")
