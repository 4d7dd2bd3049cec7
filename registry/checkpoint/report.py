"""What happened to every tensor of a load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["LoadReport", "Mismatch"]


class Mismatch(NamedTuple):
    """A tensor whose shape in the file is not the model's."""

    name: str
    file_shape: tuple[int, ...]
    model_shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}: file {self.file_shape}, model {self.model_shape}"


#: The names under which 2019's `output_loading_info` showed the same.
_OLD_NAMES = {"missing_keys": "missing", "unexpected_keys": "unexpected", "mismatched_keys": "mismatched"}


@dataclass(frozen=True)
class LoadReport(Mapping[str, list[object]]):
    """The outcome of loading weights, by the names of the model's state dict (`unexpected`: of the file).

    Also reads as the dictionary that `output_loading_info=True` used to return: `report["missing_keys"]`.
    """

    #: In the model, not in the file.
    missing: tuple[str, ...] = ()
    #: In the file, not used by the model.
    unexpected: tuple[str, ...] = ()
    #: In the file, not needed: the model computes them, or the file holds them under a second name.
    ignored: tuple[str, ...] = ()
    #: In both with different shapes.
    mismatched: tuple[Mismatch, ...] = ()
    #: Filled by the family's initialisation, because the file had nothing (or nothing that fits) for them.
    newly_initialized: tuple[str, ...] = ()
    #: Name to the name whose tensor it shares.
    tied: Mapping[str, str] = field(default_factory=dict)
    #: What was taken off every name of the file: the model had been saved within DistributedDataParallel, or the like.
    wrapper: str = ""
    #: Where the weights came from.
    source: str = ""

    @property
    def clean(self) -> bool:
        """Whether file and model hold exactly the same weights."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __getitem__(self, key: str) -> list[object]:
        if key == "error_msgs":
            return [str(mismatch) for mismatch in self.mismatched]
        return list(getattr(self, _OLD_NAMES[key]))

    def __iter__(self) -> Iterator[str]:
        return iter((*_OLD_NAMES, "error_msgs"))

    def __len__(self) -> int:
        return len(_OLD_NAMES) + 1

    def summary(self, limit: int = 6) -> str:
        """Return the report in words, naming at most `limit` tensors of each kind."""
        parts = []
        for title, names in (
            ("missing", self.missing),
            ("unexpected", self.unexpected),
            ("mismatched", tuple(map(str, self.mismatched))),
            ("newly initialized", tuple(name for name in self.newly_initialized if name not in self.missing)),
        ):
            if names:
                more = f" and {len(names) - limit} more" if len(names) > limit else ""
                parts.append(f"{title}: {', '.join(names[:limit])}{more}")
        return "; ".join(parts) or "all weights loaded"
