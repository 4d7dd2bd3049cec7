"""A checkpoint of another program under the names of this one. What goes where is data: one table a family."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from registry.checkpoint.tensors import Checkpoint, TensorInfo, WholeTensors
from registry.errors import CheckpointError

if TYPE_CHECKING:
    import torch

__all__ = ["Layout", "Renamed", "Rule"]

#: How a tensor is laid out there: as here; transposed; with dimensions of size 1 that are none here; one row for each of
#: several tensors here; one of several that stand one below the other in a single tensor here, in the order of the numbers
#: in their names.
Layout = Literal["same", "transposed", "squeezed", "rows", "joined"]

#: What TensorFlow's optimizers keep beside each variable, and how often they have run.
_OPTIMIZER = re.compile(
    r"(.*/)?((adam|lamb)_[mv](_\d+)?|Adam(_\d+)?|AdamWeightDecay\w*|Momentum|Adagrad|Adadelta(_\d+)?|RMSProp(_\d+)?"
    r"|beta[12]_power|ExponentialMovingAverage|global_step|loss_scale|good_steps)"
)


#: Tensors that one variable may hold the rows of: layers, say.
_MAX_ROWS = 10_000


class Rule(NamedTuple):
    """Where one kind of variable goes.

    Args:
        pattern: a regular expression for the variable's whole name.
        name: of the tensor here; `\\1` stands for a group of the pattern, `{row}` for the row's number.
        layout: of the variable's values.
    """

    pattern: str
    name: str
    layout: Layout = "same"


class _Origin(NamedTuple):
    """The variables that a tensor is made of; several only where they are joined."""

    variables: tuple[str, ...]
    layout: Layout
    row: int = 0


class Renamed(WholeTensors):
    """A checkpoint whose variables are known by this program's names. One that no rule names keeps its own."""

    def __init__(self, checkpoint: Checkpoint, rules: Sequence[Rule]) -> None:
        """Apply a table; nothing is read but names and shapes.

        Raises:
            CheckpointError: when two variables would be one tensor.
        """
        self._checkpoint = checkpoint
        self.metadata: Mapping[str, str] = checkpoint.metadata
        self._origins: dict[str, _Origin] = {}
        skipped: list[str] = []
        joined: dict[str, list[str]] = {}
        compiled = [(re.compile(rule.pattern), rule) for rule in rules]
        for variable in checkpoint.names():
            if _OPTIMIZER.fullmatch(variable):
                skipped.append(variable)
                continue
            rule, name = next(
                ((rule, found.expand(rule.name)) for pattern, rule in compiled if (found := pattern.fullmatch(variable))),
                (Rule(variable, variable), variable),
            )
            if rule.layout == "joined":
                joined.setdefault(name, []).append(variable)
            else:
                self._add(name, variable, rule.layout)
        for name, variables in joined.items():
            self._set(name, _Origin(tuple(sorted(variables, key=_numbers)), "joined"))
            self._require_joinable(name)
        #: The optimizer's own variables, which no model needs.
        self.skipped = tuple(skipped)

    def _add(self, name: str, variable: str, layout: Layout) -> None:
        if layout != "rows":
            self._set(name, _Origin((variable,), layout))
            return
        rows = next(iter(self._checkpoint.info(variable).shape), 0)
        if not 0 < rows <= _MAX_ROWS:
            raise CheckpointError(
                f"rows of {variable!r} are expected to be 1 to {_MAX_ROWS}, one for each of several tensors, but are {rows}"
            )
        for row in range(rows):
            self._set(name.replace("{row}", str(row)), _Origin((variable,), layout, row))

    def _require_joinable(self, name: str) -> None:
        shapes = [self._checkpoint.info(variable).shape for variable in self._origins[name].variables]
        if not shapes[0] or any(shape[1:] != shapes[0][1:] or not shape for shape in shapes):
            raise CheckpointError(
                f"parts of {name!r} are expected to differ in their rows alone, but their shapes are "
                f"{', '.join(map(str, shapes[:8]))}; check the configuration"
            )

    def _set(self, name: str, origin: _Origin) -> None:
        if (before := self._origins.setdefault(name, origin)) is not origin:
            raise CheckpointError(
                f"variables of a checkpoint are expected to be different tensors, but {before.variables[0]!r} and "
                f"{origin.variables[0]!r} are both {name!r}; take one of them out"
            )

    def names(self) -> Iterable[str]:
        """Return the names of the tensors."""
        return self._origins.keys()

    def info(self, name: str) -> TensorInfo:
        """Return what is known of a tensor, without reading it."""
        origin = self._origins[name]
        infos = [self._checkpoint.info(variable) for variable in origin.variables]
        shape, nbytes = infos[0].shape, sum(info.nbytes for info in infos)
        match origin.layout:
            case "transposed":
                shape = shape[::-1]
            case "squeezed":
                shape = tuple(size for size in shape if size != 1)
            case "rows":
                shape, nbytes = shape[1:], nbytes // shape[0]
            case "joined":
                shape = (sum(next(iter(info.shape), 1) for info in infos), *shape[1:])
        return TensorInfo(infos[0].dtype, shape, nbytes)

    def tensor(self, name: str) -> torch.Tensor:
        """Return a tensor, on the CPU, contiguous."""
        origin = self._origins[name]
        values = [self._checkpoint.tensor(variable) for variable in origin.variables]
        match origin.layout:
            case "transposed":
                return values[0].permute(*reversed(range(values[0].ndim))).contiguous()
            case "squeezed":
                return values[0].squeeze()
            case "rows":
                return values[0][origin.row].clone()
            case "joined":
                import torch

                return torch.cat(values)
        return values[0]

    def read_rows(self, name: str, begin: int, into: torch.Tensor) -> None:
        """Read rows; of what is laid out otherwise there, the whole tensor."""
        origin = self._origins[name]
        if origin.layout == "same":
            self._checkpoint.read_rows(origin.variables[0], begin, into)
        else:
            super().read_rows(name, begin, into)


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"\d+", name))
