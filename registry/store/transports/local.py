"""Files that are on this machine: paths, `file://` URLs, and `package://module/path` inside an installed package."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from registry.base.names import user_path
from registry.base.urls import is_url, scheme_of
from registry.errors import DownloadError
from registry.store.transports.protocol import Body, FileMissing, Resource, Span

__all__ = ["LocalTransport", "local_path"]


_PIECE = 1 << 20
#: As long as the name of a file that is looked for in a folder.
_MARGIN = "x" * 100


class LocalTransport:
    """Describe files in place; nothing is copied."""

    remote = False

    def join(self, source: str, name: str) -> str:
        """Return the path or URL of `name` in the folder `source`."""
        if scheme_of(source) == "package":  # a path, with no escapes
            return f"{source.rstrip('/')}/{name}"
        return f"{source.rstrip('/')}/{quote(name)}" if is_url(source) else str(Path(source, name))

    def at(self, source: str, commit: str) -> str:
        """Return the source: a folder has no revisions."""
        return source

    def describe(self, url: str) -> Resource:
        """Return the file's path and size."""
        path = local_path(url)
        if not path.is_file():
            raise FileMissing(f"file {url!r} is expected to exist, but does not", url=url, status=404)
        return Resource(url, str(path), path=path, size=path.stat().st_size)

    def parallelism(self, resource: Resource) -> int | None:
        """Return 1: a disk is not helped by several readers."""
        return 1

    @contextmanager
    def open(self, resource: Resource, span: Span | None = None) -> Iterator[Body]:
        """Read the file in pieces, all of it."""
        with Path(resource.address).open("rb") as file:
            yield Body(iter(lambda: file.read(_PIECE), b""), size=resource.size)

    def close(self) -> None:
        """Nothing to drop."""


def local_path(source: str) -> Path:
    """Return the path that a local source means; it need not exist.

    Raises:
        DownloadError: when a `package://` source names a package that is not installed, a URL has a query or fragment, or a
            path is longer than the system allows.
    """
    path = _path(source)
    try:
        os.lstat(path / _MARGIN)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise DownloadError(
                f"path {source[:80]}… is expected to be one that the system takes, but is too long; give a shorter one",
                url=source[:80],
            ) from None
    except ValueError:  # a character that no path has: nothing is there
        pass
    return path


def _path(source: str) -> Path:
    scheme = scheme_of(source)
    if scheme == "package":
        module, _, inner = source.partition("://")[2].partition("/")
        return _package_folder(module, source) / inner
    if is_url(source):
        if "?" in source or "#" in source:
            raise DownloadError(
                f"{source} is expected to be a path, but has a query or fragment; write ? as %3F and # as %23", url=source
            )
        return Path(unquote(urlsplit(source).path))
    return user_path(source)


def _package_folder(module: str, source: str) -> Path:
    """Find the folder of a package without importing it: only the top-level name is looked up, the rest are folders."""
    top, *rest = module.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        spec = None
    for location in (spec.submodule_search_locations if spec else None) or ():
        folder = Path(location, *rest)
        if folder.is_dir():
            return folder
    raise DownloadError(
        f"package {module!r} of {source} is expected to be installed as a folder, but is not; pip install what provides it",
        url=source,
    )
