"""What a checkpoint is: names, shapes and dtypes first, tensors when asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

TYPE_CHECKING = False

if TYPE_CHECKING:
    import torch

__all__ = ["Checkpoint", "StateDict", "TensorInfo", "WholeTensors"]


class TensorInfo(NamedTuple):
    """What is known of a tensor before it is read. `dtype` is torch's name of it, such as `bfloat16`."""

    dtype: str
    shape: tuple[int, ...]
    #: Bytes of its values.
    nbytes: int

    @classmethod
    def of(cls, tensor: torch.Tensor) -> TensorInfo:
        """Describe a tensor that is there."""
        return cls(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), tensor.numel() * tensor.element_size())


class Checkpoint(Protocol):
    """Named tensors; a tensor is only read when it is asked for."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the file says of itself beside its tensors."""
        ...

    def names(self) -> Iterable[str]:
        """Return the names of the tensors."""
        ...

    def info(self, name: str) -> TensorInfo:
        """Return what is known of a tensor, without reading it."""
        ...

    def tensor(self, name: str) -> torch.Tensor:
        """Return a tensor, on the CPU."""
        ...

    def read_rows(self, name: str, begin: int, into: torch.Tensor) -> None:
        """Read rows of a tensor into memory that is there, as one of several processes does that share a model.

        A form that lies row by row reads these bytes and no others; what has to be turned around is read whole first.

        Args:
            name: of a tensor that has rows.
            begin: the first row.
            into: as many rows as are wanted, `(rows, …)`, of any dtype and device.
        """
        ...

    def stored_name(self, name: str) -> str:
        """Return the name that the values have: of two names that share a tensor it is the same one."""
        ...


class WholeTensors:
    """What a checkpoint does that can only give whole tensors, each under one name."""

    def tensor(self, name: str) -> torch.Tensor:
        """Return a tensor, on the CPU."""
        raise NotImplementedError

    def read_rows(self, name: str, begin: int, into: torch.Tensor) -> None:
        """Read a tensor, and copy the rows that are wanted."""
        into.copy_(self.tensor(name).narrow(0, begin, len(into)))

    def stored_name(self, name: str) -> str:
        """Return the name."""
        return name


class StateDict(WholeTensors):
    """A caller's state dict as a checkpoint: its tensors are copied, so that the model does not share them."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._tensors = tensors
        self.metadata: Mapping[str, str] = {}

    def names(self) -> Iterable[str]:
        """Return the names of the tensors."""
        return self._tensors.keys()

    def info(self, name: str) -> TensorInfo:
        """Return what a tensor is."""
        return TensorInfo.of(self._tensors[name])

    def tensor(self, name: str) -> torch.Tensor:
        """Return a copy of a tensor."""
        return self._tensors[name].detach().clone()

    def read_rows(self, name: str, begin: int, into: torch.Tensor) -> None:
        """Copy rows."""
        into.copy_(self._tensors[name].detach().narrow(0, begin, len(into)))

    def stored_name(self, name: str) -> str:
        """Return the first name that has this tensor's memory."""
        tensor = self._tensors[name]
        same = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        held = self._tensors.items()
        return next(other for other, each in held if (each.data_ptr(), each.dtype, each.shape, each.stride()) == same)
