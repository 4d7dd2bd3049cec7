"""The model hub: `hf://org/repo@revision`, by its resolve protocol, without any library of the hub.

A HEAD of `/{repo}/resolve/{revision}/{path}` answers for a large file with a redirect that carries `X-Linked-ETag` (its
sha256) and `X-Linked-Size`; for a small one, after a redirect within the hub, with the git blob sha1 as `ETag`.
`X-Xet-Hash` looks like a sha256 but is none, and is never read.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from urllib.parse import quote, unquote, urlsplit

from registry.base.settings import is_set
from registry.base.urls import is_secure, origin_of, redact
from registry.catalog.entry import Host
from registry.errors import ConfigError, DownloadError
from registry.store.adopt.other_caches import hub_token
from registry.store.transports.connections import host_slot
from registry.store.transports.credentials import Credentials, checked_token, token_of
from registry.store.transports.http import HttpTransport, content_length
from registry.store.transports.protocol import Body, FileMissing, Resource, Span, other_commit

TYPE_CHECKING = False
if TYPE_CHECKING:
    import requests

__all__ = ["HubTransport", "hub_url", "split_hub_url"]

_URL = re.compile(r"hf://(?P<repo>[\w.-]++(/[\w.-]++)?+)(@(?P<revision>[^/]+))?(/(?P<path>.*))?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")


def split_hub_url(url: str) -> tuple[str, str, str]:
    """Return repository, revision (`main` when none is named) and path inside it.

    Raises:
        DownloadError: when the URL has another form.
    """
    # `refs/pr/5` is one revision although it has slashes.
    if any(mark in url.removeprefix("hf://") for mark in "?#:"):  # whatever it is, it may be a secret
        raise DownloadError(
            "an hf source is expected to be hf://org/repo@revision, but has a password, query or fragment; "
            "set HF_TOKEN instead, and write # in a path as %23",
            url="hf://…",
        )
    found = _URL.fullmatch(re.sub(r"@refs/([^/]+)/([^/]+)", r"@refs%2F\1%2F\2", url))
    if not found:
        raise DownloadError(f"source {url!r} is expected to be hf://org/repo@revision, but is not; write it so", url=url)
    return found["repo"], unquote(found["revision"] or "main"), unquote(found["path"] or "")


def hub_url(repo: str, revision: str, path: str) -> str:
    """Return the URL of a path in a repository: what is no plain character is escaped (RFC 3986, section 2.1)."""
    return f"hf://{repo}@{quote(revision, safe='')}" + (f"/{quote(path)}" if path else "")


class HubTransport:
    """Read `hf://` URLs from `HF_ENDPOINT`; `HF_TOKEN` goes to that origin and nowhere else."""

    remote = True

    def __init__(self, hosts: Mapping[str, Host], proxies: Mapping[str, str] | None = None) -> None:
        """`proxies` as in `HttpTransport`."""
        self.endpoint = _endpoint()
        self._http = HttpTransport(hosts, proxies)
        self._http.credentials = _HubCredentials(hosts, self.endpoint)
        #: Where files lie now whose signed addresses had expired.
        self._moved: dict[str, str] = {}
        self._lock = threading.Lock()

    def join(self, source: str, name: str) -> str:
        """Return the URL of `name` in a repository."""
        repo, revision, path = split_hub_url(source)
        return hub_url(repo, revision, f"{path.rstrip('/')}/{name}" if path else name)

    def at(self, source: str, commit: str) -> str:
        """Return the repository at a commit."""
        repo, _, path = split_hub_url(source)
        return hub_url(repo, commit, path)

    def describe(self, url: str) -> Resource:
        """Ask the hub for size, hash and commit of a file."""
        repo, revision, _ = split_hub_url(url)
        address = self._address(url)
        commit = None
        for _ in range(5):
            slot = host_slot(origin_of(address), self._http.credentials.parallelism(address))
            with slot, self._http.request("HEAD", address, follow=False) as response:
                headers = response.headers
                commit = _commit(response) or commit
                if commit is not None and _SHA1.fullmatch(revision) and commit != revision:
                    raise other_commit(url, revision, commit)
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
                if not self._is_hub(address, response):  # but where it keeps files: what it says here is of no meaning
                    return Resource(url, address, commit=commit)
                self._check(response, repo, revision, url)
                etag = _etag(headers.get("ETag", ""))
                if commit is not None and address == self._address(url):  # what is read is of that commit, too
                    address = self._address(self.at(url, commit))
                return Resource(url, address, git_sha1=etag if _SHA1.fullmatch(etag) else None, commit=commit)
        raise DownloadError(f"{url} is expected to resolve within 5 redirects, but does not; check HF_ENDPOINT", url=url)

    def parallelism(self, resource: Resource) -> int | None:
        """Return what the catalog's `hosts:` says of where the file lies."""
        return self._http.parallelism(resource)

    @contextmanager
    def open(self, resource: Resource, span: Span | None = None) -> Iterator[Body]:
        """Read the file from where the hub said it lies, or says now: a signed address is valid for a while only."""
        current = resource._replace(address=self._moved.get(resource.url, resource.address))
        opened = self._http.open(current, span)
        try:
            body = opened.__enter__()
        except FileMissing as error:  # the hub has the file, and the place that it keeps it at has not
            raise DownloadError(error.message, url=error.url, status=error.status) from None
        except DownloadError as error:
            at = self.at(resource.url, resource.commit) if resource.commit else resource.url
            if error.status not in (400, 401, 403) or current.address == self._address(at):
                raise
            with self._lock:  # of several threads one asks
                if self._moved.get(resource.url, resource.address) == current.address:
                    self._moved[resource.url] = self.describe(at).address
            opened = self._http.open(resource._replace(address=self._moved[resource.url]), span)
            body = opened.__enter__()
        try:
            yield body
        finally:
            opened.__exit__(None, None, None)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _address(self, url: str) -> str:
        """Return where the hub is asked for a file."""
        repo, revision, path = split_hub_url(url)
        return f"{self.endpoint}/{quote(repo)}/resolve/{quote(revision, safe='')}/{quote(path)}"

    def _is_hub(self, address: str, response: requests.Response) -> bool:
        """Whether an answer is of a hub, be it one that the endpoint has led to."""
        known = origin_of(address) == origin_of(self.endpoint)
        return known or any(header in response.headers for header in ("X-Repo-Commit", "X-Error-Code"))

    def _check(self, response: requests.Response, repo: str, revision: str, url: str) -> None:
        status, code = response.status_code, response.headers.get("X-Error-Code", "")
        if status < 400:
            return
        if code == "EntryNotFound" or (status == 404 and not code):
            raise FileMissing(
                f"{url} is expected to be a file of the repository, but is not; check its name",
                url=url,
                status=status,
                commit=_commit(response),
            )
        if code == "RevisionNotFound":
            raise DownloadError(
                f"revision {revision!r} of {repo} is expected to exist, but does not; name a branch, tag or commit of it",
                url=url,
                status=status,
            )
        if code == "GatedRepo":
            raise DownloadError(
                f"repository {repo} is expected to be open, but is gated; ask for access at {redact(self.endpoint)}/{repo}; "
                f"{self._http.credentials.advice(response.request)}",
                url=url,
                status=status,
            )
        if code == "RepoNotFound" or status in (401, 403):
            raise DownloadError(
                f"repository {repo} is expected to be readable, but is private or does not exist ({status}); "
                f"check the name; {self._http.credentials.advice(response.request)}",
                url=url,
                status=status,
            )
        self._http.check(response, url)


