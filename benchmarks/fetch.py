"""Fetch one large file beside curl and huggingface_hub, from servers on this machine, as ratios of one run.

    python benchmarks/fetch.py [--size-mb 400] [--rounds 7] [--quick]

What is compared, each in turn in every round, cold each time:

- process: `registry fetch` of a file with a pinned sha256, against `curl` then `sha256sum` (both verify), and against
  `hf download` (which verifies nothing), as whole processes with their start
- in process: the same fetch without the interpreter's start, against `hf_hub_download`
- the same with each connection limited to 20 MB/s, and from an S3 server (moto, which is itself slow)

nginx serves the file, plainly and by the hub's resolve protocol, so that both clients ask one and the same server. Figures
go to benchmarks/results/fetch.json; nothing here asserts one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"
COMMIT = "1" * 40
NAME = "model.safetensors"

CONFIG = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
  access_log off;
  sendfile on;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    listen 127.0.0.2:{port};  # large files of a hub lie elsewhere
    location /plain/ {{ alias {folder}/files/; }}
    location /slow/ {{ alias {folder}/files/; limit_rate 20m; }}
    location ~ ^/acme/(model|slow)/resolve/[^/]+/{name}$ {{
      set $speed $1;
      add_header X-Repo-Commit {commit} always;
      add_header X-Linked-Size {size} always;
      add_header X-Linked-ETag '"{digest}"' always;
      add_header ETag '"{digest}"' always;
      add_header Accept-Ranges bytes always;
      return 302 http://127.0.0.2:{port}/cdn-$speed;
    }}
    location /cdn-model {{ alias {folder}/files/{name}; }}
    location /cdn-slow {{ alias {folder}/files/{name}; limit_rate 20m; }}
  }}
}}
"""

OURS = """
import sys, time
from pathlib import Path
from registry.catalog.entry import FilePin
from registry.store.cache import Cache
from registry.store.place import Place
from registry.store.store import Store
import requests, filelock
source, digest, size, cache = sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
began = time.perf_counter()
pins = {"model.safetensors": FilePin(sha256=digest, size=size)} if digest else {}
with Store(Cache((cache,)), offline=False) as store:
    assert store.get(Place((source,), pins), "model.safetensors") is not None
print(time.perf_counter() - began)
"""

