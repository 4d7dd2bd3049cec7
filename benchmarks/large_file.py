"""One large file on the server, plain, slow and by the hub's protocol, and the ways to fetch it cold."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.harness import NotMeasured, Sample
from benchmarks.inputs import Inputs
from benchmarks.servers import COMMIT, LARGE, publish_large
from benchmarks.stage import Stage

__all__ = ["LargeFile"]

_PARTS = 8


class LargeFile:
    """A large file on the server, plain, slow and as of a hub, and names for it."""

    def __init__(self, stage: Stage, inputs: Inputs) -> None:
        self.stage, self.server = stage, stage.server
        self.folder = self.server.files / "large"
        self.cold = stage.folder / "cold"
        if not self.folder.exists():
            self.folder.mkdir()
            with (self.folder / LARGE).open("wb") as file:
                for _ in range(80 if stage.quick else 400):
                    file.write(os.urandom(10**6))
            (self.folder / "config.json").write_text('{"model_type": "bert"}')
            shutil.copy(inputs.vocabulary("bert") / "vocab.txt", self.folder)
            small = self.server.files / "small"
            small.mkdir()
            for name in ("config.json", "vocab.txt"):
                shutil.copy(self.folder / name, small)
            (small / LARGE).write_bytes(b"small")
            hub = f"@{COMMIT}"
            inputs.publish("small", "bert", f"{self.server.url}/small", small)
            inputs.publish("large", "bert", f"{self.server.url}/large", self.folder)
            inputs.publish("large-of-hub", "bert", f"hf://acme/model{hub}", self.folder)
            inputs.publish("large-slow", "bert", f"hf://acme/slow{hub}", self.folder)
            inputs.settle()
            digest = subprocess.run(["sha256sum", self.folder / LARGE], capture_output=True, text=True, check=True).stdout
            publish_large(self.server, digest.split()[0], self.size)
        self.variables = {"REGISTRY_CACHE": str(self.cold), "HF_ENDPOINT": self.server.url}

    @property
    def size(self) -> int:
        """The bytes of the large file."""
        return (self.folder / LARGE).stat().st_size

    def clear(self) -> None:
        """Take away what was fetched, and let the disk finish what it has to write."""
        shutil.rmtree(self.cold, ignore_errors=True)
        self.cold.mkdir()
        os.sync()

    def process(self) -> Sample:
        """Run `registry fetch`."""
        self.clear()
        return Sample(self.stage.run([self.stage.command("registry"), "fetch", "large"], self.variables)[0])

    def ours(self, name: str) -> Sample:
        """Fetch by ours, without the start of the process."""
        self.clear()
        return self.stage.sample("fetch", self.variables, side="ours", name=name, first="small", times=1)

    def hub(self, repo: str) -> Sample:
        """Fetch by the hub's library, without the start of the process."""
        self.clear()
        options = {"repo": repo, "first": "config.json", "cache": str(self.cold), "times": 1}
        return self.stage.sample("fetch", self.variables, side="peer", **options)

    def curl(self, *, check: bool) -> Sample:
        """Run curl, with or without `sha256sum` after it."""
        self.clear()
        target = self.cold / LARGE
        taken, _ = self.stage.run(["curl", "-sf", "-o", target, f"{self.server.url}/large/{LARGE}"])
        return Sample(taken + (self.stage.run(["sha256sum", target])[0] if check else 0))

    def curl_in_parts(self) -> Sample:
        """Run several curl at once."""
        self.clear()
        step = -(-self.size // _PARTS)
        began = time.monotonic()
        parts = [
            subprocess.Popen(
                [
                    "curl",
                    "-sf",
                    "-r",
                    f"{first}-{first + step - 1}",
                    "-o",
                    self.cold / f"{first}",
                    f"{self.server.url}/slow/{LARGE}",
                ]
            )
            for first in range(0, self.size, step)
        ]
        if any(part.wait() for part in parts):
            raise NotMeasured("curl of a part failed")
        return Sample(time.monotonic() - began)

    def together(self, count: int) -> tuple[float, float]:
        """Let processes fetch at once; return seconds until the last has the model, and bytes sent over those of its files."""
        self.clear()
        go = self.cold / "go"
        program = Path(__file__).parent / "programs/fetch.py"
        processes = []
        for number in range(count):
            options = {
                "side": "ours",
                "name": "large",
                "first": "small",
                # A cache for each: who found everything in another's would import and connect later, while it is timed.
                "aside": str(self.cold / f"aside-{number}"),
                "times": 1,
                "ready": str(self.cold / f"ready-{number}"),
                "go": str(go),
            }
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-P", program, json.dumps(options)],
                    env={**self.stage.environment, **self.variables},
                    cwd=self.stage.folder / "work",
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
        while len(list(self.cold.glob("ready-*"))) < count:
            if any(process.poll() for process in processes):
                raise NotMeasured("a process that should fetch failed before it could")
            time.sleep(0.01)
        time.sleep(0.2)  # the log is written when a request has ended
        sent = self.server.sent()
        began = time.monotonic()
        go.touch()
        told = [process.communicate()[0] for process in processes]
        if any(process.returncode for process in processes):
            raise NotMeasured("one of the processes that fetch together failed")
        ended = max(json.loads(line)["ended"] for line in told)
        time.sleep(0.2)
        total = sum(file.stat().st_size for file in self.folder.iterdir())
        return ended - began, (self.server.sent() - sent) / total
