"""The model hub: `hf://org/repo@revision`, by its resolve protocol, without any library of the hub.

A HEAD of `/{repo}/resolve/{revision}/{path}` answers for a large file with a redirect that carries `X-Linked-ETag` (its
sha256) and `X-Linked-Size`; for a small one, after a redirect within the hub, with the git blob sha1 as `ETag`.
`X-Xet-Hash` looks like a sha256 but is none, and is never read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import quote, unquote

from registry.catalog.schema import Host
from registry.errors import DownloadError
from registry.store.transports.http import HttpTransport, content_length, is_loopback, origin_of
from registry.store.transports.protocol import FileMissing, Resource

TYPE_CHECKING = False
if TYPE_CHECKING:
    import requests

__all__ = ["HubTransport", "split_hub_url"]

_URL = re.compile(r"hf://(?P<repo>[\w.-]++(/[\w.-]++)?+)(@(?P<revision>[^/]+))?(/(?P<path>.*))?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")


def split_hub_url(url: str) -> tuple[str, str, str]:
    """Return repository, revision (`main` when none is named) and path inside it.

    Raises:
        DownloadError: when the URL has another form.
    """
    # `refs/pr/5` is one revision although it has slashes.
    found = _URL.fullmatch(re.sub(r"@refs/([^/]+)/([^/]+)", r"@refs%2F\1%2F\2", url))
    if not found:
        raise DownloadError(f"source {url!r} is expected to be hf://org/repo@revision, but is not", url=url)
    return found["repo"], unquote(found["revision"] or "main"), found["path"] or ""


class HubTransport:
    """Read `hf://` URLs from `HF_ENDPOINT`; `HF_TOKEN` goes to that origin and nowhere else."""

    remote = True

    def __init__(self, hosts: Mapping[str, Host], proxies: Mapping[str, str] | None = None) -> None:
        """`proxies` as in `HttpTransport`."""
        self.endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        self._http = _HubHttp(hosts, proxies, self.endpoint)

    def join(self, source: str, name: str) -> str:
        """Return the URL of `name` in a repository."""
        repo, revision, path = split_hub_url(source)
        inner = f"{path.rstrip('/')}/{name}" if path else name
        return f"hf://{repo}@{quote(revision, safe='')}/{inner}"

    def at(self, source: str, commit: str) -> str:
        """Return the repository at a commit."""
        repo, _, path = split_hub_url(source)
        return f"hf://{repo}@{commit}" + (f"/{path}" if path else "")

    def describe(self, url: str) -> Resource:
        """Ask the hub for size, hash and commit of a file."""
        repo, revision, path = split_hub_url(url)
        address = f"{self.endpoint}/{quote(repo)}/resolve/{quote(revision, safe='')}/{quote(path)}"
        commit = None
        for _ in range(5):
            with self._http.request("HEAD", address, follow=False) as response:
                headers = response.headers
                commit = _commit(response) or commit
                if "X-Linked-ETag" in headers:
                    digest = _etag(headers["X-Linked-ETag"])
                    where = self._http.next_hop(address, response) if response.is_redirect else address
                    return Resource(
                        url,
                        where,
                        size=content_length(headers.get("X-Linked-Size", "")),
                        sha256=digest if _SHA256.fullmatch(digest) else None,
                        git_sha1=digest if _SHA1.fullmatch(digest) else None,
                        commit=commit,
                    )
                if response.is_redirect:
                    address = self._http.next_hop(address, response)
                    continue
                self._check(response, repo, revision, url)
                etag = _etag(headers.get("ETag", ""))
                return Resource(url, address, git_sha1=etag if _SHA1.fullmatch(etag) else None, commit=commit)
        raise DownloadError(f"{url} is expected to resolve within 5 redirects, but does not", url=url)

    @contextmanager
    def open(self, resource: Resource, chunk_size: int) -> Iterator[tuple[int | None, Iterator[bytes]]]:
        """Read the file from where the hub said it lies."""
        try:
            with self._http.open(resource, chunk_size) as opened:
                yield opened
        except FileMissing as error:  # the hub has the file, and the place that it keeps it at has not
            raise DownloadError(error.message, url=error.url, status=error.status) from None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _check(self, response: requests.Response, repo: str, revision: str, url: str) -> None:
        status, code = response.status_code, response.headers.get("X-Error-Code", "")
        if status < 400:
            return
        if code == "EntryNotFound" or (status == 404 and not code):
            raise FileMissing(
                f"{url} is expected to be a file of the repository, but is not",
                url=url,
                status=status,
                commit=_commit(response),
            )
        if code == "RevisionNotFound":
            raise DownloadError(f"revision {revision!r} of {repo} is expected to exist, but does not", url=url, status=status)
        if code == "GatedRepo":
            raise DownloadError(
                f"repository {repo} is expected to be open, but is gated; ask for access at {self.endpoint}/{repo} "
                "and set HF_TOKEN",
                url=url,
                status=status,
            )
        if code == "RepoNotFound" or status in (401, 403):
            raise DownloadError(
                f"repository {repo} is expected to be readable, but is private or does not exist ({status}); "
                "check the name, or set HF_TOKEN",
                url=url,
                status=status,
            )
        self._http.check(response, url)


class _HubHttp(HttpTransport):
    """HTTP that knows the hub's token."""

    def __init__(self, hosts: Mapping[str, Host], proxies: Mapping[str, str] | None, endpoint: str) -> None:
        super().__init__(hosts, proxies)
        self._origin = origin_of(endpoint)

    def token_for(self, url: str) -> str | None:
        scheme, host, _ = origin = origin_of(url)
        if origin == self._origin and (scheme == "https" or is_loopback(host)) and (token := os.environ.get("HF_TOKEN")):
            return token
        return super().token_for(url)


def _commit(response: requests.Response) -> str | None:
    """Return the commit that an answer is about."""
    commit: str = response.headers.get("X-Repo-Commit", "")
    return commit if _SHA1.fullmatch(commit) else None


def _etag(value: str) -> str:
    return value.removeprefix("W/").strip('"')
