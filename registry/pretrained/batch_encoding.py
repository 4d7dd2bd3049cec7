"""What calling a tokenizer returns, and the cutting and padding that make it rectangular."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

__all__ = ["TRUNCATIONS", "BatchEncoding", "Truncation", "as_tensors", "pad_columns", "shares"]

Truncation = bool | Literal["longest_first", "only_first", "only_second", "do_not_truncate"]
TRUNCATIONS = (True, False, "longest_first", "only_first", "only_second", "do_not_truncate")


class BatchEncoding(dict[str, Any]):
    """A dictionary of `input_ids`, `token_type_ids`, `attention_mask`, … whose keys are attributes too.

    A model takes it as `model(**encoding)`. Values are lists, or tensors `(batch, seq)` when those were asked for.
    """

    #: Whether padding, if there is any, is on the left.
    pads_left: bool = False
    _encodings: tuple[Any, ...] | None = ()
    #: Makes them of the same texts; what nobody asks for is not made.
    _encode: Callable[[], Sequence[Any]] | None = None

    @property
    def encodings(self) -> tuple[Any, ...]:
        """For each text, the engine's own record: tokens, offsets, words. Made when it is first asked for.

        Raises:
            ValueError: after pickling or copying, or when the tokenizer encodes the texts otherwise by now.
        """
        if self._encodings is None:
            if self._encode is None:
                raise ValueError("encodings are expected to be asked for before a batch is pickled or copied, but were not")
            self._encodings, self._encode = tuple(self._encode()), None
        return self._encodings

    @encodings.setter
    def encodings(self, encodings: Sequence[Any]) -> None:
        self._encodings, self._encode = tuple(encodings), None

    def encode_later(self, encode: Callable[[], Sequence[Any]]) -> None:
        """Have `encodings` made by a call, when they are first asked for."""
        self._encodings, self._encode = None, encode

    def __getstate__(self) -> dict[str, Any]:
        return {"pads_left": self.pads_left, "_encodings": self._encodings}  # without the tokenizer

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"BatchEncoding has no {name!r}; it has {', '.join(self)}") from None

    def to(self, device: Any) -> BatchEncoding:
        """Return a copy whose tensors are on `device`."""
        moved = BatchEncoding({key: value.to(device) if hasattr(value, "to") else value for key, value in self.items()})
        moved._encodings, moved._encode, moved.pads_left = self._encodings, self._encode, self.pads_left
        return moved

    def tokens(self, index: int = 0) -> list[str]:
        """Return the tokens of one text, without padding."""
        tokens: list[str] = self.encodings[index].tokens
        return tokens

    def word_ids(self, index: int = 0) -> list[int | None]:
        """Return for each token of one text the word that it is of; None for special tokens and padding."""
        words: list[int | None] = list(self.encodings[index].word_ids)
        rows = self["input_ids"]
        row = rows if len(rows) == 0 or isinstance(rows[0], int) else rows[index]  # one text, or a batch
        padding: list[int | None] = [None] * (len(row) - len(words))
        return padding + words if self.pads_left else words + padding


def pad_columns(columns: Mapping[str, list[Any]], fill: Mapping[str, Any], length: int, *, left: bool) -> dict[str, list[Any]]:
    """Return the columns, those with a value in `fill` with every shorter row filled up to `length`."""
    padded: dict[str, list[Any]] = {}
    for name, rows in columns.items():
        if name not in fill:
            padded[name] = rows
            continue
        value = fill[name]
        padded[name] = [[value] * (length - len(row)) + row if left else row + [value] * (length - len(row)) for row in rows]
    return padded


def as_tensors(columns: Mapping[str, Sequence[Any]], kind: str) -> dict[str, Any]:
    """Return torch tensors for `pt`, numpy arrays for `np`: int64, but for columns of other numbers that `pad` was given.

    Raises:
        ValueError: when the rows of a column differ in length, or for another kind.
    """
    if kind not in ("pt", "np"):
        raise ValueError(f"return_tensors is expected to be 'pt' or 'np', but is {kind!r}")
    lengths = {len(row) for row in columns["input_ids"] if not isinstance(row, int)}
    if len(lengths) > 1:
        raise ValueError(
            f"texts of a batch are expected to have one length to become a tensor, but have {min(lengths)} to {max(lengths)} "
            "tokens; give padding=True, and truncation=True where max_length is to cut"
        )
    made = {}
    for name, rows in columns.items():
        try:
            made[name] = _tensor(rows, kind)
        except (ValueError, TypeError) as error:
            raise ValueError(f"rows of {name} are expected to have one length to become a tensor, but have not") from error
    return made


def _tensor(rows: Sequence[Any], kind: str) -> Any:
    import numpy

    array = numpy.array(rows)  # goes through lists twice as fast as torch does
    if array.size == 0:
        array = array.astype(numpy.int64)
    if kind == "np":
        return array
    import torch

    return torch.from_numpy(array) if array.dtype == numpy.int64 else torch.tensor(rows)


def shares(first: int, second: int, room: int, truncation: Truncation) -> tuple[int, int]:
    """Return how many tokens of each of a pair are kept so that together they fit into `room`.

    Raises:
        ValueError: when the text that may be cut is too short for that.
    """
    over = first + second - room
    if over <= 0:
        return first, second
    if room < 0 or (truncation == "only_first" and over > first) or (truncation == "only_second" and over > second):
        raise ValueError(
            f"a text is expected to fit into {room} tokens with truncation={truncation!r}, but cannot; raise max_length"
        )
    if truncation == "only_first":
        return first - over, second
    if truncation == "only_second":
        return first, second - over
    if second == 0:
        return room, 0
    # The longer one is cut until both are alike; an odd token goes to the longer, between equals to the second.
    short = min(first, second, room // 2)
    return (room - short, short) if first > second else (short, room - short)
