"""The lines of a text: where they begin and end, and how to insert and remove them."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["Lines"]

#: Line ends of YAML 1.1, which the parser follows.
_BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")
_COMMON_BREAK = re.compile(r"\r\n|[\n\r]")
_ENDS_WITH_BREAK = re.compile(r"(?:\r\n|[\n\r\x85\u2028\u2029])\Z")
_BLANK = " \t\r\n\x85\u2028\u2029"


class Lines:
    """Finds lines of a text. Positions count characters."""

    def __init__(self, text: str) -> None:
        self.text = text

    @property
    def ends(self) -> bool:
        """Whether the last line has an end."""
        return self._ends(self.text)

    def number(self, position: int) -> int:
        """Return the number of a position's line, from 1."""
        return len(_BREAK.findall(self.text, 0, position)) + 1

    def start(self, position: int) -> int:
        """Return where the line of a position begins."""
        return max(self.text.rfind(mark, 0, position) for mark in "\n\r\x85\u2028\u2029") + 1

    def after(self, position: int) -> int:
        """Return where the next line after a position begins; at most the end of the text."""
        found = _BREAK.search(self.text, position)
        return found.end() if found else len(self.text)

    def before(self, start: int) -> int:
        """Return where the line before the one at `start` begins; for the first line, `start` itself."""
        found = _ENDS_WITH_BREAK.search(self.text[max(0, start - 2) : start])
        return self.start(start - len(found[0])) if found else 0

    def column(self, position: int) -> int:
        """Return the number of characters before a position in its line."""
        return position - self.start(position)

    def is_first(self, position: int) -> bool:
        """Whether only blanks precede a position in its line."""
        return not self.text[self.start(position) : position].strip(_BLANK)

    def is_last(self, position: int) -> bool:
        """Whether only blanks or a comment follow a position in its line, and the line has an end."""
        rest = self.text[position : self.after(position)]
        return (not rest.strip(_BLANK) or rest.lstrip(" \t").startswith("#")) and self._ends(rest)

    def is_blank(self, start: int) -> bool:
        """Whether a blank line begins at `start`."""
        line = self.text[start : self.after(start)]
        return line != "" and not line.strip(_BLANK)

    def below(self, position: int, column: int) -> int:
        """Return where the next line begins, after a position and the following comments that are deeper than a column."""
        at = end = self.after(position)
        while at < len(self.text):
            indent = self._comment_at(at)
            if indent is not None and indent > column:
                at = end = self.after(at)
            elif self.is_blank(at):
                at = self.after(at)
            else:
                break
        return end

    def above(self, position: int, column: int, limit: int) -> int:
        """Return where the comments directly above a position's line begin, at a column and not before `limit`."""
        at = self.start(position)
        while at > limit and self._comment_at(self.before(at)) == column:
            at = self.before(at)
        return at

    def comment_column(self, start: int, deeper_than: int) -> int | None:
        """Return the column of the next comment from a line on, after blank lines, if it is deeper than a given column."""
        while self.is_blank(start):
            start = self.after(start)
        indent = self._comment_at(start)
        return indent if indent is not None and indent > deeper_than else None

    def insert(self, start: int, lines: Sequence[str]) -> str:
        """Return the text with lines inserted before the one at `start`, with the line ends of their neighbours."""
        mark = self._break(start)
        if self._ends(self.text[:start]):
            return self.text[:start] + "".join(line + mark for line in lines) + self.text[start:]
        # The last line of the text has no line end, so the new last line gets none either.
        return self.text[:start] + "".join(mark + line for line in lines) + self.text[start:]

    def cut(self, start: int, stop: int) -> str:
        """Return the text without the lines from `start` up to `stop`."""
        if stop == len(self.text) and not self._ends(self.text):
            # The line before becomes the last one, which has no line end.
            found = _ENDS_WITH_BREAK.search(self.text[:start])
            start -= len(found[0]) if found else 0
        return self.text[:start] + self.text[stop:]

    def swap(self, start: int, stop: int, lines: Sequence[str]) -> str:
        """Return the text with lines replaced by others."""
        mark = self._break(start)
        new = mark.join(lines) + (mark if self._ends(self.text[:stop]) else "")
        return self.text[:start] + new + self.text[stop:]

    def _comment_at(self, start: int) -> int | None:
        """Return the column of a line's comment, or None when the line has other content or a tab."""
        line = self.text[start : self.after(start)]
        words = line.lstrip(" ")
        return len(line) - len(words) if words.startswith("#") else None

    def _break(self, position: int) -> str:
        """Return the line end of the line before a position, or else of the first line."""
        before = _ENDS_WITH_BREAK.search(self.text[max(0, position - 2) : position])
        if before is not None and _COMMON_BREAK.fullmatch(before[0]):
            return before[0]
        found = _COMMON_BREAK.search(self.text)
        return found[0] if found else "\n"

    @staticmethod
    def _ends(text: str) -> bool:
        """Whether a text is empty or ends with a whole line."""
        return not text or _ENDS_WITH_BREAK.search(text[-2:]) is not None