class _HubCredentials(Credentials):
    """Knows the hub's token too."""

    def __init__(self, hosts: Mapping[str, Host], endpoint: str) -> None:
        super().__init__(hosts)
        self._origin = origin_of(endpoint)

    def token(self, url: str) -> tuple[str, str] | None:
        if origin_of(url) != self._origin or not is_secure(url):
            return super().token(url)
        if token := token_of("HF_TOKEN"):
            return "Authorization", f"Bearer {token}"
        if (named := super().token(url)) or urlsplit(url).username is not None:
            return named
        return ("Authorization", f"Bearer {self._stored}") if self._stored else None

    def advice(self, request: requests.PreparedRequest) -> str:
        url = request.url or ""
        if origin_of(url) != self._origin:
            return super().advice(request)
        if token_of("HF_TOKEN"):
            return "check the token in HF_TOKEN" if is_secure(url) else "the token in HF_TOKEN is sent over https only"
        if (host := self._host(url)) is not None and host.token_env is not None:
            return super().advice(request)
        return "check the token that the hub's login stored" if self._stored else "set HF_TOKEN, which is not set"

    @cached_property
    def _stored(self) -> str:
        """The token of the hub's own login."""
        if is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN"):
            return ""
        return checked_token(hub_token(), "the token that the hub's login stored")


def _endpoint() -> str:
    """Return the hub's address.

    Raises:
        ConfigError: when `HF_ENDPOINT` is none.
    """
    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    try:
        scheme, host, _ = origin_of(endpoint)
    except ValueError:
        scheme = host = ""
    if scheme not in ("http", "https") or not host:
        raise ConfigError("HF_ENDPOINT is expected to be an address such as https://huggingface.co, but is none")
    return endpoint


def _commit(response: requests.Response) -> str | None:
    """Return the commit that an answer is about."""
    commit: str = response.headers.get("X-Repo-Commit", "")
    return commit if _SHA1.fullmatch(commit) else None


def _etag(value: str) -> str:
    return value.removeprefix("W/").strip('"')