HUB = """
import sys, time
import huggingface_hub.file_download
from huggingface_hub import hf_hub_download
began = time.perf_counter()
hf_hub_download(sys.argv[1], "model.safetensors", cache_dir=sys.argv[2])
print(time.perf_counter() - began)
"""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def nginx(folder: Path, digest: str, size: int) -> Iterator[str]:
    """Serve the folder's files; yield the address."""
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(folder=folder, port=port, name=NAME, commit=COMMIT, size=size, digest=digest))
    command = shutil.which("nginx") or "/usr/sbin/nginx"
    process = subprocess.Popen([command, "-p", str(folder), "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def moto(body: Path) -> Iterator[str]:
    """Serve one object by S3's own protocol; yield the endpoint."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it logs every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        client = boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret"
        )
        client.create_bucket(Bucket="acme")
        client.upload_file(str(body), "acme", f"bert/{NAME}")
        yield endpoint
    finally:
        server.stop()


class Bench:
    """The measures of one file."""

    def __init__(self, folder: Path, digest: str, size: int, url: str) -> None:
        self._folder, self._digest, self._size, self._url = folder, digest, size, url
        quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        self._environment = {
            **os.environ,
            **quiet,
            "HF_ENDPOINT": url,
            "REGISTRY_QUIET": "1",
            "NO_PROXY": "127.0.0.1,127.0.0.2",
        }

    def _run(self, *command: str, **more: str) -> tuple[float, str]:
        shutil.rmtree(self._folder / "cache", ignore_errors=True)
        began = time.perf_counter()
        done = subprocess.run(command, env={**self._environment, **more}, capture_output=True, text=True, check=False)
        taken = time.perf_counter() - began
        if done.returncode:
            raise SystemExit(f"{command[0]} failed: {done.stderr[-2000:]}")
        return taken, done.stdout

    @property
    def _cache(self) -> str:
        return str(self._folder / "cache")

    def ours(self, source: str, digest: str, **more: str) -> tuple[float, float]:
        """Return seconds of the process, and of the fetch inside it."""
        taken, out = self._run(sys.executable, "-c", OURS, source, digest, str(self._size), self._cache, **more)
        return taken, float(out)

    def hub(self, repo: str) -> tuple[float, float]:
        """Return seconds of the process, and of the fetch inside it."""
        taken, out = self._run(sys.executable, "-c", HUB, repo, self._cache)
        return taken, float(out.split()[-1])

    def curl(self, path: str) -> tuple[float, float]:
        """Return seconds of curl then sha256sum, and of curl alone."""
        target = self._folder / "curl.out"
        alone, _ = self._run("curl", "-sf", "-o", str(target), f"{self._url}/{path}/{NAME}")
        checked, _ = self._run("sha256sum", str(target))
        target.unlink()
        return alone + checked, alone


def measure(
    bench: Bench, digest: str, rounds: int, slow_rounds: int, url: str, endpoint: str | None
) -> dict[str, dict[str, list[float]]]:
    """Run everything in turn; return seconds by comparison and program."""
    figures: dict[str, dict[str, list[float]]] = {}

    def note(row: str, program: str, seconds: float) -> None:
        figures.setdefault(row, {}).setdefault(program, []).append(seconds)

    for number in range(rounds + 1):  # the first round warms the machine and is not counted
        for speed, repo, path in (("", "acme/model", "plain"), (" at 20 MB/s", "acme/slow", "slow")):
            if speed and number > slow_rounds:
                continue
            plain, inside = bench.ours(f"{url}/{path}", digest)
            checked, alone = bench.curl(path)
            by_hub, hub_inside = bench.ours(f"hf://{repo}@main", "")
            theirs, theirs_inside = bench.hub(repo)
            if number == 0:
                continue
            note(f"plain server{speed}, process", "registry", plain)
            note(f"plain server{speed}, process", "curl + sha256sum", checked)
            note(f"plain server{speed}, in process / curl process", "registry", inside)
            note(f"plain server{speed}, in process / curl process", "curl alone", alone)
            note(f"hub{speed}, process", "registry", by_hub)
            note(f"hub{speed}, process", "huggingface_hub", theirs)
            note(f"hub{speed}, in process", "registry", hub_inside)
            note(f"hub{speed}, in process", "huggingface_hub", theirs_inside)
        if endpoint and 0 < number <= slow_rounds:
            keys = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
            _, whole = bench.ours("s3://acme/bert", digest, **keys, AWS_REGION="us-east-1", REGISTRY_PARALLEL="1")
            _, parts = bench.ours("s3://acme/bert", digest, **keys, AWS_REGION="us-east-1")
            note("moto S3 server, in process", "registry", parts)
            note("moto S3 server, in process", "registry, one stream", whole)
    return figures


def report(figures: dict[str, dict[str, list[float]]], size: int) -> list[str]:
    """Return a table of medians and ratios."""
    lines = [f"{'':46} {'MB/s ours':>10} {'MB/s peer':>10} {'ours/peer':>10}   spread of ours, peer"]
    for row, programs in figures.items():
        (_, ours), (peer_name, peer) = programs.items()
        a, b = statistics.median(ours), statistics.median(peer)
        spread = ", ".join(f"{min(values):.2f}-{max(values):.2f} s" for values in (ours, peer))
        lines.append(
            f"{row:46} {size / a / 1e6:10.0f} {size / b / 1e6:10.0f} {a / b:10.2f}   {spread}  ({peer_name}, n={len(ours)})"
        )
    return lines


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mb", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="100 MB and three rounds")
    options = parser.parse_args()
    size = (100 if options.quick else options.size_mb) * 10**6
    rounds = 3 if options.quick else options.rounds
    with tempfile.TemporaryDirectory(prefix="fetch-") as temporary:
        folder = Path(temporary)
        (folder / "files").mkdir()
        folder.chmod(0o755)  # nginx's worker is another user
        body = np.random.default_rng(0).bytes(size)
        (folder / "files" / NAME).write_bytes(body)
        digest = hashlib.sha256(body).hexdigest()
        del body
        with nginx(folder, digest, size) as url, moto(folder / "files" / NAME) as endpoint:
            figures = measure(Bench(folder, digest, size, url), digest, rounds, min(rounds, 3), url, endpoint)
    for line in report(figures, size):
        print(line)
    RESULTS.mkdir(exist_ok=True)
    machine = {"machine": platform.machine(), "cpus": os.cpu_count(), "python": platform.python_version()}
    data = {"bytes": size, "host": machine, "seconds": figures}
    (RESULTS / "fetch.json").write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
