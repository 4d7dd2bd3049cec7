"""Save a model that many ranks share as the ordinary folder of one: whole tensors, one at a time, shared out over the ranks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor
from torch.distributed.tensor import DTensor

from registry.checkpoint.open import INDEX_SUFFIX
from registry.checkpoint.safetensors.write import stored_order, write_safetensors
from registry.checkpoint.save import nbytes_of, shard_files, split_weights, staged_folder, write_index
from registry.errors import CheckpointError, ConfigError
from registry.sharding.ranks import Ranks

__all__ = ["save_sharded"]

_WEIGHTS = "model.safetensors"


def save_sharded(
    tensors: Mapping[str, Tensor], folder: Path, write_rest: Callable[[Path], None], *, safe: bool, limit: int | None
) -> None:
    """Write a folder, all ranks together; the first one makes it appear once all have written their files.

    Args:
        tensors: name to tensor, sharded or the same on all ranks.
        folder: where to. A rank that does not see the first one's files, on a disk of its own, writes none.
        write_rest: writes the files beside the weights into a folder; the first rank calls it.
        safe: false is refused: a pickle is one file.
        limit: bytes of a file; None for about as many files as ranks.

    Raises:
        CheckpointError, DistributedError: as `save_pretrained` says.
    """
    if not safe:
        raise ConfigError("a sharded model is expected to be saved with safe_serialization=True, but it is False")
    mesh = next(tensor.device_mesh for tensor in tensors.values() if isinstance(tensor, DTensor))
    with Ranks(mesh, f"save into {str(folder)!r}") as ranks, contextlib.ExitStack() as staged:
        stage = staged.enter_context(staged_folder(folder, replaces_weights=True)) if ranks.leads else None
        place = Path(ranks.tell("stage", None if stage is None else str(stage)))
        sights = ranks.gather("sight", "seen" if place.is_dir() else "")
        writers = [index for index, sight in enumerate(sights) if sight]
        total = sum(map(nbytes_of, tensors.values()))
        shards = split_weights(tensors, limit or -(-total // len(writers)))
        names = shard_files(len(shards))
        failed: OSError | CheckpointError | None = None
        for number, (name, shard) in enumerate(zip(names, shards, strict=True)):
            writes = ranks.index == writers[number % len(writers)] and failed is None
            failed = _write(ranks, place / name if writes else None, shard) or failed
        if isinstance(failed, OSError):
            raise CheckpointError(
                f"folder {str(folder)!r} is expected to take the files of a save, but cannot ({failed.strerror or failed}); "
                "what was there is unchanged; mend that, or save elsewhere",
                path=str(folder),
            ) from failed
        if failed is not None:
            raise failed
        ranks.agree("written")
        if ranks.leads:
            write_rest(place)
            write_index(place / f"{_WEIGHTS}{INDEX_SUFFIX}", names, shards)


def _write(ranks: Ranks, path: Path | None, shard: Mapping[str, Tensor]) -> OSError | CheckpointError | None:
    """Gather the tensors of a file, and write them where a path is given; return what went wrong with the file.

    Whoever cannot write goes on gathering: the others would wait for it.
    """
    pending = stored_order(shard)

    def whole(tensor: Tensor) -> Tensor:
        pending.pop(0)
        with ranks.talking():
            return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor

    failed: OSError | CheckpointError | None = None
    if path is not None:
        try:
            write_safetensors(path, shard, {"format": "pt"}, whole)
            with path.open("rb+") as file:  # the first rank, which makes the folder appear, may be on another machine
                os.fsync(file.fileno())
        except (OSError, CheckpointError) as error:
            failed = error
    while pending:
        whole(shard[pending[0]])
    return failed
