"""Loggers for what rarely has anything to say, and may have to say it in a stranger's words."""

from __future__ import annotations

from registry.errors import escaped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from logging import Logger, LogRecord
    from typing import Any

__all__ = ["lazy_logger"]


def _show_all(record: LogRecord) -> bool:
    """Put escapes for what shows nothing or moves other text; a record without any keeps its form and its arguments."""
    text = record.getMessage()
    if (shown := escaped(text)) != text:
        record.msg, record.args = shown, None
    return True


class _LazyLogger:
    """Stand for the logger of a name; `logging`, which costs as much as ten modules, is imported when it is used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        from logging import getLogger

        logger = getLogger(self._name)
        logger.addFilter(_show_all)  # once: it knows its filters
        return getattr(logger, attribute)


def lazy_logger(name: str) -> Logger:
    """Return what can be used as `logging.getLogger(name)`; what it logs is shown with escapes, as messages of errors are."""
    return _LazyLogger(name)  # type: ignore[return-value]  # it has every attribute of one
