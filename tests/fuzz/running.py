"""Run examples in processes that may take little memory and time, and tell what was wrong with which."""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.good_files import Seed
from tests.fuzz.kinds import Example, Kind
from tests.processes import ROOT

FORK = multiprocessing.get_context("fork")
#: Bytes that an example may take beyond what was there before.
HEADROOM = 768 << 20
#: The largest file that one may write.
MAX_FILE = 64 << 20
#: Seconds of processor time that one may take, and seconds of waiting.
PATIENCE, WAIT = 10, 120
#: How many one process does.
RECYCLED_AFTER = 250


class TooLong(BaseException):
    """Nothing that means to catch errors catches this one."""


class Finding(NamedTuple):
    """What is wrong with one example. `where` is what tells one root from another."""

    kind: str
    number: int
    what: str
    where: str
    steps: tuple[str, ...]
    detail: str


class Result(NamedTuple):
    """What came of the examples of one kind."""

    kind: Kind
    examples: int
    refused: int
    seconds: float
    findings: list[Finding]


def damaged(kind: Kind, seed: int, number: int, keep: Sequence[int] | None = None) -> tuple[Seed, bytes, tuple[str, ...]]:
    """Return an example: the good file, the damaged content, and how it was damaged; `keep` are the steps to take."""
    chance = random.Random(f"{seed} {kind.name} {number}")
    good = chance.choice(kind.seeds)
    content = (good.folder / good.file).read_bytes()
    others = [(other.folder / other.file).read_bytes() for other in kind.seeds[:8]]
    steps = []
    for step in range(chance.choice((1, 1, 1, 2, 3))):
        inner = random.Random(f"{seed} {kind.name} {number} {step}")
        if keep is not None and step not in keep:
            continue
        for _ in range(20):
            mutation = inner.choice(kind.mutations)
            try:
                content = mutation(inner, content, others)
            except Exception:  # Unfit, or what a step before has left cannot be taken apart
                continue
            steps.append(f"{step}:{mutation.__qualname__.partition('.')[0]}")
            break
    return good, content, tuple(steps)


def run_example(
    kind: Kind, seed: int, number: int, work: Path, keep: Sequence[int] | None = None
) -> tuple[bool, Finding | None]:
    """Run one example in this process; return whether the library refused it, and what was wrong."""
    good, content, steps = damaged(kind, seed, number, keep)
    folder = work / "example"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(good.folder, folder, copy_function=os.link)
    file = folder / good.file
    file.unlink()
    file.write_bytes(content)
    example = Example(folder, file, kind.names)

    def found(what: str, where: str, detail: str) -> tuple[bool, Finding]:
        return False, Finding(kind.name, number, what, where, (f"{good.folder.name}/{good.file}", *steps), detail)

    signal.signal(signal.SIGPROF, _too_long)
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)
    try:
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            kind.use(example)
    except TooLong as error:
        return found("takes too long", _where(error), "".join(traceback.format_exception(error)))
    except BaseException as error:
        signal.setitimer(signal.ITIMER_PROF, 0)
        cause = error.__cause__ if isinstance(error, AssertionError) and error.__cause__ is not None else error
        what = str(error).partition(":")[0][:80] if isinstance(error, AssertionError) else type(error).__name__
        return found(what, _where(cause), "".join(traceback.format_exception(error))[-6_000:])
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return example.refused > 0, None


def _too_long(*_: object) -> None:
    raise TooLong(f"an example takes more than {PATIENCE} seconds")


def _where(error: BaseException) -> str:
    """Return the innermost place of the library that an error came through."""
    place = "?"
    for frame, line in traceback.walk_tb(error.__traceback__):
        path = frame.f_code.co_filename
        if path.startswith((str(ROOT / "registry"), str(ROOT / "plugins"))):
            place = f"{path.removeprefix(str(ROOT) + os.sep)}:{line} {frame.f_code.co_name}"
    return place


