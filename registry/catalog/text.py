"""From the bytes of a models.yaml to what it says."""

from __future__ import annotations

from registry.catalog.layers import CatalogSource
from registry.catalog.names import MAX_BYTES
from registry.catalog.raw import CatalogFile
from registry.errors import CatalogError

__all__ = ["read_bytes", "read_source"]


def read_source(source: CatalogSource) -> CatalogFile:
    """Read one located catalog; what cannot be read becomes a problem of the result, never an exception."""
    try:
        data = source.read()
    except OSError as error:
        reason = error.strerror or str(error)
        message = f"the file is expected to be readable, but is not ({reason}); mend or remove it"
        return CatalogFile(source.path, problems=[CatalogError(message, file=source.path)])
    return read_bytes(data, source.path)


def read_bytes(data: bytes, path: str) -> CatalogFile:
    """Read the bytes of one catalog; as `read_source`."""
    # The parser is imported where it is needed: a catalog that was compiled before is read without.
    from registry.catalog.schema import read_catalog

    if len(data) > MAX_BYTES:
        message = f"the file is expected to have at most {MAX_BYTES} bytes, but has more; write several files"
        return CatalogFile(path, problems=[CatalogError(message, file=path)])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        message = "the file is expected to be UTF-8 text, but is not; save it as UTF-8"
        return CatalogFile(path, problems=[CatalogError(message, file=path, line=line, column=column)])
    return read_catalog(text, path)
