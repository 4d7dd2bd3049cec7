"""An nginx of a test's own: its configuration, files, certificates and logs in a temporary folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_CONFIG = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 2;
{user}
events {{ worker_connections 256; }}
http {{
    log_format plain '$request_method $uri $status $body_bytes_sent "$http_range" "$http_if_range"';
    access_log {folder}/access.log plain;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    default_type application/octet-stream;
    sendfile on;
    root {folder}/files;
    server {{ listen 127.0.0.1:{port}; location /slow/ {{ limit_rate 2m; }} }}
    {tls}
}}
"""
_TLS = "server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {pem}; ssl_certificate_key {pem}; }}"


@dataclass
class Nginx:
    """A running nginx; what lies below `/slow/` it sends at 2 MB/s a connection."""

    folder: Path
    port: int
    #: Of the servers with certificates, by the name that their files were given.
    tls_ports: Mapping[str, int]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def put(self, path: str, body: bytes) -> None:
        """Put a file in the place of another, as a publisher does."""
        file = self.folder / "files" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_name("new")
        new.write_bytes(body)
        if file.exists():  # an ETag is of size and second
            os.utime(new, (file.stat().st_mtime + 1,) * 2)
        new.replace(file)

    def log(self) -> list[str]:
        """Return the requests that have ended."""
        return (self.folder / "access.log").read_text().splitlines()


def require_nginx() -> str:
    """Return where nginx is; without one a test is skipped, but never in CI."""
    binary = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if binary is None:
        reason = "nginx is not installed; on Debian: apt-get install nginx-light"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return binary


@contextmanager
def running_nginx(folder: Path, certificates: Mapping[str, bytes]) -> Iterator[Nginx]:
    """Run nginx with a plain server, and one with each of the certificates (PEM of key and chain)."""
    binary = require_nginx()
    (folder / "files").mkdir(parents=True)
    for name, pem in certificates.items():
        (folder / f"{name}.pem").write_bytes(pem)
    for _ in range(5):  # somebody else may take a port between the look and the start
        port, *tls_ports = _free_ports(1 + len(certificates))
        ports = dict(zip(certificates, tls_ports, strict=True))
        tls = "\n    ".join(_TLS.format(port=of_name, pem=folder / f"{name}.pem") for name, of_name in ports.items())
        # Workers of root give up root, and could not enter the folder.
        user = "user root;" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(_CONFIG.format(folder=folder, port=port, tls=tls, user=user))
        process = subprocess.Popen(
            [binary, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            if _answers(process, port):
                yield Nginx(folder, port, ports)
                return
        finally:
            process.terminate()
            process.wait(30)
    pytest.fail(f"nginx does not start: {(folder / 'error.log').read_text()}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    for _ in range(500):
        if process.poll() is not None:
            return False
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return True
    return False
