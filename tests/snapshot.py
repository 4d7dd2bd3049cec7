"""Compare with a file that is kept under tests/snapshots, so that nothing there changes or vanishes without a diff."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "snapshots"


def assert_snapshot(name: str, text: str) -> None:
    """Compare `text` with the snapshot; with UPDATE_SNAPSHOTS=1 in the environment, write it instead."""
    file = FOLDER / name
    if os.environ.get("UPDATE_SNAPSHOTS") == "1":
        FOLDER.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8"), f"{name} changed; if that is meant, run the test with UPDATE_SNAPSHOTS=1"
