"""The ranks of a device mesh in one operation that they do together: they all go on, or all end, with an error that says why.

They meet in the store of the process group, which every backend has. Nothing here needs a collective, so nothing hangs
where a rank is gone: each one leaves a sign of life in the store, each one watches for that of the next.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import os
import platform
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

import torch.distributed as dist

from registry.errors import ConfigError, DistributedError

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

__all__ = ["TIMEOUT_VARIABLE", "Ranks", "host_name", "rank_timeout"]

TIMEOUT_VARIABLE = "REGISTRY_RANK_TIMEOUT"
_DEFAULT_TIMEOUT = 1800.0
#: Seconds between two signs of life, and those without one after which a rank counts as dead.
_BEAT = 1.0
_SILENCE = 30.0
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.005, 0.2
#: Seconds that the first ranks to end stay for the others: the store may live in one of them.
_FAREWELL = 5.0

#: How many operations the members of a mesh have begun: they all count alike, because they begin the same ones.
_begun: dict[tuple[int, ...], itertools.count[int]] = defaultdict(itertools.count)


class Ranks:
    """A context in which ranks work together. Who leaves it with an error ends it for all.

    Raises, at whatever the others are asked for:
        DistributedError: naming the ranks that failed, gave no sign of life, or did not come in time.
    """

    def __init__(self, mesh: DeviceMesh, what: str) -> None:
        """Join the others.

        Args:
            mesh: the ranks; each of them joins.
            what: what they do, for people, after "expected to".

        Raises:
            ConfigError: when this process is none of them.
        """
        if mesh.get_coordinate() is None:
            raise ConfigError(f"rank {dist.get_rank()} is expected to be one of its mesh, but the mesh is {mesh}")
        self.mesh = mesh
        self.what = what
        #: The ranks of the mesh by their numbers in the whole process group, in the mesh's order.
        self.members: tuple[int, ...] = tuple(mesh.mesh.flatten().tolist())
        #: This process's place among the members.
        self.index = self.members.index(dist.get_rank())
        self.timeout = rank_timeout()
        self._taken: set[str] = set()
        self._silence = min(_SILENCE, self.timeout / 2)  # to be told of before the others have waited in vain
        group = dist.group.WORLD
        assert group is not None
        name = hashlib.sha256(str(self.members).encode()).hexdigest()[:16]
        self._store = dist.PrefixStore(  # type: ignore[attr-defined]  # public, though not listed
            f"registry/{name}/{_next(self.members)}", group.get_group_store()
        )
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="registry-ranks", daemon=True)

    @property
    def leads(self) -> bool:
        """Whether this is the first of them, who does what only one does."""
        return self.index == 0

    def __enter__(self) -> Self:
        if len(self.members) > 1:
            with self._reaching_store():
                self._store.set(f"beat/{self.index}", "0")
            self._heart.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if len(self.members) == 1:
            return
        try:
            if error is None:
                self.agree("done")
                self._part()
            elif not isinstance(error, DistributedError):  # which is of another's failure
                with contextlib.suppress(RuntimeError):
                    self._fail([self.members[self.index]], f"failed with {type(error).__name__}: {error}")
        finally:
            self._ended.set()
            with contextlib.suppress(RuntimeError):
                self._store.set(f"left/{self.index}", "1")

    # -- together ----------------------------------------------------------------------------------------------------

    def agree(self, step: str) -> None:
        """Wait until every rank has come as far as this.

        Args:
            step: its name, once in an operation.
        """
        if len(self.members) == 1:
            return
        if step in self._taken:  # an operation that its caller began anew: the others are further on
            how = "had to begin again, because what it reads changed meanwhile; load it when that has ended"
            with self._reaching_store():
                self._fail([self.members[self.index]], how)
            raise self._error([self.members[self.index]], how)
        self._taken.add(step)
        with self._reaching_store():
            self._store.set(f"{step}/{self.index}", "1")
            self._store.add(step, 1)
            for _ in self._patiently(step):
                if self._store.add(step, 0) >= len(self.members):
                    return

    def tell(self, what: str, value: str | None) -> str:
        """Return the value that the leader gives; the others give None."""
        if self.leads:
            assert value is not None
            with self._reaching_store():
                self._store.set(f"told/{what}", value)
            return value
        with self._reaching_store():
            for _ in self._patiently(None):
                if self._store.check([f"told/{what}"]):
                    break
            return self._store.get(f"told/{what}").decode()

    def gather(self, step: str, value: str) -> list[str]:
        """Return the value of every rank, in the mesh's order."""
        if len(self.members) == 1:
            return [value]
        with self._reaching_store():
            self._store.set(f"{step}/value/{self.index}", value)
        self.agree(step)
        with self._reaching_store():
            return [self._store.get(f"{step}/value/{index}").decode() for index in range(len(self.members))]

    @contextlib.contextmanager
    def talking(self) -> Iterator[None]:
        """Explain what goes wrong within a collective: torch says that a connection broke, this says whose.

        Raises:
            DistributedError: in the place of a RuntimeError of torch.
        """
        try:
            yield
        except RuntimeError as error:
            end = time.monotonic() + self._silence + 2 * _BEAT
            with self._reaching_store():
                while time.monotonic() < end:
                    self._raise_failure()
                    time.sleep(_LONGEST_PAUSE)
                how = f"cannot reach the others ({str(error).partition(chr(10))[0]:.200})"
                self._fail([self.members[self.index]], how)
            raise self._error([self.members[self.index]], how) from error

    # -- the store ---------------------------------------------------------------------------------------------------

    def _patiently(self, step: str | None) -> Iterator[None]:
        """Yield until the time is over, or a rank fails."""
        start, pause = time.monotonic(), _SHORTEST_PAUSE
        while True:
            yield
            self._raise_failure()
            if time.monotonic() - start > self.timeout:
                self._raise_late(step)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _raise_late(self, step: str | None) -> NoReturn:
        late = [self.members[0]]
        if step is not None:
            late = [rank for index, rank in enumerate(self.members) if not self._store.check([f"{step}/{index}"])]
        how = f"did not come within {self.timeout:g} s; look at its own output, or set {TIMEOUT_VARIABLE} to wait longer"
        self._fail(late, how)  # should it come after all, it finds nobody
        raise self._error(late, how)

    def _raise_failure(self) -> None:
        if self._store.check(["failed"]):
            said = json.loads(self._store.get("failed"))
            raise self._error(said["ranks"], said["how"])

    def _error(self, ranks: list[int], how: str) -> DistributedError:
        names = ", ".join(map(str, ranks))
        subject = f"rank {names} is" if len(ranks) == 1 else f"ranks {names} are"
        return DistributedError(f"{subject} expected to {self.what} with the others, but {how}", ranks=ranks)

    def _fail(self, ranks: list[int], how: str) -> None:
        """End it for all; the first failure is the one that is told."""
        if self._store.add("failures", 1) == 1:
            self._store.set("failed", json.dumps({"ranks": ranks, "how": how}))

    def _part(self) -> None:
        """Leave together: where the store lives in one of the ranks, the others must have seen the end of this before."""
        with contextlib.suppress(RuntimeError):  # it is gone, so its process saw that all were done
            self._store.add("parted", 1)
            end, pause = time.monotonic() + min(_FAREWELL, self.timeout), _SHORTEST_PAUSE
            while self._store.add("parted", 0) < len(self.members) and time.monotonic() < end:
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    @contextlib.contextmanager
    def _reaching_store(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            raise DistributedError(
                f"store of the process group is expected to answer, but does not ({reason:.200}); the process that holds it, "
                f"mostly rank 0, has ended before the others could {self.what}"
            ) from error

    def _beat(self) -> None:
        """Give signs of life, and watch for those of the next member, until this one is done."""
        after = (self.index + 1) % len(self.members)
        heard, since = b"", time.monotonic()
        with contextlib.suppress(RuntimeError):  # what asks for the others meets it too, and tells
            for count in itertools.count(1):
                if self._ended.wait(min(_BEAT, self._silence / 4)):
                    return
                self._store.set(f"beat/{self.index}", str(count))
                if not self._store.check([f"beat/{after}"]) or self._store.check([f"left/{after}"]):
                    continue  # whoever has not come yet is waited for
                if (latest := self._store.get(f"beat/{after}")) != heard:
                    heard, since = latest, time.monotonic()
                elif (silent := time.monotonic() - since) > self._silence:
                    self._fail([self.members[after]], f"gave no sign of life for {silent:.0f} s; look whether it was killed")
                    return


def _next(members: tuple[int, ...]) -> int:
    return next(_begun[members])


def host_name() -> str:
    """Return what tells this machine, as it runs now, from every other one."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):  # where it is no Linux
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    return " ".join(parts)


def rank_timeout() -> float:
    """Return how many seconds to wait for another rank.

    Raises:
        ConfigError: when the environment says something else than a number above 0.
    """
    written = os.environ.get(TIMEOUT_VARIABLE) or str(_DEFAULT_TIMEOUT)
    try:
        seconds = float(written)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ConfigError(
            f"{TIMEOUT_VARIABLE} is expected to be a number of seconds above 0, but is {written!r}; correct or unset it"
        )
    return seconds
