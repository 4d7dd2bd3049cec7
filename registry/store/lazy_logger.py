"""Loggers for what rarely has anything to say."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from logging import Logger
    from typing import Any

__all__ = ["lazy_logger"]


class _LazyLogger:
    """Stand for the logger of a name; `logging`, which costs as much as ten modules, is imported when it is used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        from logging import getLogger

        return getattr(getLogger(self._name), attribute)


def lazy_logger(name: str) -> Logger:
    """Return what can be used as `logging.getLogger(name)`."""
    return _LazyLogger(name)  # type: ignore[return-value]  # it has every attribute of one
