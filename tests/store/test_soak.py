"""Half a minute of the soak; `make soak` runs it for longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.store.soak import soak


@pytest.mark.slow
def test_half_a_minute_of_everything_at_once_ends_with_right_bytes_and_nothing_left_over(tmp_path: Path) -> None:
    assert soak(tmp_path, 25, seed=20260) == []
