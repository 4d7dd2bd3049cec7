"""Who made a private file: names by which a later process can tell whether its owner still lives."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import sys
from enum import Enum
from pathlib import Path

__all__ = ["OWNED", "OwnerState", "nobodys_token", "owner_state", "owner_token"]

#: A token inside a file name.
OWNED = re.compile(r"(?P<machine>[0-9a-f]{12})-(?P<pid>[0-9]{1,10})-(?P<start>[0-9]{1,20})-[0-9a-f]{8}")


class OwnerState(Enum):
    """What is known of the process that a token names."""

    ALIVE = "alive"
    DEAD = "dead"
    #: It is of another machine or container, where this one cannot look.
    UNKNOWN = "unknown"


def owner_token() -> str:
    """Return a new token of this process, unique among all its tokens."""
    pid = os.getpid()
    return f"{_machine(pid)}-{pid}-{_started(pid) or 0}-{os.urandom(4).hex()}"


def nobodys_token() -> str:
    """Return a new token of nobody: what bears it is free to be taken over."""
    return f"{_machine(os.getpid())}-0-0-{os.urandom(4).hex()}"


def owner_state(name: str) -> OwnerState:
    """Return what is known of the process whose token is in a file name."""
    found = OWNED.search(name)
    if found is None or found["machine"] != _machine(os.getpid()) or sys.platform == "win32":
        return OwnerState.UNKNOWN
    pid = int(found["pid"])
    if pid == 0:
        return OwnerState.DEAD
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return OwnerState.DEAD
    except PermissionError:  # it lives, and is somebody else's
        pass
    started = _started(pid)
    # A process that took over the number of a dead one has another time of birth.
    return OwnerState.ALIVE if started is None or started == int(found["start"]) else OwnerState.DEAD


@functools.lru_cache(maxsize=1)
def _machine(pid: int) -> str:
    """Name the space in which process numbers mean something: this boot of this host, and the container in it."""
    import platform

    parts = [platform.node()]
    with contextlib.suppress(OSError):  # where it is no Linux
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text(), str(Path(f"/proc/{pid}/ns/pid").readlink())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _started(pid: int) -> int | None:
    """Return when a process began, in clock ticks since the machine's start; None where that is not told."""
    try:
        # The second field, the command in brackets, may hold anything; the 22nd is what is wanted.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return int(fields[19])
    except (OSError, IndexError, ValueError):
        return None
