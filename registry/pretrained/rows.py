"""How the rows of a stored tensor come into the shards of one: read by every rank, or by one rank of each node for all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from registry.checkpoint.reader import Checkpoint
from registry.pretrained.ranks import Ranks, host_name

__all__ = ["Deliverer", "Reader", "rows_of"]


class Reader:
    """Every rank reads its own rows, and no others."""

    def __init__(self, ranks: Ranks, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._ranks = ranks

    def fill(self, stored: str, values: DTensor) -> None:
        """Read this rank's rows of a stored tensor.

        Args:
            stored: its name in the checkpoint.
            values: sharded by rows.
        """
        begin, end = rows_of(self._ranks, self._ranks.index, values.shape)
        if end > begin:
            self._checkpoint.read_rows(stored, begin, values.to_local())


class Deliverer:
    """The first rank of each node reads the rows of the others there too, and sends them: a tensor's shard at a time."""

    def __init__(self, ranks: Ranks, checkpoint: Checkpoint) -> None:
        """Find out who shares a node; every rank does it."""
        self._checkpoint = checkpoint
        self._ranks = ranks
        hosts = ranks.gather("hosts", host_name())
        #: The places among the members of those on this node, the one that reads first.
        self._here = [index for index, host in enumerate(hosts) if host == hosts[ranks.index]]

    def fill(self, stored: str, values: DTensor) -> None:
        """Read and send, or receive, the rows of a stored tensor; arguments as in `Reader.fill`."""
        ranks, first = self._ranks, self._here[0]
        own = values.to_local()
        if ranks.index != first:
            if own.numel():
                with ranks.talking():
                    dist.recv(own, src=ranks.members[first])
            return
        for index in self._here:
            begin, end = rows_of(ranks, index, values.shape)
            if index == first:
                if end > begin:
                    self._checkpoint.read_rows(stored, begin, own)
            elif (size := (end - begin, *values.shape[1:])) and torch.Size(size).numel():
                piece = torch.empty(size, dtype=values.dtype, device=own.device)
                self._checkpoint.read_rows(stored, begin, piece)
                with ranks.talking():
                    dist.send(piece, dst=ranks.members[index])


def rows_of(ranks: Ranks, index: int, shape: Sequence[int]) -> tuple[int, int]:
    """Return the first row of a member, and the one after its last: the engine cuts into equal parts, the last ones shorter."""
    shards = ranks.mesh.shape[-1]
    size = -(-shape[0] // shards)
    begin = min(index % shards * size, shape[0])
    return begin, min(begin + size, shape[0])
