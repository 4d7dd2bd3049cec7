"""Show a text while it is generated."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from torch import Tensor

from registry.pretrained.tokenizer import PreTrainedTokenizer

__all__ = ["TextStreamer"]

_BROKEN = "\ufffd"  # what bytes decode to that are no character, or not yet


class TextStreamer:
    """Writes the text of the tokens of one row as soon as it is certain: never half a character."""

    def __init__(
        self, tokenizer: PreTrainedTokenizer, write: Callable[[str], object] | None = None, prompt: Sequence[int] = ()
    ) -> None:
        """Start a text.

        Args:
            tokenizer: of the model that generates.
            write: what gets the pieces; by default they go to the standard output at once.
            prompt: ids that stand before and are not written, but decide whether a space follows them.
        """
        self._tokenizer = tokenizer
        self._write = _print if write is None else write
        self._ids = list(prompt)
        self._written = len(self._text().rstrip(_BROKEN))

    def put(self, value: Tensor) -> None:
        """Take the next token, int64 (1,).

        Raises:
            ValueError: for a batch of several rows.
        """
        if value.numel() != 1:
            raise ValueError(f"tokens are expected to be of one row to be shown, but are of {value.numel()}")
        self._ids.append(int(value))
        self._show(self._text().rstrip(_BROKEN))

    def end(self) -> None:
        """Write what was held back."""
        self._show(self._text())
        self._ids, self._written = [], 0

    def _text(self) -> str:
        text: str = self._tokenizer.decode(self._ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _show(self, text: str) -> None:
        if len(text) > self._written:
            self._write(text[self._written :])
            self._written = len(text)


def _print(piece: str) -> None:
    sys.stdout.write(piece)
    sys.stdout.flush()
