"""An nginx on this machine that serves files plainly, by the hub's protocol, and slowly."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import NotMeasured

__all__ = ["COMMIT", "LARGE", "SLOW", "Server", "publish_large", "running"]

#: The commit that the hub's protocol tells.
COMMIT = "1" * 40
#: The name of the large file of the fetches.
LARGE = "model.safetensors"
#: Bytes per second of a connection to what is slow.
SLOW = 20 * 10**6

# `large.conf` describes the one large file, and is written once there is one. A hub's large files lie on another host.
_CONFIG = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
{user}
events {{ worker_connections 256; }}
http {{
  log_format sent '$status $body_bytes_sent $uri';
  access_log {folder}/access.log sent;
  sendfile on;
  default_type application/octet-stream;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    listen 127.0.0.2:{port};
    root {folder}/files;
    location /slow/ {{ alias {folder}/files/large/; limit_rate {slow}; }}
    include {folder}/large*.conf;
  }}
}}
"""
_LARGE = """
location ~ ^/acme/(model|slow)/resolve/[^/]+/{name}$ {{
  set $speed $1;
  add_header X-Repo-Commit {commit} always;
  add_header X-Linked-Size {size} always;
  add_header X-Linked-ETag '"{digest}"' always;
  add_header ETag '"{digest}"' always;
  add_header Accept-Ranges bytes always;
  return 302 http://127.0.0.2:{port}/cdn-$speed;
}}
location ~ ^/acme/(?:model|slow)/resolve/[^/]+/([^/]+)$ {{
  add_header X-Repo-Commit {commit} always;
  alias {folder}/files/large/$1;
}}
location /cdn-model {{ alias {folder}/files/large/{name}; }}
location /cdn-slow {{ alias {folder}/files/large/{name}; limit_rate {slow}; }}
"""


@dataclass(frozen=True)
class Server:
    """A running nginx; `files` below its folder is its root."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def files(self) -> Path:
        """What the server serves."""
        return self.folder / "files"

    def sent(self) -> int:
        """Return the bytes of files, or parts of files, that were sent so far by requests that have ended."""
        lines = (line.split() for line in (self.folder / "access.log").read_text().splitlines())
        return sum(int(count) for status, count, *_ in lines if status in ("200", "206"))


def publish_large(server: Server, digest: str, size: int) -> None:
    """Serve `files/large` by the hub's protocol too: `acme/model`, and `acme/slow`."""
    text = _LARGE.format(folder=server.folder, port=server.port, name=LARGE, commit=COMMIT, size=size, digest=digest, slow=SLOW)
    (server.folder / "large.conf").write_text(text)
    server.process.send_signal(1)  # SIGHUP: read the configuration again
    time.sleep(1)


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    """Run a server with files, configuration and logs in a folder.

    Raises:
        NotMeasured: when there is no nginx, or it does not start.
    """
    binary = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if binary is None:
        raise NotMeasured("nginx is expected to be installed, but is not; on Debian: apt-get install nginx-light")
    (folder / "files").mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    # Workers of root give up root, and could not enter the folder.
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, port=port, user=user, slow=SLOW))
    command = [binary, "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.02)
        else:
            raise NotMeasured(f"nginx is expected to start, but does not: {(folder / 'error.log').read_text()}")
        yield Server(folder, port, process)
    finally:
        process.terminate()
        process.wait(30)
