"""Fixtures of the store's tests."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import NoReturn

import pytest

import registry.store.fetch


@pytest.fixture
def unplug(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that takes the network away: from then on any socket fails the test."""

    def touched(*args: object, **kwargs: object) -> NoReturn:
        pytest.fail("a socket was opened")

    def take_away() -> None:
        for name in ("socket", "create_connection", "getaddrinfo"):
            monkeypatch.setattr(socket, name, touched)

    return take_away


@pytest.fixture
def unlock(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function after which taking a lock fails the test."""

    def touched(path: object) -> NoReturn:
        pytest.fail(f"the lock {path} was taken")

    return lambda: monkeypatch.setattr(registry.store.fetch, "file_lock", touched)
