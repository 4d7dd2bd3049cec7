"""Many processes that fetch, verify, prune, damage and are killed at random, for as long as one likes.

    python -m tests.store.soak [--seconds 600] [--seed 1]

What each process does is drawn from the seed, its number and how often it was killed before it, so a run can be had again:
the same actions come in the same order, though not at the same moments. In the end nothing wrong may ever have been read,
and nothing may be left that nobody owns.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import logging
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

from registry.catalog.entry import FilePin
from registry.errors import CacheError, DownloadError, IntegrityError
from registry.store import download
from registry.store import download as patience
from registry.store.cache import Cache, file_sha256
from registry.store.store import Store
from registry.store.target import Place
from registry.store.upkeep.prune import prune
from registry.store.upkeep.verify import verify
from tests.servers import Handler, Request, serving
from tests.store.helpers import leftovers, sha256

SPAWN = multiprocessing.get_context("spawn")
WORKERS = 4
SIZES = (1_000, 50_000, 700_000, 3_000_000, 9_000_000)


def content(number: int) -> bytes:
    """Return what a file holds, in every process the same."""
    return random.Random(f"content {number}").randbytes(SIZES[number])


class Server:
    """Sends the files, and on some requests breaks off, flips a bit, forgets ranges, or is too busy."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(f"server {seed}")
        self._bodies = {f"/{kind}/{n}.bin": content(n) for kind in ("pinned", "plain") for n in range(len(SIZES))}

    def __call__(self, handler: Handler, request: Request) -> None:
        body = self._bodies[request.path]
        mishap = self._chance.random()
        if mishap < 0.05:
            handler.reply(request, 503, b"", {"Retry-After": "0"})
        elif mishap < 0.15:
            handler.reply_part(request, body, etag='"one"', cut=self._chance.randrange(len(body)))
        elif mishap < 0.20 and request.path.startswith("/pinned/"):  # without a pin nobody could know
            at = self._chance.randrange(len(body))
            handler.reply_part(request, body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :], etag='"one"')
        elif mishap < 0.25:
            handler.reply(request, 200, body, {"ETag": '"one"'})
        else:
            handler.reply_part(request, body, etag='"one"')


@contextlib.contextmanager
def gate(folder: Path, operation: int) -> Iterator[None]:
    """Keep who damages files apart from who reads them: damage below a reader's eyes can nobody prevent."""
    with (folder / "gate").open("w") as file:
        fcntl.flock(file, operation)
        yield


def work(folder: Path, url: str, seed: str, until: float) -> None:
    """Do one thing after the other; write down what was read, and stop at anything wrong."""
    os.environ |= {"REGISTRY_RETRIES": "3", "REGISTRY_QUIET": "1", "REGISTRY_PARALLEL": "1" if seed.endswith("0") else "3"}
    logging.disable()  # what is expected here would fill screens
    patience._FIRST = 0.01
    download._PARTS_FROM, download._PART, download._PROBE = 2 << 20, 1 << 20, 1 << 19
    chance = random.Random(seed)
    cache = Cache((folder / "cache",))
    done: Counter[str] = Counter()
    truth = [sha256(content(number)) for number in range(len(SIZES))]
    while time.time() < until:
        action = chance.choices(("fetch", "verify", "prune", "damage"), (80, 3, 7, 10))[0]
        try:
            if action == "fetch":
                fetch(cache, folder, url, chance, truth)
            elif action == "verify":
                for _ in verify(cache, repair=chance.random() < 0.5):
                    pass
            elif action == "prune":
                prune(cache, max_size=chance.choice((None, 0, 2_000_000, 8_000_000)))
            else:
                damage(cache, folder, chance)
            done[action] += 1
        except (DownloadError, IntegrityError, CacheError) as error:  # the server's mishaps, and files that are gone
            done[f"{action}: {type(error).__name__}"] += 1
        with (folder / f"done-{os.getpid()}.json").open("w") as file:
            json.dump(done, file)


