"""How the rows of a stored tensor come into the shards of one: read by every rank, or by one rank of each node for all."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from registry.checkpoint.tensors import Checkpoint
from registry.sharding.ranks import Ranks, host_name

__all__ = ["Deliverer", "Reader", "rows_of"]

#: Bytes that are read at once to be sent.
_PIECE = 2 << 20


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
        ranks, first, own = self._ranks, self._here[0], values.to_local()
        if ranks.index == first:
            begin, end = rows_of(ranks, first, values.shape)
            if end > begin:
                self._checkpoint.read_rows(stored, begin, own)
            for index in self._here[1:]:
                self._send(stored, values, index)
        else:
            step = _rows_of_a_piece(values)
            for start in range(0, len(own), step):
                with ranks.talking():
                    dist.recv(own[start : start + step], src=ranks.members[first])

    def _send(self, stored: str, values: DTensor, index: int) -> None:
        """Read the rows of another member piece by piece, and send them."""
        begin, end = rows_of(self._ranks, index, values.shape)
        step = _rows_of_a_piece(values)
        piece = torch.empty((min(step, end - begin), *values.shape[1:]), dtype=values.dtype, device=values.device)
        for start in range(begin, end, step):
            part = piece[: min(step, end - start)]
            self._checkpoint.read_rows(stored, start, part)
            with self._ranks.talking():
                dist.send(part, dst=self._ranks.members[index])


def _rows_of_a_piece(values: DTensor) -> int:
    row = values.dtype.itemsize * math.prod(values.shape[1:])
    return max(1, _PIECE // max(1, row))


def rows_of(ranks: Ranks, index: int, shape: Sequence[int]) -> tuple[int, int]:
    """Return the first row of a member, and the one after its last: the engine cuts into equal parts, the last ones shorter."""
    shards = ranks.mesh.shape[-1]
    size = -(-shape[0] // shards)
    begin = min(index % shards * size, shape[0])
    return begin, min(begin + size, shape[0])