def _work(kind: Kind, seed: int, numbers: range, folder: Path, told: Connection, keep: Sequence[int] | None) -> None:
    os.environ["REGISTRY_CACHE"] = str(folder / "cache")
    sys.stderr.flush()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + HEADROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE, MAX_FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    gc.freeze()
    for number in numbers:
        told.send((False, number))
        told.send((True, number, *run_example(kind, seed, number, folder / "work", keep)))
    shutil.rmtree(folder, ignore_errors=True)
    told.close()
    os._exit(0)


class _Job:
    """A process at work on some examples."""

    def __init__(self, kind: Kind, seed: int, numbers: range, folder: Path, keep: Sequence[int] | None = None) -> None:
        self.kind, self.numbers, self.current, self.since = kind, numbers, numbers.start, time.monotonic()
        self.told, theirs = FORK.Pipe(duplex=False)
        self.process: BaseProcess = FORK.Process(target=_work, args=(kind, seed, numbers, folder, theirs, keep))
        folder.mkdir(parents=True, exist_ok=True)
        with Path(os.devnull).open("w") as nowhere:  # what a crash of another language prints is told by its signal
            before = os.dup(2)
            os.dup2(nowhere.fileno(), 2)
            self.process.start()
            os.dup2(before, 2)
            os.close(before)
        theirs.close()


def run(kind: Kind, seed: int, numbers: range, folder: Path, jobs: int, keep: Sequence[int] | None = None) -> Result:
    """Run examples of a kind in `jobs` processes at once."""
    begun, refused, findings = time.monotonic(), 0, list[Finding]()
    some = min(RECYCLED_AFTER, -(-len(numbers) // jobs))
    todo = deque(numbers[start : start + some] for start in range(0, len(numbers), some))
    working: list[_Job] = []
    while todo or working:
        while todo and len(working) < jobs:
            part = todo.popleft()
            working.append(_Job(kind, seed, part, folder / f"job-{part.start}", keep))
        for told in wait([job.told for job in working], timeout=1):
            job = next(job for job in working if job.told is told)
            job.since = time.monotonic()
            try:
                ended, number, *rest = job.told.recv()
            except EOFError:
                job.process.join()
                working.remove(job)
                if job.current < job.numbers.stop:
                    findings.append(_lost(job, seed, keep))
                    if left := range(job.current + 1, job.numbers.stop):
                        todo.appendleft(left)
                continue
            job.current = number + ended
            if ended:
                refused += rest[0]
                findings += filter(None, [rest[1]])
        for job in working:
            if time.monotonic() - job.since > WAIT:
                job.process.kill()  # its end is noticed above
    findings.sort(key=lambda finding: finding.number)
    return Result(kind, len(numbers), refused, time.monotonic() - begun, findings)


def _lost(job: _Job, seed: int, keep: Sequence[int] | None) -> Finding:
    good, _, steps = damaged(job.kind, seed, job.current, keep)
    code = job.process.exitcode
    how = "waits for ever" if code == -signal.SIGKILL else f"the process ends with {code}"
    return Finding(job.kind.name, job.current, how, "?", (f"{good.folder.name}/{good.file}", *steps), "")


def shrunk(kind: Kind, seed: int, finding: Finding, folder: Path) -> Finding:
    """Leave out steps as long as the same thing is wrong."""
    keep = [int(step.partition(":")[0]) for step in finding.steps[1:]]
    best = finding
    for step in list(keep):
        if len(keep) > 1:
            less = [other for other in keep if other != step]
            numbers = range(finding.number, finding.number + 1)
            for other in run(kind, seed, numbers, folder, 1, less).findings:
                if (other.what, other.where) == (finding.what, finding.where):
                    best, keep = other, less
    return best


def distinct(findings: Sequence[Finding]) -> dict[tuple[str, str], list[Finding]]:
    """Return findings by what and where."""
    found: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        found.setdefault((finding.what, finding.where), []).append(finding)
    return found
