"""Servers on the loopback interface that behave, and misbehave, like real ones."""

from __future__ import annotations

import hashlib
import re
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Request:
    """One request as a server saw it; `sent` counts the bytes of the answer's body."""

    method: str
    path: str
    headers: dict[str, str]
    sent: int = 0


Answer = Callable[["Handler", Request], None]


class Handler(BaseHTTPRequestHandler):
    """Hands every request to the server's own function."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes, and tests are to be quick
    server: Server

    def do_GET(self) -> None:
        request = Request(self.command, self.path, {key.lower(): value for key, value in self.headers.items()})
        with self.server.lock:
            self.server.requests.append(request)
        self.server.answer(self, request)

    do_HEAD = do_GET

    def reply(
        self,
        request: Request,
        status: int,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        length: int | None = None,
        cut: int | None = None,
        pace: Callable[[int], None] | None = None,
    ) -> None:
        """Send an answer; `length` is what is claimed (-1 for nothing), `cut` is where the connection breaks off."""
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        claimed = len(body) if length is None else length
        if claimed >= 0:
            self.send_header("Content-Length", str(claimed))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if self.command == "HEAD":
            return
        whole = memoryview(body)[:cut]
        for start in range(0, len(whole), 1 << 16):
            piece = whole[start : start + (1 << 16)]
            if pace is not None:
                pace(len(piece))
            try:
                self.wfile.write(piece)
            except OSError:  # the client had enough
                self.close_connection = True
                return
            with self.server.lock:
                request.sent += len(piece)
        if cut is not None or claimed != len(body):
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""

    def reply_part(
        self,
        request: Request,
        body: bytes,
        *,
        etag: str = "",
        changed: str = "",
        cut: int | None = None,
        pace: Callable[[int], None] | None = None,
    ) -> None:
        """Send a file, or the part of it that is asked for, as a good server does; `pace` is told of each piece before it."""
        headers = {"Accept-Ranges": "bytes"}
        headers |= {"ETag": etag} if etag else {}
        headers |= {"Last-Modified": changed} if changed else {}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if wanted and request.headers.get("if-range", etag or changed) == (etag or changed):
            start = int(wanted[1])
            stop = min(int(wanted[2] or len(body)) + 1, len(body)) if wanted[2] else len(body)
            if start >= len(body):
                self.reply(request, 416, b"", {"Content-Range": f"bytes */{len(body)}"})
                return
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(body)}"
            self.reply(request, 206, body[start:stop], headers, cut=None if cut is None else max(cut - start, 0), pace=pace)
        else:
            self.reply(request, 200, body, headers, cut=cut, pace=pace)


class Server(ThreadingHTTPServer):
    """A loopback server with a record of what it was asked."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.scheme = "http"
        self.requests: list[Request] = []
        self.lock = threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing when a client hangs up, which tests make them do."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    def sent(self, path: str) -> int:
        """Return the body bytes sent for a path by all requests together."""
        with self.lock:
            return sum(request.sent for request in self.requests if request.path == path)


@contextmanager
def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Run a server in a thread, behind TLS where there is a context for it."""
    server = Server(answer)
    if tls is not None:
        server.scheme = "https"
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def chunked(*pieces: bytes, end: bool = True) -> Callable[[Handler, Request], None]:
    """Answer in chunks (RFC 9112, section 7.1), with the last, empty one or without."""

    def answer(handler: Handler, request: Request) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for piece in (*pieces, *([b""] if end else [])):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        handler.close_connection = True

    return answer


@contextmanager
def file_server(files: dict[str, bytes]) -> Iterator[Server]:
    """Serve files by path (`/a/b`), 404 for the rest."""

    def answer(handler: Handler, request: Request) -> None:
        body = files.get(request.path.partition("?")[0])
        if body is None:
            handler.reply(request, 404, b"not found")
        else:
            handler.reply(request, 200, body)

    with serving(answer) as server:
        yield server


COMMIT = "1234567890abcdef1234567890abcdef12345678"


@dataclass
class HubFiles:
    """Repositories of a hub: `files[repo][path]`; those over `large` bytes are stored as large files are."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    token: str | None = None
    large: int = 10_000
    #: Origin that large files are redirected to; the hub itself when None.
    cdn: str | None = None
    #: Claimed hashes by path, where a hub is to lie.
    lies: dict[str, str] = field(default_factory=dict)
    #: Branches, tags and other revisions (as they stand in an address), and the commits that they are now.
    commits: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    #: Repositories whose small files are sent at once, without a redirect within the hub.
    direct: set[str] = field(default_factory=set)
    #: How many requests to where large files lie are refused, as if their signature had expired.
    expired: int = 0
    #: Where the connections of such requests are cut, one after the other.
    cut: list[int] = field(default_factory=list)
    #: Whether answers say the commit, as those of the hub do and those of some mirrors do not.
    names_commit: bool = True


@contextmanager
def hub_server(hub: HubFiles) -> Iterator[Server]:
    """Serve the resolve protocol of the model hub."""

    def answer(handler: Handler, request: Request) -> None:
        path = request.path.partition("?")[0]
        if path.startswith("/cdn/"):
            digest = path.removeprefix("/cdn/")
            if hub.expired:
                hub.expired -= 1
                handler.reply(request, 403, b"")
                return
            blobs = {hashlib.sha256(body).hexdigest(): body for files in hub.files.values() for body in files.values()}
            handler.reply_part(request, blobs[digest], etag=f'"{digest[:32]}"', cut=hub.cut.pop(0) if hub.cut else None)
            return
        if path.startswith("/api/resolve-cache/models/"):
            org, name, commit, *rest = path.removeprefix("/api/resolve-cache/models/").split("/")
            body = hub.files[f"{org}/{name}"]["/".join(rest)]
            etag = hub.lies.get("/".join(rest)) or hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
            handler.reply(request, 200, body, {"ETag": f'"{etag}"', **({"X-Repo-Commit": commit} if hub.names_commit else {})})
            return
        repo, _, rest_of_path = path.lstrip("/").partition("/resolve/")
        revision, _, file = rest_of_path.partition("/")
        authorized = request.headers.get("authorization") == f"Bearer {hub.token}"
        if repo not in hub.files or (hub.token and not authorized and repo not in hub.gated):
            handler.reply(request, 401, b"", {"X-Error-Code": "RepoNotFound"})
        elif repo in hub.gated and not authorized:
            handler.reply(request, 403, b"", {"X-Error-Code": "GatedRepo"})
        elif (commit := hub.commits.get(revision, revision)) not in hub.commits.values():
            handler.reply(request, 404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif file not in hub.files[repo]:
            handler.reply(request, 404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        elif len(body := hub.files[repo][file]) > hub.large:
            digest = hashlib.sha256(body).hexdigest()
            headers = {
                "X-Repo-Commit": commit,
                "X-Linked-Size": str(len(body)),
                "X-Linked-ETag": f'"{hub.lies.get(file, digest)}"',
                "X-Xet-Hash": "f" * 64,
                "Location": f"{hub.cdn or handler.server.url}/cdn/{digest}?signature=secret",
            }
            if not hub.names_commit:
                del headers["X-Repo-Commit"]
            handler.reply(request, 302, b"", headers)
        elif repo in hub.direct:
            etag = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
            handler.reply(request, 200, body, {"ETag": f'W/"{etag}"', "X-Repo-Commit": commit})
        else:
            location = f"/api/resolve-cache/models/{repo}/{commit}/{file}?etag=x"
            handler.reply(request, 307, b"", {"Location": location, **({"X-Repo-Commit": commit} if hub.names_commit else {})})

    with serving(answer) as server:
        yield server