def fetch(cache: Cache, folder: Path, url: str, chance: random.Random, truth: list[str]) -> None:
    """Get some files, build their folder, and hold every byte of both against the truth."""
    numbers = chance.sample(range(len(SIZES)), chance.randint(1, 3))
    pinned = chance.random() < 0.7
    pins = {f"{n}.bin": FilePin(sha256=truth[n], size=chance.choice((None, SIZES[n]))) for n in numbers} if pinned else {}
    with gate(folder, fcntl.LOCK_SH), Store(cache, offline=False) as store:
        source = f"{url}/{'pinned' if pinned else 'plain'}"
        files = [
            (number, store.get(Place((source,), pins, label=f"model-{numbers[0]}"), f"{number}.bin")) for number in numbers
        ]
        for number, file in files:
            assert file is not None
            if not file.path.exists():  # pruned meanwhile; a load would do it anew
                raise CacheError("pruned", path=str(file.path))
            with contextlib.suppress(FileNotFoundError):
                if (found := file_sha256(file.path)) != truth[number] or file.sha256 != truth[number]:
                    raise SystemExit(f"WRONG BYTES: {file} is {found}, and is expected to be {truth[number]}")
        place = store.folder(f"model-{numbers[0]}", [file for _, file in files if file is not None])
        for _, file in files:
            assert file is not None
            with contextlib.suppress(FileNotFoundError):
                if file_sha256(place / file.name) != file.sha256:
                    raise SystemExit(f"WRONG BYTES: {place / file.name} is not {file.sha256}")


def damage(cache: Cache, folder: Path, chance: random.Random) -> None:
    """Cut, zero or flip a blob, or write nonsense over a record."""
    with gate(folder, fcntl.LOCK_EX):
        walked = [(Path(parent), name) for parent, _, names in os.walk(cache.root) for name in names]
        found = sorted(parent / name for parent, name in walked if parent.name != "locks")
        if not found:
            return
        path = chance.choice(found)
        if path.suffix in (".partial", ".tmp"):
            return  # of a living process: nobody else writes there
        how = chance.randrange(4)
        with contextlib.suppress(FileNotFoundError):
            path.chmod(0o644)
            size = path.stat().st_size
            if path.suffix in (".json", ".journal") or how == 0:
                path.write_bytes(chance.randbytes(chance.randrange(40)))
            elif how == 1:
                os.truncate(path, chance.randrange(size + 1))
            elif size:
                with path.open("rb+") as file:
                    file.seek(chance.randrange(size))
                    file.write(b"\0" if how == 2 else chance.randbytes(1))


def soak(folder: Path, seconds: float, seed: int) -> list[str]:
    """Run it; return what is wrong."""
    chance = random.Random(f"killer {seed}")
    problems: list[str] = []
    killed = 0
    with serving(Server(seed)) as server:
        until = time.time() + seconds

        def start(number: int, life: int) -> BaseProcess:
            process = SPAWN.Process(target=work, args=(folder, server.url, f"{seed} {number} {life}", until))
            process.start()
            return process

        lives = [(start(number, 0), 0) for number in range(WORKERS)]
        while time.time() < until:
            time.sleep(chance.uniform(0.2, 2.0))
            number = chance.randrange(WORKERS)
            process, life = lives[number]
            if process.is_alive() and time.time() < until:
                process.kill()
                killed += 1
            process.join(60)
            if process.exitcode not in (0, -9):
                problems.append(f"worker {number} in life {life} ended with {process.exitcode}")
                break
            lives[number] = start(number, life + 1), life + 1
        for number, (process, life) in enumerate(lives):
            process.join(seconds + 120)
            if process.exitcode != 0:
                problems.append(f"worker {number} in life {life} ended with {process.exitcode}")
    done: Counter[str] = Counter()
    for path in folder.glob("done-*.json"):
        with contextlib.suppress(ValueError):  # of one that was killed while it wrote
            done.update(json.loads(path.read_text()))
    print(f"seed {seed}, {seconds:.0f} s, {killed} killed: {dict(sorted(done.items()))}")
    cache = Cache((folder / "cache",))
    for check in verify(cache, repair=True):
        print(f"left {check.state}: {check.name or check.path.name}") if check.state != "ok" else None
    prune(cache)
    problems += [f"not right after repair: {check}" for check in verify(cache) if check.state != "ok"]
    prune(cache)
    problems += [f"orphan: {name}" for name in leftovers(cache.root) if is_orphan(cache, name)]
    locks = list((cache.root / "locks").glob("*"))
    problems += [f"lock file of nobody: {path.name}" for path in locks]
    return problems


def is_orphan(cache: Cache, name: str) -> bool:
    """Whether a file in a cache is of no use to anybody."""
    path = cache.root / name
    if any(mark in name for mark in (".partial", ".journal", ".tmp", "quarantine/")) or path.parent.name.startswith("."):
        return True
    return name.startswith("blobs/") and name.endswith(".json") and not path.with_suffix("").exists()


def main() -> None:
    """Run a soak from the command line; the exit code is 1 when anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        problems = soak(Path(folder), options.seconds, options.seed)
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
